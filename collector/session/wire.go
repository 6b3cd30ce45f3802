package session

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/collector/ingest"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

const (
	maxText   = 1 << 10 // bytes of one text that an agent sends
	maxLabels = 64
	maxOlder  = 32
	maxPlaces = 1 << 10
)

// inbound receives one SessionRequest. A batch, which is nearly every message, is read by hand and its frame points into
// the buffer that gRPC received it in, so that it costs no allocation; it is valid until the next receive.
type inbound struct {
	isBatch bool
	batch   ingest.Batch
	request *agentv1.SessionRequest // where it is not a batch

	buf mem.Buffer
}

func (in *inbound) free() {
	if in.buf != nil {
		in.buf.Free()
		in.buf = nil
	}
	in.isBatch, in.batch, in.request = false, ingest.Batch{}, nil
}

// codec is protobuf that knows inbound. It has protobuf's name, so the other end needs to know nothing of it.
type codec struct{}

// Name returns "proto".
func (codec) Name() string { return "proto" }

// Marshal writes a protobuf message.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("cannot marshal %T", v)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal reads into an inbound or a protobuf message.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	switch v := v.(type) {
	case *inbound:
		v.free()
		v.buf = buf
		return v.parse(buf.ReadOnlyData())
	case proto.Message:
		defer buf.Free()
		return proto.Unmarshal(buf.ReadOnlyData(), v)
	}
	buf.Free()
	return fmt.Errorf("cannot unmarshal into %T", v)
}

// The field numbers that parse knows; a test holds them to the protocol.
const (
	fieldBatch    = 2
	batchBoot     = 1
	batchSeq      = 2
	batchBackfill = 3
	batchFrame    = 4
)

var errMalformed = errors.New("malformed message")

// parse reads b by hand if it is one batch and nothing else, and with the library otherwise.
func (in *inbound) parse(b []byte) error {
	num, typ, n := protowire.ConsumeTag(b)
	if n > 0 && num == fieldBatch && typ == protowire.BytesType {
		body, m := protowire.ConsumeBytes(b[n:])
		if m > 0 && n+m == len(b) {
			in.isBatch = true
			return parseBatch(body, &in.batch)
		}
	}
	in.request = &agentv1.SessionRequest{}
	if err := proto.Unmarshal(b, in.request); err != nil {
		return errMalformed
	}
	if w := in.request.GetBatch(); w != nil { // in a form that only the library reads: fields in pieces, or unknown ones
		in.isBatch = true
		in.batch = ingest.Batch{Seq: w.GetSeq(), Backfill: w.GetBackfill(), Frame: w.GetFrame()}
		return setBoot(&in.batch, w.GetBootId())
	}
	return nil
}

// setBoot takes a boot id; none at all stands for that of Hello.
func setBoot(b *ingest.Batch, id []byte) error {
	if len(id) == 0 {
		return nil
	}
	if len(id) != len(b.Boot) {
		return errMalformed
	}
	copy(b.Boot[:], id)
	b.Named = true
	return nil
}

func parseBatch(b []byte, out *ingest.Batch) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		switch {
		case num == batchSeq && typ == protowire.VarintType:
			out.Seq, n = protowire.ConsumeVarint(b)
		case num == batchBackfill && typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			out.Backfill = v != 0
		case num == batchFrame && typ == protowire.BytesType:
			out.Frame, n = protowire.ConsumeBytes(b)
		case num == batchBoot && typ == protowire.BytesType:
			var id []byte
			if id, n = protowire.ConsumeBytes(b); n >= 0 {
				if err := setBoot(out, id); err != nil {
					return err
				}
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
	}
	return nil
}

// greeting is what a Hello says.
type greeting struct {
	connected Connected
	ranges    ingest.Hello
}

