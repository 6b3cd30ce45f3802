package importer

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/civil"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Columns returns the columns that a CSV of services may have, in any order; "service" is the one that it must have.
func Columns() []string {
	return []string{
		"service", "title", "criticality", "owner", "phone", "email", "hours", "vendor", "contract", "dependsOn", "perHour", "currency",
		"author", "date",
	}
}

const (
	maxCSV      = 16 << 20
	maxProblems = 50
)

// CSV reads services, one a line. Its first line names the columns; fields are set apart by commas, or by semicolons where the
// first line has no comma. Zone is the IANA name of the time zone of the hours; it may be empty where every hour is 24x7. Where
// there are problems, the result is empty.
func CSV(file string, text []byte, zone string) (Result, []manifest.Problem) {
	t := &table{file: file, zone: zone, docs: map[manifest.Ref]*document{}}
	t.read(text)
	if len(t.problems) > 0 {
		return Result{}, t.problems
	}
	return t.finish()
}

// table turns lines into documents.
type table struct {
	file     string
	zone     string
	csv      *csv.Reader
	columns  []string
	docs     map[manifest.Ref]*document
	problems []manifest.Problem
}

// document is a resource in the making. It holds texts as they were written, so that a mistake in one is told in the words of a
// manifest, at the place in the CSV.
type document struct {
	kind, name string
	spec       map[string]any
	row        place
	places     map[string]place // by path in the spec
}

type place struct{ line, column int }

func (t *table) tell(at place, text, hint string) {
	t.problems = append(t.problems, manifest.Problem{File: t.file, Line: at.line, Column: at.column, Text: text, Hint: hint})
}

func (t *table) at(field int) place {
	line, column := t.csv.FieldPos(field)
	return place{line, column}
}

func (t *table) read(text []byte) {
	if len(text) > maxCSV {
		t.tell(place{}, fmt.Sprintf("the file is larger than %d bytes", maxCSV), "")
		return
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	t.csv = csv.NewReader(bytes.NewReader(text))
	t.csv.FieldsPerRecord = -1
	if first, _, _ := bytes.Cut(text, []byte("\n")); !bytes.Contains(first, []byte(",")) {
		t.csv.Comma = ';'
	}
	head, ok := t.record()
	if !ok {
		if len(t.problems) == 0 {
			t.tell(place{1, 1}, "the file is empty", "its first line names the columns, such as service,owner,criticality,hours,vendor")
		}
		return
	}
	if !t.head(head) {
		return
	}
	for {
		rec, ok := t.record()
		if !ok {
			return
		}
		t.row(rec)
		if len(t.problems) >= maxProblems {
			t.tell(t.at(0), "reading ends here: there are too many mistakes", "")
			return
		}
	}
}

// record returns the next line; a mistake in the syntax ends the reading.
func (t *table) record() ([]string, bool) {
	rec, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, false
	}
	if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		t.tell(place{bad.Line, bad.Column}, "this is not CSV: "+bad.Err.Error(), "")
		return nil, false
	}
	return rec, err == nil
}

func (t *table) head(names []string) bool {
	for i, name := range names {
		name = strings.TrimSpace(name)
		switch {
		case !slices.Contains(Columns(), name):
			hint := manifest.Nearest(name, Columns())
			if hint == "" {
				hint = "known: " + strings.Join(Columns(), ", ")
			}
			t.tell(t.at(i), fmt.Sprintf("%q is not a column", name), hint)
		case slices.Contains(t.columns, name):
			t.tell(t.at(i), fmt.Sprintf("column %s stands twice", name), "")
		}
		t.columns = append(t.columns, name)
	}
	if len(t.problems) == 0 && !slices.Contains(t.columns, "service") {
		t.tell(place{1, 1}, "there is no column service", "known: "+strings.Join(Columns(), ", "))
	}
	return len(t.problems) == 0
}

// field is one field of a line.
type field struct {
	text string
	at   place
}

func (t *table) row(rec []string) {
	if len(rec) != len(t.columns) {
		t.tell(t.at(0), fmt.Sprintf("there are %d fields: the first line has %d", len(rec), len(t.columns)), "")
		return
	}
	f := map[string]field{}
	for i, name := range t.columns {
		if text := strings.TrimSpace(rec[i]); text != "" {
			f[name] = field{text, t.at(i)}
		}
	}
	if len(f) == 0 {
		return
	}
	name, ok := f["service"]
	if !ok {
		t.tell(t.at(slices.Index(t.columns, "service")), "the line names no service", "")
		return
	}
	d := t.document(manifest.KindService, name)
	if d == nil {
		return
	}
	if d.spec != nil {
		t.tell(name.at, fmt.Sprintf("%s stands already in line %d", manifest.RefOf(d.kind, d.name), d.row.line), "")
		return
	}
	d.spec = map[string]any{}
	title := f["title"]
	if title.text == "" && d.name != name.text {
		title = name
	}
	d.set("title", title)
	if c := f["criticality"]; c.text != "" {
		d.put("criticality", number(c.text), c.at)
	}
	d.set("owner", t.owner(f))
	d.set("supportHours", t.hours(f["hours"]))
	d.set("vendor", t.vendor(f))
	t.value(d, f)
	t.dependencies(d, f["dependsOn"])
}

