package actor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// fatal is the part of testing.TB that rapid.T shares.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

var (
	rootKey     = seeded(1)
	strangerKey = seeded(2)
	approverKey = seeded(4)
)

func collectorKey(t fatal) command.Key {
	t.Helper()
	k := seeded(3)
	c, err := command.CertifyKey(rootKey, command.CertifiedKey{
		Public: pub(k), Collector: "c1", NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(1000 * time.Hour), MaxRisk: command.R2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return command.Key{Private: k, Certificate: c}
}

func cgroup(name string) command.Target { return command.Target{Cgroup: "/" + name} }

// testPermissions permits weights on three cgroups and an affinity.
func testPermissions() Permissions {
	sum := sha256.Sum256([]byte("permissions"))
	return Permissions{
		Hash: sum[:], MaxRisk: command.R1, Trust: command.Trust{SigningRoot: pub(rootKey), Approvers: []ed25519.PublicKey{pub(approverKey)}},
		Actions: []Grant{
			{Action: "cpu.weight", Targets: []command.Target{cgroup("a"), cgroup("b"), cgroup("c")}, Min: 1, Max: 10000, MaxLease: time.Minute, Times: 1000, Per: time.Hour},
			{Action: "process.affinity", Targets: []command.Target{{Process: &command.Process{Exe: "/bin/x"}}}, Min: 10, Max: 100, MaxLease: time.Minute, Times: 2, Per: time.Hour},
			{Action: "cpu.quota", Targets: []command.Target{cgroup("a")}, Min: 10, Max: 100, MaxLease: time.Minute, Times: 9, Per: time.Hour},
		},
	}
}

// crash is what a fake panics with where the process is to die.
type crash struct{}

// world is a host without a kernel: one number for each target, and a fuse that kills the process at a chosen point.
type world struct {
	mu      sync.Mutex // the loop and a test look at the host in turn
	values  map[string]int64
	writes  map[int64]int // how often each value was written
	fuse    int           // crash when it reaches zero; negative: never
	fail    error         // of every write and restore
	lazy    bool          // writes have no effect
	onWrite func(v int64)
	hang    bool // writes wait until they are called off
}

func newWorld(targets ...string) *world {
	w := &world{values: map[string]int64{}, writes: map[int64]int{}, fuse: -1}
	for _, t := range targets {
		w.values[cgroup(t).String()] = 100
	}
	return w
}

func (w *world) burn() {
	if w.fuse == 0 {
		w.fuse = -1
		panic(crash{})
	}
	if w.fuse > 0 {
		w.fuse--
	}
}

func (w *world) Prior(_ context.Context, t command.Target) (actuator.State, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.values[t.String()]
	if !ok {
		return actuator.State{}, command.Refuse(command.ReasonNoTarget, "there is no %s", t)
	}
	return actuator.State{Text: strconv.FormatInt(v, 10), Value: v, Knobs: []string{"file/" + t.String()}}, nil
}

func (w *world) Write(ctx context.Context, c actuator.Change) (actuator.State, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.burn()
	if w.fail != nil {
		return c.State, "", w.fail
	}
	if w.hang {
		w.values[c.Target.String()] = c.Value()
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return c.State, "", ctx.Err()
	}
	if w.onWrite != nil {
		w.onWrite(c.Value())
	}
	w.writes[c.Value()]++
	if w.lazy {
		return c.State, "", command.Refuse(command.ReasonNoEffect, "nothing changed")
	}
	w.values[c.Target.String()] = c.Value()
	w.burn()
	return c.State, strconv.FormatInt(c.Value(), 10), nil
}

func (w *world) Look(_ context.Context, c actuator.Change) (actuator.Standing, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.look(c)
}

func (w *world) look(c actuator.Change) (actuator.Standing, string, error) {
	v, ok := w.values[c.Target.String()]
	switch {
	case !ok:
		return actuator.Gone, "", nil
	case v == c.Value():
		return actuator.Ours, strconv.FormatInt(v, 10), nil
	case strconv.FormatInt(v, 10) == c.State.Text:
		return actuator.Before, c.State.Text, nil
	case slices.Contains(c.Values, v):
		return actuator.Older, strconv.FormatInt(v, 10), nil
	}
	return actuator.Other, strconv.FormatInt(v, 10), nil
}

func (w *world) Restore(_ context.Context, c actuator.Change) (actuator.Standing, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.burn()
	if w.fail != nil {
		return 0, "", w.fail
	}
	s, text, err := w.look(c)
	if err != nil || s == actuator.Gone || s == actuator.Other {
		return s, text, err
	}
	w.values[c.Target.String()] = c.State.Value
	w.burn()
	return actuator.Before, c.State.Text, nil
}

func (w *world) Tend(_ context.Context, c actuator.Change) (actuator.State, bool, error) {
	return c.State, false, nil
}

// rig is an engine on a fake host with a journal in a real file.
type rig struct {
	t       fatal
	dir     string
	world   *world
	now     Moment
	boot    string
	perm    Permissions
	problem error
	key     command.Key
	e       *engine
	results []command.Result
	synced  int64 // bytes of the journal that a power cut leaves
	noSync  error
	serial  uint64
	killed  string
}

func newRig(t fatal, dir string) *rig {
	r := &rig{
		t: t, dir: dir, world: newWorld("a", "b", "c"), now: Moment{Wall: epoch, Boot: time.Hour}, boot: "boot-1", perm: testPermissions(), key: collectorKey(t),
	}
	r.open()
	return r
}

func (r *rig) path() string { return filepath.Join(r.dir, "journal") }

func (r *rig) syncFile(f *os.File) error {
	r.world.burn()
	if r.noSync != nil {
		return r.noSync
	}
	if info, err := f.Stat(); err == nil {
		r.synced = info.Size()
	}
	r.world.burn()
	return nil
}

// open starts an engine as a new process would.
func (r *rig) open() {
	r.t.Helper()
	r.e = &engine{
		host: "web1", bootID: r.boot, clock: func() Moment { return r.now }, log: slog.New(slog.DiscardHandler),
		actuators:   map[string]Actuator{"cpu.weight": r.world, "cpu.quota": r.world, "process.affinity": r.world},
		permissions: func() (Permissions, error) { return r.perm, r.problem },
		emit:        func(x command.Result) { r.results = append(r.results, x) },
	}
	err := r.e.open(context.Background(), r.path(), r.syncFile, func() string {
		r.serial++
		return fmt.Sprintf("incarnation-%d", r.serial)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.killed != "" {
		r.e.setKillFile(context.Background(), r.killed)
	}
}

// restart drops the engine as SIGKILL would, and starts another.
func (r *rig) restart() {
	r.e.j.f.Close()
	r.open()
}

func (r *rig) advance(d time.Duration) {
	r.now.Wall, r.now.Boot = r.now.Wall.Add(d), r.now.Boot+d
}

// tick lets time go by in beats.
func (r *rig) tick(d time.Duration) {
	for end := r.now.Boot + d; r.now.Boot < end; {
		r.advance(min(time.Second, end-r.now.Boot))
		r.e.tick(context.Background())
	}
}

// command returns a good apply command; the serial makes ids and fences rise.
func (r *rig) command(target string, value int64) command.Command {
	r.serial++
	return command.Command{
		ID: ulid.MustNew(ulid.Timestamp(r.now.Wall), bytes.NewReader(fmt.Appendf(nil, "%010d", r.serial))).String(), Kind: command.Apply, Host: "web1",
		ActorIncarnation: r.e.s.Incarnation, Fence: command.Fence{Incarnation: 1, Revision: r.serial},
		Action: command.Action{Name: "cpu.weight", Target: cgroup(target), Value: value}, Issued: r.now.Wall, Expires: r.now.Wall.Add(30 * time.Second),
		Lease: 20 * time.Second, Risk: command.R1, PermissionsHash: r.perm.Hash, Reason: "test",
	}
}

func (r *rig) other(kind command.Kind, of string) command.Command {
	c := r.command("a", 1)
	c.Kind, c.Action, c.Of, c.Lease = kind, command.Action{}, of, 0
	if kind == command.Renew {
		c.Lease, c.Counter = 20*time.Second, uint32(r.serial)
	}
	return c
}

func (r *rig) sign(c command.Command) command.Envelope {
	r.t.Helper()
	e, err := command.Sign(c, r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (r *rig) send(c command.Command) []command.Result {
	r.t.Helper()
	return r.deliver(r.sign(c))
}

func (r *rig) deliver(e command.Envelope) []command.Result {
	from := len(r.results)
	r.e.command(context.Background(), e, r.now)
	return r.results[from:]
}

// want checks the last result of a delivery.
func (r *rig) want(got []command.Result, p command.Phase, reason command.Reason) command.Result {
	r.t.Helper()
	if len(got) == 0 {
		r.t.Fatalf("no result, want %s %s", p, reason)
	}
	last := got[len(got)-1]
	if last.Phase != p || last.Reason != reason {
		r.t.Fatalf("got %s %q (%s), want %s %q", last.Phase, last.Reason, last.Detail, p, reason)
	}
	return last
}

func (r *rig) value(target string) int64 {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	return r.world.values[cgroup(target).String()]
}

func (r *rig) wantValue(target string, v int64) {
	r.t.Helper()
	if got := r.value(target); got != v {
		r.t.Fatalf("cgroup %s holds %d, want %d", target, got, v)
	}
}

var errDisk = errors.New("no space left on device")

func rigIn(t *testing.T) *rig { return newRig(t, t.TempDir()) }
