package flow

import (
	"fmt"
	"slices"

	"laaster/internal/change"
)

// LimitError says which limit a view passed.
type LimitError struct {
	Limit string // the setting: limits.view_state, max_bytes or limits.join_rows
	What  string // what was counted, such as "bytes of state"
	Got   int64
	Max   int64
}

// Error implements error.
func (l *LimitError) Error() string {
	return fmt.Sprintf("%d %s, the limit is %d (%s)", l.Got, l.What, l.Max, l.Limit)
}

// Stopped is a view that computes nothing more: it passed a limit, or it reads a view that did. Its rows are those that it had after
// batch Seq, or before that batch when it could not be carried through.
type Stopped struct {
	Relation int
	Seq      uint64
	Reason   string
}

// Stopped lists the views that stopped, ascending by relation.
func (e *Engine) Stopped() []Stopped {
	var out []Stopped
	for _, v := range e.views {
		if v.stopped != nil {
			out = append(out, *v.stopped)
		}
	}
	return out
}

// stop ends the step that is running: what it returns is dropped, and every view that depends on it stops. The operator is not called
// again, so it may leave its state as it is.
func (x *exec) stop(err *LimitError) {
	if x.limit == nil {
		x.limit = err
	}
}

// stop ends a view and those that read it. Their steps are freed unless other views use them; their rows stay with the readers.
func (e *Engine) stop(v *view, reason string) {
	if v.stopped != nil {
		return
	}
	v.stopped = &Stopped{Relation: v.rel.ID, Seq: e.x.seq, Reason: reason}
	e.stops = append(e.stops, change.Stopped{Relation: v.rel.ID, Reason: reason})
	e.addAll(v, -1) // what is known of its rows goes with it
	v.late = newLateLog()
	e.release(v)
	for _, r := range e.views {
		if slices.Contains(r.inputs, v.rel.ID) {
			e.stop(r, fmt.Sprintf("it reads %s, which stopped", v.rel.Name))
		}
	}
}

// release frees the state of a view that stopped.
func (g *graph) release(v *view) {
	for _, n := range v.steps {
		n.users = slices.DeleteFunc(n.users, func(u *view) bool { return u == v })
		if len(n.users) == 0 {
			g.free(n)
		}
	}
	g.size -= v.sink.size
	v.sink.free()
	v.steps, v.root = nil, nil
}

// checkSizes stops the views whose state is above Options.MaxViewBytes; then, as long as all of them together are above MaxBytes, the
// largest. Sizes are functions of the state, so every engine that applies the same batches stops the same views.
func (e *Engine) checkSizes() {
	if e.size <= min(e.opt.MaxViewBytes, e.opt.MaxBytes) { // then no view has too much either
		return
	}
	for _, v := range e.views {
		if size := v.size(); size > e.opt.MaxViewBytes {
			e.stop(v, (&LimitError{"limits.view_state", "bytes of state", size, e.opt.MaxViewBytes}).Error())
		}
	}
	for e.size > e.opt.MaxBytes {
		var largest *view
		for _, v := range e.views {
			if v.stopped == nil && (largest == nil || v.size() > largest.size()) {
				largest = v
			}
		}
		if largest == nil {
			return
		}
		limit := LimitError{"limits.state", "bytes of state of all views", e.size, e.opt.MaxBytes}
		e.stop(largest, "the largest view while there are "+limit.Error())
	}
}

// size is what the view's steps and its sink take, steps that it shares with others included; 0 when it stopped.
func (v *view) size() int64 {
	if v.stopped != nil {
		return 0
	}
	size := v.sink.size
	for _, n := range v.steps {
		size += n.size
	}
	return size
}
