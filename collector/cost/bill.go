package cost

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Segment is the health of a service from a moment until its next segment.
type Segment struct {
	Ref   manifest.Ref
	From  time.Time
	Level health.Level
	// Above are the services that blame this one, directly or not: while one of them loses something, the loss is counted there and
	// not here, which is the rule by which package cause ranks.
	Above []manifest.Ref
	// Planned says that it was meant to be so: what it costs is told apart.
	Planned bool
}

// Record returns the segments of all services as a snapshot has them, for a history that goes on from there. What is only unknown is
// taken as ok.
func Record(s *servicemap.Snapshot, from time.Time) []Segment {
	above := cause.Above(s)
	services := s.Graph().Services()
	out := make([]Segment, 0, len(services))
	for _, ref := range services {
		r, _ := s.Range(ref)
		_, planned := s.Maintenance(ref)
		out = append(out, Segment{ref, from, r.Low, above[ref], planned})
	}
	return out
}

// Item is the cost of one service.
type Item struct {
	Ref     manifest.Ref
	Cost    manifest.Decimal // what is counted at this service
	Planned manifest.Decimal // how much of it was planned
}

// Bill is the cost of a history.
type Bill struct {
	Total    manifest.Decimal // the exact sum of the services' costs
	Planned  manifest.Decimal // how much of it was planned
	Services []Item           // with a rate, sorted by reference
	Unpriced []manifest.Ref   // without one, sorted
}

// Of returns the cost of a history up to end. The segments of one service are taken in the order of time, whatever their order; of two
// from the same moment the later one in the slice holds. Rates says what a service costs; false where it has no value.
func Of(segments []Segment, end time.Time, rates func(manifest.Ref) (Rate, bool)) Bill {
	history := map[manifest.Ref][]Segment{}
	for _, s := range segments {
		history[s.Ref] = append(history[s.Ref], s)
	}
	var bill Bill
	losses := map[manifest.Ref]*lossy{}
	refs := slices.Sorted(maps.Keys(history))
	for _, ref := range refs {
		r, ok := rates(ref)
		if !ok {
			bill.Unpriced = append(bill.Unpriced, ref)
			continue
		}
		slices.SortStableFunc(history[ref], func(a, b Segment) int { return a.From.Compare(b.From) })
		losses[ref] = r.losing(history[ref], end)
	}
	for _, ref := range refs {
		l, ok := losses[ref]
		if !ok {
			continue
		}
		cost, planned := l.price(losses)
		bill.Services = append(bill.Services, Item{ref, cost, planned})
		bill.Total, bill.Planned = plus(bill.Total, cost), plus(bill.Planned, planned)
	}
	return bill
}

// plus adds amounts that are not below 0; it saturates.
func plus(a, b manifest.Decimal) manifest.Decimal {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// lossy is when a service loses something.
type lossy struct {
	rate      Rate
	stretches []stretch // in the order of time, apart from each other
}

type stretch struct {
	from, to time.Time
	factor   manifest.Decimal
	level    health.Level
	above    []manifest.Ref
	planned  bool
}

func (r *Rate) losing(history []Segment, end time.Time) *lossy {
	out := &lossy{rate: *r}
	if r.PerHour <= 0 {
		return out
	}
	for i, s := range history {
		to := end
		if i+1 < len(history) && history[i+1].From.Before(end) {
			to = history[i+1].From
		}
		if r.Loss[s.Level] == 0 {
			continue
		}
		r.segments(s.From, to, func(c calendar.Segment) {
			if c.Factor > 0 {
				out.stretches = append(out.stretches, stretch{c.Start, c.End, c.Factor, s.Level, s.Above, s.Planned})
			}
		})
	}
	return out
}

// price is the cost of the stretches without the time in which a service above loses something, and how much of it was planned.
func (l *lossy) price(all map[manifest.Ref]*lossy) (cost, planned manifest.Decimal) {
	var m, p meter
	for _, s := range l.stretches {
		d := s.to.Sub(s.from) - covered(s, all)
		m.add(s.factor, s.level, d)
		if s.planned {
			p.add(s.factor, s.level, d)
		}
	}
	return m.price(&l.rate), p.price(&l.rate)
}

// covered returns for how long of a stretch a service above it loses something.
func covered(s stretch, all map[manifest.Ref]*lossy) time.Duration {
	type span struct{ from, to time.Time }
	var spans []span
	for _, up := range s.above {
		l := all[up]
		if l == nil {
			continue
		}
		first, _ := slices.BinarySearchFunc(l.stretches, s.from, func(x stretch, at time.Time) int {
			return cmp.Or(x.to.Compare(at), -1) // one that ends there is over
		})
		for _, x := range l.stretches[first:] {
			if !x.from.Before(s.to) {
				break
			}
			spans = append(spans, span{later(x.from, s.from), earlier(x.to, s.to)})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var total time.Duration
	done := s.from
	for _, x := range spans {
		if x.to.After(done) {
			total += x.to.Sub(later(x.from, done))
			done = x.to
		}
	}
	return total
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
