package traffic

import (
	"time"

	"golang.org/x/sys/unix"
)

// Deadman keeps settings that end by themselves when nobody keeps them: should this process die, what it set is gone
// after TTL. It is told apart whether such a setting ended or was taken away: the second is left alone.
type Deadman struct {
	TTL   time.Duration        // after which a setting that is not kept ends
	Every time.Duration        // between two renewals, well below TTL
	Now   func() time.Duration // default Boottime

	kept map[string]time.Duration // by key: when it was renewed last
	away map[string]bool          // by key: somebody took it away
}

// Kept notes that a setting was just made.
func (d *Deadman) Kept(key string) {
	if d.kept == nil {
		d.kept, d.away = map[string]time.Duration{}, map[string]bool{}
	}
	d.kept[key] = d.now()
	delete(d.away, key)
}

// Forget notes that a setting is no longer wanted.
func (d *Deadman) Forget(key string) {
	delete(d.kept, key)
	delete(d.away, key)
}

// Due says whether a setting is to be made again. there says that it is found as it is wanted, nothing that none is
// found; what is neither is somebody else's. A setting that this process has not made, or has not kept in time, ended.
func (d *Deadman) Due(key string, there, nothing bool) bool {
	at, known := d.kept[key]
	age := d.now() - at
	switch {
	case there:
		return !known || age >= d.Every
	case !nothing || d.away[key]:
		return false
	case known && age < d.TTL:
		d.away[key] = true
		return false
	}
	return true
}

func (d *Deadman) now() time.Duration {
	if d.Now != nil {
		return d.Now()
	}
	return Boottime()
}

// Boottime reads the clock that nobody sets and that runs while the host sleeps.
func Boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("BUG: no boot clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
