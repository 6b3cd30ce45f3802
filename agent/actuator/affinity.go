package actuator

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// Affinity is process.affinity: it keeps a whole process tree on a percentage of the CPUs that the tree may use, taken
// from the highest numbers down. A task that had pinned itself keeps to its own CPUs as far as they overlap, and is left
// as it is where they do not.
type Affinity struct {
	proc   procfs
	groups *cgroups
	self   int
}

// task names one thread of one process for the length of a boot.
type task struct {
	pid   int
	start uint64
	tid   int
}

// tree is the Data of an affinity State.
type tree struct {
	since     uint64 // start time, in ticks, of the youngest process when the prior was read
	allowed   cpus   // all CPUs that any task of the tree might use
	sessions  map[int]bool
	ancestors map[int]bool // of the roots: where orphans of the tree end up
	uids      map[uint32]bool
	tasks     map[task]cpus
}

type treeJSON struct {
	Since     uint64      `json:"since"`
	Allowed   string      `json:"allowed"`
	Sessions  []int       `json:"sessions"`
	Ancestors []int       `json:"ancestors"`
	UIDs      []uint32    `json:"uids"`
	Masks     []string    `json:"masks"`
	Tasks     [][4]uint64 `json:"tasks"` // pid, start, tid, index of the mask
}

// How often a tree is walked before giving up, and how a revert makes sure: a fork that was under way while its parent
// was given back its mask appears a moment later with ours.
const (
	mostPasses  = 400
	cleanPasses = 4
	passPause   = 15 * time.Millisecond
)

// Able says why no tree on this host can be narrowed, nil if one can.
func (a *Affinity) Able() error {
	var s cpus
	if err := unix.SchedGetaffinity(0, &s); err != nil {
		return fmt.Errorf("cannot read CPU masks: %w", err)
	}
	if online, err := os.ReadFile("/sys/devices/system/cpu/online"); err == nil {
		if all, err := parseCPUs(string(trimSpace(online))); err == nil {
			s = all
		}
	}
	if s.Count() < 2 {
		return command.Refuse(command.ReasonNotReversible, "this host has one CPU: there is nothing to narrow")
	}
	return nil
}

// Prior finds the tree and reads the mask of every task.
func (a *Affinity) Prior(_ context.Context, target command.Target) (State, error) {
	all, err := a.proc.processes()
	if err != nil {
		return State{}, err
	}
	roots, err := a.roots(target, all)
	if err != nil {
		return State{}, err
	}
	t := &tree{sessions: map[int]bool{}, ancestors: map[int]bool{1: true}, uids: map[uint32]bool{}, tasks: map[task]cpus{}}
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
	others := !a.proc.mayMoveOthers()
	own := uint32(os.Geteuid())
	for pid := range members {
		p := all[pid]
		uid, ok := a.proc.uid(pid)
		if !ok {
			continue
		}
		if others && uid != own {
			return State{}, command.Refuse(command.ReasonNotReversible, "process %d belongs to another user, whose masks could not be given back", pid)
		}
		t.uids[uid] = true
		t.sessions[p.session] = true
		for _, tid := range a.proc.tasks(pid) {
			var mask cpus
			if unix.SchedGetaffinity(tid, &mask) == nil {
				t.tasks[task{pid, p.start, tid}] = mask
				t.allowed = unite(t.allowed, mask)
			}
		}
	}
	if len(t.tasks) == 0 {
		return State{}, command.Refuse(command.ReasonNoTarget, "no process of %s is running", target)
	}
	if t.allowed.Count() < 2 {
		return State{}, command.Refuse(command.ReasonNotReversible, "the processes of %s may use one CPU only: there is nothing to narrow", target)
	}
	return t.state()
}

// Write narrows every task, walking the tree again until a walk finds nothing to change.
func (a *Affinity) Write(ctx context.Context, c Change) (State, string, error) {
	t, err := parseTree(c.State)
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
			return s, formatCPUs(t.pick(c.Value())), err
		}
		if err := ctx.Err(); err != nil {
			return c.State, "", err
		}
	}
	return c.State, "", command.Refuse(command.ReasonNoEffect, "tasks of %s keep another mask after %d attempts", c.Target, mostPasses)
}

// Look compares the tree with a change and writes nothing.
func (a *Affinity) Look(_ context.Context, c Change) (Standing, string, error) {
	t, err := parseTree(c.State)
	if err != nil {
		return 0, "", err
	}
	var sum summary
	if err := a.each(c, t, func(_ task, prior, now cpus) error {
		sum.count(t, c.Values, prior, now)
		return nil
	}); err != nil {
		return 0, "", err
	}
	return sum.standing(), formatCPUs(sum.seen), nil
}

