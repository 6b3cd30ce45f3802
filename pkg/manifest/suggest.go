package manifest

import (
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/pkg/health"
)

// suggest names the known word that is nearest to what was written, or all of them where none is near.
func suggest(word string, known []string) string {
	if hint := near(word, known); hint != "" {
		return hint
	}
	known = slices.Clone(known)
	slices.Sort(known)
	return "known: " + strings.Join(known, ", ")
}

// near names the known word that is nearest to what was written, or nothing where none is near.
func near(word string, known []string) string {
	best, least := "", len(word)/3+2
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return `did you mean "` + best + `"?`
}

// distance is how many letters must be added, dropped, replaced or swapped with a neighbour to make b of a.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	two, one, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, one[j]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one, row = one, row, two
	}
	return one[len(b)]
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func levelNames() []string {
	var out []string
	for l := health.OK; l <= health.Critical; l++ {
		out = append(out, l.String())
	}
	return out
}

// Nearest names the known word that is nearest to what was written, as a hint for people; it is empty where none is near.
func Nearest(word string, known []string) string { return near(word, known) }
