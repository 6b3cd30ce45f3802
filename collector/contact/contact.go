// Package contact says whom to call about something that is bad: from a cause and a moment to the team that owns it, those
// of its people who are there now, whom it escalates to, the vendor with a contract, and the fallback; each step with its
// reason, and every gap on the way.
//
// It is pure and reads manifests only. It calls nobody, and it does not guess: where a calendar cannot be read, it says
// that it does not know whether somebody is there.
package contact

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Hours are those of a calendar.
type Hours interface {
	// Spans yields the open stretches within [from, to), clipped to it, in order and without overlap.
	Spans(from, to time.Time) iter.Seq2[time.Time, time.Time]
}

// Lookup returns the hours of a calendar.
type Lookup func(calendar manifest.Ref) (Hours, error)

// What a step says about calling.
const (
	Now     = "now"     // there is somebody
	Later   = "later"   // when nobody has taken it by then
	Closed  = "closed"  // nobody is there, or nobody is bound to answer
	Spare   = "spare"   // only if nobody else is there, and somebody is
	Unclear = "unknown" // the calendar cannot be read
)

// Step is one step on the way. Name, Phone and Email are those of a contact; they are empty for steps that only lead on.
type Step struct {
	Ref   manifest.Ref `json:"ref"`
	Name  string       `json:"name,omitempty"`
	Phone string       `json:"phone,omitempty"`
	Email string       `json:"email,omitempty"`
	// Call is empty for steps that only lead on.
	Call string `json:"call,omitempty"`
	// After is how long to wait before an escalation, "15m".
	After string `json:"after,omitempty"`
	// Opens is when somebody is there again, RFC 3339; empty where that is not within two weeks, or does not matter.
	Opens string `json:"opens,omitempty"`
	Why   string `json:"why"`
}

// Gap is something that is missing: who should be there, and is not.
type Gap struct {
	Ref  manifest.Ref `json:"ref"`
	Text string       `json:"text"`
}

// Answer says whom to call. Its JSON is canonical: nothing depends on the order of files.
type Answer struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Of         manifest.Ref `json:"of"`
	At         string       `json:"at"` // RFC 3339
	Steps      []Step       `json:"steps"`
	Gaps       []Gap        `json:"gaps"`
}

// First returns the step of whom to call now.
func (a *Answer) First() (Step, bool) {
	for _, s := range a.Steps {
		if s.Call == Now {
			return s, true
		}
	}
	return Step{}, false
}

// Who answers whom to call about of, a service, component, member of one, or host, at a moment. hours may be nil: then no
// calendar can be read. It fails when of is not among the manifests.
func Who(set *manifest.Set, of manifest.Ref, at time.Time, hours Lookup) (Answer, error) {
	f := &finder{set: set, at: at, hours: hours, seen: map[manifest.Ref]bool{}}
	f.out = Answer{
		APIVersion: manifest.APIVersion, Kind: "Contacts", Of: of, At: at.UTC().Format(time.RFC3339), Steps: []Step{}, Gaps: []Gap{},
	}
	parts, err := f.parts(of)
	if err != nil {
		return Answer{}, err
	}
	f.support(parts)
	owners := f.owners(of, parts)
	for _, o := range owners {
		f.team(o)
	}
	for _, p := range parts {
		f.vendorOf(p)
	}
	f.fallbacks(owners)
	if _, ok := f.out.First(); !ok {
		f.gap(of, "nobody is to be reached now")
	}
	return f.out, nil
}

type finder struct {
	set   *manifest.Set
	at    time.Time
	hours Lookup
	seen  map[manifest.Ref]bool // vendors that were told
	out   Answer
}

func (f *finder) step(s Step) { f.out.Steps = append(f.out.Steps, s) }

func (f *finder) gap(ref manifest.Ref, format string, args ...any) {
	g := Gap{ref, fmt.Sprintf(format, args...)}
	if !slices.Contains(f.out.Gaps, g) {
		f.out.Gaps = append(f.out.Gaps, g)
	}
}

