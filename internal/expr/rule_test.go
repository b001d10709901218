package expr_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// TestFilterAnd: a rule's terms count as the filter's own, and leave the filter that it was made from as it was.
func TestFilterAnd(t *testing.T) {
	rel, rows := filterRows(t)
	of := func(query string) *expr.Filter {
		f, err := expr.ParseFilter(rel, query)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	count := func(f *expr.Filter) (n int) {
		for _, r := range rows {
			if ok, err := f.Match(&expr.Ctx{Row: r}); err != nil {
				t.Fatal(err)
			} else if ok {
				n++
			}
		}
		return n
	}
	rule := of("open=is.true&votes=eq.10").Cond()
	f := of("id=gt.0&order=id")
	both := f.And(rule)
	if count(f) != 4 || count(both) != 1 || len(f.Equals()) != 0 || len(both.Equals()) != 1 {
		t.Errorf("%d of %d rows, equalities %v and %v", count(both), count(f), f.Equals(), both.Equals())
	}
	if same := of("votes=eq.10&open=is.true&id=gt.0&order=id"); same.Canonical() != both.Canonical() {
		t.Errorf("the same conditions are\n%s\n%s", both.Canonical(), same.Canonical())
	}
	if f.And(nil) != f {
		t.Error("no rule makes another filter")
	}
	if none := f.And(expr.BoolLit(false, -1)); count(none) != 0 || none.Canonical() == f.Canonical() {
		t.Error("false lets rows through")
	}
	if foreign := f.And(expr.Column(99, app.Bool, -1)); foreign.Cond().Kind != expr.KConst || foreign.Cond().Value.True() {
		t.Errorf("a condition over another relation: %s", foreign.Cond())
	} else if ok, err := foreign.Match(&expr.Ctx{Row: rows[0]}); ok || err == nil {
		t.Error("it lets a row through")
	}
	whole := of("limit=1").And(rule)
	if count(whole) != 1 || whole.Limit != 1 {
		t.Error("a filter without conditions")
	}
}

// TestLoggedConditions: what is written to the log is read back as the same expression, whatever it is made of.
func TestLoggedConditions(t *testing.T) {
	m := &treeMaker{t: t, r: rand.New(rand.NewPCG(5, 6))}
	for i, typ := range everyType() {
		m.cols = append(m.cols, app.Column{Name: fmt.Sprintf("c%d", i), Type: typ})
	}
	layout := change.ColumnLayout(m.cols)
	kept := 0
	for range 3000 {
		e := m.condition(4)
		if !expr.Storable(e.n) {
			continue
		}
		kept++
		b := expr.AppendNode(nil, e.n)
		back, err := expr.ReadNode(b)
		if err != nil || back.String() != e.n.String() || !bytes.Equal(expr.AppendNode(nil, back), b) {
			t.Fatalf("%s\n%s is read back as\n%v, %v", e.sql, e.n, back, err)
		}
		if _, err := expr.Compile(back, layout); err != nil {
			t.Fatalf("%s: %v", back, err)
		}
		if sure := expr.Decided(e.n); !expr.Storable(sure) {
			t.Fatalf("%s can be written and %s cannot", e.n, sure)
		}
	}
	if kept < 2000 {
		t.Errorf("only %d of 3000 conditions can be written", kept)
	}
}

// TestDecided: the same rows pass, none fails, and what is bound is what is computed with a caller.
func TestDecided(t *testing.T) {
	m := &treeMaker{t: t, r: rand.New(rand.NewPCG(8, 9))}
	for i, typ := range everyType() {
		m.cols = append(m.cols, app.Column{Name: fmt.Sprintf("c%d", i), Type: typ})
	}
	layout := change.ColumnLayout(m.cols)
	claims := func(path string) (string, bool) { return "7", path == "n" }
	call := func(name string, args ...*expr.Node) *expr.Node { return m.must(expr.Call(name, args, -1)) }
	passed, failed := 0, 0
	for range 4000 {
		cond := m.condition(3).n
		asks := []*expr.Node{call("auth_subject"), call("auth_role"), call("auth_claim", expr.StringLit("n", -1)), call("auth_claim", expr.StringLit("gone", -1))}[m.r.IntN(4)]
		who := m.must(expr.Operator([]string{"=", "<>", "<"}[m.r.IntN(3)], []*expr.Node{asks, m.of(app.Text, 2).n}, -1))
		switch m.r.IntN(4) {
		case 0:
			cond = m.must(expr.And([]*expr.Node{cond, who}, -1))
		case 1:
			cond = m.must(expr.Or([]*expr.Node{who, cond}, -1))
		case 2:
			cond = m.must(expr.Case(nil, []expr.When{{Cond: who, Then: cond}}, m.condition(2).n, -1))
		}
		vals := make([]change.Value, len(m.cols))
		for i, c := range m.cols {
			vals[i] = change.Null()
			if m.r.IntN(4) > 0 {
				vals[i] = constOf(t, c.Type, smallSample(m.r, c.Type)).Value
			}
		}
		row := layout.Append(nil, vals)
		want, err := compute(t, cond, layout, &expr.Ctx{Row: row, Subject: []byte("ann"), Role: []byte("editor"), Claim: claims})
		bound := expr.Decided(cond.Bind(&expr.Caller{Subject: "ann", Role: "editor", Claim: claims}))
		got, boundErr := compute(t, bound, layout, &expr.Ctx{Row: row})
		switch {
		case boundErr != nil:
			t.Fatalf("%s fails: %v", bound, boundErr)
		case err != nil: // an AND may pass where a part fails that it does not need
			failed++
		case got.True() != want.True():
			t.Fatalf("%s is %v, bound %s is %v", cond, want, bound, got)
		case got.True():
			passed++
		}
		if bound.Volatility() != expr.Immutable {
			t.Fatalf("something of the caller is left: %s", bound)
		}
	}
	if passed < 1000 || failed < 3 {
		t.Errorf("%d passed and %d failed: the test compares too little", passed, failed)
	}
}

func compute(t *testing.T, n *expr.Node, layout *change.Layout, c *expr.Ctx) (change.Value, error) {
	t.Helper()
	f, err := expr.Compile(n, layout)
	if err != nil {
		t.Fatal(n, err)
	}
	return f(c)
}

// FuzzReadNode: no bytes make the reader panic, and what it reads is written as something that it reads the same.
func FuzzReadNode(f *testing.F) {
	i, s := expr.Column(0, app.Int4, -1), expr.Column(1, app.Text, -1)
	one, _ := expr.NumLit("1", -1)
	eq, _ := expr.Operator("=", []*expr.Node{i, one}, -1)
	in, _ := expr.In(s, []*expr.Node{expr.StringLit("a", -1), expr.StringLit("b", -1), expr.NullLit(-1)}, true, -1)
	like, _ := expr.Operator("~~", []*expr.Node{s, expr.StringLit("a%", -1)}, -1)
	any, _ := expr.AnyOf(s, "=", expr.Column(2, app.Array(app.Text), -1), true, -1)
	both, _ := expr.And([]*expr.Node{eq, in, like, any, expr.IsNull(s, true, -1)}, -1)
	for _, n := range []*expr.Node{eq, in, like, any, both, expr.Decided(both)} {
		f.Add(expr.AppendNode(nil, n))
	}
	layout := change.ColumnLayout([]app.Column{{Type: app.Int4}, {Type: app.Text}, {Type: app.Array(app.Text)}})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := expr.ReadNode(slices.Clone(b))
		if err != nil {
			return
		}
		text := n.String()
		back, err := expr.ReadNode(expr.AppendNode(nil, n))
		if err != nil || back.String() != text {
			t.Fatalf("%s is read again as %v, %v", text, back, err)
		}
		fn, err := expr.Compile(n, layout)
		if err != nil {
			return
		}
		_, _ = fn(&expr.Ctx{Row: layout.Append(nil, []change.Value{change.Int(1), change.Bytes([]byte("a")), change.Null()})})
	})
}

