package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{"HOME": home}
	getenv := func(k string) string { return env[k] }
	user := filepath.Join(home, ".config", "evenkeel", "context.json")
	if got := client.UserPath(getenv); got != user {
		t.Errorf("UserPath = %s", got)
	}
	if _, err := client.Find("", getenv); !errors.Is(err, client.ErrNoContext) {
		if _, there := os.Stat("/var/lib/evenkeel-collector/admin.json"); there != nil {
			t.Errorf("with nothing there: %v", err)
		}
	}
	must(t, client.Save(user, client.Context{Address: "a", CA: "c", Token: "t"}))
	for _, tt := range []struct{ name, named, env, want string }{
		{"the user's own", "", "", user},
		{"the environment before the user's own", "", "/env.json", "/env.json"},
		{"what is named before all", "/named.json", "/env.json", "/named.json"},
	} {
		env["EVENKEEL_CONTEXT"] = tt.env
		if got, err := client.Find(tt.named, getenv); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
	}
	env["EVENKEEL_CONTEXT"], env["XDG_CONFIG_HOME"] = "", filepath.Join(home, "xdg")
	if got := client.UserPath(getenv); got != filepath.Join(home, "xdg", "evenkeel", "context.json") {
		t.Errorf("UserPath = %s", got)
	}
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "deep", "context.json")
	for _, want := range []client.Context{
		{Address: "127.0.0.1:8425", CA: "pem", Token: "secret", REST: "http://127.0.0.1:8420"},
		{Address: "keel.example:8425", CA: "pem", Token: "other"}, // over the first
	} {
		must(t, client.Save(path, want))
		got, err := client.Load(path)
		if err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the file has mode %04o", info.Mode().Perm())
		}
		folder, err := os.Stat(filepath.Dir(path))
		must(t, err)
		if folder.Mode().Perm() != 0o700 {
			t.Errorf("the folder has mode %04o", folder.Mode().Perm())
		}
		left, err := os.ReadDir(filepath.Dir(path))
		must(t, err)
		if len(left) != 1 {
			t.Errorf("%d files are left in the folder", len(left))
		}
	}
	// What an interrupted save has left behind, open to all, does not make the next one so.
	must(t, os.WriteFile(path+".new", []byte("half"), 0o644))
	must(t, client.Save(path, client.Context{Address: "a", CA: "c", Token: "t"}))
	if _, err := client.Load(path); err != nil {
		t.Errorf("after a save that was interrupted: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	const good = `{"address":"a","ca":"c","token":"hunter2"}`
	for _, tt := range []struct {
		name, text string
		mode       fs.FileMode
		says       string
	}{
		{"readable by the group", good, 0o640, "chmod 600"},
		{"readable by all", good, 0o604, "may be read by others (mode 0604)"},
		{"writable by the group", good, 0o620, "chmod 600"},
		{"an unknown key", `{"address":"a","ca":"c","token":"hunter2","tokn":"x"}`, 0o600, `unknown field "tokn"`},
		{"no token", `{"address":"a","ca":"c"}`, 0o600, "address, ca and token are all needed"},
		{"not JSON", "hunter2", 0o600, "invalid character"},
		{"empty", "", 0o600, "EOF"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "-"))
		must(t, os.WriteFile(path, []byte(tt.text), 0o600))
		must(t, os.Chmod(path, tt.mode))
		_, err := client.Load(path)
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := client.Load(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// The same message is the same bytes, whatever protojson does about blanks in this build; every field is there.
func TestJSON(t *testing.T) {
	spec, err := structpb.NewStruct(map[string]any{"b": 1, "a": []any{"<&>", true, nil}, "c": map[string]any{"z": 0.5, "y": "ü"}})
	must(t, err)
	r := &operatorv1.Resource{
		ApiVersion: "evenkeel/v1", Kind: "Service", Spec: spec,
		Metadata: &operatorv1.Metadata{Name: "checkout", Labels: map[string]string{"z": "1", "a": "2", "m": "3"}},
	}
	const want = `{"apiVersion":"evenkeel/v1","kind":"Service","metadata":{"name":"checkout","labels":{"a":"2","m":"3","z":"1"},"annotations":{},"renamedFrom":""},` +
		`"spec":{"a":["<&>",true,null],"b":1,"c":{"y":"ü","z":0.5}},"revision":"","changedAt":"","changedBy":"","pricedAt":"","pricedBy":"","formerRefs":[]}`
	for range 100 {
		b, err := client.JSON(r)
		must(t, err)
		if string(b) != want {
			t.Fatalf("got  %s\nwant %s", b, want)
		}
	}
	b, err := client.JSON(&operatorv1.ListHostsResponse{})
	must(t, err)
	if string(b) != `{"hosts":[]}` {
		t.Errorf("an empty list is %s", b)
	}
	if b, err = client.JSON(&operatorv1.Node{Ref: "x"}); err != nil || bytes.Contains(b, []byte("score")) && !json.Valid(b) {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := client.JSON(&operatorv1.Resource{Kind: "\xff"}); err == nil {
		t.Error("a message that is not valid passed")
	}
}

// serve answers GetVersion with the token that it was sent, under a certificate made by make.
func serve(t *testing.T, certificate func(*identity.CA) (conf credentials.TransportCredentials)) (*identity.CA, grpc.DialOption) {
	t.Helper()
	ca, err := identity.NewCA("keel-1", time.Now())
	must(t, err)
	network := memnet.New()
	l, err := network.Host("10.0.0.1").Listen("10.0.0.1:8425")
	must(t, err)
	server := grpc.NewServer(grpc.Creds(certificate(ca)))
	operatorv1.RegisterControlServiceServer(server, echo{})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-ended; network.Close() })
	return ca, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return network.Host("operator").Dial(ctx, address)
	})
}

