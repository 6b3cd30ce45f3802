package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// review is the part of the JSON that the table shows.
type review struct {
	Items []struct {
		Item, Zone, Confirmed string
		Effectiveness, Least  *float64
		Evidence              float64
		Outcomes, Changes     int
		Due                   bool
		Why                   []string
	}
	Gaps []struct{ Service, Text string }
}

func (a *app) reviewCommand() *cobra.Command {
	var f assumptions
	var outcomes string
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Which detectors, runbooks, policies and edges of the map are due for a review, and why",
		Long: `Which detectors, runbooks, policies and edges of the map are due for a review, and why. With -f it is answered from files alone,
without a collector.

--outcomes names a CSV file whose first line is item,at,event. An item is a detector, runbook or remediationpolicy, or an edge such as
service/shop>component/web; an event is good (it did what it is for), bad, change (of something that it depends on) or confirmed (by a
review). An outcome counts half after 90 days, and half again for each change since. Effective is a share of good outcomes of 80 % and
more, partly of 50 % and more. Services that are bad while nothing beneath them is to blame are told as gaps of the map.`,
		Example: `  evenkeel review --outcomes outcomes.csv
  evenkeel review -f map/ --outcomes outcomes.csv --at 2026-11-25T10:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			args, err := withFile(nil, "outcomes", outcomes)
			if err != nil {
				return err
			}
			return a.reason(cmd.Context(), "review", &f, args, &review{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	cmd.Flags().StringVar(&outcomes, "outcomes", "", "CSV file of outcomes")
	return cmd
}

func (r *review) table(w io.Writer) {
	if len(r.Items) == 0 {
		fmt.Fprintln(w, "there is nothing to review")
	} else {
		fmt.Fprintln(w, "ITEM\tDUE\tZONE\tGOOD\tAT LEAST\tEVIDENCE\tOUTCOMES\tCONFIRMED\tCHANGES\tWHY")
	}
	share := func(x *float64) string {
		if x == nil {
			return "-"
		}
		return fmt.Sprintf("%.1f%%", 100**x)
	}
	for _, i := range r.Items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", i.Item, yesNo(i.Due), i.Zone, share(i.Effectiveness), share(i.Least), number(i.Evidence),
			i.Outcomes, when(i.Confirmed), i.Changes, dash(strings.Join(i.Why, "; ")))
	}
	for i, g := range r.Gaps {
		if i == 0 {
			fmt.Fprintln(w, "\nGAP OF THE MAP\tWHY")
		}
		fmt.Fprintf(w, "%s\t%s\n", g.Service, g.Text)
	}
}
