package flow

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// errorLog is about the rows that are missing from views because an expression of a step failed on them: it counts all of them and
// keeps the newest errorsKept for laaster.errors.
//
// How many there are is a function of the state. Which are kept is not, when there are more: a row that had to make room does not come
// back when a newer one goes. So the fingerprint has the count alone.
type errorLog struct {
	rows  int64
	step  string   // its identity
	dom   uint64   // of ids
	in    []string // names of the columns of what the step reads; nil: not known
	keys  []string // of an Aggregate's keys
	types []app.Type
	batch []failure // of this batch
	kept  *errorRows
}

// failure is one call of add.
type failure struct {
	in  *change.Layout
	row change.Row
	err error
	w   int64
	id  [16]byte
}

// errorRows is what a log keeps: by id, and in the order of arrival. An entry's value is an errorRow.
type errorRows struct {
	byID  table
	order tree  // number → id
	next  int64 // number of the next one
}

func newErrorRows() *errorRows { return &errorRows{byID: newTable(), order: newTree(), next: 1} }

// errorsKept is how many different failing rows of a step are kept.
const errorsKept = 1000

// reasonsKept is how many of the newest reasons Stats has.
const reasonsKept = 8

// ErrorReason is why a row is missing from a view.
type ErrorReason struct {
	Seq    uint64 // the batch that brought the row
	Reason string // what the expression said, such as "division by zero"
}

func newErrorLog(id string, p Plan, prog *Program) *errorLog {
	l := &errorLog{step: id, dom: hash128(domainError, []byte(id)).lo}
	if ins := p.Inputs(); len(ins) == 1 {
		l.in, l.types = prog.names(ins[0]), ins[0].Columns()
	} else if len(ins) > 1 {
		l.in, l.types = prog.names(p), p.Columns()
	}
	if a, ok := p.(*Aggregate); ok {
		l.keys = pickNames(l.in, a.Keys)
	}
	return l
}

// add counts w copies of a row, which is under the layout in, that fail with err; negative w takes them back, whatever err is (it may
// be nil). The row is what the operator read, for aggregates the group's key.
func (l *errorLog) add(x *exec, in *change.Layout, row change.Row, err error, w int64) {
	l.rows += w
	if len(l.batch) == 0 {
		x.failed = append(x.failed, l)
	}
	l.batch = append(l.batch, failure{in: in, row: x.scratch.copy(row), err: err, w: w})
}

// settle ends the batch: it takes what add noted into what is kept, and calls moved for each entry before it is changed or dropped
// (w is -1) and after it was made or changed (1).
func (l *errorLog) settle(x *exec, moved func(r ref, w int64)) {
	batch := l.net()
	if l.kept == nil {
		l.kept = newErrorRows()
	}
	k := l.kept
	fresh := 0
	for i := range batch {
		f := &batch[i]
		h := k.byID.hash(f.id[:])
		r := k.byID.find(h, f.id[:])
		if r == 0 {
			if f.w > 0 {
				batch[fresh] = *f
				fresh++
			}
			continue
		}
		moved(r, -1)
		if k.addCopies(r, f.w) > 0 {
			moved(r, 1)
		} else {
			k.drop(h, r)
		}
	}
	batch = batch[max(0, fresh-errorsKept):fresh] // the others would have to make room at once
	for k.byID.n+len(batch) > errorsKept {
		first := k.order.first()
		id := bytes.Clone(first.value())
		h := k.byID.hash(id)
		r := k.byID.find(h, id)
		moved(r, -1)
		k.drop(h, r)
	}
	for i := range batch {
		moved(k.insert(x, l, &batch[i]), 1)
	}
	clear(l.batch)
	l.batch = l.batch[:0]
}

// net adds up the batch's failures by row, in the order of their last mention.
func (l *errorLog) net() []failure {
	for i := range l.batch {
		h := hash128(l.dom, l.batch[i].row)
		binary.BigEndian.PutUint64(l.batch[i].id[:], h.hi)
		binary.BigEndian.PutUint64(l.batch[i].id[8:], h.lo)
	}
	at := make([]int, len(l.batch))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int { return bytes.Compare(l.batch[a].id[:], l.batch[b].id[:]) })
	n := 0
	for i := 0; i < len(at); {
		last, w, err := at[i], int64(0), error(nil)
		for ; i < len(at) && l.batch[at[i]].id == l.batch[last].id; i++ {
			last, w = at[i], w+l.batch[at[i]].w
			err = cmp.Or(l.batch[last].err, err)
		}
		l.batch[last].w, l.batch[last].err = w, err
		if w != 0 {
			at[n] = last
			n++
		}
	}
	at = at[:n]
	slices.Sort(at)
	out := make([]failure, n)
	for i, a := range at {
		out[i] = l.batch[a]
	}
	return out
}

// An entry's value: copies, number, sequence and stamp of the batch that brought it (8 bytes each), the length of the reason (4), the
// reason, the row as jsonb.
const errorRowHead = 36

