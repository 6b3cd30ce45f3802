package api

import (
	"context"
	"time"

	operatorv1 "github.com/evenkeel/evenkeel/proto/evenkeel/operator/v1"
)

// Key is a key that signs, signed, or may approve commands.
type Key struct {
	ID                  string // as command.KeyID has it
	Use                 string // collector | approver | unknown
	Owner               string // name of the collector
	NotBefore, NotAfter time.Time
	RevokedAt           time.Time // zero: it is believed
	RevokedBy, Reason   string
	Hosts               []string // connected hosts whose actors have confirmed the revocation
}

// Keys knows the keys that sign commands.
type Keys interface {
	Keys(ctx context.Context) ([]Key, error)
	// Revoke takes trust from a key on every host, for good. Revoking it again changes nothing.
	Revoke(ctx context.Context, id, by, reason string) (Key, error)
	// Rotate replaces the collector's own key and returns the new one.
	Rotate(ctx context.Context) (Key, error)
}

type keys struct {
	operatorv1.UnimplementedKeyServiceServer
	server *Server
}

func (k *keys) ListKeys(ctx context.Context, _ *operatorv1.ListKeysRequest) (*operatorv1.ListKeysResponse, error) {
	all, err := k.server.cfg.Keys.Keys(ctx)
	if err != nil {
		return nil, k.server.failed(err)
	}
	out := &operatorv1.ListKeysResponse{}
	for _, key := range all {
		out.Keys = append(out.Keys, keyTo(key))
	}
	return out, nil
}

func (k *keys) RevokeKey(ctx context.Context, r *operatorv1.RevokeKeyRequest) (*operatorv1.Key, error) {
	key, err := change(ctx, k.server, "revoke key", "key/"+r.Id, r.Reason, func() (Key, error) {
		return k.server.cfg.Keys.Revoke(ctx, r.Id, who(ctx).Name, r.Reason)
	})
	if err != nil {
		return nil, err
	}
	return keyTo(key), nil
}

func (k *keys) RotateKey(ctx context.Context, r *operatorv1.RotateKeyRequest) (*operatorv1.Key, error) {
	key, err := change(ctx, k.server, "rotate key", "key", r.Reason, func() (Key, error) { return k.server.cfg.Keys.Rotate(ctx) })
	if err != nil {
		return nil, err
	}
	return keyTo(key), nil
}

func keyTo(k Key) *operatorv1.Key {
	return &operatorv1.Key{
		Id: k.ID, Use: k.Use, Owner: k.Owner, NotBefore: stamp(k.NotBefore), NotAfter: stamp(k.NotAfter), RevokedAt: stamp(k.RevokedAt),
		RevokedBy: k.RevokedBy, Reason: k.Reason, Hosts: k.Hosts,
	}
}
