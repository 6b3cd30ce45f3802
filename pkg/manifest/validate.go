package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Validate checks the resources of set against each other and against those that are there already: references that lead
// nowhere, loops, renames from nothing. existing may be nil; hosts are the names of hosts that are known without a document.
func Validate(set, existing *Set, hosts ...string) []Problem {
	all := existing.Merge(set)
	enrolled := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		enrolled[h] = true
	}
	var out []Problem
	there := func(ref Ref) bool {
		_, ok := all.Get(ref)
		return ok || ref.Kind() == "host" && enrolled[ref.Name()] || !resolves(ref.Kind())
	}
	for r := range set.All() {
		var list []reference
		if !allRefs(reflect.ValueOf(r.Spec), there) {
			list = references(r)
		}
		for _, ref := range list {
			if there(ref.to) {
				continue
			}
			out = append(out, r.problem(ref.path, fmt.Sprintf("%s is not there", ref.to), danglingHint(ref.to, all, set)))
		}
		if from := r.Metadata.RenamedFrom; from != "" {
			if _, ok := set.Get(RefOf(r.Kind, from)); ok {
				out = append(out, r.problem("metadata.renamedFrom", fmt.Sprintf("%s is declared here too", RefOf(r.Kind, from)), "a renamed resource leaves its former name"))
			}
		}
	}
	// Whoever stays behind must not refer to a name that was given up.
	for r := range set.All() {
		from := r.Metadata.RenamedFrom
		if from == "" {
			continue
		}
		if _, ok := existing.Get(RefOf(r.Kind, from)); !ok {
			continue
		}
		for _, left := range all.Referrers(RefOf(r.Kind, from)) {
			if _, here := set.Get(left); !here {
				out = append(out, r.problem("metadata.renamedFrom", fmt.Sprintf("%s still refers to %s", left, RefOf(r.Kind, from)), "change it in the same step"))
			}
		}
	}
	out = append(out, loops(set, all)...)
	sortProblems(out)
	return out
}

func danglingHint(ref Ref, all, set *Set) string {
	for r := range set.All() {
		if old := r.Metadata.RenamedFrom; old != "" && RefOf(r.Kind, old) == ref {
			return fmt.Sprintf("it was renamed to %s", r.Ref())
		}
	}
	var known []string
	for r := range all.All() {
		if r.Ref().Kind() == ref.Kind() {
			known = append(known, string(r.Ref()))
		}
	}
	return near(string(ref), known)
}

type reference struct {
	to   Ref
	path string
}

// references returns every reference that a resource makes, with its place.
func references(r *Resource) []reference {
	var out []reference
	walkRefs(reflect.ValueOf(r.Spec), "spec", &out)
	return out
}

func walkRefs(v reflect.Value, path string, out *[]reference) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walkRefs(v.Elem(), path, out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("json") != "" {
				walkRefs(v.Field(i), join(path, fieldName(f)), out)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			walkRefs(v.Index(i), fmt.Sprintf("%s[%d]", path, i), out)
		}
	case reflect.String:
		if ref, ok := v.Interface().(Ref); ok && ref != "" {
			*out = append(*out, reference{ref, path})
		}
	}
}

// allRefs reports whether every reference satisfies a condition, without working out where each stands.
func allRefs(v reflect.Value, is func(Ref) bool) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil() || allRefs(v.Elem(), is)
	case reflect.Struct:
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Pointer, reflect.Struct, reflect.Slice, reflect.String:
				if f.CanInterface() && !allRefs(f, is) {
					return false
				}
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if !allRefs(v.Index(i), is) {
				return false
			}
		}
	case reflect.String:
		return v.Type() != reflect.TypeFor[Ref]() || v.String() == "" || is(Ref(v.String()))
	}
	return true
}

