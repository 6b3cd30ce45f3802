package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// RuleInForce returns the rule that the block states; worst where there is none. It fails only on a block that Parse
// would have refused.
func (h *Health) RuleInForce() (health.Rule, error) {
	if h == nil {
		return health.Rule{}, nil
	}
	k, err := health.ParseKind(h.Rule)
	if err != nil {
		return health.Rule{}, err
	}
	r := health.Rule{Kind: k}
	switch {
	case k == health.Quorum && h.Quorum != nil && h.Quorum.Share != nil:
		r.Share = int64(*h.Quorum.Share)
	case k == health.Quorum && h.Quorum != nil && h.Quorum.Need > 0:
		r.Need = h.Quorum.Need
	case k == health.Threshold && h.Threshold != nil && h.Threshold.Share > 0:
		r.Share = int64(h.Threshold.Share)
	case k == health.Exponential && h.Exponential != nil && h.Exponential.Base > micro:
		r.Base = h.Exponential.Base.Float()
	case k == health.Quorum, k == health.Threshold, k == health.Exponential:
		return health.Rule{}, fmt.Errorf("rule %s has no parameters", k)
	}
	for _, a := range h.Also {
		m, err := health.ParseMeasure(a.When)
		if err != nil {
			return health.Rule{}, err
		}
		x := health.Also{Measure: m, Level: a.Level, Then: a.Then}
		switch {
		case a.AtLeast != nil:
			x.N = *a.AtLeast
		case a.LessThan != nil:
			x.N, x.LessThan = *a.LessThan, true
		default:
			return health.Rule{}, fmt.Errorf("extra rule has neither atLeast nor lessThan")
		}
		r.Also = append(r.Also, x)
	}
	return r, nil
}

// OnHostItself reports whether the component names no part of its hosts: then it is the hosts.
func (c *Component) OnHostItself() bool {
	return c.Hosts != nil && c.Unit == "" && c.Cgroup == "" && c.Process == nil && c.Port == "" && c.Check == nil && c.Interface == ""
}

// String writes the selector as people read it: "role=web, site=a" or "h1, h2".
func (h *Hosts) String() string {
	if len(h.Names) > 0 {
		return strings.Join(h.Names, ", ")
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(h.MatchLabels)) {
		parts = append(parts, k+"="+h.MatchLabels[k])
	}
	return strings.Join(parts, ", ")
}
