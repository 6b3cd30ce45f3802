// Command evenkeel-actor acts on its host by signed command, within the host owner's permissions file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/agent/actor"
	"github.com/evenkeel/evenkeel/agent/plugin"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/version"
)

// Exit codes, the same in every Evenkeel program.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// patience is how long a running actor may take to answer. A revert of many trees takes its time.
const patience = 30 * time.Second

// coded is an error with the exit code that it asks for.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return coded{err, code}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := root(os.Stdout).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "evenkeel-actor:", err)
	var c coded
	if errors.As(err, &c) {
		os.Exit(c.code)
	}
	os.Exit(exitUsage) // cobra's own errors are about usage
}

func root(out io.Writer) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "evenkeel-actor",
		Short: "acts on this host by signed command, within its permissions file",
		Long: "evenkeel-actor carries out typed, signed, leased commands that the agent on this host brings in, within what\n" +
			"the permissions file allows, and takes every change back. Creating the kill file stops and reverts everything.",
		Example: "  evenkeel-actor config check\n  evenkeel-actor capabilities\n  evenkeel-actor run --config /etc/evenkeel/actor.yaml\n" +
			"  evenkeel-actor revert --all",
		SilenceUsage: true, SilenceErrors: true,
	}
	c.SetOut(out)
	c.PersistentFlags().StringVar(&file, "config", actor.DefaultConfig, "configuration `file`")
	c.AddCommand(runCommand(&file), capabilitiesCommand(&file), revertCommand(&file), configCommand(&file), agentCheckCommand(), pluginShim(), &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.Line("evenkeel-actor")) },
	})
	return c
}

func settings(file string) (actor.Settings, error) {
	s, err := actor.LoadSettings(file)
	return s, withCode(exitUsage, err)
}

func runCommand(file *string) *cobra.Command {
	var level string
	c := &cobra.Command{
		Use: "run", Short: "act until stopped, then take everything back", Args: cobra.NoArgs,
		Example: "  evenkeel-actor run --config /etc/evenkeel/actor.yaml --log-level debug",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := settings(*file)
			if err != nil {
				return err
			}
			var lv slog.Level
			if err := lv.UnmarshalText([]byte(level)); err != nil {
				return withCode(exitUsage, fmt.Errorf("--log-level: %w", err))
			}
			able, free := actor.HostActuators(s)
			defer free()
			a, err := actor.New(actor.Config{
				Settings: s, Actuators: able, Confine: true, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: lv})),
			})
			if err != nil {
				return withCode(exitUsage, err)
			}
			return withCode(exitFailed, a.Run(cmd.Context()))
		},
	}
	c.Flags().StringVar(&level, "log-level", "info", "`level` of the log: debug, info, warn or error")
	return c
}

func capabilitiesCommand(file *string) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "capabilities", Short: "show what this actor can do, cannot do, holds, and whom it believes", Args: cobra.NoArgs,
		Long:    "capabilities asks the running actor; where none runs it reads the permissions file itself.",
		Example: "  evenkeel-actor capabilities\n  evenkeel-actor capabilities -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return withCode(exitUsage, fmt.Errorf("-o %s: expected table or json", output))
			}
			s, err := settings(*file)
			if err != nil {
				return err
			}
			caps, err := actor.AskCapabilities(s.Socket, patience)
			if err != nil {
				if !notRunning(err) {
					return withCode(exitUnreachable, fmt.Errorf("cannot ask the running actor: %w", err))
				}
				able, free := actor.HostActuators(s)
				defer free()
				caps = actor.Inspect(s, os.Geteuid(), able)
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return withCode(exitFailed, enc.Encode(caps))
			}
			printCapabilities(cmd.OutOrStdout(), caps)
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "`format`: table or json")
	return c
}

