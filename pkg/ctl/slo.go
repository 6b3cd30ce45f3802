package ctl

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// spreadText is a value with both its ends, as the JSON has it.
type spreadText struct{ Low, High string }

// sloReport is the part of the JSON that the tables show.
type sloReport struct {
	SLOs []struct {
		Ref, Service, Objective, Method, Bad, Hours, Excluded, Budget string
		Window                                                        struct{ Text, From, To, Period string }
		Slice                                                         *struct{ Length, Target string }
		Burns                                                         []struct {
			Long, Short, Share, Call string
			Factor                   float64
			Reachable                bool
			InLong, InShort          *struct{ Low, High float64 }
			Firing                   *string
			Exhausted                *spreadText
		}
		Evaluation *struct {
			Since, Scheduled, Good, Unsure, Excluded, BeforeExistence, ToCome, Outcome string
			Bad                                                                        map[string]string
			Up, LeftOut                                                                sloFigures
			Stretches                                                                  []struct{ From, To, Part string }
		}
	}
}

type sloFigures struct {
	Counted, Budget string
	SLI             *spreadText
	Spent, Left     spreadText
}

func (a *app) sloCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "slo",
		Short: "Service level objectives: show, ledger",
		Long:  "Service level objectives: show, ledger.",
		Example: `  evenkeel slo show -f map/
  evenkeel slo show -f map/ --history states.csv --at 2026-11-25T10:00:00Z
  evenkeel slo ledger 2026-10`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.sloShowCommand(), a.sloLedgerCommand())
	return cmd
}

func (a *app) sloShowCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "show",
		Short: "What objectives promise, which burn rates call, and how they stand",
		Long: `What objectives promise, which burn rates call, and how they stand. With -f it is answered from files alone, without a
collector.

SLOs are read as ours or as openslo/v1. --history names a CSV file whose first line is ref,time,level or
ref,time,level,origin: from that time on (RFC 3339) the service is at that level (ok to critical, unknown, or a range
such as ok...major), by that origin (own, upstream, vendor, planned, unknown). The service exists since its first row;
the last row holds until --at. Time is split into parts that add up, and both conventions about maintenance are shown.`,
		Example: `  evenkeel slo show
  evenkeel slo show -f map/ --history states.csv --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.reason(cmd.Context(), "slo", &f, nil, &sloReport{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	f.historyFlag(cmd)
	return cmd
}

func (r *sloReport) table(w io.Writer) {
	if len(r.SLOs) == 0 {
		fmt.Fprintln(w, "there is no SLO")
		return
	}
	fmt.Fprintln(w, "SLO\tSERVICE\tOBJECTIVE\tWINDOW\tHOURS\tBAD FROM\tMETHOD\tBUDGET\tSLI\tLEFT\tOUTCOME")
	for _, s := range r.SLOs {
		hours, method := "around the clock", s.Method
		if s.Hours != "" {
			hours = s.Hours
		}
		if s.Slice != nil {
			method += " of " + human(s.Slice.Length)
			if s.Slice.Target != "" {
				method += " from " + s.Slice.Target
			}
		}
		budget, sli, left, outcome := human(s.Budget)+" of "+human(s.Window.Period), "-", "-", "-"
		if e := s.Evaluation; e != nil {
			f := e.Up
			if s.Excluded == "leftOut" {
				f = e.LeftOut
			}
			sli, left, outcome = f.sli(), between(f.Left), e.Outcome
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, s.Service, s.Objective, s.Window.Text, hours, s.Bad, method, budget, sli, left, outcome)
	}
	r.burns(w)
	r.times(w)
}

func (r *sloReport) burns(w io.Writer) {
	fmt.Fprintln(w, "\nBURN RATES OF\tLONG\tSHORT\tFACTOR\tBUDGET GONE\tCALL\tIN LONG\tIN SHORT\tCALLS\tEXHAUSTED IN")
	for _, s := range r.SLOs {
		if len(s.Burns) == 0 {
			fmt.Fprintf(w, "%s\tthe window is too short, or a slice too long\n", s.Ref)
		}
		for _, b := range s.Burns {
			long, short, calls, gone := "-", "-", "-", "-"
			if b.Firing != nil {
				long, short, calls, gone = rates(b.InLong.Low, b.InLong.High), rates(b.InShort.Low, b.InShort.High), *b.Firing, between(*b.Exhausted)
			}
			if !b.Reachable {
				calls = "never: the objective is too low"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, human(b.Long), human(b.Short), number(b.Factor), b.Share, b.Call, long, short, calls, gone)
		}
	}
}

func (r *sloReport) times(w io.Writer) {
	first := true
	for _, s := range r.SLOs {
		e := s.Evaluation
		if e == nil {
			continue
		}
		if first {
			fmt.Fprintln(w, "\nTIME OF\tSCHEDULED\tGOOD\tOWN\tUPSTREAM\tVENDOR\tPLANNED\tUNKNOWN\tUNSURE\tBEFORE IT EXISTED\tTO COME")
			first = false
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, human(e.Scheduled), human(e.Good), human(e.Bad["own"]), human(e.Bad["upstream"]),
			human(e.Bad["vendor"]), human(e.Bad["planned"]), human(e.Bad["unknown"]), human(e.Unsure), human(e.BeforeExistence), human(e.ToCome))
	}
	if first {
		return
	}
	fmt.Fprintln(w, "\nMAINTENANCE OF\tCOUNTS AS\tIN FORCE\tIT LASTED\tSLI\tCOUNTED\tBUDGET\tSPENT\tLEFT")
	for _, s := range r.SLOs {
		e := s.Evaluation
		if e == nil {
			continue
		}
		for _, c := range []struct {
			name, text string
			f          sloFigures
		}{{"up", "up", e.Up}, {"leftOut", "left out", e.LeftOut}} {
			force := "no"
			if s.Excluded == c.name {
				force = "yes"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, c.text, force, human(e.Excluded), c.f.sli(),
				human(c.f.Counted), human(c.f.Budget), between(c.f.Spent), between(c.f.Left))
		}
	}
	first = true
	for _, s := range r.SLOs {
		if s.Evaluation == nil {
			continue
		}
		for _, x := range s.Evaluation.Stretches {
			if first {
				fmt.Fprintln(w, "\nBAD TIME OF\tFROM\tTO\tPART")
				first = false
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Ref, when(x.From), when(x.To), x.Part)
		}
	}
}

func (f sloFigures) sli() string {
	if f.SLI == nil {
		return "-"
	}
	return between(*f.SLI)
}

// between writes one value, or both ends.
func between(s spreadText) string {
	if s.Low == s.High {
		return human(s.Low)
	}
	return human(s.Low) + "..." + human(s.High)
}

// human writes a span of seconds as people read it, to the millisecond; other words stay.
func human(s string) string {
	d, err := time.ParseDuration(s)
	if err != nil {
		return s
	}
	if d < 0 {
		return "-" + manifest.Duration(-d).String()
	}
	if d > 0 && d < time.Millisecond {
		return "<1ms"
	}
	return manifest.Duration(d).String()
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

func rates(low, high float64) string {
	if low == high {
		return number(low)
	}
	return strings.Join([]string{number(low), number(high)}, "...")
}
