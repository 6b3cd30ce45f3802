package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on what is read: they keep a hostile document from costing more than its size.
const (
	maxFile     = 4 << 20
	maxDocument = 64 << 10 // what the state engine keeps of one resource
	maxDepth    = 64
	maxIndent   = 400
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
	known := shapes{}
	for _, f := range files {
		p := &reader{file: f.Name, shapes: known}
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

// at returns where a field was written: its value, or the nearest thing around it. The places of a large map would be most of
// what it takes up, so they are not kept: they are read again where there is something to tell.
func (r *Resource) at(path string) place {
	places := r.places
	if places == nil && r.written != nil {
		places = r.written.read()
	}
	for {
		if p, ok := places[path]; ok {
			return p
		}
		cut := max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['))
		if cut < 0 {
			return places[""]
		}
		path = path[:cut]
	}
}

// origin is where a resource was read from. It may be shared.
type origin struct {
	chunk  chunk
	nth    int // among the resources of the chunk
	places atomic.Pointer[map[string]place]
}

// read returns the places of all that was written. They are kept from then on: where there was one thing to tell, there may be more.
func (o *origin) read() map[string]place {
	if p := o.places.Load(); p != nil {
		return *p
	}
	again := &reader{shapes: shapes{}, keep: true, chunk: o.chunk}
	again.document()
	places := again.resources[o.nth].places
	o.places.Store(&places)
	return places
}

// ProblemAt returns a problem with the field at path, in the place where it was written: for checks that other packages make.
func (r *Resource) ProblemAt(path, text, hint string) Problem { return r.problem(path, text, hint) }

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
	shapes    shapes
	problems  []Problem
	resources []*Resource
	keep      bool // the places with the resources

	// of the document at hand
	chunk  chunk
	places map[string]place
}

func (p *reader) read(text []byte) {
	if len(text) > maxFile {
		p.problems = append(p.problems, Problem{File: p.file, Text: fmt.Sprintf("the file is larger than %d bytes", maxFile)})
		return
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for _, d := range split(text) {
		p.chunk = d
		p.document()
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

func (p *reader) document() {
	text := p.chunk.text
	if len(text) > maxDocument {
		p.problems = append(p.problems, Problem{
			File: p.file, Line: p.chunk.line + 1, Column: 1, Text: fmt.Sprintf("this document has %d bytes: the most is %d", len(text), maxDocument),
			Hint: "documents are set apart by ---",
		})
		return
	}
	if line, why := tooDeep(text); why != "" {
		p.problems = append(p.problems, Problem{File: p.file, Line: p.chunk.line + line, Column: 1, Text: why})
		return
	}
	file, err := parseYAML(text)
	if err != nil {
		pr := Problem{File: p.file, Line: p.chunk.line + 1, Column: 1, Text: "this is not YAML: " + firstLine(err.Error())}
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			pr.Text = "this is not YAML: " + syntax.Message
			if t := syntax.Token; t != nil && t.Position != nil {
				pr.Line, pr.Column = p.chunk.line+t.Position.Line, t.Position.Column
			}
		}
		p.problems = append(p.problems, pr)
		return
	}
	first := len(p.resources)
	for _, d := range file.Docs {
		if d == nil || d.Body == nil {
			continue
		}
		switch d.Body.(type) {
		case *ast.CommentGroupNode, *ast.NullNode:
			continue
		}
		if p.keep || p.places == nil {
			p.places = map[string]place{}
		}
		clear(p.places)
		before := len(p.resources)
		p.resource(d.Body)
		for _, r := range p.resources[before:] {
			if !p.keep {
				r.written = &origin{chunk: chunk{p.chunk.line, bytes.Clone(text)}, nth: before - first}
				r.places = nil
			}
		}
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
	if _, other := otherFormat(entries); other {
		p.openSLO(entries)
		return
	}
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
		return place{p.chunk.line + 1, 1}
	}
	return place{p.chunk.line + t.Position.Line, t.Position.Column}
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
