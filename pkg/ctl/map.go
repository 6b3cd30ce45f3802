package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func (a *app) mapCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "map [REF]",
		Short: "The service map with its health, and the causes beneath what is bad",
		Example: `  evenkeel map
  evenkeel map service/checkout
  evenkeel map --watch -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &operatorv1.GetMapRequest{}
			if len(args) == 1 {
				req.Root = args[0]
			}
			return a.ask(func(c *client.Client) error {
				if watch {
					s, err := c.Map.WatchMap(cmd.Context(), req)
					if err != nil {
						return err
					}
					return receive(cmd.Context(), s, func(m *operatorv1.Map) error {
						return a.stream(m, func(w io.Writer) { mapSummary(w, m) })
					})
				}
				m, err := c.Map.GetMap(cmd.Context(), req)
				if err != nil {
					return err
				}
				if len(m.Nodes) == 0 {
					a.hint("the map is empty: evenkeel apply -f FILE draws it")
				}
				return a.show(m, func(w io.Writer) { mapTree(w, m, req.Root) })
			})
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print each change")
	cmd.AddCommand(a.mapInitCommand())
	return cmd
}

func mapTree(w io.Writer, m *operatorv1.Map, root string) {
	if len(m.Nodes) == 0 {
		return
	}
	nodes := map[string]*operatorv1.Node{}
	child := map[string]bool{}
	for _, n := range m.Nodes {
		nodes[n.Ref] = n
		for _, in := range n.Why.GetInputs() {
			child[in.Ref] = true
		}
	}
	fmt.Fprintln(w, "NODE\tHEALTH\tVALUE\tWHY")
	var draw func(ref, indent string, depth int)
	draw = func(ref, indent string, depth int) {
		n := nodes[ref]
		if n == nil || depth > 32 {
			return
		}
		name := n.Ref
		if n.Title != "" {
			name += " (" + n.Title + ")"
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\n", indent, name, span(n.Low, n.High), dash(n.Value), n.Why.GetText())
		for _, in := range n.Why.GetInputs() {
			draw(in.Ref, indent+"  ", depth+1)
		}
	}
	if root != "" {
		draw(root, "", 0)
	} else {
		for _, n := range m.Nodes {
			if !child[n.Ref] {
				draw(n.Ref, "", 0)
			}
		}
	}
	if len(m.Causes) > 0 {
		fmt.Fprintln(w, "\nCAUSE\tLEVEL\tSERVICES\tCOSTS")
		for _, c := range m.Causes {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", causeName(c.Ref, c.NotInMap), c.Level, join(c.Services), costs(c.PerHour, c.Unit))
		}
	}
	for _, p := range m.Problems {
		fmt.Fprintf(w, "problem: %s\n", p.Text)
	}
}

// causeName writes a cause: a service that is bad while all its parts are well has a cause that nobody has put on the map.
func causeName(ref string, notInMap bool) string {
	if notInMap {
		return ref + " (not in the map)"
	}
	return ref
}

// costs writes a loss per hour; what has no value is unranked.
func costs(perHour, unit string) string {
	if perHour == "" {
		return "unranked"
	}
	return perHour + " " + unit + "/h"
}

func mapSummary(w io.Writer, m *operatorv1.Map) {
	bad := 0
	for _, n := range m.Nodes {
		if n.High != "ok" {
			bad++
			fmt.Fprintf(w, "%s  %s  %s  %s\n", when(m.At), n.Ref, span(n.Low, n.High), n.Why.GetText())
		}
	}
	if bad == 0 {
		fmt.Fprintf(w, "%s  everything is ok (%d on the map)\n", when(m.At), len(m.Nodes))
	}
}
