package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/pkg/client"
)

// Collector is a real evenkeel-collector with its state in one folder.
type Collector struct {
	*Process
	Folder  string
	Context string // the context file of its first administrator
	Agents  string // address of the agents' port; empty for Dev
	config  string
}

// Dev starts a collector with an agent and an actor of this machine.
func Dev(t testing.TB, host string, more ...string) *Collector {
	t.Helper()
	dir := Folder(t)
	c := &Collector{Folder: dir, Context: filepath.Join(dir, "collector", "admin.json")}
	args := append([]string{"dev", "--state", dir, "--host", host, "--quiet"}, more...)
	c.Process = Start(t, Binary(t, "evenkeel-collector"), args...)
	c.ready(t)
	t.Cleanup(func() { c.Stop(t, 20*time.Second) }) // so that its agent and actor end with it
	return c
}

// NewCollector configures a collector whose agents' and operators' ports are at an address, and starts nothing.
func NewCollector(t testing.TB, address string) *Collector {
	t.Helper()
	dir := Folder(t)
	c := &Collector{Folder: dir, config: filepath.Join(dir, "collector.yaml"), Context: filepath.Join(dir, "state", "admin.json")}
	c.Agents = free(t, address)
	Write(t, c.config, fmt.Sprintf("name: collector-1\nstate: %s\nlisten: {agents: '%s', operators: '%s', http: '127.0.0.1:0'}\nstore: {interval: 1s}\n",
		filepath.Join(dir, "state"), c.Agents, free(t, address)))
	return c
}

// free returns an address with a port that nobody has now.
func free(t testing.TB, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Run starts the collector, also anew after it ended.
func (c *Collector) Run(t testing.TB) {
	t.Helper()
	c.Process = Start(t, Binary(t, "evenkeel-collector"), "run", "--config", c.config)
	c.ready(t)
}

func (c *Collector) ready(t testing.TB) {
	t.Helper()
	Until(t, 60*time.Second, "the collector is ready", func() string {
		if !c.Running() {
			t.Fatalf("the collector ended: %s", c.Output())
		}
		if _, err := os.Stat(c.Context); err != nil {
			return err.Error()
		}
		if out, errs, code := c.Evenkeel(t, "host", "list", "-o", "json"); code != 0 {
			return out + errs
		}
		return ""
	})
}

// API returns a client with the administrator's token.
func (c *Collector) API(t testing.TB) *client.Client {
	t.Helper()
	conf, err := client.Load(c.Context)
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Close() })
	return api
}

// Evenkeel runs the operator's command against this collector.
func (c *Collector) Evenkeel(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return Run(t, Binary(t, "evenkeel"), append([]string{"--context", c.Context}, args...)...)
}

// JSON runs the operator's command and reads its answer.
func (c *Collector) JSON(t testing.TB, to any, args ...string) {
	t.Helper()
	out, errs, code := c.Evenkeel(t, append(args, "-o", "json")...)
	if code != 0 {
		t.Fatalf("evenkeel %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	if err := json.Unmarshal([]byte(out), to); err != nil {
		t.Fatalf("evenkeel %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// GET asks the REST interface as the administrator, and reads its answer.
func (c *Collector) GET(t testing.TB, to any, path string) {
	t.Helper()
	conf, err := client.Load(c.Context)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, conf.REST+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+conf.Token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %s, %v", path, answer.Status, body, err)
	}
	if err := json.Unmarshal(body, to); err != nil {
		t.Fatalf("GET %s: %v\n%s", path, err, body)
	}
}

// Agent is a real evenkeel-agent in a network namespace, or on this machine where Namespace is empty.
type Agent struct {
	*Process
	Name   string
	config string
	within []string // words before the program's own
}

// Enrol has a new agent join by the three lines of the README: a join string from the collector, carried over as a file,
// enroll, and run, with a state folder of its own.
func (c *Collector) Enrol(t testing.TB, name, namespace string) *Agent {
	t.Helper()
	dir := Folder(t)
	a := &Agent{Name: name, config: filepath.Join(dir, "agent.yaml")}
	if namespace != "" {
		a.within = []string{"ip", "netns", "exec", namespace}
	}
	join, errs, code := c.Evenkeel(t, "token", "create", "--labels", "role=web")
	if code != 0 {
		t.Fatalf("token create: %s", errs)
	}
	file := filepath.Join(dir, "join")
	if err := os.WriteFile(file, []byte(join), 0o600); err != nil {
		t.Fatal(err)
	}
	Write(t, a.config, fmt.Sprintf("state: %s\nactorSocket: %s\n", filepath.Join(dir, "state"), filepath.Join(dir, "no-actor.sock")))
	argv := a.argv(t, "enroll", "--config", a.config, "--name", name, "--join-file", file)
	Must(t, argv[0], argv[1:]...)
	argv = a.argv(t, "run", "--config", a.config)
	a.Process = StartCmd(t, exec.Command(argv[0], argv[1:]...))
	return a
}

func (a *Agent) argv(t testing.TB, args ...string) []string {
	t.Helper()
	return append(append(append([]string{}, a.within...), Binary(t, "evenkeel-agent")), args...)
}
