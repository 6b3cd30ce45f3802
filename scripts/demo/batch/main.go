// Command demo-batch is the cheap half of the demo: a worker that, while it has a job, takes every CPU it can get, with eight
// threads for each. SIGUSR1 gives it the job, SIGUSR2 takes it away; it ends on SIGTERM, or after -for.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	perCPU := flag.Int("threads", 8, "threads for each CPU")
	length := flag.Duration("for", 10*time.Minute, "ends by itself after this time")
	wait := flag.Bool("wait", false, "begin idle, and wait for SIGUSR1")
	flag.Parse()

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, os.Interrupt)
	threads := *perCPU * runtime.NumCPU()
	runtime.GOMAXPROCS(threads + 1)

	w := &worker{}
	if !*wait {
		w.begin(threads)
	}
	fmt.Println("ready")
	end := time.After(*length)
	for {
		select {
		case <-end:
			return
		case s := <-signals:
			switch s {
			case syscall.SIGUSR1:
				w.begin(threads)
			case syscall.SIGUSR2:
				w.stop()
			default:
				return
			}
		}
	}
}

// worker is a job of many threads. Its methods belong to one goroutine.
type worker struct {
	stopped *atomic.Bool // of the job in hand; nil without one
	odd     atomic.Uint64
}

func (w *worker) begin(threads int) {
	if w.stopped != nil {
		return
	}
	stopped := &atomic.Bool{}
	w.stopped = stopped
	for range threads {
		go func() {
			runtime.LockOSThread()
			x := uint64(88172645463325252)
			for !stopped.Load() {
				for range 1 << 16 {
					x ^= x << 13
					x ^= x >> 7
					x ^= x << 17
				}
				w.odd.Add(x & 1)
			}
		}()
	}
}

func (w *worker) stop() {
	if w.stopped != nil {
		w.stopped.Store(true)
		w.stopped = nil
	}
}
