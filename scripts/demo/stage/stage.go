// Package stage is what the demo and the figure of the loop have in common: two services of different value that are two
// real processes on this machine, open-loop requests to the valuable one, and evenkeel-collector dev with an agent and an
// actor that look after both.
//
// It sets things up and takes them down; what is shown or measured is the caller's. It owns the goroutine of the load.
package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Host is the name of this machine's agent.
const Host = "demo-host"

// Cost is the CPU time that a request takes.
const Cost = 15 * time.Millisecond

// Stage is filled in from the top: first what the caller sets, then each part as it is started.
type Stage struct {
	Bin   string // folder of the programs
	State string // folder for everything that is written
	Place *Place

	Server, Batch, Dev *Process
	Load               *Load
	API                *client.Client

	stop context.CancelFunc // ends the load
}

// Binaries returns the folder of the calling program, which must hold the others.
func Binaries() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(self)
	for _, name := range []string{"evenkeel-collector", "evenkeel-agent", "evenkeel-actor", "demo-server", "demo-batch"} {
		if !Exists(filepath.Join(dir, name)) {
			return "", fmt.Errorf("%s is not in %s: run make demo, which builds it", name, dir)
		}
	}
	return dir, nil
}

// ContextFile is what evenkeel finds the collector by.
func (s *Stage) ContextFile() string { return filepath.Join(s.State, "collector", "admin.json") }

// StartServer starts the request server in its place and the requests to it, and returns its port and how many a second.
func (s *Stage) StartServer(ctx context.Context) (port string, perSecond float64, err error) {
	p, out, err := Spawn(s.Bin, s.State, "demo-server", "--cost", Cost.String())
	if err != nil {
		return "", 0, err
	}
	s.Server = p
	if err := s.Place.Enter(p.PID(), "server"); err != nil {
		return "", 0, fmt.Errorf("cannot place the server: %w", err)
	}
	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(out).ReadString('\n')
		line <- strings.TrimSpace(s)
	}()
	select {
	case port = <-line:
		if port == "" {
			return "", 0, errors.New("the server ended before it listened")
		}
	case <-ctx.Done():
		return "", 0, errors.New("the server does not start")
	}
	perSecond = s.Place.Demand() / Cost.Seconds()
	loadCtx, stop := context.WithCancel(ctx)
	s.stop = stop
	s.Load = NewLoad(fmt.Sprintf("http://127.0.0.1:%s/work", port), perSecond)
	go s.Load.Run(loadCtx)
	return port, perSecond, nil
}

// StartWorker starts the batch worker in its place, without a job. It ends by itself after the time given.
func (s *Stage) StartWorker(length time.Duration) error {
	p, _, err := Spawn(s.Bin, s.State, "demo-batch", "--wait", "--for", length.String())
	if err != nil {
		return err
	}
	s.Batch = p
	if err := s.Place.Enter(p.PID(), "batch"); err != nil {
		return fmt.Errorf("cannot place the batch worker: %w", err)
	}
	return nil
}

// StartJob gives the batch worker its job.
func (s *Stage) StartJob() error {
	if err := s.Batch.Signal(syscall.SIGUSR1); err != nil {
		return fmt.Errorf("the batch worker takes no job: %w", err)
	}
	return nil
}

// EndJob takes the job away.
func (s *Stage) EndJob() error {
	if err := s.Batch.Signal(syscall.SIGUSR2); err != nil {
		return fmt.Errorf("the batch job does not end: %w", err)
	}
	return nil
}

// StartDev starts the collector with its agent and actor, with what WriteFiles wrote, and waits for the host's first samples.
func (s *Stage) StartDev(ctx context.Context) (*operatorv1.Host, error) {
	p, _, err := Spawn(s.Bin, s.State, "evenkeel-collector", "dev", "--state", s.State, "--host", Host, "--actor",
		"--permissions", filepath.Join(s.State, permissionsFile), "--map", filepath.Join(s.State, "map"), "--quiet")
	if err != nil {
		return nil, err
	}
	s.Dev = p
	for {
		if s.API == nil {
			if conf, err := client.Load(s.ContextFile()); err == nil {
				if s.API, err = client.New(conf); err != nil {
					return nil, err
				}
			}
		}
		if s.API != nil {
			h, err := s.API.Hosts.GetHost(ctx, &operatorv1.GetHostRequest{Name: Host})
			if err == nil && h.Reach == "connected" && h.Series > 0 && h.Actor.GetPresent() {
				return h, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("collector, agent and actor did not come up; see " + filepath.Join(s.State, "log"))
		case err := <-p.Ended:
			return nil, fmt.Errorf("evenkeel-collector dev ended early: %w; see %s", err, filepath.Join(s.State, "log"))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Stop ends what was started, last first.
func (s *Stage) Stop() error {
	if s.stop != nil {
		s.stop()
	}
	err := errors.Join(s.Batch.Terminate(5*time.Second), s.Dev.Terminate(15*time.Second), s.Server.Terminate(5*time.Second))
	if s.API != nil {
		s.API.Close()
	}
	if s.Place != nil {
		s.Place.Remove()
	}
	return err
}
