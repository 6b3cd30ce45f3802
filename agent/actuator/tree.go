package actuator

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Tree is an action on every task of a process tree: process.affinity, process.nice and their like. Each task keeps the
// setting that it had for itself; what is born during the action gets what its parent had.
type Tree[T comparable] struct {
	knob   knob[T]
	proc   procfs
	groups *cgroups
	self   int
}

// knob is one setting of a task. T is the setting as the kernel has it.
type knob[T comparable] interface {
	// able says why no tree on this host can be changed, nil if one can.
	able(procfs) error
	// fit says why one process could not be given back what it had.
	fit(p procfs, pid int) error
	// whole says why there is nothing to do to a tree with these settings together.
	whole(all T) error
	// threads reports whether each thread has its own.
	threads() bool
	get(tid int) (T, error)
	set(tid int, v T) error
	// wanted is what a value of the action makes of what a task had; all is that of the whole tree.
	wanted(prior, all T, value int64) T
	// join adds one more task's to that of the whole tree; empty is that of none.
	join(all, one T) T
	empty() T
	// neutral is the action's value that leaves all as it was.
	neutral(all T) int64
	// shown is what people read of a value that was set.
	shown(all T, value int64) string
	text(T) string
	parse(string) (T, error)
	// prefix marks what is held, so that two different settings of one process do not exclude each other.
	prefix() string
}

func newTree[T comparable](k knob[T], p procfs, g *cgroups) *Tree[T] {
	return &Tree[T]{knob: k, proc: p, groups: g, self: os.Getpid()}
}

// task names one thread of one process for the length of a boot.
type task struct {
	pid   int
	start uint64
	tid   int
}

// tree is the Data of a Tree's State.
type tree[T comparable] struct {
	knob      knob[T]
	since     uint64 // start time, in ticks, of the youngest process when the prior was read
	allowed   T      // of the whole tree together
	sessions  map[int]bool
	ancestors map[int]bool // of the roots: where orphans of the tree end up
	uids      map[uint32]bool
	tasks     map[task]T
}

// How often a tree is walked before giving up, and how a revert makes sure: a fork that was under way while its parent
// was given back its mask appears a moment later with ours.
const (
	mostPasses  = 400
	cleanPasses = 4
	passPause   = 15 * time.Millisecond
)

// Able says why no tree on this host can be changed, nil if one can.
func (a *Tree[T]) Able() error { return a.knob.able(a.proc) }

// Prior finds the tree and reads the mask of every task.
func (a *Tree[T]) Prior(_ context.Context, target command.Target) (State, error) {
	all, err := a.proc.processes()
	if err != nil {
		return State{}, err
	}
	roots, err := a.roots(target, all)
	if err != nil {
		return State{}, err
	}
	t := &tree[T]{knob: a.knob, allowed: a.knob.empty(), sessions: map[int]bool{}, ancestors: map[int]bool{1: true}, uids: map[uint32]bool{}, tasks: map[task]T{}}
	members := a.descend(all, roots)
	for _, p := range all {
		t.since = max(t.since, p.start)
	}
	for _, pid := range roots {
		seen := map[int]bool{}
		for at := all[pid].ppid; at > 0 && !seen[at]; at = all[at].ppid {
			seen[at] = true
			if !members[at] {
				t.ancestors[at] = true
			}
		}
	}
	for pid := range members {
		p := all[pid]
		uid, ok := a.proc.uid(pid)
		if !ok {
			continue
		}
		if err := a.knob.fit(a.proc, pid); gone(err) {
			continue
		} else if err != nil {
			return State{}, err
		}
		t.uids[uid] = true
		t.sessions[p.session] = true
		for _, tid := range a.tasks(pid) {
			if one, err := a.knob.get(tid); err == nil {
				t.tasks[task{pid, p.start, tid}] = one
				t.allowed = a.knob.join(t.allowed, one)
			}
		}
	}
	if len(t.tasks) == 0 {
		return State{}, command.Refuse(command.ReasonNoTarget, "no process of %s is running", target)
	}
	if err := a.knob.whole(t.allowed); err != nil {
		return State{}, err
	}
	return t.state()
}

