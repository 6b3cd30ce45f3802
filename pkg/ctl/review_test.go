package ctl_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// A review is confirmed by a verb, with what was found, which the command asks for before it asks a collector.
func TestConfirmReview(t *testing.T) {
	f := newFake(t)
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	one := &operatorv1.Confirmation{Id: "1", Item: "service/shop>component/web", At: at, By: "ann", Note: "still so"}
	f.reply(operatorv1.ReviewService_ConfirmReview_FullMethodName, one)
	f.reply(operatorv1.ReviewService_ListConfirmations_FullMethodName, &operatorv1.ListConfirmationsResponse{Confirmations: []*operatorv1.Confirmation{one}})
	for _, tt := range []struct {
		line string
		code int
		says string
		asks proto.Message
	}{
		{"review confirm 'service/shop>component/web' --note 'still so' --by ann", 0, "service/shop>component/web is confirmed by ann", &operatorv1.ConfirmReviewRequest{Item: "service/shop>component/web", Note: "still so", By: "ann"}},
		{"review confirm runbook/x --note y -o json", 0, `"note": "still so"`, &operatorv1.ConfirmReviewRequest{Item: "runbook/x", Note: "y"}},
		{"review confirmations --item runbook/x", 0, "2026-11-25T12:00:00Z  service/shop>component/web  ann  still so", &operatorv1.ListConfirmationsRequest{Item: "runbook/x", Limit: 100}},
		{"review confirm runbook/x", 2, "say what the review found: --note TEXT", nil},
		{"review confirm --note y", 2, "accepts 1 arg", nil},
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
	f.errors[operatorv1.ReviewService_ConfirmReview_FullMethodName] = status.Error(codes.InvalidArgument, "runbook/x is not there")
	if r := f.run(words("review confirm runbook/x --note y")...); r.code != 2 || !strings.Contains(r.err, "runbook/x is not there") {
		t.Errorf("%+v", r)
	}
	f.reply(operatorv1.ReviewService_ListConfirmations_FullMethodName, &operatorv1.ListConfirmationsResponse{})
	if r := f.run("review", "confirmations"); r.code != 0 || r.out != "" || !strings.Contains(r.err, "nothing was confirmed") {
		t.Errorf("%+v", r)
	}
}
