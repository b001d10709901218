package flow

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// sink is where a relation's rows leave the engine: it consolidates what a batch changed, orders it by key and numbers the
// copies of a relation without a key.
type sink struct {
	rel   *expr.Relation
	base  *change.Layout // of the rows that come in: the relation's without _n
	ids   []int          // the columns that make the key; with copies: all but _n
	seen  *seenRows      // with copies, when rows with equal keys are equal bytes
	bag   *tree          // with other copies: key of a row's values, then its bytes → the row, weighing how often it is there
	quiet bool           // a kept table's: the table itself sums and counts its rows
	pick  picker         // from base into rows with _n
	last  instant        // _n
	dom   uint64         // of sum
	sum   sum128
	size  int64 // bytes, as the engine has counted them
	rows  int64
	runs  []run
	order []place
	group []delta
	out   []delta // what changed, consolidated
	moved []rowChange
	key   []byte
	old   []held
	now   []held
}

// run is neighbouring deltas with one key: mostly what was and what is.
type run struct {
	key      []byte
	from, to int // in the deltas taken
}

// place is where a run goes in the order of keys.
type place struct {
	prefix uint64 // of the key, behind what all keys of the batch have in common
	run    int
}

// rowChange is a change.RowChange whose bytes live until the batch ends.
type rowChange struct{ key, old, new []byte }

// held is one form of a row in the bag and its number of copies.
type held struct {
	row change.Row
	n   int64
}

// newSink returns the sink of a relation whose rows are what identity says, see Program.identity.
func newSink(rel *expr.Relation, identity string) sink {
	s := sink{rel: rel, base: change.NewLayout(columnsOf(rel)), ids: rel.Key, dom: domainOf(identity)}
	if rel.Copies && !rel.Numbered {
		s.ids = make([]int, s.base.Columns())
		for i := range s.ids {
			s.ids[i] = i
		}
		if canonical(s.base) {
			s.seen = newSeenRows()
		} else {
			t := newTree()
			s.bag = &t
		}
	}
	if rel.Copies {
		all := make([]int, s.base.Columns())
		for i := range all {
			all[i] = i
		}
		s.pick, s.last = newPicker(s.base, rel.Layout, all), instantOf(rel.Layout, len(all))
	}
	return s
}

func (s *sink) bytes() int {
	switch {
	case s.seen != nil:
		return s.seen.t.bytes()
	case s.bag != nil:
		return s.bag.bytes()
	}
	return 0
}

func (s *sink) state(k *keeper) {
	switch {
	case s.seen != nil:
		k.table(&s.seen.t)
	case s.bag != nil:
		k.tree(s.bag)
	}
	k.sum(&s.sum)
	k.i64(&s.size)
	k.i64(&s.rows)
}

func (s *sink) keyOf(x *exec, row change.Row) []byte {
	at := len(x.scratch.buf)
	for _, c := range s.ids {
		x.scratch.buf = change.AppendKey(x.scratch.buf, s.base.Type(c), s.base.Get(row, c), false, false)
	}
	end := len(x.scratch.buf)
	if s.seen != nil {
		var room [numberBytes]byte
		x.scratch.buf = append(x.scratch.buf, room[:]...)
	}
	return x.scratch.buf[at:end:len(x.scratch.buf)]
}

// numberBytes is what change.AppendKey takes for _n.
const numberBytes = 9

// take consolidates a batch's change. The result lives until the next call, s.moved too.
func (s *sink) take(x *exec, in []delta) ([]delta, error) {
	s.out, s.moved = s.out[:0], s.moved[:0]
	switch {
	case len(in) == 0:
		return nil, nil
	case s.rel.Numbered:
		return in, s.number(x, in)
	}
	s.sort(x, in)
	for lo := 0; lo < len(s.order); {
		first := &s.runs[s.order[lo].run]
		hi := lo + 1
		for hi < len(s.order) && bytes.Equal(first.key, s.runs[s.order[hi].run].key) {
			hi++
		}
		if err := s.settle(x, first.key, s.net(in, s.order[lo:hi])); err != nil {
			return nil, err
		}
		lo = hi
	}
	return s.out, nil
}

