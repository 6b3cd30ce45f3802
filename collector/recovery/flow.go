package recovery

// flow is a network with whole capacities; its greatest flow is found by Dinic's way: shortest augmenting paths, many at once.
type flow struct {
	arcs  []arc // an arc and its reverse stand next to each other
	first [][]int32
	level []int32
	next  []int
}

type arc struct {
	to   int32
	left int64 // capacity that is not used
}

const unbounded = 1 << 62

func newFlow(nodes int) *flow {
	return &flow{first: make([][]int32, nodes), level: make([]int32, nodes), next: make([]int, nodes)}
}

// join adds an arc and returns its number.
func (f *flow) join(from, to int, capacity int64) int {
	f.arcs = append(f.arcs, arc{int32(to), capacity}, arc{int32(from), 0})
	k := len(f.arcs) - 2
	f.first[from] = append(f.first[from], int32(k))
	f.first[to] = append(f.first[to], int32(k+1))
	return k
}

// set gives an arc another capacity and takes all flow off it.
func (f *flow) set(k int, capacity int64) { f.arcs[k].left, f.arcs[k+1].left = capacity, 0 }

// greatest adds as much flow as goes from s to t and returns how much that is.
func (f *flow) greatest(s, t int) (sum int64) {
	for f.layer(s, t) {
		clear(f.next)
		for x := f.push(s, t, unbounded); x > 0; x = f.push(s, t, unbounded) {
			sum += x
		}
	}
	return sum
}

// layer numbers the nodes by their distance from s and reports whether t can be reached.
func (f *flow) layer(s, t int) bool {
	for i := range f.level {
		f.level[i] = -1
	}
	f.level[s] = 0
	queue := []int32{int32(s)}
	for at := 0; at < len(queue); at++ {
		for _, k := range f.first[queue[at]] {
			if a := &f.arcs[k]; a.left > 0 && f.level[a.to] < 0 {
				f.level[a.to] = f.level[queue[at]] + 1
				queue = append(queue, a.to)
			}
		}
	}
	return f.level[t] >= 0
}

func (f *flow) push(at, t int, most int64) int64 {
	if at == t {
		return most
	}
	for ; f.next[at] < len(f.first[at]); f.next[at]++ {
		k := f.first[at][f.next[at]]
		a := &f.arcs[k]
		if a.left <= 0 || f.level[a.to] != f.level[at]+1 {
			continue
		}
		if x := f.push(int(a.to), t, min(most, a.left)); x > 0 {
			f.arcs[k].left -= x
			f.arcs[k^1].left += x
			return x
		}
	}
	return 0
}

// reach returns what can be reached from a node over arcs that have capacity left, without going through a node to avoid.
func (f *flow) reach(from, avoid int) Set {
	seen := NewSet(len(f.first))
	seen.Add(from)
	queue := []int32{int32(from)}
	for at := 0; at < len(queue); at++ {
		for _, k := range f.first[queue[at]] {
			if a := &f.arcs[k]; a.left > 0 && int(a.to) != avoid && !seen.Has(int(a.to)) {
				seen.Add(int(a.to))
				queue = append(queue, a.to)
			}
		}
	}
	return seen
}

// leads returns the nodes from which one can be reached over arcs that have capacity left.
func (f *flow) leads(to int) Set {
	seen := NewSet(len(f.first))
	seen.Add(to)
	queue := []int32{int32(to)}
	for at := 0; at < len(queue); at++ {
		for _, k := range f.first[queue[at]] {
			if from := f.arcs[k].to; f.arcs[k^1].left > 0 && !seen.Has(int(from)) {
				seen.Add(int(from))
				queue = append(queue, from)
			}
		}
	}
	return seen
}
