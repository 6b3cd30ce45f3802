package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// causes is the part of the JSON that the table shows.
type causes struct {
	Causes []struct {
		Ref, Level, PerHour, AtRisk, Alert string
		Since                              *string
		Services                           []struct{ Ref, Level string }
		NotOnMap, Partial                  bool
	}
	PerHour, Unit    string
	Unranked, Unsure []string
}

func (a *app) causeCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "cause",
		Short: "What makes services bad, the costliest first, with the text for an alert",
		Long: `What makes services bad, the costliest first, with the text for an alert. With -f it is answered from files alone, without a
collector.

A cause is a part that belongs to a smallest set which, put right, makes a service better. What is only unknown is no cause. Each
comes with the services that it hits, what they lose in an hour (a loss is counted once, where it reaches the business), and a
paragraph: what, since when, which services, what it costs, whom to call.`,
		Example: `  evenkeel cause
  evenkeel cause -f map/ --set component/san=critical --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.reason(cmd.Context(), "cause", &f, nil, &causes{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	f.historyFlag(cmd)
	return cmd
}

func (c *causes) table(w io.Writer) {
	if len(c.Causes) == 0 {
		fmt.Fprintln(w, "no service is known to be bad")
	} else {
		fmt.Fprintln(w, "CAUSE\tLEVEL\tSINCE\tSERVICES\tCOSTS\tAT RISK")
	}
	for _, x := range c.Causes {
		since := ""
		if x.Since != nil {
			since = *x.Since
		}
		hit := make([]string, len(x.Services))
		for i, s := range x.Services {
			hit[i] = s.Ref
		}
		ref := x.Ref
		if x.NotOnMap {
			ref += " (not on the map)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s %s/h\t%s %s/h\n", ref, x.Level, when(since), join(hit), x.PerHour, c.Unit, x.AtRisk, c.Unit)
	}
	for _, x := range c.Causes {
		fmt.Fprintf(w, "\n%s\n", x.Alert)
	}
	if len(c.Unranked) > 0 {
		fmt.Fprintf(w, "\nwithout a value in %s: %s\n", c.Unit, join(c.Unranked))
	}
	if len(c.Unsure) > 0 {
		fmt.Fprintf(w, "\nnot known whether bad: %s\n", join(c.Unsure))
	}
}
