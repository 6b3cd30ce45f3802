package ingest

import (
	"slices"

	"github.com/evenkeel/evenkeel/collector/store"
)

// maxRuns bounds the gaps that are remembered for one boot. Beyond it the latest run is forgotten: what was in it is
// taken once more when it comes again, and the store sees that it is the same.
const maxRuns = 64

// run is the batches from first to last.
type run struct{ first, last uint64 }

// progress knows which batches of one boot of an agent have come, and how far they are on stable storage. It is not
// safe for use from many goroutines.
//
// low is the last batch of the unbroken beginning: it and all before it have come, or never will. An agent sends live
// batches and older ones out of its spool side by side, so runs of batches beyond low are kept apart until what lies
// between has come. Acks follow low, never the runs.
type progress struct {
	low   uint64
	runs  []run // beyond low+1, in order, with a gap before each
	acked uint64
	marks []checkpoint // rising in both
	last  store.Mark   // of the batch that came last
	open  bool         // last is not durable yet
}

// checkpoint says that everything up to low is durable once mark is.
type checkpoint struct {
	low  uint64
	mark store.Mark
}

// has reports whether the batch has come or been given up.
func (p *progress) has(seq uint64) bool {
	if seq <= p.low {
		return true
	}
	for _, r := range p.runs {
		if seq < r.first {
			return false
		}
		if seq <= r.last {
			return true
		}
	}
	return false
}

// add notes that the batches from first to last have come.
func (p *progress) add(first, last uint64) {
	if last <= p.low || last < first {
		return
	}
	if first <= p.low+1 {
		p.low = last
		for len(p.runs) > 0 && p.runs[0].first <= p.low+1 {
			p.low = max(p.low, p.runs[0].last)
			p.runs = p.runs[1:]
		}
		return
	}
	i := 0
	for i < len(p.runs) && p.runs[i].last+1 < first {
		i++
	}
	j := i // runs i to j-1 touch the new one
	for j < len(p.runs) && p.runs[j].first <= last+1 {
		first, last = min(first, p.runs[j].first), max(last, p.runs[j].last)
		j++
	}
	p.runs = slices.Replace(p.runs, i, j, run{first, last})
	if len(p.runs) > maxRuns {
		p.runs = p.runs[:maxRuns]
	}
}

// stamp notes that what has come so far is durable once m is.
func (p *progress) stamp(m store.Mark) {
	p.last, p.open = m, true
	if n := len(p.marks); n > 0 && p.marks[n-1].mark == m {
		p.marks[n-1].low = p.low
		return
	}
	if n := len(p.marks); n > 0 && p.marks[n-1].low == p.low || n == 0 && p.low == p.acked {
		return // nothing new to ack
	}
	p.marks = append(p.marks, checkpoint{p.low, m})
}

// settle moves acked as far as d allows, and reports whether anything that came was lost.
func (p *progress) settle(d store.Durable) (lost bool) {
	n := 0
	for n < len(p.marks) && d.Covers(p.marks[n].mark) {
		p.acked = max(p.acked, p.marks[n].low)
		n++
	}
	p.marks = append(p.marks[:0], p.marks[n:]...)
	if p.open && d.Covers(p.last) {
		p.open = false
	}
	return p.open && d.Lost(p.last)
}

// rewind forgets what came since the last ack, so that it is taken when it is sent again.
func (p *progress) rewind() {
	p.low, p.runs, p.marks, p.open = p.acked, nil, nil, false
}

// floor notes that the agent holds nothing up to seq: it was acked before, or dropped.
func (p *progress) floor(seq uint64) {
	if seq > p.low {
		p.add(p.low+1, seq)
		if len(p.marks) == 0 {
			p.acked = max(p.acked, seq)
		}
	}
}
