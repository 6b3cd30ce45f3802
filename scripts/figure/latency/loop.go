package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
	"github.com/evenkeel/evenkeel/scripts/demo/stage"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

const (
	// notApplied is what a run counts that brings no action, seconds.
	notApplied = 30
	// recovery is how long a run may take to be over and done with.
	recovery = 2 * time.Minute
	trigger  = "host-cpu"
)

// race is the stage with what a run needs of it.
type race struct {
	stage.Stage
	seen map[string]bool // actions of earlier runs
}

func loop(ctx context.Context, s settings) (_ []report.Figure, err error) {
	r := &race{seen: map[string]bool{}}
	if r.Bin, err = stage.Binaries(); err != nil {
		return nil, err
	}
	var remove func()
	if r.State, remove, err = s.folder(); err != nil {
		return nil, err
	}
	defer remove()
	how := "asked for: one session, process.affinity"
	if r.Place = (&stage.Place{}); !s.session {
		r.Place, how = stage.FindPlace()
	}
	// With what the demo asks of the server, requests wait for each other, and a detector never leaves by its own rule.
	r.Place.Share = 0.3
	defer func() { err = errors.Join(err, r.Stop()) }()
	fmt.Println("placement:", how)
	if err := r.begin(ctx, s); err != nil {
		return nil, err
	}

	// The phase of an onset within the second of the agent's ticks is random, and the same each time the figure is taken.
	rnd := rand.New(rand.NewPCG(s.seed, 0))
	took := make([]float64, s.runs)
	for i := range took {
		if err := r.quiet(ctx); err != nil {
			return nil, fmt.Errorf("before run %d: %w", i+1, err)
		}
		if err := pause(ctx, time.Duration(rnd.Float64()*float64(time.Second))); err != nil {
			return nil, err
		}
		var told string
		if took[i], told, err = r.run(ctx); err != nil {
			return nil, fmt.Errorf("run %d: %w", i+1, err)
		}
		fmt.Printf("run %2d: %.3f s %s\n", i+1, took[i], told)
	}
	fmt.Printf("onset -> applied over %d runs: p50 %.3f s, p95 %.3f s, %s; %s\n",
		len(took), report.Quantile(took, 0.5), report.Quantile(took, 0.95), report.Range(took), load())
	return []report.Figure{{Name: "loop-latency", Value: report.Quantile(took, 0.95), Unit: "s", Op: "<=", Goal: 3}}, nil
}

// begin starts everything and says what is in force.
func (r *race) begin(ctx context.Context, s settings) error {
	shipped, err := overload.Defaults()
	if err != nil {
		return err
	}
	var names []string
	for d := range manifest.Of[manifest.Detector](shipped) {
		names = append(names, d.Metadata.Name)
	}
	slices.Sort(names)
	fmt.Printf("detectors as shipped: %s\n", strings.Join(names, ", "))
	const timing = "{dwell: 2s, outcome: 2s, cooldown: 0s, lease: 20s, release: now}"
	fmt.Printf("policy: answers detector/%s, timing %s\n", trigger, timing)
	_, perSecond, err := r.StartServer(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("server: %.0f requests a second of %s CPU time, %.1f CPUs of work\n", perSecond, stage.Cost, r.Place.Demand())
	if err := r.StartWorker(time.Duration(s.runs)*time.Minute + 5*time.Minute); err != nil {
		return err
	}
	if err := r.WriteFiles(stage.Files{Timing: timing, Episode: "{steps: 100, every: 1s}", Rate: "100/5m"}); err != nil {
		return err
	}
	if _, err := r.StartDev(ctx); err != nil {
		return err
	}
	fmt.Println("at the beginning:", load())
	return nil
}

// run is one onset. The job ends as soon as the kernel says that it is squeezed.
func (r *race) run(ctx context.Context) (seconds float64, told string, err error) {
	prior, err := r.Place.Knob(r.Batch.PID())
	if err != nil {
		return 0, "", err
	}
	h, err := r.API.Hosts.GetHost(ctx, &operatorv1.GetHostRequest{Name: stage.Host})
	if err != nil {
		return 0, "", err
	}
	onset := time.Now()
	if err := r.StartJob(); err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, r.EndJob()) }()
	phase := ""
	if last, err := time.Parse(time.RFC3339Nano, h.LastSample); err == nil {
		phase = fmt.Sprintf("(onset %.2f s after a tick)", onset.Sub(last).Seconds())
	}
	now := prior
	for time.Since(onset) < notApplied*time.Second && now == prior && err == nil {
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, "", err
		}
		now, err = r.Place.Knob(r.Batch.PID())
	}
	seconds = time.Since(onset).Seconds()
	if err != nil {
		return 0, "", err
	}
	if now == prior {
		return notApplied, "not applied: " + r.why(ctx), nil
	}
	told, err = r.tell(ctx)
	if seconds > slow {
		told += r.story(ctx, onset)
	}
	return seconds, fmt.Sprintf("%s %s -> %s; %s", phase, prior, now, told), err
}

