package picture

import (
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Standing says how services stand as a history has it: their health, and by whose doing it is bad.
type Standing struct {
	live     *servicemap.Snapshot
	counting *servicemap.Snapshot // with what is in maintenance counted
	known    map[manifest.Ref]slo.Origin
}

// Stand returns the standing of the services of a snapshot.
func Stand(s *servicemap.Snapshot) *Standing {
	return &Standing{s, s.Counting(), map[manifest.Ref]slo.Origin{}}
}

// Of returns how a service stands. It is planned where it is in maintenance itself, and where nothing but maintenance beneath it makes
// it bad: the map does not count what is worked on, and so says that the service is well; the history says that it was down, and meant to be. What is
// bad for another reason as well is not planned.
func (x *Standing) Of(service manifest.Ref) slo.State {
	r, _ := x.live.Range(service)
	if _, ok := x.live.Maintenance(service); ok {
		return slo.State{Health: r, Origin: slo.Planned}
	}
	full, _ := x.counting.Range(service)
	bad := func(l health.Level) bool { return l > health.Info }
	switch {
	case bad(r.Low):
		o := x.origin(service)
		if o == slo.Planned && full.Low > r.Low {
			r = full
		}
		return slo.State{Health: r, Origin: o}
	case bad(full.Low), bad(full.High) && !bad(r.High):
		return slo.State{Health: full, Origin: slo.Planned}
	}
	return slo.State{Health: r}
}

// Sound reports whether a service is known to be well, and nothing about it is planned.
func (x *Standing) Sound(service manifest.Ref) bool {
	r, _ := x.live.Range(service)
	full, _ := x.counting.Range(service)
	_, working := x.live.Maintenance(service)
	return r.High <= health.Info && full.High <= health.Info && !working
}

// Origin says by whose doing a service is bad: its own, where itself or one of its own parts is to blame; that of a vendor, where
// all that is to blame is run by vendors; upstream, where other services are to blame that it rests on; planned, where all that is to blame
// is maintenance. It is Unknown for one that is not known to be bad, or where nothing is found to blame.
func (x *Standing) Origin(service manifest.Ref) slo.Origin { return x.origin(service) }

func (x *Standing) origin(ref manifest.Ref) (out slo.Origin) {
	if o, ok := x.known[ref]; ok {
		return o
	}
	defer func() { x.known[ref] = out }()
	if base, _ := ref.Member(); x.live.Graph().Vendor(base) != "" {
		return slo.Vendor
	}
	inputs, itself, _ := x.live.Blame(ref)
	if itself {
		if len(inputs) == 0 && x.worked(ref) {
			return slo.Planned
		}
		return slo.Own
	}
	for _, in := range inputs {
		o := x.origin(in)
		if in.Kind() == "service" && rank[o] > rank[slo.Vendor] {
			o = slo.Upstream
		}
		// What is nearer to the service answers for more.
		if rank[o] > rank[out] {
			out = o
		}
	}
	return out
}

// worked reports whether what a node itself says is only what the maintenance of its parts does to it: counted, they make it as bad; or it is
// bad since so many of them are away.
func (x *Standing) worked(ref manifest.Ref) bool {
	if x.counting == x.live {
		return false
	}
	now, _ := x.live.Range(ref)
	full, _ := x.counting.Range(ref)
	inputs, _, _ := x.counting.Blame(ref)
	return full.Low < now.Low || len(inputs) > 0
}

var rank = map[slo.Origin]int{slo.Unknown: 0, slo.Planned: 1, slo.Vendor: 2, slo.Upstream: 3, slo.Own: 4}
