// Package strict reads the configuration of a daemon: one YAML document into a struct, every mistake told at once with its file,
// line, column, path and the nearest known key. An unknown key is a mistake.
//
// It knows texts, whole numbers, booleans, durations, sizes, lists, maps and structs, whose fields carry a yaml tag. It reads no
// environment and applies no defaults: the caller hands in a struct that holds them. Manifests have a reader of their own,
// pkg/manifest, since they have kinds, references and several documents.
package strict

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File         string
	Line, Column int    // 0: the key is not in the file
	Path         string // "spool.maxBytes"; empty: the file as a whole
	Text         string
}

// String returns "agent.yaml:3:5: spool.maxBytes: ...".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Text
}

// Problems is everything that is wrong with a configuration, in the order of the file.
type Problems []Problem

// Error returns one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Bytes is a size; in a file "256MiB", "1GiB" or a plain number of bytes.
type Bytes uint64

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	number, mul := s, uint64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			number, mul = n, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
	if err != nil || n > 1<<62/mul {
		return 0, fmt.Errorf("%q is not a size: expected a number of bytes, or one with KiB, MiB or GiB", s)
	}
	return Bytes(n * mul), nil
}

// String returns the size as a person writes it.
func (b Bytes) String() string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if shift := 10 * (4 - i); b > 0 && b%(1<<shift) == 0 {
			return strconv.FormatUint(uint64(b>>shift), 10) + unit
		}
	}
	return strconv.FormatUint(uint64(b), 10)
}

// MarshalText writes what ParseBytes reads.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Document is a configuration that is being read: what was wrong with it so far, and where each path stands.
type Document struct {
	file     string
	problems Problems
	at       map[string]ast.Node
}

// Decode reads one document into the struct that out points to. What is not in the document stays as it is. The caller goes
// on with checks of its own by Complain and then asks Err.
func Decode(file string, data []byte, out any) *Document {
	d := &Document{file: file, at: map[string]ast.Node{}}
	d.decode(data, out)
	return d
}

// Complain adds a problem with the value at path, which is told with the place of that key where it is in the file.
func (d *Document) Complain(path, format string, args ...any) {
	d.add(d.at[path], path, format, args...)
}

// Err returns all problems in the order of the file, as Problems, or nil.
func (d *Document) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return d.problems
}

func (d *Document) add(n ast.Node, path, format string, args ...any) {
	p := Problem{File: d.file, Path: path, Text: fmt.Sprintf(format, args...)}
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		p.Line, p.Column = n.GetToken().Position.Line, n.GetToken().Position.Column
	}
	d.problems = append(d.problems, p)
}

func (d *Document) decode(data []byte, out any) {
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		d.syntax(err)
		return
	}
	if len(f.Docs) > 1 {
		d.add(f.Docs[1].Body, "", "a configuration is one document, and this is a second one")
		return
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return
	}
	if _, empty := f.Docs[0].Body.(*ast.CommentGroupNode); empty {
		return
	}
	d.value(f.Docs[0].Body, "", reflect.ValueOf(out).Elem())
}

// syntax keeps the first line of the parser's message, which starts with [line:column].
func (d *Document) syntax(err error) {
	text, _, _ := strings.Cut(err.Error(), "\n")
	p := Problem{File: d.file, Text: text}
	if _, scanErr := fmt.Sscanf(text, "[%d:%d]", &p.Line, &p.Column); scanErr == nil {
		_, p.Text, _ = strings.Cut(text, "] ")
	}
	p.Text = "not YAML: " + p.Text
	d.problems = append(d.problems, p)
}

func (d *Document) value(n ast.Node, path string, v reflect.Value) {
	if path != "" {
		d.at[path] = n
	}
	switch n.(type) {
	case *ast.NullNode:
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.add(n, path, "anchors, aliases and tags are not read: write the value out")
		return
	}
	text, scalar := scalarOf(n)
	switch v.Interface().(type) {
	case time.Duration:
		got, err := time.ParseDuration(text)
		if !scalar || err != nil {
			d.add(n, path, "expected a duration such as 1s or 500ms, found %s", describe(n))
			return
		}
		v.SetInt(int64(got))
		return
	case Bytes:
		got, err := ParseBytes(text)
		if !scalar || err != nil {
			d.add(n, path, "expected a size such as 256MiB, found %s", describe(n))
			return
		}
		v.SetUint(uint64(got))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if !scalar {
			d.add(n, path, "expected a text, found %s", describe(n))
			return
		}
		v.SetString(text)
	case reflect.Bool:
		got, err := strconv.ParseBool(text)
		if !scalar || err != nil {
			d.add(n, path, "expected true or false, found %s", describe(n))
			return
		}
		v.SetBool(got)
	case reflect.Int:
		got, err := strconv.Atoi(text)
		if !scalar || err != nil {
			d.add(n, path, "expected a whole number, found %s", describe(n))
			return
		}
		v.SetInt(int64(got))
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			d.add(n, path, "expected a list, found %s", describe(n))
			return
		}
		out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
		for i, item := range seq.Values {
			d.value(item, fmt.Sprintf("%s[%d]", path, i), out.Index(i))
		}
		v.Set(out)
	case reflect.Map:
		out := reflect.MakeMap(v.Type())
		d.each(n, path, func(key string, _ ast.Node, val ast.Node) {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(val, join(path, key), item)
			out.SetMapIndex(reflect.ValueOf(key), item)
		})
		v.Set(out)
	case reflect.Struct:
		known := keysOf(v.Type())
		d.each(n, path, func(key string, at ast.Node, val ast.Node) {
			i := slices.Index(known, key)
			if i < 0 {
				d.add(at, join(path, key), "unknown key%s", didYouMean(key, known))
				return
			}
			d.value(val, join(path, key), v.Field(i))
		})
	default:
		panic("BUG: a configuration has a field of kind " + v.Kind().String())
	}
}

// each visits the pairs of a mapping, once each.
func (d *Document) each(n ast.Node, path string, visit func(key string, at, val ast.Node)) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.add(n, path, "expected keys and values, found %s", describe(n))
		return
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		key, ok := scalarOf(p.Key)
		if !ok {
			d.add(p.Key, path, "a key must be a text")
			continue
		}
		if seen[key] {
			d.add(p.Key, join(path, key), "the key stands here twice")
			continue
		}
		seen[key] = true
		visit(key, p.Key, p.Value)
	}
}

func scalarOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func describe(n ast.Node) string {
	if text, ok := scalarOf(n); ok {
		return strconv.Quote(text)
	}
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	}
	return "something else"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keysOf returns the keys of a struct, in the order of its fields.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

// didYouMean names the known key that is closest, or all of them where none is close.
func didYouMean(key string, known []string) string {
	best, least := "", max(2, len(key)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(key), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(": did you mean %q?", best)
	}
	return ": the keys here are " + strings.Join(known, ", ")
}

// distance is the number of single-character edits between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