// Write narrows every task, walking the tree again until a walk finds nothing to change.
func (a *Tree[T]) Write(ctx context.Context, c Change) (State, string, error) {
	t, err := a.parse(c.State)
	if err != nil {
		return c.State, "", err
	}
	for range mostPasses {
		sum, err := a.pass(c, t, true)
		if err != nil {
			return c.State, "", err
		}
		if sum.changed == 0 {
			s, err := t.state()
			if err == nil && sum.standing() == Gone {
				err = command.Refuse(command.ReasonNoTarget, "all processes of %s ended", c.Target)
			}
			return s, a.knob.shown(t.allowed, c.Value()), err
		}
		if err := ctx.Err(); err != nil {
			return c.State, "", err
		}
	}
	return c.State, "", command.Refuse(command.ReasonNoEffect, "tasks of %s keep another setting after %d attempts", c.Target, mostPasses)
}

// Look compares the tree with a change and writes nothing.
func (a *Tree[T]) Look(_ context.Context, c Change) (Standing, string, error) {
	t, err := a.parse(c.State)
	if err != nil {
		return 0, "", err
	}
	var sum summary[T]
	if err := a.each(c, t, func(_ task, prior, now T) error {
		sum.count(t, c.Values, prior, now)
		return nil
	}); err != nil {
		return 0, "", err
	}
	return sum.standing(), a.knob.text(sum.seen), nil
}

// Restore gives every task that carries a mask of ours its prior one back: newborns get their parent's. It walks the
// tree until several walks in a row find nothing, because a fork under way escapes a single one.
func (a *Tree[T]) Restore(_ context.Context, c Change) (Standing, string, error) {
	t, err := a.parse(c.State)
	if err != nil {
		return 0, "", err
	}
	clean := 0
	for range mostPasses {
		sum, err := a.pass(c, t, false)
		if err != nil {
			return 0, "", err
		}
		if sum.changed != 0 {
			clean = 0
			continue
		}
		if clean++; clean < cleanPasses {
			time.Sleep(passPause)
			continue
		}
		switch {
		case sum.other > 0:
			return Other, a.knob.text(sum.seen), nil
		case sum.standing() == Gone:
			return Gone, "", nil
		}
		return Before, a.knob.text(sum.seen), nil
	}
	return Mixed, "", fmt.Errorf("tasks of %s still carry our setting after %d attempts", c.Target, mostPasses)
}

// Tend takes in what was born since: it notes the prior masks of new tasks, narrows those that escaped, and forgets the
// dead. It reports whether the state changed and should be kept anew.
func (a *Tree[T]) Tend(_ context.Context, c Change) (State, bool, error) {
	t, err := a.parse(c.State)
	if err != nil {
		return c.State, false, err
	}
	had := maps.Clone(t.tasks)
	live := map[task]bool{}
	if err := a.each(c, t, func(k task, prior, now T) error {
		live[k] = true
		return t.narrow(c, k, prior, now, nil)
	}); err != nil {
		return c.State, false, err
	}
	for k := range t.tasks {
		if !live[k] {
			delete(t.tasks, k)
		}
	}
	if maps.Equal(had, t.tasks) {
		return c.State, false, nil
	}
	s, err := t.state()
	return s, err == nil, err
}

// summary counts the tasks of one walk by what they carry.
type summary[T comparable] struct {
	changed                          int
	same, ours, older, before, other int // same: our value leaves the prior mask as it was
	seen                             T
}

func (s *summary[T]) count(t *tree[T], values []int64, prior, now T) {
	s.seen = t.knob.join(s.seen, now)
	last := len(values) - 1
	want := t.wanted(prior, values[last])
	switch {
	case now == want && now == prior:
		s.same++
	case now == want:
		s.ours++
	case now == prior:
		s.before++
	case t.isOurs(prior, now, values[:last]):
		s.older++
	default:
		s.other++
	}
}

