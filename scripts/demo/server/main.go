// Command demo-server is the valuable half of the demo: a request server in which every request costs a fixed amount of
// CPU work. It prints the port that it listens on, answers GET /work and GET /healthz on loopback, and ends on SIGTERM.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address to listen on")
	cost := flag.Duration("cost", 5*time.Millisecond, "CPU time that one request takes")
	flag.Parse()
	if err := serve(*address, *cost); err != nil {
		fmt.Fprintln(os.Stderr, "demo-server:", err)
		os.Exit(1)
	}
}

func serve(address string, cost time.Duration) error {
	// As a server with a thread for each request: it gets its turn among others by the number of its threads.
	runtime.GOMAXPROCS(8 * runtime.NumCPU())
	rounds := calibrate(cost)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, work(rounds))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })

	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	// SIGTERM ends it at once, by the kernel: a goroutine that waited for it would queue behind an overload.
	return server.Serve(l)
}

// work does the same arithmetic every time; its result is answered so that no compiler may leave it out.
func work(rounds int) uint64 {
	x := uint64(88172645463325252)
	for range rounds {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// calibrate finds how many rounds cost the CPU time wanted, by the thread's own clock, so that a busy machine at start
// does not make requests cheaper.
func calibrate(cost time.Duration) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const probe = 2_000_000
	best := time.Duration(1 << 62)
	for range 5 {
		before := threadTime()
		if work(probe) == 0 {
			return 1 // xorshift never gets there; asking keeps the work from being left out
		}
		best = min(best, threadTime()-before)
	}
	return max(1, int(float64(probe)*float64(cost)/float64(best)))
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
