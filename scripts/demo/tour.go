package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
	"github.com/evenkeel/evenkeel/scripts/demo/stage"
)

// demo is the tour of a stage. Its fields are set once, in the order of the tour.
type demo struct {
	stage.Stage
	out      io.Writer
	keep     bool
	session  bool
	sabotage string

	onset time.Time
	prior string // of the knob, before anything happened

	printing sync.Mutex
}

const (
	baseline = 6 * time.Second
	// An action that works is waited for this long from the onset, and its end this long from the end of the job.
	patience       = 35 * time.Second
	revertPatience = 25 * time.Second
)

// say prints one line of the timeline, with the time since the batch job started once it has.
func (d *demo) say(format string, args ...any) {
	d.printing.Lock()
	defer d.printing.Unlock()
	stamp := "          "
	if !d.onset.IsZero() {
		stamp = fmt.Sprintf("t %+6.1f s", time.Since(d.onset).Seconds())
	}
	fmt.Fprintf(d.out, "%s  %s\n", stamp, fmt.Sprintf(format, args...))
}

func (d *demo) tour(ctx context.Context) error {
	how := "asked for: one session, process.affinity"
	if d.Place = (&stage.Place{}); !d.session {
		d.Place, how = stage.FindPlace()
	}
	fmt.Fprintf(d.out, "Evenkeel demo: two services of different value on one machine\n\n")
	d.say("placement: %s", how)
	d.say("timing: dwell 5 s, outcome 5 s, no cooldown, lease 20 s, quick release")

	port, perSecond, err := d.StartServer(ctx)
	if err != nil {
		return err
	}
	d.say("shop server on port %s, worth 12000 EUR an hour; %.0f requests a second, open loop, %.1f CPUs of work", port, perSecond, d.Place.Demand())
	if err := d.startWorker(); err != nil {
		return err
	}

	if err := d.startDev(ctx); err != nil {
		return err
	}
	before, err := d.measureBefore(ctx)
	if err != nil {
		return err
	}
	watched, done := d.watch(ctx)
	defer done()

	if err := d.startBatch(ctx); err != nil {
		return err
	}
	during, action, err := d.untilActive(ctx, watched)
	if err != nil {
		return err
	}
	after, err := d.measureAfter(ctx, action.Id)
	if err != nil {
		return err
	}
	if err := d.endBatch(); err != nil {
		return err
	}
	if d.sabotage == "actor" {
		if err := d.killActor(); err != nil {
			return err
		}
	}
	if err := d.untilReverted(ctx, watched, action.Id); err != nil {
		return err
	}
	return d.summary(before, during, after, action)
}

func (d *demo) startDev(ctx context.Context) error {
	err := d.WriteFiles(stage.Files{
		Timing: "{dwell: 5s, outcome: 5s, cooldown: 0s, lease: 20s, release: 100%/1s}", Episode: "{steps: 6, every: 5s}", Rate: "20/5m",
		Deny: d.sabotage == "permissions",
	})
	if err != nil {
		return err
	}
	began := time.Now()
	h, err := d.StartDev(ctx)
	if err != nil {
		return err
	}
	d.say("collector, agent and actor are up after %.1f s: host %s admitted, %d series a second", time.Since(began).Seconds(), h.Name, h.Series)
	for _, a := range h.Actor.Actions {
		d.say("the host's own permissions allow: %s", a)
	}
	return nil
}

// median returns the middle one of the p95s of the whole seconds between from and to.
func (d *demo) median(from, to time.Time) time.Duration {
	var all []time.Duration
	for at := from.Truncate(time.Second).Add(time.Second); !at.Add(time.Second).After(to); at = at.Add(time.Second) {
		if v, n := d.Load.P95(at, at.Add(time.Second)); n > 0 {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}

func (d *demo) measureBefore(ctx context.Context) (time.Duration, error) {
	from := time.Now()
	if err := pause(ctx, baseline); err != nil {
		return 0, err
	}
	before := d.median(from, time.Now())
	if before > 500*time.Millisecond {
		d.say("this machine is busy already: the server waits even without the batch job, so the demo may show little")
	}
	d.say("before: the server alone answers with p95 %s", stage.Millis(before))
	return before, nil
}

func (d *demo) startWorker() error {
	if d.sabotage == "batch" {
		return nil
	}
	if err := d.StartWorker(3 * time.Minute); err != nil {
		return err
	}
	d.say("batch worker, worth 40 EUR an hour, waits for a job")
	return nil
}

func (d *demo) startBatch(ctx context.Context) error {
	if d.Batch != nil {
		var err error
		if d.prior, err = d.Place.Knob(d.Batch.PID()); err != nil {
			return err
		}
	}
	d.onset = time.Now()
	if d.Batch == nil {
		d.say("batch worker left out on purpose: there is no job")
		return nil
	}
	if err := d.StartJob(); err != nil {
		return err
	}
	d.say("onset: the batch worker has a job, 8 threads for each CPU")
	return ctx.Err()
}

// untilActive follows the timeline until an action is active, printing the p95 of each second.
func (d *demo) untilActive(ctx context.Context, watched <-chan *operatorv1.Action) (worst time.Duration, active *operatorv1.Action, err error) {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return worst, nil, ctx.Err()
		case <-enough.C:
			return worst, nil, d.whyNothing(ctx)
		case <-second.C:
			v, _ := d.Load.LastSecond()
			worst = max(worst, v)
			d.say("p95 of the last second: %s", stage.Millis(v))
		case a := <-watched:
			// One that was refused or cancelled is no end: the collector plans anew, and the timeline tells of both.
			if a.Phase == "active" {
				v, _ := d.Load.P95(d.onset, time.Now())
				return max(worst, v), a, nil
			}
		}
	}
}

