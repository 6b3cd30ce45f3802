// Package haproxy turns the settings of servers behind a HAProxy's runtime socket: weight, drain, maint and maxconn.
//
// HAProxy answers a mistake with text and closes as if all were well, so nothing counts that was not read back. It
// forgets what was set at runtime when it is reloaded: the epoch of every reading is the worker's process. It refuses a
// socket that may not change things (level below admin). The package keeps no connection and owns no goroutine.
package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent/traffic"
)

const (
	patience  = time.Second // for one answer: the kill file waits behind it
	maxAnswer = 4 << 20     // bytes: a backend of ten thousand servers
)

// ask sends one line and returns the whole answer.
func ask(ctx context.Context, socket, line string) (string, error) {
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return "", fmt.Errorf("%w: no HAProxy listens on %s", traffic.ErrGone, socket)
	} else if err != nil {
		return "", fmt.Errorf("cannot reach HAProxy: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", fmt.Errorf("cannot ask HAProxy on %s: %w", socket, err)
	}
	b, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return "", fmt.Errorf("cannot hear HAProxy on %s: %w", socket, err)
	}
	if len(b) > maxAnswer {
		return "", fmt.Errorf("HAProxy on %s answers more than %d bytes", socket, maxAnswer)
	}
	return string(b), nil
}

// server is one line of `show servers state`.
type server struct {
	admin           uint64 // bits of srv_admin_state
	weight, initial int64
}

// Bits of srv_admin_state: what was set at runtime, and what comes from elsewhere.
const (
	forcedMaint    = 0x01
	inheritedMaint = 0x02
	configMaint    = 0x04
	forcedDrain    = 0x08
	inheritedDrain = 0x10
)

// parseServer finds a server in the answer to `show servers state BACKEND`. The columns are named in a comment, and are
// found by name: later versions add some.
func parseServer(answer, backend, name string) (server, error) {
	var columns []string
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# "); ok && columns == nil {
			columns = strings.Fields(rest)
			continue
		}
		f := strings.Fields(line)
		if columns == nil || len(f) < len(columns) {
			continue
		}
		at := func(column string) string {
			for i, c := range columns {
				if c == column {
					return f[i]
				}
			}
			return ""
		}
		if at("be_name") != backend || at("srv_name") != name {
			continue
		}
		var s server
		var err error
		if s.admin, err = strconv.ParseUint(at("srv_admin_state"), 10, 32); err != nil {
			return s, fmt.Errorf("HAProxy's srv_admin_state %q is no number", clip(at("srv_admin_state")))
		}
		if s.weight, err = strconv.ParseInt(at("srv_uweight"), 10, 32); err != nil {
			return s, fmt.Errorf("HAProxy's srv_uweight %q is no number", clip(at("srv_uweight")))
		}
		if s.initial, err = strconv.ParseInt(at("srv_iweight"), 10, 32); err != nil {
			return s, fmt.Errorf("HAProxy's srv_iweight %q is no number", clip(at("srv_iweight")))
		}
		return s, nil
	}
	if columns == nil {
		return server{}, fmt.Errorf("%w: HAProxy says %q of backend %s", traffic.ErrGone, clip(strings.TrimSpace(answer)), backend)
	}
	return server{}, fmt.Errorf("%w: backend %s has no server %s", traffic.ErrGone, backend, name)
}

// parseLimit finds the bound of connections of a server in the answer to `show stat`; 0 where there is none.
func parseLimit(answer, backend, name string) (int64, error) {
	var columns []string
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# "); ok && columns == nil {
			columns = strings.Split(rest, ",")
			continue
		}
		f := strings.Split(line, ",")
		if len(f) < 7 || f[0] != backend || f[1] != name {
			continue
		}
		for i, c := range columns {
			if c != "slim" || i >= len(f) {
				continue
			}
			if f[i] == "" {
				return 0, nil
			}
			n, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil || n < 0 {
				return 0, fmt.Errorf("HAProxy's slim %q is no number", clip(f[i]))
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: HAProxy shows no server %s in backend %s", traffic.ErrGone, name, backend)
}

// parseInfo returns the fields of `show info`.
func parseInfo(answer string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(answer) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			out[k] = v
		}
	}
	return out
}

// epoch names the worker: its process id, and when it started where the version says so.
func epoch(info map[string]string) (string, error) {
	if info["Pid"] == "" {
		return "", errors.New("HAProxy does not say its process id in `show info`: is the socket its runtime socket?")
	}
	return info["Pid"] + "/" + info["Start_time_sec"], nil
}

func clip(s string) string { return s[:min(len(s), 120)] }
