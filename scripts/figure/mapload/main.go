// The mapload program takes the figures map-load and map-load-rss: how long it takes, and how much memory, to read a map of 100,000
// nodes from YAML, check all of it, and build its graph.
//
// The map is written to a folder beforehand, in files of a thousand documents: 10,000 hosts with four labels; 20,000 components, of which
// four in five name their host and the others pick hosts by two labels; and services in five layers, each with three to six
// dependencies, some with weights, essential or propagated otherwise, a tenth with a value and a fifth with a rule of its own. Each run is
// a process of its own, so that its peak is its own: it reads the folder from the page cache, parses every document, validates the
// set (references, loops, names) and builds the graph. It runs on one CPU, and the time is what it used of it, garbage collection included:
// by the clock it takes no longer on a machine with nothing else to do.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

const (
	name       = "map-load"
	nodes      = 100_000
	hosts      = 10_000
	components = 20_000
	layers     = 5
	perFile    = 1000
)

// loaded is what a run tells.
type loaded struct {
	Documents, Nodes int
	Wall, CPU, GiB   float64
	Phases           map[string]float64
}

func main() {
	runs := flag.Int("runs", 3, "how often the map is loaded; the figures are the median of the time, and the most of the memory")
	load := flag.String("load", "", "load this folder and tell what it took: what a run does")
	flag.Parse()
	if *load != "" {
		out, err := run(*load)
		if err != nil {
			report.Fail(name, err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
			report.Fail(name, err)
		}
		return
	}
	dir, err := os.MkdirTemp("", "mapload")
	if err != nil {
		report.Fail(name, err)
	}
	middle, err := measure(dir, *runs)
	if err := os.RemoveAll(dir); err != nil {
		report.Fail(name, err)
	}
	if err != nil {
		report.Fail(name, err)
	}
	figures := []report.Figure{
		{Name: name, Value: middle.CPU, Unit: "s", Op: "<=", Goal: 10},
		{Name: name + "-rss", Value: middle.GiB, Unit: "GiB", Op: "<=", Goal: 1},
	}
	switch flag.Arg(0) {
	case name:
		report.Exit(figures[0])
	case name + "-rss":
		report.Exit(figures[1])
	}
	report.Exit(figures...)
}

func measure(dir string, runs int) (out loaded, err error) {
	var took []float64
	size, err := write(dir)
	if err != nil {
		return out, err
	}
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	for i := range max(runs, 1) {
		cmd := exec.Command(self, "-load", dir)
		cmd.Stderr = os.Stderr
		text, err := cmd.Output()
		if err != nil {
			return out, err
		}
		var one loaded
		if err := json.Unmarshal(text, &one); err != nil {
			return out, err
		}
		if one.Nodes < nodes {
			return out, fmt.Errorf("the map has %d nodes: expected at least %d", one.Nodes, nodes)
		}
		fmt.Printf("run %d: %d documents of %.1f MiB, %d nodes: read %.2f s, parsed and checked %.2f s, graph %.2f s by the clock; %.2f s of CPU; %.3f GiB at the most\n", i+1,
			one.Documents, float64(size)/(1<<20), one.Nodes, one.Phases["read"], one.Phases["check"], one.Phases["graph"], one.CPU, one.GiB)
		took, out.GiB = append(took, one.CPU), max(out.GiB, one.GiB)
	}
	out.CPU = report.Median(took)
	return out, nil
}

// run loads the map as the collector and the command do.
func run(dir string) (loaded, error) {
	runtime.GOMAXPROCS(1)
	out := loaded{Phases: map[string]float64{}}
	began := time.Now()
	lap := began
	phase := func(what string) {
		out.Phases[what] = time.Since(lap).Seconds()
		lap = time.Now()
	}
	files, problems := manifest.Read([]string{dir}, nil)
	phase("read")
	if len(problems) > 0 {
		return out, fmt.Errorf("%s", problems[0])
	}
	set, problems := manifest.CheckFiles(files, nil)
	phase("check")
	if len(problems) > 0 {
		return out, fmt.Errorf("%d problems, the first: %s", len(problems), problems[0])
	}
	g, err := servicemap.New(set, nil)
	phase("graph")
	if err != nil {
		return out, err
	}
	out.Wall = time.Since(began).Seconds()
	cpu, err := report.CPU(os.Getpid())
	if err != nil {
		return out, err
	}
	out.CPU = cpu.Seconds()
	out.Documents, out.Nodes = set.Len(), g.Len()
	out.GiB, err = peak()
	return out, err
}

// peak is the most memory that this process ever held.
func peak() (float64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb / (1 << 20), err
		}
	}
	return 0, fmt.Errorf("no VmHWM in /proc/self/status")
}

