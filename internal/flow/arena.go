package flow

import "laaster/internal/change"

// arena holds what one batch makes: rows and keys that live until the batch is applied. Taking from it does not allocate once
// it has grown to what batches need.
type arena struct {
	buf []byte
}

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

// reset forgets everything. A buffer that one great batch blew up is let go.
func (a *arena) reset() {
	if cap(a.buf) > 4<<20 && len(a.buf) < cap(a.buf)/16 {
		a.buf = nil
	}
	a.buf = a.buf[:0]
}

// delta is one row of a Z-set: w copies more (or fewer, when negative). The row lives until the batch is applied.
type delta struct {
	row change.Row
	w   int64
}
