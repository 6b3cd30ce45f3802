package probe

import "github.com/evenkeel/evenkeel/pkg/metric"

// maxRows bounds the devices of a probe; what comes after them in the kernel's file is not shown.
const maxRows = 1024

// rows keeps the series of things that come and go, one row each: disks, network devices, mounts. The kernel lists them
// in a stable order, so the next row is nearly always the one that is expected.
type rows struct {
	all []row
	at  int  // where the next row is expected
	gen uint // of the current round
	// make describes the series of a new row; none means that the row is not wanted.
	make func(name string) []metric.Desc
}

type row struct {
	name  string
	slots block
	gen   uint
}

// begin starts a round.
func (r *rows) begin() { r.at, r.gen = 0, r.gen+1 }

// find returns the row called name, new or known; nil if there are too many. It is valid until the next find.
func (r *rows) find(t *metric.Table, name []byte) *row {
	for range r.all {
		if r.at >= len(r.all) {
			r.at = 0
		}
		w := &r.all[r.at]
		r.at++
		if w.name == string(name) {
			w.gen = r.gen
			return w
		}
	}
	if len(r.all) >= maxRows {
		return nil
	}
	w := row{name: string(name), gen: r.gen}
	w.slots.start(t, r.make(w.name)...)
	r.all = append(r.all, w)
	r.at = len(r.all)
	return &r.all[len(r.all)-1]
}

// done ends the rows that the round did not find.
func (r *rows) done(t *metric.Table) {
	kept := r.all[:0]
	for i := range r.all {
		if r.all[i].gen != r.gen {
			r.all[i].slots.end(t)
			continue
		}
		kept = append(kept, r.all[i])
	}
	clear(r.all[len(kept):])
	r.all = kept
}

func (r *rows) end(t *metric.Table) {
	r.gen++
	r.done(t)
}
