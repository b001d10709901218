package expr_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// tree is a random expression, as a node and as SQL.
type tree struct {
	n   *expr.Node
	sql string
}

// treeMaker makes random expressions over the columns b, i, l, n, f, t, u, w, j, v (one of each type).
type treeMaker struct {
	t    *testing.T
	r    *rand.Rand
	cols []app.Column
}

func (m *treeMaker) must(n *expr.Node, err error) *expr.Node {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// leaf returns a column or a constant of a type.
func (m *treeMaker) leaf(typ app.Type) tree {
	if m.r.IntN(4) > 0 {
		for i, c := range m.cols {
			if c.Type == typ {
				return tree{expr.Column(i, typ, -1), c.Name}
			}
		}
	}
	if m.r.IntN(6) == 0 {
		return tree{m.must(expr.Cast(expr.NullLit(-1), typ, -1)), "NULL::" + typ.String()}
	}
	text := smallSample(m.r, typ)
	return tree{constOf(m.t, typ, text), sqlLiteral(typ, text)}
}

// smallSample keeps away from overflow.
func smallSample(r *rand.Rand, typ app.Type) string {
	switch typ {
	case app.Int4, app.Int8:
		return fmt.Sprint(r.IntN(9) - 4)
	case app.Float8:
		return pick(r, "0", "1.5", "-2.25", "NaN", "3")
	case app.Numeric:
		return pick(r, "0", "1.50", "-2.25", "1.5", "3", "0.001")
	case app.Text:
		return pick(r, "", "a", "b", "ab", "A", "é", "%")
	case app.JSONB:
		return sampleJSON(r, 1)
	}
	return sample(r, typ)
}

func (m *treeMaker) any(depth int) tree {
	return m.of(everyType()[m.r.IntN(len(everyType()))], depth)
}

// of returns an expression of a type.
func (m *treeMaker) of(typ app.Type, depth int) tree {
	if depth == 0 {
		return m.leaf(typ)
	}
	switch m.r.IntN(6) {
	case 0:
		return m.leaf(typ)
	case 1:
		return m.alternatives(typ, depth)
	}
	switch typ {
	case app.Bool:
		return m.condition(depth)
	case app.Int4, app.Int8, app.Numeric, app.Float8:
		if (typ == app.Int4 || typ == app.Numeric) && m.r.IntN(3) == 0 {
			a, i := m.of(app.Array(typ), depth-1), m.of(app.Int4, depth-1)
			return tree{m.must(expr.Subscript(a.n, i.n, -1)), "(" + a.sql + ")[" + i.sql + "]"}
		}
		return m.binary(pick(m.r, "+", "-"), typ, typ, depth)
	case app.Text:
		if m.r.IntN(2) == 0 {
			a := m.any(depth - 1)
			return tree{m.must(expr.Cast(a.n, app.Text, -1)), "(" + a.sql + ")::text"}
		}
		return m.binary("||", app.Text, app.Text, depth)
	case app.Interval:
		return m.binary("-", app.Timestamptz, app.Timestamptz, depth)
	}
	if typ.IsArray() {
		return m.array(typ, depth)
	}
	return m.leaf(typ)
}

func (m *treeMaker) binary(op string, ta, tb app.Type, depth int) tree {
	a, b := m.of(ta, depth-1), m.of(tb, depth-1)
	return tree{m.must(expr.Operator(op, []*expr.Node{a.n, b.n}, -1)), "(" + a.sql + " " + op + " " + b.sql + ")"}
}

// array joins arrays and elements, cuts them, or writes them out.
func (m *treeMaker) array(typ app.Type, depth int) tree {
	switch m.r.IntN(4) {
	case 0:
		return m.binary("||", typ, typ, depth)
	case 1:
		return m.binary("||", typ, typ.Elem(), depth)
	case 2:
		a, b := m.of(typ.Elem(), depth-1), m.of(typ.Elem(), depth-1)
		return tree{m.must(expr.ArrayLit([]*expr.Node{a.n, b.n}, -1)), "ARRAY[" + a.sql + ", " + b.sql + "]"}
	}
	a, lo, hi := m.of(typ, depth-1), m.leaf(app.Int4), m.leaf(app.Int4)
	return tree{m.must(expr.Slice(a.n, lo.n, hi.n, -1)), "(" + a.sql + ")[" + lo.sql + ":" + hi.sql + "]"}
}

// quantified compares with the elements of an array.
func (m *treeMaker) quantified(typ app.Type, depth int) tree {
	x, a, all := m.of(typ.Elem(), depth-1), m.of(typ, depth-1), m.r.IntN(2) == 0
	op := pick(m.r, "=", "<>", "<", ">=")
	return tree{m.must(expr.AnyOf(x.n, op, a.n, all, -1)), "(" + x.sql + " " + op + map[bool]string{true: " ALL", false: " ANY"}[all] + " (" + a.sql + "))"}
}

func (m *treeMaker) alternatives(typ app.Type, depth int) tree {
	a, b := m.of(typ, depth-1), m.of(typ, depth-1)
	switch m.r.IntN(5) {
	case 0:
		return tree{m.must(expr.Coalesce([]*expr.Node{a.n, b.n}, -1)), "COALESCE(" + a.sql + ", " + b.sql + ")"}
	case 1:
		return tree{m.must(expr.NullIf(a.n, b.n, -1)), "NULLIF(" + a.sql + ", " + b.sql + ")"}
	case 2:
		return tree{m.must(expr.Greatest([]*expr.Node{a.n, b.n}, -1)), "GREATEST(" + a.sql + ", " + b.sql + ")"}
	case 3:
		return tree{m.must(expr.Least([]*expr.Node{a.n, b.n}, -1)), "LEAST(" + a.sql + ", " + b.sql + ")"}
	}
	c := m.condition(depth - 1)
	return tree{m.must(expr.Case(nil, []expr.When{{Cond: c.n, Then: a.n}}, b.n, -1)), "CASE WHEN " + c.sql + " THEN " + a.sql + " ELSE " + b.sql + " END"}
}

func (m *treeMaker) condition(depth int) tree {
	if depth <= 0 {
		return m.leaf(app.Bool)
	}
	not := m.r.IntN(2) == 0
	word := ""
	if not {
		word = "NOT "
	}
	typ := everyType()[m.r.IntN(len(everyType()))]
	if typ.IsArray() && m.r.IntN(3) > 0 {
		return m.quantified(typ, depth)
	}
	switch m.r.IntN(10) {
	case 0, 1:
		a, b, c := m.condition(depth-1), m.condition(depth-1), m.condition(depth-1)
		if not {
			return tree{m.must(expr.And([]*expr.Node{a.n, b.n, c.n}, -1)), "(" + a.sql + " AND " + b.sql + " AND " + c.sql + ")"}
		}
		return tree{m.must(expr.Or([]*expr.Node{a.n, b.n}, -1)), "(" + a.sql + " OR " + b.sql + ")"}
	case 2:
		a := m.condition(depth - 1)
		return tree{m.must(expr.Not(a.n, -1)), "(NOT " + a.sql + ")"}
	case 3:
		a := m.of(typ, depth-1)
		return tree{expr.IsNull(a.n, not, -1), "(" + a.sql + " IS " + word + "NULL)"}
	case 4:
		a := m.condition(depth - 1)
		if m.r.IntN(3) == 0 {
			return tree{m.must(expr.IsUnknown(a.n, not, -1)), "(" + a.sql + " IS " + word + "UNKNOWN)"}
		}
		want := m.r.IntN(2) == 0
		return tree{m.must(expr.IsBool(a.n, want, not, -1)), fmt.Sprintf("(%s IS %s%v)", a.sql, word, want)}
	case 5:
		a, b := m.of(typ, depth-1), m.of(typ, depth-1)
		return tree{m.must(expr.IsDistinct(a.n, b.n, not, -1)), "(" + a.sql + " IS " + word + "DISTINCT FROM " + b.sql + ")"}
	case 6:
		x, a, b, c := m.of(typ, depth-1), m.leaf(typ), m.of(typ, depth-1), m.leaf(typ)
		return tree{m.must(expr.In(x.n, []*expr.Node{a.n, b.n, c.n}, not, -1)), "(" + x.sql + " " + word + "IN (" + a.sql + ", " + b.sql + ", " + c.sql + "))"}
	case 7:
		x, a, b := m.of(typ, depth-1), m.leaf(typ), m.leaf(typ)
		return tree{m.must(expr.Between(x.n, a.n, b.n, depth > 2, not, -1)),
			"(" + x.sql + " " + word + "BETWEEN " + map[bool]string{true: "SYMMETRIC "}[depth > 2] + a.sql + " AND " + b.sql + ")"}
	}
	return m.binary(pick(m.r, "=", "<>", "<", "<=", ">", ">="), typ, typ, depth)
}

func TestExpressionsAreAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(41, 43))
	m := &treeMaker{t: t, r: r}
	for i, typ := range everyType() {
		m.cols = append(m.cols, app.Column{Name: fmt.Sprintf("c%d", i), Type: typ})
	}
	layout := change.ColumnLayout(m.cols)
	var names []string
	for _, c := range m.cols {
		names = append(names, c.Name)
	}
	var sql, got []string
	ctx := &expr.Ctx{}
	for range 3000 {
		e := m.any(4)
		f, err := expr.Compile(e.n, layout)
		if err != nil {
			t.Fatal(e.sql, err)
		}
		vals := make([]change.Value, len(m.cols))
		var lits []string
		for i, c := range m.cols {
			if r.IntN(4) == 0 {
				vals[i] = change.Null()
				lits = append(lits, "NULL::"+c.Type.String())
				continue
			}
			text := smallSample(r, c.Type)
			vals[i] = constOf(t, c.Type, text).Value
			lits = append(lits, sqlLiteral(c.Type, text))
		}
		ctx.Reset()
		ctx.Row = layout.Append(nil, vals)
		v, err := f(ctx)
		answer := e.n.Type.String() + " NULL"
		if err != nil {
			answer = "error: " + pgCode(err.(*expr.EvalError).Code) + err.Error()
		} else if !v.Null {
			answer = e.n.Type.String() + ": " + string(expr.AppendText(nil, e.n.Type, v))
		}
		got = append(got, answer)
		sql = append(sql, "SELECT "+e.sql+" FROM (VALUES ("+strings.Join(lits, ", ")+")) AS r("+strings.Join(names, ", ")+")")
	}
	bad, errors := 0, 0
	for i, want := range o.ask(sql) {
		if strings.HasPrefix(want, "error") { // PostgreSQL may compute what a row does not need
			errors++
			continue
		}
		if !same(got[i], want) {
			if bad++; bad < 10 {
				t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
			}
		}
	}
	if errors > len(sql)/20 {
		t.Errorf("%d of %d expressions failed: the test compares too little", errors, len(sql))
	}
}
