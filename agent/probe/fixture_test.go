package probe_test

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// fixture opens a recorded host. Its file systems answer by their mount point.
func fixture(t testing.TB, dir string) *probe.Set {
	s := open(t, probe.Config{
		Proc: filepath.Join(dir, "proc"), Cgroup: filepath.Join(dir, "cgroup"),
		Spool: func() (int64, int64) { return 4096, 3 },
	})
	s.SetStatfs(func(path string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 4096, Frsize: 4096, Blocks: 1000, Bfree: 500, Bavail: 400, Files: 100, Ffree: 90}
		switch path {
		case "/boot old":
			st.Flags = unix.ST_RDONLY
		case "/run/user/1000":
			return unix.EACCES
		}
		return nil
	})
	return s
}

var t0 = time.Date(2026, 11, 25, 16, 0, 0, 0, time.UTC)

func TestOlderHost(t *testing.T) {
	s := fixture(t, "testdata/linux-5.10-v2")
	var tab metric.Table
	round(t, s, &tab, t0)
	got := values(&tab)
	check(t, got, map[string]float64{
		`node_cpu_seconds_total{mode="user"}`:                                       10,
		`node_cpu_seconds_total{mode="nice"}`:                                       0.2,
		`node_cpu_seconds_total{mode="idle"}`:                                       400,
		`node_cpu_seconds_total{mode="steal"}`:                                      0.07,
		`node_cpu_guest_seconds_total{mode="user"}`:                                 0.8,
		`evenkeel_host_cpus`:                                                        4,
		`node_intr_total`:                                                           987654,
		`node_context_switches_total`:                                               123456789,
		`node_boot_time_seconds`:                                                    1700000000,
		`node_forks_total`:                                                          4242,
		`node_procs_running`:                                                        3,
		`node_procs_blocked`:                                                        1,
		`node_load1`:                                                                12.05,
		`node_load5`:                                                                3.4,
		`node_load15`:                                                               0.99,
		`node_memory_MemTotal_bytes`:                                                16315208 * 1024,
		`node_memory_Active_anon_bytes`:                                             3123456 * 1024,
		`node_memory_HugePages_Total`:                                               4,
		`node_vmstat_workingset_refault`:                                            777,
		`node_vmstat_pswpin`:                                                        3,
		`node_vmstat_pgsteal_direct`:                                                9,
		`node_vmstat_oom_kill`:                                                      12,
		`node_pressure_cpu_waiting_seconds_total`:                                   191.931183,
		`node_pressure_memory_waiting_seconds_total`:                                1.5,
		`node_pressure_memory_stalled_seconds_total`:                                0.5,
		`node_pressure_io_stalled_seconds_total`:                                    6e-6,
		`node_disk_reads_completed_total{device="sda"}`:                             1000,
		`node_disk_read_bytes_total{device="sda"}`:                                  80000 * 512,
		`node_disk_read_time_seconds_total{device="sda"}`:                           0.9,
		`node_disk_written_bytes_total{device="sda"}`:                               160000 * 512,
		`node_disk_io_now{device="sda"}`:                                            5,
		`node_disk_io_time_seconds_total{device="sda"}`:                             6,
		`node_disk_io_time_weighted_seconds_total{device="sda"}`:                    4.9,
		`node_disk_flush_requests_time_seconds_total{device="sda"}`:                 0.012,
		`node_disk_discard_time_seconds_total{device="nvme0n1"}`:                    0.025,
		`node_disk_reads_completed_total{device="dm-0"}`:                            1,
		`node_network_receive_bytes_total{device="lo"}`:                             1111,
		`node_network_receive_bytes_total{device="enp3s0"}`:                         math.MaxInt64,
		`node_network_receive_packets_total{device="enp3s0"}`:                       33603,
		`node_network_receive_multicast_total{device="enp3s0"}`:                     6,
		`node_network_transmit_compressed_total{device="enp3s0"}`:                   12,
		`node_netstat_Tcp_RetransSegs`:                                              80,
		`node_netstat_Tcp_OutRsts`:                                                  100,
		`node_netstat_TcpExt_ListenOverflows`:                                       7,
		`node_netstat_TcpExt_TCPReqQFullDrop`:                                       11,
		`node_netstat_IpExt_OutOctets`:                                              654321,
		`node_netstat_Ip_Forwarding`:                                                1,
		`node_netstat_Udp_SndbufErrors`:                                             4,
		`node_sockstat_sockets_used`:                                                290,
		`node_sockstat_TCP_alloc`:                                                   40,
		`node_filesystem_size_bytes` + label("/dev/sda2", "ext4", "/"):              1000 * 4096,
		`node_filesystem_avail_bytes` + label("/dev/sda2", "ext4", "/"):             400 * 4096,
		`node_filesystem_files_free` + label("/dev/sda2", "ext4", "/"):              90,
		`node_filesystem_readonly` + label("/dev/sda2", "ext4", "/"):                0,
		`node_filesystem_readonly` + label("/dev/sda1", "vfat", "/boot old"):        1,
		`evenkeel_unit_cpu_seconds_total{unit="nginx.service"}`:                     123.456789,
		`evenkeel_unit_cpu_seconds_total{unit="getty@tty1.service"}`:                0.001,
		`evenkeel_unit_cpu_periods_total{unit="nginx.service"}`:                     50,
		`evenkeel_unit_cpu_throttled_periods_total{unit="nginx.service"}`:           10,
		`evenkeel_unit_memory_bytes{unit="nginx.service"}`:                          52428800,
		`evenkeel_unit_memory_working_set_bytes{unit="nginx.service"}`:              40000000,
		`evenkeel_unit_memory_limit_bytes{unit="nginx.service"}`:                    209715200,
		`evenkeel_unit_oom_kills_total{unit="nginx.service"}`:                       1,
		`evenkeel_unit_io_read_bytes_total{unit="nginx.service"}`:                   1048577,
		`evenkeel_unit_io_written_bytes_total{unit="nginx.service"}`:                2097154,
		`evenkeel_unit_processes{unit="nginx.service"}`:                             9,
		`evenkeel_unit_pressure_cpu_waiting_seconds_total{unit="nginx.service"}`:    3,
		`evenkeel_unit_pressure_memory_waiting_seconds_total{unit="nginx.service"}`: 4e-6,
		`evenkeel_unit_pressure_io_waiting_seconds_total{unit="nginx.service"}`:     5e-6,
		`evenkeel_agent_spool_bytes`:                                                4096,
		`evenkeel_agent_spool_dropped_total`:                                        3,
	})
	for k := range got {
		for _, bad := range []string{`"sda1"`, "loop0", "nvme0n1p1", "/mnt/far", "/var/jail", "docker", "user@1000", "/run/user", "evenkeel_unit_memory_limit_bytes{unit=\"user.slice\"}"} {
			if strings.Contains(k, bad) && !strings.Contains(k, "/dev/sda1") {
				t.Errorf("series %s should not be there", k)
			}
		}
	}
	if len(s.Absent()) != 0 {
		t.Errorf("absent: %v", s.Absent())
	}
}

