// The record program records the data set that the wire is measured on: it runs evenkeel-agent record on this host while
// units of its own go through phases of idleness, CPU, disk and network work, and packs what the agent kept into one
// file. It makes cgroups and therefore needs root. `record pack DIR FILE` packs a spool folder that is there already.
package main

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/agent/spool"
	"github.com/evenkeel/evenkeel/scripts/record/units"
)

var phases = []string{"idle", "cpu", "io", "net"}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "unit" {
		number, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = runUnit(number)
		}
		exit(err)
	}
	if len(os.Args) == 4 && os.Args[1] == "pack" {
		exit(pack(os.Args[2], os.Args[3]))
	}
	out := flag.String("out", "host.frames.gz", "packed `FILE` to write")
	length := flag.Duration("for", 32*time.Minute, "`TIME` to record")
	phase := flag.Duration("phase", 2*time.Minute, "length of a phase")
	count := flag.Int("units", 22, "`NUMBER` of cgroups, each with a process")
	agent := flag.String("agent", "bin/evenkeel-agent", "the agent's binary")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(record(ctx, *agent, *out, *length, *phase, *count))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func record(ctx context.Context, agent, out string, length, phase time.Duration, count int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if agent, err = filepath.Abs(agent); err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	return inTemp(func() error {
		set, err := units.Start("app", count, func(i int) *exec.Cmd {
			cmd := exec.Command(self, "unit", strconv.Itoa(i))
			cmd.Stderr = os.Stderr
			return cmd
		})
		if err != nil {
			return err
		}
		set.Shares(25)
		err = recordUnits(ctx, set, agent, length, phase)
		if err = errors.Join(err, set.Stop()); err != nil {
			return err
		}
		return pack("recording", out)
	})
}

// recordUnits runs the agent's recording while the phases turn.
func recordUnits(ctx context.Context, set *units.Set, agent string, length, phase time.Duration) error {
	cmd := exec.Command(agent, "record", "--out", "recording", "--for", length.String())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	turn := time.NewTicker(phase)
	defer turn.Stop()
	for i := 0; ; i++ {
		name := phases[i%len(phases)]
		fmt.Printf("%s %s\n", time.Now().UTC().Format(time.TimeOnly), name)
		set.Tell(name)
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			_ = cmd.Process.Signal(os.Interrupt)
			return <-done
		case <-turn.C:
		}
	}
}

// pack writes the frames of a spool folder, each behind its length in 4 bytes, little-endian.
func pack(dir, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	ticks, size := 0, 0
	err = spool.Read(dir, func(r spool.Record) error {
		ticks++
		size += len(r.Frame)
		if err := binary.Write(z, binary.LittleEndian, uint32(len(r.Frame))); err != nil {
			return err
		}
		_, err := z.Write(r.Frame)
		return err
	})
	if err = errors.Join(err, z.Close(), f.Close()); err != nil {
		return err
	}
	fmt.Printf("%d ticks, %d bytes of frames in %s\n", ticks, size, out)
	return nil
}
