package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func join(s []string) string { return dash(strings.Join(s, ", ")) }

func (a *app) incidentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "incident",
		Short:   "The incidents: list, show, explain, ack, watch",
		Long:    "The incidents: list, show, explain, ack, watch.\n\nOf an id its end is enough: the last six characters or more, in either case.",
		Example: "  evenkeel incident list\n  evenkeel incident explain 01K2X...",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var state, host string
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List incidents, newest first", Example: "  evenkeel incident list --state open", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Incidents.ListIncidents(cmd.Context(), &operatorv1.ListIncidentsRequest{State: state, Host: host})
				if err != nil {
					return err
				}
				if len(r.Incidents) == 0 {
					a.hint("no incident: evenkeel map shows the health of everything")
				}
				return a.show(r, func(w io.Writer) {
					if len(r.Incidents) == 0 {
						return
					}
					fmt.Fprintln(w, "ID\tSTATE\tLEVEL\tTITLE\tSERVICES\tPER HOUR\tCOST\tOPENED")
					for _, i := range r.Incidents {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Id, i.State, i.Level, i.Title, join(i.Services), dash(i.PerHour), dash(i.CostSoFar), when(i.OpenedAt))
					}
				})
			})
		},
	}
	list.Flags().StringVar(&state, "state", "", "open, acknowledged, mitigating or resolved")
	list.Flags().StringVar(&host, "host", "", "of this host only")
	show := &cobra.Command{
		Use: "show ID", Short: "Show one incident with its timeline", Example: "  evenkeel incident show 01K2X...", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneIncident(func(c *client.Client) (*operatorv1.Incident, error) {
				id, err := incidentID(cmd.Context(), c, args[0])
				if err != nil {
					return nil, err
				}
				return c.Incidents.GetIncident(cmd.Context(), &operatorv1.GetIncidentRequest{Id: id})
			})
		},
	}
	explain := &cobra.Command{
		Use: "explain ID", Short: "Say what was seen, considered, done and not done, and why", Example: "  evenkeel incident explain 01K2X...", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneExplanation(func(c *client.Client) (*operatorv1.Explanation, error) {
				id, err := incidentID(cmd.Context(), c, args[0])
				if err != nil {
					return nil, err
				}
				return c.Incidents.ExplainIncident(cmd.Context(), &operatorv1.GetIncidentRequest{Id: id})
			})
		},
	}
	var note string
	ack := &cobra.Command{
		Use: "ack ID", Short: "Say that you are on it", Example: "  evenkeel incident ack 01K2X... --note 'looking at the batch job'", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.oneIncident(func(c *client.Client) (*operatorv1.Incident, error) {
				id, err := incidentID(cmd.Context(), c, args[0])
				if err != nil {
					return nil, err
				}
				return c.Incidents.AcknowledgeIncident(cmd.Context(), &operatorv1.AcknowledgeIncidentRequest{Id: id, Note: note})
			})
		},
	}
	ack.Flags().StringVar(&note, "note", "", "what others should know")
	watch := &cobra.Command{
		Use: "watch", Short: "Print incidents as they change, until interrupted", Example: "  evenkeel incident watch -o json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				s, err := c.Incidents.WatchIncidents(cmd.Context(), &operatorv1.ListIncidentsRequest{State: state, Host: host})
				if err != nil {
					return err
				}
				return receive(cmd.Context(), s, func(i *operatorv1.Incident) error {
					return a.stream(i, func(w io.Writer) { fmt.Fprintf(w, "%s  %s  %s  %s\n", i.Id, i.State, i.Level, i.Title) })
				})
			})
		},
	}
	watch.Flags().StringVar(&host, "host", "", "of this host only")
	cmd.AddCommand(list, show, explain, ack, watch)
	return cmd
}

func (a *app) oneIncident(call func(*client.Client) (*operatorv1.Incident, error)) error {
	return a.ask(func(c *client.Client) error {
		i, err := call(c)
		if err != nil {
			return err
		}
		return a.show(i, func(w io.Writer) {
			row := func(name, value string) { fmt.Fprintf(w, "%s:\t%s\n", name, dash(value)) }
			row("incident", i.Id)
			row("title", i.Title)
			row("state", i.State)
			row("level", i.Level)
			row("cause", i.Cause)
			row("host", i.Host)
			row("services", strings.Join(i.Services, ", "))
			if i.PerHour != "" {
				row("at risk", i.PerHour+"/h")
			}
			row("cost so far", i.CostSoFar)
			row("opened", when(i.OpenedAt))
			row("resolved", when(i.ResolvedAt))
			row("acknowledged by", i.AcknowledgedBy)
			row("actions", strings.Join(i.Actions, ", "))
			timeline(w, i.Timeline)
		})
	})
}

func timeline(w io.Writer, events []*operatorv1.Event) {
	if len(events) == 0 {
		return
	}
	fmt.Fprintln(w, "\nAT\tWHO\tWHAT")
	for _, e := range events {
		fmt.Fprintf(w, "%s\t%s\t%s\n", when(e.At), dash(e.Actor), e.What)
	}
}

func (a *app) oneExplanation(call func(*client.Client) (*operatorv1.Explanation, error)) error {
	return a.ask(func(c *client.Client) error {
		e, err := call(c)
		if err != nil {
			return err
		}
		return a.show(e, func(w io.Writer) {
			fmt.Fprintf(w, "%s\n%s\n", e.Ref, e.Text)
			if len(e.Candidates) > 0 {
				fmt.Fprintln(w, "\nCANDIDATE\tCONTRIBUTES\tVALUE\tON THE MAP\tLIMITABLE\tCHOSEN\tWHY")
				for _, c := range e.Candidates {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Component, dash(c.Contribution), dash(c.Value), yes(c.OnMap), yes(c.Limitable), yes(c.Chosen), c.Why)
				}
			}
			if len(e.Gates) > 0 {
				fmt.Fprintln(w, "\nGATE\tOPEN\tWHY")
				for _, g := range e.Gates {
					fmt.Fprintf(w, "%s\t%s\t%s\n", g.Name, yes(g.Open), g.Text)
				}
			}
			timeline(w, e.Timeline)
		})
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
