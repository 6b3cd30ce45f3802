package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/outside"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Signals knows what is said of the map from outside. Its errors are in words for the asker; one that wraps outside.ErrFull says that
// there is no room, and that trying again later may help.
type Signals interface {
	// Tell takes in posted signals and returns for each why it was not taken; nil where it was.
	Tell(ctx context.Context, by string, posted []outside.Posted) ([]error, error)
	// Signals returns those that are held.
	Signals(ctx context.Context) ([]outside.Signal, error)
	// Alerts takes in what a sender of alerts says.
	Alerts(ctx context.Context, sender outside.Sender, m outside.Message) (outside.Taken, error)
	// Check says whether a level may be set by hand, and what is then set; nothing is changed by it.
	Check(ctx context.Context, ref, level, until, length, by, reason string) (outside.Hand, error)
	// Set sets what Check returned, Unset ends it; both return when it is stored.
	Set(ctx context.Context, h outside.Hand) error
	Unset(ctx context.Context, ref manifest.Ref) (outside.Hand, error)
	// Hands returns what is set by hand now.
	Hands(ctx context.Context) ([]outside.Hand, error)
}

type signals struct {
	operatorv1.UnimplementedSignalServiceServer
	server *Server
}

// maxBatch is how many signals one call may hold.
const maxBatch = 1000

func (s *signals) TellSignals(ctx context.Context, r *operatorv1.TellSignalsRequest) (*operatorv1.TellSignalsResponse, error) {
	if len(r.Signals) == 0 || len(r.Signals) > maxBatch {
		return nil, status.Errorf(codes.InvalidArgument, "signals: expected 1 to %d, not %d", maxBatch, len(r.Signals))
	}
	posted := make([]outside.Posted, len(r.Signals))
	for i, p := range r.Signals {
		posted[i] = outside.Posted{Ref: p.Ref, Signal: p.Signal, Level: p.Level, Text: p.Text, Source: p.Source, At: p.At, Until: p.Until, TTL: p.Ttl}
	}
	why, err := s.server.cfg.Signals.Tell(ctx, who(ctx).Name, posted)
	if err != nil {
		return nil, s.server.failed(err)
	}
	out := &operatorv1.TellSignalsResponse{}
	for i, e := range why {
		if e == nil {
			out.Taken++
			continue
		}
		out.Refused = append(out.Refused, &operatorv1.RefusedSignal{Index: int32(i), Ref: posted[i].Ref + posted[i].Signal, Text: e.Error()})
	}
	return out, nil
}

func (s *signals) ListSignals(ctx context.Context, r *operatorv1.ListSignalsRequest) (*operatorv1.ListSignalsResponse, error) {
	all, err := s.server.cfg.Signals.Signals(ctx)
	if err != nil {
		return nil, s.server.failed(err)
	}
	out := &operatorv1.ListSignalsResponse{}
	for _, x := range all {
		if r.Ref == "" || r.Ref == string(x.Ref()) {
			out.Signals = append(out.Signals, &operatorv1.Signal{
				Ref: string(x.Ref()), Signal: x.Name(), Level: x.Level, Text: x.Text, Source: x.Source, At: stamp(x.At), Until: stamp(x.Until),
			})
		}
	}
	return out, nil
}

func (s *signals) SetLevel(ctx context.Context, r *operatorv1.SetLevelRequest) (*operatorv1.SetLevelResponse, error) {
	h, err := s.server.cfg.Signals.Check(ctx, r.Ref, r.Level, r.Until, r.For, who(ctx).Name, r.Reason)
	if err != nil {
		return nil, s.server.failed(err)
	}
	detail := fmt.Sprintf("until %s: %s", stamp(h.Until), h.Reason)
	return change(ctx, s.server, "set to "+h.Level, string(h.Ref), detail, func() (*operatorv1.SetLevelResponse, error) {
		return &operatorv1.SetLevelResponse{Set: handTo(h)}, s.server.cfg.Signals.Set(ctx, h)
	})
}

func (s *signals) UnsetLevel(ctx context.Context, r *operatorv1.UnsetLevelRequest) (*operatorv1.UnsetLevelResponse, error) {
	return change(ctx, s.server, "unset", r.Ref, "", func() (*operatorv1.UnsetLevelResponse, error) {
		h, err := s.server.cfg.Signals.Unset(ctx, manifest.Ref(r.Ref))
		return &operatorv1.UnsetLevelResponse{Unset: handTo(h)}, err
	})
}

