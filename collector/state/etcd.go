package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Config is what Open needs. Only Dir has no default.
type Config struct {
	// Dir is the folder of this engine alone; it is made with, and set to, mode 0700. Everything that the engine keeps
	// is below it, the client's socket included.
	Dir string
	// Name is this member's name, as CheckName of pkg/identity wants it. Default "collector".
	Name string
	// Peer is where other members reach this one. The zero Peer opens no peer listener at all: right for a single node.
	Peer Peer
	// MinFree is the free space in bytes on Dir's filesystem below which Open and every write are refused, since the
	// engine ends the process when the disk is full. Default 256 MiB, the two log segments that it allocates ahead and
	// as much again.
	MinFree uint64
	// Free returns the free space in bytes at a folder. Default: what statfs says an unprivileged user may use.
	Free func(dir string) (uint64, error)
	// SlowDisk stretches heartbeat and election from 100 ms and 1 s to 250 ms and 2.5 s, where there are other members.
	SlowDisk bool
	// StartTimeout bounds Open. Default 60 s.
	StartTimeout time.Duration
	// RequestTimeout bounds a call whose context has no deadline of its own. Default 10 s.
	RequestTimeout time.Duration
	// Log receives the engine's warnings and errors. Default: discard.
	Log *slog.Logger
}

const (
	defaultMinFree = 256 << 20
	quota          = 512 << 20
	// slowWatcher is how long a watch waits for its reader once its buffer is full, before it breaks.
	slowWatcher = 5 * time.Second
)

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("the state engine needs a folder: set Dir")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, err
	}
	c.Dir = dir
	if c.Name == "" {
		c.Name = "collector"
	}
	if c.MinFree == 0 {
		c.MinFree = defaultMinFree
	}
	if c.Free == nil {
		c.Free = freeSpace
	}
	if c.StartTimeout <= 0 {
		c.StartTimeout = time.Minute
	}
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Etcd is a Store on an etcd server inside this process, spoken to over a unix socket that only this user may open.
// Use Open; it may be used from many goroutines.
type Etcd struct {
	cfg    Config
	server *embed.Etcd
	client *clientv3.Client
	folder *folder

	ctx    context.Context // of the watches; ended by Close
	cancel context.CancelFunc

	closing atomic.Bool
	once    sync.Once
}

// Open starts the engine in cfg.Dir, creating it if it is empty, and returns once it can be written to. It fails after
// cfg.StartTimeout, when another process has the folder, or when the disk has too little room. The caller must Close.
func Open(ctx context.Context, cfg Config) (*Etcd, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("cannot open state: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	e := &Etcd{cfg: cfg}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if err := e.start(ctx); err != nil {
		_ = e.Close()
		return nil, fmt.Errorf("cannot open state in %s: %w", cfg.Dir, err)
	}
	return e, nil
}

func (e *Etcd) start(ctx context.Context) (err error) {
	if e.folder, err = openFolder(e.cfg.Dir); err != nil {
		return err
	}
	if err := e.room(); err != nil {
		return err
	}
	engine, err := e.cfg.engine(e.folder, zapTo(e.cfg.Log, &e.closing))
	if err != nil {
		return err
	}
	if e.server, err = embed.StartEtcd(engine); err != nil {
		return err
	}
	select {
	case <-e.server.Server.ReadyNotify():
	case err := <-e.server.Err():
		return fmt.Errorf("the engine ended while it started: %w", err)
	case <-e.server.Server.StopNotify():
		return errors.New("the engine ended while it started")
	case <-ctx.Done():
		return fmt.Errorf("the engine did not become ready: %w", ctx.Err())
	}
	e.client, err = clientv3.New(clientv3.Config{
		Endpoints:   []string{"unix://" + e.folder.socket},
		Context:     e.ctx,
		Logger:      zapTo(e.cfg.Log, &e.closing),
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	})
	if err != nil {
		return err
	}
	if _, err := e.client.Get(ctx, "cluster/"); err != nil { // the first linearizable answer
		return unavailable(err)
	}
	return nil
}

// Run blocks until ctx ends, then closes the engine; or until the engine ends by itself, which is an error.
func (e *Etcd) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return e.Close()
	case err := <-e.server.Err():
		return errors.Join(fmt.Errorf("state engine ended: %w", err), e.Close())
	case <-e.server.Server.StopNotify():
		return errors.Join(errors.New("state engine ended"), e.Close())
	case <-e.ctx.Done():
		return nil
	}
}

// Close ends every watch, flushes, and frees the folder. Later calls return ErrUnavailable. Closing twice is harmless.
func (e *Etcd) Close() error {
	e.once.Do(func() {
		e.closing.Store(true)
		e.cancel()
		if e.client != nil {
			_ = e.client.Close() // before the server, which waits for its streams
		}
		if e.server != nil {
			e.server.Close()
		}
		if e.folder != nil {
			e.folder.close()
		}
	})
	return nil
}

