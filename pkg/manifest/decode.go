package manifest

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

type entry struct {
	key      string
	keyToken *token.Token
	value    ast.Node
}

func (p *reader) mapping(n ast.Node, path string) ([]entry, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		p.wrongType(n, path, "a mapping")
		return nil, false
	}
	out := make([]entry, 0, len(values))
	for _, v := range values {
		key, ok := scalarText(v.Key)
		if !ok {
			p.problemAt(p.at(v.Key.GetToken()), path, "a key is not plain text", "")
			continue
		}
		out = append(out, entry{key, v.Key.GetToken(), v.Value})
	}
	return out, true
}

// wrongType tells what stands where something else was expected.
func (p *reader) wrongType(n ast.Node, path, want string) {
	got := "something else"
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		got = "a mapping"
	case *ast.SequenceNode:
		got = "a list"
	case *ast.StringNode, *ast.LiteralNode:
		got = "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		got = "a number"
	case *ast.BoolNode:
		got = "true or false"
	case *ast.NullNode:
		got = "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		p.problemAt(p.place(n), path, "anchors, aliases and merge keys are not accepted", "write the value out")
		return
	case *ast.TagNode:
		p.problemAt(p.place(n), path, "tags are not accepted", "")
		return
	}
	hint := ""
	if want == "text" && (got == "a number" || got == "true or false") {
		hint = "put it in quotes"
	}
	name := path
	if name == "" {
		name = "a document"
	}
	p.problemAt(p.place(n), path, fmt.Sprintf("%s must be %s, not %s", name, want, got), hint)
}

func isNull(n ast.Node) bool {
	_, ok := n.(*ast.NullNode)
	return ok
}

// scalarText returns a scalar as it was written, without quotes.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.MappingKeyNode:
		return scalarText(n.Value)
	}
	return "", false
}

// options of a field, from its tag.
type options struct {
	required bool
	enum     []string
	refs     []string
	min, max *int
}

// takes reports whether a text is one of the enum; an entry that ends in * takes a name of a-z, 0-9 and dash in its place.
func (o options) takes(text string) bool {
	return slices.ContainsFunc(o.enum, func(e string) bool {
		prefix, open := strings.CutSuffix(e, "*")
		name, has := strings.CutPrefix(text, prefix)
		return e == text || open && has && openName.MatchString(name)
	})
}

var openName = regexp.MustCompile(`\A[a-z0-9][a-z0-9-]{0,62}\z`)

func parseOptions(tag string) (o options) {
	for part := range strings.SplitSeq(tag, ",") {
		k, v, _ := strings.Cut(part, "=")
		switch k {
		case "required":
			o.required = true
		case "enum":
			o.enum = strings.Split(v, "|")
		case "ref":
			o.refs = strings.Split(v, "|")
		case "min", "max":
			n, err := strconv.Atoi(v)
			if err != nil {
				panic("BUG: manifest tag " + tag)
			}
			if k == "min" {
				o.min = &n
			} else {
				o.max = &n
			}
		}
	}
	return o
}

// field is what the reader has to know of a field of a struct.
type field struct {
	name    string
	options options
}

// shapes remembers the fields of the structs that were read into.
type shapes map[reflect.Type][]field

