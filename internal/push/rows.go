package push

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// rowWriter streams the rows of a query.
type rowWriter struct {
	reader
	*rowBuffers
	pool   *sync.Pool // that these go back to
	format format
	rows   int
	err    error // of the client's connection: nobody reads any more

	budget *sortBudget
	held   int         // bytes taken from the budget
	ready  []sortedRow // set by prepare when the order is not that of the keys
	sorts  bool
}

// rowBuffers is what rows are written through. Reads of a few rows would cost more for these than for all else.
type rowBuffers struct {
	w          *bufio.Writer // 32 KiB
	line, text []byte
}

// mostKept is how large a buffer is that another one goes on with, in bytes.
const mostKept = 256 << 10

// buffersOf returns buffers of a pool.
func buffersOf(pool *sync.Pool) *rowBuffers {
	if b, ok := pool.Get().(*rowBuffers); ok {
		return b
	}
	return &rowBuffers{w: bufio.NewWriterSize(nil, 32<<10)}
}

// free gives buffers back.
func (b *rowBuffers) free(pool *sync.Pool) {
	b.w.Reset(nil)
	if cap(b.line) > mostKept {
		b.line = nil
	}
	if cap(b.text) > mostKept {
		b.text = nil
	}
	pool.Put(b)
}

// newRowWriter returns what writes rows to w. Call release when the answer is out.
func (h *Hub) newRowWriter(w io.Writer, r reader, as format) *rowWriter {
	o := &rowWriter{reader: r, rowBuffers: buffersOf(&h.buffers), pool: &h.buffers, format: as, budget: &h.sorting}
	o.w.Reset(w)
	return o
}

// sortBudget is the memory that all reads together may use for sorting.
type sortBudget struct {
	limit int64
	each  int64 // of it: for one read
	used  atomic.Int64
}

// prepare sorts the rows if their order is not that of the keys. It answers busy, before anything was written, when too many reads
// sort at once.
func (o *rowWriter) prepare(snap *view.Snapshot) *wire.Problem {
	order, left := o.order(), o.filter.Limit
	if left < 0 {
		left = math.MaxInt64
	}
	if left == 0 || inKeyOrder(o.rel, order) {
		return nil
	}
	o.sorts = true
	if o.ready = o.sorted(snap, order, o.filter.Offset, left); o.ready != nil {
		return o.meter.ended()
	}
	if int64(o.held) > o.budget.each {
		return wire.NewProblem(wire.TooLarge, fmt.Sprintf("sorting these rows takes more than the %d KiB that one read may use", o.budget.each>>10)).
			WithField("order", "ask for fewer rows with limit or a filter, or read in the order of the key; a view with ORDER BY … LIMIT is kept sorted")
	}
	p := wire.NewProblem(wire.Busy, "the memory for sorting is in use by other reads").
		WithHint("ask again, ask for fewer rows with limit or a filter, or read in the order of the key; a view with ORDER BY … LIMIT is kept sorted")
	p.RetryAfterMS = 1000
	return p
}

// take reserves memory for sorting and reports whether there was enough.
func (o *rowWriter) take(bytes int) bool {
	o.held += bytes
	return o.budget.used.Add(int64(bytes)) <= o.budget.limit && int64(o.held) <= o.budget.each
}

func (o *rowWriter) release() {
	o.budget.used.Add(-int64(o.held))
	o.held, o.ready = 0, nil
	o.free(o.pool)
	o.rowBuffers = nil
}

// all writes the whole answer.
func (o *rowWriter) all(snap *view.Snapshot) {
	switch o.format {
	case asJSON:
		o.put([]byte{'['})
	case asCSV:
		o.put(o.heading())
	}
	o.each(snap, o.row)
	if o.meter.ended() != nil {
		return
	}
	if o.format == asJSON {
		o.put([]byte("]\n"))
	}
	if o.err == nil {
		o.err = o.w.Flush()
	}
}

func (o *rowWriter) put(b []byte) {
	if o.err == nil {
		_, o.err = o.w.Write(b)
	}
}

