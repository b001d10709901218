package flow

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// session puts rows into sessions: those of one partition whose neighbours in time are closer than gap.
//
// rows has every row as it comes out, its window still zero, under partition and time; spans has for every session its last time under
// partition and first time. A session that grows, shrinks, splits or merges changes all its rows, so what a batch does is worked out per
// stretch of a partition: the sessions that it touches, before and after. Rows that come inside a session leave the others alone.
//
// With Closes a session whose end the watermark has reached never changes again. It is kept for another gap, in which a row that is late
// but not over yet could still touch it, and then forgotten without being retracted. When rows leave an open session by age and what is left
// of it would be over already, that goes too.
type session struct {
	where      expr.Func
	in         *change.Layout
	time       instant
	pick       picker
	start, end instant // in the output
	partition  []int
	gap        int64
	rows       tree // partition, time, row
	spans      tree // partition, first time → last time
	ends       sessionEnds
	pending    []sessionRow
	old        []sessionSpan
	over       []sessionRow // rows of what rebuild found to be over
	errors     *errorLog
	out        []delta
	key, seek  []byte
}

// sessionRow is a change to a row: its key in rows is the partition's key, the time and the row.
type sessionRow struct {
	key  []byte
	head int // bytes of the partition's key
	time int64
	w    int64
}

// sessionSpan is a session: the times of its first and its last row.
type sessionSpan struct{ first, last int64 }

// newSession returns the operator of p.
func newSession(p *Session, log *errorLog) (operator, error) {
	if p.Gap <= 0 || p.Gap > maxWidth {
		return nil, fmt.Errorf("a session with a gap of %d microseconds", p.Gap)
	}
	in, err := readTimes(p.In, p.Time, p.Where)
	if err != nil {
		return nil, err
	}
	out := change.NewLayout(p.Columns())
	n := len(p.Keep)
	s := &session{where: in.where, in: in.layout, time: instantOf(in.layout, p.Time), pick: newPicker(in.layout, out, p.Keep),
		start: instantOf(out, n), end: instantOf(out, n+1), partition: p.Partition, gap: p.Gap, rows: newTree(), spans: newTree(), errors: log}
	if p.Closes {
		table, err := closingTable(p.In)
		if err != nil {
			return nil, err
		}
		s.ends = newSessionEnds(table, p.Gap)
	}
	return s, nil
}

func (s *session) apply(x *exec, in []delta) []delta {
	s.out, s.pending = s.out[:0], s.pending[:0]
	late := s.ends.late(x)
	for i := range in {
		d := &in[i]
		var b *behind
		if len(late) > 0 && late[0].index == i {
			b, late = &late[0], late[1:]
		}
		r, ok := s.read(x, d)
		if !ok {
			continue
		}
		if s.ends.on && (b != nil || d.w < 0) {
			s.flush(x) // what came before decides
			if !s.admits(x, d, &r, b) {
				continue
			}
		}
		s.pending = append(s.pending, r)
	}
	s.flush(x)
	s.free(x)
	return s.out
}

// read computes the key of a row in s.rows; false when it is in no session.
func (s *session) read(x *exec, d *delta) (sessionRow, bool) {
	r := sessionRow{w: d.w}
	if s.where != nil {
		x.ctx.Reset()
		x.ctx.Row = d.row
		v, err := s.where(&x.ctx)
		if err != nil {
			s.errors.add(x, s.in, d.row, err, d.w)
			return r, false
		}
		if !v.True() {
			return r, false
		}
	}
	t, ok := s.time.get(d.row)
	if !ok {
		return r, false
	}
	if t < minAt || t > maxAt-s.gap {
		s.errors.add(x, s.in, d.row, errTimeRange(), d.w)
		return r, false
	}
	r.time = t
	at := len(x.scratch.buf)
	for _, c := range s.partition {
		x.scratch.buf = change.AppendKey(x.scratch.buf, s.in.Type(c), s.in.Get(d.row, c), false, false)
	}
	r.head = len(x.scratch.buf) - at
	x.scratch.buf = appendTime(x.scratch.buf, t)
	x.scratch.buf = s.pick.pick(x.scratch.buf, d.row)
	r.key = x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)]
	return r, true
}

// flush works out what the pending rows change.
func (s *session) flush(x *exec) {
	rows := s.pending
	slices.SortFunc(rows, func(a, b sessionRow) int { return bytes.Compare(a.key, b.key) })
	n := 0
	for i := 0; i < len(rows); {
		r := rows[i]
		for i++; i < len(rows) && bytes.Equal(r.key, rows[i].key); i++ {
			r.w += rows[i].w
		}
		if r.w != 0 {
			rows[n] = r
			n++
		}
	}
	rows = rows[:n]
	for len(rows) > 0 {
		rows = rows[s.stretch(x, rows):]
	}
	s.pending = s.pending[:0]
}

