package state

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
)

// What a new engine says of its own unfinished start is kept back, and the same words for another reason are not.
func TestOnlyTheUnfinishedStartIsUntold(t *testing.T) {
	var out strings.Builder
	log := zapTo(slog.New(slog.NewTextHandler(&out, nil)), new(atomic.Bool))
	log.Warn("Failed to detect schema version", zap.Error(errors.New("missing term information")))
	log.Error("failed to update storage version", zap.Error(errors.New("cannot detect storage schema version: missing term information")))
	if out.Len() > 0 {
		t.Errorf("said %s", out.String())
	}
	log.Error("failed to update storage version", zap.Error(errors.New("disk is full")))
	log.Warn("something else", zap.Error(errors.New("missing term information")))
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("said %d lines: %s", got, out.String())
	}
}
