package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/collector/slo"
	"github.com/evenkeel/evenkeel/collector/slo/report"
	"github.com/evenkeel/evenkeel/collector/state"
	"github.com/evenkeel/evenkeel/pkg/audit"
	"github.com/evenkeel/evenkeel/pkg/health"
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
		w.decider.history.Record(slo.Row{Ref: "service/shop", At: month.Add(time.Hour), State: slo.State{Health: health.Exactly(health.Critical), Origin: slo.Own}})
		time.Sleep(time.Hour)
		w.decider.history.Record(slo.Row{Ref: "service/shop", At: month.Add(2 * time.Hour), State: slo.State{Health: health.Exactly(health.OK)}})
		dir := t.TempDir()
		trail, err := audit.Open(t.TempDir(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		defer trail.Close()
		if err := sealMonth(w.decider, trail, dir)(t.Context(), month, "abc"); err != nil {
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
		if err != nil || len(entries) != 1 || entries[0].Subject != "2000-01" || !strings.Contains(entries[0].Detail, "history sha256:abc; objectives sha256:"+hex.EncodeToString(digest[:])) {
			t.Errorf("%+v, %v", entries, err)
		}
	})
}
