package api

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/client"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// canonical is the API's JSON: that of pkg/client, so that -o json of the command and the answer of REST are the same.
// An unknown field of a request is an error that names it.
type canonical struct{ runtime.JSONPb }

func (c canonical) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case proto.Message:
		return client.JSON(v)
	case map[string]any: // one message of a stream, under "result"
		out := []byte{'{'}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b, err := c.Marshal(v[name])
			if err != nil {
				return nil, err
			}
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(strconv.AppendQuote(out, name), ':')
			out = append(out, b...)
		}
		return append(out, '}'), nil
	case map[string]proto.Message: // the error that ends a stream
		parts := make(map[string]any, len(v))
		for name, part := range v {
			parts[name] = part
		}
		return c.Marshal(parts)
	}
	return c.JSONPb.Marshal(v)
}

func (c canonical) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		b, err := c.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	})
}

func (c canonical) Unmarshal(b []byte, v any) error {
	if m, ok := v.(proto.Message); ok {
		return protojson.Unmarshal(b, m)
	}
	return c.JSONPb.Unmarshal(b, v)
}

func (c canonical) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return io.EOF
		}
		return c.Unmarshal(b, v)
	})
}

// restError answers a failed call with its code and the same sentence that gRPC and the command give.
func restError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	var he *runtime.HTTPStatusError
	if errors.As(err, &he) {
		err = he.Err
	}
	s := status.Convert(err)
	code := runtime.HTTPStatusFromCode(s.Code())
	if he != nil {
		code = he.HTTPStatus
	}
	writeError(w, code, snake(s.Code().String()), s.Message())
}

// noRoute answers what no rule of REST matches.
func noRoute(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	text := strings.ToLower(http.StatusText(code))
	writeError(w, code, strings.ReplaceAll(text, " ", "_"), r.Method+" "+r.URL.Path+": "+text+"; /api/v1/openapi.json lists what there is")
}

// queries reads the parameters of a GET. One that the request does not have is an error: a filter that is misspelt would
// else answer with everything.
type queries struct{ runtime.DefaultQueryParser }

// strictQueries has parameters read by queries. The gateway keeps its parser for the whole process, so it is set once, however many servers start.
func strictQueries(m *runtime.ServeMux) {
	setQueries.Do(func() { runtime.SetQueryParameterParser(&queries{})(m) })
}

var setQueries sync.Once

func (q *queries) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	fields := m.ProtoReflect().Descriptor().Fields()
	ask, _ := m.(*operatorv1.AskRequest)
	for name := range values {
		if ask != nil && fields.ByJSONName(name) == nil {
			// What a question takes is a parameter like any other; the question itself refuses what it does not know.
			if ask.Args == nil {
				ask.Args = map[string]string{}
			}
			ask.Args[name] = values.Get(name)
			delete(values, name)
			continue
		}
		if fields.ByJSONName(name) == nil && fields.ByTextName(name) == nil {
			return status.Errorf(codes.InvalidArgument, "there is no parameter %q", name)
		}
	}
	return q.DefaultQueryParser.Parse(m, values, filter)
}

// snake turns NotFound into not_found.
func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