// parts returns the resources that a cause stands for: itself, or the components on a host.
func (f *finder) parts(of manifest.Ref) ([]*manifest.Resource, error) {
	base, member := of.Member()
	r, ok := f.set.Get(base)
	switch of.Kind() {
	case "service", "component":
		if !ok {
			return nil, fmt.Errorf("%s is not there", base)
		}
		if member != "" {
			f.step(Step{Ref: base, Why: fmt.Sprintf("%s is one of its members", of)})
		}
		return []*manifest.Resource{r}, nil
	case "host":
		return f.onHost(of, r)
	}
	return nil, fmt.Errorf("%s: expected a service, a component, or a host", of)
}

func (f *finder) onHost(of manifest.Ref, r *manifest.Resource) ([]*manifest.Resource, error) {
	labels := map[string]string{}
	if r != nil {
		for k, v := range r.Metadata.Labels {
			labels[k] = v
		}
		if h, ok := r.Spec.(*manifest.Host); ok {
			for k, v := range h.Labels {
				labels[k] = v
			}
		}
	}
	var out []*manifest.Resource
	for c, spec := range manifest.Of[manifest.Component](f.set) {
		if spec.Hosts.Matches(of.Name(), labels) {
			f.step(Step{Ref: c.Ref(), Why: fmt.Sprintf("it runs on %s", of)})
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		if r == nil {
			return nil, fmt.Errorf("%s is not there", of)
		}
		f.gap(of, "no component runs on it, so nobody owns what it does")
	}
	return out, nil
}

// owner is a team with the reason for which it is called.
type owner struct {
	team manifest.Ref
	why  string
}

func owned(r *manifest.Resource) (out []owner) {
	add := func(team manifest.Ref, why string) {
		if team != "" && !slices.ContainsFunc(out, func(o owner) bool { return o.team == team }) {
			out = append(out, owner{team, why})
		}
	}
	switch s := r.Spec.(type) {
	case *manifest.Component:
		if s.Repair != nil {
			add(s.Repair.Team, fmt.Sprintf("it mends %s", r.Ref()))
		}
		add(s.Owner, fmt.Sprintf("it owns %s", r.Ref()))
	case *manifest.Service:
		add(s.Owner, fmt.Sprintf("it owns %s", r.Ref()))
	}
	return out
}

// owners returns the teams to call: those of the cause, or, where it has none, those of what depends on it.
func (f *finder) owners(of manifest.Ref, parts []*manifest.Resource) []owner {
	var out []owner
	add := func(list []owner, also string) {
		for _, o := range list {
			if !slices.ContainsFunc(out, func(x owner) bool { return x.team == o.team }) {
				out = append(out, owner{o.team, o.why + also})
			}
		}
	}
	for _, p := range parts {
		own := owned(p)
		if len(own) == 0 {
			f.gap(p.Ref(), "it has no owner")
		}
		add(own, "")
	}
	if len(out) > 0 {
		return out
	}
	for _, layer := range f.above(of, parts) {
		for _, r := range layer {
			add(owned(r), fmt.Sprintf(", which rests on %s", of))
		}
		if len(out) > 0 {
			return out
		}
	}
	f.gap(of, "nobody owns it, nor anything that rests on it")
	return nil
}

// above returns what rests on something, by its distance: services that depend on it, and components that cannot be mended
// before it.
func (f *finder) above(of manifest.Ref, parts []*manifest.Resource) [][]*manifest.Resource {
	below := map[manifest.Ref]bool{of: true}
	for _, p := range parts {
		below[p.Ref()] = true
	}
	var out [][]*manifest.Resource
	for {
		var layer []*manifest.Resource
		for r, s := range manifest.Of[manifest.Service](f.set) {
			if !below[r.Ref()] && slices.ContainsFunc(s.DependsOn, func(d manifest.Dependency) bool { return below[d.Ref] }) {
				layer = append(layer, r)
			}
		}
		for r, c := range manifest.Of[manifest.Component](f.set) {
			if !below[r.Ref()] && c.Repair != nil && slices.ContainsFunc(c.Repair.After, func(ref manifest.Ref) bool { return below[ref] }) {
				layer = append(layer, r)
			}
		}
		if len(layer) == 0 {
			return out
		}
		for _, r := range layer {
			below[r.Ref()] = true
		}
		out = append(out, layer)
	}
}

// support says whether the services that are hit are supported now.
func (f *finder) support(parts []*manifest.Resource) {
	told := map[manifest.Ref]bool{}
	tell := func(r *manifest.Resource) {
		s, ok := r.Spec.(*manifest.Service)
		if !ok || s.SupportHours == "" || told[r.Ref()] {
			return
		}
		told[r.Ref()] = true
		x := f.stateAt(s.SupportHours, f.at)
		f.step(Step{Ref: r.Ref(), Opens: x.opens, Why: fmt.Sprintf("it is supported in %s: %s", s.SupportHours, x.text)})
	}
	for _, p := range parts {
		tell(p)
	}
	for _, p := range parts {
		for _, layer := range f.above(p.Ref(), []*manifest.Resource{p}) {
			for _, r := range layer {
				tell(r)
			}
		}
	}
}

func (f *finder) team(o owner) {
	t, ok := manifest.SpecOf[manifest.Team](f.set, o.team)
	f.step(Step{Ref: o.team, Why: o.why})
	if !ok {
		f.gap(o.team, "it is not there")
		return
	}
	if n := f.contacts(o.team, t.Contacts, 0, "a contact of "+string(o.team)); n == 0 {
		f.gap(o.team, "no contact is there now")
	}
	for _, e := range t.Escalation {
		f.escalate(o.team, e)
	}
}

// escalate tells who is called when nobody has answered: whoever is there by then.
func (f *finder) escalate(from manifest.Ref, e manifest.Escalation) {
	why := fmt.Sprintf("%s escalates to it after %s", from, e.After)
	f.step(Step{Ref: e.To, After: e.After.String(), Why: why})
	r, ok := f.set.Get(e.To)
	if !ok {
		f.gap(e.To, "it is not there")
		return
	}
	n := 0
	switch s := r.Spec.(type) {
	case *manifest.Team:
		n = f.contacts(e.To, s.Contacts, e.After.Std(), why)
		if n == 0 && s.Fallback != nil {
			f.step(stepOf(e.To, *s.Fallback, Later, e.After.Std(), "its fallback, since no contact of it is there by then"))
			n++
		}
	case *manifest.Vendor:
		n = f.vendor(e.To, s, e.After.Std(), why)
	}
	if n == 0 {
		f.gap(e.To, "%s escalates to it after %s, and no contact is there then", from, e.After)
	}
}

// contacts tells the contacts of a list, those who are there first, and returns how many are.
func (f *finder) contacts(of manifest.Ref, list []manifest.Contact, after time.Duration, why string) int {
	n := 0
	var steps []Step
	for _, c := range list {
		s, there := f.contact(of, c, after, why)
		if there {
			n++
		}
		steps = append(steps, s)
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(rank(a.Call), rank(b.Call)) })
	f.out.Steps = append(f.out.Steps, steps...)
	return n
}

