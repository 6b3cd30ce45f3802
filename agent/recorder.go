package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/evenkeel/evenkeel/agent/check"
	"github.com/evenkeel/evenkeel/agent/link"
	"github.com/evenkeel/evenkeel/agent/probe"
	"github.com/evenkeel/evenkeel/agent/schedule"
	"github.com/evenkeel/evenkeel/agent/spool"
	"github.com/evenkeel/evenkeel/pkg/chain"
	"github.com/evenkeel/evenkeel/pkg/metric"
	"github.com/evenkeel/evenkeel/pkg/run"
	"github.com/evenkeel/evenkeel/pkg/strict"
)

// recorder turns ticks into frames of one chain and keeps them in the spool. To the link it is the spool. record is for
// the schedule's goroutine; the rest may be called from any.
type recorder struct {
	boot  link.BootID
	queue *spool.Queue
	log   *slog.Logger

	enc   chain.Encoder
	frame []byte // of the last tick, used again

	due    chan struct{} // to run: the spool is to be forced to the disk
	series atomic.Int64
	seq    atomic.Uint64 // of the last tick
}

func openRecorder(dir string, limit strict.Bytes, log *slog.Logger) (*recorder, error) {
	r := &recorder{log: log, due: make(chan struct{}, 1)}
	_, _ = rand.Read(r.boot[:]) // never fails
	var err error
	r.queue, err = spool.Open(spool.Config{
		Dir: dir, Boot: spool.BootID(r.boot), MaxBytes: int64(limit),
		OnError: func(err error) { log.Error("readings are in memory alone: the spool cannot be written", "error", err) },
	})
	if err != nil {
		return nil, err
	}
	if n := r.queue.Stats().BadRecords; n > 0 {
		log.Warn("bytes in the spool were no batches and are left out", "places", n)
	}
	return r, nil
}

// record encodes the table once, keeps the frame, and returns it until the next call. What the disk does not take is in
// memory, and counts as kept; seq is 0 only once the spool is closed.
func (r *recorder) record(now time.Time, t *metric.Table, key bool) (seq uint64, isKey bool, frame []byte) {
	r.frame = r.enc.Append(r.frame[:0], t, now.UnixMilli(), key || r.queue.NeedsKey())
	t.Next()
	r.series.Store(int64(r.enc.Live()))
	seq = r.seq.Add(1)
	if err := r.queue.Append(seq, now.UnixMilli(), r.enc.WasKey(), r.frame); errors.Is(err, spool.ErrClosed) {
		return 0, false, nil
	}
	if r.queue.SyncDue(now) {
		select {
		case r.due <- struct{}{}:
		default:
		}
	}
	return seq, r.enc.WasKey(), r.frame
}

// run forces the spool to the disk when a tick finds that it is due, and once more at the end. The timer is for what has
// no tick to wait for: segments to remove, and batches that were the last before the ticks stopped.
func (r *recorder) run(ctx context.Context) error {
	slow := time.NewTicker(10 * time.Second)
	defer slow.Stop()
	for {
		select {
		case <-ctx.Done():
			return r.queue.Sync()
		case <-r.due:
		case <-slow.C:
		}
		_ = r.queue.SyncIfDue(time.Now()) // told to OnError, and tried again
	}
}

// tick is the schedule's sink: one encoding, one write to the spool, one offer to the link.
func (a *Agent) tick(now time.Time, t *metric.Table) {
	if seq, key, frame := a.recorder.record(now, t, a.link.KeyWanted()); seq > 0 {
		a.link.Live(seq, key, frame)
	}
	if places, v := a.probes.Components().Places(); v != a.places {
		a.places = v
		a.link.Components(placesOf(places))
	}
}

func (r *recorder) close() error { return r.queue.Close() }

func (r *recorder) last() uint64 { return r.seq.Load() }

func (r *recorder) seriesNow() int { return int(r.series.Load()) }

// Ranges lists what is not acked. With Ack, Open and Usage it makes a recorder the link's spool.
func (r *recorder) Ranges() []link.Range {
	var out []link.Range
	for _, b := range r.queue.Ranges() {
		out = append(out, link.Range{Boot: link.BootID(b.Boot), First: b.First, Last: b.Last})
	}
	return out
}

// Ack forgets what is stored.
func (r *recorder) Ack(boot link.BootID, seq uint64) { r.queue.Ack(spool.BootID(boot), seq) }

// Open starts to read back.
func (r *recorder) Open(boot link.BootID, seq uint64) (link.Reader, error) {
	q, err := r.queue.Iterate(spool.BootID(boot), seq)
	if err != nil {
		return nil, err
	}
	return spoolReader{q}, nil
}

type spoolReader struct{ *spool.Reader }

func (r spoolReader) Next() (uint64, []byte, error) {
	rec, err := r.Reader.Next()
	return rec.Seq, rec.Frame, err
}

// Usage returns the unacked bytes, the cap on all, and how many batches were dropped.
func (r *recorder) Usage() (bytes, limit, dropped uint64) {
	s := r.queue.Stats()
	return uint64(s.UnackedBytes), uint64(s.Limit), s.Dropped
}

func (r *recorder) status() SpoolStatus {
	s := r.queue.Stats()
	st := SpoolStatus{
		Bytes: uint64(s.Bytes), UnackedBytes: uint64(s.UnackedBytes), Unacked: s.Unacked, MaxBytes: uint64(s.Limit), Dropped: s.Dropped,
		BadRecords: s.BadRecords, LastSeq: r.last(),
	}
	if s.Failing != nil {
		st.Error = "readings are in memory alone: " + s.Failing.Error()
	}
	return st
}

// Recording is what Record made.
type Recording struct {
	Ticks  uint64
	Series int
	Bytes  uint64 // of frames
}

// Record runs the host's probes until ctx ends and keeps the frames in dir, as the agent would for a collector that is
// away. It needs no enrolment.
func Record(ctx context.Context, cfg Config, dir string) (Recording, error) {
	rec, err := openRecorder(dir, maxRecording, slog.New(slog.DiscardHandler))
	if err != nil {
		return Recording{}, err
	}
	var out Recording
	err = func() error {
		probes, err := probe.New(probe.Config{MaxUnits: cfg.Units.Max})
		if err != nil {
			return err
		}
		defer probes.Close()
		async := schedule.NewAsync(0)
		set := check.SetConfig{ID: "recording", Async: async}
		for _, k := range cfg.Checks {
			set.Local = append(set.Local, k.Spec())
		}
		checks, err := check.NewSet(set)
		if err != nil {
			return err
		}
		clock, err := schedule.New(schedule.Config{
			ID: "recording", Period: cfg.Period, Probes: cfg.enabled(probes), Async: async, Log: slog.New(slog.DiscardHandler),
			Sink: func(now time.Time, t *metric.Table) {
				if seq, _, frame := rec.record(now, t, false); seq > 0 {
					out.Ticks++
					out.Series = max(out.Series, rec.seriesNow())
					out.Bytes += uint64(len(frame))
				}
			},
		})
		if err != nil {
			return err
		}
		var g run.Group
		g.Add("spool", rec.run)
		g.Add("checks", checks.Run)
		g.Add("schedule", clock.Run)
		return g.Run(ctx)
	}()
	if why := rec.queue.Stats().Failing; err == nil && why != nil {
		err = fmt.Errorf("cannot write the recording: %w", why)
	}
	return out, errors.Join(err, rec.close())
}

// maxRecording bounds a recording.
const maxRecording = 64 << 30
