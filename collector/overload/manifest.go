package overload

import (
	_ "embed"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

//go:embed defaults.yaml
var defaults []byte

// FromManifest turns a detector as it was written into one that can be compiled.
func FromManifest(name string, d *manifest.Detector) (Detector, error) {
	out := Detector{Name: name, Signal: d.Signal, Scope: d.Scope, Level: d.OverloadLevel(), AppliesTo: d.Applies()}
	for _, part := range []struct {
		name string
		in   *manifest.Condition
		out  **Condition
	}{{"act", d.Act, &out.Act}, {"warn", d.Warn, &out.Warn}, {"leave", d.Leave, &out.Leave}} {
		if part.in == nil {
			continue
		}
		c, err := conditionFrom(part.in)
		if err != nil {
			return Detector{}, fmt.Errorf("detector %s: %s: %w", name, part.name, err)
		}
		*part.out = &c
	}
	return out, nil
}

func conditionFrom(in *manifest.Condition) (Condition, error) {
	c := Condition{Signal: in.Signal, Of: in.Subject, For: time.Duration(in.For)}
	if in.Above != nil {
		v := in.Above.Value()
		c.Above = &v
	}
	if in.Below != nil {
		v := in.Below.Value()
		c.Below = &v
	}
	if in.Of != nil {
		c.Need, c.Out = in.Of.Need, in.Of.Last
	}
	if in.And != nil {
		sub, err := conditionFrom(in.And)
		if err != nil {
			return Condition{}, err
		}
		c.And = []Condition{sub}
	}
	if c.Of != OfSubject && c.Of != OfValued && c.Of != OfAny {
		return Condition{}, fmt.Errorf("of %s: a detector knows valued and any", c.Of)
	}
	return c, nil
}
