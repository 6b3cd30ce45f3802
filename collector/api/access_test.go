package api_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/evenkeel/evenkeel/collector/api"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// The table of authorisation and the methods that are registered are the same set: a method nobody thought of is open to
// nobody, and an entry for a method that is gone is a mistake.
func TestEveryMethodNeedsARole(t *testing.T) {
	w := newWorld(t)
	needs := api.Needs()
	registered := w.server.Registered()
	if len(registered) < 30 {
		t.Fatalf("only %d methods are registered", len(registered))
	}
	for _, m := range registered {
		if _, ok := needs[m]; !ok {
			t.Errorf("%s is registered and not in the table", m)
		}
	}
	for m, role := range needs {
		if !slices.Contains(registered, m) {
			t.Errorf("%s is in the table and not registered", m)
		}
		if role == api.Nobody && m != agentv1.EnrolmentService_Enrol_FullMethodName {
			t.Errorf("%s is open to who has no token", m)
		}
	}
}

func TestUnmappedMethodIsRefused(t *testing.T) {
	called := false
	w := newWorld(t, func(c *api.Config) {
		c.Register = func(r grpc.ServiceRegistrar) {
			agentv1.RegisterEnrolmentServiceServer(r, agentv1.UnimplementedEnrolmentServiceServer{})
			r.RegisterService(&grpc.ServiceDesc{ServiceName: "evenkeel.test.v1.Extra", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
				MethodName: "Anything",
				Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
					in := &emptypb.Empty{}
					if err := decode(in); err != nil {
						return nil, err
					}
					return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/evenkeel.test.v1.Extra/Anything"}, func(context.Context, any) (any, error) {
						called = true
						return in, nil
					})
				},
			}}}, struct{}{})
		}
	})
	err := w.dial().Invoke(w.as("admin"), "/evenkeel.test.v1.Extra/Anything", &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) != codes.PermissionDenied || called {
		t.Errorf("err = %v, called = %t; wanted a denial", err, called)
	}
	if trail := w.trail(); len(trail) != 1 || !strings.Contains(trail[0], "evenkeel.test.v1.Extra/Anything|denied") {
		t.Errorf("audit = %q", trail)
	}
	// A path that is not registered at all never reaches the table, and no handler.
	for _, path := range []string{"/evenkeel.operator.v1.ControlService/Nothing", "evenkeel.operator.v1.ControlService/GetVersion"} {
		if err := w.dial().Invoke(w.as("admin"), path, &emptypb.Empty{}, &emptypb.Empty{}); err == nil {
			t.Errorf("%s was answered", path)
		}
	}
}

