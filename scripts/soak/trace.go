package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// strace prints a call when it begins, with its arguments, so a call counts even if the kill came before its end.
var (
	startedRecord = regexp.MustCompile(`pwrite64\(\d+<[^>]*/journal>, ".*\{\\"kind\\":\\"started\\",\\"put\\":\{\\"id\\":\\"([0-9A-Z]{26})\\"`)
	knobWrite     = regexp.MustCompile(`write(?:64|v|v2)?\(\d+<[^>]*/batch/cpu\.(?:shares|weight)>, "([^"]*)"`)
	maskChange    = regexp.MustCompile(`sched_setaffinity\(`)
	endedRecord   = regexp.MustCompile(`pwrite64\(\d+<[^>]*/journal>, ".*\{\\"kind\\":\\"[a-z -]+\\",\\"drop\\":`)
	anyCgroup     = regexp.MustCompile(`write(?:64|v|v2)?\(\d+<[^>]*/cgroup/`)
)

// deeds is what an actor was seen to do over all its lives.
type deeds struct {
	started  map[string]int // by command: records that it was begun
	squeezes map[string]int // by command: writes of its value
	restores int            // writes of the prior value; of masks: records that they were given back
	wrong    []string       // what must not happen
	held     bool           // the last write was of a command's value; of masks: a command is begun that has not ended
	last     string         // the command that was begun last
}

// read takes in the trace of one life, of an actor that writes these values, or sets masks where both are empty.
func (d *deeds) read(r io.Reader, where, squeezed, neutral string) error {
	if d.started == nil {
		d.started, d.squeezes = map[string]int{}, map[string]int{}
	}
	masks := squeezed == ""
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		line := s.Text()
		if m := startedRecord.FindStringSubmatch(line); m != nil {
			d.last = m[1]
			d.started[d.last]++
			d.held = d.held || masks
			continue
		}
		if masks {
			// A mask is set for each task, so what counts is that none is set outside of a command's time.
			switch {
			case endedRecord.MatchString(line):
				if d.held {
					d.restores++
				}
				d.held = false
			case maskChange.MatchString(line) && d.held:
				d.squeezes[d.last] = max(1, d.started[d.last])
			case maskChange.MatchString(line) || anyCgroup.MatchString(line):
				d.wrong = append(d.wrong, fmt.Sprintf("%s:%d: a change that no command asked for: %s", where, n, line))
			}
			continue
		}
		m := knobWrite.FindStringSubmatch(line)
		switch {
		case m == nil && (maskChange.MatchString(line) || anyCgroup.MatchString(line)):
			d.wrong = append(d.wrong, fmt.Sprintf("%s:%d: a change that no command asked for: %s", where, n, line))
		case m == nil:
		case m[1] == squeezed:
			if d.held {
				d.wrong = append(d.wrong, fmt.Sprintf("%s:%d: %s was written again before it was taken back", where, n, squeezed))
			}
			if d.last == "" {
				d.wrong = append(d.wrong, fmt.Sprintf("%s:%d: %s was written and no command was begun", where, n, squeezed))
			}
			d.squeezes[d.last]++
			d.held = true
		case m[1] == neutral:
			d.restores++
			d.held = false
		default:
			d.wrong = append(d.wrong, fmt.Sprintf("%s:%d: an unknown value was written: %s", where, n, line))
		}
	}
	return s.Err()
}

// doubles lists the commands that were begun or carried out more than once.
func (d *deeds) doubles() []string {
	var out []string
	for id, n := range d.squeezes {
		if n > 1 {
			out = append(out, fmt.Sprintf("command %s was carried out %d times", id, n))
		}
	}
	for id, n := range d.started {
		if n > 1 {
			out = append(out, fmt.Sprintf("command %s was begun %d times", id, n))
		}
	}
	return slices.Sorted(slices.Values(out))
}

// writes is how often a command's value was written.
func (d *deeds) writes() int {
	n := 0
	for v := range maps.Values(d.squeezes) {
		n += v
	}
	return n
}

// traceEnd is strace's last word on a life.
var traceEnd = regexp.MustCompile(`(?m)^\d+ +\+\+\+ (exited with|killed by) [^\n]*\n\z`)

// traces reads the traces of all lives in order, once they are whole. A trace without a line is that of a life which was
// killed before strace let the program begin: strace's first line is the program's own start.
func (w *world) traces(ctx context.Context) (*deeds, error) {
	d := &deeds{}
	for life := 1; life <= w.actor.lives; life++ {
		var b []byte
		if err := until(ctx, 10*time.Second, "the trace of the actor's life "+strconv.Itoa(life), func() (err error) {
			if b, err = os.ReadFile(w.traceFile(life)); err == nil && len(b) > 0 && !traceEnd.Match(b) {
				err = errors.New("it has no end")
			}
			if errors.Is(err, fs.ErrNotExist) {
				// Killed before strace opened its file, which it does before the program begins: the program said nothing then.
				if said, e := w.actor.said(life); e == nil && said == "" {
					return nil
				}
			}
			return err
		}); err != nil {
			return nil, err
		}
		squeezed, neutral := w.groups.squeezed, w.groups.neutral
		if w.action == affinity {
			squeezed, neutral = "", ""
		}
		if err := d.read(bytes.NewReader(b), "actor."+strconv.Itoa(life), squeezed, neutral); err != nil {
			return nil, err
		}
	}
	return d, nil
}
