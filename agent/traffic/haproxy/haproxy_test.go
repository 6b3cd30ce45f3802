package haproxy

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// fake answers as HAProxy 2.6 does, mistakes included.
type fake struct {
	socket string
	listen net.Listener

	mu      sync.Mutex
	pid     int
	level   string
	weight  int64
	admin   uint64
	maxconn int64
	deaf    bool // takes settings without a word and does nothing
	sets    []string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{socket: filepath.Join(t.TempDir(), "h.sock"), pid: 7, level: "admin", weight: 100}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	f.listen = l
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			fmt.Fprint(c, f.answer(strings.TrimSpace(line)))
			c.Close()
		}
	}()
	return f
}

func (f *fake) answer(line string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := strings.Fields(line)
	switch {
	case line == "show info":
		return fmt.Sprintf("Name: HAProxy\nPid: %d\nMaxconn: 500\n\n", f.pid)
	case line == "show cli level":
		return f.level + "\n\n"
	case line == "show servers state web":
		return fmt.Sprintf("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n"+
			"3 web 1 s1 127.0.0.1 2 %d %d 100\n3 web 2 s2 127.0.0.1 0 5 100 100\n\n", f.admin, f.weight)
	case strings.HasPrefix(line, "show servers state "):
		return "Can't find backend.\n\n"
	case line == "show stat web 4 -1":
		limit := ""
		if f.maxconn > 0 {
			limit = strconv.FormatInt(f.maxconn, 10)
		}
		return "# pxname,svname,qcur,qmax,scur,smax,slim,stot,\nweb,s1,0,0,0,0," + limit + ",0,\nweb,s2,0,0,0,0,,0,\n\n"
	case strings.HasPrefix(line, "set "):
		f.sets = append(f.sets, line)
		switch {
		case !strings.Contains(line, " web/s1 "):
			return "No such server.\n\n"
		case f.deaf:
		case w[1] == "maxconn":
			f.maxconn, _ = strconv.ParseInt(w[4], 10, 64)
		case w[3] == "weight":
			f.weight, _ = strconv.ParseInt(w[4], 10, 64)
		case w[3] == "state":
			f.admin = map[string]uint64{ready: 0, drain: forcedDrain, maint: forcedMaint}[w[4]]
		}
		return "\n"
	}
	return "Unknown command.\n\n"
}

func (f *fake) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) target(server string) command.Target {
	return command.Target{HAProxy: &command.HAProxyServer{Socket: f.socket, Backend: "web", Server: server}}
}

