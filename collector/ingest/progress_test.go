package ingest

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/store"
)

// TestProgressAgainstASet holds progress to a plain set of the batches that came.
func TestProgressAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			p       progress
			came    = map[uint64]bool{}
			durable = store.Durable{Epoch: 1}
			round   = uint64(1)
			byRound = map[uint64][]uint64{} // what came in each round
			safe    = map[uint64]bool{}     // what is durable
		)
		low := func(set map[uint64]bool) uint64 {
			n := uint64(0)
			for set[n+1] {
				n++
			}
			return n
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0: // durable
				for r := durable.Round + 1; r <= round; r++ {
					for _, n := range byRound[r] {
						safe[n] = true
					}
				}
				durable.Round = round
				round++
				if p.settle(durable) {
					t.Fatal("lost without a new epoch")
				}
				if want := low(safe); p.acked != want {
					t.Fatalf("acked %d, but durable up to %d", p.acked, want)
				}
			case 1: // the store lost what is not durable
				durable = store.Durable{Epoch: durable.Epoch + 1, Round: round}
				round++
				lost := p.settle(durable)
				if len(came) != len(safe) && !lost {
					t.Fatal("a loss went unnoticed")
				}
				if !lost {
					continue
				}
				p.rewind()
				came, byRound = map[uint64]bool{}, map[uint64][]uint64{}
				for n := uint64(1); n <= p.acked; n++ {
					came[n] = true
				}
				safe = map[uint64]bool{}
				for n := range came {
					safe[n] = true
				}
			default:
				first := rapid.Uint64Range(1, 40).Draw(t, "first")
				last := min(first+rapid.Uint64Range(0, 4).Draw(t, "more"), 40)
				p.add(first, last)
				p.stamp(store.Mark{Epoch: durable.Epoch, Round: round})
				for n := first; n <= last; n++ {
					if !came[n] {
						came[n] = true
						byRound[round] = append(byRound[round], n)
					}
				}
			}
			for n := uint64(1); n <= 45; n++ {
				if p.has(n) != came[n] {
					t.Fatalf("has(%d) is %v: %+v", n, p.has(n), p)
				}
			}
			if want := low(came); p.low != want {
				t.Fatalf("low %d, want %d", p.low, want)
			}
		}
	})
}

func TestProgressFloorAndBounds(t *testing.T) {
	var p progress
	p.floor(99) // the agent's spool begins at 100
	if p.low != 99 || p.acked != 99 || !p.has(99) || p.has(100) {
		t.Fatalf("%+v", p)
	}
	p.floor(50)
	if p.low != 99 {
		t.Fatal("a floor went down")
	}
	for i := range uint64(3 * maxRuns) {
		p.add(200+2*i, 200+2*i)
	}
	if len(p.runs) != maxRuns {
		t.Fatalf("%d runs are remembered", len(p.runs))
	}
	p.add(100, 1000)
	if p.low != 1000 || len(p.runs) != 0 {
		t.Fatalf("%+v", p)
	}
}
