package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/evenkeel/evenkeel/pkg/manifest"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// StoredResource is a resource with what is known of its last change, of the last change of its value, and of its former names.
type StoredResource struct {
	Resource  *manifest.Resource
	Revision  int64
	ChangedAt time.Time
	ChangedBy string
	PricedAt  time.Time
	PricedBy  string
	Former    []manifest.Ref
}

// Resources keeps the reviewed text.
type Resources interface {
	Diff(ctx context.Context, files []manifest.File) ([]manifest.Change, []manifest.Problem, error)
	Apply(ctx context.Context, files []manifest.File, by string) ([]manifest.Change, []manifest.Problem, error)
	Get(kind, name string) (StoredResource, error)
	List(kind string, match func(labels map[string]string) bool) []StoredResource
	Delete(ctx context.Context, kind, name string) (manifest.Ref, error)
}

type resources struct {
	operatorv1.UnimplementedResourceServiceServer
	server *Server
}

func (r *resources) Apply(ctx context.Context, req *operatorv1.ApplyRequest) (*operatorv1.ApplyResponse, error) {
	in := filesFrom(req.Files)
	if req.DryRun {
		changes, problems, err := r.server.cfg.Resources.Diff(ctx, in)
		if err != nil {
			return nil, r.server.failed(err)
		}
		return &operatorv1.ApplyResponse{Changes: changesTo(changes), Problems: problemsTo(problems)}, nil
	}
	// What would change is recorded first; applying what changes nothing leaves no trace.
	changes, problems, err := r.server.cfg.Resources.Diff(ctx, in)
	if err != nil {
		return nil, r.server.failed(err)
	}
	if len(problems) > 0 {
		return &operatorv1.ApplyResponse{Problems: problemsTo(problems)}, nil
	}
	for _, c := range changes {
		if c.Verb == manifest.Unchanged {
			continue
		}
		if err := r.server.record(ctx, "apply", string(c.Ref), summary(c)); err != nil {
			return nil, err
		}
	}
	changes, problems, err = r.server.cfg.Resources.Apply(ctx, in, who(ctx).Name)
	if err != nil {
		r.server.undone(ctx, "apply", "cluster", err)
		return nil, r.server.failed(err)
	}
	if len(problems) > 0 { // others were faster, and now it does not fit
		r.server.undone(ctx, "apply", "cluster", fmt.Errorf("%w: %s", ErrConflict, problems[0].Text))
	}
	return &operatorv1.ApplyResponse{Changes: changesTo(changes), Problems: problemsTo(problems)}, nil
}

// summary is a change in one line for the audit log.
func summary(c manifest.Change) string {
	parts := []string{c.Verb}
	for _, f := range c.Fields {
		parts = append(parts, fmt.Sprintf("%s: %q -> %q", f.Path, f.From, f.To))
	}
	return strings.Join(parts, "; ")
}

func (r *resources) Diff(ctx context.Context, req *operatorv1.DiffRequest) (*operatorv1.DiffResponse, error) {
	changes, problems, err := r.server.cfg.Resources.Diff(ctx, filesFrom(req.Files))
	if err != nil {
		return nil, r.server.failed(err)
	}
	return &operatorv1.DiffResponse{Changes: changesTo(changes), Problems: problemsTo(problems)}, nil
}

func (r *resources) GetResource(_ context.Context, req *operatorv1.GetResourceRequest) (*operatorv1.Resource, error) {
	kind, err := kindOf(req.Kind)
	if err != nil {
		return nil, err
	}
	s, err := r.server.cfg.Resources.Get(kind, req.Name)
	if err != nil {
		return nil, r.server.failed(err)
	}
	return resourceTo(s)
}

const maxPage = 500

func (r *resources) ListResources(_ context.Context, req *operatorv1.ListResourcesRequest) (*operatorv1.ListResourcesResponse, error) {
	match, err := selector(req.Selector)
	if err != nil {
		return nil, err
	}
	kind, err := kindOf(req.Kind)
	if err != nil {
		return nil, err
	}
	size := int(req.PageSize)
	if size <= 0 || size > maxPage {
		size = maxPage
	}
	out := &operatorv1.ListResourcesResponse{}
	for _, s := range r.server.cfg.Resources.List(kind, match) {
		ref := string(s.Resource.Ref())
		if ref <= req.PageToken {
			continue
		}
		if len(out.Resources) == size {
			last := out.Resources[size-1]
			out.NextPageToken = string(manifest.RefOf(last.Kind, last.Metadata.Name))
			break
		}
		res, err := resourceTo(s)
		if err != nil {
			return nil, err
		}
		out.Resources = append(out.Resources, res)
	}
	return out, nil
}

