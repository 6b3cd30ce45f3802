package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/pkg/command"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ShimWord {
		fmt.Fprintln(os.Stderr, Shim())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// rig writes a program and declares it.
type rig struct {
	t      *testing.T
	dir    string
	p      *Plugin
	d      Program
	target command.Target
}

// knob keeps a number for each target in a file beside it.
const knob = `#!/bin/sh
case "$1" in
get) cat "STORE" ;;
set) printf %s "$3" >"STORE" ;;
esac
`

func newRig(t *testing.T, script string) *rig {
	t.Helper()
	runner := &Runner{Read: func(path string, _ int64) ([]byte, error) { return os.ReadFile(path) }}
	if err := runner.able(); err != nil {
		t.Skipf("no plugin can run here: %v", err)
	}
	if g, err := runner.group("probe"); err != nil {
		t.Skipf("this user may not make cgroups: %v", err)
	} else {
		g.remove()
	}
	r := &rig{t: t, dir: t.TempDir(), p: New("knob", runner), target: command.Target{Unit: "batch.service"}}
	r.d = Program{
		Exe: filepath.Join(r.dir, "knob"), User: strconv.Itoa(os.Geteuid()), Get: []string{"get", TargetWord}, Set: []string{"set", TargetWord, ValueWord},
		Timeout: DefaultTimeout, Memory: DefaultMemory,
	}
	r.write(strings.ReplaceAll(script, "STORE", filepath.Join(r.dir, "store")))
	r.store("40")
	return r
}

func (r *rig) write(script string) {
	r.t.Helper()
	if err := os.WriteFile(r.d.Exe, []byte(script), 0o755); err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(script))
	r.d.SHA256 = hex.EncodeToString(sum[:])
	d := r.d
	r.p.Declare(&d)
}

func (r *rig) store(v string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "store"), []byte(v), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) stored() string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "store"))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

func (r *rig) apply(v int64) actuator.Change {
	r.t.Helper()
	state, err := r.p.Prior(r.t.Context(), r.target)
	if err != nil {
		r.t.Fatal(err)
	}
	c := actuator.Change{Target: r.target, State: state, Values: []int64{v}}
	if _, text, err := r.p.Write(r.t.Context(), c); err != nil || text != strconv.FormatInt(v, 10) {
		r.t.Fatalf("%q %v", text, err)
	}
	return c
}

func (r *rig) restore(c actuator.Change, want actuator.Standing) {
	r.t.Helper()
	if got, text, err := r.p.Restore(r.t.Context(), c); got != want || err != nil {
		r.t.Fatalf("%s %q %v, want %s", got, text, err, want)
	}
}

func TestPlugin(t *testing.T) {
	r := newRig(t, knob)
	c := r.apply(7)
	if c.State.Text != "40" || c.State.Value != 40 || r.stored() != "7" {
		t.Fatalf("%+v, stored %s", c.State, r.stored())
	}
	r.restore(c, actuator.Before)
	if r.stored() != "40" {
		t.Fatal(r.stored())
	}
	r.restore(c, actuator.Before)
	c = r.apply(7)
	r.store("99")
	r.restore(c, actuator.Other)
	if r.stored() != "99" {
		t.Fatalf("somebody else's value was overwritten by %s", r.stored())
	}
	r.p.Declare(nil)
	if _, err := r.p.Prior(t.Context(), r.target); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Errorf("nothing is declared: %v", err)
	}
	r.store("7") // what is in force is given back by the program that made it
	r.restore(c, actuator.Before)
}

