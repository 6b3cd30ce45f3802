package main

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// spinners are processes that take all the CPU that they get, at normal priority.
type spinners []*exec.Cmd

// longestSpin is when a spinner ends by itself, whatever became of its parent.
const longestSpin = 15 * time.Minute

// startSpinners starts so many for each CPU.
func startSpinners(perCPU int) (spinners, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var s spinners
	for range perCPU * runtime.NumCPU() {
		cmd := exec.Command(self, "spin")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			s.stop()
			return nil, err
		}
		s = append(s, cmd)
	}
	return s, nil
}

func (s spinners) stop() {
	for _, cmd := range s {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// spin is what such a process does.
func spin() {
	end := time.Now().Add(longestSpin)
	x := uint64(88172645463325252)
	for time.Now().Before(end) {
		for range 1 << 20 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
	}
	runtime.KeepAlive(x)
}