// whyNothing asks the collector itself why it did not act.
func (d *demo) whyNothing(ctx context.Context) error {
	r, err := d.API.Incidents.ListIncidents(ctx, &operatorv1.ListIncidentsRequest{})
	if err != nil {
		return err
	}
	if len(r.Incidents) == 0 {
		return fmt.Errorf("no overload was seen within %.0f s", patience.Seconds())
	}
	e, err := d.API.Incidents.ExplainIncident(ctx, &operatorv1.GetIncidentRequest{Id: r.Incidents[0].Id})
	if err != nil {
		return err
	}
	for _, c := range e.Candidates {
		d.say("  %s (%s, %s): %s", c.Component, c.Contribution, c.Value, c.Why)
	}
	for _, g := range e.Gates {
		if !g.Open {
			d.say("  gate %s: %s", g.Name, g.Text)
		}
	}
	return fmt.Errorf("no action worked within %.0f s: %s", patience.Seconds(), e.Text)
}

func (d *demo) measureAfter(ctx context.Context, action string) (time.Duration, error) {
	// The backlog of the overload drains first; it belongs to the overload.
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	from := time.Now()
	for range 7 {
		if err := pause(ctx, time.Second); err != nil {
			return 0, err
		}
		v, _ := d.Load.LastSecond()
		d.say("p95 of the last second: %s", stage.Millis(v))
	}
	after := d.median(from, time.Now())
	// What was measured counts only if the squeeze was in force all the time.
	a, err := d.API.Actions.GetAction(ctx, &operatorv1.GetActionRequest{Id: action})
	if err != nil {
		return 0, err
	}
	if a.Phase != "active" {
		return 0, fmt.Errorf("action %s did not hold: it is %s, %s", a.Id, a.Phase, a.Effect)
	}
	knob, err := d.Place.Knob(d.Batch.PID())
	if err != nil {
		return 0, err
	}
	if knob == d.prior {
		return 0, fmt.Errorf("the kernel says that nothing is squeezed: %s", knob)
	}
	d.say("after: p95 is %s with the batch job still running (%s)", stage.Millis(after), knob)
	return after, nil
}

func (d *demo) endBatch() error {
	if err := d.EndJob(); err != nil {
		return err
	}
	d.say("the batch job ended, its worker waits")
	return nil
}

func (d *demo) untilReverted(ctx context.Context, watched <-chan *operatorv1.Action, id string) error {
	enough := time.NewTimer(revertPatience)
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-enough.C:
			return fmt.Errorf("the lease was not taken back within %.0f s of the batch job's end", revertPatience.Seconds())
		case a := <-watched:
			if a.Id != id {
				continue
			}
			switch a.Phase {
			case "reverted":
				return d.knobRestored()
			case "refused", "failed":
				return fmt.Errorf("action %s: %s, %s", a.Id, a.Phase, a.Reason)
			}
		}
	}
}

// knobRestored looks at the kernel itself, not at what anybody reported.
func (d *demo) knobRestored() error {
	knob, err := d.Place.Knob(d.Batch.PID())
	if err != nil {
		return err
	}
	if knob != d.prior {
		return fmt.Errorf("the batch worker has %s and not %s again", knob, d.prior)
	}
	d.say("read from the kernel: %s again", knob)
	return nil
}

func (d *demo) killActor() error {
	b, err := os.ReadFile(filepath.Join(d.State, "actor.pid"))
	if err != nil {
		return err
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		return err
	}
	d.say("actor killed on purpose, before the revert")
	return syscall.Kill(pid, syscall.SIGKILL)
}

func (d *demo) summary(before, during, after time.Duration, a *operatorv1.Action) error {
	fmt.Fprintf(d.out, "\nsummary\n")
	fmt.Fprintf(d.out, "  action        %s\n", a.Text)
	fmt.Fprintf(d.out, "  p95 before    %s\n", stage.Millis(before))
	fmt.Fprintf(d.out, "  p95 during    %s (%.1fx)\n", stage.Millis(during), float64(during)/float64(before))
	fmt.Fprintf(d.out, "  p95 after     %s (%.1fx)\n", stage.Millis(after), float64(after)/float64(before))
	fmt.Fprintf(d.out, "  taken back    yes\n")
	var failed []error
	if during < 2*before {
		failed = append(failed, errors.New("the batch job did not even double the p95, so nothing was shown"))
	}
	// Back means that nine tenths of the harm are gone, or that it is not even doubled any more: the job still runs beside it.
	if after >= max(2*before, before+(during-before)/10) {
		failed = append(failed, errors.New("the p95 did not come back: more than a tenth of the harm is still there"))
	}
	return errors.Join(failed...)
}
