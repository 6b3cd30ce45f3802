package actor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

const (
	mostPeers     = 16
	peerQueue     = 2048            // frames; a peer that does not read is cut off when it is full
	writePatience = 2 * time.Second // for one frame
)

// server is the unix socket. Its goroutines read and write frames and call the actor's loop through calls.
type server struct {
	listener *net.UnixListener
	allowed  map[uint32]bool
	calls    chan<- call // unbuffered: a reader waits while the loop is at work
	clock    func() Moment
	log      *slog.Logger

	mu    sync.Mutex
	peers map[*peer]bool // guarded by mu
	done  bool           // guarded by mu
	odd   map[oddity]int // guarded by mu: what was turned away since it was asked for last
	wait  sync.WaitGroup
}

// oddity is one way in which somebody at the socket was turned away.
type oddity struct {
	uid uint32
	why string
}

const (
	notAllowed = "this user may not speak to the actor"
	notAFrame  = "what was said is no frame"
	// Further users than this are counted as one.
	mostOddities = 64
	manyUsers    = ^uint32(0)
)

// turnedAway counts; the loop writes it to the trail.
func (s *server) turnedAway(uid uint32, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.odd == nil {
		s.odd = map[oddity]int{}
	}
	o := oddity{uid, why}
	if _, known := s.odd[o]; !known && len(s.odd) >= mostOddities {
		o.uid = manyUsers
	}
	s.odd[o]++
}

// takeOddities returns what was counted since the last call.
func (s *server) takeOddities() map[oddity]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	odd := s.odd
	s.odd = nil
	return odd
}

// call is one request for the loop.
type call struct {
	from     *peer
	frame    *agentv1.ActorFrame
	received Moment
}

type peer struct {
	conn *net.UnixConn
	uid  uint32
	out  chan *agentv1.ActorFrame
	end  chan struct{}
	once sync.Once
	// last is closed when nothing more will be queued, written when all that was queued is written, or never will be.
	last, written chan struct{}
}

// send queues a frame. When the queue is full the peer is cut off: it will come back and be sent everything that is not
// acked.
func (p *peer) send(f *agentv1.ActorFrame) {
	select {
	case p.out <- f:
	default:
		p.close()
	}
}

func (p *peer) close() {
	p.once.Do(func() {
		close(p.end)
		p.conn.Close()
	})
}

// listen makes the socket: 0600 in a folder that nobody else may enter. An agent under another user owns the socket and
// may pass through the folder by its group.
func listen(path string, agentUID, agentGID int) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	mode := os.FileMode(0o700)
	if agentUID >= 0 {
		mode = 0o710
		if err := os.Lchown(dir, -1, agentGID); err != nil {
			return nil, fmt.Errorf("cannot let the agent's user through %s: %w", dir, err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is in the way and is not a socket", path)
		}
		if err := os.Remove(path); err != nil { // left by a process that was killed: the state folder's lock is ours
			return nil, err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	err = os.Chmod(path, 0o600)
	if err == nil && agentUID >= 0 {
		err = os.Lchown(path, agentUID, -1)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// peerUID asks the kernel who is at the other end.
func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}

// run accepts until the listener is closed, and returns after the last peer's goroutines ended.
func (s *server) run(ctx context.Context) error {
	defer s.wait.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("cannot accept on the actor's socket: %w", err)
		}
		uid, err := peerUID(conn)
		if err != nil || !s.allowed[uid] {
			s.log.Warn("stranger at the socket", "uid", uid, "error", err)
			s.turnedAway(uid, notAllowed)
			conn.Close()
			continue
		}
		p := &peer{conn: conn, uid: uid, out: make(chan *agentv1.ActorFrame, peerQueue), end: make(chan struct{}), last: make(chan struct{}), written: make(chan struct{})}
		s.mu.Lock()
		full := s.done || len(s.peers) >= mostPeers
		if !full {
			s.peers[p] = true
		}
		s.mu.Unlock()
		if full {
			conn.Close()
			continue
		}
		s.wait.Go(func() { s.read(ctx, p) })
		s.wait.Go(func() { s.write(p) })
	}
}

func (s *server) read(ctx context.Context, p *peer) {
	defer func() {
		p.close()
		s.mu.Lock()
		delete(s.peers, p)
		s.mu.Unlock()
	}()
	for {
		f, err := readFrame(p.conn)
		if errors.Is(err, errFrame) {
			s.turnedAway(p.uid, notAFrame)
		}
		if err != nil {
			return
		}
		select {
		case s.calls <- call{from: p, frame: f, received: s.clock()}:
		case <-p.end:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) write(p *peer) {
	defer close(p.written)
	for {
		select {
		case f := <-p.out:
			if !p.put(f) {
				return
			}
		case <-p.end:
			return
		case <-p.last:
			for len(p.out) > 0 && p.put(<-p.out) {
			}
			return
		}
	}
}

// put writes a frame, or cuts the peer off.
func (p *peer) put(f *agentv1.ActorFrame) bool {
	err := p.conn.SetWriteDeadline(time.Now().Add(writePatience))
	if err == nil {
		err = writeFrame(p.conn, f)
	}
	if err != nil {
		p.close()
	}
	return err == nil
}

// stop refuses new peers, lets the queues run empty for a moment, and cuts everybody off.
func (s *server) stop() {
	s.listener.Close()
	s.mu.Lock()
	s.done = true
	peers := make([]*peer, 0, len(s.peers))
	for p := range s.peers {
		peers = append(peers, p)
	}
	s.mu.Unlock()
	deadline := time.NewTimer(writePatience)
	defer deadline.Stop()
	for _, p := range peers {
		close(p.last)
	}
	for _, p := range peers {
		select {
		case <-p.written:
			continue
		case <-deadline.C:
		}
		break
	}
	for _, p := range peers {
		p.close()
	}
}

func (p *peer) ended() bool {
	select {
	case <-p.end:
		return true
	default:
		return false
	}
}

// envelopeOf takes the envelope from a frame; a malformed one is nobody's command.
func envelopeOf(p *agentv1.SignedCommand) command.Envelope {
	e, err := command.EnvelopeFromProto(p)
	if err != nil {
		return command.Envelope{Body: p.GetBody()}
	}
	return e
}