// number gives each row the next number, see [expr.Relation.Numbered]. The count of rows is the only state.
func (s *sink) number(x *exec, in []delta) error {
	for _, d := range in {
		if d.w < 0 {
			return fmt.Errorf("a row of %s went: its rows cannot be numbered as they come", s.rel.Name)
		}
		for range d.w {
			s.rows++
			c := rowChange{key: s.numberKey(x, nil, s.rows), new: s.withNumber(x, d.row, s.rows)}
			s.sum.add(hash128(s.dom, c.new))
			s.moved = append(s.moved, c)
		}
	}
	return nil
}

// free gives up the state.
func (s *sink) free() {
	*s = sink{rel: s.rel, base: s.base, ids: s.ids, dom: s.dom, rows: s.rows, moved: s.moved}
}

// sort fills s.order with the runs of in by key. Half of the time of a sink was spent in comparing keys, until neighbours
// were taken together, what all keys share was skipped, and small places were sorted instead of the runs.
func (s *sink) sort(x *exec, in []delta) {
	s.runs, s.order = s.runs[:0], s.order[:0]
	for i := range in {
		at := len(x.scratch.buf)
		key := s.keyOf(x, in[i].row)
		if n := len(s.runs); n > 0 && bytes.Equal(s.runs[n-1].key, key) {
			s.runs[n-1].to++
			x.scratch.buf = x.scratch.buf[:at]
			continue
		}
		s.runs = append(s.runs, run{key, i, i + 1})
	}
	shared := s.shared()
	for i := range s.runs {
		s.order = append(s.order, place{prefixOf(s.runs[i].key[shared:]), i})
	}
	slices.SortFunc(s.order, func(a, b place) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		if c := bytes.Compare(s.runs[a.run].key, s.runs[b.run].key); c != 0 {
			return c
		}
		return a.run - b.run
	})
}

// shared returns how many bytes all keys of s.runs have in common at their beginning.
func (s *sink) shared() int {
	first := s.runs[0].key
	n := len(first)
	for i := range s.runs {
		key := s.runs[i].key
		n = min(n, len(key))
		for j := range n {
			if key[j] != first[j] {
				n = j
				break
			}
		}
	}
	return n
}

// net returns what the deltas of one key add up to, ordered by row, and takes them into the sums.
func (s *sink) net(in []delta, places []place) []delta {
	s.group = s.group[:0]
	for _, p := range places {
		s.group = append(s.group, in[s.runs[p.run].from:s.runs[p.run].to]...)
	}
	if len(s.group) > 1 {
		s.group = consolidate(s.group)
	}
	for _, d := range s.group {
		s.out = append(s.out, d)
		if s.quiet {
			continue
		}
		s.sum.addTimes(hash128(s.dom, d.row), d.w)
		s.rows += d.w
	}
	return s.group
}

// consolidate orders deltas by row, adds up those of the same row and drops what cancels out.
func consolidate(in []delta) []delta {
	slices.SortFunc(in, func(a, b delta) int { return bytes.Compare(a.row, b.row) })
	n := 0
	for i := 0; i < len(in); {
		d := in[i]
		for i++; i < len(in) && bytes.Equal(d.row, in[i].row); i++ {
			d.w += in[i].w
		}
		if d.w != 0 {
			in[n] = d
			n++
		}
	}
	return in[:n]
}

// settle turns the net deltas of one key into changes.
func (s *sink) settle(x *exec, key []byte, in []delta) error {
	if len(in) == 0 {
		return nil
	}
	switch {
	case s.seen != nil:
		return s.settleEqual(x, key, in[0])
	case s.bag != nil:
		return s.settleCopies(x, key, in)
	}
	c := rowChange{key: key}
	for _, d := range in {
		switch {
		case d.w == 1 && c.new == nil:
			c.new = d.row
		case d.w == -1 && c.old == nil:
			c.old = d.row
		default:
			return fmt.Errorf("two rows of %s have the same key: its key was inferred wrongly", s.rel.Name)
		}
	}
	s.moved = append(s.moved, c)
	return nil
}

