package actor

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Who stands in the trail beside those who signed.
const (
	itself   = "actor"
	owner    = "host owner"
	stranger = "stranger" // somebody whose signature does not hold, or is not allowed at the socket
)

const (
	// The first of several like denials is written at once, the others are counted and written after this long.
	denialWindow = 10 * time.Second
	// So many kinds of denial are told apart within a window; further ones are counted together.
	mostDenials = 256
	// auditDelay is how long a line may wait to be on stable storage. What it tells of is in the journal by then.
	auditDelay    = time.Second
	auditFileSize = 8 << 20
	auditFiles    = 8 // full ones that are kept
)

// trail is the actor's hash-chained audit log: what was asked, by whom, and what became of it, every denial included. It is
// used from one goroutine. A nil trail keeps nothing.
type trail struct {
	log     *audit.Log
	say     *slog.Logger
	denied  map[denial]*repeated
	synced  time.Duration // boot clock
	failing bool
	now     time.Time // of the line in hand: what Append stamps it with
}

// denial is what makes two denials alike.
type denial struct{ who, subject, reason string }

// repeated counts like denials after the first.
type repeated struct {
	since, last time.Time
	more        uint64
	detail      string
}

// openTrail opens the log in a folder. One that does not hold together is put aside beside it and never mended, and a new
// one says so in its first line: a host must be able to revert whatever became of its records.
func openTrail(dir string, at time.Time, say *slog.Logger) (*trail, error) {
	t := &trail{say: say, denied: map[denial]*repeated{}}
	cfg := audit.Config{Dir: dir, Clock: func() time.Time { return t.now }, MaxBytes: auditFileSize, Keep: auditFiles, Lazy: true}
	var err error
	if t.log, err = audit.New(cfg); !errors.Is(err, audit.ErrBroken) {
		return t, err
	}
	why := err
	aside := fmt.Sprintf("%s.broken-%d", dir, at.UnixMilli())
	if err := os.Rename(dir, aside); err != nil {
		return nil, fmt.Errorf("cannot put the broken audit log aside: %w", err)
	}
	if t.log, err = audit.New(cfg); err != nil {
		return nil, err
	}
	say.Error("the audit log was tampered with or damaged", "kept", aside, "error", why)
	t.append(at, "", "audit log broken", aside, "failed", why.Error())
	return t, nil
}

func (t *trail) append(at time.Time, who, what, subject, outcome, detail string) {
	t.now = at
	err := t.log.Append(context.Background(), cmp.Or(who, itself), what, subject, outcome, detail)
	if err != nil && !t.failing {
		t.say.Error("audit", "error", err)
	}
	t.failing = err != nil
}

// note writes a line.
func (t *trail) note(at time.Time, who, what, subject, outcome, detail string) {
	if t != nil {
		t.append(at, who, what, subject, outcome, detail)
	}
}

// entry writes a line for each result of a journal entry, but for refusals, which deny has, and the acks.
func (t *trail) entry(who string, x entry, s *state) {
	if t == nil {
		return
	}
	for _, r := range x.Results {
		outcome := "done"
		switch r.Phase {
		case command.Refused, command.Renewed, command.Accepted:
			continue
		case command.Failed, command.RevertFailed, command.Indeterminate, command.NotApplied, command.Drifted:
			outcome = "failed"
		}
		resource := ""
		switch l, ok := s.byID(r.ID); {
		case x.Put != nil && x.Put.ID == r.ID:
			resource = x.Put.Resource
		case ok:
			resource = l.Resource
		}
		detail := r.Detail
		if resource != "" {
			detail = fmt.Sprintf("%s: %q, before %q; %s", resource, r.Value, r.Prior, r.Detail)
		}
		t.append(r.Time, who, r.Phase.String(), r.ID, outcome, detail)
	}
}

// deny counts a denial and writes it if nothing like it was written lately.
func (t *trail) deny(at time.Time, who, subject string, why *command.Refusal) {
	if t != nil {
		t.count(at, who, subject, string(why.Reason), why.Error(), 1)
	}
}

// turnedAway is deny for those who did not come as far as a command.
func (t *trail) turnedAway(at time.Time, who, why string, times int) {
	if t != nil {
		t.count(at, who, "socket", why, why, times)
	}
}

func (t *trail) count(at time.Time, who, subject, reason, detail string, times int) {
	t.flush(at, false)
	key := denial{who, subject, reason}
	if len(t.denied) >= mostDenials && t.denied[key] == nil {
		key = denial{"many", "many", "many"}
	}
	d := t.denied[key]
	if d == nil {
		d = &repeated{since: at}
		t.denied[key] = d
		t.append(at, who, "command", subject, "denied", detail)
		times--
	}
	if times > 0 {
		d.more += uint64(times)
		d.last, d.detail = at, detail
	}
}

// flush writes the counts whose window is over, or all.
func (t *trail) flush(at time.Time, all bool) {
	for _, key := range slices.SortedFunc(maps.Keys(t.denied), func(a, b denial) int {
		return cmp.Or(cmp.Compare(a.who, b.who), cmp.Compare(a.subject, b.subject), cmp.Compare(a.reason, b.reason))
	}) {
		d := t.denied[key]
		if since := at.Sub(d.since); !all && since >= 0 && since < denialWindow {
			continue
		}
		delete(t.denied, key)
		if d.more > 0 {
			t.append(at, key.who, "command", key.subject, "denied", fmt.Sprintf("%d more like it within %s, the last at %s: %s", d.more,
				d.last.Sub(d.since).Round(time.Millisecond), d.last.UTC().Format(time.RFC3339Nano), d.detail))
			t.denied[key] = &repeated{since: at} // a flood goes on being counted
		}
	}
	if all {
		clear(t.denied)
	}
}

// permissions writes what the host's owner changed.
func (t *trail) permissions(at time.Time, p Permissions, problem string) {
	switch {
	case t == nil:
	case problem != "":
		t.append(at, owner, "permissions", "host", "failed", "everything is denied: "+problem)
	default:
		t.append(at, owner, "permissions", "host", "done", fmt.Sprintf("sha256:%s, %d actions, %d approvers, at most %s", hex.EncodeToString(p.Hash),
			len(p.Actions), len(p.Trust.Approvers), p.MaxRisk))
	}
}

// beat is called several times a second: it writes counts and has what was written reach the disk.
func (t *trail) beat(now Moment) {
	if t == nil {
		return
	}
	t.flush(now.Wall, false)
	if now.Boot-t.synced < auditDelay {
		return
	}
	t.synced = now.Boot
	if err := t.log.Sync(); err != nil && !t.failing {
		t.failing = true
		t.say.Error("audit", "error", err)
	}
}

func (t *trail) close(at time.Time) {
	if t == nil {
		return
	}
	t.flush(at, true)
	if err := t.log.Close(); err != nil {
		t.say.Error("audit", "error", err)
	}
}

// subjectOf names what a command is about, for the trail. Nothing of a stranger's command is believed.
func subjectOf(c command.Command) string {
	switch {
	case c.ID == "":
		return "unverified command"
	case c.Kind == command.Apply:
		return c.Action.Resource()
	case c.Kind == command.Renew:
		return "renewal of " + c.Of
	case c.Kind == command.Revert:
		return "revert of " + c.Of
	case c.Kind == command.Revoke:
		return "key " + c.Of
	}
	return "kill switch"
}
