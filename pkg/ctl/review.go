package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// review is the part of the JSON that the table shows.
type review struct {
	Items []struct {
		Item, Zone, Confirmed, By string
		Effectiveness, Least      *float64
		Evidence                  float64
		Outcomes, Changes         int
		Due                       bool
		Why                       []string
	}
	Gaps []struct {
		Service, Text, Seen, Incident string
		Now                           bool
	}
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
more, partly of 50 % and more. Services that are bad while nothing beneath them is to blame are told as gaps of the map, and stay in the
queue when they are well again. evenkeel review confirm takes an item or a gap out of the queue.`,
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
	cmd.AddCommand(a.confirmCommand(), a.confirmationsCommand())
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
			i.Outcomes, confirmed(i.Confirmed, i.By), i.Changes, dash(strings.Join(i.Why, "; ")))
	}
	for i, g := range r.Gaps {
		if i == 0 {
			fmt.Fprintln(w, "\nGAP OF THE MAP\tSEEN\tINCIDENT\tWHY")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.Service, when(g.Seen), dash(g.Incident), g.Text)
	}
}

func confirmed(at, by string) string {
	if by == "" {
		return when(at)
	}
	return when(at) + " by " + by
}

func (a *app) confirmCommand() *cobra.Command {
	r := &operatorv1.ConfirmReviewRequest{}
	cmd := &cobra.Command{
		Use:   "confirm ITEM",
		Short: "Say that you reviewed something and found it right, or dealt with it",
		Long: `Say that you reviewed something and found it right, or dealt with it. It is kept, and in the audit log.

ITEM is a detector, runbook or remediationpolicy, an edge such as 'service/shop>component/web' (in quotes, for the shell), or a service of
which the map had a gap. From then on its changes are counted anew, and so is how good it was; a gap leaves the queue until it is seen again.`,
		Example: `  evenkeel review confirm runbook/relieve-cpu --note 'works on the new kernel too'
  evenkeel review confirm service/checkout --note 'the bank is on the map now' --by ann`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.Note == "" {
				return usage("say what the review found: --note TEXT")
			}
			r.Item = args[0]
			return a.ask(func(c *client.Client) error {
				done, err := c.Reviews.ConfirmReview(cmd.Context(), r)
				if err != nil {
					return err
				}
				return a.show(done, func(w io.Writer) { fmt.Fprintf(w, "%s is confirmed by %s\n", done.Item, done.By) })
			})
		},
	}
	cmd.Flags().StringVar(&r.Note, "note", "", "what the review found")
	cmd.Flags().StringVar(&r.By, "by", "", "who reviewed it; default you")
	return cmd
}

func (a *app) confirmationsCommand() *cobra.Command {
	r := &operatorv1.ListConfirmationsRequest{}
	cmd := &cobra.Command{
		Use:   "confirmations",
		Short: "Who confirmed what, and what was found; newest first",
		Example: `  evenkeel review confirmations
  evenkeel review confirmations --item runbook/relieve-cpu -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				all, err := c.Reviews.ListConfirmations(cmd.Context(), r)
				if err != nil {
					return err
				}
				if len(all.Confirmations) == 0 {
					a.hint("nothing was confirmed")
				}
				return a.show(all, func(w io.Writer) {
					for i, one := range all.Confirmations {
						if i == 0 {
							fmt.Fprintln(w, "AT\tITEM\tBY\tNOTE")
						}
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", when(one.At), one.Item, one.By, one.Note)
					}
				})
			})
		},
	}
	cmd.Flags().StringVar(&r.Item, "item", "", "only of this")
	cmd.Flags().Int32Var(&r.Limit, "limit", 100, "how many")
	return cmd
}
