package state_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/evenkeel/evenkeel/collector/state"
)

const victimDir = "EVENKEEL_TEST_VICTIM_DIR"

// TestMain lets the test binary be the process that is killed: a writer that prints each number once its write was
// answered.
func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1) // it is meant to be killed
	}
	os.Exit(m.Run())
}

func victim(dir string) error {
	ctx := context.Background()
	e, err := state.Open(ctx, state.Config{Dir: dir})
	if err != nil {
		return err
	}
	kvs, _, err := e.List(ctx, "n/")
	if err != nil {
		return err
	}
	for n := len(kvs); ; n++ {
		if _, err := state.Put(ctx, e, fmt.Sprintf("n/%06d", n), []byte(strconv.Itoa(n))); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// What was answered is there after kill -9, as often as it is done.
func TestKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last, lines := -1, bufio.NewScanner(out)
		for wanted := 50 + 37*round; wanted > 0 && lines.Scan(); wanted-- {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Process.Kill()
		for lines.Scan() { // answered before the kill arrived
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				last = n
			}
		}
		_ = cmd.Wait()
		if last < 0 {
			t.Fatal("the writer wrote nothing")
		}
		e := mustOpen(t, state.Config{Dir: dir})
		kvs, _, err := e.List(t.Context(), "n/")
		if err != nil {
			t.Fatal(err)
		}
		if len(kvs) < last+1 || len(kvs) > last+2 {
			t.Errorf("round %d: %d were answered, %d are there", round, last+1, len(kvs))
		}
		for i, kv := range kvs {
			if string(kv.Value) != strconv.Itoa(i) {
				t.Errorf("round %d: key %s holds %q", round, kv.Key, kv.Value)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
