package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// changes is the part of the JSON that the table shows.
type changes struct {
	Causes []struct {
		Ref, Level, Since string
		SinceKnown        bool
		Changes           []struct {
			Change, Kind, On, At, What, Before string
			Distance                           int
			Closeness                          float64
		}
	}
	Done []struct {
		Change, ID, Title, State, To, Length, Verdict string
		Before, After                                 struct {
			Bad  string
			Cost map[string]string
		}
	}
	Rates []struct {
		Ref                     string
		Finished, Failed, Worse int
		Rate                    float64
	}
}

func (a *app) changesCommand() *cobra.Command {
	var f assumptions
	var seen string
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "What was changed before something went bad, what became of changes, and how often they fail",
		Long: `What was changed before something went bad, what became of changes, and how often they fail. With -f it is answered from files alone,
without a collector.

Beneath each cause stand the changes of the week before it: those planned as kind Change, and those that were declared or observed, on
record or in --changes: a CSV file whose first line is at,on,kind,what; a kind is declared, package, unit, boot or binary. The nearest in
time and on the map come first. That a change came before is no proof. After a change that is over, planned or declared within a month, the time and the cost of the services above it are compared
with as long a stretch before it, of a day at most, by --history or by the history that the collector keeps.`,
		Example: `  evenkeel changes
  evenkeel changes -f map/ --changes seen.csv --history states.csv --set component/db=critical -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			args, err := withFile(nil, "changes", seen)
			if err != nil {
				return err
			}
			return a.reason(cmd.Context(), "changes", &f, args, &changes{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	f.historyFlag(cmd)
	cmd.Flags().StringVar(&seen, "changes", "", "CSV file of changes that were declared or observed")
	cmd.AddCommand(a.changesListCommand(), a.changesRecordCommand())
	return cmd
}

func (c *changes) table(w io.Writer) {
	if len(c.Causes) == 0 {
		fmt.Fprintln(w, "no service is known to be bad")
	}
	for i, x := range c.Causes {
		if i > 0 {
			fmt.Fprintln(w)
		}
		since := "since " + when(x.Since)
		if !x.SinceKnown {
			since = "since when is not known"
		}
		fmt.Fprintf(w, "%s, %s, %s\n", x.Ref, x.Level, since)
		if len(x.Changes) == 0 {
			fmt.Fprintln(w, "  no change beneath it in the week before")
			continue
		}
		fmt.Fprintln(w, "  AT\tON\tKIND\tWHAT\tBEFORE IT\tSTEPS BELOW\tCLOSENESS")
		for _, b := range x.Changes {
			what := b.What
			if b.Change != "" {
				what += " (" + b.Change + ")"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%d\t%.2f\n", when(b.At), b.On, b.Kind, what, human(b.Before), b.Distance, b.Closeness)
		}
	}
	for i, d := range c.Done {
		if i == 0 {
			fmt.Fprintln(w, "\nCHANGE\tSTATE\tOVER\tCOMPARED\tBAD BEFORE\tBAD AFTER\tCOST BEFORE\tCOST AFTER\tVERDICT")
		}
		name := d.Change
		if name == "" {
			name = d.Title
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, d.State, when(d.To), human(d.Length), human(d.Before.Bad), human(d.After.Bad),
			amounts(d.Before.Cost), amounts(d.After.Cost), d.Verdict)
	}
	for i, r := range c.Rates {
		if i == 0 {
			fmt.Fprintln(w, "\nCHANGES OF\tFINISHED\tFAILED\tRATE\tWORSE AFTERWARDS")
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f%%\t%d\n", r.Ref, r.Finished, r.Failed, 100*r.Rate, r.Worse)
	}
}
