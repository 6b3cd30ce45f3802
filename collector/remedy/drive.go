package remedy

import (
	"slices"

	"github.com/evenkeel/evenkeel/pkg/command"
)

// entry is an action with its place in the ledger and what it waits for. Each waits for the ledger by itself: the
// records of different hosts are on their way to the disk together, and share its forced writes.
type entry struct {
	*Action
	rev    int64 // of action/<id>; 0 while it is not written
	permit int64 // of permit/host/<host>; 0 while it is not held
	dirty  bool
	after  []Effect        // wait until the record is written
	signed <-chan struct{} // closed once the audit log has the signature; nil: nothing to wait for

	waiting bool     // something is on its way to the disk
	inputs  []coming // have come meanwhile, oldest first
	settled []func() // are called when nothing is left to do
}

// coming is an input that waits its turn. took, where there is one, hears whether it changed the state.
type coming struct {
	in   Input
	took func(moved bool)
}

// answer puts what an effect brought before everything that came from outside meanwhile.
func (en *entry) answer(in Input) { en.inputs = slices.Insert(en.inputs, 0, coming{in: in}) }

// next takes the input whose turn it is. Taking back goes before everything else, so that what was not sent yet never is.
func (en *entry) next() coming {
	i := max(0, slices.IndexFunc(en.inputs, func(c coming) bool { return cancels(c.in) }))
	c := en.inputs[i]
	en.inputs = slices.Delete(en.inputs, i, i+1)
	return c
}

func (en *entry) cancelled() bool {
	return slices.ContainsFunc(en.inputs, func(c coming) bool { return cancels(c.in) })
}

func cancels(in Input) bool {
	_, ok := in.(CancelledBy)
	return ok
}

// look lets every live action see the state of things, and retries what could not be written.
func (e *Executor) look() {
	for _, en := range e.sorted() {
		if en.waiting || en.State.Terminal() && !en.dirty {
			continue
		}
		e.feed(en, Looked{e.lookAt(en.Action)})
	}
	e.prune()
}

// feed gives an input to an action, has the record written where it changed, and then the effects carried out; their
// answers are inputs in turn.
func (e *Executor) feed(en *entry, in Input) { e.feedThen(en, in, nil, nil) }

// feedThen is feed; took hears whether the input changed the state, and settled is called when nothing is left to do: the
// record stands in the ledger then, or is dirty.
func (e *Executor) feedThen(en *entry, in Input, took func(moved bool), settled func()) {
	en.inputs = append(en.inputs, coming{in, took})
	if settled != nil {
		en.settled = append(en.settled, settled)
	}
	e.advance(en)
}

// advance does what there is to do for an action, up to where it has to wait.
func (e *Executor) advance(en *entry) {
	for !en.waiting {
		switch {
		case len(en.after) > 0 && !en.dirty && !en.cancelled():
			f := en.after[0]
			en.after = en.after[1:]
			e.carryOut(en, f)
		case len(en.inputs) > 0:
			e.handle(en, en.next())
		default:
			settled := en.settled
			en.settled = nil
			for _, f := range settled {
				f()
			}
			return
		}
	}
}

func (e *Executor) handle(en *entry, c coming) {
	before := en.State
	effects, changed := en.Handle(e.now, c.in)
	if c.took != nil {
		c.took(en.State != before)
	}
	en.after = append(en.after, effects...)
	en.dirty = en.dirty || changed
	if en.Order != nil {
		e.byOrder[en.Order.ID] = en
	}
	if en.dirty {
		e.save(en, 3)
	}
}

// await runs wait on a goroutine of its own, and what it returns on the executor's. The action takes nothing in until
// then.
func (e *Executor) await(en *entry, wait func() (then func())) {
	en.waiting = true
	e.waits.Go(func() {
		then := wait()
		select {
		case e.ready <- func() {
			en.waiting = false
			then()
			e.advance(en)
		}:
		case <-e.ctx.Done():
		}
	})
}

// carryOut does one effect; its answer is the action's next input.
func (e *Executor) carryOut(en *entry, f Effect) {
	a := en.Action
	last := func() string { return a.Timeline[len(a.Timeline)-1].What }
	if !a.wants(f) {
		return
	}
	switch f {
	case WriteIntent:
		e.writeIntent(en)
	case SignCommand:
		en.answer(e.sign(en))
	case SendCommand:
		e.send(en)
	case MakeRenewal:
		e.order(en, command.Renew)
	case MakeRevert:
		e.order(en, command.Revert)
	case SendOrder:
		e.sendOrder(en)
	case NoteStarted:
		e.cfg.Reporter.ActionStarted(e.now, a.Incident, a.ID, a.Proposal.Text)
	case NoteEnded:
		e.cfg.Reporter.ActionEnded(e.now, a.Incident, a.ID, last())
	case NoteProgress:
		e.cfg.Reporter.Note(e.now, a.Incident, "remedy", last())
	}
}
