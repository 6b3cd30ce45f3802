package whatif

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// broken is a function that is linear between its knots, a second apart each.
type broken struct {
	knots  []int // in seconds, ascending
	values []int // at the knots
}

func (b *broken) at(t time.Time) float64 {
	x := t.Sub(time.Unix(0, 0)).Seconds()
	i := 1
	for i < len(b.knots)-1 && x > float64(b.knots[i]) {
		i++
	}
	part := (x - float64(b.knots[i-1])) / float64(b.knots[i]-b.knots[i-1])
	return float64(b.values[i-1]) + part*float64(b.values[i]-b.values[i-1])
}

func drawBroken(t *rapid.T, name string, knots []int, least int) broken {
	b := broken{knots: knots}
	for range knots {
		b.values = append(b.values, rapid.IntRange(least, 60).Draw(t, name))
	}
	return b
}

// No start of a scan by the second is feasible and costs less, but for what lies within a second of an edge of a budget; what is found is
// feasible; and where the scan finds room, something is found.
func TestBestAgainstAScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		knots := []int{0}
		for range rapid.IntRange(1, 5).Draw(t, "stretches") {
			knots = append(knots, knots[len(knots)-1]+rapid.IntRange(1, 40).Draw(t, "length"))
		}
		last := knots[len(knots)-1]
		cost := drawBroken(t, "cost", knots, 0)
		rooms := []broken{drawBroken(t, "room", knots, -40), drawBroken(t, "room", knots, -60)}
		var taken [2]int
		if i := rapid.IntRange(0, len(knots)-1).Draw(t, "taken"); i+1 < len(knots) {
			taken = [2]int{knots[i], knots[i+1]}
		}
		second := func(n int) time.Time { return time.Unix(int64(n), 0) }
		s := search{
			first: second(0), last: second(last),
			cost: func(at time.Time) manifest.Decimal { return manifest.Decimal(cost.at(at) * 1e6) },
			free: func(at time.Time) bool { return !at.After(second(taken[0])) || !at.Before(second(taken[1])) },
			room: func(at time.Time) (time.Duration, error) {
				return time.Duration(min(rooms[0].at(at), rooms[1].at(at)) * float64(time.Second)), nil
			},
		}
		for _, k := range knots[1:] {
			s.meet(second(k), time.Hour)
		}
		start, found, err := s.best()
		if err != nil {
			t.Fatal(err)
		}
		feasible := func(at time.Time) bool {
			room, err := s.room(at)
			return err == nil && room >= 0 && s.free(at)
		}
		if found && !feasible(start) {
			t.Fatalf("%s is not feasible", start)
		}
		for n := 0; n <= last; n++ {
			wide := true // an edge lies further away than two seconds
			for d := -2; d <= 2; d++ {
				wide = wide && (n+d < 0 || n+d > last || feasible(second(n+d)))
			}
			if !wide {
				continue
			}
			if !found || s.cost(start) > s.cost(second(n))+1 {
				t.Fatalf("found %v %s for %s, and %d s costs %s", found, start.Sub(second(0)), s.cost(start), n, fmt.Sprint(s.cost(second(n))))
			}
		}
	})
}
