// Package nginx sets the weight of a server in an upstream block: the one number in the file is changed, nginx itself
// tests the whole configuration, nginx is reloaded, and the weight counts as set when every worker is younger than the
// file.
//
// The open nginx has no other way to change a weight. The only program that is ever run is the nginx named in the
// actor's settings, with arguments that no command has a part in, no shell and no environment. A file that fails the
// test is put back as it was before anybody reloads. What is written and not in effect is told apart from what is: a
// command is refused while somebody's edit waits for a reload. The package owns no goroutine.
package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Config says which nginx this is.
type Config struct {
	Program string // default /usr/sbin/nginx
	Config  string // main file; default /etc/nginx/nginx.conf
	PIDFile string // default /run/nginx.pid
}

// Defaults as Debian's package has them.
const (
	DefaultProgram = "/usr/sbin/nginx"
	DefaultConfig  = "/etc/nginx/nginx.conf"
	DefaultPIDFile = "/run/nginx.pid"
)

const (
	testPatience   = 5 * time.Second
	reloadPatience = 5 * time.Second
	look           = 20 * time.Millisecond
)

// daemon is the running nginx, apart from its files.
type daemon interface {
	// test has nginx read its whole configuration; the error has nginx's own words.
	test(ctx context.Context) error
	// workers returns the workers that take connections, by process id, and when each was started. running is false where
	// no nginx runs.
	workers() (started map[int]time.Time, running bool, err error)
	// reload asks the running nginx to read its configuration again.
	reload() error
}

type weights struct {
	nginx daemon
	able  func() error
}

// Weights is nginx.weights: the weight of one server in one upstream block of one file.
func Weights(cfg Config) traffic.Actuator {
	if cfg.Program == "" {
		cfg.Program = DefaultProgram
	}
	if cfg.Config == "" {
		cfg.Config = DefaultConfig
	}
	if cfg.PIDFile == "" {
		cfg.PIDFile = DefaultPIDFile
	}
	p := process{cfg}
	return traffic.Actuator{Knob: weights{p, p.able}}
}

func (w weights) Able() error { return w.able() }

func (weights) Name(t command.Target) string { return t.String() }

func (w weights) Permit(_ context.Context, t command.Target, _ traffic.Reading) error {
	if _, running, err := w.nginx.workers(); err != nil {
		return err
	} else if !running {
		return command.Refuse(command.ReasonNoTarget, "nginx does not run")
	}
	return writable(t.Nginx.File)
}

func (w weights) Read(_ context.Context, t command.Target) (traffic.Reading, error) {
	n := t.Nginx
	b, at, err := readFile(n.File)
	if errors.Is(err, fs.ErrNotExist) {
		return traffic.Reading{}, fmt.Errorf("%w: there is no file %s", traffic.ErrGone, n.File)
	} else if err != nil {
		return traffic.Reading{}, err
	}
	p, err := find(b, n.Upstream, n.Server)
	if err != nil {
		return traffic.Reading{}, fmt.Errorf("%s: %w", n.File, err)
	}
	started, running, err := w.nginx.workers()
	if err != nil {
		return traffic.Reading{}, err
	}
	r := traffic.Reading{Native: p.native(), Value: p.weight}
	if running {
		r.Behind = len(started) == 0
		for _, from := range started {
			r.Behind = r.Behind || from.Add(grain).Before(at)
		}
	}
	return r, nil
}

// grain is how far the kernel's word on when a process was started may be off.
const grain = 50 * time.Millisecond

func (weights) Native(value int64, _ string) (string, error) {
	return fmt.Sprintf("%s%d", prefix, value), nil
}

func (w weights) Set(ctx context.Context, t command.Target, native string) error {
	n := t.Nginx
	was, at, err := readFile(n.File)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no file %s", traffic.ErrGone, n.File)
	} else if err != nil {
		return err
	}
	now, err := edit(was, n.Upstream, n.Server, native)
	if err != nil {
		return fmt.Errorf("%s: %w", n.File, err)
	}
	if string(now) != string(was) {
		if err := writeFile(n.File, now); err != nil {
			return err
		}
	}
	if err := w.nginx.test(ctx); err != nil {
		if string(now) != string(was) {
			// With its time: it is in effect, and must not look as if it waited for a reload.
			if e := errors.Join(writeFile(n.File, was), os.Chtimes(n.File, at, at)); e != nil {
				return fmt.Errorf("%w; and %s cannot be put back: %w", err, filepath.Base(n.File), e)
			}
		}
		return command.Refuse(command.ReasonNoEffect, "nginx refuses its configuration: %v", err)
	}
	return w.renew(ctx)
}

// renew reloads and waits until none of the workers from before takes connections.
func (w weights) renew(ctx context.Context) error {
	before, running, err := w.nginx.workers()
	if err != nil || !running {
		return err // what does not run reads the file when it is started
	}
	if err := w.nginx.reload(); err != nil {
		return fmt.Errorf("cannot reload nginx: %w", err)
	}
	called := ctx
	ctx, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	every := time.NewTicker(look)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			if called.Err() != nil {
				return called.Err()
			}
			return command.Refuse(command.ReasonNoEffect, "nginx has not changed its workers within %s: see its error log", reloadPatience)
		case <-every.C:
		}
		now, running, err := w.nginx.workers()
		if err != nil || !running {
			return err
		}
		old := len(now) == 0
		for pid := range now {
			_, same := before[pid]
			old = old || same
		}
		if !old {
			return nil
		}
	}
}
