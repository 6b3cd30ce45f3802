package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// kind is one way to forge a command, and what became of it.
type kind struct {
	name   string
	want   command.Reason // repeated and hungUp for those that are not refused
	make   func() (command.Envelope, error)
	before func() error // the host is made so, and back again
	after  func() error
	raw    func() error // instead of an envelope: bytes on a connection of its own

	answer, wrong string
}

const (
	repeated command.Reason = "repeated" // the stored answer comes again
	hungUp   command.Reason = "hung up"
)

// outcome is what was found.
type outcome struct {
	kinds             []*kind
	executed, genuine int
}

func (o *outcome) wrong() int {
	n := 0
	for _, k := range o.kinds {
		if k.wrong != "" {
			n++
		}
	}
	return n
}

// take runs every kind against one actor.
func take(bin, dir string) (*outcome, error) {
	h, err := newHost(bin, dir)
	defer h.close()
	if err != nil {
		return nil, err
	}
	o := &outcome{}
	first, err := h.genuine(o)
	if err != nil {
		return nil, err
	}
	o.kinds = h.kinds(first)
	for i, k := range o.kinds {
		if err := h.try(k); err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		done, err := h.changed()
		if err != nil {
			return nil, err
		}
		if done {
			o.executed++
			k.wrong += " IT WAS CARRIED OUT"
			return o, nil // what follows would be measured on another host
		}
		if i > 40 {
			time.Sleep(220 * time.Millisecond) // the actor answers strangers five times a second
		}
	}
	_, err = h.genuine(o)
	return o, err
}

// genuine has the actor carry out a good command and take it back, and sees both in the kernel.
func (h *host) genuine(o *outcome) (command.Envelope, error) {
	c := h.apply()
	e, err := command.Sign(c, h.signer)
	if err != nil {
		return e, err
	}
	r, err := h.send(e, c.ID)
	if err != nil {
		return e, fmt.Errorf("a genuine command: %w", err)
	}
	if changed, err := h.changed(); err != nil || !changed || r.Phase != command.Applied {
		return e, fmt.Errorf("a genuine command is %s (%s %s), the mask has changed: %t: %w", r.Phase, r.Reason, r.Detail, changed, errors.Join(err))
	}
	back := h.apply()
	back.Kind, back.Of, back.Action, back.Lease = command.Revert, c.ID, command.Action{}, 0
	b, err := command.Sign(back, h.signer)
	if err != nil {
		return e, err
	}
	if r, err = h.send(b, back.ID); err != nil || r.Phase != command.Reverted {
		return e, fmt.Errorf("its revert is %s (%s): %w", r.Phase, r.Detail, errors.Join(err))
	}
	if changed, err := h.changed(); err != nil || changed {
		return e, fmt.Errorf("after its revert the mask has changed: %t: %w", changed, errors.Join(err))
	}
	o.genuine++
	return e, nil
}

func (h *host) try(k *kind) error {
	if k.before != nil {
		if err := k.before(); err != nil {
			return err
		}
	}
	defer func() {
		if k.after != nil {
			_ = k.after()
		}
	}()
	if k.raw != nil {
		if err := k.raw(); err != nil {
			return err
		}
		k.answer = string(hungUp)
		return nil
	}
	e, err := k.make()
	if err != nil {
		return err
	}
	ids := []string{"sha256:" + e.Hash()}
	if c, err := command.ParseBody(e.Body); err == nil {
		ids = append(ids, c.ID)
	}
	r, err := h.send(e, ids...)
	if err != nil {
		return err
	}
	k.answer = string(r.Reason)
	if r.Phase != command.Refused {
		k.answer = string(repeated)
	}
	if k.answer != string(k.want) {
		k.wrong = fmt.Sprintf("(%s), want %s", r.Detail, k.want)
	}
	return nil
}

