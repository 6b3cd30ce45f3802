// The ingestcpu program takes the figure ingest-cpu: the collector's CPU for each sample that it takes in, over that of
// VictoriaMetrics for the same samples.
//
// Both servers have the second core to themselves and GOMAXPROCS=1, this program and its load have the first. A thousand
// simulated agents with real certificates, connections and sessions send a tick in each message, all of them in step and as
// fast as the collector takes them, until every tick is acked from stable storage. Without the step an agent would send
// many ticks at a time, which share reads, records and caches as those of real agents do not. VictoriaMetrics gets the same samples by remote write, a
// request for each host and tick, four under way. CPU is counted from the first batch after the series exist until eight
// seconds after the last ack, for what a server puts off is work too. Afterwards every sample must be found by query.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

// The cores of the load and of the server that is measured.
const (
	loadCore   = 0
	serverCore = 1
)

const name = "ingest-cpu"

// settings are the flags; the defaults are what the figure is taken with.
type settings struct {
	bin        string
	pairs      int
	hosts      int
	series     int
	ticks      int
	warm       int
	lead       int
	settle     time.Duration
	prometheus bool
	alone      bool
}

func main() {
	s := settings{settle: 8 * time.Second}
	flag.StringVar(&s.bin, "bin", "bin", "`FOLDER` of the binaries")
	flag.IntVar(&s.pairs, "pairs", 3, "`NUMBER` of pairs")
	flag.IntVar(&s.hosts, "hosts", 1000, "`NUMBER` of agents")
	flag.IntVar(&s.series, "series", 100, "`NUMBER` of series of an agent")
	flag.IntVar(&s.ticks, "ticks", 300, "`NUMBER` of ticks that are measured")
	flag.IntVar(&s.warm, "warm", 3, "`NUMBER` of ticks before, which make the series")
	flag.IntVar(&s.lead, "lead", 8, "`NUMBER` of ticks that an agent may be ahead of the acks; 0: as far as its connection takes")
	flag.BoolVar(&s.prometheus, "prometheus", false, "feed Debian's prometheus once too, for comparison")
	flag.BoolVar(&s.alone, "alone", false, "run the collector only and take no figure, as for a profile")
	flag.Parse()
	if flag.NArg() != 1 || flag.Arg(0) != name {
		report.Fail(flag.Arg(0), errors.New("there is "+name))
	}
	if err := moveTo(loadCore); err != nil {
		report.Fail(name, err)
	}
	// Servers die with the thread that started them, so that one must live as long as this does.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	f, err := take(ctx, s)
	stop()
	if err != nil {
		report.Fail(name, err)
	}
	report.Exit(f)
}

// moveTo binds the whole program to one core. Threads that are there already keep theirs, so the program starts anew.
func moveTo(core int) error {
	var now, want unix.CPUSet
	want.Set(core)
	if err := unix.SchedGetaffinity(0, &now); err != nil {
		return err
	}
	if now == want {
		return nil
	}
	if !now.IsSet(loadCore) || !now.IsSet(serverCore) {
		return fmt.Errorf("cores %d and %d are needed", loadCore, serverCore)
	}
	runtime.LockOSThread()
	if err := unix.SchedSetaffinity(0, &want); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), "GOMAXPROCS=1"))
}

// take runs the pairs, one server first in one and the other in the next.
func take(ctx context.Context, s settings) (report.Figure, error) {
	victoria, prometheus := peers()
	if err := victoria.install(ctx); err != nil {
		return report.Figure{}, err
	}
	fmt.Printf("%d agents with %d series each, %d ticks after %d that make the series; each server alone on core %d with GOMAXPROCS=1, the load on core %d\n",
		s.hosts, s.series, s.ticks, s.warm, serverCore, loadCore)
	load := makeLoad(s)
	fmt.Printf("a tick is %.0f bytes of ours and %.0f of remote write\n", load.ours(), load.theirs())
	if s.prometheus {
		r, err := load.feed(ctx, prometheus)
		if err != nil {
			return report.Figure{}, err
		}
		fmt.Println("  ", r)
	}
	if s.alone {
		for range s.pairs {
			r, err := load.collect(ctx)
			if err != nil {
				report.Fail(name, err)
			}
			fmt.Println("  ", r)
		}
		os.Exit(0)
	}
	var ratios, own, other []float64
	for i := range s.pairs {
		fmt.Printf("pair %d of %d, %s\n", i+1, s.pairs, loadAverage())
		var ours, theirs result
		var err error
		for step := range 2 {
			if step == i%2 {
				ours, err = load.collect(ctx)
				if err == nil {
					fmt.Println("  ", ours)
				}
			} else {
				theirs, err = load.feed(ctx, victoria)
				if err == nil {
					fmt.Println("  ", theirs)
				}
			}
			if err != nil {
				return report.Figure{}, err
			}
		}
		own, other = append(own, ours.perSample()), append(other, theirs.perSample())
		ratios = append(ratios, ours.perSample()/theirs.perSample())
		fmt.Printf("   ratio %.3f\n", ratios[i])
	}
	fmt.Printf("evenkeel-collector %s, %s %s µs a sample; ratio %s; %s\n", report.Range(own), victoria.name, report.Range(other), report.Range(ratios), loadAverage())
	return report.Figure{Name: name, Value: report.Median(ratios), Unit: "ratio", Op: "<=", Goal: 0.5}, nil
}

