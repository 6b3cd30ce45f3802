package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// builder makes up a map.
type builder struct {
	*rand.Rand
	resources []*manifest.Resource
}

func build(seed uint64) *builder { return &builder{Rand: rand.New(rand.NewPCG(seed, 20))} }

func (b *builder) add(kind, name string, spec any) manifest.Ref {
	r := &manifest.Resource{APIVersion: manifest.APIVersion, Kind: kind, Metadata: manifest.Metadata{Name: name}, Spec: spec}
	b.resources = append(b.resources, r)
	return r.Ref()
}

// repair takes 5 minutes to 4 hours, short ones more often; every third waits for an earlier component.
func (b *builder) repair(earlier []manifest.Ref) *manifest.Repair {
	r := &manifest.Repair{Expected: manifest.Duration(time.Duration(1+b.IntN(1+b.IntN(48))) * 5 * time.Minute)}
	if len(earlier) > 0 && b.IntN(3) == 0 {
		r.After = []manifest.Ref{earlier[b.IntN(len(earlier))]}
	}
	return r
}

// some picks from one to most references; the first ones of the list are picked more often, as shared parts are.
func (b *builder) some(from []manifest.Ref, most int) (out []manifest.Dependency) {
	for range 1 + b.IntN(most) {
		ref := from[min(b.IntN(len(from)), b.IntN(len(from)))]
		if !slices.ContainsFunc(out, func(d manifest.Dependency) bool { return d.Ref == ref }) {
			out = append(out, manifest.Dependency{Ref: ref})
		}
	}
	return out
}

func (b *builder) value() *manifest.Value {
	half, all, little := manifest.Decimal(500_000), manifest.Decimal(1_000_000), manifest.Decimal(100_000)
	v := &manifest.Value{PerHour: manifest.Decimal(10+b.IntN(1+b.IntN(20_000))) * 1_000_000, Currency: "EUR"}
	if b.IntN(2) == 0 {
		v.Loss = map[health.Level]manifest.Decimal{health.Minor: little, health.Major: half, health.Critical: all}
	}
	return v
}

func (b *builder) level() health.Level { return health.Major + health.Level(b.IntN(2)) }

// redundant is a map of components that need 2 of their 3 members, of which 2 are broken, and services on these and on other
// services, by several rules; two of three services have a value.
func redundant(seed uint64, broken, services int) (*servicemap.Snapshot, error) {
	b := build(seed)
	bad := map[manifest.Ref]health.Level{}
	var components, made []manifest.Ref
	for i := range broken / 2 {
		name := fmt.Sprintf("c%03d", i)
		hosts := []string{name + "a", name + "b", name + "c"}
		ref := b.add(manifest.KindComponent, name, &manifest.Component{
			Hosts: &manifest.Hosts{Names: hosts}, Unit: "x.service", Repair: b.repair(components),
			Health: &manifest.Health{Rule: "quorum", Quorum: &manifest.Quorum{Need: 2}},
		})
		components = append(components, ref)
		for _, host := range hosts[:2] {
			bad[servicemap.MemberRef(ref, host)] = b.level()
		}
	}
	for i := range services {
		s := &manifest.Service{DependsOn: b.some(components, 3)}
		if i > services/2 {
			s.DependsOn = append(s.DependsOn, b.some(made, 2)...)
		}
		if i%3 > 0 {
			s.Value = b.value()
		}
		switch b.IntN(4) {
		case 0:
			s.Health = &manifest.Health{Rule: "quorum", Quorum: &manifest.Quorum{Need: 1 + len(s.DependsOn)/2}}
		case 1:
			s.Health = &manifest.Health{Rule: "score"}
		}
		ref := b.add(manifest.KindService, fmt.Sprintf("s%03d", i), s)
		if i < services/2 {
			made = append(made, ref)
		}
	}
	return snapshot(b.resources, bad)
}

// bare is a map without redundancy: each part is a component of its own, and services rest on parts and on application
// services that nobody has priced. Where it is knit, each rests on three to five parts anywhere, so that nearly all of it
// hangs together.
func bare(seed uint64, broken, services int, knit bool) (*servicemap.Snapshot, error) {
	b := build(seed)
	bad := map[manifest.Ref]health.Level{}
	var components, made []manifest.Ref
	for i := range broken {
		ref := b.add(manifest.KindComponent, fmt.Sprintf("c%03d", i), &manifest.Component{
			Hosts: &manifest.Hosts{Names: []string{fmt.Sprintf("h%03d", i)}}, Unit: "x.service", Repair: b.repair(components),
		})
		components = append(components, ref)
		bad[servicemap.MemberRef(ref, fmt.Sprintf("h%03d", i))] = b.level()
	}
	for i := range services / 5 {
		made = append(made, b.add(manifest.KindService, fmt.Sprintf("a%03d", i), &manifest.Service{DependsOn: b.some(components, 3)}))
	}
	for i := range services {
		s := &manifest.Service{DependsOn: b.some(components, 3), Value: b.value()}
		if knit {
			s.DependsOn = nil
			for _, k := range b.Perm(broken)[:3+b.IntN(3)] {
				s.DependsOn = append(s.DependsOn, manifest.Dependency{Ref: components[k]})
			}
		} else if b.IntN(3) == 0 {
			s.DependsOn = append(s.DependsOn, b.some(made, 1)...)
		}
		b.add(manifest.KindService, fmt.Sprintf("s%03d", i), s)
	}
	return snapshot(b.resources, bad)
}
