package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// openSLOVersion is that of the documents which are accepted beside ours and become ours on reading. What they can say and an
// SLO here cannot is a problem with its place, never dropped.
const openSLOVersion = "openslo/v1"

// openSLOIndicator is the one indicator that there is: an SLO measures the health of its service.
const openSLOIndicator = "health"

type openSLOMetadata struct {
	Name        string            `json:"name" manifest:"required"`
	DisplayName string            `json:"displayName,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type openSLOSpec struct {
	Description     string             `json:"description,omitempty"`
	Service         string             `json:"service" manifest:"required"`
	IndicatorRef    string             `json:"indicatorRef,omitempty"`
	TimeWindow      []openSLOWindow    `json:"timeWindow" manifest:"required"`
	BudgetingMethod string             `json:"budgetingMethod" manifest:"required,enum=Occurrences|Timeslices|RatioTimeslices"`
	Objectives      []openSLOObjective `json:"objectives" manifest:"required"`
}

type openSLOWindow struct {
	Duration  openSLOSpan      `json:"duration" manifest:"required"`
	IsRolling bool             `json:"isRolling,omitempty"`
	Calendar  *openSLOCalendar `json:"calendar,omitempty"`
}

type openSLOCalendar struct {
	StartTime string `json:"startTime" manifest:"required"`
	TimeZone  string `json:"timeZone" manifest:"required"`
}

// openSLOObjective has the fields of a threshold too: they are told of in the words of convert, not as unknown keys.
type openSLOObjective struct {
	DisplayName     string       `json:"displayName,omitempty"`
	Op              *openSLOWord `json:"op,omitempty"`
	Value           *openSLOWord `json:"value,omitempty"`
	Target          *Decimal     `json:"target,omitempty"`
	TargetPercent   *Decimal     `json:"targetPercent,omitempty"`
	TimeSliceTarget *Decimal     `json:"timeSliceTarget,omitempty"`
	TimeSliceWindow *openSLOSpan `json:"timeSliceWindow,omitempty"`
}

// openSLOWord is any scalar, of a field that is not supported.
type openSLOWord struct{}

// UnmarshalText takes what there is.
func (*openSLOWord) UnmarshalText([]byte) error { return nil }

// openSLOSpan is a "duration-shorthand", or a bare number of minutes: then unit is 0.
type openSLOSpan struct {
	n    int
	unit byte
}

func (s openSLOSpan) String() string {
	if s.unit == 0 {
		return strconv.Itoa(s.n)
	}
	return strconv.Itoa(s.n) + string(rune(s.unit))
}

// UnmarshalText reads 12h, 4w, 1M or 5.
func (s *openSLOSpan) UnmarshalText(b []byte) error {
	text := string(b)
	num := strings.TrimRight(text, "mhdwMQY")
	n, err := strconv.Atoi(num)
	if err != nil || !digits(num) || len(text)-len(num) > 1 || n < 1 || n > 1_000_000 {
		return fmt.Errorf("%q is not a duration: expected a number and one of m, h, d, w, M, Q, Y, such as 4w", text)
	}
	*s = openSLOSpan{n: n}
	if len(text) > len(num) {
		s.unit = text[len(num)]
	}
	return nil
}

// elapsed returns the span where it has one length: months, quarters and years have not.
func (s openSLOSpan) elapsed() (time.Duration, bool) {
	unit := map[byte]time.Duration{0: time.Minute, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[s.unit]
	const most = 3650 * 24 * time.Hour // beyond all that is accepted; what is longer reads as this
	if unit != 0 && time.Duration(s.n) > most/unit {
		return most, true
	}
	return time.Duration(s.n) * unit, unit != 0
}

// otherFormat returns the version of a document that is of the other format, in any version of it.
func otherFormat(entries []entry) (version string, ok bool) {
	for _, e := range entries {
		if text, _ := scalarText(e.value); e.key == "apiVersion" && strings.HasPrefix(text, "openslo") {
			return text, true
		}
	}
	return "", false
}

// openSLO reads a document of the other format.
func (p *reader) openSLO(entries []entry) {
	before := len(p.problems)
	var doc struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind" manifest:"required"`
		Metadata   openSLOMetadata `json:"metadata" manifest:"required"`
	}
	var spec *entry
	rest := entries[:0:0]
	for i, e := range entries {
		if e.key == "spec" && spec == nil {
			spec = &entries[i]
			continue
		}
		rest = append(rest, e)
	}
	if version, _ := otherFormat(entries); version != openSLOVersion {
		i := slices.IndexFunc(entries, func(e entry) bool { return e.key == "apiVersion" })
		p.problemAt(p.place(entries[i].value), "apiVersion", fmt.Sprintf("apiVersion %q is not known", version), "expected "+APIVersion+" or "+openSLOVersion)
		return
	}
	p.fields(rest, reflect.ValueOf(&doc).Elem(), "", p.places[""], "spec")
	m := doc.Metadata
	switch {
	case doc.Kind == "":
		return
	case doc.Kind != KindSLO:
		p.problem("kind", fmt.Sprintf("kind %s of %s is not read", doc.Kind, openSLOVersion), "only SLO is")
		return
	case spec == nil || isNull(spec.value):
		p.problem("spec", "spec is missing", "")
		return
	}
	if m.Name != "" {
		if why := badName(KindSLO, m.Name); why != "" {
			p.problem("metadata.name", why, "")
		}
	}
	p.places["spec"] = p.place(spec.value)
	specEntries, ok := p.mapping(spec.value, "spec")
	if !ok {
		return
	}
	specEntries = p.unsupported(specEntries, "spec", map[string]string{
		"indicator": "leave it out: an SLO here measures the health of its service; put the query under indicators of the service",
		"alertPolicies": "leave it out: the windows and factors of burn rates follow from objective and window, " +
			"and who is told follows from the service's owner",
	})
	var s openSLOSpec
	p.fields(specEntries, reflect.ValueOf(&s).Elem(), "spec", p.places["spec"])
	if len(p.problems) > before {
		return // what was told of would be told of again
	}
	out := p.convert(m, s)
	r := &Resource{
		APIVersion: APIVersion, Kind: KindSLO, file: p.file, places: p.places, Spec: out,
		Metadata: Metadata{Name: m.Name, Labels: m.Labels, Annotations: m.Annotations},
	}
	if name := s.Objectives[0].DisplayName; name != "" {
		r.Metadata.Annotations = map[string]string{"openslo/objective": name}
		for k, v := range m.Annotations {
			r.Metadata.Annotations[k] = v
		}
	}
	c := &checker{r: r, told: p.problems[before:]}
	checkMetadata(c)
	if len(p.problems) == before {
		checkSLO(c, out)
	}
	p.problems = append(p.problems, c.problems...)
	p.resources = append(p.resources, r)
}

