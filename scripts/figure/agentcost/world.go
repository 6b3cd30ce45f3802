package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent"
	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/pkg/metric"
	"github.com/evenkeel/evenkeel/scripts/record/units"
)

// world is a collector and the agent of this host, connected, and cgroups that make the host a busy one.
type world struct {
	s     settings
	dir   string
	units *units.Set
	dev   *exec.Cmd
	log   bytes.Buffer
	pid   int // of the agent
}

// runUnit is the process in one cgroup: half of them have a little to do each moment, half sleep.
func runUnit(number int) {
	ended := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(ended)
	}()
	wait := time.Hour
	if number%2 == 0 {
		wait = time.Duration(200+20*number) * time.Millisecond
	}
	var held []byte
	for step := 0; ; step++ {
		select {
		case <-ended:
			return
		case <-time.After(wait):
		}
		for end := time.Now().Add(200 * time.Microsecond); time.Now().Before(end); {
			runtime.KeepAlive(held)
		}
		if held = append(held, make([]byte, 4096)...); step%256 == 0 {
			held = nil
		}
	}
}

// startUnits makes the cgroups.
func startUnits(s settings) (*units.Set, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return units.Start("figure", s.units, func(i int) *exec.Cmd { return exec.Command(self, "unit", strconv.Itoa(i)) })
}

func newWorld(s settings) (_ *world, err error) {
	w := &world{s: s}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		w.stop()
		os.Exit(2)
	}()
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "evenkeel-cost-"); err != nil {
		return nil, err
	}
	if w.units, err = startUnits(s); err != nil {
		return nil, err
	}
	w.dev = exec.Command(filepath.Join(s.bin, "evenkeel-collector"), "dev", "--state", w.dir, "--host", "figure", "--quiet")
	w.dev.Stderr = &w.log
	w.dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := w.dev.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		st, err := w.status()
		if err == nil && st.Session.Connected && st.Ticks > 2 {
			w.pid = st.PID
			return w, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("the agent did not connect: %w: %s", err, w.log.String())
		}
	}
}

func (w *world) stop() {
	if w.dev != nil && w.dev.Process != nil {
		_ = w.dev.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(30*time.Second, func() { _ = w.dev.Process.Kill() })
		_ = w.dev.Wait()
		timer.Stop()
	}
	if w.units != nil {
		if err := w.units.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "agentcost:", err)
		}
	}
	if w.dir != "" {
		_ = os.RemoveAll(w.dir)
	}
}

// status asks the agent, which costs it a little, so never within a window.
func (w *world) status() (agent.Status, error) {
	var st agent.Status
	cmd := exec.Command(filepath.Join(w.s.bin, "evenkeel-agent"), "status", "--config", filepath.Join(w.dir, "agent.yaml"), "-o", "json")
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &st)
	}
	return st, err
}

// describe prints how many series the agent has, and of which families this host has how many.
func (w *world) describe() error {
	st, err := w.status()
	if err != nil {
		return err
	}
	fmt.Printf("agent: pid %d, %d series, %d ticks, %d skipped, session with %s\n", st.PID, st.Series, st.Ticks, st.Skipped, st.Session.Address)
	return printFamilies()
}

// printFamilies reads this host once with the agent's own probes.
func printFamilies() error {
	set, err := probe.New(probe.Config{})
	if err != nil {
		return err
	}
	defer set.Close()
	var t metric.Table
	for range 2 {
		for _, p := range set.Probes() {
			if err := p.Read(&t, time.Now()); err != nil {
				return err
			}
		}
		t.Next()
	}
	count := map[string]int{}
	var order []string
	for s := range metric.Slot(t.Len()) {
		if !t.Live(s) {
			continue
		}
		parts := strings.SplitN(t.Desc(s).Name, "_", 3)
		family := parts[0] + "_" + parts[1]
		if count[family] == 0 {
			order = append(order, family)
		}
		count[family]++
	}
	for i, f := range order {
		order[i] = fmt.Sprintf("%s %d", f, count[f])
	}
	fmt.Println("families:", strings.Join(order, ", "))
	return nil
}

// logged returns err with what the collector said.
func (w *world) logged(err error) error {
	if err != nil && w.log.Len() > 0 {
		return errors.Join(err, errors.New(strings.TrimSpace(w.log.String())))
	}
	return err
}

// wait sleeps for a number of seconds, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