// stretch applies the first of rows and as many of those behind as may belong to the same sessions, before or after; it returns how many.
func (s *session) stretch(x *exec, rows []sessionRow) int {
	first := &rows[0]
	part := first.key[:first.head]
	s.old = s.old[:0]
	lo, hi := first.time, first.time // the times of all rows that may change
	if o, ok := s.touching(part, first.time); ok {
		s.old = append(s.old, o)
		lo, hi = min(lo, o.first), max(hi, o.last)
	}
	n := 1
	for {
		// The session that begins within reach of what there is joins in, then the row that does.
		if o, ok := s.after(part, lo, hi); ok {
			s.old = append(s.old, o)
			hi = max(hi, o.last)
			continue
		}
		if n < len(rows) && rows[n].time-hi < s.gap && rows[n].head == first.head && bytes.Equal(rows[n].key[:first.head], part) {
			hi = max(hi, rows[n].time)
			n++
			continue
		}
		break
	}
	if s.inside(rows[:n]) {
		for i := range rows[:n] {
			r := &rows[i]
			s.rows.add(r.key, nil, r.w)
			s.emit(x, r.key[r.head+8:], s.old[0], r.w)
		}
		return n
	}
	for i := range rows[:n] {
		s.rows.add(rows[i].key, nil, rows[i].w)
	}
	s.rebuild(x, rows[:n], lo, hi)
	return n
}

// inside reports whether all rows come into one session without changing it.
func (s *session) inside(rows []sessionRow) bool {
	if len(s.old) != 1 {
		return false
	}
	for i := range rows {
		if rows[i].w < 0 || rows[i].time < s.old[0].first || rows[i].time > s.old[0].last {
			return false
		}
	}
	return true
}

// touching returns the first session of a partition that a row at t is in or would join.
func (s *session) touching(part []byte, t int64) (sessionSpan, bool) {
	s.seek = appendTime(append(s.seek[:0], part...), t)
	if c := s.spans.floor(s.seek); c.valid() && samePartition(c.key(), part) {
		if o := spanAt(&c); t-o.last < s.gap {
			return o, true
		}
	}
	c := s.spans.seek(s.seek)
	if c.valid() && samePartition(c.key(), part) {
		if o := spanAt(&c); o.first-t < s.gap {
			return o, true
		}
	}
	return sessionSpan{}, false
}

// after returns the first session behind those in s.old, which reach to hi, if it begins within reach of hi; lo is where the first begins.
func (s *session) after(part []byte, lo, hi int64) (sessionSpan, bool) {
	from := lo
	if n := len(s.old); n > 0 {
		from = s.old[n-1].first + 1
	}
	s.seek = appendTime(append(s.seek[:0], part...), from)
	c := s.spans.seek(s.seek)
	if !c.valid() || !samePartition(c.key(), part) {
		return sessionSpan{}, false
	}
	o := spanAt(&c)
	return o, o.first-hi < s.gap
}

func samePartition(key, part []byte) bool {
	return len(key) >= len(part)+8 && string(key[:len(part)]) == string(part)
}

func spanAt(c *cursor) sessionSpan {
	k := c.key()
	return sessionSpan{timeOfKey(k[len(k)-8:]), getInt(c.value())}
}

// rebuild finds the sessions between lo and hi anew and emits what changed. rows are the changes, already in s.rows.
func (s *session) rebuild(x *exec, rows []sessionRow, lo, hi int64) {
	part := rows[0].key[:rows[0].head]
	for _, o := range s.old {
		s.setSpan(part, o, -1)
	}
	s.seek = appendTime(append(s.seek[:0], part...), lo)
	c := s.rows.seek(s.seek)
	s.over = s.over[:0]
	for i := 0; ; {
		now, ok := s.nextSpan(c, part, hi)
		if !ok {
			s.gone(x, rows[i:])
			break
		}
		over := s.ends.over(x, now)
		if !over {
			s.setSpan(part, now, 1)
			if _, had := s.oldFrom(now.first); !had {
				s.ends.opened(part, now)
			}
		}
		for ; c.valid() && samePartition(c.key(), part) && timeOfKey(c.key()[len(part):]) <= now.last; c.next() {
			key, w := c.key(), int64(0)
			k := i
			for k < len(rows) && bytes.Compare(rows[k].key, key) < 0 {
				k++
			}
			s.gone(x, rows[i:k])
			if i = k; i < len(rows) && bytes.Equal(rows[i].key, key) {
				w = rows[i].w
				i++
			}
			if over {
				s.over = append(s.over, sessionRow{key: x.scratch.copy(key), head: len(part), time: timeOfKey(key[len(part):]), w: w - c.weight()})
				continue
			}
			s.moved(x, key, len(part), c.weight(), w, now)
		}
	}
	s.gone(x, s.over)
	for i := range s.over {
		s.rows.add(s.over[i].key, nil, -s.rows.weight(s.over[i].key))
	}
}

