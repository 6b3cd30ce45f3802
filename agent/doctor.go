package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/metric"
	"github.com/evenkeel/evenkeel/pkg/strict"
)

// Finding is one thing that the doctor looked at.
type Finding struct {
	Name   string `json:"name"`
	Level  string `json:"level"` // "ok", "warn" or "fail"
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what mends it
}

// Doctor looks at everything that an agent needs, changes nothing but a file that it removes again, and is done within
// some ten seconds.
func Doctor(ctx context.Context, cfg Config) []Finding {
	d := &doctor{}
	d.folder(cfg)
	id := d.enrolment(cfg)
	if id != nil {
		d.certificate(id)
		d.reach(ctx, id)
	}
	d.spool(cfg)
	d.probes(cfg)
	d.actor(ctx, cfg)
	d.running(cfg)
	return d.found
}

type doctor struct{ found []Finding }

func (d *doctor) add(name, level, do, detail string, args ...any) {
	d.found = append(d.found, Finding{Name: name, Level: level, Detail: fmt.Sprintf(detail, args...), Do: do})
}

// folder checks who can read the key and the spool.
func (d *doctor) folder(cfg Config) {
	const name = "state folder"
	fi, err := os.Stat(cfg.State)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.add(name, "fail", "run evenkeel-agent enroll, which makes it", "%s does not exist", cfg.State)
		return
	case err != nil:
		d.add(name, "fail", "run this as the agent's user or as root", "%v", err)
		return
	case !fi.IsDir():
		d.add(name, "fail", "name another folder as state", "%s is not a folder", cfg.State)
		return
	}
	if fi.Mode().Perm()&0o077 != 0 {
		d.add(name, "warn", "chmod 700 "+cfg.State, "%s is open to other users (%v)", cfg.State, fi.Mode().Perm())
		return
	}
	for _, path := range []string{cfg.keyFile(), cfg.certFile(), cfg.enrolmentFile()} {
		if fi, err := os.Stat(path); err == nil && fi.Mode().Perm()&0o077 != 0 {
			d.add(name, "fail", "chmod 600 "+path, "%s is open to other users (%v)", path, fi.Mode().Perm())
			return
		}
	}
	d.add(name, "ok", "", "%s, closed to other users", cfg.State)
}

func (d *doctor) enrolment(cfg Config) *Identity {
	id, err := LoadIdentity(cfg, time.Now)
	switch {
	case errors.Is(err, ErrNotEnrolled):
		d.add("enrolment", "fail", "run evenkeel-agent enroll --join-file FILE", "this host is not enrolled")
		return nil
	case err != nil:
		d.add("enrolment", "fail", "", "%v", err)
		return nil
	}
	d.add("enrolment", "ok", "", "%s in cluster %s", id.Host, id.Cluster)
	return id
}

func (d *doctor) certificate(id *Identity) {
	const name = "certificate and clock"
	leaf, now := id.Leaf(), time.Now()
	left := leaf.NotAfter.Sub(now)
	switch {
	case now.Before(leaf.NotBefore):
		d.add(name, "fail", "timedatectl set-ntp true", "%v", identity.ClockError(leaf, now))
	case left < -identity.RenewGrace:
		d.add(name, "fail", "run evenkeel-agent enroll --join-file FILE", "the certificate ended %v ago, too long to be renewed", -left.Round(time.Hour))
	case left < 0:
		d.add(name, "warn", "start the agent, it renews by itself; if it runs already, look at reachability", "the certificate ended %v ago", -left.Round(time.Minute))
	case left < leaf.NotAfter.Sub(leaf.NotBefore)/4:
		d.add(name, "warn", "start the agent, it renews by itself; if it runs already, look at reachability", "the certificate ends in %v and should have been renewed", left.Round(time.Minute))
	default:
		d.add(name, "ok", "", "valid for another %v", left.Round(time.Minute))
	}
}

