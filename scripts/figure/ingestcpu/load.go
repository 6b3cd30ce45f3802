package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/metric"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
	"github.com/evenkeel/evenkeel/scripts/loadgen"
)

// load is the samples of one host, which every host sends under its own name.
type load struct {
	settings
	series []metric.Desc
	at     []time.Time
	values [][]float64 // by tick and series
	ticks  [][]byte    // as our agents send them
}

// makeLoad makes the ticks, the last of which is a minute old, so that no server takes it for unfinished.
func makeLoad(s settings) *load {
	l := &load{settings: s}
	n := s.warm + s.ticks
	first := time.Now().Truncate(time.Second).Add(-time.Minute - time.Duration(n)*time.Second)
	l.ticks = loadgen.Messages(s.series, n, first, time.Second, func(at time.Time, t *loadgen.Table) {
		if l.series == nil {
			for i := range s.series {
				l.series = append(l.series, t.Series(i))
			}
		}
		row := make([]float64, s.series)
		for i := range row {
			row[i] = t.Value(i)
		}
		l.at, l.values = append(l.at, at), append(l.values, row)
	})
	return l
}

func (l *load) samples() int { return l.hosts * l.settings.series * l.settings.ticks }

// ours is the mean size of a message after the first ones.
func (l *load) ours() float64 {
	n := 0
	for _, b := range l.ticks[l.warm:] {
		n += len(b)
	}
	return float64(n) / float64(l.settings.ticks)
}

// folder makes the folder of a run. It is beside the sources, for a temporary folder may be in memory, where an fsync
// costs nothing.
func folder() (string, func(), error) {
	const root = ".state"
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp(root, "ingest-cpu-")
	if err != nil {
		return "", nil, err
	}
	dir, err = filepath.Abs(dir)
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// collect gives the load to a fresh collector.
func (l *load) collect(ctx context.Context) (r result, err error) {
	dir, remove, err := folder()
	if err != nil {
		return r, err
	}
	defer remove()
	agentsAt, err := freeAddress()
	if err != nil {
		return r, err
	}
	state, config := filepath.Join(dir, "collector"), filepath.Join(dir, "collector.yaml")
	text := fmt.Sprintf("name: figure\nstate: %s\nlisten: {http: 127.0.0.1:0, agents: %q, operators: 127.0.0.1:0}\nstore: {interval: 1s}\nlogLevel: warn\n", state, agentsAt)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return r, err
	}
	srv, err := start(dir, filepath.Join(l.bin, "evenkeel-collector"), "run", "--config", config)
	if err != nil {
		return r, err
	}
	defer srv.stop()
	var api *client.Client
	if err := srv.await(ctx, func() error {
		conf, err := client.Load(filepath.Join(state, "admin.json"))
		if err == nil {
			api, err = client.New(conf)
		}
		return err
	}); err != nil {
		return r, err
	}
	defer api.Close()
	token, err := api.Access.CreateToken(ctx, &operatorv1.CreateTokenRequest{Ttl: "10m", Uses: int32(l.hosts), Admit: true})
	if err != nil {
		return r, srv.explained(err)
	}
	join, err := identity.ParseJoin(token.Join)
	if err != nil {
		return r, err
	}
	agents, trust, err := loadgen.Enrol(ctx, join, prefix, l.hosts)
	if err != nil {
		return r, srv.explained(err)
	}

	r = result{name: "evenkeel-collector", series: l.hosts * l.settings.series, samples: l.samples()}
	m := meter{pid: srv.pid()}
	if _, _, _, err := m.lap(); err != nil {
		return r, err
	}
	var warmErr error
	run, err := loadgen.Run(ctx, loadgen.Config{
		Address: agentsAt, Trust: trust, Agents: agents, Ticks: l.ticks, Warm: l.warm, Lead: l.lead,
		Warmed: func() { r.creation, _, _, warmErr = m.lap() },
	})
	if err == nil {
		err = warmErr
	}
	if err != nil {
		return r, srv.explained(err)
	}
	if err := r.finish(ctx, &m, l.settle); err != nil {
		return r, err
	}
	r.elapsed = run.Elapsed
	r.disk = sizeOf(filepath.Join(state, "samples", "tsdb"))
	return r, l.count(r.name, persistent(ctx, func(expr string, at time.Time) (float64, error) {
		q, err := api.Queries.Query(ctx, &operatorv1.QueryRequest{Query: expr, Time: at.Format(time.RFC3339)})
		if err != nil {
			return 0, err
		}
		if len(q.Result) != 1 || len(q.Result[0].Values) != 1 {
			return 0, fmt.Errorf("%d results", len(q.Result))
		}
		return strconv.ParseFloat(q.Result[0].Values[0].Value, 64)
	}))
}

const prefix = "host"

// finish notes what the load took, and what comes after it.
func (r *result) finish(ctx context.Context, m *meter, settle time.Duration) (err error) {
	r.present, r.waited = resident(m.pid), waiting(m.pid)-m.waited
	if r.loaded, r.load, r.elapsed, err = m.lap(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	r.settled, _, _, err = m.lap()
	return err
}

// patience is for queries: on a machine that is busy with other things one may run into its time limit.
const patience = 2 * time.Minute

// persistent asks again for a while where there is no answer.
func persistent(ctx context.Context, ask func(expr string, at time.Time) (float64, error)) func(string, time.Time) (float64, error) {
	return func(expr string, at time.Time) (float64, error) {
		for end := time.Now().Add(patience); ; {
			v, err := ask(expr, at)
			if err == nil || ctx.Err() != nil || time.Now().After(end) {
				return v, err
			}
		}
	}
}

// count asks for every sample of every series, by metric so that no query is too large, and of the newest tick for the sum
// of its values.
func (l *load) count(name string, ask func(expr string, at time.Time) (float64, error)) error {
	seen, newest := map[string]int{}, map[string]float64{}
	last := len(l.at) - 1
	for i, d := range l.series {
		seen[d.Name] += l.hosts * len(l.at)
		newest[d.Name] += float64(l.hosts) * l.values[last][i]
	}
	for metric, want := range seen {
		got, err := ask(fmt.Sprintf("sum(count_over_time(%s{job=\"node\"}[%ds]))", metric, len(l.at)+30), l.at[last])
		if err != nil {
			return fmt.Errorf("%s: cannot count %s: %w", name, metric, err)
		}
		if got != float64(want) {
			return fmt.Errorf("%s: %.0f samples of %s are there, %d were sent", name, got, metric, want)
		}
		if got, err = ask(fmt.Sprintf("sum(%s{job=\"node\"})", metric), l.at[last]); err != nil {
			return fmt.Errorf("%s: cannot read %s: %w", name, metric, err)
		}
		if want := newest[metric]; got < want*(1-1e-9) || got > want*(1+1e-9) {
			return fmt.Errorf("%s: the newest values of %s add up to %g, %g were sent", name, metric, got, want)
		}
	}
	return nil
}