func label(device, kind, point string) string {
	return `{device="` + device + `",fstype="` + kind + `",mountpoint="` + point + `"}`
}

func check(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for k, v := range want {
		if g, ok := got[k]; !ok {
			t.Errorf("no series %s", k)
		} else if g != v {
			t.Errorf("%s = %v, want %v", k, g, v)
		}
	}
}

func TestRecordedHost(t *testing.T) {
	s := fixture(t, "testdata/linux-6.18-hybrid")
	var tab metric.Table
	round(t, s, &tab, t0)
	got := values(&tab)
	check(t, got, map[string]float64{
		`evenkeel_host_cpus`:         2,
		`node_boot_time_seconds`:     1795623262,
		`node_memory_MemTotal_bytes`: 24683620 * 1024,
		`node_filesystem_size_bytes` + label("/dev/vda", "ext4", "/"):    1000 * 4096,
		`evenkeel_unit_cpu_seconds_total{unit="/demo"}`:                  731.23456789,
		`evenkeel_unit_cpu_periods_total{unit="/demo"}`:                  120,
		`evenkeel_unit_cpu_throttled_periods_total{unit="/demo"}`:        30,
		`evenkeel_unit_memory_bytes{unit="/demo"}`:                       104857600,
		`evenkeel_unit_memory_working_set_bytes{unit="/demo"}`:           100000000,
		`evenkeel_unit_memory_limit_bytes{unit="/demo"}`:                 268435456,
		`evenkeel_unit_oom_kills_total{unit="/demo"}`:                    2,
		`evenkeel_unit_io_read_bytes_total{unit="/demo"}`:                4097,
		`evenkeel_unit_io_written_bytes_total{unit="/demo"}`:             8194,
		`evenkeel_unit_processes{unit="/demo"}`:                          7,
		`evenkeel_unit_pressure_cpu_waiting_seconds_total{unit="/demo"}`: 2.5,
		`evenkeel_unit_cpu_seconds_total{unit="web.service"}`:            12e-9,
		`evenkeel_unit_memory_bytes{unit="web.service"}`:                 9007199254740993,
	})
	if _, ok := got[`evenkeel_unit_memory_limit_bytes{unit="web.service"}`]; ok {
		t.Error("a unit without a limit has one")
	}
	for _, name := range []string{"node_vmstat_pgfault", "node_netstat_TcpExt_ListenDrops", `node_disk_io_time_seconds_total{device="vda"}`, "node_sockstat_TCP_inuse", "node_netstat_Tcp_InSegs"} {
		if _, ok := got[name]; !ok {
			t.Errorf("no series %s", name)
		}
	}
}

