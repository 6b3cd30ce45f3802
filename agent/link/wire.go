package link

import (
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/command"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

// Field numbers of SessionRequest and Batch that are written by hand; TestFieldNumbers holds them to the protocol.
const (
	fieldBatch  = 2
	fieldResult = 4
	fieldActor  = 5

	batchBoot     = 1
	batchSeq      = 2
	batchBackfill = 3
	batchFrame    = 4
)

// appendBatch appends a SessionRequest that holds one Batch. A nil boot is that of Hello.
func appendBatch(dst []byte, boot []byte, seq uint64, backfill bool, frame []byte) []byte {
	n := 1 + protowire.SizeVarint(seq) + 1 + protowire.SizeBytes(len(frame))
	if len(boot) > 0 {
		n += 1 + protowire.SizeBytes(len(boot))
	}
	if backfill {
		n += 2
	}
	dst = protowire.AppendTag(dst, fieldBatch, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(n))
	if len(boot) > 0 {
		dst = protowire.AppendTag(dst, batchBoot, protowire.BytesType)
		dst = protowire.AppendBytes(dst, boot)
	}
	dst = protowire.AppendTag(dst, batchSeq, protowire.VarintType)
	dst = protowire.AppendVarint(dst, seq)
	if backfill {
		dst = protowire.AppendTag(dst, batchBackfill, protowire.VarintType)
		dst = protowire.AppendVarint(dst, 1)
	}
	dst = protowire.AppendTag(dst, batchFrame, protowire.BytesType)
	return protowire.AppendBytes(dst, frame)
}

// rawRequest wraps a message that is marshalled already, and that the agent does not open.
func rawRequest(field protowire.Number, raw []byte) *frameMessage {
	b := make([]byte, 0, len(raw)+16)
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendBytes(b, raw)
	return &frameMessage{data: &b}
}

func helloToWire(cfg *Config, ranges []Range, now time.Time) *agentv1.SessionRequest {
	h := &agentv1.Hello{
		Protocol: 1, Version: cfg.Version, BootId: cfg.Boot[:], KernelBootId: cfg.Facts.KernelBootID,
		AgentTimeUnixMs: now.UnixMilli(), Labels: cfg.Labels, PeriodMs: uint32(cfg.Period.Milliseconds()),
		Facts: &agentv1.HostFacts{
			Os: cfg.Facts.OS, Platform: cfg.Facts.Platform, Kernel: cfg.Facts.Kernel, Arch: cfg.Facts.Arch,
			Cpus: cfg.Facts.CPUs, MemoryBytes: cfg.Facts.MemoryBytes, Cgroup: cfg.Facts.Cgroup,
		},
	}
	for _, r := range ranges {
		switch {
		case r.Boot == cfg.Boot:
			// Also where there are none: the batch of a tick between hello and welcome comes as backfill, and would count as
			// stored already if the collector believed that sequences begin with the first live one.
			h.SpoolFirstSeq, h.SpoolLastSeq = r.First, r.Last
		case r.Last >= r.First && r.Last > 0:
			h.Older = append(h.Older, &agentv1.BootRange{BootId: r.Boot[:], FirstSeq: r.First, LastSeq: r.Last})
		}
	}
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Hello{Hello: h}}
}

// ackFromWire returns the boot and seq of an ack; an empty boot is that of Hello. False: not a boot id.
func ackFromWire(a *agentv1.Ack, own BootID) (Range, bool) {
	r := Range{Boot: own, Last: a.GetSeq()}
	switch len(a.GetBootId()) {
	case 0:
	case len(r.Boot):
		copy(r.Boot[:], a.GetBootId())
	default:
		return r, false
	}
	return r, true
}

func componentsToWire(places []Place) *agentv1.ComponentReport {
	r := &agentv1.ComponentReport{}
	for _, p := range places {
		r.Places = append(r.Places, &agentv1.ComponentPlace{
			Component: p.Component, Running: p.Running, Processes: p.Processes, Cgroup: p.Cgroup, Problem: p.Problem,
		})
	}
	return r
}

// maxText is what a text of a control message may be long; more is of no use to anybody who reads it.
const maxText = 256

func clip(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.ToValidUTF8(s, "")
}

func changeToWire(kind, component, what, before, after string, at time.Time) *agentv1.HostChange {
	return &agentv1.HostChange{
		Kind: kind, Component: component, What: clip(what), Before: clip(before), After: clip(after), TimeUnixMs: at.UnixMilli(),
	}
}

func exitToWire(component string, pid int32, at time.Time) *agentv1.ProcessExit {
	return &agentv1.ProcessExit{Component: component, Pid: pid, TimeUnixMs: at.UnixMilli()}
}

func absentActor(problem string) []byte {
	b, err := proto.Marshal(&agentv1.ActorReport{Problem: problem})
	if err != nil {
		panic("BUG: an actor report does not marshal: " + err.Error())
	}
	return b
}

func watchesFromWire(list *agentv1.WatchList) []Watch {
	out := make([]Watch, 0, len(list.GetWatches()))
	for _, w := range list.GetWatches() {
		if len(out) == maxWatches {
			break
		}
		var t command.Target
		if w.GetTarget().GetTarget() != nil {
			var err error
			if t, err = command.TargetFromProto(w.GetTarget()); err != nil {
				continue
			}
		}
		out = append(out, Watch{Component: w.GetComponent(), Target: t})
	}
	return out
}

// maxWatches bounds a watch list; what is beyond it is not looked at.
const maxWatches = 256