// unsupported tells of keys that are right in OpenSLO and mean nothing here, and returns the others.
func (p *reader) unsupported(entries []entry, path string, why map[string]string) []entry {
	out := entries[:0:0]
	for _, e := range entries {
		if hint, ok := why[e.key]; ok {
			p.problemAt(p.at(e.keyToken), join(path, e.key), fmt.Sprintf("%s of %s is not supported", e.key, openSLOVersion), hint)
			continue
		}
		out = append(out, e)
	}
	return out
}

// convert makes ours of it. Each field of ours is told the place of the one that it came from.
func (p *reader) convert(m openSLOMetadata, s openSLOSpec) *SLO {
	out := &SLO{Title: m.DisplayName, Description: s.Description}
	same := func(ours, theirs string) {
		if at, ok := p.places[theirs]; ok {
			p.places[ours] = at
		}
	}
	if why := badName("", s.Service); why != "" {
		p.problem("spec.service", why, "the name of a service")
	}
	out.Service = RefOf(KindService, s.Service)
	if s.IndicatorRef != "" && s.IndicatorRef != openSLOIndicator {
		p.problem("spec.indicatorRef", fmt.Sprintf("indicator %q is not supported: an SLO here measures the health of its service", s.IndicatorRef),
			"write indicatorRef: "+openSLOIndicator+", or leave it out")
	}
	if n := len(s.TimeWindow); n != 1 {
		p.problem("spec.timeWindow[1]", fmt.Sprintf("there are %d windows: an SLO has one", n), "")
	}
	p.window(&out.Window, s.TimeWindow[0])
	for _, f := range []string{"", ".rolling", ".calendar"} {
		same("spec.window"+f, "spec.timeWindow[0].duration")
	}
	same("spec.window.timezone", "spec.timeWindow[0].calendar.timeZone")

	if n := len(s.Objectives); n != 1 {
		p.problem("spec.objectives[1]", fmt.Sprintf("there are %d objectives: an SLO here has one", n), "write an SLO for each")
	}
	const at = "spec.objectives[0]"
	o := s.Objectives[0]
	for _, f := range []struct {
		name string
		set  bool
	}{{"op", o.Op != nil}, {"value", o.Value != nil}} {
		if f.set {
			p.problem(at+"."+f.name, fmt.Sprintf("%s of %s is not supported", f.name, openSLOVersion), "leave it out: an SLO here measures the health of its service")
		}
	}
	switch {
	case (o.Target == nil) == (o.TargetPercent == nil):
		p.problem(at, at+" takes exactly one of target and targetPercent", "")
	case o.Target != nil:
		out.Objective = p.share(at+".target", *o.Target, 1)
		same("spec.objective", at+".target")
	default:
		out.Objective = p.share(at+".targetPercent", *o.TargetPercent, 100)
		same("spec.objective", at+".targetPercent")
	}
	out.Method = map[string]string{"Occurrences": "occurrences", "Timeslices": "timeslices", "RatioTimeslices": "ratioTimeslices"}[s.BudgetingMethod]
	same("spec.method", "spec.budgetingMethod")
	p.slices(out, o, s.BudgetingMethod)
	same("spec.slice", at+".timeSliceWindow")
	same("spec.slice.length", at+".timeSliceWindow")
	same("spec.slice.target", at+".timeSliceTarget")
	return out
}

