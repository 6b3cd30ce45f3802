package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// levelSpan is a health as the JSON has it.
type levelSpan struct{ Low, High string }

func (s levelSpan) String() string { return span(s.Low, s.High) }

// impact is the part of the JSON that the table shows.
type impact struct {
	Ref, Unit, PerHour, Then, Adds string
	Out, Now, Unranked             []string
	Hit                            []struct {
		Ref, PerHour, Why string
		Now, Then         levelSpan
	}
	Held []struct {
		Ref, Why string
		Level    levelSpan
	}
}

func (a *app) impactCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "impact REF",
		Short: "What a part would hit if it were critical, and what it hits now",
		Long: `What a part would hit if it were critical, and what it hits now. With -f it is answered from files alone, without a collector.

The answer goes through the rules of the map: a replica that is to spare hits nothing and costs nothing. REF is a component, a
member of one, a service or a host; a host takes with it what runs on it. --set says what is bad already.`,
		Example: `  evenkeel impact component/san
  evenkeel impact -f map/ component/web@web-1 --set component/web@web-2=critical`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.reason(cmd.Context(), "impact", &f, map[string]string{"of": args[0]}, &impact{})
		},
	}
	f.flags(cmd, "moment of the answer, RFC 3339; default now")
	return cmd
}

func (r *impact) table(w io.Writer) {
	if len(r.Now) > 0 {
		fmt.Fprintf(w, "%s hits now: %s\n\n", r.Ref, join(r.Now))
	}
	if len(r.Hit) == 0 {
		fmt.Fprintf(w, "if %s were critical, no service would get worse\n", r.Ref)
	} else {
		fmt.Fprintln(w, "WOULD HIT\tNOW\tTHEN\tLOSES\tWHY")
	}
	for _, s := range r.Hit {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s/h\t%s\n", s.Ref, s.Now, s.Then, s.PerHour, r.Unit, s.Why)
	}
	if len(r.Held) > 0 {
		fmt.Fprintln(w, "\nSTAYS\tHEALTH\tWHY")
		for _, s := range r.Held {
			fmt.Fprintf(w, "%s\t%s\t%s\n", s.Ref, s.Level, s.Why)
		}
	}
	fmt.Fprintf(w, "\nit would cost %s %s an hour more: %s instead of %s\n", r.Adds, r.Unit, r.Then, r.PerHour)
	if len(r.Unranked) > 0 {
		fmt.Fprintf(w, "without a value in %s: %s\n", r.Unit, join(r.Unranked))
	}
}
