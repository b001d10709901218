package flow

import (
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// join pairs the rows of two inputs. One hash table has an entry per key, with a bucket of rows for each side, so that a row finds its own
// bucket and that of its partners with one probe. It takes ΔL against R as it was, then ΔR against the new L.
//
// A side is preserved when its rows show without a match (outer and anti joins) or because of one (semi joins). How many matches
// they have is known by key when every row of the key matches, else each row of the side counts its own (counted). What shows because
// matches came or went is decided once per pass, from before to after it.
type join struct {
	kind   JoinKind
	sides  [2]joinSide
	groups table // key → two buckets
	keyRow *change.Layout
	exact  bool // equal keys are equal bytes: the key is a row under keyRow, else the values' change.AppendKey
	strict []byte
	safe   []bool // by key: NULL is a value

	pair    *change.Pair
	pairs   bool // the output has columns of both sides
	conds   []expr.Func
	calm    bool // conds fail on no pair
	once    bool // one match says it all: semi and anti joins with a right side that only grows
	errors  *errorLog
	order   [2]int
	out     []delta
	vals    []change.Value
	keys    []byte // of the deltas in looks
	looks   [32]joinLook
	touched []touchedKey
	met     []joinPlace // rows of the other side whose number of matches the pass changed
	gone    []delta
	it      joinIter
	warm    uint64 // nothing: what look reads only to have it near goes here
	mark    func(x *exec, tables []int) int64
}

// joinEntry is an entry of join.groups and its hash.
type joinEntry struct {
	r ref
	h uint64
}

// touchedKey is a key of which a side's last row left or first row came in a pass.
type touchedKey struct {
	joinEntry
	empty bool // whether the side was empty before the pass
}

func newJoin(p *Join, appendL, appendR bool, log *errorLog) (multiOperator, error) {
	l, r := change.NewLayout(p.L.Columns()), change.NewLayout(p.R.Columns())
	j := &join{kind: p.Kind, groups: newTable(), pair: change.NewPair(l, r), errors: log, order: [2]int{0, 1},
		mark: (*exec).least}
	j.pairs = p.Kind != SemiJoin && p.Kind != AntiJoin
	if err := j.newKeys(p); err != nil {
		return nil, err
	}
	for i := range j.sides {
		s := &j.sides[i]
		*s = newJoinSide([]*change.Layout{l, r}[i], []bool{appendL, appendR}[i], []Free{orNever(p.FreeL), orNever(p.FreeR)}[i])
		if err := s.compile([][]*expr.Node{p.LKeys, p.RKeys}[i], j.exact); err != nil {
			return nil, err
		}
		s.null = s.layout.Null()
	}
	if err := j.newConds(p); err != nil {
		return nil, err
	}
	j.place(p)
	return j, nil
}

func orNever(f *Free) Free {
	if f == nil {
		return Free{}
	}
	return *f
}

// newKeys decides how keys are written.
func (j *join) newKeys(p *Join) error {
	if len(p.LKeys) != len(p.RKeys) || p.NullSafe != nil && len(p.NullSafe) != len(p.LKeys) {
		return fmt.Errorf("a join of %d keys with %d", len(p.LKeys), len(p.RKeys))
	}
	j.exact, j.vals, j.safe = true, make([]change.Value, len(p.LKeys)), p.NullSafe
	if j.safe == nil {
		j.safe = make([]bool, len(p.LKeys))
	}
	j.keyRow = change.NewLayout(typesOf(nil, p.LKeys))
	j.strict = make([]byte, (len(p.LKeys)+7)/8)
	for i, n := range p.LKeys {
		if n.Type != p.RKeys[i].Type {
			return fmt.Errorf("a join of a %s with a %s", n.Type, p.RKeys[i].Type)
		}
		j.exact = j.exact && exactType(n.Type)
		if !j.safe[i] {
			j.strict[i>>3] |= 1 << (i & 7)
		}
	}
	return nil
}

// place decides what each side has to keep.
func (j *join) place(p *Join) {
	l, r := &j.sides[0], &j.sides[1]
	r.fixed = constant(p.R)
	l.fixed = !r.fixed && constant(p.L)
	l.preserved = p.Kind != InnerJoin && p.Kind != RightJoin
	r.preserved = p.Kind == RightJoin || p.Kind == FullJoin
	l.counted = l.preserved && (p.Cond != nil || p.FreeR != nil)
	r.counted = r.preserved && (p.Cond != nil || p.FreeL != nil)
	// A side is kept for what comes on the other; the right rows of a semi join without counts are but a number. A side that never
	// changes goes first, so that the other need not be kept.
	l.stored = !r.fixed
	r.stored = !l.fixed && (j.pairs || l.counted)
	if r.fixed {
		j.order = [2]int{1, 0}
	}
	j.calm = p.Cond == nil || infallible(p.Cond)
	j.once = !j.pairs && r.appends && p.FreeR == nil && j.calm
	for i := range j.sides {
		j.sides[i].finish()
	}
}

// constant reports whether a plan's rows are all there at the first batch and never change.
func constant(p Plan) bool {
	if _, ok := p.(*Values); ok {
		return true
	}
	for _, in := range p.Inputs() {
		if !constant(in) {
			return false
		}
	}
	_, gate := p.(*Gate)
	return len(p.Inputs()) > 0 && !gate
}

func (j *join) apply(x *exec, in [][]delta) []delta {
	j.out = j.out[:0]
	for i := range j.sides {
		if s := &j.sides[i]; s.whole != nil {
			s.mark = j.mark(x, s.free.Tables)
		}
	}
	for _, s := range j.order {
		if len(in[s]) > 0 {
			j.pass(x, s, in[s])
		}
	}
	for s := range j.sides {
		if j.sides[s].due != nil && x.limit == nil {
			j.free(x, s)
		}
	}
	return j.out
}

// pass takes the change of side s.
func (j *join) pass(x *exec, s int, in []delta) {
	me, other := &j.sides[s], &j.sides[1-s]
	j.touched, j.met = j.touched[:0], j.met[:0]
	create := me.stored || other.preserved && !other.fixed
	for len(in) > 0 && x.limit == nil {
		n := min(len(in), len(j.looks))
		j.look(x, s, in[:n])
		for i, d := range in[:n] {
			j.one(x, s, d, &j.looks[i], create && d.w > 0)
		}
		in = in[n:]
	}
	if x.limit == nil {
		j.settle(x, s)
	}
}

// one takes one delta of side s.
func (j *join) one(x *exec, s int, d delta, k *joinLook, create bool) {
	if k.state == keyFails {
		return
	}
	if k.state == keyFound && k.r == 0 { // one of the deltas just before may have made the entry
		key := j.keys[k.from:k.to]
		if k.r = j.groups.find(k.h, key); k.r == 0 && create {
			k.r = j.groups.insert(k.h, key, 2*bucketSize)
			clear(j.groups.edit(k.r))
		}
	}
	switch {
	case k.r != 0:
		j.take(x, s, k.joinEntry, d)
	case d.w > 0 || k.state == keyNull || !j.sides[s].stored:
		j.alone(x, s, d, 0)
	}
}

// take joins one delta of side s and puts it into its bucket.
func (j *join) take(x *exec, s int, e joinEntry, d delta) {
	me, other := &j.sides[s], &j.sides[1-s]
	v := j.groups.edit(e.r)
	mine, theirs := bucket(v[s*bucketSize:]), bucket(v[(1-s)*bucketSize:])
	known := joinPlace{}
	if me.stored {
		var ok bool
		if known, ok = me.locate(x, e.r, mine, d.row, d.w < 0); !ok {
			return // it was freed: what it had shown stays
		}
	}
	counts := me.counted && (known.block == 0 || !j.calm)
	matches := theirs.weight()
	if theirs.rows() > 0 && (j.pairs || other.counted || counts) {
		n := j.probe(x, s, e.r, theirs, d)
		if me.counted {
			matches = n
		}
	} else if me.counted {
		matches = 0
	}
	if me.counted && known.block != 0 {
		matches = me.matches(known)
	}
	j.alone(x, s, d, matches)
	before := mine.weight()
	mine.setWeight(before + d.w)
	if me.stored {
		rows := mine.rows()
		me.put(x, e.r, mine, known, d, matches)
		if me.whole != nil && (rows == 0) != (mine.rows() == 0) {
			me.dueWhole(x, e.r, d.row, int(mine.rows())-int(rows))
		}
	}
	if before+d.w == 0 || before == 0 && other.preserved && !other.counted {
		j.touch(e, before == 0)
	}
	switch rows, out := before+d.w, int64(len(j.out)); {
	case x.full():
	case rows > x.maxJoinRows:
		x.stop(&LimitError{"limits.join_rows", "rows of one side of a join with the same key", rows, x.maxJoinRows})
	case out/4 > x.maxJoinRows:
		x.stop(&LimitError{"limits.join_rows", "rows out of a join in one batch (four times the limit)", out, x.maxJoinRows})
	}
}

// alone emits d, a row of side s that may show by itself, when it does with so many matches.
func (j *join) alone(x *exec, s int, d delta, matches int64) {
	if j.sides[s].preserved && j.shows(matches) {
		j.emitAlone(x, s, d.row, d.w)
	}
}

// shows reports whether a row of a preserved side shows by itself.
func (j *join) shows(matches int64) bool { return (matches > 0) == (j.kind == SemiJoin) }

func (j *join) emitAlone(x *exec, s int, row change.Row, w int64) {
	switch {
	case !j.pairs:
		j.out = append(j.out, delta{row, w})
	case s == 0:
		j.emitPair(x, row, j.sides[1].null, w)
	default:
		j.emitPair(x, j.sides[0].null, row, w)
	}
}

func (j *join) emitPair(x *exec, l, r change.Row, w int64) {
	at := len(x.scratch.buf)
	x.scratch.buf = j.pair.Append(x.scratch.buf, l, r)
	j.out = append(j.out, delta{x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)], w})
}

