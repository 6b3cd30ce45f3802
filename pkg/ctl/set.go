package ctl

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) setCommand() *cobra.Command {
	var req operatorv1.SetLevelRequest
	cmd := &cobra.Command{
		Use:   "set [REF LEVEL]",
		Short: "Set the level of a part by hand for a while; without arguments: list what is set",
		Long: `Set the level of a part by hand for a while; without arguments: list what is set.

On a leaf, such as component/web@web-1, the level takes the place of all that is measured of it. On what rests on others it is
one more input and hides nothing. It ends at --until, or after --for, at most 7 days from now, or by evenkeel unset. It is in
the audit log, and evenkeel map says who set it and why.`,
		Example: `  evenkeel set component/db critical --for 2h --reason 'vendor is replacing the disk shelf'
  evenkeel set component/web@web-1 ok --until 2026-11-25T18:00:00Z --reason 'check is wrong, ticket 4711'
  evenkeel set`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("expected REF and LEVEL, such as component/db critical, or nothing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if cmd.Flags().Changed("until") || cmd.Flags().Changed("for") || cmd.Flags().Changed("reason") {
					return usage("say what to set: evenkeel set REF LEVEL")
				}
				return a.listSet(cmd)
			}
			if (req.Until == "") == (req.For == "") {
				return usage("say until when: exactly one of --until TIME and --for DURATION, at most 7 days from now")
			}
			if req.Reason == "" {
				return usage("say why: --reason TEXT, for those who see it and for the audit log")
			}
			if req.Until != "" {
				if _, err := time.Parse(time.RFC3339, req.Until); err != nil {
					return usage("--until %s: expected RFC 3339, such as 2026-11-25T18:00:00Z", req.Until)
				}
			}
			req.Ref, req.Level = args[0], args[1]
			return a.ask(func(c *client.Client) error {
				r, err := c.Signals.SetLevel(cmd.Context(), &req)
				if err != nil {
					return err
				}
				return a.show(r, func(w io.Writer) {
					fmt.Fprintf(w, "%s is set to %s until %s\n", r.Set.Ref, r.Set.Level, when(r.Set.Until))
				})
			})
		},
	}
	cmd.Flags().StringVar(&req.Until, "until", "", "when it ends, RFC 3339")
	cmd.Flags().StringVar(&req.For, "for", "", "how long it lasts, such as 30m, 2h or 1d")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why")
	return cmd
}

func (a *app) listSet(cmd *cobra.Command) error {
	return a.ask(func(c *client.Client) error {
		r, err := c.Signals.ListSetLevels(cmd.Context(), &operatorv1.ListSetLevelsRequest{})
		if err != nil {
			return err
		}
		if len(r.Set) == 0 {
			a.hint("nothing is set by hand")
		}
		return a.show(r, func(w io.Writer) {
			if len(r.Set) == 0 {
				return
			}
			fmt.Fprintln(w, "REF\tLEVEL\tUNTIL\tBY\tREASON")
			for _, s := range r.Set {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Ref, s.Level, when(s.Until), s.By, s.Reason)
			}
		})
	})
}

func (a *app) unsetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unset REF", Short: "End what was set by hand: the part is what is measured again", Example: "  evenkeel unset component/db", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Signals.UnsetLevel(cmd.Context(), &operatorv1.UnsetLevelRequest{Ref: args[0]})
				if err != nil {
					return err
				}
				return a.show(r, func(w io.Writer) {
					fmt.Fprintf(w, "%s is no longer set to %s by %s\n", r.Unset.Ref, r.Unset.Level, r.Unset.By)
				})
			})
		},
	}
}
