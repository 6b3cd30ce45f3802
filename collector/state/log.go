package state

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo returns a logger that passes warnings and worse on to log; the engine is chatty below that. Once closing is set
// it passes nothing on but what is fatal: to the engine each listener that we close is an error.
func zapTo(log *slog.Logger, closing *atomic.Bool) *zap.Logger {
	return zap.New(&slogCore{log: log.With("engine", "etcd"), closing: closing})
}

// slogCore is a zapcore.Core in front of a slog.Logger.
type slogCore struct {
	log     *slog.Logger
	closing *atomic.Bool
}

// routine are warnings that every healthy single node gives at each start.
var routine = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
}

// untold are reports that a new engine may give while its first entry is not on the disk yet: it asks for the version of its
// storage before the term of that entry is there, and again later.
var untold = map[string]bool{
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

const noTerm = "missing term information"

func (*slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log.With(attrs(fields)...), closing: c.closing}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if quiet := routine[e.Message] || c.closing.Load() && e.Level < zapcore.DPanicLevel; c.Enabled(e.Level) && !quiet {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && untold[e.Message] && strings.Contains(err.Error(), noTerm) {
			return nil
		}
	}
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "state engine reports", append([]any{"message", e.Message}, attrs(fields)...)...)
	return nil
}

func (*slogCore) Sync() error { return nil }

func attrs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	out := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		out = append(out, k, v)
	}
	return out
}
