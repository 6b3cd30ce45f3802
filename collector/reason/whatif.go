package reason

import (
	"fmt"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/whatif"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// whatIf takes take (references) and levels (REF=LEVEL), both with commas between them, from (RFC 3339; the moment of the picture where it
// is missing), for and horizon (durations), and change (a declared one).
func whatIf(p *picture.Picture, a Args) (any, []manifest.Problem, error) {
	opt := whatif.Options{From: p.At}
	if a["change"] != "" {
		var err error
		if opt, err = whatif.Declared(p, manifest.Ref(a["change"])); err != nil {
			return nil, nil, err
		}
	}
	for _, ref := range list(a["take"]) {
		opt.Take = append(opt.Take, manifest.Ref(ref))
	}
	for _, s := range list(a["levels"]) {
		ref, level, ok := strings.Cut(s, "=")
		if !ok || ref == "" || level == "" {
			return nil, nil, fmt.Errorf("levels: %q: expected REF=LEVEL, such as component/web@web-1=major", s)
		}
		if opt.Set == nil {
			opt.Set = map[string]string{}
		}
		opt.Set[ref] = level
	}
	var err error
	if a["from"] != "" {
		if opt.From, err = moment("from", a["from"]); err != nil {
			return nil, nil, err
		}
	}
	for name, to := range map[string]*time.Duration{"for": &opt.For, "horizon": &opt.Horizon} {
		if a[name] == "" {
			continue
		}
		var d manifest.Duration
		if err := d.UnmarshalText([]byte(a[name])); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		*to = d.Std()
	}
	out, err := whatif.Of(p, opt)
	return out, nil, err
}

// list splits at commas; it is empty for nothing.
func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func moment(name, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%s: %q is not a time: expected RFC 3339, such as 2026-11-25T10:00:00Z", name, s)
	}
	return t, nil
}
