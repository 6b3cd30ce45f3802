package collector

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/outside"
	"github.com/evenkeel/evenkeel/collector/poll"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/collector/store"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// outsiders is what the decider needs for what is said of the map from outside.
type outsiders struct {
	board *outside.Board // owned by the decider's goroutine
	words *words
	// ask has queries and checks asked from time to time; the answers come back through answered.
	ask func([]poll.Item)
	// asked are the queries by their key in the poller; owned by the decider's goroutine.
	asked map[string]outside.Query
	every time.Duration // of a query that does not say
}

func newOutsiders(s state.Store, every time.Duration, log *slog.Logger) outsiders {
	return outsiders{
		board: outside.NewBoard(), words: &words{store: s, log: log, pending: map[string][]byte{}, wake: make(chan struct{}, 1)},
		ask: func([]poll.Item) {}, every: every,
	}
}

const (
	checkEvery  = 30 * time.Second // how often an external part is checked
	pollTimeout = 10 * time.Second // bounds one query or check
)

// newPoller returns what asks queries and checks of the outside, and tells the decider of the answers.
func (d *decider) newPoller(p Prometheus, samples *store.Store) (*poll.Poller, error) {
	var querier poll.Querier = ownStore{samples, d.clock}
	if p.URL != "" {
		var err error
		if querier, err = poll.NewPrometheus(p.URL, p.BearerTokenFile, d.clock); err != nil {
			return nil, err
		}
	}
	poller := poll.New(poll.Config{Querier: querier, Checker: poll.NewAsker(), Timeout: pollTimeout, Now: d.clock, Tell: d.answered, Log: d.log})
	d.outside.ask = poller.Use
	return poller, nil
}

// loadOutside reads what was said before the start.
func (d *decider) loadOutside(ctx context.Context, s state.Store) error {
	all, _, err := s.List(ctx, outside.Prefix)
	if err != nil {
		return fmt.Errorf("cannot read signals: %w", err)
	}
	for _, kv := range all {
		if err := d.outside.board.Load(outside.Record{Key: kv.Key, Value: kv.Value}); err != nil {
			return err
		}
	}
	return nil
}

// drawOutside tells a map that was drawn anew all that is said of it from outside.
func (d *decider) drawOutside(now time.Time) {
	o := &d.outside
	o.board.Draw(d.keeper.Set(), d.health.Graph())
	var items []poll.Item
	o.asked = map[string]outside.Query{}
	for _, q := range o.board.Queries() {
		i := poll.Item{Key: string(q.Ref) + " " + q.Source, Query: q.PromQL, Every: q.Every}
		switch {
		case q.Check != nil:
			i.HTTP, i.TCP, i.Every = q.Check.HTTP, q.Check.TCP, checkEvery
		case i.Every == 0:
			i.Every = o.every
		}
		o.asked[i.Key] = q
		items = append(items, i)
	}
	o.ask(items)
	d.tellOutside(now)
}

// tellOutside tells the map what is new from outside, and reports whether the health of anything changed.
func (d *decider) tellOutside(now time.Time) bool {
	changed := d.health.Update(now, d.outside.board.Flush(now)...)
	records, err := d.outside.board.Changed()
	if err != nil {
		d.log.Error("what was said from outside cannot be kept", "error", err)
	}
	d.outside.words.put(records)
	return len(changed) > 0
}

// hearOutside has something from outside count at once. Where only a text changed, the next tick publishes it.
func (d *decider) hearOutside(now time.Time) {
	if d.tellOutside(now) {
		d.judge(now)
	}
}

// answered takes in an answer of the poller. It may be called from any goroutine.
func (d *decider) answered(key string, a poll.Answer) {
	d.do(func(now time.Time) {
		q, ok := d.outside.asked[key]
		if !ok {
			return
		}
		rng, text := health.Unknown, a.Text
		switch {
		case a.Err != nil:
			text = "no answer: " + a.Err.Error()
		case q.Check == nil:
			rng, text = outside.Judge(q.Levels, a.Values)
		case a.State == poll.Up:
			rng = health.Exactly(health.OK)
		case a.State == poll.Down:
			rng = health.Exactly(health.Critical)
		}
		d.outside.board.Answer(q.Ref, q.Source, rng, text)
		d.hearOutside(now)
	})
}

// opensAt is the level from which on what is said from outside opens an incident, as a detector's "at risk", which is a warning, does not.
const opensAt = health.Minor

// saidByHand ends the title of an incident that a person opened by setting a level.
const saidByHand = ", says " + servicemap.ByHand

