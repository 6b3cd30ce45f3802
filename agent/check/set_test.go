package check_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/agent/check"
	"github.com/evenkeel/evenkeel/agent/schedule"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	"github.com/evenkeel/evenkeel/pkg/metric"
)

// readings collects what reaches the table: by series, one entry for each tick on which its group ran.
type readings struct {
	mu sync.Mutex
	by map[string][]float64
}

func (r *readings) sink(_ time.Time, t *metric.Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range t.Len() {
		s := metric.Slot(i)
		if !t.Live(s) {
			continue
		}
		d := t.Desc(s)
		if check, ok := d.Label("check"); ok && t.Groups()&(1<<d.Group) != 0 {
			r.by[d.Name+" "+check] = append(r.by[d.Name+" "+check], d.Value(t.Raw(s)))
		}
	}
	t.Next()
}

func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		defer n.Close()
		var broken atomic.Bool
		serve(t, n, "web", "80", func(w http.ResponseWriter, r *http.Request) {
			wait(r.Context(), 20*time.Millisecond)
			if broken.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		async := schedule.NewAsync(0)
		set, err := check.NewSet(check.SetConfig{
			ID: "a", Async: async, Asker: asker(n), Local: []check.Spec{{Name: "local", Kind: "tcp", Address: "web:80"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := &readings{by: map[string][]float64{}}
		runner, err := schedule.New(schedule.Config{ID: "a", Async: async, Sink: got.sink})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ran := make(chan struct{})
		go func() { _ = runner.Run(ctx); close(ran) }()
		done := make(chan struct{})
		go func() { _ = set.Run(ctx); close(done) }()

		web := check.Spec{Name: "component/web", Kind: "http", Address: "http://web:80/"}
		set.Watch([]check.Spec{web, {Name: "bad", Kind: "exec", Address: "/bin/true"}})
		<-time.After(time.Minute + 2*time.Second)
		broken.Store(true)
		set.Watch([]check.Spec{web}) // the same: phase and series go on
		<-time.After(time.Minute)
		set.Watch(nil)
		synctest.Wait()
		got.mu.Lock()
		seen := len(got.by["evenkeel_check_up component/web"])
		got.mu.Unlock()
		<-time.After(time.Minute)
		cancel()
		<-done
		<-ran

		ups := got.by["evenkeel_check_up component/web"]
		if len(ups) != seen || len(ups) < 8 || len(ups) > 10 {
			t.Errorf("%d readings in two minutes, %d a minute after the check was taken away", seen, len(ups))
		}
		if ups[0] != 1 || ups[len(ups)-1] != 0 {
			t.Errorf("up went %v", ups)
		}
		if d := got.by["evenkeel_check_duration_seconds component/web"]; math.Abs(d[0]-0.02) > 1e-9 {
			t.Errorf("duration %v", d)
		}
		if n := len(got.by["evenkeel_check_up local"]); n < 12 || n > 14 {
			t.Errorf("%d readings of the local check in three minutes", n)
		}
		if last, _ := set.Results(); len(last) != 1 || last[0].Name != "local" || !last[0].Up {
			t.Errorf("results %+v", last)
		}
	})
}

// More checks than places: those beyond the cap are left out, those beyond the places at once are counted.
func TestSetBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		defer n.Close()
		n.Cut("here", "web")
		set, err := check.NewSet(check.SetConfig{ID: "a", Async: schedule.NewAsync(0), Asker: asker(n)})
		if err != nil {
			t.Fatal(err)
		}
		var specs []check.Spec
		for i := range 200 {
			specs = append(specs, check.Spec{Name: fmt.Sprint("c", i), Kind: "tcp", Address: "web:80"})
		}
		set.Watch(specs)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = set.Run(ctx); close(done) }()
		<-time.After(14 * time.Second)
		last, missed := set.Results()
		if len(last) < 32 || len(last) > check.MaxChecks || missed < 90 {
			t.Errorf("%d results, %d left out", len(last), missed)
		}
		cancel()
		<-done
	})
}
