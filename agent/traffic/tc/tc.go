// Package tc bounds the rate at which a network interface sends, with a token bucket under a handle of its own.
//
// It acts on an interface with the kernel's own queue only: another root queue could be taken away and not be put back
// as it was. It removes nothing but its own handle, after which the kernel puts its default queue in place. An interface
// that is made anew is shaped anew: its index is the epoch. The package owns no goroutine and no connection.
package tc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// Handle is the major number of our queue, as tc shows it: "ec0e:".
const Handle = 0xec0e

const (
	none       = "the kernel's own queue"
	perUnit    = " kbit/s"
	bytesPer   = 125      // in a second, for one kbit/s
	unknown    = 10000000 // kbit/s: stands for no bound in a gradual release where the speed is not known
	leastBurst = 32 << 10 // bytes
)

type shape struct{ sys string }

// Shape is tc.shape: an interface sends at most so many kbit/s.
func Shape() traffic.Actuator { return traffic.Actuator{Knob: shape{"/sys/class/net"}} }

func (shape) Able() error { return traffic.NetAdmin() }

func (shape) Name(t command.Target) string { return "tc/" + t.Interface }

func (shape) Permit(_ context.Context, t command.Target, now traffic.Reading) error {
	if now.Native != none {
		return command.Refuse(command.ReasonNotReversible, "interface %s has a root queue already (%s) that could not be put back as it is", t.Interface, now.Native)
	}
	return nil
}

// root returns the queue at the root; nil where the kernel shows none.
func root(t command.Target) (netlink.Link, netlink.Qdisc, error) {
	link, err := netlink.LinkByName(t.Interface)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil, fmt.Errorf("%w: there is no interface %s", traffic.ErrGone, t.Interface)
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot look for interface %s: %w", t.Interface, err)
	}
	queues, err := netlink.QdiscList(link)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list the queues of %s: %w", t.Interface, err)
	}
	for _, q := range queues {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			return link, q, nil
		}
	}
	return link, nil, nil
}

func (s shape) Read(_ context.Context, t command.Target) (traffic.Reading, error) {
	link, q, err := root(t)
	if err != nil {
		return traffic.Reading{}, err
	}
	r := traffic.Reading{Native: none, Value: s.speed(t.Interface), Epoch: strconv.Itoa(link.Attrs().Index)}
	if q == nil || q.Attrs().Handle == 0 { // the kernel gives no handle to what it put there itself
		return r, nil
	}
	if b, ok := q.(*netlink.Tbf); ok && q.Attrs().Handle == netlink.MakeHandle(Handle, 0) {
		r.Value = int64(b.Rate / bytesPer)
		r.Native = strconv.FormatInt(r.Value, 10) + perUnit
		return r, nil
	}
	r.Native = q.Type() + " " + netlink.HandleStr(q.Attrs().Handle)
	return r, nil
}

// Epoch is the index of the interface: one that was made anew has another.
func (shape) Epoch(_ context.Context, t command.Target) (string, error) {
	link, err := net.InterfaceByName(t.Interface)
	if err != nil {
		return "", err
	}
	return strconv.Itoa(link.Index), nil
}

// speed is that of the card in kbit/s.
func (s shape) speed(name string) int64 {
	b, err := os.ReadFile(filepath.Join(s.sys, name, "speed"))
	if err != nil {
		return unknown
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n <= 0 {
		return unknown
	}
	return n * 1000
}

func (shape) Native(value int64, _ string) (string, error) {
	return strconv.FormatInt(value, 10) + perUnit, nil
}

func (s shape) Set(ctx context.Context, t command.Target, native string) error {
	link, q, err := root(t)
	if err != nil {
		return err
	}
	ours := q != nil && q.Attrs().Handle == netlink.MakeHandle(Handle, 0)
	if native == none {
		if !ours {
			return nil
		}
		if err := netlink.QdiscDel(bucket(link, 1)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("cannot remove our queue of %s: %w", t.Interface, err)
		}
		return nil
	}
	rate, err := strconv.ParseUint(strings.TrimSuffix(native, perUnit), 10, 40)
	if err != nil || rate == 0 {
		return fmt.Errorf("rate %q is no number", native)
	}
	switch {
	case ours:
		err = netlink.QdiscChange(bucket(link, rate))
	case q == nil || q.Attrs().Handle == 0:
		err = netlink.QdiscAdd(bucket(link, rate)) // refused by the kernel if somebody put a queue there meanwhile
	default:
		return command.Refuse(command.ReasonPriorDiffers, "interface %s has another root queue now", t.Interface)
	}
	if err != nil {
		return fmt.Errorf("cannot shape %s: %w", t.Interface, err)
	}
	return nil
}

// bucket lets 10 ms go at once and 50 ms wait.
func bucket(link netlink.Link, kbit uint64) *netlink.Tbf {
	rate := kbit * bytesPer
	burst := min(max(rate/100, leastBurst), 64<<20)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(Handle, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate,
		Limit:      uint32(min(rate/20+burst, 1<<31)),
		Buffer:     netlink.Xmittime(rate, uint32(burst)),
	}
}
