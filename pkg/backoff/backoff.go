// Package backoff says how long to wait before the next attempt to reach a peer that was lost.
//
// The delay is a pure function of the outage's age, the attempts made and a random number that the caller brings. The
// package has no clock, draws no randomness, sleeps nowhere and owns no goroutine, so a test can list every delay of an
// outage without living through it.
package backoff

import "time"

// Policy is the shape of an outage's delays. A zero field stands for its default, so the zero Policy is ready for use.
type Policy struct {
	// Early is how long after the loss delays stay short, so that a restarted peer is found again at once. Default 2 min.
	Early time.Duration
	// Spread is the upper end of the early delays, which are uniform from 0, so that a whole fleet that lost its peer at
	// one moment comes back evenly. Default 15 s.
	Spread time.Duration
	// Max bounds the delays after the early part, which double from twice Spread. Default 2 min.
	Max time.Duration
	// Jitter is the share by which a later delay may be cut short, in (0, 1]. Default 0.5.
	Jitter float64
	// MaxHint bounds a hint, so that a wrong one cannot silence a client for days. Default 10 min.
	MaxHint time.Duration
}

func (p Policy) withDefaults() Policy {
	orElse := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	orElse(&p.Early, 2*time.Minute)
	orElse(&p.Spread, 15*time.Second)
	orElse(&p.Max, 2*time.Minute)
	orElse(&p.MaxHint, 10*time.Minute)
	if !(p.Jitter > 0 && p.Jitter <= 1) {
		p.Jitter = 0.5
	}
	return p
}

// Delay returns the wait before the next attempt. sinceLoss is the age of the outage, attempt the number of attempts
// already failed in it, rnd a fresh random number in [0, 1).
//
// The number of doublings follows from the age (delays that double add up to the age), and is never more than attempt:
// a machine that slept through an hour of outage has not been a burden on anyone and starts short.
func (p Policy) Delay(sinceLoss time.Duration, attempt int, rnd float64) time.Duration {
	p, rnd = p.withDefaults(), unit(rnd)
	if sinceLoss < p.Early {
		return time.Duration(rnd * float64(p.Spread))
	}
	ceiling := min(2*p.Spread, p.Max)
	for next, k := p.Early+ceiling, 0; sinceLoss >= next && k < attempt && ceiling < p.Max; k++ {
		ceiling = min(2*ceiling, p.Max)
		next += ceiling
	}
	return time.Duration(float64(ceiling) * (1 - p.Jitter*rnd))
}

// Hinted returns the wait that a server asked for, which wins over Delay: at least hint, and up to a tenth more so that
// clients with one hint do not arrive in one instant. A hint below 0 counts as 0.
func (p Policy) Hinted(hint time.Duration, rnd float64) time.Duration {
	p, rnd = p.withDefaults(), unit(rnd)
	hint = min(max(hint, 0), p.MaxHint)
	return hint + time.Duration(rnd*float64(hint)/10)
}

// unit forces rnd into [0, 1); what is not a number counts as 0.
func unit(rnd float64) float64 {
	if !(rnd > 0) {
		return 0
	}
	return min(rnd, 1-1e-9)
}
