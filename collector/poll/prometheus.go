package poll

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// Prometheus is the Querier that asks a remote Prometheus, or whatever else speaks its query API.
type Prometheus struct {
	api v1.API
	now func() time.Time
}

// NewPrometheus returns one at a base URL. The token is read from its file for each question, so that it may be replaced; an empty name
// sends none.
func NewPrometheus(address, tokenFile string, now func() time.Time) (*Prometheus, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	return newPrometheus(address, tokenFile, transport, now)
}

func newPrometheus(address, tokenFile string, transport http.RoundTripper, now func() time.Time) (*Prometheus, error) {
	client, err := api.NewClient(api.Config{Address: address, RoundTripper: &bounded{transport, tokenFile}})
	if err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", address, err)
	}
	return &Prometheus{api: v1.NewAPI(client), now: now}, nil
}

// Query asks for the value of an expression now. An answer with warnings may lack something, so it is none.
func (p *Prometheus) Query(ctx context.Context, expr string) ([]float64, error) {
	v, warnings, err := p.api.Query(ctx, expr, p.now())
	if err != nil {
		return nil, said(err)
	}
	if len(warnings) > 0 {
		return nil, fmt.Errorf("the answer may lack something: %s", strings.Join(warnings, "; "))
	}
	switch v := v.(type) {
	case *model.Scalar:
		return []float64{float64(v.Value)}, nil
	case model.Vector:
		out := make([]float64, len(v))
		for i, s := range v {
			if s.Histogram != nil {
				return nil, errors.New("the query returned a histogram: expected a number")
			}
			out[i] = float64(s.Value)
		}
		return out, nil
	}
	return nil, fmt.Errorf("the query returned a %s: expected a number", v.Type())
}

// said is what the server said of a failure, or why there was no answer.
func said(err error) error {
	if e, ok := errors.AsType[*v1.Error](err); ok {
		text := e.Msg
		if e.Detail != "" && e.Type != v1.ErrBadData {
			text += ": " + e.Detail
		}
		return fmt.Errorf("%s: %s", e.Type, text)
	}
	return errors.New(reason(err))
}

// bounded sends the token and reads a bounded part of an answer.
type bounded struct {
	next      http.RoundTripper
	tokenFile string
}

// RoundTrip does one request.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.tokenFile != "" {
		token, err := os.ReadFile(b.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read sources.prometheus.bearerTokenFile: %w", err)
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &cut{resp.Body, maxAnswer}
	return resp, nil
}

// cut is a body that fails where it is too long, since half an answer is none.
type cut struct {
	io.ReadCloser
	left int
}

func (c *cut) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if c.left -= n; c.left < 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes: ask for one value, such as by sum(...)", maxAnswer)
	}
	return n, err
}
