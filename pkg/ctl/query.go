package ctl

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) queryCommand() *cobra.Command {
	var at, start, end string
	var step time.Duration
	cmd := &cobra.Command{
		Use:   "query PROMQL",
		Short: "Evaluate a PromQL expression, now or over a range",
		Example: `  evenkeel query 'node_load1'
  evenkeel query --start -30m --step 15s 'rate(node_cpu_seconds_total{mode="user"}[1m])'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				var r *operatorv1.QueryResponse
				var err error
				if start != "" {
					var from, to string
					if from, err = moment(start); err != nil {
						return err
					}
					if to, err = moment(end); err != nil {
						return err
					}
					r, err = c.Queries.QueryRange(cmd.Context(), &operatorv1.QueryRangeRequest{Query: args[0], Start: from, End: to, Step: step.String()})
				} else {
					var when string
					if when, err = moment(at); err != nil {
						return err
					}
					r, err = c.Queries.Query(cmd.Context(), &operatorv1.QueryRequest{Query: args[0], Time: when})
				}
				if err != nil {
					return err
				}
				for _, warning := range r.Warnings {
					fmt.Fprintln(a.Err, "warning:", warning)
				}
				if len(r.Result) == 0 {
					a.hint("nothing matches at that time: evenkeel host list shows which hosts send samples, and when")
				}
				return a.show(r, func(w io.Writer) {
					if len(r.Result) == 0 {
						return
					}
					fmt.Fprintln(w, "SERIES\tTIME\tVALUE")
					for _, s := range r.Result {
						for _, p := range s.Values {
							fmt.Fprintf(w, "%s\t%s\t%s\n", seriesName(s.Metric), when(p.Time), p.Value)
						}
					}
				})
			})
		},
	}
	cmd.Flags().StringVar(&at, "time", "", "RFC 3339, or a duration back such as -5m; default now")
	cmd.Flags().StringVar(&start, "start", "", "start of a range, in the same forms")
	cmd.Flags().StringVar(&end, "end", "", "end of the range; default now")
	cmd.Flags().DurationVar(&step, "step", 15*time.Second, "step of the range")
	return cmd
}

// moment reads RFC 3339, or a duration back from now; empty stays empty and means now.
func moment(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(d).UTC().Format(time.RFC3339Nano), nil
	}
	if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
		return "", usage("%q is not a time: expected RFC 3339 such as 2026-11-25T10:00:00Z, or a duration back such as -5m", s)
	}
	return s, nil
}

func seriesName(m map[string]string) string {
	rest := make(map[string]string, len(m))
	for k, v := range m {
		if k != "__name__" {
			rest[k] = fmt.Sprintf("%q", v)
		}
	}
	return m["__name__"] + "{" + strings.ReplaceAll(labels(rest), ",", ", ") + "}"
}
