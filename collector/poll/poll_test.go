package poll

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// outsideWorld answers queries and checks, and notes when it was asked.
type outsideWorld struct {
	mu     sync.Mutex
	asked  map[string][]time.Time
	atOnce int
	most   int
	takes  time.Duration
	down   map[string]bool
}

func (w *outsideWorld) ask(ctx context.Context, key string) error {
	w.mu.Lock()
	w.asked[key] = append(w.asked[key], time.Now())
	w.atOnce++
	w.most = max(w.most, w.atOnce)
	w.mu.Unlock()
	defer func() { w.mu.Lock(); w.atOnce--; w.mu.Unlock() }()
	select {
	case <-time.After(w.takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until returns when each was asked so far, and how many at most at once.
func (w *outsideWorld) until() (asked map[string][]time.Time, most int) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	asked = map[string][]time.Time{}
	for key, times := range w.asked {
		asked[key] = slices.Clone(times)
	}
	return asked, w.most
}

func (w *outsideWorld) Query(ctx context.Context, expr string) ([]float64, error) {
	if err := w.ask(ctx, expr); err != nil {
		return nil, err
	}
	return []float64{42}, nil
}

func (w *outsideWorld) Check(ctx context.Context, i Item) (bool, string) {
	if err := w.ask(ctx, i.Key); err != nil {
		return false, err.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.down[i.Key], "seen"
}

func start(t *testing.T, w *outsideWorld) (p *Poller, answers func(key string) []Answer) {
	t.Helper()
	var mu sync.Mutex
	got := map[string][]Answer{}
	p = New(Config{Querier: w, Checker: w, Timeout: 5 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler), Tell: func(key string, a Answer) {
		mu.Lock()
		defer mu.Unlock()
		got[key] = append(got[key], a)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p, func(key string) []Answer {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got[key])
	}
}

func TestEachIsAskedInItsPeriodAndNotAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &outsideWorld{asked: map[string][]time.Time{}, takes: 10 * time.Millisecond}
		p, answers := start(t, w)
		var items []Item
		for i := range 1000 {
			q := fmt.Sprintf("q%d", i)
			items = append(items, Item{Key: q, Query: q, Every: 30 * time.Second})
		}
		began := time.Now()
		p.Use(items)
		time.Sleep(5 * time.Minute)
		asked, most := w.until()
		for _, i := range items {
			times := asked[i.Query]
			if len(times) < 10 || len(times) > 12 || times[0].Sub(began) > 4*time.Second {
				t.Fatalf("%s was asked %d times, first after %v", i.Key, len(times), times[0].Sub(began))
			}
			if a := answers(i.Key); len(a) < len(times)-1 || len(a) > len(times) || a[0].Values[0] != 42 {
				t.Fatalf("%s: %d answers", i.Key, len(a))
			}
		}
		if most > workers {
			t.Errorf("%d at once", most)
		}
		// Spread over their period: no second of the last period has more than four times its share.
		seconds := map[int64]int{}
		for _, times := range asked {
			seconds[times[len(times)-1].Unix()]++
		}
		for s, n := range seconds {
			if n > 4*1000/30 {
				t.Errorf("%d were asked in second %d", n, s)
			}
		}
		// What is no longer wanted is not asked, and nothing is said of it.
		p.Use(items[:1])
		synctest.Wait()
		before := len(answers("q7"))
		time.Sleep(2 * time.Minute)
		if after := len(answers("q7")); after != before {
			t.Errorf("%d answers more", after-before)
		}
	})
}

func TestASlowOneIsCutOffAndNotAskedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &outsideWorld{asked: map[string][]time.Time{}, takes: time.Hour}
		p, answers := start(t, w)
		p.Use([]Item{{Key: "slow", Query: "slow", Every: time.Second}})
		time.Sleep(time.Minute)
		a := answers("slow")
		if len(a) == 0 || !errors.Is(a[0].Err, context.DeadlineExceeded) || w.most != 1 {
			t.Errorf("%+v, %d at once", a, w.most)
		}
	})
}

func TestAPartIsDownOnlyWhereOthersAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &outsideWorld{asked: map[string][]time.Time{}, down: map[string]bool{}}
		p, answers := start(t, w)
		items := []Item{{Key: "a", HTTP: "http://a", Every: 30 * time.Second}, {Key: "b", TCP: "b:1", Every: 30 * time.Second}, {Key: "c", TCP: "c:1", Every: 30 * time.Second}}
		p.Use(items)
		last := func(key string) State { a := answers(key); return a[len(a)-1].State }
		set := func(keys ...string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			clear(w.down)
			for _, k := range keys {
				w.down[k] = true
			}
		}
		time.Sleep(time.Minute)
		if last("a") != Up || last("b") != Up {
			t.Fatal("not up")
		}
		set("a")
		time.Sleep(2 * time.Minute)
		if last("a") != Down || last("b") != Up {
			t.Errorf("a is %d, b is %d", last("a"), last("b"))
		}
		set("a", "b", "c") // our own way out
		time.Sleep(3 * time.Minute)
		for _, k := range []string{"a", "b", "c"} {
			for _, x := range answers(k)[len(answers(k))-3:] {
				if k != "a" && x.State == Down || last(k) == Down && k != "a" {
					t.Errorf("%s is down: %+v", k, x)
				}
			}
		}
		set()
		time.Sleep(time.Minute)
		if last("a") != Up || last("c") != Up {
			t.Error("not up again")
		}
	})
	s := strikes{}
	if state, _ := s.judge("only", false, "refused", time.Unix(0, 0)); state != Unsure {
		t.Error("down after one answer")
	}
	if state, text := s.judge("only", false, "refused", time.Unix(30, 0)); state != Down || text != "refused" {
		t.Error("the only one is not down")
	}
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPrometheus(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ok := func(result string) string { return `{"status":"success","data":` + result + `}` }
	for _, c := range []struct {
		name, body string
		code       int
		want       []float64
		err        string
	}{
		{"scalar", ok(`{"resultType":"scalar","result":[1,"2.5"]}`), 200, []float64{2.5}, ""},
		{"vector", ok(`{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"1"]},{"metric":{},"value":[1,"2"]}]}`), 200, []float64{1, 2}, ""},
		{"nothing", ok(`{"resultType":"vector","result":[]}`), 200, []float64{}, ""},
		{"matrix", ok(`{"resultType":"matrix","result":[]}`), 200, nil, "the query returned a matrix: expected a number"},
		{"text", ok(`{"resultType":"string","result":[1,"x"]}`), 200, nil, `unexpected value type "string"`},
		{"partial", `{"status":"success","warnings":["store 2 is away"],"data":{"resultType":"scalar","result":[1,"2"]}}`, 200, nil, "the answer may lack something: store 2 is away"},
		{"bad query", `{"status":"error","errorType":"bad_data","error":"1:4: parse error"}`, 400, nil, "bad_data: 1:4: parse error"},
		{"denied", "no", 401, nil, "client_error: client error: 401"},
		{"too much", ok(`{"resultType":"vector","result":[` + strings.Repeat(" ", 2*maxAnswer) + `]}`), 200, nil, "the answer has more than 1048576 bytes: ask for one value, such as by sum(...)"},
		{"broken", "{", 200, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := newPrometheus("http://prom.example:9090/base", token, trip(func(r *http.Request) (*http.Response, error) {
				if got := r.Header.Get("Authorization"); got != "Bearer secret" || !strings.HasPrefix(r.URL.Path, "/base/api/v1/query") {
					t.Errorf("%s %q", r.URL, got)
				}
				return &http.Response{StatusCode: c.code, Status: "x", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}, nil
			}), time.Now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Query(t.Context(), "up")
			switch {
			case c.want != nil && (err != nil || !slices.Equal(got, c.want)):
				t.Errorf("%v %v", got, err)
			case c.want == nil && (err == nil || c.err != "" && !strings.Contains(err.Error(), c.err)):
				t.Errorf("%v %v", got, err)
			}
		})
	}
	p, err := newPrometheus("http://prom.example", token+"x", trip(func(*http.Request) (*http.Response, error) { t.Error("asked without its token"); return nil, io.EOF }), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Query(t.Context(), "up"); err == nil || !strings.Contains(err.Error(), "bearerTokenFile") {
		t.Error(err)
	}
}
