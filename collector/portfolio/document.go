package portfolio

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/document"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Document returns the portfolio as a reader sees it.
func (p *Portfolio) Document() document.Document {
	var rows [][]string
	line := func(name, owner, level string, f *Figures, uncovered string) {
		rows = append(rows, []string{
			name, owner, level, amounts(f.AtRisk), amounts(f.Losing), amounts(f.Cost), amounts(f.LastCost), amounts(f.Trend), uncovered,
		})
	}
	for i := range p.Services {
		s := &p.Services[i]
		name := string(s.Ref)
		if s.Title != "" {
			name = fmt.Sprintf("%s (%s)", s.Title, s.Ref)
		}
		line(name, document.Dash(string(s.Owner)), servicemap.LevelText(health.Range{Low: s.Low, High: s.High}), &s.Figures, document.Dash(document.Span(s.Uncovered)))
	}
	if len(rows) > 0 {
		line("all of them", "-", "-", &p.Total, "-")
	}
	services := document.NewSection("Services", "There is no service.",
		"Service,Owner,Health,#At risk an hour,#Loses an hour,#This month,#Last month by now,#Trend,#Nobody there next week", rows)
	services.Text = append(services.Text, "Each loss is counted once, at the uppermost service that has it; money and points are two ways to tell the same loss.")

	var budgets [][]string
	for i := range p.Services {
		for _, o := range p.Services[i].SLOs {
			left := "not known"
			if o.Left != nil {
				left = document.Between(document.Span(o.Left.Low), document.Span(o.Left.High))
			}
			budgets = append(budgets, []string{string(o.Ref), string(p.Services[i].Ref), document.Span(o.Budget), left, document.Dash(o.Outcome)})
		}
	}
	coverage := document.Section{Heading: "Worst coverage", Level: 1, Text: []string{"In the week to come somebody is there whenever a service is worth something."}}
	if len(p.WorstCoverage) > 0 {
		coverage.Text = []string{"Worth something for longest in the week to come with nobody there: " + list(p.WorstCoverage) + "."}
	}
	unknown := document.Section{Heading: "What is not known", Level: 1, Text: []string{"Nothing is missing."}}
	if len(p.Unknown) > 0 {
		unknown.Text = []string{"Without history this month, taken as no cost: " + list(p.Unknown) + "."}
	}
	return document.Document{
		Title: "Service portfolio", Date: p.At,
		Subtitle: fmt.Sprintf("This month from %s to %s, against the last one from %s to %s; months in %s.", p.Month.From, p.Month.To, p.Last.From, p.Last.To, p.Timezone),
		Sections: []document.Section{
			services, document.NewSection("Error budgets", "There is no objective.", "Objective,Service,#Budget,#Left,Outcome", budgets), coverage, unknown,
		},
	}
}

func list(refs []manifest.Ref) string { return strings.Join(manifest.Texts(refs), ", ") }

// amounts writes amounts by unit.
func amounts(a cost.Amounts) string {
	var out []string
	for _, unit := range slices.Sorted(maps.Keys(a)) {
		out = append(out, a[unit].String()+" "+unit)
	}
	return document.Dash(strings.Join(out, ", "))
}