// row writes one row and reports whether to go on.
func (o *rowWriter) row(row change.Row) bool {
	b := o.line[:0]
	switch o.format {
	case asJSON:
		if o.rows > 0 {
			b = append(b, ",\n"...)
		}
		b = o.appendRow(b, row)
	case asLines:
		b = append(o.appendRow(b, row), '\n')
	case asCSV:
		b = o.appendCSV(b, row)
	}
	o.rows++
	o.line = b
	o.put(b)
	return o.err == nil
}

// each calls fn for the rows of the answer in their order, without those that offset and limit leave out.
func (o *rowWriter) each(snap *view.Snapshot, fn func(change.Row) bool) {
	skip, left := o.filter.Offset, o.filter.Limit
	if left < 0 {
		left = math.MaxInt64
	}
	window := func(row change.Row) bool {
		if skip > 0 {
			skip--
			return true
		}
		if left == 0 {
			return false
		}
		left--
		return fn(row) && left > 0
	}
	if left == 0 {
		return
	}
	if !o.sorts {
		o.scan(snap, nil, func(_ []byte, row change.Row) bool { return window(row) })
		return
	}
	for _, s := range o.ready {
		if !window(s.row) {
			return
		}
	}
}

// inKeyOrder reports whether the order of keys is the order that is asked for.
func inKeyOrder(rel *expr.Relation, order []app.OrderBy) bool {
	if len(order) > len(rel.Key) {
		return false
	}
	for i, by := range order {
		if by.Column != rel.Key[i] || by.Desc || by.NullsFirst {
			return false
		}
	}
	return true
}

// sortedRowBytes is what a sortedRow takes beside its key and its row, growth of the list included. The row counts too: its page may leave the store meanwhile.
const sortedRowBytes = 2 * 48

type sortedRow struct {
	key []byte // order-preserving: the columns of the order, then the row's key
	row change.Row
}

// sorted returns the rows in order, at least the first skip+limit of them, or nil when the budget is used up. It never holds more
// than twice that many.
func (o *rowWriter) sorted(snap *view.Snapshot, order []app.OrderBy, skip, limit int64) []sortedRow {
	byKey := func(a, b sortedRow) int { return bytes.Compare(a.key, b.key) }
	most := int64(math.MaxInt64)
	if limit < math.MaxInt64/4 && skip < math.MaxInt64/4 {
		most = skip + limit
	}
	rows, enough := []sortedRow{}, true
	o.scan(snap, nil, func(key []byte, row change.Row) bool {
		var k []byte
		for _, by := range order {
			k = change.AppendKey(k, o.rel.Layout.Type(by.Column), o.rel.Layout.Get(row, by.Column), by.Desc, by.NullsFirst)
		}
		k = append(k, key...)
		rows = append(rows, sortedRow{k, row})
		if enough = o.take(cap(k) + len(row) + sortedRowBytes); !enough {
			return false
		}
		if n := int64(len(rows)); n > 1024 && n/2 >= most {
			slices.SortFunc(rows, byKey)
			for i := range rows[most:] {
				freed := cap(rows[most:][i].key) + len(rows[most:][i].row) + sortedRowBytes
				o.held -= freed
				o.budget.used.Add(-int64(freed))
			}
			clear(rows[most:])
			rows = rows[:most]
		}
		return true
	})
	if !enough {
		return nil
	}
	slices.SortFunc(rows, byKey)
	return rows
}

// heading is the first line of a CSV answer: the names of the columns.
func (o *rowWriter) heading() []byte {
	var b []byte
	for i, name := range o.names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendCSVText(b, name[1:len(name)-2])
	}
	return append(b, '\n')
}

// appendCSV appends a row as PostgreSQL prints values: NULL is nothing at all, an empty text is "".
func (o *rowWriter) appendCSV(dst []byte, row change.Row) []byte {
	for i, c := range o.cols {
		if i > 0 {
			dst = append(dst, ',')
		}
		if v := o.rel.Layout.Get(row, c); !v.Null {
			o.text = expr.AppendText(o.text[:0], o.rel.Layout.Type(c), v)
			dst = appendCSVText(dst, o.text)
		}
	}
	return append(dst, '\n')
}

func appendCSVText(dst, text []byte) []byte {
	if len(text) > 0 && !bytes.ContainsAny(text, "\",\r\n") {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
