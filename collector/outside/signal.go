package outside

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// The times of signals, and of levels that were set by hand.
const (
	DefaultTTL   = 5 * time.Minute
	MaxTTL       = 24 * time.Hour
	MaxSet       = 7 * 24 * time.Hour
	maxAhead     = time.Minute // how far the clock of a sender may be ahead of ours
	forgetSignal = 7 * 24 * time.Hour
)

// The words of a level beside ok ... critical.
const (
	levelUnknown = "unknown"
	levelGone    = "gone" // the sender takes back what it said
)

// Posted is a signal as it is posted, in words. Of Ref and Signal exactly one is set, of Until and TTL at most one.
type Posted struct {
	Ref    string `json:"ref"`    // of a node: service/NAME, component/NAME, component/NAME@HOST or host/NAME
	Signal string `json:"signal"` // the name that components listen to by source.signal
	Level  string `json:"level"`  // ok, info, warning, minor, major, critical, unknown, or gone
	Text   string `json:"text"`   // what was seen, for people
	Source string `json:"source"` // who says it; the name of the token where it is empty
	At     string `json:"at"`     // when it was seen, RFC 3339; now where it is empty
	Until  string `json:"until"`  // until when it counts, RFC 3339
	TTL    string `json:"ttl"`    // or for how long: 30s to 24h, 5m where neither is said
}

// Signal is a posted signal that was taken.
type Signal struct {
	Target string    `json:"target"` // a reference, or "signal:" and a name
	Source string    `json:"source"`
	Level  string    `json:"level"`
	Text   string    `json:"text,omitempty"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`
}

func nameTarget(name string) string { return "signal:" + name }

func targetRef(target string) (manifest.Ref, bool) {
	return manifest.Ref(target), !strings.HasPrefix(target, "signal:")
}

// Ref returns the node that the signal is about; empty where it is about a name.
func (s Signal) Ref() manifest.Ref {
	if ref, ok := targetRef(s.Target); ok {
		return ref
	}
	return ""
}

// Name returns the name that the signal is about; empty where it is about a node.
func (s Signal) Name() string {
	if name, ok := strings.CutPrefix(s.Target, "signal:"); ok {
		return name
	}
	return ""
}

// now returns what a signal says at a moment.
func (s Signal) now(now time.Time) (health.Range, string) {
	if !s.Until.After(now) {
		return health.Unknown, "no word since " + stamp(s.At)
	}
	return rangeOf(s.Level), s.Text
}

// rangeOf reads a level that was checked before.
func rangeOf(level string) health.Range {
	if l, err := health.ParseLevel(level); err == nil {
		return health.Exactly(l)
	}
	return health.Unknown
}

// Tell takes in a posted signal of a sender, or says in words why not. An error that wraps ErrFull is about a bound.
func (b *Board) Tell(now time.Time, by string, p Posted) (Signal, error) {
	s, err := b.tell(now, by, p)
	b.countSignal(err)
	return s, err
}

func (b *Board) tell(now time.Time, by string, p Posted) (Signal, error) {
	s, err := b.read(now, by, p)
	if err != nil {
		return s, err
	}
	old, held := b.signals[s.Target][s.Source]
	switch {
	case held && old.At.After(s.At):
		return s, fmt.Errorf("at %s: %s said something newer of %s at %s, which stands", stamp(s.At), s.Source, strings.TrimPrefix(s.Target, "signal:"), stamp(old.At))
	case p.Level == levelGone:
		if !held {
			return s, fmt.Errorf("level gone: %s has said nothing of %s", s.Source, strings.TrimPrefix(s.Target, "signal:"))
		}
		b.drop(s.Target, s.Source)
		b.back[s.Ref()] = true
		return s, nil
	case !held && b.count >= MaxSignals:
		return s, fmt.Errorf("%w: %d signals are held, which is the most", ErrFull, b.count)
	}
	if b.signals[s.Target] == nil {
		b.signals[s.Target], b.sources = map[string]Signal{}, nil
	}
	if !held {
		b.count++
	}
	b.signals[s.Target][s.Source] = s
	b.write(signalKey(s.Target, s.Source), s)
	b.touchTarget(s.Target)
	return s, nil
}

