package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/agent"
	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/agent/schedule"
	"github.com/evenkeel/evenkeel/agent/spool"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/metric"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

const (
	// speed is how many times faster than in life the ticks of agent-allocs come.
	speed  = 50
	warmUp = 300  // ticks
	rounds = 1500 // ticks that count
)

// hasty is a probe whose period is shorter.
type hasty struct{ probe.Probe }

func (h hasty) Period() time.Duration { return h.Probe.Period() / speed }

// allocs counts what a round allocates from the schedule to the spool, and beside it what a whole connected agent does.
func allocs(s settings) (report.Figure, error) {
	set, err := startUnits(s)
	if err != nil {
		return report.Figure{}, err
	}
	defer set.Stop()
	steady, changing, err := countRounds()
	if err != nil {
		return report.Figure{}, err
	}
	if len(steady) == 0 {
		return report.Figure{}, errors.New("series came or went on every tick")
	}
	sum, worst, none := 0.0, 0.0, 0
	for _, n := range steady {
		if n == 0 {
			none++
		}
		sum += n
		worst = max(worst, n)
	}
	mean := sum / float64(len(steady))
	fmt.Printf("%d rounds in which no series came or went: %d of them without any allocation, %.3f on average, %.0f at most\n", len(steady), none, mean, worst)
	if len(changing) > 0 {
		fmt.Printf("%d rounds in which some did, whose names are kept: %s\n", len(changing), report.Range(changing))
	}
	if err := sending(s); err != nil {
		return report.Figure{}, err
	}
	// The median: a round in which the host changed, such as one that finds the list of cgroups to be another, is not the
	// usual one, and is in the numbers above.
	return report.Figure{Value: report.Median(steady), Unit: "allocations", Op: "<=", Goal: 0}, nil
}

// countRounds runs the probes of this host through schedule, encoder and spool, and returns the allocations of each round,
// apart for those in which series came or went.
func countRounds() (steady, changing []float64, err error) {
	dir, err := os.MkdirTemp("", "evenkeel-allocs-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	queue, err := spool.Open(spool.Config{Dir: dir, Boot: spool.BootID{1}})
	if err != nil {
		return nil, nil, err
	}
	defer queue.Close()
	probes, err := probe.New(probe.Config{})
	if err != nil {
		return nil, nil, err
	}
	defer probes.Close()
	var list []schedule.Probe
	for _, p := range probes.Probes() {
		list = append(list, hasty{p})
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	steady, changing = make([]float64, 0, rounds), make([]float64, 0, rounds)
	var enc chain.Encoder
	var frame []byte
	var failed error
	var before, after runtime.MemStats
	seq, keys := uint64(0), 0
	clock, err := schedule.New(schedule.Config{
		ID: "figure", Period: time.Second / speed, Probes: list, Async: schedule.NewAsync(0),
		Sink: func(now time.Time, t *metric.Table) {
			moved := len(t.Added())+len(t.Gone()) > 0
			frame = enc.Append(frame[:0], t, now.UnixMilli(), queue.NeedsKey())
			t.Next()
			seq++
			if err := queue.Append(seq, now.UnixMilli(), enc.WasKey(), frame); err != nil {
				failed = err
				cancel()
			}
			if enc.WasKey() {
				keys++
			}
			if seq%speed == 0 {
				_ = queue.SyncIfDue(now)
			}
			// A round is all that happened since the last one ended, the schedule's own wait included.
			runtime.ReadMemStats(&after)
			n := float64(after.Mallocs - before.Mallocs)
			switch {
			case seq <= warmUp:
			case moved:
				changing = append(changing, n)
			default:
				steady = append(steady, n)
			}
			if seq == warmUp+rounds {
				cancel()
			}
			runtime.ReadMemStats(&before)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if err := clock.Run(ctx); err != nil {
		return nil, nil, err
	}
	fmt.Printf("%d rounds of %d series, %d of them key frames, after %d to warm up; %d times as fast as in life\n", rounds, enc.Live(), keys, warmUp, speed)
	return steady, changing, failed
}

// sending runs a whole agent in this process, connected to a collector in another, and prints what it allocates a tick:
// what is not from the schedule to the spool is for sending, for acks and heartbeats.
func sending(s settings) error {
	w := &world{s: s}
	defer w.stop()
	var err error
	if w.dir, err = os.MkdirTemp("", "evenkeel-cost-"); err != nil {
		return err
	}
	w.dev = exec.Command(filepath.Join(s.bin, "evenkeel-collector"), "dev", "--state", w.dir, "--host", "figure", "--quiet")
	w.dev.Stderr = &w.log
	if err := w.dev.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if st, err := w.status(); err == nil && st.Session.Connected {
			break
		}
		if time.Now().After(end) {
			return w.logged(errors.New("the collector did not start"))
		}
	}
	return w.logged(w.second(s))
}

// second enrols this process as another host and counts.
func (w *world) second(s settings) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conf, err := client.Load(filepath.Join(w.dir, "collector", "admin.json"))
	if err != nil {
		return err
	}
	api, err := client.New(conf)
	if err != nil {
		return err
	}
	token, err := api.Access.CreateToken(ctx, &operatorv1.CreateTokenRequest{Ttl: "5m", Uses: 1, Admit: true, Replace: true})
	if err != nil {
		return err
	}
	if err := api.Close(); err != nil {
		return err
	}
	first, err := os.ReadFile(filepath.Join(w.dir, "agent.yaml"))
	if err != nil {
		return err
	}
	config := filepath.Join(w.dir, "second.yaml")
	text := strings.ReplaceAll(string(first), filepath.Join(w.dir, "agent"), filepath.Join(w.dir, "second"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	enrol := exec.Command(filepath.Join(s.bin, "evenkeel-agent"), "enroll", "--config", config, "--name", "figure-second", "--join-file", "-")
	enrol.Stdin = strings.NewReader(token.GetJoin())
	if out, err := enrol.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot enrol: %w: %s", err, out)
	}
	cfg, err := agent.Load(config, false)
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Options{Config: cfg})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	if err := wait(ctx, 30*time.Second); err != nil {
		return err
	}
	if st := a.Status(); !st.Session.Connected {
		return fmt.Errorf("no session: %s", st.Session.Error)
	}
	was := a.Status()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := wait(ctx, time.Minute); err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	is := a.Status()
	ticks := float64(is.Ticks - was.Ticks)
	fmt.Printf("sending: a whole agent of %d series with its session allocates %.1f times and %.0f bytes a tick (acks, heartbeats and new series included; %.0f ticks, %d batches)\n",
		is.Series, float64(after.Mallocs-before.Mallocs)/ticks, float64(after.TotalAlloc-before.TotalAlloc)/ticks, ticks, is.Session.Batches-was.Session.Batches)
	cancel()
	return <-ended
}