// A whole round allocates nothing once the host is known, on either layout.
func TestRoundDoesNotAllocate(t *testing.T) {
	for _, dir := range []string{"testdata/linux-5.10-v2", "testdata/linux-6.18-hybrid"} {
		s := fixture(t, dir)
		tab := &metric.Table{}
		now := t0
		step := func() {
			for _, p := range s.Probes() {
				if err := p.Read(tab, now); err != nil {
					t.Fatal(err)
				}
				tab.Ran(p.Group())
			}
			tab.Next()
			now = now.Add(time.Second)
		}
		for range 3 {
			step()
		}
		if n := testing.AllocsPerRun(50, step); n != 0 {
			t.Errorf("%s: %v allocations a round", dir, n)
		}
	}
}

// On the live host, processes that come and go bring series with them, so the probes of processes are left to the
// fixtures and to the benchmarks.
func TestLiveRoundDoesNotAllocate(t *testing.T) {
	s, tab, _ := ready(t)
	now := t0
	for _, p := range s.Probes() {
		if p.Name() == "top" || p.Name() == "components" {
			continue
		}
		if n := testing.AllocsPerRun(50, func() {
			if err := p.Read(tab, now); err != nil {
				t.Fatal(err)
			}
			tab.Next()
			now = now.Add(time.Second)
		}); n != 0 {
			t.Errorf("%s: %v allocations a round", p.Name(), n)
		}
	}
}

// copyTree copies a fixture so that a test can change it.
func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, s *probe.Set, name string) probe.Probe {
	t.Helper()
	for _, p := range s.Probes() {
		if p.Name() == name {
			return p
		}
	}
	t.Fatalf("no probe %s", name)
	return nil
}

// A probe that cannot read ends everything it said, and goes on when it can again.
func TestFailureEndsAllSeries(t *testing.T) {
	files := map[string]string{
		"cpu": "stat", "load": "loadavg", "memory": "meminfo", "vmstat": "vmstat", "pressure": "pressure/io", "disk": "diskstats",
		"network": "net/dev", "tcp": "net/netstat", "filesystem": "self/mountinfo", "self": "self/statm",
	}
	for name, file := range files {
		dir := copyTree(t, "testdata/linux-5.10-v2")
		s := fixture(t, dir)
		p := find(t, s, name)
		var tab metric.Table
		if err := p.Read(&tab, t0); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n := tab.Count()
		tab.Next()
		path := filepath.Join(dir, "proc", file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name != "filesystem" {
			write(t, path, "\x00garbage\n")
			if err := p.Read(&tab, t0); err == nil {
				t.Errorf("%s: garbage is no error", name)
			}
			if tab.Count() != 0 || len(tab.Gone()) < n {
				t.Errorf("%s: %d series live and %d gone of %d", name, tab.Count(), len(tab.Gone()), n)
			}
			tab.Next()
		}
		write(t, path, string(good))
		if err := p.Read(&tab, t0); err != nil || tab.Count() != n {
			t.Errorf("%s: %v, %d series of %d came back", name, err, tab.Count(), n)
		}
	}
}

func TestThingsThatComeAndGo(t *testing.T) {
	dir := copyTree(t, "testdata/linux-5.10-v2")
	s := fixture(t, dir)
	var tab metric.Table
	round(t, s, &tab, t0)
	before := values(&tab)
	tab.Next()

	change := func(file, old, new string) {
		path := filepath.Join(dir, file)
		b, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(b), old) {
			t.Fatalf("%s does not hold %q: %v", file, old, err)
		}
		write(t, path, strings.Replace(string(b), old, new, 1))
	}
	change("proc/net/dev", "    lo: 1111", "  eth9: 2222")
	change("proc/diskstats", "dm-0", "dm-1")
	change("proc/meminfo", "Buffers:          612340 kB\n", "")
	change("proc/vmstat", "pswpin 3", "pgscan_new 1\npswpin 30")
	change("proc/net/netstat", "ListenDrops", "ListenOther")
	change("proc/self/mountinfo", "/boot\\040old", "/boot")
	change("cgroup/system.slice/nginx.service/memory.max", "209715200", "max")
	write(t, filepath.Join(dir, "cgroup/system.slice/new.service/pids.current"), "5\n")
	if err := os.RemoveAll(filepath.Join(dir, "cgroup/init.scope")); err != nil {
		t.Fatal(err)
	}
	round(t, s, &tab, t0.Add(10*time.Second))
	after := values(&tab)
	check(t, after, map[string]float64{
		`node_network_receive_bytes_total{device="eth9"}`:                2222,
		`node_disk_reads_completed_total{device="dm-1"}`:                 1,
		`node_vmstat_pgscan_new`:                                         1,
		`node_vmstat_pswpin`:                                             30,
		`node_netstat_TcpExt_ListenOther`:                                8,
		`node_filesystem_readonly` + label("/dev/sda1", "vfat", "/boot"): 0,
		`evenkeel_unit_processes{unit="new.service"}`:                    5,
	})
	for _, gone := range []string{
		`node_network_receive_bytes_total{device="lo"}`, `node_disk_reads_completed_total{device="dm-0"}`, "node_memory_Buffers_bytes",
		"node_netstat_TcpExt_ListenDrops", `node_filesystem_readonly` + label("/dev/sda1", "vfat", "/boot old"),
		`evenkeel_unit_memory_limit_bytes{unit="nginx.service"}`, `evenkeel_unit_cpu_seconds_total{unit="init.scope"}`,
	} {
		if _, ok := before[gone]; !ok {
			t.Errorf("%s was not there before", gone)
		}
		if _, ok := after[gone]; ok {
			t.Errorf("%s is still there", gone)
		}
	}
}