// loadAverage is what the kernel says of the machine at this moment.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load not known"
	}
	f := strings.Fields(string(b))
	return fmt.Sprintf("load averages %s", strings.Join(f[:min(3, len(f))], " "))
}

// result is one run of one server.
type result struct {
	name            string
	series, samples int
	creation        time.Duration // CPU until the series exist, with connections
	loaded, settled time.Duration // CPU from there to the last ack, and in the seconds after
	elapsed, load   time.Duration // wall clock and this program's CPU of the loaded part
	waited          time.Duration // that the server was ready to run in the loaded part and others had its core
	present         float64       // MiB resident under load
	disk            int64         // bytes of the server's folder afterwards
}

func (r result) perSample() float64 {
	return float64((r.loaded + r.settled).Nanoseconds()) / 1e3 / float64(r.samples)
}

func (r result) String() string {
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(r.samples) }
	return fmt.Sprintf("%-18s %.3f µs a sample (%.3f under load, %.3f after), %.0fk samples/s, its core %.0f %% busy and %.0f %% kept by others, load's core %.0f %%; a new series %.1f µs; %.0f MiB resident, %.1f bytes on disk a sample",
		r.name, r.perSample(), per(r.loaded), per(r.settled), float64(r.samples)/r.elapsed.Seconds()/1e3, 100*r.loaded.Seconds()/r.elapsed.Seconds(),
		100*r.waited.Seconds()/r.elapsed.Seconds(), 100*r.load.Seconds()/r.elapsed.Seconds(), float64(r.creation.Nanoseconds())/1e3/float64(r.series), r.present, float64(r.disk)/float64(r.samples))
}

// meter follows the CPU of a server from step to step.
type meter struct {
	pid         int
	server, own time.Duration
	waited      time.Duration // as of the last lap
	at          time.Time
}

// lap returns the CPU of server and load, and the time, since the last lap.
func (m *meter) lap() (server, own, wall time.Duration, err error) {
	if m.server, err = swap(m.pid, m.server, &server); err != nil {
		return 0, 0, 0, err
	}
	if m.own, err = swap(os.Getpid(), m.own, &own); err != nil {
		return 0, 0, 0, err
	}
	now := time.Now()
	wall, m.at, m.waited = now.Sub(m.at), now, waiting(m.pid)
	return server, own, wall, nil
}

func swap(pid int, before time.Duration, spent *time.Duration) (time.Duration, error) {
	now, err := report.CPU(pid)
	*spent = now - before
	return now, err
}

// waiting reads for how long the threads of a process were ready to run and did not, since they began. On a machine that is
// shared this tells a server that had nothing to do from one that was not let.
func waiting(pid int) (sum time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		var ran, waited int64
		if _, err := fmt.Sscan(string(b), &ran, &waited); err == nil {
			sum += time.Duration(waited)
		}
	}
	return sum
}

// resident reads how much of a process is in memory, in MiB.
func resident(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, pages float64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// sizeOf adds up what the files below a folder take on disk.
func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// server is a program on the server's core, with a folder of its own that goes with it.
type server struct {
	dir   string
	cmd   *exec.Cmd
	ended chan error
	log   *os.File
}

func start(dir string, argv ...string) (*server, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	// taskset becomes the program, so its process id is the program's.
	s := &server{dir: dir, log: log, ended: make(chan error, 1), cmd: exec.Command("taskset", append([]string{"-c", fmt.Sprint(serverCore)}, argv...)...)}
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("cannot start %s: %w", argv[0], err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	return s, nil
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// await tries until it succeeds, for a minute at most.
func (s *server) await(ctx context.Context, try func() error) error {
	for end := time.Now().Add(time.Minute); ; {
		err := try()
		if err == nil || time.Now().After(end) {
			return s.explained(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.ended:
			s.ended <- err
			return s.explained(fmt.Errorf("the server ended: %w", err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// explained adds the end of the server's log to an error.
func (s *server) explained(err error) error {
	if err == nil {
		return nil
	}
	b, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("%w; the server's log ends with: %s", err, b[max(0, len(b)-2000):])
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(30*time.Second, func() { _ = s.cmd.Process.Kill() })
	<-s.ended
	timer.Stop()
	s.log.Close()
}
