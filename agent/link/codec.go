package link

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// frameMessage is a SessionRequest that is marshalled already. The buffer goes back to its pool, where it has one, when
// gRPC has written it.
type frameMessage struct {
	data *[]byte
	pool *framePool
}

// codec writes ready-made messages as they are and everything else as protobuf. It has protobuf's name, so the other end
// needs to know nothing of it.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *frameMessage:
		if v.pool == nil {
			return mem.BufferSlice{mem.SliceBuffer(*v.data)}, nil
		}
		return mem.BufferSlice{mem.NewBuffer(v.data, v.pool)}, nil
	case proto.Message:
		b, err := proto.Marshal(v)
		if err != nil {
			return nil, err
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return nil, fmt.Errorf("cannot marshal %T", v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("cannot unmarshal into %T", v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return proto.Unmarshal(buf.ReadOnlyData(), m)
}

// framePool keeps the few buffers that live batches are built in. A buffer is never smaller than minFrame, since gRPC
// does not give smaller ones back.
type framePool struct {
	mu   sync.Mutex
	free []*[]byte
}

const (
	minFrame  = 2048
	keepFrame = 64 << 10 // larger ones are left to the garbage collector
	keepFree  = 4
)

func (p *framePool) take() *[]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	b := make([]byte, 0, minFrame)
	return &b
}

// Get exists for mem.BufferPool; gRPC takes no buffer from here.
func (p *framePool) Get(length int) *[]byte {
	b := make([]byte, length, max(length, minFrame))
	return &b
}

// Put takes a buffer back.
func (p *framePool) Put(b *[]byte) {
	if b == nil || cap(*b) < minFrame || cap(*b) > keepFrame {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < keepFree {
		p.free = append(p.free, b)
	}
}
