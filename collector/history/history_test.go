package history

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

type world struct {
	testing.TB
	dir  string
	now  time.Time
	sums map[string]string
	fail error
}

func (w *world) open() *Keeper {
	w.Helper()
	k, err := Open(Config{
		Dir: w.dir, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		Sealed: func(_ context.Context, m time.Time, sum string) error {
			if w.fail != nil {
				return w.fail
			}
			if _, twice := w.sums[m.Format(month)]; twice {
				w.Errorf("%s was sealed twice", m.Format(month))
			}
			w.sums[m.Format(month)] = sum
			return nil
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	return k
}

func (w *world) file(name string) string {
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.Fatal(err)
	}
	return string(b)
}

func newWorld(t testing.TB, at string) *world {
	now, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	return &world{TB: t, dir: t.TempDir(), now: now, sums: map[string]string{}}
}

func row(ref string, at time.Time, r health.Range, o slo.Origin) slo.Row {
	return slo.Row{Ref: manifest.Ref(ref), At: at, State: slo.State{Health: r, Origin: o}}
}

func text(rows []slo.Row) string {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(string(r.Ref) + " " + r.At.Format("01-02T15:04:05") + " " + slo.HealthText(r.Health) + " " + r.Origin.String() + "\n")
	}
	return b.String()
}

// A month stands alone, is sealed once when it is over, and what nobody followed is unknown.
func TestMonths(t *testing.T) {
	w := newWorld(t, "2026-10-31T23:00:00Z")
	k := w.open()
	k.Record(row("service/a", w.now, health.Exactly(health.OK), 0), row("service/b", w.now, health.Unknown, 0))
	k.flush(t.Context())
	k.Record(row("service/a", w.now.Add(time.Minute), health.Exactly(health.OK), 0)) // nothing new
	k.Record(row("service/a", w.now.Add(30*time.Minute), health.Range{Low: health.OK, High: health.Major}, slo.Own))
	w.now = w.now.Add(40 * time.Minute)
	k.flush(t.Context())
	if got, want := w.file("2026-10.csv"), "ref,time,level,origin\nservice/a,2026-10-31T23:00:00Z,ok,unknown\nservice/b,2026-10-31T23:00:00Z,unknown,unknown\nservice/a,2026-10-31T23:30:00Z,ok...major,own\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	w.now = w.now.Add(time.Hour)
	w.fail = errors.New("no room")
	k.Record(row("service/b", w.now, health.Exactly(health.Critical), slo.Vendor))
	k.flush(t.Context())
	if len(w.sums) != 0 {
		t.Error("sealed without success")
	}
	w.fail = nil
	k.flush(t.Context())
	k.flush(t.Context())
	if len(w.sums) != 1 || len(w.sums["2026-10"]) != 64 || !strings.HasPrefix(w.file("2026-10.sha256"), w.sums["2026-10"]) {
		t.Errorf("%v", w.sums)
	}
	if got, want := w.file("2026-11.csv"), "ref,time,level,origin\nservice/a,2026-11-01T00:00:00Z,ok...major,own\nservice/b,2026-11-01T00:00:00Z,unknown,unknown\nservice/b,2026-11-01T00:40:00Z,critical,vendor\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	// A crash in the middle of a line, and a while without anybody.
	f, err := os.OpenFile(filepath.Join(w.dir, "2026-11.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("service/a,2026-11-01T00:4"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	w.now = w.now.Add(time.Hour)
	k = w.open()
	k.Record(row("service/a", w.now, health.Exactly(health.OK), 0))
	k.flush(t.Context())
	want := "service/a 10-31T23:00:00 ok unknown\nservice/b 10-31T23:00:00 unknown unknown\nservice/a 10-31T23:30:00 ok...major own\n" +
		"service/b 11-01T00:40:00 critical vendor\nservice/a 11-01T00:40:00 unknown unknown\nservice/b 11-01T00:40:00 unknown unknown\nservice/a 11-01T01:40:00 ok unknown\n"
	if got := text(k.Rows()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := text(w.open().Rows()[:7]); got != want {
		t.Errorf("read again\n%s", got)
	}
}

func TestOldMonthsGo(t *testing.T) {
	w := newWorld(t, "2025-01-15T00:00:00Z")
	k := w.open()
	k.Record(row("service/a", w.now, health.Exactly(health.Major), slo.Own))
	k.flush(t.Context())
	w.now = w.now.AddDate(2, 0, 0)
	k.Record(row("service/a", w.now, health.Exactly(health.OK), 0))
	k.flush(t.Context()) // seals
	k.flush(t.Context()) // drops
	if _, err := os.Stat(filepath.Join(w.dir, "2025-01.csv")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if got := text(k.Rows()); got != "service/a 01-15T00:00:00 major own\nservice/a 01-15T00:00:00 ok unknown\n" {
		t.Error(got)
	}
}

func TestABadFileIsNamed(t *testing.T) {
	w := newWorld(t, "2026-11-30T00:00:00Z")
	if err := os.WriteFile(filepath.Join(w.dir, "2026-11.csv"), []byte("ref,time,level,origin\nservice/a,noon,ok,own\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Dir: w.dir, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "2026-11.csv:2:11: \"noon\" is not a time") {
		t.Error(err)
	}
}

// Whatever is recorded, at whatever clock, is what is read again.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, "2026-10-30T00:00:00Z")
		k := w.open()
		for range rapid.IntRange(1, 40).Draw(rt, "rows") {
			w.now = w.now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(10*time.Hour)).Draw(rt, "later")))
			low := health.Level(rapid.IntRange(0, 5).Draw(rt, "low"))
			r := health.Range{Low: low, High: health.Level(rapid.IntRange(int(low), 5).Draw(rt, "high"))}
			k.Record(row(rapid.SampledFrom([]string{"service/a", "service/b", "service/c"}).Draw(rt, "ref"), w.now, r, slo.Origin(rapid.IntRange(0, 4).Draw(rt, "origin"))))
			if rapid.Bool().Draw(rt, "flush") {
				k.flush(context.Background())
			}
		}
		k.flush(context.Background())
		want := k.Rows()
		if err := os.Remove(filepath.Join(w.dir, "alive")); err != nil {
			rt.Fatal(err)
		}
		if got := w.open().Rows(); text(got) != text(want) {
			rt.Errorf("got\n%swant\n%s", text(got), text(want))
		}
	})
}
