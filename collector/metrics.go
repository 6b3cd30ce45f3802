package collector

import (
	"github.com/evenkeel/evenkeel/collector/api"
	"github.com/evenkeel/evenkeel/collector/ingest"
	"github.com/evenkeel/evenkeel/collector/session"
	"github.com/evenkeel/evenkeel/collector/store"
)

// metrics is the page of this process' own numbers.
func (b *backend) metrics(in *ingest.Ingest, samples *store.Store, server *session.Server) *api.Metrics {
	m := api.NewMetrics()
	m.Gauge("evenkeel_session_connected_hosts", "Hosts with an open session.", func() float64 { return float64(server.Stats().Connected) })
	m.Counter("evenkeel_session_opened_total", "Sessions opened since the start.", func() uint64 { return server.Stats().Opened })
	m.Counter("evenkeel_session_refused_total", "Sessions refused since the start.", func() uint64 { return server.Stats().Refused })
	m.Counter("evenkeel_session_overflows_total", "Sessions ended because the agent did not read what it was sent.", func() uint64 { return server.Stats().Overflows })
	m.Counter("evenkeel_ingest_batches_total", "Batches taken in since the start.", func() uint64 { return in.Stats().Batches })
	m.Counter("evenkeel_ingest_duplicate_batches_total", "Batches that were there already.", func() uint64 { return in.Stats().Duplicates })
	m.Counter("evenkeel_ingest_samples_total", "Samples given to the store since the start.", func() uint64 { return in.Stats().Samples })
	m.Counter("evenkeel_ingest_thinned_samples_total", "Samples left out between two of store.interval.", func() uint64 { return in.Stats().Thinned })
	counts := b.decider.outside.board.Counts()
	for _, f := range counts.Families() {
		for _, labels := range f.Labels {
			name := f.Name
			if labels != "" {
				name += "{" + labels + "}"
			}
			if f.Gauge {
				m.Gauge(name, f.Help, func() float64 { return counts.Read(f, labels) })
			} else {
				m.Counter(name, f.Help, func() uint64 { return uint64(counts.Read(f, labels)) })
			}
		}
	}
	m.Gauge("evenkeel_store_series", "Series in memory.", func() float64 { return float64(samples.Stats().Series) })
	m.Gauge("evenkeel_collector_start_time_seconds", "When this collector started, in seconds since 1970.", func() float64 { return float64(b.collector.started.UnixMilli()) / 1000 })
	return m
}
