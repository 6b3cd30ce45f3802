package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func join(s []string) string { return dash(strings.Join(s, ", ")) }

func (a *app) incidentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "incident",
		Short:   "The incidents: list, show, explain, ack, hold, resume, link, times, watch",
		Long:    "The incidents: list, show, explain, ack, hold, resume, link, times, watch.\n\nOf an id its end is enough: the last six characters or more, in either case.",
		Example: "  evenkeel incident list\n  evenkeel incident explain 01K2X...",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var inState, host string
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List incidents, newest first", Example: "  evenkeel incident list --state open", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Incidents.ListIncidents(cmd.Context(), &operatorv1.ListIncidentsRequest{State: inState, Host: host})
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
					fmt.Fprintln(w, "ID\tPRIORITY\tSTATE\tLEVEL\tTITLE\tSERVICES\tPER HOUR\tCOST\tOPENED")
					for _, i := range r.Incidents {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Id, i.Priority, state(i), i.Level, i.Title, join(i.Services), dash(i.PerHour), dash(i.CostSoFar), when(i.OpenedAt))
					}
				})
			})
		},
	}
	list.Flags().StringVar(&inState, "state", "", "open, acknowledged, mitigating or resolved")
	list.Flags().StringVar(&host, "host", "", "of this host only")
	show := &cobra.Command{
		Use: "show ID", Short: "Show one incident with its timeline", Example: "  evenkeel incident show 01K2X...", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeIncident(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, id string) (*operatorv1.Incident, error) {
				return c.Incidents.GetIncident(ctx, &operatorv1.GetIncidentRequest{Id: id})
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
			return a.changeIncident(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, id string) (*operatorv1.Incident, error) {
				return c.Incidents.AcknowledgeIncident(ctx, &operatorv1.AcknowledgeIncidentRequest{Id: id, Note: note})
			})
		},
	}
	ack.Flags().StringVar(&note, "note", "", "what others should know")
	watch := &cobra.Command{
		Use: "watch", Short: "Print incidents as they change, until interrupted", Example: "  evenkeel incident watch -o json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				s, err := c.Incidents.WatchIncidents(cmd.Context(), &operatorv1.ListIncidentsRequest{State: inState, Host: host})
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
	var reason string
	hold := &cobra.Command{
		Use: "hold ID --reason TEXT", Short: "Say that it waits for somebody else; the time counts for no target",
		Example: "  evenkeel incident hold 01K2X... --reason 'waits for the vendor, case 4711'", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeIncident(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, id string) (*operatorv1.Incident, error) {
				return c.Incidents.HoldIncident(ctx, &operatorv1.HoldIncidentRequest{Id: id, Reason: reason})
			})
		},
	}
	hold.Flags().StringVar(&reason, "reason", "", "what it waits for")
	resume := &cobra.Command{
		Use: "resume ID", Short: "End a hold", Example: "  evenkeel incident resume 01K2X...", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeIncident(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, id string) (*operatorv1.Incident, error) {
				return c.Incidents.ResumeIncident(ctx, &operatorv1.ResumeIncidentRequest{Id: id})
			})
		},
	}
	link := &cobra.Command{
		Use: "link ID TICKET", Short: "Note the ticket that stands for it elsewhere", Example: "  evenkeel incident link 01K2X... INC0012345", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeIncident(cmd.Context(), args[0], func(ctx context.Context, c *client.Client, id string) (*operatorv1.Incident, error) {
				return c.Incidents.LinkIncident(ctx, &operatorv1.LinkIncidentRequest{Id: id, External: args[1]})
			})
		},
	}
	var f assumptions
	times := &cobra.Command{
		Use: "times", Short: "How long it took to detect, to take on and to restore, by service and by cause", Example: "  evenkeel incident times", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.reason(cmd.Context(), "times", &f, nil, &incidentTimes{})
		},
	}
	cmd.AddCommand(list, show, explain, ack, hold, resume, link, times, watch)
	return cmd
}

// changeIncident asks something about one incident, of which an end of the id is enough, and shows it.
func (a *app) changeIncident(ctx context.Context, end string, call func(context.Context, *client.Client, string) (*operatorv1.Incident, error)) error {
	return a.oneIncident(func(c *client.Client) (*operatorv1.Incident, error) {
		id, err := incidentID(ctx, c, end)
		if err != nil {
			return nil, err
		}
		return call(ctx, c, id)
	})
}

// incidentTimes is the JSON of the question times.
type incidentTimes struct{ Services, Causes []incidentTook }

type incidentTook struct {
	Ref                                  string
	Incidents                            int
	Detect, Acknowledge, Restore, Median string
}

func (t *incidentTimes) table(w io.Writer) {
	if len(t.Causes) == 0 {
		fmt.Fprintln(w, "there was no incident")
		return
	}
	for _, part := range []struct {
		name string
		of   []incidentTook
	}{{"SERVICE", t.Services}, {"CAUSE", t.Causes}} {
		fmt.Fprintf(w, "%s\tINCIDENTS\tDETECT\tTAKE ON\tRESTORE\tMEDIAN\n", part.name)
		for _, o := range part.of {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", o.Ref, o.Incidents, dash(o.Detect), dash(o.Acknowledge), dash(o.Restore), dash(o.Median))
		}
	}
}

// state is an incident's state for people.
func state(i *operatorv1.Incident) string {
	if i.OnHold {
		return i.State + ", on hold"
	}
	return i.State
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
			row("state", state(i))
			row("level", i.Level)
			row("priority", i.Priority)
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
			if n := len(i.Holds); i.OnHold && n > 0 {
				row("on hold", i.Holds[n-1].Reason)
			}
			row("ticket", i.External)
			row("actions", strings.Join(i.Actions, ", "))
			if err := alsoAnswered(w, i); err != nil {
				fmt.Fprintf(w, "\n%v\n", err)
			}
			timeline(w, i.Timeline)
		})
	})
}

// alsoAnswered shows whom to call and what to mend first, where the collector told.
func alsoAnswered(w io.Writer, i *operatorv1.Incident) error {
	for _, part := range []struct {
		answer *structpb.Struct
		in     tabled
	}{{i.Contacts, &contactsAnswer{}}, {i.Plan, &recoveryPlan{}}} {
		if part.answer == nil {
			continue
		}
		text, err := protojson.Marshal(part.answer)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, part.in); err != nil {
			return err
		}
		fmt.Fprintln(w)
		part.in.table(w)
	}
	return nil
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
				fmt.Fprintln(w, "\nCANDIDATE\tCONTRIBUTES\tVALUE\tWITHOUT IT\tON THE MAP\tLIMITABLE\tCHOSEN\tWHY")
				for _, c := range e.Candidates {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Component, dash(c.Contribution), dash(c.Value), dash(c.Loss), yes(c.OnMap), yes(c.Limitable), yes(c.Chosen), c.Why)
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
