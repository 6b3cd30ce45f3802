package picture

import (
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Origin says by whose doing a service is bad: its own, where itself or one of its own parts is to blame; that of a vendor, where
// all that is to blame is run by vendors; and upstream, where other services are to blame that it rests on. It is Unknown for one
// that is not known to be bad, or where nothing is found to blame.
func Origin(s *servicemap.Snapshot, service manifest.Ref) slo.Origin {
	return origin(s, service, map[manifest.Ref]slo.Origin{})
}

func origin(s *servicemap.Snapshot, ref manifest.Ref, known map[manifest.Ref]slo.Origin) (out slo.Origin) {
	if o, ok := known[ref]; ok {
		return o
	}
	defer func() { known[ref] = out }()
	if base, _ := ref.Member(); s.Graph().Vendor(base) != "" {
		return slo.Vendor
	}
	inputs, itself, _ := s.Blame(ref)
	if itself {
		return slo.Own
	}
	for _, in := range inputs {
		o := origin(s, in, known)
		if in.Kind() == "service" && o != slo.Vendor && o != slo.Unknown {
			o = slo.Upstream
		}
		// What is nearer to the service answers for more.
		if rank[o] > rank[out] {
			out = o
		}
	}
	return out
}

var rank = map[slo.Origin]int{slo.Unknown: 0, slo.Vendor: 1, slo.Upstream: 2, slo.Own: 3}
