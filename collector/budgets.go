package collector

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// budgets follows the error budget of every objective, and which of them burn too fast. It is owned by the decider's goroutine.
type budgets struct {
	all   []*objective // by reference
	of    map[manifest.Ref][]*objective
	loud  map[manifest.Ref][]*objective // by service, those that call
	later map[manifest.Ref]bool         // services of which some objective was not asked yet
	turn  int                           // counts ticks; each objective is asked every asking of them
}

// objective is one SLO as it is followed.
type objective struct {
	ref      manifest.Ref
	spec     *manifest.SLO
	hours    *manifest.Calendar // nil: around the clock
	follower *slo.Evaluator     // nil until it is drawn, and again where a clock that was set back lost it a state
	calls    slo.Calls
	calling  []slo.Burn
	bad      health.Level
	// told is the incident that was told of each pair that calls, by the length of its long window.
	told  map[time.Duration]string
	asked bool
	// broken says that it cannot be followed, until it is drawn anew; that is told once.
	broken bool
}

// asking is every how many seconds an objective is asked: a small part of the shortest window.
const asking = 10

// drawBudgets follows the objectives of a map that was drawn anew. Those that did not change go on as they are.
func (d *decider) drawBudgets() {
	set := d.keeper.Set()
	before := map[manifest.Ref]*objective{}
	for _, o := range d.budgets.all {
		before[o.ref] = o
	}
	next := budgets{of: map[manifest.Ref][]*objective{}, turn: d.budgets.turn}
	for r, spec := range manifest.Of[manifest.SLO](set) {
		o := &objective{ref: r.Ref(), spec: spec, bad: spec.BadFrom()}
		if hours, ok := manifest.SpecOf[manifest.Calendar](set, spec.Hours); ok {
			o.hours = hours
		}
		if old := before[o.ref]; old != nil && reflect.DeepEqual(old.spec, o.spec) && reflect.DeepEqual(old.hours, o.hours) {
			o = old
		}
		next.all = append(next.all, o)
		next.of[spec.Service] = append(next.of[spec.Service], o)
	}
	slices.SortFunc(next.all, func(a, b *objective) int { return cmp.Compare(a.ref, b.ref) })
	d.budgets = next
	d.budgets.sort()
}

// sort keeps at hand, by service, which objectives call and which were not asked yet.
func (b *budgets) sort() {
	b.loud, b.later = map[manifest.Ref][]*objective{}, map[manifest.Ref]bool{}
	for _, o := range b.all {
		if !o.asked {
			b.later[o.spec.Service] = true
		}
		if len(o.calling) > 0 {
			b.loud[o.spec.Service] = append(b.loud[o.spec.Service], o)
		}
	}
}

// noteStates tells the objectives where their services stand from a moment on.
func (d *decider) noteStates(rows []slo.Row) {
	for _, row := range rows {
		for _, o := range d.budgets.of[row.Ref] {
			if o.follower == nil {
				continue
			}
			if err := o.follower.Set(row.At, row.State); err != nil {
				o.follower = nil // it is drawn anew out of the history
			}
		}
	}
}

// lookAtBudgets asks the objectives whose turn it is, and tells incidents of those that burn too fast.
func (d *decider) lookAtBudgets(now time.Time) {
	d.followBudgets(now)
	d.budgets.turn++
	for k, o := range d.budgets.all {
		if o.follower == nil || o.asked && (k+d.budgets.turn)%asking != 0 {
			continue
		}
		r, err := o.follower.At(now)
		if err != nil {
			continue // the clock was set back: it is known until later
		}
		o.asked, o.calling = true, o.calls.Next(r.Burns)
		d.tellCalls(o, now)
	}
	d.budgets.sort()
}

// followBudgets draws the objectives that are not followed yet out of the history.
func (d *decider) followBudgets(now time.Time) {
	var p *picture.Picture
	of := map[manifest.Ref][]slo.Row{} // the history of each service
	for _, o := range d.budgets.all {
		if o.follower != nil || o.broken {
			continue
		}
		if p == nil {
			p = &picture.Picture{At: now, Set: d.keeper.Set(), Map: d.snapshot.Load(), History: d.history.Rows()}
			followNames(p, d.keeper.Names())
			for _, row := range p.History {
				of[row.Ref] = append(of[row.Ref], row)
			}
		}
		p.History = of[o.spec.Service]
		if err := o.begin(p); err != nil {
			o.broken = true
			d.log.Error("an objective cannot be followed", "objective", o.ref, "error", err)
			continue
		}
		o.told = map[time.Duration]string{}
		for _, i := range d.book.Hitting(now, string(o.spec.Service)) {
			for _, c := range i.Calls {
				var over manifest.Duration
				if c.Objective == string(o.ref) && over.UnmarshalText([]byte(c.Over)) == nil {
					o.calls.Resume(over.Std())
					o.told[over.Std()] = i.ID
				}
			}
		}
	}
}

func (o *objective) begin(p *picture.Picture) error {
	spec, err := slo.Of(o.spec)
	if err != nil {
		return err
	}
	var hours slo.Hours
	if o.hours != nil {
		if hours, err = calendar.New(o.hours); err != nil {
			return err
		}
	}
	history := p.States(o.spec.Service)
	created := p.At
	if len(history) > 0 {
		created = history[0].From
	}
	follower, err := slo.New(spec, hours, created)
	if err != nil {
		return err
	}
	for _, s := range history {
		if err := follower.Set(s.From, s.State); err != nil {
			return err
		}
	}
	o.follower = follower
	return nil
}

