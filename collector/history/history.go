// Package history keeps the health of services over time on the collector's disk: one CSV file a month, which `evenkeel slo
// show --history` reads as it is. Costs, objectives and reports of the live map are worked out of it.
//
// A file begins with where every service stood, so that each stands alone. Time in which the collector did not run is
// unknown, not as before. A month that is over is sealed: the sum of its file is handed out once, for the audit log.
//
// It makes up nothing, and whoever records never waits for the disk.
package history

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/pkg/health"
	"github.com/evenkeel/evenkeel/pkg/manifest"
)

const (
	head   = "ref,time,level,origin\n"
	month  = "2006-01"
	ending = ".csv"
	// keepMonths is how many months stay in memory and on disk: this one, and those of a year's comparison.
	keepMonths = 14
	// heartbeat is how often it is noted that health is being followed: what a crash leaves open is no longer than this.
	heartbeat = 10 * time.Second
	// settle is how long after a change it is written.
	settle = time.Second
)

// Sealed is called once for each month that is over, with the hex SHA-256 of its file. An error has it called again later.
type Sealed func(ctx context.Context, month time.Time, sum string) error

// Config says where and for whom a history is kept. All fields are needed.
type Config struct {
	Dir    string
	Now    func() time.Time
	Sealed Sealed
	Log    *slog.Logger
}

// Keeper keeps the history. Its methods may be called from many goroutines.
type Keeper struct {
	cfg Config

	mu      sync.Mutex
	rows    []slo.Row
	last    map[manifest.Ref]slo.Row
	pending []slo.Row // not written yet
	wake    chan struct{}
}

// Open reads what is kept. A line that was cut off by a crash is dropped; any other fault in a file is an error that names it.
func Open(cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg, last: map[manifest.Ref]slo.Row{}, wake: make(chan struct{}, 1)}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep a history: %w", err)
	}
	files, err := k.files()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := k.read(file); err != nil {
			return nil, err
		}
	}
	// Nobody looked since.
	if beat, err := os.Stat(k.path("alive")); err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, ref := range slices.Sorted(maps.Keys(k.last)) {
			if k.last[ref].Health != health.Unknown {
				k.add(slo.Row{Ref: ref, At: beat.ModTime().UTC(), State: slo.State{Health: health.Unknown}})
			}
		}
	}
	return k, nil
}

func (k *Keeper) path(name string) string { return filepath.Join(k.cfg.Dir, name) }

// files returns the months that are kept, oldest first.
func (k *Keeper) files() ([]string, error) {
	all, err := filepath.Glob(k.path("*" + ending))
	if err != nil {
		return nil, err
	}
	slices.Sort(all)
	return all, nil
}

func (k *Keeper) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read the history: %w", err)
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	if len(whole) < len(text) {
		k.cfg.Log.Warn("the history ends in half a line, which is dropped", "file", file)
		if err := os.Truncate(file, int64(len(whole))); err != nil {
			return fmt.Errorf("cannot mend the history: %w", err)
		}
	}
	if len(whole) == 0 {
		return nil
	}
	rows, problems := slo.ReadHistory(file, whole)
	if len(problems) > 0 {
		return fmt.Errorf("cannot read the history: %s", problems[0])
	}
	for _, row := range rows {
		if last, ok := k.last[row.Ref]; ok && last.State == row.State {
			continue // the beginning of a month repeats
		}
		k.rows, k.last[row.Ref] = append(k.rows, row), row
	}
	return nil
}

// Record takes in where services stand from a moment on, and returns what of it is new. What does not change anything is left out.
func (k *Keeper) Record(rows ...slo.Row) (taken []slo.Row) {
	k.mu.Lock()
	for _, row := range rows {
		if last, ok := k.last[row.Ref]; ok && last.State == row.State {
			continue
		}
		taken = append(taken, k.add(row))
	}
	waiting := len(k.pending) > 0
	k.mu.Unlock()
	if waiting {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
	return taken
}

// add keeps a row and returns it as it is kept; a clock that was set back does not turn the order around. The caller holds mu.
func (k *Keeper) add(row slo.Row) slo.Row {
	row.At = row.At.UTC()
	if last, ok := k.last[row.Ref]; ok && !row.At.After(last.At) {
		row.At = last.At.Add(1)
	}
	k.rows, k.last[row.Ref] = append(k.rows, row), row
	k.pending = append(k.pending, row)
	return row
}

// Rows returns all that is kept, of each service in the order of time.
func (k *Keeper) Rows() []slo.Row {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.rows)
}

// Run writes what is recorded until ctx ends, and then what is left.
func (k *Keeper) Run(ctx context.Context) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			k.flush(context.WithoutCancel(ctx))
			return nil
		case <-k.wake:
			// What changed has a decision to wait for the same disk: it goes first.
			select {
			case <-ctx.Done():
				continue
			case <-time.After(settle):
			}
		case <-beat.C:
		}
		k.flush(ctx)
	}
}

