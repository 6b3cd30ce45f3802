package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/agent"
)

func (a *app) status() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Say what the agent is doing", Args: cobra.NoArgs,
		Long: `Say what the agent is doing: its session, its spool, its probes and checks.

When no agent runs, the last state that one left is printed with its age, and the
exit code is 3.`,
		Example: `  evenkeel-agent status
  evenkeel-agent status -o json`,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			st, live, err := agent.ReadStatus(cfg)
			if err != nil {
				return &codedError{exitNoReach, err}
			}
			now := time.Now()
			if a.output == "json" {
				err = a.json(struct {
					Running bool          `json:"running"`
					Age     time.Duration `json:"age"`
					agent.Status
				}{live, now.Sub(st.At), st})
			} else {
				err = printStatus(a.out, st, live, now)
			}
			if err == nil && !live {
				err = &codedError{exitNoReach, nil}
			}
			return err
		},
	}
	a.outputFlag(cmd)
	return cmd
}

func printStatus(out io.Writer, st agent.Status, live bool, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	length := func(t time.Time) string { return now.Sub(t).Round(time.Second).String() }
	ago := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return length(t) + " ago"
	}
	switch {
	case live:
		row("agent", "%s, running for %s (pid %d, %s)", st.Host, length(st.Started), st.PID, st.Version)
	case st.Stopped:
		row("agent", "%s, not running: stopped %s; what follows was true then", st.Host, ago(st.At))
	default:
		row("agent", "%s, not running and not stopped in order; what follows was true %s", st.Host, ago(st.At))
	}
	s := st.Session
	if s.Connected {
		row("session", "with %s for %s, clock skew %v", s.Address, length(s.Since), s.ClockSkew.Round(time.Millisecond))
	} else {
		row("session", "none for %s, %d attempts: %s", length(s.Since), s.Attempts, s.Error)
	}
	row("stored", "up to batch %d of %d, %s", s.AckedSeq, st.Spool.LastSeq, ago(s.AckedAt))
	row("sent", "%d live, %d from the spool, %d bytes", s.Batches, s.Backfilled, s.Bytes)
	if s.Refused > 0 || s.Refusal != "" {
		row("refused", "%d samples, last reason: %s", s.Refused, s.Refusal)
	}
	row("certificate", "until %s", s.Certificate.UTC().Format("2006-01-02 15:04 MST"))
	if s.RenewError != "" {
		row("", "%s", s.RenewError)
	}
	row("spool", "%d KiB of %d MiB, %d batches not stored yet, %d dropped", st.Spool.Bytes>>10, st.Spool.MaxBytes>>20, st.Spool.Unacked, st.Spool.Dropped)
	if st.Spool.Error != "" {
		row("", "%s", st.Spool.Error)
	}
	row("series", "%d, %d ticks, %d skipped", st.Series, st.Ticks, st.Skipped)
	if st.Actor.Connected {
		row("actor", "connected for %s, %d commands carried", length(st.Actor.Since), st.Actor.Commands)
	} else {
		row("actor", "%s", st.Actor.Problem)
	}
	for _, p := range st.Probes {
		if p.Error != "" {
			row("probe "+p.Name, "fails: %s", p.Error)
		}
	}
	for _, c := range st.Checks {
		word := "down"
		if c.Up {
			word = "up"
		}
		row("check "+c.Name, "%s, %s: %s (%v)", word, ago(c.At), c.Detail, c.Duration.Round(100*time.Microsecond))
	}
	for _, c := range st.Components {
		switch {
		case c.Problem != "":
			row(c.Component, "%s", c.Problem)
		case c.Running:
			row(c.Component, "running, %d processes", c.Processes)
		default:
			row(c.Component, "not running")
		}
	}
	return w.Flush()
}
