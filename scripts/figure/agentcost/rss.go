package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

// rss looks at the memory of an agent that has been connected for two minutes.
func rss(s settings) (report.Figure, error) {
	w, err := newWorld(s)
	if err != nil {
		return report.Figure{}, err
	}
	defer w.stop()
	time.Sleep(time.Duration(s.settle) * time.Second)
	m, err := memory(w.pid)
	if err != nil {
		return report.Figure{}, w.logged(err)
	}
	if err := w.describe(); err != nil {
		return report.Figure{}, w.logged(err)
	}
	fmt.Printf("after %d s: resident %.1f MiB, of which anonymous %.1f and mapped files %.1f; highest %.1f\n",
		s.settle, m["VmRSS"], m["RssAnon"], m["RssFile"], m["VmHWM"])
	return report.Figure{Value: m["VmRSS"], Unit: "MiB", Op: "<=", Goal: 16}, nil
}

// memory returns the sizes in /proc/PID/status, in MiB.
func memory(pid int) (map[string]float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	m := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if text, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB"); ok {
			if kib, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
				m[name] = kib / 1024
			}
		}
	}
	return m, nil
}
