package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// kills counts rounds by who was killed in them.
type kills map[string]int

func (k kills) rounds() int {
	n := 0
	for _, v := range k {
		n += v
	}
	return n
}

func (k kills) String() string {
	names := make([]string, 0, len(k))
	for name := range k {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []string
	for _, name := range names {
		out = append(out, fmt.Sprintf("%s %d", name, k[name]))
	}
	return strings.Join(out, ", ")
}

// rounds kills again and again until the rounds are done or the time is over.
func (w *world) rounds(ctx context.Context, n int, deadline time.Time) (kills, error) {
	k := kills{}
	for i := range n {
		if time.Now().After(deadline) {
			fmt.Printf("soak: the time is over after %d rounds\n", i)
			break
		}
		began := time.Now()
		share := deadline.Sub(began) / time.Duration(n-i) // what a round may take for all of them to fit in
		line, victims, err := w.round(ctx, share*6/10)
		if err != nil {
			return k, err
		}
		k[victims]++
		w.mu.Lock()
		actions := len(w.seen)
		w.mu.Unlock()
		fmt.Printf("round %2d  %-22s %s; %d actions so far, %s\n", i+1, victims, line, actions, since(began))
	}
	return k, nil
}

const (
	connectTime = 12 * time.Second        // that a round waits for everything to be connected
	eventTime   = 10 * time.Second        // at most, that it waits for something to happen
	jobPause    = 2500 * time.Millisecond // between two jobs of one round
)

// round gives the batch job work, kills in a moment of its choice, and starts again what it killed.
// It waits at most patience for what it would like to see first, and as long again for a moment.
func (w *world) round(ctx context.Context, patience time.Duration) (line, victims string, err error) {
	met := "connected"
	if err := until(ctx, min(connectTime, patience), "connected", func() error { return w.connected(ctx) }); err != nil {
		if ctx.Err() != nil {
			return "", "", err
		}
		met = "not connected yet" // as good a moment as any
	}
	if err := w.job(true); err != nil {
		return "", "", err
	}
	when, err := w.moment(ctx, min(eventTime, patience))
	if err != nil {
		return "", "", err
	}
	all := []*process{w.collector, w.agent, w.actor}
	w.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	chosen := all[:1+w.random.IntN(len(all))]
	for _, p := range all {
		if !p.running() {
			return "", "", errors.New(p.death())
		}
	}
	var names []string
	for _, p := range chosen {
		p.kill()
		names = append(names, p.name)
		if err := pause(ctx, w.upTo(30*time.Millisecond)); err != nil {
			return "", "", err
		}
	}
	for _, p := range chosen {
		<-p.ended
	}
	knob := w.groups.reads()
	if w.random.IntN(3) == 0 {
		if err := w.job(false); err != nil {
			return "", "", err
		}
	}
	w.random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	for _, p := range chosen {
		if err := pause(ctx, w.upTo(time.Second)); err != nil {
			return "", "", err
		}
		if err := p.start(nil, nil); err != nil {
			return "", "", err
		}
		if w.random.IntN(4) > 0 {
			continue
		}
		// Once more, while it finds out what its last life left.
		d := w.upTo(400 * time.Millisecond)
		if err := pause(ctx, d); err != nil {
			return "", "", err
		}
		if !p.running() {
			return "", "", errors.New(p.death())
		}
		p.kill()
		<-p.ended
		when += fmt.Sprintf(", %s again %d ms after its start", p.name, d.Milliseconds())
		if err := p.start(nil, nil); err != nil {
			return "", "", err
		}
	}
	slices.Sort(names)
	return fmt.Sprintf("%s, %s, knob %s", met, when, knob), strings.Join(names, "+"), nil
}

func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(max(1, int64(d))))
}

// moment waits until it is time to kill: at random, or a moment after something happened. Where that is a revert, the batch
// job ends first.
func (w *world) moment(ctx context.Context, patience time.Duration) (string, error) {
	if w.random.IntN(3) == 0 {
		d := w.upTo(5 * time.Second)
		return fmt.Sprintf("after %d ms", d.Milliseconds()), pause(ctx, d)
	}
	wanted := []string{knobHeld, knobFree, "action queued", "action dispatched", "action accepted", "action applied", "action active", "action reverting"}
	want := wanted[w.random.IntN(len(wanted))]
	limit, again, off := time.NewTimer(patience), time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer limit.Stop()
	defer again.Stop()
	defer off.Stop()
	switch {
	case want == "action reverting" || want == knobFree:
		off.Reset(w.upTo(patience / 2))
	case want != "action active" && !w.groups.free():
		// What begins an action is waited for, and one is in force: that ends first.
		if err := w.job(false); err != nil {
			return "", err
		}
		again.Reset(jobPause)
	}
	for {
		var got string
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-limit.C:
			return "in vain for " + want, nil
		case <-again.C:
			if err := w.job(true); err != nil {
				return "", err
			}
			continue
		case <-off.C:
			if err := w.job(false); err != nil {
				return "", err
			}
			continue
		case got = <-w.events:
		}
		switch {
		case got == want:
			d := w.upTo(80 * time.Millisecond)
			if w.random.IntN(2) == 0 {
				d = w.upTo(4 * time.Millisecond)
			}
			return fmt.Sprintf("%.1f ms after %s", float64(d.Microseconds())/1000, want), pause(ctx, d)
		case got == "action reverted":
			// The job ends, and another begins when that was seen: an overload of its own.
			if err := w.job(false); err != nil {
				return "", err
			}
			again.Reset(jobPause)
		}
	}
}
