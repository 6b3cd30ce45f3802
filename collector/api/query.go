package api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// ErrBadQuery and ErrQueryLimit are wrapped by a Query's errors that lie with the asker.
var (
	ErrBadQuery   = errors.New("query is not valid")
	ErrQueryLimit = errors.New("query is over its limits")
)

// QueryResult is an answer of PromQL. Type is vector, matrix, scalar or string.
type QueryResult struct {
	Type     string
	Series   []QuerySeries
	Text     string // of a string
	Warnings []string
}

// QuerySeries is one series of an answer.
type QuerySeries struct {
	Labels map[string]string
	Points []QueryPoint
}

// QueryPoint is one value.
type QueryPoint struct {
	Time  time.Time
	Value float64
}

// Query answers PromQL.
type Query interface {
	Query(ctx context.Context, expr string, at time.Time) (QueryResult, error)
	QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (QueryResult, error)
}

type query struct {
	operatorv1.UnimplementedQueryServiceServer
	server *Server
}

func (q *query) Query(ctx context.Context, r *operatorv1.QueryRequest) (*operatorv1.QueryResponse, error) {
	at, err := q.server.moment("time", r.Time)
	if err != nil {
		return nil, err
	}
	return queryResponse(q.server.cfg.Query.Query(ctx, r.Query, at))
}

func (q *query) QueryRange(ctx context.Context, r *operatorv1.QueryRangeRequest) (*operatorv1.QueryResponse, error) {
	start, err := q.server.moment("start", r.Start)
	if err != nil {
		return nil, err
	}
	end, err := q.server.moment("end", r.End)
	if err != nil {
		return nil, err
	}
	step, err := time.ParseDuration(r.Step)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "step %q is not a duration such as 15s", r.Step)
	}
	return queryResponse(q.server.cfg.Query.QueryRange(ctx, r.Query, start, end, step))
}

// moment reads a time of a request; empty is now.
func (s *Server) moment(field, text string) (time.Time, error) {
	if text == "" {
		return s.cfg.Clock(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, status.Errorf(codes.InvalidArgument, "%s %q is not a time such as 2026-11-25T10:00:00Z", field, text)
	}
	return t, nil
}

func queryResponse(res QueryResult, err error) (*operatorv1.QueryResponse, error) {
	switch {
	case errors.Is(err, ErrBadQuery):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ErrQueryLimit):
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, context.Canceled):
		return nil, status.Error(codes.Canceled, "the asker went away")
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	out := &operatorv1.QueryResponse{ResultType: res.Type, Warnings: res.Warnings}
	if res.Type == "string" {
		out.Result = []*operatorv1.SeriesValues{{Values: []*operatorv1.Point{{Value: res.Text}}}}
	}
	for _, s := range res.Series {
		series := &operatorv1.SeriesValues{Metric: s.Labels}
		for _, p := range s.Points {
			series.Values = append(series.Values, &operatorv1.Point{Time: stamp(p.Time), Value: strconv.FormatFloat(p.Value, 'f', -1, 64)})
		}
		out.Result = append(out.Result, series)
	}
	return out, nil
}

// stamp writes a time as the API does; the zero time is empty.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
