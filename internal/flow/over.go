package flow

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"laaster/app"
	"laaster/internal/change"
)

// over computes window functions. It keeps every row of each partition in the order of rowOrder, equal rows one by one, each with the
// results that it was emitted with. The tree counts, so that a row's position is one descent away.
//
// A batch recomputes, in each partition that it touches, the rows whose results a change can reach: from the first row whose frame
// (or lag, or rank) it may be in up to the first row behind it where every function is settled. Aggregates slide one accumulator per
// partition over the frames, which rests on the last frame computed: rows that come at a partition's end cost what their frames
// take in and leave behind.
type over struct {
	*rowOrder
	calls   []overCall
	results *change.Layout // of the calls
	outRow  *change.Layout
	errors  *errorLog
	rows    tree  // key, number of the copy (4 bytes) → overRow
	parts   table // key of the partition → number of rows (8 bytes), what each call keeps
	size    int   // of a value of parts
	closing bounded
	peers   bool // a function looks at the rows that are equal in the sort columns
	in      []ranked
	spots   []spot
	out     []delta
	p       overPart
	vals    []change.Value // of a row and its results
	buf     []byte
}

// overRow is what is kept of a row.
//
//	1 byte    what was emitted: rowFresh, rowShown or rowFailed
//	4 bytes   how long the part of the key is that its peers have too
//	4 bytes   the length of the row
//	row, and when shown the row of the results
type overRow []byte

// partitionRows is how many rows a partition of a window function may have: a change may compute all of them again.
const partitionRows = 1_000_000

const (
	rowFresh  = iota // nothing yet
	rowShown         // the row with its results
	rowFailed        // a function had no result: the row is in the error log
	rowHeader = 9
)

func (v overRow) peer() int { return int(binary.LittleEndian.Uint32(v[1:])) }
func (v overRow) row() change.Row {
	return change.Row(v[rowHeader:][:binary.LittleEndian.Uint32(v[5:])])
}
func (v overRow) results() change.Row {
	return change.Row(v[rowHeader+binary.LittleEndian.Uint32(v[5:]):])
}

// spot is a place in a partition where the batch changed rows: w rows that came begin at it, or -w rows that went were at it.
type spot struct {
	pos   int64
	w     int64
	row   change.Row
	key   []byte // what the row and its peers have in common
	start int64  // the first position that it can reach
}

// last returns the last position that changed.
func (s *spot) last() int64 { return s.pos + max(s.w-1, 0) }

// overPart is the partition at hand.
type overPart struct {
	key   []byte // what the keys of its rows begin with
	base  int64  // rows ahead of it
	n     int64  // rows in it
	r     ref    // in parts
	state []byte
}

// newOver returns the operator of p.
func newOver(p *Over, appendOnly bool, log *errorLog) (operator, error) {
	in := p.In.Columns()
	o := &over{rowOrder: newRowOrder(in, p.Partition, p.Sort, p.Closes), errors: log, rows: newTree(), parts: newTable(), size: 8}
	types := make([]app.Type, len(p.Calls))
	for i := range p.Calls {
		types[i] = p.Calls[i].Type
	}
	o.results, o.outRow = change.NewLayout(types), change.NewLayout(p.Columns())
	o.vals = make([]change.Value, len(in)+len(types))
	o.closing = newBounded(p.Closes, o.layout)
	o.calls = make([]overCall, len(p.Calls))
	for i := range p.Calls {
		c := &o.calls[i]
		if err := o.compile(c, &p.Calls[i], appendOnly); err != nil {
			return nil, fmt.Errorf("window function %d: %w", i, err)
		}
		if c.acc != nil {
			c.at = o.size
			o.size += c.size()
		}
		c.index = i
		o.peers = o.peers || c.needsPeers()
	}
	return o, nil
}

func (o *over) apply(x *exec, in []delta) []delta {
	o.out = o.out[:0]
	o.consolidate(x, in)
	for i := 0; i < len(o.in); {
		part := o.in[i].key[:o.in[i].part]
		j := i + 1
		for j < len(o.in) && bytes.HasPrefix(o.in[j].key, part) {
			j++
		}
		o.partition(x, part, o.in[i:j])
		i = j
	}
	if o.closing.bound != nil {
		o.close(x)
	}
	return o.out
}

// consolidate fills o.in with the net change of each row, in order. A row on which an argument fails is not among them.
func (o *over) consolidate(x *exec, in []delta) {
	o.in = o.in[:0]
	for _, d := range in {
		if o.closing.shut(d.row) {
			continue
		}
		if err := o.evaluable(x, d.row); err != nil {
			o.errors.add(x, o.layout, d.row, err, d.w)
			continue
		}
		at := len(x.scratch.buf)
		buf, part, peer := o.appendKey(x.scratch.buf, d.row)
		x.scratch.buf = buf
		key := buf[at:len(buf):len(buf)]
		o.in = append(o.in, ranked{prefix: prefixOf(key), key: key, part: part, peer: peer, row: d.row, w: d.w})
	}
	slices.SortFunc(o.in, func(a, b ranked) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return bytes.Compare(a.key, b.key)
	})
	n := 0
	for i := 0; i < len(o.in); {
		r := o.in[i]
		for i++; i < len(o.in) && bytes.Equal(r.key, o.in[i].key); i++ {
			r.w += o.in[i].w
		}
		if r.w != 0 {
			o.in[n] = r
			n++
		}
	}
	o.in = o.in[:n]
}