func (s shapes) of(t reflect.Type) []field {
	known, ok := s[t]
	if !ok {
		known = make([]field, t.NumField())
		for i := range known {
			f := t.Field(i)
			known[i] = field{fieldName(f), parseOptions(f.Tag.Get("manifest"))}
		}
		s[t] = known
	}
	return known
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fields fills a struct from a mapping; also names further keys that are legal there and read elsewhere.
func (p *reader) fields(entries []entry, v reflect.Value, path string, at place, also ...string) {
	t := v.Type()
	known := p.shapes.of(t)
	seen := make([]place, len(known)) // by field, where it was written; lines count from 1
	for _, e := range entries {
		key := e.key
		if t == reflect.TypeFor[Condition]() && key == "of" {
			// Beside "of: 2/3", which counts ticks, "of: valued" says whose signal.
			if text, ok := scalarText(e.value); ok && !strings.Contains(text, "/") && text != "" && (text[0] < '0' || text[0] > '9') {
				key = "subject"
			}
		}
		where := join(path, e.key)
		i := slices.IndexFunc(known, func(f field) bool { return f.name == key })
		if i < 0 {
			names := slices.Clone(also)
			for _, f := range known {
				names = append(names, f.name)
			}
			if slices.Contains(also, key) {
				p.problemAt(p.at(e.keyToken), where, fmt.Sprintf("key %q is written twice", e.key), "")
				continue
			}
			p.problemAt(p.at(e.keyToken), where, fmt.Sprintf("unknown key %q", e.key), suggest(e.key, names))
			continue
		}
		if seen[i].line > 0 {
			p.problemAt(p.at(e.keyToken), where, fmt.Sprintf("key %q is written twice", e.key), fmt.Sprintf("first in line %d", seen[i].line))
			continue
		}
		seen[i] = p.at(e.keyToken)
		p.places[where] = p.place(e.value)
		if isNull(e.value) {
			p.places[where] = p.at(e.keyToken)
			p.problem(where, fmt.Sprintf("%s has no value", where), "give it one, or leave the key out")
			continue
		}
		p.value(e.value, v.Field(i), where, known[i].options)
	}
	for i, f := range known {
		if f.options.required && seen[i].line == 0 {
			p.problemAt(at, join(path, f.name), fmt.Sprintf("%s is missing", join(path, f.name)), "")
		}
	}
}

// value fills one value from a node.
func (p *reader) value(n ast.Node, v reflect.Value, path string, o options) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		if e := v.Elem(); e.Kind() == reflect.Slice {
			e.Set(reflect.MakeSlice(e.Type(), 0, 0)) // an empty list that was written is not one that was left out
		}
		p.value(n, v.Elem(), path, o)
		return
	}
	if c, ok := v.Addr().Interface().(*Check); ok {
		if word, ok := scalarText(n); ok {
			*c = checkFromWord(word)
			return
		}
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		text, ok := scalarText(n)
		if !ok {
			p.wrongType(n, path, "one word")
			return
		}
		if err := u.UnmarshalText([]byte(text)); err != nil {
			hint := ""
			if _, ok := u.(interface{ String() string }); ok && reflect.TypeOf(u).Elem().Name() == "Level" {
				hint = suggest(text, levelNames())
			}
			p.problem(path, err.Error(), hint)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if entries, ok := p.mapping(n, path); ok {
			p.fields(entries, v, path, p.place(n))
		}
	case reflect.Map:
		p.mapValue(n, v, path)
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			p.wrongType(n, path, "a list")
			return
		}
		if len(seq.Values) == 0 && o.required {
			p.problem(path, fmt.Sprintf("%s is empty", path), "")
		}
		for i, item := range seq.Values {
			where := fmt.Sprintf("%s[%d]", path, i)
			p.places[where] = p.place(item)
			elem := reflect.New(v.Type().Elem()).Elem()
			if isNull(item) {
				p.problem(where, fmt.Sprintf("%s has no value", where), "")
			} else {
				p.value(item, elem, where, options{enum: o.enum, refs: o.refs})
			}
			v.Set(reflect.Append(v, elem))
		}
	case reflect.String:
		p.text(n, v, path, o)
	case reflect.Int:
		p.integer(n, v, path, o)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			p.wrongType(n, path, "true or false")
			return
		}
		v.SetBool(b.Value)
	default:
		panic("BUG: manifest cannot read a " + v.Type().String())
	}
}

func (p *reader) mapValue(n ast.Node, v reflect.Value, path string) {
	entries, ok := p.mapping(n, path)
	if !ok {
		return
	}
	if len(entries) == 0 {
		p.problem(path, fmt.Sprintf("%s is empty", path), "")
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range entries {
		where := join(path, e.key)
		p.places[where] = p.place(e.value)
		key := reflect.New(v.Type().Key()).Elem()
		if u, ok := key.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(e.key)); err != nil {
				p.problemAt(p.at(e.keyToken), where, err.Error(), suggest(e.key, levelNames()))
				continue
			}
		} else {
			key.SetString(e.key)
		}
		if v.MapIndex(key).IsValid() {
			p.problemAt(p.at(e.keyToken), where, fmt.Sprintf("key %q is written twice", e.key), "")
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if isNull(e.value) {
			p.problem(where, fmt.Sprintf("%s has no value", where), "")
			continue
		}
		p.value(e.value, value, where, options{})
		v.SetMapIndex(key, value)
	}
}

func (p *reader) text(n ast.Node, v reflect.Value, path string, o options) {
	var text string
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	default:
		p.wrongType(n, path, "text")
		return
	}
	switch {
	case text == "" && o.required:
		p.problem(path, fmt.Sprintf("%s is empty", path), "")
	case o.enum != nil && !o.takes(text):
		p.problem(path, fmt.Sprintf("%q is not a value of %s: expected %s", text, path, oneOf(o.enum)), near(text, o.enum))
		return
	case o.refs != nil:
		if why := badRef(text, o.refs); why != "" {
			p.problem(path, why, "")
			return
		}
	}
	v.SetString(text)
}

func (p *reader) integer(n ast.Node, v reflect.Value, path string, o options) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		p.wrongType(n, path, "a whole number")
		return
	}
	num, err := strconv.ParseInt(strings.ReplaceAll(i.GetToken().Value, "_", ""), 0, 32)
	if err != nil || o.min != nil && num < int64(*o.min) || o.max != nil && num > int64(*o.max) {
		low, high := -1<<31, 1<<31-1
		if o.min != nil {
			low = *o.min
		}
		if o.max != nil {
			high = *o.max
		}
		p.problem(path, fmt.Sprintf("%s is %s: expected %d to %d", path, i.GetToken().Value, low, high), "")
		return
	}
	v.SetInt(num)
}
