// The healthstep program takes two figures of the health of the map, on one CPU and in CPU time, since others use the machine too; times by the
// wall clock are printed beside them.
//
// health-step: one leaf of a map of 100,000 nodes changes; measured is what the collector does then, up to the new snapshot that readers see
// and the list of the services whose health changed. The map has five levels below each other: business services, services, application
// services, components and their members, under all rules. All is well; a leaf drawn anew becomes bad, and then is well again, so that as much
// as can be changes with it. The figure is the 99th percentile.
//
// health-step-cause: one input of a node with 2,500 of them changes, half of which are bad; measured is the same, and the causes of all that is
// bad with what each costs. It is taken for each rule that a node can have, and the figure is the 99th percentile of the slowest of them.
// Before it is printed, the health of the node is compared with that of a map which was told everything at once.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

const (
	step      = "health-step"
	stepCause = "health-step-cause"
	inputs    = 2500
)

var at = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func main() {
	changes := flag.Int("changes", 20_000, "how many leaves change")
	flag.Parse()
	name := flag.Arg(0)
	if *changes < 100 {
		report.Fail(name, fmt.Errorf("-changes is %d: expected at least 100", *changes))
	}
	runtime.GOMAXPROCS(1)
	switch name {
	case step:
		takeStep(*changes)
	case stepCause:
		takeCause(*changes / 50)
	default:
		fmt.Fprintf(os.Stderr, "healthstep: %q is none of %s, %s\n", name, step, stepCause)
		os.Exit(2)
	}
}

// rules are all that a node can have.
func rules() []*manifest.Health {
	half, third := manifest.Share(500_000), manifest.Share(300_000)
	ten := 10
	return []*manifest.Health{
		{Rule: "worst"},
		{Rule: "best"},
		{Rule: "quorum", Quorum: &manifest.Quorum{Share: &half}},
		{Rule: "threshold", Threshold: &manifest.Threshold{Share: third}},
		{Rule: "exponential", Exponential: &manifest.Exponential{Base: 2_000_000}},
		{Rule: "score"},
		{Rule: "worst", Also: []manifest.Also{{When: "percent", AtLeast: &ten, Level: health.Minor, Then: health.Critical}}},
		{Rule: "threshold", Threshold: &manifest.Threshold{Share: half}, Also: []manifest.Also{
			{When: "count", AtLeast: &ten, Level: health.Major, Then: health.Critical}, {When: "weight", AtLeast: &ten, Level: health.Critical, Then: health.Critical},
		}},
	}
}

// builder makes a set without a way over text, which is another figure.
type builder struct{ resources []*manifest.Resource }

func (b *builder) add(kind, name string, spec any) manifest.Ref {
	b.resources = append(b.resources, &manifest.Resource{APIVersion: manifest.APIVersion, Kind: kind, Metadata: manifest.Metadata{Name: name}, Spec: spec})
	return manifest.RefOf(kind, name)
}

func (b *builder) graph(hosts int) *servicemap.Graph {
	known := make([]servicemap.Host, hosts)
	for i := range known {
		known[i] = servicemap.Host{Name: fmt.Sprintf("h%05d", i)}
	}
	g, err := servicemap.New(manifest.NewSet(b.resources...), known)
	if err != nil {
		report.Fail(step, err)
	}
	return g
}

// fiveLevels is a map of about 100,000 nodes, and its leaves.
func fiveLevels() (*servicemap.Graph, []manifest.Ref) {
	const hosts, components, members = 500, 2000, 48
	r := rand.New(rand.NewPCG(5, 7))
	var b builder
	all := rules()
	var below, leaves []manifest.Ref
	for i := range components {
		c := &manifest.Component{Unit: "x.service", Hosts: &manifest.Hosts{}, Health: all[i%len(all)]}
		ref := manifest.RefOf(manifest.KindComponent, fmt.Sprintf("c%04d", i))
		for k := range members {
			host := fmt.Sprintf("h%05d", (i*members+k)%hosts)
			c.Hosts.Names = append(c.Hosts.Names, host)
			leaves = append(leaves, servicemap.MemberRef(ref, host))
		}
		below = append(below, b.add(manifest.KindComponent, fmt.Sprintf("c%04d", i), c))
	}
	for level, count := range []int{1000, 400, 100} {
		var these []manifest.Ref
		for i := range count {
			s := &manifest.Service{Criticality: 1 + i%4, Health: all[0]}
			if i%2 == 1 { // the worst rule hides nothing: every second service has it
				s.Health = all[(i/2+level)%len(all)]
			}
			for _, k := range r.Perm(len(below))[:8] {
				weight := 1 + r.IntN(10)
				s.DependsOn = append(s.DependsOn, manifest.Dependency{Ref: below[k], Weight: &weight, Essential: r.IntN(10) == 0})
			}
			these = append(these, b.add(manifest.KindService, fmt.Sprintf("s%d-%04d", level, i), s))
		}
		below = these
	}
	return b.graph(hosts), leaves
}

// watch takes times in milliseconds.
type watch struct {
	cpu, wall []float64
	began     time.Time
	used      time.Duration
}

func (w *watch) start(figure string) { w.began, w.used = time.Now(), used(figure) }

