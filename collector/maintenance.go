package collector

import (
	"time"

	"github.com/evenkeel/evenkeel/collector/incident"
	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// muted keeps what is in maintenance from opening an incident, and what is bad for no other reason than that so many of its
// parts are. One that is open already stays, and what is still bad when the maintenance is over opens one then.
func (d *decider) muted(now time.Time, s *servicemap.Snapshot, causes []incident.Cause) []incident.Cause {
	var standing *picture.Standing
	for i := range causes {
		c := &causes[i]
		if c.Condition != incident.Bad {
			continue
		}
		ref := manifest.Ref(c.Ref)
		if _, working := s.Maintenance(ref); !working {
			if standing == nil {
				standing = picture.Stand(s)
			}
			if standing.Origin(ref) != slo.Planned {
				continue
			}
		}
		if _, open := d.book.Of(now, c.Ref); !open {
			c.Condition = incident.Unknown
		}
	}
	return causes
}