func rank(call string) int {
	return slices.Index([]string{Now, Later, Unclear, Closed, Spare}, call)
}

func stepOf(ref manifest.Ref, c manifest.Contact, call string, after time.Duration, why string) Step {
	s := Step{Ref: ref, Name: c.Name, Phone: c.Phone, Email: c.Email, Call: call, Why: why}
	if after > 0 {
		s.After = manifest.Duration(after).String()
	}
	return s
}

func (f *finder) contact(of manifest.Ref, c manifest.Contact, after time.Duration, why string) (Step, bool) {
	call := Now
	if after > 0 {
		call = Later
	}
	if c.Hours == "" {
		return stepOf(of, c, call, after, why+", there around the clock"), true
	}
	x := f.stateAt(c.Hours, f.at.Add(after))
	s := stepOf(of, c, call, after, fmt.Sprintf("%s, there in %s: %s", why, c.Hours, x.text))
	switch {
	case !x.known:
		s.Call = Unclear
		f.gap(of, "whether %s is there is not known: %s", c.Name, x.text)
	case !x.open:
		s.Call, s.Opens = Closed, x.opens
	}
	return s, x.open
}

func (f *finder) vendorOf(r *manifest.Resource) {
	var ref manifest.Ref
	switch s := r.Spec.(type) {
	case *manifest.Component:
		if s.External != nil {
			ref = s.External.Vendor
		}
	case *manifest.Service:
		ref = s.Vendor
	}
	if ref == "" || f.seen[ref] {
		return
	}
	f.seen[ref] = true
	v, ok := manifest.SpecOf[manifest.Vendor](f.set, ref)
	if !ok {
		f.gap(ref, "it is not there")
		return
	}
	why := fmt.Sprintf("it provides %s", r.Ref())
	f.step(Step{Ref: ref, Why: why + contract(v)})
	if f.vendor(ref, v, 0, why) == 0 {
		f.gap(ref, "no contact is bound to answer now")
	}
}

