package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Set is a number of resources by reference, without duplicates. The zero Set is empty. A Set is not changed once it was
// handed out and may then be read from many goroutines.
type Set struct {
	byRef map[Ref]*Resource
	refs  []Ref // sorted
}

// NewSet returns the set of these resources; a later one replaces an earlier one of the same reference.
func NewSet(resources ...*Resource) *Set {
	s := &Set{byRef: make(map[Ref]*Resource, len(resources))}
	for _, r := range resources {
		s.byRef[r.Ref()] = r
	}
	s.refs = make([]Ref, 0, len(s.byRef))
	for ref := range s.byRef {
		s.refs = append(s.refs, ref)
	}
	slices.Sort(s.refs)
	return s
}

// Len returns how many resources there are.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.refs)
}

// Get returns the resource of that reference.
func (s *Set) Get(ref Ref) (*Resource, bool) {
	if s == nil {
		return nil, false
	}
	r, ok := s.byRef[ref]
	return r, ok
}

// All yields the resources in the order of their references.
func (s *Set) All() iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		if s == nil {
			return
		}
		for _, ref := range s.refs {
			if !yield(s.byRef[ref]) {
				return
			}
		}
	}
}

// Of yields the resources whose spec is a *T with that spec, in the order of their references:
//
//	for r, svc := range manifest.Of[manifest.Service](set)
func Of[T any](s *Set) iter.Seq2[*Resource, *T] {
	return func(yield func(*Resource, *T) bool) {
		for r := range s.All() {
			if spec, ok := r.Spec.(*T); ok && !yield(r, spec) {
				return
			}
		}
	}
}

// SpecOf returns the spec of the resource at ref where it is there and of that kind.
func SpecOf[T any](s *Set, ref Ref) (*T, bool) {
	r, ok := s.Get(ref)
	if !ok {
		return nil, false
	}
	spec, ok := r.Spec.(*T)
	return spec, ok
}

// Merge returns what is there once changes were applied to s: those of changes replace, and what one of them was renamed
// from is gone.
func (s *Set) Merge(changes *Set) *Set {
	if s.Len() == 0 && changes != nil {
		return changes
	}
	var all []*Resource
	gone := map[Ref]bool{}
	for r := range changes.All() {
		if old := r.Metadata.RenamedFrom; old != "" {
			gone[RefOf(r.Kind, old)] = true
		}
	}
	for r := range s.All() {
		if !gone[r.Ref()] {
			all = append(all, r)
		}
	}
	return NewSet(append(all, slices.Collect(changes.All())...)...)
}

// Without returns the set without one resource.
func (s *Set) Without(ref Ref) *Set {
	var all []*Resource
	for r := range s.All() {
		if r.Ref() != ref {
			all = append(all, r)
		}
	}
	return NewSet(all...)
}

// Referrers returns the resources that refer to ref, sorted: what would dangle if it were deleted.
func (s *Set) Referrers(ref Ref) []Ref {
	var out []Ref
	for r := range s.All() {
		if slices.ContainsFunc(references(r), func(x reference) bool { return x.to == ref }) {
			out = append(out, r.Ref())
		}
	}
	return out
}

// Encode returns the resource as canonical JSON {"apiVersion","kind","metadata","spec"}: the fields in the order of their
// structs, keys of maps sorted, nothing that was not written. Equal resources have equal encodings.
func Encode(r *Resource) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", r.Ref(), err)
	}
	return b, nil
}