// writer cuts documents into files.
type writer struct {
	dir  string
	n    int
	size int64
	file *os.File
	out  *bufio.Writer
}

func (w *writer) add(format string, args ...any) error {
	if w.n%perFile == 0 {
		if err := w.close(); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(w.dir, fmt.Sprintf("map-%04d.yaml", w.n/perFile)))
		if err != nil {
			return err
		}
		w.file, w.out = f, bufio.NewWriter(f)
	}
	w.n++
	n, err := fmt.Fprintf(w.out, "---\napiVersion: evenkeel/v1\n"+format, args...)
	w.size += int64(n)
	return err
}

func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	if err := w.out.Flush(); err != nil {
		return err
	}
	return w.file.Close()
}

// write makes the map. The members of the components make up what the documents lack of 100,000 nodes.
func write(dir string) (int64, error) {
	r := rand.New(rand.NewPCG(1, 2))
	w := &writer{dir: dir}
	for i := range hosts {
		if err := w.add("kind: Host\nmetadata:\n  name: host-%d\n  labels: {site: s%d, role: r%d, rack: k%d, env: prod}\n", i, i%10, i%500, i/500%5); err != nil {
			return 0, err
		}
	}
	members := 0
	for i := range components {
		where := fmt.Sprintf("names: [host-%d]", r.IntN(hosts))
		members++
		if i%5 == 0 {
			// A role is on twenty hosts, and four of them are in one rack.
			where = fmt.Sprintf("matchLabels: {role: r%d, rack: k%d}", i%500, i/500%5)
			members += 3
		}
		if err := w.add("kind: Component\nmetadata:\n  name: part-%d\n  labels: {team: t%d}\nspec:\n  title: Part %d\n  hosts: {%s}\n  unit: part-%d.service\n  repair: {expected: %dm}\n",
			i, i%40, i, where, i, 5+i%50); err != nil {
			return 0, err
		}
	}
	services := nodes - hosts - components - members
	perLayer := (services + layers - 1) / layers
	for i := range perLayer * layers {
		layer := i / perLayer
		deps := map[string]bool{}
		var list strings.Builder
		for len(deps) < 3+r.IntN(4) {
			to := fmt.Sprintf("component/part-%d", r.IntN(components))
			if layer > 0 && r.IntN(3) > 0 {
				to = fmt.Sprintf("service/service-%d", (layer-1)*perLayer+r.IntN(perLayer))
			}
			if deps[to] {
				continue
			}
			deps[to] = true
			more := []string{"", "", ", weight: 2", ", essential: true", ", propagate: 'decrease:1'"}[r.IntN(5)]
			fmt.Fprintf(&list, "    - {ref: %s%s}\n", to, more)
		}
		extra := ""
		if i%10 == 0 {
			extra += fmt.Sprintf("  value: {perHour: %d, currency: EUR, loss: {major: 0.5, critical: 1}}\n", 100+r.IntN(10000))
		}
		if i%5 == 0 {
			extra += "  health: {rule: quorum, quorum: {need: 2}}\n"
		}
		if err := w.add("kind: Service\nmetadata: {name: service-%d}\nspec:\n  title: Service %d\n  criticality: %d\n%s  dependsOn:\n%s", i, i, 1+i%4, extra, list.String()); err != nil {
			return 0, err
		}
	}
	return w.size, w.close()
}
