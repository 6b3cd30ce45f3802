package probe

import (
	"bytes"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// maxLines bounds what a keyed file may teach.
const maxLines = 4096

// keyed parses files of "key value" lines such as vmstat and meminfo. The kernel's order of lines is fixed while it runs,
// so the place of each wanted key is learned once and only verified afterwards: no look-ups.
type keyed struct {
	lines []keyedLine // one for each line of the file, in order
	// pick decides on a line when the order is learned.
	pick func(key, line string) (metric.Desc, bool)
}

type keyedLine struct {
	key  string      // with its separator
	slot metric.Slot // -1: not wanted
}

func (k *keyed) parse(t *metric.Table, b []byte) error {
	if k.follow(t, b) {
		return nil
	}
	k.learn(t, b)
	for _, l := range k.lines {
		if l.slot >= 0 && k.follow(t, b) {
			return nil
		}
	}
	return errFormat
}

// follow sets the wanted values and reports whether the file has the order that was learned.
func (k *keyed) follow(t *metric.Table, b []byte) bool {
	i := 0
	for ; len(b) > 0; i++ {
		if i >= len(k.lines) {
			return false
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return false
		}
		if l := &k.lines[i]; l.slot >= 0 {
			if end <= len(l.key) || string(b[:len(l.key)]) != l.key {
				return false
			}
			v, _, ok := number(b[:end], len(l.key))
			if !ok {
				return false
			}
			t.Set(l.slot, v)
		}
		b = b[end+1:]
	}
	return i > 0 && i == len(k.lines)
}

// learn takes the order of the lines from b. Series of keys that are still there go on.
func (k *keyed) learn(t *metric.Table, b []byte) {
	old := map[string]metric.Slot{}
	for _, l := range k.lines {
		if l.slot >= 0 {
			old[l.key] = l.slot
		}
	}
	k.lines = k.lines[:0]
	seen := map[string]bool{} // of two lines with one key the first counts
	for len(b) > 0 && len(k.lines) < maxLines {
		var line []byte
		line, b = cutLine(b)
		l := keyedLine{slot: -1}
		if i := bytes.IndexAny(line, " :"); i > 0 {
			key := string(line[:i+1])
			if _, _, ok := number(line, i+1); ok && !seen[key] {
				seen[key] = true
				if s, known := old[key]; known {
					l = keyedLine{key, s}
					delete(old, key)
				} else if d, wanted := k.pick(key[:i], string(line)); wanted {
					l = keyedLine{key, t.Add(d)}
				}
			}
		}
		k.lines = append(k.lines, l)
	}
	for _, s := range old {
		t.End(s)
	}
}

func (k *keyed) end(t *metric.Table) {
	for _, l := range k.lines {
		if l.slot >= 0 {
			t.End(l.slot)
		}
	}
	k.lines = k.lines[:0]
}
