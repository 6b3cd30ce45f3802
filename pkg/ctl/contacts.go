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

// callList is an answer about all causes.
type callList struct {
	Causes []struct {
		contactsAnswer
		Of, Level, PerHour, Unit string
		Services                 []string
	}
}

func (l *callList) table(w io.Writer) {
	if len(l.Causes) == 0 {
		fmt.Fprintln(w, "no service is known to be bad: there is nobody to call")
	}
	for i := range l.Causes {
		c := &l.Causes[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s, %s, hits %s, costs %s %s an hour\n", c.Of, c.Level, join(c.Services), c.PerHour, c.Unit)
		c.contactsAnswer.table(w)
	}
}

func (a *app) contactsCommand() *cobra.Command {
	var f assumptions
	var of string
	cmd := &cobra.Command{
		Use:   "contacts",
		Short: "Whom to call now about what is bad, step by step, and what is missing",
		Long: `Whom to call now about what is bad, step by step, and what is missing: about each cause, the costliest first, or with --of about one
thing, whether it is bad or not. With -f it is answered from files alone, without a collector. Nobody is called.

The way leads from the service, component, member of one, or host to the team that mends or owns it, to those of its
contacts who are there by their hours, whom it escalates to, the vendor with a contract, and the fallback. What has no
owner is taken to the owners of what rests on it.`,
		Example: `  evenkeel contacts
  evenkeel contacts --of service/checkout
  evenkeel contacts -f map/ --of component/web@web-1
  evenkeel contacts -f map/ --set component/web=critical --at 2026-11-25T03:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if of == "" {
				return a.reason(cmd.Context(), "contacts", &f, nil, &callList{})
			}
			return a.reason(cmd.Context(), "contacts", &f, map[string]string{"of": of}, &contactsAnswer{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	cmd.Flags().StringVar(&of, "of", "", "service/NAME, component/NAME, component/NAME@HOST or host/NAME; without, all causes")
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
