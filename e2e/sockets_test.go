//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/evenkeel/evenkeel/e2e/rig"
	agentv1 "github.com/evenkeel/evenkeel/proto/evenkeel/agent/v1"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// nobody is the other user.
const nobody = 65534

// endpoint is a listening socket. One that serves HTTP or gRPC is told by trying.
type endpoint struct {
	Network string `json:"network"` // tcp or unix
	Address string `json:"address"` // "@" first for an abstract one
	Owner   string `json:"owner"`
}

// knock is what the other user found at an endpoint.
type knock struct {
	endpoint
	Kind    string   `json:"kind"`    // what it turned out to be
	Refused []string `json:"refused"` // each thing tried and how it was refused
	Allowed []string `json:"allowed"` // each thing that worked and should not
	Public  []string `json:"public"`  // what answers anybody by design: alive and ready
}

// Another user of the machine who connects to every listening socket of collector, agent and actor, TCP, unix and
// abstract, gets nothing: no handshake without a client certificate on the agents' port, no gRPC method and no REST path
// without a token, no byte from a unix socket. Only whether the collector is alive and ready is anybody's to know.
func TestSocketsRefuseOtherUsers(t *testing.T) {
	c := rig.Dev(t, "host-1", "--actor")
	api := c.API(t)
	reaches(t, api, "host-1", 30*time.Second, "connected")

	pids := map[string]int{"collector": c.PID()}
	for _, who := range []string{"agent", "actor"} {
		pid, err := strconv.Atoi(rig.Read(t, filepath.Join(c.Folder, who+".pid")))
		if err != nil {
			t.Fatal(err)
		}
		pids[who] = pid
	}
	var all []endpoint
	for who, pid := range pids {
		found, err := listening(who, pid)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	count := map[string]int{}
	for _, e := range all {
		count[e.Owner+" "+e.Network]++
	}
	// Exactly these, so that a new door is noticed here: agents, operators and HTTP; the state engine; the two local ones.
	if want := map[string]int{"collector tcp": 3, "collector unix": 1, "agent unix": 1, "actor unix": 1}; fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("listening sockets: %v, want %v: %v", count, want, all)
	}

	dir := rig.Folder(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rig.Copy(t, self, filepath.Join(dir, "knock"))
	task, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := rig.Helper(t, "knock")
	cmd.Path, cmd.Args, cmd.Dir = filepath.Join(dir, "knock"), []string{"knock"}, "/"
	cmd.Stdin = bytes.NewReader(task)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Env = rig.Marked(cmd.Env)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("the other user's program: %v\n%s", err, errs.String())
	}
	var knocks []knock
	if err := json.Unmarshal(out.Bytes(), &knocks); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	kinds := map[string]int{}
	for _, k := range knocks {
		kinds[k.Kind]++
		t.Logf("%s %s of %s: %s, %d ways refused", k.Network, k.Address, k.Owner, k.Kind, len(k.Refused))
		for _, x := range k.Allowed {
			t.Errorf("%s %s of %s let another user in: %s", k.Network, k.Address, k.Owner, x)
		}
		if len(k.Refused) == 0 {
			t.Errorf("%s %s of %s: nothing was refused", k.Network, k.Address, k.Owner)
		}
		slices.Sort(k.Public)
		if k.Kind == "http" && fmt.Sprint(k.Public) != "[/healthz /readyz]" {
			t.Errorf("%s answers anybody on %v", k.Address, k.Public)
		}
	}
	if want := map[string]int{"agents": 1, "grpc": 1, "http": 1, "unix": 3}; fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("the sockets turned out to be %v, want %v", kinds, want)
	}
	for _, who := range []string{"agent", "actor"} { // and nobody fell over
		if err := syscall.Kill(pids[who], 0); err != nil {
			t.Errorf("the %s ended: %v", who, err)
		}
	}
}

