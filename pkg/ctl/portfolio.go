package ctl

import (
	"fmt"
	"io"
	"maps"

	"github.com/spf13/cobra"
)

// portfolio is the part of the JSON that the table shows.
type portfolio struct {
	Month, Last struct{ From, To string }
	Services    []struct {
		Ref, Low, High, Uncovered string
		portfolioFigures
		SLOs []struct {
			Ref, Budget, Outcome string
			Left                 *spreadText
		}
	}
	Total                  portfolioFigures
	WorstCoverage, Unknown []string
}

type portfolioFigures struct {
	AtRisk, Losing, Cost, LastCost, Trend map[string]string
}

func (a *app) portfolioCommand() *cobra.Command {
	var f assumptions
	var zone, format, to string
	cmd := &cobra.Command{
		Use:   "portfolio",
		Short: "All services at a glance: at risk now, cost of the month, error budgets, coverage",
		Long: `All services at a glance: what is at risk now, what this month has cost and whether that is more than the last one by the same day,
what is left of the error budgets, and where support is missing. With -f it is answered from files alone, without a collector.

Each loss is counted once, at the uppermost service that has it, so that the services add up to the total. Money and points are two ways
to tell the same loss and are not added. Costs come from --history, or from the history that the collector keeps.

--format writes it as a document, to the standard output or to the file of --to.`,
		Example: `  evenkeel portfolio --timezone Europe/Berlin
  evenkeel portfolio --format pdf --to portfolio.pdf
  evenkeel portfolio -f map/ --history states.csv --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			args := map[string]string{"timezone": zone}
			maps.DeleteFunc(args, func(_, v string) bool { return v == "" })
			switch {
			case format != "":
				return a.writeDocument(cmd, "portfolio", &f, args, format, to)
			case to != "":
				return usage("--to names the file of a document: say --format md, html, csv, json or pdf too")
			}
			return a.reason(cmd.Context(), "portfolio", &f, args, &portfolio{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	f.historyFlag(cmd)
	cmd.Flags().StringVar(&format, "format", "", "md, html, csv, json or pdf; default a table")
	cmd.Flags().StringVar(&to, "to", "", "file to write the document to; default the standard output")
	cmd.Flags().StringVar(&zone, "timezone", "", "time zone of the months, such as Europe/Berlin; default UTC")
	return cmd
}

func (p *portfolio) table(w io.Writer) {
	fmt.Fprintln(w, "SERVICE\tHEALTH\tAT RISK/H\tLOSES/H\tTHIS MONTH\tLAST MONTH BY NOW\tTREND\tNOBODY THERE NEXT WEEK")
	line := func(name, health string, f *portfolioFigures, uncovered string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, health, amounts(f.AtRisk), amounts(f.Losing), amounts(f.Cost), amounts(f.LastCost), amounts(f.Trend), uncovered)
	}
	for i := range p.Services {
		s := &p.Services[i]
		line(s.Ref, span(s.Low, s.High), &s.portfolioFigures, dash(human(s.Uncovered)))
	}
	line("total", "", &p.Total, "")
	first := true
	for _, s := range p.Services {
		for _, o := range s.SLOs {
			if first {
				fmt.Fprintln(w, "\nERROR BUDGET OF\tSERVICE\tBUDGET\tLEFT\tOUTCOME")
				first = false
			}
			left := "not known"
			if o.Left != nil {
				left = between(*o.Left)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.Ref, s.Ref, human(o.Budget), left, dash(o.Outcome))
		}
	}
	if len(p.WorstCoverage) > 0 {
		fmt.Fprintf(w, "\nworst coverage: %s\n", join(p.WorstCoverage))
	}
	if len(p.Unknown) > 0 {
		fmt.Fprintf(w, "\nwithout history this month, taken as no cost: %s\n", join(p.Unknown))
	}
}
