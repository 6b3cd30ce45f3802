package calendar

import (
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	"github.com/evenkeel/evenkeel/pkg/recur"
)

// year works out the steps of one year of the wall clock.
func (c *Calendar) year(year int) []step {
	begin, end := civil.DayOf(year, time.January, 1), civil.DayOf(year+1, time.January, 1)
	// What begins on the last day of December may pass midnight, and its month ends in this year's neighbour.
	holidays := c.holidaysIn(civil.DayOf(year-1, time.December, 1), civil.DayOf(year+1, time.February, 1))
	l := lanes{from: begin.Start(), to: end.Start()}
	for d := begin - 1; d < end; d++ {
		if f, ok := holidays[d]; ok {
			l.add(d.Start(), d.Start()+civil.DaySeconds, f)
			continue
		}
		_, tomorrow := holidays[d+1]
		for _, w := range c.weekly[d.Weekday()] {
			to := w.to
			if tomorrow {
				to = min(to, civil.DaySeconds)
			}
			l.add(d.Start()+w.from, d.Start()+to, w.factor)
		}
	}
	for _, p := range c.peaks {
		l.add(p.from, p.to, p.factor)
	}
	for i := range c.timed {
		e := &c.timed[i]
		length := seconds(e.Length)
		for _, at := range e.Occurrences(begin-lookBack(length), end) {
			l.add(at, at+length, e.factor)
		}
	}
	for _, r := range c.rules {
		for _, d := range r.rule.Days(begin-lookBack(r.window.to), end) {
			l.add(d.Start()+r.window.from, d.Start()+r.window.to, r.window.factor)
		}
	}
	for i := range c.working {
		w := &c.working[i]
		for month := time.Month(0); month <= time.December; month++ { // 0 is the December before
			for _, d := range c.workingDays(w, civil.DayOf(year, month, 1), civil.DayOf(year, month+1, 1), holidays) {
				l.add(d.Start()+w.window.from, d.Start()+w.window.to, w.window.factor)
			}
		}
	}
	return l.steps(c.fallback)
}

// lookBack is how many days before a day something of that length may have begun that is still on.
func lookBack(length civil.Time) civil.Day { return civil.Day(length/civil.DaySeconds) + 1 }

// holidaysIn returns the holidays of [from, to) with their factors; of two on one day the greater factor holds.
func (c *Calendar) holidaysIn(from, to civil.Day) map[civil.Day]manifest.Decimal {
	if len(c.moving) == 0 {
		return c.holidays
	}
	out := make(map[civil.Day]manifest.Decimal, len(c.holidays))
	for d, f := range c.holidays {
		out[d] = f
	}
	for i := range c.moving {
		e := &c.moving[i]
		length := civil.Day(e.Length / (civil.DaySeconds * time.Second))
		done := from // occurrences may lie over each other: each day is looked at once
		for _, at := range e.Occurrences(from-civil.Day(recur.MaxLength/(civil.DaySeconds*time.Second)), to) {
			for d := max(at.Day(), done); d < min(at.Day()+length, to); d++ {
				out[d] = max(out[d], e.factor)
				done = d + 1
			}
		}
	}
	return out
}

// workingDays returns the working days of a month, [from, to), that an entry means.
func (c *Calendar) workingDays(w *working, from, to civil.Day, holidays map[civil.Day]manifest.Decimal) []civil.Day {
	var days []civil.Day
	for d := from; d < to; d++ {
		on := w.days[d.Weekday()]
		if w.days == [7]bool{} {
			on = len(c.weekly[d.Weekday()]) > 0
		}
		if _, holiday := holidays[d]; on && !holiday {
			days = append(days, d)
		}
	}
	if w.last > 0 {
		return days[max(0, len(days)-w.last):]
	}
	return days[:min(len(days), w.first)]
}

// lanes collects what applies within [from, to).
type lanes struct {
	from, to civil.Time
	edges    []edge
}

// edge is where a factor comes in or goes out.
type edge struct {
	at     civil.Time
	factor manifest.Decimal
	count  int // 1 in, -1 out
}

func (l *lanes) add(from, to civil.Time, factor manifest.Decimal) {
	from, to = max(from, l.from), min(to, l.to)
	if from < to {
		l.edges = append(l.edges, edge{from, factor, 1}, edge{to, factor, -1})
	}
}

// steps returns where the greatest factor changes, from the beginning to the end, which is a step of its own.
func (l *lanes) steps(fallback manifest.Decimal) []step {
	slices.SortFunc(l.edges, func(a, b edge) int { return int(a.at - b.at) })
	var factors []manifest.Decimal // the greatest last
	for _, e := range l.edges {
		if i, found := slices.BinarySearch(factors, e.factor); !found {
			factors = slices.Insert(factors, i, e.factor)
		}
	}
	on := make([]int, len(factors))
	out := []step{{l.from, fallback}}
	for i := 0; i < len(l.edges); {
		at := l.edges[i].at
		for ; i < len(l.edges) && l.edges[i].at == at; i++ {
			n, _ := slices.BinarySearch(factors, l.edges[i].factor)
			on[n] += l.edges[i].count
		}
		greatest := fallback
		for n := len(on) - 1; n >= 0; n-- {
			if on[n] > 0 {
				greatest = factors[n]
				break
			}
		}
		switch last := &out[len(out)-1]; {
		case at == l.to:
		case last.at == at:
			last.factor = greatest
		case last.factor != greatest:
			out = append(out, step{at, greatest})
		}
	}
	return append(out, step{l.to, fallback})
}