// listening finds a process's listening sockets by the inodes that it holds open.
func listening(owner string, pid int) ([]endpoint, error) {
	inodes := map[string]bool{}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if err != nil {
			continue
		}
		if rest, ok := strings.CutPrefix(link, "socket:["); ok {
			inodes[strings.TrimSuffix(rest, "]")] = true
		}
	}
	var out []endpoint
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6", "unix"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // no such protocol in this kernel
		}
		s := bufio.NewScanner(f)
		s.Scan()
		for s.Scan() {
			x := strings.Fields(s.Text())
			switch {
			case table == "unix" && len(x) >= 7 && inodes[x[6]]:
				const accepting = 0x10000
				if flags, err := strconv.ParseUint(x[3], 16, 32); err != nil || flags&accepting == 0 {
					continue
				}
				address := ""
				if len(x) > 7 {
					address = x[7]
				}
				out = append(out, endpoint{"unix", address, owner})
			case strings.HasPrefix(table, "tcp") && len(x) >= 10 && inodes[x[9]] && x[3] == "0A",
				strings.HasPrefix(table, "udp") && len(x) >= 10 && inodes[x[9]]:
				address, err := socketAddress(x[1])
				if err != nil {
					f.Close()
					return nil, err
				}
				out = append(out, endpoint{table[:3], address, owner})
			}
		}
		f.Close()
	}
	return out, nil
}

