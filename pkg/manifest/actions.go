package manifest

import (
	"cmp"
	"fmt"
	"strings"
)

// stepForm says how the value of an action is written in a step.
type stepForm struct {
	field     string // "to" or "cpus"; empty: the action has one value only, 1
	unit      stepUnit
	least     int64 // in the action's unit, as the actors' catalogue has it
	most      int64
	subject   string // further field that says what it acts on: "sysctl" or "place"
	ownVerify bool   // what it does does not show in what a protected component waits for at the CPU
}

// stepUnit is how a value of a step is written, and how many of it make one of the action's unit.
type stepUnit int64

const (
	plainNumber stepUnit = 0
	percents    stepUnit = -1
	mebibytes   stepUnit = 1 << 20
	kibibytes   stepUnit = 1 << 10 // a second
)

// stepForms are the actions that a step can name, beside plugin:NAME.
var stepForms = map[string]stepForm{
	"cgroup.freeze":    {least: 1, most: 1},
	"cgroup.kill":      {least: 1, most: 1},
	"cpu.idle":         {least: 1, most: 1},
	"cpu.quota":        {field: "to", unit: percents, least: 1, most: 102400},
	"cpu.weight":       {field: "to", least: 1, most: 10000},
	"cpuset.cpus":      {field: "cpus", unit: percents, least: 1, most: 100},
	"file.relief":      {field: "to", unit: mebibytes, least: 1, most: 1 << 20, subject: "place", ownVerify: true},
	"io.limit":         {field: "to", unit: kibibytes, least: 64, most: 1 << 24, ownVerify: true},
	"memory.high":      {field: "to", unit: mebibytes, least: 1, most: 1 << 24, ownVerify: true},
	"memory.limit":     {field: "to", unit: mebibytes, least: 1, most: 1 << 24, ownVerify: true},
	"memory.low":       {field: "to", unit: mebibytes, least: 1, most: 1 << 24, ownVerify: true},
	"nft.limit":        {field: "to", least: 1, most: 1000000},
	"pids.max":         {field: "to", least: 1, most: 4194304, ownVerify: true},
	"process.affinity": {field: "cpus", unit: percents, least: 1, most: 100},
	"process.ionice":   {field: "to", least: 0, most: 8, ownVerify: true},
	"process.nice":     {field: "to", least: 1, most: 19},
	"process.oom":      {field: "to", least: 1, most: 1000, ownVerify: true},
	"process.sched":    {field: "to", least: 1, most: 2},
	"unit.restart":     {least: 1, most: 1},
	"unit.stop":        {least: 1, most: 1},
	"sysctl":           {field: "to", least: 0, most: 1<<31 - 1, subject: "sysctl", ownVerify: true},
}

// pluginForm is that of a program that a host declares.
var pluginForm = stepForm{field: "to", least: -1 << 31, most: 1<<31 - 1, ownVerify: true}

const pluginPrefix = "plugin:"

func stepFormOf(action string) (stepForm, bool) {
	if strings.HasPrefix(action, pluginPrefix) {
		return pluginForm, true
	}
	f, ok := stepForms[action]
	return f, ok
}

// ActionRange returns the least and the largest value that a step may give an action, in the action's unit; false for an
// action that no step can name.
func ActionRange(action string) (least, most int64, ok bool) {
	f, ok := stepFormOf(action)
	return f.least, f.most, ok
}

// Value returns the step's value in the action's own unit, as a command carries it.
func (s *Step) Value() int64 {
	f, _ := stepFormOf(s.Action)
	q := s.To
	switch f.field {
	case "":
		return 1
	case "cpus":
		q = s.CPUs
	}
	if q == nil {
		return 0
	}
	v := q.Value()
	switch f.unit {
	case plainNumber:
	case percents:
		v *= 100
	default:
		v /= float64(f.unit)
	}
	if v < 0 {
		return int64(v - 0.5)
	}
	return int64(v + 0.5)
}

func checkRunbook(c *checker, r *Runbook) {
	for i := range r.Steps {
		checkStep(c, fmt.Sprintf("spec.steps[%d]", i), &r.Steps[i])
	}
}

func checkStep(c *checker, at string, s *Step) {
	f, ok := stepFormOf(s.Action)
	if !ok {
		return // told already
	}
	for _, x := range []struct {
		name string
		q    *Quantity
	}{{"to", s.To}, {"cpus", s.CPUs}} {
		switch {
		case x.name == f.field && x.q == nil:
			c.problem(at, fmt.Sprintf("%s.%s is missing", at, f.field), "")
		case x.name == f.field:
			checkStepValue(c, at+"."+x.name, s, f, x.q)
		case x.q != nil:
			c.problem(at+"."+x.name, fmt.Sprintf("%s is not a parameter of %s", x.name, s.Action), "it takes "+cmp.Or(f.field, "none"))
		}
	}
	for _, x := range []struct{ name, text string }{{"sysctl", s.Sysctl}, {"place", s.Place}} {
		switch {
		case x.name == f.subject && x.text == "":
			c.problem(at, fmt.Sprintf("%s.%s is missing", at, x.name), "it says what "+s.Action+" acts on")
		case x.name != f.subject && x.text != "":
			c.problem(at+"."+x.name, fmt.Sprintf("%s is not a parameter of %s", x.name, s.Action), "")
		}
	}
	if v := s.Verify; v != nil {
		c.signal(at+".verify.signal", v.Signal)
		c.exactlyOne(at+".verify", "above and below", v.Above != nil, v.Below != nil)
	} else if f.ownVerify {
		c.problem(at, at+".verify is missing", "what "+s.Action+" does does not show in what the protected one waits for at the CPU: say what shows it")
	}
}

func checkStepValue(c *checker, at string, s *Step, f stepForm, q *Quantity) {
	hint := fmt.Sprintf("a whole number from %d to %d", f.least, f.most)
	whole := q.Value()
	fits := !q.IsPercent()
	switch f.unit {
	case plainNumber:
	case percents:
		hint = fmt.Sprintf("whole percents from %d%% to %d%%", f.least, f.most)
		whole *= 100
		fits = q.IsPercent()
	case mebibytes:
		hint = fmt.Sprintf("whole MiB from %s to %s", Bytes(f.least*int64(f.unit)), Bytes(f.most*int64(f.unit)))
		whole /= float64(f.unit)
		fits = isSize(q.String())
	case kibibytes:
		hint = fmt.Sprintf("whole KiB a second from %s to %s", Bytes(f.least*int64(f.unit)), Bytes(f.most*int64(f.unit)))
		whole /= float64(f.unit)
		fits = isSize(q.String())
	}
	v := s.Value()
	if diff := whole - float64(v); !fits || v < f.least || v > f.most || diff > 1e-6 || diff < -1e-6 {
		c.problem(at, fmt.Sprintf("%s is not a value of %s", q, s.Action), hint)
	}
}

// isSize reports whether a quantity was written in bytes.
func isSize(text string) bool { return strings.HasSuffix(text, "B") }
