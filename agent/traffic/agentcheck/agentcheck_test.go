package agentcheck

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/pkg/command"
	"github.com/evenkeel/evenkeel/pkg/memnet"
)

func held(t *testing.T, dir string, now *time.Duration, v int64) (actuator.Change, func() error) {
	t.Helper()
	a := weightOn(dir, func() time.Duration { return *now })
	target := command.Target{AgentCheck: "web-1"}
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	c := actuator.Change{Target: target, State: state, Values: []int64{v}}
	if c.State, _, err = a.Write(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c, func() error { _, _, err := a.Tend(t.Context(), c); return err }
}

func TestShareEndsWithItsKeeper(t *testing.T) {
	dir := t.TempDir()
	now := 5 * time.Minute
	c, tend := held(t, dir, &now, 40)
	says := func(want int64) {
		t.Helper()
		if got, err := read(dir, "web-1", now); got != want || err != nil {
			t.Fatalf("%d %v, want %d", got, err, want)
		}
	}
	says(40)
	for range 300 {
		now += 200 * time.Millisecond
		if err := tend(); err != nil {
			t.Fatal(err)
		}
		says(40)
	}
	now += good
	says(100)
	if err := tend(); err != nil { // the actor was frozen, and goes on
		t.Fatal(err)
	}
	says(40)
	if err := os.Remove(filepath.Join(dir, "web-1")); err != nil { // somebody takes it away
		t.Fatal(err)
	}
	for range 100 {
		now += 200 * time.Millisecond
		if err := tend(); err != nil {
			t.Fatal(err)
		}
		says(100)
	}
	a := weightOn(dir, func() time.Duration { return now })
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Before || err != nil {
		t.Fatal(s, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOnlyAShareIsAShare(t *testing.T) {
	now := time.Hour
	for text, want := range map[string]bool{
		"40 until 3605000\n": true, "40 until 3600000\n": false, "40 until 9999000\n": false, "40 until 3605000": false, "0 until 3605000\n": false,
		"101 until 3605000\n": false, "drain\n": false, "40 until -1\n": false, "": false, "40 until 99999999999999999999\n": false,
	} {
		if _, ok := share([]byte(text), now); ok != want {
			t.Errorf("%q: %v", text, ok)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, bad := range []string{"", ":80", "0.0.0.0:80", "[::]:80", "10.0.0.7", "10.0.0.7:0", "web-1:80"} {
		if Address(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := Address("10.0.0.7:8426"); err != nil {
		t.Error(err)
	}
}

// The responder answers a percentage and nothing else, to a name or to anything, says 100% for a while when it is
// stopped, and cuts off who says nothing.
func TestResponder(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		l, err := network.Host("a").Listen("a:1")
		if err != nil {
			t.Fatal(err)
		}
		now := time.Hour
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := Responder{Dir: dir, Farewell: 5 * time.Second, now: func() time.Duration { return now }}
		go func() { done <- r.Serve(ctx, l) }()
		ask := func(line string) string {
			t.Helper()
			c, err := network.Host("lb").Dial(t.Context(), "a:1")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, line); err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(c)
			return string(b)
		}
		if err := os.WriteFile(filepath.Join(dir, "web-1"), []byte("40 until 3605000\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for line, want := range map[string]string{
			"web-1\n": "40%\n", "web-1\r\n": "40%\n", "web-2\n": "100%\n", "../../etc/passwd\n": "", "\n": "", "web-1": "", strings.Repeat("x", 200): "",
		} {
			if got := ask(line); got != want {
				t.Errorf("%q is answered with %q, want %q", line, got, want)
			}
		}
		cancel()
		synctest.Wait()
		if got := ask("web-1\n"); got != "100%\n" {
			t.Errorf("a responder that goes says %q", got)
		}
		before := time.Now()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(before); took > 5*time.Second {
			t.Errorf("it stayed for %s", took)
		}
	})
}

func FuzzShare(f *testing.F) {
	f.Add([]byte("40 until 3605000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, ok := share(b, time.Hour); ok && (n < 1 || n > 100) {
			t.Fatal(n)
		}
	})
}
