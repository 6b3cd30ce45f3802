package overload_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/collector/overload"
)

type sea struct {
	t     *testing.T
	s     *overload.Silence
	now   time.Time
	alive map[string]bool
	log   []string
	// answers says what an observer reports of a host; absent observers never report.
	answers map[string]bool
}

func newSea(t *testing.T, hosts ...string) *sea {
	w := &sea{t: t, s: overload.NewSilence(overload.SilenceConfig{}, start), now: start, alive: map[string]bool{}, answers: map[string]bool{}}
	for _, h := range hosts {
		w.alive[h] = true
	}
	return w
}

func (w *sea) run(seconds int) {
	for range seconds {
		w.now = w.now.Add(time.Second)
		for h, up := range w.alive {
			if up {
				if c, ok := w.s.Heard(h, time.Second, w.now); ok {
					w.note(c)
				}
			}
		}
		step := w.s.Tick(w.now)
		for _, c := range step.Changes {
			w.note(c)
		}
		for _, a := range step.Ask {
			if up, ok := w.answers[a.Host+" by "+a.Observer]; ok {
				w.s.Answer(a.Host, a.Observer, up, "answered on port 22", w.now)
			}
		}
	}
}

func (w *sea) note(c overload.ReachChange) {
	line := fmt.Sprintf("%s %s", c.Host, c.Reach)
	if c.Shared {
		line += " shared"
	}
	if len(c.Observers) > 0 {
		line += " by " + strings.Join(c.Observers, "+")
	}
	if c.Reach != overload.Connected {
		w.log = append(w.log, line)
	}
}

func (w *sea) expect(want string) {
	w.t.Helper()
	if got := strings.Join(w.log, "; "); got != want {
		w.t.Fatalf("got  %q\nwant %q", got, want)
	}
	w.log = nil
}

func TestHostDownNeedsTwoObservers(t *testing.T) {
	w := newSea(t, "a", "b", "c")
	w.run(60)
	w.expect("")
	w.alive["a"] = false
	w.run(3)
	w.expect("")
	w.run(2)
	w.expect("a silent")
	// Only the collector reports: that is one observer.
	w.answers["a by collector"] = false
	w.run(30)
	w.expect("")
	w.answers["a by agent/c"] = false // b never reports, so c is asked in its turn
	w.run(30)
	w.expect("a down by agent/c+collector")
	// It answers again while its agent does not.
	w.answers["a by agent/b"], w.answers["a by agent/c"] = true, true
	w.run(40)
	if len(w.log) == 0 || !strings.HasPrefix(w.log[0], "a agent lost") {
		t.Fatal(w.log)
	}
	w.log = nil
	w.alive["a"] = true
	w.run(1)
	if r, _ := w.s.Reach("a"); r != overload.Connected {
		t.Fatal(r)
	}
}

func TestAgentLost(t *testing.T) {
	w := newSea(t, "a", "b")
	w.run(40)
	w.alive["a"] = false
	w.answers["a by collector"], w.answers["a by agent/b"] = false, true
	w.run(20)
	w.expect("a silent; a agent lost by agent/b+collector")
}

func TestOneHostAloneIsNeverDown(t *testing.T) {
	w := newSea(t, "a")
	w.run(40)
	w.alive["a"] = false
	w.answers["a by collector"] = false
	w.run(300)
	w.expect("a silent")
}

func TestStartAndHostsNotSeenAreQuiet(t *testing.T) {
	w := newSea(t, "a", "b")
	w.run(5)
	w.alive["a"] = false
	w.run(20)
	w.expect("")
	if r, _ := w.s.Reach("z"); r != overload.NeverSeen {
		t.Fatal(r)
	}
}

func TestManyLossesAtOnceFold(t *testing.T) {
	hosts := make([]string, 50)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%02d", i)
	}
	w := newSea(t, hosts...)
	w.run(40)
	for _, h := range hosts[:49] {
		w.alive[h] = false
		w.answers[h+" by collector"], w.answers[h+" by agent/h00"] = false, false
	}
	w.run(300)
	for _, l := range w.log {
		if !strings.Contains(l, "silent shared") {
			t.Fatal(l)
		}
	}
	if len(w.log) != 49 || !w.s.Shared() {
		t.Fatal(len(w.log))
	}
	w.log = nil
	for _, h := range hosts[:47] {
		w.alive[h] = true
	}
	w.run(30)
	w.expect("h47 down by agent/h00+collector; h48 down by agent/h00+collector") // those that did not come back are looked at now
}
