package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
	"github.com/evenkeel/evenkeel/scripts/demo/stage"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

// world is a collector and its hosts.
type world struct {
	settings
	bin, dir  string
	collector *stage.Process
	api       *client.Client
	join      string
	hosts     []*host
	taken     chan sample
	wait      sync.WaitGroup
	failed    chan error
}

func decide(ctx context.Context, s settings) (_ []report.Figure, err error) {
	bin, err := stage.Binaries()
	if err != nil {
		return nil, err
	}
	dir, remove, err := s.folder()
	if err != nil {
		return nil, err
	}
	defer remove()
	ctx, cancel := context.WithCancel(ctx)
	// A decision never waits for who counts it.
	w := &world{settings: s, bin: bin, dir: dir, taken: make(chan sample, 1024), failed: make(chan error, s.count)}
	defer func() {
		cancel()
		w.wait.Wait()
		err = errors.Join(err, w.stop())
	}()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	fmt.Printf("%d hosts with %d series each, a tick a second; one collector that keeps every tick, one actor a host\n", s.count, s.series)

	var figures []report.Figure
	if s.only != "saturated" {
		idle, err := w.take(ctx, "idle")
		if err != nil {
			return nil, err
		}
		figures = append(figures, report.Figure{Name: "decide-latency", Value: idle, Unit: "ms", Op: "<=", Goal: 20})
	}
	if s.only == "idle" {
		return figures, nil
	}
	spinning, err := startSpinners(2)
	if err != nil {
		return nil, err
	}
	defer spinning.stop()
	saturated, err := w.take(ctx, fmt.Sprintf("saturated by %d spinning processes", len(spinning)))
	if err != nil {
		return nil, err
	}
	return append(figures, report.Figure{Name: "decide-latency-saturated", Value: saturated, Unit: "ms", Op: "<=", Goal: 60}), nil
}

// start brings everything up, and returns once every host has a session and its actor is known.
func (w *world) start(ctx context.Context) error {
	config := filepath.Join(w.dir, "collector.yaml")
	text := fmt.Sprintf("name: figure\nstate: %s\nlisten: {http: 127.0.0.1:0, agents: 127.0.0.1:0, operators: 127.0.0.1:0}\nstore: {interval: 1s}\nlogLevel: warn\n",
		w.state())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	if w.collector, _, err = stage.Spawn(w.bin, w.dir, "evenkeel-collector", "run", "--config", config); err != nil {
		return err
	}
	if err := w.await(ctx, w.connect); err != nil {
		return fmt.Errorf("the collector does not come up: %w; its log is in %s", err, w.dir)
	}
	token, err := w.api.Access.CreateToken(ctx, &operatorv1.CreateTokenRequest{Ttl: "5m", Uses: int32(w.count), Admit: true})
	if err != nil {
		return err
	}
	w.join = token.Join
	for i := range w.count {
		h, err := newHost(ctx, w, i)
		w.hosts = append(w.hosts, h)
		if err != nil {
			return err
		}
		h.bind()
	}
	applied, err := w.api.Resources.Apply(ctx, &operatorv1.ApplyRequest{Files: []*operatorv1.File{{Name: "figure.yaml", Text: manifests(w.hosts)}}})
	if err != nil {
		return err
	}
	if len(applied.Problems) > 0 {
		p := applied.Problems[0]
		return fmt.Errorf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
	}
	for _, h := range w.hosts {
		w.wait.Go(func() { _ = h.relay.Run(ctx) })
		w.wait.Go(func() { _ = h.link.Run(ctx) })
	}
	if err := w.await(ctx, w.ready); err != nil {
		return err
	}
	start := time.Now().Add(time.Second).Truncate(time.Second)
	for i, h := range w.hosts {
		// The phases of hosts are spread over the second, as those of agents are.
		phase := time.Second * time.Duration(i) / time.Duration(len(w.hosts))
		w.wait.Go(func() {
			if err := h.run(ctx, start.Add(phase)); err != nil {
				w.failed <- err
			}
		})
	}
	return nil
}

func (w *world) state() string { return filepath.Join(w.dir, "collector") }

func (w *world) connect() error {
	conf, err := client.Load(filepath.Join(w.state(), "admin.json"))
	if err == nil && w.api == nil {
		w.api, err = client.New(conf)
	}
	return err
}

func (w *world) ready() error {
	for _, h := range w.hosts {
		if err := h.ready(); err != nil {
			return err
		}
	}
	return nil
}

