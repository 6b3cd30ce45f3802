package outside

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Sender is a kind of system that sends alerts.
type Sender string

// The senders.
const (
	Alertmanager Sender = "alertmanager"
	Zabbix       Sender = "zabbix"
)

var senders = []Sender{Alertmanager, Zabbix}

// title is the sender as people write it.
func (s Sender) title() string {
	if s == Zabbix {
		return "Zabbix"
	}
	return "Alertmanager"
}

// stale is how long an alert that fires is believed without being told again. An Alertmanager repeats itself, every four hours if
// nobody changed that; a Zabbix tells of a problem once, and of its end.
func (s Sender) stale() time.Duration {
	if s == Zabbix {
		return 7 * 24 * time.Hour
	}
	return 24 * time.Hour
}

const (
	// tombstone is how long a resolved alert is remembered, so that a late word of its beginning does not bring it back.
	tombstone = time.Hour
	// forgetAlert is how long an alert that nobody repeats makes its nodes unknown, in times of stale.
	forgetAlert = 4
	// DefaultWithin is how long a sender may be silent where its source does not say.
	DefaultWithin = 10 * time.Minute
)

// Alert is one alert of a sender.
type Alert struct {
	Sender Sender            `json:"sender"`
	ID     string            `json:"id"` // fingerprint of an Alertmanager, event of a Zabbix
	Labels map[string]string `json:"labels"`
	Firing bool              `json:"firing"`
	Text   string            `json:"text,omitempty"`
	Since  time.Time         `json:"since"`
	Told   time.Time         `json:"told"` // by the board: when it was last spoken of

	sources []*alertSource // those that it matches
}

// name is what the alert is called.
func (a *Alert) name() string {
	return cmp.Or(a.Labels["alertname"], a.Labels["name"], a.ID)
}

// alertSource is what a component listens to.
type alertSource struct {
	ref       manifest.Ref
	sender    Sender
	match     map[string]string
	severity  string // the label that holds the severity
	levels    map[string]health.Level
	otherwise health.Level
	within    time.Duration
	firing    map[string]*Alert // those that match
}

type pair struct{ name, value string }

// SeverityLevels is what a severity means where the source does not say otherwise, in small letters.
func SeverityLevels() map[string]health.Level {
	return map[string]health.Level{
		"critical": health.Critical, "page": health.Critical, "disaster": health.Critical,
		"major": health.Major, "error": health.Major, "high": health.Major,
		"minor": health.Minor, "average": health.Minor, "warning": health.Warning,
		"info": health.Info, "information": health.Info, "none": health.Info, "not classified": health.Info,
	}
}

var severityLevels = SeverityLevels()

func (s *alertSource) level(a *Alert) health.Level {
	severity := strings.ToLower(a.Labels[s.severity])
	if l, ok := s.levels[severity]; ok {
		return l
	}
	if l, ok := severityLevels[severity]; ok {
		return l
	}
	return s.otherwise
}

// listen notes the source of a component.
func (b *Board) listen(sender Sender, ref manifest.Ref, spec *manifest.AlertSource) {
	s := &alertSource{
		ref: ref, sender: sender, match: spec.MatchLabels, severity: cmp.Or(spec.Severity, "severity"), levels: map[string]health.Level{},
		otherwise: health.Major, within: DefaultWithin, firing: map[string]*Alert{},
	}
	for word, l := range spec.Levels {
		s.levels[strings.ToLower(word)] = l
	}
	if spec.Otherwise != nil {
		s.otherwise = *spec.Otherwise
	}
	if spec.Within != nil {
		s.within = spec.Within.Std()
	}
	b.alerts[ref] = s
	if b.index[sender] == nil {
		b.index[sender] = map[pair][]*alertSource{}
	}
	for _, name := range slices.Sorted(maps.Keys(s.match)) {
		first := pair{name, s.match[name]}
		b.index[sender][first] = append(b.index[sender][first], s)
		break
	}
}

// match finds the sources that an alert is for.
func (b *Board) match(a *Alert) {
	for _, s := range a.sources {
		delete(s.firing, a.ID)
		b.dirty[s.ref] = true
	}
	a.sources = nil
	if !a.Firing {
		return
	}
	for name, value := range a.Labels {
		for _, s := range b.index[a.Sender][pair{name, value}] {
			if matches(s.match, a.Labels) {
				s.firing[a.ID] = a
				a.sources = append(a.sources, s)
				b.dirty[s.ref] = true
			}
		}
	}
}

