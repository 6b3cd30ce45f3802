package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/agent"
)

// maxJoin bounds what is read as a join string.
const maxJoin = 64 << 10

func (a *app) enroll() *cobra.Command {
	var joinFile, name string
	cmd := &cobra.Command{
		Use: "enroll --join-file FILE|-", Short: "Join a collector's cluster with a join string", Args: cobra.NoArgs,
		Long: `Join a collector's cluster with a join string.

"evenkeel token create" prints the string. It holds the collector's address, the pin
of its CA and a secret, so it is read from a file or from standard input, never from
the command line. The key is made here and never leaves this host. A second run on a
host that is enrolled changes nothing and succeeds.`,
		Example: `  evenkeel-agent enroll --join-file join.txt
  evenkeel token create | ssh web-1 evenkeel-agent enroll --join-file -
  evenkeel-agent enroll --join-file join.txt --name web-1 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if joinFile == "" {
				return usage("--join-file is missing: name the file with the join string, or - for standard input")
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			in := a.in
			if joinFile != "-" {
				f, err := os.Open(joinFile)
				if err != nil {
					return usage("cannot read the join string: %w", err)
				}
				defer func() { _ = f.Close() }()
				in = f
			}
			join, err := io.ReadAll(io.LimitReader(in, maxJoin))
			if err != nil {
				return usage("cannot read the join string: %w", err)
			}
			e, already, err := agent.Enrol(cmd.Context(), agent.EnrolRequest{Config: cfg, Join: string(join), Name: name})
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(struct {
					agent.Enrolment
					Already bool `json:"already"`
				}{e, already})
			}
			word := "enrolled"
			if already {
				word = "already enrolled"
			}
			_, err = fmt.Fprintf(a.out, "%s as %s at %s; signing root %s, put it in permissions.yaml\n", word, e.Host, e.Collector, e.SigningRoot)
			return err
		},
	}
	cmd.Flags().StringVar(&joinFile, "join-file", "", "`FILE` with the join string, - for standard input")
	cmd.Flags().StringVar(&name, "name", "", "the host's `NAME` in the cluster; without it, its host name")
	a.outputFlag(cmd)
	return cmd
}