// vendor tells the contacts of a vendor; outside the hours of the contract none is bound to answer.
func (f *finder) vendor(ref manifest.Ref, v *manifest.Vendor, after time.Duration, why string) int {
	if v.Hours == "" {
		return f.contacts(ref, v.Contacts, after, why)
	}
	x := f.stateAt(v.Hours, f.at.Add(after))
	if x.open {
		return f.contacts(ref, v.Contacts, after, fmt.Sprintf("%s, under contract in %s: %s", why, v.Hours, x.text))
	}
	call := Closed
	if !x.known {
		call = Unclear
		f.gap(ref, "whether its contract holds now is not known: %s", x.text)
	}
	for _, c := range v.Contacts {
		s := stepOf(ref, c, call, after, fmt.Sprintf("%s, under contract in %s: %s", why, v.Hours, x.text))
		s.Opens = x.opens
		f.step(s)
	}
	return 0
}

func contract(v *manifest.Vendor) string {
	var b strings.Builder
	if v.Contract != "" {
		fmt.Fprintf(&b, ", contract %s", v.Contract)
	}
	for _, t := range v.Targets {
		var promised []string
		if t.Response != 0 {
			promised = append(promised, fmt.Sprintf("responds in %s", t.Response))
		}
		if t.Restore != 0 {
			promised = append(promised, fmt.Sprintf("restores in %s", t.Restore))
		}
		fmt.Fprintf(&b, "; priority %d: %s", t.Priority, strings.Join(promised, ", "))
	}
	return b.String()
}

// fallbacks tells those of the teams. They are for the case that nobody else is there.
func (f *finder) fallbacks(owners []owner) {
	_, somebody := f.out.First()
	for _, o := range owners {
		t, ok := manifest.SpecOf[manifest.Team](f.set, o.team)
		if !ok {
			continue
		}
		switch {
		case t.Fallback == nil && !somebody:
			f.gap(o.team, "it has no fallback")
		case t.Fallback != nil && somebody:
			f.step(stepOf(o.team, *t.Fallback, Spare, 0, "the fallback of "+string(o.team)+": not needed, somebody is there"))
		case t.Fallback != nil:
			f.step(stepOf(o.team, *t.Fallback, Now, 0, "the fallback of "+string(o.team)+": nobody else is there"))
		}
	}
}

// openness is what is known of a calendar at a moment.
type openness struct {
	open, known bool
	text, opens string
}

func (f *finder) stateAt(calendar manifest.Ref, at time.Time) openness {
	if f.hours == nil {
		return openness{text: fmt.Sprintf("%s cannot be read by this version", calendar)}
	}
	h, err := f.hours(calendar)
	if err != nil {
		return openness{text: err.Error()}
	}
	for from := range h.Spans(at, at.AddDate(0, 0, 14)) {
		if !from.After(at) {
			return openness{open: true, known: true, text: "open"}
		}
		stamp := from.UTC().Format(time.RFC3339)
		return openness{known: true, text: "closed until " + stamp, opens: stamp}
	}
	return openness{known: true, text: "closed, and for two weeks"}
}
