package overload

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// Unit says how a signal's values are written for people.
type Unit uint8

// The units of signals.
const (
	Number    Unit = iota // a plain number
	Ratio                 // 0 to 1, written in percent
	PerSecond             // events a second
	Delay                 // seconds a second
	Cores                 // CPUs in use
	Seconds
	Bytes
)

// Signal describes one row of the table of signals.
type Signal struct {
	Name string
	Unit Unit
	// Per is the label (several, joined by "/") whose values are the subjects; none means the host itself.
	Per []string

	num, den   []term
	largest    bool    // the numerator is the largest of its terms, not their sum
	complement bool    // 1 - x
	denMin     float64 // a smaller denominator counts as this
}

// term is one series of a signal. Counters enter by their growth, gauges by their value.
type term struct {
	series  string
	counter bool
	// dips marks counters that the kernel may take back a little: growth below zero counts as none, not as a reset.
	dips  bool
	label string // only series whose label is one of in
	in    []string
}

func counter(series ...string) []term {
	out := make([]term, len(series))
	for i, s := range series {
		out[i] = term{series: s, counter: true}
	}
	return out
}

func gauge(series string) []term { return []term{{series: series}} }

func cpuModes(in ...string) []term {
	return []term{{series: "node_cpu_seconds_total", counter: true, dips: true, label: "mode", in: in}}
}

// signals is the table. Rates are growth over the time that went by, or over the growth of the denominator.
var signals = table()

func table() []Signal {
	allModes := cpuModes("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal") // guest is within user
	busy := cpuModes("user", "nice", "system", "irq", "softirq")
	host := []Signal{
		{Name: "cpu.busy", Unit: Ratio, num: busy, den: allModes},
		{Name: "cpu.used", Unit: Cores, num: busy},
		{Name: "cpu.steal", Unit: Ratio, num: cpuModes("steal"), den: allModes},
		{Name: "cpu.iowait", Unit: Ratio, num: cpuModes("iowait"), den: allModes},
		{Name: "host.cpus", num: gauge("evenkeel_host_cpus")},
		{Name: "cpu.pressure.some", Unit: Ratio, num: counter("node_pressure_cpu_waiting_seconds_total")},
		{Name: "memory.pressure.some", Unit: Ratio, num: counter("node_pressure_memory_waiting_seconds_total")},
		{Name: "memory.pressure.full", Unit: Ratio, num: counter("node_pressure_memory_stalled_seconds_total")},
		{Name: "io.pressure.some", Unit: Ratio, num: counter("node_pressure_io_waiting_seconds_total")},
		{Name: "io.pressure.full", Unit: Ratio, num: counter("node_pressure_io_stalled_seconds_total")},
		{Name: "load.percore", num: gauge("node_load1"), den: gauge("evenkeel_host_cpus"), denMin: 2},
		{Name: "load5.percore", num: gauge("node_load5"), den: gauge("evenkeel_host_cpus"), denMin: 2},
		{Name: "load15.percore", num: gauge("node_load15"), den: gauge("evenkeel_host_cpus"), denMin: 2},
		{Name: "procs.blocked", num: gauge("node_procs_blocked")},
		{Name: "memory.available", Unit: Ratio, num: gauge("node_memory_MemAvailable_bytes"), den: gauge("node_memory_MemTotal_bytes")},
		{Name: "swap.used", Unit: Ratio, num: gauge("node_memory_SwapFree_bytes"), den: gauge("node_memory_SwapTotal_bytes"), complement: true},
		{Name: "swap.out", Unit: PerSecond, num: counter("node_vmstat_pswpout")},
		{Name: "swap.in", Unit: PerSecond, num: counter("node_vmstat_pswpin")},
		{Name: "oom.kills", Unit: PerSecond, num: counter("node_vmstat_oom_kill")},
		{Name: "tcp.retransmits", Unit: Ratio, num: counter("node_netstat_Tcp_RetransSegs"), den: counter("node_netstat_Tcp_OutSegs")},
		{Name: "tcp.resets", Unit: PerSecond, num: counter("node_netstat_Tcp_OutRsts", "node_netstat_Tcp_AttemptFails")},
		{Name: "listen.overflows", Unit: PerSecond, num: counter("node_netstat_TcpExt_ListenOverflows")},
		{Name: "listen.drops", Unit: PerSecond, num: counter("node_netstat_TcpExt_ListenDrops")},
		{Name: "syn.drops", Unit: PerSecond, num: counter("node_netstat_TcpExt_TCPReqQFullDrop")},
		{Name: "syn.cookies", Unit: PerSecond, num: counter("node_netstat_TcpExt_TCPReqQFullDoCookies")},
		{Name: "softnet.drops", Unit: PerSecond, num: counter("node_softnet_dropped_total")},
		{Name: "softnet.squeezed", Unit: PerSecond, num: counter("node_softnet_times_squeezed_total")},
		{Name: "conntrack.used", Unit: Ratio, num: gauge("node_nf_conntrack_entries"), den: gauge("node_nf_conntrack_entries_limit")},
		{Name: "files.used", Unit: Ratio, num: gauge("node_filefd_allocated"), den: gauge("node_filefd_maximum")},
		{Name: "pids.used", Unit: Ratio, num: gauge("node_processes_pids"), den: gauge("node_processes_max_processes")},
	}
	return slices.Concat(host, deviceSignals(), unitSignals(), componentSignals())
}

