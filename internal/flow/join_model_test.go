package flow

import (
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// The columns of both sides in these tests.
var joinTypes = []app.Type{app.Int4, app.Numeric, app.Int8, app.Timestamptz}

const (
	colKey = iota
	colNumeric
	colValue
	colTime
)

func colL(i int) *expr.Node { return expr.Column(i, joinTypes[i], -1) }
func colR(i int) *expr.Node { return expr.Column(i+len(joinTypes), joinTypes[i], -1) }

func operation(t testing.TB, name string, args ...*expr.Node) *expr.Node {
	t.Helper()
	n, err := expr.Operator(name, args, -1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func conjunction(t testing.TB, args ...*expr.Node) *expr.Node {
	t.Helper()
	n, err := expr.And(args, -1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func bigint(n int64) *expr.Node { return expr.Const(app.Int8, change.Int(n), -1) }

// joinConds are conditions: without and with ranges, and with errors in every place.
func joinConds(t testing.TB) map[string]*expr.Node {
	l, r := colL(colValue), colR(colValue)
	op := func(name string, args ...*expr.Node) *expr.Node { return operation(t, name, args...) }
	return map[string]*expr.Node{
		"none":    nil,
		"other":   op("<>", op("%", op("+", l, r), bigint(3)), bigint(0)),
		"less":    op("<", l, r),
		"between": conjunction(t, op(">=", l, r), op("<=", l, op("+", r, bigint(3)))),
		"mixed":   conjunction(t, op(">", r, colL(colKey)), op("<>", op("%", op("+", l, r), bigint(2)), bigint(0)), op(">=", colL(colTime), colR(colTime))),
		"numeric": op("<=", colL(colNumeric), colR(colNumeric)),
		"fails":   conjunction(t, op(">=", l, r), op(">", op("/", bigint(10), op("-", l, r)), bigint(1))),
		"bounds":  conjunction(t, op("<", l, op("/", bigint(20), r)), op(">=", op("/", bigint(30), l), r)),
		"order":   conjunction(t, op(">=", op("/", bigint(20), l), r), op("<", colL(colTime), colR(colTime))),
		"theta":   op("=", op("%", l, bigint(2)), op("%", r, bigint(2))),
	}
}

type joinKeys struct {
	l, r []*expr.Node
	safe []bool
}

func joinKeySets(t testing.TB) map[string]joinKeys {
	k, n := colL(colKey), colL(colNumeric)
	quotient := operation(t, "/", bigint(12), colL(colValue))
	return map[string]joinKeys{
		"none":     {},
		"one":      {[]*expr.Node{k}, []*expr.Node{k}, nil},
		"nullsafe": {[]*expr.Node{k}, []*expr.Node{k}, []bool{true}},
		"forms":    {[]*expr.Node{n, k}, []*expr.Node{n, k}, []bool{false, true}},
		"fails":    {[]*expr.Node{quotient}, []*expr.Node{colL(colValue)}, nil},
	}
}

// joinModel recomputes a join from all rows.
type joinModel struct {
	t     *testing.T
	p     *Join
	j     *join
	x     exec
	rows  [2]map[string]int64
	shown map[string]int64
	log   errorLog
	whole expr.Func
}

func newJoinModel(t *testing.T, p *Join, appends [2]bool) *joinModel {
	m := &joinModel{t: t, p: p, x: exec{maxJoinRows: 1 << 40, maxStep: 1 << 40}, rows: [2]map[string]int64{{}, {}}, shown: map[string]int64{}}
	op, err := newJoin(p, appends[0], appends[1], &m.log)
	if err != nil {
		t.Fatal(err)
	}
	m.j = op.(*join)
	if p.Cond != nil {
		fs, err := compileAll([]*expr.Node{p.Cond}, m.j.pair.Layout())
		if err != nil {
			t.Fatal(err)
		}
		m.whole = fs[0]
	}
	return m
}

// apply takes a batch and follows the output, of which no prefix may take what is not there.
func (m *joinModel) apply(in [2][]delta) {
	m.t.Helper()
	m.x.begin(m.x.seq+1, int64(m.x.seq+1))
	m.x.failed, m.log.batch = m.x.failed[:0], m.log.batch[:0]
	for s := range in {
		for _, d := range in[s] {
			if m.rows[s][string(d.row)] += d.w; m.rows[s][string(d.row)] == 0 {
				delete(m.rows[s], string(d.row))
			}
		}
	}
	for _, d := range m.j.apply(&m.x, in[:]) {
		if m.shown[string(d.row)] += d.w; m.shown[string(d.row)] < 0 {
			m.t.Fatalf("batch %d takes %s, which is not there", m.x.seq, m.show(d.row))
		}
		if m.shown[string(d.row)] == 0 {
			delete(m.shown, string(d.row))
		}
	}
}

func (m *joinModel) show(row change.Row) string {
	l := m.j.pair.Layout()
	if !m.j.pairs {
		l = m.j.sides[0].layout
	}
	s := ""
	for i := range l.Columns() {
		if v := l.Get(change.Row(row), i); v.Null {
			s += "NULL|"
		} else {
			s += string(expr.AppendText(nil, l.Type(i), v)) + "|"
		}
	}
	return s
}

// keyed is a row with its key's values as text; null: one of them matches nothing.
type keyed struct {
	row  change.Row
	w    int64
	key  string
	null bool
}

func (m *joinModel) keyed(s int) (out []keyed, failed int64) {
	for row, w := range m.rows[s] {
		k := keyed{row: change.Row(row), w: w}
		vals := make([]change.Value, len(m.j.sides[s].keys))
		m.x.ctx.Reset()
		m.x.ctx.Row = k.row
		if err := evaluate(&m.x.ctx, m.j.sides[s].keys, vals); err != nil {
			failed += w
			continue
		}
		for i, v := range vals {
			k.null = k.null || v.Null && (m.p.NullSafe == nil || !m.p.NullSafe[i])
			k.key += string(change.AppendKey(nil, m.j.keyRow.Type(i), v, false, false))
		}
		out = append(out, k)
	}
	return out, failed
}

// expected computes the join and the number of rows and pairs that fail.
func (m *joinModel) expected() (map[string]int64, int64) {
	out := map[string]int64{}
	l, failed := m.keyed(0)
	r, more := m.keyed(1)
	failed += more
	byKey := map[string][]int{}
	for i := range r {
		if !r[i].null {
			byKey[r[i].key] = append(byKey[r[i].key], i)
		}
	}
	met := make([]bool, len(r))
	for _, a := range l {
		matched := false
		if !a.null {
			for _, i := range byKey[a.key] {
				ok, err := m.matches(a.row, r[i].row)
				if err {
					failed += a.w * r[i].w
				}
				if !ok {
					continue
				}
				matched, met[i] = true, true
				if m.j.pairs {
					out[string(m.j.pair.Append(nil, a.row, r[i].row))] += a.w * r[i].w
				}
			}
		}
		switch {
		case m.p.Kind == SemiJoin && matched, m.p.Kind == AntiJoin && !matched:
			out[string(a.row)] += a.w
		case (m.p.Kind == LeftJoin || m.p.Kind == FullJoin) && !matched:
			out[string(m.j.pair.Append(nil, a.row, m.j.sides[1].layout.Null()))] += a.w
		}
	}
	for i, b := range r {
		if (m.p.Kind == RightJoin || m.p.Kind == FullJoin) && !met[i] {
			out[string(m.j.pair.Append(nil, m.j.sides[0].layout.Null(), b.row))] += b.w
		}
	}
	return out, failed
}

// matches evaluates the condition, conjunct by conjunct as the operator orders them.
func (m *joinModel) matches(a, b change.Row) (ok, failed bool) {
	if m.whole == nil {
		return true, false
	}
	m.x.ctx.Reset()
	m.x.ctx.Row = m.j.pair.Append(nil, a, b)
	ok = true
	for _, f := range m.j.conds {
		v, err := f(&m.x.ctx)
		if err != nil {
			return false, true
		}
		if ok = v.True(); !ok {
			break
		}
	}
	if v, err := m.whole(&m.x.ctx); err == nil && v.True() != ok {
		m.t.Fatal("the conjuncts say something else than the condition")
	}
	return ok, false
}

func (m *joinModel) check() {
	m.t.Helper()
	want, failed := m.expected()
	for row, w := range want {
		if m.shown[row] != w {
			m.t.Fatalf("batch %d: %d of %s, want %d", m.x.seq, m.shown[row], m.show(change.Row(row)), w)
		}
	}
	for row, w := range m.shown {
		if want[row] == 0 {
			m.t.Fatalf("batch %d: %d of %s, want none", m.x.seq, w, m.show(change.Row(row)))
		}
	}
	if m.log.rows != failed {
		m.t.Fatalf("batch %d: %d errors, want %d", m.x.seq, m.log.rows, failed)
	}
}

// joinHistory makes random changes that fit what is there.
type joinHistory struct {
	rnd     *rand.Rand
	keys    int
	l       *change.Layout
	live    [2][]change.Row
	appends [2]bool
}

func (h *joinHistory) row() change.Row {
	vals := []change.Value{change.Int(int64(h.rnd.IntN(h.keys))), change.Null(), change.Int(int64(h.rnd.IntN(24) - 4)), change.Int(int64(h.rnd.IntN(30)))}
	if h.rnd.IntN(8) == 0 {
		vals[colKey] = change.Null()
	}
	if h.rnd.IntN(8) > 0 {
		forms := []string{"1", "1.0", "2.50", "2.5", "-3", "7"}
		v, _, err := expr.ParseText(app.Numeric, []byte(forms[h.rnd.IntN(len(forms))]), nil)
		if err != nil {
			panic(err)
		}
		vals[colNumeric] = v
	}
	if h.rnd.IntN(12) == 0 {
		vals[colValue] = change.Null()
	}
	return h.l.Append(nil, vals)
}

// batch changes up to n rows of each side; most go away when shrink is set.
func (h *joinHistory) batch(n int, shrink bool) (in [2][]delta) {
	for s := range in {
		for range h.rnd.IntN(n + 1) {
			live := h.live[s]
			taken := 3
			if shrink {
				taken = 9
			}
			switch {
			case len(live) > 0 && !h.appends[s] && h.rnd.IntN(10) < taken:
				i := h.rnd.IntN(len(live))
				in[s] = append(in[s], delta{live[i], -1})
				live[i] = live[len(live)-1]
				h.live[s] = live[:len(live)-1]
			case len(live) > 0 && h.rnd.IntN(6) == 0:
				row := live[h.rnd.IntN(len(live))]
				in[s] = append(in[s], delta{row, 2})
				h.live[s] = append(live, row, row)
			default:
				row := h.row()
				in[s] = append(in[s], delta{row, 1})
				h.live[s] = append(live, row)
			}
		}
	}
	return in
}

func (h *joinHistory) rest() (in [2][]delta) {
	for s := range in {
		for _, row := range h.live[s] {
			in[s] = append(in[s], delta{row, -1})
		}
		h.live[s] = nil
	}
	return in
}