// TestRuleComesFirst: what a filter asks is not asked about a row that a rule hides, be the rule false there or NULL: nothing of it is computed, and it cannot fail.
func TestRuleComesFirst(t *testing.T) {
	cols := []app.Column{{Name: "owner", Type: app.Text}, {Name: "body", Type: app.Text}}
	rel := &expr.Relation{Name: "v", Columns: cols, Layout: change.ColumnLayout(cols)}
	text := func(s string) change.Value { return change.Bytes([]byte(s)) }
	ann, err := expr.Operator("=", []*expr.Node{expr.Column(0, app.Text, -1), expr.Const(app.Text, text("ann"), -1)}, -1)
	if err != nil {
		t.Fatal(err)
	}
	open := expr.IsNull(expr.Column(1, app.Text, -1), true, -1)
	twice, err := expr.And([]*expr.Node{open, ann}, -1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := expr.ParseFilter(rel, "body=match.(a|b){20}")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []*expr.Node{ann, twice} {
		under := f.And(rule)
		if under.Weight() != f.Weight() {
			t.Errorf("%s: the patterns weigh %d, and %d under the rule", rule, f.Weight(), under.Weight())
		}
		for _, c := range []struct {
			owner change.Value
			seen  bool
		}{{text("ann"), true}, {text("bob"), false}, {change.Null(), false}} {
			row := rel.Layout.Append(nil, []change.Value{c.owner, text("abababababababababababab")})
			ctx := expr.Ctx{Row: row}
			ctx.Bound(0)
			ok, err := under.Match(&ctx)
			if err != nil || ok != c.seen || (ctx.Spent() > 0) != c.seen {
				t.Errorf("%s: a row of %q is seen: %t, %v, and the filter did %d steps", rule, c.owner.B, ok, err, ctx.Spent())
			}
			ctx.Bound(1)
			if _, err := under.Match(&ctx); (err != nil) != c.seen {
				t.Errorf("%s: a row of %q on which the filter may do one step ends with %v", rule, c.owner.B, err)
			}
		}
	}
}