func (j *join) touch(e joinEntry, empty bool) {
	if m := j.groups.mark(e.r); int(m) < len(j.touched) && j.touched[m].r == e.r {
		return
	}
	j.groups.setMark(e.r, uint32(len(j.touched)))
	j.touched = append(j.touched, touchedKey{e, empty})
}

// settle ends the pass of side s: it shows or hides rows of the other side whose matches came or went, and forgets keys without
// rows.
func (j *join) settle(x *exec, s int) {
	o := 1 - s
	other := &j.sides[o]
	for _, p := range j.met {
		before, now := other.met(p)
		if before == now {
			continue
		}
		w := p.w
		if now != (j.kind == SemiJoin) {
			w = -w
		}
		j.emitKept(x, o, other.row(p), w)
	}
	for i := range j.touched {
		t := &j.touched[i]
		v := j.groups.value(t.r)
		mine, theirs := bucket(v[s*bucketSize:]), bucket(v[o*bucketSize:])
		if empty := mine.weight() == 0; empty != t.empty && other.preserved && !other.counted {
			j.turn(x, o, t.r, theirs, mine.weight())
		}
		j.dropEmpty(t.joinEntry, mine, theirs)
	}
}

// turn shows or hides all rows of a bucket of side s, which have so many matches now and had none before, or the other way round.
func (j *join) turn(x *exec, s int, r ref, b bucket, matches int64) {
	sign := int64(-1)
	if j.shows(matches) {
		sign = 1
	}
	me := &j.sides[s]
	for me.all(&j.it, r, b); j.it.next(); {
		j.emitKept(x, s, j.it.row, sign*j.it.w)
	}
}

// emitKept is emitAlone for a row that lies in the state.
func (j *join) emitKept(x *exec, s int, row change.Row, w int64) {
	if !j.pairs {
		row = x.scratch.copy(row)
	}
	j.emitAlone(x, s, row, w)
}

func (j *join) dropEmpty(e joinEntry, a, b bucket) {
	if a.rows() == 0 && b.rows() == 0 && a.weight() == 0 && b.weight() == 0 {
		j.groups.remove(e.h, e.r)
	}
}

func (j *join) bytes() int { return j.groups.bytes() + j.sides[0].bytes() + j.sides[1].bytes() }

func (j *join) state(k *keeper) {
	k.table(&j.groups)
	for i := range j.sides {
		j.sides[i].state(k)
	}
}

func (j *join) name() string {
	return [...]string{"join", "left join", "right join", "full join", "semi join", "anti join"}[j.kind]
}
