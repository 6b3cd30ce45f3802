package actuator

import (
	"slices"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// strays finds orphans: children whose parent ended between two walks, so that no line leads to them any more. They
// were born during the lease, carry exactly a mask of ours, run as a user of the tree, and either share a session with
// it or were handed to a process from which the tree descends. Each comes with the mask that it would have had.
func (a *Tree[T]) strays(c Change, t *tree[T], all map[int]process, members map[int]bool) map[int]T {
	out := map[int]T{}
	priors := map[T]bool{t.allowed: true}
	for _, mask := range t.tasks {
		priors[mask] = true
	}
	for pid, p := range all {
		if members[pid] || pid == a.self || pid == 1 || p.start < t.since || !t.sessions[p.session] && !t.ancestors[p.ppid] {
			continue
		}
		now, err := a.knob.get(pid)
		if err != nil || priors[now] {
			continue
		}
		uid, ok := a.proc.uid(pid)
		if !ok || !t.uids[uid] {
			continue
		}
		for prior := range priors {
			if !t.isOurs(prior, now, c.Values) {
				continue
			}
			if had, ok := out[pid]; !ok || a.knob.join(had, prior) == prior {
				out[pid] = prior // of several that fit, the widest
			}
		}
	}
	return out
}

// roots are the processes that the target itself names.
func (a *Tree[T]) roots(target command.Target, all map[int]process) ([]int, error) {
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
		return nil, command.Refuse(command.ReasonDenied, "%s is no process tree", target)
	}
	return out, nil
}

// descend returns the given processes and everything below them. The actor itself is never part of a tree.
func (a *Tree[T]) descend(all map[int]process, roots []int) map[int]bool {
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
