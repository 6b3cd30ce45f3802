package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// demo holds what runs. Its fields are set once, in the order of the tour.
type demo struct {
	out      io.Writer
	keep     bool
	session  bool
	sabotage string
	state    string
	bin      string

	place  *place
	server *process
	batch  *process
	dev    *process
	load   *load
	stop   context.CancelFunc // ends the load
	api    *client.Client
	onset  time.Time
	prior  string // of the knob, before anything happened

	printing sync.Mutex
}

const (
	baseline = 6 * time.Second
	cost     = 5 * time.Millisecond
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

func (d *demo) contextFile() string { return filepath.Join(d.state, "collector", "admin.json") }

func (d *demo) tour(ctx context.Context) error {
	how := "asked for: one session, process.affinity"
	if d.place = (&place{}); !d.session {
		d.place, how = findPlace()
	}
	fmt.Fprintf(d.out, "Evenkeel demo: two services of different value on one machine\n\n")
	d.say("placement: %s", how)
	d.say("timing: dwell 5 s, outcome 5 s, no cooldown, lease 20 s, quick release")

	port, err := d.startServer(ctx)
	if err != nil {
		return err
	}
	perSecond := d.place.demand() / cost.Seconds()
	loadCtx, stop := context.WithCancel(ctx)
	d.stop = stop
	d.load = newLoad(fmt.Sprintf("http://127.0.0.1:%s/work", port), perSecond)
	go d.load.run(loadCtx)
	d.say("shop server on port %s, worth 12000 EUR an hour; %.0f requests a second, open loop, %.1f CPUs of work", port, perSecond, d.place.demand())
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

func (d *demo) startServer(ctx context.Context) (string, error) {
	p, out, err := d.spawn("demo-server", "--cost", cost.String())
	if err != nil {
		return "", err
	}
	d.server = p
	if err := d.place.enter(p.pid(), "server"); err != nil {
		return "", fmt.Errorf("cannot place the server: %w", err)
	}
	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(out).ReadString('\n')
		line <- strings.TrimSpace(s)
	}()
	select {
	case port := <-line:
		if port == "" {
			return "", errors.New("the server ended before it listened")
		}
		return port, nil
	case <-ctx.Done():
		return "", errors.New("the server does not start")
	}
}

// startDev starts the collector with its agent and actor, and waits for the host's first samples.
func (d *demo) startDev(ctx context.Context) error {
	if err := d.writeFiles(); err != nil {
		return err
	}
	began := time.Now()
	p, _, err := d.spawn("evenkeel-collector", "dev", "--state", d.state, "--host", "demo-host", "--actor",
		"--permissions", filepath.Join(d.state, "permissions.in.yaml"), "--map", filepath.Join(d.state, "map"), "--quiet")
	if err != nil {
		return err
	}
	d.dev = p
	for {
		if d.api == nil {
			if conf, err := client.Load(d.contextFile()); err == nil {
				if d.api, err = client.New(conf); err != nil {
					return err
				}
			}
		}
		if d.api != nil {
			h, err := d.api.Hosts.GetHost(ctx, &operatorv1.GetHostRequest{Name: "demo-host"})
			if err == nil && h.Reach == "connected" && h.Series > 0 && h.Actor.GetPresent() {
				d.say("collector, agent and actor are up after %.1f s: host %s admitted, %d series a second", time.Since(began).Seconds(), h.Name, h.Series)
				for _, a := range h.Actor.Actions {
					d.say("the host's own permissions allow: %s", a)
				}
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("collector, agent and actor did not come up; see " + filepath.Join(d.state, "log"))
		case err := <-p.ended:
			return fmt.Errorf("evenkeel-collector dev ended early: %w; see %s", err, filepath.Join(d.state, "log"))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// median returns the middle one of the p95s of the whole seconds between from and to.
func (d *demo) median(from, to time.Time) time.Duration {
	var all []time.Duration
	for at := from.Truncate(time.Second).Add(time.Second); !at.Add(time.Second).After(to); at = at.Add(time.Second) {
		if v, n := d.load.p95(at, at.Add(time.Second)); n > 0 {
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
	d.say("before: the server alone answers with p95 %s", millis(before))
	return before, nil
}

func (d *demo) startWorker() error {
	if d.sabotage == "batch" {
		return nil
	}
	p, _, err := d.spawn("demo-batch", "--wait", "--for", "3m")
	if err != nil {
		return err
	}
	d.batch = p
	if err := d.place.enter(p.pid(), "batch"); err != nil {
		return fmt.Errorf("cannot place the batch worker: %w", err)
	}
	d.say("batch worker, worth 40 EUR an hour, waits for a job")
	return nil
}

func (d *demo) startBatch(ctx context.Context) error {
	if d.batch != nil {
		var err error
		if d.prior, err = d.place.knob(d.batch.pid()); err != nil {
			return err
		}
	}
	d.onset = time.Now()
	if d.batch == nil {
		d.say("batch worker left out on purpose: there is no job")
		return nil
	}
	if err := d.batch.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return fmt.Errorf("the batch worker takes no job: %w", err)
	}
	d.say("onset: the batch worker has a job, 8 threads for each CPU")
	return ctx.Err()
}

// untilActive follows the timeline until an action is active, printing the p95 of each second.
func (d *demo) untilActive(ctx context.Context, watched <-chan *operatorv1.Action) (worst time.Duration, active *operatorv1.Action, err error) {
	patience := time.NewTimer(25 * time.Second)
	defer patience.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return worst, nil, ctx.Err()
		case <-patience.C:
			return worst, nil, d.whyNothing(ctx)
		case <-second.C:
			v, _ := d.load.lastSecond()
			worst = max(worst, v)
			d.say("p95 of the last second: %s", millis(v))
		case a := <-watched:
			switch a.Phase {
			case "active":
				v, _ := d.load.p95(d.onset, time.Now())
				return max(worst, v), a, nil
			case "refused", "failed":
				return worst, nil, fmt.Errorf("action %s was %s: %s", a.Id, a.Phase, a.Reason)
			}
		}
	}
}

// whyNothing asks the collector itself why it did not act.
func (d *demo) whyNothing(ctx context.Context) error {
	r, err := d.api.Incidents.ListIncidents(ctx, &operatorv1.ListIncidentsRequest{})
	if err != nil {
		return err
	}
	if len(r.Incidents) == 0 {
		return errors.New("no overload was seen within 25 s")
	}
	e, err := d.api.Incidents.ExplainIncident(ctx, &operatorv1.GetIncidentRequest{Id: r.Incidents[0].Id})
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
	return fmt.Errorf("no action was applied within 25 s: %s", e.Text)
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
		v, _ := d.load.lastSecond()
		d.say("p95 of the last second: %s", millis(v))
	}
	after := d.median(from, time.Now())
	// What was measured counts only if the squeeze was in force all the time.
	a, err := d.api.Actions.GetAction(ctx, &operatorv1.GetActionRequest{Id: action})
	if err != nil {
		return 0, err
	}
	if a.Phase != "active" {
		return 0, fmt.Errorf("action %s did not hold: it is %s, %s", a.Id, a.Phase, a.Effect)
	}
	knob, err := d.place.knob(d.batch.pid())
	if err != nil {
		return 0, err
	}
	if knob == d.prior {
		return 0, fmt.Errorf("the kernel says that nothing is squeezed: %s", knob)
	}
	d.say("after: p95 is %s with the batch job still running (%s)", millis(after), knob)
	return after, nil
}

func (d *demo) endBatch() error {
	if err := d.batch.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return fmt.Errorf("the batch job does not end: %w", err)
	}
	d.say("the batch job ended, its worker waits")
	return nil
}

func (d *demo) untilReverted(ctx context.Context, watched <-chan *operatorv1.Action, id string) error {
	patience := time.NewTimer(25 * time.Second)
	defer patience.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return errors.New("the lease was not taken back within 25 s of the batch job's end")
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
	knob, err := d.place.knob(d.batch.pid())
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
	b, err := os.ReadFile(filepath.Join(d.state, "actor.pid"))
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
	fmt.Fprintf(d.out, "  p95 before    %s\n", millis(before))
	fmt.Fprintf(d.out, "  p95 during    %s (%.1fx)\n", millis(during), float64(during)/float64(before))
	fmt.Fprintf(d.out, "  p95 after     %s (%.1fx)\n", millis(after), float64(after)/float64(before))
	fmt.Fprintf(d.out, "  taken back    yes\n")
	var failed []error
	if during < 2*before {
		failed = append(failed, errors.New("the batch job did not even double the p95, so nothing was shown"))
	}
	if after >= 2*before {
		failed = append(failed, errors.New("the p95 did not come back below twice what it was"))
	}
	return errors.Join(failed...)
}

// process is one program that the demo started.
type process struct {
	cmd   *exec.Cmd
	ended chan error // receives the exit once
	name  string
}

func (p *process) pid() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// spawn starts a program of bin with its complaints in the demo's log folder. All share the demo's session.
func (d *demo) spawn(name string, args ...string) (*process, io.Reader, error) {
	logs := filepath.Join(d.state, "log")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, nil, err
	}
	errs, err := os.Create(filepath.Join(logs, name+".log"))
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(filepath.Join(d.bin, name), args...)
	cmd.Stderr = errs
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = write
	// A demo that is killed takes its processes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = cmd.Start()
	write.Close()
	errs.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	p := &process{cmd: cmd, ended: make(chan error, 1), name: name}
	go func() { p.ended <- cmd.Wait() }()
	return p, read, nil
}

// terminate asks the process to end, and kills it when it does not.
func (p *process) terminate(patience time.Duration) error {
	if p == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return nil // it has ended already
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %s and was killed", p.name, patience)
	}
}

// cleanUp stops what was started, last first.
func (d *demo) cleanUp() error {
	if d.stop != nil {
		d.stop()
	}
	err := errors.Join(d.batch.terminate(5*time.Second), d.dev.terminate(15*time.Second), d.server.terminate(5*time.Second))
	if d.api != nil {
		d.api.Close()
	}
	if d.place != nil {
		d.place.remove()
	}
	return err
}
