package manifest

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/health"
)

// sources are the structs of the kinds with their comments, which are what the schema says of each field.
//
//go:embed kinds*.go manifest.go
var sources embed.FS

// SchemaID is what the schema calls itself.
const SchemaID = "https://evenkeel.dev/schema/v1/evenkeel.schema.json"

// Schema returns the JSON Schema (draft 2020-12) of documents of a kind, or of every kind where none is named, for editors. It
// says what a document may look like; what documents must say of each other, Parse and Validate know. It fails on a kind that is
// not known.
func Schema(kind string) ([]byte, error) {
	s := &schemer{defs: map[string]any{}, docs: map[string]string{}, texts: fieldTexts()}
	if err := s.read(); err != nil {
		return nil, err
	}
	var names []string
	var when []any
	for _, k := range kinds() {
		if kind != "" && !strings.EqualFold(k.name, kind) {
			continue
		}
		names = append(names, k.name)
		t := reflect.TypeOf(k.spec()).Elem()
		then := map[string]any{"properties": map[string]any{"spec": s.of(t, options{})}}
		if needed(t) {
			then["required"] = []string{"spec"}
		}
		when = append(when, map[string]any{
			"if": map[string]any{"properties": map[string]any{"kind": map[string]any{"const": k.name}, "apiVersion": map[string]any{"const": APIVersion}}}, "then": then,
		})
	}
	if len(names) == 0 {
		var known []string
		for _, k := range kinds() {
			known = append(known, k.name)
		}
		hint := near(kind, known)
		if hint == "" {
			hint = "known: " + strings.Join(known, ", ")
		}
		return nil, fmt.Errorf("kind %q is not known (%s)", kind, hint)
	}
	root := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SchemaID, "title": "Evenkeel " + APIVersion, "type": "object",
		"required": []string{"apiVersion", "kind", "metadata"},
		"properties": map[string]any{
			"apiVersion": map[string]any{"type": "string", "enum": []string{APIVersion}},
			"kind":       map[string]any{"type": "string", "enum": names},
			"metadata":   s.of(reflect.TypeFor[Metadata](), options{}),
			"spec":       map[string]any{"type": "object"},
		},
		"additionalProperties": false, "allOf": when, "$defs": s.defs,
	}
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write the schema: %w", err)
	}
	return append(b, '\n'), nil
}

type schemer struct {
	defs map[string]any
	docs map[string]string // of "Type" and "Type.Field", from the comments
	// texts are those of "Type.key" that have no comment.
	texts map[string]string
}

// read takes the comments out of the sources.
func (s *schemer) read() error {
	files, err := sources.ReadDir(".")
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := sources.ReadFile(f.Name())
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), text, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, d := range parsed.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				t := spec.(*ast.TypeSpec)
				s.docs[t.Name.Name] = words(g.Doc, t.Doc)
				if fields, ok := t.Type.(*ast.StructType); ok {
					for _, f := range fields.Fields.List {
						for _, n := range f.Names {
							s.docs[t.Name.Name+"."+n.Name] = words(f.Doc, f.Comment)
						}
					}
				}
			}
		}
	}
	return nil
}

func words(groups ...*ast.CommentGroup) string {
	var out []string
	for _, g := range groups {
		if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
			out = append(out, text)
		}
	}
	return strings.Join(out, " ")
}

// needed reports whether a struct has a field that must be written.
func needed(t reflect.Type) bool {
	return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return parseOptions(f.Tag.Get("manifest")).required })
}

// of returns the schema of a value, as the reader takes it.
func (s *schemer) of(t reflect.Type, o options) map[string]any {
	if t.Kind() == reflect.Pointer {
		return s.of(t.Elem(), o)
	}
	if word, ok := written(t); ok {
		return word
	}
	switch t.Kind() {
	case reflect.Struct:
		ref := map[string]any{"$ref": "#/$defs/" + t.Name()}
		if _, done := s.defs[t.Name()]; !done {
			s.defs[t.Name()] = nil // it may hold itself
			s.defs[t.Name()] = s.object(t)
		}
		if t == reflect.TypeFor[Check]() {
			return map[string]any{"anyOf": []any{map[string]any{"type": "string", "minLength": 1}, ref}}
		}
		return ref
	case reflect.Map:
		out := map[string]any{"type": "object", "minProperties": 1, "additionalProperties": s.of(t.Elem(), options{})}
		if t.Key() == reflect.TypeFor[health.Level]() {
			out["propertyNames"] = map[string]any{"enum": levelNames()}
		}
		return out
	case reflect.Slice:
		out := map[string]any{"type": "array", "items": s.of(t.Elem(), options{enum: o.enum, refs: o.refs})}
		if o.required {
			out["minItems"] = 1
		}
		return out
	case reflect.String:
		return text(o)
	case reflect.Int:
		out := map[string]any{"type": "integer"}
		if o.min != nil {
			out["minimum"] = *o.min
		}
		if o.max != nil {
			out["maximum"] = *o.max
		}
		return out
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	}
	panic("BUG: manifest has no schema of a " + t.String())
}

