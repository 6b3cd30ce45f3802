package overload

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

//go:embed defaults.yaml
var defaults []byte

// Defaults returns the detectors that every collector starts with, as resources. Hand the set to the manifest reader as
// what exists already, so that a policy may refer to them.
func Defaults() (*manifest.Set, error) {
	set, problems := manifest.Parse("defaults.yaml", defaults)
	if len(problems) > 0 {
		return nil, fmt.Errorf("shipped detectors: %v", problems[0])
	}
	return set, nil
}

// CheckFiles reads files on which something is reasoned without a collector. Policies may refer to the shipped detectors.
func CheckFiles(files []manifest.File) (*manifest.Set, []manifest.Problem) {
	shipped, err := Defaults()
	if err != nil {
		panic("BUG: overload: " + err.Error())
	}
	return manifest.CheckFiles(files, shipped)
}

// FromSets returns the detectors of all sets, sorted by name. A later set replaces what an earlier one has of the same
// name: shipped ones first, then those that were applied. The error joins one for each that cannot be compiled.
func FromSets(sets ...*manifest.Set) ([]Detector, error) {
	byName := map[string]Detector{}
	var errs []error
	for _, set := range sets {
		for r := range set.All() {
			spec, ok := r.Spec.(*manifest.Detector)
			if !ok {
				continue
			}
			d, err := FromManifest(r.Metadata.Name, spec)
			if err == nil {
				_, err = Compile([]Detector{d})
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			byName[d.Name] = d
		}
	}
	out := make([]Detector, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out, errors.Join(errs...)
}

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
