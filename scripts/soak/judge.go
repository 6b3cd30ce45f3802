package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/agent/spool"
	"github.com/evenkeel/evenkeel/pkg/chain"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// report is what a run came to.
type report struct {
	kills  kills
	wanted int // rounds
	took   time.Duration

	witnessed, spooled samples
	deeds              *deeds
	lives              int // of the agent, that came to a tick
	actions            int
	applied            int
	states             map[string]int
	audited            uint64   // entries of the audit log
	held               []string // what was not taken back
	wrong              []string // everything else that is wrong
}

// samples counts what should be there.
type samples struct {
	checked, missing, different int
	first                       []string // of those that are not as they should be
}

func (s *samples) check(got map[int64]float64, series string, at int64, want float64) {
	s.checked++
	v, found := got[at]
	switch {
	case !found:
		s.missing++
		s.note("%s at %s is missing", series, time.UnixMilli(at).UTC().Format("15:04:05.000"))
	case math.Float64bits(v) != math.Float64bits(want):
		s.different++
		s.note("%s at %s is %v and not %v", series, time.UnixMilli(at).UTC().Format("15:04:05.000"), v, want)
	}
}

func (s *samples) note(format string, args ...any) {
	if len(s.first) < 10 {
		s.first = append(s.first, fmt.Sprintf(format, args...))
	}
}

// judge ends the work, waits until everything is taken back and stored, and looks everything up.
func (w *world) judge(ctx context.Context) (*report, error) {
	r := &report{states: map[string]int{}}
	if err := w.job(false); err != nil {
		return nil, err
	}
	for _, p := range []*process{w.collector, w.agent, w.actor, w.witness} {
		if !p.running() {
			return nil, errors.New(p.death())
		}
	}
	began := time.Now()
	if err := until(ctx, 30*time.Second, "taken back", func() error {
		if !w.groups.free() {
			return fmt.Errorf("%s: %s", w.groups.knob(), w.groups.reads())
		}
		return nil
	}); err != nil {
		r.held = append(r.held, err.Error())
	} else {
		fmt.Printf("soak: %s: %s again, %s after the last round\n", w.groups.knob(), w.groups.neutral, since(began))
	}
	// What the agent still has to send can only be there once it is back, and may be the overload that calls for one action more.
	if err := until(ctx, time.Minute, "agent and actor are connected again", func() error { return w.connected(ctx) }); err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
	if err := w.settled(ctx, r); err != nil {
		return nil, err
	}
	w.stop() // nothing is to happen any more
	if err := w.leases(ctx, r); err != nil {
		return nil, err
	}
	for _, p := range []*process{w.witness, w.agent, w.actor} {
		if err := p.stop(witnessDrain + 10*time.Second); err != nil {
			r.wrong = append(r.wrong, err.Error())
		}
	}
	if code := w.witness.cmd.ProcessState.ExitCode(); code != 0 {
		r.wrong = append(r.wrong, "witness: "+w.witness.death())
	}
	if !w.groups.free() {
		r.held = append(r.held, fmt.Sprintf("%s: %s at the end", w.groups.knob(), w.groups.reads()))
	}
	if err := w.deedsOf(ctx, r); err != nil {
		return nil, err
	}
	if err := w.audited(ctx, r); err != nil {
		return nil, err
	}
	if err := w.lookUpWitnessed(ctx, r); err != nil {
		return nil, err
	}
	return r, w.lookUpSpooled(ctx, r)
}

// calm is for how long no action may be under way before nothing more is to come: the detector's own window of ticks.
const calm = 5 * time.Second

