package actuator

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

type treeJSON struct {
	Since     uint64      `json:"since"`
	Allowed   string      `json:"allowed"`
	Sessions  []int       `json:"sessions"`
	Ancestors []int       `json:"ancestors"`
	UIDs      []uint32    `json:"uids"`
	Masks     []string    `json:"masks"`
	Tasks     [][4]uint64 `json:"tasks"` // pid, start, tid, index of the mask
}

func (t *tree[T]) state() (State, error) {
	j := treeJSON{
		Since: t.since, Allowed: t.knob.text(t.allowed), Sessions: slices.Sorted(maps.Keys(t.sessions)),
		Ancestors: slices.Sorted(maps.Keys(t.ancestors)), UIDs: slices.Sorted(maps.Keys(t.uids)),
	}
	index := map[T]uint64{}
	pids := map[string]bool{}
	for k, mask := range t.tasks {
		i, ok := index[mask]
		if !ok {
			i = uint64(len(j.Masks))
			index[mask] = i
			j.Masks = append(j.Masks, t.knob.text(mask))
		}
		j.Tasks = append(j.Tasks, [4]uint64{uint64(k.pid), k.start, uint64(k.tid), i})
		pids[t.knob.prefix()+"/"+strconv.Itoa(k.pid)+"/"+strconv.FormatUint(k.start, 10)] = true
	}
	slices.SortFunc(j.Tasks, func(a, b [4]uint64) int { return slices.Compare(a[:], b[:]) })
	data, err := json.Marshal(j)
	if err != nil {
		return State{}, err
	}
	return State{Text: j.Allowed, Value: t.knob.neutral(t.allowed), PidBound: true, Knobs: slices.Sorted(maps.Keys(pids)), Data: data}, nil
}

func (a *Tree[T]) parse(s State) (*tree[T], error) {
	var j treeJSON
	if err := json.Unmarshal(s.Data, &j); err != nil {
		return nil, fmt.Errorf("cannot read kept settings of tasks: %w", err)
	}
	t := &tree[T]{knob: a.knob, since: j.Since, sessions: map[int]bool{}, ancestors: map[int]bool{}, uids: map[uint32]bool{}, tasks: make(map[task]T, len(j.Tasks))}
	var err error
	if t.allowed, err = a.knob.parse(j.Allowed); err != nil {
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
	masks := make([]T, len(j.Masks))
	for i, text := range j.Masks {
		if masks[i], err = a.knob.parse(text); err != nil {
			return nil, err
		}
	}
	for _, k := range j.Tasks {
		if k[3] >= uint64(len(masks)) {
			return nil, fmt.Errorf("kept settings of tasks name one that is not there")
		}
		t.tasks[task{int(k[0]), k[1], int(k[2])}] = masks[k[3]]
	}
	return t, nil
}
