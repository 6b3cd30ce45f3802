package actuator

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Systemd talks to the running systemd over its private or the system bus. The connection is made at the first call and
// anew after it broke.
type Systemd struct {
	mu   sync.Mutex
	conn *sdbus.Conn // guarded by mu
}

const busPatience = 2 * time.Second

// SystemdRuns reports whether systemd is this host's init.
func SystemdRuns() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// ControlGroup returns the path of a unit's cgroup.
func (s *Systemd) ControlGroup(ctx context.Context, unit string) (string, error) {
	v, err := s.get(ctx, unit, "ControlGroup")
	if err != nil {
		return "", err
	}
	text, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("ControlGroup of %s is no text", unit)
	}
	return text, nil
}

// Property returns a number that belongs to the unit's type.
func (s *Systemd) Property(ctx context.Context, unit, name string) (uint64, error) {
	v, err := s.get(ctx, unit, name)
	if err != nil {
		return 0, err
	}
	n, ok := v.(uint64)
	if !ok {
		return 0, fmt.Errorf("%s of %s is no number", name, unit)
	}
	return n, nil
}

// SetProperty sets a number until the next boot.
func (s *Systemd) SetProperty(ctx context.Context, unit, name string, value uint64) error {
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	return s.broken(conn.SetUnitPropertiesContext(ctx, unit, true, sdbus.Property{Name: name, Value: dbus.MakeVariant(value)}))
}

// Status returns how a unit stands.
func (s *Systemd) Status(ctx context.Context, unit string) (UnitStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return UnitStatus{}, err
	}
	p, err := conn.GetUnitPropertiesContext(ctx, unit)
	if err = s.broken(err); err != nil {
		return UnitStatus{}, err
	}
	text := func(name string) string { v, _ := p[name].(string); return v }
	is := func(name string) bool { v, _ := p[name].(bool); return v }
	id, _ := p["InvocationID"].([]byte)
	return UnitStatus{
		Load: text("LoadState"), Active: text("ActiveState"), Sub: text("SubState"), Invocation: hex.EncodeToString(id),
		CanStart: is("CanStart"), CanStop: is("CanStop"), Transient: is("Transient"),
	}, nil
}

// Job queues a job that replaces any other of the unit, and waits for its result.
func (s *Systemd) Job(ctx context.Context, verb Verb, unit string) (string, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return "", err
	}
	queue := map[Verb]func(context.Context, string, string, chan<- string) (int, error){
		Start: conn.StartUnitContext, Stop: conn.StopUnitContext, Restart: conn.RestartUnitContext,
	}[verb]
	if queue == nil {
		return "", fmt.Errorf("no job is called %q", verb)
	}
	result := make(chan string, 1) // the library must not wait for somebody who has gone
	if _, err := queue(ctx, unit, "replace", result); err != nil {
		return "", s.broken(err)
	}
	select {
	case r := <-result:
		return r, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Close ends the connection.
func (s *Systemd) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

func (s *Systemd) get(ctx context.Context, unit, name string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	ext := strings.TrimPrefix(path.Ext(unit), ".")
	if ext == "" {
		return nil, fmt.Errorf("unit %q has no type", unit)
	}
	p, err := conn.GetUnitTypePropertyContext(ctx, unit, strings.ToUpper(ext[:1])+ext[1:], name)
	if err = s.broken(err); err != nil {
		return nil, err
	}
	return p.Value.Value(), nil
}

func (s *Systemd) connect(ctx context.Context) (*sdbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	// The connection outlives the call that made it.
	conn, err := sdbus.NewWithContext(context.WithoutCancel(ctx))
	if err != nil {
		return nil, fmt.Errorf("cannot reach systemd: %w", err)
	}
	s.conn = conn
	return conn, nil
}

// broken drops the connection after an error that may be its own.
func (s *Systemd) broken(err error) error {
	if err != nil {
		s.Close()
	}
	return err
}
