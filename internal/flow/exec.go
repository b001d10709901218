package flow

import (
	"laaster/internal/change"
	"laaster/internal/expr"
)

// exec is what one batch has while it is applied: its place in the log, scratch memory and the undo journal of an atomic
// entry.
type exec struct {
	seq     uint64
	batch   uint64 // of each batch another one: mostly seq
	stamp   int64
	now     int64  // the engine's time: the stamp, or less while rows that are due leave in steps
	first   bool   // the step's first call: aggregates without keys show their one row, values all of theirs
	marks   *marks // nil: no table has an event time
	ctx     expr.Ctx
	scratch arena

	tables      map[uint32]*tableState // by catalog id
	step        *step                  // that is running
	limit       *LimitError            // that it passed, see stop
	maxJoinRows int64                  // Options.MaxJoinRows
	maxStep     int                    // bytes of scratch that one step may take of one batch
	base        int                    // scratch that was taken when the running step began
	failed      []*errorLog            // with rows that failed in this batch
	diverted    []*step                // with rows that were late in this batch

	journaling bool
	journal    []undo
}

// undo is what a row held before an atomic entry changed it.
type undo struct {
	t   *tableState
	m   uint32     // index into t.touched
	old change.Row // empty: there was none
}

func (x *exec) begin(seq uint64, stamp int64) {
	x.seq, x.batch, x.stamp = seq, seq, stamp
	x.scratch.reset()
	x.ctx.Now, x.now = stamp, stamp
	x.journal, x.journaling = x.journal[:0], false
}

// stepBytes bounds what one step makes of one batch, in bytes, a sixteenth of it where views may have little state: a few rows under
// generate_series twice, or under a window that hops over one that hops, would fill any machine.
const stepBytes = 1 << 30

// full reports whether the running step made too much of the batch, or passed another limit. Then it stops, and what it returns is
// dropped. Operators whose output is larger than their input ask row by row.
func (x *exec) full() bool {
	return x.limit != nil || len(x.scratch.buf)-x.base > x.maxStep && x.tooMuch()
}

func (x *exec) tooMuch() bool {
	x.stop(&LimitError{"limits.view_state", "bytes made of one batch by one operator", int64(len(x.scratch.buf) - x.base), int64(x.maxStep)})
	return true
}

// made returns the value whose bytes f appends to scratch memory.
func (x *exec) made(f func(dst []byte) []byte) change.Value {
	at := len(x.scratch.buf)
	x.scratch.buf = f(x.scratch.buf)
	return change.Bytes(x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)])
}

// rollback takes back what was journaled, newest first.
func (x *exec) rollback() {
	for i := len(x.journal) - 1; i >= 0; i-- {
		u := &x.journal[i]
		u.t.write(u.m, u.old)
	}
	x.journal = x.journal[:0]
}

// Codes of refusals, as clients see them.
const (
	codeConflict   = "conflict"
	codeConstraint = "constraint"
	codeInvalidRow = "invalid_row"
	codeTooMany    = "too_many"
	codeBadFilter  = "bad_filter"
)
