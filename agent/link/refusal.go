package link

import (
	"time"

	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// refused handles what the collector would not take. An error ends the session.
func (l *Link) refused(r *agentv1.Refusal) error {
	after := time.Duration(r.GetRetryAfterMs()) * time.Millisecond
	about, ok := ackFromWire(&agentv1.Ack{BootId: r.GetBootId(), Seq: r.GetSeq()}, l.cfg.Boot)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Refusal = r.GetReason()
	switch r.GetClass() {
	case agentv1.Refusal_CLASS_STOP:
		l.cfg.Log.Error("the collector refuses this agent", "reason", r.GetReason())
		return &hintError{reason: r.GetReason(), after: max(after, stopWait)}
	case agentv1.Refusal_CLASS_RETRY_AFTER:
		if l.session == nil || !ok || about.Last == 0 {
			return &hintError{reason: r.GetReason(), after: max(after, time.Second)}
		}
		// What was refused stays in the spool and is sent again once the wait is over, from a key frame on.
		l.paused = l.cfg.Now().Add(min(max(after, time.Second), 10*time.Minute))
		l.rewindLocked(about.Boot, about.Last)
	case agentv1.Refusal_CLASS_SPLIT:
		// A batch is one tick and cannot be split: it is lost to the collector, and a person must watch less.
		l.status.Refused += uint64(r.GetSamples())
		l.cfg.Log.Warn("a batch is too large for the collector: reduce the series of this host", "reason", r.GetReason(), "seq", r.GetSeq())
	case agentv1.Refusal_CLASS_DROP, agentv1.Refusal_CLASS_UNSPECIFIED:
		l.status.Refused += uint64(r.GetSamples())
	}
	return nil
}
