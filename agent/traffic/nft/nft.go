// Package nft bounds the new connections to a port with a rule in a table of its own.
//
// The rule looks the port up in a set whose one element has a timeout, and the kernel forgets the element by itself:
// whatever becomes of this process, a bound that it does not renew is gone within half a minute. Nothing but the table
// "evenkeel" is ever touched, and it is removed with the last rule. The package owns no goroutine and keeps no
// connection to the kernel.
package nft

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Timeout of the kernel's element, and how often it is renewed while its lease goes on.
const (
	Timeout = 30 * time.Second
	renewal = 10 * time.Second
)

// none is what stands where there is no bound, and a rate that stands for it in a gradual release.
const (
	none     = "no limit"
	noneRate = 100000
	perUnit  = "/second"
)

// rules is the kernel's part.
type rules interface {
	// get returns the rate for a port, 0 where nothing bounds it.
	get(p port) (rate uint64, err error)
	// put bounds a port at a rate for the time of Timeout, whatever bound was there.
	put(p port, rate uint64) error
	// remove takes a port's bound away, and everything of ours with the last.
	remove(p port) error
}

// port is where connections come in.
type port struct {
	number uint16
	proto  byte // IPPROTO_TCP or IPPROTO_UDP
	name   string
}

func portOf(t command.Target) (port, error) {
	number, proto, _ := strings.Cut(t.Port, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return port{}, fmt.Errorf("port %q is not of the form 8080/tcp", t.Port)
	}
	p := port{number: uint16(n), proto: 6, name: proto + "_" + number}
	if proto == "udp" {
		p.proto = 17
	}
	return p, nil
}

type limit struct {
	kernel rules
	keep   *traffic.Deadman
}

// Limit is nft.limit: at most so many new connections to a port in a second, the others dropped.
func Limit() traffic.Actuator { return limitOn(kernel{}, traffic.Boottime) }

func limitOn(k rules, now func() time.Duration) traffic.Actuator {
	return traffic.Actuator{Knob: limit{k, &traffic.Deadman{TTL: Timeout, Every: renewal, Now: now}}}
}

// Able needs the right to change the network, and a kernel with nf_tables.
func (l limit) Able() error {
	if err := traffic.NetAdmin(); err != nil {
		return err
	}
	if _, err := l.kernel.get(port{number: 1, proto: 6, name: "tcp_1"}); err != nil {
		return command.Refuse(command.ReasonNotReversible, "the kernel's nf_tables cannot be asked: %v", err)
	}
	return nil
}

func (limit) Name(t command.Target) string { return "nft/" + t.Port }

func (limit) Permit(_ context.Context, t command.Target, now traffic.Reading) error {
	if now.Native != none {
		// A bound that no lease holds: the journal was lost. The kernel forgets it by itself.
		return command.Refuse(command.ReasonBusy, "port %s is bounded already: what is left of an earlier bound ends within %s", t.Port, Timeout)
	}
	return nil
}

func (l limit) Read(_ context.Context, t command.Target) (traffic.Reading, error) {
	p, err := portOf(t)
	if err != nil {
		return traffic.Reading{}, err
	}
	rate, err := l.kernel.get(p)
	if err != nil {
		return traffic.Reading{}, fmt.Errorf("cannot read nf_tables: %w", err)
	}
	if rate == 0 {
		return traffic.Reading{Native: none, Value: noneRate}, nil
	}
	return traffic.Reading{Native: strconv.FormatUint(rate, 10) + perUnit, Value: int64(min(rate, 1<<53))}, nil
}

func (limit) Native(value int64, _ string) (string, error) {
	return strconv.FormatInt(value, 10) + perUnit, nil
}

func (l limit) Set(_ context.Context, t command.Target, native string) error {
	p, err := portOf(t)
	if err != nil {
		return err
	}
	if native == none {
		if err := l.kernel.remove(p); err != nil {
			return fmt.Errorf("cannot remove the bound of port %s: %w", t.Port, err)
		}
		return nil
	}
	rate, err := strconv.ParseUint(strings.TrimSuffix(native, perUnit), 10, 32)
	if err != nil {
		return fmt.Errorf("rate %q is no number", native)
	}
	if err := l.kernel.put(p, rate); err != nil {
		return fmt.Errorf("cannot bound port %s: %w", t.Port, err)
	}
	l.keep.Kept(t.Port)
	return nil
}

// Keep renews the element before the kernel forgets it.
func (l limit) Keep(ctx context.Context, t command.Target, wanted string, now traffic.Reading) error {
	if !l.keep.Due(t.Port, now.Native == wanted, now.Native == none) {
		return nil
	}
	return l.Set(ctx, t, wanted)
}

// Forget clears away what the kernel has let run out: a rule without its element does nothing, and is not left behind.
func (l limit) Forget(t command.Target) {
	l.keep.Forget(t.Port)
	p, err := portOf(t)
	if err != nil {
		return
	}
	if rate, err := l.kernel.get(p); err == nil && rate == 0 {
		_ = l.kernel.remove(p) // it has no effect: what stays is cleared by the next
	}
}
