package incident

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrNotFound is returned for an id that the book does not hold.
var ErrNotFound = errors.New("no such incident")

// ErrResolved is returned for a change of an incident that is over.
var ErrResolved = errors.New("the incident is resolved")

// Config of a Book. Zero durations take the default.
type Config struct {
	// NewID returns the id of an incident that opens at that time, a ULID.
	NewID func(at time.Time) string
	// Settle is how long a cause must be good before its incident is resolved; default 10s.
	Settle time.Duration
	// Reopen is how long after that the same cause opens the old incident again and not another; default 5m.
	Reopen time.Duration
	// Keep is how many resolved incidents are held; the oldest go first. Default 1000.
	Keep int
}

// Book holds the incidents.
type Book struct {
	cfg   Config
	byID  map[string]*Incident
	cause map[string]*Incident // the newest of each cause
}

// New returns an empty book. It panics where NewID is missing.
func New(cfg Config) *Book {
	if cfg.NewID == nil {
		panic("BUG: incident.Config.NewID is not set")
	}
	if cfg.Settle == 0 {
		cfg.Settle = 10 * time.Second
	}
	if cfg.Reopen == 0 {
		cfg.Reopen = 5 * time.Minute
	}
	if cfg.Keep == 0 {
		cfg.Keep = 1000
	}
	return &Book{cfg: cfg, byID: map[string]*Incident{}, cause: map[string]*Incident{}}
}

// Load takes stored records, at the start. Until the causes are seen again nothing is known of them, so a collector's own
// restart resolves nothing.
func (b *Book) Load(records []Incident) error {
	for i := range records {
		if records[i].Version != Version {
			return fmt.Errorf("incident %s has format %d: this program knows %d", records[i].ID, records[i].Version, Version)
		}
	}
	for i := range records {
		r := records[i].clone()
		r.Known = false
		if r.Priority == 0 {
			r.rank() // written before there were priorities
		}
		b.byID[r.ID] = &r
		if old := b.cause[r.Cause]; old == nil || old.OpenedAt.Before(r.OpenedAt) {
			b.cause[r.Cause] = &r
		}
	}
	return nil
}

// Observe takes the causes as they are now and returns copies of the incidents that changed in more than their cost. A
// cause that is not in the list is as Unknown: to resolve an incident its cause must be said to be Good.
func (b *Book) Observe(at time.Time, causes []Cause) []Incident {
	seen := map[string]*Cause{}
	for i := range causes {
		c := &causes[i]
		old, ok := seen[c.key()]
		// Several verdicts on the same cause: the bad one speaks, then the one that says least.
		if !ok || rank(c) > rank(old) || rank(c) == rank(old) && c.Level > old.Level {
			seen[c.key()] = c
		}
	}
	var changed []Incident
	for _, key := range slices.Sorted(maps.Keys(seen)) {
		c := seen[key]
		i := b.cause[key]
		switch {
		case c.Condition == Bad && (i == nil || i.State == Resolved && at.Sub(i.ResolvedAt) > b.cfg.Reopen):
			i = b.open(at, c)
			changed = append(changed, i.clone())
		case i != nil && b.update(i, at, c):
			changed = append(changed, i.clone())
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b.cause)) {
		i := b.cause[key]
		if seen[key] == nil && i.State != Resolved && b.update(i, at, &Cause{Ref: key}) {
			changed = append(changed, i.clone())
		}
	}
	b.trim()
	return changed
}

func rank(c *Cause) int {
	switch c.Condition {
	case Bad:
		return 2
	case Unknown:
		return 1
	}
	return 0
}

func (b *Book) open(at time.Time, c *Cause) *Incident {
	i := &Incident{
		Version: Version, ID: b.cfg.NewID(at), State: Open, Title: c.Title, Level: c.Level, Cause: c.Ref, Host: c.Host,
		OpenedAt: at, CostAt: at, Known: true, Detector: c.Detector, BeganAt: c.Began, Priority: Lowest, Budget: c.Call != nil,
	}
	if c.Call != nil {
		i.Calls = []Call{*c.Call}
	}
	i.hit(at, c)
	what := c.Title
	if c.Detail != "" {
		what += ": " + c.Detail
	}
	i.Timeline = []Event{{at, "collector", what}}
	if len(i.Services) > 0 {
		i.note(at, "collector", "hits "+strings.Join(i.Services, ", "))
	}
	b.byID[i.ID] = i
	b.cause[c.Ref] = i
	return i
}

func (i *Incident) hit(at time.Time, c *Cause) (more []string) {
	i.accrue(at)
	i.Impacts = slices.Clone(c.Impacts)
	if c.Condition == Bad {
		i.rank()
	}
	for k := range c.Impacts {
		if s := c.Impacts[k].Service; !slices.Contains(i.Services, s) {
			i.Services = append(i.Services, s)
			more = append(more, s)
		}
	}
	slices.Sort(i.Services)
	return more
}