func deviceSignals() []Signal {
	mount, device := []string{"mountpoint"}, []string{"device"}
	ios := counter("node_disk_reads_completed_total", "node_disk_writes_completed_total")
	packets := counter("node_network_receive_packets_total", "node_network_transmit_packets_total")
	return []Signal{
		{Name: "disk.space", Unit: Ratio, Per: mount, num: gauge("node_filesystem_avail_bytes"), den: gauge("node_filesystem_size_bytes")},
		{Name: "disk.inodes", Unit: Ratio, Per: mount, num: gauge("node_filesystem_files_free"), den: gauge("node_filesystem_files")},
		{Name: "disk.readonly", Per: mount, num: gauge("node_filesystem_readonly")},
		{Name: "disk.await", Unit: Seconds, Per: device, num: counter("node_disk_read_time_seconds_total", "node_disk_write_time_seconds_total"), den: ios},
		{Name: "disk.operations", Unit: PerSecond, Per: device, num: ios},
		{Name: "disk.util", Unit: Ratio, Per: device, num: counter("node_disk_io_time_seconds_total")},
		{Name: "disk.queue", Per: device, num: counter("node_disk_io_time_weighted_seconds_total")},
		{
			Name: "network.errors", Unit: Ratio, Per: device, den: packets,
			num: counter("node_network_receive_errs_total", "node_network_transmit_errs_total"),
		},
		{
			Name: "network.drops", Unit: PerSecond, Per: device,
			num: counter("node_network_receive_drop_total", "node_network_transmit_drop_total"),
		},
		{
			Name: "network.utilisation", Unit: Ratio, Per: device, largest: true, den: gauge("node_network_speed_bytes"),
			num: counter("node_network_receive_bytes_total", "node_network_transmit_bytes_total"),
		},
	}
}

func unitSignals() []Signal {
	unit := []string{"unit"}
	return []Signal{
		{Name: "unit.cpu", Unit: Cores, Per: unit, num: counter("evenkeel_unit_cpu_seconds_total")},
		{
			Name: "unit.throttled", Unit: Ratio, Per: unit,
			num: counter("evenkeel_unit_cpu_throttled_periods_total"), den: counter("evenkeel_unit_cpu_periods_total"),
		},
		{
			Name: "unit.memory", Unit: Ratio, Per: unit,
			num: gauge("evenkeel_unit_memory_working_set_bytes"), den: gauge("evenkeel_unit_memory_limit_bytes"),
		},
		{Name: "unit.pressure", Unit: Ratio, Per: unit, num: counter("evenkeel_unit_pressure_cpu_waiting_seconds_total")},
		{Name: "unit.pressure.memory", Unit: Ratio, Per: unit, num: counter("evenkeel_unit_pressure_memory_waiting_seconds_total")},
		{Name: "unit.pressure.io", Unit: Ratio, Per: unit, num: counter("evenkeel_unit_pressure_io_waiting_seconds_total")},
		{Name: "unit.oom.kills", Unit: PerSecond, Per: unit, num: counter("evenkeel_unit_oom_kills_total")},
	}
}

