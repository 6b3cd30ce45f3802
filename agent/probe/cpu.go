package probe

import (
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// cpu reads /proc/stat: the time of all CPUs by mode, and the kernel's counts of what ran.
type cpu struct {
	base
	file  file
	slots block
	last  [cpuModes]int64
}

const (
	cpuModes = 8
	cpuGuest = 2
)

// modes in the kernel's order. The time of guests is part of user and nice as well.
var modes = [cpuModes]string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"}

// The places of the series that follow the modes.
const (
	cpuCount = cpuModes + cpuGuest + iota
	cpuIntr
	cpuSwitches
	cpuBoot
	cpuForks
	cpuRunning
	cpuBlocked
	cpuSeries
)

func newCPU(r *reader, proc string) *cpu {
	return &cpu{base: base{"cpu", groupCPU, fast, r}, file: newFile(proc+"/stat", false)}
}

func (c *cpu) Read(t *metric.Table, _ time.Time) error {
	b, err := c.r.read(&c.file)
	if err == nil {
		err = c.parse(t, b)
	}
	if err != nil {
		c.slots.end(t)
	}
	return err
}

func (c *cpu) parse(t *metric.Table, b []byte) error {
	var v [cpuSeries]int64
	total := false
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		if len(line) < 6 {
			continue
		}
		at, ok := -1, true
		i := 0
		switch line[0] {
		case 'c':
			switch {
			case string(line[:4]) == "cpu ":
				total = true
				i = 4
				for m := range cpuModes + cpuGuest {
					// Kernels before 2.6.33 know fewer modes.
					if v[m], i, ok = number(line, i); !ok {
						if m < 4 {
							return errFormat
						}
						break
					}
				}
			case string(line[:3]) == "cpu":
				v[cpuCount]++
			case string(line[:5]) == "ctxt ":
				at, i = cpuSwitches, 5
			}
		case 'i':
			if string(line[:5]) == "intr " {
				at, i = cpuIntr, 5
			}
		case 'b':
			if string(line[:6]) == "btime " {
				at, i = cpuBoot, 6
			}
		case 'p':
			const forks, running, blocked = "processes ", "procs_running ", "procs_blocked "
			switch {
			case len(line) > len(forks) && string(line[:len(forks)]) == forks:
				at, i = cpuForks, len(forks)
			case len(line) > len(running) && string(line[:len(running)]) == running:
				at, i = cpuRunning, len(running)
			case len(line) > len(blocked) && string(line[:len(blocked)]) == blocked:
				at, i = cpuBlocked, len(blocked)
			}
		}
		if at >= 0 {
			if v[at], _, ok = number(line, i); !ok {
				return errFormat
			}
		}
	}
	if !total {
		return errFormat
	}
	if len(c.slots) == 0 {
		c.start(t)
	}
	for m := range modes {
		// The kernel may take back a little idle or iowait time, and a counter that falls reads as a restart. So the
		// series waits, unless it fell by so much that CPUs were taken out.
		if d := c.last[m] - v[m]; d > 0 && d < 1000 {
			v[m] = c.last[m]
		}
		c.last[m] = v[m]
	}
	for i, s := range c.slots {
		t.Set(s, v[i])
	}
	return nil
}

func (c *cpu) start(t *metric.Table) {
	c.last = [cpuModes]int64{}
	for _, m := range modes {
		c.slots.start(t, c.desc("node_cpu_seconds_total", jiffies, "mode", m))
	}
	c.slots.start(t,
		c.desc("node_cpu_guest_seconds_total", jiffies, "mode", "user"),
		c.desc("node_cpu_guest_seconds_total", jiffies, "mode", "nice"),
		c.desc("evenkeel_host_cpus", one),
		c.desc("node_intr_total", one),
		c.desc("node_context_switches_total", one),
		c.desc("node_boot_time_seconds", one),
		c.desc("node_forks_total", one),
		c.desc("node_procs_running", one),
		c.desc("node_procs_blocked", one),
	)
}

func (c *cpu) files() []File { return []File{{c.file.name(), c.period, OpRead}} }
func (c *cpu) close()        { c.file.close() }

// load reads /proc/loadavg. It counts tasks that wait for a disk as well, so it is context and no signal.
type load struct {
	base
	file  file
	slots block
}

func newLoad(r *reader, proc string) *load {
	return &load{base: base{"load", groupLoad, fast, r}, file: newFile(proc+"/loadavg", false)}
}

func (l *load) Read(t *metric.Table, _ time.Time) error {
	b, err := l.r.read(&l.file)
	if err == nil {
		err = l.parse(t, b)
	}
	if err != nil {
		l.slots.end(t)
	}
	return err
}

// parse reads "0.56 0.72 0.71 1/94 15249". The averages have two decimals, always.
func (l *load) parse(t *metric.Table, b []byte) error {
	var v [3]int64
	i := 0
	for n := range v {
		whole, j, ok := number(b, i)
		if !ok || whole < 0 || j+2 >= len(b) || b[j] != '.' {
			return errFormat
		}
		part, k, ok := number(b, j+1)
		if !ok || k != j+3 || part < 0 || whole > 1<<40 {
			return errFormat
		}
		v[n], i = whole*100+part, k
	}
	if len(l.slots) == 0 {
		hundredths := metric.Scale{Div: 100}
		l.slots.start(t, l.desc("node_load1", hundredths), l.desc("node_load5", hundredths), l.desc("node_load15", hundredths))
	}
	for n, s := range l.slots {
		t.Set(s, v[n])
	}
	return nil
}

func (l *load) files() []File { return []File{{l.file.name(), l.period, OpRead}} }
func (l *load) close()        { l.file.close() }
