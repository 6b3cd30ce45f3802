package backoff_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/backoff"
)

func TestDelay(t *testing.T) {
	tests := map[string]struct {
		policy  backoff.Policy
		since   time.Duration
		attempt int
		rnd     float64
		want    time.Duration
	}{
		"first attempt, least":          {since: 0, rnd: 0, want: 0},
		"first attempt, middle":         {since: 0, rnd: 0.5, want: 7500 * time.Millisecond},
		"many early attempts":           {since: 119 * time.Second, attempt: 40, rnd: 0.5, want: 7500 * time.Millisecond},
		"early part over":               {since: 2 * time.Minute, attempt: 16, rnd: 0, want: 30 * time.Second},
		"one doubling":                  {since: 150 * time.Second, attempt: 17, rnd: 0, want: time.Minute},
		"two doublings":                 {since: 210 * time.Second, attempt: 18, rnd: 0, want: 2 * time.Minute},
		"bounded":                       {since: 24 * time.Hour, attempt: 1 << 30, rnd: 0, want: 2 * time.Minute},
		"jitter cuts":                   {since: time.Hour, attempt: 60, rnd: 0.5, want: 90 * time.Second},
		"woken from sleep, no attempts": {since: time.Hour, rnd: 0, want: 30 * time.Second},
		"own shape": {
			policy: backoff.Policy{Early: time.Second, Spread: time.Second, Max: 5 * time.Second, Jitter: 1},
			since:  time.Minute, attempt: 9, rnd: 0.2, want: 4 * time.Second,
		},
		"maximum below spread": {
			policy: backoff.Policy{Early: time.Second, Spread: time.Minute, Max: time.Second},
			since:  time.Hour, attempt: 9, rnd: 0, want: time.Second,
		},
		"not a number": {since: 0, rnd: math.NaN(), want: 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.policy.Delay(tt.since, tt.attempt, tt.rnd); got.Round(time.Millisecond) != tt.want {
				t.Errorf("Delay(%v, %d, %v) = %v, want %v", tt.since, tt.attempt, tt.rnd, got, tt.want)
			}
		})
	}
}

func TestHinted(t *testing.T) {
	tests := map[string]struct {
		hint time.Duration
		rnd  float64
		want time.Duration
	}{
		"as asked":       {hint: 5 * time.Second, want: 5 * time.Second},
		"spread":         {hint: 10 * time.Second, rnd: 0.5, want: 10500 * time.Millisecond},
		"absurd hint":    {hint: 1000 * time.Hour, want: 10 * time.Minute},
		"negative hint":  {hint: -time.Second, rnd: 0.9, want: 0},
		"at once is all": {hint: 0, rnd: 0.9, want: 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := (backoff.Policy{}).Hinted(tt.hint, tt.rnd); got.Round(time.Millisecond) != tt.want {
				t.Errorf("Hinted(%v, %v) = %v, want %v", tt.hint, tt.rnd, got, tt.want)
			}
		})
	}
}

// Ten thousand clients that lost one server at one moment come back evenly, and a long outage costs each of them one
// attempt in one to two minutes.
func TestFleet(t *testing.T) {
	const clients = 10_000
	var perSecond [15]int
	for i := range clients {
		d := backoff.Policy{}.Delay(0, 0, float64(i)/clients)
		perSecond[int(d/time.Second)]++
	}
	for s, n := range perSecond {
		if n < 600 || n > 700 {
			t.Errorf("second %d: %d clients, want about 667", s, n)
		}
	}
}

func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := backoff.Policy{
			Early:  time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "early")),
			Spread: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "spread")),
			Max:    time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "max")),
			Jitter: rapid.Float64Range(0, 1).Draw(t, "jitter"),
		}
		since := time.Duration(rapid.Int64().Draw(t, "since"))
		attempt := rapid.Int().Draw(t, "attempt")
		rnd := rapid.Float64().Draw(t, "rnd")
		spread, most := p.Spread, p.Max
		if spread == 0 {
			spread = 15 * time.Second
		}
		if most == 0 {
			most = 2 * time.Minute
		}
		d := p.Delay(since, attempt, rnd)
		if d < 0 || d > max(spread, most) {
			t.Fatalf("delay %v is outside 0 to %v", d, max(spread, most))
		}
		if more := p.Delay(since, attempt, 0); since >= time.Hour && d > more {
			t.Fatalf("jitter lengthened %v to %v", more, d)
		}
	})
}
