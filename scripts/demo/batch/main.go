// Command demo-batch is the cheap half of the demo: a job that takes every CPU it can get, with eight threads for each.
// It ends on SIGTERM, or after -for.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	perCPU := flag.Int("threads", 8, "threads for each CPU")
	length := flag.Duration("for", 10*time.Minute, "ends by itself after this time")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()

	threads := *perCPU * runtime.NumCPU()
	runtime.GOMAXPROCS(threads + 1)
	var ended atomic.Bool
	var total atomic.Uint64
	var all sync.WaitGroup
	for range threads {
		all.Go(func() {
			runtime.LockOSThread()
			x := uint64(88172645463325252)
			for n := uint64(0); !ended.Load(); n++ {
				for range 1 << 16 {
					x ^= x << 13
					x ^= x >> 7
					x ^= x << 17
				}
				total.Add(x & 1)
			}
		})
	}
	<-ctx.Done()
	ended.Store(true)
	all.Wait()
	fmt.Println("batch job ended after", total.Load(), "odd results")
}
