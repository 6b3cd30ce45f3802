package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Numbers of the kernel's interface, from linux/genetlink.h and linux/ip_vs.h.
const (
	genlHeader    = 4 // bytes
	familyName    = "IPVS"
	familyVersion = 1

	cmdSetDest = 6
	cmdGetDest = 8

	attrService = 1
	attrDest    = 2

	svcFamily   = 1
	svcProtocol = 2
	svcAddress  = 3
	svcPort     = 4
	svcMark     = 5

	dstAddress = 1
	dstPort    = 2
	dstForward = 3
	dstWeight  = 4
	dstUpper   = 5
	dstLower   = 6
	dstFamily  = 11
	dstTunType = 13
	dstTunPort = 14
	dstTunFlag = 15

	addressLen = 16 // bytes of a union of both kinds of address
)

const patience = 2 * time.Second

// destination is a real server as the kernel describes it.
type destination struct {
	address netip.AddrPort
	weight  uint32
	same    []netlink.Attribute // what is said again as it was
}

// kept are the attributes that a change must repeat.
var kept = map[uint16]bool{
	dstAddress: true, dstPort: true, dstForward: true, dstUpper: true, dstLower: true, dstFamily: true, dstTunType: true, dstTunPort: true, dstTunFlag: true,
}

// kernel is the kernel of this network namespace.
type kernel struct{}

func dial() (*netlink.Conn, uint16, error) {
	c, err := netlink.Dial(unix.NETLINK_GENERIC, nil)
	if err != nil {
		return nil, 0, err
	}
	family, err := resolve(c)
	if err != nil {
		c.Close()
		return nil, 0, err
	}
	return c, family, nil
}

// resolve asks for the number of the family, which is given out when the module is loaded.
func resolve(c *netlink.Conn) (uint16, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	ae := netlink.NewAttributeEncoder()
	ae.String(unix.CTRL_ATTR_FAMILY_NAME, familyName)
	b, err := ae.Encode()
	if err != nil {
		return 0, err
	}
	// No acknowledgement is asked for: it would come behind the answer, and be taken for that to the next question.
	answers, err := c.Execute(message(unix.GENL_ID_CTRL, netlink.Request, unix.CTRL_CMD_GETFAMILY, 1, b))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errors.New("this kernel has no IPVS: modprobe ip_vs")
	} else if err != nil {
		return 0, fmt.Errorf("cannot look for IPVS in the kernel: %w", err)
	}
	for _, m := range answers {
		if len(m.Data) < genlHeader {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[genlHeader:])
		if err != nil {
			return 0, err
		}
		for ad.Next() {
			if ad.Type() == unix.CTRL_ATTR_FAMILY_ID {
				id := ad.Uint16()
				return id, ad.Err()
			}
		}
	}
	return 0, errors.New("the kernel does not say the number of IPVS")
}

func message(family uint16, flags netlink.HeaderFlags, cmd, version uint8, attributes []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(family), Flags: flags}, Data: append([]byte{cmd, version, 0, 0}, attributes...),
	}
}

func (kernel) able() error {
	c, _, err := dial()
	if err != nil {
		return err
	}
	return c.Close()
}

func (kernel) destinations(s command.IPVSService, four bool) ([]destination, error) {
	c, family, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := encode(s, four, nil)
	if err != nil {
		return nil, err
	}
	answers, err := c.Execute(message(family, netlink.Request|netlink.Dump, cmdGetDest, familyVersion, b))
	if err != nil {
		return nil, err
	}
	var out []destination
	for _, m := range answers {
		if len(m.Data) < genlHeader {
			continue
		}
		d, ok, err := parse(m.Data[genlHeader:])
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, d)
		}
	}
	return out, nil
}

func (kernel) set(s command.IPVSService, d destination) error {
	c, family, err := dial()
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := encode(s, d.address.Addr().Is4(), &d)
	if err != nil {
		return err
	}
	_, err = c.Execute(message(family, netlink.Request|netlink.Acknowledge, cmdSetDest, familyVersion, b))
	return err
}

// encode names a service and, where d is not nil, a destination in full.
func encode(s command.IPVSService, four bool, d *destination) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(attrService, func(n *netlink.AttributeEncoder) error {
		if s.Mark != 0 {
			n.Uint16(svcFamily, addressFamily(four))
			n.Uint32(svcMark, s.Mark)
			return nil
		}
		n.Uint16(svcFamily, addressFamily(s.Address.Addr().Is4()))
		proto := uint16(unix.IPPROTO_TCP)
		if s.Protocol == "udp" {
			proto = unix.IPPROTO_UDP
		}
		n.Uint16(svcProtocol, proto)
		n.Bytes(svcAddress, addressBytes(s.Address.Addr()))
		n.Bytes(svcPort, binary.BigEndian.AppendUint16(nil, s.Address.Port()))
		return nil
	})
	if d != nil {
		ae.Nested(attrDest, func(n *netlink.AttributeEncoder) error {
			for _, a := range d.same {
				n.Bytes(a.Type, a.Data)
			}
			n.Uint32(dstWeight, d.weight)
			return nil
		})
	}
	return ae.Encode()
}

func addressFamily(four bool) uint16 {
	if four {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func addressBytes(a netip.Addr) []byte {
	out := make([]byte, addressLen)
	copy(out, a.AsSlice())
	return out
}

// parse reads one message of the kernel's list; ok is false where it describes no destination.
func parse(b []byte) (d destination, ok bool, err error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return d, false, err
	}
	for ad.Next() {
		if ad.Type() != attrDest {
			continue
		}
		if d, err = parseDestination(ad.Bytes()); err != nil {
			return d, false, err
		}
		ok = true
	}
	return d, ok, ad.Err()
}

func parseDestination(b []byte) (destination, error) {
	attributes, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return destination{}, err
	}
	var d destination
	var address []byte
	var port, family uint16
	var weighed bool
	for _, a := range attributes {
		a.Type &^= netlink.Nested | netlink.NetByteOrder
		switch {
		case a.Type == dstAddress && len(a.Data) == addressLen:
			address = a.Data
		case a.Type == dstPort && len(a.Data) == 2:
			port = binary.BigEndian.Uint16(a.Data)
		case a.Type == dstFamily && len(a.Data) == 2:
			family = binary.NativeEndian.Uint16(a.Data)
		case a.Type == dstWeight && len(a.Data) == 4:
			d.weight, weighed = binary.NativeEndian.Uint32(a.Data), true
		}
		if kept[a.Type] {
			d.same = append(d.same, a)
		}
	}
	if address == nil || !weighed {
		return destination{}, errors.New("the kernel describes a destination without address or weight")
	}
	switch family {
	case unix.AF_INET:
		d.address = netip.AddrPortFrom(netip.AddrFrom4([4]byte(address[:4])), port)
	case unix.AF_INET6:
		d.address = netip.AddrPortFrom(netip.AddrFrom16([16]byte(address)), port)
	default:
		return destination{}, fmt.Errorf("the kernel describes a destination of address family %d: expected 2 or 10 (Linux 3.18 or later)", family)
	}
	return d, nil
}
