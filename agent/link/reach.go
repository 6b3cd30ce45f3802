package link

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// reachTimeout bounds one try to reach another host.
const reachTimeout = 3 * time.Second

// reachPorts are tried where an order names a host and no port: a refused connection is an answer too, so any port of a
// host that is up will do unless a filter drops it.
var reachPorts = [...]string{"22", "80", "443"}

// reach tries to reach another host for the collector, and answers on the session.
func (s *session) reach(o *agentv1.ReachOrder) {
	l := s.link
	answer := func(ok bool, detail string) {
		m := &agentv1.ReachReport{Id: o.GetId(), Host: o.GetHost(), Answered: ok, Detail: detail}
		l.control(func(out *outbox) uint64 { return out.addReach(m) })
	}
	select {
	case s.slots <- struct{}{}:
	default:
		answer(false, "not tried: too many orders at once")
		return
	}
	s.tasks.Go(func() {
		defer func() { <-s.slots }()
		ctx, cancel := context.WithTimeout(s.stream.Context(), reachTimeout)
		defer cancel()
		addresses := []string{o.GetAddress()}
		if _, _, err := net.SplitHostPort(o.GetAddress()); err != nil {
			addresses = addresses[:0]
			for _, port := range reachPorts {
				addresses = append(addresses, net.JoinHostPort(o.GetAddress(), port))
			}
		}
		answer(l.anyAnswers(ctx, addresses))
	})
}

// anyAnswers tries all addresses at once and returns with the first answer.
func (l *Link) anyAnswers(ctx context.Context, addresses []string) (bool, string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		ok     bool
		detail string
	}
	results := make(chan outcome, len(addresses))
	for _, a := range addresses {
		go func() {
			c, err := l.cfg.Dial(ctx, a)
			switch {
			case err == nil:
				_ = c.Close()
				results <- outcome{true, a + " accepted a connection"}
			case errors.Is(err, syscall.ECONNREFUSED):
				results <- outcome{true, a + " refused a connection"}
			default:
				results <- outcome{false, a + " did not answer: " + reasonOf(err)}
			}
		}()
	}
	var best outcome
	for range addresses {
		if r := <-results; r.ok && !best.ok {
			best = r
			cancel()
		} else if !best.ok {
			best = r
		}
	}
	return best.ok, best.detail
}

func reasonOf(err error) string {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return "timeout"
	}
	for _, known := range []struct {
		errno syscall.Errno
		text  string
	}{
		{syscall.EHOSTUNREACH, "no route to host"}, {syscall.ENETUNREACH, "network unreachable"}, {syscall.ECONNRESET, "connection reset"},
	} {
		if errors.Is(err, known.errno) {
			return known.text
		}
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "name not found"
	}
	return err.Error()
}
