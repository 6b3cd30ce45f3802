package ctl

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// whatIf is the part of the JSON that the tables show.
type whatIf struct {
	From, To, Horizon string
	Services          []struct {
		Ref    string
		States []struct {
			From, To, Why  string
			Before, During levelSpan
		}
		Lost map[string]string
	}
	whatIfWindow
	Cheapest *struct {
		From, To string
		whatIfWindow
		Saves map[string]string
		Exact bool
	}
}

type whatIfWindow struct {
	Lost, Anyway map[string]string
	Budgets      []struct {
		SLO, From, To, Budget string
		Spent, Left, Without  spreadText
		Assumed               bool
	}
	Feasible bool
	Reasons  []string
}

func (a *app) whatIfCommand() *cobra.Command {
	var f assumptions
	var take, set []string
	var from, length, horizon, change string
	cmd := &cobra.Command{
		Use:   "whatif --take REF --for D",
		Short: "What a change costs before it is made, and when it costs least",
		Long: `What a change costs before it is made, and when it costs least. With -f it is answered from files alone, without a collector.
Nothing is changed by asking.

--take takes a part out for the window, a host with all that runs on it; --set fixes a level for the window instead. The answer says
what becomes of each service, what is lost on top of what is lost anyway, what is spent of each error budget and left of it, and what
else is planned at that time. With --horizon the cheapest window from now until then is looked for: one that meets nothing that is
planned and overspends no error budget. --change asks about a declared change: its parts and its window.

--history is what was spent of the budgets before, as in evenkeel slo show. --now says what is bad already, and stays so.`,
		Example: `  evenkeel whatif --take host/db-1 --from 2026-11-25T22:00:00Z --for 2h
  evenkeel whatif -f map/ --take component/san --for 4h --horizon 14d --history states.csv
  evenkeel whatif -f map/ --change change/db-upgrade -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if change == "" && (len(take)+len(set) == 0 || length == "") {
				return usage("say what is done and for how long: --take REF --for D, or --change change/NAME")
			}
			args := map[string]string{
				"take": strings.Join(take, ","), "levels": strings.Join(set, ","), "from": from, "for": length, "horizon": horizon, "change": change,
			}
			maps.DeleteFunc(args, func(_, v string) bool { return v == "" })
			return a.reason(cmd.Context(), "whatif", &f, args, &whatIf{})
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVarP(&f.files, "filename", "f", nil, "file, folder or - (repeatable)")
	fs.StringVar(&f.at, "at", "", "moment of the question, RFC 3339; default now")
	fs.StringArrayVar(&f.set, "now", nil, "REF=LEVEL: what is bad already (repeatable)")
	fs.StringSliceVar(&take, "take", nil, "REF that is out for the window (repeatable)")
	fs.StringSliceVar(&set, "set", nil, "REF=LEVEL for the window (repeatable)")
	fs.StringVar(&from, "from", "", "when the window begins, RFC 3339; default now")
	fs.StringVar(&length, "for", "", "how long it lasts, such as 2h")
	fs.StringVar(&horizon, "horizon", "", "how far ahead a cheaper window is looked for, such as 14d")
	fs.StringVar(&change, "change", "", "declared change, change/NAME")
	f.historyFlag(cmd)
	return cmd
}

func (x *whatIf) table(w io.Writer) {
	if len(x.Services) == 0 {
		fmt.Fprintln(w, "no service gets another health")
	} else {
		fmt.Fprintln(w, "SERVICE\tFROM\tTO\tBEFORE\tDURING\tWHY")
	}
	for _, s := range x.Services {
		for _, st := range s.States {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Ref, when(st.From), when(st.To), st.Before, st.During, st.Why)
		}
	}
	fmt.Fprintln(w, "\nWINDOW\tFROM\tTO\tLOST ON TOP\tFEASIBLE")
	feasible := func(f whatIfWindow) string {
		if f.Feasible {
			return "yes"
		}
		return "no: " + strings.Join(f.Reasons, "; ")
	}
	fmt.Fprintf(w, "asked\t%s\t%s\t%s\t%s\n", when(x.From), when(x.To), amounts(x.Lost), feasible(x.whatIfWindow))
	switch c := x.Cheapest; {
	case c != nil && c.Exact:
		fmt.Fprintf(w, "cheapest\t%s\t%s\t%s\t%s\n", when(c.From), when(c.To), amounts(c.Lost), feasible(c.whatIfWindow))
	case c != nil:
		fmt.Fprintf(w, "cheapest found\t%s\t%s\t%s\t%s\n", when(c.From), when(c.To), amounts(c.Lost), feasible(c.whatIfWindow))
	case x.Horizon != "":
		fmt.Fprintf(w, "none until %s is feasible\n", when(x.Horizon))
	}
	for i, b := range x.Budgets {
		if i == 0 {
			fmt.Fprintln(w, "\nERROR BUDGET OF\tWINDOW FROM\tTO\tBUDGET\tSPENT BY IT\tLEFT\tLEFT WITHOUT IT")
		}
		without := between(b.Without)
		if b.Assumed {
			without += " (no history)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.SLO, when(b.From), when(b.To), human(b.Budget), between(b.Spent), between(b.Left), without)
	}
}

// amounts writes amounts by unit, as amount does.
func amounts(m map[string]string) string {
	var out []string
	for _, unit := range slices.Sorted(maps.Keys(m)) {
		text := m[unit] + " " + unit
		if d, err := manifest.ParseDecimal(m[unit]); err == nil {
			text = amount(d, unit)
		}
		out = append(out, text)
	}
	return dash(strings.Join(out, ", "))
}