// await tries until it succeeds, for a minute at most.
func (w *world) await(ctx context.Context, try func() error) error {
	for end := time.Now().Add(time.Minute); ; {
		err := try()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-w.collector.Ended:
			return fmt.Errorf("the collector ended: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *world) stop() error {
	var errs []error
	for _, h := range w.hosts {
		errs = append(errs, h.stop())
	}
	if w.api != nil {
		w.api.Close()
	}
	return errors.Join(append(errs, w.collector.Terminate(15*time.Second))...)
}

// take waits for the decisions of one half, prints what they took, and returns the p99 in milliseconds. What was asked
// before the half began is not counted, nor is the first decision of a host.
func (w *world) take(ctx context.Context, how string) (float64, error) {
	began := time.Now()
	before := load()
	bare, err := startFloor(w.dir)
	if err != nil {
		return 0, err
	}
	var all []sample
	for len(all) < w.decisions {
		select {
		case s := <-w.taken:
			if s.asked.After(began) && !s.first {
				all = append(all, s)
			}
		case err := <-w.failed:
			return 0, w.explained(ctx, err)
		case err := <-w.collector.Ended:
			return 0, fmt.Errorf("the collector ended: %w", err)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	disk, err := bare.stop()
	if err != nil {
		return 0, err
	}
	total := column(all, func(s sample) time.Duration { return s.accepted.Sub(s.asked) })
	fmt.Printf("%s: %d decisions in %.0f s, batch sent -> accepted by the actor: %s\n", how, len(all), time.Since(began).Seconds(), quantiles(total))
	fmt.Printf("  at the beginning %s, at the end %s\n", before, load())
	if err := w.parts(ctx, all); err != nil {
		return 0, err
	}
	fmt.Printf("  %-38s %s\n", "beside it: one forced write of 1 KiB", quantiles(disk))
	return report.Quantile(total, 0.99), nil
}

// parts prints where the time went, by the records that collector and actor keep anyway.
func (w *world) parts(ctx context.Context, all []sample) error {
	signing, err := signings(filepath.Join(w.state(), "audit", "audit.jsonl"))
	if err != nil {
		return err
	}
	var decided, intent, signed, accepted []float64
	for _, s := range all {
		a, err := w.api.Actions.GetAction(ctx, &operatorv1.GetActionRequest{Id: s.id})
		if err != nil {
			return err
		}
		created, err := time.Parse(time.RFC3339Nano, a.CreatedAt)
		if err != nil {
			return err
		}
		at, ok := signing["action/"+s.id]
		if !ok {
			return fmt.Errorf("the audit log does not know action %s", s.id)
		}
		ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
		decided = append(decided, ms(created.Sub(s.asked)))
		intent = append(intent, ms(at.Sub(created)))
		signed = append(signed, ms(s.came.Sub(at)))
		accepted = append(accepted, ms(s.accepted.Sub(s.came)))
	}
	for _, part := range []struct {
		name   string
		values []float64
	}{
		{"batch -> decided", decided}, {"-> INTENT in the ledger", intent}, {"-> SIGNED in the ledger, at the agent", signed}, {"-> accepted by the actor", accepted},
	} {
		fmt.Printf("  %-38s %s\n", part.name, quantiles(part.values))
	}
	return nil
}

// signings reads from the audit log when each action was signed.
func signings(file string) (map[string]time.Time, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]time.Time{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e audit.Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		if e.What == "sign" {
			out[e.Subject] = e.At
		}
	}
	return out, lines.Err()
}

// explained adds what the collector itself says of a decision that did not come.
func (w *world) explained(ctx context.Context, err error) error {
	r, listErr := w.api.Incidents.ListIncidents(ctx, &operatorv1.ListIncidentsRequest{})
	if listErr != nil || len(r.Incidents) == 0 {
		return err
	}
	e, explainErr := w.api.Incidents.ExplainIncident(ctx, &operatorv1.GetIncidentRequest{Id: r.Incidents[0].Id})
	if explainErr != nil {
		return err
	}
	text := e.Text
	for _, g := range e.Gates {
		if !g.Open {
			text += "; gate " + g.Name + ": " + g.Text
		}
	}
	return fmt.Errorf("%w: %s", err, text)
}

func column(all []sample, f func(sample) time.Duration) []float64 {
	out := make([]float64, len(all))
	for i, s := range all {
		out[i] = float64(f(s)) / 1e6
	}
	return out
}

func quantiles(ms []float64) string {
	return fmt.Sprintf("p50 %6.2f ms, p95 %6.2f ms, p99 %6.2f ms, most %6.2f ms",
		report.Quantile(ms, 0.5), report.Quantile(ms, 0.95), report.Quantile(ms, 0.99), report.Quantile(ms, 1))
}