func (w *watch) stop(figure string) {
	w.cpu = append(w.cpu, (used(figure)-w.used).Seconds()*1000)
	w.wall = append(w.wall, time.Since(w.began).Seconds()*1000)
}

func used(figure string) time.Duration {
	d, err := report.CPU(os.Getpid())
	if err != nil {
		report.Fail(figure, err)
	}
	return d
}

func (w *watch) String() string {
	return fmt.Sprintf("CPU median %.3f, 99th percentile %.3f, most %.3f ms; wall median %.3f, 99th percentile %.3f ms",
		report.Median(w.cpu), report.Quantile(w.cpu, 0.99), report.Quantile(w.cpu, 1), report.Median(w.wall), report.Quantile(w.wall, 0.99))
}

func signal(ref manifest.Ref, l health.Level) servicemap.Signal {
	return servicemap.Signal{Ref: ref, Source: "detector/x", Range: health.Exactly(l), Text: "seen"}
}

func takeStep(changes int) {
	g, leaves := fiveLevels()
	r := rand.New(rand.NewPCG(1, 2))
	state := servicemap.NewState(g, servicemap.Options{})
	told := make([]servicemap.Signal, len(leaves))
	for i, leaf := range leaves {
		told[i] = signal(leaf, health.OK)
	}
	state.Update(at, told...)
	old := state.Snapshot()
	var took watch
	nodes, services, most := 0, 0, 0
	var leaf manifest.Ref
	var level health.Level
	for i := range changes {
		if i%2 == 0 {
			leaf, level = leaves[r.IntN(len(leaves))], health.Level(int(health.Minor)+r.IntN(3))
		} else {
			level = health.OK
		}
		s := signal(leaf, level)
		took.start(step)
		changed := state.Update(at.Add(time.Duration(i)*time.Second), s)
		snapshot := state.Snapshot()
		affected := snapshot.ServicesSince(old)
		took.stop(step)
		old = snapshot
		nodes, services, most = nodes+len(changed), services+len(affected), max(most, len(affected))
	}
	if services == 0 {
		report.Fail(step, fmt.Errorf("no change reached a service"))
	}
	fmt.Printf("%d nodes, %d leaves, %d changes: %.1f nodes and %.1f services changed with each, at most %d services; %s\n",
		g.Len(), len(leaves), changes, float64(nodes)/float64(changes), float64(services)/float64(changes), most, took.String())
	report.Exit(report.Figure{Name: step, Value: report.Quantile(took.cpu, 0.99), Unit: "ms", Op: "<=", Goal: 10})
}

func takeCause(changes int) {
	worst := 0.0
	for i, rule := range rules() {
		var b builder
		big := &manifest.Service{Criticality: 1, Health: rule, Value: &manifest.Value{PerHour: 1_000_000_000, Currency: "EUR"}}
		var leaves []manifest.Ref
		for k := range inputs {
			ref := b.add(manifest.KindComponent, fmt.Sprintf("c%04d", k), &manifest.Component{})
			weight := 1 + k%10
			big.DependsOn = append(big.DependsOn, manifest.Dependency{Ref: ref, Weight: &weight})
			leaves = append(leaves, ref)
		}
		node := b.add(manifest.KindService, "big", big)
		for k := range 20 {
			b.add(manifest.KindService, fmt.Sprintf("above-%d", k), &manifest.Service{Criticality: 1 + k%4, DependsOn: []manifest.Dependency{{Ref: node}}})
		}
		g := b.graph(0)
		r := rand.New(rand.NewPCG(uint64(i), 3))
		state := servicemap.NewState(g, servicemap.Options{})
		holds := make([]servicemap.Signal, len(leaves))
		for k, leaf := range leaves {
			l := health.OK
			if k%2 == 1 {
				l = health.Level(1 + r.IntN(int(health.Critical)))
			}
			holds[k] = signal(leaf, l)
		}
		state.Update(at, holds...)
		var took watch
		found := 0
		for n := range changes {
			k := r.IntN(len(leaves))
			l := health.Level(r.IntN(int(health.Critical) + 1))
			if k%2 == 0 {
				l = health.Level(r.IntN(2)) // so that half of them stay well
			}
			holds[k] = signal(leaves[k], l)
			took.start(stepCause)
			state.Update(at.Add(time.Duration(n)*time.Second), holds[k])
			snapshot := state.Snapshot()
			found = max(found, len(cause.Find(snapshot, at).Causes))
			took.stop(stepCause)
		}
		fresh := servicemap.NewState(g, servicemap.Options{})
		fresh.Update(at, holds...)
		got, _ := state.Snapshot().Range(node)
		if want, _ := fresh.Snapshot().Range(node); got != want {
			report.Fail(stepCause, fmt.Errorf("rule %s: the node is %v, and %v where all is told at once", rule.Rule, got, want))
		}
		fmt.Printf("%s with %d extra rules: %s, at most %d causes; %s\n", rule.Rule, len(rule.Also), servicemap.LevelText(got), found, took.String())
		worst = max(worst, report.Quantile(took.cpu, 0.99))
	}
	report.Exit(report.Figure{Name: stepCause, Value: worst, Unit: "ms", Op: "<=", Goal: 50})
}
