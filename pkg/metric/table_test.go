package metric_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

func TestValue(t *testing.T) {
	for _, c := range []struct {
		desc metric.Desc
		raw  int64
		want float64
	}{
		{metric.Desc{}, 7, 7},
		{metric.Desc{Scale: metric.Scale{Div: 100}}, 7, 0.07},
		{metric.Desc{Scale: metric.Scale{Mul: 1024}}, 3, 3072},
		{metric.Desc{Scale: metric.Scale{Mul: 512, Div: 1000}}, 125, 64},
		{metric.Desc{Scale: metric.Scale{Mul: 1, Div: 1}}, -5, -5},
		{metric.Desc{Float: true, Scale: metric.Scale{Div: 100}}, int64(math.Float64bits(0.1)), 0.1},
	} {
		if got := c.desc.Value(c.raw); got != c.want {
			t.Errorf("%+v: %d is %v, want %v", c.desc, c.raw, got, c.want)
		}
	}
}

func TestLabel(t *testing.T) {
	d := metric.Desc{Labels: []metric.Label{{Name: "device", Value: "sda"}, {Name: "empty"}}}
	for name, want := range map[string]string{"device": "sda", "empty": ""} {
		if v, ok := d.Label(name); !ok || v != want {
			t.Errorf("%s: %q, %v", name, v, ok)
		}
	}
	if _, ok := d.Label("mode"); ok {
		t.Error("there is no mode")
	}
}

// A Table behaves as a map of refs, whatever its slots do.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tb metric.Table
		type series struct {
			slot metric.Slot
			name string
			raw  int64
		}
		live := map[metric.Ref]series{}
		seen := map[metric.Ref]bool{}
		var added, gone []metric.Ref
		ran := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				d := metric.Desc{Name: rapid.StringN(1, 3, 8).Draw(t, "name")}
				s := tb.Add(d)
				ref := tb.RefOf(s)
				if seen[ref] {
					t.Fatalf("ref %d was used before", ref)
				}
				if tb.Raw(s) != 0 {
					t.Fatalf("a new series reads %d", tb.Raw(s))
				}
				seen[ref] = true
				live[ref] = series{s, d.Name, 0}
				added = append(added, ref)
			},
			"set": func(t *rapid.T) {
				for ref, s := range live {
					s.raw = rapid.Int64().Draw(t, "raw")
					tb.Set(s.slot, s.raw)
					live[ref] = s
					return
				}
			},
			"end": func(t *rapid.T) {
				for ref, s := range live {
					tb.End(s.slot)
					tb.End(s.slot) // twice is once
					delete(live, ref)
					gone = append(gone, ref)
					return
				}
			},
			"ran": func(t *rapid.T) {
				g := rapid.IntRange(0, metric.MaxGroups-1).Draw(t, "group")
				tb.Ran(metric.Group(g))
				ran |= 1 << g
			},
			"next": func(*rapid.T) {
				tb.Next()
				added, gone, ran = nil, nil, 0
			},
			"": func(t *rapid.T) {
				if tb.Count() != len(live) || tb.Groups() != ran || !slices.Equal(tb.Gone(), gone) || len(tb.Added()) != len(added) {
					t.Fatalf("%d live, groups %b, gone %v, added %v", tb.Count(), tb.Groups(), tb.Gone(), tb.Added())
				}
				for i, s := range tb.Added() {
					if tb.RefOf(s) != added[i] {
						t.Fatalf("added %v, want refs %v", tb.Added(), added)
					}
				}
				for ref, s := range live {
					if !tb.Live(s.slot) || tb.RefOf(s.slot) != ref || tb.Desc(s.slot).Name != s.name || tb.Raw(s.slot) != s.raw {
						t.Fatalf("ref %d at %d", ref, s.slot)
					}
				}
			},
		})
	})
}

func TestTableAllocations(t *testing.T) {
	var tb metric.Table
	d := metric.Desc{Name: "a"}
	tick := func() {
		s := tb.Add(d)
		tb.SetFloat(s, 0.5)
		tb.Ran(3)
		tb.End(s)
		tb.Next()
	}
	tick()
	if n := testing.AllocsPerRun(100, tick); n != 0 {
		t.Errorf("%v allocations a tick", n)
	}
}
