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

// ask compares answers to questions with PostgreSQL's.
func compareAnswers(t *testing.T, o *oracle, sql, got []string) {
	t.Helper()
	bad := 0
	for i, want := range o.ask(sql) {
		if !same(got[i], want) {
			if bad++; bad < 10 {
				t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
			}
		}
	}
}

// A set-returning function returns an array here, which is the array of PostgreSQL's rows.
func TestSetFunctionsAreAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(8, 3))
	number := func(typ string) func() string {
		return func() string { return fmt.Sprintf("'%d'::%s", r.IntN(30)-10, typ) }
	}
	decimal := func() string {
		return fmt.Sprintf("'%s'::numeric", pick(r, "0.5", "-1.25", "3", "0", "10.00", "NaN", "7.1"))
	}
	day := func() string {
		return fmt.Sprintf("'2024-0%d-%02d'::%s", 1+r.IntN(3), 25+r.IntN(4), "timestamp")
	}
	instant := func() string { return strings.Replace(day(), "timestamp", "timestamptz", 1) }
	span := func() string {
		return "'" + pick(r, "1 day", "1 month", "12 hours", "-1 week", "1 mon -1 day", "0") + "'::interval"
	}
	array := func() string { return "'" + sampleJSON(r, 2) + "'::jsonb" }
	words := func() string { return "'" + pick(r, "a,b,,c", "", "abc", "a b  c", "a,,b") + "'::text" }
	seps := func() string { return "'" + pick(r, ",", " ", " +", "", "b", ",*") + "'::text" }
	cases := []struct {
		name string
		args []func() string
	}{
		{"generate_series", []func() string{number("integer"), number("integer")}},
		{"generate_series", []func() string{number("integer"), number("integer"), number("integer")}},
		{"generate_series", []func() string{number("bigint"), number("bigint"), number("bigint")}},
		{"generate_series", []func() string{decimal, decimal}},
		{"generate_series", []func() string{decimal, decimal, decimal}},
		{"generate_series", []func() string{day, day, span}},
		{"generate_series", []func() string{instant, instant, span}},
		{"jsonb_array_elements", []func() string{array}},
		{"jsonb_array_elements_text", []func() string{array}},
		{"jsonb_object_keys", []func() string{array}},
		{"string_to_table", []func() string{words, seps}},
		{"string_to_table", []func() string{words, seps, seps}},
		{"regexp_split_to_table", []func() string{words, seps}},
	}
	var sql, got []string
	for _, c := range cases {
		for range 60 {
			var nodes []*expr.Node
			var text []string
			for _, arg := range c.args {
				text = append(text, arg())
				nodes = append(nodes, typedLiteral(t, text[len(text)-1]))
			}
			n, err := expr.Call("_set_"+c.name, nodes, -1)
			sql = append(sql, "ARRAY(SELECT "+c.name+"("+strings.Join(text, ", ")+"))")
			got = append(got, ours(n, err))
		}
	}
	compareAnswers(t, o, sql, got)
}

// typedLiteral reads 'text'::type.
func typedLiteral(t *testing.T, sql string) *expr.Node {
	text, typ, _ := strings.Cut(sql, "::")
	return constOf(t, expr.TypeNamed(typ), strings.ReplaceAll(strings.Trim(text, "'"), "''", "'"))
}

// Modifiers of types: numeric(p, s) and varchar(n).
func TestTypeModifiersAreAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(5, 55))
	var sql, got []string
	for range 600 {
		p, s := 1+r.IntN(20), r.IntN(12)-3
		text := sample(r, app.Numeric)
		n, err := expr.NumericCast(constOf(t, app.Numeric, text), p, s, -1)
		sql, got = append(sql, fmt.Sprintf("'%s'::numeric::numeric(%d, %d)", text, p, s)), append(got, ours(n, err))
		text = sample(r, app.Text)
		length := 1 + r.IntN(6)
		n, err = expr.VarcharCast(constOf(t, app.Text, text), length, -1)
		sql, got = append(sql, fmt.Sprintf("%s::varchar(%d)::text", sqlLiteral(app.Text, text), length)), append(got, ours(n, err))
	}
	compareAnswers(t, o, sql, got)
}

