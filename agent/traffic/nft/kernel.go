package nft

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names of everything that is ours.
const (
	tableName = "evenkeel"
	chainName = "input"
)

// stateNew is the kernel's bit for a connection that was not seen before.
const stateNew = 1 << 3

// kernel is nf_tables over netlink.
type kernel struct{}

// found is what the kernel has of ours for one port.
type found struct {
	table   *nftables.Table
	chain   *nftables.Chain
	set     *nftables.Set
	element bool
	rules   []*nftables.Rule // of the port
	others  int              // rules for other ports
	rate    uint64
}

func (kernel) look(c *nftables.Conn, p port) (found, error) {
	var f found
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return f, err
	}
	for _, t := range tables {
		if t.Name == tableName {
			f.table = t
		}
	}
	if f.table == nil {
		return f, nil
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return f, err
	}
	for _, ch := range chains {
		if ch.Table.Name == tableName && ch.Name == chainName {
			f.chain = ch
		}
	}
	sets, err := c.GetSets(f.table)
	if err != nil {
		return f, err
	}
	for _, s := range sets {
		if s.Name == p.name {
			s.Table = f.table
			f.set = s
		}
	}
	if f.set != nil {
		elements, err := c.GetSetElements(f.set)
		if err != nil {
			return f, err
		}
		for _, e := range elements {
			f.element = f.element || bytes.Equal(e.Key, p.key())
		}
	}
	if f.chain == nil {
		return f, nil
	}
	rules, err := c.GetRules(f.table, f.chain)
	if err != nil {
		return f, err
	}
	for _, r := range rules {
		if !looksUp(r, p.name) {
			f.others++
			continue
		}
		f.rules = append(f.rules, r)
		for _, e := range r.Exprs {
			if l, ok := e.(*expr.Limit); ok && l.Over && l.Unit == expr.LimitTimeSecond {
				f.rate = l.Rate
			}
		}
	}
	return f, nil
}

// looksUp reports whether a rule is the one for a set.
func looksUp(r *nftables.Rule, set string) bool {
	for _, e := range r.Exprs {
		if l, ok := e.(*expr.Lookup); ok && l.SetName == set {
			return true
		}
	}
	return false
}

func (p port) key() []byte { return binary.BigEndian.AppendUint16(nil, p.number) }

// get counts a rule without its element, and an element without its rule, as no bound: neither does anything.
func (k kernel) get(p port) (uint64, error) {
	f, err := k.look(&nftables.Conn{}, p)
	if errors.Is(err, unix.ENOENT) { // removed while one looks
		return 0, nil
	}
	if err != nil || !f.element || len(f.rules) == 0 {
		return 0, err
	}
	return f.rate, nil
}

// put works in one transaction: the kernel never shows a half of it.
func (k kernel) put(p port, rate uint64) error {
	c := &nftables.Conn{}
	f, err := k.look(c, p)
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
	accept := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{
		Name: chainName, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter - 10), Policy: &accept,
	})
	for _, r := range f.rules {
		if err := c.DelRule(r); err != nil {
			return err
		}
	}
	set := f.set
	element := []nftables.SetElement{{Key: p.key(), Timeout: Timeout}}
	if set == nil {
		set = &nftables.Set{Table: table, Name: p.name, KeyType: nftables.TypeInetService, HasTimeout: true}
		err = c.AddSet(set, element)
	} else {
		if f.element {
			err = c.SetDeleteElements(set, []nftables.SetElement{{Key: p.key()}})
		}
		if err == nil {
			err = c.SetAddElements(set, element)
		}
	}
	if err != nil {
		return err
	}
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: p.rule(set, rate)})
	return c.Flush()
}

// rule drops new connections over the rate and counts them. The burst is what may come in at once after a quiet second.
func (p port) rule(set *nftables.Set, rate uint64) []expr.Any {
	bit := binaryutil.NativeEndian.PutUint32(stateNew)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p.proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: bit, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Limit{Type: expr.LimitTypePkts, Rate: rate, Over: true, Unit: expr.LimitTimeSecond, Burst: uint32(max(1, min(rate/5, 1000)))},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

func (k kernel) remove(p port) error {
	c := &nftables.Conn{}
	f, err := k.look(c, p)
	if err != nil || f.table == nil {
		return err
	}
	if f.others == 0 {
		c.DelTable(f.table)
		return gone(c.Flush())
	}
	for _, r := range f.rules {
		if err := c.DelRule(r); err != nil {
			return err
		}
	}
	if f.set != nil {
		c.DelSet(f.set)
	}
	return gone(c.Flush())
}

// gone takes it for done if somebody was faster.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