// errorRow is an entry of errorRows, decoded; it aliases the entry.
type errorRow struct {
	id          []byte
	copies, num int64
	seq         uint64
	stamp       int64
	reason, row []byte
}

func (k *errorRows) row(r ref) errorRow {
	b, le := k.byID.value(r), binary.LittleEndian
	n := errorRowHead + int(le.Uint32(b[32:]))
	return errorRow{id: k.byID.key(r), copies: int64(le.Uint64(b)), num: int64(le.Uint64(b[8:])), seq: le.Uint64(b[16:]),
		stamp: int64(le.Uint64(b[24:])), reason: b[errorRowHead:n], row: b[n:]}
}

func (k *errorRows) addCopies(r ref, w int64) int64 {
	b := k.byID.edit(r)
	w += int64(binary.LittleEndian.Uint64(b))
	binary.LittleEndian.PutUint64(b, uint64(w))
	return w
}

func (k *errorRows) drop(h uint64, r ref) {
	var num [8]byte
	binary.BigEndian.PutUint64(num[:], uint64(k.row(r).num))
	k.order.add(num[:], nil, -1)
	k.byID.remove(h, r)
}

func (k *errorRows) insert(x *exec, l *errorLog, f *failure) ref {
	reason := ""
	if f.err != nil {
		reason = f.err.Error()
	}
	row := rowJSON(x, f.in, l.names(f.in), f.row)
	r := k.byID.insert(k.byID.hash(f.id[:]), f.id[:], errorRowHead+len(reason)+len(row))
	b, le := k.byID.edit(r), binary.LittleEndian
	le.PutUint64(b, uint64(f.w))
	le.PutUint64(b[8:], uint64(k.next))
	le.PutUint64(b[16:], x.seq)
	le.PutUint64(b[24:], uint64(x.stamp))
	le.PutUint32(b[32:], uint32(len(reason)))
	copy(b[copy(b[errorRowHead:], reason)+errorRowHead:], row)
	var num [8]byte
	binary.BigEndian.PutUint64(num[:], uint64(k.next))
	k.order.add(num[:], f.id[:], 1)
	k.next++
	return r
}

func (l *errorLog) state(k *keeper) {
	k.i64(&l.rows)
	if !k.optional(l.kept != nil) {
		return
	}
	if l.kept == nil {
		l.kept = newErrorRows()
	}
	k.table(&l.kept.byID)
	k.tree(&l.kept.order)
	k.i64(&l.kept.next)
}

// names returns the column names of a failing row: nil when they are not known.
func (l *errorLog) names(in *change.Layout) []string {
	if l.in != nil && len(l.in) == in.Columns() && slices.EqualFunc(l.types, layoutTypes(in), func(a, b app.Type) bool { return a == b }) {
		if l.keys == nil || len(l.keys) != len(l.in) || slices.Equal(l.in, l.keys) {
			return l.in
		}
		return nil // the row may be the one or the other
	}
	if len(l.keys) == in.Columns() {
		return l.keys
	}
	return nil
}

func layoutTypes(l *change.Layout) []app.Type {
	types := make([]app.Type, l.Columns())
	for i := range types {
		types[i] = l.Type(i)
	}
	return types
}

// reasons returns the reasons of the newest rows that are still missing, newest first.
func (l *errorLog) reasons() (out []ErrorReason) {
	if l.kept == nil {
		return nil
	}
	n := l.kept.order.total()
	for i := n - 1; i >= max(0, n-reasonsKept); i-- {
		c, _ := l.kept.order.at(i)
		row := l.kept.row(l.kept.byID.find(l.kept.byID.hash(c.value()), c.value()))
		out = append(out, ErrorReason{row.seq, string(row.reason)})
	}
	return out
}

// maxRowJSON bounds the row that is kept beside an error, in bytes.
const maxRowJSON = 8 << 10

// rowJSON returns a row as a jsonb object, in scratch memory. Columns without a name are c1, c2 and so on. A cell that makes the row
// longer than maxRowJSON is left out.
func rowJSON(x *exec, l *change.Layout, names []string, row change.Row) []byte {
	buf := append(make([]byte, 0, 256), '{')
	for i := range l.Columns() {
		at := len(buf)
		if at > 1 {
			buf = append(buf, ',')
		}
		name := "c" + strconv.Itoa(i+1)
		if names != nil {
			name = names[i]
		}
		buf = append(expr.AppendJSON(buf, app.Text, change.Bytes([]byte(name)), false), ':')
		if buf = expr.AppendJSON(buf, l.Type(i), l.Get(row, i), false); len(buf) > maxRowJSON {
			buf = buf[:at]
		}
	}
	v, _, err := expr.ParseText(app.JSONB, append(buf, '}'), nil)
	if err != nil {
		return x.scratch.copy([]byte("{}")) // a cell that jsonb cannot hold, such as text with \u0000
	}
	return x.scratch.copy(v.B)
}
