package collector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/history"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/pkg/audit"
)

// sealMonth writes how every objective stood when a month ended beside the month's history, and the sums of both to the audit log, whose chain
// holds them. What is agreed on later about the month can be held against them.
func sealMonth(d *decider, trail *audit.Log, dir string) history.Sealed {
	return func(ctx context.Context, month time.Time, sum string) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		// The moment at which it ends belongs to the next one.
		p, err := d.picture(ctx, month.AddDate(0, 1, 0).Add(-time.Nanosecond))
		if err != nil {
			return err
		}
		detail := "history sha256:" + sum
		if r, problems := report.Of(p); len(problems) > 0 {
			// The objectives of today cannot be held against the month; its history is sealed all the same.
			told := make([]string, len(problems))
			for i, problem := range problems {
				told[i] = problem.String()
			}
			detail += "; objectives not worked out: " + strings.Join(told, "; ")
		} else {
			text, err := json.MarshalIndent(r, "", "  ")
			if err != nil {
				return err
			}
			text = append(text, '\n')
			if err := writeSynced(filepath.Join(dir, month.Format("2006-01")+".slo.json"), text); err != nil {
				return fmt.Errorf("cannot keep the objectives of a month: %w", err)
			}
			digest := sha256.Sum256(text)
			detail += "; objectives sha256:" + hex.EncodeToString(digest[:])
		}
		return trail.Append(ctx, "collector", "month sealed", month.Format("2006-01"), "done", detail)
	}
}

// writeSynced replaces a file; it is there as a whole, or as it was.
func writeSynced(path string, text []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
