package expr_test

import (
	"errors"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

func TestTypeErrors(t *testing.T) {
	i, s, at := expr.Column(0, app.Int4, 5), expr.Column(1, app.Text, 9), expr.Column(2, app.Timestamptz, 12)
	check := func(err error, msg, hint string, pos int) {
		t.Helper()
		var e *expr.TypeError
		if !errors.As(err, &e) {
			t.Errorf("got %v, want a TypeError", err)
			return
		}
		if e.Msg != msg || !strings.Contains(e.Hint, hint) || e.Pos != pos {
			t.Errorf("got %q, hint %q, at %d; want %q, %q, %d", e.Msg, e.Hint, e.Pos, msg, hint, pos)
		}
	}
	fails := func(n *expr.Node, err error) error { return err }
	check(fails(expr.Operator("+", []*expr.Node{s, i}, 7)), "operator does not exist: text + integer", "x::integer", 7)
	check(fails(expr.Operator("<->", []*expr.Node{s, i}, 7)), "operator does not exist: text <-> integer", "there is no operator <->", 7)
	check(fails(expr.Operator("-", []*expr.Node{s}, 7)), "operator does not exist: - text", "cast", 7)
	check(fails(expr.Call("flor", []*expr.Node{i}, 3)), "function flor(integer) does not exist", "did you mean floor?", 3)
	check(fails(expr.Call("nonsense", nil, 3)), "function nonsense() does not exist", "", 3)
	check(fails(expr.Call("date_trunc", []*expr.Node{s, i}, 3)), "function date_trunc(text, integer) does not exist", "there is date_trunc(text, timestamptz)", 3)
	check(fails(expr.Call("concat_ws", nil, 3)), "function concat_ws() does not exist", "concat_ws(text, any, …)", 3)
	check(fails(expr.Operator("=", []*expr.Node{i, expr.StringLit("x", 20)}, 7)), `invalid input syntax for type integer: "x"`, "", 20)
	check(fails(expr.Cast(i, app.Timestamptz, 4)), "cannot cast type integer to timestamptz", "", 4)
	check(fails(expr.Assign(s, app.Int4, 4)), "expression is of type text but the column is of type integer", "::integer", 4)
	check(fails(expr.Implicit(s, app.Int4, 4)), "type text does not become integer by itself", "::integer", 4)
	check(fails(expr.Condition(i, "WHERE")), "argument of WHERE must be type boolean, not type integer", "compare", 5)
	check(fails(expr.Not(s, 1)), "argument of NOT must be type boolean, not type text", "", 9)
	check(fails(expr.Coalesce([]*expr.Node{i, s}, 1)), "COALESCE types integer and text cannot be matched", "cast", 9)
	check(fails(expr.Case(nil, []expr.When{{Cond: expr.BoolLit(true, 0), Then: at}}, i, 1)), "CASE types integer and timestamptz cannot be matched", "", 12)
	check(fails(expr.In(i, []*expr.Node{expr.StringLit("1", 0), expr.StringLit("b", 30)}, false, 1)), `invalid input syntax for type integer: "b"`, "", 30)
	check(fails(expr.NumLit("1e999999", 2)), "value overflows numeric format", "", 2)
}

func TestCanonicalText(t *testing.T) {
	i, s := expr.Column(0, app.Int4, -1), expr.Column(1, app.Text, -1)
	check := func(want string, n *expr.Node, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if n.String() != want {
			t.Errorf("got %s, want %s", n, want)
		}
	}
	one, _ := expr.NumLit("1", -1)
	big, _ := expr.NumLit("3000000000", -1)
	n, err := expr.Operator("+", []*expr.Node{i, one}, -1)
	check("($1:integer + 1)", n, err)
	n, err = expr.Operator("<", []*expr.Node{i, big}, -1)
	check("($1:integer::bigint < '3000000000'::bigint)", n, err)
	n, err = expr.Operator("~~", []*expr.Node{s, expr.StringLit("it's%", -1)}, -1)
	check("($2:text ~~ 'it''s%'::text)", n, err)
	n, err = expr.Call("upper", []*expr.Node{s}, -1)
	check("upper($2:text)", n, err)
	n, err = expr.In(i, []*expr.Node{one, big}, true, -1)
	check("(NOT ($1:integer::bigint IN ('1'::bigint, '3000000000'::bigint)))", n, err)
	n, err = expr.Case(i, []expr.When{{Cond: one, Then: s}}, nil, -1)
	check("CASE WHEN ($1:integer = 1) THEN $2:text ELSE NULL::text END", n, err)
	check("(NOT ($2:text IS NULL))", expr.IsNull(s, true, -1), nil)
	n, err = expr.Call("now", nil, -1)
	check("now()", n, err)
	n, err = expr.Operator("*", []*expr.Node{big, big}, -1) // folded
	check("'9000000000000000000'::bigint", n, err)
	zero, _ := expr.NumLit("0", -1)
	n, err = expr.Operator("/", []*expr.Node{one, zero}, -1) // an error is left to the row
	check("(1 / 0)", n, err)
}

func TestNumberLiterals(t *testing.T) {
	for text, want := range map[string]app.Type{"0": app.Int4, "2147483647": app.Int4, "2147483648": app.Int8, "-2147483648": app.Int4, "9223372036854775807": app.Int8,
		"9223372036854775808": app.Numeric, "1.0": app.Numeric, "1e3": app.Numeric, ".5": app.Numeric} {
		n, err := expr.NumLit(text, -1)
		if err != nil || n.Type != want {
			t.Errorf("%s: got %v, %v; want %s", text, n, err, want)
		}
	}
}

func TestVolatility(t *testing.T) {
	now, _ := expr.Call("now", nil, -1)
	day, _ := expr.Call("date_trunc", []*expr.Node{expr.StringLit("day", -1), now}, -1)
	id, _ := expr.Call("gen_random_uuid", nil, -1)
	text, _ := expr.Cast(id, app.Text, -1)
	abs, _ := expr.Call("abs", []*expr.Node{expr.Column(0, app.Int4, -1)}, -1)
	for n, want := range map[*expr.Node]expr.Volatility{now: expr.Stable, day: expr.Stable, text: expr.Volatile, abs: expr.Immutable} {
		if got := n.Volatility(); got != want {
			t.Errorf("%s: got %d, want %d", n, got, want)
		}
	}
}

func TestSession(t *testing.T) {
	c := &expr.Ctx{Now: 1704164645000000, Subject: []byte("ada"), Role: []byte("clerk")}
	value := func(n *expr.Node, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		f, err := expr.Compile(n, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := f(c)
		if err != nil {
			t.Fatal(err)
		}
		if v.Null {
			return "NULL"
		}
		return string(expr.AppendText(nil, n.Type, v))
	}
	if got := value(expr.Call("now", nil, -1)); got != "2024-01-02 03:04:05+00" {
		t.Errorf("now() is %s", got)
	}
	if got := value(expr.Call("auth_subject", nil, -1)) + " " + value(expr.Call("auth_role", nil, -1)); got != "ada clerk" {
		t.Errorf("the caller is %s", got)
	}
	a, b := value(expr.Call("gen_random_uuid", nil, -1)), value(expr.Call("gen_random_uuid", nil, -1))
	if a == b || len(a) != 36 || a[14] != '4' {
		t.Errorf("random ids %s and %s", a, b)
	}
	c.Subject = nil
	if got := value(expr.Call("auth_subject", nil, -1)); got != "NULL" {
		t.Errorf("nobody is %s", got)
	}
}

// What an expression made stays as it is until Reset, whatever is computed after it.
func TestScratchKeepsValues(t *testing.T) {
	n, err := expr.Operator("||", []*expr.Node{expr.Column(0, app.Text, -1), expr.StringLit("!", -1)}, -1)
	if err != nil {
		t.Fatal(err)
	}
	layout := change.NewLayout([]app.Type{app.Text})
	f, err := expr.Compile(n, layout)
	if err != nil {
		t.Fatal(err)
	}
	c := &expr.Ctx{}
	var made []change.Value
	for i := range 200 {
		c.Row = layout.Append(nil, []change.Value{change.Bytes([]byte(strings.Repeat("x", i)))})
		v, err := f(c)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, v)
	}
	for i, v := range made {
		if string(v.B) != strings.Repeat("x", i)+"!" {
			t.Fatalf("value %d became %q", i, v.B)
		}
	}
}

// Small inputs do not make huge values.
func TestValuesAreBounded(t *testing.T) {
	str := func(s string) *expr.Node { return expr.Const(app.Text, change.Bytes([]byte(s)), -1) }
	zeros := "{" + strings.TrimSuffix(strings.Repeat("0e-16383,", 10_000), ",") + "}"
	if _, _, err := expr.ParseText(app.Array(app.Numeric), []byte(zeros), nil); err == nil {
		t.Error("an array that would print as 160 MB was read")
	}
	big := strings.Repeat("x", 1<<18)
	for what, call := range map[string][]*expr.Node{
		"regexp_replace":       {str(big), str(".*"), str(strings.Repeat(`\&`, 1<<12))},
		"replace":              {str(big), str("x"), str("0123456789")},
		"array_to_string":      {expr.Const(app.Array(app.Text), change.Bytes(change.AppendArray(nil, app.Text, make([]change.Value, 1000))), -1), str(big)},
		"_set_generate_series": {expr.Const(app.Int4, change.Int(1), -1), expr.Const(app.Int4, change.Int(1<<30), -1)},
		"format":               {str(strings.Repeat("%1$s", 1000)), str(big)},
		"translate":            {str(big), str("x"), str("€")},
	} {
		n, err := expr.Call(what, call, -1)
		if err != nil {
			t.Fatal(what, err)
		}
		f, err := expr.Compile(n, nil)
		if err != nil {
			t.Fatal(what, err)
		}
		c := &expr.Ctx{}
		if v, err := f(c); err == nil && len(v.B) > expr.MaxValue {
			t.Errorf("%s made %d bytes", what, len(v.B))
		} else if err == nil && what != "translate" {
			t.Errorf("%s made %d bytes of what is beyond the limit", what, len(v.B))
		}
	}
}
