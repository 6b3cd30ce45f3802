// Command evenkeel-collector is one node of the cluster that takes samples in, keeps the map, and decides.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/collector"
	"github.com/evenkeel/evenkeel/pkg/strict"
	"github.com/evenkeel/evenkeel/pkg/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:])
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

func execute(ctx context.Context, args []string) int {
	root := command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "evenkeel-collector:", err)
	var problems strict.Problems
	if errors.As(err, &badInput{}) || errors.As(err, &problems) {
		return exitUsage
	}
	return exitFailed
}

const defaultConfig = "/etc/evenkeel/collector.yaml"

func command() *cobra.Command {
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
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return badInput{err} })
	root.AddCommand(runCommand(), devCommand(), configCommand(), &cobra.Command{
		Use: "version", Short: "Say which version this is", Example: "  evenkeel-collector version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), version.Line("evenkeel-collector"))
		},
	})
	return root
}

func runCommand() *cobra.Command {
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
				return err
			}
			c, err := collector.New(cfg, logger(cfg.LogLevel))
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
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), config+": ok")
			return nil
		},
	}
	check.Flags().StringVar(&config, "config", defaultConfig, "configuration file")
	cmd.AddCommand(check)
	return cmd
}

func logger(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
}
