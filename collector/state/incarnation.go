package state

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/evenkeel/evenkeel/pkg/identity"
)

const (
	keyClusterID   = "cluster/id"
	keyIncarnation = "cluster/incarnation"
)

// Incarnation returns the id of the cluster and its incarnation, which is the first half of every fence. On an empty
// store it creates both; of several callers at once, one does and all return the same. A store that holds one without
// the other was damaged or half restored, and is an error.
func Incarnation(ctx context.Context, s Store) (clusterID string, incarnation uint64, err error) {
	for {
		kvs, _, err := s.List(ctx, "cluster/i") // both keys at one revision
		if err != nil {
			return "", 0, fmt.Errorf("cannot read the cluster's id: %w", err)
		}
		found := 0
		for _, kv := range kvs {
			var into any
			switch kv.Key {
			case keyClusterID:
				into = &clusterID
			case keyIncarnation:
				into = &incarnation
			default:
				continue
			}
			found++
			if err := json.Unmarshal(kv.Value, into); err != nil {
				return "", 0, fmt.Errorf("cannot read %s: %w", kv.Key, err)
			}
		}
		switch {
		case found == 1:
			return "", 0, fmt.Errorf("the state holds only one of %s and %s: restore it from a snapshot", keyClusterID, keyIncarnation)
		case found == 2 && (clusterID == "" || incarnation == 0):
			return "", 0, fmt.Errorf("the state holds an empty %s or %s: restore it from a snapshot", keyClusterID, keyIncarnation)
		case found == 2:
			return clusterID, incarnation, nil
		}
		id, err := json.Marshal(identity.NewClusterID())
		if err != nil {
			return "", 0, err
		}
		// Whether this one or another caller's creates them, the next round reads what is there.
		_, _, err = s.Txn(ctx, []Compare{{Key: keyClusterID}, {Key: keyIncarnation}}, []Op{
			{Key: keyClusterID, Value: id},
			{Key: keyIncarnation, Value: []byte("1")},
		})
		if err != nil {
			return "", 0, fmt.Errorf("cannot create the cluster's id: %w", err)
		}
	}
}
