package ctl

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/version"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) killSwitchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "killswitch",
		Short:   "Stop and take back every action everywhere: on, off, status",
		Example: "  evenkeel killswitch on --reason 'network change'\n  evenkeel killswitch off",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var reason string
	set := func(name, short string, on bool) *cobra.Command {
		c := &cobra.Command{
			Use: name, Short: short, Example: "  evenkeel killswitch " + name + " --reason 'network change'", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.killSwitch(func(c *client.Client) (*operatorv1.KillSwitch, error) {
					return c.Control.SetKillSwitch(cmd.Context(), &operatorv1.SetKillSwitchRequest{On: on, Reason: reason})
				})
			},
		}
		c.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
		return c
	}
	status := &cobra.Command{
		Use: "status", Short: "Say whether it is on", Example: "  evenkeel killswitch status", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.killSwitch(func(c *client.Client) (*operatorv1.KillSwitch, error) {
				return c.Control.GetKillSwitch(cmd.Context(), &operatorv1.GetKillSwitchRequest{})
			})
		},
	}
	cmd.AddCommand(set("on", "Take back every action and allow no new one", true), set("off", "Allow actions again", false), status)
	return cmd
}

func (a *app) killSwitch(call func(*client.Client) (*operatorv1.KillSwitch, error)) error {
	return a.ask(func(c *client.Client) error {
		k, err := call(c)
		if err != nil {
			return err
		}
		return a.show(k, func(w io.Writer) {
			if !k.On {
				fmt.Fprintln(w, "kill switch is off")
				return
			}
			fmt.Fprintf(w, "kill switch is on since %s, by %s: %s\n", when(k.At), k.By, dash(k.Reason))
		})
	})
}

func (a *app) auditCommand() *cobra.Command {
	var req operatorv1.ListAuditRequest
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "The audit log: every change, command, denial and refusal",
		Example: "  evenkeel audit --limit 50\n  evenkeel audit --subject action/01K2X... -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Control.ListAudit(cmd.Context(), &req)
				if err != nil {
					return err
				}
				if len(r.Entries) == 0 {
					a.hint("the audit log holds no such entry")
				}
				return a.show(r, func(w io.Writer) {
					if len(r.Entries) == 0 {
						return
					}
					fmt.Fprintln(w, "SEQ\tAT\tWHO\tWHAT\tSUBJECT\tOUTCOME\tDETAIL")
					for _, e := range r.Entries {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, when(e.At), e.Who, e.What, e.Subject, e.Outcome, dash(e.Detail))
					}
				})
			})
		},
	}
	cmd.Flags().StringVar(&req.After, "after", "", "only entries after this sequence number")
	cmd.Flags().Int32Var(&req.Limit, "limit", 100, "how many, newest last")
	cmd.Flags().StringVar(&req.Subject, "subject", "", "of this subject only")
	cmd.AddCommand(a.auditVerifyCommand())
	return cmd
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which versions speak to each other", Example: "  evenkeel version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.output == "table" {
				fmt.Fprintln(a.Out, version.Line("evenkeel"))
			}
			c, _, err := a.connect()
			if err != nil {
				if a.output == "table" && errors.Is(err, client.ErrNoContext) {
					return nil // nothing to ask is no failure of asking for one's own version
				}
				return err
			}
			defer c.Close()
			r, err := c.Control.GetVersion(cmd.Context(), &operatorv1.GetVersionRequest{})
			if err != nil {
				return err
			}
			return a.show(r, func(w io.Writer) {
				fmt.Fprintf(w, "collector %s (%s, %s), cluster %s, up since %s\n", r.Version, r.Revision, r.Go, r.ClusterId, when(r.StartedAt))
				fmt.Fprintf(w, "CA pin, for evenkeel login: %s\n", r.CaPin)
			})
		},
	}
}
