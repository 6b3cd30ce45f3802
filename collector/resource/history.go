package resource

import (
	"reflect"
	"slices"

	"github.com/evenkeel/evenkeel/pkg/manifest"
)

// follow keeps what a resource brings along from what it was before: by whom its value was set, while that stays the same, and
// its former names.
func follow(before Stored, known bool, s Stored) Stored {
	if known {
		s.Former = before.Former
		if old := before.Resource.Ref(); old != s.Resource.Ref() {
			s.Former = append(slices.Clone(before.Former), old)
		}
	}
	value := valueOf(s.Resource)
	switch {
	case value == nil:
	case known && reflect.DeepEqual(value, valueOf(before.Resource)):
		s.PricedAt, s.PricedBy = before.PricedAt, before.PricedBy
		if s.PricedAt.IsZero() { // stored before this was kept
			s.PricedAt, s.PricedBy = before.ChangedAt, before.ChangedBy
		}
	default:
		s.PricedAt, s.PricedBy = s.ChangedAt, s.ChangedBy
	}
	return s
}

func valueOf(r *manifest.Resource) *manifest.Value {
	if s, ok := r.Spec.(*manifest.Service); ok {
		return s.Value
	}
	return nil
}

// Names returns, by each former name of a resource, the names that it had afterwards, the present one last; as far as nobody else
// has the former name now.
func (k *Keeper) Names() map[manifest.Ref][]manifest.Ref {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[manifest.Ref][]manifest.Ref{}
	for ref, s := range k.stored {
		for i, former := range s.Former {
			if _, taken := k.stored[former]; !taken {
				out[former] = append(slices.Clone(s.Former[i+1:]), ref)
			}
		}
	}
	return out
}
