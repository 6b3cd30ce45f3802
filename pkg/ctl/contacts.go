package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// contactsAnswer is the part of the JSON that the tables show.
type contactsAnswer struct {
	Steps []struct{ Ref, Name, Phone, Email, Call, After, Opens, Why string }
	Gaps  []struct{ Ref, Text string }
}

func (a *app) contactsCommand() *cobra.Command {
	var f assumptions
	var of string
	cmd := &cobra.Command{
		Use:   "contacts --of REF",
		Short: "Whom to call about a cause now, step by step, and what is missing",
		Long: `Whom to call about a cause now, step by step, and what is missing. With -f it is answered from files alone, without a
collector. Nobody is called.

The way leads from the service, component, member of one, or host to the team that mends or owns it, to those of its
contacts who are there by their hours, whom it escalates to, the vendor with a contract, and the fallback. What has no
owner is taken to the owners of what rests on it.`,
		Example: `  evenkeel contacts --of service/checkout
  evenkeel contacts -f map/ --of component/web@web-1
  evenkeel contacts -f map/ --of service/checkout --at 2026-11-25T03:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if of == "" {
				return usage("say what is bad: --of REF, such as component/web or host/web-1")
			}
			return a.reason(cmd.Context(), "contacts", &f, map[string]string{"of": of}, &contactsAnswer{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	cmd.Flags().StringVar(&of, "of", "", "service/NAME, component/NAME, component/NAME@HOST or host/NAME")
	return cmd
}

func (r *contactsAnswer) table(w io.Writer) {
	fmt.Fprintln(w, "CALL\tAFTER\tWHO\tOF\tPHONE\tEMAIL\tWHY")
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", dash(s.Call), dash(s.After), dash(s.Name), s.Ref, dash(s.Phone), dash(s.Email), s.Why)
	}
	if len(r.Gaps) > 0 {
		fmt.Fprintln(w, "\nGAP\tWHAT IS MISSING")
		for _, g := range r.Gaps {
			fmt.Fprintf(w, "%s\t%s\n", g.Ref, g.Text)
		}
	}
}