// nextSpan returns the session that begins at the cursor; false when no row up to hi is there.
func (s *session) nextSpan(c cursor, part []byte, hi int64) (sessionSpan, bool) {
	if !c.valid() || !samePartition(c.key(), part) {
		return sessionSpan{}, false
	}
	t := timeOfKey(c.key()[len(part):])
	if t > hi {
		return sessionSpan{}, false
	}
	now := sessionSpan{t, t}
	for c.next(); c.valid() && samePartition(c.key(), part); c.next() {
		t := timeOfKey(c.key()[len(part):])
		if t-now.last >= s.gap {
			break
		}
		now.last = t
	}
	return now, true
}

// moved emits the change of a row that is there w times after it changed by dw and is now in the session now.
func (s *session) moved(x *exec, key []byte, head int, w, dw int64, now sessionSpan) {
	was, ok := s.oldOf(timeOfKey(key[head:]))
	row := key[head+8:]
	switch {
	case ok && was == now:
		if dw != 0 {
			s.emit(x, row, now, dw)
		}
		return
	case ok && w != dw:
		s.emit(x, row, was, dw-w)
	}
	s.emit(x, row, now, w)
}

// gone emits the removal of rows that are not there any more.
func (s *session) gone(x *exec, rows []sessionRow) {
	for i := range rows {
		r := &rows[i]
		if was, ok := s.oldOf(r.time); ok {
			s.emit(x, r.key[r.head+8:], was, r.w)
		}
	}
}

// oldOf returns the session of s.old that a row at t was in.
func (s *session) oldOf(t int64) (sessionSpan, bool) {
	i, found := s.oldFrom(t)
	if !found {
		i--
	}
	if i < 0 || t > s.old[i].last {
		return sessionSpan{}, false
	}
	return s.old[i], true
}

func (s *session) emit(x *exec, row []byte, in sessionSpan, w int64) {
	r := x.scratch.copy(row)
	s.start.set(r, in.first)
	s.end.set(r, in.last+s.gap)
	s.out = append(s.out, delta{r, w})
}

func (s *session) setSpan(part []byte, o sessionSpan, w int64) {
	s.key = appendTime(append(s.key[:0], part...), o.first)
	var last [8]byte
	putInt(last[:], o.last)
	s.spans.add(s.key, last[:], w)
}

// oldFrom returns the session of s.old that begins at t.
func (s *session) oldFrom(t int64) (int, bool) {
	return slices.BinarySearchFunc(s.old, t, func(o sessionSpan, t int64) int { return cmp.Compare(o.first, t) })
}

// admits reports whether a row that is late or leaves by itself may still change anything; b is set for late ones.
func (s *session) admits(x *exec, d *delta, r *sessionRow, b *behind) bool {
	part := r.key[:r.head]
	if b != nil {
		return s.ends.admits(x, &s.spans, part, r.time, d.row, *b)
	}
	s.seek = appendTime(append(s.seek[:0], part...), r.time)
	c := s.spans.floor(s.seek)
	if !c.valid() || !samePartition(c.key(), part) {
		return false
	}
	o := spanAt(&c)
	return r.time <= o.last && o.last+s.gap > x.markBefore(s.ends.table) && s.rows.weight(r.key) >= -r.w
}

// free forgets the sessions that no row can touch any more.
func (s *session) free(x *exec) {
	for part, o, ok := s.ends.next(x, &s.spans); ok; part, o, ok = s.ends.next(x, &s.spans) {
		s.seek = appendTime(append(s.seek[:0], part...), o.first)
		for c := s.rows.seek(s.seek); c.valid() && samePartition(c.key(), part) && timeOfKey(c.key()[len(part):]) <= o.last; c = s.rows.seek(s.seek) {
			s.key = append(s.key[:0], c.key()...)
			s.rows.add(s.key, nil, -c.weight())
		}
		s.setSpan(part, o, -1)
	}
}

// due implements [timed].
func (s *session) due(x *exec) bool { return s.ends.due(x) }

// next implements [timed].
func (s *session) next() int64 { return never }

func (s *session) bytes() int { return s.rows.bytes() + s.spans.bytes() + s.ends.bytes() }

func (s *session) state(k *keeper) {
	k.tree(&s.rows)
	k.tree(&s.spans)
	s.ends.state(k)
}

func (s *session) name() string { return "session" }
