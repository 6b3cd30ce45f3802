package ctl

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Assumption fixes the level of a part.
type Assumption struct {
	Ref, Level string
}

// ReasonOptions are those of the verbs that reason.
type ReasonOptions struct {
	Set     []Assumption // in the order in which they broke
	At      time.Time
	Default string            // "ok" or "unknown": what a leaf without data is
	History *manifest.File    // nil where none was named
	Args    map[string]string // the verb's own
}

// Reason returns the answer to a question out of files as the API's JSON, or what is wrong with the files. Its error is about the
// arguments.
type Reason func(question string, files []manifest.File, o ReasonOptions) ([]byte, []manifest.Problem, error)

// assumptions are the flags of the verbs that reason.
type assumptions struct {
	files, set             []string
	at, byDefault, history string
}

func (f *assumptions) flags(cmd *cobra.Command, at string) {
	cmd.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "file, folder or - (repeatable)")
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "REF=LEVEL (repeatable)")
	cmd.Flags().StringVar(&f.at, "at", "", at)
}

func (f *assumptions) historyFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.history, "history", "", "CSV file of states over time")
}

// read returns the options that the flags say.
func (f *assumptions) read() (ReasonOptions, error) {
	var o ReasonOptions
	for _, s := range f.set {
		ref, level, ok := strings.Cut(s, "=")
		if !ok || ref == "" || level == "" {
			return o, usage("--set %s: expected REF=LEVEL, such as component/web@web-1=critical", s)
		}
		o.Set = append(o.Set, Assumption{ref, level})
	}
	var err error
	if o.At, err = atOrNow(f.at); err != nil {
		return o, err
	}
	switch f.byDefault {
	case "", "ok", "unknown":
		o.Default = f.byDefault
	default:
		return o, usage("--default %s: expected ok or unknown", f.byDefault)
	}
	if f.history != "" {
		text, err := os.ReadFile(f.history)
		if err != nil {
			return o, usage("--history: %v", err)
		}
		o.History = &manifest.File{Name: f.history, Text: text}
	}
	return o, nil
}

// tabled takes the part of a JSON that its table shows.
type tabled interface{ table(w io.Writer) }

// reason asks a question, of files where there are any and of the collector otherwise, and shows the answer: what is wrong with the
// manifests, its JSON as it is, or a table of it.
func (a *app) reason(ctx context.Context, question string, f *assumptions, args map[string]string, in tabled) error {
	out, err := a.answer(ctx, question, f, args)
	if err != nil {
		return err
	}
	if a.output != "table" {
		return a.write(out)
	}
	if err := json.Unmarshal(out, in); err != nil {
		return err
	}
	return a.aligned(in.table)
}

// answer returns the JSON of an answer.
func (a *app) answer(ctx context.Context, question string, f *assumptions, args map[string]string) ([]byte, error) {
	o, err := f.read()
	if err != nil {
		return nil, err
	}
	o.Args = args
	if len(f.files) == 0 {
		return a.askCollector(ctx, question, f, o)
	}
	files, err := a.manifests(f.files)
	if err != nil {
		return nil, err
	}
	out, problems, err := a.Reason(question, files, o)
	if err != nil {
		return nil, usage("%v", err)
	}
	if len(problems) > 0 {
		return nil, a.complain(problemsTo(problems))
	}
	return out, nil
}

func (a *app) askCollector(ctx context.Context, question string, f *assumptions, o ReasonOptions) ([]byte, error) {
	if o.History != nil {
		return nil, usage("--history goes with -f: the collector keeps the history of the live map itself")
	}
	c, _, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := &operatorv1.AskRequest{Question: question, Args: o.Args}
	for _, s := range o.Set {
		r.Set = append(r.Set, s.Ref+"="+s.Level)
	}
	if f.at != "" {
		r.At = o.At.UTC().Format(time.RFC3339)
	}
	answer, err := c.Reason.Ask(ctx, r)
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(answer.Answer)
}

// manifests reads the files for reasoning that runs on them alone.
func (a *app) manifests(paths []string) ([]manifest.File, error) {
	in, err := a.gather(paths)
	if err != nil {
		return nil, err
	}
	out := make([]manifest.File, len(in))
	for i, f := range in {
		out[i] = manifest.File{Name: f.Name, Text: []byte(f.Text)}
	}
	return out, nil
}

// atOrNow reads --at; empty is now.
func atOrNow(at string) (time.Time, error) {
	if at == "" {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, usage("--at %s: expected RFC 3339, such as 2026-11-25T10:00:00Z", at)
	}
	return t, nil
}

func problemsTo(in []manifest.Problem) []*operatorv1.Problem {
	out := make([]*operatorv1.Problem, len(in))
	for i, p := range in {
		out[i] = &operatorv1.Problem{File: p.File, Line: int32(p.Line), Column: int32(p.Column), Path: p.Path, Text: p.Text, Hint: p.Hint}
	}
	return out
}
