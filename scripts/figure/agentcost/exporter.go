package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

// exporter prints what Debian's node_exporter costs on the same host when it is asked each second. ours is the agent's
// cost of a series and tick in us.
func exporter(seconds int, ours float64) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	cmd := exec.Command("prometheus-node-exporter", "--web.listen-address="+address)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: apt-get install prometheus-node-exporter", err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	scrape := func() (int, error) {
		// A scraper of Prometheus asks for gzip, and so does Go's client.
		resp, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		n := 0
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text := lines.Text(); text != "" && !strings.HasPrefix(text, "#") {
				n++
			}
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return n, lines.Err()
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err = scrape(); err == nil {
			break
		}
		if time.Now().After(end) {
			return err
		}
	}
	for range 3 {
		time.Sleep(time.Second)
		if _, err := scrape(); err != nil {
			return err
		}
	}
	before, err := report.CPU(cmd.Process.Pid)
	if err != nil {
		return err
	}
	samples := 0
	for range seconds {
		if samples, err = scrape(); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	after, err := report.CPU(cmd.Process.Pid)
	if err != nil {
		return err
	}
	ms := (after - before).Seconds() * 1000 / float64(seconds)
	each := ms * 1000 / float64(samples)
	fmt.Printf("node_exporter, scraped each second: %.1f ms a scrape, %d samples, %.1f us a sample: %.1f times the agent's\n",
		ms, samples, each, each/ours)
	return nil
}
