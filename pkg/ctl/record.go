package ctl

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// recordColumns are those of a CSV of changes; on holds references with spaces between them.
var recordColumns = []string{"at", "on", "what", "by", "external", "state"}

func (a *app) changesRecordCommand() *cobra.Command {
	var on []string
	var at, by, external, state, file string
	cmd := &cobra.Command{
		Use:   "record [WHAT]",
		Short: "Say what was changed, so that it stands beside what broke at the same time",
		Long: `Say what was changed, so that it stands beside what broke at the same time. It is a line of a deployment's script.

--csv takes many at once: its first line is at,on,what,by,external,state, of which only what is needed; on holds references with
spaces between them. All are taken, or none; at most 1000.`,
		Example: `  evenkeel changes record 'checkout 4.12.0' --on service/checkout --external CHG0001234
  evenkeel changes record 'checkout 4.12.0' --on service/checkout --state rolledBack
  evenkeel changes record --csv changes.csv`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &operatorv1.RecordChangesRequest{}
			switch {
			case file != "" && len(args)+len(on) == 0 && at+by+external+state == "":
				name, text, err := a.readOne(file)
				if err != nil {
					return err
				}
				if r.Changes, err = recordsOf(name, text); err != nil {
					return err
				}
			case file != "":
				return usage("--csv goes alone: everything stands in the file")
			case len(args) == 0:
				return usage("say what was changed, or name a file with --csv")
			default:
				r.Changes = []*operatorv1.RecordedChange{{What: args[0], Refs: on, At: at, By: by, External: external, State: state}}
			}
			return a.ask(func(c *client.Client) error {
				taken, err := c.Changes.RecordChanges(cmd.Context(), r)
				if err != nil {
					return err
				}
				return a.show(taken, func(w io.Writer) { recorded(w, taken.Changes) })
			})
		},
	}
	cmd.Flags().StringSliceVar(&on, "on", nil, "service, component or host that it touches (repeatable)")
	cmd.Flags().StringVar(&at, "at", "", "when it was done, RFC 3339; default now")
	cmd.Flags().StringVar(&by, "by", "", "who did it; default you")
	cmd.Flags().StringVar(&external, "external", "", "its id elsewhere")
	cmd.Flags().StringVar(&state, "state", "", "done, failed or rolledBack; default done")
	cmd.Flags().StringVar(&file, "csv", "", "CSV file of changes, or -")
	return cmd
}

func (a *app) changesListCommand() *cobra.Command {
	r := &operatorv1.ListChangesRequest{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "What was changed, declared and observed, newest first",
		Long: `What was changed, newest first: what somebody declared, and what agents observed on hosts: another boot, packages that came, went or
got another version, unit files and programs of components that were replaced.`,
		Example: `  evenkeel changes list --host web-1
  evenkeel changes list --on component/web@web-1 --since 2026-11-25T00:00:00Z -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				all, err := c.Changes.ListChanges(cmd.Context(), r)
				if err != nil {
					return err
				}
				return a.show(all, func(w io.Writer) { recorded(w, all.Changes) })
			})
		},
	}
	cmd.Flags().StringVar(&r.Ref, "on", "", "only those that touched this")
	cmd.Flags().StringVar(&r.Host, "host", "", "only those observed on this host")
	cmd.Flags().StringVar(&r.Since, "since", "", "only from this moment on, RFC 3339")
	cmd.Flags().StringVar(&r.Until, "until", "", "only before this moment, RFC 3339")
	cmd.Flags().Int32Var(&r.Limit, "limit", 100, "how many")
	return cmd
}

func recorded(w io.Writer, all []*operatorv1.RecordedChange) {
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing was changed")
		return
	}
	fmt.Fprintln(w, "AT\tKIND\tON\tWHAT\tBEFORE\tAFTER\tBY\tELSEWHERE\tSTATE")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", when(c.At), c.Kind, join(c.Refs), c.What, dash(c.Before), dash(c.After), dash(c.By), dash(c.External), dash(c.State))
	}
}

// recordsOf reads changes out of a CSV. Its error names every line that is wrong, up to twenty.
func recordsOf(name string, text []byte) ([]*operatorv1.RecordedChange, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	head, err := r.Read()
	if err != nil {
		return nil, usage("%s:1:1: expected a first line that names the columns: %s", name, strings.Join(recordColumns, ","))
	}
	for i, column := range head {
		if !slices.Contains(recordColumns, column) || slices.Contains(head[:i], column) {
			line, at := r.FieldPos(i)
			return nil, usage("%s:%d:%d: %q is not a column, or is one twice: expected %s", name, line, at, column, strings.Join(recordColumns, ", "))
		}
	}
	if !slices.Contains(head, "what") {
		return nil, usage("%s:1:1: the column what is missing", name)
	}
	var out []*operatorv1.RecordedChange
	var wrong []string
	for len(wrong) < 20 {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			wrong = append(wrong, fmt.Sprintf("%s:%d:%d: %v", name, bad.Line, bad.Column, bad.Err))
			if errors.Is(bad.Err, csv.ErrFieldCount) {
				continue
			}
			break
		}
		if err != nil {
			return nil, err
		}
		c := &operatorv1.RecordedChange{}
		for i, column := range head {
			switch column {
			case "at":
				c.At = row[i]
			case "on":
				c.Refs = strings.Fields(row[i])
			case "what":
				if c.What = row[i]; c.What == "" {
					line, at := r.FieldPos(i)
					wrong = append(wrong, fmt.Sprintf("%s:%d:%d: say what was changed", name, line, at))
				}
			case "by":
				c.By = row[i]
			case "external":
				c.External = row[i]
			case "state":
				c.State = row[i]
			}
		}
		out = append(out, c)
	}
	if len(wrong) > 0 {
		return nil, usage("%s", strings.Join(wrong, "\n"))
	}
	if len(out) == 0 {
		return nil, usage("%s: there is no change in it", name)
	}
	return out, nil
}