func (b *Book) update(i *Incident, at time.Time, c *Cause) bool {
	if c.Condition == Unknown {
		if i.State == Resolved || !i.Known {
			return false
		}
		i.accrue(at)
		i.Known, i.GoodSince = false, time.Time{}
		i.note(at, "collector", "nothing is known of "+i.Cause+" any more")
		return true
	}
	if i.State == Resolved {
		if c.Condition == Good {
			return false
		}
		i.State, i.ResolvedAt, i.GoodSince, i.CostAt = Open, time.Time{}, time.Time{}, at
		i.AcknowledgedAt = time.Time{}
		i.Reopened++
		i.Known = true
		i.AcknowledgedBy = ""
		i.note(at, "collector", "it is back: "+c.Title)
		i.Level = max(i.Level, c.Level)
		i.Budget = c.Call != nil
		i.called(c.Call)
		i.hit(at, c)
		i.settle()
		return true
	}
	changed := !i.Known
	if changed {
		i.accrue(at) // as unknown
		i.Known = true
		i.note(at, "collector", i.Cause+" is seen again")
	}
	if c.Condition == Good {
		i.hit(at, c)
		switch {
		case i.GoodSince.IsZero():
			i.GoodSince = at
			i.note(at, "collector", i.Cause+" is well")
			changed = true
		case at.Sub(i.GoodSince) >= b.cfg.Settle && len(i.Active) == 0:
			i.State, i.ResolvedAt = Resolved, at
			i.resume(at)
			lost, unit := i.Lost()
			i.note(at, "collector", fmt.Sprintf("resolved after %s; it cost %s", at.Sub(i.OpenedAt).Round(time.Second), FormatCost(lost, unit)))
			changed = true
		}
		return changed
	}
	if !i.GoodSince.IsZero() {
		i.GoodSince = time.Time{}
		i.note(at, "collector", "it is bad again: "+c.Title)
		changed = true
	}
	if i.Budget && c.Call == nil {
		i.Budget = false
		i.note(at, "collector", c.Title+": "+c.Detail)
		changed = true
	}
	if c.Level > i.Level {
		i.Level = c.Level
		i.note(at, "collector", "now "+c.Level.String())
		changed = true
	}
	before := i.Priority
	more := i.hit(at, c)
	if i.Priority != before {
		i.note(at, "collector", "now "+i.Priority.String())
		changed = true
	}
	if len(more) > 0 {
		i.note(at, "collector", "now hits "+strings.Join(more, ", "))
		changed = true
	}
	return changed
}

// settle brings State in line with what is under way and who knows.
func (i *Incident) settle() {
	switch {
	case i.State == Resolved:
	case len(i.Active) > 0:
		i.State = Mitigating
	case i.AcknowledgedBy != "":
		i.State = Acknowledged
	default:
		i.State = Open
	}
}

func (b *Book) change(id string, f func(i *Incident)) (Incident, error) {
	i := b.byID[id]
	if i == nil {
		return Incident{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	f(i)
	i.settle()
	return i.clone(), nil
}

// Hitting returns the incidents that are not resolved and hit a service now or did before, the oldest first.
func (b *Book) Hitting(at time.Time, service string) []Incident {
	var out []Incident
	for _, i := range b.byID {
		if i.State != Resolved && slices.Contains(i.Services, service) {
			out = append(out, counted(i, at))
		}
	}
	slices.SortFunc(out, func(a, b Incident) int { return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), strings.Compare(a.ID, b.ID)) })
	return out
}

// Unresolved returns the incidents that are not resolved, the oldest first.
func (b *Book) Unresolved(at time.Time) []Incident {
	var out []Incident
	for _, i := range b.byID {
		if i.State != Resolved {
			out = append(out, counted(i, at))
		}
	}
	slices.SortFunc(out, func(a, b Incident) int { return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), strings.Compare(a.ID, b.ID)) })
	return out
}

// Foretold notes that the map foretells by an edge that an incident hits a service, and whether the service's own measure says so. It
// reports whether that is new.
func (b *Book) Foretold(at time.Time, id, edge string, seen bool) (Incident, bool) {
	i := b.byID[id]
	if i == nil || i.State == Resolved {
		return Incident{}, false
	}
	k := slices.IndexFunc(i.Edges, func(e Edge) bool { return e.Edge == edge })
	switch {
	case k < 0:
		i.Edges = append(i.Edges, Edge{edge, at, seen})
	case seen && !i.Edges[k].Seen:
		i.Edges[k].Seen = true
	default:
		return Incident{}, false
	}
	return i.clone(), true
}