// settled waits until the ledger knows the end of every action and begins no other.
func (w *world) settled(ctx context.Context, r *report) error {
	var all []*operatorv1.Action
	began, n := time.Now(), 0
	err := until(ctx, time.Minute, "every action has ended", func() error {
		return w.ask(ctx, func(ctx context.Context) error {
			l, err := w.api.Actions.ListActions(ctx, &operatorv1.ListActionsRequest{})
			if err != nil {
				return err
			}
			all = l.Actions
			for _, a := range all {
				if a.EndedAt == "" {
					began = time.Now()
					return fmt.Errorf("action %s is %s", a.Id, a.State)
				}
			}
			if len(all) != n {
				began, n = time.Now(), len(all)
			}
			if time.Since(began) < calm {
				return errors.New("new actions keep coming")
			}
			return nil
		})
	})
	if err != nil {
		r.held = append(r.held, err.Error())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range all {
		delete(w.seen, a.Id)
		r.actions++
		r.states[a.State]++
		switch a.State {
		case "revert-failed", "indeterminate", "drifted", "mechanism-failed":
			r.wrong = append(r.wrong, fmt.Sprintf("action %s is %s: %s", a.Id, a.State, ending(a)))
		}
	}
	for id := range w.seen {
		r.wrong = append(r.wrong, "action "+id+" was shown once and is in the ledger no more")
	}
	return nil
}

func ending(a *operatorv1.Action) string {
	var out []string
	for _, e := range a.Timeline {
		out = append(out, e.What)
	}
	return strings.Join(out, " | ")
}

// leases asks the actor itself what it holds.
func (w *world) leases(ctx context.Context, r *report) error {
	out, err := exec.CommandContext(ctx, filepath.Join(w.bin, "evenkeel-actor"), "capabilities", "--config", w.file("actor.yaml"), "-o", "json").Output()
	if err != nil {
		return fmt.Errorf("cannot ask the actor: %w", err)
	}
	var c struct {
		Running bool
		Leases  []struct{ ID, Phase string }
	}
	if err := json.Unmarshal(out, &c); err != nil {
		return err
	}
	if !c.Running {
		r.wrong = append(r.wrong, "the actor does not answer")
	}
	for _, l := range c.Leases {
		r.held = append(r.held, fmt.Sprintf("command %s is %s", l.ID, l.Phase))
	}
	return nil
}

// deedsOf holds what strace saw against what the ledger says.
func (w *world) deedsOf(ctx context.Context, r *report) error {
	var err error
	if r.deeds, err = w.traces(ctx); err != nil {
		return err
	}
	r.wrong = append(r.wrong, r.deeds.wrong...)
	if r.deeds.held {
		r.held = append(r.held, "the actor has not taken back its last command")
	}
	return w.ask(ctx, func(ctx context.Context) error {
		l, err := w.api.Actions.ListActions(ctx, &operatorv1.ListActionsRequest{})
		if err != nil {
			return err
		}
		for _, a := range l.Actions {
			applied := slices.ContainsFunc(a.Timeline, func(e *operatorv1.Event) bool { return strings.HasPrefix(e.What, "applied: ") })
			n := r.deeds.squeezes[a.Id]
			if applied {
				r.applied++
			}
			if applied && n == 0 {
				r.wrong = append(r.wrong, "action "+a.Id+" counts as applied and was never carried out")
			}
			if !applied && n > 0 && (a.State == "rejected" || a.State == "cancelled" || a.State == "deferred") {
				r.wrong = append(r.wrong, fmt.Sprintf("action %s is %s and was carried out: %s", a.Id, a.State, ending(a)))
			}
		}
		for id := range r.deeds.squeezes {
			if id != "" && !slices.ContainsFunc(l.Actions, func(a *operatorv1.Action) bool { return a.Id == id }) {
				r.wrong = append(r.wrong, "command "+id+" was carried out and is in no ledger")
			}
		}
		return nil
	})
}

// audited follows the chain of the audit log over its newest entries: a kill tears none out. The collector itself does so
// over all of them at each start.
func (w *world) audited(ctx context.Context, r *report) error {
	after, last := uint64(0), ""
	for {
		n := 0
		err := w.ask(ctx, func(ctx context.Context) error {
			l, err := w.api.Control.ListAudit(ctx, &operatorv1.ListAuditRequest{After: strconv.FormatUint(after, 10), Limit: 500})
			if err != nil {
				return err
			}
			for _, e := range l.Entries {
				seq, err := strconv.ParseUint(e.Seq, 10, 64)
				if err != nil {
					return err
				}
				if after > 0 && (seq != after+1 || e.Previous != last) {
					r.wrong = append(r.wrong, fmt.Sprintf("audit entry %d does not follow entry %d", seq, after))
				}
				after, last = seq, e.Hash
				n++
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot read the audit log: %w", err)
		}
		if n == 0 {
			r.audited = after
			return nil
		}
	}
}

// series names a series as both sides see it.
func series(name string, labels map[string]string) string {
	var out []string
	for k, v := range labels {
		if k != "instance" && k != "job" && k != "__name__" {
			out = append(out, k+"="+strconv.Quote(v))
		}
	}
	slices.Sort(out)
	return name + "{" + strings.Join(out, ",") + "}"
}

const queryWindow = time.Minute

// stored asks for every sample of a host between two times, by series and time in ms.
func (w *world) stored(ctx context.Context, host string, from, to int64) (map[string]map[int64]float64, error) {
	out := map[string]map[int64]float64{}
	for at := time.UnixMilli(from - 1).Add(queryWindow); ; at = at.Add(queryWindow) {
		// A range selector gives the samples themselves, with their own times: those after at - window, up to at.
		q := &operatorv1.QueryRequest{Query: fmt.Sprintf("{instance=%q,__name__!=\"\"}[%ds]", host, int(queryWindow.Seconds())), Time: at.UTC().Format(time.RFC3339Nano)}
		err := w.ask(ctx, func(ctx context.Context) error {
			a, err := w.api.Queries.Query(ctx, q)
			if err != nil {
				return err
			}
			for _, s := range a.Result {
				key := series(s.Metric["__name__"], s.Metric)
				if out[key] == nil {
					out[key] = map[int64]float64{}
				}
				for _, p := range s.Values {
					t, err := time.Parse(time.RFC3339Nano, p.Time)
					if err != nil {
						return err
					}
					if out[key][t.UnixMilli()], err = strconv.ParseFloat(p.Value, 64); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("cannot query the samples of %s: %w", host, err)
		}
		if at.UnixMilli() >= to {
			return out, nil
		}
	}
}

// lookUpWitnessed holds the witness's file against the store.
func (w *world) lookUpWitnessed(ctx context.Context, r *report) error {
	t, err := readTestimony(filepath.Join(w.file("witness"), recordFile))
	if err != nil {
		return err
	}
	if t.acked == 0 {
		return errors.New("the witness was never acked anything")
	}
	for _, told := range t.told {
		r.wrong = append(r.wrong, "the witness was told: "+told)
	}
	got, err := w.stored(ctx, witnessName, t.sent[0].At, t.sent[len(t.sent)-1].At)
	if err != nil {
		return err
	}
	for _, n := range t.sent {
		if n.Seq > t.acked {
			break
		}
		for i, v := range n.Values {
			key := series(fmt.Sprintf("soak_%d", i), map[string]string{"kind": kinds[i%len(kinds)]})
			r.witnessed.check(got[key], key, n.At, v)
		}
	}
	return nil
}

// lookUpSpooled holds what the agent kept on disk against the store. It was asked to stop, and waits then until all is
// acked, so everything that it ever read is to be found, also what was read in a life that was cut short.
func (w *world) lookUpSpooled(ctx context.Context, r *report) error {
	type reading struct {
		series string
		at     int64
		value  float64
	}
	var all []reading
	from, to := int64(math.MaxInt64), int64(0)
	chains, seqs := map[spool.BootID]*chain.Decoder{}, map[spool.BootID]uint64{}
	if err := spool.Read(filepath.Join(w.file("agent"), "spool"), func(rec spool.Record) error {
		d := chains[rec.Boot]
		if d == nil {
			d = &chain.Decoder{}
			chains[rec.Boot] = d
		}
		// Each tick is with the kernel before the next, so a kill loses the one in hand at most, which has no number yet.
		if last := seqs[rec.Boot]; rec.Seq != last+1 {
			r.wrong = append(r.wrong, fmt.Sprintf("the spool has batch %d of a life after batch %d", rec.Seq, last))
		}
		seqs[rec.Boot] = rec.Seq
		if err := d.Decode(rec.Frame); err != nil {
			return fmt.Errorf("batch %d of the spool: %w", rec.Seq, err)
		}
		from, to = min(from, d.At()), max(to, d.At())
		for _, i := range d.Samples() {
			s := d.Series(i)
			labels := map[string]string{}
			for _, l := range s.Labels {
				labels[l.Name] = l.Value
			}
			all = append(all, reading{series(s.Name, labels), d.At(), s.Value(d.Raw()[i])})
		}
		return nil
	}); err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("the agent's spool is empty")
	}
	r.lives = len(seqs)
	got, err := w.stored(ctx, hostName, from, to)
	if err != nil {
		return err
	}
	for _, x := range all {
		r.spooled.check(got[x.series], x.series, x.at, x.value)
	}
	return nil
}

// print writes the summary, and returns an error where anything is wrong.
func (r *report) print(seed uint64) error {
	doubles := r.deeds.doubles()
	fmt.Printf("\nsummary, seed %d\n", seed)
	fmt.Printf("  rounds         %d of %d in %s: %s\n", r.kills.rounds(), r.wanted, r.took.Round(time.Second), r.kills)
	fmt.Printf("  acked samples  %d of the witness looked up, %d missing, %d with another value\n", r.witnessed.checked, r.witnessed.missing, r.witnessed.different)
	fmt.Printf("  agent's own    %d of %d lives looked up, %d missing, %d with another value\n", r.spooled.checked, r.lives, r.spooled.missing, r.spooled.different)
	fmt.Printf("  commands       %d in the ledger, %d reported as applied: %v\n", r.actions, r.applied, r.states)
	fmt.Printf("  by strace      %d begun, %d carried out, %d taken back, %d twice\n", len(r.deeds.started), r.deeds.writes(), r.deeds.restores, len(doubles))
	fmt.Printf("  not reverted   %d\n", len(r.held))
	fmt.Printf("  audit log      %d entries, in one chain\n", r.audited)
	problems := slices.Concat(r.witnessed.first, r.spooled.first, doubles, r.held, r.wrong)
	if r.kills.rounds() < r.wanted {
		problems = append(problems, fmt.Sprintf("only %d of %d rounds fitted in", r.kills.rounds(), r.wanted))
	}
	if r.deeds.writes() == 0 {
		problems = append(problems, "no command was carried out, so nothing was shown of them")
	}
	if len(problems) == 0 {
		fmt.Printf("  verdict        nothing lost, nothing twice, everything taken back\n")
		return nil
	}
	fmt.Printf("  WRONG\n")
	for _, p := range problems {
		fmt.Printf("    %s\n", p)
	}
	return fmt.Errorf("%d things are wrong", len(problems))
}
