// Package evenkeel_test holds the rules that no single package can check: who may import whom.
package evenkeel_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/evenkeel/evenkeel/"

type pkg struct {
	ImportPath string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,GoFiles,Imports,Deps", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages listed", len(all))
	}
	return all
}

func under(path string, roots ...string) bool {
	for _, r := range roots {
		if path == r || strings.HasPrefix(path, r+"/") {
			return true
		}
	}
	return false
}

// edges are the rooms that talk to the outside; none of them imports another (rule 3).
var edges = []string{
	"agent/probe", "agent/check", "agent/schedule", "agent/spool", "agent/link", "agent/actor", "agent/actorlink",
	"collector/session", "collector/ingest", "collector/store", "collector/remedy", "collector/api", "collector/state", "collector/poll",
}

// allowed lists the few arrows between edges that the design draws itself.
var allowed = map[string][]string{
	"agent/probe":       {"agent/schedule"}, // readings come in through the schedule's hand-over
	"agent/check":       {"agent/schedule"},
	"collector/ingest":  {"collector/store"},
	"collector/session": {"collector/ingest"},
	"collector/remedy":  {"collector/state"}, // the ledger
	"collector/api":     {"collector/state"},
}

func TestImportRules(t *testing.T) {
	for path, p := range packages(t) {
		for _, imp := range p.Imports {
			in := strings.TrimPrefix(imp, module)
			ours := in != imp
			switch {
			case under(path, "pkg") && under(in, "agent", "collector") && ours:
				t.Errorf("rule 1: %s imports %s", path, in)
			case under(path, "agent") && ours && under(in, "collector"), under(path, "collector") && ours && under(in, "agent"):
				t.Errorf("rule 1: %s imports %s", path, in)
			}
			if ours {
				for _, e := range edges {
					if !under(path, e) || under(path, "agent/actor") && under(in, "agent/actor") {
						continue
					}
					for _, o := range edges {
						if o != e && under(in, o) && !under(in, allowed[e]...) {
							t.Errorf("rule 3: edge %s imports edge %s", path, in)
						}
					}
				}
			}
			if strings.HasPrefix(imp, "github.com/prometheus/prometheus") && !under(path, "collector/store", "scripts") {
				t.Errorf("rule 5: %s imports %s", path, imp)
			}
			if strings.HasPrefix(imp, "go.etcd.io/") && !under(path, "collector/state", "scripts") {
				t.Errorf("rule 5: %s imports %s", path, imp)
			}
		}
	}
}

// pure are the packages that work on what they are handed.
var pure = []string{
	"collector/agreement",
	"collector/cause",
	"collector/change",
	"collector/contact",
	"collector/cost",
	"collector/coverage",
	"collector/effectiveness",
	"collector/explain",
	"collector/governor",
	"collector/incident",
	"collector/maptest",
	"collector/outside",
	"collector/overload",
	"collector/picture",
	"collector/portfolio",
	"collector/reason",
	"collector/recovery",
	"collector/report",
	"collector/servicemap",
	"collector/shed",
	"collector/simulate",
	"collector/slo",
	"collector/starter",
	"collector/table",
	"collector/warning",
	"collector/whatif",
	"pkg/calendar",
	"pkg/chain",
	"pkg/civil",
	"pkg/document",
	"pkg/health",
	"pkg/importer",
	"pkg/manifest",
	"pkg/metric",
	"pkg/recur",
}

func TestPureReasoning(t *testing.T) {
	all := packages(t)
	for path, p := range all {
		if !under(path, pure...) {
			continue
		}
		for _, dep := range p.Deps {
			for _, banned := range []string{"google.golang.org/grpc", "go.etcd.io/", "github.com/hashicorp/memberlist", "github.com/prometheus/prometheus", module + "proto/"} {
				if strings.HasPrefix(dep, banned) {
					t.Errorf("rule 2: %s reaches %s", path, dep)
				}
			}
		}
	}
}

// An agent measures and cannot act: nothing that writes to a kernel knob, and none of the collector's engines, is in it.
func TestAgentCannotAct(t *testing.T) {
	all := packages(t)
	agent, ok := all["agent/cmd/evenkeel-agent"]
	if !ok {
		t.Fatal("no agent/cmd/evenkeel-agent")
	}
	for _, dep := range agent.Deps {
		for _, banned := range []string{module + "agent/actuator", module + "agent/traffic", module + "agent/plugin", module + "collector", "go.etcd.io/", "github.com/prometheus/prometheus", "github.com/hashicorp/memberlist"} {
			if strings.HasPrefix(dep, banned) {
				t.Errorf("the agent reaches %s", dep)
			}
		}
		if dep == module+"agent/actor" {
			t.Errorf("the agent reaches %s", dep)
		}
	}
	for _, dep := range all["agent/cmd/evenkeel-actor"].Deps {
		for _, banned := range []string{module + "collector", "go.etcd.io/", "github.com/prometheus/prometheus", module + "agent/link", module + "agent/probe"} {
			if strings.HasPrefix(dep, banned) {
				t.Errorf("the actor reaches %s", dep)
			}
		}
	}
}

// Generated code is seen by wire.go files and by the service file of an edge (rule 4).
func TestGeneratedCodeStaysAtTheEdge(t *testing.T) {
	all := packages(t)
	may := []string{
		"proto", "pkg/command", "pkg/client", "pkg/ctl", "agent/link", "agent/actorlink", "agent/actor", "collector/session", "collector/api",
		"agent/cmd/evenkeel-agent", "collector/cmd", "scripts", "e2e",
	}
	for path, p := range all {
		if under(path, may...) {
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, module+"proto/") {
				t.Errorf("rule 4: %s imports %s", path, strings.TrimPrefix(imp, module))
			}
		}
	}
}
