package importer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/recur"
)

// CalendarOptions say what an iCalendar text does not.
type CalendarOptions struct {
	Name string // of the calendar
	// Timezone is an IANA name; empty takes the one that the text names as X-WR-TIMEZONE.
	Timezone string
	// Default is the factor outside every event; empty is 1. Support hours have 0.
	Default string
	// Factor is that of events with times that state none; empty leaves them a mistake.
	Factor string
}

// ICal makes a Calendar of iCalendar text. It keeps what decides when an event is and what it is called, and leaves out the
// rest: descriptions, attendees, alarms.
func ICal(file string, text []byte, opt CalendarOptions) (Result, []manifest.Problem) {
	refuse := func(line int, text, hint string) (Result, []manifest.Problem) {
		p := manifest.Problem{File: file, Line: line, Text: text, Hint: hint}
		if line > 0 {
			p.Column = 1
		}
		return Result{}, []manifest.Problem{p}
	}
	if len(text) > maxCSV {
		return refuse(0, fmt.Sprintf("the file is larger than %d bytes", maxCSV), "")
	}
	c := unfold(string(text), opt.Factor)
	zone := opt.Timezone
	if zone == "" {
		zone = c.zone
	}
	if zone == "" {
		return refuse(0, "the calendar names no time zone", "say which: --timezone Europe/Berlin")
	}
	location, err := civil.Zone(zone)
	if err != nil {
		return refuse(0, err.Error(), "")
	}
	kept := c.String()
	events, err := recur.Events(kept, location)
	if err != nil {
		return refuse(c.badLine(location), err.Error(), "")
	}
	if len(events) == 0 {
		return refuse(0, "there is no event in the calendar", "")
	}
	spec := map[string]any{"timezone": zone, "ical": kept}
	if opt.Default != "" {
		spec["default"] = opt.Default
	}
	doc, err := json.Marshal(map[string]any{
		"apiVersion": manifest.APIVersion, "kind": manifest.KindCalendar, "metadata": map[string]any{"name": opt.Name}, "spec": spec,
	})
	if err != nil {
		return refuse(0, err.Error(), "")
	}
	set, problems := manifest.Parse(file, doc)
	for i := range problems {
		problems[i].Line, problems[i].Column = 0, 0 // places in what was made, which nobody sees
		if opt.Factor == "" && strings.Contains(problems[i].Text, recur.FactorProperty) {
			problems[i].Hint = "--factor gives one to all of them"
		}
	}
	if len(problems) > 0 {
		return Result{}, problems
	}
	return Result{Resources: slices.Collect(set.All())}, nil
}

// calendarText is the part of an iCalendar that is kept.
type calendarText struct {
	zone   string
	events [][]string
	lines  []int // by event, where it begins
}

// kept says which properties of an event decide anything.
func kept(name string) bool {
	switch name {
	case "UID", "SUMMARY", "DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "EXRULE", "RECURRENCE-ID", "STATUS", recur.FactorProperty:
		return true
	}
	return false
}

// unfold joins folded lines and takes the events out, each as its lines. An event with times that states no factor gets one
// where there is one to give.
func unfold(text, factor string) *calendarText {
	c := &calendarText{}
	var lines []string
	var starts []int
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		if n := len(lines); n > 0 && line != "" && (line[0] == ' ' || line[0] == '\t') {
			lines[n-1] += line[1:]
			continue
		}
		lines, starts = append(lines, line), append(starts, i+1)
	}
	var event []string
	var inside []string // the blocks that are open
	for i, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		name, parameters, _ := strings.Cut(name, ";")
		name, value = strings.ToUpper(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case name == "BEGIN":
			inside = append(inside, strings.ToUpper(value))
			if strings.EqualFold(value, "VEVENT") {
				event, c.lines = []string{}, append(c.lines, starts[i])
			}
		case name == "END":
			if n := len(inside); n > 0 {
				inside = inside[:n-1]
			}
			if strings.EqualFold(value, "VEVENT") && event != nil {
				c.events, event = append(c.events, withFactor(event, factor)), nil
			}
		case name == "X-WR-TIMEZONE" && c.zone == "":
			c.zone = value
		case event != nil && len(inside) > 0 && inside[len(inside)-1] == "VEVENT" && kept(name):
			if parameters != "" {
				name += ";" + parameters
			}
			event = append(event, name+":"+value)
		}
	}
	return c
}

// withFactor adds the factor to an event with times that states none.
func withFactor(event []string, factor string) []string {
	if factor == "" {
		return event
	}
	timed := false
	for _, line := range event {
		name, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(name, recur.FactorProperty) {
			return event
		}
		timed = timed || strings.HasPrefix(name, "DTSTART") && strings.Contains(value, "T")
	}
	if timed {
		event = append(event, recur.FactorProperty+":"+factor)
	}
	return event
}

func wrap(events ...[]string) string {
	var b strings.Builder
	b.WriteString("BEGIN:VCALENDAR\n")
	for _, e := range events {
		b.WriteString("BEGIN:VEVENT\n" + strings.Join(e, "\n") + "\nEND:VEVENT\n")
	}
	b.WriteString("END:VCALENDAR\n")
	return b.String()
}

// String writes the calendar with its events and nothing else.
func (c *calendarText) String() string { return wrap(c.events...) }

// badLine returns the line of the first event that cannot be read by itself.
func (c *calendarText) badLine(zone *time.Location) int {
	for i, e := range c.events {
		if _, err := recur.Events(wrap(e), zone); err != nil {
			return c.lines[i]
		}
	}
	return 1
}