// document returns the document of a name, a new one where there is none yet; nil where no name can be made of the text.
func (t *table) document(kind string, f field) *document {
	name := NameOf(f.text)
	if name == "" {
		t.tell(f.at, fmt.Sprintf("no name can be made of %q", f.text), "letters and digits are needed")
		return nil
	}
	ref := manifest.RefOf(kind, name)
	d, ok := t.docs[ref]
	if !ok {
		d = &document{kind: kind, name: name, row: f.at, places: map[string]place{}}
		t.docs[ref] = d
	}
	return d
}

func (d *document) put(path string, value any, at place) {
	d.spec[path] = value
	d.places["spec."+path] = at
}

func (d *document) set(path string, f field) {
	if f.text != "" {
		d.put(path, f.text, f.at)
	}
}

// number keeps what reads as a whole number one; all else stays text, which the manifest's rules then refuse.
func number(s string) any {
	if n := json.Number(s); s != "" && strings.Trim(s, "0123456789") == "" {
		return n
	}
	return s
}

// described returns the document of a team or vendor that a line names.
func (t *table) described(kind string, f field) *document {
	if f.text == "" {
		return nil
	}
	d := t.document(kind, f)
	if d != nil && d.spec == nil {
		d.spec = map[string]any{}
		if d.name != f.text {
			d.set("title", f)
		}
	}
	return d
}

// same sets a field of a document that several lines describe; they must not differ.
func (t *table) same(d *document, path string, f field) {
	if f.text == "" {
		return
	}
	if old, ok := d.spec[path]; ok && old != f.text {
		t.tell(f.at, fmt.Sprintf("%s has %s %q in line %d", manifest.RefOf(d.kind, d.name), path, old, d.places["spec."+path].line), "")
		return
	}
	if _, ok := d.spec[path]; !ok {
		d.put(path, f.text, f.at)
	}
}

func (t *table) owner(f map[string]field) field {
	d := t.described(manifest.KindTeam, f["owner"])
	for _, name := range []string{"phone", "email"} {
		if d == nil && f[name].text != "" && f["owner"].text == "" {
			t.tell(f[name].at, name+" is that of the owner, and the line names none", "")
		}
		if d != nil {
			t.same(d, name, f[name])
		}
	}
	if d == nil {
		return field{}
	}
	return field{string(manifest.RefOf(d.kind, d.name)), f["owner"].at}
}

func (t *table) vendor(f map[string]field) field {
	d := t.described(manifest.KindVendor, f["vendor"])
	if d == nil {
		if c := f["contract"]; c.text != "" && f["vendor"].text == "" {
			t.tell(c.at, "the contract is that of the vendor, and the line names none", "")
		}
		return field{}
	}
	t.same(d, "contract", f["contract"])
	return field{string(manifest.RefOf(d.kind, d.name)), f["vendor"].at}
}

func (t *table) value(d *document, f map[string]field) {
	value := map[string]any{}
	for _, name := range []string{"perHour", "currency", "author", "date"} {
		if x := f[name]; x.text != "" {
			value[name] = x.text
			d.places["spec.value."+name] = x.at
		}
	}
	if len(value) > 0 {
		d.put("value", value, d.row)
	}
}

func (t *table) dependencies(d *document, f field) {
	var list []any
	for word := range strings.FieldsSeq(f.text) {
		name := NameOf(word)
		if name == "" {
			t.tell(f.at, fmt.Sprintf("no name can be made of %q", word), "names of services, with spaces between them")
			continue
		}
		list = append(list, map[string]any{"ref": string(manifest.RefOf(manifest.KindService, name))})
	}
	if len(list) > 0 {
		d.put("dependsOn", list, f.at)
	}
}

