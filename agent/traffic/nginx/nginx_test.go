package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

const shop = `# the shop
upstream shop {
    zone shop 64k; # weight=9 server 10.0.0.7:80
    server 10.0.0.7:80 weight=5 max_fails=2;
    server 10.0.0.8:80	max_fails=1;
    server "10.0.0.9:80";
    server 10.0.0.6:80 down;
}
upstream other { server 10.0.0.7:80 weight=3; }
server { location / { proxy_pass http://shop; set $x "${y}{"; } }
`

func TestFind(t *testing.T) {
	for _, x := range []struct {
		upstream, server string
		native           string
		weight           int64
	}{
		{"shop", "10.0.0.7:80", "weight=5", 5},
		{"shop", "10.0.0.8:80", noWeight, 1},
		{"shop", "10.0.0.9:80", noWeight, 1},
		{"other", "10.0.0.7:80", "weight=3", 3},
	} {
		p, err := find([]byte(shop), x.upstream, x.server)
		if err != nil || p.native() != x.native || p.weight != x.weight {
			t.Errorf("%s in %s: %+v %v", x.server, x.upstream, p, err)
		}
	}
	for _, x := range []struct{ file, upstream, server string }{
		{shop, "nope", "10.0.0.7:80"},
		{shop, "shop", "10.0.0.1:80"},
		{shop, "shop", "10.0.0.6:80"},
		{shop, "server", "10.0.0.7:80"},
		{"upstream a { server b; server b; }", "a", "b"},
		{"upstream a { server b; } upstream a { server c; }", "a", "b"},
		{"upstream a { server b weight=0; }", "a", "b"},
		{"upstream a { server b weight=1 weight=2; }", "a", "b"},
		{"upstream a { server b", "a", "b"},
		{`upstream a { server "b; }`, "a", "b"},
		{"upstream a { if { server b; } }", "a", "b"},
		{"set upstream a { server b; }", "a", "b"},
		{"server b;", "a", "b"},
	} {
		if p, err := find([]byte(x.file), x.upstream, x.server); err == nil {
			t.Errorf("%s in %s of %q is %+v", x.server, x.upstream, x.file, p)
		}
	}
}

// An edit changes one number and not a byte beside it, and going back gives the bytes that were there.
func TestEditThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.SampledFrom([]string{" ", "\t", "\n    ", "  # a comment; with { signs\n "})
		var file strings.Builder
		n := rapid.IntRange(1, 4).Draw(t, "servers")
		pick := rapid.IntRange(1, n).Draw(t, "pick")
		fmt.Fprintf(&file, "upstream%sx%s{", space.Draw(t, "s"), space.Draw(t, "s"))
		for i := range n {
			fmt.Fprintf(&file, "%sserver%s10.0.0.%d:80", space.Draw(t, "s"), space.Draw(t, "s"), i+1)
			for _, p := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"weight=4", "max_fails=3", "backup"}), rapid.ID[string]).Draw(t, "params") {
				file.WriteString(space.Draw(t, "s") + p)
			}
			file.WriteString(";")
		}
		file.WriteString("\n}\n")
		was := []byte(file.String())
		server := fmt.Sprintf("10.0.0.%d:80", pick)
		p, err := find(was, "x", server)
		if err != nil {
			t.Fatal(err)
		}
		at := was
		for range rapid.IntRange(1, 3).Draw(t, "edits") {
			native := fmt.Sprintf("weight=%d", rapid.IntRange(1, 65535).Draw(t, "weight"))
			if at, err = edit(at, "x", server, native); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				other := fmt.Sprintf("10.0.0.%d:80", i+1)
				a, err1 := find(was, "x", other)
				b, err2 := find(at, "x", other)
				if err1 != nil || err2 != nil || (other == server) != (b.native() == native && other == server) || other != server && a.native() != b.native() {
					t.Fatalf("server %s went from %s to %s\n%s", other, a.native(), b.native(), at)
				}
			}
		}
		if at, err = edit(at, "x", server, p.native()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(at, was) {
			t.Fatalf("%q came back as %q", was, at)
		}
	})
}

// fake is an nginx that has read the file when it was started or reloaded last.
type fake struct {
	broken  error
	running bool
	stuck   bool
	started map[int]time.Time
	next    int
	reloads int
}

func (f *fake) test(context.Context) error { return f.broken }
func (f *fake) workers() (map[int]time.Time, bool, error) {
	return f.started, f.running, nil
}

func (f *fake) reload() error {
	f.reloads++
	if !f.stuck {
		f.next++
		f.started = map[int]time.Time{f.next: time.Now()}
	}
	return nil
}