// reach connects as the link does, up to the end of the handshake.
func (d *doctor) reach(ctx context.Context, id *Identity) {
	const name = "collector"
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	began := time.Now()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", id.Address())
	if err != nil {
		d.add(name, "fail", "check the address, the collector, and what filters the way to it", "cannot connect to %s: %v", id.Address(), err)
		return
	}
	defer func() { _ = c.Close() }()
	cfg := id.TLS()
	cfg.NextProtos = []string{"h2"}
	t := tls.Client(c, cfg)
	err = t.HandshakeContext(ctx)
	if err == nil {
		// With TLS 1.3 a refusal of our certificate comes after our own end of the handshake.
		_ = t.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err = t.Read(make([]byte, 1))
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			err = nil
		}
	}
	if err != nil {
		d.add(name, "fail", "", "%s: %v", id.Address(), identity.ExplainHandshake(err))
		return
	}
	d.add(name, "ok", "", "%s answered in %v", id.Address(), time.Since(began).Round(time.Millisecond))
}

func (d *doctor) spool(cfg Config) {
	const name = "spool"
	dir := cfg.spoolDir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		dir = cfg.State
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		d.add(name, "fail", "run this as the agent's user, and see that the folder belongs to it", "cannot write in %s: %v", dir, err)
		return
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		d.add(name, "warn", "", "cannot see the free space of %s: %v", dir, err)
		return
	}
	free := strict.Bytes(fs.Bavail * uint64(fs.Bsize))
	if free < cfg.Spool.MaxBytes {
		d.add(name, "warn", "make room, or set spool.maxBytes lower", "%s has %d MiB free and the spool may take %v", dir, free>>20, cfg.Spool.MaxBytes)
		return
	}
	d.add(name, "ok", "", "%s can be written, %d MiB free", dir, free>>20)
}

func (d *doctor) probes(cfg Config) {
	set, err := probe.New(probe.Config{MaxUnits: cfg.Units.Max})
	if err != nil {
		d.add("probes", "fail", "", "%v", err)
		return
	}
	defer set.Close()
	var t metric.Table
	good, bad := 0, 0
	for _, p := range cfg.enabled(set) {
		if err := p.Read(&t, time.Now()); err != nil {
			bad++
			d.add("probe "+p.Name(), "warn", "give the agent's user the right to read it, or name it in probes.disable", "%v", err)
		} else {
			good++
		}
	}
	for _, line := range set.Absent() {
		d.add("probes", "warn", "nothing, if this kernel does not have it", "%s", line)
	}
	if bad == 0 {
		d.add("probes", "ok", "", "%d probes read %d series", good, t.Count())
	}
}

func (d *doctor) actor(ctx context.Context, cfg Config) {
	const name = "actor"
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", cfg.ActorSocket)
	switch {
	case err == nil:
		_ = c.Close()
		d.add(name, "ok", "", "listening at %s", cfg.ActorSocket)
	case errors.Is(err, fs.ErrNotExist):
		d.add(name, "ok", "", "none is installed: this host is measured and cannot be acted on")
	case errors.Is(err, fs.ErrPermission):
		d.add(name, "warn", "name the agent's user in the actor's configuration", "%s is closed to this user", cfg.ActorSocket)
	default:
		d.add(name, "warn", "start evenkeel-actor, or remove it", "%s is there and nobody answers: %v", cfg.ActorSocket, err)
	}
}

func (d *doctor) running(cfg Config) {
	const name = "agent"
	st, live, err := ReadStatus(cfg)
	switch {
	case err != nil || !live:
		d.add(name, "warn", "start it: systemctl start evenkeel-agent", "not running")
	case !st.Session.Connected:
		d.add(name, "warn", "see the line on the collector", "running, no session with the collector since %v: %s", st.Session.Since.Format(time.RFC3339), st.Session.Error)
	case st.Session.ClockSkew.Abs() > time.Minute:
		d.add(name, "warn", "timedatectl set-ntp true", "this host's clock and the collector's differ by %v", st.Session.ClockSkew.Abs().Round(time.Second))
	default:
		d.add(name, "ok", "", "running since %v, %d series, in session", st.Started.Format(time.RFC3339), st.Series)
	}
}
