package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/agent/traffic/agentcheck"
)

// agentCheckCommand is a program of its own in the actor's binary: it needs no right, no settings and no permission, and
// runs as its own unit under a user of its own.
func agentCheckCommand() *cobra.Command {
	var listen, name, dir string
	var farewell time.Duration
	c := &cobra.Command{
		Use: "agent-check --listen ADDRESS:PORT", Short: "tell load balancers which share of its weight to give this host", Args: cobra.NoArgs,
		Long: "agent-check answers HAProxy's agent-check with what agentcheck.weight holds on this host: a percentage and a newline.\n" +
			"It runs as a unit of its own, apart from the actor, which has no listening port. Without --name HAProxy must say which\n" +
			"server it asks for (agent-send \"web-1\\n\"). Where nothing is held, or the actor has been gone for ten seconds, it\n" +
			"answers 100%. HAProxy keeps the last answer of a responder that dies: one that is stopped says 100% before it goes.",
		Example: "  evenkeel-actor agent-check --listen 10.0.0.7:8426 --name web-1\n  evenkeel-actor agent-check --listen 10.0.0.7:8426 --farewell 10s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := agentcheck.Address(listen); err != nil {
				return withCode(exitUsage, fmt.Errorf("--listen: %w", err))
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return withCode(exitFailed, err)
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			log.Info("agent check answers", "address", listen, "dir", dir, "name", name)
			return withCode(exitFailed, agentcheck.Responder{Dir: dir, Name: name, Farewell: farewell, Log: log}.Serve(cmd.Context(), l))
		},
	}
	c.Flags().StringVar(&listen, "listen", "", "`address` and port to listen on; no wildcard")
	c.Flags().StringVar(&name, "name", "", "`name` to answer for, whatever is sent")
	c.Flags().StringVar(&dir, "dir", agentcheck.DefaultDir, "`folder` that the actor writes")
	c.Flags().DurationVar(&farewell, "farewell", 5*time.Second, "`time` to answer 100% for after being asked to stop; longer than HAProxy's agent-inter")
	return c
}
