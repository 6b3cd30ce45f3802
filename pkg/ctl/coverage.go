package ctl

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// coverage is the part of the JSON that the tables show.
type coverage struct {
	From, Week, Year string
	Services         []struct {
		Ref, Owner, SupportHours string
		Week, Year               struct {
			Valued, Covered, FallbackOnly, Uncovered, Idle string
			Value                                          map[string]string
		}
		Gaps []struct {
			From, To, Why string
			Fallback      bool
			Value         map[string]string
		}
	}
	Unvalued []string
}

func (a *app) coverageCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "coverage",
		Short: "Hours in which a service is worth something and nobody is there, and the other way round",
		Long: `Hours in which a service is worth something and nobody is there to mend it, and hours in which it is supported and worth nothing,
over the week and the year from now. With -f it is answered from files alone, without a collector.

An hour is covered when it lies within the support hours of the service and a contact of its owner, one that the owner escalates to,
or its vendor is there. The fallback of the owner is told apart: it is there for the case that nobody is.`,
		Example: `  evenkeel coverage
  evenkeel coverage -f map/ --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.reason(cmd.Context(), "coverage", &f, nil, &coverage{})
		},
	}
	f.flags(cmd, "moment from which it is looked at, RFC 3339; default now")
	return cmd
}

func (c *coverage) table(w io.Writer) {
	fmt.Fprintln(w, "SERVICE\tOWNER\tSUPPORT\tOVER\tVALUED\tCOVERED\tFALLBACK ONLY\tNOBODY\tWORTH THEN\tIDLE")
	for _, s := range c.Services {
		support := s.SupportHours
		if support == "" {
			support = "not stated"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\tweek\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, dash(s.Owner), support, human(s.Week.Valued), human(s.Week.Covered),
			human(s.Week.FallbackOnly), human(s.Week.Uncovered), amounts(s.Week.Value), human(s.Week.Idle))
		fmt.Fprintf(w, "\t\t\tyear\t%s\t%s\t%s\t%s\t%s\t%s\n", human(s.Year.Valued), human(s.Year.Covered), human(s.Year.FallbackOnly),
			human(s.Year.Uncovered), amounts(s.Year.Value), human(s.Year.Idle))
	}
	first := true
	for _, s := range c.Services {
		for _, g := range s.Gaps {
			if first {
				fmt.Fprintln(w, "\nNEXT GAPS OF\tFROM\tTO\tWORTH\tFALLBACK\tWHY")
				first = false
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, when(g.From), when(g.To), amounts(g.Value), yesNo(g.Fallback), g.Why)
		}
	}
	if len(c.Unvalued) > 0 {
		fmt.Fprintf(w, "\nwithout a value: %s\n", join(c.Unvalued))
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// agreements is the part of the JSON that the tables show.
type agreements struct {
	Agreements []struct {
		Ref, Provider, ReviewBy string
		ReviewDue               bool
		Kept, Missed, Open      int
		Credit                  *struct{ Amount, Currency, Percent string }
		Verdicts                []struct {
			Incident, Service, Promise, Opened, Within, Took, Due, Outcome string
			Priority                                                       int
		}
	}
	Uncovered []string
}

func (a *app) agreementsCommand() *cobra.Command {
	var f assumptions
	var incidents string
	cmd := &cobra.Command{
		Use:   "agreements",
		Short: "What was promised for services, held against the incidents that were",
		Long: `What was promised for services, held against the incidents that were: whether somebody responded and whether it worked again in
time, by the hours of the agreement and without time on hold; what is owed; and which agreement is due for review. With -f it is
answered from files alone, without a collector.

--incidents names a CSV file whose first line is id,service,priority,opened, and then acknowledged,resolved,onHold where they are
known. Times are RFC 3339; onHold is FROM/TO, several with semicolons. Without it the incidents on record are taken.`,
		Example: `  evenkeel agreements
  evenkeel agreements -f map/ --incidents incidents.csv --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			args, err := withFile(nil, "incidents", incidents)
			if err != nil {
				return err
			}
			return a.reason(cmd.Context(), "agreements", &f, args, &agreements{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	cmd.Flags().StringVar(&incidents, "incidents", "", "CSV file of incidents")
	return cmd
}

// withFile adds the text of a file to arguments, where one was named.
func withFile(args map[string]string, name, path string) (map[string]string, error) {
	if path == "" {
		return args, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usage("--%s: %v", name, err)
	}
	if args == nil {
		args = map[string]string{}
	}
	args[name], args[name+".file"] = string(text), path
	return args, nil
}

func (r *agreements) table(w io.Writer) {
	if len(r.Agreements) == 0 {
		fmt.Fprintln(w, "there is no agreement")
		return
	}
	fmt.Fprintln(w, "AGREEMENT\tPROVIDER\tKEPT\tMISSED\tOPEN\tOWED\tREVIEW BY")
	for _, x := range r.Agreements {
		owed, review := "-", x.ReviewBy
		if c := x.Credit; c != nil && c.Percent != "" {
			owed = fmt.Sprintf("%d x %s of the month's fee", x.Missed, c.Percent)
		} else if c != nil {
			owed = c.Amount + " " + c.Currency
		}
		if x.ReviewDue {
			review += " (due)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", x.Ref, x.Provider, x.Kept, x.Missed, x.Open, owed, review)
	}
	first := true
	for _, x := range r.Agreements {
		for _, v := range x.Verdicts {
			if first {
				fmt.Fprintln(w, "\nINCIDENT\tAGREEMENT\tSERVICE\tPRIORITY\tOPENED\tPROMISE\tWITHIN\tTOOK\tDUE\tOUTCOME")
				first = false
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Incident, x.Ref, v.Service, v.Priority, when(v.Opened), v.Promise, human(v.Within),
				human(v.Took), when(v.Due), v.Outcome)
		}
	}
	if len(r.Uncovered) > 0 {
		fmt.Fprintf(w, "\nincidents, and nothing was promised: %s\n", join(r.Uncovered))
	}
}
