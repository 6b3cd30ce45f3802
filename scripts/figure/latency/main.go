// The latency program takes the figures decide-latency and loop-latency.
//
// loop-latency is from the onset of real contention to the kernel's own word that a command is in force, with the demo's two
// processes and evenkeel-collector dev. decide-latency is from a host's batch to its actor's acceptance of the command: the
// hosts' readings are made up, their links are the agent's own, and collector, ledger, signatures and actors are the real
// programs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

// settings are the flags; the defaults are what the figures are taken with.
type settings struct {
	runs      int
	session   bool
	count     int // of hosts
	decisions int
	series    int
	seed      uint64
	keep      bool
	only      string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "spin" {
		spin()
		return
	}
	var s settings
	flag.IntVar(&s.runs, "runs", 20, "`NUMBER` of runs of loop-latency")
	flag.BoolVar(&s.session, "session", false, "loop-latency as if not root: one session and process.affinity")
	flag.IntVar(&s.count, "hosts", 20, "`NUMBER` of hosts of decide-latency, each with an actor of its own")
	flag.IntVar(&s.decisions, "decisions", 240, "`NUMBER` of decisions of each half of decide-latency")
	flag.IntVar(&s.series, "series", 500, "`NUMBER` of series of a host of decide-latency")
	flag.Uint64Var(&s.seed, "seed", 1, "`SEED` of onsets and pauses")
	flag.StringVar(&s.only, "only", "", "take one `HALF` of decide-latency: idle or saturated")
	flag.BoolVar(&s.keep, "keep", false, "leave the state folder behind")
	flag.Parse()
	name := flag.Arg(0)
	take, ok := map[string]func(context.Context, settings) ([]report.Figure, error){"decide-latency": decide, "loop-latency": loop}[name]
	if !ok {
		report.Fail(name, errors.New("there are decide-latency and loop-latency"))
	}
	// Processes die with the thread that started them, so that one must live as long as this does.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	figures, err := take(ctx, s)
	stop()
	if err != nil {
		report.Fail(name, err)
	}
	report.Exit(figures...)
}

// load is what the kernel says of the machine at this moment, for whoever reads a figure later.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load not known"
	}
	f := strings.Fields(string(b))
	return fmt.Sprintf("load averages %s on %d CPUs", strings.Join(f[:min(3, len(f))], " "), runtime.NumCPU())
}

// folder makes the folder for everything that a figure writes, and returns what removes it.
func (s settings) folder() (string, func(), error) {
	dir, err := os.MkdirTemp("", "evenkeel-latency-")
	if err != nil {
		return "", nil, err
	}
	if s.keep {
		fmt.Println("state folder:", dir)
		return dir, func() {}, nil
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}