// hours makes a calendar of support hours: 24x7, or windows such as "mon..fri 08:00-18:00; sat 09:00-13:00".
func (t *table) hours(f field) field {
	if f.text == "" {
		return f
	}
	allDay := f.text == "24x7" || f.text == "24/7"
	name := f
	if allDay {
		name.text = "around-the-clock"
	}
	d := t.document(manifest.KindCalendar, name)
	if d == nil {
		return field{}
	}
	ref := field{string(manifest.RefOf(d.kind, d.name)), f.at}
	if d.spec != nil {
		return ref
	}
	d.spec = map[string]any{}
	zone := t.zone
	if allDay {
		d.put("timezone", "UTC", f.at)
		d.put("default", "1", f.at)
		return ref
	}
	if zone == "" {
		t.tell(f.at, fmt.Sprintf("the hours %q have no time zone", f.text), "say which: --timezone Europe/Berlin")
		return ref
	}
	d.put("title", f.text, f.at)
	d.put("timezone", zone, f.at)
	d.put("default", "0", f.at)
	var weekly []any
	for part := range strings.SplitSeq(f.text, ";") {
		days, clock, ok := strings.Cut(strings.TrimSpace(part), " ")
		from, to, dash := strings.Cut(strings.TrimSpace(clock), "-")
		if !ok || !dash {
			t.tell(f.at, fmt.Sprintf("%q are not hours", strings.TrimSpace(part)), "expected 24x7, or such as mon..fri 08:00-18:00; sat 09:00-13:00")
			return ref
		}
		var span manifest.Weekdays
		var clocks [2]civil.Clock
		for _, err := range []error{span.UnmarshalText([]byte(days)), clocks[0].UnmarshalText([]byte(from)), clocks[1].UnmarshalText([]byte(to))} {
			if err != nil {
				t.tell(f.at, err.Error(), "")
				return ref
			}
		}
		weekly = append(weekly, map[string]any{"days": []string{days}, "from": from, "to": to})
	}
	d.put("weekly", weekly, f.at)
	return ref
}

// finish holds the documents to the rules of manifests and returns them as resources.
func (t *table) finish() (Result, []manifest.Problem) {
	var files []manifest.File
	for _, ref := range slices.Sorted(maps.Keys(t.docs)) {
		d := t.docs[ref]
		d.contact()
		text, err := json.Marshal(map[string]any{
			"apiVersion": manifest.APIVersion, "kind": d.kind, "metadata": map[string]any{"name": d.name}, "spec": d.spec,
		})
		if err != nil {
			return Result{}, []manifest.Problem{{File: t.file, Text: err.Error()}}
		}
		files = append(files, manifest.File{Name: string(ref), Text: text})
	}
	set, problems := manifest.CheckFiles(files, nil)
	for _, p := range problems {
		d := t.docs[manifest.Ref(p.File)]
		t.tell(d.place(p.Path), p.Text, p.Hint)
	}
	if len(t.problems) > 0 {
		slices.SortStableFunc(t.problems, func(a, b manifest.Problem) int {
			return (a.Line-b.Line)*maxCSV + a.Column - b.Column
		})
		return Result{}, t.problems
	}
	return Result{Resources: slices.Collect(set.All()), Gaps: t.gaps(set)}, nil
}

// contact turns the phone and email of a team into its contact.
func (d *document) contact() {
	if d.kind != manifest.KindTeam {
		return
	}
	contact := map[string]any{"name": d.name}
	for _, name := range []string{"phone", "email"} {
		if v, ok := d.spec[name]; ok {
			contact[name] = v
			d.places["spec.contacts[0]."+name] = d.places["spec."+name]
			delete(d.spec, name)
		}
	}
	if len(contact) > 1 {
		d.spec["contacts"] = []any{contact}
	}
}

// place returns where the field at a path comes from: its own place, or that of the nearest thing around it.
func (d *document) place(path string) place {
	for path != "" {
		if at, ok := d.places[path]; ok {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return d.row
}

// gaps lists what a map needs and the CSV does not say.
func (t *table) gaps(set *manifest.Set) []Gap {
	var out []Gap
	add := func(r *manifest.Resource, missing bool, text string) {
		if missing {
			out = append(out, Gap{r.Ref(), t.docs[r.Ref()].row.line, text})
		}
	}
	for r, s := range manifest.Of[manifest.Service](set) {
		add(r, s.Owner == "", "no owner: nobody is called when it fails")
		add(r, s.SupportHours == "", "no support hours: it is not known when somebody has to answer")
		add(r, s.Criticality == 0 && s.Value == nil, "neither criticality nor value: it is unranked")
		add(r, len(s.DependsOn) == 0, "it rests on nothing: its health is not known until the map says what it needs")
	}
	for r, s := range manifest.Of[manifest.Team](set) {
		add(r, len(s.Contacts) == 0, "no contact: neither phone nor email")
	}
	for r, s := range manifest.Of[manifest.Vendor](set) {
		add(r, s.Contract == "", "no contract: it is not known what the vendor owes")
		add(r, len(s.Contacts) == 0, "no contact: write the vendor's desk into the manifest")
		add(r, s.Hours == "", "no hours of the contract")
	}
	slices.SortStableFunc(out, func(a, b Gap) int { return a.Line - b.Line })
	return out
}
