// Package ipvs sets the weight of a real server in the kernel's load balancer, over generic netlink.
//
// The kernel takes a destination whole or not at all: everything that it said of one is said again, with another
// weight. The package owns no goroutine and keeps no connection.
package ipvs

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// table is the kernel's part.
type table interface {
	// destinations returns the real servers of a service, none where there is no such service.
	destinations(s command.IPVSService, four bool) ([]destination, error)
	set(s command.IPVSService, d destination) error
}

type weight struct{ kernel table }

// Weight is ipvs.weight: the weight of one destination of one virtual service.
func Weight() traffic.Actuator { return traffic.Actuator{Knob: weight{kernel{}}} }

func (w weight) Able() error {
	if err := traffic.NetAdmin(); err != nil {
		return err
	}
	if k, ok := w.kernel.(kernel); ok {
		if err := k.able(); err != nil {
			return command.Refuse(command.ReasonNotReversible, "%v", err)
		}
	}
	return nil
}

func (weight) Name(t command.Target) string { return t.String() }

func (weight) Permit(_ context.Context, t command.Target, now traffic.Reading) error {
	if now.Value == 0 {
		return command.Refuse(command.ReasonPriorDiffers, "%s has weight 0: somebody took it out of service", t)
	}
	return nil
}

func (w weight) find(t command.Target) (command.IPVSService, destination, error) {
	s, err := command.ParseIPVSService(t.IPVS.Service)
	if err != nil {
		return s, destination{}, err
	}
	want, err := netip.ParseAddrPort(t.IPVS.Destination)
	if err != nil {
		return s, destination{}, err
	}
	all, err := w.kernel.destinations(s, want.Addr().Is4())
	if err != nil {
		return s, destination{}, fmt.Errorf("cannot list the destinations of %s: %w", t.IPVS.Service, err)
	}
	for _, d := range all {
		if d.address == want {
			return s, d, nil
		}
	}
	return s, destination{}, fmt.Errorf("%w: service %s has no destination %s", traffic.ErrGone, t.IPVS.Service, t.IPVS.Destination)
}

func (w weight) Read(_ context.Context, t command.Target) (traffic.Reading, error) {
	_, d, err := w.find(t)
	return traffic.Reading{Native: strconv.FormatUint(uint64(d.weight), 10), Value: int64(d.weight)}, err
}

func (weight) Native(value int64, _ string) (string, error) { return strconv.FormatInt(value, 10), nil }

func (w weight) Set(_ context.Context, t command.Target, native string) error {
	n, err := strconv.ParseUint(native, 10, 31)
	if err != nil {
		return fmt.Errorf("weight %q is no number", native)
	}
	s, d, err := w.find(t)
	if err != nil {
		return err
	}
	d.weight = uint32(n)
	if err := w.kernel.set(s, d); err != nil {
		return fmt.Errorf("cannot set the weight of %s: %w", t, err)
	}
	return nil
}
