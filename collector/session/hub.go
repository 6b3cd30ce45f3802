package session

import (
	"errors"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// ErrNotConnected says that the host has no session here now, and ErrQueueFull that it does not read what it is sent;
// its session ends then.
var (
	ErrNotConnected = errors.New("host is not connected")
	ErrQueueFull    = errors.New("host does not read what it is sent")
)

// Host is a connected host.
type Host struct {
	Name    string
	Session uint64
	Address string // of the other end of the connection
	Since   time.Time
	Serial  string
}

// Hosts returns the connected hosts by name.
func (s *Server) Hosts() []Host {
	s.mu.Lock()
	out := make([]Host, 0, len(s.sessions))
	for _, x := range s.sessions {
		out = append(out, x.host())
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Host) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// Host returns one connected host.
func (s *Server) Host(name string) (Host, bool) {
	x := s.session(name)
	if x == nil {
		return Host{}, false
	}
	return x.host(), true
}

func (s *Server) session(host string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[host]
}

func (s *Server) send(host string, m *agentv1.SessionResponse) error {
	x := s.session(host)
	if x == nil {
		return ErrNotConnected
	}
	if !x.send(m) {
		return ErrQueueFull
	}
	return nil
}

// Send gives a signed command to the host's agent, which carries it to the actor unopened. Nil says that it is queued on
// a session that is open, and nothing more; only the actor's results say what became of it.
func (s *Server) Send(host string, e command.Envelope) error {
	return s.send(host, &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Command{Command: e.Proto()}})
}

// Broadcast sends each connected host the command that make returns for it, if any, and returns how many it was queued
// for. It is meant for the kill switch.
func (s *Server) Broadcast(make func(host string) (command.Envelope, bool)) int {
	n := 0
	for _, h := range s.Hosts() {
		if e, ok := make(h.Name); ok && s.Send(h.Name, e) == nil {
			n++
		}
	}
	return n
}

// Watch is a component of the map that a host is to look at. The zero Target names none.
type Watch struct {
	Component string
	Target    command.Target
}

// SendWatch replaces what the host looks at. The daemon sends it again after each Connected.
func (s *Server) SendWatch(host string, watches []Watch) error {
	return s.send(host, watchToWire(watches))
}

// SendReach asks a host whether another answers at address, which is host:port or a host. The answer is a Reach event.
func (s *Server) SendReach(host, id, other, address string) error {
	return s.send(host, &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Reach{
		Reach: &agentv1.ReachOrder{Id: id, Host: other, Address: address},
	}})
}

// Cut ends the session of a host at once, as when it was revoked or removed.
func (s *Server) Cut(host, reason string) {
	if x := s.session(host); x != nil {
		s.stats.cut.Add(1)
		s.end(x, stop(reason), time.Second)
	}
}
