package report

import (
	"github.com/evenkeel/evenkeel/collector/cost"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/table"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// ReadFaults reads what was bad by itself out of CSV. Its first line is ref,level,from,to; to is empty for what still is.
func ReadFaults(p *picture.Picture, file string, text []byte) ([]cost.Fault, []manifest.Problem) {
	var out []cost.Fault
	problems := table.Read(file, text, []string{"ref", "level", "from", "to"}, func(r *table.Row) {
		f := cost.Fault{Ref: r.Ref("ref", "component", "service", "host"), From: r.Time("from"), To: r.Time("to")}
		if f.Ref != "" && !p.Map.Graph().Has(f.Ref) {
			r.Mistake("ref", string(f.Ref)+" is not on the map", "")
		}
		var err error
		if f.Level, err = health.ParseLevel(r.Text("level")); err != nil {
			r.Mistake("level", err.Error(), "")
		}
		r.Needed("from")
		switch {
		case f.To.IsZero():
			f.To = p.At
		case !f.To.After(f.From):
			r.Mistake("to", "it ends before it began", "")
		}
		out = append(out, f)
	})
	return out, problems
}

// KnownFaults returns the causes of the incidents that a picture has on record. An error budget that burnt too fast is none: it was spent by
// what was bad.
func KnownFaults(p *picture.Picture) []cost.Fault {
	var out []cost.Fault
	for i := range p.Incidents {
		in := &p.Incidents[i]
		if in.Budget {
			continue
		}
		to := in.ResolvedAt
		if to.IsZero() {
			to = p.At
		}
		out = append(out, cost.Fault{Ref: manifest.Ref(in.Cause), Level: in.Level, From: in.OpenedAt, To: to})
	}
	return out
}
