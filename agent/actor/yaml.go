package actor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// reader walks a YAML tree strictly and gathers every problem with its place.
type reader struct{ problems []error }

// fields is one mapping: its keys and where it stands.
type fields struct {
	node  ast.Node
	nodes map[string]ast.Node
}

func (f fields) has(key string) bool { return f.nodes[key] != nil }

// at returns the value's node, or the mapping's own where the key is missing.
func (f fields) at(key string) ast.Node {
	if n := f.nodes[key]; n != nil {
		return n
	}
	return f.node
}

func (r *reader) add(n ast.Node, format string, args ...any) {
	where := ""
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		where = fmt.Sprintf("line %d, column %d: ", n.GetToken().Position.Line, n.GetToken().Position.Column)
	}
	if len(r.problems) < 100 {
		r.problems = append(r.problems, fmt.Errorf("%s%s", where, fmt.Sprintf(format, args...)))
	}
}

// mapping takes the keys of a mapping; one that is not in known, or stands twice, is a problem.
func (r *reader) mapping(n ast.Node, what string, known ...string) fields {
	f := fields{node: n, nodes: map[string]ast.Node{}}
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		r.add(n, "%s: expected keys and values", what)
		return f
	}
	for _, v := range values {
		key := v.Key.String()
		if s, ok := v.Key.(*ast.StringNode); ok {
			key = s.Value
		}
		switch {
		case !slices.Contains(known, key):
			r.add(v.Key, "%s: unknown key %q%s", what, key, nearest(key, known))
		case f.nodes[key] != nil:
			r.add(v.Key, "%s: key %q stands twice", what, key)
		default:
			f.nodes[key] = v.Value
		}
	}
	return f
}

func (r *reader) value(f fields, key string) ast.Node {
	n := f.nodes[key]
	if n == nil {
		if f.node != nil {
			r.add(f.node, "key %q is missing", key)
		}
		return nil
	}
	return n
}

// text returns a required text.
func (r *reader) text(f fields, key string) string {
	n := r.value(f, key)
	if n == nil {
		return ""
	}
	return r.scalar(n, key)
}

func (r *reader) scalar(n ast.Node, what string) string {
	switch s := n.(type) {
	case *ast.StringNode:
		if s.Value != "" {
			return s.Value
		}
	case *ast.LiteralNode:
		return s.Value.Value
	}
	r.add(n, "%s: expected a text", what)
	return ""
}

// integer returns a required whole number.
func (r *reader) integer(f fields, key string) int64 {
	n := r.value(f, key)
	if n == nil {
		return 0
	}
	if i, ok := n.(*ast.IntegerNode); ok {
		if v, err := strconv.ParseInt(i.GetToken().Value, 10, 64); err == nil {
			return v
		}
	}
	r.add(n, "%s: expected a whole number", key)
	return 0
}

// boolean returns a required true or false.
func (r *reader) boolean(f fields, key string) bool {
	n := r.value(f, key)
	if n == nil {
		return false
	}
	if b, ok := n.(*ast.BoolNode); ok {
		return b.Value
	}
	r.add(n, "%s: expected true or false", key)
	return false
}

// list returns a required list.
func (r *reader) list(f fields, key string, most int) []ast.Node {
	n := r.value(f, key)
	if n == nil {
		return nil
	}
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.add(n, "%s: expected a list", key)
		return nil
	}
	if len(s.Values) > most {
		r.add(n, "%s: more than %d entries", key, most)
		return nil
	}
	return s.Values
}

// nearest returns a hint with the known name that is closest, if one is close.
func nearest(name string, known []string) string {
	best, at := 4, ""
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < best {
			best, at = d, k
		}
	}
	if at == "" {
		return ": known are " + strings.Join(known, ", ")
	}
	return fmt.Sprintf(": did you mean %q?", at)
}

// distance counts the single-byte edits between two words.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
