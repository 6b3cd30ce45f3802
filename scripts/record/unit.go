package main

import (
	"bufio"
	"crypto/sha256"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// runUnit is the process in one unit, until its standard input ends. Every third one works through the phases that it
// is told, every third has a little to do each moment, as servers have, and the rest sleep.
func runUnit(number int) error {
	var phase atomic.Pointer[string]
	idle := "idle"
	phase.Store(&idle)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			name := lines.Text()
			phase.Store(&name)
		}
	}()
	u := &unit{number: number}
	defer u.close()
	for step := 0; ; step++ {
		wait := 10 * time.Second
		switch number % 3 {
		case 0:
			u.spin(time.Duration(200+number*40) * time.Microsecond)
			u.grow(step % 64)
			wait = time.Duration(150+10*number) * time.Millisecond
		case 1:
			if err := u.work(*phase.Load()); err != nil {
				return err
			}
			wait = u.pause(*phase.Load())
		}
		select {
		case <-ended:
			return nil
		case <-time.After(wait):
		}
	}
}

type unit struct {
	number int
	held   []byte
	file   *os.File
	sum    [32]byte
	in     net.Listener
	near   net.Conn
}

func (u *unit) close() {
	if u.file != nil {
		_ = u.file.Close()
		_ = os.Remove(u.file.Name())
	}
	if u.near != nil {
		_ = u.near.Close()
	}
	if u.in != nil {
		_ = u.in.Close()
	}
}

// spin keeps a CPU busy.
func (u *unit) spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		u.sum = sha256.Sum256(u.sum[:])
	}
}

// grow holds n times 256 KiB, and lets go of it when n is 0.
func (u *unit) grow(n int) {
	if n == 0 {
		u.held = nil
		return
	}
	more := make([]byte, 256<<10)
	for i := 0; i < len(more); i += 4096 {
		more[i] = 1
	}
	u.held = append(u.held, more...)
}

func (u *unit) pause(phase string) time.Duration {
	switch phase {
	case "cpu":
		return time.Duration(5+u.number) * time.Millisecond
	case "io", "net":
		return 40 * time.Millisecond
	}
	return time.Second
}

func (u *unit) work(phase string) error {
	switch phase {
	case "cpu":
		u.spin(30 * time.Millisecond)
	case "io":
		return u.write()
	case "net":
		return u.transfer()
	}
	return nil
}

// write writes some of a file, makes it durable, and reads some of it back.
func (u *unit) write() error {
	if u.file == nil {
		f, err := os.CreateTemp(".", "unit-*.data")
		if err != nil {
			return err
		}
		u.file = f
	}
	at, err := u.file.Seek(0, io.SeekCurrent)
	if err == nil && at > 64<<20 {
		at, err = u.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	if _, err := u.file.Write(make([]byte, 192<<10+u.number<<10)); err != nil {
		return err
	}
	if err := u.file.Sync(); err != nil {
		return err
	}
	_, err = u.file.ReadAt(make([]byte, 64<<10), at/2)
	if err == io.EOF {
		err = nil
	}
	return err
}

// transfer sends a megabyte through the loopback interface, and opens a new connection now and then.
func (u *unit) transfer() error {
	if u.in == nil {
		in, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		u.in = in
		go func() {
			for {
				c, err := in.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
			}
		}()
	}
	if u.near != nil && u.sum[0]%16 == 0 {
		_ = u.near.Close()
		u.near = nil
	}
	if u.near == nil {
		c, err := net.Dial("tcp", u.in.Addr().String())
		if err != nil {
			return err
		}
		u.near = c
	}
	u.spin(100 * time.Microsecond)
	_, err := u.near.Write(make([]byte, 1<<20))
	return err
}

// inTemp runs f in a new folder of its own, which is removed afterwards.
func inTemp(f func() error) error {
	dir, err := os.MkdirTemp(".", "record-units-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	was, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	defer os.Chdir(was)
	return f()
}
