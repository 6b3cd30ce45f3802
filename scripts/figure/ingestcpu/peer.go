package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/evenkeel/evenkeel/pkg/metric"
)

// peer is a server that takes remote write.
type peer struct {
	name string // of the program and of Debian's package
	argv func(dir, address string) []string
	path string // where it takes samples
}

func peers() (victoria, prometheus peer) {
	victoria = peer{
		name: "victoria-metrics", path: "/api/v1/write",
		argv: func(dir, address string) []string {
			return []string{"-storageDataPath=" + filepath.Join(dir, "data"), "-retentionPeriod=1", "-httpListenAddr=" + address, "-loggerLevel=WARN"}
		},
	}
	prometheus = peer{
		name: "prometheus", path: "/api/v1/write",
		argv: func(dir, address string) []string {
			return []string{
				"--storage.tsdb.path=" + filepath.Join(dir, "data"), "--config.file=" + filepath.Join(dir, "empty.yml"),
				"--web.listen-address=" + address, "--web.enable-remote-write-receiver", "--log.level=warn",
			}
		},
	}
	return victoria, prometheus
}

// install brings the program where it is missing and this user may.
func (p peer) install(ctx context.Context) error {
	if _, err := exec.LookPath(p.name); err == nil {
		return nil
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("%s is missing: apt-get install %s", p.name, p.name)
	}
	cmd := exec.CommandContext(ctx, "apt-get", "install", "-y", "-q", "--no-install-recommends", p.name)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot install %s: %w: %s", p.name, err, bytes.TrimSpace(out))
	}
	return nil
}

// inFlight is how many requests are under way at once.
const inFlight = 4

// feed gives the load to a fresh server by remote write.
func (l *load) feed(ctx context.Context, p peer) (r result, err error) {
	if err := p.install(ctx); err != nil {
		return r, err
	}
	dir, remove, err := folder()
	if err != nil {
		return r, err
	}
	defer remove()
	address, err := freeAddress()
	if err != nil {
		return r, err
	}
	if err := os.WriteFile(filepath.Join(dir, "empty.yml"), nil, 0o600); err != nil {
		return r, err
	}
	srv, err := start(dir, append([]string{p.name}, p.argv(dir, address)...)...)
	if err != nil {
		return r, err
	}
	defer srv.stop()
	transport := &http.Transport{MaxIdleConnsPerHost: inFlight, DisableCompression: true}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport, Timeout: 5 * time.Minute}
	base := "http://" + address
	ask := func(expr string, at time.Time) (float64, error) { return instant(ctx, web, base, expr, at) }
	if err := srv.await(ctx, func() error {
		_, err := ask("vector(1)", time.Now())
		return err
	}); err != nil {
		return r, err
	}
	w := newWriter(l)
	send := func(first, last int) error { return w.send(ctx, web, base+p.path, first, last) }

	r = result{name: p.name, series: l.hosts * l.settings.series, samples: l.samples()}
	m := meter{pid: srv.pid()}
	if _, _, _, err := m.lap(); err != nil {
		return r, err
	}
	if err := send(0, l.warm); err != nil {
		return r, srv.explained(err)
	}
	if r.creation, _, _, err = m.lap(); err != nil {
		return r, err
	}
	if err := send(l.warm, len(l.at)); err != nil {
		return r, srv.explained(err)
	}
	if err := r.finish(ctx, &m, l.settle); err != nil {
		return r, err
	}
	r.disk = sizeOf(filepath.Join(dir, "data"))
	return r, l.count(r.name, persistent(ctx, ask))
}

// instant asks for one number.
func instant(ctx context.Context, web *http.Client, base, expr string, at time.Time) (float64, error) {
	q := url.Values{"query": {expr}, "time": {strconv.FormatInt(at.Unix(), 10)}, "nocache": {"1"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/query?"+q.Encode(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value []any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("status %s: %w", resp.Status, err)
	}
	if answer.Error != "" || len(answer.Data.Result) != 1 || len(answer.Data.Result[0].Value) != 2 {
		return 0, fmt.Errorf("status %s, %d results: %s", resp.Status, len(answer.Data.Result), answer.Error)
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// writer makes remote write requests, one for each host and tick.
type writer struct {
	*load
	templates [][]byte // by host: a request whose values and times are zero
	values    [][]int  // by host: where each series' value is in the template
}

func newWriter(l *load) *writer {
	w := &writer{load: l}
	for h := range l.hosts {
		b, at := template(l.series, fmt.Sprintf("%s-%d", prefix, h+1), l.at[0].UnixMilli())
		w.templates, w.values = append(w.templates, b), append(w.values, at)
	}
	return w
}

// template writes a request with one sample for each series, and returns where each value is. Times of the same length as
// at, which those of a few years are, may be written over it.
func template(series []metric.Desc, instance string, at int64) (b []byte, values []int) {
	for i := range series {
		d := &series[i]
		labels := append([]metric.Label{{Name: "__name__", Value: d.Name}, {Name: "instance", Value: instance}, {Name: "job", Value: "node"}}, d.Labels...)
		slices.SortFunc(labels, func(a, b metric.Label) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
		var s []byte
		for _, x := range labels {
			var one []byte
			one = protowire.AppendTag(one, 1, protowire.BytesType)
			one = protowire.AppendString(one, x.Name)
			one = protowire.AppendTag(one, 2, protowire.BytesType)
			one = protowire.AppendString(one, x.Value)
			s = protowire.AppendTag(s, 1, protowire.BytesType)
			s = protowire.AppendBytes(s, one)
		}
		var sample []byte
		sample = protowire.AppendTag(sample, 1, protowire.Fixed64Type)
		sample = protowire.AppendFixed64(sample, 0)
		sample = protowire.AppendTag(sample, 2, protowire.VarintType)
		sample = protowire.AppendVarint(sample, uint64(at))
		s = protowire.AppendTag(s, 2, protowire.BytesType)
		s = protowire.AppendBytes(s, sample)
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, s)
		values = append(values, len(b)-len(sample)+1)
	}
	return b, values
}

// request writes the request of a host and tick into b, compressed into c.
func (w *writer) request(host, tick int, b, c []byte) (raw, packed []byte) {
	b = append(b[:0], w.templates[host]...)
	ms := uint64(w.at[tick].UnixMilli())
	for i, at := range w.values[host] {
		binary.LittleEndian.PutUint64(b[at:], math.Float64bits(w.load.values[tick][i]))
		binary.PutUvarint(b[at+9:], ms) // eight bytes of the value and the time's tag lie between
	}
	return b, snappy.Encode(c[:cap(c)], b)
}

// theirs is the mean size of a request.
func (l *load) theirs() float64 {
	few := *l
	few.hosts = 1
	w, n := newWriter(&few), 0
	for k := l.warm; k < len(l.at); k++ {
		_, packed := w.request(0, k, nil, nil)
		n += len(packed)
	}
	return float64(n) / float64(l.settings.ticks)
}

// send sends the ticks from first up to last of all hosts, tick by tick, and returns when all are answered.
func (w *writer) send(ctx context.Context, web *http.Client, to string, first, last int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			raw, packed := []byte(nil), make([]byte, snappy.MaxEncodedLen(2*len(w.templates[0])))
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				tick, host := first+n/w.hosts, n%w.hosts
				if tick >= last {
					return
				}
				var body []byte
				raw, body = w.request(host, tick, raw, packed)
				if err := post(ctx, web, to, body); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func post(ctx context.Context, web *http.Client, to string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode/100 != 2 {
		err = errors.New(resp.Status + ": " + string(bytes.TrimSpace(text)))
	}
	return err
}
