package manifest

import (
	"bytes"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on what is read: they keep a hostile document from costing more than its size.
const (
	maxFile   = 4 << 20
	maxDepth  = 64
	maxIndent = 400
)

// File is a file of documents.
type File struct {
	Name string
	Text []byte
}

// Parse reads the documents of one file and checks each by itself; Validate checks them against each other. Every
// mistake is told; a document with a mistake in its head is not in the set.
func Parse(name string, text []byte) (*Set, []Problem) { return ParseFiles(File{name, text}) }

// ParseFiles is Parse over several files: a name that is used twice is told too.
func ParseFiles(files ...File) (*Set, []Problem) {
	var resources []*Resource
	var problems []Problem
	first := map[Ref]*Resource{}
	for _, f := range files {
		p := &reader{file: f.Name}
		p.read(f.Text)
		for _, r := range p.resources {
			ref := r.Ref()
			if before, ok := first[ref]; ok {
				p.problems = append(p.problems, r.problem("metadata.name", fmt.Sprintf("%s is declared twice", ref),
					fmt.Sprintf("first at %s", before.where())))
				continue
			}
			first[ref] = r
			resources = append(resources, r)
		}
		problems = append(problems, p.problems...)
	}
	sortProblems(problems)
	return NewSet(resources...), problems
}

func sortProblems(p []Problem) {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
}

// at returns where a field was written: its value, or the nearest thing around it.
func (r *Resource) at(path string) place {
	for {
		if p, ok := r.places[path]; ok {
			return p
		}
		cut := max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['))
		if cut < 0 {
			return r.places[""]
		}
		path = path[:cut]
	}
}

func (r *Resource) problem(path, text, hint string) Problem {
	p := r.at(path)
	return Problem{File: r.file, Line: p.line, Column: p.column, Path: path, Text: text, Hint: hint}
}

func (r *Resource) where() string {
	p := r.at("metadata.name")
	return fmt.Sprintf("%s:%d:%d", r.file, p.line, p.column)
}

// reader turns one file into resources.
type reader struct {
	file      string
	problems  []Problem
	resources []*Resource

	// of the document at hand
	lines  int // before it
	places map[string]place
}

func (p *reader) read(text []byte) {
	if len(text) > maxFile {
		p.problems = append(p.problems, Problem{File: p.file, Text: fmt.Sprintf("the file is larger than %d bytes", maxFile)})
		return
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for _, d := range split(text) {
		p.lines, p.places = d.line, map[string]place{}
		p.document(d.text)
	}
}

type chunk struct {
	line int // lines before it
	text []byte
}

// split cuts at document markers, so that a mistake in the syntax of one document does not hide those of the others.
func split(text []byte) []chunk {
	var out []chunk
	start, startLine, line := 0, 0, 0
	for at := 0; at < len(text); line++ {
		end := bytes.IndexByte(text[at:], '\n') + at + 1
		if end == at {
			end = len(text)
		}
		if l := text[at:end]; at > start && bytes.HasPrefix(l, []byte("---")) && len(bytes.TrimSpace(l[3:])) == 0 {
			out = append(out, chunk{startLine, text[start:at]})
			start, startLine = at, line
		}
		at = end
	}
	return append(out, chunk{startLine, text[start:]})
}

func (p *reader) document(text []byte) {
	if line, why := tooDeep(text); why != "" {
		p.problems = append(p.problems, Problem{File: p.file, Line: p.lines + line, Column: 1, Text: why})
		return
	}
	file, err := parseYAML(text)
	if err != nil {
		pr := Problem{File: p.file, Line: p.lines + 1, Column: 1, Text: "this is not YAML: " + firstLine(err.Error())}
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			pr.Text = "this is not YAML: " + syntax.Message
			if t := syntax.Token; t != nil && t.Position != nil {
				pr.Line, pr.Column = p.lines+t.Position.Line, t.Position.Column
			}
		}
		p.problems = append(p.problems, pr)
		return
	}
	for _, d := range file.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		switch d.Body.(type) {
		case *ast.CommentGroupNode, *ast.NullNode:
			continue
		}
		p.resource(d.Body)
	}
}

// parseYAML parses one document. A panic of the parser on malformed input is an answer like any other.
func parseYAML(text []byte) (f *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser gave up: %v", r)
		}
	}()
	return parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
}

