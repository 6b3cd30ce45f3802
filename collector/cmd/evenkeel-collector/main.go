// Command evenkeel-collector is one node of the cluster that takes samples in, keeps the map, and decides.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // manifests name time zones, which the machine need not know

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/collector"
	"github.com/evenkeel/evenkeel/pkg/strict"
	"github.com/evenkeel/evenkeel/pkg/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// badInput marks an error that lies in what the user gave.
type badInput struct{ error }

func (b badInput) Unwrap() error { return b.error }

// execute runs one command and returns its exit code.
func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	root := command(errs)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	// What is wrong with a file is told as a compiler does, so that editors find the place.
	if problems := strict.Problems(nil); errors.As(err, &problems) {
		fmt.Fprintln(errs, problems)
	} else {
		fmt.Fprintln(errs, "evenkeel-collector:", err)
	}
	if errors.As(err, &badInput{}) {
		return exitUsage
	}
	return exitFailed
}

const defaultConfig = "/etc/evenkeel/collector.yaml"

func command(log io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "evenkeel-collector",
		Short: "Takes samples in, keeps the service map, detects overload, decides and acts",
		Long: `Takes samples in, keeps the service map, detects overload, decides and acts.

Ports, all on loopback by default: 8420 REST and metrics, 8421 agents (client certificate), 8425 operators and enrolment.

Exit codes: 0 ended as asked, 1 failed, 2 bad configuration or arguments.`,
		Example: `  evenkeel-collector dev
  evenkeel-collector run --config /etc/evenkeel/collector.yaml`,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return badInput{fmt.Errorf("%w; see evenkeel-collector --help", err)}
	})
	root.AddCommand(runCommand(log), devCommand(log), configCommand(), &cobra.Command{
		Use: "version", Short: "Say which version this is", Example: "  evenkeel-collector version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), version.Line("evenkeel-collector"))
		},
	})
	mistakes(root)
	return root
}

// mistakes makes wrong arguments of any command bad input.
func mistakes(cmd *cobra.Command) {
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return badInput{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
	for _, c := range cmd.Commands() {
		mistakes(c)
	}
}

func runCommand(log io.Writer) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the collector until it is told to end",
		Example: `  evenkeel-collector run
  evenkeel-collector run --config collector.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := collector.Load(config, !cmd.Flags().Changed("config"))
			if err != nil {
				return badInput{err}
			}
			c, err := collector.New(cfg, logger(log, cfg.LogLevel))
			if err != nil {
				return err
			}
			return c.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&config, "config", defaultConfig, "configuration file")
	return cmd
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "The configuration: check", Example: "  evenkeel-collector config check", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var config string
	check := &cobra.Command{
		Use: "check", Short: "Say everything that is wrong with the configuration", Example: "  evenkeel-collector config check --config collector.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := collector.Load(config, !cmd.Flags().Changed("config")); err != nil {
				return badInput{err}
			}
			fmt.Fprintln(cmd.OutOrStdout(), config+": ok")
			return nil
		},
	}
	check.Flags().StringVar(&config, "config", defaultConfig, "configuration file")
	cmd.AddCommand(check)
	return cmd
}

func logger(to io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: l}))
}