func (p *reader) slices(out *SLO, o openSLOObjective, method string) {
	const at = "spec.objectives[0]"
	for _, f := range []struct {
		name      string
		set, need bool
	}{
		{"timeSliceTarget", o.TimeSliceTarget != nil, method == "Timeslices"},
		{"timeSliceWindow", o.TimeSliceWindow != nil, method != "Occurrences"},
	} {
		switch {
		case f.need && !f.set:
			p.problem(at, fmt.Sprintf("%s.%s is missing: budgetingMethod %s needs it", at, f.name, method), "")
		case !f.need && f.set:
			p.problem(at+"."+f.name, fmt.Sprintf("%s means nothing for budgetingMethod %s", f.name, method), "leave it out")
		}
	}
	if o.TimeSliceWindow == nil {
		return
	}
	length, ok := o.TimeSliceWindow.elapsed()
	if !ok {
		p.problem(at+".timeSliceWindow", fmt.Sprintf("a slice of %s has no fixed length", o.TimeSliceWindow), "use m, h, d or w")
		return
	}
	out.Slice = &SLOSlice{Length: Duration(length)}
	if o.TimeSliceTarget != nil {
		target := p.share(at+".timeSliceTarget", *o.TimeSliceTarget, 1)
		out.Slice.Target = &target
	}
}

// share reads a part of whole, exact to a millionth.
func (p *reader) share(at string, d, whole Decimal) Share {
	if d <= 0 || d > whole*micro || d%whole != 0 {
		p.problem(at, fmt.Sprintf("%s is not a share that can be kept: above 0, at most %s, exact to a millionth", d, whole*micro), "")
		return 0
	}
	return Share(d / whole)
}

func (p *reader) window(out *SLOWindow, w openSLOWindow) {
	const at = "spec.timeWindow[0]"
	switch {
	case w.IsRolling && w.Calendar != nil:
		p.problem(at+".calendar", "a rolling window has no calendar", "")
	case w.IsRolling:
		d, ok := w.Duration.elapsed()
		if !ok {
			p.problem(at+".duration", fmt.Sprintf("a rolling window of %s has no fixed length", w.Duration), "use m, h, d or w, or a calendar")
			return
		}
		out.Rolling = Duration(d)
	case w.Calendar == nil:
		p.problem(at, at+" is neither rolling nor has it a calendar", "write isRolling: true, or calendar")
	default:
		unit := map[openSLOSpan]string{{1, 'w'}: "week", {1, 'M'}: "month", {1, 'Q'}: "quarter", {1, 'Y'}: "year"}[w.Duration]
		if unit == "" {
			p.problem(at+".duration", fmt.Sprintf("a calendar window of %s is not supported", w.Duration), "1w, 1M, 1Q or 1Y")
			return
		}
		out.Calendar, out.Timezone = unit, w.Calendar.TimeZone
		start, err := time.Parse(time.DateTime, w.Calendar.StartTime)
		if err != nil {
			p.problem(at+".calendar.startTime", fmt.Sprintf("%q is not a time: expected such as 2026-01-01 00:00:00", w.Calendar.StartTime), "")
			return
		}
		if !begins(start, unit) {
			p.problem(at+".calendar.startTime", fmt.Sprintf("%s is not where a %s begins: other windows are not supported", w.Calendar.StartTime, unit),
				map[string]string{
					"week": "a Monday at 00:00:00", "month": "the first of a month at 00:00:00",
					"quarter": "the first of January, April, July or October at 00:00:00", "year": "the first of January at 00:00:00",
				}[unit])
		}
	}
}

// begins reports whether a civil time is the first of such a period.
func begins(t time.Time, unit string) bool {
	h, m, s := t.Clock()
	if h != 0 || m != 0 || s != 0 || t.Nanosecond() != 0 {
		return false
	}
	switch unit {
	case "week":
		return t.Weekday() == time.Monday
	case "month":
		return t.Day() == 1
	case "quarter":
		return t.Day() == 1 && (t.Month()-1)%3 == 0
	default:
		return t.YearDay() == 1
	}
}
