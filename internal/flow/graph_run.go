package flow

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
)

// wake notes that the unit at a place in order has something to do in this batch.
func (g *graph) wake(at int) { g.pending[at>>6] |= 1 << (at & 63) }

// run carries the batch through what it concerns: the scans of relations that changed, steps for which time is due, and then whatever
// takes the output of a step that had one. A place only ever wakes places behind it, so one walk over the bits is enough. What has
// nothing to do costs nothing.
func (e *Engine) run() {
	for _, n := range e.timed {
		if n.timed.due(&e.x) {
			e.wake(n.at)
		}
	}
	at := e.nanos()
	for w := range e.pending {
		for e.pending[w] != 0 {
			i := w<<6 + bits.TrailingZeros64(e.pending[w])
			e.pending[w] &= e.pending[w] - 1
			u := &e.order[i]
			if u.step == nil {
				e.show(u.view)
				at = e.nanos()
				continue
			}
			if len(u.step.users) == 0 {
				continue
			}
			e.step(u.step)
			if e.opt.Clock != nil {
				now := e.nanos()
				u.step.nanos += now - at
				at = now
			}
		}
	}
}

// nanos returns the nanoseconds of Options.Clock, 0 without one.
func (e *Engine) nanos() int64 {
	if e.opt.Clock == nil {
		return 0
	}
	return e.opt.Clock()
}

// step runs one step and wakes what takes its output.
func (e *Engine) step(n *step) {
	x := &e.x
	x.step, x.first, x.limit, x.base = n, !n.ran, nil, len(x.scratch.buf)
	e.ran = append(e.ran, n)
	if n.scan >= 0 {
		n.out = e.deltas[n.scan]
	} else {
		for i, in := range n.in {
			n.ins[i] = in.out
			n.inRows += uint64(len(in.out))
		}
		n.ran = true
	}
	if n.scan < 0 || n.one != nil {
		if fault, stack := n.run(x); fault != "" {
			n.out = nil
			for len(n.users) > 0 { // stop takes the view out of them
				at := len(e.stops)
				e.stop(n.users[0], fault)
				e.stops[at].Stack = stack
			}
			return
		}
		if x.limit != nil {
			n.out = nil
			for len(n.users) > 0 { // stop takes the view out of them
				e.stop(n.users[0], x.limit.Error())
			}
			return
		}
		size := int64(n.bytes())
		e.size += size - n.size
		n.size = size
	}
	if len(n.out) == 0 {
		return
	}
	n.outRows += uint64(len(n.out))
	for _, at := range n.outs {
		e.wake(at)
	}
}

// run calls the operator. A panic is a bug of ours, which would come again at every start with the same log: it ends the views that need the
// step, and the rest of the app goes on.
func (n *step) run(x *exec) (fault, stack string) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && !errors.As(err, new(runtime.Error)) {
				panic(err) // a page that cannot be read: it is not the view's fault
			}
			fault, stack = fmt.Sprintf("fault: %v in %s", p, n.name()), string(debug.Stack())
		}
	}()
	n.out = n.apply(x)
	return "", ""
}

func (n *step) apply(x *exec) []delta {
	switch {
	case n.scan >= 0:
		return n.one.apply(x, n.out)
	case n.many != nil:
		return n.many.apply(x, n.ins)
	case len(n.ins) == 0:
		return n.one.apply(x, nil)
	}
	return n.one.apply(x, n.ins[0])
}

// show takes what the view's root has into its sink and wakes those that read the view. A change that contradicts what is known of the
// view's rows is a fault of its plan: it stops the view, as everything that a definition and rows can bring about stops at most a view.
func (e *Engine) show(v *view) {
	if v.stopped != nil {
		return
	}
	out, err := v.sink.take(&e.x, v.root.out)
	if err != nil {
		v.sink.moved = v.sink.moved[:0]
		e.stop(v, "fault: "+err.Error())
		return
	}
	size := int64(v.sink.bytes())
	e.size += size - v.sink.size
	v.sink.size = size
	e.changed(v.rel.ID, out)
}

// changed makes a relation's change known to what reads it.
func (e *Engine) changed(rel int, out []delta) {
	if len(out) == 0 {
		return
	}
	e.deltas[rel] = out
	for _, at := range e.scans[rel] {
		e.wake(at)
	}
}

// endRun forgets the batch.
func (e *Engine) endRun() {
	for _, n := range e.ran {
		n.out = nil
	}
	e.ran = e.ran[:0]
	e.x.step = nil
	if e.stale {
		e.link()
		e.findTimed()
	}
}

func (n *step) bytes() int {
	switch {
	case n.one != nil:
		return n.one.bytes()
	case n.many != nil:
		return n.many.bytes()
	}
	return 0
}

func (n *step) name() string {
	switch {
	case n.one != nil:
		return n.one.name()
	case n.many != nil:
		return n.many.name()
	}
	return "scan"
}
