// Package probe reads a host: one file of this package for each kind of reading, all of them Linux.
//
// Probes read /proc, /sys and cgroup files themselves into reused buffers, keep the files open, and parse bytes; after
// warm-up a round allocates nothing. Readings stay raw integers, so a number is exactly the kernel's. A probe that fails
// ends all its series and says why once, through its error. It never changes anything on the host, and never reads a
// process's arguments or environment.
//
// The probes of a Set belong to one goroutine (that of a schedule.Runner). The only goroutine of this package is that of
// Components.Run, which waits for the end of watched processes.
package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// The groups of the probes. A group says on the wire which series were read together.
const (
	groupCPU metric.Group = iota
	groupLoad
	groupMemory
	groupVMStat
	groupPressure
	groupDisk
	groupFilesystem
	groupNetwork
	groupTCP
	groupUnits
	groupUnitsSlow
	groupComponents
	groupComponentsSlow
	groupTop
	groupSelf
)

const (
	fast = time.Second
	slow = 10 * time.Second
)

// Config says where to look. The zero Config is the host that the program runs on.
type Config struct {
	// Proc and Cgroup are where the proc and cgroup file systems stand: /proc and /sys/fs/cgroup by default.
	Proc, Cgroup string
	// Spool tells the bytes in the agent's spool and the batches dropped from it, for the agent's own series. It is
	// called on each reading of the self probe. May be nil.
	Spool func() (bytes, dropped int64)
	// OnExit is told at once of each watched process that ended, from the goroutine of Components.Run, or from that of
	// Read where the kernel has no pidfd. It must not block. May be nil.
	OnExit func(Exit)
	// MaxUnits and MaxTop bound the units and the processes shown: 256 and 10 by default.
	MaxUnits, MaxTop int

	now func() time.Duration // since boot; for tests
}

// Probe is what all probes of this package are; it matches the schedule's.
type Probe interface {
	Name() string
	Group() metric.Group
	Period() time.Duration
	Read(t *metric.Table, now time.Time) error
}

// File is something that a probe reads: once each Period. A "*" in Path stands for every process.
type File struct {
	Path   string
	Period time.Duration
	Op     Op
}

// Op is how something is read.
type Op string

// The ways of reading.
const (
	OpRead   Op = "read"   // the whole file
	OpStatfs Op = "statfs" // the numbers of the file system that the path stands on
	OpList   Op = "list"   // the names in the folder
)

// Set is all probes of a host, sharing one buffer.
type Set struct {
	probes     []Probe
	components *Components
	units      *units
	absent     []string
}

// New finds out what the host offers and opens nothing for long. It fails where proc itself is not there.
func New(cfg Config) (*Set, error) {
	host := cfg.Proc == "" || cfg.Proc == "/proc"
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Cgroup == "" {
		cfg.Cgroup = "/sys/fs/cgroup"
	}
	if cfg.MaxUnits <= 0 {
		cfg.MaxUnits = 256
	}
	if cfg.MaxTop <= 0 {
		cfg.MaxTop = 10
	}
	if cfg.now == nil {
		cfg.now = sinceBoot
	}
	for _, path := range []*string{&cfg.Proc, &cfg.Cgroup} {
		if *path = filepath.Clean(*path); strings.IndexByte(*path, 0) >= 0 {
			return nil, fmt.Errorf("cannot probe: path %q holds a zero byte", *path)
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.Proc, "stat")); err != nil {
		return nil, fmt.Errorf("cannot probe: %w", err)
	}

	r := &reader{buf: make([]byte, 16<<10)}
	layout := findLayout(cfg.Cgroup)
	table := newProcessTable(r, cfg.Proc)
	units := newUnits(r, layout, cfg.MaxUnits)
	s := &Set{units: units}
	s.components = newComponents(r, cfg, host, layout, table, units)

	s.probes = []Probe{newCPU(r, cfg.Proc), newLoad(r, cfg.Proc)}
	s.add(newMemory(r, cfg.Proc), cfg.Proc+"/meminfo")
	s.add(newVMStat(r, cfg.Proc), cfg.Proc+"/vmstat")
	s.add(newPressure(r, cfg.Proc), cfg.Proc+"/pressure/cpu")
	s.add(newDisk(r, cfg.Proc), cfg.Proc+"/diskstats")
	s.add(newFilesystem(r, cfg.Proc), cfg.Proc+"/self/mountinfo")
	s.add(newNetwork(r, cfg.Proc), cfg.Proc+"/net/dev")
	s.add(newTCP(r, cfg.Proc), cfg.Proc+"/net/snmp")
	// Components come before units: they declare the cgroups that units then reads.
	s.probes = append(s.probes, s.components, s.components.slow())
	if layout.version == "none" {
		s.absent = append(s.absent, "units: no cgroup hierarchy at "+cfg.Cgroup)
	} else {
		s.probes = append(s.probes, units, units.slow())
	}
	s.probes = append(s.probes, newTop(table, cfg.MaxTop), newSelf(r, cfg))
	return s, nil
}

