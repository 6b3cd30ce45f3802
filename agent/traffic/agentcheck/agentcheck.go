// Package agentcheck lets load balancers ask this host which share of its weight to give it: the agent-check of HAProxy.
//
// The actor writes a share into a file that is good for ten seconds and renews it while the lease goes on; a responder,
// a program of its own without any right, answers from these files. Whatever becomes of the actor, the answer is 100%
// ten seconds later. Whatever becomes of the responder is not in this package's hands: HAProxy keeps the last answer.
// So a responder that is stopped says 100% for a while before it goes, and its unit starts it again after a crash.
//
// The answer is a percentage and nothing else: words such as "ready" or "up" would undo what an operator set at the
// load balancer. Serve owns its goroutines, one for each connection.
package agentcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// DefaultDir is where shares are kept: gone with a boot.
const DefaultDir = "/run/evenkeel-agent-check"

const (
	good    = 10 * time.Second // how long a share counts
	renewal = 3 * time.Second
	full    = "100"
	maxText = 64 // bytes of a file
)

// share reads one file: "40 until 123456789" with the boot clock in milliseconds. One that has ended, or cannot be read
// as such, is no share.
func share(b []byte, now time.Duration) (int64, bool) {
	text, ok := strings.CutSuffix(string(b), "\n")
	percent, until, found := strings.Cut(text, " until ")
	if !ok || !found {
		return 0, false
	}
	n, err := strconv.ParseInt(percent, 10, 64)
	ms, err2 := strconv.ParseInt(until, 10, 64)
	if err != nil || err2 != nil || n < 1 || n > 100 {
		return 0, false
	}
	// A time too far ahead is of another boot.
	left := time.Duration(ms)*time.Millisecond - now
	return n, ms < 1<<50 && left > 0 && left <= good
}

// read returns the share in a folder under a name, 100 where there is none.
func read(dir, name string, now time.Duration) (int64, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 100, nil
	} else if err != nil {
		return 100, err
	}
	defer f.Close()
	b := make([]byte, maxText)
	n, _ := f.Read(b)
	if percent, ok := share(b[:n], now); ok {
		return percent, nil
	}
	return 100, nil
}

type weight struct {
	dir  string
	now  func() time.Duration
	keep *traffic.Deadman
}

// Weight is agentcheck.weight: what load balancers are told that ask for a name. Shares are kept in dir.
func Weight(dir string) traffic.Actuator { return weightOn(dir, traffic.Boottime) }

func weightOn(dir string, now func() time.Duration) traffic.Actuator {
	if dir == "" {
		dir = DefaultDir
	}
	return traffic.Actuator{Knob: weight{dir, now, &traffic.Deadman{TTL: good, Every: renewal, Now: now}}}
}

func (w weight) Able() error {
	if err := unix.Access(w.dir, unix.W_OK); err != nil {
		return command.Refuse(command.ReasonNotReversible, "folder %s cannot be written (%v): its unit makes it, see docs/traffic.md", w.dir, err)
	}
	return nil
}

func (weight) Name(t command.Target) string { return t.String() }

func (weight) Permit(_ context.Context, t command.Target, now traffic.Reading) error {
	if now.Native != full {
		return command.Refuse(command.ReasonBusy, "%s%% is answered for %s already: what is left of an earlier share ends within %s", now.Native, t.AgentCheck, good)
	}
	return nil
}

func (w weight) Read(_ context.Context, t command.Target) (traffic.Reading, error) {
	n, err := read(w.dir, t.AgentCheck, w.now())
	return traffic.Reading{Native: strconv.FormatInt(n, 10), Value: n}, err
}

func (weight) Native(value int64, _ string) (string, error) { return strconv.FormatInt(value, 10), nil }

func (w weight) Set(_ context.Context, t command.Target, native string) error {
	name := filepath.Join(w.dir, t.AgentCheck)
	if native == full {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := os.CreateTemp(w.dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // where it was not renamed
	_, err = fmt.Fprintf(f, "%s until %d\n", native, (w.now() + good).Milliseconds())
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	w.keep.Kept(t.AgentCheck)
	return nil
}

// Keep renews the share before it ends.
func (w weight) Keep(ctx context.Context, t command.Target, wanted string, now traffic.Reading) error {
	if wanted == full || !w.keep.Due(t.AgentCheck, now.Native == wanted, now.Native == full) {
		return nil
	}
	return w.Set(ctx, t, wanted)
}

// Forget removes a file that has run out.
func (w weight) Forget(t command.Target) {
	w.keep.Forget(t.AgentCheck)
	if n, err := read(w.dir, t.AgentCheck, w.now()); err == nil && n == 100 {
		_ = os.Remove(filepath.Join(w.dir, t.AgentCheck)) // it says nothing any more
	}
}
