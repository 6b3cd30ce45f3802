// Package chain turns the ticks of an agent into frames of bytes and back. FORMAT.md beside this file is the layout; the
// Decoder is its reference.
//
// A chain is the frames of one Encoder in order. A key frame carries everything: who the live series are and what they
// read. A delta frame carries what changed since the frame before it, so a reader starts at a key frame and may leave
// none out; the Decoder says ErrNeedKey otherwise. Series live at an index, the slot that they have in the agent's
// metric.Table, on both sides and across key frames.
//
// It does no I/O, keeps no clock, starts no goroutine, and neither compresses nor encrypts beyond its own columns.
// Encoder and Decoder each belong to one goroutine at a time. The Decoder takes bytes from strangers: every length is
// bounded before anything is allocated for it.
package chain

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// Version is the first byte of every frame of this layout.
const Version = 1

// Limits that both sides keep. An Encoder leaves out a series that would break one and counts it; a Decoder refuses the
// frame with ErrLimit.
const (
	MaxFrame      = 1 << 20   // bytes of a frame
	MaxSeries     = 20_000    // slots, live or not
	MaxDictionary = 600 << 10 // bytes of the identities of all live series, before packing
	MaxName       = 200       // bytes of a series' or label's name
	MaxValue      = 1024      // bytes of a label's value
	MaxLabels     = 32        // labels of a series
)

// KeyEvery is the number of batches from one key frame to the next, unless one is asked for earlier.
const KeyEvery = 60

// What is wrong with a frame, for errors.Is.
var (
	// ErrVersion refuses a frame of a layout that this build does not know.
	ErrVersion = errors.New("unknown frame version")
	// ErrNeedKey refuses a delta frame that does not follow the last frame decoded. The state stays as it was: the frame
	// that does follow, or any key frame, is taken.
	ErrNeedKey = errors.New("a key frame is needed")
	// ErrCorrupt refuses bytes that are no frame. What was known of values is void until the next key frame.
	ErrCorrupt = errors.New("corrupt frame")
	// ErrLimit refuses a frame beyond the limits above, and is otherwise as ErrCorrupt.
	ErrLimit = errors.New("frame beyond limits")
)

// Header is what the first bytes of a frame tell.
type Header struct {
	Key     bool
	Counter uint64 // of the frame within its chain
}

// ReadHeader reads the beginning of a frame without checking the rest.
func ReadHeader(frame []byte) (Header, error) {
	r := reader{b: frame}
	flags, err := r.preamble()
	if err != nil {
		return Header{}, err
	}
	h := Header{Key: flags&flagKey != 0, Counter: r.uvarint()}
	return h, r.err
}

const (
	flagKey    = 1 << 0 // a key frame
	flagSeries = 1 << 1 // a delta frame in which series are added or gone
)

// fits reports whether a series can travel, and the bytes of its dictionary entry.
func fits(d *metric.Desc) (int, bool) {
	if !validName(d.Name, true) || d.Group >= metric.MaxGroups || len(d.Labels) > MaxLabels {
		return 0, false
	}
	n := 4 + 10 + len(d.Name)
	for i := range d.Labels {
		l := &d.Labels[i]
		if !validLabel(l.Name, l.Value) || i > 0 && l.Name <= d.Labels[i-1].Name {
			return 0, false
		}
		n += 3 + len(l.Name) + len(l.Value)
	}
	return n, true
}

func validLabel(name, value string) bool {
	if !validName(name, false) || len(value) > MaxValue || !utf8.ValidString(value) {
		return false
	}
	return name != "instance" && name != "job" && (len(name) < 2 || name[:2] != "__")
}

// validName takes what Prometheus takes: letters, digits and underscores, colons in the names of series.
func validName[S string | []byte](s S, series bool) bool {
	if len(s) == 0 || len(s) > MaxName {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == ':' && series, c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return true
}

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

func limit(what string) error { return fmt.Errorf("%w: %s", ErrLimit, what) }