// outsideCauses is what is wrong by what is said from outside, and what is no longer.
func (d *decider) outsideCauses(snapshot *servicemap.Snapshot, now time.Time) []incident.Cause {
	var out []incident.Cause
	for _, ref := range d.outside.board.Sources() {
		rng, source, text := d.outside.board.Said(ref, snapshot.IsLeaf(ref))
		c := incident.Cause{Ref: string(ref), Condition: incident.Unknown}
		if _, c.Host = ref.Member(); ref.Kind() == "host" {
			c.Host = ref.Name()
		}
		switch {
		case rng.Low >= opensAt:
			c.Condition, c.Level = incident.Bad, rng.Low
			d.outside.board.Forget(ref)
		case rng.High < opensAt:
			// Most parts are well, and never were anything else.
			if _, open := d.book.Of(now, c.Ref); !open {
				continue
			}
			c.Condition = incident.Good
		default:
			// What one person said alone, and took back, is over, though nothing else is known of the part.
			if i, open := d.book.Of(now, c.Ref); open && rng.Low < opensAt && d.outside.board.WasTakenBack(ref) && strings.HasSuffix(i.Title, saidByHand) {
				c.Condition = incident.Good
			}
			out = append(out, c)
			continue
		}
		if c.Condition == incident.Bad {
			c.Title, c.Detail = fmt.Sprintf("%s is %s, says %s", ref, rng.Low, source), text
			switch {
			case snapshot.NotInMap(ref):
				c.Title = fmt.Sprintf("%s is %s and all its parts are well: the cause is not in the map", ref, rng.Low)
				c.Detail = source + " says " + rng.Low.String() + " (" + text + ")"
			case ref.Kind() == "service" && d.partIsBad(snapshot, ref):
				// What a part does to a service is the part's, and opens no second incident; one that is open stays its own.
				if _, open := d.book.Of(now, c.Ref); !open {
					continue
				}
			}
			c.Impacts = d.impacts(snapshot, now, ref)
		}
		out = append(out, c)
	}
	// Where a word was taken back that opened an incident, and nothing else says that the part is bad, it is over.
	for _, ref := range d.outside.board.TakenBack() {
		n, ok := snapshot.Node(ref)
		if _, open := d.book.Of(now, string(ref)); !open || !ok {
			d.outside.board.Forget(ref)
			continue
		}
		if len(n.Signals) == 0 || n.Own.High < opensAt {
			out = append(out, incident.Cause{Ref: string(ref), Condition: incident.Good})
		}
	}
	return out
}

func (d *decider) partIsBad(snapshot *servicemap.Snapshot, service manifest.Ref) bool {
	n, _ := snapshot.Node(service)
	for _, in := range n.Why.Inputs {
		if r, ok := snapshot.Range(manifest.Ref(in.Ref)); ok && in.Ref != string(service) && r.Low >= opensAt {
			return true
		}
	}
	return false
}

// gapNote begins the event that says that a map lacks something.
const gapNote = "gap in the map, for review: "

// noteGaps records on the incident of a service that is bad without any of its parts that the map lacks what it depends on.
func (d *decider) noteGaps(snapshot *servicemap.Snapshot, now time.Time) {
	for _, ref := range d.outside.board.Sources() {
		if !snapshot.NotInMap(ref) {
			continue
		}
		i, open := d.book.Of(now, string(ref))
		if !open || !i.GapAt.IsZero() {
			continue
		}
		text := gapNote + snapshot.NotInMapText(ref) + "; find out what else it needs, and add it to dependsOn"
		if i, err := d.book.Gap(now, i.ID, text); err == nil {
			d.changed(i)
		}
	}
}

// words writes what was said from outside to the state engine on a goroutine of its own, the newest of each, within a second: what was said
// in the last second before a crash is as if it had not been said. What is set by hand is written before it counts.
type words struct {
	store state.Store
	log   *slog.Logger

	mu      sync.Mutex
	pending map[string][]byte // nil: to be deleted
	wake    chan struct{}     // room for one

	writing sync.Mutex // held over a write, so that a later one is not overtaken
}

const (
	wordsSettle = time.Second
	wordsBatch  = 200
	wordsBytes  = 512 << 10
)

