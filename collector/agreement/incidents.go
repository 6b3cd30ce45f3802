package agreement

import (
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/table"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Read reads incidents out of CSV. Its first line is id,service,priority,opened, and then acknowledged,resolved,onHold where they are
// known. Times are RFC 3339, empty where they have not been; onHold is FROM/TO, several with semicolons, TO empty while it goes on.
// Services that the picture does not know are a mistake.
func Read(p *picture.Picture, file string, text []byte) ([]Incident, []manifest.Problem) {
	var out []Incident
	problems := table.Read(file, text, []string{"id", "service", "priority", "opened", "acknowledged?", "resolved?", "onHold?"}, func(r *table.Row) {
		i := Incident{
			ID: r.Needed("id"), Service: r.Ref("service", "service"), Priority: r.Number("priority", 1, int(incident.Lowest)),
			Acknowledged: r.Time("acknowledged"), Resolved: r.Time("resolved"),
		}
		if r.Needed("opened") != "" {
			i.Opened = r.Time("opened")
		}
		if _, ok := p.Set.Get(i.Service); i.Service != "" && !ok {
			r.Mistake("service", string(i.Service)+" is not among the manifests", "")
		}
		for column, t := range map[string]time.Time{"acknowledged": i.Acknowledged, "resolved": i.Resolved} {
			if !t.IsZero() && t.Before(i.Opened) {
				r.Mistake(column, "it lies before the incident was opened", "")
			}
		}
		i.OnHold = holds(r, "onHold")
		out = append(out, i)
	})
	return out, problems
}

func holds(r *table.Row, column string) []Hold {
	if r.Text(column) == "" {
		return nil
	}
	var out []Hold
	for part := range strings.SplitSeq(r.Text(column), ";") {
		from, to, ok := strings.Cut(part, "/")
		var h Hold
		var err error
		if h.From, err = table.Moment(from); err == nil && to != "" {
			h.To, err = table.Moment(to)
		}
		last := len(out) - 1
		switch {
		case err != nil || !ok:
			r.Mistake(column, "\""+part+"\" is not a stretch of time", "expected FROM/TO in RFC 3339, TO empty while it goes on; several with semicolons")
			return nil
		case to != "" && !h.To.After(h.From), last >= 0 && (out[last].To.IsZero() || h.From.Before(out[last].To)):
			r.Mistake(column, "the stretches do not follow each other in time", "")
			return nil
		}
		out = append(out, h)
	}
	return out
}

// Known returns the incidents that a picture has on record, each for every service that it hit.
func Known(p *picture.Picture) []Incident {
	var out []Incident
	for i := range p.Incidents {
		in := &p.Incidents[i]
		x := Incident{
			ID: in.ID, Priority: int(in.Priority), Opened: in.OpenedAt, Acknowledged: in.AcknowledgedAt, Resolved: in.ResolvedAt,
		}
		for _, h := range in.Holds {
			x.OnHold = append(x.OnHold, Hold{h.From, h.To})
		}
		for _, s := range in.Services {
			x.Service = manifest.Ref(s)
			out = append(out, x)
		}
	}
	return out
}
