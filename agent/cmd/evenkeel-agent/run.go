package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/agent"
	"github.com/evenkeel/evenkeel/agent/check"
)

// settled is when an agent has started and done everything once that it does often.
const settled = 25 * time.Second

func (a *app) run() *cobra.Command {
	var level string
	cmd := &cobra.Command{
		Use: "run", Short: "Measure and stream until it is told to stop", Args: cobra.NoArgs,
		Example: `  evenkeel-agent run
  evenkeel-agent run --config ./agent.yaml --log-level debug`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			log, err := a.logger(level)
			if err != nil {
				return err
			}
			// The agent works for a millisecond a second: on a large host more would only cost memory.
			runtime.GOMAXPROCS(min(2, runtime.GOMAXPROCS(0)))
			g, err := agent.New(agent.Options{Config: cfg, Log: log})
			if errors.Is(err, agent.ErrNotEnrolled) {
				return usage("%w", err)
			}
			if err != nil {
				return err
			}
			forget := time.AfterFunc(settled, func() { log.Debug("pages of the start are let go", "bytes", forgetStart()) })
			defer forget.Stop()
			return g.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&level, "log-level", "info", "`LEVEL` from which lines are logged: debug, info, warn or error")
	return cmd
}

func (a *app) logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usage("unknown log level %q: expected debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: l})), nil
}

func (a *app) check() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use: "check NAME --once", Short: "Make one check of the configuration now and print its answer", Args: cobra.ExactArgs(1),
		Example: `  evenkeel-agent check web --once
  evenkeel-agent check web --once -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !once {
				return usage("checks run each 15 s in the agent; to make one now, add --once")
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			for _, k := range cfg.Checks {
				if k.Name != args[0] {
					continue
				}
				r := check.NewAsker(nil).Ask(cmd.Context(), k.Spec())
				if a.output == "json" {
					err = a.json(r)
				} else {
					word := "down"
					if r.Up {
						word = "up"
					}
					_, err = fmt.Fprintf(a.out, "%s is %s: %s (%v)\n", r.Name, word, r.Detail, r.Duration.Round(10*time.Microsecond))
				}
				if err == nil && !r.Up {
					err = &codedError{exitFailed, nil}
				}
				return err
			}
			return usage("no check is called %q in %s", args[0], a.config)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "make the check once")
	a.outputFlag(cmd)
	return cmd
}

func (a *app) doctor() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look at everything the agent needs and say what to do", Args: cobra.NoArgs,
		Long: `Look at everything the agent needs: its configuration, enrolment, certificate and
clock, the way to the collector, the spool, the probes, the actor. Exit code 1 if
anything fails.`,
		Example: `  evenkeel-agent doctor
  evenkeel-agent doctor -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var found []agent.Finding
			cfg, err := a.load()
			if err != nil {
				found = []agent.Finding{{Name: "configuration", Level: "fail", Detail: err.Error(), Do: "mend it; evenkeel-agent config check says if it is good"}}
			} else {
				detail := a.config
				if _, err := os.Stat(a.config); err != nil {
					detail = "the defaults; there is no " + a.config
				}
				found = append([]agent.Finding{{Name: "configuration", Level: "ok", Detail: detail}}, agent.Doctor(cmd.Context(), cfg)...)
			}
			failed := false
			for _, f := range found {
				failed = failed || f.Level == "fail"
			}
			if a.output == "json" {
				err = a.json(found)
			} else {
				w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
				for _, f := range found {
					fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.Name, f.Detail)
					if f.Do != "" {
						fmt.Fprintf(w, "\t\t-> %s\n", f.Do)
					}
				}
				err = w.Flush()
			}
			if err == nil && failed {
				err = &codedError{exitFailed, nil}
			}
			return err
		},
	}
	a.outputFlag(cmd)
	return cmd
}

func (a *app) record() *cobra.Command {
	var out string
	var length time.Duration
	cmd := &cobra.Command{
		Use: "record --out DIR --for 30m", Short: "Record this host's own frames into a spool folder, without a collector", Args: cobra.NoArgs,
		Long: `Record this host's own frames into a spool folder, without a collector.

The folder holds exactly what would have been sent: tests and figures replay it.`,
		Example: "  evenkeel-agent record --out ./recording --for 30m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usage("--out is missing: name a new folder for the recording")
			}
			if length < time.Second {
				return usage("--for %v is too short: record for a second at least", length)
			}
			if names, err := filepath.Glob(filepath.Join(out, "*")); err == nil && len(names) > 0 {
				return usage("%s is not empty: name a new folder", out)
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), length)
			defer cancel()
			r, err := agent.Record(ctx, cfg, out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%d ticks of %d series, %d bytes in %s\n", r.Ticks, r.Series, r.Bytes, out)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "new `DIR` for the recording")
	cmd.Flags().DurationVar(&length, "for", 30*time.Minute, "`TIME` to record")
	return cmd
}
