package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent/actorlink"
	"github.com/evenkeel/evenkeel/agent/check"
	"github.com/evenkeel/evenkeel/agent/link"
)

// Status is what an agent says of itself on its socket, and leaves in last-status.json.
type Status struct {
	Version    string           `json:"version"`
	Host       string           `json:"host"`
	Cluster    string           `json:"cluster"`
	PID        int              `json:"pid"`
	Started    time.Time        `json:"started"`
	At         time.Time        `json:"at"` // when this was true
	Stopped    bool             `json:"stopped"`
	Series     int              `json:"series"`
	Ticks      uint64           `json:"ticks"`
	Skipped    uint64           `json:"skippedTicks"`
	LastTick   time.Time        `json:"lastTick"`
	Session    link.Status      `json:"session"`
	Actor      actorlink.Status `json:"actor"`
	Spool      SpoolStatus      `json:"spool"`
	Probes     []ProbeStatus    `json:"probes"`
	Absent     []string         `json:"absent,omitempty"` // probes that this host cannot have, and why
	Checks     []check.Last     `json:"checks,omitempty"`
	Components []link.Place     `json:"components,omitempty"`
}

// SpoolStatus is the state of the spool.
type SpoolStatus struct {
	Bytes        uint64 `json:"bytes"` // on disk
	UnackedBytes uint64 `json:"unackedBytes"`
	Unacked      uint64 `json:"unacked"` // batches
	MaxBytes     uint64 `json:"maxBytes"`
	Dropped      uint64 `json:"dropped"`    // batches, for want of space, since the start
	BadRecords   uint64 `json:"badRecords"` // found at the start
	LastSeq      uint64 `json:"lastSeq"`
	Error        string `json:"error,omitempty"`
}

// ProbeStatus is the state of one probe.
type ProbeStatus struct {
	Name     string  `json:"name"`
	Runs     uint64  `json:"runs"`
	Failures uint64  `json:"failures,omitempty"`
	Mean     float64 `json:"meanSeconds"`
	Longest  float64 `json:"longestSeconds"`
	Error    string  `json:"error,omitempty"`
}

// maxSocketPath is the kernel's bound on a unix socket's path.
const maxSocketPath = 107

// listenStatus opens the status socket; only the agent's own user can connect.
func listenStatus(path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("cannot open the status socket: %s has %d characters and the kernel allows %d: use a state folder with a shorter path", path, len(path), maxSocketPath)
	}
	// The lock on the state folder is ours: a socket that is there was left behind.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot open the status socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot open the status socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the status socket: %w", err), l.Close())
	}
	return l, nil
}

// serveStatus answers each connection with one status until ctx ends. Callers of another uid are closed at once.
func serveStatus(ctx context.Context, l *net.UnixListener, status func() Status) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var busy sync.WaitGroup
	defer busy.Wait()
	slots := make(chan struct{}, 4) // callers at once; a further one waits in the kernel's queue
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot accept on the status socket: %w", err)
		}
		slots <- struct{}{}
		busy.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = c.Close() }()
			if !sameUser(c) {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_ = json.NewEncoder(c).Encode(status())
		})
	}
}

// sameUser reports whether the peer is root or has the uid of this process.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	allowed := false
	err = raw.Control(func(fd uintptr) {
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		allowed = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return err == nil && allowed
}

// ReadStatus asks a running agent; when there is none it returns the last status that one left, and live is false. The
// error says what to do when there is neither.
func ReadStatus(cfg Config) (st Status, live bool, err error) {
	c, dialErr := net.DialTimeout("unix", cfg.socketFile(), 2*time.Second)
	if dialErr == nil {
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if err := json.NewDecoder(io.LimitReader(c, 4<<20)).Decode(&st); err != nil {
			if errors.Is(err, io.EOF) {
				return st, false, fmt.Errorf("the agent closed the connection: its socket answers only its own user and root")
			}
			return st, false, fmt.Errorf("cannot read the agent's answer: %w", err)
		}
		return st, true, nil
	}
	if errors.Is(dialErr, fs.ErrPermission) {
		return st, false, fmt.Errorf("the status socket %s is closed to this user: run this as the agent's user or as root", cfg.socketFile())
	}
	data, err := os.ReadFile(cfg.lastStatus())
	if err != nil {
		return st, false, fmt.Errorf("no agent is running with the state folder %s, and none has left a status there: start it, or give --config", cfg.State)
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, false, fmt.Errorf("cannot read %s: %w", cfg.lastStatus(), err)
	}
	return st, false, nil
}