// tooDeep finds nesting that would cost the recursive parser its stack.
func tooDeep(text []byte) (line int, why string) {
	depth := 0
	for l := range bytes.Lines(text) {
		line++
		indent, marks := 0, 0
		for indent < len(l) && strings.IndexByte(" \t-?:", l[indent]) >= 0 {
			if l[indent] != ' ' && l[indent] != '\t' {
				marks++
			}
			indent++
		}
		for _, c := range l {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			case '!', '&':
				marks++
			}
		}
		if depth > maxDepth || marks > maxDepth && indent > maxDepth || indent > maxIndent || marks > 4*maxDepth {
			return line, "this is nested too deeply"
		}
	}
	return 0, ""
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (p *reader) resource(body ast.Node) {
	before := len(p.problems)
	var doc struct {
		APIVersion string   `json:"apiVersion" manifest:"required"`
		Kind       string   `json:"kind" manifest:"required"`
		Metadata   Metadata `json:"metadata" manifest:"required"`
	}
	entries, ok := p.mapping(body, "")
	if !ok {
		return
	}
	p.places[""] = p.place(body)
	var spec ast.Node
	rest := entries[:0:0]
	for _, e := range entries {
		if e.key == "spec" && spec == nil {
			spec = e.value
			p.places["spec"] = p.at(e.keyToken)
			continue
		}
		rest = append(rest, e)
	}
	p.fields(rest, reflect.ValueOf(&doc).Elem(), "", p.places[""], "spec")
	if doc.APIVersion != "" && doc.APIVersion != APIVersion {
		p.problem("apiVersion", fmt.Sprintf("apiVersion %q is not known", doc.APIVersion), "expected "+APIVersion)
	}
	k, known := lookupKind(doc.Kind)
	if doc.Kind != "" && !known {
		p.unknownKind(doc.Kind)
	}
	if doc.APIVersion == "" && len(p.problems) > before {
		for i := before; i < len(p.problems); i++ {
			if p.problems[i].Path == "apiVersion" && p.problems[i].Hint == "" {
				p.problems[i].Hint = "write apiVersion: " + APIVersion
			}
		}
	}
	r := &Resource{APIVersion: APIVersion, Kind: doc.Kind, Metadata: doc.Metadata, file: p.file, places: p.places}
	if doc.Metadata.Name != "" {
		if why := badName(doc.Kind, doc.Metadata.Name); why != "" {
			p.problem("metadata.name", why, "")
			doc.Metadata.Name = ""
		}
	}
	if !known {
		return
	}
	r.Spec = k.spec()
	var specEntries []entry
	if spec != nil && !isNull(spec) {
		if specEntries, ok = p.mapping(spec, "spec"); !ok {
			return
		}
		if _, dup := p.places["spec"]; dup {
			p.places["spec"] = p.place(spec)
		}
	}
	p.fields(specEntries, reflect.ValueOf(r.Spec).Elem(), "spec", r.at("spec"))
	if doc.Metadata.Name == "" {
		return
	}
	c := &checker{r: r, told: p.problems[before:]}
	checkMetadata(c)
	k.check(c, r.Spec)
	p.problems = append(p.problems, c.problems...)
	p.resources = append(p.resources, r)
}

func (p *reader) unknownKind(kind string) {
	names := make([]string, 0, 6)
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	if slices.Contains(laterKinds(), kind) {
		p.problem("kind", fmt.Sprintf("kind %s is not read by this version", kind), "it reads "+strings.Join(names, ", "))
		return
	}
	p.problem("kind", fmt.Sprintf("kind %q is not known", kind), suggest(kind, names))
}

func (p *reader) problem(path, text, hint string) {
	at := (&Resource{places: p.places}).at(path)
	p.problems = append(p.problems, Problem{File: p.file, Line: at.line, Column: at.column, Path: path, Text: text, Hint: hint})
}

func (p *reader) problemAt(at place, path, text, hint string) {
	p.problems = append(p.problems, Problem{File: p.file, Line: at.line, Column: at.column, Path: path, Text: text, Hint: hint})
}

func (p *reader) at(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{p.lines + 1, 1}
	}
	return place{p.lines + t.Position.Line, t.Position.Column}
}

// place returns where a node begins; a block mapping begins at its first key.
func (p *reader) place(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return p.at(n.Values[0].Key.GetToken())
		}
	case *ast.MappingValueNode:
		return p.at(n.Key.GetToken())
	case *ast.LiteralNode:
		return p.at(n.Start)
	}
	return p.at(n.GetToken())
}

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
	seen := map[string]place{}
	for _, e := range entries {
		key := e.key
		if t == reflect.TypeFor[Condition]() && key == "of" {
			// Beside "of: 2/3", which counts ticks, "of: valued" says whose signal.
			if text, ok := scalarText(e.value); ok && !strings.Contains(text, "/") && text != "" && (text[0] < '0' || text[0] > '9') {
				key = "subject"
			}
		}
		where := join(path, e.key)
		if first, dup := seen[key]; dup {
			p.problemAt(p.at(e.keyToken), where, fmt.Sprintf("key %q is written twice", e.key), fmt.Sprintf("first in line %d", first.line))
			continue
		}
		seen[key] = p.at(e.keyToken)
		i := slices.IndexFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return fieldName(f) == key })
		if i < 0 {
			names := slices.Clone(also)
			for _, f := range reflect.VisibleFields(t) {
				names = append(names, fieldName(f))
			}
			if slices.Contains(also, key) {
				p.problemAt(p.at(e.keyToken), where, fmt.Sprintf("key %q is written twice", e.key), "")
				continue
			}
			p.problemAt(p.at(e.keyToken), where, fmt.Sprintf("unknown key %q", e.key), suggest(e.key, names))
			continue
		}
		p.places[where] = p.place(e.value)
		if isNull(e.value) {
			p.places[where] = p.at(e.keyToken)
			p.problem(where, fmt.Sprintf("%s has no value", where), "give it one, or leave the key out")
			continue
		}
		f := t.Field(i)
		o := parseOptions(f.Tag.Get("manifest"))
		p.value(e.value, v.Field(i), where, o)
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := fieldName(f)
		if o := parseOptions(f.Tag.Get("manifest")); o.required {
			if _, ok := seen[name]; !ok {
				p.problemAt(at, join(path, name), fmt.Sprintf("%s is missing", join(path, name)), "")
			}
		}
	}
}

// value fills one value from a node.
func (p *reader) value(n ast.Node, v reflect.Value, path string, o options) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
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
	case o.enum != nil && !slices.Contains(o.enum, text):
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