// Comparisons with the elements of an array, with operands that are of no type yet among them.
func TestQuantifiedIsAsPostgres(t *testing.T) {
	o := newOracle(t)
	typed := func(typ app.Type, text string) func() (*expr.Node, string) {
		return func() (*expr.Node, string) { return constOf(t, typ, text), sqlLiteral(typ, text) }
	}
	bare := func(text string) func() (*expr.Node, string) {
		return func() (*expr.Node, string) { return expr.StringLit(text, -1), "'" + text + "'" }
	}
	null := func() (*expr.Node, string) { return expr.NullLit(-1), "NULL" }
	texts := app.Array(app.Text)
	var sql, got []string
	for _, left := range []func() (*expr.Node, string){typed(app.Text, "abc"), bare("abc"), null, typed(app.Int4, "3"), typed(app.Int8, "3"), typed(app.Numeric, "3.0"), bare("3")} {
		for _, right := range []func() (*expr.Node, string){typed(texts, "{a%,abc,NULL}"), typed(texts, "{}"), bare("{x%,_bc}"), null, typed(app.Array(app.Int4), "{1,3}"), bare("{1,2}"), typed(app.Int4, "3"),
			typed(app.Array(app.Numeric), "{NULL,3,4}")} {
			for _, op := range []string{"=", "<>", "~~", "!~~", "<", ">=", "~", "||", "+"} {
				for _, all := range []bool{false, true} {
					x, sx := left()
					a, sa := right()
					n, err := expr.AnyOf(x, op, a, all, -1)
					sql = append(sql, sx+" "+op+map[bool]string{true: " ALL (", false: " ANY ("}[all]+sa+")")
					got = append(got, ours(n, err))
				}
			}
		}
	}
	bad := 0
	for i, want := range o.ask(sql) {
		refused := strings.HasPrefix(want, "error") && strings.HasPrefix(got[i], "error")
		if !refused && !same(got[i], want) {
			if bad++; bad < 20 {
				t.Errorf("%s\n got %s\nwant %s", sql[i], got[i], want)
			}
		}
	}
}

// A group of a match, by the fast patterns and the others, is PostgreSQL's, and is the element of the array that the function
// returns.
func TestMatchedGroupsAreAsPostgres(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(31, 4))
	patterns := []string{`(&|^)channel_id=([^&]*)`, `channel_id=(\d+)`, `^https://([^/]+)/`, `a(b+)c`, `(a|b)x([0-9]*)y?`, `/([a-z]*)$`, `id=([^&]*)&x`, `(x)?abc`, `=`, `([^=]*)=([^&]*)(&|$)`,
		`é(.*)`, `(foo|foobar)(bar)?`, `b*(b)`}
	parts := []string{"channel_id=", "&", "id=", "123", "abc", "https://", "www", "/", "x", "y", "a", "b", "bbb", "c", "=", "é", "foo", "bar", "q=abcd", "ax1", "q="}
	var sql, got []string
	for range 1500 {
		var b strings.Builder
		for range r.IntN(8) {
			b.WriteString(pick(r, parts...))
		}
		text, p, k := b.String(), patterns[r.IntN(len(patterns))], r.IntN(4)
		match, err := expr.Call("regexp_match", []*expr.Node{expr.Column(0, app.Text, -1), expr.StringLit(p, -1)}, -1)
		if err != nil {
			t.Fatal(err)
		}
		n, err := expr.Subscript(match, expr.Const(app.Int4, change.Int(int64(k)), -1), -1)
		if err != nil {
			t.Fatal(err)
		}
		sql, got = append(sql, fmt.Sprintf("(regexp_match(%s, %s))[%d]", sqlLiteral(app.Text, text), sqlLiteral(app.Text, p), k)), append(got, overText(t, n, text))
		whole := overText(t, match, text)
		element, _ := expr.Subscript(expr.Column(0, app.Array(app.Text), -1), expr.Const(app.Int4, change.Int(int64(k)), -1), -1)
		if v := overValue(t, match, element, text); v != got[len(got)-1] {
			t.Errorf("%s: fused %s, element of %s is %s", sql[len(sql)-1], got[len(got)-1], whole, v)
		}
	}
	compareAnswers(t, o, sql, got)
}

