package collector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/collector/history"
	"github.com/evenkeel/evenkeel/collector/picture"
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
			detail += "; objectives sha256:" + sumOf(text)
		}
		return trail.Append(ctx, "collector", monthSealed, month.Format("2006-01"), "done", detail)
	}
}

const monthSealed = "month sealed"

// sealedMonths reads the months that are over, and holds each against the sums in the audit log.
func sealedMonths(dir string, trail *audit.Log) ([]picture.Month, error) {
	marks, err := filepath.Glob(filepath.Join(dir, "*.sha256"))
	if err != nil {
		return nil, err
	}
	slices.Sort(marks)
	out := []picture.Month{}
	for _, mark := range marks {
		m := picture.Month{Name: strings.TrimSuffix(filepath.Base(mark), ".sha256")}
		detail, err := sealOf(m.Name, trail)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, m.Name)
		m.Report, err = os.ReadFile(path + ".slo.json")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read the objectives of a month: %w", err)
		}
		history, err := os.ReadFile(path + ".csv")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read the history of a month: %w", err)
		}
		_, told, _ := strings.Cut(detail, "; objectives not worked out: ")
		switch {
		case detail == "":
			m.Fault = "the audit log does not have its sums"
		case !strings.Contains(detail, "history sha256:"+sumOf(history)):
			m.Fault = "its history is not the one that was sealed"
		case told != "":
			m.Fault = "the objectives could not be worked out when it ended: " + told
		case !strings.Contains(detail, "objectives sha256:"+sumOf(m.Report)):
			m.Fault = "its record is not the one that was sealed"
		}
		out = append(out, m)
	}
	return out, nil
}

func sumOf(text []byte) string {
	digest := sha256.Sum256(text)
	return hex.EncodeToString(digest[:])
}

// sealOf returns what the audit log has of a month; of several entries the last one, since a month may have been tried again.
func sealOf(month string, trail *audit.Log) (detail string, err error) {
	// From the second entry on it reads as far back as there is something; the newest ones hold the first.
	for _, seq := range []uint64{0, 1} {
		entries, err := trail.List(seq, math.MaxInt, month)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			if e.What == monthSealed && e.Who == "collector" {
				detail = e.Detail
			}
		}
		if detail != "" {
			break
		}
	}
	return detail, nil
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
