// Package importer makes first manifests of what an organisation has already: a CSV of services with their owners, criticality,
// hours and vendors, and an iCalendar of holidays or peaks. It tells every mistake with its line and column, and every gap:
// what the text does not say and a map needs.
//
// It invents nothing: no value, no owner, no dependency that was not written. What it makes is held to the same rules as a
// manifest that was written by hand. It is pure.
package importer

import (
	"strings"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// Result is what was made of a text.
type Result struct {
	Resources []*manifest.Resource // by reference
	Gaps      []Gap
}

// Gap is something that a resource does not say, and somebody should.
type Gap struct {
	Ref  manifest.Ref `json:"ref"`
	Line int          `json:"line"` // where the resource comes from; 0 where there is none
	Text string       `json:"text"`
}

const maxName = 63

// NameOf makes a resource's name of what people call it: "Web Shop (EU)" becomes web-shop-eu. It is empty where nothing is left.
func NameOf(text string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case plain[r] != "":
			b.WriteString(plain[r])
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := b.String()
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.Trim(name, "-")
}

// plain is how letters beyond a to z are written in names.
var plain = map[rune]string{
	'ä': "ae", 'ö': "oe", 'ü': "ue", 'ß': "ss", 'á': "a", 'à': "a", 'â': "a", 'å': "a", 'ã': "a", 'ç': "c", 'é': "e", 'è': "e", 'ê': "e",
	'ë': "e", 'í': "i", 'ì': "i", 'î': "i", 'ï': "i", 'ñ': "n", 'ó': "o", 'ò': "o", 'ô': "o", 'õ': "o", 'ø': "o", 'æ': "ae", 'ú': "u",
	'ù': "u", 'û': "u", 'ý': "y", 'ł': "l", 'ś': "s", 'š': "s", 'ž': "z", 'ź': "z", 'ż': "z", 'č': "c", 'ć': "c", 'ě': "e", 'ę': "e",
	'ą': "a", 'ř': "r", 'ů': "u",
}
