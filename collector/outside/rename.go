package outside

import "github.com/evenkeel/evenkeel/pkg/manifest"

// Rename has what was said of nodes follow them to what they are called now: signals, levels that were set by hand, and answers. Call it
// before Draw with the map that has the new names. Where something was said under the new name already, that stays.
func (b *Board) Rename(name func(manifest.Ref) manifest.Ref) {
	for ref, h := range b.hands {
		now := name(ref)
		if now == ref {
			continue
		}
		b.Unset(ref)
		delete(b.back, ref)
		b.write(handKey(ref), nil)
		if _, taken := b.hands[now]; !taken {
			h.Ref = now
			b.hands[now], b.dirty[now], b.sources = h, true, nil
			b.write(handKey(now), h)
		}
	}
	for target, sources := range b.signals {
		ref, isRef := targetRef(target)
		if !isRef || name(ref) == ref {
			continue
		}
		now := string(name(ref))
		for source, s := range sources {
			b.drop(target, source)
			if _, taken := b.signals[now][source]; taken {
				continue
			}
			s.Target = now
			if b.signals[now] == nil {
				b.signals[now] = map[string]Signal{}
			}
			b.signals[now][source] = s
			b.count++
			b.write(signalKey(now, source), s)
			b.touchTarget(now)
		}
		b.sources = nil
	}
	for at, a := range b.polled {
		if now := name(at.ref); now != at.ref {
			delete(b.polled, at)
			b.polled[place{now, at.source}] = a
		}
	}
}
