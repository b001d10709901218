package push

import (
	"bytes"
	"fmt"
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// index finds the feeds that changes of one relation may concern, without asking each. A feed is found by a condition that
// every row of its result meets: equalities (`a=eq.1&b=eq.2`, found together), a range of one column within them
// (`total=gt.10&total=lte.20`), or a choice of those (`in.(…)`, `or=(…)`). A feed of whose condition nothing of the kind is
// known is asked about every change. So a change costs a lookup for each set of columns that feeds demand values of, and
// what it finds. It finds too many at most: the feed decides. Guarded by Hub.mu.
type index struct {
	anywhere bucket             // feeds that demand no value
	sets     map[string]*valued // by the columns of which values are demanded
	list     []*valued          // the same: every change looks at all of them
	hits     []*feed            // of concerned; the feeds' own lists are feed.hit
	feeds    int
}

func (x *index) empty() bool { return x.feeds == 0 }

// valued is the feeds that demand values of the same columns.
type valued struct {
	cols    []int // ascending
	buckets map[string]*bucket
}

// bucket is feeds that demand the same values, or none.
type bucket struct {
	plain  []*feed
	ranges []columnRanges // of those that demand a range beside, by column
}

type columnRanges struct {
	col  int
	tree *interval
	n    int
}

// Bounds of an index. Beyond them a feed is found by less of its condition.
const (
	mostPaths = 1000 // values of one feed: as many as a list may have
	mostSets  = 64   // sets of columns
)

// path is a condition to find a feed by.
type path struct {
	cols   []int // equalities, ascending by column
	values []byte
	ranged bool // and a range of col
	col    int
	lo, hi []byte // inclusive; nil: unbounded
}

// add makes f, which must not be there, be found.
func (x *index) add(f *feed) {
	x.feeds++
	f.paths = paths(f.now)
	if len(f.paths) == 0 {
		f.paths = []path{{}}
	}
	for i := range f.paths {
		p := &f.paths[i]
		if len(p.cols) > 0 && x.sets[setKey(p.cols)] == nil && len(x.sets) >= mostSets {
			p.cols, p.values = nil, nil
		}
		x.bucket(p, true).add(f, p)
	}
}

// remove undoes add.
func (x *index) remove(f *feed) {
	x.feeds--
	for i := range f.paths {
		p := &f.paths[i]
		b := x.bucket(p, false)
		b.remove(f, p)
		if len(p.cols) == 0 || len(b.plain)+len(b.ranges) > 0 {
			continue
		}
		key := setKey(p.cols)
		s := x.sets[key]
		if delete(s.buckets, string(p.values)); len(s.buckets) == 0 {
			delete(x.sets, key)
			x.list = without(x.list, s)
		}
	}
	f.paths = nil
}

func setKey(cols []int) string {
	key := make([]byte, 0, 2*len(cols))
	for _, c := range cols {
		key = append(key, byte(c>>8), byte(c))
	}
	return string(key)
}

// bucket returns where a feed with this path is, and makes the place when there is none and create is set.
func (x *index) bucket(p *path, create bool) *bucket {
	if len(p.cols) == 0 {
		return &x.anywhere
	}
	key := setKey(p.cols)
	s := x.sets[key]
	if s == nil && create {
		if x.sets == nil {
			x.sets = map[string]*valued{}
		}
		s = &valued{cols: p.cols, buckets: map[string]*bucket{}}
		x.sets[key] = s
		x.list = append(x.list, s)
	}
	b := s.buckets[string(p.values)]
	if b == nil && create {
		b = &bucket{}
		s.buckets[string(p.values)] = b
	}
	return b
}

func (b *bucket) add(f *feed, p *path) {
	if !p.ranged {
		b.plain = append(b.plain, f)
		return
	}
	i := slices.IndexFunc(b.ranges, func(r columnRanges) bool { return r.col == p.col })
	if i < 0 {
		i = len(b.ranges)
		b.ranges = append(b.ranges, columnRanges{col: p.col})
	}
	b.ranges[i].tree = b.ranges[i].tree.insert(&interval{lo: p.lo, hi: p.hi, feed: f, weight: weight(f.id)})
	b.ranges[i].n++
}

func (b *bucket) remove(f *feed, p *path) {
	if !p.ranged {
		b.plain = without(b.plain, f)
		return
	}
	i := slices.IndexFunc(b.ranges, func(r columnRanges) bool { return r.col == p.col })
	b.ranges[i].tree = b.ranges[i].tree.remove(p.lo, f)
	if b.ranges[i].n--; b.ranges[i].n == 0 {
		b.ranges = slices.Delete(b.ranges, i, i+1)
	}
}

// concerned calls fn once for each feed that may have something to say about changes, which are of rel and ascending by key, with those
// changes that concern it. These are the feed's until fn returns.
func (x *index) concerned(rel *expr.Relation, changes []change.RowChange, fn func(*feed, []change.RowChange)) {
	for _, f := range x.anywhere.plain {
		fn(f, changes)
	}
	if len(x.sets)+len(x.anywhere.ranges) == 0 {
		return
	}
	var scratch [128]byte
	for i := range changes {
		c := &changes[i]
		for _, row := range [2]change.Row{c.Old, c.New} {
			if row == nil {
				continue
			}
			x.ranged(&x.anywhere, rel, row, c, scratch[:0])
			for _, s := range x.list {
				key, ok := valuesOf(scratch[:0], rel, s.cols, row)
				if b := s.buckets[string(key)]; ok && b != nil {
					for _, f := range b.plain {
						x.hit(f, c)
					}
					x.ranged(b, rel, row, c, scratch[:0])
				}
			}
		}
	}
	for _, f := range x.hits {
		fn(f, f.hit)
		clear(f.hit)
		f.hit = f.hit[:0]
		if cap(f.hit) > keptHits {
			f.hit = nil
		}
	}
	clear(x.hits)
	x.hits = x.hits[:0]
}

// keptHits is how many changes a feed keeps room for.
const keptHits = 4

// ranged hits the feeds of b whose range has row's value.
func (x *index) ranged(b *bucket, rel *expr.Relation, row change.Row, c *change.RowChange, scratch []byte) {
	for i := range b.ranges {
		v := rel.Layout.Get(row, b.ranges[i].col)
		if !v.Null {
			b.ranges[i].tree.find(indexKey(scratch, rel, b.ranges[i].col, v), x, c)
		}
	}
}

// hit notes that c may concern f.
func (x *index) hit(f *feed, c *change.RowChange) {
	n := len(f.hit)
	if n == 0 {
		x.hits = append(x.hits, f)
	} else if string(f.hit[n-1].Key) == string(c.Key) {
		return
	}
	f.hit = append(f.hit, *c)
}

// valuesOf appends the key of a row's values in cols. It is false when one of them is NULL, which equals nothing.
func valuesOf(dst []byte, rel *expr.Relation, cols []int, row change.Row) ([]byte, bool) {
	for _, col := range cols {
		v := rel.Layout.Get(row, col)
		if v.Null {
			return dst, false
		}
		dst = indexKey(dst, rel, col, v)
	}
	return dst, true
}

func indexKey(dst []byte, rel *expr.Relation, col int, v change.Value) []byte {
	return change.AppendKey(dst, rel.Layout.Type(col), v, false, false)
}

// paths returns what to find a query's feed by: each row of the result meets at least one of them. None: nothing is known.
func paths(q *query) []path {
	if q.filter.Cond() == nil {
		return nil
	}
	return pathsOf(q.rel, q.filter.Cond())
}

func pathsOf(rel *expr.Relation, n *expr.Node) []path {
	switch n.Kind {
	case expr.KAnd:
		return pathsOfAll(rel, n.Args)
	case expr.KOr:
		return pathsOfAny(rel, n.Args)
	case expr.KIn:
		return pathsOfIn(rel, n)
	}
	return pathsOfAll(rel, []*expr.Node{n})
}

// pathsOfAll is of conditions that all hold: the equalities among them and one range, or else the narrowest choice.
func pathsOfAll(rel *expr.Relation, conds []*expr.Node) []path {
	var p path
	var equal []comparison
	var ranges []comparison
	for _, n := range conds {
		switch c, ok := compared(n); {
		case !ok:
		case c.op != "=":
			ranges = append(ranges, c)
		case !slices.ContainsFunc(equal, func(e comparison) bool { return e.col == c.col }):
			equal = append(equal, c)
		}
	}
	slices.SortFunc(equal, func(a, b comparison) int { return a.col - b.col })
	for _, c := range equal {
		p.cols = append(p.cols, c.col)
		p.values = indexKey(p.values, rel, c.col, c.value)
	}
	p.narrow(rel, ranges)
	if len(p.cols) > 0 {
		return []path{p}
	}
	var best []path
	for _, n := range conds {
		if n.Kind != expr.KIn && n.Kind != expr.KOr {
			continue
		}
		if some := pathsOf(rel, n); len(some) > 0 && (best == nil || len(some) < len(best)) {
			best = some
		}
	}
	if best == nil && p.ranged {
		return []path{p}
	}
	return best
}

// narrow adds a range: of the column with bounds on both sides, else of the first one.
func (p *path) narrow(rel *expr.Relation, ranges []comparison) {
	for _, first := range ranges {
		if slices.Contains(p.cols, first.col) || !ranksByKey(rel.Layout.Type(first.col)) {
			continue
		}
		var lo, hi []byte
		for _, c := range ranges {
			if c.col != first.col {
				continue
			}
			key := indexKey(nil, rel, c.col, c.value)
			if c.op[0] == '>' {
				if lo == nil || bytes.Compare(key, lo) > 0 {
					lo = key
				}
			} else if hi == nil || bytes.Compare(key, hi) < 0 {
				hi = key
			}
		}
		if both := lo != nil && hi != nil; both || !p.ranged {
			p.ranged, p.col, p.lo, p.hi = true, first.col, lo, hi
			if both {
				return
			}
		}
	}
}

// ranksByKey reports whether the order of keys is the order of <. (It is for all types; here are those for which somebody asks.)
func ranksByKey(t app.Type) bool {
	switch t {
	case app.Int4, app.Int8, app.Float8, app.Numeric, app.Text, app.UUID, app.Date, app.Timestamp, app.Timestamptz:
		return true
	}
	return false
}

// pathsOfAny is of conditions of which one holds.
func pathsOfAny(rel *expr.Relation, conds []*expr.Node) []path {
	var all []path
	for _, n := range conds {
		some := pathsOf(rel, n)
		if len(some) == 0 || len(all)+len(some) > mostPaths {
			return nil
		}
		all = append(all, some...)
	}
	return distinct(all)
}

// pathsOfIn is of column IN (values).
func pathsOfIn(rel *expr.Relation, n *expr.Node) []path {
	col := n.Args[0]
	if col.Kind != expr.KColumn || len(n.Args)-1 > mostPaths {
		return nil
	}
	var all []path
	for _, a := range n.Args[1:] {
		if a.Kind != expr.KConst || a.Type != col.Type {
			return nil
		}
		if !a.Value.Null { // nothing equals it
			all = append(all, path{cols: []int{col.Col}, values: indexKey(nil, rel, col.Col, a.Value)})
		}
	}
	return distinct(all)
}

// distinct leaves out paths that are there twice: a feed is in a place once.
func distinct(all []path) []path {
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(p path) bool {
		key := fmt.Sprintf("%v %q %d %q %q %t %t", p.cols, p.values, p.col, p.lo, p.hi, p.lo == nil, p.hi == nil)
		twice := seen[key]
		seen[key] = true
		return twice
	})
}

