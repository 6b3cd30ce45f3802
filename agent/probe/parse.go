package probe

import (
	"bytes"
	"errors"
	"math"
)

// errFormat is returned for a kernel file that does not look as documented.
var errFormat = errors.New("unexpected format")

// number reads the decimal number at b[i:], after spaces and tabs, and returns the index behind it. Numbers beyond int64
// stay at its end: the kernel writes some limits and "no limit" that way.
func number(b []byte, i int) (v int64, next int, ok bool) {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	negative := i < len(b) && b[i] == '-'
	if negative {
		i++
	}
	start := i
	var u uint64
	for i < len(b) {
		c := b[i] - '0'
		if c > 9 {
			break
		}
		if u < math.MaxInt64/10 {
			u = u*10 + uint64(c)
		} else if u = u*10 + uint64(c); u > math.MaxInt64 {
			u = math.MaxInt64
			for i < len(b) && b[i]-'0' <= 9 {
				i++
			}
			break
		}
		i++
	}
	if negative {
		return -int64(u), i, i > start
	}
	return int64(u), i, i > start
}

// cutLine returns the first line of b without its newline, and the rest.
func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// cutField returns the next word of b after spaces, and the rest.
func cutField(b []byte) (field, rest []byte) {
	i := 0
	for i < len(b) && b[i] == ' ' {
		i++
	}
	j := i
	for j < len(b) && b[j] != ' ' {
		j++
	}
	return b[i:j], b[j:]
}

// lineValue finds the line that starts with key, which ends in the separator, and returns its number.
func lineValue(b []byte, key string) (int64, bool) {
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		if len(line) > len(key) && string(line[:len(key)]) == key {
			v, _, ok := number(line, len(key))
			return v, ok
		}
	}
	return 0, false
}