type echo struct {
	operatorv1.UnimplementedControlServiceServer
}

func (echo) GetVersion(ctx context.Context, _ *operatorv1.GetVersionRequest) (*operatorv1.VersionResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return &operatorv1.VersionResponse{Version: strings.Join(md.Get("authorization"), ",")}, nil
}

func collectorOf(t *testing.T) func(*identity.CA) credentials.TransportCredentials {
	return func(ca *identity.CA) credentials.TransportCredentials {
		// Its certificate names another host than the address: who it is counts, not where.
		source, err := identity.NewServerSource(ca, "c1", []string{"keel.example"}, time.Now)
		must(t, err)
		return credentials.NewTLS(identity.PublicTLS(source.Get))
	}
}

func TestNewTalksToItsClusterOnly(t *testing.T) {
	ca, dialer := serve(t, collectorOf(t))
	conf := client.Context{Address: "10.0.0.1:8425", CA: string(identity.EncodeCertificates(ca.DER())), Token: "secret"}
	c, err := client.New(conf, dialer)
	must(t, err)
	defer c.Close()
	v, err := c.Control.GetVersion(t.Context(), &operatorv1.GetVersionRequest{})
	if err != nil || v.Version != "Bearer secret" {
		t.Errorf("%v, %v", v, err)
	}

	other, err := identity.NewCA("keel-2", time.Now())
	must(t, err)
	conf.CA = string(identity.EncodeCertificates(other.DER()))
	stranger, err := client.New(conf, dialer)
	must(t, err)
	defer stranger.Close()
	if v, err := stranger.Control.GetVersion(t.Context(), &operatorv1.GetVersionRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a server of another cluster answered: %v, %v", v, err)
	}
	for _, bad := range []string{"", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		conf.CA = bad
		if _, err := client.New(conf); err == nil || !strings.Contains(err.Error(), "evenkeel login") {
			t.Errorf("CA %q: %v", bad, err)
		}
	}
}