// flush writes what waits, notes that health is followed, and seals what is over.
func (k *Keeper) flush(ctx context.Context) {
	k.mu.Lock()
	pending := k.pending
	k.pending = nil
	k.mu.Unlock()
	if err := k.write(pending); err != nil {
		k.cfg.Log.Error("the history was not written, it will be tried again", "rows", len(pending), "error", err)
		k.mu.Lock()
		k.pending = append(pending, k.pending...)
		k.mu.Unlock()
		return
	}
	now := k.cfg.Now()
	alive := k.path("alive")
	err := os.Chtimes(alive, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.WriteFile(alive, nil, 0o600); err == nil {
			err = os.Chtimes(alive, now, now)
		}
	}
	if err != nil {
		k.cfg.Log.Error("cannot note that health is followed", "error", err)
	}
	k.seal(ctx, now)
}

// write appends rows to the files of their months, and syncs them.
func (k *Keeper) write(rows []slo.Row) error {
	for len(rows) > 0 {
		name := rows[0].At.Format(month)
		n := slices.IndexFunc(rows, func(r slo.Row) bool { return r.At.Format(month) != name })
		if n < 0 {
			n = len(rows)
		}
		if err := k.append(name, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (k *Keeper) append(name string, rows []slo.Row) (err error) {
	f, err := os.OpenFile(k.path(name+ending), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, 2)
	defer func() {
		if err != nil {
			// Half of it may be there; it is written again as a whole.
			_ = f.Truncate(size)
		}
		err = errors.Join(err, f.Close())
	}()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if size == 0 {
		b.WriteString(head)
		for _, row := range k.before(rows[0].At) {
			line(&b, row)
		}
	}
	for _, row := range rows {
		line(&b, row)
	}
	if _, err = f.Write(b.Bytes()); err != nil {
		return err
	}
	return f.Sync()
}

// before returns where each service stood when the month of a moment began, as rows of its first moment.
func (k *Keeper) before(at time.Time) []slo.Row {
	begin := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	stood := map[manifest.Ref]slo.Row{}
	k.mu.Lock()
	for _, row := range k.rows {
		if row.At.Before(begin) {
			row.At = begin
			stood[row.Ref] = row
		}
	}
	k.mu.Unlock()
	out := make([]slo.Row, 0, len(stood))
	for _, ref := range slices.Sorted(maps.Keys(stood)) {
		out = append(out, stood[ref])
	}
	return out
}

func line(b *bytes.Buffer, row slo.Row) {
	fmt.Fprintf(b, "%s,%s,%s,%s\n", row.Ref, row.At.Format(time.RFC3339Nano), slo.HealthText(row.Health), row.Origin)
}

// seal hands out the sums of months that are over, once each, and lets go of what is too old.
func (k *Keeper) seal(ctx context.Context, now time.Time) {
	files, err := k.files()
	if err != nil {
		k.cfg.Log.Error("cannot list the history", "error", err)
		return
	}
	current := now.UTC().Format(month)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ending)
		began, err := time.Parse(month, name)
		if err != nil || name >= current {
			continue
		}
		mark := k.path(name + ".sha256")
		if _, err := os.Stat(mark); err == nil {
			if began.AddDate(0, keepMonths, 0).Before(now) {
				k.drop(began, file, mark)
			}
			continue
		}
		if err := k.sealOne(ctx, began, file, mark); err != nil {
			k.cfg.Log.Error("a month of the history could not be sealed, it will be tried again", "month", name, "error", err)
		}
	}
}

func (k *Keeper) sealOne(ctx context.Context, began time.Time, file, mark string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(text)
	sum := hex.EncodeToString(digest[:])
	if err := k.cfg.Sealed(ctx, began, sum); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(sum+"  "+filepath.Base(file)+"\n"), 0o600)
}

func (k *Keeper) drop(began time.Time, files ...string) {
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			k.cfg.Log.Error("cannot remove an old month of the history", "file", file, "error", err)
			return
		}
	}
	next := began.AddDate(0, 1, 0)
	k.mu.Lock()
	defer k.mu.Unlock()
	// Where each stood at the end of it is still needed.
	keep := map[manifest.Ref]slo.Row{}
	rest := k.rows[:0:0]
	for _, row := range k.rows {
		if row.At.Before(next) {
			keep[row.Ref] = row
		} else {
			rest = append(rest, row)
		}
	}
	first := make([]slo.Row, 0, len(keep))
	for _, ref := range slices.Sorted(maps.Keys(keep)) {
		first = append(first, keep[ref])
	}
	k.rows = append(first, rest...)
}
