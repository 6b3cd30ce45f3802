// Package store keeps the samples: an embedded Prometheus TSDB and its query language behind one package, the only one
// that imports either.
//
// Streams append through lanes, a few appenders that many streams share, so that a commit is paid once per thousand
// samples and not once per message. A sample is durable when its Mark is at or below Durable: Run commits the lanes,
// fsyncs the write-ahead log through descriptors of its own at most once a second, and only then moves the watermark.
// After any error of the log the store stops moving it, closes and opens the database, and starts a new epoch: what was
// not durable then is lost to this process and must be sent again.
//
// It knows nothing of agents, sequences or acks; those are collector/ingest's. Goroutines: the database's own, and those
// of Run.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
)

// Errors of a lane. All but ErrUnavailable and ErrNoSpace concern one series or sample, and the batch goes on.
var (
	// ErrUnavailable says that the store is opening its database again; send later.
	ErrUnavailable = errors.New("store is recovering")
	// ErrNoSpace says that the file system has too little room left; send later.
	ErrNoSpace = errors.New("store is short of disk space")
	// ErrLost says that a commit failed: the samples since the last durable mark must be sent again.
	ErrLost = errors.New("samples were lost, send again from the last ack")
	// ErrTooManySeries says that the node holds as many series as it may; samples of known series still go in.
	ErrTooManySeries = errors.New("the node's limit of series is reached")
	// ErrBadSeries says that an identity breaks the rules for names and labels.
	ErrBadSeries = errors.New("series identity is not valid")
	// ErrUnknownRef says that a ref is no longer known; create the series again.
	ErrUnknownRef = errors.New("series is not known")
	// ErrTooOld says that a sample is older than the out-of-order window.
	ErrTooOld = errors.New("sample is older than the out-of-order window")
	// ErrConflict says that another value is stored for the same series and time.
	ErrConflict = errors.New("another value is stored for this time")
)

// Config of a store. Only Dir must be set.
type Config struct {
	Dir        string
	Retention  time.Duration // default 30 d
	MaxBytes   int64         // of blocks; 0: no cap
	OutOfOrder time.Duration // how late a sample may come; default 6 h
	MaxSeries  int           // in memory; default 1,000,000
	Segment    int           // bytes of a segment of the log; a bad byte costs the rest of the log; default 16 MiB
	Lanes      int           // default GOMAXPROCS

	CommitSamples int           // samples a lane gathers before it commits by itself; default 1,000
	CommitEvery   time.Duration // and the longest that they wait; default 100 ms
	SyncEvery     time.Duration // between two fsyncs that nobody asked for; default 1 s

	MinFree uint64 // bytes; default 5 % of the file system, at least 2 GiB and at most 16 GiB
	Ballast int64  // bytes kept in a file that is given up when the database must be opened on a full disk; default 64 MiB, < 0: none

	QueryTimeout time.Duration // default 30 s
	QuerySamples int           // that one query may hold in memory; default 20,000,000
	Queries      int           // at once; others wait; default 4

	Log *slog.Logger // default: none

	// Fsync replaces (*os.File).Sync, and Free the question of how many bytes a file system has free and in all. Tests
	// set them to make faults.
	Fsync func(*os.File) error
	Free  func(dir string) (free, total uint64, err error)
}

func (c *Config) fill() error {
	if c.Dir == "" {
		return errors.New("store needs a folder")
	}
	if c.Retention < 0 || c.MaxBytes < 0 || c.OutOfOrder < 0 || c.MaxSeries < 0 || c.Lanes < 0 || c.CommitSamples < 0 || c.Segment < 0 {
		return errors.New("store limits must not be negative")
	}
	or(&c.Retention, 30*24*time.Hour)
	or(&c.OutOfOrder, 6*time.Hour)
	or(&c.MaxSeries, 1_000_000)
	or(&c.Segment, 16<<20)
	or(&c.Lanes, runtime.GOMAXPROCS(0))
	or(&c.CommitSamples, 1_000)
	or(&c.CommitEvery, 100*time.Millisecond)
	or(&c.SyncEvery, time.Second)
	or(&c.Ballast, 64<<20)
	or(&c.QueryTimeout, 30*time.Second)
	or(&c.QuerySamples, 20_000_000)
	or(&c.Queries, 4)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Fsync == nil {
		c.Fsync = (*os.File).Sync
	}
	if c.Free == nil {
		c.Free = freeSpace
	}
	return nil
}