// Restore gives every task that carries a mask of ours its prior one back: newborns get their parent's. It walks the
// tree until several walks in a row find nothing, because a fork under way escapes a single one.
func (a *Affinity) Restore(_ context.Context, c Change) (Standing, string, error) {
	t, err := parseTree(c.State)
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
			return Other, formatCPUs(sum.seen), nil
		case sum.standing() == Gone:
			return Gone, "", nil
		}
		return Before, formatCPUs(sum.seen), nil
	}
	return Mixed, "", fmt.Errorf("tasks of %s still carry our mask after %d attempts", c.Target, mostPasses)
}

// Tend takes in what was born since: it notes the prior masks of new tasks, narrows those that escaped, and forgets the
// dead. It reports whether the state changed and should be kept anew.
func (a *Affinity) Tend(_ context.Context, c Change) (State, bool, error) {
	t, err := parseTree(c.State)
	if err != nil {
		return c.State, false, err
	}
	had := maps.Clone(t.tasks)
	live := map[task]bool{}
	if err := a.each(c, t, func(k task, prior, now cpus) error {
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
type summary struct {
	changed                          int
	same, ours, older, before, other int // same: our value leaves the prior mask as it was
	seen                             cpus
}

func (s *summary) count(t *tree, values []int64, prior, now cpus) {
	s.seen = unite(s.seen, now)
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

func (s *summary) standing() Standing {
	switch {
	case s.same+s.ours+s.older+s.before+s.other == 0:
		return Gone
	case s.other > 0:
		return Other
	case s.before == 0 && s.older == 0:
		return Ours
	case s.ours == 0 && s.older == 0:
		return Before
	case s.ours == 0 && s.before == 0:
		return Older
	}
	return Mixed
}

// pass walks the tree once. Forward it narrows, backward it gives back.
func (a *Affinity) pass(c Change, t *tree, forward bool) (summary, error) {
	var sum summary
	err := a.each(c, t, func(k task, prior, now cpus) error {
		sum.count(t, c.Values, prior, now)
		if forward {
			return t.narrow(c, k, prior, now, &sum.changed)
		}
		if now != prior && t.isOurs(prior, now, c.Values) {
			sum.changed++
			return setMask(k.tid, prior)
		}
		return nil
	})
	return sum, err
}

func (t *tree) narrow(c Change, k task, prior, now cpus, changed *int) error {
	want := t.wanted(prior, c.Value())
	if now == want || now != prior && !t.isOurs(prior, now, c.Values) {
		return nil
	}
	if changed != nil {
		*changed++
	}
	return setMask(k.tid, want)
}

func setMask(tid int, mask cpus) error {
	if err := unix.SchedSetaffinity(tid, &mask); err != nil && !gone(err) {
		return fmt.Errorf("cannot set the CPU mask of task %d: %w", tid, err)
	}
	return nil
}

// each calls do for every task of the tree that can be read, with the mask that it had before us. New tasks enter the
// tree with the prior mask of their process, else of their parent, else of the tree, if they carry that mask or ours;
// any other mask is their own.
func (a *Affinity) each(c Change, t *tree, do func(k task, prior, now cpus) error) error {
	all, err := a.proc.processes()
	if err != nil {
		return err
	}
	roots, err := a.roots(c.Target, all)
	if err != nil && command.ReasonOf(err) != command.ReasonNoTarget {
		return err // a name that is gone leaves the tasks that are known
	}
	known := map[int]cpus{} // prior of the main thread, or of any, by pid
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
		for _, tid := range a.proc.tasks(pid) {
			k := task{pid, p.start, tid}
			var now cpus
			if err := unix.SchedGetaffinity(tid, &now); err != nil {
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

// strays finds orphans: children whose parent ended between two walks, so that no line leads to them any more. They
// were born during the lease, carry exactly a mask of ours, run as a user of the tree, and either share a session with
// it or were handed to a process from which the tree descends. Each comes with the mask that it would have had.
func (a *Affinity) strays(c Change, t *tree, all map[int]process, members map[int]bool) map[int]cpus {
	out := map[int]cpus{}
	priors := map[cpus]bool{t.allowed: true}
	for _, mask := range t.tasks {
		priors[mask] = true
	}
	for pid, p := range all {
		if members[pid] || pid == a.self || pid == 1 || p.start < t.since || !t.sessions[p.session] && !t.ancestors[p.ppid] {
			continue
		}
		var now cpus
		if unix.SchedGetaffinity(pid, &now) != nil || priors[now] {
			continue
		}
		uid, ok := a.proc.uid(pid)
		if !ok || !t.uids[uid] {
			continue
		}
		for prior := range priors {
			if had := out[pid]; t.isOurs(prior, now, c.Values) && prior.Count() > had.Count() {
				out[pid] = prior // of several that fit, the widest
			}
		}
	}
	return out
}

// roots are the processes that the target itself names.
func (a *Affinity) roots(target command.Target, all map[int]process) ([]int, error) {
	var out []int
	switch target.Kind() {
	case command.OnProcess:
		var want uint32
		if target.Process.User != "" {
			uid, err := lookupUID(target.Process.User)
			if err != nil {
				return nil, err
			}
			want = uid
		}
		for pid := range all {
			if pid == a.self || pid == 1 || a.proc.exe(pid) != target.Process.Exe {
				continue
			}
			if uid, ok := a.proc.uid(pid); target.Process.User == "" || ok && uid == want {
				out = append(out, pid)
			}
		}
	case command.OnUnit, command.OnCgroup:
		pids, err := a.groups.pids(target)
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			if _, ok := all[pid]; ok && pid != a.self && pid != 1 {
				out = append(out, pid)
			}
		}
	default:
		return nil, command.Refuse(command.ReasonDenied, "process.affinity cannot hold on to %s", target)
	}
	return out, nil
}

// descend returns the given processes and everything below them. The actor itself is never part of a tree.
func (a *Affinity) descend(all map[int]process, roots []int) map[int]bool {
	children := make(map[int][]int, len(all))
	for pid, p := range all {
		children[p.ppid] = append(children[p.ppid], pid)
	}
	members := map[int]bool{}
	for queue := slices.Clone(roots); len(queue) > 0; {
		pid := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if members[pid] || pid == a.self || pid == 1 {
			continue
		}
		members[pid] = true
		queue = append(queue, children[pid]...)
	}
	return members
}

// pick returns the CPUs that a percentage leaves: at least one, the highest numbers.
func (t *tree) pick(percent int64) cpus {
	n := cpuNumbers(t.allowed)
	keep := max(1, int(int64(len(n))*min(max(percent, 0), 100)/100))
	var out cpus
	for _, cpu := range n[len(n)-keep:] {
		out.Set(cpu)
	}
	return out
}

func (t *tree) wanted(prior cpus, percent int64) cpus {
	if both := intersect(prior, t.pick(percent)); both.Count() > 0 {
		return both
	}
	return prior
}

func (t *tree) isOurs(prior, now cpus, values []int64) bool {
	return slices.ContainsFunc(values, func(v int64) bool { return t.wanted(prior, v) == now })
}

func (t *tree) state() (State, error) {
	j := treeJSON{
		Since: t.since, Allowed: formatCPUs(t.allowed), Sessions: slices.Sorted(maps.Keys(t.sessions)),
		Ancestors: slices.Sorted(maps.Keys(t.ancestors)), UIDs: slices.Sorted(maps.Keys(t.uids)),
	}
	index := map[cpus]uint64{}
	pids := map[string]bool{}
	for k, mask := range t.tasks {
		i, ok := index[mask]
		if !ok {
			i = uint64(len(j.Masks))
			index[mask] = i
			j.Masks = append(j.Masks, formatCPUs(mask))
		}
		j.Tasks = append(j.Tasks, [4]uint64{uint64(k.pid), k.start, uint64(k.tid), i})
		pids["pid/"+strconv.Itoa(k.pid)+"/"+strconv.FormatUint(k.start, 10)] = true
	}
	slices.SortFunc(j.Tasks, func(a, b [4]uint64) int { return slices.Compare(a[:], b[:]) })
	data, err := json.Marshal(j)
	if err != nil {
		return State{}, err
	}
	return State{Text: j.Allowed, Value: 100, PidBound: true, Knobs: slices.Sorted(maps.Keys(pids)), Data: data}, nil
}

func parseTree(s State) (*tree, error) {
	var j treeJSON
	if err := json.Unmarshal(s.Data, &j); err != nil {
		return nil, fmt.Errorf("cannot read kept CPU masks: %w", err)
	}
	t := &tree{since: j.Since, sessions: map[int]bool{}, ancestors: map[int]bool{}, uids: map[uint32]bool{}, tasks: make(map[task]cpus, len(j.Tasks))}
	var err error
	if t.allowed, err = parseCPUs(j.Allowed); err != nil {
		return nil, err
	}
	for _, s := range j.Sessions {
		t.sessions[s] = true
	}
	for _, p := range j.Ancestors {
		t.ancestors[p] = true
	}
	for _, u := range j.UIDs {
		t.uids[u] = true
	}
	masks := make([]cpus, len(j.Masks))
	for i, text := range j.Masks {
		if masks[i], err = parseCPUs(text); err != nil {
			return nil, err
		}
	}
	for _, k := range j.Tasks {
		if k[3] >= uint64(len(masks)) {
			return nil, fmt.Errorf("kept CPU masks name a mask that is not there")
		}
		t.tasks[task{int(k[0]), k[1], int(k[2])}] = masks[k[3]]
	}
	return t, nil
}
