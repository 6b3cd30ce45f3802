package warning

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/table"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

func part(p *picture.Picture, r *table.Row) manifest.Ref {
	ref := r.Ref("ref", "component", "host", "service")
	if ref != "" && !p.Map.Graph().Has(ref) {
		r.Mistake("ref", string(ref)+" is not on the map", "")
	}
	return ref
}

// ReadForecasts reads forecasts out of CSV, with the first line ref,soonest,latest: durations from now, or never.
func ReadForecasts(p *picture.Picture, file string, text []byte) ([]Forecast, []manifest.Problem) {
	var out []Forecast
	problems := table.Read(file, text, []string{"ref", "soonest", "latest"}, func(r *table.Row) {
		f := Forecast{Ref: part(p, r)}
		for column, to := range map[string]*time.Duration{"soonest": &f.Lo, "latest": &f.Hi} {
			var d manifest.Duration
			switch err := d.UnmarshalText([]byte(r.Text(column))); {
			case r.Text(column) == "never":
				*to = Never
			case err != nil:
				r.Mistake(column, err.Error(), "or never")
			default:
				*to = d.Std()
			}
		}
		if f.Hi < f.Lo {
			r.Mistake("latest", "it comes before the soonest time", "")
			f.Hi = f.Lo
		}
		out = append(out, f)
	})
	return out, problems
}

// ReadSeries reads series out of CSV, with the first line ref,series,time,value,limit. All rows of one series have one limit; it is reached
// from below where the first value of the series lies below it. Measurements after the moment of the picture are left out.
func ReadSeries(p *picture.Picture, file string, text []byte) ([]Series, []manifest.Problem) {
	type key struct {
		ref  manifest.Ref
		name string
	}
	at := map[key]int{}
	var out []Series
	problems := table.Read(file, text, []string{"ref", "series", "time", "value", "limit"}, func(r *table.Row) {
		k := key{part(p, r), r.Needed("series")}
		r.Needed("time")
		point := Point{r.Time("time"), number(r, "value")}
		limit := number(r, "limit")
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, Series{Ref: k.ref, Name: k.name, Limit: limit, Above: point.Value < limit})
		}
		if out[i].Limit != limit {
			r.Mistake("limit", "the rows of "+k.name+" before it have another limit", "")
		}
		if !point.At.After(p.At) {
			out[i].Points = append(out[i].Points, point)
		}
	})
	for i := range out {
		slices.SortStableFunc(out[i].Points, func(a, b Point) int { return a.At.Compare(b.At) })
	}
	return out, problems
}

func number(r *table.Row, column string) float64 {
	const most = 1e18 // so that no sum of what is worked out of it overflows
	x, err := strconv.ParseFloat(r.Text(column), 64)
	if err != nil || !(math.Abs(x) <= most) {
		r.Mistake(column, strconv.Quote(r.Text(column))+" is not a number up to 1e18", "")
		return 0
	}
	return x
}
