package governor

import (
	"fmt"
	"time"
)

// The numbers of a storm.
const (
	stormShare = 30 // percent of the fleet that is silent or down
	stormFleet = 4  // below so many hosts one that is gone is no storm
	stormCalm  = 5 * time.Minute
)

// Storm knows whether so much of the fleet is out of sight that single hosts are no longer the matter: a lost switch, a bad
// roll-out, a collector that is cut off. It begins at once and is over when all has been calm for five minutes. The zero
// Storm is calm. It belongs to one goroutine.
type Storm struct {
	why   string
	until time.Time
}

// Look takes in how many hosts there are and how many of them are silent or down, and returns why there is a storm, or "".
func (s *Storm) Look(at time.Time, hosts, gone int) string {
	switch {
	case hosts >= stormFleet && gone*100 > hosts*stormShare:
		s.why, s.until = fmt.Sprintf("%d of %d hosts are silent or down", gone, hosts), at.Add(stormCalm)
	case s.why != "" && !at.Before(s.until):
		s.why = ""
	}
	return s.why
}