// read checks a posted signal.
func (b *Board) read(now time.Time, by string, p Posted) (Signal, error) {
	s := Signal{Source: p.Source, Level: p.Level, At: now.UTC()}
	switch {
	case p.Ref != "" && p.Signal != "":
		return s, fmt.Errorf("ref and signal: expected one of both, not both")
	case p.Ref != "":
		if !b.has(manifest.Ref(p.Ref)) {
			return s, b.stranger(p.Ref)
		}
		s.Target = p.Ref
	case p.Signal != "":
		if len(b.named[p.Signal]) == 0 {
			return s, unknownName("signal "+p.Signal+": no component listens to it", p.Signal, slices.Collect(maps.Keys(b.named)))
		}
		s.Target = nameTarget(p.Signal)
	default:
		return s, fmt.Errorf("ref is missing: say what the signal is about, such as component/web, or name a signal")
	}
	if _, err := health.ParseLevel(p.Level); err != nil && p.Level != levelUnknown && p.Level != levelGone {
		return s, fmt.Errorf("level %q: expected ok, info, warning, minor, major, critical, unknown or gone", p.Level)
	}
	if s.Source == "" {
		s.Source = by
	}
	if len(s.Source) > 100 || clean(s.Source) != s.Source {
		return s, fmt.Errorf("source %q: expected up to 100 printable characters", clean(s.Source))
	}
	if s.Text = clean(p.Text); len(p.Text) > 4096 {
		return s, fmt.Errorf("text has %d bytes: the most is 4096", len(p.Text))
	}
	var err error
	if s.At, err = momentOr(now, "at", p.At); err != nil {
		return s, err
	}
	if s.At.After(now.Add(maxAhead)) {
		return s, fmt.Errorf("at %s is in the future: it is %s here", p.At, stamp(now))
	}
	ttl := DefaultTTL
	switch {
	case p.Until != "" && p.TTL != "":
		return s, fmt.Errorf("until and ttl: expected one of both, not both")
	case p.Until != "":
		if s.Until, err = momentOr(now, "until", p.Until); err != nil {
			return s, err
		}
	default:
		if p.TTL != "" {
			if ttl, err = span("ttl", p.TTL, time.Second, MaxTTL); err != nil {
				return s, err
			}
		}
		s.Until = s.At.Add(ttl)
	}
	switch {
	case s.Until.Sub(s.At) > MaxTTL:
		return s, fmt.Errorf("until %s is more than %s after it was seen: say it again before then", p.Until, manifest.Duration(MaxTTL))
	case !s.Until.After(now):
		return s, fmt.Errorf("it counts until %s only, which is over: it is %s here", stamp(s.Until), stamp(now))
	}
	return s, nil
}

func (b *Board) stranger(ref string) error { return unknownName(ref+" is not on the map", ref, b.refs) }

func unknownName(text, name string, known []string) error {
	if hint := manifest.Nearest(name, known); hint != "" {
		text += " (" + hint + ")"
	}
	return fmt.Errorf("%s", text)
}

func momentOr(now time.Time, field, text string) (time.Time, error) {
	if text == "" {
		return now.UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%s %q is not a time: expected RFC 3339, such as 2026-11-25T10:00:00Z", field, clean(text))
	}
	return t.UTC(), nil
}

func span(field, text string, least, most time.Duration) (time.Duration, error) {
	var d manifest.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return 0, fmt.Errorf("%s: %w", field, err)
	}
	if d.Std() < least || d.Std() > most {
		return 0, fmt.Errorf("%s %s: expected %s to %s", field, text, manifest.Duration(least), manifest.Duration(most))
	}
	return d.Std(), nil
}

// drop forgets a signal.
func (b *Board) drop(target, source string) {
	if _, held := b.signals[target][source]; !held {
		return
	}
	delete(b.signals[target], source)
	b.count--
	if len(b.signals[target]) == 0 {
		delete(b.signals, target)
		b.sources = nil
	}
	b.write(signalKey(target, source), nil)
	b.touchTarget(target)
}