// kinds returns them all. first is a genuine command that was carried out and taken back.
func (h *host) kinds(first command.Envelope) []*kind {
	var all []*kind
	add := func(name string, want command.Reason, make func() (command.Envelope, error)) {
		all = append(all, &kind{name: name, want: want, make: make})
	}
	// signed signs a command in which one thing is wrong.
	signed := func(name string, want command.Reason, change func(*command.Command), keys ...command.Key) {
		add(name, want, func() (command.Envelope, error) {
			c := h.apply()
			change(&c)
			return command.Sign(c, append([]command.Key{h.signer}, keys...)...)
		})
	}
	// bent changes an envelope after it was signed.
	bent := func(name string, want command.Reason, change func(*command.Envelope)) {
		add(name, want, func() (command.Envelope, error) {
			e, err := command.Sign(h.apply(), h.signer)
			if err == nil {
				e.Body = bytes.Clone(e.Body)
				e.Signatures[0].Sig = bytes.Clone(e.Signatures[0].Sig)
				change(&e)
			}
			return e, err
		})
	}
	by := func(name string, want command.Reason, keys ...command.Key) {
		add(name, want, func() (command.Envelope, error) { return command.Sign(h.apply(), keys...) })
	}
	// body changes the parts of a body and signs the result properly.
	body := func(name string, change func(*agentv1.CommandBody)) {
		add(name, command.ReasonMalformed, func() (command.Envelope, error) {
			b, err := command.MarshalBody(h.apply())
			if err != nil {
				return command.Envelope{}, err
			}
			p := &agentv1.CommandBody{}
			if err := proto.Unmarshal(b, p); err != nil {
				return command.Envelope{}, err
			}
			change(p)
			if b, err = proto.Marshal(p); err != nil {
				return command.Envelope{}, err
			}
			return command.Envelope{Body: b}.With(h.signer)
		})
	}
	bytesOf := func(name string, want command.Reason, b []byte) {
		add(name, want, func() (command.Envelope, error) { return command.Envelope{Body: b}.With(h.signer) })
	}
	firstBody, err := command.ParseBody(first.Body)
	if err != nil {
		panic("BUG: a command that was carried out cannot be read: " + err.Error())
	}
	now := time.Now()
	certified := func(root, key ed25519.PrivateKey, from, to time.Duration, most command.Risk) command.Key {
		k, err := h.certify(root, key, now.Add(from), now.Add(to), most)
		if err != nil {
			panic("BUG: a key cannot be certified: " + err.Error())
		}
		return k
	}
	approver := command.Key{Private: h.approver}

	// Who signed.
	bent("no signature", command.ReasonUnsigned, func(e *command.Envelope) { e.Signatures = nil })
	bent("an empty signature", command.ReasonBadSignature, func(e *command.Envelope) { e.Signatures[0].Sig = nil })
	bent("a signature of zeros", command.ReasonBadSignature, func(e *command.Envelope) { e.Signatures[0].Sig = make([]byte, 64) })
	bent("a signature that is cut short", command.ReasonBadSignature, func(e *command.Envelope) { e.Signatures[0].Sig = e.Signatures[0].Sig[:63] })
	bent("a signature with a byte more", command.ReasonBadSignature, func(e *command.Envelope) { e.Signatures[0].Sig = append(e.Signatures[0].Sig, 0) })
	bent("one bit of the signature", command.ReasonBadSignature, func(e *command.Envelope) { e.Signatures[0].Sig[40] ^= 1 })
	bent("the signature of another command", command.ReasonBadSignature, func(e *command.Envelope) { e.Signatures = first.Signatures })
	bent("a signature over the body alone, without its purpose", command.ReasonBadSignature, func(e *command.Envelope) { e.Signatures[0].Sig = ed25519.Sign(h.key, e.Body) })
	bent("a signature for the purpose of a key certificate", command.ReasonBadSignature, func(e *command.Envelope) {
		e.Signatures[0].Sig = ed25519.Sign(h.key, append([]byte("evenkeel-command-key-v1\n"), e.Body...))
	})
	bent("no certificate", command.ReasonUnknownKey, func(e *command.Envelope) { e.Certificates = nil })
	bent("a certificate with one bit changed", command.ReasonUnknownKey, func(e *command.Envelope) {
		e.Certificates[0].Body = bytes.Clone(e.Certificates[0].Body)
		e.Certificates[0].Body[3] ^= 1
	})
	bent("a certificate without its signature", command.ReasonUnknownKey, func(e *command.Envelope) { e.Certificates[0].Sig = nil })
	bent("a certificate that the collector signed itself", command.ReasonUnknownKey, func(e *command.Envelope) {
		e.Certificates[0].Sig = ed25519.Sign(h.key, append([]byte("evenkeel-command-key-v1\n"), e.Certificates[0].Body...))
	})
	bent("nine signatures", command.ReasonUnsigned, func(e *command.Envelope) {
		for len(e.Signatures) < 9 {
			e.Signatures = append(e.Signatures, e.Signatures[0])
		}
	})
	bent("nine certificates", command.ReasonUnsigned, func(e *command.Envelope) {
		for len(e.Certificates) < 9 {
			e.Certificates = append(e.Certificates, e.Certificates[0])
		}
	})
	bent("a key id of a kilobyte", command.ReasonUnsigned, func(e *command.Envelope) { e.Signatures[0].KeyID = strings.Repeat("a", 1024) })
	by("a stranger's key", command.ReasonUnknownKey, command.Key{Private: h.stranger})
	by("a stranger's key under the collector's certificate", command.ReasonUnknownKey, command.Key{Private: h.stranger, Certificate: h.signer.Certificate})
	bent("a stranger's signature under the collector's key id", command.ReasonBadSignature, func(e *command.Envelope) {
		e.Signatures[0].Sig = ed25519.Sign(h.stranger, append([]byte("evenkeel-command-v1\n"), e.Body...))
	})
	by("the collector's key, certified by another root", command.ReasonUnknownKey, certified(h.stranger, h.key, -time.Hour, time.Hour, command.R2))
	by("the signing root itself", command.ReasonUnknownKey, command.Key{Private: h.root})
	by("an approver alone", command.ReasonUnknownKey, approver)
	by("a key whose certificate has expired", command.ReasonKeyExpired, certified(h.root, newKey(), -2*time.Hour, -time.Hour, command.R2))
	by("a key whose certificate is not good yet", command.ReasonKeyExpired, certified(h.root, newKey(), time.Hour, 2*time.Hour, command.R2))
	by("a key that may do nothing", command.ReasonRiskNeedsApprover, certified(h.root, newKey(), -time.Hour, time.Hour, command.R0))
	by("a revoked key", command.ReasonKeyRevoked, certified(h.root, revokedKey, -time.Hour, time.Hour, command.R2))
	signed("a good key, and a revoked one beside it", command.ReasonKeyRevoked, func(*command.Command) {}, certified(h.root, revokedKey, -time.Hour, time.Hour, command.R2))
	add("a good signature, and a bad one by an approver", command.ReasonBadSignature, func() (command.Envelope, error) {
		e, err := command.Sign(h.apply(), h.signer, approver)
		if err == nil {
			e.Signatures[1].Sig[1] ^= 1
		}
		return e, err
	})

	// What was signed.
	for what, at := range map[string]func(int) int{"first": func(int) int { return 0 }, "middle": func(n int) int { return n / 2 }, "last": func(n int) int { return n - 1 }} {
		bent("one bit of the body's "+what+" byte", command.ReasonBadSignature, func(e *command.Envelope) { e.Body[at(len(e.Body))] ^= 1 })
	}
	bent("a body that is cut short", command.ReasonBadSignature, func(e *command.Envelope) { e.Body = e.Body[:len(e.Body)-2] })
	bent("a body with a field more", command.ReasonBadSignature, func(e *command.Envelope) { e.Body = append(e.Body, 0x98, 0x06, 0x01) })
	bent("no body", command.ReasonMalformed, func(e *command.Envelope) { e.Body = nil })
	bytesOf("a body that is no message", command.ReasonMalformed, []byte("\xff\xff\xff"))
	bytesOf("a body of 17 KiB", command.ReasonMalformed, make([]byte, 17<<10))
	bytesOf("a body with an unknown field, signed", command.ReasonMalformed, append(bytes.Clone(first.Body), 0x98, 0x06, 0x01))
	body("the resource key of another action", func(p *agentv1.CommandBody) { p.ResourceKey = "cpu.weight:unit/x.service" })
	body("an unknown kind", func(p *agentv1.CommandBody) { p.Kind = 99 })
	body("no kind", func(p *agentv1.CommandBody) { p.Kind = 0 })
	body("an id that is no ULID", func(p *agentv1.CommandBody) { p.Id = "../../etc/passwd" })
	body("an unknown risk", func(p *agentv1.CommandBody) { p.Risk = "R9" })
	body("a risk in other letters", func(p *agentv1.CommandBody) { p.Risk = "r0" })
	body("an expiry before the issue", func(p *agentv1.CommandBody) { p.ExpiresUnixMs = p.IssuedUnixMs - 1 })
	body("a time outside all years", func(p *agentv1.CommandBody) { p.ExpiresUnixMs = math.MaxInt64 })
	body("a negative lease", func(p *agentv1.CommandBody) { p.LeaseMs = -1 })
	body("a reversible action without a lease", func(p *agentv1.CommandBody) { p.LeaseMs = 0 })
	body("an action that names another command", func(p *agentv1.CommandBody) { p.Of = firstBody.ID })
	body("a renewal with an action in it", func(p *agentv1.CommandBody) { p.Kind = agentv1.CommandBody_KIND_RENEW; p.Of = firstBody.ID })
	body("a release of 200 percent", func(p *agentv1.CommandBody) { p.Release = &agentv1.Release{StepPercent: 200, StepMs: 1} })
	body("a program's path that leads elsewhere", func(p *agentv1.CommandBody) { p.Action.Target.GetProcess().Exe = h.exe("other") + "/../target" })
	body("a program's path with a line break", func(p *agentv1.CommandBody) { p.Action.Target.GetProcess().Exe = h.exe("target") + "\n" })
	body("a target that is empty", func(p *agentv1.CommandBody) { p.Action.Target = &agentv1.Target{Target: &agentv1.Target_Unit{}} })
	body("a permissions hash of 31 bytes", func(p *agentv1.CommandBody) { p.PermissionsHash = p.PermissionsHash[1:] })
	body("a revocation that names no key", func(p *agentv1.CommandBody) {
		p.Kind, p.Of, p.Action, p.Release, p.ResourceKey = agentv1.CommandBody_KIND_REVOKE, "everything", nil, nil, ""
	})

	// For whom, and when.
	signed("another host", command.ReasonWrongHost, func(c *command.Command) { c.Host = "figure-host-2" })
	signed("a host in other letters", command.ReasonWrongHost, func(c *command.Command) { c.Host = "Figure-Host" })
	signed("a host with a space behind", command.ReasonWrongHost, func(c *command.Command) { c.Host += " " })
	signed("another incarnation", command.ReasonWrongIncarnation, func(c *command.Command) { c.ActorIncarnation = "0123456789abcdef01234567" })
	signed("no incarnation", command.ReasonWrongIncarnation, func(c *command.Command) { c.ActorIncarnation = "" })
	signed("expired a minute ago", command.ReasonExpired, func(c *command.Command) { c.Issued, c.Expires = now.Add(-2*time.Minute), now.Add(-time.Minute) })
	signed("expired just now", command.ReasonExpired, func(c *command.Command) {
		c.Issued, c.Expires = time.Now().Add(-time.Minute), time.Now().Add(-time.Millisecond)
	})
	signed("issued in an hour", command.ReasonNotYetValid, func(c *command.Command) { c.Issued, c.Expires = now.Add(time.Hour), now.Add(2*time.Hour) })
	signed("issued in five seconds", command.ReasonNotYetValid, func(c *command.Command) { c.Issued = time.Now().Add(5 * time.Second) })

	signed("good for a day", command.ReasonDenied, func(c *command.Command) { c.Expires = c.Issued.Add(24 * time.Hour) })

	// Again, and out of order.
	add("the same bytes again, after it was taken back", repeated, func() (command.Envelope, error) { return first, nil })
	signed("a used id with another value", command.ReasonReplayed, func(c *command.Command) { c.ID, c.Action.Value = firstBody.ID, 60 })
	signed("the used fence", command.ReasonOldFence, func(c *command.Command) { c.Fence = firstBody.Fence })
	signed("an older fence", command.ReasonOldFence, func(c *command.Command) { c.Fence.Revision = 0 })
	signed("the fence of an older cluster", command.ReasonOldFence, func(c *command.Command) { c.Fence = command.Fence{Incarnation: 6, Revision: math.MaxUint64} })
	order := func(kind command.Kind, of string) func(*command.Command) {
		return func(c *command.Command) {
			c.Kind, c.Of, c.Action, c.Counter = kind, of, command.Action{}, 99
			if kind != command.Renew {
				c.Lease = 0
			}
		}
	}
	signed("a renewal of what was taken back", command.ReasonUnknownCommand, order(command.Renew, firstBody.ID))
	signed("a renewal of what never was", command.ReasonUnknownCommand, order(command.Renew, ulid.Make().String()))
	signed("a revert of what never was", command.ReasonUnknownCommand, order(command.Revert, ulid.Make().String()))
	add("a kill by a stranger", command.ReasonUnknownKey, func() (command.Envelope, error) {
		c := h.apply()
		order(command.Kill, "")(&c)
		return command.Sign(c, command.Key{Private: h.stranger})
	})
	add("a revocation of the collector's key by a stranger", command.ReasonUnknownKey, func() (command.Envelope, error) {
		c := h.apply()
		order(command.Revoke, command.KeyID(pub(h.key)))(&c)
		return command.Sign(c, command.Key{Private: h.stranger})
	})

	// More than the host's owner permits.
	stop := command.Action{Name: "unit.stop", Target: command.Target{Unit: "evenkeel-figure.service"}, Value: 1}
	restart := command.Action{Name: "unit.restart", Target: stop.Target, Value: 1}
	once := func(c *command.Command) { c.Action, c.Risk, c.Lease = restart, command.R3, 0 }
	signed("R3 by a collector", command.ReasonRiskNeedsApprover, func(c *command.Command) { c.Risk = command.R3 })
	signed("a stop by a collector", command.ReasonRiskNeedsApprover, func(c *command.Command) { c.Action, c.Risk = stop, command.R2 })
	signed("a freeze by a collector", command.ReasonRiskNeedsApprover, func(c *command.Command) {
		c.Action = command.Action{Name: "cgroup.freeze", Target: command.Target{Cgroup: "/a"}, Value: 1}
	})
	signed("a restart by a collector", command.ReasonRiskNeedsApprover, once)
	signed("a restart that says R1", command.ReasonRiskNeedsApprover, func(c *command.Command) { c.Action = restart })
	signed("a restart approved by a stranger", command.ReasonRiskNeedsApprover, once, command.Key{Private: h.stranger})
	add("a restart approved by the approval of another command", command.ReasonBadSignature, func() (command.Envelope, error) {
		c := h.apply()
		once(&c)
		e, err := command.Sign(c, h.signer)
		if err != nil {
			return e, err
		}
		e.Signatures = append(e.Signatures, command.Approve(first.Body, h.approver))
		return e, nil
	})
	signed("an approved restart over the host's most risk", command.ReasonDenied, once, approver)
	signed("an approved stop without an end", command.ReasonDenied, func(c *command.Command) { c.Action, c.Risk, c.Lease = stop, command.R3, 0 }, approver)
	signed("an action that is not listed", command.ReasonDenied, func(c *command.Command) {
		c.Action = command.Action{Name: "cpu.weight", Target: command.Target{Cgroup: "/a"}, Value: 50}
	})
	signed("an action that nobody knows", command.ReasonDenied, func(c *command.Command) { c.Action.Name = "disk.erase" })
	signed("an action in other letters", command.ReasonDenied, func(c *command.Command) { c.Action.Name = "Process.Affinity" })
	signed("another program", command.ReasonDenied, func(c *command.Command) { c.Action.Target.Process.Exe = h.exe("other") })
	signed("the program of one user", command.ReasonDenied, func(c *command.Command) { c.Action.Target.Process.User = "root" })
	signed("the host itself", command.ReasonDenied, func(c *command.Command) { c.Action.Target = command.Target{} })
	signed("a port", command.ReasonDenied, func(c *command.Command) { c.Action.Target = command.Target{Port: "80/tcp"} })
	for what, v := range map[string]int64{"under the least": 49, "over the most": 101, "of nothing": 0, "below nothing": -50, "beyond all bounds": math.MaxInt64} {
		signed("a value "+what, command.ReasonDenied, func(c *command.Command) { c.Action.Value = v })
	}
	signed("a lease over the limit", command.ReasonDenied, func(c *command.Command) { c.Lease = 61 * time.Second })
	signed("a release that takes longer than any lease", command.ReasonDenied, func(c *command.Command) { c.Release = command.Release{Step: 1, Every: time.Minute} })
	signed("other permissions than the host's", command.ReasonPermissionsChanged, func(c *command.Command) { c.PermissionsHash = bytes.Repeat([]byte{7}, 32) })
	signed("no permissions", command.ReasonPermissionsChanged, func(c *command.Command) { c.PermissionsHash = nil })
	signed("a prior state that is not there", command.ReasonPriorDiffers, func(c *command.Command) { c.ExpectedPrior = "nonsense" })

	// A good command, on a host that says no.
	good := func(name string, want command.Reason, before, after func() error) {
		all = append(all, &kind{name: name, want: want, before: before, after: after, make: func() (command.Envelope, error) { return command.Sign(h.apply(), h.signer) }})
	}
	good("with permissions that others may write", command.ReasonPermissionsBad, func() error { return os.Chmod(h.permissions, 0o666) }, func() error { return os.Chmod(h.permissions, 0o600) })
	good("with permissions in a folder that others may write", command.ReasonPermissionsBad, func() error { return os.Chmod(h.dir, 0o777) }, func() error { return os.Chmod(h.dir, 0o700) })
	aside := filepath.Join(h.dir, "aside")
	good("without permissions", command.ReasonPermissionsBad, func() error { return os.Rename(h.permissions, aside) }, func() error { return os.Rename(aside, h.permissions) })
	good("with a permissions file that is not to be read", command.ReasonPermissionsBad, func() error {
		return os.WriteFile(h.permissions, []byte(h.permissionsText()+"everything: true\n"), 0o600)
	}, func() error { return os.WriteFile(h.permissions, []byte(h.permissionsText()), 0o600) })
	good("under the kill file", command.ReasonKilled, func() error { return os.WriteFile(h.kill, nil, 0o600) }, func() error { return os.Remove(h.kill) })

	// No command at all.
	raw := func(name string, b []byte) {
		all = append(all, &kind{name: name, want: hungUp, raw: func() error { return h.shout(b) }})
	}
	raw("a frame of no length", []byte{0, 0, 0, 0})
	raw("a frame of four gigabytes", []byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	raw("a frame that is no message", framed([]byte("\xff\xff\xff\xff")))
	raw("a message that is nothing", framed([]byte{0xa0, 0x06, 0x01}))
	if b, err := proto.Marshal(&agentv1.ActorFrame{Frame: &agentv1.ActorFrame_Report{Report: []byte("x")}}); err == nil {
		raw("the actor's own words", framed(b))
	}
	raw("a text for a web server", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	raw("half a frame", append(binary.BigEndian.AppendUint32(nil, 100), "short"...))
	return all
}

// shout writes bytes on a connection of its own and waits until the actor hangs up, or the bytes end.
func (h *host) shout(b []byte) error {
	conn, err := net.Dial("unix", filepath.Join(h.dir, "state", "actor.sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return nil // hung up already
	}
	if u, ok := conn.(*net.UnixConn); ok {
		if err := u.CloseWrite(); err != nil {
			return err
		}
	}
	n, err := io.Copy(io.Discard, conn)
	if n > 0 {
		return fmt.Errorf("the actor answers %d bytes", n)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the actor does not hang up")
	}
	return nil
}
