// The forgeries program takes the figure of that name: how many of many kinds of unauthorised, malformed, replayed and
// mis-addressed commands a real evenkeel-actor carries out. It plays everybody who could reach the actor's socket, with every
// key that a collector has and none that a host's owner or an approver has, unless the case is that they are misused.
//
// What is done is counted on the host and not by the actor's word: after each forgery the CPU mask of the process that all
// commands are about is read from the kernel, and that of its neighbour, which no permission names. Two genuine commands,
// before and after, show that the actor would act and that the reading sees it; the answers show that each forgery was judged.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

const (
	name  = "forgeries"
	least = 60 // kinds
)

func main() {
	verbose := flag.Bool("v", false, "print every kind with the answer")
	flag.Parse()
	if flag.Arg(0) != name {
		fmt.Fprintf(os.Stderr, "forgeries: %q is not %s\n", flag.Arg(0), name)
		os.Exit(2)
	}
	bin, err := actorBinary()
	if err != nil {
		report.Fail(name, err)
	}
	dir, err := os.MkdirTemp("", "evenkeel-forgeries-")
	if err != nil {
		report.Fail(name, err)
	}
	o, err := take(bin, dir)
	if e := os.RemoveAll(dir); err == nil {
		err = e
	}
	if err != nil {
		report.Fail(name, err)
	}
	reasons := map[string]int{}
	for _, k := range o.kinds {
		reasons[k.answer]++
		if *verbose || k.wrong != "" {
			fmt.Printf("%-64s %s %s\n", k.name, k.answer, k.wrong)
		}
	}
	fmt.Printf("%d kinds of forgery, %d of them answered other than they should be; %d genuine commands were carried out\n", len(o.kinds), o.wrong(), o.genuine)
	for _, r := range sorted(reasons) {
		fmt.Printf("  %-24s %d\n", r, reasons[r])
	}
	if len(o.kinds) < least {
		report.Fail(name, fmt.Errorf("only %d kinds were tried, %d are wanted", len(o.kinds), least))
	}
	if o.wrong() > 0 {
		report.Fail(name, fmt.Errorf("%d kinds were answered other than they should be, so it is not known why they were not carried out", o.wrong()))
	}
	report.Exit(report.Figure{Name: name, Value: float64(o.executed), Unit: "executed", Op: "<=", Goal: 0})
}
