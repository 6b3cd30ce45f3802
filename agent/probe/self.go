package probe

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// self reads what the agent itself costs.
type self struct {
	base
	statm file
	slots block
	spool func() (bytes, dropped int64)
	page  uint32
}

func newSelf(r *reader, cfg Config) *self {
	return &self{
		base: base{"self", groupSelf, slow, r}, statm: newFile(cfg.Proc+"/self/statm", false), spool: cfg.Spool,
		page: uint32(unix.Getpagesize()),
	}
}

func (s *self) Read(t *metric.Table, _ time.Time) error {
	b, err := s.r.read(&s.statm)
	var rss int64
	if err == nil {
		ok := false
		_, i, _ := number(b, 0)
		if rss, _, ok = number(b, i); !ok {
			err = errFormat
		}
	}
	var used unix.Rusage
	if err == nil {
		err = unix.Getrusage(unix.RUSAGE_SELF, &used)
	}
	if err != nil {
		s.slots.end(t)
		return err
	}
	if len(s.slots) == 0 {
		s.slots.start(t,
			s.desc("evenkeel_agent_cpu_seconds_total", micros),
			s.desc("evenkeel_agent_resident_memory_bytes", metric.Scale{Mul: s.page}),
			s.desc("evenkeel_agent_series", one))
		if s.spool != nil {
			s.slots.start(t, s.desc("evenkeel_agent_spool_bytes", one), s.desc("evenkeel_agent_spool_dropped_total", one))
		}
	}
	t.Set(s.slots[0], used.Utime.Nano()/1000+used.Stime.Nano()/1000)
	t.Set(s.slots[1], rss)
	t.Set(s.slots[2], int64(t.Count()))
	if s.spool != nil {
		bytes, dropped := s.spool()
		t.Set(s.slots[3], bytes)
		t.Set(s.slots[4], dropped)
	}
	return nil
}

func (s *self) files() []File { return []File{{s.statm.name(), s.period, OpRead}} }
func (s *self) close()        { s.statm.close() }