// call invokes any method with an empty request: enough to see whether it is let in.
func (w *world) call(conn *grpc.ClientConn, token, method string) error {
	w.Helper()
	ctx, cancel := context.WithCancel(w.as(token))
	defer cancel()
	if !descriptor(w.T, method).IsStreamingServer() {
		return conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return s.RecvMsg(&emptypb.Empty{}) // the first message is there at once
}

func descriptor(t *testing.T, method string) protoreflect.MethodDescriptor {
	t.Helper()
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	must(t, err)
	return d.(protoreflect.MethodDescriptor)
}

func TestRoles(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	roles := []api.Role{api.Nobody, api.Viewer, api.Operator, api.Approver, api.Admin, api.Signaller}
	for method, needs := range api.Needs() {
		for _, role := range roles {
			token := role.String()
			if role == api.Nobody {
				token = ""
			}
			w.trail()
			err := w.call(conn, token, method)
			trail := strings.Join(w.trail(), "\n")
			denied := strings.Contains(trail, strings.TrimPrefix(method, "/")+"|denied")
			code := status.Code(err)
			switch {
			case role.May(needs):
				if code == codes.PermissionDenied || code == codes.Unauthenticated || denied {
					t.Errorf("%s: a %s, and it needs %s: %v", method, role, needs, err)
				}
			case role == api.Nobody:
				if code != codes.Unauthenticated || !denied {
					t.Errorf("%s without a token: %v; audit %q", method, err, trail)
				}
			default:
				if code != codes.PermissionDenied || !denied || !strings.Contains(trail, "ada-"+token) {
					t.Errorf("%s: a %s, and it needs %s: %v; audit %q", method, role, needs, err, trail)
				}
			}
		}
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	control := operatorv1.NewControlServiceClient(w.dial())
	for _, tt := range []struct {
		token, says string
		code        codes.Code
		http        int
		audited     bool
	}{
		{"viewer", "", codes.OK, 200, false},
		{"", "run evenkeel login", codes.Unauthenticated, 401, true},
		{"guess", "nobody has it", codes.Unauthenticated, 401, true},
		{"expired", "it was expired", codes.Unauthenticated, 401, true},
		{"revoked", "it was revoked", codes.Unauthenticated, 401, true},
		{"outage", "quorum", codes.Unavailable, 503, false},
	} {
		w.trail()
		_, err := control.GetVersion(w.as(tt.token), &operatorv1.GetVersionRequest{})
		if status.Code(err) != tt.code || !strings.Contains(status.Convert(err).Message(), tt.says) {
			t.Errorf("token %q: %v", tt.token, err)
		}
		if trail := w.trail(); (len(trail) == 1) != tt.audited {
			t.Errorf("token %q: audit %q", tt.token, trail)
		}
		for _, path := range []string{"/api/v1/version", "/metrics", "/api/v1/openapi.json"} {
			if resp, body := w.do("GET", path, tt.token, ""); resp.StatusCode != tt.http {
				t.Errorf("token %q: %s answers %d %s", tt.token, path, resp.StatusCode, body)
			}
			if trail := w.trail(); (len(trail) == 1) != tt.audited {
				t.Errorf("token %q: %s: audit %q", tt.token, path, trail)
			}
		}
	}
	// Two headers are not one token.
	both := w.as("viewer")
	both = withToken(both, "admin")
	if _, err := control.GetVersion(both, &operatorv1.GetVersionRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("two tokens: %v", err)
	}
}

// mutations are the calls that change something, with what the fake notes of each.
func mutations() map[string]proto.Message {
	return map[string]proto.Message{
		operatorv1.ResourceService_Apply_FullMethodName:               &operatorv1.ApplyRequest{Files: []*operatorv1.File{{Name: "a.yaml", Text: "x"}}},
		operatorv1.ResourceService_DeleteResource_FullMethodName:      &operatorv1.DeleteResourceRequest{Kind: "service", Name: "checkout"},
		operatorv1.HostService_AdmitHost_FullMethodName:               &operatorv1.AdmitHostRequest{Name: "web-1"},
		operatorv1.HostService_RevokeHost_FullMethodName:              &operatorv1.RevokeHostRequest{Name: "web-1", Reason: "stolen"},
		operatorv1.IncidentService_AcknowledgeIncident_FullMethodName: &operatorv1.AcknowledgeIncidentRequest{Id: incidentA, Note: "mine"},
		operatorv1.IncidentService_HoldIncident_FullMethodName:        &operatorv1.HoldIncidentRequest{Id: incidentA, Reason: "waits"},
		operatorv1.IncidentService_ResumeIncident_FullMethodName:      &operatorv1.ResumeIncidentRequest{Id: incidentA},
		operatorv1.IncidentService_LinkIncident_FullMethodName:        &operatorv1.LinkIncidentRequest{Id: incidentA, External: "INC7"},
		operatorv1.ChangeService_RecordChanges_FullMethodName:         &operatorv1.RecordChangesRequest{Changes: []*operatorv1.RecordedChange{{What: "checkout 4.12.0"}}},
		operatorv1.ReviewService_ConfirmReview_FullMethodName:         &operatorv1.ConfirmReviewRequest{Item: "runbook/relieve", Note: "fine"},
		operatorv1.ActionService_ApproveAction_FullMethodName:         &operatorv1.DecideActionRequest{Id: actionA, CommandHash: "abcd", Reason: "agreed"},
		operatorv1.KeyService_RevokeKey_FullMethodName:                &operatorv1.RevokeKeyRequest{Id: "0123456789abcdef", Reason: "lost"},
		operatorv1.KeyService_RotateKey_FullMethodName:                &operatorv1.RotateKeyRequest{Reason: "lost"},
		operatorv1.ActionService_DenyAction_FullMethodName:            &operatorv1.DecideActionRequest{Id: actionA, Reason: "month end"},
		operatorv1.ActionService_CancelAction_FullMethodName:          &operatorv1.DecideActionRequest{Id: actionA, Reason: "enough"},
		operatorv1.AccessService_CreateToken_FullMethodName:           &operatorv1.CreateTokenRequest{Role: "viewer", Name: "wall"},
		operatorv1.AccessService_RevokeToken_FullMethodName:           &operatorv1.RevokeTokenRequest{Id: "t1"},
		operatorv1.ControlService_SetKillSwitch_FullMethodName:        &operatorv1.SetKillSwitchRequest{On: false, Reason: "over"},
		operatorv1.SignalService_SetLevel_FullMethodName:              &operatorv1.SetLevelRequest{Ref: "component/web", Level: "critical", For: "1h", Reason: "a test"},
		operatorv1.SignalService_UnsetLevel_FullMethodName:            &operatorv1.UnsetLevelRequest{Ref: "component/web"},
	}
}

// Every method that needs more than looking is in the list above, so that the tests over it miss none.
func TestMutationsAreAllKnown(t *testing.T) {
	for m, role := range api.Needs() {
		if m == operatorv1.SignalService_TellSignals_FullMethodName {
			continue // what is seen outside is told many times a minute, and is no change of anything reviewed: it is not audited
		}
		_, listed := mutations()[m]
		looks := role <= api.Viewer || m == operatorv1.AccessService_ListTokens_FullMethodName || m == operatorv1.ControlService_ListAudit_FullMethodName
		if listed == looks {
			t.Errorf("%s needs %s; listed as changing something: %t", m, role, listed)
		}
	}
}

func TestChangesAreRecorded(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	for method, req := range mutations() {
		before := len(w.done())
		w.trail()
		must(t, conn.Invoke(w.as("admin"), method, req, &emptypb.Empty{}))
		if len(w.done()) != before+1 {
			t.Errorf("%s changed %d things", method, len(w.done())-before)
		}
		trail := w.trail()
		if len(trail) != 1 || !strings.HasPrefix(trail[0], "ada-admin|") || !strings.Contains(trail[0], "|done|") {
			t.Errorf("%s: audit %q", method, trail)
		}
		if f := req.ProtoReflect().Descriptor().Fields().ByName("reason"); f != nil {
			if reason := req.ProtoReflect().Get(f).String(); !strings.HasSuffix(trail[0], reason) {
				t.Errorf("%s: audit %q lacks the reason %q", method, trail, reason)
			}
		}
	}
}

func TestAuditFailureMeansNothingChanged(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	w.failAudit()
	for method, req := range mutations() {
		before := len(w.done())
		reply := &operatorv1.CreateTokenResponse{}
		err := conn.Invoke(w.as("admin"), method, req, reply)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("%s: %v", method, err)
		}
		changes := w.done()[before:]
		if method == operatorv1.AccessService_CreateToken_FullMethodName {
			// A token has no id before it is made: its secret is not told, and it is revoked.
			if len(changes) != 2 || changes[1] != "revoke token t1" || reply.Token != "" {
				t.Errorf("%s: %q, reply %v", method, changes, reply)
			}
		} else if len(changes) > 0 {
			t.Errorf("%s changed %q", method, changes)
		}
	}
	// The one thing that must work all the same.
	k, err := operatorv1.NewControlServiceClient(conn).SetKillSwitch(w.as("approver"), &operatorv1.SetKillSwitchRequest{On: true, Reason: "now"})
	if err != nil || !k.On || !slices.Contains(w.done(), "kill switch true by ada-approver") {
		t.Errorf("kill switch on: %v, %v; %q", k, err, w.done())
	}
}

func TestFailedChangesAreRecordedAsSuch(t *testing.T) {
	for _, tt := range []struct {
		err     error
		code    codes.Code
		outcome string
	}{
		{api.ErrConflict, codes.FailedPrecondition, "refused"},
		{api.ErrRefused, codes.PermissionDenied, "refused"},
		{api.ErrNotFound, codes.NotFound, "refused"},
		{errOutage, codes.Unavailable, "failed"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "failed"},
		{context.Canceled, codes.Canceled, "failed"},
	} {
		w := newWorld(t)
		conn := w.dial()
		w.failWith(tt.err)
		for method, req := range mutations() {
			w.trail()
			err := conn.Invoke(w.as("admin"), method, req, &emptypb.Empty{})
			if status.Code(err) != tt.code {
				t.Errorf("%s fails with %v: %v", method, tt.err, err)
			}
			trail := w.trail()
			if method == operatorv1.AccessService_CreateToken_FullMethodName {
				continue // it is recorded once there is one
			}
			if len(trail) != 2 || !strings.Contains(trail[0], "|done|") || !strings.Contains(trail[1], "|"+tt.outcome+"|") {
				t.Errorf("%s fails with %v: audit %q", method, tt.err, trail)
			}
		}
	}
}

func TestParseRole(t *testing.T) {
	for _, r := range []api.Role{api.Viewer, api.Operator, api.Approver, api.Admin, api.Signaller} {
		if got, err := api.ParseRole(r.String()); err != nil || got != r {
			t.Errorf("ParseRole(%s) = %s, %v", r, got, err)
		}
	}
	for _, s := range []string{"", "nobody", "Admin", "root"} {
		if r, err := api.ParseRole(s); err == nil || r != api.Nobody {
			t.Errorf("ParseRole(%q) = %s, %v", s, r, err)
		}
	}
}

// Public messages hold no 64-bit integer: JSON has none, and readers in other languages would round them.
func TestNo64BitIntegers(t *testing.T) {
	file, err := protoregistry.GlobalFiles.FindFileByPath("evenkeel/operator/v1/operator.proto")
	if err != nil {
		file = operatorv1.File_evenkeel_operator_v1_operator_proto
	}
	if protodesc.ToFileDescriptorProto(file).GetSyntax() != "proto3" {
		t.Fatal("the API is not proto3")
	}
	var check func(protoreflect.MessageDescriptors) int
	check = func(all protoreflect.MessageDescriptors) (n int) {
		for i := range all.Len() {
			m := all.Get(i)
			n += check(m.Messages())
			for k := range m.Fields().Len() {
				n++
				switch f := m.Fields().Get(k); f.Kind() {
				case protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Sint64Kind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
					t.Errorf("%s is a 64-bit integer", f.FullName())
				case protoreflect.EnumKind:
					t.Errorf("%s is an enum, whose JSON is upper case: use a lower-case string", f.FullName())
				}
			}
		}
		return n
	}
	if n := check(file.Messages()); n < 100 {
		t.Fatalf("only %d fields were looked at", n)
	}
}
