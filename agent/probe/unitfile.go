package probe

import (
	"bytes"
	"math"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// kind says what is in a file of a cgroup.
type kind uint8

const (
	kindCPU         kind = iota // v2 cpu.stat
	kindUsage                   // v1 cpuacct.usage
	kindThrottle                // v1 cpu.stat
	kindMemory                  // memory.current, memory.usage_in_bytes
	kindMemoryStat              // v2 memory.stat
	kindMemoryStat1             // v1 memory.stat, which tells the limit as well
	kindMemoryMax
	kindOOM // memory.events, memory.oom_control
	kindIO
	kindBlkio
	kindPids
	kindPressureCPU
	kindPressureMemory
	kindPressureIO
)

// source is one file of a cgroup with the series that come from it.
type source struct {
	kind  kind
	unit  string
	file  file
	slots block
}

// parse sets the series of the source and reports whether the file could be understood.
func (s *source) parse(t *metric.Table, p *base, w *unit, b []byte) bool {
	switch s.kind {
	case kindCPU:
		usage, ok := lineValue(b, "usage_usec ")
		if !ok {
			return false
		}
		periods, limited := lineValue(b, "nr_periods ")
		throttled, _ := lineValue(b, "nr_throttled ")
		if len(s.slots) == 0 {
			s.add(t, p, "cpu_seconds_total", micros)
		}
		s.periods(t, p, 1, limited, periods, throttled)
		t.Set(s.slots[0], usage)
		return true
	case kindThrottle:
		periods, ok := lineValue(b, "nr_periods ")
		throttled, _ := lineValue(b, "nr_throttled ")
		s.periods(t, p, 0, ok, periods, throttled)
		return ok
	case kindUsage:
		return s.single(t, p, "cpu_seconds_total", nanos, b)
	case kindMemory:
		v, _, ok := number(b, 0)
		if !ok {
			return false
		}
		w.usage = v
		return s.single(t, p, "memory_bytes", one, b)
	case kindMemoryStat:
		inactive, ok := lineValue(b, "inactive_file ")
		return ok && s.value(t, p, "memory_working_set_bytes", one, max(0, w.usage-inactive))
	case kindMemoryStat1:
		return s.memory1(t, p, w, b)
	case kindMemoryMax:
		if bytes.HasPrefix(b, []byte("max")) {
			s.slots.end(t) // no limit, no series
			return true
		}
		return s.single(t, p, "memory_limit_bytes", one, b)
	case kindOOM:
		v, ok := lineValue(b, "oom_kill ")
		return ok && s.value(t, p, "oom_kills_total", one, v)
	case kindIO:
		read, written := ioTotals(b)
		return s.io(t, p, read, written)
	case kindBlkio:
		read, written := blkioTotals(b)
		return s.io(t, p, read, written)
	case kindPids:
		return s.single(t, p, "processes", one, b)
	case kindPressureCPU, kindPressureMemory, kindPressureIO:
		some, _, ok := stalls(b)
		name := [...]string{"pressure_cpu_waiting_seconds_total", "pressure_memory_waiting_seconds_total", "pressure_io_waiting_seconds_total"}
		return ok && s.value(t, p, name[s.kind-kindPressureCPU], micros, some)
	}
	return false
}

func (s *source) add(t *metric.Table, p *base, name string, scale metric.Scale) {
	s.slots.start(t, p.desc("evenkeel_unit_"+name, scale, "unit", s.unit))
}

// value sets the only series of the source.
func (s *source) value(t *metric.Table, p *base, name string, scale metric.Scale, v int64) bool {
	if len(s.slots) == 0 {
		s.add(t, p, name, scale)
	}
	t.Set(s.slots[0], v)
	return true
}

// single does so with the number that the file consists of.
func (s *source) single(t *metric.Table, p *base, name string, scale metric.Scale, b []byte) bool {
	v, _, ok := number(b, 0)
	return ok && s.value(t, p, name, scale, v)
}

// periods keeps the two series of the CPU quota behind the first n of the source; a unit that has never had a quota has
// none of them.
func (s *source) periods(t *metric.Table, p *base, n int, ok bool, periods, throttled int64) {
	if !ok || periods == 0 && len(s.slots) == n {
		return
	}
	if len(s.slots) == n {
		s.add(t, p, "cpu_periods_total", one)
		s.add(t, p, "cpu_throttled_periods_total", one)
	}
	t.Set(s.slots[n], periods)
	t.Set(s.slots[n+1], throttled)
}

func (s *source) io(t *metric.Table, p *base, read, written int64) bool {
	if len(s.slots) == 0 {
		if read == 0 && written == 0 {
			return true // it has done none yet
		}
		s.add(t, p, "io_read_bytes_total", one)
		s.add(t, p, "io_written_bytes_total", one)
	}
	t.Set(s.slots[0], read)
	t.Set(s.slots[1], written)
	return true
}

// memory1 reads memory.stat of v1, where the numbers with children start with total_ and the limit is the lowest of all
// cgroups above. Anything near the end of int64 is no limit.
func (s *source) memory1(t *metric.Table, p *base, w *unit, b []byte) bool {
	inactive, ok := lineValue(b, "total_inactive_file ")
	if !ok {
		return false
	}
	limit, _ := lineValue(b, "hierarchical_memory_limit ")
	limited := limit > 0 && limit < math.MaxInt64/2
	if len(s.slots) == 2 && !limited {
		t.End(s.slots[1])
		s.slots = s.slots[:1]
	}
	if len(s.slots) == 0 {
		s.add(t, p, "memory_working_set_bytes", one)
	}
	t.Set(s.slots[0], max(0, w.usage-inactive))
	if limited {
		if len(s.slots) == 1 {
			s.add(t, p, "memory_limit_bytes", one)
		}
		t.Set(s.slots[1], limit)
	}
	return true
}

// ioTotals sums lines of "8:0 rbytes=1 wbytes=2 rios=3 ..." over the devices.
func ioTotals(b []byte) (read, written int64) {
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		for len(line) > 0 {
			var word []byte
			if word, line = cutField(line); len(word) < 7 {
				continue
			}
			switch string(word[:7]) {
			case "rbytes=":
				v, _, _ := number(word, 7)
				read += v
			case "wbytes=":
				v, _, _ := number(word, 7)
				written += v
			}
		}
	}
	return read, written
}

// blkioTotals sums lines of "8:0 Read 1" over the devices.
func blkioTotals(b []byte) (read, written int64) {
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		_, rest := cutField(line)
		word, rest := cutField(rest)
		v, _, _ := number(rest, 0)
		switch string(word) {
		case "Read":
			read += v
		case "Write":
			written += v
		}
	}
	return read, written
}