func setup(t *testing.T) (*fake, traffic.Actuator, command.Target, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.conf")
	if err := os.WriteFile(file, []byte(shop), 0o640); err != nil {
		t.Fatal(err)
	}
	f := &fake{running: true}
	_ = f.reload()
	a := traffic.Actuator{Knob: weights{f, func() error { return nil }}}
	return f, a, command.Target{Nginx: &command.NginxServer{File: file, Upstream: "shop", Server: "10.0.0.8:80"}}, file
}

func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWeightThereAndBack(t *testing.T) {
	f, a, target, file := setup(t)
	state, err := a.Prior(t.Context(), target)
	if err != nil || state.Text != noWeight || state.Value != 1 {
		t.Fatalf("%+v %v", state, err)
	}
	c := actuator.Change{Target: target, State: state, Values: []int64{9}}
	if _, _, err := a.Write(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text(t, file), "server 10.0.0.8:80 weight=9	max_fails=1;") || f.reloads != 2 {
		t.Fatalf("%d reloads\n%s", f.reloads, text(t, file))
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	if s, _, err := a.Look(t.Context(), c); s != actuator.Ours || err != nil {
		t.Fatal(s, err)
	}
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Before || err != nil || text(t, file) != shop || f.reloads != 3 {
		t.Fatalf("%s %v, %d reloads\n%s", s, err, f.reloads, text(t, file))
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// The actor died between the file and the reload: what stands in the file is not in effect, and is taken back with a reload.
func TestWrittenAndNotReloaded(t *testing.T) {
	f, a, target, file := setup(t)
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	c := actuator.Change{Target: target, State: state, Values: []int64{9}}
	now, err := edit([]byte(shop), "shop", "10.0.0.8:80", "weight=9")
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute)
	put := func(b []byte) {
		if err := errors.Join(os.WriteFile(file, b, 0o640), os.Chtimes(file, later, later)); err != nil {
			t.Fatal(err)
		}
	}
	put(now)
	if s, _, err := a.Look(t.Context(), c); s != actuator.Mixed || err != nil {
		t.Fatal(s, err)
	}
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Before || err != nil || text(t, file) != shop || f.reloads != 2 {
		t.Fatal(s, err, f.reloads)
	}
	put([]byte(shop)) // somebody's edit that waits for a reload
	if _, err := a.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonPriorDiffers {
		t.Errorf("acted into somebody's work: %v", err)
	}
}

func TestRefusedConfigurationIsPutBack(t *testing.T) {
	f, a, target, file := setup(t)
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	c := actuator.Change{Target: target, State: state, Values: []int64{9}}
	f.broken = errors.New("nginx: [emerg] something else is wrong")
	if _, _, err := a.Write(t.Context(), c); command.ReasonOf(err) != command.ReasonNoEffect || !strings.Contains(err.Error(), "[emerg]") {
		t.Fatalf("%v", err)
	}
	if text(t, file) != shop || f.reloads != 1 {
		t.Fatalf("%d reloads\n%s", f.reloads, text(t, file))
	}
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Before || err != nil {
		t.Fatalf("nothing was changed, and the way back says %s, %v", s, err)
	}
	f.broken, f.running = nil, false
	if _, err := a.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Errorf("a stopped nginx: %v", err)
	}
	link := filepath.Join(filepath.Dir(file), "link.conf")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	target.Nginx.File = link
	if _, err := a.Prior(t.Context(), target); command.ReasonOf(err) != command.ReasonNotReversible {
		t.Errorf("a link: %v", err)
	}
}

func TestParseStat(t *testing.T) {
	parent, started, ok := parseStat([]byte("12 (a) b (c) S 7 " + strings.Repeat("1 ", 17) + "250 0"))
	if !ok || parent != 7 || started != 2500*time.Millisecond {
		t.Error(parent, started, ok)
	}
}

func FuzzEdit(f *testing.F) {
	f.Add([]byte(shop), "shop", "10.0.0.7:80")
	f.Add([]byte("upstream a{server b weight=\\ 1;}"), "a", "b")
	f.Fuzz(func(t *testing.T, file []byte, upstream, server string) {
		p, err := find(file, upstream, server)
		if err != nil {
			return
		}
		out, err := edit(file, upstream, server, "weight=77")
		if err != nil {
			t.Fatalf("found and not editable: %v", err)
		}
		back, err := edit(out, upstream, server, p.native())
		if err != nil {
			t.Fatalf("no way back: %v", err)
		}
		if q, err := find(back, upstream, server); err != nil || q.native() != p.native() {
			t.Fatalf("%+v became %+v: %v", p, q, err)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (nginx) S 7 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 250 0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, started, ok := parseStat(b); ok && started < 0 {
			t.Fatal(started)
		}
	})
}
