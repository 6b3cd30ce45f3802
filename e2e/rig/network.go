package rig

import (
	"fmt"
	"os"
	"testing"
)

// Network is a bridge on this machine with a namespace behind each of its ports.
type Network struct {
	Address string // of this machine on the bridge
	bridge  string
	prefix  string
	members int
}

// NewNetwork makes the bridge.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	id := os.Getpid() % 100000
	n := &Network{bridge: fmt.Sprintf("%sb%d", Prefix, id), prefix: fmt.Sprintf("10.213.%d", id%256)}
	n.Address = n.prefix + ".1"
	Must(t, "ip", "link", "add", n.bridge, "type", "bridge")
	t.Cleanup(func() { Run(t, "ip", "link", "del", n.bridge) })
	Must(t, "ip", "addr", "add", n.Address+"/24", "dev", n.bridge)
	Must(t, "ip", "link", "set", n.bridge, "up")
	return n
}

// Member is a network namespace on the bridge.
type Member struct {
	Namespace string
	port      string // this machine's end of its cable
}

// Member makes a namespace with an address on the bridge.
func (n *Network) Member(t testing.TB) Member {
	t.Helper()
	n.members++
	m := Member{Namespace: fmt.Sprintf("%s-%s-%d", Prefix, n.bridge[len(Prefix):], n.members), port: fmt.Sprintf("%sp%d", n.bridge, n.members)}
	inside := fmt.Sprintf("%sq%d", n.bridge, n.members)
	Must(t, "ip", "netns", "add", m.Namespace)
	t.Cleanup(func() { Run(t, "ip", "netns", "del", m.Namespace) })
	Must(t, "ip", "link", "add", m.port, "type", "veth", "peer", "name", inside)
	t.Cleanup(func() { Run(t, "ip", "link", "del", m.port) })
	Must(t, "ip", "link", "set", inside, "netns", m.Namespace)
	Must(t, "ip", "link", "set", m.port, "master", n.bridge, "up")
	for _, line := range [][]string{
		{"addr", "add", fmt.Sprintf("%s.%d/24", n.prefix, n.members+1), "dev", inside}, {"link", "set", inside, "up"}, {"link", "set", "lo", "up"},
	} {
		Must(t, "ip", append([]string{"-n", m.Namespace}, line...)...)
	}
	return m
}

// Cut takes the member's cable out.
func (m Member) Cut(t testing.TB) { t.Helper(); Must(t, "ip", "link", "set", m.port, "down") }

// Mend puts it back.
func (m Member) Mend(t testing.TB) { t.Helper(); Must(t, "ip", "link", "set", m.port, "up") }
