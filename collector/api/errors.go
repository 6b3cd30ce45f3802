package api

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The errors by which a backend says what kind of failure it is. Their texts reach the asker as they are.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict")
	ErrInvalid  = errors.New("not valid")
	ErrRefused  = errors.New("refused")
)

// failed turns a backend's error into the code that clients act on; it is the one place that does.
func (s *Server) failed(err error) error {
	code := codes.Internal
	switch {
	case errors.Is(err, ErrNotFound):
		code = codes.NotFound
	case errors.Is(err, ErrConflict):
		code = codes.FailedPrecondition
	case errors.Is(err, ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, ErrRefused):
		code = codes.PermissionDenied
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = codes.Canceled
	default:
		if s.cfg.Unavailable != nil && s.cfg.Unavailable(err) {
			code = codes.Unavailable
		}
	}
	return status.Error(code, err.Error())
}

// record writes to the audit log what is about to be done. What cannot be recorded is not done.
func (s *Server) record(ctx context.Context, what, subject string) error {
	if err := s.cfg.Audit(ctx, who(ctx).Name, what, subject, "done", ""); err != nil {
		return status.Error(codes.Unavailable, "not done, since it cannot be recorded: "+err.Error())
	}
	return nil
}