// tell names the detectors that spoke, and the action.
func (r *race) tell(ctx context.Context) (string, error) {
	h, err := r.API.Hosts.GetHost(ctx, &operatorv1.GetHostRequest{Name: stage.Host})
	if err != nil {
		return "", err
	}
	var spoke []string
	for _, v := range h.Verdicts {
		if strings.HasPrefix(v.State, "overloaded") {
			spoke = append(spoke, strings.TrimSpace(v.Detector+" "+v.Subject))
		}
	}
	actions, err := r.API.Actions.ListActions(ctx, &operatorv1.ListActionsRequest{Host: stage.Host})
	if err != nil {
		return "", err
	}
	for _, a := range actions.Actions {
		if !r.seen[a.Id] && a.Prior+a.Value != "" {
			r.seen[a.Id] = true
			return fmt.Sprintf("%s overloaded; action %s", strings.Join(spoke, ", "), a.Text), nil
		}
	}
	return "", errors.New("the kernel's value changed, and no action of the collector's is new")
}

// slow is from where on a run tells its story, in seconds.
const slow = 3

// story is what the timelines of all incidents say from the onset on.
func (r *race) story(ctx context.Context, onset time.Time) string {
	l, err := r.API.Incidents.ListIncidents(ctx, &operatorv1.ListIncidentsRequest{})
	if err != nil {
		return ""
	}
	out := ""
	for _, i := range l.Incidents {
		e, err := r.API.Incidents.ExplainIncident(ctx, &operatorv1.GetIncidentRequest{Id: i.Id})
		if err != nil {
			continue
		}
		for _, x := range e.Timeline {
			if at, err := time.Parse(time.RFC3339Nano, x.At); err == nil && at.After(onset) {
				out += fmt.Sprintf("\n          %+.2f s %s: %s", at.Sub(onset).Seconds(), e.Ref, x.What)
			}
		}
	}
	return out
}

// why is the collector's own word on an action that did not come.
func (r *race) why(ctx context.Context) string {
	l, err := r.API.Incidents.ListIncidents(ctx, &operatorv1.ListIncidentsRequest{})
	if err != nil || len(l.Incidents) == 0 {
		return "there is no incident"
	}
	e, err := r.API.Incidents.ExplainIncident(ctx, &operatorv1.GetIncidentRequest{Id: l.Incidents[0].Id})
	if err != nil {
		return err.Error()
	}
	return e.Text
}

// quiet waits until nothing of an earlier run is left: every lease is taken back, the shipped detector has left by its
// own rule, and the kernel's value is what it was.
func (r *race) quiet(ctx context.Context) error {
	var left string
	for end := time.Now().Add(recovery); time.Now().Before(end); {
		var err error
		if left, err = r.left(ctx); err != nil || left == "" {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the machine did not come to rest within %s: %s; %s", recovery, left, load())
}

func (r *race) left(ctx context.Context) (string, error) {
	actions, err := r.API.Actions.ListActions(ctx, &operatorv1.ListActionsRequest{Host: stage.Host})
	if err != nil {
		return "", err
	}
	for _, a := range actions.Actions {
		if a.Phase == "running" || a.Phase == "active" {
			return fmt.Sprintf("action %s is %s", a.Id, a.State), nil
		}
	}
	h, err := r.API.Hosts.GetHost(ctx, &operatorv1.GetHostRequest{Name: stage.Host})
	if err != nil {
		return "", err
	}
	for _, v := range h.Verdicts {
		if v.Detector == trigger && v.Subject == "" {
			if v.State == "healthy" {
				return "", nil
			}
			return fmt.Sprintf("%s says %s, %s", v.Detector, v.State, v.Evidence), nil
		}
	}
	return trigger + " has no verdict yet", nil
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}