func or[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// The states of a store.
const (
	ready int32 = iota
	recovering
	closed
)

// Store is an open database. Its methods may be called from many goroutines.
type Store struct {
	cfg    Config
	engine *promql.Engine
	slots  chan struct{} // one per query that may run
	lanes  []*Lane

	state   atomic.Int32
	noSpace atomic.Bool
	round   atomic.Uint64 // that marks given out now belong to
	epoch   atomic.Uint32
	series  atomic.Int64 // in memory, as last seen

	dbMu sync.RWMutex // held for reading while a query or append uses db, for writing while db is replaced
	db   *tsdb.DB
	logs *watchfulHandler

	syncMu sync.Mutex // one fsync at a time
	files  walFiles

	kick   chan struct{} // somebody wants an fsync now; one is enough for all
	broken chan struct{} // the log failed; Run opens again

	durableMu sync.Mutex
	durable   Durable
	moved     chan struct{} // closed when durable changes

	stats counters
}

// Durable is how far samples are on stable storage.
type Durable struct {
	Epoch uint32
	Round uint64
}

// Mark says in which round of fsyncs a batch becomes durable.
type Mark struct {
	Epoch uint32
	Round uint64
}

// Covers reports whether what m marks is on stable storage.
func (d Durable) Covers(m Mark) bool { return d.Epoch == m.Epoch && d.Round >= m.Round }

// Lost reports whether what m marks was dropped by a reopening before it became durable.
func (d Durable) Lost(m Mark) bool { return m.Epoch < d.Epoch }

type counters struct {
	samples, commits, syncs, failures, conflicts, tooOld atomic.Uint64
	syncNanos                                            atomic.Int64
}

// Stats is what a store has done since it was opened.
type Stats struct {
	Samples, Commits, Syncs, Failures uint64
	Conflicts, TooOld                 uint64 // samples refused
	Series                            int
	LastSync                          time.Duration // how long the last fsync took
	Short                             bool          // of disk space
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Samples: c.samples.Load(), Commits: c.commits.Load(), Syncs: c.syncs.Load(), Failures: c.failures.Load(),
		Conflicts: c.conflicts.Load(), TooOld: c.tooOld.Load(), Series: s.seriesNow(), LastSync: time.Duration(c.syncNanos.Load()),
		Short: s.noSpace.Load(),
	}
}

// Open opens the database in cfg.Dir, making it where it is absent, and replays its log; this can take seconds. Nothing
// may be appended or asked before it returns, so a collector listens after. Call Run next, and Close at the end.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the store's folder: %w", err)
	}
	s := &Store{
		cfg: cfg, kick: make(chan struct{}, 1), broken: make(chan struct{}, 1), moved: make(chan struct{}),
		slots: make(chan struct{}, cfg.Queries), logs: &watchfulHandler{to: cfg.Log.Handler()},
	}
	s.round.Store(1)
	s.epoch.Store(1)
	s.durable = Durable{Epoch: 1}
	s.engine = newEngine(cfg)
	for range cfg.Lanes {
		s.lanes = append(s.lanes, &Lane{s: s, scratch: labels.NewScratchBuilder(16)})
	}
	s.guard()
	start := time.Now()
	if err := s.openDB(); err != nil {
		s.dropBallast()
		if err2 := s.openDB(); err2 != nil {
			return nil, fmt.Errorf("cannot open the store: %w", err)
		}
	}
	cfg.Log.Info("store is open", "dir", cfg.Dir, "took", time.Since(start), "series", s.seriesNow())
	return s, nil
}

func (s *Store) openDB() (err error) {
	// The TSDB panics in some states of a full disk; for a caller that is one more reason why it cannot be opened.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("database panicked: %v", p)
		}
	}()
	o := tsdb.DefaultOptions()
	o.WALSegmentSize = s.cfg.Segment
	o.RetentionDuration = s.cfg.Retention.Milliseconds()
	o.MaxBytes = s.cfg.MaxBytes
	o.OutOfOrderTimeWindow = s.cfg.OutOfOrder.Milliseconds()
	// A tick a second fills 120 samples in two minutes. Longer chunks mean fewer headers and index entries per sample.
	o.SamplesPerChunk = 240
	// Blocks grow to a tenth of the retention, a day at most, so that the disk cap can drop old data in small steps.
	o.MaxBlockDuration = max(min(s.cfg.Retention/10, 24*time.Hour).Milliseconds(), o.MinBlockDuration)
	s.logs.failed.Store(false)
	db, err := tsdb.Open(filepath.Join(s.cfg.Dir, "tsdb"), slog.New(s.logs), nil, o, nil)
	if err != nil {
		return err
	}
	s.dbMu.Lock()
	s.db = db
	s.dbMu.Unlock()
	s.files = newWALFiles(filepath.Join(s.cfg.Dir, "tsdb"), s.cfg.Fsync)
	return nil
}

func (s *Store) seriesNow() int {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return int(s.series.Load())
	}
	n := s.db.Head().NumSeries()
	s.series.Store(int64(n))
	return int(n)
}

// Close commits and fsyncs what is open and closes the database. Run must have returned.
func (s *Store) Close() error {
	if s.state.Load() == closed {
		return nil
	}
	err := s.sync()
	s.state.Store(closed)
	s.dropAppenders()
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
		s.db = nil
	}
	s.files.close()
	if err != nil {
		return fmt.Errorf("cannot close the store: %w", err)
	}
	return nil
}

// Stale is the value that ends a series: queries no longer see it from its time on.
func Stale() float64 { return math.Float64frombits(value.StaleNaN) }

// Dir returns the folder that the store was opened in.
func (s *Store) Dir() string { return s.cfg.Dir }