// socketAddress reads "0100007F:1F90".
func socketAddress(s string) (string, error) {
	ip, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(ip)
	if err != nil {
		return "", err
	}
	for i := 0; i+3 < len(b); i += 4 { // words in the machine's order
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	n, err := strconv.ParseUint(port, 16, 16)
	return net.JoinHostPort(net.IP(b).String(), strconv.FormatUint(n, 10)), err
}

// knocking is the other user's program: endpoints on standard input, what came of them on standard output.
func knocking([]string) error {
	if os.Getuid() != nobody {
		return fmt.Errorf("runs as uid %d", os.Getuid())
	}
	var all []endpoint
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		return err
	}
	var out []knock
	for _, e := range all {
		k := knock{endpoint: e}
		switch e.Network {
		case "unix":
			k.unix()
		default:
			k.tcp()
		}
		out = append(out, k)
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func (k *knock) refused(what string, how any) {
	k.Refused = append(k.Refused, fmt.Sprintf("%s: %v", what, how))
}

func (k *knock) allowed(what string, how any) {
	k.Allowed = append(k.Allowed, fmt.Sprintf("%s: %v", what, how))
}

// unix connects and speaks; a socket that can be connected to has to hang up without a byte.
func (k *knock) unix() {
	k.Kind = "unix"
	conn, err := net.DialTimeout("unix", k.Address, 2*time.Second)
	if err != nil {
		k.refused("connect", err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	// An ActorFrame that asks for capabilities; for others it is noise.
	_, _ = conn.Write([]byte{0, 0, 0, 2, 0x32, 0})
	b := make([]byte, 256)
	n, err := conn.Read(b)
	switch {
	case n > 0:
		k.allowed("read", strconv.Quote(string(b[:n])))
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		k.allowed("stay connected", err)
	default:
		k.refused("read", err)
	}
}

// tcp tells what speaks there and tries all that it offers.
func (k *knock) tcp() {
	conn, err := net.DialTimeout("tcp", k.Address, 2*time.Second)
	if err != nil {
		k.refused("connect", err)
		return
	}
	conn.Close()
	tlsConfig := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}} // the other user has no reason to verify
	secure, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", k.Address, tlsConfig)
	if err != nil {
		k.http()
		return
	}
	// With TLS 1.3 the server's refusal of a missing certificate comes after the client's own handshake is done.
	_ = secure.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = secure.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	if err == nil {
		_, err = secure.Read(make([]byte, 1))
	}
	secure.Close()
	if err != nil {
		k.Kind = "agents"
		k.refused("handshake without a certificate", err)
		if !strings.Contains(err.Error(), "certificate") {
			k.allowed("end in another way than for want of a certificate", err)
		}
		k.methods(tlsConfig, agentv1.File_evenkeel_agent_v1_agent_proto)
		return
	}
	k.Kind = "grpc"
	k.methods(tlsConfig, operatorv1.File_evenkeel_operator_v1_operator_proto, agentv1.File_evenkeel_agent_v1_agent_proto)
}

// methods calls every method of every service by name, without and with an invented token.
func (k *knock) methods(config *tls.Config, files ...protoreflect.FileDescriptor) {
	conn, err := grpc.NewClient(k.Address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		k.refused("client", err)
		return
	}
	defer conn.Close()
	for _, file := range files {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := fmt.Sprintf("/%s/%s", service.FullName(), m.Name())
				for _, token := range []string{"", "invented"} {
					k.method(conn, name, token, m)
				}
			}
		}
	}
	k.method(conn, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", nil)
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

func (k *knock) method(conn *grpc.ClientConn, name, token string, m protoreflect.MethodDescriptor) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var opts []grpc.CallOption
	if token != "" {
		opts = append(opts, grpc.PerRPCCredentials(bearer(token)))
	}
	var in, out proto.Message = &agentv1.AckWanted{}, &agentv1.AckWanted{}
	if m != nil {
		in, out = dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name, opts...)
	if err == nil {
		if err = stream.SendMsg(in); err == nil || errors.Is(err, io.EOF) {
			_ = stream.CloseSend()
			err = stream.RecvMsg(out)
		}
	}
	switch code := status.Code(err); {
	case err == nil || errors.Is(err, io.EOF):
		k.allowed("call "+name, out)
	case code == codes.Unauthenticated, code == codes.PermissionDenied, code == codes.Unimplemented,
		k.Kind == "agents" && code == codes.Unavailable,
		// Enrolling is open to whoever has a join token; without one it is an argument that is wrong.
		strings.HasSuffix(name, "/Enrol") && code == codes.InvalidArgument:
		k.refused("call "+name, code)
	default:
		k.allowed("call "+name+" and be refused otherwise than for want of authority", err)
	}
}

// http asks for every path of the REST interface, and for some that should not be.
func (k *knock) http() {
	k.Kind = "http"
	client := &http.Client{Timeout: 5 * time.Second}
	paths := []string{
		"GET /metrics", "GET /api/v1/openapi.json", "GET /api/v1/", "GET /api/v1/nothing", "GET //api/v1/hosts", "GET /api/v1/../v1/hosts", "GET /debug/pprof/", "GET /prometheus/api/v1/query?query=up",
		"POST /api/v1/hosts", "GET /api/v1/hosts?token=x", "GET /healthz", "GET /readyz",
	}
	for i := range operatorv1.File_evenkeel_operator_v1_operator_proto.Services().Len() {
		service := operatorv1.File_evenkeel_operator_v1_operator_proto.Services().Get(i)
		for j := range service.Methods().Len() {
			if p, ok := restPaths[string(service.Methods().Get(j).FullName())]; ok {
				paths = append(paths, p)
			} else {
				k.allowed("go untried", service.Methods().Get(j).FullName())
			}
		}
	}
	for _, p := range paths {
		method, path, _ := strings.Cut(p, " ")
		for _, token := range []string{"", "invented"} {
			r, err := http.NewRequest(method, "http://"+k.Address+path, strings.NewReader("{}"))
			if err != nil {
				k.allowed(p, err)
				continue
			}
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			r.Header.Set("Content-Type", "application/json")
			answer, err := client.Do(r)
			if err != nil {
				k.refused(p, err)
				continue
			}
			answer.Body.Close()
			switch {
			case path == "/healthz" || path == "/readyz":
				if token == "" && answer.StatusCode == http.StatusOK {
					k.Public = append(k.Public, path)
				}
			case slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}, answer.StatusCode),
				strings.Contains(path, "?token=") && answer.StatusCode == http.StatusBadRequest: // no such parameter, whoever asks
				k.refused(p, answer.Status)
			default:
				k.allowed(p, answer.Status)
			}
		}
	}
}