// Idle time may go back a little when the kernel corrects it; a counter must not.
func TestIdleNeverFalls(t *testing.T) {
	dir := copyTree(t, "testdata/linux-5.10-v2")
	s := fixture(t, dir)
	p := find(t, s, "cpu")
	var tab metric.Table
	k := `node_cpu_seconds_total{mode="idle"}`
	for _, c := range []struct{ idle, want string }{{"40000", "400"}, {"39990", "400"}, {"40001", "400.01"}, {"100", "1"}} {
		write(t, filepath.Join(dir, "proc/stat"), "cpu  1 2 3 "+c.idle+" 5 6 7 8 9 10\ncpu0 1\n")
		if err := p.Read(&tab, t0); err != nil {
			t.Fatal(err)
		}
		if got := strconv.FormatFloat(values(&tab)[k], 'g', -1, 64); got != c.want {
			t.Errorf("the kernel says %s jiffies: %s s, want %s", c.idle, got, c.want)
		}
		tab.Next()
	}
}

func TestNoPressureNoCgroups(t *testing.T) {
	dir := copyTree(t, "testdata/linux-5.10-v2")
	if err := os.RemoveAll(filepath.Join(dir, "proc/pressure")); err != nil {
		t.Fatal(err)
	}
	s, err := probe.New(probe.Config{Proc: filepath.Join(dir, "proc"), Cgroup: filepath.Join(dir, "nothing")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all := strings.Join(s.Absent(), "\n")
	if !strings.Contains(all, "pressure:") || !strings.Contains(all, "units:") {
		t.Errorf("absent: %q", all)
	}
	var tab metric.Table
	round(t, s, &tab, t0)
	if _, err := probe.New(probe.Config{Proc: filepath.Join(dir, "nothing")}); err == nil {
		t.Error("a host without proc is no error")
	}
}

func TestMoreUnitsThanShown(t *testing.T) {
	s := open(t, probe.Config{Proc: "testdata/linux-5.10-v2/proc", Cgroup: "testdata/linux-5.10-v2/cgroup", MaxUnits: 2})
	var tab metric.Table
	round(t, s, &tab, t0)
	units := map[string]bool{}
	for slot := range metric.Slot(tab.Len()) {
		if u, ok := tab.Desc(slot).Label("unit"); ok {
			units[u] = true
		}
	}
	if len(units) > 2 {
		t.Errorf("%d units are shown", len(units))
	}
	if got := strings.Join(s.Absent(), "\n"); got != "units: 4 beyond the limit are not shown" {
		t.Errorf("absent: %q", got)
	}
}
