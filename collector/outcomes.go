package collector

import (
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/remedy"
	"github.com/evenkeel/evenkeel/collector/resource"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// outcomes is what became of detectors, runbooks and policies. A step that worked speaks for its runbook and its policy, one that was in force
// and was taken back as useless or harmful against them. An incident that somebody took on or that was acted upon speaks for its detector, one
// that went by without anybody against it. What was applied anew is another one since.
func outcomes(actions []remedy.Action, incidents []incident.Incident, keeper *resource.Keeper) []picture.Outcome {
	var out []picture.Outcome
	for i := range actions {
		a := &actions[i]
		if a.EndedAt.IsZero() || a.AppliedAt.IsZero() {
			continue
		}
		what := ""
		switch a.Reason {
		case remedy.ReasonHarmful, remedy.ReasonIneffective:
			what = picture.Bad
		default:
			if a.ActiveAt.IsZero() {
				continue // it was not judged
			}
			what = picture.Good
		}
		out = append(out,
			picture.Outcome{Item: manifest.RefOf(manifest.KindRunbook, a.Runbook), At: a.EndedAt, What: what},
			picture.Outcome{Item: manifest.RefOf(manifest.KindRemediationPolicy, a.Policy), At: a.EndedAt, What: what})
	}
	for i := range incidents {
		n := &incidents[i]
		if n.State != incident.Resolved || n.Detector == "" {
			continue
		}
		what := picture.Bad
		if !n.AcknowledgedAt.IsZero() || len(n.Actions) > 0 || len(n.Holds) > 0 || n.External != "" {
			what = picture.Good
		}
		out = append(out, picture.Outcome{Item: manifest.RefOf(manifest.KindDetector, n.Detector), At: n.ResolvedAt, What: what})
	}
	anew := map[manifest.Ref]time.Time{}
	for _, kind := range []string{manifest.KindDetector, manifest.KindRunbook, manifest.KindRemediationPolicy, manifest.KindService, manifest.KindComponent} {
		for _, s := range keeper.List(kind, func(map[string]string) bool { return true }) {
			switch {
			case s.ChangedAt.IsZero():
			case kind == manifest.KindService, kind == manifest.KindComponent:
				anew[s.Resource.Ref()] = s.ChangedAt
			default:
				out = append(out, picture.Outcome{Item: s.Resource.Ref(), At: s.ChangedAt, What: picture.Changed})
			}
		}
	}
	out = append(out, edgeOutcomes(incidents, anew)...)
	slices.SortStableFunc(out, func(a, b picture.Outcome) int { return a.At.Compare(b.At) })
	return out
}