// What is run is what was hashed, and what it gets is what was declared.
func TestPluginIsTheOneThatWasNamed(t *testing.T) {
	r := newRig(t, knob)
	if err := os.WriteFile(r.d.Exe, []byte("#!/bin/sh\necho 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := r.p.Prior(t.Context(), r.target); command.ReasonOf(err) != command.ReasonDenied {
		t.Fatalf("a file with another hash ran: %v", err)
	}
}

func TestPluginSeesNothingElse(t *testing.T) {
	t.Setenv("SECRET", "word")
	r := newRig(t, `#!/bin/sh
{ echo "$#:$1:$2"; env | grep -v '^_=' | sort; echo "cwd $(pwd)"; umask; ulimit -n; ulimit -c; ls /proc/self/fd | grep -v '^[0-3]$' | head -5
  grep NoNewPrivs /proc/self/status; cat /proc/self/cgroup; } >"STORE.seen"
echo 5
`)
	r.target = command.Target{Process: &command.Process{Exe: "/opt/a b; touch x"}}
	if _, err := r.p.Prior(t.Context(), r.target); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(r.dir, "store.seen"))
	if err != nil {
		t.Fatal(err)
	}
	seen := string(b)
	for _, want := range []string{"2:get:process/opt/a b; touch x\n", "cwd /\n", "0077\n64\n0\n", "NoNewPrivs:\t1", "evenkeel-plugin-knob-", "HOME=/\nLANG=C\n"} {
		if !strings.Contains(seen, want) {
			t.Errorf("%q is missing in\n%s", want, seen)
		}
	}
	if strings.Contains(seen, "SECRET") {
		t.Errorf("the environment is not clean:\n%s", seen)
	}
}

func TestPluginBounds(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   command.Reason
	}{
		"no number":  {"#!/bin/sh\necho high\n", command.ReasonNotReversible},
		"too much":   {"#!/bin/sh\nyes\n", command.ReasonNoEffect},
		"an error":   {"#!/bin/sh\necho wrong >&2; exit 3\n", command.ReasonNoEffect},
		"too long":   {"#!/bin/sh\nsleep 60 & setsid sleep 60 & sleep 60\n", command.ReasonNoEffect},
		"leftovers":  {"#!/bin/sh\nsetsid sleep 61 >/dev/null 2>&1 </dev/null &\necho 4\n", ""},
		"no program": {"not a program", command.ReasonNoEffect},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tt.script)
			r.d.Timeout = time.Second
			r.write(strings.ReplaceAll(tt.script, "STORE", r.dir))
			began := time.Now()
			_, err := r.p.Prior(context.Background(), r.target)
			if command.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			parent, err := r.p.runner.parent()
			if err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(filepath.Join(parent, "evenkeel-plugin-knob-*")); len(left) != 0 {
				t.Errorf("groups are left behind: %v", left)
			}
		})
	}
}

// A program runs as the user that was named, and may read itself though the file in memory is the actor's.
func TestPluginRunsAsItsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a program as somebody else")
	}
	r := newRig(t, "#!/bin/sh\nid -u\n")
	r.d.User = "65534"
	r.write("#!/bin/sh\nid -u\n")
	state, err := r.p.Prior(t.Context(), r.target)
	if err != nil || state.Value != 65534 {
		t.Fatalf("%+v %v", state, err)
	}
	r.d.User = "nobody-of-that-name"
	r.write("#!/bin/sh\nid -u\n")
	if _, err := r.p.Prior(t.Context(), r.target); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Fatal(err)
	}
}

// A kill file calls a program off that has not ended, with all that it started.
func TestPluginIsCalledOff(t *testing.T) {
	r := newRig(t, "#!/bin/sh\nsleep 60 & sleep 60\n")
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err := r.p.Prior(ctx, r.target); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if took := time.Since(began); took > r.d.Timeout/2 {
		t.Errorf("it took %s", took)
	}
}

// A program that sets something else than it was told has no effect, and what it did is given back by the actor.
func TestPluginThatLies(t *testing.T) {
	r := newRig(t, strings.ReplaceAll(knob, `"$3"`, "12"))
	state, err := r.p.Prior(t.Context(), r.target)
	if err != nil {
		t.Fatal(err)
	}
	c := actuator.Change{Target: r.target, State: state, Values: []int64{7}}
	if _, _, err := r.p.Write(t.Context(), c); command.ReasonOf(err) != command.ReasonNoEffect {
		t.Fatal(err)
	}
}

func TestFillReplacesWholeWords(t *testing.T) {
	got := fill([]string{"--x={value}", ValueWord, TargetWord, "{value} {target}"}, command.Target{Cgroup: "/a"}, -3)
	if strings.Join(got, "|") != "--x={value}|-3|cgroup/a|{value} {target}" {
		t.Fatal(got)
	}
}
