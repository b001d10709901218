package expr_test

import (
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// benchExpressions are the shapes that filters, projections and checks have, over the columns of votes.
func benchExpressions(t testing.TB) map[string]*expr.Node {
	rel := votes()
	col := func(name string) *expr.Node {
		for i, c := range rel.Columns {
			if c.Name == name {
				return expr.Column(i, c.Type, -1)
			}
		}
		panic(name)
	}
	must := func(n *expr.Node, err error) *expr.Node {
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	op := func(name string, args ...*expr.Node) *expr.Node { return must(expr.Operator(name, args, -1)) }
	num := func(text string) *expr.Node { return must(expr.NumLit(text, -1)) }
	str := func(text string) *expr.Node { return expr.StringLit(text, -1) }
	return map[string]*expr.Node{
		"text = const":       op("=", col("contestant"), str("A")),
		"text IN list":       must(expr.In(col("contestant"), []*expr.Node{str("A"), str("B"), str("C")}, false, -1)),
		"int > const":        op(">", col("votes"), num("10")),
		"bigint between":     must(expr.Between(col("id"), num("1"), num("100"), false, false, -1)),
		"int arithmetic":     op("+", op("*", col("votes"), num("2")), num("1")),
		"numeric + -":        op("-", op("+", col("score"), num("1.25")), num("0.5")),
		"numeric * /":        op("/", op("*", col("score"), num("1.25")), num("3")),
		"numeric > const":    op(">", col("score"), num("1.25")),
		"round(numeric, 2)":  must(expr.Call("round", []*expr.Node{op("/", col("score"), num("3")), num("2")}, -1)),
		"at > now - 30 s":    op(">", col("at"), op("-", must(expr.Call("now", nil, -1)), must(expr.Cast(str("30 seconds"), app.Interval, -1)))),
		"date_trunc":         must(expr.Call("date_trunc", []*expr.Node{str("minute"), col("at")}, -1)),
		"like prefix":        op("~~", col("contestant"), str("A%")),
		"like general":       op("~~*", col("contestant"), str("%a_b%")),
		"regexp":             op("~", col("contestant"), str("^[A-C]+$")),
		"concat":             op("||", op("||", col("contestant"), str("-")), col("votes")),
		"upper, substr":      must(expr.Call("upper", []*expr.Node{must(expr.Call("substr", []*expr.Node{col("contestant"), num("1"), num("2")}, -1))}, -1)),
		"jsonb ->>":          op("->>", op("->", col("data"), str("deep")), str("k")),
		"jsonb number > 0":   op(">", must(expr.Cast(op("->", col("data"), str("n")), app.Numeric, -1)), num("0")),
		"case":               must(expr.Case(nil, []expr.When{{Cond: op(">", col("votes"), num("5")), Then: col("contestant")}}, str("none"), -1)),
		"coalesce and or":    must(expr.Or([]*expr.Node{op("=", must(expr.Coalesce([]*expr.Node{col("votes"), num("0")}, -1)), num("1")), op("=", col("contestant"), str("A"))}, -1)),
		"concat_ws many":     must(expr.Call("concat_ws", []*expr.Node{str(","), col("contestant"), col("votes"), col("open"), col("score")}, -1)),
		"greatest":           must(expr.Greatest([]*expr.Node{col("votes"), num("3"), num("7")}, -1)),
		"uuid = const":       op("=", col("voter"), str("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
		"int::text":          must(expr.Cast(col("votes"), app.Text, -1)),
		"to_jsonb":           must(expr.Call("to_jsonb", []*expr.Node{col("contestant")}, -1)),
		"extract(epoch)":     must(expr.Call("extract", []*expr.Node{str("epoch"), col("at")}, -1)),
		"make_interval":      must(expr.Call("make_interval", []*expr.Node{num("0"), num("0"), num("0"), col("votes")}, -1)),
		"0.908 * bigint":     op("*", num("0.908"), col("id")),
		"0.908*bigint > k":   op(">", op("*", num("0.908"), col("id")), num("1000000")),
		"mod(bigint, 123)=0": op("=", must(expr.Call("mod", []*expr.Node{col("id"), num("123")}, -1)), num("0")),
		"extract(hour) >= 8": op(">=", must(expr.Call("extract", []*expr.Node{str("hour"), col("at")}, -1)), num("8")),
		"to_char date":       must(expr.Call("to_char", []*expr.Node{col("at"), str("YYYY-MM-DD")}, -1)),
		"to_char HH24:MI":    must(expr.Call("to_char", []*expr.Node{col("at"), str("HH24:MI")}, -1)),
		"lower = const":      op("=", must(expr.Call("lower", []*expr.Node{col("contestant")}, -1)), str("aab")),
		"case lower when":    must(expr.Case(must(expr.Call("lower", []*expr.Node{col("contestant")}, -1)), []expr.When{{Cond: str("apple"), Then: num("0")}, {Cond: str("google"), Then: num("1")}, {Cond: str("aab"), Then: num("2")}}, nil, -1)),
		"regexp_match[2]": must(expr.Subscript(must(expr.Call("regexp_match", []*expr.Node{op("||", col("contestant"), str("://www.nexmark.com/abc/def/ghi/item.htm?query=1&channel_id=12345678")),
			str("(&|^)channel_id=([^&]*)")}, -1)), num("2"), -1)),
		"split_part":          must(expr.Call("split_part", []*expr.Node{str("https://www.nexmark.com/abc/def/ghi/item.htm"), must(expr.Call("concat", []*expr.Node{str("/")}, -1)), num("4")}, -1)),
		"x = ANY(array)":      must(expr.AnyOf(col("contestant"), "=", str("{A,B,Aab}"), false, -1)),
		"array build, length": must(expr.Call("cardinality", []*expr.Node{must(expr.ArrayLit([]*expr.Node{col("contestant"), str("b")}, -1))}, -1)),
		"jsonb #>>":           op("#>>", col("data"), str("{deep,k}")),
		"at time zone":        must(expr.Call("timezone", []*expr.Node{str("Europe/Berlin"), col("at")}, -1)),
		"avg::numeric scale":  op("/", must(expr.Cast(col("id"), app.Numeric, -1)), must(expr.Cast(col("votes"), app.Numeric, -1))),
	}
}

// In the steady state an evaluation allocates nothing.
func TestEvaluationDoesNotAllocate(t *testing.T) {
	rel := votes()
	r := row(t, rel, "123456", "Aab", "10", "1.50", "true", "2024-01-02", `{"tags":["x","y"],"n":1,"deep":{"k":"v"}}`, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	for name, n := range benchExpressions(t) {
		f, err := expr.Compile(n, rel.Layout)
		if err != nil {
			t.Fatal(name, err)
		}
		c := &expr.Ctx{Row: r, Now: 1, Subject: []byte("me")}
		run := func() {
			c.Reset()
			if _, err := f(c); err != nil {
				t.Fatal(name, err)
			}
		}
		run()
		if got := testing.AllocsPerRun(100, run); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

// The hot path of ingest: a value from JSON into a buffer with room.
func TestFromJSONDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 256)
	for typ, raw := range map[app.Type]string{app.Int4: "12", app.Int8: `"9007199254740993"`, app.Text: `"Zürich"`, app.UUID: `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`,
		app.Timestamptz: `"2024-01-02T03:04:05.123456Z"`, app.Bool: "true", app.Numeric: "12.50", app.Float8: "1.5", app.JSONB: `{"a": [1, "x"]}`} {
		text := []byte(raw)
		got := testing.AllocsPerRun(100, func() {
			if _, _, err := expr.FromJSON(typ, text, buf[:0]); err != nil {
				t.Fatal(err)
			}
		})
		if got != 0 {
			t.Errorf("%s %s: %v allocations", typ, raw, got)
		}
	}
}

// Output into a buffer with room.
func TestOutputDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 512)
	for _, typ := range everyType() {
		if typ.IsArray() || typ == app.Timestamp || typ == app.Date {
			continue
		}
		v := constOf(t, typ, map[app.Type]string{app.Bool: "t", app.Int4: "5", app.Int8: "9007199254740993", app.Float8: "1.5e100", app.Numeric: "-12345678901234567890.50", app.Text: "a\"b",
			app.UUID: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", app.Timestamptz: "2024-01-02 03:04:05.1", app.JSONB: `{"a":1}`, app.Interval: "1 day 2 hours"}[typ]).Value
		if got := testing.AllocsPerRun(100, func() {
			_ = expr.AppendJSON(buf[:0], typ, v, true)
			_ = expr.AppendText(buf[:0], typ, v)
			_ = change.AppendKey(buf[:0], typ, v, true, false)
		}); got != 0 {
			t.Errorf("%s: %v allocations", typ, got)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	rel := votes()
	r := row(b, rel, "123456", "Aab", "10", "1.50", "true", "2024-01-02", `{"tags":["x","y"],"n":1,"deep":{"k":"v"}}`, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	for name, n := range benchExpressions(b) {
		f, err := expr.Compile(n, rel.Layout)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			c := &expr.Ctx{Row: r, Now: 1}
			for b.Loop() {
				c.Reset()
				if _, err := f(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFromJSON(b *testing.B) {
	for _, c := range []struct {
		typ app.Type
		raw string
	}{{app.Int8, "123456"}, {app.Text, `"contestant"`}, {app.UUID, `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`}, {app.Timestamptz, `"2024-01-02T03:04:05.123456Z"`},
		{app.Numeric, "12.50"}, {app.JSONB, `{"a": [1, "x"], "b": {"c": true}}`}} {
		b.Run(c.typ.String(), func(b *testing.B) {
			buf, raw := make([]byte, 0, 256), []byte(c.raw)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := expr.FromJSON(c.typ, raw, buf[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
