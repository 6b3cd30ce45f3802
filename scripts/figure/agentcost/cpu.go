package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/pkg/metric"
	"github.com/evenkeel/evenkeel/scripts/figure/report"
)

// readTwice runs the probes as on two ticks, so that they have all their files open.
func readTwice(set *probe.Set) error {
	var t metric.Table
	for range 2 {
		for _, p := range set.Probes() {
			if err := p.Read(&t, time.Now()); err != nil {
				return err
			}
		}
		t.Next()
	}
	return nil
}

// cpu compares the agent's CPU time with that of a raw reader.
func cpu(s settings) (report.Figure, error) {
	w, err := newWorld(s)
	if err != nil {
		return report.Figure{}, err
	}
	defer w.stop()
	time.Sleep(30 * time.Second) // past all that an agent does once, in starting
	seen, err := observe(w.pid, s.trace, w.dir)
	if err != nil {
		return report.Figure{}, err
	}
	if err := w.describe(); err != nil {
		return report.Figure{}, w.logged(err)
	}
	if err := compare(seen, w.pid); err != nil {
		return report.Figure{}, err
	}
	var list []reading
	fast, calls := 0, 0
	walks := slices.ContainsFunc(seen, func(r reading) bool { return strings.HasPrefix(r.Path, "/proc/*/") })
	for _, r := range seen {
		if runtimeReads(r.Path) || walks && r.Path == "/proc" { // the reader lists the processes as it walks through them
			continue
		}
		r.Path = strings.Replace(r.Path, fmt.Sprintf("/proc/%d/", w.pid), "/proc/self/", 1)
		list = append(list, r)
		if r.Period == 1 {
			fast++
			calls += r.Calls
		}
	}
	fmt.Printf("the agent was seen for %d s to read %d files each second (%d calls) and %d each 10 s; the raw reader reads the same\n",
		s.trace, fast, calls, len(list)-fast)
	reader, err := startReader(list)
	if err != nil {
		return report.Figure{}, err
	}
	defer reader.end()

	var agents, readers, ratios []float64
	for i := range s.pairs {
		var a, r float64
		half := func(of string) error {
			var err error
			if of == "agent" {
				a, err = w.window(w.pid, s.window)
				return err
			}
			reader.signal(syscall.SIGCONT)
			defer reader.signal(syscall.SIGSTOP)
			time.Sleep(2 * time.Second)
			r, err = w.window(reader.cmd.Process.Pid, s.window)
			return err
		}
		order := []string{"agent", "reader"}
		if i%2 == 1 {
			order = []string{"reader", "agent"}
		}
		for _, of := range order {
			if err := half(of); err != nil {
				return report.Figure{}, w.logged(err)
			}
		}
		if r <= 0 {
			return report.Figure{}, errors.New("the raw reader ended")
		}
		fmt.Printf("pair %d: agent %.3f ms a tick, reader %.3f ms, ratio %.3f\n", i+1, a, r, a/r)
		agents, readers, ratios = append(agents, a), append(readers, r), append(ratios, a/r)
	}
	st, err := w.status()
	if err != nil {
		return report.Figure{}, w.logged(err)
	}
	if !st.Session.Connected || st.Session.Batches < uint64(s.pairs*s.window) {
		return report.Figure{}, fmt.Errorf("the agent was not connected all along: %+v", st.Session)
	}
	each := report.Median(agents) / float64(st.Series) * 1000
	fmt.Printf("agent: %s ms a tick, %.2f us a series; %d ticks, %d skipped; %d batches sent live, %d from the spool\n",
		report.Range(agents), each, st.Ticks, st.Skipped, st.Session.Batches, st.Session.Backfilled)
	fmt.Printf("raw reader: %s ms a tick; ratio %s\n", report.Range(readers), report.Range(ratios))
	if err := exporter(s.window, each); err != nil {
		fmt.Println("node_exporter was not measured:", err)
	}
	return report.Figure{Value: report.Median(ratios), Unit: "ratio", Op: "<=", Goal: 2}, nil
}

// window returns the CPU time of a process, ms a second.
func (w *world) window(pid, seconds int) (float64, error) {
	before, err := report.CPU(pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	time.Sleep(time.Duration(seconds) * time.Second)
	after, err := report.CPU(pid)
	if err != nil {
		return 0, err
	}
	return (after - before).Seconds() * 1000 / time.Since(began).Seconds(), nil
}

type rawReader struct{ cmd *exec.Cmd }

// startReader starts the raw reader, lets it make its first rounds, and stops it.
func startReader(list []reading) (*rawReader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	r := &rawReader{cmd: exec.Command(self, "reader")}
	r.cmd.Stdin, r.cmd.Stderr = bytes.NewReader(b), os.Stderr
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	time.Sleep(3 * time.Second)
	if err := r.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		return nil, errors.New("the raw reader ended")
	}
	r.signal(syscall.SIGSTOP)
	return r, nil
}

func (r *rawReader) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

func (r *rawReader) end() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}