// tellCalls tells the incident that hits the service of each pair that calls. Where there is none, budgetCauses opens one. Where the
// incident that was told is over and the service is well, the windows only remember what was mended.
func (d *decider) tellCalls(o *objective, now time.Time) {
	snapshot := d.snapshot.Load()
	service := o.spec.Service
	r, _ := snapshot.Range(service)
	still := map[time.Duration]string{}
	for _, b := range o.calling {
		id := o.told[b.Long]
		if id != "" {
			still[b.Long] = id
			if i, err := d.book.Get(now, id); err == nil && (i.State != incident.Resolved || r.Low < o.bad) {
				continue
			}
		}
		host, ok := hosting(d.book.Hitting(now, string(service)), service, r.Low >= o.bad)
		if !ok {
			delete(still, b.Long)
			continue
		}
		i, err := d.book.Join(now, host.ID, o.call(&b, d.criticality(service)), "the error budget of "+string(o.ref)+" burns too fast: "+burning(&b))
		if err == nil {
			still[b.Long] = host.ID
			d.changed(i)
		}
	}
	o.told = still
}

// hosting picks the incident that is told: that of the service itself, else the oldest that hits it at this moment, else, where the service
// is well again, the oldest that did.
func hosting(all []incident.Incident, service manifest.Ref, bad bool) (out incident.Incident, ok bool) {
	for _, i := range all {
		if i.Cause == string(service) {
			return i, true
		}
	}
	for _, i := range all {
		hits := slices.ContainsFunc(i.Impacts, func(m incident.Impact) bool { return m.Service == string(service) && m.Level >= health.Warning })
		if hits || !bad {
			return i, true
		}
	}
	return incident.Incident{}, false
}

// budgetCauses is what burns too fast with no incident to tell of it, and what no longer does.
func (d *decider) budgetCauses(s *servicemap.Snapshot, now time.Time) []incident.Cause {
	open := d.book.OfBudgets()
	var out []incident.Cause
	for _, service := range slices.Sorted(maps.Keys(d.budgets.loud)) {
		has := slices.Contains(open, string(service))
		for _, o := range d.budgets.loud[service] {
			k := slices.IndexFunc(o.calling, func(b slo.Burn) bool { return has || o.told[b.Long] == "" })
			if k >= 0 {
				out = append(out, d.budgetCause(o, &o.calling[k], s, now))
				break
			}
		}
	}
	for _, ref := range open {
		switch service := manifest.Ref(ref); {
		case len(d.budgets.loud[service]) > 0:
		case d.budgets.later[service]:
			out = append(out, incident.Cause{Ref: ref, Condition: incident.Unknown})
		default:
			out = append(out, incident.Cause{Ref: ref, Condition: incident.Good})
		}
	}
	return out
}

func (d *decider) budgetCause(o *objective, b *slo.Burn, s *servicemap.Snapshot, now time.Time) incident.Cause {
	service := o.spec.Service
	call := o.call(b, d.criticality(service))
	c := incident.Cause{
		Ref: string(service), Condition: incident.Bad, Level: o.bad, Call: &call,
		Title:  fmt.Sprintf("the error budget of %s burns too fast, by %s", service, o.ref),
		Detail: burning(b), Impacts: d.impacts(s, now, service),
	}
	if r, ok := s.Range(service); ok && r.Low > health.Info {
		c.Level = max(c.Level, r.Low)
		c.Detail += fmt.Sprintf("; now it is %s, by %s", r.Low, strings.Join(blamed(s, service), ", "))
	}
	// What is lost while another incident hits the service is counted there.
	if slices.ContainsFunc(d.book.Hitting(now, c.Ref), func(i incident.Incident) bool { return i.Cause != c.Ref }) {
		for k := range c.Impacts {
			c.Impacts[k].Within = true
		}
	}
	return c
}

// blamed names what makes a service as bad as it is.
func blamed(s *servicemap.Snapshot, service manifest.Ref) []string {
	inputs, itself, _ := s.Blame(service)
	out := manifest.Texts(inputs)
	if itself || len(out) == 0 {
		out = append(out, "itself")
	}
	return out
}

// call is what an incident keeps of a pair that calls. A page is as urgent as the service is critical, a ticket one step less.
func (o *objective) call(b *slo.Burn, criticality int) incident.Call {
	p := incident.Priority(criticality)
	if p == 0 {
		p = incident.Lowest
	}
	if b.Call != "page" {
		p++
	}
	return incident.Call{Objective: string(o.ref), Over: manifest.Duration(b.Long).String(), Priority: min(p, incident.Lowest)}
}

func (d *decider) criticality(service manifest.Ref) int {
	if s, ok := manifest.SpecOf[manifest.Service](d.keeper.Set(), service); ok {
		return s.Criticality
	}
	return 0
}

// burning says how fast a budget burns.
func burning(b *slo.Burn) string {
	text := fmt.Sprintf("over %s and %s at %.3g and %.3g times the rate that lasts, beyond the %.3g of a %s",
		manifest.Duration(b.Long), manifest.Duration(b.Short), b.InLong.Low, b.InShort.Low, b.Factor, b.Call)
	switch {
	case b.Exhausted.High == 0:
		text += "; nothing is left of it"
	case b.Exhausted.High != slo.Never:
		text += fmt.Sprintf("; at that rate it is gone in %s", manifest.Duration(b.Exhausted.High.Round(time.Minute)))
	}
	return text
}
