package flow

import (
	"bytes"
	"encoding/binary"
	"math"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// dueBytes is what a row takes in joinSide.due, at most.
const dueBytes = 48

// keptUntil returns when a row can be forgotten, math.MaxInt64 for never.
func keptUntil(x *exec, until expr.Func, row change.Row) int64 {
	x.ctx.Reset()
	x.ctx.Row = row
	v, err := until(&x.ctx)
	if err != nil || v.Null {
		return math.MaxInt64
	}
	return v.N
}

// untilOf returns the time in a row's meta bytes.
func (s *joinSide) untilOf(meta []byte) int64 {
	if s.until == nil {
		return math.MaxInt64
	}
	return int64(binary.LittleEndian.Uint64(meta[s.meta-8:]))
}

// dueBucket notes n more (or fewer) rows in a bucket's chunks that are due at a time.
func (s *joinSide) dueBucket(until int64, r ref, n int64) {
	s.dueKey = binary.BigEndian.AppendUint64(s.dueKey[:0], uint64(until)^1<<63)
	s.dueKey = binary.BigEndian.AppendUint64(s.dueKey, uint64(r))
	s.noteDue(until, n)
}

// dueWhole notes that a bucket, one row of which is at hand, has its first rows (n is 1) or lost its last one (-1). A due time for each row
// cost the windowed join of a hot-items query a third of its time, since each change of a count is a row that goes and one that comes.
func (s *joinSide) dueWhole(x *exec, r ref, row change.Row, n int) {
	s.size += n * dueBytes
	s.dueBucket(keptUntil(x, s.whole, row), r, int64(n))
}

// dueRow notes that the row s.key of the tree came (n is 1) or goes (-1).
func (s *joinSide) dueRow(until int64, n int64) {
	s.dueKey = binary.BigEndian.AppendUint64(s.dueKey[:0], uint64(until)^1<<63)
	s.dueKey = append(s.dueKey, s.key...)
	s.noteDue(until, n)
}

func (s *joinSide) noteDue(until, n int64) {
	if until != math.MaxInt64 {
		s.due.add(s.dueKey, nil, n)
	}
}

// isDue reports whether the watermark has freed rows that are kept until a time.
func (s *joinSide) isDue(until, mark int64) bool { return until < mark || until == mark && s.free.OrAt }

// due implements [timed].
func (j *join) due(x *exec) bool {
	for i := range j.sides {
		if s := &j.sides[i]; s.due != nil {
			c := s.due.first()
			if c.valid() && s.isDue(dueTime(c.key()), j.mark(x, s.free.Tables)) {
				return true
			}
		}
	}
	return false
}

// next implements [timed]: rows wait for a watermark alone.
func (j *join) next() int64 { return never }

func dueTime(key []byte) int64 { return int64(binary.BigEndian.Uint64(key) ^ 1<<63) }

// free forgets the rows of side s that can have no more matches. What they show stays.
func (j *join) free(x *exec, s int) {
	me := &j.sides[s]
	mark := j.mark(x, me.free.Tables)
	j.gone, j.touched = j.gone[:0], j.touched[:0]
	for c := me.due.first(); c.valid() && me.isDue(dueTime(c.key()), mark); c.next() {
		j.gone = append(j.gone, delta{x.scratch.copy(c.key()), c.weight()})
	}
	for _, d := range j.gone {
		me.due.add(d.row, nil, -d.w)
		r := ref(binary.BigEndian.Uint64(d.row[8:]))
		j.touch(joinEntry{r, j.groups.hash(j.groups.key(r))}, false)
		if len(d.row) > 16 {
			me.drop(bucket(j.groups.edit(r)[s*bucketSize:]), d.row[8:])
		}
	}
	for i := range j.touched {
		v := j.groups.edit(j.touched[i].r)
		mine, theirs := bucket(v[s*bucketSize:]), bucket(v[(1-s)*bucketSize:])
		switch {
		case me.whole != nil:
			me.clear(j.touched[i].r, mine)
		case !mine.isTree():
			me.sweep(mine, mark)
		}
		j.dropEmpty(j.touched[i].joinEntry, mine, theirs)
	}
}

// clear forgets all rows of a bucket, which may then take others in chunks again.
func (s *joinSide) clear(r ref, b bucket) {
	if b.isTree() {
		s.key = binary.BigEndian.AppendUint64(s.key[:0], uint64(r))
		for c := s.tree.seek(s.key); c.valid() && bytes.HasPrefix(c.key(), s.key); c.next() {
			s.resized(len(s.rowOf(c.key(), c.value())), c.weight(), 0)
			if s.order != nil && c.key()[8] == rangeFails {
				s.failed--
			}
		}
		s.tree.drop(r)
	} else {
		for at := ref(b.head()); at != 0; {
			c := chunk(s.slab.at(at))
			for i, end := chunkHead, chunkHead+c.used(); i < end; i += rowHead + s.meta + c.length(i) {
				s.resized(c.length(i), c.weight(i), 0)
			}
			next := c.next()
			s.slab.release(at)
			at = next
		}
	}
	s.size -= dueBytes
	b.setHead(0)
	b.addRows(-int(b.rows()))
	b.setWeight(0)
}

// drop forgets the row with a key of the tree.
func (s *joinSide) drop(b bucket, key []byte) {
	c := s.tree.seek(key)
	w := c.weight()
	s.resized(len(s.rowOf(key, c.value())), w, 0)
	s.tree.add(key, nil, -w)
	if s.order != nil && key[8] == rangeFails {
		s.failed--
	}
	b.addRows(-1)
	b.setWeight(b.weight() - w)
}

// sweep forgets the rows of a bucket's chunks that are due.
func (s *joinSide) sweep(b bucket, mark int64) {
	for r := ref(b.head()); r != 0; {
		c := chunk(s.slab.at(r))
		next := c.next()
		if s.isDue(c.least(), mark) {
			c = s.slab.edit(r)
			s.sweepChunk(b, c, mark)
			if c.used() == 0 {
				s.unlink(b, r)
			}
		}
		r = next
	}
}

func (s *joinSide) sweepChunk(b bucket, c chunk, mark int64) {
	to, end := chunkHead, chunkHead+c.used()
	c.setLeast(math.MaxInt64)
	for at := chunkHead; at < end; {
		size := rowHead + s.meta + c.length(at)
		until := s.untilOf(c[at+rowHead:][:s.meta])
		if s.isDue(until, mark) {
			s.resized(c.length(at), c.weight(at), 0)
			b.addRows(-1)
			b.setWeight(b.weight() - c.weight(at))
		} else {
			c.setLeast(min(c.least(), until))
			copy(c[to:to+size], c[at:at+size])
			to += size
		}
		at += size
	}
	c.setUsed(to - chunkHead)
}
