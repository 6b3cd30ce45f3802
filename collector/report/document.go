package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/pkg/document"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Document returns the report as a reader sees it.
func (r *Report) Document() document.Document {
	d := document.Document{Title: "Service report " + r.Month, Date: r.At}
	if r.Service != "" {
		d.Title = fmt.Sprintf("%s, %s", r.Services[0].name(), r.Month)
	}
	if d.Subtitle = fmt.Sprintf("From %s to %s, months in %s.", r.From, r.At, r.Timezone); !r.Complete {
		d.Subtitle += " The month is not over."
	}
	d.Sections = append(d.Sections, r.summary(), r.availability(), r.objectives())
	d.Sections = append(d.Sections, r.byCause()...)
	d.Sections = append(d.Sections, r.incidents(), r.coverage(), r.agreements())
	gaps := document.Section{Heading: "What is not known", Level: 1, Text: r.Unknown}
	if len(r.Unknown) == 0 {
		gaps.Text = []string{"Nothing is missing."}
	}
	d.Sections = append(d.Sections, gaps)
	return d
}

func (s *Service) name() string {
	if s.Title == "" {
		return string(s.Ref)
	}
	return fmt.Sprintf("%s (%s)", s.Title, s.Ref)
}

func section(heading, empty, columns string, rows [][]string) document.Section {
	return document.NewSection(heading, empty, columns, rows)
}

func (r *Report) summary() document.Section {
	var rows [][]string
	for i := range r.Services {
		s := &r.Services[i]
		up := "not known"
		if s.Availability != nil && s.Availability.Up != nil {
			up = either(s.Availability.Up.Low, s.Availability.Up.High)
		}
		rows = append(rows, []string{s.name(), text(string(s.Owner)), up, amounts(s.Cost), fmt.Sprint(s.Incidents), text(human(s.Repair))})
	}
	out := section("At a glance", "There is no service.", "Service,Owner,#Available,#Cost,#Incidents,#Mean repair", rows)
	if len(rows) > 1 {
		out.Text = []string{"All services together cost " + amounts(r.Cost) + ". Each loss is counted once, at the uppermost service that has it; money and points are two ways to tell the same loss."}
	}
	return out
}

func (r *Report) availability() document.Section {
	var rows [][]string
	for i := range r.Services {
		a := r.Services[i].Availability
		if a == nil {
			continue
		}
		rows = append(rows, []string{
			string(r.Services[i].Ref), human(a.Counted), human(a.Good), human(a.Bad["own"]), human(a.Bad["upstream"]), human(a.Bad["vendor"]),
			human(a.Bad["planned"]), human(a.Bad["unknown"]), human(a.Unsure),
		})
	}
	return section("Availability", "There is no history.", "Service,#Time,#Good,#Own,#Upstream,#Vendor,#Planned,#Unknown,#Unsure", rows)
}

func (r *Report) objectives() document.Section {
	var rows [][]string
	for i := range r.Services {
		for _, o := range r.Services[i].SLOs {
			sli, spent, left, outcome, split := "not known", "-", "-", "-", "-"
			if e := o.Evaluation; e != nil {
				f := e.Up
				if o.Excluded == "leftOut" {
					f = e.LeftOut
				}
				if f.SLI != nil {
					sli = either(f.SLI.Low, f.SLI.High)
				}
				spent, left, outcome = either(human(f.Spent.Low), human(f.Spent.High)), either(human(f.Left.Low), human(f.Left.High)), e.Outcome
				var parts []string
				for _, part := range []string{"own", "upstream", "vendor", "planned", "unknown"} {
					if e.Bad[part] != "0s" {
						parts = append(parts, part+" "+human(e.Bad[part]))
					}
				}
				split = text(strings.Join(parts, ", "))
			}
			rows = append(rows, []string{string(o.Ref), o.Window.Text, o.Objective, sli, human(o.Budget), spent, left, outcome, split})
		}
	}
	return section("Objectives", "There is no objective.", "Objective,Window,#At least,#Reached,#Budget,#Spent,#Left,Outcome,Bad time", rows)
}

func (r *Report) byCause() []document.Section {
	var out []document.Section
	for _, c := range r.Causes {
		var rows [][]string
		for _, s := range c.Shares {
			rows = append(rows, []string{string(s.Ref), s.Cost})
		}
		s := section("Cost by cause, in "+c.Unit, "Nothing was lost.", "Cause,#"+c.Unit, append(rows, []string{"all of them", c.Total}, []string{"planned", c.Planned}, []string{"unexplained", c.Unexplained}))
		how := "Each cause has its Shapley share: the mean, over all orders in which the causes could come, of what it adds."
		if c.Method == cost.RepairOrder {
			how = "There are many causes: each has what its repair saved, in the order of repair."
		}
		s.Text = []string{how + " All else is taken to be healthy. Planned is what the history cost in planned time; what it cost beyond both is unexplained."}
		out = append(out, s)
	}
	return out
}

func (r *Report) incidents() document.Section {
	var rows [][]string
	for _, i := range r.Incidents {
		services := make([]string, len(i.Services))
		for k, s := range i.Services {
			services[k] = string(s)
		}
		rows = append(rows, []string{i.ID, "P" + fmt.Sprint(i.Priority), strings.Join(services, ", "), i.Opened, text(i.Acknowledged), text(i.Resolved)})
	}
	return section("Incidents", "There was none on record.", "Incident,Priority,Services,Opened,Acknowledged,Resolved", rows)
}

func (r *Report) coverage() document.Section {
	var rows [][]string
	for _, s := range r.Coverage {
		y := s.Year
		rows = append(rows, []string{string(s.Ref), text(string(s.SupportHours)), human(y.Valued), human(y.Covered), human(y.FallbackOnly), human(y.Uncovered), amounts(y.Value), human(y.Idle)})
	}
	out := section("Support against value, the year to come", "No service has a value.", "Service,Support hours,#Valued,#Covered,#Fallback only,#Nobody,#Worth then,#Idle", rows)
	return out
}

func (r *Report) agreements() document.Section {
	var rows [][]string
	for _, a := range r.Agreements {
		owed, review := "-", a.ReviewBy
		switch c := a.Credit; {
		case c != nil && c.Percent != "":
			owed = fmt.Sprintf("%d x %s of the month's fee", c.Breaches, c.Percent)
		case c != nil:
			owed = c.Amount + " " + c.Currency
		}
		if a.ReviewDue {
			review += " (due)"
		}
		rows = append(rows, []string{string(a.Ref), string(a.Provider), fmt.Sprint(a.Kept), fmt.Sprint(a.Missed), fmt.Sprint(a.Open), owed, review})
	}
	return section("Agreements", "Nothing was agreed on.", "Agreement,Provider,#Kept,#Missed,#Open,Owed,Review by", rows)
}

// amounts writes amounts by unit.
func amounts(a cost.Amounts) string {
	var out []string
	for _, unit := range slices.Sorted(maps.Keys(map[string]manifest.Decimal(a))) {
		out = append(out, a[unit].String()+" "+unit)
	}
	return text(strings.Join(out, ", "))
}

func either(low, high string) string { return document.Between(low, high) }

func text(s string) string { return document.Dash(s) }
