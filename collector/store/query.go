package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// ErrBadQuery is wrapped by errors that lie in the query itself, and ErrQueryLimit by those of a query that ran too
// long or held too many samples.
var (
	ErrBadQuery   = errors.New("query is not valid")
	ErrQueryLimit = errors.New("query is over its limits")
)

// maxSteps bounds the points of each series of a range query.
const maxSteps = 11_000

// Point is one value of a series.
type Point struct {
	Time  time.Time
	Value float64
}

// Series is one series of an answer. Labels hold the metric's name as __name__ where the query kept it.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Result is the answer to a query. Type is vector, matrix, scalar or string; a scalar is one series without labels, and
// a string is in Text.
type Result struct {
	Type     string
	Series   []Series
	Text     string
	Warnings []string
}

func newEngine(cfg Config) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: cfg.QuerySamples, Timeout: cfg.QueryTimeout, LookbackDelta: 5 * time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
}

// Query answers a PromQL expression at one moment.
func (s *Store) Query(ctx context.Context, expr string, at time.Time) (Result, error) {
	return s.run(ctx, func(ctx context.Context, q storage.Queryable) (promql.Query, error) {
		return s.engine.NewInstantQuery(ctx, q, nil, expr, at)
	})
}

// QueryRange answers a PromQL expression at start, start+step and so on up to end.
func (s *Store) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (Result, error) {
	switch {
	case step < time.Millisecond:
		return Result{}, fmt.Errorf("%w: step must be at least 1ms", ErrBadQuery)
	case end.Before(start):
		return Result{}, fmt.Errorf("%w: end is before start", ErrBadQuery)
	case end.Sub(start)/step >= maxSteps:
		return Result{}, fmt.Errorf("%w: more than %d steps", ErrQueryLimit, maxSteps)
	}
	return s.run(ctx, func(ctx context.Context, q storage.Queryable) (promql.Query, error) {
		return s.engine.NewRangeQuery(ctx, q, nil, expr, start, end, step)
	})
}

func (s *Store) run(ctx context.Context, make func(context.Context, storage.Queryable) (promql.Query, error)) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return Result{}, fmt.Errorf("%w: waited too long for other queries", ErrQueryLimit)
	}
	s.Flush()
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return Result{}, ErrUnavailable
	}
	q, err := make(ctx, s.db)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrBadQuery, err)
	}
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		return Result{}, queryError(r.Err)
	}
	return convert(r)
}

func queryError(err error) error {
	var (
		timeout  promql.ErrQueryTimeout
		canceled promql.ErrQueryCanceled
		many     promql.ErrTooManySamples
		stored   promql.ErrStorage
	)
	switch {
	case errors.As(err, &timeout), errors.As(err, &many):
		return fmt.Errorf("%w: %w", ErrQueryLimit, err)
	case errors.As(err, &canceled):
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case errors.As(err, &stored):
		return err
	}
	return fmt.Errorf("%w: %w", ErrBadQuery, err)
}

func convert(r *promql.Result) (Result, error) {
	out := Result{Type: string(r.Value.Type())}
	for _, w := range r.Warnings.AsErrors() {
		out.Warnings = append(out.Warnings, w.Error())
	}
	switch v := r.Value.(type) {
	case promql.Vector:
		for _, e := range v {
			out.Series = append(out.Series, Series{Labels: e.Metric.Map(), Points: []Point{point(e.T, e.F)}})
		}
	case promql.Matrix:
		for _, e := range v {
			s := Series{Labels: e.Metric.Map(), Points: make([]Point, 0, len(e.Floats))}
			for _, f := range e.Floats {
				s.Points = append(s.Points, point(f.T, f.F))
			}
			out.Series = append(out.Series, s)
		}
	case promql.Scalar:
		out.Series = []Series{{Points: []Point{point(v.T, v.V)}}}
	case promql.String:
		out.Text = v.V
	default:
		return Result{}, fmt.Errorf("%w: unknown type of answer %s", ErrBadQuery, out.Type)
	}
	return out, nil
}

func point(ms int64, v float64) Point { return Point{Time: time.UnixMilli(ms).UTC(), Value: v} }

// LabelNames returns the names of the labels of the series that match, and LabelValues the values of one label. match is
// a PromQL selector; empty: all series.
func (s *Store) LabelNames(ctx context.Context, match string, start, end time.Time) ([]string, error) {
	return s.names(ctx, match, start, end, func(ctx context.Context, q storage.Querier, m []*labels.Matcher) ([]string, error) {
		names, _, err := q.LabelNames(ctx, nil, m...)
		return names, err
	})
}

// LabelValues returns the values that the label called name has among the series that match.
func (s *Store) LabelValues(ctx context.Context, name, match string, start, end time.Time) ([]string, error) {
	return s.names(ctx, match, start, end, func(ctx context.Context, q storage.Querier, m []*labels.Matcher) ([]string, error) {
		values, _, err := q.LabelValues(ctx, name, nil, m...)
		return values, err
	})
}

func (s *Store) names(
	ctx context.Context, match string, start, end time.Time,
	ask func(context.Context, storage.Querier, []*labels.Matcher) ([]string, error),
) ([]string, error) {
	var matchers []*labels.Matcher
	if match != "" {
		var err error
		if matchers, err = parser.NewParser(parser.Options{}).ParseMetricSelector(match); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadQuery, err)
		}
	}
	s.Flush()
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return nil, ErrUnavailable
	}
	q, err := s.db.Querier(start.UnixMilli(), end.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer q.Close()
	found, err := ask(ctx, q, matchers)
	if err != nil {
		return nil, err
	}
	// The querier's strings may lie in files that are unmapped when it is closed.
	out := make([]string, len(found))
	for i, v := range found {
		out[i] = string([]byte(v))
	}
	return out, nil
}
