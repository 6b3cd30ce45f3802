package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/picture"
	"github.com/evenkeel/evenkeel/collector/reason"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/audit"
)

// The objectives of a month that is over are kept, and the audit log holds their sum and that of the history.
func TestMonthIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, state.NewMemory(), shopMap+`---
apiVersion: evenkeel/v1
kind: SLO
metadata: {name: shop}
spec: {service: service/shop, objective: 99%, window: {calendar: month}, bad: major}
`)
		defer w.stop()
		month := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where a test's time begins
		time.Sleep(time.Until(month.Add(time.Hour)))
		h, err := w.signals().Check(t.Context(), "service/shop", "critical", "", "1h", "ann", "it was seen to be down")
		if err == nil {
			err = w.signals().Set(t.Context(), h)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		dir := t.TempDir()
		trail, err := audit.Open(t.TempDir(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer trail.Close()
		history := []byte("ref,time,level,origin\n")
		sum := sumOf(history)
		if err := errors.Join(
			sealMonth(w.decider, trail, dir)(t.Context(), month, sum),
			os.WriteFile(filepath.Join(dir, "2000-01.csv"), history, 0o600), os.WriteFile(filepath.Join(dir, "2000-01.sha256"), nil, 0o600),
		); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "2000-01.slo.json"))
		if err != nil {
			t.Fatal(err)
		}
		var r report.Report
		if err := json.Unmarshal(text, &r); err != nil || len(r.SLOs) != 1 || r.SLOs[0].Window.To != "2000-02-01T00:00:00Z" || r.SLOs[0].Evaluation.Bad["own"] != "3600s" {
			t.Errorf("%s, %v", text, err)
		}
		entries, err := trail.List(0, 10, "")
		digest := sha256.Sum256(text)
		if err != nil || len(entries) != 1 || entries[0].Subject != "2000-01" || !strings.Contains(entries[0].Detail, "history sha256:"+sum+"; objectives sha256:"+hex.EncodeToString(digest[:])) {
			t.Errorf("%+v, %v", entries, err)
		}
		// What was sealed can be read, and what was changed since is told.
		ledger := func() string {
			t.Helper()
			p := &picture.Picture{At: time.Now()}
			if p.Months, err = sealedMonths(dir, trail); err != nil {
				t.Fatal(err)
			}
			out, _, err := reason.Answer("ledger", p, reason.Args{"month": "2000-01"})
			if err != nil {
				t.Fatal(err)
			}
			return string(out)
		}
		if out := ledger(); !strings.Contains(out, `{"month":"2000-01","objectives":1,"met":0,"missed":0,"unknown":1,"intact":true,"fault":""}`) || !strings.Contains(out, `"own":"3600s"`) {
			t.Error(out)
		}
		for name, change := range map[string]struct{ from, to, says string }{
			"2000-01.slo.json": {`"3600s"`, `"0s"`, "its record is not the one that was sealed"},
			"2000-01.csv":      {"ref", "reF", "its history is not the one that was sealed"},
		} {
			path := filepath.Join(dir, name)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := []byte(strings.Replace(string(before), change.from, change.to, 1))
			if err := os.WriteFile(path, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			if out := ledger(); !strings.Contains(out, `"intact":false,"fault":"`+change.says+`"`) {
				t.Error(out)
			}
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}
