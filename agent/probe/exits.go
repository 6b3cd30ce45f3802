package probe

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit says that a process of a watched component has ended.
type Exit struct {
	Component string
	PID       int
	Time      time.Time
}

// exits waits on the pidfds of all members through one epoll set, which Go's own poller waits on in turn: no thread is
// held up. A process leaves the set exactly once, and whoever takes it out tells of it.
type exits struct {
	tell func(Exit)

	mu    sync.Mutex // guards all below
	epoll int        // -1 where the kernel has no pidfd, or for processes that are not of this kernel's own proc
	byPID map[int32]watched
	gone  []int32 // taken out by run, for the next tick; no longer than byPID ever was
}

type watched struct {
	fd         int
	components []string
}

func newExits(host bool, tell func(Exit)) *exits {
	e := &exits{tell: tell, epoll: -1, byPID: map[int32]watched{}}
	if tell == nil {
		e.tell = func(Exit) {}
	}
	if !host {
		return e
	}
	if fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		if unix.SetNonblock(fd, true) != nil {
			unix.Close(fd)
			return e
		}
		e.epoll = fd
	}
	return e
}

// add starts to wait for the end of pid, or adds a component to one that is waited for. check tells whether pid is still
// the process that is meant, once the pidfd holds it.
func (e *exits) add(pid int32, component string, check func() bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w, ok := e.byPID[pid]; ok {
		w.components = append(w.components, component)
		e.byPID[pid] = w
		return
	}
	w := watched{fd: -1, components: []string{component}}
	if e.epoll >= 0 {
		if fd, err := unix.PidfdOpen(int(pid), 0); err == nil {
			w.fd = fd
			ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd), Pad: pid}
			if !check() || unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, fd, &ev) != nil {
				unix.Close(fd)
				w.fd = -1
			}
		}
	}
	e.byPID[pid] = w
}

// forget takes one component from a process that goes on, and the process with the last of them.
func (e *exits) forget(pid int32, component string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w, ok := e.byPID[pid]
	if !ok {
		return
	}
	kept := make([]string, 0, len(w.components))
	for _, c := range w.components {
		if c != component {
			kept = append(kept, c)
		}
	}
	if w.components = kept; len(kept) > 0 {
		e.byPID[pid] = w
		return
	}
	e.takeLocked(pid, w)
}

func (e *exits) takeLocked(pid int32, w watched) {
	delete(e.byPID, pid)
	if w.fd >= 0 {
		unix.Close(w.fd) // which also takes it out of the epoll set
	}
}

// ended says that pid was seen to have ended by other means. It is told unless run did so before.
func (e *exits) ended(pid int32, at time.Time) {
	e.mu.Lock()
	w, ok := e.byPID[pid]
	if ok {
		e.takeLocked(pid, w)
	}
	e.mu.Unlock()
	if ok {
		for _, c := range w.components {
			e.tell(Exit{c, int(pid), at})
		}
	}
}

// take appends the pids that run saw end since the last call.
func (e *exits) take(to []int32) []int32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	to = append(to, e.gone...)
	e.gone = e.gone[:0]
	return to
}

// run tells of each end as it happens, until ctx ends.
func (e *exits) run(ctx context.Context) error {
	e.mu.Lock()
	epoll := e.epoll
	e.mu.Unlock()
	if epoll < 0 {
		<-ctx.Done()
		return nil
	}
	// The copy belongs to the poller and is closed with f; e.epoll stays for those that add.
	dup, err := unix.FcntlInt(uintptr(epoll), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot watch processes: %w", err)
	}
	f := os.NewFile(uintptr(dup), "epoll")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return fmt.Errorf("cannot watch processes: %w", err)
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		f.Close()
		return fmt.Errorf("cannot watch processes: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		f.Close()
	}()
	var events [16]unix.EpollEvent
	for ctx.Err() == nil {
		n := 0
		var wait error
		err := conn.Read(func(fd uintptr) bool {
			n, wait = unix.EpollWait(int(fd), events[:], 0)
			return n > 0 || wait != nil && wait != syscall.EINTR
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("cannot watch processes: %w", err)
		case wait != nil:
			return fmt.Errorf("cannot watch processes: %w", wait)
		}
		now := time.Now()
		for _, ev := range events[:max(n, 0)] {
			e.exited(ev.Pad, int(ev.Fd), now)
		}
	}
	return nil
}

func (e *exits) exited(pid int32, fd int, now time.Time) {
	e.mu.Lock()
	w, ok := e.byPID[pid]
	if ok = ok && w.fd == fd; ok {
		e.takeLocked(pid, w)
		e.gone = append(e.gone, pid)
	}
	e.mu.Unlock()
	if ok {
		for _, c := range w.components {
			e.tell(Exit{c, int(pid), now})
		}
	}
}

func (e *exits) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for pid, w := range e.byPID {
		e.takeLocked(pid, w)
	}
	if e.epoll >= 0 {
		unix.Close(e.epoll)
		e.epoll = -1
	}
}
