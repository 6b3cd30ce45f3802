package stage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Load sends requests on a fixed schedule, whether or not earlier ones were answered, and counts each latency from the
// moment at which the request was due: a slow server cannot slow the clock that judges it.
type Load struct {
	url   string
	every time.Duration

	mu      sync.Mutex
	windows map[int64][]time.Duration // by second of the moment due
	pending map[int64]int
}

// NewLoad returns a load that sends nothing before Run.
func NewLoad(url string, perSecond float64) *Load {
	return &Load{
		url: url, every: time.Duration(float64(time.Second) / perSecond),
		windows: map[int64][]time.Duration{}, pending: map[int64]int{},
	}
}

// Run sends until ctx ends. An unanswered request counts with the time that it has waited so far.
func (l *Load) Run(ctx context.Context) {
	transport := &http.Transport{MaxIdleConnsPerHost: 4096, MaxConnsPerHost: 0, IdleConnTimeout: time.Minute}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	defer transport.CloseIdleConnections()
	var all sync.WaitGroup
	defer all.Wait()

	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(n) * l.every)
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		} else if ctx.Err() != nil {
			return
		}
		l.note(due, 1, 0)
		all.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
			if err != nil {
				return
			}
			resp, err := client.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			took := time.Since(due)
			if err != nil && ctx.Err() == nil {
				took = max(took, client.Timeout)
			}
			l.note(due, -1, took)
		})
	}
}

func (l *Load) note(due time.Time, pending int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	second := due.Unix()
	l.pending[second] += pending
	if took > 0 {
		l.windows[second] = append(l.windows[second], took)
	}
}

// P95 returns the 95th percentile over the requests due in [from, to), and how many those were. A request without an
// answer yet counts with its age.
func (l *Load) P95(from, to time.Time) (time.Duration, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []time.Duration
	now := time.Now()
	for second := from.Unix(); second < to.Unix(); second++ {
		all = append(all, l.windows[second]...)
		for range l.pending[second] {
			all = append(all, now.Sub(time.Unix(second, 0)))
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[(len(all)*95+99)/100-1], len(all)
}

// LastSecond is P95 over the newest whole second.
func (l *Load) LastSecond() (time.Duration, int) {
	end := time.Now().Truncate(time.Second)
	return l.P95(end.Add(-time.Second), end)
}

// Millis writes a latency as people read it.
func Millis(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
}
