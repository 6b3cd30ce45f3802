package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) hostCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "host",
		Short:   "The hosts: list, show, admit, revoke",
		Example: "  evenkeel host list\n  evenkeel host show web-1",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var selector string
	list := &cobra.Command{
		Use: "list", Short: "List the hosts", Aliases: []string{"ls"}, Example: "  evenkeel host list -l env=prod", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Hosts.ListHosts(cmd.Context(), &operatorv1.ListHostsRequest{Selector: selector})
				if err != nil {
					return err
				}
				switch {
				case len(r.Hosts) > 0:
				case selector != "":
					a.hint("no host has the labels %s: evenkeel host list shows all", selector)
				default:
					a.hint("no host yet: evenkeel token create writes a join string for evenkeel-agent enroll")
				}
				for _, h := range r.Hosts {
					if h.State == "pending" {
						defer a.hint("%s waits to be let in: evenkeel host admit %s", h.Name, h.Name)
						break
					}
				}
				return a.show(r, func(w io.Writer) { hostTable(w, r.Hosts) })
			})
		},
	}
	list.Flags().StringVarP(&selector, "selector", "l", "", "labels, such as env=prod,role=web")
	show := &cobra.Command{
		Use: "show HOST", Short: "Show one host with its verdicts", Example: "  evenkeel host show web-1", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneHost(func(c *client.Client) (*operatorv1.Host, error) {
				return c.Hosts.GetHost(cmd.Context(), &operatorv1.GetHostRequest{Name: args[0]})
			})
		},
	}
	admit := &cobra.Command{
		Use: "admit HOST", Short: "Admit a host that waits", Example: "  evenkeel host admit web-1", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneHost(func(c *client.Client) (*operatorv1.Host, error) {
				return c.Hosts.AdmitHost(cmd.Context(), &operatorv1.AdmitHostRequest{Name: args[0]})
			})
		},
	}
	var reason string
	revoke := &cobra.Command{
		Use: "revoke HOST", Short: "Revoke a host's certificate and end its session", Example: "  evenkeel host revoke web-1 --reason stolen", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneHost(func(c *client.Client) (*operatorv1.Host, error) {
				return c.Hosts.RevokeHost(cmd.Context(), &operatorv1.RevokeHostRequest{Name: args[0], Reason: reason})
			})
		},
	}
	revoke.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	cmd.AddCommand(list, show, admit, revoke)
	return cmd
}

func (a *app) oneHost(call func(*client.Client) (*operatorv1.Host, error)) error {
	return a.ask(func(c *client.Client) error {
		h, err := call(c)
		if err != nil {
			return err
		}
		return a.show(h, func(w io.Writer) { hostDetail(w, h) })
	})
}

func hostTable(w io.Writer, hosts []*operatorv1.Host) {
	if len(hosts) == 0 {
		return
	}
	fmt.Fprintln(w, "HOST\tLEVEL\tREACH\tSTATE\tACTOR\tSERIES\tLAST SAMPLE\tLABELS")
	for _, h := range hosts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", h.Name, dash(h.Level), dash(h.Reach), h.State, actorWord(h.Actor), h.Series, when(h.LastSample), dash(labels(h.Labels)))
	}
}

func actorWord(a *operatorv1.Actor) string {
	switch {
	case !a.GetPresent():
		return "none"
	case a.Killed:
		return "killed"
	case a.Problem != "":
		return "denies all"
	}
	return "up to " + a.MaxRisk
}

func hostDetail(w io.Writer, h *operatorv1.Host) {
	row := func(name, value string) { fmt.Fprintf(w, "%s:\t%s\n", name, dash(value)) }
	row("host", h.Name)
	row("level", h.Level)
	row("reach", h.Reach+" since "+when(h.Since))
	row("state", h.State)
	row("labels", labels(h.Labels))
	row("system", strings.TrimSpace(fmt.Sprintf("%s, kernel %s, %d CPUs, %s, cgroup %s", h.Os, h.Kernel, h.Cpus, h.Memory, h.Cgroup)))
	row("agent", h.AgentVersion)
	row("certificate until", when(h.CertificateExpires))
	row("clock skew", h.ClockSkew)
	row("last sample", when(h.LastSample))
	row("actor", actorWord(h.Actor))
	if p := h.Actor.GetProblem(); p != "" {
		row("actor problem", p)
	}
	for _, action := range h.Actor.GetActions() {
		row("permits", action)
	}
	if len(h.Verdicts) > 0 {
		fmt.Fprintln(w, "\nDETECTOR\tSUBJECT\tSTATE\tLEVEL\tSINCE\tEVIDENCE")
		for _, v := range h.Verdicts {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", v.Detector, dash(v.Subject), v.State, v.Level, when(v.Since), dash(v.Evidence))
		}
	}
}
