package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) actionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "action",
		Short:   "The actions: list, show, explain, approve, deny, cancel, watch",
		Long:    "The actions: list, show, explain, approve, deny, cancel, watch.\n\nOf an id its end is enough: the last six characters or more, in either case.",
		Example: "  evenkeel action list\n  evenkeel action approve 01K2X...",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var phase, host, incident string
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List actions, newest first", Example: "  evenkeel action list --phase active", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Actions.ListActions(cmd.Context(), &operatorv1.ListActionsRequest{Phase: phase, Host: host, Incident: incident})
				if err != nil {
					return err
				}
				if len(r.Actions) == 0 {
					a.hint("no action: evenkeel incident list shows what could call for one")
				}
				for _, x := range r.Actions {
					if x.Phase == "awaiting approval" {
						defer a.hint("%s waits for you: evenkeel action explain %s, then approve or deny", x.Id, x.Id)
						break
					}
				}
				return a.show(r, func(w io.Writer) {
					if len(r.Actions) == 0 {
						return
					}
					fmt.Fprintln(w, "ID\tPHASE\tHOST\tACTION\tON\tTO\tPROTECTS\tLEASE UNTIL\tREASON")
					for _, x := range r.Actions {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Id, x.Phase, x.Host, x.Name, x.Component, x.Value, dash(x.Protects), when(x.LeaseUntil), dash(x.Reason))
					}
				})
			})
		},
	}
	list.Flags().StringVar(&phase, "phase", "", "proposed, 'awaiting approval', running, active, reverted, refused, failed or done")
	list.Flags().StringVar(&host, "host", "", "on this host only")
	list.Flags().StringVar(&incident, "incident", "", "of this incident only")
	show := &cobra.Command{
		Use: "show ID", Short: "Show one action with its timeline", Example: "  evenkeel action show 01K2X...", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneAction(func(c *client.Client) (*operatorv1.Action, error) {
				id, err := actionID(cmd.Context(), c, args[0])
				if err != nil {
					return nil, err
				}
				return c.Actions.GetAction(cmd.Context(), &operatorv1.GetActionRequest{Id: id})
			})
		},
	}
	explain := &cobra.Command{
		Use: "explain ID", Short: "Every candidate, its contribution and value, and each gate's verdict", Example: "  evenkeel action explain 01K2X...", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneExplanation(func(c *client.Client) (*operatorv1.Explanation, error) {
				id, err := actionID(cmd.Context(), c, args[0])
				if err != nil {
					return nil, err
				}
				return c.Actions.ExplainAction(cmd.Context(), &operatorv1.GetActionRequest{Id: id})
			})
		},
	}
	var reason, hash, key, passphraseFile string
	var yes bool
	decide := func(use, short, example string, call func(*cobra.Command, *client.Client, *operatorv1.DecideActionRequest) (*operatorv1.Action, error)) *cobra.Command {
		d := &cobra.Command{
			Use: use + " ID", Short: short, Example: example, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.oneAction(func(c *client.Client) (*operatorv1.Action, error) {
					id, err := actionID(cmd.Context(), c, args[0])
					if err != nil {
						return nil, err
					}
					req := &operatorv1.DecideActionRequest{Id: id, Reason: reason, CommandHash: hash}
					if use == "approve" && (hash == "" || key != "") {
						shown, err := c.Actions.GetAction(cmd.Context(), &operatorv1.GetActionRequest{Id: id})
						if err != nil {
							return nil, err
						}
						req.CommandHash = shown.CommandHash
						if key != "" {
							private, err := a.openApprover(key, passphraseFile)
							if err != nil {
								return nil, err
							}
							if req, err = a.signApproval(shown, private, hash, yes); err != nil {
								return nil, err
							}
							req.Reason = reason
						}
					}
					return call(cmd, c, req)
				})
			},
		}
		d.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
		return d
	}
	approve := decide("approve", "Approve exactly the command shown", "  evenkeel action approve 01K2X...", func(cmd *cobra.Command, c *client.Client, r *operatorv1.DecideActionRequest) (*operatorv1.Action, error) {
		return c.Actions.ApproveAction(cmd.Context(), r)
	})
	approve.Flags().StringVar(&hash, "hash", "", "the command hash that you saw; without it, that of the action now")
	approve.Flags().StringVar(&key, "key", "", "`file` of an approver's key that signs the command, where its host wants one")
	approve.Flags().StringVar(&passphraseFile, "passphrase-file", "", "`file` with the key's passphrase, - for standard input")
	approve.Flags().BoolVar(&yes, "yes", false, "sign what is shown, without naming its hash")
	deny := decide("deny", "Deny an action that waits for approval", "  evenkeel action deny 01K2X... --reason 'month end'", func(cmd *cobra.Command, c *client.Client, r *operatorv1.DecideActionRequest) (*operatorv1.Action, error) {
		return c.Actions.DenyAction(cmd.Context(), r)
	})
	cancel := decide("cancel", "Take an action back, applied or not", "  evenkeel action cancel 01K2X...", func(cmd *cobra.Command, c *client.Client, r *operatorv1.DecideActionRequest) (*operatorv1.Action, error) {
		return c.Actions.CancelAction(cmd.Context(), r)
	})
	watch := &cobra.Command{
		Use: "watch", Short: "Print actions as they change, until interrupted", Example: "  evenkeel action watch -o json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				s, err := c.Actions.WatchActions(cmd.Context(), &operatorv1.ListActionsRequest{Phase: phase, Host: host, Incident: incident})
				if err != nil {
					return err
				}
				return receive(cmd.Context(), s, func(x *operatorv1.Action) error {
					return a.stream(x, func(w io.Writer) { fmt.Fprintf(w, "%s  %s  %s  %s\n", x.Id, x.Phase, x.Text, x.Reason) })
				})
			})
		},
	}
	watch.Flags().StringVar(&host, "host", "", "on this host only")
	cmd.AddCommand(list, show, explain, approve, deny, cancel, watch)
	return cmd
}

func (a *app) oneAction(call func(*client.Client) (*operatorv1.Action, error)) error {
	return a.ask(func(c *client.Client) error {
		x, err := call(c)
		if err != nil {
			return err
		}
		return a.show(x, func(w io.Writer) {
			row := func(name, value string) { fmt.Fprintf(w, "%s:\t%s\n", name, dash(value)) }
			row("action", x.Id)
			row("what", x.Text)
			row("phase", x.Phase+" ("+x.State+")")
			row("reason", x.Reason)
			row("host", x.Host)
			row("command", fmt.Sprintf("%s %s to %s, risk %s", x.Name, x.Target, x.Value, x.Risk))
			row("prior value", x.Prior)
			row("squeezes", x.Component)
			row("protects", x.Protects)
			row("effect", x.Effect)
			row("lease until", when(x.LeaseUntil))
			row("policy", x.Policy+", mode "+x.Mode)
			row("incident", x.Incident)
			row("fence", x.Fence)
			row("command hash", x.CommandHash)
			if x.NeedsKey {
				row("signatures", "a collector's, and that of an approver whom the host lists: "+dash(strings.Join(x.Approvers, ", ")))
			}
			timeline(w, x.Timeline)
		})
	})
}
