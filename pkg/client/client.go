// Package client is the Go client of the operators' API: it reads the context that says where a collector is and who asks,
// opens one verified connection, and writes messages as the API's JSON.
//
// It adds no behaviour of its own: every call is the generated one. It never sends a token to a server whose CA does not
// match the context.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/evenkeel/evenkeel/pkg/identity"
	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Context says which collector to ask, how to know it, and as whom. It is kept in a file that only its owner may read.
type Context struct {
	Address string `json:"address"` // host:port of the operators' gRPC port
	CA      string `json:"ca"`      // PEM of the collector's CA
	Token   string `json:"token"`   // of an operator
	REST    string `json:"rest,omitempty"`
}

// ErrNoContext is returned by Find when no context file is there.
var ErrNoContext = errors.New("no collector is known here: run evenkeel login, or name a context file with --context or EVENKEEL_CONTEXT")

// Find returns the path of the context to use: the one named, else that of the environment, else the user's own, else
// the one that a collector on this machine wrote at its first start.
func Find(named string, getenv func(string) string) (string, error) {
	if named != "" {
		return named, nil
	}
	if env := getenv("EVENKEEL_CONTEXT"); env != "" {
		return env, nil
	}
	for _, path := range []string{UserPath(getenv), "/var/lib/evenkeel-collector/admin.json"} {
		if f, err := os.Open(path); err == nil {
			f.Close()
			return path, nil
		}
	}
	return "", ErrNoContext
}

// UserPath returns where the user's own context is kept.
func UserPath(getenv func(string) string) string {
	dir := getenv("XDG_CONFIG_HOME")
	if dir == "" {
		dir = filepath.Join(getenv("HOME"), ".config")
	}
	return filepath.Join(dir, "evenkeel", "context.json")
}

// Load reads a context file. It refuses one that others may read, since it holds a token.
func Load(path string) (Context, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Context{}, fmt.Errorf("cannot read context: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Context{}, fmt.Errorf("context %s may be read by others (mode %04o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Context{}, fmt.Errorf("cannot read context: %w", err)
	}
	var c Context
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Context{}, fmt.Errorf("context %s: %w", path, err)
	}
	if c.Address == "" || c.CA == "" || c.Token == "" {
		return Context{}, fmt.Errorf("context %s: address, ca and token are all needed", path)
	}
	return c, nil
}

// Save writes a context file with mode 0600, in a folder that it makes.
func Save(path string, c Context) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot save context: %w", err)
	}
	if err := replace(path, append(b, '\n')); err != nil {
		return fmt.Errorf("cannot save context: %w", err)
	}
	return nil
}

// replace puts a file with mode 0600 in the place of path, whole or not at all, also when the power goes.
func replace(path string, b []byte) error {
	temporary := path + ".new"
	// What an interrupted save left may have another mode.
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// Client is one connection to a collector. It may be used from many goroutines.
type Client struct {
	Resources operatorv1.ResourceServiceClient
	Hosts     operatorv1.HostServiceClient
	Map       operatorv1.MapServiceClient
	Incidents operatorv1.IncidentServiceClient
	Actions   operatorv1.ActionServiceClient
	Access    operatorv1.AccessServiceClient
	Queries   operatorv1.QueryServiceClient
	Control   operatorv1.ControlServiceClient
	Reason    operatorv1.ReasonServiceClient
	Changes   operatorv1.ChangeServiceClient
	Reviews   operatorv1.ReviewServiceClient
	Signals   operatorv1.SignalServiceClient
	Keys      operatorv1.KeyServiceClient

	conn *grpc.ClientConn
}

// New makes a client. It does not connect yet: the first call does. The other end must be a collector of the cluster whose
// CA the context holds, under whatever name it is reached. More options come after those of New; a dialer is one.
func New(c Context, more ...grpc.DialOption) (*Client, error) {
	trust, err := trustIn(c.CA)
	if err != nil {
		return nil, fmt.Errorf("the context's ca cannot be used: %w: run evenkeel login again", err)
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(identity.TrustTLS(trust, time.Now))),
		grpc.WithPerRPCCredentials(bearer(c.Token)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20)),
	}, more...)
	conn, err := grpc.NewClient(c.Address, options...)
	if err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", c.Address, err)
	}
	return &Client{
		Resources: operatorv1.NewResourceServiceClient(conn), Hosts: operatorv1.NewHostServiceClient(conn),
		Map: operatorv1.NewMapServiceClient(conn), Incidents: operatorv1.NewIncidentServiceClient(conn),
		Actions: operatorv1.NewActionServiceClient(conn), Access: operatorv1.NewAccessServiceClient(conn),
		Queries: operatorv1.NewQueryServiceClient(conn), Control: operatorv1.NewControlServiceClient(conn),
		Reason: operatorv1.NewReasonServiceClient(conn), Changes: operatorv1.NewChangeServiceClient(conn), Reviews: operatorv1.NewReviewServiceClient(conn),
		Signals: operatorv1.NewSignalServiceClient(conn), Keys: operatorv1.NewKeyServiceClient(conn), conn: conn,
	}, nil
}

func trustIn(ca string) (*identity.Trust, error) {
	certs, err := identity.DecodeCertificates([]byte(ca))
	if err != nil {
		return nil, err
	}
	return identity.NewTrust(certs[0].Raw)
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// JSON writes a message as the API does: every field, in the order of its definition, with no stray blanks, so that the
// same message is always the same bytes.
func JSON(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