func (w *words) put(records []outside.Record) {
	if len(records) == 0 {
		return
	}
	w.mu.Lock()
	for _, r := range records {
		w.pending[r.Key] = r.Value
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// now writes one record before it returns; a Value of nil deletes it.
func (w *words) now(ctx context.Context, r outside.Record) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	delete(w.pending, r.Key)
	w.mu.Unlock()
	_, _, err := w.store.Txn(ctx, nil, []state.Op{{Key: r.Key, Value: r.Value, Delete: r.Value == nil}})
	return err
}

// run writes until ctx ends, and then what is left.
func (w *words) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			w.flush(last)
			return nil
		case <-w.wake:
		}
		select {
		case <-ctx.Done():
			continue
		case <-time.After(wordsSettle):
		}
		if !w.flush(ctx) {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

// flush writes all that is pending and reports whether it could.
func (w *words) flush(ctx context.Context) bool {
	w.writing.Lock()
	defer w.writing.Unlock()
	for {
		var ops []state.Op
		size := 0
		w.mu.Lock()
		for key, value := range w.pending {
			if len(ops) == wordsBatch || size > wordsBytes {
				break
			}
			ops = append(ops, state.Op{Key: key, Value: value, Delete: value == nil})
			size += len(key) + len(value)
			delete(w.pending, key)
		}
		w.mu.Unlock()
		if len(ops) == 0 {
			return true
		}
		if _, _, err := w.store.Txn(ctx, nil, ops); err != nil {
			w.log.Warn("what was said from outside was not written, it will be tried again", "count", len(ops), "error", err)
			w.mu.Lock()
			for _, op := range ops {
				if _, newer := w.pending[op.Key]; !newer {
					w.pending[op.Key] = op.Value
				}
			}
			w.mu.Unlock()
			return false
		}
	}
}

// ownStore asks the collector's own samples.
type ownStore struct {
	samples *store.Store
	now     func() time.Time
}

// Query evaluates an expression now.
func (s ownStore) Query(ctx context.Context, expr string) ([]float64, error) {
	r, err := s.samples.Query(ctx, expr, s.now())
	if err != nil {
		return nil, err
	}
	if r.Type != "scalar" && r.Type != "vector" {
		return nil, fmt.Errorf("the query returned a %s: expected a number", r.Type)
	}
	out := make([]float64, 0, len(r.Series))
	for _, series := range r.Series {
		for _, p := range series.Points {
			out = append(out, p.Value)
		}
	}
	return out, nil
}

// signalsBackend answers the API.
type signalsBackend struct{ *backend }

func (b signalsBackend) Tell(ctx context.Context, by string, posted []outside.Posted) ([]error, error) {
	why := make([]error, len(posted))
	err := b.decider.ask(ctx, func(now time.Time) {
		for i, p := range posted {
			_, why[i] = b.decider.outside.board.Tell(now, by, p)
		}
		b.decider.hearOutside(now)
	})
	return why, err
}

func (b signalsBackend) Signals(ctx context.Context) (out []outside.Signal, err error) {
	err = b.decider.ask(ctx, func(time.Time) { out = b.decider.outside.board.Signals() })
	return out, err
}

func (b signalsBackend) Alerts(ctx context.Context, sender outside.Sender, m outside.Message) (taken outside.Taken, err error) {
	asking := b.decider.ask(ctx, func(now time.Time) {
		taken, err = b.decider.outside.board.Alerts(now, sender, m.Alerts)
		b.decider.hearOutside(now)
	})
	if asking != nil {
		return taken, asking
	}
	return taken, err
}

func (b signalsBackend) Check(ctx context.Context, ref, level, until, length, by, reason string) (h outside.Hand, err error) {
	asking := b.decider.ask(ctx, func(now time.Time) { h, err = b.decider.outside.board.Set(now, ref, level, until, length, by, reason) })
	if asking != nil {
		return h, asking
	}
	if err != nil {
		return h, recoded{err, api.ErrInvalid}
	}
	return h, nil
}

func (b signalsBackend) Set(ctx context.Context, h outside.Hand) error {
	r, err := outside.HandRecord(h)
	if err != nil {
		return err
	}
	if err := b.decider.outside.words.now(ctx, r); err != nil {
		return err
	}
	return b.decider.ask(ctx, func(now time.Time) {
		b.decider.outside.board.Put(h)
		b.decider.hearOutside(now)
	})
}

func (b signalsBackend) Unset(ctx context.Context, ref manifest.Ref) (h outside.Hand, err error) {
	var set bool
	if err := b.decider.ask(ctx, func(now time.Time) { h, set = b.decider.outside.board.Hand(now, ref) }); err != nil {
		return h, err
	}
	if !set {
		return h, fmt.Errorf("%s is not set by hand: %w", ref, api.ErrNotFound)
	}
	if err := b.decider.outside.words.now(ctx, outside.Record{Key: outside.HandKey(ref)}); err != nil {
		return h, err
	}
	return h, b.decider.ask(ctx, func(now time.Time) {
		b.decider.outside.board.Unset(ref)
		b.decider.hearOutside(now)
	})
}

func (b signalsBackend) Hands(ctx context.Context) (out []outside.Hand, err error) {
	err = b.decider.ask(ctx, func(now time.Time) { out = b.decider.outside.board.Hands(now) })
	return out, err
}
