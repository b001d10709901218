package flow

import "laaster/internal/change"

// arena holds what one batch makes: rows and keys that live until the batch is applied. Taking from it does not allocate once
// it has grown to what batches need.
type arena struct {
	buf   []byte
	peak  int // bytes that the largest of the last batches took
	since int // batches
}

// A buffer is let go when it was far too large for so many batches in a row; one above arenaMax at the next smaller batch. With buffers that
// went after one small batch, views whose batches differ in size spent a quarter of the time in growing them again.
const (
	arenaKept = 4 << 20
	arenaMax  = 64 << 20
	arenaSpan = 256
)

// Growing the buffer moves what comes later; slices given out before stay where they were and stay valid.
func (a *arena) copy(b []byte) []byte {
	at := len(a.buf)
	a.buf = append(a.buf, b...)
	return a.buf[at:len(a.buf):len(a.buf)]
}

// row encodes a row.
func (a *arena) row(l *change.Layout, vals []change.Value) change.Row {
	at := len(a.buf)
	a.buf = l.Append(a.buf, vals)
	return a.buf[at:len(a.buf):len(a.buf)]
}

// reset forgets everything. A buffer that one great batch blew up is let go, some batches later.
func (a *arena) reset() {
	a.peak, a.since = max(a.peak, len(a.buf)), a.since+1
	if cap(a.buf) > arenaMax {
		a.peak, a.since = len(a.buf), arenaSpan
	}
	if a.since >= arenaSpan {
		if cap(a.buf) > arenaKept && a.peak < cap(a.buf)/4 {
			a.buf = nil
		}
		a.peak, a.since = 0, 0
	}
	a.buf = a.buf[:0]
}

// delta is one row of a Z-set: w copies more (or fewer, when negative). The row lives until the batch is applied.
type delta struct {
	row change.Row
	w   int64
}