func (s *signals) ListSetLevels(ctx context.Context, _ *operatorv1.ListSetLevelsRequest) (*operatorv1.ListSetLevelsResponse, error) {
	all, err := s.server.cfg.Signals.Hands(ctx)
	if err != nil {
		return nil, s.server.failed(err)
	}
	out := &operatorv1.ListSetLevelsResponse{}
	for _, h := range all {
		out.Set = append(out.Set, handTo(h))
	}
	return out, nil
}

func handTo(h outside.Hand) *operatorv1.SetLevel {
	return &operatorv1.SetLevel{Ref: string(h.Ref), Level: h.Level, By: h.By, Reason: h.Reason, At: stamp(h.At), Until: stamp(h.Until)}
}

// webhooks are the pages that systems of their own formats post to. They are no methods of gRPC, since their bodies are not ours.
func (s *Server) webhooks(mux *http.ServeMux) {
	for sender, read := range map[outside.Sender]func([]byte) (outside.Message, error){
		outside.Alertmanager: outside.ReadAlertmanager, outside.Zabbix: outside.ReadZabbix,
	} {
		mux.HandleFunc("POST /api/v1/webhooks/"+string(sender), s.counted(sender, s.only(Signaller, func(w http.ResponseWriter, r *http.Request) {
			s.webhook(w, r, sender, read)
		})))
	}
}

// deliveries counts what became of the messages of webhooks, by sender and result.
type deliveries map[outside.Sender]map[string]*atomic.Uint64

// What becomes of a message; by the code of its answer.
const (
	deliveryTaken     = "taken"
	deliveryDenied    = "denied"
	deliveryMalformed = "malformed"
	deliveryTooLarge  = "too_large"
	deliveryFull      = "full"
	deliveryFailed    = "failed"
)

func newDeliveries(m *Metrics) deliveries {
	out := deliveries{}
	for _, sender := range []outside.Sender{outside.Alertmanager, outside.Zabbix} {
		out[sender] = map[string]*atomic.Uint64{}
		for _, result := range []string{deliveryTaken, deliveryDenied, deliveryMalformed, deliveryTooLarge, deliveryFull, deliveryFailed} {
			n := &atomic.Uint64{}
			out[sender][result] = n
			m.Counter(fmt.Sprintf("evenkeel_api_webhook_deliveries_total{sender=%q,result=%q}", sender, result),
				"Messages to webhooks since the start, by what became of them.", n.Load)
		}
	}
	return out
}

// counted counts the messages of a sender by how they are answered.
func (s *Server) counted(sender outside.Sender, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		noted := &answered{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			result := deliveryFailed
			switch noted.code {
			case http.StatusOK:
				result = deliveryTaken
			case http.StatusUnauthorized, http.StatusForbidden:
				result = deliveryDenied
			case http.StatusBadRequest:
				result = deliveryMalformed
			case http.StatusRequestEntityTooLarge:
				result = deliveryTooLarge
			case http.StatusTooManyRequests:
				result = deliveryFull
			}
			s.deliveries[sender][result].Add(1)
		}()
		next(noted, r)
	}
}

// answered notes the code of an answer.
type answered struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes the code and passes it on.
func (a *answered) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// bodyPatience bounds how long a webhook's body may take to arrive.
const bodyPatience = 30 * time.Second

func (s *Server) webhook(w http.ResponseWriter, r *http.Request, sender outside.Sender, read func([]byte) (outside.Message, error)) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, outside.MaxBody))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			writeError(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a message has at most %d MiB", outside.MaxBody>>20))
			return
		}
		writeError(w, http.StatusBadRequest, "invalid_argument", "the body broke off: "+err.Error())
		return
	}
	m, err := read(body)
	if err != nil {
		s.cfg.Log.Warn("a webhook's message was refused", "sender", sender, "error", err)
		writeError(w, http.StatusBadRequest, "invalid_argument", err.Error())
		return
	}
	taken, err := s.cfg.Signals.Alerts(r.Context(), sender, m)
	switch {
	case errors.Is(err, outside.ErrFull):
		// An Alertmanager tries again on this code, and gives up on most others.
		w.Header().Set("Retry-After", "60")
		writeError(w, http.StatusTooManyRequests, "resource_exhausted", err.Error())
		return
	case err != nil:
		writeError(w, http.StatusServiceUnavailable, "unavailable", err.Error())
		return
	}
	if m.Left > 0 {
		s.cfg.Log.Warn("a sender left alerts out of its message: raise its max_alerts", "sender", sender, "count", m.Left)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"firing":`+strconv.Itoa(taken.Firing)+`,"resolved":`+strconv.Itoa(taken.Resolved)+`,"late":`+strconv.Itoa(taken.Late)+
		`,"unmatched":`+strconv.Itoa(taken.Unmatched)+`,"left":`+strconv.Itoa(m.Left)+"}\n")
}
