// The agentcost program takes the figures of what an agent costs its host: agent-size, agent-allocs, agent-rss and
// agent-cpu. The agent is the real binary with the real collector beside it, started by evenkeel-collector dev; twenty or
// so cgroups with a process each make this host show about 500 series, for which it needs root.
package main

import (
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

// settings are the flags; the defaults are what the figures are taken with.
type settings struct {
	bin    string
	units  int
	pairs  int
	window int // s
	settle int // s, before agent-rss looks
	trace  int // s
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "reader" {
		fmt.Fprintln(os.Stderr, "reader:", runReader(os.Stdin)) // it ends only when it cannot go on
		os.Exit(1)
	}
	if len(os.Args) == 3 && os.Args[1] == "unit" {
		number, _ := strconv.Atoi(os.Args[2])
		runUnit(number)
		return
	}
	var s settings
	flag.StringVar(&s.bin, "bin", "bin", "`FOLDER` of the binaries")
	flag.IntVar(&s.units, "units", 22, "`NUMBER` of cgroups to make")
	flag.IntVar(&s.pairs, "pairs", 6, "`NUMBER` of pairs of agent-cpu")
	flag.IntVar(&s.window, "window", 20, "`SECONDS` of each half of a pair, a multiple of ten")
	flag.IntVar(&s.settle, "settle", 120, "`SECONDS` after which agent-rss looks")
	flag.IntVar(&s.trace, "trace", 31, "`SECONDS` for which agent-cpu watches what the agent reads")
	flag.Parse()
	name := flag.Arg(0)
	take, ok := map[string]func(settings) (report.Figure, error){
		"agent-size": size, "agent-allocs": allocs, "agent-rss": rss, "agent-cpu": cpu,
	}[name]
	if !ok {
		report.Fail(name, errors.New("there are agent-size, agent-allocs, agent-rss and agent-cpu"))
	}
	f, err := take(s)
	if err != nil {
		report.Fail(name, err)
	}
	f.Name = name
	report.Exit(f)
}

// size measures the agent's binary as make build leaves it.
func size(s settings) (report.Figure, error) {
	path := s.bin + "/evenkeel-agent"
	info, err := os.Stat(path)
	if err != nil {
		return report.Figure{}, err
	}
	f, err := elf.Open(path)
	if err != nil {
		return report.Figure{}, err
	}
	defer f.Close()
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		fmt.Println("the binary is not stripped")
	}
	linked := "linked statically, without cgo"
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			linked = "linked dynamically"
		}
	}
	fmt.Printf("%s: %d bytes, %s\n", path, info.Size(), linked)
	return report.Figure{Value: float64(info.Size()) / 1e6, Unit: "MB", Op: "<=", Goal: 20}, nil
}
