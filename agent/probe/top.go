package probe

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// top shows the processes that used most CPU since its last reading. A process that was shown stays while it is among
// twice as many, so that series do not come and go with each reading.
type top struct {
	base
	table *processTable
	count int
	page  uint32
	best  []ranked // scratch, highest first
	shown []shown
}

type ranked struct {
	index int // in the table
	used  int64
}

type shown struct {
	pid   int32
	start int64
	comm  string
	slots block
	keep  bool
}

func newTop(table *processTable, count int) *top {
	return &top{base: base{"top", groupTop, slow, table.r}, table: table, count: count, page: uint32(unix.Getpagesize())}
}

func (p *top) Read(t *metric.Table, now time.Time) error {
	if !p.table.at.Equal(now) {
		if err := p.table.refresh(now); err != nil {
			for i := range p.shown {
				p.shown[i].slots.end(t)
			}
			p.shown = p.shown[:0]
			return err
		}
	}
	p.rank()
	p.show(t)
	return nil
}

// rank fills best with the twice count processes that used most, leaving out those that used nothing.
func (p *top) rank() {
	p.best = p.best[:0]
	for i := range p.table.all {
		q := &p.table.all[i]
		used := q.cpu - q.topCPU
		q.topCPU = q.cpu
		if used <= 0 || len(p.best) == 2*p.count && used <= p.best[len(p.best)-1].used {
			continue
		}
		if len(p.best) < 2*p.count {
			p.best = append(p.best, ranked{})
		}
		at := len(p.best) - 1
		for at > 0 && p.best[at-1].used < used {
			p.best[at] = p.best[at-1]
			at--
		}
		p.best[at] = ranked{i, used}
	}
}

func (p *top) show(t *metric.Table) {
	for i := range p.shown {
		p.shown[i].keep = false
	}
	room := p.count
	for _, r := range p.best {
		if s := p.find(r.index); s != nil && room > 0 {
			s.keep = true
			room--
		}
	}
	kept := p.shown[:0]
	for i := range p.shown {
		if !p.shown[i].keep {
			p.shown[i].slots.end(t)
			continue
		}
		kept = append(kept, p.shown[i])
	}
	clear(p.shown[len(kept):])
	p.shown = kept
	for _, r := range p.best {
		q := &p.table.all[r.index]
		s := p.find(r.index)
		if s == nil {
			if room == 0 {
				continue
			}
			room--
			n := shown{pid: q.pid, start: q.start, comm: text(q.comm())}
			pid := itoa(q.pid)
			n.slots.start(t,
				p.desc("evenkeel_process_cpu_seconds_total", jiffies, "comm", n.comm, "pid", pid),
				p.desc("evenkeel_process_memory_bytes", metric.Scale{Mul: p.page}, "comm", n.comm, "pid", pid))
			p.shown = append(p.shown, n)
			s = &p.shown[len(p.shown)-1]
		}
		t.Set(s.slots[0], q.cpu)
		t.Set(s.slots[1], q.rss)
	}
}

// find returns the series of the process at index in the table, if it is still the same one under the same name.
func (p *top) find(index int) *shown {
	q := &p.table.all[index]
	for i := range p.shown {
		if s := &p.shown[i]; s.pid == q.pid && s.start == q.start && s.comm == string(q.comm()) {
			return s
		}
	}
	return nil
}

func (p *top) files() []File {
	return []File{{p.table.proc, p.period, OpList}, {p.table.proc + "/*/stat", p.period, OpRead}}
}
