package whatif

import (
	"fmt"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/pkg/calendar"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Declared returns the options that ask about a declared change: its parts are out in its window. It fails where there is no such change.
func Declared(p *picture.Picture, ref manifest.Ref) (Options, error) {
	c, ok := manifest.SpecOf[manifest.ChangeRecord](p.Set, ref)
	if !ok {
		return Options{}, fmt.Errorf("change: %s is not there", ref)
	}
	open, err := calendar.New(c.Window.Calendar())
	if err != nil {
		return Options{}, fmt.Errorf("change: %s: %w", ref, err)
	}
	out := Options{Take: c.Refs, Change: ref}
	from := p.At.Add(-MaxHorizon)
	for a, b := range open.Spans(from, p.At.Add(2*MaxHorizon)) {
		out.From, out.For = a, b.Sub(a)
	}
	if out.For == 0 {
		return Options{}, fmt.Errorf("change: the window of %s does not lie within a year", ref)
	}
	return out, nil
}
