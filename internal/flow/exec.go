package flow

import (
	"laaster/internal/change"
	"laaster/internal/expr"
)

// exec is what one batch has while it is applied: its place in the log, scratch memory and the undo journal of an atomic
// entry.
type exec struct {
	seq     uint64
	stamp   int64
	first   bool // the engine's first batch: aggregates without keys show their one row
	ctx     expr.Ctx
	scratch arena

	journaling bool
	journal    []undo
}

// undo is what a row held before an atomic entry changed it.
type undo struct {
	t   *tableState
	m   uint32     // index into t.touched
	old change.Row // empty: there was none
}

func (x *exec) begin(seq uint64, stamp int64, first bool) {
	x.seq, x.stamp, x.first = seq, stamp, first
	x.scratch.reset()
	x.ctx.Now = stamp
	x.journal, x.journaling = x.journal[:0], false
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
