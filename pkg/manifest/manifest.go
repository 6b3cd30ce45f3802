// Package manifest is the model as reviewed text: one Go struct for each kind of resource, which is the schema, and a
// strict reader of YAML that tells every mistake at once, each with its file, line, column and the nearest known name.
//
// It refuses what it does not know: an unknown key, kind or version is a problem, never ignored. It keeps what was
// written and no more; defaults are answered by methods, so that a stored resource reads as its author wrote it.
// It is pure apart from Load, which reads files, and it starts no goroutine.
package manifest

import (
	"fmt"
	"strings"
)

// APIVersion is the version that every document states.
const APIVersion = "evenkeel/v1"

// The kinds that this package reads.
const (
	KindService           = "Service"
	KindComponent         = "Component"
	KindHost              = "Host"
	KindHostTemplate      = "HostTemplate"
	KindDetector          = "Detector"
	KindRunbook           = "Runbook"
	KindRemediationPolicy = "RemediationPolicy"
	KindCalendar          = "Calendar"
)

// Metadata names a resource.
type Metadata struct {
	Name        string            `json:"name" manifest:"required"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// RenamedFrom is the former name; history and incidents follow it.
	RenamedFrom string `json:"renamedFrom,omitempty"`
}

// Resource is one document. Spec points to the struct of its kind: *Service, *Component, *Host, *HostTemplate, *Detector,
// *Runbook, *RemediationPolicy, *Calendar, *SLO, *Team, *Vendor, *Agreement, *Maintenance, *MapTest or, of kind Change,
// *ChangeRecord. A Resource is not changed after it was parsed and may be shared.
type Resource struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       any      `json:"spec"`

	file    string
	places  map[string]place // by path, of every key and item that was written; only while it is read
	written *origin          // from where they are read again
}

type place struct{ line, column int }

// Ref returns the name by which others refer to it: "service/checkout".
func (r *Resource) Ref() Ref { return RefOf(r.Kind, r.Metadata.Name) }

// Ref is a reference "kind/name", the kind in lower case. The zero Ref refers to nothing.
type Ref string

// RefOf returns the reference to the resource of that kind and name.
func RefOf(kind, name string) Ref { return Ref(strings.ToLower(kind) + "/" + name) }

// Kind returns the part before the slash: "component".
func (r Ref) Kind() string {
	kind, _, _ := strings.Cut(string(r), "/")
	return kind
}

// Name returns the part after the slash: "web", or "web@h1" for a component's member.
func (r Ref) Name() string {
	_, name, _ := strings.Cut(string(r), "/")
	return name
}

// Member splits "component/web@h1" into "component/web" and "h1"; host is empty for what is not a component's member.
func (r Ref) Member() (of Ref, host string) {
	if r.Kind() != "component" {
		return r, ""
	}
	base, host, _ := strings.Cut(string(r), "@")
	return Ref(base), host
}

// Texts returns references as strings, for those who write or compare them.
func Texts(refs []Ref) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = string(r)
	}
	return out
}

// Problem is one mistake in what was handed in. Line and Column count from 1 and are 0 where the mistake has no place in
// a file; Path is the field, "spec.dependsOn[1].ref".
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Path   string `json:"path"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// String writes "file:line:column: text (hint)", leaving out what is not known.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (%s)", p.Hint)
	}
	return b.String()
}
