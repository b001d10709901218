package flow

import (
	"encoding/binary"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// joinLook is what is known of a delta before it is taken: where its key is in join.keys, and the key's entry if there was one.
type joinLook struct {
	joinEntry
	from, to int
	state    keyState
}

type keyState uint8

const (
	keyFound keyState = iota
	keyNull           // it matches nothing
	keyFails
)

// look finds the entries of a few deltas of side s. Finding them and reading the heads of their buckets for several deltas in a row, rather
// than one delta after the other, lets the processor wait for many cache misses at once.
func (j *join) look(x *exec, s int, in []delta) {
	j.keys = j.keys[:0]
	for i, d := range in {
		k := &j.looks[i]
		*k = joinLook{from: len(j.keys)}
		k.state = j.appendKey(x, &j.sides[s], d)
		k.to = len(j.keys)
		k.h = j.groups.hash(j.keys[k.from:])
	}
	warm := uint64(0)
	for i := range in {
		warm += j.groups.near(j.looks[i].h)
	}
	for i := range in {
		if k := &j.looks[i]; k.state == keyFound {
			k.r = j.groups.find(k.h, j.keys[k.from:k.to])
		}
	}
	for i := range in {
		if r := j.looks[i].r; r != 0 {
			v := j.groups.value(r)
			warm += j.sides[0].near(bucket(v)) + j.sides[1].near(bucket(v[bucketSize:]))
		}
	}
	j.warm += warm
}

// near reads the bucket's first chunk where it begins and where its next row goes.
func (s *joinSide) near(b bucket) uint64 {
	h := b.head()
	if h == 0 || h&inTree != 0 {
		return 0
	}
	c := chunk(s.slab.at(ref(h)))
	if end := chunkHead + c.used(); end < len(c) {
		return uint64(c[end])
	}
	return 0
}

// appendKey appends the key of a row of the side me to j.keys.
func (j *join) appendKey(x *exec, me *joinSide, d delta) keyState {
	from := len(j.keys)
	if me.columns != nil {
		j.keys = me.layout.AppendColumns(j.keys, j.keyRow, d.row, me.columns)
	} else {
		x.ctx.Reset()
		x.ctx.Row = d.row
		if err := evaluate(&x.ctx, me.keys, j.vals); err != nil {
			j.errors.add(x, me.layout, d.row, err, d.w)
			return keyFails
		}
		if !j.exact {
			return j.appendOrdered()
		}
		j.keys = j.keyRow.Append(j.keys, j.vals)
	}
	for i, b := range j.strict {
		if j.keys[from+i]&b != 0 {
			return keyNull
		}
	}
	return keyFound
}

func (j *join) appendOrdered() keyState {
	for i := range j.vals {
		if j.vals[i].Null && !j.safe[i] {
			return keyNull
		}
		j.keys = change.AppendKey(j.keys, j.keyRow.Type(i), j.vals[i], false, false)
	}
	return keyFound
}

// probe joins d, a row of side s, with a bucket of the other, and returns how many rows it matches there.
func (j *join) probe(x *exec, s int, r ref, b bucket, d delta) int64 {
	other := &j.sides[1-s]
	if other.order == nil || b.rows() <= bucketRows && !b.isTree() {
		other.all(&j.it, r, b)
		return j.match(x, s, d, j.conds)
	}
	if !b.isTree() {
		other.convert(x, r, b)
	}
	if !other.bounds(x, r, d.row) {
		other.all(&j.it, r, b)
		return j.match(x, s, d, j.conds)
	}
	other.within(&j.it)
	n := j.match(x, s, d, other.order.rest)
	if other.failed > 0 && !(j.once && s == 0 && n > 0) {
		other.lo = append(binary.BigEndian.AppendUint64(other.lo[:0], uint64(r)), rangeFails)
		other.hi = append(binary.BigEndian.AppendUint64(other.hi[:0], uint64(r)), rangeFails+1)
		other.within(&j.it)
		n += j.match(x, s, d, j.conds)
	}
	return n
}

// match joins d with the rows of a walk for which conds are true.
func (j *join) match(x *exec, s int, d delta, conds []expr.Func) (n int64) {
	other, it := &j.sides[1-s], &j.it
	for it.next() && !x.full() {
		if j.once && other.counted && other.matches(it.place()) > 0 {
			continue
		}
		if (j.pairs || len(conds) > 0) && !j.combine(x, s, d, conds) {
			continue
		}
		n += it.w
		if other.counted && other.meet(it.place(), d.w) {
			j.met = append(j.met, it.place())
		}
		if j.once && s == 0 {
			break
		}
	}
	return n
}

// combine emits d with the row at hand when conds are true for the two.
func (j *join) combine(x *exec, s int, d delta, conds []expr.Func) bool {
	at := len(x.scratch.buf)
	if s == 0 {
		x.scratch.buf = j.pair.Append(x.scratch.buf, d.row, j.it.row)
	} else {
		x.scratch.buf = j.pair.Append(x.scratch.buf, j.it.row, d.row)
	}
	row := change.Row(x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)])
	if len(conds) > 0 {
		x.ctx.Reset()
		x.ctx.Row = row
	}
	for _, f := range conds {
		v, err := f(&x.ctx)
		if err != nil {
			j.errors.add(x, j.pair.Layout(), row, err, d.w*j.it.w)
			return false
		}
		if !v.True() {
			x.scratch.buf = x.scratch.buf[:at]
			return false
		}
	}
	if j.pairs {
		j.out = append(j.out, delta{row, d.w * j.it.w})
	} else {
		x.scratch.buf = x.scratch.buf[:at]
	}
	return true
}
