package main

import "testing"

// Records are counted whatever the writes are that they come in.
func TestPlainBytes(t *testing.T) {
	record := func(kind byte, content int) []byte {
		n := content + recordExtra
		return append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	stream := append(record(22, 300), record(recordData, 1)...) // a ClientHello, which is not encrypted, and two that are
	stream = append(stream, record(recordData, 4000)...)
	for size := 1; size <= len(stream); size++ {
		var c recordCounter
		for at := 0; at < len(stream); at += size {
			c.add(stream[at:min(at+size, len(stream))])
		}
		if c.plain != 4001 {
			t.Fatalf("writes of %d bytes: %d plain bytes, want 4001", size, c.plain)
		}
	}
}
