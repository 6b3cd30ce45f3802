package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/client"
)

// canonical is the API's JSON: that of pkg/client, so that -o json of the command and the answer of REST are the same.
// An unknown field of a request is an error that names it.
type canonical struct{ runtime.JSONPb }

func (c canonical) Marshal(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return client.JSON(m)
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