func printCapabilities(w io.Writer, c actor.Capabilities) {
	state := "not running"
	if c.Running {
		state = "running, incarnation " + c.Incarnation
	}
	fmt.Fprintf(w, "host %s, actor %s\npermissions %s\n", c.Host, state, c.PermissionsFile)
	if c.Problem != "" {
		fmt.Fprintf(w, "EVERYTHING IS DENIED: %s\n", c.Problem)
	} else {
		approvers := "none"
		if len(c.Approvers) > 0 {
			approvers = strings.Join(c.Approvers, ", ")
		}
		fmt.Fprintf(w, "signing root %s\napprovers %s\nmost risk %s\n", c.SigningRoot, approvers, c.MaxRisk)
	}
	if len(c.RevokedKeys) > 0 {
		fmt.Fprintf(w, "revoked keys %s\n", strings.Join(c.RevokedKeys, ", "))
	}
	if c.Killed != "" {
		fmt.Fprintf(w, "STOPPED: %s\n", c.Killed)
	}
	fmt.Fprintln(w, "\ncan:")
	for _, x := range c.Can {
		fmt.Fprintf(w, "  %s (%s): %s\n    on %s\n    %s, at most %s; signed by %s\n", x.Action, x.Risk, x.Does, strings.Join(x.Targets, ", "), bounds(x), x.Rate, x.Signed)
	}
	if len(c.Can) == 0 {
		fmt.Fprintln(w, "  nothing")
	}
	fmt.Fprintln(w, "\ncannot:")
	for _, x := range c.Cannot {
		fmt.Fprintf(w, "  %s: %s\n", x.Action, x.Why)
	}
	fmt.Fprintln(w, "  anything else: no program is ever started but a plugin that the permissions declare, and the nginx of the settings, to test its configuration")
	if p := c.Process; p != nil {
		fmt.Fprintln(w, "\nkeeps of its privileges:")
		for _, k := range p.Capabilities {
			fmt.Fprintf(w, "  %s: to %s\n", k.Name, k.Why)
		}
		if len(p.Capabilities) == 0 {
			fmt.Fprintln(w, "  no capability")
		}
		fmt.Fprintf(w, "  files: %s\n  programs: %s\n  system calls: %s\n  limits: %s\n", p.Files, p.Programs, p.Calls, p.Limits)
	}
	if a := c.Audit; a != nil {
		fmt.Fprintf(w, "\naudit log in %s, head %d:%s\n", a.Folder, a.Seq, a.Hash)
	}
	fmt.Fprintln(w, "\nin force:")
	for _, l := range c.Leases {
		fmt.Fprintf(w, "  %s %s = %d, was %s, %s, %s left\n", l.ID, l.Resource, l.Value, l.Prior, l.Phase, l.Left)
	}
	if len(c.Leases) == 0 {
		fmt.Fprintln(w, "  nothing")
	}
}

func bounds(x actor.Can) string {
	switch {
	case x.MaxLease == "0s":
		return "once, with no way back"
	case x.Min == x.Max:
		return "leases up to " + x.MaxLease
	}
	return fmt.Sprintf("%d to %d %s, leases up to %s", x.Min, x.Max, x.Unit, x.MaxLease)
}

func revertCommand(file *string) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "revert [ID]", Short: "take back one command's change, or all", Args: cobra.MaximumNArgs(1),
		Long: "revert asks the running actor; where none runs it works from the journal, which is what the unit does after the\n" +
			"actor stopped for whatever reason. Values that are not this actor's are left alone.",
		Example: "  evenkeel-actor revert --all\n  evenkeel-actor revert 01K8ZZZZZZZZZZZZZZZZZZZZZZ",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return withCode(exitUsage, errors.New("name one command's id, or --all"))
			}
			id := ""
			if len(args) == 1 {
				if _, err := ulid.ParseStrict(args[0]); err != nil {
					return withCode(exitUsage, fmt.Errorf("%q is not the id of a command", args[0]))
				}
				id = args[0]
			}
			s, err := settings(*file)
			if err != nil {
				return err
			}
			results, err := actor.AskRevert(s.Socket, id, patience)
			if err != nil && notRunning(err) {
				able, free := actor.HostActuators(s)
				defer free()
				results, err = actor.RevertOffline(cmd.Context(), actor.Config{
					Settings: s, Actuators: able, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
				}, id)
			}
			failed := 0
			for _, r := range results {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", r.ID, r.Phase, r.Detail)
				if r.Phase == command.RevertFailed {
					failed++
				}
			}
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d changes could not be taken back", failed)
			}
			if errors.Is(err, actor.ErrRunning) {
				return withCode(exitUnreachable, err)
			}
			if err == nil && len(results) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing is held")
			}
			return withCode(exitFailed, err)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "take everything back")
	return c
}

func configCommand(file *string) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "look at the configuration"}
	c.AddCommand(&cobra.Command{
		Use: "check", Short: "check the configuration and the permissions file", Args: cobra.NoArgs,
		Example: "  evenkeel-actor config check --config ./actor.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := settings(*file)
			if err != nil {
				return err
			}
			if _, err := actor.LoadPermissions(s.Permissions, os.Geteuid()); err != nil {
				return withCode(exitUsage, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s and %s are fine\n", *file, s.Permissions)
			return nil
		},
	})
	return c
}

// pluginShim is for the actor itself: the moment between its own child and the host owner's program.
func pluginShim() *cobra.Command {
	return &cobra.Command{
		Use: plugin.ShimWord, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return withCode(exitFailed, plugin.Shim()) },
	}
}

// notRunning reports that nobody listens on a socket, as opposed to somebody who does not answer or may not be asked.
func notRunning(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED))
}
