package api

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/picture"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Reviews knows what was reviewed.
type Reviews interface {
	// Check says in words for the asker why an item cannot be reviewed; nil where it can.
	Check(ctx context.Context, item string) error
	// Confirm keeps that somebody reviewed an item, and returns when it is stored.
	Confirm(ctx context.Context, item, by, note string) (picture.Confirmation, error)
	Confirmations(ctx context.Context) ([]picture.Confirmation, error) // oldest first
}

type reviews struct {
	operatorv1.UnimplementedReviewServiceServer
	server *Server
}

const (
	maxNote = 1000
	maxBy   = 200
)

func (r *reviews) ConfirmReview(ctx context.Context, in *operatorv1.ConfirmReviewRequest) (*operatorv1.Confirmation, error) {
	if in.Note == "" || len(in.Note) > maxNote {
		return nil, status.Errorf(codes.InvalidArgument, "note: say what the review found, in at most %d bytes", maxNote)
	}
	if len(in.By) > maxBy {
		return nil, status.Errorf(codes.InvalidArgument, "by has %d bytes: the most is %d", len(in.By), maxBy)
	}
	if err := r.server.cfg.Reviews.Check(ctx, in.Item); err != nil {
		return nil, r.server.failed(err)
	}
	by, detail := who(ctx).Name, in.Note
	if in.By != "" {
		by, detail = in.By, "by "+in.By+": "+in.Note
	}
	done, err := change(ctx, r.server, "confirm review", in.Item, detail, func() (picture.Confirmation, error) {
		return r.server.cfg.Reviews.Confirm(ctx, in.Item, by, in.Note)
	})
	if err != nil {
		return nil, err
	}
	return confirmationTo(done), nil
}

func (r *reviews) ListConfirmations(ctx context.Context, in *operatorv1.ListConfirmationsRequest) (*operatorv1.ListConfirmationsResponse, error) {
	limit := int(in.Limit)
	if limit <= 0 {
		limit = 100
	}
	all, err := r.server.cfg.Reviews.Confirmations(ctx)
	if err != nil {
		return nil, r.server.failed(err)
	}
	out := &operatorv1.ListConfirmationsResponse{}
	for i := len(all) - 1; i >= 0 && len(out.Confirmations) < limit; i-- {
		if in.Item == "" || in.Item == string(all[i].Item) {
			out.Confirmations = append(out.Confirmations, confirmationTo(all[i]))
		}
	}
	return out, nil
}

func confirmationTo(c picture.Confirmation) *operatorv1.Confirmation {
	return &operatorv1.Confirmation{Id: c.ID, Item: string(c.Item), At: stamp(c.At), By: c.By, Note: c.Note}
}
