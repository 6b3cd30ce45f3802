package probe

import (
	"bytes"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// tcp reads the protocol counters of the agent's network namespace: /proc/net/snmp, netstat and sockstat.
type tcp struct {
	base
	snmp, netstat, sockstat file
	counters                [2]paired
	sockets                 sockets
}

func newTCP(r *reader, proc string) *tcp {
	p := &tcp{
		base: base{"tcp", groupTCP, fast, r},
		snmp: newFile(proc+"/net/snmp", false), netstat: newFile(proc+"/net/netstat", false),
		sockstat: newFile(proc+"/net/sockstat", false),
	}
	for i := range p.counters {
		p.counters[i].pick = func(proto, name string) (metric.Desc, bool) {
			return p.desc("node_netstat_"+proto+"_"+name, one), wantedCounter(proto, name)
		}
	}
	p.sockets.pick = func(proto, name string) metric.Desc { return p.desc("node_sockstat_"+proto+"_"+name, one) }
	return p
}

// wantedCounter picks what tells of load, loss and full queues, of the 200 counters that there are.
func wantedCounter(proto, name string) bool {
	switch proto {
	case "Tcp":
		switch name {
		case "ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets", "CurrEstab", "InSegs", "OutSegs", "RetransSegs",
			"InErrs", "OutRsts":
			return true
		}
	case "Udp":
		switch name {
		case "InDatagrams", "OutDatagrams", "NoPorts", "InErrors", "RcvbufErrors", "SndbufErrors":
			return true
		}
	case "Ip":
		switch name {
		case "Forwarding", "InReceives", "InDelivers", "OutRequests", "InDiscards", "OutDiscards", "OutNoRoutes", "ReasmFails":
			return true
		}
	case "Icmp":
		switch name {
		case "InMsgs", "OutMsgs", "InErrors", "InDestUnreachs", "OutDestUnreachs":
			return true
		}
	case "IpExt":
		return name == "InOctets" || name == "OutOctets"
	case "TcpExt":
		switch name {
		case "TCPReqQFullDrop", "TCPReqQFullDoCookies", "TCPBacklogDrop", "TCPRcvQDrop", "TCPOFOQueue", "TCPTimeouts",
			"TCPSynRetrans", "TCPLostRetransmit", "TCPFastRetrans", "TCPSlowStartRetrans", "TCPAbortOnMemory",
			"TCPAbortOnTimeout", "TCPMemoryPressures", "TCPZeroWindowDrop", "PruneCalled", "TW":
			return true
		}
		return strings.HasPrefix(name, "Listen") || strings.HasPrefix(name, "Syncookies")
	}
	return false
}

func (p *tcp) Read(t *metric.Table, _ time.Time) error {
	err := p.read(t)
	if err != nil {
		p.counters[0].end(t)
		p.counters[1].end(t)
		p.sockets.end(t)
	}
	return err
}

func (p *tcp) read(t *metric.Table) error {
	b, err := p.r.read(&p.snmp)
	if err != nil {
		return err
	}
	if err := p.counters[0].parse(t, b); err != nil {
		return err
	}
	if b, err = p.r.read(&p.netstat); err != nil {
		return err
	}
	if err := p.counters[1].parse(t, b); err != nil {
		return err
	}
	if b, err = p.r.read(&p.sockstat); err != nil {
		return err
	}
	return p.sockets.parse(t, b)
}

func (p *tcp) files() []File {
	return []File{{p.snmp.name(), p.period, OpRead}, {p.netstat.name(), p.period, OpRead}, {p.sockstat.name(), p.period, OpRead}}
}

func (p *tcp) close() {
	p.snmp.close()
	p.netstat.close()
	p.sockstat.close()
}

// paired parses files of line pairs, "Proto: Name Name ..." and "Proto: 1 2 ...". The line of names is compared whole
// with the one that was learned.
type paired struct {
	pairs []pair
	pick  func(proto, name string) (metric.Desc, bool)
}

type pair struct {
	names string
	skip  int           // length of "Proto:"
	slots []metric.Slot // by column, -1 where not wanted, cut behind the last that is
}

func (p *paired) parse(t *metric.Table, b []byte) error {
	if p.follow(t, b) {
		return nil
	}
	p.end(t)
	if !p.learn(t, b) || !p.follow(t, b) {
		return errFormat
	}
	return nil
}

func (p *paired) follow(t *metric.Table, b []byte) bool {
	n := 0
	for ; len(b) > 0; n++ {
		if n >= len(p.pairs) {
			return false
		}
		var names, values []byte
		names, b = cutLine(b)
		values, b = cutLine(b)
		w := &p.pairs[n]
		if string(names) != w.names || len(values) < w.skip {
			return false
		}
		i := w.skip
		for _, s := range w.slots {
			v, next, ok := number(values, i)
			if !ok {
				return false
			}
			i = next
			if s >= 0 {
				t.Set(s, v)
			}
		}
	}
	return n > 0 && n == len(p.pairs)
}

func (p *paired) learn(t *metric.Table, b []byte) bool {
	for len(b) > 0 && len(p.pairs) < maxLines {
		var names []byte
		names, b = cutLine(b)
		_, b = cutLine(b)
		proto, rest, ok := bytes.Cut(names, []byte(":"))
		if !ok || len(proto) == 0 {
			return false
		}
		w := pair{names: string(names), skip: len(proto) + 1}
		wanted := 0
		for _, name := range bytes.Fields(rest) {
			s := metric.Slot(-1)
			if d, yes := p.pick(string(proto), string(name)); yes {
				s = t.Add(d)
				wanted = len(w.slots) + 1
			}
			w.slots = append(w.slots, s)
		}
		w.slots = w.slots[:wanted]
		p.pairs = append(p.pairs, w)
	}
	return true
}

func (p *paired) end(t *metric.Table) {
	for i := range p.pairs {
		b := block(p.pairs[i].slots)
		b.end(t)
	}
	p.pairs = p.pairs[:0]
}

// sockets parses sockstat, "TCP: inuse 1 orphan 0": names and numbers in turn.
type sockets struct {
	words []sockWord // of all lines, in order
	pick  func(proto, name string) metric.Desc
}

type sockWord struct {
	text string // "TCP:" or "inuse"
	slot metric.Slot
}

func (s *sockets) parse(t *metric.Table, b []byte) error {
	if s.follow(t, b) {
		return nil
	}
	s.end(t)
	proto := ""
	for rest := b; len(rest) > 0 && len(s.words) < maxLines; {
		var line []byte
		line, rest = cutLine(rest)
		for i, f := range bytes.Fields(line) {
			switch {
			case i == 0 && len(f) > 1 && f[len(f)-1] == ':':
				proto = string(f[:len(f)-1])
				s.words = append(s.words, sockWord{string(f), -1})
			case i == 0:
				return errFormat
			case i%2 == 1:
				s.words = append(s.words, sockWord{string(f), t.Add(s.pick(proto, string(f)))})
			}
		}
	}
	if !s.follow(t, b) {
		return errFormat
	}
	return nil
}

func (s *sockets) follow(t *metric.Table, b []byte) bool {
	n := 0
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		for {
			var word []byte
			if word, line = cutField(line); len(word) == 0 {
				break
			}
			if n >= len(s.words) || s.words[n].text != string(word) {
				return false
			}
			if slot := s.words[n].slot; slot >= 0 {
				v, next, ok := number(line, 0)
				if !ok {
					return false
				}
				line = line[next:]
				t.Set(slot, v)
			}
			n++
		}
	}
	return n > 0 && n == len(s.words)
}

func (s *sockets) end(t *metric.Table) {
	for _, w := range s.words {
		if w.slot >= 0 {
			t.End(w.slot)
		}
	}
	s.words = s.words[:0]
}