func matches(want, have map[string]string) bool {
	for name, value := range want {
		if got, ok := have[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// Taken says what became of the alerts of one message.
type Taken struct {
	Firing, Resolved int
	Late             int // told of as beginning after they were told of as over
	Unmatched        int // firing, and no component listens to them
}

// Alerts takes in what a sender says; to say nothing proves that it is there. Where it holds no more alerts it takes in none of those
// of the message, and says so.
func (b *Board) Alerts(now time.Time, sender Sender, alerts []Alert) (Taken, error) {
	taken, err := b.take(now, sender, alerts)
	b.countAlerts(sender, taken, len(alerts), err)
	return taken, err
}

func (b *Board) take(now time.Time, sender Sender, alerts []Alert) (Taken, error) {
	var taken Taken
	fresh := 0
	for i := range alerts {
		if b.open[sender][alerts[i].ID] == nil && alerts[i].Firing {
			fresh++
		}
	}
	if held := len(b.open[Alertmanager]) + len(b.open[Zabbix]); held+fresh > MaxAlerts {
		return taken, fmt.Errorf("%w: %d alerts are held and %d more came, the most is %d", ErrFull, held, fresh, MaxAlerts)
	}
	if was, ok := b.heard[sender]; !ok || now.After(was) {
		b.wake(sender, was, now)
		b.heard[sender] = now.UTC()
		b.write(heardKey(sender), heardFrom{sender, now.UTC()})
	}
	for i := range alerts {
		a := alerts[i]
		a.Sender, a.Told = sender, now.UTC()
		old := b.open[sender][a.ID]
		if a.Since.IsZero() {
			if a.Since = now.UTC(); old != nil {
				a.Since = old.Since
			}
		}
		switch {
		case a.Firing && old != nil && !old.Firing && (sender == Zabbix || !a.Since.After(old.Since)):
			// A Zabbix never opens an event again.
			taken.Late++
			continue
		case !a.Firing && old == nil:
			taken.Resolved++ // of which nothing was known
			continue
		case a.Firing:
			taken.Firing++
		default:
			taken.Resolved++
			a.Since, a.Labels, a.Text = later(a.Since, old.Since), nil, ""
		}
		if old != nil {
			a.sources = old.sources
		}
		b.keep(&a)
		b.match(&a)
		if a.Firing && len(a.sources) == 0 {
			taken.Unmatched++
		}
		b.write(alertKey(sender, a.ID), a)
	}
	return taken, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (b *Board) keep(a *Alert) {
	if b.open[a.Sender] == nil {
		b.open[a.Sender] = map[string]*Alert{}
	}
	if old := b.open[a.Sender][a.ID]; old != nil && old.Firing {
		b.firing[a.Sender]--
	}
	if a.Firing {
		b.firing[a.Sender]++
	}
	b.open[a.Sender][a.ID] = a
}

// wake has the nodes looked at again that were unknown because the sender was silent.
func (b *Board) wake(sender Sender, was, now time.Time) {
	for ref, s := range b.alerts {
		if s.sender == sender && now.Sub(was) > s.within {
			b.dirty[ref] = true
		}
	}
}

// alarm returns what the alerts say of a component, and when time alone changes that.
func (b *Board) alarm(s *alertSource, now time.Time) (rng health.Range, text string, next time.Time) {
	heard, ok := b.heard[s.sender]
	if !ok {
		return health.Unknown, "no word from " + s.sender.title() + " yet", time.Time{}
	}
	if silent := heard.Add(s.within); !silent.After(now) {
		return health.Unknown, fmt.Sprintf("no word from %s since %s, expected every %s", s.sender.title(), stamp(heard), manifest.Duration(s.within)), time.Time{}
	} else {
		next = silent
	}
	rng = health.Exactly(health.OK)
	var worst *Alert
	more := 0
	for _, a := range slices.SortedFunc(maps.Values(s.firing), func(a, b *Alert) int {
		return cmp.Or(cmp.Compare(s.level(b), s.level(a)), a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	}) {
		says := health.Exactly(s.level(a))
		if stale := a.Told.Add(s.sender.stale()); !stale.After(now) {
			says = health.Unknown
		} else if stale.Before(next) {
			next = stale
		}
		rng.Low, rng.High = max(rng.Low, says.Low), max(rng.High, says.High)
		if worst == nil {
			worst = a
		} else {
			more++
		}
	}
	if worst == nil {
		return rng, "no alert", next
	}
	text = fmt.Sprintf("%s since %s", worst.name(), stamp(worst.Since))
	if worst.Text != "" && worst.Text != worst.name() {
		text += ": " + worst.Text
	}
	if !worst.Told.Add(s.sender.stale()).After(now) {
		text += ", no word of it since " + stamp(worst.Told)
	}
	if more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return rng, text, next
}

// cleanAlerts forgets alerts that are over and those that nobody speaks of any more.
func (b *Board) cleanAlerts(now time.Time) {
	for _, sender := range senders {
		for id, a := range b.open[sender] {
			keep := tombstone
			if a.Firing {
				keep = forgetAlert * sender.stale()
			}
			if now.Sub(a.Told) <= keep {
				continue
			}
			if a.Firing {
				b.firing[sender]--
			}
			a.Firing = false
			b.match(a)
			delete(b.open[sender], id)
			b.write(alertKey(sender, id), nil)
		}
	}
}
