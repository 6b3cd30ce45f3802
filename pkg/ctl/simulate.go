package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// SimulateOptions are those of the verbs that reason on files.
type SimulateOptions struct {
	Set     map[string]string // ref to level
	Order   []string          // the refs of Set as they were given: for a recovery plan, the order in which they broke
	At      time.Time
	Unknown bool // leaves without data are unknown, not ok
}

// Offline holds the reasoning that runs on files alone. The packages that do it belong to the collector, which pkg may
// not import, so the program hands them in.
type Offline struct {
	// Simulate returns the simulation as the API's JSON, or what is wrong with the manifests.
	Simulate func([]manifest.File, SimulateOptions) ([]byte, []manifest.Problem, error)
	// RecoveryPlan returns the plan of recovery as the API's JSON, or what is wrong with the manifests.
	RecoveryPlan func([]manifest.File, SimulateOptions) ([]byte, []manifest.Problem, error)
	// SLO returns how the objectives among the manifests stand, likewise.
	SLO func([]manifest.File, SLOOptions) ([]byte, []manifest.Problem, error)
	// Contacts returns whom to call, likewise. Its error is about the reference that was asked for.
	Contacts func([]manifest.File, ContactsOptions) ([]byte, []manifest.Problem, error)
}

// assumptions are the flags of the verbs that reason on files.
type assumptions struct {
	files, set    []string
	at, byDefault string
}

func (f *assumptions) flags(cmd *cobra.Command, at string) {
	cmd.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "file, folder or - (repeatable)")
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "REF=LEVEL (repeatable)")
	cmd.Flags().StringVar(&f.at, "at", "", at)
}

// read returns the files and options that the flags say.
func (f *assumptions) read(a *app) ([]manifest.File, SimulateOptions, error) {
	options := SimulateOptions{Set: map[string]string{}}
	files, err := a.manifests(f.files)
	if err != nil {
		return nil, options, err
	}
	for _, s := range f.set {
		ref, level, ok := strings.Cut(s, "=")
		if !ok || ref == "" || level == "" {
			return nil, options, usage("--set %s: expected REF=LEVEL, such as component/web@web-1=critical", s)
		}
		options.Set[ref] = level
		options.Order = append(options.Order, ref)
	}
	if options.At, err = atOrNow(f.at); err != nil {
		return nil, options, err
	}
	switch f.byDefault {
	case "", "ok":
	case "unknown":
		options.Unknown = true
	default:
		return nil, options, usage("--default %s: expected ok or unknown", f.byDefault)
	}
	return files, options, nil
}

// reason asks a piece of reasoning that runs on files, and shows what it says.
func (a *app) reason(f *assumptions, ask func([]manifest.File, SimulateOptions) ([]byte, []manifest.Problem, error), in tabled) error {
	files, options, err := f.read(a)
	if err != nil {
		return err
	}
	out, problems, err := ask(files, options)
	if err != nil {
		return usage("%v", err)
	}
	return a.showReasoned(out, problems, in)
}

// tabled takes the part of a JSON that its table shows.
type tabled interface{ table(w io.Writer) }

// showReasoned prints what a piece of reasoning says: what is wrong with the manifests, its JSON as it is, or a table of it.
func (a *app) showReasoned(out []byte, problems []manifest.Problem, in tabled) error {
	if len(problems) > 0 {
		return a.complain(problemsTo(problems))
	}
	if a.output != "table" {
		return a.write(out)
	}
	if err := json.Unmarshal(out, in); err != nil {
		return err
	}
	return a.aligned(in.table)
}

// simulation is the part of the JSON that the table shows.
type simulation struct {
	At    string
	Nodes []struct {
		Ref, Low, High, Own string
		Why                 struct{ Rule, Text string }
	}
	Causes []struct {
		Ref, Level    string
		Services      []string
		PerHour, Unit string
	}
	Order []struct {
		Ref, Start, End string
		Reinstates      []string
	}
}

func (a *app) simulateCommand() *cobra.Command {
	var f assumptions
	cmd := &cobra.Command{
		Use:   "simulate -f FILE|FOLDER|-",
		Short: "Health, causes and order of a map, from files alone",
		Long: `Health, causes and order of a map, from files alone: no collector is asked, none is changed.

Without data a leaf is ok, or unknown with --default unknown. --set fixes the state of a leaf; on an inner node it adds an
input and never hides the node's children. component/web@HOST names one member of a component.`,
		Example: `  evenkeel simulate -f map/ --set component/web@web-1=critical
  evenkeel simulate -f map/ --default unknown -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.reason(&f, a.Offline.Simulate, &simulation{})
		},
	}
	f.flags(cmd, "moment of the simulation, RFC 3339; default now")
	cmd.Flags().StringVar(&f.byDefault, "default", "ok", "what a leaf without data is: ok or unknown")
	return cmd
}

func (s *simulation) table(w io.Writer) {
	fmt.Fprintln(w, "NODE\tHEALTH\tWHY")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Ref, span(n.Low, n.High), n.Why.Text)
	}
	if len(s.Causes) > 0 {
		fmt.Fprintln(w, "\nCAUSE\tLEVEL\tSERVICES\tAT RISK")
		for _, c := range s.Causes {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Ref, c.Level, join(c.Services), atRisk(c.PerHour, c.Unit))
		}
	}
	if len(s.Order) > 0 {
		fmt.Fprintln(w, "\nMEND\tSTART\tEND\tREINSTATES")
		for _, o := range s.Order {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Ref, when(o.Start), when(o.End), join(slices.Clone(o.Reinstates)))
		}
	}
}

func problemsTo(in []manifest.Problem) []*operatorv1.Problem {
	out := make([]*operatorv1.Problem, len(in))
	for i, p := range in {
		out[i] = &operatorv1.Problem{File: p.File, Line: int32(p.Line), Column: int32(p.Column), Path: p.Path, Text: p.Text, Hint: p.Hint}
	}
	return out
}