// overText evaluates an expression over a row of one text.
func overText(t *testing.T, n *expr.Node, text string) string {
	t.Helper()
	l := change.NewLayout([]app.Type{app.Text})
	f, err := expr.Compile(n, l)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(n, f, l.Append(nil, []change.Value{change.Bytes([]byte(text))}))
}

func answerOf(n *expr.Node, f expr.Func, row change.Row) string {
	v, err := f(&expr.Ctx{Row: row})
	if err != nil {
		return "error: " + pgCode(err.(*expr.EvalError).Code) + " " + err.Error()
	}
	if v.Null {
		return n.Type.String() + " NULL"
	}
	return n.Type.String() + ": " + string(expr.AppendText(nil, n.Type, v))
}

// overValue evaluates then over the value of first, which is over a row of one text.
func overValue(t *testing.T, first, then *expr.Node, text string) string {
	t.Helper()
	l := change.NewLayout([]app.Type{app.Text})
	f, err := expr.Compile(first, l)
	if err != nil {
		t.Fatal(err)
	}
	v, err := f(&expr.Ctx{Row: l.Append(nil, []change.Value{change.Bytes([]byte(text))})})
	if err != nil {
		t.Fatal(err)
	}
	m := change.NewLayout([]app.Type{first.Type})
	g, err := expr.Compile(then, m)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(then, g, m.Append(nil, []change.Value{v}))
}

// The forms made for speed give what the general forms give: the same expressions over columns and constants and over columns
// alone.
func TestConstantFormsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(77, 1))
	types := []app.Type{app.Int8, app.Numeric, app.Text, app.Int4, app.Numeric, app.Text, app.Timestamp}
	l := change.NewLayout(types)
	col := func(i int) *expr.Node { return expr.Column(i, types[i], -1) }
	must := func(n *expr.Node, err error) *expr.Node {
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 4000 {
		vals := make([]change.Value, len(types))
		for i, typ := range types {
			vals[i] = constOf(t, typ, smallSample(r, typ)).Value
		}
		k := func(i int) *expr.Node { return expr.Const(types[i], vals[i], -1) }
		op := pick(r, "=", "<>", "<", "<=", ">", ">=")
		form := func(pickArg func(i int) *expr.Node) *expr.Node {
			switch seed := op; seed {
			case "=":
				return must(expr.Case(must(expr.Call("lower", []*expr.Node{col(2)}, -1)), []expr.When{{Cond: pickArg(5), Then: col(0)}, {Cond: pickArg(2), Then: col(3)}}, nil, -1))
			case "<>":
				return must(expr.Operator("*", []*expr.Node{pickArg(1), must(expr.Cast(col(0), app.Numeric, -1))}, -1))
			}
			product := must(expr.Operator("*", []*expr.Node{pickArg(1), must(expr.Cast(col(3), app.Numeric, -1))}, -1))
			return must(expr.Operator(op, []*expr.Node{product, pickArg(4)}, -1))
		}
		row := l.Append(nil, vals)
		var answers [2]string
		for i, n := range []*expr.Node{form(col), form(k)} {
			f, err := expr.Compile(n, l)
			if err != nil {
				t.Fatal(err)
			}
			answers[i] = answerOf(n, f, row)
		}
		if answers[0] != answers[1] {
			t.Fatalf("%s: over columns %s, with constants %s", form(k), answers[0], answers[1])
		}
	}
}
