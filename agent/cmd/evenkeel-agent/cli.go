package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/agent"
	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/pkg/strict"
	"github.com/evenkeel/evenkeel/pkg/version"
)

// defaultConfig is where packages put the configuration; it need not be there.
const defaultConfig = "/etc/evenkeel/agent.yaml"

// The exit codes of every Evenkeel command.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitNoReach = 3
	exitRefused = 4
)

// codedError ends the program with a code of its own. A nil err prints nothing: the command has said it all.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// app is what every verb has in common.
type app struct {
	config string
	given  bool // --config was
	output string
	in     io.Reader
	out    io.Writer
	err    io.Writer
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, err: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := codeOf(err)
	if text := err.Error(); text != "" {
		fmt.Fprintln(errOut, "evenkeel-agent: "+strings.ReplaceAll(text, "\n", "\nevenkeel-agent: "))
	}
	return code
}

// codeOf maps an error to an exit code. What cobra itself finds wrong is usage.
func codeOf(err error) int {
	var (
		coded       *codedError
		use         *agent.UsageError
		problems    strict.Problems
		unreachable *link.UnreachableError
		refused     *link.RefusedError
	)
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &use), errors.As(err, &problems):
		return exitUsage
	case errors.As(err, &unreachable):
		return exitNoReach
	case errors.As(err, &refused):
		return exitRefused
	}
	for _, mark := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires at least", "flag needs", "invalid argument"} {
		if strings.HasPrefix(err.Error(), mark) {
			return exitUsage
		}
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "evenkeel-agent",
		Short: "Measure this host and stream it to an Evenkeel collector",
		Long: `Measure this host and stream it to an Evenkeel collector.

The agent reads /proc and cgroup files once a second, keeps every reading on disk
until the collector has stored it, and opens no listening port. It cannot change
anything on the host: whatever may be changed is the business of evenkeel-actor.`,
		Example: `  evenkeel-agent enroll --join-file join.txt
  evenkeel-agent run
  evenkeel-agent status
  evenkeel-agent doctor`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&a.config, "config", defaultConfig, "configuration `FILE`; without it, the defaults")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		a.given = cmd.Flags().Changed("config")
		if f := cmd.Flags().Lookup("output"); f != nil && a.output != "table" && a.output != "json" {
			return usage("unknown output %q: expected table or json", a.output)
		}
		return nil
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &codedError{exitUsage, err} })
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.AddCommand(a.enroll(), a.run(), a.status(), a.doctor(), a.check(), a.configVerb(), a.record(), a.version(), a.completion(root))
	return root
}

// load reads the configuration that was named, or the default one if it is there.
func (a *app) load() (agent.Config, error) { return agent.Load(a.config, !a.given) }

func (a *app) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.output, "output", "o", "table", "output `FORMAT`: table or json")
}

func (a *app) json(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs, Example: "  evenkeel-agent version",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, version.Line("evenkeel-agent"))
			return err
		},
	}
}

func (a *app) completion(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print a shell's completion script", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish"}, Example: "  evenkeel-agent completion bash > /etc/bash_completion.d/evenkeel-agent",
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			}
			return usage("no completion for %q: expected bash, zsh or fish", args[0])
		},
	}
}

func (a *app) configVerb() *cobra.Command {
	parent := &cobra.Command{
		Use: "config", Short: "Look at the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check := &cobra.Command{
		Use: "check", Short: "Read the configuration and say everything that is wrong with it", Args: cobra.NoArgs,
		Example: `  evenkeel-agent config check
  evenkeel-agent config check --config ./agent.yaml`,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := agent.Load(a.config, false)
			if err != nil {
				var problems strict.Problems
				if errors.As(err, &problems) {
					return err
				}
				return &codedError{exitUsage, err}
			}
			_, err = fmt.Fprintf(a.out, "%s is good: state in %s, a tick each %v\n", a.config, cfg.State, cfg.Period)
			return err
		},
	}
	parent.AddCommand(check)
	return parent
}