func (s *summary[T]) standing() Standing {
	if s.same+s.ours+s.older+s.before+s.other == 0 {
		return Gone
	}
	return standingOf(s.ours, s.older, s.before, s.other)
}

// pass walks the tree once. Forward it narrows, backward it gives back.
func (a *Tree[T]) pass(c Change, t *tree[T], forward bool) (summary[T], error) {
	var sum summary[T]
	err := a.each(c, t, func(k task, prior, now T) error {
		sum.count(t, c.Values, prior, now)
		if forward {
			return t.narrow(c, k, prior, now, &sum.changed)
		}
		if now != prior && t.isOurs(prior, now, c.Values) {
			sum.changed++
			return setTask(a.knob, k.tid, prior)
		}
		return nil
	})
	return sum, err
}

func (t *tree[T]) narrow(c Change, k task, prior, now T, changed *int) error {
	want := t.wanted(prior, c.Value())
	if now == want || now != prior && !t.isOurs(prior, now, c.Values) {
		return nil
	}
	if changed != nil {
		*changed++
	}
	return setTask(t.knob, k.tid, want)
}

func setTask[T comparable](k knob[T], tid int, v T) error {
	if err := k.set(tid, v); err != nil && !gone(err) {
		return fmt.Errorf("cannot set task %d to %s: %w", tid, k.text(v), err)
	}
	return nil
}

// tasks lists what of a process has a setting of its own.
func (a *Tree[T]) tasks(pid int) []int {
	if a.knob.threads() {
		return a.proc.tasks(pid)
	}
	return []int{pid}
}

// each calls do for every task of the tree that can be read, with the mask that it had before us. New tasks enter the
// tree with the prior mask of their process, else of their parent, else of the tree, if they carry that mask or ours;
// any other mask is their own.
func (a *Tree[T]) each(c Change, t *tree[T], do func(k task, prior, now T) error) error {
	all, err := a.proc.processes()
	if err != nil {
		return err
	}
	roots, err := a.roots(c.Target, all)
	if err != nil && command.ReasonOf(err) != command.ReasonNoTarget {
		return err // a name that is gone leaves the tasks that are known
	}
	known := map[int]T{} // prior of the main thread, or of any, by pid
	for k, mask := range t.tasks {
		if p, ok := all[k.pid]; ok && p.start == k.start {
			roots = append(roots, k.pid)
			if _, has := known[k.pid]; !has || k.tid == k.pid {
				known[k.pid] = mask
			}
		}
	}
	members := a.descend(all, roots)
	for pid, prior := range a.strays(c, t, all, members) {
		known[pid] = prior
		for p := range a.descend(all, []int{pid}) {
			members[p] = true
		}
	}
	order := slices.SortedFunc(maps.Keys(members), func(x, y int) int { return cmpStart(all[x], all[y]) }) // parents first
	for _, pid := range order {
		p := all[pid]
		fallback, ok := known[pid]
		if !ok {
			if fallback, ok = known[p.ppid]; !ok {
				fallback = t.allowed
			}
		}
		for _, tid := range a.tasks(pid) {
			k := task{pid, p.start, tid}
			now, err := a.knob.get(tid)
			if err != nil {
				continue
			}
			prior, has := t.tasks[k]
			if !has {
				prior = now
				if now == fallback || t.isOurs(fallback, now, c.Values) {
					prior = fallback
				}
				t.tasks[k] = prior
			}
			if _, has := known[pid]; !has || tid == pid {
				known[pid] = prior
			}
			if err := do(k, prior, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func cmpStart(a, b process) int {
	switch {
	case a.start != b.start && a.start < b.start:
		return -1
	case a.start != b.start:
		return 1
	}
	return a.pid - b.pid
}

func (t *tree[T]) wanted(prior T, value int64) T { return t.knob.wanted(prior, t.allowed, value) }

func (t *tree[T]) isOurs(prior, now T, values []int64) bool {
	return slices.ContainsFunc(values, func(v int64) bool { return t.wanted(prior, v) == now })
}