func componentSignals() []Signal {
	component, check := []string{"component"}, []string{"check"}
	return []Signal{
		{Name: "component.cpu", Unit: Cores, Per: component, num: counter("evenkeel_component_cpu_seconds_total")},
		{Name: "runqueue.delay", Unit: Delay, Per: component, num: counter("evenkeel_component_runqueue_seconds_total")},
		{Name: "component.memory", Unit: Bytes, Per: component, num: gauge("evenkeel_component_memory_bytes")},
		{Name: "component.fds", Per: component, num: gauge("evenkeel_component_fds")},
		{Name: "component.threads", Per: component, num: gauge("evenkeel_component_threads")},
		{Name: "process.running", Per: component, num: gauge("evenkeel_component_processes")},
		{Name: "process.exits", Unit: PerSecond, Per: component, num: counter("evenkeel_component_exits_total")},
		{Name: "process.cpu", Unit: Cores, Per: []string{"comm", "pid"}, num: counter("evenkeel_process_cpu_seconds_total")},
		{Name: "check.up", Per: check, num: gauge("evenkeel_check_up")},
		{Name: "check.duration", Unit: Seconds, Per: check, num: gauge("evenkeel_check_duration_seconds")},
	}
}

// use is one place of a series: a term of a signal.
type use struct {
	signal int
	den    bool
	term   *term
}

// uses finds the places of a series by its name.
var uses = index()

func index() map[string][]use {
	out := map[string][]use{}
	for i := range signals {
		s := &signals[i]
		for j := range s.num {
			out[s.num[j].series] = append(out[s.num[j].series], use{i, false, &s.num[j]})
		}
		for j := range s.den {
			out[s.den[j].series] = append(out[s.den[j].series], use{i, true, &s.den[j]})
		}
	}
	return out
}

func (t *term) takes(d *metric.Desc) bool {
	if t.label == "" {
		return true
	}
	v, ok := d.Label(t.label)
	return ok && slices.Contains(t.in, v)
}

func (s *Signal) subject(d *metric.Desc) (string, bool) {
	if len(s.Per) == 0 {
		return "", true
	}
	if len(s.Per) == 1 {
		return d.Label(s.Per[0])
	}
	parts := make([]string, len(s.Per))
	for i, p := range s.Per {
		v, ok := d.Label(p)
		if !ok {
			return "", false
		}
		parts[i] = v
	}
	return strings.Join(parts, "/"), true
}

// Signals returns the table of signals, in its order.
func Signals() []Signal { return slices.Clone(signals) }

func signalNumber(name string) (int, bool) {
	i := slices.IndexFunc(signals, func(s Signal) bool { return s.Name == name })
	return i, i >= 0
}

// Format writes a value in the signal's unit, as people read it.
func (u Unit) Format(v float64) string {
	switch u {
	case Ratio:
		return short(v*100) + " %"
	case PerSecond:
		return short(v) + "/s"
	case Delay:
		return short(v) + " s/s"
	case Cores:
		return short(v) + " cores"
	case Seconds:
		if v < 1 {
			return short(v*1000) + " ms"
		}
		return short(v) + " s"
	case Bytes:
		const mib = 1 << 20
		return fmt.Sprintf("%.0f MiB", v/mib)
	}
	return short(v)
}

// short writes about three digits.
func short(v float64) string {
	digits := 0
	v = math.Round(v*1e4) / 1e4 // thresholds and values are kept in 32 bits
	switch a := max(v, -v); {
	case a == float64(int64(a)):
	case a < 0.1:
		digits = 3
	case a < 10:
		digits = 2
	case a < 100:
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