func kinds() []string {
	return []string{
		manifest.KindService, manifest.KindComponent, manifest.KindHost, manifest.KindDetector, manifest.KindRunbook, manifest.KindRemediationPolicy,
		manifest.KindCalendar,
		manifest.KindSLO, manifest.KindTeam, manifest.KindVendor,
	}
}

// kindOf reads a kind as people write it, in singular or plural and any case; empty is all of them.
func kindOf(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	for _, k := range kinds() {
		if strings.EqualFold(text, k) || strings.EqualFold(text, k+"s") || strings.EqualFold(text, strings.TrimSuffix(k, "y")+"ies") {
			return k, nil
		}
	}
	return "", status.Errorf(codes.InvalidArgument, "there is no kind %q: expected one of %s", text, strings.ToLower(strings.Join(kinds(), ", ")))
}

// selector reads "env=prod,role=web".
func selector(text string) (func(map[string]string) bool, error) {
	want := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, status.Errorf(codes.InvalidArgument, "selector %q: expected LABEL=VALUE, with commas between", text)
		}
		want[k] = v
	}
	return func(labels map[string]string) bool {
		for k, v := range want {
			if got, ok := labels[k]; !ok || got != v {
				return false
			}
		}
		return true
	}, nil
}

func (r *resources) DeleteResource(ctx context.Context, req *operatorv1.DeleteResourceRequest) (*operatorv1.DeleteResourceResponse, error) {
	kind, err := kindOf(req.Kind)
	if err != nil {
		return nil, err
	}
	s, err := r.server.cfg.Resources.Get(kind, req.Name)
	if err != nil {
		return nil, r.server.failed(err)
	}
	ref, err := change(ctx, r.server, "delete", string(s.Resource.Ref()), "", func() (manifest.Ref, error) {
		return r.server.cfg.Resources.Delete(ctx, kind, req.Name)
	})
	if err != nil {
		return nil, err
	}
	return &operatorv1.DeleteResourceResponse{Ref: string(ref)}, nil
}

func filesFrom(in []*operatorv1.File) []manifest.File {
	out := make([]manifest.File, len(in))
	for i, f := range in {
		out[i] = manifest.File{Name: f.Name, Text: []byte(f.Text)}
	}
	return out
}

func changesTo(in []manifest.Change) []*operatorv1.Change {
	out := make([]*operatorv1.Change, len(in))
	for i, c := range in {
		out[i] = &operatorv1.Change{Ref: string(c.Ref), Verb: c.Verb}
		for _, f := range c.Fields {
			out[i].Fields = append(out[i].Fields, &operatorv1.FieldChange{Path: f.Path, From: f.From, To: f.To})
		}
	}
	return out
}

func problemsTo(in []manifest.Problem) []*operatorv1.Problem {
	out := make([]*operatorv1.Problem, len(in))
	for i, p := range in {
		out[i] = &operatorv1.Problem{File: p.File, Line: int32(p.Line), Column: int32(p.Column), Path: p.Path, Text: p.Text, Hint: p.Hint}
	}
	return out
}

func resourceTo(s StoredResource) (*operatorv1.Resource, error) {
	plain, err := manifest.SpecMap(s.Resource)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	spec, err := structpb.NewStruct(plain)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	m := s.Resource.Metadata
	out := &operatorv1.Resource{
		ApiVersion: s.Resource.APIVersion, Kind: s.Resource.Kind, Spec: spec, ChangedAt: stamp(s.ChangedAt), ChangedBy: s.ChangedBy,
		Metadata: &operatorv1.Metadata{Name: m.Name, Labels: m.Labels, Annotations: m.Annotations, RenamedFrom: m.RenamedFrom},
	}
	out.PricedAt, out.PricedBy = priced(s)
	for _, ref := range s.Former {
		out.FormerRefs = append(out.FormerRefs, string(ref))
	}
	if s.Revision > 0 {
		out.Revision = strconv.FormatInt(s.Revision, 10)
	}
	return out, nil
}

// priced says since when the value of a service is what it is, and by whose word: what the text says goes before who applied it.
func priced(s StoredResource) (at, by string) {
	service, ok := s.Resource.Spec.(*manifest.Service)
	if !ok || service.Value == nil {
		return "", ""
	}
	at, by = stamp(s.PricedAt), s.PricedBy
	if service.Value.Author != "" {
		by = service.Value.Author
	}
	if service.Value.Date != nil {
		at = service.Value.Date.String()
	}
	return at, by
}
