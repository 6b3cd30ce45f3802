package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// load keeps the server at work: 150 requests a second, whether or not earlier ones were answered.
func load(ctx context.Context, url string) {
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	slots := make(chan struct{}, 256) // a request for which there is none is left out
	tick := time.NewTicker(time.Second / 150)
	defer tick.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		all.Go(func() {
			defer func() { <-slots }()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return
			}
			if r, err := c.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
		})
	}
}

// job gives the batch job work, or takes it away.
func (w *world) job(on bool) error {
	w.busy.Store(on)
	s := syscall.SIGUSR2
	if on {
		s = syscall.SIGUSR1
	}
	if err := w.batch.cmd.Process.Signal(s); err != nil {
		return errors.New(w.batch.death())
	}
	return nil
}

// refuse has a hundred connections a second refused while the batch job works.
func (w *world) refuse(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if w.busy.Load() {
			if c, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second); err == nil {
				c.Close() // somebody serves there, so nothing was refused
			}
		}
	}
}

// happened tells whoever waits for a moment to kill in.
func (w *world) happened(what string) {
	select {
	case w.events <- what:
	default:
	}
}

// watchKnob sees the kernel's file change, sooner than anybody reports it.
func (w *world) watchKnob(ctx context.Context) {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	last := w.groups.free()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := w.groups.free(); now != last {
			last = now
			w.happened(map[bool]string{true: knobFree, false: knobHeld}[now])
		}
	}
}

// watchActions sees each change of an action, and remembers which there were.
func (w *world) watchActions(ctx context.Context) {
	for ctx.Err() == nil {
		if s, err := w.api.Actions.WatchActions(ctx, &operatorv1.ListActionsRequest{}, grpc.WaitForReady(true)); err == nil {
			for {
				a, err := s.Recv()
				if err != nil {
					break
				}
				w.mu.Lock()
				w.seen[a.Id] = true
				w.mu.Unlock()
				w.happened("action " + a.State)
			}
		}
		_ = pause(ctx, 100*time.Millisecond)
	}
}
