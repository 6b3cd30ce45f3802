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
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	default:
		if s.cfg.Unavailable != nil && s.cfg.Unavailable(err) {
			code = codes.Unavailable
		}
	}
	return status.Error(code, err.Error())
}

// record writes to the audit log what is about to be done, with the reason given. What cannot be recorded is not done.
func (s *Server) record(ctx context.Context, what, subject, detail string) error {
	if err := s.cfg.Audit(ctx, who(ctx).Name, what, subject, "done", detail); err != nil {
		return status.Error(codes.Unavailable, "not done, since it cannot be recorded: "+err.Error())
	}
	return nil
}

// undone adds to the audit log that what was just recorded did not come about.
func (s *Server) undone(ctx context.Context, what, subject string, why error) {
	outcome := "failed"
	if errors.Is(why, ErrConflict) || errors.Is(why, ErrRefused) || errors.Is(why, ErrNotFound) || errors.Is(why, ErrInvalid) {
		outcome = "refused"
	}
	// The asker may be gone, and the log must still be true.
	if err := s.cfg.Audit(context.WithoutCancel(ctx), who(ctx).Name, what, subject, outcome, why.Error()); err != nil {
		s.cfg.Log.Error("a failed change is not in the audit log", "what", what, "subject", subject, "error", err)
	}
}

// change does one thing that changes something: recorded before, and once more when it fails.
func change[T any](ctx context.Context, s *Server, what, subject, detail string, do func() (T, error)) (T, error) {
	var none T
	if err := s.record(ctx, what, subject, detail); err != nil {
		return none, err
	}
	v, err := do()
	if err != nil {
		s.undone(ctx, what, subject, err)
		return none, s.failed(err)
	}
	return v, nil
}
