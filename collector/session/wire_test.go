package session

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/evenkeel/evenkeel/collector/ingest"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
)

func TestFieldNumbers(t *testing.T) {
	for name, want := range map[protoreflect.Name]int{"boot_id": batchBoot, "seq": batchSeq, "backfill": batchBackfill, "frame": batchFrame} {
		if got := (&agentv1.Batch{}).ProtoReflect().Descriptor().Fields().ByName(name).Number(); int(got) != want {
			t.Errorf("Batch.%s is %d, parse takes %d for it", name, got, want)
		}
	}
	if got := (&agentv1.SessionRequest{}).ProtoReflect().Descriptor().Fields().ByName("batch").Number(); got != fieldBatch {
		t.Errorf("SessionRequest.batch is %d", got)
	}
}

// FuzzInbound holds the reader by hand to the library: where both read a batch, they read the same.
func FuzzInbound(f *testing.F) {
	for _, m := range []*agentv1.SessionRequest{
		{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{Seq: 7, Frame: []byte("frame")}}},
		{Message: &agentv1.SessionRequest_Batch{Batch: &agentv1.Batch{BootId: []byte("0123456789abcdef"), Seq: 1 << 40, Backfill: true}}},
		{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{AgentTimeUnixMs: 5}}},
		{Message: &agentv1.SessionRequest_AckWanted{AckWanted: &agentv1.AckWanted{}}},
		{},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x12, 0x03, 0x10, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var in inbound
		err := in.parse(b)
		var m agentv1.SessionRequest
		if proto.Unmarshal(b, &m) != nil {
			return // the hand-made reader may be more lenient with fields that nobody reads
		}
		w := m.GetBatch()
		if w == nil {
			if err == nil && in.isBatch {
				t.Fatal("read a batch where there is none")
			}
			return
		}
		if n := len(w.GetBootId()); n != 0 && n != len(ingest.Boot{}) {
			return // refused, or the last of several
		}
		if err != nil {
			return
		}
		if !in.isBatch || in.batch.Seq != w.GetSeq() || in.batch.Backfill != w.GetBackfill() || !bytes.Equal(in.batch.Frame, w.GetFrame()) {
			t.Fatalf("read %+v, the library %v", in.batch, w)
		}
		if in.batch.Named && len(w.GetBootId()) > 0 && !bytes.Equal(in.batch.Boot[:], w.GetBootId()) {
			t.Fatalf("boot %x, the library %x", in.batch.Boot, w.GetBootId())
		}
	})
}
