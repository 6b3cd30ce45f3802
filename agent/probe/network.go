package probe

import (
	"bytes"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// network reads /proc/net/dev: the counters of each network device of the agent's network namespace.
type network struct {
	base
	file file
	rows rows
}

// networkColumns are in the kernel's order.
var networkColumns = [...]string{
	"receive_bytes", "receive_packets", "receive_errs", "receive_drop", "receive_fifo", "receive_frame",
	"receive_compressed", "receive_multicast",
	"transmit_bytes", "transmit_packets", "transmit_errs", "transmit_drop", "transmit_fifo", "transmit_colls",
	"transmit_carrier", "transmit_compressed",
}

func newNetwork(r *reader, proc string) *network {
	n := &network{base: base{"network", groupNetwork, fast, r}, file: newFile(proc+"/net/dev", true)}
	n.rows.make = func(device string) []metric.Desc {
		var l []metric.Desc
		for _, c := range networkColumns {
			l = append(l, n.desc("node_network_"+c+"_total", one, "device", device))
		}
		return l
	}
	return n
}

func (n *network) Read(t *metric.Table, _ time.Time) error {
	b, err := n.r.read(&n.file)
	if err == nil {
		err = n.parse(t, b)
	}
	if err != nil {
		n.rows.end(t)
	}
	return err
}

// parse reads two lines of heading, then "  eth0: 460830802   33603 ...". Names of old aliases may hold a colon, so the
// last one ends the name; and the first number may follow it without a space.
func (n *network) parse(t *metric.Table, b []byte) error {
	_, b = cutLine(b)
	_, b = cutLine(b)
	n.rows.begin()
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		colon := bytes.LastIndexByte(line, ':')
		if colon < 0 {
			return errFormat
		}
		name, _ := cutField(line[:colon])
		if len(name) == 0 {
			return errFormat
		}
		w := n.rows.find(t, name)
		if w == nil {
			continue
		}
		i := colon + 1
		for _, s := range w.slots {
			v, next, ok := number(line, i)
			if !ok {
				return errFormat
			}
			i = next
			t.Set(s, v)
		}
	}
	n.rows.done(t)
	if len(n.rows.all) == 0 {
		return errFormat // there is always a loopback device
	}
	return nil
}

func (n *network) files() []File { return []File{{n.file.name(), n.period, OpRead}} }
func (n *network) close()        { n.file.close() }
