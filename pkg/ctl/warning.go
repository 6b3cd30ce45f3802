package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// warnings is the part of the JSON that the table shows.
type warnings struct {
	Series []struct {
		Ref, Series string
		Points      int
		Limit       float64
		Trend       *struct {
			PerHour, Low, High, Now float64
			In                      spreadText
		}
	}
	Parts []struct {
		Ref string
		In  spreadText
	}
	Services []struct {
		Ref, Breach, Earliest, Latest string
		Now                           bool
		In                            spreadText
		Because                       []string
		PerHour                       map[string]string
	}
}

func (a *app) warningCommand() *cobra.Command {
	var f assumptions
	var series, forecasts string
	cmd := &cobra.Command{
		Use:   "warning",
		Short: "When services will be breached by what runs out, as a range of time",
		Long: `When services will be breached by what runs out, as a range of time. With -f it is answered from files alone, without a collector.

Without files and flags the collector answers out of its own samples: disk space, inodes, memory, open files and processes of every
host, by the trend of six hours (of a quarter of an hour where it knows no more), where it leads to the end for sure and within a week.

--series names a CSV file of measurements whose first line is ref,series,time,value,limit: a line is drawn through each series, with a 95 %
range, to the time at which it meets its limit and the part is critical. --forecasts names one of times that are known from elsewhere, with
the first line ref,soonest,latest: durations from now, or never. Parts are taken to fail at their soonest and at their latest times, and
the rules of the map say when each service is at the level that its objectives call bad, or at major.`,
		Example: `  evenkeel warning
  evenkeel warning --forecasts forecasts.csv
  evenkeel warning -f map/ --series disk.csv --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if series == "" && forecasts == "" && len(f.files) > 0 {
				return usage("say what was measured, or what is foreseen: --series FILE or --forecasts FILE")
			}
			args, err := withFile(nil, "series", series)
			if err != nil {
				return err
			}
			if args, err = withFile(args, "forecasts", forecasts); err != nil {
				return err
			}
			return a.reason(cmd.Context(), "warning", &f, args, &warnings{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	cmd.Flags().StringVar(&series, "series", "", "CSV file of measurements")
	cmd.Flags().StringVar(&forecasts, "forecasts", "", "CSV file of times to exhaustion")
	return cmd
}

func (r *warnings) table(w io.Writer) {
	if len(r.Services) == 0 {
		fmt.Fprintln(w, "no service will be breached by what is foreseen")
	} else {
		fmt.Fprintln(w, "SERVICE\tBREACHED IN\tAT THE SOONEST\tAT THE LATEST\tFROM LEVEL\tLOSES THEN/H\tBECAUSE OF")
	}
	for _, s := range r.Services {
		in, latest := between(s.In), when(s.Latest)
		if s.Now {
			in = "now"
		}
		if s.Latest == "" {
			latest = "never"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, in, when(s.Earliest), latest, s.Breach, amounts(s.PerHour), join(s.Because))
	}
	for i, p := range r.Parts {
		if i == 0 {
			fmt.Fprintln(w, "\nPART\tCRITICAL IN")
		}
		fmt.Fprintf(w, "%s\t%s\n", p.Ref, between(p.In))
	}
	for i, s := range r.Series {
		if i == 0 {
			fmt.Fprintln(w, "\nSERIES OF\tSERIES\tPOINTS\tNOW\tLIMIT\tCHANGE/H\tREACHED IN")
		}
		if s.Trend == nil {
			fmt.Fprintf(w, "%s\t%s\t%d\t-\t%s\ttoo few points\t-\n", s.Ref, s.Series, s.Points, number(s.Limit))
			continue
		}
		t := s.Trend
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s (%s...%s)\t%s\n", s.Ref, s.Series, s.Points, number(t.Now), number(s.Limit), number(t.PerHour), number(t.Low), number(t.High), between(t.In))
	}
}
