package probe

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// recorded adds the file of each fixture to the corpus, paired with a file cut short.
func recorded(f *testing.F, file string) {
	for _, host := range []string{"linux-5.10-v2", "linux-6.18-hybrid"} {
		b, err := os.ReadFile(filepath.Join("testdata", host, file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b)
		f.Add(b, b[:len(b)/2])
		f.Add(bytes.ReplaceAll(b, []byte("1"), []byte("99999999999999999999")), b)
	}
}

// parses feeds two contents, one after the other and back, to a parser. Whatever they are, it must end, keep no more
// series than the bytes could name, and end all of them when it is told to.
func parses(t *testing.T, first, second []byte, most int, parse func(*metric.Table, []byte) error, end func(*metric.Table)) {
	t.Helper()
	var tab metric.Table
	for _, b := range [][]byte{first, second, first, nil} {
		if parse(&tab, b) != nil {
			end(&tab)
			if n := tab.Count(); n != 0 {
				t.Fatalf("%d series after a failure", n)
			}
		}
		if n := tab.Count(); n > most+17*(len(first)+len(second)) {
			t.Fatalf("%d series from %d bytes", n, len(first)+len(second))
		}
		tab.Next()
	}
	end(&tab)
	if n := tab.Count(); n != 0 {
		t.Fatalf("%d series after the end", n)
	}
}

func FuzzCPU(f *testing.F) {
	recorded(f, "proc/stat")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newCPU(nil, "")
		parses(t, a, b, cpuSeries, p.parse, p.slots.end)
	})
}

func FuzzLoad(f *testing.F) {
	recorded(f, "proc/loadavg")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newLoad(nil, "")
		parses(t, a, b, 3, p.parse, p.slots.end)
		lastPID(a)
	})
}

func FuzzMemory(f *testing.F) {
	recorded(f, "proc/meminfo")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newMemory(nil, "")
		parses(t, a, b, 0, p.keyed.parse, p.keyed.end)
	})
}

func FuzzVMStat(f *testing.F) {
	recorded(f, "proc/vmstat")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newVMStat(nil, "")
		parses(t, a, b, 0, p.keyed.parse, p.keyed.end)
	})
}

func FuzzDisk(f *testing.F) {
	recorded(f, "proc/diskstats")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newDisk(nil, "")
		parses(t, a, b, 0, p.parse, p.rows.end)
	})
}

func FuzzNetwork(f *testing.F) {
	recorded(f, "proc/net/dev")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newNetwork(nil, "")
		parses(t, a, b, 0, p.parse, p.rows.end)
	})
}

func FuzzCounters(f *testing.F) {
	recorded(f, "proc/net/snmp")
	recorded(f, "proc/net/netstat")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newTCP(nil, "")
		parses(t, a, b, 0, p.counters[0].parse, p.counters[0].end)
	})
}

func FuzzSockets(f *testing.F) {
	recorded(f, "proc/net/sockstat")
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p := newTCP(nil, "")
		parses(t, a, b, 0, p.sockets.parse, p.sockets.end)
	})
}

func FuzzMounts(f *testing.F) {
	recorded(f, "proc/self/mountinfo")
	f.Fuzz(func(t *testing.T, a, _ []byte) {
		l := parseMounts(a)
		if len(l) > maxMounts {
			t.Fatalf("%d mounts", len(l))
		}
		for _, m := range l {
			if len(m.path) != len(m.point)+1 || bytes.IndexByte(m.path, 0) != len(m.point) {
				t.Fatalf("path %q of mount point %q", m.path, m.point)
			}
		}
	})
}

// FuzzUnitFile covers all files of a cgroup.
func FuzzUnitFile(f *testing.F) {
	for i, file := range []string{
		"cpu.stat", "", "cpu.stat", "memory.current", "memory.stat", "", "memory.max", "memory.events", "io.stat", "", "pids.current", "cpu.pressure",
	} {
		if file == "" {
			continue
		}
		b, err := os.ReadFile("testdata/linux-5.10-v2/cgroup/system.slice/nginx.service/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b, b)
	}
	f.Fuzz(func(t *testing.T, k uint8, a, b []byte) {
		s := source{kind: kind(k % uint8(kindPressureIO+1)), unit: "u"}
		p := base{"units", groupUnits, time.Second, nil}
		var w unit
		parses(t, a, b, 3, func(tab *metric.Table, b []byte) error {
			if !s.parse(tab, &p, &w, b) {
				return errFormat
			}
			return nil
		}, s.slots.end)
	})
}

// FuzzProcess covers what is read of one process and of its sockets and cgroups.
func FuzzProcess(f *testing.F) {
	f.Add([]byte("42 (a b) (c) S 1 42 42 0 -1 4194304 90 0 0 0 5 6 0 0 20 0 3 0 77 10000000 12 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0\n"))
	f.Add([]byte("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0\n"))
	f.Add([]byte("9:name=systemd:/x\n2:cpu,cpuacct:/a/b\n0::/c\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s procStat
		comm, ok := parseStat(b, &s)
		if ok && len(comm) > len(b) {
			t.Fatal("a name longer than the file")
		}
		text(comm)
		parseSocket(b)
		path, _ := cpuPath(b)
		if n := commonPath(path, b); n < 0 || n > len(path) {
			t.Fatalf("common part of %d in %d", n, len(path))
		}
	})
}

func FuzzFolder(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x18\x00\x04abc\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		new(lister).entries(b, func(name []byte, _ bool) bool {
			total += len(name)
			return true
		})
		if total > len(b) {
			t.Fatalf("names of %d bytes in %d", total, len(b))
		}
	})
}