func apply(t *testing.T, a traffic.Actuator, target command.Target, v int64) actuator.Change {
	t.Helper()
	state, err := a.Prior(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	c := actuator.Change{Target: target, State: state, Values: []int64{v}}
	if c.State, _, err = a.Write(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func stands(t *testing.T, a traffic.Actuator, c actuator.Change, want actuator.Standing) {
	t.Helper()
	if s, text, err := a.Look(t.Context(), c); err != nil || s != want {
		t.Fatalf("%s %q %v, want %s", s, text, err, want)
	}
}

func TestEachSettingThereAndBack(t *testing.T) {
	f := newFake(t)
	for _, x := range []struct {
		a     traffic.Actuator
		v     int64
		prior string
		get   func() any
		want  any
		was   any
	}{
		{Weight(), 10, "100", func() any { return f.weight }, int64(10), int64(100)},
		{Drain(), 1, "ready", func() any { return f.admin }, uint64(forcedDrain), uint64(0)},
		{Maint(), 1, "ready", func() any { return f.admin }, uint64(forcedMaint), uint64(0)},
		{MaxConn(), 5, "unlimited", func() any { return f.maxconn }, int64(5), int64(0)},
	} {
		c := apply(t, x.a, f.target("s1"), x.v)
		f.do(func() {
			if got := x.get(); got != x.want || c.State.Text != x.prior {
				t.Errorf("%v after %s, want %v after %s", got, c.State.Text, x.want, x.prior)
			}
		})
		stands(t, x.a, c, actuator.Ours)
		for range 2 { // twice is no harm
			if s, _, err := x.a.Restore(t.Context(), c); s != actuator.Before || err != nil {
				t.Fatalf("%s %v", s, err)
			}
		}
		f.do(func() {
			if got := x.get(); got != x.was {
				t.Errorf("%v is left behind", got)
			}
		})
	}
	if c := apply(t, MaxConn(), f.target("s1"), 5); c.State.Value != 500 {
		t.Errorf("a gradual release would go to %d and not to the process's bound", c.State.Value)
	}
}

func TestReleaseInStepsIsOurs(t *testing.T) {
	f := newFake(t)
	c := apply(t, Weight(), f.target("s1"), 10)
	for _, v := range []int64{40, 70} {
		c.Values = append(c.Values, v)
		if _, _, err := Weight().Write(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	f.do(func() { f.weight = 40 })
	stands(t, Weight(), c, actuator.Older)
}

func TestAnothersValueStays(t *testing.T) {
	f := newFake(t)
	c := apply(t, Weight(), f.target("s1"), 10)
	f.do(func() { f.weight = 55 })
	if s, text, err := Weight().Restore(t.Context(), c); s != actuator.Other || text != "55" || err != nil {
		t.Fatalf("%s %s %v", s, text, err)
	}
	f.do(func() {
		if f.weight != 55 {
			t.Error("somebody else's weight was overwritten")
		}
	})
	f.do(func() { f.weight = 0 })
	if _, err := Weight().Prior(t.Context(), f.target("s1")); command.ReasonOf(err) != command.ReasonPriorDiffers {
		t.Errorf("a server that somebody took out by its weight gets one: %v", err)
	}
	f.do(func() { f.admin = forcedMaint })
	if _, err := Drain().Prior(t.Context(), f.target("s1")); command.ReasonOf(err) != command.ReasonPriorDiffers {
		t.Errorf("a server that somebody took out is drained: %v", err)
	}
}

// A reload brings the file's weight back. It is set again, and what the file now says is what will be restored.
func TestReloadIsNoticed(t *testing.T) {
	f := newFake(t)
	c := apply(t, Weight(), f.target("s1"), 10)
	tend := func(changed bool) {
		t.Helper()
		state, did, err := Weight().Tend(t.Context(), c)
		if err != nil || did != changed {
			t.Fatalf("changed %v, want %v: %v", did, changed, err)
		}
		c.State = state
	}
	tend(false)
	f.do(func() { f.weight = 33 }) // an operator, no reload
	tend(false)
	stands(t, Weight(), c, actuator.Other)
	f.do(func() { f.pid, f.weight = 8, 80 })
	tend(true)
	stands(t, Weight(), c, actuator.Ours)
	if c.State.Text != "80" {
		t.Errorf("%s would be restored, the file has 80", c.State.Text)
	}
	f.do(func() { f.pid = 9 }) // a reload that kept the servers' state
	tend(true)
	if c.State.Text != "80" {
		t.Errorf("our own weight became the baseline: %s", c.State.Text)
	}
	f.listen.Close() // HAProxy stops
	tend(false)
	stands(t, Weight(), c, actuator.Gone)
}

// A reload that takes the server out of service is not undone by a lease from before.
func TestReloadIntoMaintenance(t *testing.T) {
	f := newFake(t)
	c := apply(t, Drain(), f.target("s1"), 1)
	f.do(func() { f.pid, f.admin, f.sets = 8, forcedMaint|configMaint, nil })
	for range 3 {
		state, _, err := Drain().Tend(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		c.State = state
	}
	if s, _, err := Drain().Restore(t.Context(), c); s != actuator.Other || err != nil {
		t.Errorf("%s %v", s, err)
	}
	f.do(func() {
		if len(f.sets) != 0 {
			t.Errorf("HAProxy was told %q", f.sets)
		}
	})
}

func TestRefusals(t *testing.T) {
	f := newFake(t)
	if _, err := Weight().Prior(t.Context(), f.target("s9")); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Errorf("a server that is not there: %v", err)
	}
	other := f.target("s1")
	other.HAProxy.Backend = "shop"
	if _, err := Weight().Prior(t.Context(), other); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Errorf("a backend that is not there: %v", err)
	}
	nobody := f.target("s1")
	nobody.HAProxy.Socket += "x"
	if _, err := Weight().Prior(t.Context(), nobody); command.ReasonOf(err) != command.ReasonNoTarget {
		t.Errorf("nobody at the socket: %v", err)
	}
	state, err := Weight().Prior(t.Context(), f.target("s1"))
	if err != nil {
		t.Fatal(err)
	}
	f.do(func() { f.deaf = true })
	if _, _, err := Weight().Write(t.Context(), actuator.Change{Target: f.target("s1"), State: state, Values: []int64{10}}); command.ReasonOf(err) != command.ReasonNoEffect {
		t.Errorf("an accepted command counts as an effect: %v", err)
	}
	f.do(func() { f.level = "operator" })
	if _, err := Weight().Prior(t.Context(), f.target("s1")); command.ReasonOf(err) != command.ReasonNotReversible {
		t.Errorf("a socket that may only look: %v", err)
	}
	if Drain().Name(f.target("s1")) != Maint().Name(f.target("s1")) {
		t.Error("drain and maint could be held at one time")
	}
}

func FuzzParseServer(f *testing.F) {
	f.Add("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n3 web 1 s1 127.0.0.1 2 0 100 100\n")
	f.Add("Can't find backend.\n")
	f.Fuzz(func(t *testing.T, answer string) {
		s, err := parseServer(answer, "web", "s1")
		if err == nil && !strings.Contains(answer, "web") {
			t.Fatalf("%q has server %+v", answer, s)
		}
		if err != nil && errors.Is(err, traffic.ErrGone) && len(err.Error()) > 700 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
	})
}

func FuzzParseLimit(f *testing.F) {
	f.Add("# pxname,svname,qcur,qmax,scur,smax,slim,stot,\nweb,s1,0,0,0,0,7,0,\n")
	f.Fuzz(func(t *testing.T, answer string) {
		if n, err := parseLimit(answer, "web", "s1"); n < 0 || err != nil && n != 0 {
			t.Fatalf("%q has limit %d, %v", answer, n, err)
		}
	})
}
