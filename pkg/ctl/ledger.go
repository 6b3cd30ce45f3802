package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// sloLedger is the part of the JSON that the tables show.
type sloLedger struct {
	Months []struct {
		Month                            string
		Objectives, Met, Missed, Unknown int
		Intact                           bool
		Fault                            string
	}
	Report *sloReport
}

func (a *app) sloLedgerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ledger [MONTH]",
		Short: "How the objectives stood when months ended, as it was sealed then",
		Long: `How the objectives stood when months ended, as it was sealed then: later changes of the map or of the objectives do not change it.
Each month says whether its record and the history beneath it are those whose sums the audit log has. With a month (2026-10) it is
told in full, as by evenkeel slo show.`,
		Example: `  evenkeel slo ledger
  evenkeel slo ledger 2026-10 -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var f assumptions
			ask := map[string]string{}
			if len(args) > 0 {
				ask["month"] = args[0]
			}
			return a.reason(cmd.Context(), "ledger", &f, ask, &sloLedger{})
		},
	}
}

func (l *sloLedger) table(w io.Writer) {
	if len(l.Months) == 0 {
		fmt.Fprintln(w, "no month is over yet")
		return
	}
	fmt.Fprintln(w, "MONTH\tOBJECTIVES\tMET\tMISSED\tNOT KNOWN\tAS SEALED")
	for _, m := range l.Months {
		sealed := "yes"
		if !m.Intact {
			sealed = "no: " + m.Fault
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", m.Month, m.Objectives, m.Met, m.Missed, m.Unknown, sealed)
	}
	if l.Report != nil {
		fmt.Fprintln(w)
		l.Report.table(w)
	}
}
