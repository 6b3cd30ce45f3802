package incident

import (
	"maps"
	"slices"
	"time"
)

// Times is how long incidents of one service or one cause took. The means and the median are over those of Count for which
// the moments are known; they are 0 where there is none.
type Times struct {
	Ref   string
	Count int
	// Detect is the mean from the first sign to the opening (MTTD), Acknowledge that from the opening until somebody took it on,
	// Restore that until it was resolved (MTTR), without the time on hold; Median is the median of the latter.
	Detect, Acknowledge, Restore, Median time.Duration
	Detected, Acknowledged, Restored     int // how many the means are over
}

// ByService returns the times of each service that incidents hit, and ByCause those of each cause; sorted.
func ByService(all []Incident) []Times {
	return times(all, func(i *Incident) []string { return i.Services })
}

// ByCause returns the times of each cause; see ByService.
func ByCause(all []Incident) []Times {
	return times(all, func(i *Incident) []string { return []string{i.Cause} })
}

func times(all []Incident, keys func(*Incident) []string) []Times {
	type sum struct {
		Times
		restores []time.Duration
	}
	sums := map[string]*sum{}
	for k := range all {
		i := &all[k]
		for _, key := range keys(i) {
			s := sums[key]
			if s == nil {
				s = &sum{Times: Times{Ref: key}}
				sums[key] = s
			}
			s.Count++
			if !i.BeganAt.IsZero() && !i.BeganAt.After(i.OpenedAt) {
				s.Detect += i.OpenedAt.Sub(i.BeganAt)
				s.Detected++
			}
			if !i.AcknowledgedAt.IsZero() {
				s.Acknowledge += i.AcknowledgedAt.Sub(i.OpenedAt)
				s.Acknowledged++
			}
			if i.State == Resolved {
				took := i.ResolvedAt.Sub(i.OpenedAt) - i.Held(i.OpenedAt, i.ResolvedAt)
				s.Restore += took
				s.Restored++
				s.restores = append(s.restores, took)
			}
		}
	}
	var out []Times
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		s := sums[key]
		s.Detect, s.Acknowledge, s.Restore = mean(s.Detect, s.Detected), mean(s.Acknowledge, s.Acknowledged), mean(s.Restore, s.Restored)
		if n := len(s.restores); n > 0 {
			slices.Sort(s.restores)
			s.Median = (s.restores[(n-1)/2] + s.restores[n/2]) / 2
		}
		out = append(out, s.Times)
	}
	return out
}

func mean(sum time.Duration, n int) time.Duration {
	if n == 0 {
		return 0
	}
	return sum / time.Duration(n)
}
