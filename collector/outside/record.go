package outside

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Prefix is that of the keys under which a Board is kept.
const Prefix = "outside/"

// Record is something of a Board that is to be kept. A Value of nil is to be deleted.
type Record struct {
	Key   string
	Value []byte
}

// version is the format of a record.
const version = 1

// kept is a record as it is stored; exactly one of the pointers is set.
type kept struct {
	Version int        `json:"version"`
	Signal  *Signal    `json:"signal,omitempty"`
	Alert   *Alert     `json:"alert,omitempty"`
	Hand    *Hand      `json:"set,omitempty"`
	Heard   *heardFrom `json:"heard,omitempty"`
}

type heardFrom struct {
	Sender Sender    `json:"sender"`
	At     time.Time `json:"at"`
}

// keyOf makes a key of words that may be anything.
func keyOf(kind string, words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return Prefix + kind + "/" + hex.EncodeToString(sum[:16])
}

func signalKey(target, source string) string   { return keyOf("signal", target, source) }
func alertKey(sender Sender, id string) string { return keyOf("alert", string(sender), id) }
func handKey(ref manifest.Ref) string          { return keyOf("set", string(ref)) }
func heardKey(sender Sender) string            { return Prefix + "heard/" + string(sender) }
func (b *Board) write(key string, value any)   { b.changed[key] = value }

// HandRecord returns what is to be kept of a level that was set by hand, for whoever has to know it stored before it counts.
func HandRecord(h Hand) (Record, error) { return encode(handKey(h.Ref), h) }

// HandKey returns the key under which what was set by hand on a node is kept.
func HandKey(ref manifest.Ref) string { return handKey(ref) }

// Changed returns what changed since the last call and is to be kept, but for what Put took.
func (b *Board) Changed() ([]Record, error) {
	out := make([]Record, 0, len(b.changed))
	for key, value := range b.changed {
		r := Record{Key: key}
		if value != nil {
			var err error
			if r, err = encode(key, value); err != nil {
				return nil, err
			}
		}
		out = append(out, r)
	}
	clear(b.changed)
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}

func encode(key string, value any) (Record, error) {
	k := kept{Version: version}
	switch v := value.(type) {
	case Signal:
		k.Signal = &v
	case Alert:
		k.Alert = &v
	case Hand:
		k.Hand = &v
	case heardFrom:
		k.Heard = &v
	}
	value64, err := json.Marshal(k)
	return Record{Key: key, Value: value64}, err
}

// Load takes in a record that was kept, at the start and before Draw.
func (b *Board) Load(r Record) error {
	var k kept
	if err := json.Unmarshal(r.Value, &k); err != nil {
		return fmt.Errorf("cannot read %s: %w", r.Key, err)
	}
	if k.Version != version {
		return fmt.Errorf("%s has format %d: this program knows %d", r.Key, k.Version, version)
	}
	switch {
	case k.Signal != nil:
		s := *k.Signal
		if b.signals[s.Target] == nil {
			b.signals[s.Target] = map[string]Signal{}
		}
		if _, held := b.signals[s.Target][s.Source]; !held {
			b.count++
		}
		b.signals[s.Target][s.Source] = s
	case k.Alert != nil:
		b.keep(k.Alert)
	case k.Hand != nil:
		b.hands[k.Hand.Ref] = *k.Hand
	case k.Heard != nil:
		b.heard[k.Heard.Sender] = k.Heard.At
	default:
		return fmt.Errorf("cannot read %s: it holds nothing that is known", r.Key)
	}
	return nil
}
