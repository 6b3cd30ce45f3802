package shed_test

import (
	"math"
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/shed"
)

// oracle tries every set of whole units, and fills up with the others by loss for what is freed.
func oracle(units []shed.Unit, need float64) (loss float64, enough bool) {
	var whole, loose []shed.Unit
	for _, u := range units {
		switch {
		case u.Free <= 0:
		case u.Whole:
			whole = append(whole, u)
		default:
			loose = append(loose, u)
		}
	}
	best := math.Inf(1)
	for set := range uint(1) << len(whole) {
		left, lost := need, 0.0
		for i, u := range whole {
			if set>>i&1 == 1 {
				left -= u.Free
				lost += u.Loss
			}
		}
		used := make([]bool, len(loose))
		for left > 0 {
			cheapest := -1
			for i, u := range loose {
				if !used[i] && (cheapest < 0 || u.Loss/u.Free < loose[cheapest].Loss/loose[cheapest].Free) {
					cheapest = i
				}
			}
			if cheapest < 0 {
				break
			}
			used[cheapest] = true
			part := min(1, left/loose[cheapest].Free)
			lost += part * loose[cheapest].Loss
			left -= part * loose[cheapest].Free
		}
		if left <= 1e-9 {
			best = min(best, lost)
		}
	}
	return best, !math.IsInf(best, 1)
}

func TestSolveAgainstEveryChoice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		units := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) shed.Unit {
			return shed.Unit{
				Free:  float64(rapid.IntRange(0, 12).Draw(t, "free")) / 4,
				Loss:  float64(rapid.IntRange(0, 20).Draw(t, "loss")),
				Whole: rapid.Bool().Draw(t, "whole"),
			}
		}), 0, 10).Draw(t, "units")
		need := float64(rapid.IntRange(-4, 60).Draw(t, "need")) / 4
		got := shed.Solve(units, need)
		want, enough := oracle(units, need)
		if need <= 0 {
			want, enough = 0, true
		}
		if got.Enough != enough || !got.Exact {
			t.Fatalf("enough %v, want %v; %+v", got.Enough, enough, got)
		}
		freed, loss := 0.0, 0.0
		for i, u := range units {
			if s := got.Share[i]; s < 0 || s > 1 || u.Whole && s != 0 && s != 1 {
				t.Fatalf("unit %d gives %v", i, s)
			}
			freed += got.Share[i] * u.Free
			loss += got.Share[i] * u.Loss
		}
		if math.Abs(freed-got.Freed) > 1e-6 || math.Abs(loss-got.Loss) > 1e-6 {
			t.Fatalf("frees %v and loses %v, says %+v", freed, loss, got)
		}
		if enough && (freed < need-1e-6 || math.Abs(got.Loss-want) > 1e-6) {
			t.Fatalf("loses %v, best is %v: %+v", got.Loss, want, got)
		}
	})
}

// Thirty whole units of a hard kind are done in no time, and more than that are still an answer.
func TestManyWholeUnits(t *testing.T) {
	for _, n := range []int{shed.MaxExact, 200} {
		units := make([]shed.Unit, n)
		need := 0.0
		for i := range units {
			free := float64(bits.Reverse8(uint8(i*37))%50 + 10)
			units[i] = shed.Unit{Free: free, Loss: free + float64(i%7), Whole: true}
			need += free / 2
		}
		a := shed.Solve(units, need)
		if !a.Enough || a.Freed < need || a.Exact != (n <= shed.MaxExact) {
			t.Fatalf("%d units: %+v", n, a)
		}
	}
}

func BenchmarkSolve(b *testing.B) {
	units := make([]shed.Unit, shed.MaxExact)
	need := 0.0
	for i := range units {
		free := float64(bits.Reverse8(uint8(i*37))%50 + 10)
		units[i] = shed.Unit{Free: free, Loss: free + float64(i%7), Whole: true}
		need += free / 2
	}
	b.ReportAllocs()
	for b.Loop() {
		shed.Solve(units, need)
	}
}
