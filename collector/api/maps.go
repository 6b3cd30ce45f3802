package api

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/collector/cause"
	"github.com/evenkeel/evenkeel/collector/servicemap"
	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Map knows the health of the map. Changed returns a channel that is closed when there is a newer snapshot.
type Map interface {
	Snapshot() *servicemap.Snapshot
	Changed() <-chan struct{}
}

type mapService struct {
	operatorv1.UnimplementedMapServiceServer
	server *Server
}

func (m *mapService) GetMap(_ context.Context, r *operatorv1.GetMapRequest) (*operatorv1.Map, error) {
	return m.draw(r.Root)
}

func (m *mapService) draw(root string) (*operatorv1.Map, error) {
	s := m.server.cfg.Map.Snapshot()
	if s == nil {
		return nil, status.Error(codes.Unavailable, "the map is being read")
	}
	now := m.server.cfg.Clock()
	out := &operatorv1.Map{At: stamp(now)}
	report := cause.Find(s, now)
	if root == "" {
		for _, n := range s.Nodes() {
			out.Nodes = append(out.Nodes, nodeTo(&n))
		}
	} else {
		ref := manifest.Ref(root)
		if _, ok := s.Node(ref); !ok {
			return nil, status.Errorf(codes.NotFound, "%s is not on the map", root)
		}
		report = cause.Of(s, ref, now)
		below(s, ref, map[manifest.Ref]bool{}, func(n servicemap.Node) { out.Nodes = append(out.Nodes, nodeTo(&n)) })
	}
	for i := range report.Causes {
		c := &report.Causes[i]
		out.Causes = append(out.Causes, &operatorv1.Cause{
			Ref: string(c.Ref), Level: c.Level.String(), Services: refTexts(c.Services), PerHour: report.PerHour(c), Unit: report.Unit,
			Text: c.Text, NotInMap: c.NotInMap,
		})
	}
	return out, nil
}

// below visits a node and everything that it rests on, each once.
func below(s *servicemap.Snapshot, ref manifest.Ref, seen map[manifest.Ref]bool, visit func(servicemap.Node)) {
	if seen[ref] {
		return
	}
	seen[ref] = true
	n, ok := s.Node(ref)
	if !ok {
		return
	}
	visit(n)
	for _, in := range n.Why.Inputs {
		below(s, manifest.Ref(in.Ref), seen, visit)
	}
}

// watchPause bounds how often a watcher is sent the whole map.
const watchPause = 200 * time.Millisecond

func (m *mapService) WatchMap(r *operatorv1.GetMapRequest, out grpc.ServerStreamingServer[operatorv1.Map]) error {
	ctx := out.Context()
	last := ""
	for {
		changed := m.server.cfg.Map.Changed()
		drawn, err := m.draw(r.Root)
		if err != nil {
			return err
		}
		if now := fingerprint(drawn); now != last {
			if err := out.Send(drawn); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-time.After(watchPause):
		}
	}
}

// fingerprint is equal for maps that say the same of every node.
func fingerprint(m *operatorv1.Map) string {
	s := ""
	for _, n := range m.Nodes {
		s += n.Ref + " " + n.Low + " " + n.High + " " + n.Why.GetText() + "\n"
	}
	return s
}

func nodeTo(n *servicemap.Node) *operatorv1.Node {
	out := &operatorv1.Node{
		Ref: string(n.Ref), Title: n.Title, Layer: n.Layer, Low: n.Range.Low.String(), High: n.Range.High.String(),
		Own: servicemap.LevelText(n.Own), Score: n.Score, Criticality: int32(n.Criticality), Owner: string(n.Owner),
		Why: &operatorv1.Why{Rule: n.Why.Rule, Text: n.Why.Text},
	}
	if n.Value.Ranked {
		out.Value = n.Value.String()
	}
	for _, in := range n.Why.Inputs {
		out.Why.Inputs = append(out.Why.Inputs, &operatorv1.WhyInput{Ref: in.Ref, Level: in.Level, Mapped: in.Mapped, Weight: float64(in.Weight), Counted: in.Counted})
	}
	return out
}

func refTexts(in []manifest.Ref) []string {
	out := make([]string, len(in))
	for i, r := range in {
		out[i] = string(r)
	}
	return out
}
