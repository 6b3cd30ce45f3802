package main

import (
	"os"
	"path/filepath"
	"sync"
	"time"
)

// floor measures, beside a figure, what this machine's disk takes for one forced write at that time: a decision has three
// in a row, INTENT and SIGNED in the ledger and the actor's journal.
type floor struct {
	file *os.File
	end  chan struct{}
	done sync.WaitGroup
	took []float64 // ms
	err  error
}

const floorEvery = 250 * time.Millisecond

func startFloor(dir string) (*floor, error) {
	f := &floor{end: make(chan struct{})}
	var err error
	if f.file, err = os.Create(filepath.Join(dir, "floor")); err != nil {
		return nil, err
	}
	f.done.Go(func() {
		tick := time.NewTicker(floorEvery)
		defer tick.Stop()
		text := make([]byte, 1024)
		for f.err == nil {
			select {
			case <-f.end:
				return
			case <-tick.C:
			}
			began := time.Now()
			if _, f.err = f.file.Write(text); f.err == nil {
				f.err = f.file.Sync()
			}
			f.took = append(f.took, float64(time.Since(began))/1e6)
		}
	})
	return f, nil
}

// stop returns how long each write took, in milliseconds.
func (f *floor) stop() ([]float64, error) {
	close(f.end)
	f.done.Wait()
	f.file.Close()
	return f.took, f.err
}
