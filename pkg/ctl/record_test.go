package ctl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func TestRecordChanges(t *testing.T) {
	f := newFake(t)
	f.env["EVENKEEL_CONTEXT"] = f.context("context.json", f.good())
	f.reply(operatorv1.ChangeService_RecordChanges_FullMethodName, &operatorv1.RecordChangesResponse{Changes: []*operatorv1.RecordedChange{{
		Id: "1", At: "2026-11-25T10:00:00Z", Kind: "declared", Refs: []string{"service/checkout"}, What: "checkout 4.12.0", By: "ci", External: "CHG7",
	}}})
	file := filepath.Join(t.TempDir(), "changes.csv")
	write := func(text string) string {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	for _, tt := range []struct {
		args []string
		want []*operatorv1.RecordedChange
		says string
	}{
		{[]string{"checkout 4.12.0", "--on", "service/checkout,component/web", "--external", "CHG7"}, []*operatorv1.RecordedChange{{What: "checkout 4.12.0", Refs: []string{"service/checkout", "component/web"}, External: "CHG7"}}, ""},
		{[]string{"--csv", write("what,on,at\na,host/a host/b,2026-11-25T10:00:00Z\n\"b, c\",,\n")}, []*operatorv1.RecordedChange{{What: "a", Refs: []string{"host/a", "host/b"}, At: "2026-11-25T10:00:00Z"}, {What: "b, c"}}, ""},
		{nil, nil, "say what was changed"},
		{[]string{"x", "--csv", "y"}, nil, "--csv goes alone"},
		{[]string{"--csv", "nowhere.csv"}, nil, "no such file"},
	} {
		f.asked()
		r := f.run(append([]string{"changes", "record"}, tt.args...)...)
		asked := f.asked()
		if tt.says != "" {
			if r.code != 2 || !strings.Contains(r.err, tt.says) || len(asked) != 0 {
				t.Errorf("%q: %+v %v", tt.args, r, asked)
			}
			continue
		}
		if r.code != 0 || len(asked) != 1 || !proto.Equal(asked[0], &operatorv1.RecordChangesRequest{Changes: tt.want}) || !strings.Contains(r.out, "checkout 4.12.0") {
			t.Errorf("%q: %+v %v", tt.args, r, asked)
		}
	}
	for text, says := range map[string]string{
		"":                         ":1:1: expected a first line",
		"who\n":                    `:1:1: "who" is not a column`,
		"what,what\n":              `:1:6: "what" is not a column, or is one twice`,
		"at\n":                     "the column what is missing",
		"what,at\na,b\n,\na,b,c\n": ":3:1: say what was changed\n" + file + ":4:1: wrong number of fields",
		"what\n":                   "there is no change in it",
		"what\n\"a\n":              ":2:4: extraneous or missing",
	} {
		if r := f.run("changes", "record", "--csv", write(text)); r.code != 2 || !strings.Contains(r.err, says) {
			t.Errorf("%q: %+v", text, r)
		}
	}
	f.reply(operatorv1.ChangeService_ListChanges_FullMethodName, &operatorv1.ListChangesResponse{})
	if r := f.run("changes", "list", "--host", "web-1"); r.code != 0 || r.out != "nothing was changed\n" || !proto.Equal(f.asked()[0], &operatorv1.ListChangesRequest{Host: "web-1", Limit: 100}) {
		t.Errorf("%+v", r)
	}
}
