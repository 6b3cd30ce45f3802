package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/collector"
	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// dev is a collector with an agent, and where asked an actor, for the machine that it runs on. They are the real programs,
// started beside it from the same folder and enrolled through the API like any other host.
type dev struct {
	state       string
	host        string
	maps        []string
	actor       bool
	permissions string
	listen      bool
	quiet       bool
	out, errs   io.Writer
	children    []*child // in the order of starting
}

func devCommand(errs io.Writer) *cobra.Command {
	d := &dev{errs: errs}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "One collector with an agent for this machine, in a folder of its own",
		Long: `One collector with an agent for this machine, in a folder of its own: nothing to install, nothing to configure, no root.

With --actor, an actor runs too, under the permissions file given; without, this machine cannot be acted on.
Everything is kept in the folder, so a second start goes on where the first one ended.`,
		Example: `  evenkeel-collector dev
  evenkeel-collector dev --state /tmp/keel --map map/ --actor --permissions permissions.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&d.state, "state", ".state/dev", "folder for everything")
	cmd.Flags().StringVar(&d.host, "host", "", "name of this machine's agent (default: the host's name)")
	cmd.Flags().StringSliceVar(&d.maps, "map", nil, "manifests to apply: files or folders (default: a small sample map)")
	cmd.Flags().BoolVar(&d.actor, "actor", false, "run an actor too")
	cmd.Flags().StringVar(&d.permissions, "permissions", "", "what the actor may do; signingRoot may be FROM-ENROLMENT (default: nothing)")
	cmd.Flags().BoolVar(&d.listen, "default-ports", false, "listen on 8420, 8421 and 8425 instead of free ports")
	cmd.Flags().BoolVar(&d.quiet, "quiet", false, "say nothing on standard output")
	return cmd
}

const startTime = 60 * time.Second

func (d *dev) run(ctx context.Context) (err error) {
	// Children die with the thread that started them, so that one must live as long as this does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if d.state, err = filepath.Abs(d.state); err != nil {
		return err
	}
	if d.permissions != "" && !d.actor {
		return badInput{errors.New("--permissions is for an actor: give --actor too")}
	}
	cfg := collector.Default()
	cfg.State, cfg.LogLevel = filepath.Join(d.state, "collector"), "warn"
	if d.host != "" {
		cfg.Name = d.host
	}
	d.host = cfg.Name
	if !d.listen {
		cfg.Listen = collector.Listen{HTTP: "127.0.0.1:0", Agents: "127.0.0.1:0", Operators: "127.0.0.1:0"}
	}
	cfg.Store.Interval = time.Second
	c, err := collector.New(cfg, logger(d.errs, cfg.LogLevel))
	if err != nil {
		return badInput{err}
	}
	if err := os.MkdirAll(filepath.Join(d.state, "log"), 0o700); err != nil {
		return err
	}

	// The children are stopped before the collector, so that their last words reach it.
	collecting, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(collecting) }()
	defer func() {
		for i := len(d.children) - 1; i >= 0; i-- {
			err = errors.Join(err, d.children[i].stop())
		}
		stop()
		if ended != nil {
			err = errors.Join(err, <-ended)
		}
	}()
	select {
	case <-c.Ready():
	case err := <-ended:
		ended = nil
		return err
	case <-ctx.Done():
		return nil
	}
	if err := d.furnish(ctx, c); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if !d.quiet {
		fmt.Fprintf(d.out, `collector, agent%s for %s are running; everything is in %s

  export EVENKEEL_CONTEXT=%s
  evenkeel host list
  evenkeel map

Press Ctrl-C to end.
`, map[bool]string{true: " and actor"}[d.actor], d.host, d.state, c.AdminFile())
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		ended = nil
		return err
	}
}

// furnish enrols this machine, starts agent and actor, and applies the map.
func (d *dev) furnish(ctx context.Context, c *collector.Collector) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	conf, err := client.Load(c.AdminFile())
	if err != nil {
		return err
	}
	api, err := client.New(conf)
	if err != nil {
		return err
	}
	defer api.Close()
	if err := d.startAgent(ctx, api, c); err != nil {
		return err
	}
	return d.apply(ctx, api)
}

func (d *dev) startAgent(ctx context.Context, api *client.Client, c *collector.Collector) error {
	agentState, actorState := filepath.Join(d.state, "agent"), filepath.Join(d.state, "actor")
	agentConfig := filepath.Join(d.state, "agent.yaml")
	text := fmt.Sprintf("state: %s\nactorSocket: %s\ncollector: %s\n", agentState, filepath.Join(actorState, "actor.sock"), c.AgentsAddress())
	if err := os.WriteFile(agentConfig, []byte(text), 0o600); err != nil {
		return err
	}
	token, err := api.Access.CreateToken(ctx, &operatorv1.CreateTokenRequest{Ttl: "5m", Uses: 1, Admit: true, Replace: true})
	if err != nil {
		return err
	}
	// The join string goes in by standard input: it is a secret, and a command line is not.
	enrol := exec.CommandContext(ctx, beside("evenkeel-agent"), "enroll", "--config", agentConfig, "--name", d.host, "--join-file", "-")
	enrol.Stdin = strings.NewReader(token.Join)
	if out, err := enrol.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot enrol this machine: %w: %s", err, bytes.TrimSpace(out))
	}
	if d.actor {
		if err := d.startActor(ctx, c.SigningRoot(), actorState); err != nil {
			return err
		}
	}
	return d.start("evenkeel-agent", "run", "--config", agentConfig)
}

func (d *dev) startActor(_ context.Context, signingRoot, actorState string) error {
	permissions := filepath.Join(d.state, "permissions.yaml")
	text := "version: 1\nsigningRoot: FROM-ENROLMENT\napprovers: []\nmaxRisk: R2\nactions: []\n"
	if d.permissions != "" {
		b, err := os.ReadFile(d.permissions)
		if err != nil {
			return badInput{fmt.Errorf("cannot read permissions: %w", err)}
		}
		text = string(b)
	}
	text = strings.ReplaceAll(text, "FROM-ENROLMENT", signingRoot)
	if err := os.WriteFile(permissions, []byte(text), 0o600); err != nil {
		return err
	}
	actorConfig := filepath.Join(d.state, "actor.yaml")
	text = fmt.Sprintf("host: %s\nstate: %s\npermissions: %s\nsocket: %s\n", d.host, actorState, permissions, filepath.Join(actorState, "actor.sock"))
	if err := os.WriteFile(actorConfig, []byte(text), 0o600); err != nil {
		return err
	}
	return d.start("evenkeel-actor", "run", "--config", actorConfig)
}

// apply applies the manifests given, or a sample map with this machine on it.
func (d *dev) apply(ctx context.Context, api *client.Client) error {
	var files []*operatorv1.File
	if len(d.maps) == 0 {
		files = []*operatorv1.File{{Name: "sample.yaml", Text: strings.ReplaceAll(sampleMap, "HOST", d.host)}}
	}
	for _, path := range d.maps {
		err := filepath.WalkDir(path, func(p string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(p) != ".yaml" {
				return err
			}
			b, err := os.ReadFile(p)
			files = append(files, &operatorv1.File{Name: p, Text: string(b)})
			return err
		})
		if err != nil {
			return badInput{fmt.Errorf("cannot read the map: %w", err)}
		}
	}
	r, err := api.Resources.Apply(ctx, &operatorv1.ApplyRequest{Files: files})
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		var all []error
		for _, p := range r.Problems {
			all = append(all, fmt.Errorf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text))
		}
		return badInput{errors.Join(all...)}
	}
	return nil
}

const sampleMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: this-machine}
spec:
  title: What runs on HOST
  criticality: 3
  dependsOn: [{ref: component/machine}]
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: machine}
spec:
  title: HOST itself
  hosts: {names: [HOST]}
`

// child is a program that dev started.
type child struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
	pid   string // file with its process id, for people and tests
}

func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

func (d *dev) start(name string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(d.state, "log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(beside(name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, ended: make(chan struct{}), pid: filepath.Join(d.state, strings.TrimPrefix(name, "evenkeel-")+".pid")}
	go func() {
		err := cmd.Wait()
		fmt.Fprintf(d.errs, "evenkeel-collector: %s ended: %v\n", name, err)
		close(c.ended)
	}()
	d.children = append(d.children, c)
	return os.WriteFile(c.pid, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

func (c *child) stop() error {
	defer os.Remove(c.pid)
	select {
	case <-c.ended:
		return nil
	default:
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("%s did not end within 10 s and was killed", c.name)
	}
}