// Decode reads what Encode wrote. It is strict about the version and the kind, and about unknown fields.
func Decode(b []byte) (*Resource, error) {
	var doc struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Metadata   Metadata        `json:"metadata"`
		Spec       json.RawMessage `json:"spec"`
	}
	if err := unmarshalStrict(b, &doc); err != nil {
		return nil, fmt.Errorf("cannot decode resource: %w", err)
	}
	if doc.APIVersion != APIVersion {
		return nil, fmt.Errorf("cannot decode resource: apiVersion %q is not %s", doc.APIVersion, APIVersion)
	}
	k, ok := lookupKind(doc.Kind)
	if !ok {
		return nil, fmt.Errorf("cannot decode resource: kind %q is not known", doc.Kind)
	}
	spec := k.spec()
	if err := unmarshalStrict(doc.Spec, spec); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", RefOf(doc.Kind, doc.Metadata.Name), err)
	}
	return &Resource{APIVersion: doc.APIVersion, Kind: doc.Kind, Metadata: doc.Metadata, Spec: spec}, nil
}

func unmarshalStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// SpecMap returns the spec as plain maps, slices, strings, float64 and bool: what google.protobuf.Struct and YAML take.
func SpecMap(r *Resource) (map[string]any, error) {
	b, err := json.Marshal(r.Spec)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", r.Ref(), err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", r.Ref(), err)
	}
	return out, nil
}

// The verbs of a Change.
const (
	Created   = "created"
	Changed   = "changed"
	Unchanged = "unchanged"
	Renamed   = "renamed"
	Deleted   = "deleted"
)

// Change is what becomes of one resource. Of a renamed one, From is the former reference.
type Change struct {
	Ref    Ref
	Verb   string
	From   Ref
	Fields []FieldChange // of changed and renamed; sorted by path
}

// FieldChange is one field: From is empty where it was not there, To where it is not there any more.
type FieldChange struct {
	Path, From, To string
}

// Diff returns what becomes of every resource of either set when after replaces before, sorted by reference. Applying a
// set deletes nothing: a caller that applies leaves the deleted ones out.
func Diff(before, after *Set) []Change {
	var out []Change
	renamed := map[Ref]bool{}
	for r := range after.All() {
		c := Change{Ref: r.Ref()}
		old, ok := before.Get(c.Ref)
		if !ok && r.Metadata.RenamedFrom != "" {
			from := RefOf(r.Kind, r.Metadata.RenamedFrom)
			if old, ok = before.Get(from); ok {
				c.From, renamed[from] = from, true
			}
		}
		if ok {
			c.Fields = fieldChanges(old, r)
		}
		switch {
		case !ok:
			c.Verb = Created
		case c.From != "":
			c.Verb = Renamed
		case len(c.Fields) > 0:
			c.Verb = Changed
		default:
			c.Verb = Unchanged
		}
		out = append(out, c)
	}
	for r := range before.All() {
		if _, ok := after.Get(r.Ref()); !ok && !renamed[r.Ref()] {
			out = append(out, Change{Ref: r.Ref(), Verb: Deleted})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(string(a.Ref), string(b.Ref)) })
	return out
}

func fieldChanges(before, after *Resource) []FieldChange {
	b, a := flat(before), flat(after)
	var out []FieldChange
	for path, from := range b {
		if to := a[path]; to != from {
			out = append(out, FieldChange{path, from, to})
		}
	}
	for path, to := range a {
		if _, ok := b[path]; !ok {
			out = append(out, FieldChange{path, "", to})
		}
	}
	slices.SortFunc(out, func(x, y FieldChange) int { return strings.Compare(x.Path, y.Path) })
	return out
}

// flat returns every leaf of a resource by its path.
func flat(r *Resource) map[string]string {
	out := map[string]string{}
	b, err := json.Marshal(struct {
		Metadata Metadata `json:"metadata"`
		Spec     any      `json:"spec"`
	}{r.Metadata, r.Spec})
	if err != nil {
		return out
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) == nil {
		flatten("", v, out)
	}
	return out
}

func flatten(path string, v any, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 && path != "" {
			out[path] = "{}"
		}
		for k, x := range v {
			if path == "" {
				flatten(k, x, out)
			} else {
				flatten(path+"."+k, x, out)
			}
		}
	case []any:
		for i, x := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), x, out)
		}
	default:
		out[path] = fmt.Sprint(v)
	}
}