// partition applies the changes of one partition.
func (o *over) partition(x *exec, part []byte, in []ranked) {
	o.open(part)
	p := &o.p
	o.spots = o.spots[:0]
	for i := range in {
		o.change(x, &in[i])
	}
	putInt(p.state, p.n)
	if p.n > partitionRows {
		x.stop(&LimitError{"partition_rows", "rows in one partition of a window function", p.n, partitionRows})
		return
	}
	if p.n > 0 {
		o.refresh(x)
		return
	}
	o.free(p.state, p.r)
	o.parts.remove(o.parts.hash(p.key), p.r)
}

// open makes the partition the one at hand.
func (o *over) open(part []byte) {
	p := &o.p
	p.key, p.base = part, 0
	if len(part) > 0 {
		p.base = o.rows.before(part)
	}
	h := o.parts.hash(part)
	if p.r = o.parts.find(h, part); p.r == 0 {
		p.r = o.parts.insert(h, part, o.size)
		clear(o.parts.edit(p.r))
	}
	p.state = o.parts.edit(p.r)
	p.n = getInt(p.state)
}

// change lets copies of one row in or out.
func (o *over) change(x *exec, r *ranked) {
	p := &o.p
	pos, copies := o.rows.before(r.key)-p.base, int64(0)
	if o.rows.has(r.key) {
		o.buf = appendSuccessor(o.buf[:0], r.key)
		copies = o.rows.before(o.buf) - p.base - pos
	}
	for range r.w { // none when it is negative
		o.buf = append(o.buf[:0], rowFresh)
		o.buf = binary.LittleEndian.AppendUint32(o.buf, uint32(r.peer))
		o.buf = binary.LittleEndian.AppendUint32(o.buf, uint32(len(r.row)))
		o.buf = append(o.buf, r.row...)
		o.rows.add(o.copyKey(x, r.key, copies), o.buf, 1)
		o.shift(x, pos+copies, r.row, 1)
		copies++
	}
	for range -r.w {
		copies--
		key := o.copyKey(x, r.key, copies)
		c := o.rows.seek(key)
		o.retract(x, overRow(c.value()))
		o.rows.add(key, nil, -1)
		o.shift(x, pos+copies, r.row, -1)
	}
	p.n += r.w
	o.spots = append(o.spots, spot{pos: pos + copies - max(r.w, 0), w: r.w, row: r.row, key: r.key[:r.peer]})
}

// copyKey returns the key of one copy of a row.
func (o *over) copyKey(x *exec, key []byte, n int64) []byte {
	at := len(x.scratch.buf)
	x.scratch.buf = append(x.scratch.buf, key...)
	x.scratch.buf = binary.BigEndian.AppendUint32(x.scratch.buf, uint32(n))
	return x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)]
}

// retract takes back what was emitted for a row.
func (o *over) retract(x *exec, v overRow) {
	switch v[0] {
	case rowShown:
		o.out = append(o.out, delta{o.output(x, v.row(), v.results()), -1})
	case rowFailed:
		o.errors.add(x, o.layout, x.scratch.copy(v.row()), nil, -1)
	}
}

// output returns a row with its results.
func (o *over) output(x *exec, row, results change.Row) change.Row {
	n := o.layout.Columns()
	for i := range n {
		o.vals[i] = o.layout.Get(row, i)
	}
	for i := range o.calls {
		o.vals[n+i] = o.results.Get(results, i)
	}
	return x.scratch.row(o.outRow, o.vals)
}

// close frees the partitions that the watermark has passed. What they show stays.
func (o *over) close(x *exec) {
	o.closing.advance(x)
	for c := o.rows.first(); o.closing.closes(c); c = o.rows.first() {
		o.open(o.appendKeys(nil, o.first, overRow(c.value()).row()))
		o.free(o.p.state, o.p.r)
		o.parts.remove(o.parts.hash(o.p.key), o.p.r)
		for ; c.valid() && bytes.HasPrefix(c.key(), o.p.key); c = o.rows.first() {
			o.rows.add(x.scratch.copy(c.key()), nil, -1)
		}
	}
}

func (o *over) due(x *exec) bool { return o.closing.due(x, &o.rows) }
func (o *over) next() int64      { return never }

// free lets go of what the calls keep of a partition.
func (o *over) free(state []byte, r ref) {
	for i := range o.calls {
		if c := &o.calls[i]; c.acc != nil {
			c.acc.free(r, state[c.at+frameBytes:][:c.acc.fixed()])
		}
	}
}

// bytes leaves out what accumulators hold: it depends on which frame was computed last.
func (o *over) bytes() int { return o.rows.bytes() + o.parts.bytes() }

func (o *over) state(k *keeper) {
	k.tree(&o.rows)
	k.table(&o.parts)
	o.closing.state(k)
	for i := range o.calls {
		if acc := o.calls[i].acc; acc != nil {
			acc.state(k)
		}
	}
}

func (o *over) name() string {
	return fmt.Sprintf("over (%d functions, by %d)", len(o.calls), len(o.first))
}
