package store

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

func freeSpace(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// guard looks at the free space. Below the limit nothing is appended: a full disk can end the database's process, and
// agents can wait. The ballast stays until the database must be opened on a disk that is full all the same.
func (s *Store) guard() {
	free, total, err := s.cfg.Free(s.cfg.Dir)
	if err != nil {
		s.cfg.Log.Warn("cannot read the free space", "dir", s.cfg.Dir, "error", err)
		return
	}
	limit := s.cfg.MinFree
	if limit == 0 {
		limit = min(max(total/20, 2<<30), 16<<30)
	}
	// Half as much again is asked before appends go on, so that a disk at its limit does not flap.
	short := free < limit || s.noSpace.Load() && free < limit+limit/2
	if short != s.noSpace.Swap(short) {
		s.cfg.Log.Warn("free space of the store", "short", short, "free_bytes", free, "limit_bytes", limit)
	}
	if !short && free > limit+uint64(max(s.cfg.Ballast, 0)) {
		s.makeBallast()
	}
}

func (s *Store) ballastPath() string { return filepath.Join(s.cfg.Dir, "ballast") }

func (s *Store) makeBallast() {
	if s.cfg.Ballast < 0 {
		return
	}
	if st, err := os.Stat(s.ballastPath()); err == nil && st.Size() == s.cfg.Ballast {
		return
	}
	f, err := os.OpenFile(s.ballastPath(), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), 0, 0, s.cfg.Ballast)
		if err == unix.EOPNOTSUPP {
			// A sparse file would give nothing back.
			os.Remove(s.ballastPath())
			err = nil
		}
		f.Close()
	}
	if err != nil {
		os.Remove(s.ballastPath())
		s.cfg.Log.Warn("cannot set ballast aside", "error", err)
	}
}

func (s *Store) dropBallast() { os.Remove(s.ballastPath()) }

// watchfulHandler passes on what the database has to say from warnings up, and notices the failures of its logs that it
// only reports here.
type watchfulHandler struct {
	to     slog.Handler
	failed atomic.Bool
}

func (h *watchfulHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h *watchfulHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError &&
		(strings.Contains(r.Message, "log out of order samples") || strings.Contains(r.Message, "sync previous segment")) {
		h.failed.Store(true)
	}
	if !h.to.Enabled(ctx, r.Level) {
		return nil
	}
	return h.to.Handle(ctx, r)
}

func (h *watchfulHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &derivedHandler{root: h, to: h.to.WithAttrs(attrs)}
}

func (h *watchfulHandler) WithGroup(name string) slog.Handler {
	return &derivedHandler{root: h, to: h.to.WithGroup(name)}
}

// derivedHandler is a watchfulHandler with attributes; what it notices counts for its root.
type derivedHandler struct {
	root *watchfulHandler
	to   slog.Handler
}

func (h *derivedHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h *derivedHandler) Handle(ctx context.Context, r slog.Record) error {
	w := watchfulHandler{to: h.to}
	err := w.Handle(ctx, r)
	if w.failed.Load() {
		h.root.failed.Store(true)
	}
	return err
}

func (h *derivedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &derivedHandler{root: h.root, to: h.to.WithAttrs(attrs)}
}

func (h *derivedHandler) WithGroup(name string) slog.Handler {
	return &derivedHandler{root: h.root, to: h.to.WithGroup(name)}
}
