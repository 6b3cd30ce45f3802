package state

import (
	"errors"
	"fmt"
)

// The limits of a Store, the same for every engine so that what passes a test passes in production.
const (
	MaxValue    = 64 << 10 // bytes of one value
	MaxKey      = 1 << 10  // bytes of one key
	MaxTxnOps   = 1024     // conditions of one transaction, and writes of it
	MaxTxnBytes = 1 << 20  // keys and values of one transaction
	watchBuffer = 1024     // events that wait in the channel of one watch
)

// ErrInvalid is wrapped by errors about a request that no engine would take: a key that is empty or too long, a value or
// transaction that is too large, or a key written twice in one transaction.
var ErrInvalid = errors.New("invalid request to the state engine")

func checkTxn(conditions []Compare, ops []Op) error {
	if len(conditions) > MaxTxnOps || len(ops) > MaxTxnOps {
		return fmt.Errorf("%w: %d conditions and %d writes in one transaction, at most %d each", ErrInvalid, len(conditions), len(ops), MaxTxnOps)
	}
	total := 0
	for _, c := range conditions {
		if err := checkKey(c.Key); err != nil {
			return err
		}
		total += len(c.Key)
	}
	seen := make(map[string]struct{}, len(ops))
	for _, o := range ops {
		if err := checkKey(o.Key); err != nil {
			return err
		}
		if _, twice := seen[o.Key]; twice {
			return fmt.Errorf("%w: key %q is written twice in one transaction", ErrInvalid, o.Key)
		}
		seen[o.Key] = struct{}{}
		if len(o.Value) > MaxValue {
			return fmt.Errorf("%w: the value of %q has %d bytes, at most %d", ErrInvalid, o.Key, len(o.Value), MaxValue)
		}
		total += len(o.Key) + len(o.Value)
	}
	if total > MaxTxnBytes {
		return fmt.Errorf("%w: a transaction of %d bytes, at most %d", ErrInvalid, total, MaxTxnBytes)
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: a key of %d bytes, wanted 1 to %d", ErrInvalid, len(key), MaxKey)
	}
	return nil
}
