package probe

import (
	"bytes"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// pressure reads the host's pressure stall information. "Full" of the CPU says nothing on a whole host and is left out.
type pressure struct {
	base
	parts [3]pressurePart
}

type pressurePart struct {
	name  string
	file  file
	full  bool
	slots block
}

func newPressure(r *reader, proc string) *pressure {
	p := &pressure{base: base{"pressure", groupPressure, fast, r}}
	for i, name := range [...]string{"cpu", "memory", "io"} {
		p.parts[i] = pressurePart{name: name, file: newFile(proc+"/pressure/"+name, false), full: name != "cpu"}
	}
	return p
}

func (p *pressure) Read(t *metric.Table, _ time.Time) error {
	for i := range p.parts {
		part := &p.parts[i]
		b, err := p.r.read(&part.file)
		if err == nil {
			err = p.parse(t, part, b)
		}
		if err != nil {
			for j := range p.parts {
				p.parts[j].slots.end(t)
			}
			return err
		}
	}
	return nil
}

func (p *pressure) parse(t *metric.Table, part *pressurePart, b []byte) error {
	some, full, ok := stalls(b)
	if !ok {
		return errFormat
	}
	if len(part.slots) == 0 {
		part.slots.start(t, p.desc("node_pressure_"+part.name+"_waiting_seconds_total", micros))
		if part.full {
			part.slots.start(t, p.desc("node_pressure_"+part.name+"_stalled_seconds_total", micros))
		}
	}
	t.Set(part.slots[0], some)
	if part.full {
		t.Set(part.slots[1], full)
	}
	return nil
}

// stalls reads the totals, in microseconds, of
//
//	some avg10=0.00 avg60=0.00 avg300=0.00 total=0
//	full avg10=0.00 avg60=0.00 avg300=0.00 total=0
//
// of which older kernels lack the second line for the CPU.
func stalls(b []byte) (some, full int64, ok bool) {
	const total = "total="
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		i := bytes.LastIndexByte(line, '=')
		if i < len(total) || string(line[i+1-len(total):i+1]) != total {
			return 0, 0, false
		}
		v, _, good := number(line, i+1)
		switch {
		case !good:
			return 0, 0, false
		case line[0] == 's':
			some, ok = v, true
		case line[0] == 'f':
			full = v
		}
	}
	return some, full, ok
}

func (p *pressure) files() []File {
	var l []File
	for i := range p.parts {
		l = append(l, File{p.parts[i].file.name(), p.period, OpRead})
	}
	return l
}

func (p *pressure) close() {
	for i := range p.parts {
		p.parts[i].file.close()
	}
}