// needs returns the resources that edges leads to.
func needs(r *Resource) []Ref {
	var out []Ref
	switch s := r.Spec.(type) {
	case *Service:
		for i := range s.DependsOn {
			if ref := s.DependsOn[i].Ref; ref.Kind() == "service" {
				out = append(out, ref)
			}
		}
	case *Component:
		if s.Repair != nil {
			return s.Repair.After
		}
	}
	return out
}

// edges returns the references that must not lead back: what a service depends on, and what is mended before a component.
func edges(r *Resource) []reference {
	var out []reference
	switch s := r.Spec.(type) {
	case *Service:
		for i, d := range s.DependsOn {
			if d.Ref.Kind() == "service" {
				out = append(out, reference{d.Ref, fmt.Sprintf("spec.dependsOn[%d].ref", i)})
			}
		}
	case *Component:
		if s.Repair != nil {
			for i, ref := range s.Repair.After {
				out = append(out, reference{ref, fmt.Sprintf("spec.repair.after[%d]", i)})
			}
		}
	}
	return out
}

// loops tells of each knot of resources that lead back to themselves, with one whole way around, told at the first edge
// of that way that set itself declares.
func loops(set, all *Set) []Problem {
	var out []Problem
	for _, knot := range knots(all) {
		if !slices.ContainsFunc(knot, func(ref Ref) bool { _, ok := set.Get(ref); return ok }) {
			continue
		}
		way := around(all, knot)
		names := make([]string, len(way))
		for i, ref := range way {
			names[i] = string(ref)
		}
		text := "a loop: " + strings.Join(names, " -> ")
		told := false
		for i := 0; i+1 < len(way) && !told; i++ {
			r, ok := set.Get(way[i])
			if !ok {
				continue
			}
			for _, e := range edges(r) {
				if e.to == way[i+1] {
					out = append(out, r.problem(e.path, text, ""))
					told = true
					break
				}
			}
		}
	}
	return out
}

// knots returns the strongly connected parts of the graph that hold a loop (Tarjan), each sorted.
func knots(all *Set) [][]Ref {
	type mark struct {
		index, low int
		on         bool
	}
	marks := map[Ref]*mark{}
	var stack []Ref
	var out [][]Ref
	var visit func(r *Resource) *mark
	visit = func(r *Resource) *mark {
		ref := r.Ref()
		m := &mark{index: len(marks), low: len(marks), on: true}
		marks[ref] = m
		stack = append(stack, ref)
		self := false
		for _, to := range needs(r) {
			next, ok := all.Get(to)
			if !ok {
				continue
			}
			self = self || to == ref
			if n, seen := marks[to]; !seen {
				m.low = min(m.low, visit(next).low)
			} else if n.on {
				m.low = min(m.low, n.index)
			}
		}
		if m.low != m.index {
			return m
		}
		at := slices.Index(stack, ref)
		knot := slices.Clone(stack[at:])
		stack = stack[:at]
		for _, x := range knot {
			marks[x].on = false
		}
		if len(knot) > 1 || self {
			slices.Sort(knot)
			out = append(out, knot)
		}
		return m
	}
	for r := range all.All() {
		if _, seen := marks[r.Ref()]; !seen {
			visit(r)
		}
	}
	return out
}

// around returns a shortest way from the first of the knot back to it, its start named twice.
func around(all *Set, knot []Ref) []Ref {
	start := knot[0]
	from := map[Ref]Ref{}
	for queue := []Ref{start}; len(queue) > 0; queue = queue[1:] {
		r, ok := all.Get(queue[0])
		if !ok {
			continue
		}
		for _, e := range edges(r) {
			if e.to == start {
				way := []Ref{start}
				for at := queue[0]; at != start; at = from[at] {
					way = append(way, at)
				}
				way = append(way, start)
				slices.Reverse(way)
				return way
			}
			if _, seen := from[e.to]; !seen && slices.Contains(knot, e.to) {
				from[e.to] = queue[0]
				queue = append(queue, e.to)
			}
		}
	}
	return knot
}