func text(o options) map[string]any {
	out := map[string]any{"type": "string"}
	switch {
	case o.enum != nil && strings.HasSuffix(o.enum[len(o.enum)-1], "*"):
		last := len(o.enum) - 1
		out["anyOf"] = []any{
			map[string]any{"enum": o.enum[:last]},
			map[string]any{"pattern": "^" + strings.TrimSuffix(o.enum[last], "*") + "[a-z0-9][a-z0-9-]{0,62}$"},
		}
	case o.enum != nil:
		out["enum"] = o.enum
	case o.refs != nil:
		out["pattern"] = "^(" + strings.Join(o.refs, "|") + ")/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
	case o.required:
		out["minLength"] = 1
	}
	return out
}

func (s *schemer) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range reflect.VisibleFields(t) {
		o := parseOptions(f.Tag.Get("manifest"))
		p := s.of(f.Type, o)
		p["description"] = cmp.Or(s.docs[t.Name()+"."+f.Name], s.texts[t.Name()+"."+fieldName(f)])
		if o.required {
			required = append(required, fieldName(f))
		}
		properties[fieldName(f)] = p
	}
	if t == reflect.TypeFor[Condition]() {
		// The reader takes a second "of", beside that of ticks, for the subject; a schema cannot say that a key stands twice.
		of := properties["of"].(map[string]any)
		of["pattern"] = of["pattern"].(string) + "|^(valued|protected|target|any)$"
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if doc := s.docs[t.Name()]; doc != "" {
		out["description"] = doc
	}
	if required != nil {
		out["required"] = required
	}
	return out
}

// written returns the schema of what is written as one word or number.
func written(t reflect.Type) (map[string]any, bool) {
	word := func(pattern string) (map[string]any, bool) {
		return map[string]any{"type": "string", "pattern": pattern}, true
	}
	orNumber := func(pattern string) (map[string]any, bool) {
		return map[string]any{"type": []string{"string", "number"}, "pattern": pattern}, true
	}
	switch t {
	case reflect.TypeFor[health.Level]():
		return map[string]any{"type": "string", "enum": levelNames()}, true
	case reflect.TypeFor[health.EdgeMap]():
		return word(`^(asIs|ignore|(increase|decrease):[1-5]|fixed:(` + strings.Join(levelNames(), "|") + `))$`)
	case reflect.TypeFor[Decimal]():
		return orNumber(`^-?[0-9]+(\.[0-9]+)?$`)
	case reflect.TypeFor[Share]():
		return orNumber(`^[0-9]+(\.[0-9]+)?%?$`)
	case reflect.TypeFor[Duration]():
		return orNumber(`^([0-9]+d)?(([0-9]+(\.[0-9]+)?)(h|ms|m|s))*$|^0$`)
	case reflect.TypeFor[Bytes]():
		return orNumber(`^[0-9]+(\.[0-9]+)? *(TiB|GiB|MiB|KiB|TB|GB|MB|kB|B)?$`)
	case reflect.TypeFor[Quantity]():
		return orNumber(`^[-+]?[0-9.]+([eE][-+]?[0-9]+)? *(%|/s|TiB|GiB|MiB|KiB|TB|GB|MB|kB|B|ns|us|ms|s|m|h|d)?$`)
	case reflect.TypeFor[Ticks]():
		return word(`^[0-9]+/[0-9]+$`)
	case reflect.TypeFor[Release]():
		return word(`^(now|[0-9]+%/.+)$`)
	case reflect.TypeFor[Bounds]():
		return word(`^(<=?|>=?) *[-+0-9.]`)
	case reflect.TypeFor[Weekdays]():
		return word(`^(mon|tue|wed|thu|fri|sat|sun)(\.\.(mon|tue|wed|thu|fri|sat|sun))?$`)
	case reflect.TypeFor[civil.Day]():
		return word(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	case reflect.TypeFor[civil.Time]():
		return word(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$`)
	case reflect.TypeFor[civil.Clock]():
		return word(`^[0-9]{2}:[0-9]{2}(:[0-9]{2})?$`)
	case reflect.TypeFor[HealthRange]():
		level := "(" + strings.Join(levelNames(), "|") + ")"
		return word(`^(unknown|` + level + `(\.\.\.` + level + `)?)$`)
	case reflect.TypeFor[Amount]():
		return word(`^(unranked|-?[0-9]+(\.[0-9]+)? (points|[A-Z]{3}))$`)
	case reflect.TypeFor[Instant](), reflect.TypeFor[time.Time]():
		return word(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})$`)
	}
	return nil, false
}
