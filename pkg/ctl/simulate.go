package ctl

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
)

// simulation is the part of the JSON that the table shows.
type simulation struct {
	At    string
	Nodes []struct {
		Ref, Low, High, Own string
		Why                 struct{ Rule, Text string }
	}
	Causes []struct {
		Ref, Level    string
		Services      []string
		PerHour, Unit string
		NotInMap      bool
	}
	Order []struct {
		Ref, Start, End string
		Reinstates      []string
	}
}

func (a *app) simulateCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "simulate -f FILE|FOLDER|-",
		Short: "Health, causes and order of a map, from files alone",
		Long: `Health, causes and order of a map, from files alone: no collector is asked, none is changed.

Without data a leaf is ok, or unknown with --default unknown. --set fixes the state of a leaf; on an inner node it adds an
input and never hides the node's children. component/web@HOST names one member of a component.`,
		Example: `  evenkeel simulate -f map/ --set component/web@web-1=critical
  evenkeel simulate -f map/ --default unknown -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.files) == 0 {
				return usage("say what to simulate: -f FILE, FOLDER or -")
			}
			return a.reason(cmd.Context(), "simulate", &f, nil, &simulation{})
		},
	}
	f.flags(cmd, "moment of the simulation, RFC 3339; default now")
	cmd.Flags().StringVar(&f.byDefault, "default", "ok", "what a leaf without data is: ok or unknown")
	return cmd
}

func (s *simulation) table(w io.Writer) {
	fmt.Fprintln(w, "NODE\tHEALTH\tWHY")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Ref, span(n.Low, n.High), n.Why.Text)
	}
	if len(s.Causes) > 0 {
		fmt.Fprintln(w, "\nCAUSE\tLEVEL\tSERVICES\tCOSTS")
		for _, c := range s.Causes {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", causeName(c.Ref, c.NotInMap), c.Level, join(c.Services), costs(c.PerHour, c.Unit))
		}
	}
	if len(s.Order) > 0 {
		fmt.Fprintln(w, "\nMEND\tSTART\tEND\tREINSTATES")
		for _, o := range s.Order {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Ref, when(o.Start), when(o.End), join(slices.Clone(o.Reinstates)))
		}
	}
}
