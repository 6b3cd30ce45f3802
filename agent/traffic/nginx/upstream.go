package nginx

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/agent/traffic"
	"github.com/evenkeel/evenkeel/pkg/command"
)

const (
	maxFile  = 1 << 20 // bytes
	noWeight = "no weight"
	prefix   = "weight="
)

// token is one word or sign of nginx's language, and where it stands.
type token struct {
	text       string
	sign       byte // ';', '{' or '}'; 0 for a word
	start, end int
}

// tokens splits a file as nginx does: words, quoted words, signs; comments are passed over.
func tokens(b []byte) ([]token, error) {
	var out []token
	for i := 0; i < len(b); {
		switch c := b[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '#':
			for i < len(b) && b[i] != '\n' {
				i++
			}
		case ';', '{', '}':
			out = append(out, token{sign: c, start: i, end: i + 1})
			i++
		case '"', '\'':
			start := i
			var text strings.Builder
			for i++; i < len(b) && b[i] != c; i++ {
				if b[i] == '\\' && i+1 < len(b) {
					i++
				}
				text.WriteByte(b[i])
			}
			if i++; i > len(b) {
				return nil, errors.New("a quoted word does not end")
			}
			out = append(out, token{text: text.String(), start: start, end: i})
		default:
			start := i
			for i < len(b) && !strings.ContainsRune(" \t\r\n;", rune(b[i])) {
				if b[i] == '{' && b[i-1] != '$' && i > start {
					break
				}
				if b[i] == '\\' && i+1 < len(b) {
					i++
				}
				i++
			}
			i = min(i, len(b))
			out = append(out, token{text: string(b[start:i]), start: start, end: i})
		}
	}
	return out, nil
}

// place is where a server's weight stands in a file, or would stand.
type place struct {
	weight     int64
	written    bool // the weight stands there; else nginx takes 1
	start, end int  // of the weight and the space before it; both the end of the address where there is none
}

// find looks for the one server line of an upstream. The error is ErrGone where there is none.
func find(b []byte, upstream, server string) (place, error) {
	all, err := tokens(b)
	if err != nil {
		return place{}, err
	}
	var found []place
	blocks := 0
	for i := 0; i+2 < len(all); i++ {
		begins := i == 0 || all[i-1].sign != 0
		if !begins || all[i].sign != 0 || all[i].text != "upstream" || all[i+1].sign != 0 || all[i+1].text != upstream || all[i+2].sign != '{' {
			continue
		}
		blocks++
		at := i + 3
		for at < len(all) && all[at].sign != '}' {
			end := at
			for end < len(all) && all[end].sign == 0 {
				end++
			}
			if end == len(all) || all[end].sign != ';' {
				return place{}, fmt.Errorf("upstream %s is not a list of lines that end with a semicolon", upstream)
			}
			if line := all[at:end]; len(line) >= 2 && line[0].text == "server" && line[1].text == server {
				p, err := weightOf(line)
				if err != nil {
					return place{}, err
				}
				found = append(found, p)
			}
			at = end + 1
		}
		if at == len(all) {
			return place{}, fmt.Errorf("upstream %s does not end", upstream)
		}
	}
	switch {
	case blocks == 0:
		return place{}, fmt.Errorf("%w: the file has no upstream %s", traffic.ErrGone, upstream)
	case len(found) == 0:
		return place{}, fmt.Errorf("%w: upstream %s has no server %s", traffic.ErrGone, upstream, server)
	case blocks > 1 || len(found) > 1:
		return place{}, fmt.Errorf("server %s of upstream %s stands there %d times in %d blocks: it must be told apart", server, upstream, len(found), blocks)
	}
	return found[0], nil
}

// weightOf reads `server ADDRESS [weight=N] ...`.
func weightOf(line []token) (place, error) {
	p := place{weight: 1, start: line[1].end, end: line[1].end}
	for i, t := range line[2:] {
		if t.text == "down" {
			return p, command.Refuse(command.ReasonPriorDiffers, "server %s is marked down", line[1].text)
		}
		text, ok := strings.CutPrefix(t.text, prefix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 1 || p.written {
			return p, fmt.Errorf("server %s has %q, which is no single weight", line[1].text, t.text)
		}
		p = place{weight: n, written: true, start: line[i+1].end, end: t.end}
	}
	return p, nil
}

// native is one text for one state.
func (p place) native() string {
	if !p.written {
		return noWeight
	}
	return prefix + strconv.FormatInt(p.weight, 10)
}

// edit returns the file with one weight changed, and not a byte beside it. Taking the weight away again gives the
// bytes that stood before it was put there.
func edit(b []byte, upstream, server, native string) ([]byte, error) {
	p, err := find(b, upstream, server)
	if err != nil {
		return nil, err
	}
	text := ""
	if native != noWeight {
		text = " " + native
		if p.written { // what separates the words stays as it is
			space := p.end
			for space > p.start && !strings.ContainsRune(" \t\r\n", rune(b[space-1])) {
				space--
			}
			text = string(b[p.start:space]) + native
		}
	}
	out := slices.Concat(b[:p.start], []byte(text), b[p.end:])
	if now, err := find(out, upstream, server); err != nil || now.native() != native {
		return nil, fmt.Errorf("the file cannot be changed so that upstream %s reads %s for server %s", upstream, native, server)
	}
	return out, nil
}
