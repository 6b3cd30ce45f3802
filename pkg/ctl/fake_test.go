package ctl_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/evenkeel/evenkeel/pkg/client"
	"github.com/evenkeel/evenkeel/pkg/ctl"
	"github.com/evenkeel/evenkeel/pkg/identity"
	"github.com/evenkeel/evenkeel/pkg/memnet"
	"github.com/evenkeel/evenkeel/pkg/version"
)

var update = flag.Bool("update", false, "write the golden files anew")

const address = "127.0.0.1:8425" // on a network in memory

// fake is a collector that answers every method with what the test says, over TLS on a network in memory.
type fake struct {
	*testing.T
	net    *memnet.Network
	ca     *identity.CA
	home   string
	reason ctl.Reason
	env    map[string]string

	mu       sync.Mutex
	replies  map[string][]proto.Message // by full method
	first    map[string]proto.Message   // before replies, and once
	errors   map[string]error
	requests []proto.Message
	waiting  bool // streams stay open after their replies
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{T: t, net: memnet.New(), home: t.TempDir(), replies: map[string][]proto.Message{}, first: map[string]proto.Message{}, errors: map[string]error{}}
	f.env = map[string]string{"HOME": f.home, "XDG_CONFIG_HOME": filepath.Join(f.home, "config")}
	var err error
	f.ca, err = identity.NewCA("keel-1", time.Now())
	must(t, err)
	source, err := identity.NewServerSource(f.ca, "c1", []string{"127.0.0.1"}, time.Now)
	must(t, err)
	l, err := f.net.Host("127.0.0.1").Listen(address)
	must(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.PublicTLS(source.Get))), grpc.UnknownServiceHandler(f.answer))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
		f.net.Close()
	})
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fake) answer(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method[1:], "/", ".")))
	if err != nil {
		return status.Error(codes.Unimplemented, err.Error())
	}
	in, err := protoregistry.GlobalTypes.FindMessageByName(d.(protoreflect.MethodDescriptor).Input().FullName())
	if err != nil {
		return err
	}
	req := in.New().Interface()
	if err := s.RecvMsg(req); err != nil {
		return err
	}
	if md, _ := metadata.FromIncomingContext(s.Context()); len(md.Get("authorization")) != 1 || md.Get("authorization")[0] != "Bearer good" {
		return status.Error(codes.Unauthenticated, "no usable token was sent: run evenkeel login with a token that is usable")
	}
	f.mu.Lock()
	f.requests = append(f.requests, req)
	replies, fails, waiting := f.replies[method], f.errors[method], f.waiting
	if m := f.first[method]; m != nil {
		replies = []proto.Message{m}
		delete(f.first, method)
	}
	f.mu.Unlock()
	if fails != nil {
		return fails
	}
	for _, m := range replies {
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
	if waiting {
		<-s.Context().Done()
		return status.FromContextError(s.Context().Err()).Err()
	}
	return nil
}

// asked returns the requests since the last call, in the text that a golden file can hold.
func (f *fake) asked() []proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.requests
	f.requests = nil
	return r
}

func (f *fake) reply(method string, m ...proto.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replies[method] = m
}

func (f *fake) fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors[method] = err
}

// context writes a context file and returns its path.
func (f *fake) context(name string, c client.Context) string {
	f.Helper()
	path := filepath.Join(f.home, name)
	must(f.T, client.Save(path, c))
	return path
}

func (f *fake) good() client.Context {
	return client.Context{Address: address, CA: string(identity.EncodeCertificates(f.ca.DER())), Token: "good"}
}

type result struct {
	out, err string
	code     int
}

func (f *fake) run(args ...string) result { return f.runWith(f.Context(), "", args...) }

func (f *fake) runWith(ctx context.Context, stdin string, args ...string) result {
	var out, errs bytes.Buffer
	code := ctl.Run(ctx, args, ctl.Env{
		In: strings.NewReader(stdin), Out: &out, Err: &errs, Getenv: func(k string) string { return f.env[k] }, Reason: f.reason,
		Dial: func(ctx context.Context, a string) (net.Conn, error) { return f.net.Host("operator").Dial(ctx, a) },
	})
	return result{f.scrub(out.String()), f.scrub(errs.String()), code}
}

// scrub replaces what differs between machines.
func (f *fake) scrub(s string) string {
	s = strings.ReplaceAll(s, version.Line("evenkeel"), "evenkeel VERSION")
	s = strings.ReplaceAll(s, f.ca.Pin().String(), "sha256:PIN")
	return strings.ReplaceAll(s, f.home, "HOME")
}

// golden compares text with a file of testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is not there: run the tests with -update", path)
	}
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", path, diff(string(want), got))
	}
}

// diff shows the lines that are in only one of two texts.
func diff(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, c string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			c = g[i]
		}
		if a != c {
			fmt.Fprintf(&b, "line %d\n- %s\n+ %s\n", i+1, a, c)
		}
	}
	return b.String()
}

// transcript runs commands and writes what each prints, as a terminal would show it.
func (f *fake) transcript(lines ...string) string {
	f.Helper()
	var b strings.Builder
	for _, line := range lines {
		r := f.run(words(line)...)
		fmt.Fprintf(&b, "$ evenkeel %s\n%s", line, r.out)
		for l := range strings.Lines(r.err) {
			b.WriteString("2> " + l)
		}
		if r.code != 0 {
			fmt.Fprintf(&b, "exit %d\n", r.code)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// words splits a line at blanks that are not within single quotes.
func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
			continue
		}
		all = append(all, strings.Fields(part)...)
	}
	return all
}