// Get returns the key, or ErrNotFound.
func (e *Etcd) Get(ctx context.Context, key string) (KV, error) {
	if err := checkKey(key); err != nil {
		return KV{}, err
	}
	ctx, cancel := e.bound(ctx)
	defer cancel()
	resp, err := e.client.Get(ctx, key)
	if err != nil {
		return KV{}, fmt.Errorf("get %s: %w", key, e.explain(err))
	}
	if len(resp.Kvs) == 0 {
		return KV{}, ErrNotFound
	}
	kv := resp.Kvs[0]
	return KV{Key: key, Value: kv.Value, Created: kv.CreateRevision, Changed: kv.ModRevision}, nil
}

// List returns the keys under prefix in order, and the revision at which they were read.
func (e *Etcd) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	resp, err := e.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, e.explain(err))
	}
	kvs := make([]KV, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		kvs = append(kvs, KV{Key: string(kv.Key), Value: kv.Value, Created: kv.CreateRevision, Changed: kv.ModRevision})
	}
	return kvs, resp.Header.Revision, nil
}

// Txn writes ops if every condition holds. An error that wraps ErrUnavailable or a deadline leaves it open whether the
// write happened: read back before trying again.
func (e *Etcd) Txn(ctx context.Context, conditions []Compare, ops []Op) (held bool, revision int64, err error) {
	if err := checkTxn(conditions, ops); err != nil {
		return false, 0, err
	}
	if len(ops) > 0 {
		if err := e.room(); err != nil {
			return false, 0, err
		}
	}
	ctx, cancel := e.bound(ctx)
	defer cancel()
	ifs := make([]clientv3.Cmp, 0, len(conditions))
	for _, c := range conditions {
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Changed))
	}
	thens := make([]clientv3.Op, 0, len(ops))
	for _, o := range ops {
		if o.Delete {
			thens = append(thens, clientv3.OpDelete(o.Key))
		} else {
			thens = append(thens, clientv3.OpPut(o.Key, string(o.Value)))
		}
	}
	resp, err := e.client.Txn(ctx).If(ifs...).Then(thens...).Commit()
	if err != nil {
		return false, 0, fmt.Errorf("write: %w", e.explain(err))
	}
	return resp.Succeeded, resp.Header.Revision, nil
}

// Watch sends the changes under prefix after revision, in order. It breaks when ctx ends, the engine closes or loses its
// leader, the revision has been compacted, or the reader leaves 1024 events unread for 5 s.
func (e *Etcd) Watch(ctx context.Context, prefix string, after int64) <-chan Event {
	out := make(chan Event, watchBuffer)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.ctx, cancel)
	in := e.client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(max(after, 0)+1))
	go func() {
		defer close(out)
		defer cancel()
		defer stop()
		for resp := range in {
			if resp.Err() != nil {
				return
			}
			for _, ev := range resp.Events {
				if !send(ctx, out, toEvent(ev)) {
					return
				}
			}
		}
	}()
	return out
}

func toEvent(ev *clientv3.Event) Event {
	out := Event{
		KV:       KV{Key: string(ev.Kv.Key), Value: ev.Kv.Value, Created: ev.Kv.CreateRevision, Changed: ev.Kv.ModRevision},
		Revision: ev.Kv.ModRevision,
		Deleted:  ev.Type == clientv3.EventTypeDelete,
	}
	if out.Deleted {
		out.Value, out.Created = nil, 0
	}
	return out
}

// send delivers one event, or reports that the watch has to break.
func send(ctx context.Context, out chan<- Event, e Event) bool {
	select {
	case out <- e:
		return true
	case <-ctx.Done():
		return false
	default:
	}
	patience := time.NewTimer(slowWatcher)
	defer patience.Stop()
	select {
	case out <- e:
		return true
	case <-ctx.Done():
		return false
	case <-patience.C:
		return false
	}
}

// Size returns the bytes that the engine's database takes on disk, for /metrics.
func (e *Etcd) Size() int64 { return e.server.Server.Backend().Size() }

// room reports too little space on the disk as an error that says what to do.
func (e *Etcd) room() error {
	free, err := e.cfg.Free(e.cfg.Dir)
	if err != nil {
		return fmt.Errorf("cannot read the free space: %w", err)
	}
	if free < e.cfg.MinFree {
		return fmt.Errorf("%w: only %d MiB are free at %s, and it needs %d MiB: free some space", ErrUnavailable,
			free>>20, e.cfg.Dir, e.cfg.MinFree>>20)
	}
	return nil
}

// bound gives a call its deadline, and ends it with the engine: a client that was closed would go on trying.
func (e *Etcd) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if _, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, e.cfg.RequestTimeout)
	}
	stop := context.AfterFunc(e.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// explain turns an engine's error into one of this package where the caller can do something about it.
func (e *Etcd) explain(err error) error {
	if e.ctx.Err() != nil {
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	return unavailable(err)
}

func unavailable(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: its database has reached %d MiB: delete what is not needed, then defragment", ErrUnavailable, quota>>20)
	}
	var known rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &known) {
		code = known.Code()
	}
	switch code {
	case codes.Canceled:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case codes.Unavailable, codes.ResourceExhausted:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st.Bavail * uint64(st.Bsize), nil
}
