package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// lookup pairs each row of the left input with the rows of the right one that were there before the batches of its stamp, and never again:
// what changes on the right later concerns later rows alone, and nothing of the left is kept. Changes of the right count from the next stamp
// on, so that it does not matter how the records of one stamp are cut into batches.
type lookup struct {
	left    bool // rows without a match come out with NULLs
	lkeys   []expr.Func
	rkeys   []expr.Func
	safe    []bool // by key: NULL matches NULL
	types   *change.Layout
	cond    expr.Func // nil: none
	lin     *change.Layout
	rin     *change.Layout
	pair    *change.Pair
	none    change.Row // the right side's columns, all NULL
	errors  *errorLog
	rows    tree // AppendKey of the keys, then the row's bytes → the row, weighing how often it is there
	stamp   int64
	waiting rowQueue // of stamp, see wait
	held    int      // bytes of their keys and rows
	vals    []change.Value
	key     []byte
	buf     []byte
	out     []delta
}

// newLookup returns the operator of p.
func newLookup(p *Join, appendL bool, log *errorLog) (multiOperator, error) {
	if !appendL {
		return nil, fmt.Errorf("the left side of a lookup takes rows back")
	}
	l, r := change.NewLayout(p.L.Columns()), change.NewLayout(p.R.Columns())
	u := &lookup{left: p.Kind == LookupLeftJoin, lin: l, rin: r, pair: change.NewPair(l, r), none: r.Null(), errors: log, rows: newTree(), safe: p.NullSafe,
		vals: make([]change.Value, len(p.LKeys))}
	if u.safe == nil {
		u.safe = make([]bool, len(p.LKeys))
	}
	u.types = change.NewLayout(typesOf(nil, p.LKeys))
	var err error
	if u.lkeys, err = compileAll(p.LKeys, l); err != nil {
		return nil, err
	}
	if u.rkeys, err = compileAll(p.RKeys, r); err != nil {
		return nil, err
	}
	if p.Cond != nil {
		fs, err := compileAll([]*expr.Node{p.Cond}, u.pair.Layout())
		if err != nil {
			return nil, err
		}
		u.cond = fs[0]
	}
	return u, nil
}

func (u *lookup) apply(x *exec, in [][]delta) []delta {
	u.out = u.out[:0]
	if x.stamp > u.stamp {
		u.settle()
		u.stamp = x.stamp
	}
	for _, d := range in[0] {
		u.look(x, d)
	}
	for _, d := range in[1] {
		ok, err := u.keyOf(x, u.rkeys, d.row)
		if err != nil {
			u.errors.add(x, u.rin, d.row, err, d.w)
		} else if ok {
			u.wait(d)
		}
	}
	return u.out
}

// waitHead is the length of a waiting row's key (4 bytes) and how often the row comes (8 bytes), ahead of the key and the row.
const waitHead = 12

// wait notes a change of the right side, whose key is u.key, that does not count yet.
func (u *lookup) wait(d delta) {
	u.buf = binary.LittleEndian.AppendUint32(u.buf[:0], uint32(len(u.key)))
	u.buf = binary.LittleEndian.AppendUint64(u.buf, uint64(d.w))
	u.buf = append(append(u.buf, u.key...), d.row...)
	u.waiting.push(u.buf, u.stamp)
	u.held += len(u.buf) - waitHead
}

// settle makes the changes of the last stamp count.
func (u *lookup) settle() {
	for u.waiting.n > 0 {
		b := u.waiting.pop()
		row := b[waitHead+binary.LittleEndian.Uint32(b):]
		u.rows.add(b[waitHead:], row, int64(binary.LittleEndian.Uint64(b[4:])))
	}
	u.held = 0
}

// keyOf writes a row's key to u.key. It is false when a NULL matches nothing. The key ends with its length, so that no key is the beginning of
// another with its row.
func (u *lookup) keyOf(x *exec, keys []expr.Func, row change.Row) (bool, error) {
	x.ctx.Reset()
	x.ctx.Row = row
	if err := evaluate(&x.ctx, keys, u.vals); err != nil {
		return false, err
	}
	u.key = u.key[:0]
	for i, v := range u.vals {
		if v.Null && !u.safe[i] {
			return false, nil
		}
		u.key = change.AppendKey(u.key, u.types.Type(i), v, false, false)
	}
	u.key = binary.BigEndian.AppendUint32(u.key, uint32(len(u.key)))
	return true, nil
}

// look emits a row of the left side with its matches.
func (u *lookup) look(x *exec, d delta) {
	found := 0
	ok, err := u.keyOf(x, u.lkeys, d.row)
	if err != nil {
		u.errors.add(x, u.lin, d.row, err, d.w)
		return
	}
	if ok {
		for c := u.rows.seek(u.key); c.valid() && bytes.HasPrefix(c.key(), u.key); c.next() {
			if u.combine(x, d, c.value(), d.w*c.weight()) {
				found++
			}
		}
	}
	if found == 0 && u.left {
		at := len(x.scratch.buf)
		x.scratch.buf = u.pair.Append(x.scratch.buf, d.row, u.none)
		u.out = append(u.out, delta{change.Row(x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)]), d.w})
	}
}

// combine emits a pair if the condition is true for it.
func (u *lookup) combine(x *exec, d delta, right change.Row, w int64) bool {
	at := len(x.scratch.buf)
	x.scratch.buf = u.pair.Append(x.scratch.buf, d.row, right)
	row := change.Row(x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)])
	if u.cond != nil {
		x.ctx.Reset()
		x.ctx.Row = row
		v, err := u.cond(&x.ctx)
		if err != nil {
			u.errors.add(x, u.pair.Layout(), row, err, w)
			return false
		}
		if !v.True() {
			x.scratch.buf = x.scratch.buf[:at]
			return false
		}
	}
	u.out = append(u.out, delta{row, w})
	return true
}

func (u *lookup) bytes() int   { return u.rows.bytes() + u.held }
func (u *lookup) name() string { return "lookup" }

func (u *lookup) state(k *keeper) {
	k.tree(&u.rows)
	k.i64(&u.stamp)
	k.queue(&u.waiting)
	k.num(&u.held)
}
