package ctl_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// What is set by hand has an end and a reason, which the command asks for before it asks a collector.
func TestSetAndUnset(t *testing.T) {
	f := newFake(t)
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	set := &operatorv1.SetLevel{Ref: "component/db", Level: "critical", By: "ada", Reason: "disk shelf", At: at, Until: later}
	f.reply(operatorv1.SignalService_SetLevel_FullMethodName, &operatorv1.SetLevelResponse{Set: set})
	f.reply(operatorv1.SignalService_UnsetLevel_FullMethodName, &operatorv1.UnsetLevelResponse{Unset: set})
	f.reply(operatorv1.SignalService_ListSetLevels_FullMethodName, &operatorv1.ListSetLevelsResponse{Set: []*operatorv1.SetLevel{set}})
	for _, tt := range []struct {
		line string
		code int
		says string
		asks proto.Message
	}{
		{"set component/db critical --for 2h --reason 'disk shelf'", 0, "component/db is set to critical until 2026-11-25T12:00:31Z", &operatorv1.SetLevelRequest{Ref: "component/db", Level: "critical", For: "2h", Reason: "disk shelf"}},
		{"set component/db ok --until 2026-11-25T18:00:00Z --reason x", 0, "is set", &operatorv1.SetLevelRequest{Ref: "component/db", Level: "ok", Until: "2026-11-25T18:00:00Z", Reason: "x"}},
		{"set", 0, "component/db  critical  2026-11-25T12:00:31Z  ada  disk shelf", &operatorv1.ListSetLevelsRequest{}},
		{"set -o json", 0, `"reason": "disk shelf"`, &operatorv1.ListSetLevelsRequest{}},
		{"unset component/db", 0, "component/db is no longer set to critical by ada", &operatorv1.UnsetLevelRequest{Ref: "component/db"}},
		{"set component/db critical --reason x", 2, "say until when: exactly one of --until TIME and --for DURATION", nil},
		{"set component/db critical --for 1h --until 2026-11-25T18:00:00Z --reason x", 2, "exactly one of", nil},
		{"set component/db critical --for 1h", 2, "say why: --reason TEXT", nil},
		{"set component/db critical --until noon --reason x", 2, "--until noon: expected RFC 3339", nil},
		{"set component/db", 2, "expected REF and LEVEL", nil},
		{"set --for 1h", 2, "say what to set", nil},
		{"unset", 2, "accepts 1 arg", nil},
	} {
		f.asked()
		r := f.run(words(tt.line)...)
		if r.code != tt.code || !strings.Contains(r.out+r.err, tt.says) {
			t.Errorf("%s: %+v", tt.line, r)
		}
		asked := f.asked()
		if (tt.asks == nil) != (len(asked) == 0) || tt.asks != nil && !proto.Equal(asked[0], tt.asks) {
			t.Errorf("%s asks for %v", tt.line, asked)
		}
	}
	f.errors[operatorv1.SignalService_SetLevel_FullMethodName] = status.Error(codes.InvalidArgument, `component/dbb is not on the map (did you mean "component/db"?)`)
	if r := f.run(words("set component/dbb ok --for 1h --reason x")...); r.code != 2 || !strings.Contains(r.err, `did you mean "component/db"?`) {
		t.Errorf("%+v", r)
	}
	f.reply(operatorv1.SignalService_ListSetLevels_FullMethodName, &operatorv1.ListSetLevelsResponse{})
	if r := f.run("set"); r.code != 0 || r.out != "" || !strings.Contains(r.err, "nothing is set by hand") {
		t.Errorf("%+v", r)
	}
}
