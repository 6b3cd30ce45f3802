package manifest

import (
	"reflect"
	"testing"
)

// A text for a field that is not there, or that has a comment, would never be seen.
func TestTextsAreOfFieldsWithoutComments(t *testing.T) {
	s := &schemer{defs: map[string]any{}, docs: map[string]string{}}
	if err := s.read(); err != nil {
		t.Fatal(err)
	}
	types := []reflect.Type{reflect.TypeFor[Metadata]()}
	seen := map[reflect.Type]bool{}
	for _, k := range kinds() {
		types = append(types, reflect.TypeOf(k.spec()).Elem())
	}
	wanted := map[string]bool{}
	for len(types) > 0 {
		typ := types[0]
		types = types[1:]
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if _, word := written(typ); word || typ.Kind() != reflect.Struct || seen[typ] {
			continue
		}
		seen[typ] = true
		for _, f := range reflect.VisibleFields(typ) {
			if s.docs[typ.Name()+"."+f.Name] == "" {
				wanted[typ.Name()+"."+fieldName(f)] = true
			}
			types = append(types, f.Type)
		}
	}
	for key := range fieldTexts() {
		if !wanted[key] {
			t.Errorf("nobody sees the text of %s", key)
		}
	}
}
