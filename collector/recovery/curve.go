package recovery

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// hours is the Curve of a calendar from the start of a plan on. It is made once for each different course of factors, so that
// two of them are the same course when they are the same pointer.
type hours struct {
	start  []time.Duration // of stretches of one factor; the first is 0, and the last one goes on for ever
	factor []manifest.Decimal
	until  []time.Duration // what all before each stretch weighs
}

// Weighted implements Curve. It is exact where factors times nanoseconds come out even, and otherwise off by less than a nanosecond.
func (h *hours) Weighted(from, to time.Duration) time.Duration { return h.upTo(to) - h.upTo(from) }

// Changes implements Curve.
func (h *hours) Changes(to time.Duration) []time.Duration {
	n, _ := slices.BinarySearch(h.start, to)
	return h.start[min(1, n):n]
}

func (h *hours) upTo(t time.Duration) time.Duration {
	i := sort.Search(len(h.start), func(i int) bool { return h.start[i] > t }) - 1
	return h.until[i] + weigh(t-h.start[i], h.factor[i])
}

// weigh returns a span times a factor, rounded down; it saturates.
func weigh(span time.Duration, factor manifest.Decimal) time.Duration {
	const one = 1_000_000
	const most = time.Duration(1 << 60)
	if whole := int64(span) / one; factor == 0 || whole < int64(most)/int64(factor) {
		return time.Duration(whole*int64(factor) + int64(span)%one*int64(factor)/one)
	}
	x := new(big.Int).Mul(big.NewInt(int64(span)), big.NewInt(int64(factor)))
	if x.Div(x, big.NewInt(one)); x.IsInt64() {
		return min(time.Duration(x.Int64()), most)
	}
	return most
}

// phase is the part of a plan's time in which certain services lose nothing whatever their health, since their hours are worth nothing.
type phase struct {
	dark   []int // their nodes
	curve  Curve // nil where every hour weighs the same
	factor manifest.Decimal
}

// phases returns how what a service loses weighs over time: one for each set of services in its span that are worth nothing
// at some time, because then they do not cover it. Where the factor of a calendar stays the same, it is taken into the rate.
func (m *loss) phases(c *claim) []phase {
	g := m.snap.Graph()
	var dated []int // those of the span whose hours are not worth the same
	for _, node := range c.span {
		if m.worth[node] != nil && g.BaseValue(m.trial.Ref(node)).Calendar() != nil {
			dated = append(dated, node)
		}
	}
	own := m.factors(g.BaseValue(m.trial.Ref(c.node)).Calendar())
	cuts := append(slices.Clone(own.start), m.from)
	if m.until != math.MaxInt64 {
		cuts = append(cuts, m.until)
	}
	others := make([]*hours, len(dated))
	for i, node := range dated {
		others[i] = m.factors(g.BaseValue(m.trial.Ref(node)).Calendar())
		cuts = append(cuts, others[i].start...)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var sets []string
	dark := map[string][]int{}
	courses := map[string]*hours{}
	for k, at := range cuts {
		var off []int
		for i, node := range dated {
			if others[i].at(at) == 0 {
				off = append(off, node)
			}
		}
		key := fmt.Sprint(off)
		if courses[key] == nil {
			sets, dark[key], courses[key] = append(sets, key), off, &hours{}
		}
		for _, set := range sets {
			factor := manifest.Decimal(0)
			if set == key && m.from <= at && at < m.until {
				factor = own.at(at)
			}
			if h := courses[set]; len(h.start) == 0 && k > 0 {
				h.add(0, 0)
				h.add(at, factor)
			} else {
				h.add(at, factor)
			}
		}
	}
	var out []phase
	for _, set := range sets {
		h := courses[set]
		switch {
		case len(h.start) > 1:
			out = append(out, phase{dark[set], m.intern(h), 1_000_000})
		case h.factor[0] > 0:
			out = append(out, phase{dark[set], nil, h.factor[0]})
		}
	}
	return out
}

// add appends a stretch; one of the factor of the stretch before goes on.
func (h *hours) add(at time.Duration, factor manifest.Decimal) {
	if n := len(h.start); n == 0 {
		h.until = append(h.until, 0)
	} else if h.factor[n-1] == factor {
		return
	} else {
		h.until = append(h.until, h.until[n-1]+weigh(at-h.start[n-1], h.factor[n-1]))
	}
	h.start, h.factor = append(h.start, at), append(h.factor, factor)
}

// at returns the factor of a moment.
func (h *hours) at(t time.Duration) manifest.Decimal {
	return h.factor[sort.Search(len(h.start), func(i int) bool { return h.start[i] > t })-1]
}

// factors returns the course of a calendar while the plan can last; nil weighs every hour 1.
func (m *loss) factors(c *calendar.Calendar) *hours {
	h := &hours{}
	if c == nil {
		h.add(0, 1_000_000)
		return h
	}
	if known := m.read[c]; known != nil {
		return known
	}
	for s := range c.Segments(m.at, m.at.Add(max(m.lasts, time.Second))) {
		h.add(s.Start.Sub(m.at), s.Factor)
	}
	m.read[c] = h
	return h
}

// intern returns the one of equal courses that all use.
func (m *loss) intern(h *hours) *hours {
	var key strings.Builder
	for i := range h.start {
		fmt.Fprintf(&key, "%d:%d ", h.start[i], h.factor[i])
	}
	if m.known[key.String()] == nil {
		m.known[key.String()] = h
	}
	return m.known[key.String()]
}