// comparison is column op value.
type comparison struct {
	col   int
	op    string
	value change.Value
}

// compared reads a condition of the form column op constant.
func compared(n *expr.Node) (c comparison, ok bool) {
	if n.Kind != expr.KCall || n.Func == nil || len(n.Args) != 2 {
		return c, false
	}
	switch n.Func.Name {
	case "=", "<", "<=", ">", ">=":
	default:
		return c, false
	}
	a, b := n.Args[0], n.Args[1]
	if a.Kind != expr.KColumn || b.Kind != expr.KConst || b.Value.Null || a.Type != b.Type {
		return c, false
	}
	return comparison{a.Col, n.Func.Name, b.Value}, true
}

// interval is a feed's range in a tree of them: ordered by lo, a heap by weight, each node knowing the greatest hi below it. With
// weights that look random its depth is logarithmic.
type interval struct {
	lo, hi      []byte // inclusive; a nil lo is below everything, a nil hi above
	feed        *feed
	weight      uint64
	left, right *interval
	most        []byte // greatest hi of the tree; nil: unbounded
}

// weight mixes a number so that its order looks random.
func weight(id uint64) uint64 {
	id = (id ^ id>>30) * 0xbf58476d1ce4e5b9
	id = (id ^ id>>27) * 0x94d049bb133111eb
	return id ^ id>>31
}