// add leaves out a probe whose file this kernel does not have, such as pressure before Linux 4.20.
func (s *Set) add(p Probe, path string) {
	if f, err := os.Open(path); err == nil {
		f.Close()
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		s.absent = append(s.absent, p.Name()+": "+err.Error())
		return
	}
	s.probes = append(s.probes, p)
}

// Probes returns the probes in the order in which they are to be read.
func (s *Set) Probes() []Probe { return s.probes }

// Components returns the probe of the declared components, which takes the watch list and needs its Run.
func (s *Set) Components() *Components { return s.components }

// Absent says what is not measured on this host and why, one line each, for the agent's doctor. Any goroutine may call
// it.
func (s *Set) Absent() []string {
	l := slices.Clone(s.absent)
	if n := s.units.over.Load(); n > 0 {
		l = append(l, fmt.Sprintf("units: %d beyond the limit are not shown", n))
	}
	return l
}

// Files lists what the probes read as of their last round. It belongs to the goroutine that reads them.
func (s *Set) Files() []File {
	var all []File
	for _, p := range s.probes {
		if l, ok := p.(interface{ files() []File }); ok {
			all = append(all, l.files()...)
		}
	}
	return all
}

// Close closes every file. The probes must not be read afterwards.
func (s *Set) Close() {
	for _, p := range s.probes {
		if c, ok := p.(interface{ close() }); ok {
			c.close()
		}
	}
}

// base is the part that all probes have in common.
type base struct {
	name   string
	group  metric.Group
	period time.Duration
	r      *reader
}

func (b *base) Name() string          { return b.name }
func (b *base) Group() metric.Group   { return b.group }
func (b *base) Period() time.Duration { return b.period }

// desc describes a series of the probe; labels are name and value in turn, sorted by name.
func (b *base) desc(name string, s metric.Scale, labels ...string) metric.Desc {
	d := metric.Desc{Name: name, Scale: s, Group: b.group}
	for i := 0; i+1 < len(labels); i += 2 {
		d.Labels = append(d.Labels, metric.Label{Name: labels[i], Value: labels[i+1]})
	}
	return d
}

// block is a fixed set of series that start and end together.
type block []metric.Slot

func (b *block) start(t *metric.Table, descs ...metric.Desc) {
	for _, d := range descs {
		*b = append(*b, t.Add(d))
	}
}

func (b *block) end(t *metric.Table) {
	for _, s := range *b {
		if s >= 0 {
			t.End(s)
		}
	}
	*b = (*b)[:0]
}

var (
	jiffies = metric.Scale{Div: 100} // USER_HZ is 100 on every architecture that Go runs Linux on
	micros  = metric.Scale{Div: 1e6}
	millis  = metric.Scale{Div: 1000}
	nanos   = metric.Scale{Div: 1e9}
	kibi    = metric.Scale{Mul: 1024}
	one     = metric.Scale{}
)
