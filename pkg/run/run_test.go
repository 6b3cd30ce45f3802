package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/pkg/run"
)

// diary notes what the parts of a test do, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// steady returns a part that runs until it is stopped, takes a while to flush, and returns err.
func (d *diary) steady(name string, flush time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		d.add("%s told", name)
		time.Sleep(flush)
		d.add("%s ended", name)
		return err
	}
}

func TestLifecycle(t *testing.T) {
	broken := errors.New("disk on fire")
	type part struct {
		name string
		run  func(d *diary) func(context.Context) error
	}
	steady := func(name string) part {
		return part{name, func(d *diary) func(context.Context) error { return d.steady(name, time.Second, nil) }}
	}
	tests := map[string]struct {
		parts  []part
		cancel time.Duration // 0: never
		want   []string
		errors []string // in the text of the error; none: nil
		took   time.Duration
	}{
		"cancelled: last first, one at a time": {
			parts:  []part{steady("store"), steady("ingest"), steady("session")},
			cancel: time.Minute,
			want:   []string{"session told", "session ended", "ingest told", "ingest ended", "store told", "store ended"},
			took:   time.Minute + 3*time.Second,
		},
		"a part fails": {
			parts: []part{steady("store"), {"session", func(*diary) func(context.Context) error {
				return func(context.Context) error { time.Sleep(5 * time.Second); return broken }
			}}, steady("api")},
			want:   []string{"api told", "api ended", "store told", "store ended"},
			errors: []string{"session: disk on fire"},
			took:   7 * time.Second,
		},
		"a part is done": {
			parts: []part{steady("store"), {"once", func(*diary) func(context.Context) error {
				return func(context.Context) error { return nil }
			}}},
			want: []string{"store told", "store ended"},
			took: time.Second,
		},
		"errors while stopping are joined": {
			parts: []part{
				{"store", func(d *diary) func(context.Context) error { return d.steady("store", 0, broken) }},
				{"api", func(d *diary) func(context.Context) error { return d.steady("api", 0, errors.New("port stuck")) }},
			},
			cancel: time.Second,
			want:   []string{"api told", "api ended", "store told", "store ended"},
			errors: []string{"store: disk on fire", "api: port stuck"},
			took:   time.Second,
		},
		"the context's own error after a stop is none": {
			parts: []part{{"link", func(*diary) func(context.Context) error {
				return func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("receive: %w", ctx.Err()) }
			}}},
			cancel: time.Second,
			took:   time.Second,
		},
		"the context's error before a stop is one": {
			parts: []part{steady("store"), {"link", func(*diary) func(context.Context) error {
				return func(context.Context) error { return context.Canceled }
			}}},
			want:   []string{"store told", "store ended"},
			errors: []string{"link: context canceled"},
			took:   time.Second,
		},
		"one that does not stop is named and left behind": {
			parts: []part{
				steady("store"),
				{"stuck", func(d *diary) func(context.Context) error { return d.steady("stuck", time.Hour, nil) }},
			},
			cancel: time.Second,
			want:   []string{"stuck told", "store told", "store ended"},
			errors: []string{"stuck: did not stop within 10s"},
			took:   12 * time.Second,
		},
		"no parts": {cancel: time.Second, took: time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				var g run.Group
				for _, p := range tt.parts {
					g.Add(p.name, p.run(&d))
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.cancel > 0 {
					time.AfterFunc(tt.cancel, cancel)
				}
				began := time.Now()
				err := g.Run(ctx)
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				d.mu.Lock()
				got := slices.Clone(d.lines)
				d.mu.Unlock()
				if !slices.Equal(got, tt.want) {
					t.Errorf("steps %q, want %q", got, tt.want)
				}
				if len(tt.errors) == 0 && err != nil {
					t.Errorf("error %v, want none", err)
				}
				for _, want := range tt.errors {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v lacks %q", err, want)
					}
				}
				time.Sleep(2 * time.Hour) // whoever was left behind ends inside the bubble
			})
		})
	}
}

// The error keeps its identity through the join.
func TestErrorIs(t *testing.T) {
	broken := errors.New("broken")
	var g run.Group
	g.Add("a", func(context.Context) error { return broken })
	if err := g.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("errors.Is is false for %v", err)
	}
}

func TestContextValuesReachParts(t *testing.T) {
	type key struct{}
	var g run.Group
	var got any
	g.Add("a", func(ctx context.Context) error { got = ctx.Value(key{}); return nil })
	if err := g.Run(context.WithValue(t.Context(), key{}, 7)); err != nil || got != 7 {
		t.Errorf("value %v, error %v", got, err)
	}
}

func TestLogNamesEachStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		var out bytes.Buffer
		g := run.Group{Log: slog.New(slog.NewTextHandler(&out, nil)), StopTimeout: time.Minute}
		g.Add("store", d.steady("store", 20*time.Second, nil))
		g.Add("stuck", d.steady("stuck", 2*time.Minute, nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Run(ctx); err == nil {
			t.Error("no error for the part that did not stop")
		}
		for _, want := range []string{
			"msg=starting part=store", "msg=starting part=stuck", "left behind\" part=stuck timeout=1m0s",
			"msg=stopped part=store took=20s",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log lacks %q:\n%s", want, out.String())
			}
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestMisuse(t *testing.T) {
	tests := map[string]func(g *run.Group){
		"add after run": func(g *run.Group) { g.Add("late", func(context.Context) error { return nil }) },
		"run twice":     func(g *run.Group) { _ = g.Run(context.Background()) },
	}
	for name, misuse := range tests {
		t.Run(name, func(t *testing.T) {
			var g run.Group
			g.Add("a", func(context.Context) error { return nil })
			if err := g.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse(&g)
		})
	}
}