func (t *interval) compare(lo []byte, f *feed) int {
	if c := bytes.Compare(lo, t.lo); c != 0 {
		return c
	}
	switch {
	case f.id < t.feed.id:
		return -1
	case f.id > t.feed.id:
		return 1
	}
	return 0
}

// insert returns t with n in it.
func (t *interval) insert(n *interval) *interval {
	if t == nil {
		return n.sum()
	}
	if n.weight > t.weight {
		n.left, n.right = t.split(n)
		return n.sum()
	}
	if t.compare(n.lo, n.feed) < 0 {
		t.left = t.left.insert(n)
	} else {
		t.right = t.right.insert(n)
	}
	return t.sum()
}

// split cuts t into what is before at and what is after it.
func (t *interval) split(at *interval) (before, after *interval) {
	if t == nil {
		return nil, nil
	}
	if at.compare(t.lo, t.feed) < 0 {
		t.right, after = t.right.split(at)
		return t.sum(), after
	}
	before, t.left = t.left.split(at)
	return before, t.sum()
}

// remove returns t without the range of f that begins at lo, which must be there.
func (t *interval) remove(lo []byte, f *feed) *interval {
	switch c := t.compare(lo, f); {
	case c < 0:
		t.left = t.left.remove(lo, f)
	case c > 0:
		t.right = t.right.remove(lo, f)
	default:
		return join(t.left, t.right)
	}
	return t.sum()
}

// join makes one of two trees, a before b.
func join(a, b *interval) *interval {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.weight > b.weight:
		a.right = join(a.right, b)
		return a.sum()
	}
	b.left = join(a, b.left)
	return b.sum()
}

// sum brings most up to date and returns t.
func (t *interval) sum() *interval {
	t.most = t.hi
	for _, kid := range [2]*interval{t.left, t.right} {
		if kid != nil && t.most != nil && (kid.most == nil || bytes.Compare(kid.most, t.most) > 0) {
			t.most = kid.most
		}
	}
	return t
}

// find hits the feeds whose range has key: c concerns them.
func (t *interval) find(key []byte, x *index, c *change.RowChange) {
	for t != nil && (t.most == nil || bytes.Compare(key, t.most) <= 0) {
		t.left.find(key, x, c)
		if bytes.Compare(t.lo, key) > 0 {
			return
		}
		if t.hi == nil || bytes.Compare(key, t.hi) <= 0 {
			x.hit(t.feed, c)
		}
		t = t.right
	}
}
