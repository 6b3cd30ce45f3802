package probe

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		in   string
		v    int64
		next int
		ok   bool
	}{
		{"0", 0, 1, true},
		{"  42 7", 42, 4, true},
		{"\t-1", -1, 3, true},
		{"x", 0, 0, false},
		{"", 0, 0, false},
		{"-", 0, 1, false},
		{"9223372036854775807", math.MaxInt64, 19, true},
		{"9223372036854775808 ", math.MaxInt64, 19, true},
		{"18446744073709551615 1", math.MaxInt64, 20, true},
		{"99999999999999999999999999", math.MaxInt64, 26, true},
	} {
		v, next, ok := number([]byte(c.in), 0)
		if v != c.v || next != c.next || ok != c.ok {
			t.Errorf("number(%q) = %d, %d, %v", c.in, v, next, ok)
		}
	}
}

func TestNumberAgreesWithStrconv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64().Draw(t, "u")
		want := int64(min(u, math.MaxInt64))
		if v, _, ok := number([]byte(strconv.FormatUint(u, 10)+"\n"), 0); !ok || v != want {
			t.Fatalf("%d became %d", u, v)
		}
	})
}

func TestWholeDisk(t *testing.T) {
	for device, want := range map[string]bool{
		"sda": true, "sda1": false, "sdaa12": false, "vdb": true, "vdb3": false, "xvda": true, "xvda1": false, "hda": true, "hda2": false,
		"nvme0n1": true, "nvme0n1p2": false, "mmcblk0": true, "mmcblk0p1": false, "nbd0": true, "nbd0p1": false,
		"dm-0": true, "md127": true, "sr0": true, "loop3": false, "ram0": false, "zram0": false, "fd0": false, "rbd1": true, "": false,
	} {
		if got := wholeDisk(device); got != want {
			t.Errorf("wholeDisk(%q) = %v", device, got)
		}
	}
}

func TestCPUPath(t *testing.T) {
	for in, want := range map[string]string{
		"0::/system.slice/a.service\n":                   "/system.slice/a.service",
		"9:name=systemd:/s\n2:cpu,cpuacct:/a/b\n0::/c\n": "/a/b",
		"3:cpuset:/x\n2:cpuacct:/y\n1:cpu:/\n0::/\n":     "/",
		"0::/c\n5:cpu:/with:colon\n":                     "/with:colon",
		"3:cpuset:/x\n":                                  "",
		"":                                               "",
	} {
		if got, _ := cpuPath([]byte(in)); string(got) != want {
			t.Errorf("cpuPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCommonPath(t *testing.T) {
	for _, c := range [][3]string{
		{"/a/b", "/a/b", "/a/b"},
		{"/a/b", "/a/c", "/a"},
		{"/a/b", "/a", "/a"},
		{"/a", "/a/b", "/a"},
		{"/ab", "/ac", "/"},
		{"/a", "/ab", "/"},
		{"/", "/a", "/"},
		{"/a", "/", "/"},
	} {
		if got := c[0][:commonPath([]byte(c[0]), []byte(c[1]))]; got != c[2] {
			t.Errorf("%s and %s have %s in common, want %s", c[0], c[1], got, c[2])
		}
	}
}

func TestUnitName(t *testing.T) {
	for path, want := range map[string]string{
		"/system.slice/nginx.service": "nginx.service", "/user.slice": "user.slice", "/demo": "/demo", "/a/b": "/a/b",
	} {
		if got := unitName(path); got != want {
			t.Errorf("unitName(%q) = %q", path, got)
		}
	}
}

// The shortcut by which a read is known to be the last gives the same as reading to the end.
func TestReaderAgreesWithTheKernel(t *testing.T) {
	r := &reader{buf: make([]byte, 256)} // has to grow
	for _, c := range []struct {
		path  string
		lines bool
	}{
		{"/proc/vmstat", true},
		{"/proc/net/dev", true},
		{"/proc/diskstats", true},
		{"/proc/self/mountinfo", true},
		{"/proc/stat", false},
		{"/proc/meminfo", false},
		{"/proc/net/snmp", false},
		{"/proc/net/netstat", false},
		{"/proc/crypto", true},
		{"/proc/kallsyms", true},
		{"/proc/modules", true},
	} {
		f := newFile(c.path, c.lines)
		if _, err := r.read(&f); err != nil {
			if os.IsNotExist(err) || c.path == "/proc/kallsyms" {
				continue
			}
			t.Fatal(err)
		}
		got, err := r.read(&f) // again from the start, through the same descriptor
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if g, w := shape(got), shape(want); g != w {
			t.Errorf("%s: %d lines, the kernel has %d", c.path, strings.Count(g, "\n"), strings.Count(w, "\n"))
		}
		f.close()
	}
}

// shape is the text without its numbers, which move, and without the spaces that they move.
func shape(b []byte) string {
	if bytes.Count(b, []byte("\n")) > 3 {
		return string(bytes.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r == ' ' {
				return -1
			}
			return r
		}, b))
	}
	return ""
}

func TestFileTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, lines := range []bool{true, false} {
		f := newFile(path, lines)
		if b, err := (&reader{buf: make([]byte, 4096)}).read(&f); err == nil {
			t.Errorf("%d bytes were read", len(b))
		}
	}
}

// The processes above a pid, listed from the middle of the folder, are those that a full listing has.
func TestNewProcessesAreListedAlone(t *testing.T) {
	table := newProcessTable(&reader{buf: make([]byte, 4096)}, "/proc")
	defer table.close()
	if err := table.open(); err != nil {
		t.Fatal(err)
	}
	me := int32(os.Getpid())
	if errno := table.listAll(); errno != 0 || table.shift < 0 {
		t.Fatalf("shift %d: %v", table.shift, errno)
	}
	table.listAfter(me-1, me)
	if len(table.pids) == 0 || table.pids[0] != me {
		t.Errorf("from this process on: %v", table.pids)
	}
	table.listAfter(me, me)
	if slices.Contains(table.pids, me) {
		t.Errorf("after this process: %v", table.pids)
	}
}