// OfBudgets returns the causes of the incidents that are not resolved and that nothing but objectives spoke of, sorted.
func (b *Book) OfBudgets() []string {
	var out []string
	for ref, i := range b.cause {
		if i.Budget && i.State != Resolved {
			out = append(out, ref)
		}
	}
	slices.Sort(out)
	return out
}

// called notes a call, each once.
func (i *Incident) called(c *Call) bool {
	if c == nil || slices.Contains(i.Calls, *c) {
		return false
	}
	i.Calls = append(i.Calls, *c)
	return true
}

// Join tells an open incident of an objective that calls because of it: with a line, and with the priority that the call has. It
// is told once.
func (b *Book) Join(at time.Time, id string, c Call, what string) (Incident, error) {
	if i := b.byID[id]; i != nil && i.State == Resolved {
		return Incident{}, ErrResolved
	}
	return b.change(id, func(i *Incident) {
		if !i.called(&c) {
			return
		}
		i.note(at, "collector", what)
		if before := i.Priority; c.Priority < before {
			i.Priority = c.Priority
			i.note(at, "collector", "now "+i.Priority.String())
		}
	})
}

// Acknowledge notes that somebody has taken the incident on.
func (b *Book) Acknowledge(at time.Time, id, who, note string) (Incident, error) {
	if i := b.byID[id]; i != nil && i.State == Resolved {
		return Incident{}, ErrResolved
	}
	return b.change(id, func(i *Incident) {
		i.AcknowledgedBy = who
		if i.AcknowledgedAt.IsZero() {
			i.AcknowledgedAt = at
		}
		what := "acknowledged"
		if note != "" {
			what += ": " + note
		}
		i.note(at, who, what)
	})
}

// Note adds to the timeline, also of an incident that is resolved.
func (b *Book) Note(at time.Time, id, who, what string) (Incident, error) {
	return b.change(id, func(i *Incident) { i.note(at, who, what) })
}

// Gap notes that the cause of an incident is not in the map, once.
func (b *Book) Gap(at time.Time, id, what string) (Incident, error) {
	return b.change(id, func(i *Incident) {
		if i.GapAt.IsZero() {
			i.GapAt = at
			i.note(at, "collector", what)
		}
	})
}

// ActionStarted says that an action is under way for the incident, ActionEnded that it is over.
func (b *Book) ActionStarted(at time.Time, id, action, what string) (Incident, error) {
	return b.change(id, func(i *Incident) {
		if !slices.Contains(i.Actions, action) {
			i.Actions = append(i.Actions, action)
		}
		if !slices.Contains(i.Active, action) {
			i.Active = append(i.Active, action)
		}
		i.note(at, "remedy", what)
	})
}

// ActionEnded says that an action is over; see ActionStarted.
func (b *Book) ActionEnded(at time.Time, id, action, what string) (Incident, error) {
	return b.change(id, func(i *Incident) {
		i.Active = slices.DeleteFunc(i.Active, func(a string) bool { return a == action })
		i.note(at, "remedy", what)
	})
}

// Get returns one incident with its cost counted up to at.
func (b *Book) Get(at time.Time, id string) (Incident, error) {
	i := b.byID[id]
	if i == nil {
		return Incident{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return counted(i, at), nil
}

// Of returns the incident of a cause that is not resolved.
func (b *Book) Of(at time.Time, cause string) (Incident, bool) {
	if i := b.cause[cause]; i != nil && i.State != Resolved {
		return counted(i, at), true
	}
	return Incident{}, false
}

// List returns the incidents, newest first, with their cost counted up to at.
func (b *Book) List(at time.Time) []Incident {
	out := make([]Incident, 0, len(b.byID))
	for _, i := range b.byID {
		out = append(out, counted(i, at))
	}
	slices.SortFunc(out, func(a, b Incident) int {
		if c := b.OpenedAt.Compare(a.OpenedAt); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	return out
}

func counted(i *Incident, at time.Time) Incident {
	c := i.clone()
	if c.State != Resolved {
		c.accrue(at)
	}
	return c
}

// trim drops the oldest resolved incidents over the bound.
func (b *Book) trim() {
	if len(b.byID) <= b.cfg.Keep {
		return
	}
	var over []*Incident
	for _, i := range b.byID {
		if i.State == Resolved {
			over = append(over, i)
		}
	}
	slices.SortFunc(over, func(a, b *Incident) int { return a.ResolvedAt.Compare(b.ResolvedAt) })
	for _, i := range over[:max(0, len(over)-b.cfg.Keep)] {
		delete(b.byID, i.ID)
		if b.cause[i.Cause] == i {
			delete(b.cause, i.Cause)
		}
	}
}
