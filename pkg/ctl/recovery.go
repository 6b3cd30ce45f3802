package ctl

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// recoveryPlan is the plan's JSON.
type recoveryPlan struct {
	Steps []struct {
		Ref, Start, End, Team, Contact string
		Reinstates                     []string
	}
	Cost, LowerBound, FirstComeCost, SeverityCost manifest.Decimal
	Exact                                         bool
	Unit                                          string
}

func (a *app) recoveryPlanCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "recovery-plan",
		Short: "What to mend first so that the business loses least",
		Long: `What to mend first so that the business loses least: of what is broken now, or with -f of files alone, without a collector.

--set says what is broken besides, in the order in which it broke; component/web@HOST names one member of a component. How long a
repair takes, who does it and what has to be mended before stand in the component's repair block; an hour is taken where
none is stated. A team mends one part at a time; teams work side by side.

The plan is priced, beside mending what broke first, and the worst first. Costs leave out what no repair ends.`,
		Example: `  evenkeel recovery-plan
  evenkeel recovery-plan -f map/ --set component/san=critical --set component/web@web-1=critical
  evenkeel recovery-plan -f map/ --set component/san=critical --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.reason(cmd.Context(), "recovery-plan", &f, nil, &recoveryPlan{})
		},
	}
	f.flags(cmd, "moment at which repair begins, RFC 3339; default now")
	return cmd
}

func (p *recoveryPlan) table(w io.Writer) {
	if len(p.Steps) == 0 {
		fmt.Fprintln(w, "nothing is broken")
		return
	}
	fmt.Fprintln(w, "MEND\tSTART\tEND\tTEAM\tCONTACT\tREINSTATES")
	for _, s := range p.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, when(s.Start), when(s.End), dash(s.Team), dash(s.Contact), join(slices.Clone(s.Reinstates)))
	}
	fmt.Fprintln(w, "\nORDER\tCOST\tTHE PLAN SAVES")
	how := "no order costs less"
	if !p.Exact {
		how = "no order costs less than " + amount(p.LowerBound/hundredth*hundredth, p.Unit) // down, or it would promise too much
	}
	fmt.Fprintf(w, "this plan\t%s\t%s\n", amount(p.Cost, p.Unit), how)
	fmt.Fprintf(w, "first come, first served\t%s\t%s\n", amount(p.FirstComeCost, p.Unit), amount(p.FirstComeCost-p.Cost, p.Unit))
	fmt.Fprintf(w, "the worst first\t%s\t%s\n", amount(p.SeverityCost, p.Unit), amount(p.SeverityCost-p.Cost, p.Unit))
}

const hundredth manifest.Decimal = 10_000

// amount writes an amount for people, to the nearest hundredth. The JSON has all of it.
func amount(d manifest.Decimal, unit string) string {
	half := hundredth / 2
	if d < 0 {
		half = -half
	}
	return fmt.Sprintf("%s %s", (d+half)/hundredth*hundredth, unit)
}
