package ipvs

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/agent/actuator"
	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

// described is a destination as the kernel describes it, statistics included.
func described(a netip.AddrPort, weight uint32) []byte {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(attrDest, func(n *netlink.AttributeEncoder) error {
		n.Bytes(dstAddress, addressBytes(a.Addr()))
		n.Bytes(dstPort, binary.BigEndian.AppendUint16(nil, a.Port()))
		n.Uint32(dstForward, 2)
		n.Uint32(dstWeight, weight)
		n.Uint32(dstUpper, 5)
		n.Uint32(dstLower, 3)
		n.Uint32(7, 99) // active connections: not to be said again
		n.Uint16(dstFamily, addressFamily(a.Addr().Is4()))
		n.Uint8(dstTunType, 1)
		return nil
	})
	b, err := ae.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

// What the kernel says of a destination is said again, all that it asks for, and with the weight that is wanted.
func TestSaidAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := netip.AddrPortFrom(netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.2", "2001:db8::2"}).Draw(t, "address")), rapid.Uint16().Draw(t, "port"))
		d, ok, err := parse(described(a, rapid.Uint32().Draw(t, "weight")))
		if err != nil || !ok || d.address != a {
			t.Fatalf("%+v %v %v", d, ok, err)
		}
		d.weight = rapid.Uint32().Draw(t, "new weight")
		b, err := encode(command.IPVSService{Mark: 7}, a.Addr().Is4(), &d)
		if err != nil {
			t.Fatal(err)
		}
		again, ok, err := parse(b)
		if err != nil || !ok || again.address != a || again.weight != d.weight || len(again.same) != len(kept)-2 { // no tunnel port, no tunnel flags
			t.Fatalf("%+v %v %v", again, ok, err)
		}
	})
}

func TestServiceIsNamed(t *testing.T) {
	s, err := command.ParseIPVSService("udp/10.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	b, err := encode(s, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil || !ad.Next() || ad.Type() != attrService {
		t.Fatal(err)
	}
	got := map[uint16][]byte{}
	ad.Nested(func(n *netlink.AttributeDecoder) error {
		for n.Next() {
			got[n.Type()] = n.Bytes()
		}
		return nil
	})
	if len(got) != 4 || got[svcProtocol][0] != unix.IPPROTO_UDP || len(got[svcAddress]) != addressLen || got[svcPort][1] != 53 || got[svcFamily][0] != unix.AF_INET {
		t.Errorf("%v", got)
	}
}

type fake struct{ all []destination }

func (f *fake) destinations(s command.IPVSService, _ bool) ([]destination, error) {
	if s.Address.Port() != 80 {
		return nil, nil
	}
	return append([]destination{}, f.all...), nil
}

func (f *fake) set(_ command.IPVSService, d destination) error {
	for i := range f.all {
		if f.all[i].address == d.address {
			f.all[i] = d
		}
	}
	return nil
}

type unprivileged struct{ weight }

func (unprivileged) Able() error { return nil }

func TestWeightThereAndBack(t *testing.T) {
	f := &fake{all: []destination{{address: netip.MustParseAddrPort("10.0.0.2:80"), weight: 100}, {address: netip.MustParseAddrPort("10.0.0.3:80")}}}
	a := traffic.Actuator{Knob: unprivileged{weight{f}}}
	at := func(service, destination string) command.Target {
		return command.Target{IPVS: &command.IPVSDestination{Service: service, Destination: destination}}
	}
	c := actuator.Change{Target: at("tcp/10.0.0.1:80", "10.0.0.2:80"), Values: []int64{10}}
	var err error
	if c.State, err = a.Prior(t.Context(), c.Target); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Write(t.Context(), c); err != nil || f.all[0].weight != 10 {
		t.Fatal(err, f.all)
	}
	if s, _, err := a.Restore(t.Context(), c); s != actuator.Before || err != nil || f.all[0].weight != 100 {
		t.Fatal(s, err, f.all)
	}
	for _, x := range []struct {
		target command.Target
		want   command.Reason
	}{
		{at("tcp/10.0.0.1:80", "10.0.0.3:80"), command.ReasonPriorDiffers}, // quiesced by somebody
		{at("tcp/10.0.0.1:80", "10.0.0.4:80"), command.ReasonNoTarget},
		{at("tcp/10.0.0.1:81", "10.0.0.2:80"), command.ReasonNoTarget},
	} {
		if _, err := a.Prior(t.Context(), x.target); command.ReasonOf(err) != x.want {
			t.Errorf("%s: %v, want %s", x.target, err, x.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(described(netip.MustParseAddrPort("10.0.0.2:80"), 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok, err := parse(b)
		if err != nil || !ok {
			return
		}
		again, err := encode(command.IPVSService{Mark: 1}, true, &d)
		if err != nil {
			t.Skip() // longer than a message may be
		}
		if e, ok, err := parse(again); err != nil || !ok || e.weight != d.weight || e.address != d.address {
			t.Fatalf("%+v became %+v: %v", d, e, err)
		}
	})
}