// helloFromWire takes a hello, or says why there can be no session.
func helloFromWire(h *agentv1.Hello, now time.Time) (greeting, string) {
	var g greeting
	if h.GetProtocol() != 1 {
		return g, fmt.Sprintf("the agent speaks protocol %d and this collector speaks 1: install an agent of the collector's version", h.GetProtocol())
	}
	if len(h.GetBootId()) != len(g.ranges.Boot) {
		return g, "the agent's boot id is not 16 bytes"
	}
	if len(h.GetLabels()) > maxLabels || len(h.GetOlder()) > maxOlder {
		return g, fmt.Sprintf("the agent's hello has more than %d labels or %d earlier starts", maxLabels, maxOlder)
	}
	copy(g.ranges.Boot[:], h.GetBootId())
	g.ranges.First, g.ranges.Last = h.GetSpoolFirstSeq(), h.GetSpoolLastSeq()
	for _, o := range h.GetOlder() {
		r := ingest.Range{First: o.GetFirstSeq(), Last: o.GetLastSeq()}
		if copy(r.Boot[:], o.GetBootId()) != len(r.Boot) || len(o.GetBootId()) != len(r.Boot) {
			return g, "a boot id is not 16 bytes"
		}
		g.ranges.Older = append(g.ranges.Older, r)
	}
	f := h.GetFacts()
	g.connected = Connected{
		Version: clip(h.GetVersion()), KernelBootID: clip(h.GetKernelBootId()), At: now,
		Skew: now.Sub(time.UnixMilli(h.GetAgentTimeUnixMs())), Period: time.Duration(h.GetPeriodMs()) * time.Millisecond,
		Facts: Facts{
			OS: clip(f.GetOs()), Platform: clip(f.GetPlatform()), Kernel: clip(f.GetKernel()), Arch: clip(f.GetArch()), Cgroup: clip(f.GetCgroup()),
			CPUs: int(f.GetCpus()), MemoryBytes: f.GetMemoryBytes(),
		},
		Labels: map[string]string{},
	}
	for k, v := range h.GetLabels() {
		g.connected.Labels[clip(k)] = clip(v)
	}
	return g, ""
}

func componentsFromWire(r *agentv1.ComponentReport) (Components, error) {
	var c Components
	if len(r.GetPlaces()) > maxPlaces {
		return c, fmt.Errorf("report of %d components", len(r.GetPlaces()))
	}
	for _, p := range r.GetPlaces() {
		if len(p.GetComponent()) > maxText || len(p.GetCgroup()) > 4*maxText {
			return c, errors.New("component report with an over-long name")
		}
		c.Places = append(c.Places, Place{
			Component: p.GetComponent(), Running: p.GetRunning(), Processes: int(p.GetProcesses()), Cgroup: p.GetCgroup(), Problem: clip(p.GetProblem()),
		})
	}
	return c, nil
}

func welcomeToWire(cluster string, now time.Time, acked []ingest.Acked, credit int64, members []string) *agentv1.SessionResponse {
	w := &agentv1.Welcome{ClusterId: cluster, CollectorTimeUnixMs: now.UnixMilli(), BackfillCredit: uint64(credit), Members: members}
	for _, a := range acked {
		w.Acked = append(w.Acked, &agentv1.Ack{BootId: append([]byte(nil), a.Boot[:]...), Seq: a.Seq})
	}
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Welcome{Welcome: w}}
}

func ackToWire(boot ingest.Boot, seq uint64) *agentv1.SessionResponse {
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Ack{Ack: &agentv1.Ack{BootId: append([]byte(nil), boot[:]...), Seq: seq}}}
}

func refusalToWire(r ingest.Refusal) *agentv1.SessionResponse {
	out := &agentv1.Refusal{Reason: r.Reason, BootId: append([]byte(nil), r.Boot[:]...), Seq: r.Seq, Samples: uint32(r.Samples)}
	switch r.Class {
	case ingest.RetryAfter:
		out.Class, out.RetryAfterMs = agentv1.Refusal_CLASS_RETRY_AFTER, uint32(r.After.Milliseconds())
	case ingest.Drop:
		out.Class = agentv1.Refusal_CLASS_DROP
	}
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Refusal{Refusal: out}}
}

// stop and retryAfter refuse the whole session, so they name no batch.
func stop(reason string) *agentv1.Refusal {
	return &agentv1.Refusal{Class: agentv1.Refusal_CLASS_STOP, Reason: reason}
}

func retryAfter(reason string, after time.Duration) *agentv1.Refusal {
	return &agentv1.Refusal{Class: agentv1.Refusal_CLASS_RETRY_AFTER, Reason: reason, RetryAfterMs: uint32(after.Milliseconds())}
}

func watchToWire(watches []Watch) *agentv1.SessionResponse {
	list := &agentv1.WatchList{}
	for _, w := range watches {
		out := &agentv1.Watch{Component: w.Component}
		if t := w.Target.Proto(); t.GetTarget() != nil {
			out.Target = t
		}
		list.Watches = append(list.Watches, out)
	}
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Watch{Watch: list}}
}

// clip bounds a text of an agent and makes it valid UTF-8.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
