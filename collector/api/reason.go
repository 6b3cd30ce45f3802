package api

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Assumption fixes the level of a part.
type Assumption struct {
	Ref, Level string
}

// Reason answers questions about the live map.
type Reason interface {
	// Ask returns the answer to a question as JSON, at a moment that is zero for now, with levels supposed on top of the live map. It
	// returns problems where the map or what is supposed has mistakes, and an error in words for the asker where the question has.
	Ask(ctx context.Context, question string, suppose []Assumption, at time.Time, args map[string]string) ([]byte, []manifest.Problem, error)
}

type reasoner struct {
	operatorv1.UnimplementedReasonServiceServer
	server *Server
}

func (r *reasoner) Ask(ctx context.Context, in *operatorv1.AskRequest) (*operatorv1.AskResponse, error) {
	var at time.Time
	if in.At != "" {
		var err error
		if at, err = r.server.moment("at", in.At); err != nil {
			return nil, err
		}
	}
	suppose := make([]Assumption, len(in.Set))
	for i, s := range in.Set {
		ref, level, ok := strings.Cut(s, "=")
		if !ok || ref == "" || level == "" {
			return nil, status.Errorf(codes.InvalidArgument, "set %q: expected REF=LEVEL, such as component/web@web-1=critical", s)
		}
		suppose[i] = Assumption{ref, level}
	}
	out, problems, err := r.server.cfg.Reason.Ask(ctx, in.Question, suppose, at, in.Args)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if len(problems) > 0 {
		told := make([]string, len(problems))
		for i, p := range problems {
			told[i] = p.String()
		}
		return nil, status.Error(codes.InvalidArgument, strings.Join(told, "\n"))
	}
	answer := &structpb.Struct{}
	if err := protojson.Unmarshal(out, answer); err != nil {
		return nil, status.Error(codes.Internal, "the answer is not JSON: "+err.Error())
	}
	return &operatorv1.AskResponse{Answer: answer}, nil
}
