package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const svcHead = "apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: a}\nspec:\n"

const compHead = "apiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: web}\nspec:\n"

const detHead = "apiVersion: evenkeel/v1\nkind: Detector\nmetadata: {name: d}\nspec:\n"

const polHead = "apiVersion: evenkeel/v1\nkind: RemediationPolicy\nmetadata: {name: p}\nspec:\n"

// Each case is one mistake, with the whole text that a person sees of it.
func TestMistakesAreToldWithTheirPlace(t *testing.T) { tell(t, mistakes()) }

// tell reads each text and compares all that is told of it.
func tell(t *testing.T, cases []mistake) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			set, problems := manifest.Parse("f.yaml", []byte(c.text))
			if len(problems) == 0 {
				problems = manifest.Validate(set, nil)
			}
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(strings.Split(c.want, "\n"), got); diff != "" {
				t.Errorf("%s\n%s", c.text, diff)
			}
		})
	}
}

type mistake struct{ name, text, want string }

func mistakes() []mistake {
	return []mistake{
		{
			"unknown key in spec",
			svcHead + "  title: A\n  critcality: 1\n",
			`f.yaml:6:3: unknown key "critcality" (did you mean "criticality"?)`,
		},
		{
			"unknown key, nothing near",
			svcHead + "  zzzzzzzzzz: 1\n",
			`f.yaml:5:3: unknown key "zzzzzzzzzz" (known: criticality, dependsOn, health, indicators, layer, owner, supportHours, title, value, vendor)`,
		},
		{
			"unknown key in a flow mapping",
			svcHead + "  dependsOn:\n    - {ref: component/x, wieght: 2}\n",
			`f.yaml:6:26: unknown key "wieght" (did you mean "weight"?)`,
		},
		{
			"unknown key at the top",
			"apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: h}\nspecs: {}\n",
			`f.yaml:4:1: unknown key "specs" (did you mean "spec"?)`,
		},
		{
			"unknown key in metadata",
			"apiVersion: evenkeel/v1\nkind: Host\nmetadata:\n  name: h\n  lables: {a: b}\n",
			`f.yaml:5:3: unknown key "lables" (did you mean "labels"?)`,
		},
		{
			"unknown kind",
			"apiVersion: evenkeel/v1\nkind: Servce\nmetadata: {name: a}\n",
			`f.yaml:2:7: kind "Servce" is not known (did you mean "Service"?)`,
		},
		{
			"kind of a later version",
			"apiVersion: evenkeel/v1\nkind: Channel\nmetadata: {name: a}\n",
			`f.yaml:2:7: kind Channel is not read by this version (it reads Service, Component, Host, Detector, Runbook, RemediationPolicy, Calendar, SLO, Team, Vendor, Agreement, Maintenance, Change, HostTemplate, MapTest)`,
		},
		{
			"wrong version",
			"apiVersion: evenkeel/v2\nkind: Host\nmetadata: {name: h}\n",
			`f.yaml:1:13: apiVersion "evenkeel/v2" is not known (expected evenkeel/v1)`,
		},
		{
			"no version",
			"kind: Host\nmetadata: {name: h}\n",
			`f.yaml:1:1: apiVersion is missing (write apiVersion: evenkeel/v1)`,
		},
		{
			"no kind",
			"apiVersion: evenkeel/v1\nmetadata: {name: h}\n",
			`f.yaml:1:1: kind is missing`,
		},
		{
			"no name",
			"apiVersion: evenkeel/v1\nkind: Host\nmetadata: {labels: {a: b}}\n",
			`f.yaml:3:11: metadata.name is missing`,
		},
		{
			"bad name",
			"apiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: Check Out}\n",
			`f.yaml:3:18: "Check Out" is not a name: lower-case letters, digits, and between them - . _`,
		},
		{
			"text for a number",
			svcHead + "  criticality: high\n",
			`f.yaml:5:16: spec.criticality must be a whole number, not text`,
		},
		{
			"number out of range",
			svcHead + "  criticality: 5\n",
			`f.yaml:5:16: spec.criticality is 5: expected 1 to 4`,
		},
		{
			"number for text",
			svcHead + "  title: 12\n",
			`f.yaml:5:10: spec.title must be text, not a number (put it in quotes)`,
		},
		{
			"mapping for a list",
			svcHead + "  dependsOn: {ref: component/x}\n",
			`f.yaml:5:14: spec.dependsOn must be a list, not a mapping`,
		},
		{
			"list for a mapping",
			svcHead + "  value: [1, 2]\n",
			`f.yaml:5:10: spec.value must be a mapping, not a list`,
		},
		{
			"text for true or false",
			svcHead + "  dependsOn:\n    - ref: component/x\n      essential: \"yes\"\n",
			`f.yaml:7:18: spec.dependsOn[0].essential must be true or false, not text`,
		},
		{
			"bad enum",
			svcHead + "  layer: busines\n",
			`f.yaml:5:10: "busines" is not a value of spec.layer: expected business, application or infrastructure (did you mean "business"?)`,
		},
		{
			"bad level",
			svcHead + "  value: {perHour: 1, currency: EUR, loss: {mayor: 0.5}}\n",
			`f.yaml:5:45: "mayor" is not a level: expected ok, info, warning, minor, major or critical (did you mean "major"?)`,
		},
		{
			"loss falls",
			svcHead + "  value: {perHour: 1, currency: EUR, loss: {minor: 0.5, major: 0.1}}\n",
			`f.yaml:5:64: loss must rise with the level: major has 0.1, but minor has 0.5`,
		},
		{
			"bad money",
			svcHead + "  value: {perHour: 12k, currency: eur}\n",
			`f.yaml:5:20: "12k" is not a decimal number` + "\n" +
				`f.yaml:5:35: "eur" is not a currency (three capital letters, such as EUR)`,
		},
		{
			"missing required keys",
			svcHead + "  value: {calendar: calendar/x}\n",
			`f.yaml:5:10: spec.value.currency is missing` + "\n" +
				`f.yaml:5:10: spec.value.perHour is missing`,
		},
		{
			"bad propagation",
			svcHead + "  dependsOn: [{ref: component/x, propagate: incraese:1}]\n",
			`f.yaml:5:45: "incraese:1" is not a propagation: expected asIs, increase:N, decrease:N, ignore or fixed:LEVEL`,
		},
		{
			"rule without parameters",
			svcHead + "  health: {rule: quorum}\n",
			`f.yaml:5:18: rule quorum needs its parameters in spec.health.quorum`,
		},
		{
			"parameters of another rule",
			svcHead + "  health: {rule: best, quorum: {need: 1}}\n",
			`f.yaml:5:32: spec.health.quorum is for rule quorum (write rule: quorum)`,
		},
		{
			"quorum with both",
			svcHead + "  health: {rule: quorum, quorum: {need: 1, share: 50%}}\n",
			`f.yaml:5:34: spec.health.quorum takes exactly one of need and share`,
		},
		{
			"bad share",
			svcHead + "  health: {rule: threshold, threshold: {share: 150%}}\n",
			`f.yaml:5:48: "150%" is not a share: it must be above 0% and at most 100%`,
		},
		{
			"base too low",
			svcHead + "  health: {rule: exponential, exponential: {base: 1}}\n",
			`f.yaml:5:51: base 1 is not above 1`,
		},
		{
			"extra rule with both bounds",
			svcHead + "  health:\n    also:\n      - {when: count, atLeast: 1, lessThan: 2, level: major, then: critical}\n",
			`f.yaml:7:9: spec.health.also[0] takes exactly one of atLeast and lessThan`,
		},
		{
			"two targets",
			compHead + "  hosts: {names: [h]}\n  unit: a.service\n  port: 80/tcp\n",
			`f.yaml:5:3: at most one of unit, cgroup, process, port, check and interface may be set, not 2`,
		},
		{
			"two kinds of place",
			compHead + "  hosts: {names: [h]}\n  external: {vendor: vendor/x}\n",
			`f.yaml:5:3: at most one of hosts, source and external may be set, not 2`,
		},
		{
			"selector with both",
			compHead + "  hosts: {names: [h], matchLabels: {a: b}}\n",
			`f.yaml:5:10: spec.hosts takes exactly one of matchLabels and names`,
		},
		{
			"target without hosts",
			compHead + "  unit: a.service\n",
			`f.yaml:5:3: a unit, cgroup, process, port, check or interface is on hosts (say which in spec.hosts)`,
		},
		{
			"bad unit, path, port",
			compHead + "  hosts: {names: [h]}\n  process: {exe: bin/x}\n",
			`f.yaml:6:18: "bin/x" is not a program (a clean absolute path)`,
		},
		{
			"bad duration",
			compHead + "  repair: {expected: 20 minutes}\n",
			`f.yaml:5:22: "20 minutes" is not a duration: expected a number with a unit, such as 30s, 10m, 1h30m or 2d`,
		},
		{
			"bad quantity of memory",
			compHead + "  guarantee: {memory: 256 mebi}\n",
			`f.yaml:5:23: "256 mebi" is not an amount of memory: expected a number with B, KiB, MiB, GiB, kB, MB or GB`,
		},
		{
			"bad reference form",
			compHead + "  owner: payments\n",
			`f.yaml:5:10: "payments" is not a reference: expected kind/name, such as team/x`,
		},
		{
			"reference to the wrong kind",
			compHead + "  repair: {after: [service/x]}\n",
			`f.yaml:5:20: "service/x" refers to a service: expected a component`,
		},
		{
			"dangling reference",
			svcHead + "  dependsOn:\n    - ref: component/web\n---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: wbe}\n",
			`f.yaml:6:12: component/web is not there (did you mean "component/wbe"?)`,
		},
		{
			"dangling references on both sides of a marker with a comment",
			svcHead + "  dependsOn:\n    - ref: component/web\n--- # the other\napiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: b}\nspec: {owner: team/x}\n",
			`f.yaml:6:12: component/web is not there` + "\n" + `f.yaml:11:15: team/x is not there`,
		},
		{
			"duplicate key",
			svcHead + "  title: A\n  criticality: 1\n  title: B\n",
			`f.yaml:7:3: key "title" is written twice (first in line 5)`,
		},
		{
			"duplicate name",
			"apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: h}\n---\napiVersion: evenkeel/v1\nkind: Host\nmetadata:\n  name: h\n",
			`f.yaml:8:9: host/h is declared twice (first at f.yaml:3:18)`,
		},
		{
			"loop of services",
			svcHead + "  dependsOn: [{ref: service/b}]\n---\napiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: b}\nspec:\n  dependsOn:\n    - ref: service/c\n---\napiVersion: evenkeel/v1\nkind: Service\nmetadata: {name: c}\nspec: {dependsOn: [{ref: service/a}]}\n",
			`f.yaml:5:21: a loop: service/a -> service/b -> service/c -> service/a`,
		},
		{
			"loop on itself",
			svcHead + "  dependsOn: [{ref: service/a}]\n",
			`f.yaml:5:21: a loop: service/a -> service/a`,
		},
		{
			"loop of repairs",
			compHead + "  repair: {after: [component/san]}\n---\napiVersion: evenkeel/v1\nkind: Component\nmetadata: {name: san}\nspec: {repair: {after: [component/web]}}\n",
			`f.yaml:10:25: a loop: component/san -> component/web -> component/san`,
		},
		{
			"label that belongs to agents",
			"apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: h}\nspec: {labels: {agent/os: linux}}\n",
			`f.yaml:4:27: label "agent/os": names that begin with agent/ belong to what an agent says of itself`,
		},
		{
			"labels that differ",
			"apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: h, labels: {role: web}}\nspec: {labels: {role: db}}\n",
			`f.yaml:4:23: label "role" is "db" here and "web" in metadata`,
		},
		{
			"detector without a condition",
			detHead + "  signal: cpu.pressure.some\n  scope: host\n",
			`f.yaml:5:3: a detector needs act, warn or both`,
		},
		{
			"bad ticks",
			detHead + "  signal: cpu.pressure.some\n  scope: host\n  act: {above: 40%, of: 3/2}\n",
			`f.yaml:7:25: "3/2" is not a number of ticks: expected such as 2/3, in 2 of the last 3, with at most 600`,
		},
		{
			"bad percent",
			detHead + "  signal: cpu.pressure.some\n  scope: host\n  act: {above: forty%}\n",
			`f.yaml:7:16: "forty%" is not a quantity: expected a number, with or without a unit such as %, ms, s or MiB`,
		},
		{
			"neither above nor below",
			detHead + "  signal: cpu.pressure.some\n  scope: host\n  act: {of: 2/3}\n",
			`f.yaml:7:8: spec.act takes exactly one of above and below`,
		},
		{
			"leave overlaps",
			detHead + "  signal: cpu.pressure.some\n  scope: host\n  act: {above: 40%}\n  warn: {above: 25%}\n  leave: {below: 30%}\n",
			`f.yaml:9:10: leave overlaps with what it leaves: the verdict would flap`,
		},
		{
			"action without its value",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  steps:\n    - {action: process.affinity, to: 50%}\n",
			`f.yaml:6:7: spec.steps[0].cpus is missing` + "\n" +
				`f.yaml:6:38: to is not a parameter of process.affinity (it takes cpus)`,
		},
		{
			"value out of range",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  steps:\n    - {action: cpu.weight, to: 20000}\n",
			`f.yaml:6:32: 20000 is not a value of cpu.weight (a whole number from 1 to 10000)`,
		},
		{
			"memory without a size",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  steps:\n    - {action: memory.high, to: 64, verify: {signal: memory.pressure.some, of: host, below: 5%}}\n",
			`f.yaml:6:33: 64 is not a value of memory.high (whole MiB from 1MiB to 16TiB)`,
		},
		{
			"memory without a word on what shows it",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  steps:\n    - {action: memory.high, to: 64MiB}\n",
			`f.yaml:6:7: spec.steps[0].verify is missing (what memory.high does does not show in what the protected one waits for at the CPU: say what shows it)`,
		},
		{
			"a value where there is none to choose",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  steps:\n    - {action: cpu.idle, to: 1}\n",
			`f.yaml:6:30: to is not a parameter of cpu.idle (it takes none)`,
		},
		{
			"a kernel parameter without its name",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  steps:\n    - {action: sysctl, to: 4096, place: x, verify: {signal: listen.overflows, of: host, below: 1}}\n",
			`f.yaml:6:7: spec.steps[0].sysctl is missing (it says what sysctl acts on)` + "\n" +
				`f.yaml:6:41: place is not a parameter of sysctl`,
		},
		{
			"a plugin without a name",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  steps:\n    - {action: 'plugin:', to: 4096}\n",
			`f.yaml:6:16: "plugin:" is not a value of spec.steps[0].action: expected cgroup.freeze, cgroup.kill, cpu.idle, cpu.quota, cpu.weight, cpuset.cpus, ` +
				`file.relief, io.limit, memory.high, memory.limit, memory.low, nft.limit, pids.max, process.affinity, process.ionice, process.nice, process.oom, process.sched, sysctl, unit.restart, unit.stop or plugin:* (did you mean "plugin:*"?)`,
		},
		{
			"empty list",
			"apiVersion: evenkeel/v1\nkind: Runbook\nmetadata: {name: r}\nspec: {steps: []}\n",
			`f.yaml:4:15: spec.steps is empty`,
		},
		{
			"policy with a bad mode and timing",
			polHead + "  when: {detector: detector/d}\n  hosts: {names: [h]}\n  runbook: runbook/r\n  mode: automatic\n  timing: {lease: 5s, outcome: 10s, release: fast}\n",
			`f.yaml:8:9: "automatic" is not a value of spec.mode: expected observe, suggest, approve or auto` + "\n" +
				`f.yaml:9:19: the lease of 5s ends before the outcome is judged after 10s` + "\n" +
				`f.yaml:9:46: "fast" is not a release: expected such as 10%/5s, or now`,
		},
		{
			"key without a value",
			svcHead + "  owner:\n",
			`f.yaml:5:3: spec.owner has no value (give it one, or leave the key out)`,
		},
		{
			"not YAML, and the next document still read",
			svcHead + "  title: \"A\n---\napiVersion: evenkeel/v1\nkind: Host\nmetadata: {nam: h}\n",
			`f.yaml:5:10: this is not YAML: could not find end character of double-quoted text` + "\n" +
				`f.yaml:9:11: metadata.name is missing` + "\n" +
				`f.yaml:9:12: unknown key "nam" (did you mean "name"?)`,
		},
		{
			"anchor",
			svcHead + "  title: &t A\n",
			`f.yaml:5:10: anchors, aliases and merge keys are not accepted (write the value out)`,
		},
		{
			"tab",
			svcHead + "\ttitle: A\n",
			`f.yaml:5:1: this is not YAML: found character '	' that cannot start any token`,
		},
		{
			"document that is a list",
			"- a\n- b\n",
			`f.yaml:1:1: a document must be a mapping, not a list`,
		},
		{
			"renamed from one that is declared",
			"apiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: new, renamedFrom: old}\n---\napiVersion: evenkeel/v1\nkind: Host\nmetadata: {name: old}\n",
			`f.yaml:3:36: host/old is declared here too (a renamed resource leaves its former name)`,
		},
	}
}

func TestProblemsOfSeveralFilesAreSorted(t *testing.T) {
	_, problems := manifest.ParseFiles(
		manifest.File{Name: "b.yaml", Text: []byte(svcHead + "  colour: red\n  critical: 1\n")},
		manifest.File{Name: "a.yaml", Text: []byte(svcHead + "  criticality: high\n")})
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%s:%d:%d %s", p.File, p.Line, p.Column, p.Path))
	}
	want := []string{"a.yaml:3:18 metadata.name", "a.yaml:5:16 spec.criticality", "b.yaml:5:3 spec.colour", "b.yaml:6:3 spec.critical"}
	// Files are read in the order given, so that the second declaration is the one in a.yaml.
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
