package slo

import "time"

// calm is the share of its factor below which the burn rate of the short window must surely be before a pair that called stops to.
const calm = 0.5

// Calls follows which pairs of windows call, with hysteresis: a pair begins to when it is firing, and goes on until its short window
// is surely below half its factor. So a rate at the edge calls once, and what is not known neither begins nor ends a call. The zero
// value is ready.
type Calls struct{ on map[time.Duration]bool }

// Resume has a pair call already, by the length of its long window, as it did before a restart.
func (c *Calls) Resume(long time.Duration) {
	if c.on == nil {
		c.on = map[time.Duration]bool{}
	}
	c.on[long] = true
}

// Next takes in how the pairs stand now, and returns those that call, the fastest first.
func (c *Calls) Next(burns []Burn) []Burn {
	var out []Burn
	on := map[time.Duration]bool{}
	for _, b := range burns {
		if b.Firing || c.on[b.Long] && b.InShort.High >= calm*b.Factor {
			on[b.Long] = true
			out = append(out, b)
		}
	}
	c.on = on
	return out
}
