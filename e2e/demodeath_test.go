//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
	"github.com/evenkeel/evenkeel/scripts/demo/stage"
)

// seen is what one way of asking says of the business after the server of the shop died: six things, each as text, and when each was there.
type seen struct {
	way string
	ask func(to any, rest string, words ...string)
	at  map[string]time.Duration
}

// six are the things that a death must change, and what each must be then.
var six = map[string]string{
	"component": "critical",
	"service":   "critical",
	"incident":  "component/shop-server@demo-host critical P1 open [service/shop]",
	"cost":      "12000.00 EUR",
	"plan":      "component/shop-server@demo-host team/web [service/shop] EUR",
	"contacts":  "Web on call +49 30 200 now",
}

// look asks for all six things once, and notes those that are as they must be for the first time.
func (s *seen) look(since time.Time) {
	note := func(what, got string) {
		if _, noted := s.at[what]; !noted && got == six[what] {
			s.at[what] = time.Since(since)
		}
	}
	var m struct {
		Nodes []struct{ Ref, Low, High string }
	}
	s.ask(&m, "/api/v1/map", "map")
	for _, n := range m.Nodes {
		if n.Low != n.High {
			continue
		}
		switch n.Ref {
		case "component/shop-server@" + stage.Host:
			note("component", n.Low)
		case "service/shop":
			note("service", n.Low)
		}
	}
	var list struct {
		Incidents []struct {
			ID, Cause, Level, Priority, State, PerHour, CostSoFar string
			Services                                              []string
		}
	}
	s.ask(&list, "/api/v1/incidents", "incident", "list")
	for _, i := range list.Incidents {
		if !strings.HasPrefix(i.Cause, "component/shop-server@") {
			continue
		}
		note("incident", fmt.Sprint(i.Cause, " ", i.Level, " ", i.Priority, " ", i.State, " ", i.Services))
		if i.CostSoFar != "0.00 EUR" {
			note("cost", i.PerHour)
		}
	}
	var plan struct {
		Unit  string
		Steps []struct {
			Ref, Team  string
			Reinstates []string
		}
	}
	s.ask(&plan, "/api/v1/reason/recovery-plan", "recovery-plan")
	for _, p := range plan.Steps {
		note("plan", fmt.Sprint(p.Ref, " ", p.Team, " ", p.Reinstates, " ", plan.Unit))
	}
	var contacts struct {
		Causes []struct {
			Of    string
			Steps []struct{ Name, Phone, Call string }
		}
	}
	s.ask(&contacts, "/api/v1/reason/contacts", "contacts")
	for _, x := range contacts.Causes {
		for _, c := range x.Steps {
			if strings.HasPrefix(x.Of, "component/shop-server@") && c.Call == "now" {
				note("contacts", fmt.Sprint(c.Name, " ", c.Phone, " ", c.Call))
			}
		}
	}
}

// The stage of `make demo`, with its agent, its actor and its map: a real process is killed, and within two seconds the component, the service, the
// incident, its cost, the plan and whom to call say so, through the command and through REST alike. When it is back, all is well.
func TestDeathInTheDemo(t *testing.T) {
	runtime.LockOSThread() // what a stage starts dies with the thread that started it
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s := stage.Stage{Bin: filepath.Dir(rig.Binary(t, "evenkeel-collector")), State: rig.Folder(t)}
	rig.Binary(t, "demo-server")
	rig.Binary(t, "demo-batch")
	var how string
	s.Place, how = stage.FindPlace()
	t.Log("placement: " + how)
	s.Place.Share = 0.1 // so that nobody else who is busy on this machine makes the server wait
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := s.StartServer(ctx)
	check(err)
	check(s.StartWorker(3 * time.Minute))
	check(s.WriteFiles(stage.Files{Timing: "{dwell: 5s, outcome: 5s, cooldown: 0s, lease: 20s, release: 100%/1s}", Episode: "{steps: 6, every: 5s}", Rate: "20/5m"}))
	_, err = s.StartDev(ctx)
	check(err)

	c := &rig.Collector{Folder: s.State, Context: s.ContextFile()}
	ways := []*seen{
		{way: "REST", ask: func(to any, rest string, _ ...string) { c.GET(t, to, rest) }},
		{way: "the command", ask: func(to any, _ string, words ...string) { c.JSON(t, to, words...) }},
	}
	// healthy wants the server and its service to be known and no worse than a level.
	healthy := func(most ...string) string {
		var m struct {
			Nodes []struct {
				Ref, Low, High string
				Why            struct{ Text string }
			}
		}
		c.GET(t, &m, "/api/v1/map")
		n := 0
		for _, x := range m.Nodes {
			if x.Ref == "service/shop" || x.Ref == "component/shop-server@"+stage.Host {
				if n++; !slices.Contains(most, x.High) {
					return fmt.Sprintf("%+v", x)
				}
			}
		}
		if n != 2 {
			return fmt.Sprintf("%d of 2 nodes", n)
		}
		return ""
	}
	rig.Until(t, 60*time.Second, "all is well", func() string { return healthy("ok") })
	for _, w := range ways {
		w.at = map[string]time.Duration{}
		w.look(time.Now())
		if len(w.at) > 0 {
			t.Fatalf("%s sees before the death: %v", w.way, w.at)
		}
	}

	killed := time.Now()
	check(s.Server.Signal(syscall.SIGKILL))
	var both sync.WaitGroup
	for _, w := range ways {
		both.Go(func() {
			for len(w.at) < len(six) && time.Since(killed) < 10*time.Second {
				w.look(killed)
			}
		})
	}
	both.Wait()
	for _, w := range ways {
		for what := range six {
			took, ok := w.at[what]
			if !ok {
				t.Errorf("%s: %s is not seen within 10 s", w.way, what)
				continue
			}
			t.Logf("%-11s %-9s %.2f s after the kill", w.way, what, took.Seconds())
			if took > 2*time.Second {
				t.Errorf("%s: %s is seen %.2f s after the kill, want within 2 s", w.way, what, took.Seconds())
			}
		}
	}

	_, _, err = s.StartServer(ctx)
	check(err)
	// Whoever else is busy on this machine may still make the server wait, which is worse than ok and no death.
	rig.Until(t, 30*time.Second, "the server runs again", func() string { return healthy("ok", "info", "warning", "minor", "major") })
	rig.Until(t, 90*time.Second, "the incident is over, or is about waiting", func() string {
		var list struct {
			Incidents []struct{ Cause, State string }
		}
		c.GET(t, &list, "/api/v1/incidents")
		for _, i := range list.Incidents {
			if strings.HasPrefix(i.Cause, "component/shop-server@") && i.State != "resolved" {
				if why := healthy("ok"); strings.Contains(why, "component-cpu-delay") {
					t.Logf("this machine is too busy to end it: %s", why)
					return ""
				}
				return fmt.Sprintf("%+v", i)
			}
		}
		return ""
	})
}
