package collector

import (
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// muted keeps what is in maintenance from opening an incident. One that is open already stays, and what is still bad when the
// maintenance is over opens one then.
func (d *decider) muted(now time.Time, s *servicemap.Snapshot, causes []incident.Cause) []incident.Cause {
	for i := range causes {
		c := &causes[i]
		if c.Condition != incident.Bad {
			continue
		}
		if _, working := s.Maintenance(manifest.Ref(c.Ref)); !working {
			continue
		}
		if _, open := d.book.Of(now, c.Ref); !open {
			c.Condition = incident.Unknown
		}
	}
	return causes
}