func (b *Board) touchTarget(target string) {
	if ref, ok := targetRef(target); ok {
		b.dirty[ref] = true
		return
	}
	for _, ref := range b.named[strings.TrimPrefix(target, "signal:")] {
		b.dirty[ref] = true
	}
}

// Signals returns the signals that are held, sorted by what they are about and by who said them.
func (b *Board) Signals() []Signal {
	var out []Signal
	for _, target := range slices.Sorted(maps.Keys(b.signals)) {
		for _, source := range slices.Sorted(maps.Keys(b.signals[target])) {
			out = append(out, b.signals[target][source])
		}
	}
	return out
}

// Hand is a level that an operator set by hand. It takes the place of what is measured of a leaf, and is one more input of what rests on
// others; it ends by itself.
type Hand struct {
	Ref    manifest.Ref `json:"ref"`
	Level  string       `json:"level"`
	By     string       `json:"by"`
	Reason string       `json:"reason"`
	At     time.Time    `json:"at"`
	Until  time.Time    `json:"until"`
}

func (h Hand) rng() health.Range { return rangeOf(h.Level) }

func (h Hand) text() string {
	return fmt.Sprintf("set to %s by %s until %s: %s", h.Level, h.By, stamp(h.Until), h.Reason)
}

// Set takes in a level that was set by hand until a moment, or for a time, or says in words why not.
func (b *Board) Set(now time.Time, ref, level, until, length, by, reason string) (Hand, error) {
	h := Hand{Ref: manifest.Ref(ref), Level: level, By: by, Reason: clean(reason), At: now.UTC()}
	if !b.has(h.Ref) {
		return h, b.stranger(ref)
	}
	if _, err := health.ParseLevel(level); err != nil && level != levelUnknown {
		return h, fmt.Errorf("level %q: expected ok, info, warning, minor, major, critical or unknown", level)
	}
	if h.Reason == "" || len(reason) > 1000 {
		return h, fmt.Errorf("reason is missing or longer than 1000 bytes: say why, for those who see it and for the audit log")
	}
	var err error
	switch {
	case (until == "") == (length == ""):
		return h, fmt.Errorf("until and for: expected exactly one of both; what is set by hand has to end, after at most %s", manifest.Duration(MaxSet))
	case until != "":
		if h.Until, err = momentOr(now, "until", until); err != nil {
			return h, err
		}
	default:
		d, err := span("for", length, time.Second, MaxSet)
		if err != nil {
			return h, err
		}
		h.Until = now.Add(d).UTC()
	}
	switch {
	case !h.Until.After(now):
		return h, fmt.Errorf("until %s is over: it is %s here", until, stamp(now))
	case h.Until.Sub(now) > MaxSet:
		return h, fmt.Errorf("until %s is more than %s from now: what is set by hand has to end before", until, manifest.Duration(MaxSet))
	}
	return h, nil
}

// Put has a level that Set accepted count from now on.
func (b *Board) Put(h Hand) {
	b.counts.add(countSet, 1)
	b.hands[h.Ref] = h
	b.dirty[h.Ref], b.sources = true, nil
}

// Hand returns what is set by hand on a node; ok is false where nothing is.
func (b *Board) Hand(now time.Time, ref manifest.Ref) (h Hand, ok bool) {
	h, ok = b.hands[ref]
	return h, ok && h.Until.After(now)
}

// Unset ends what was set by hand. Like Put it leaves the record to the caller.
func (b *Board) Unset(ref manifest.Ref) {
	delete(b.hands, ref)
	b.dirty[ref], b.back[ref], b.sources = true, true, nil
}

// Hands returns what is set by hand at a moment, sorted by reference.
func (b *Board) Hands(now time.Time) []Hand {
	var out []Hand
	for _, ref := range slices.Sorted(maps.Keys(b.hands)) {
		if h := b.hands[ref]; h.Until.After(now) {
			out = append(out, h)
		}
	}
	return out
}
