package ctl_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func TestSLOLedger(t *testing.T) {
	f := newFake(t)
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	row := func(month string, intact bool, fault string) map[string]any {
		return map[string]any{"month": month, "objectives": 3, "met": 1, "missed": 1, "unknown": 1, "intact": intact, "fault": fault}
	}
	answer, err := structpb.NewStruct(map[string]any{"months": []any{row("2026-09", true, ""), row("2026-10", false, "its record is not the one that was sealed")}, "report": nil})
	must(t, err)
	f.reply(operatorv1.ReasonService_Ask_FullMethodName, &operatorv1.AskResponse{Answer: answer})
	r := f.run("slo", "ledger", "2026-10")
	want := &operatorv1.AskRequest{Question: "ledger", Args: map[string]string{"month": "2026-10"}}
	if asked := f.asked(); len(asked) != 1 || !proto.Equal(asked[0], want) {
		t.Errorf("%v", asked)
	}
	if r.code != 0 || !strings.Contains(r.out, "2026-09  3           1    1       1          yes\n") || !strings.Contains(r.out, "no: its record is not the one that was sealed\n") {
		t.Errorf("%+v", r)
	}
	answer, err = structpb.NewStruct(map[string]any{"months": []any{}, "report": nil})
	must(t, err)
	f.reply(operatorv1.ReasonService_Ask_FullMethodName, &operatorv1.AskResponse{Answer: answer})
	if r := f.run("slo", "ledger"); r.code != 0 || r.out != "no month is over yet\n" {
		t.Errorf("%+v", r)
	}
}
