package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "The keys that sign commands: list, revoke, rotate",
		Long: `The keys that sign commands: list, revoke, rotate.

A revocation can only take trust away: it is pushed to every host whose actor is there, now or later, and only the host's owner
can believe the key again. It can also be written down beforehand, under revoked in the permissions file.`,
		Example: "  evenkeel key list\n  evenkeel key revoke 3f9c0a7be1d25a64 --reason 'laptop lost'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the key that signs now, approvers' keys and revoked ones", Example: "  evenkeel key list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Keys.ListKeys(cmd.Context(), &operatorv1.ListKeysRequest{})
				if err != nil {
					return err
				}
				return a.show(r, func(w io.Writer) {
					fmt.Fprintln(w, "ID\tUSE\tOWNER\tUNTIL\tREVOKED\tBY\tREASON\tCONFIRMED BY")
					for _, k := range r.Keys {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Id, k.Use, dash(k.Owner), when(k.NotAfter), when(k.RevokedAt), dash(k.RevokedBy), dash(k.Reason),
							dash(strings.Join(k.Hosts, ",")))
					}
				})
			})
		},
	}
	var reason string
	one := func(call func(*client.Client) (*operatorv1.Key, error), say string) error {
		return a.ask(func(c *client.Client) error {
			k, err := call(c)
			if err != nil {
				return err
			}
			return a.show(k, func(w io.Writer) { fmt.Fprintf(w, say+"\n", k.Id) })
		})
	}
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "Have every host believe a key no more, for good", Example: "  evenkeel key revoke 3f9c0a7be1d25a64 --reason 'laptop lost'", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return one(func(c *client.Client) (*operatorv1.Key, error) {
				return c.Keys.RevokeKey(cmd.Context(), &operatorv1.RevokeKeyRequest{Id: args[0], Reason: reason})
			}, "key %s is revoked; evenkeel key list says which hosts have confirmed it")
		},
	}
	rotate := &cobra.Command{
		Use: "rotate", Short: "Have the collector sign with a new key from now on", Example: "  evenkeel key rotate", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return one(func(c *client.Client) (*operatorv1.Key, error) {
				return c.Keys.RotateKey(cmd.Context(), &operatorv1.RotateKeyRequest{Reason: reason})
			}, "key %s signs now; the former one is believed until it expires or is revoked")
		},
	}
	for _, c := range []*cobra.Command{revoke, rotate} {
		c.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	}
	cmd.AddCommand(list, revoke, rotate)
	return cmd
}
