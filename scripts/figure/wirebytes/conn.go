package main

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// counters are a connection's, since it was opened.
type counters struct {
	sent, received uint64 // bytes, by the kernel
	segments       uint64 // TCP segments sent, by the kernel
	plain          uint64 // bytes that were sent inside TLS records
}

// countingConn is a connection whose sent TLS records are counted.
type countingConn struct {
	*net.TCPConn

	mu      sync.Mutex
	records recordCounter
}

// recordCounter reads the lengths of the TLS records that pass, to know what TLS itself adds.
type recordCounter struct {
	head  []byte // of a record whose header is not complete
	left  int    // bytes to come of the record under way
	plain uint64
}

// What a record of TLS 1.3 adds to its content: a header, a type, and the tag of the cipher.
const (
	recordHead  = 5
	recordExtra = 1 + 16
	recordData  = 23 // the type of every encrypted record
)

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records.add(b[:n])
	return n, err
}

func (c *recordCounter) add(p []byte) {
	for len(p) > 0 {
		if c.left > 0 {
			k := min(c.left, len(p))
			c.left -= k
			p = p[k:]
			continue
		}
		k := min(recordHead-len(c.head), len(p))
		c.head, p = append(c.head, p[:k]...), p[k:]
		if len(c.head) == recordHead {
			c.left = int(c.head[3])<<8 | int(c.head[4])
			if c.head[0] == recordData {
				c.plain += uint64(c.left - recordExtra)
			}
			c.head = c.head[:0]
		}
	}
}

// counters reads the kernel's counters of the connection.
func (w *world) counters() (counters, error) {
	c := w.conn.Load()
	raw, err := c.SyscallConn()
	if err != nil {
		return counters{}, err
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
		return counters{}, err
	}
	if failed != nil {
		return counters{}, failed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return counters{sent: info.Bytes_sent, received: info.Bytes_received, segments: uint64(info.Segs_out), plain: c.records.plain}, nil
}