// settleCopies numbers the rows whose values are equal. They may still be different bytes (numeric 1.0 and 1.00): the
// numbers run through the forms in the order of their bytes.
func (s *sink) settleCopies(x *exec, key []byte, in []delta) error {
	s.old = s.forms(s.old[:0], x, key)
	for _, d := range in {
		s.key = append(append(s.key[:0], key...), d.row...)
		if before := s.bag.add(s.key, d.row, d.w); before+d.w < 0 {
			return fmt.Errorf("%s lost a row that it did not have", s.rel.Name)
		}
	}
	s.now = s.forms(s.now[:0], x, key)
	oldCount, newCount := copies(s.old), copies(s.now)
	n := int64(1)
	if len(s.old) > 0 && len(s.now) > 0 && bytes.Equal(s.old[0].row, s.now[0].row) {
		n += min(s.old[0].n, s.now[0].n) // these keep their numbers
	}
	for ; n <= max(oldCount, newCount); n++ {
		a, b := numbered(s.old, n), numbered(s.now, n)
		if bytes.Equal(a, b) {
			continue
		}
		c := rowChange{}
		if a != nil {
			c.old = s.withNumber(x, a, n)
		}
		if b != nil {
			c.new = s.withNumber(x, b, n)
		}
		c.key = s.numberKey(x, key, n)
		s.moved = append(s.moved, c)
	}
	return nil
}

// settleEqual numbers the copies of a row of which there are d.w more, or fewer.
func (s *sink) settleEqual(x *exec, key []byte, d delta) error {
	before := s.seen.add(key, d.w)
	now := before + d.w
	if now < 0 {
		return fmt.Errorf("%s lost a row that it did not have", s.rel.Name)
	}
	for n := min(before, now) + 1; n <= max(before, now); n++ {
		c := rowChange{key: s.numberKey(x, key, n)}
		if row := s.withNumber(x, d.row, n); d.w > 0 {
			c.new = row
		} else {
			c.old = row
		}
		s.moved = append(s.moved, c)
		key = key[:len(key):len(key)]
	}
	return nil
}

// numberKey returns the key of copy n of the row with a key, made in place where there is room behind the key.
func (s *sink) numberKey(x *exec, key []byte, n int64) []byte {
	if cap(key)-len(key) >= numberBytes {
		return change.AppendKey(key, app.Int8, change.Int(n), false, false)
	}
	at := len(x.scratch.buf)
	x.scratch.buf = append(x.scratch.buf, key...)
	x.scratch.buf = change.AppendKey(x.scratch.buf, app.Int8, change.Int(n), false, false)
	return x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)]
}

// forms lists what the bag holds under key.
func (s *sink) forms(to []held, x *exec, key []byte) []held {
	for c := s.bag.seek(key); c.valid() && bytes.HasPrefix(c.key(), key); c.next() {
		to = append(to, held{x.scratch.copy(c.value()), c.weight()})
	}
	return to
}

func copies(hs []held) (n int64) {
	for _, h := range hs {
		n += h.n
	}
	return n
}

// numbered returns copy number n, counted from 1, nil when there are fewer.
func numbered(hs []held, n int64) change.Row {
	for _, h := range hs {
		if n <= h.n {
			return h.row
		}
		n -= h.n
	}
	return nil
}

func (s *sink) withNumber(x *exec, row change.Row, n int64) change.Row {
	at := len(x.scratch.buf)
	x.scratch.buf = s.pick.pick(x.scratch.buf, row)
	out := x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)]
	s.last.set(out, n)
	return out
}

// canonical reports whether rows with equal values are equal bytes: all types but numeric and jsonb, which keep how a number
// was written.
func canonical(l *change.Layout) bool {
	for i := range l.Columns() {
		if !canonicalType(l.Type(i)) {
			return false
		}
	}
	return true
}

func canonicalType(t app.Type) bool {
	t = t.Elem()
	return t != app.Numeric && t != app.JSONB && t != app.Interval
}
