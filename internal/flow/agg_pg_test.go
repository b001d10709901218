package flow_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// aggColumn is a column of the tables that TestAggregates groups.
type aggColumn struct {
	name string
	typ  app.Type
	text []string // values
}

// aggColumns has values from small sets, so that duplicates, ties and groups meet. Numerics have two digits behind the point: sums of
// them can be compared digit by digit.
func aggColumns() []aggColumn {
	return []aggColumn{
		{"id", app.Int8, nil},
		{"g", app.Int4, []string{"1", "2", "3"}},
		{"i4", app.Int4, []string{"-7", "0", "1", "2", "12", "2147483647", "-2147483648"}},
		{"i8", app.Int8, []string{"-7", "0", "1", "3", "1000000", "9223372036854775807", "-9223372036854775808"}},
		{"n", app.Numeric, []string{"-1.50", "0.00", "1.00", "2.25", "99999999999999999999999999999999.99", "0.01"}},
		{"f", app.Float8, []string{"-1.5", "0", "0.1", "2.5", "1e10", "3.25"}},
		{"b", app.Bool, []string{"true", "false"}},
		{"s", app.Text, []string{"", "a", "b", "ä", "a,b", `q"x`}},
		{"p", app.Text, []string{",", "; ", "", "-"}},
		{"u", app.UUID, []string{"00000000-0000-0000-0000-000000000001", "ffffffff-0000-0000-0000-000000000001"}},
		{"ts", app.Timestamptz, []string{"2024-01-01 00:00:00+00", "2024-01-02 03:04:05.678+00", "2024-02-29 12:00:00+00"}},
		{"j", app.JSONB, []string{"1", `"x"`, `{"a": 1}`, "[1, 2]", "null", "true"}},
		{"tm", app.Timestamp, []string{"2024-01-01 00:00:00", "2024-01-02 03:04:05.678"}},
		{"d", app.Date, []string{"2024-01-01", "2023-12-31", "2024-02-29"}},
	}
}

// aggCase is one aggregate, for both sides.
type aggCase struct {
	agg flow.Agg
	sql string
}

type aggCases struct {
	t    *testing.T
	rnd  *rand.Rand
	cols []aggColumn
	list []aggCase
}

func (c *aggCases) node(name string) *expr.Node {
	for i, col := range c.cols {
		if col.name == name {
			return expr.Column(i, col.typ, -1)
		}
	}
	c.t.Fatalf("no column %s", name)
	return nil
}

func (c *aggCases) must(n *expr.Node, err error) *expr.Node {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// filter adds a FILTER, now and then.
func (c *aggCases) filter(g *flow.Agg) string {
	zero := c.must(expr.NumLit("1", -1))
	switch c.rnd.IntN(6) {
	case 0:
		g.Filter = c.node("b")
		return " FILTER (WHERE b)"
	case 1:
		g.Filter = c.must(expr.Operator(">", []*expr.Node{c.node("i4"), zero}, -1))
		return " FILTER (WHERE i4 > 1)"
	}
	return ""
}

func (c *aggCases) add(g flow.Agg, sql string) {
	where := c.filter(&g)
	c.list = append(c.list, aggCase{g, fmt.Sprintf(sql, where)})
}

// sorted adds an aggregate whose order is told: by the sort column if there is one, then by the arguments.
func (c *aggCases) sorted(g flow.Agg, call, args, sort string) {
	order := args
	if sort != "" {
		k := flow.SortKey{X: c.node(sort), Desc: c.rnd.IntN(2) == 0, NullsFirst: c.rnd.IntN(2) == 0}
		g.Sort = []flow.SortKey{k}
		order = sort + map[bool]string{true: " DESC"}[k.Desc] + map[bool]string{true: " NULLS FIRST", false: " NULLS LAST"}[k.NullsFirst] + ", " + args
	}
	c.add(g, strings.Replace(call, "ORDER", "ORDER BY "+order, 1))
}

func newAggCases(t *testing.T, rnd *rand.Rand) *aggCases {
	c := &aggCases{t: t, rnd: rnd, cols: aggColumns()}
	for _, col := range c.cols[1:] {
		c.ofColumn(col)
	}
	c.numbers()
	c.texts()
	return c
}

// ofColumn adds what works on every type.
func (c *aggCases) ofColumn(col aggColumn) {
	x, n := c.node(col.name), col.name
	c.add(flow.Agg{Func: flow.Count, Arg: x, Type: app.Int8}, "count("+n+")%s")
	for range 2 {
		c.add(flow.Agg{Func: flow.Count, Arg: x, Distinct: true, Type: app.Int8}, "count(DISTINCT "+n+")%s")
	}
	c.sorted(flow.Agg{Func: flow.ArrayAgg, Arg: x, Type: app.Array(col.typ)}, "array_agg("+n+" ORDER)%s", n, "")
	c.sorted(flow.Agg{Func: flow.ArrayAgg, Arg: x, Type: app.Array(col.typ)}, "array_agg("+n+" ORDER)%s", n, "s")
	c.sorted(flow.Agg{Func: flow.ArrayAgg, Arg: x, Distinct: true, Type: app.Array(col.typ)}, "array_agg(DISTINCT "+n+" ORDER)%s", n, "")
	c.sorted(flow.Agg{Func: flow.JSONBAgg, Arg: x, Type: app.JSONB}, "jsonb_agg("+n+" ORDER)%s", n, "i4")
	c.sorted(flow.Agg{Func: flow.JSONBAgg, Arg: x, Distinct: true, Type: app.JSONB}, "jsonb_agg(DISTINCT "+n+" ORDER)%s", n, "")
	c.sorted(flow.Agg{Func: flow.First, Arg: x, Type: col.typ}, "(array_agg("+n+" ORDER)%s)[1]", n, "f")
	for _, desc := range []bool{false, true} {
		order := n + map[bool]string{true: " DESC"}[desc]
		sort := []flow.SortKey{{X: x, Desc: desc}}
		c.add(flow.Agg{Func: flow.Mode, Sort: sort, Type: col.typ}, "mode() WITHIN GROUP (ORDER BY "+order+")%s")
		for _, p := range []string{"0", "0.3", "0.5", "1"} {
			f := c.must(expr.Cast(expr.StringLit(p, -1), app.Float8, -1))
			c.add(flow.Agg{Func: flow.PercentileDisc, Arg: f, Sort: sort, Type: col.typ}, "percentile_disc("+p+") WITHIN GROUP (ORDER BY "+order+")%s")
		}
	}
	c.add(flow.Agg{Func: flow.ApproxDistinct, Arg: x, Type: app.Int8}, "count(DISTINCT "+n+")%s")
	any := flow.Agg{Func: flow.AnyValue, Arg: x, Type: col.typ}
	where := c.filter(&any)
	if where == "" {
		where = " FILTER (WHERE " + n + " IS NOT NULL)"
	} else {
		where = strings.TrimSuffix(where, ")") + " AND " + n + " IS NOT NULL)"
	}
	c.list = append(c.list, aggCase{any, "(array_agg(" + n + " ORDER BY " + n + ")" + where + ")[1]"})
	switch col.typ {
	case app.Bool:
		c.add(flow.Agg{Func: flow.BoolAnd, Arg: x, Type: app.Bool}, "bool_and("+n+")%s")
		c.add(flow.Agg{Func: flow.BoolOr, Arg: x, Distinct: true, Type: app.Bool}, "bool_or(DISTINCT "+n+")%s")
	case app.UUID, app.JSONB:
	default:
		c.add(flow.Agg{Func: flow.Min, Arg: x, Type: col.typ}, "min("+n+")%s")
		c.add(flow.Agg{Func: flow.Max, Arg: x, Distinct: true, Type: col.typ}, "max(DISTINCT "+n+")%s")
	}
}

func (c *aggCases) numbers() {
	for _, n := range []string{"i4", "i8", "n", "f"} {
		x := c.node(n)
		result := app.Numeric
		if x.Type == app.Float8 {
			result = app.Float8
		}
		for _, f := range []flow.AggFunc{flow.StddevSamp, flow.StddevPop, flow.VarSamp, flow.VarPop} {
			c.add(flow.Agg{Func: f, Arg: x, Type: result}, f.String()+"("+n+")%s")
			c.add(flow.Agg{Func: f, Arg: x, Distinct: true, Type: result}, f.String()+"(DISTINCT "+n+")%s")
		}
		for _, f := range []flow.AggFunc{flow.Sum, flow.Avg} {
			typ, _ := sumType(f.String(), x.Type)
			c.add(flow.Agg{Func: f, Arg: x, Type: typ}, f.String()+"("+n+")%s")
			c.add(flow.Agg{Func: f, Arg: x, Distinct: true, Type: typ}, f.String()+"(DISTINCT "+n+")%s")
		}
		for _, p := range []string{"0", "0.3", "0.5", "1"} {
			f := c.must(expr.Cast(expr.StringLit(p, -1), app.Float8, -1))
			c.add(flow.Agg{Func: flow.PercentileCont, Arg: f, Sort: []flow.SortKey{{X: c.must(expr.Cast(x, app.Float8, -1)), Desc: p == "0.3"}}, Type: app.Float8},
				"percentile_cont("+p+") WITHIN GROUP (ORDER BY "+n+map[bool]string{true: " DESC"}[p == "0.3"]+")%s")
		}
		if n == "i4" || n == "i8" {
			for _, f := range []flow.AggFunc{flow.BitAnd, flow.BitOr, flow.BitXor} {
				c.add(flow.Agg{Func: f, Arg: x, Type: x.Type}, f.String()+"("+n+")%s")
				c.add(flow.Agg{Func: f, Arg: x, Distinct: true, Type: x.Type}, f.String()+"(DISTINCT "+n+")%s")
			}
		}
	}
	base := c.must(expr.Cast(expr.StringLit("2024-01-10 00:00:00+00", -1), app.Timestamptz, -1))
	span := c.must(expr.Operator("-", []*expr.Node{c.node("ts"), base}, -1))
	text := "(ts - '2024-01-10 00:00:00+00'::timestamptz)"
	for _, f := range []flow.AggFunc{flow.Sum, flow.Avg, flow.Min, flow.Max} {
		c.add(flow.Agg{Func: f, Arg: span, Type: app.Interval}, f.String()+"("+text+")%s")
		c.add(flow.Agg{Func: f, Arg: span, Distinct: true, Type: app.Interval}, f.String()+"(DISTINCT "+text+")%s")
	}
	for _, p := range []string{"0.3", "0.5"} {
		f := c.must(expr.Cast(expr.StringLit(p, -1), app.Float8, -1))
		c.add(flow.Agg{Func: flow.PercentileCont, Arg: f, Sort: []flow.SortKey{{X: span}}, Type: app.Interval},
			"percentile_cont("+p+") WITHIN GROUP (ORDER BY "+text+")%s")
	}
}

func (c *aggCases) texts() {
	s, comma := c.node("s"), expr.Settle(expr.StringLit(",", -1))
	c.sorted(flow.Agg{Func: flow.StringAgg, Arg: s, Arg2: comma, Type: app.Text}, "string_agg(s, ',' ORDER)%s", "s", "")
	c.sorted(flow.Agg{Func: flow.StringAgg, Arg: s, Arg2: comma, Distinct: true, Type: app.Text}, "string_agg(DISTINCT s, ',' ORDER)%s", "s", "")
	c.sorted(flow.Agg{Func: flow.StringAgg, Arg: s, Arg2: c.node("p"), Type: app.Text}, "string_agg(s, p ORDER)%s", "s, p", "")
	c.sorted(flow.Agg{Func: flow.StringAgg, Arg: s, Arg2: c.node("p"), Type: app.Text}, "string_agg(s, p ORDER)%s", "s, p", "i8")
	c.sorted(flow.Agg{Func: flow.StringAgg, Arg: s, Arg2: c.node("p"), Distinct: true, Type: app.Text}, "string_agg(DISTINCT s, p ORDER)%s", "s, p", "")
	for _, v := range []string{"i4", "s", "j"} {
		c.sorted(flow.Agg{Func: flow.JSONBObjectAgg, Arg: c.node("g"), Arg2: c.node(v), Type: app.JSONB}, "jsonb_object_agg(g, "+v+" ORDER)%s", "g, "+v, "")
		c.sorted(flow.Agg{Func: flow.JSONBObjectAgg, Arg: c.node("g"), Arg2: c.node(v), Type: app.JSONB}, "jsonb_object_agg(g, "+v+" ORDER)%s", "g, "+v, "f")
	}
}

// aggHistory gives random changes to both sides.
type aggHistory struct {
	*aggCases
	pg    *pgx.Conn
	d     *driver
	views []string // the query of each view
	first int      // relation of the first view
	next  int
}

func (h *aggHistory) cell(col aggColumn) (change.Value, string) {
	if col.name != "g" && h.rnd.IntN(5) == 0 {
		return change.Null(), "NULL"
	}
	text := col.text[h.rnd.IntN(len(col.text))]
	v, _, err := expr.ParseText(col.typ, []byte(text), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return change.Value{N: v.N, B: slices.Clone(v.B)}, "'" + strings.ReplaceAll(text, "'", "''") + "'::" + col.typ.String()
}

// row makes a row with an id.
func (h *aggHistory) row(id int) (change.Record, string) {
	vals, cells := []change.Value{change.Int(int64(id))}, []string{strconv.Itoa(id)}
	for _, col := range h.cols[1:] {
		v, cell := h.cell(col)
		vals, cells = append(vals, v), append(cells, cell)
	}
	l := h.d.p.Relations[0].Layout
	return change.Record{Row: l.Append(nil, vals), Given: []byte{0xff, 0xff}}, "(" + strings.Join(cells, ", ") + ")"
}

// step changes the keyed table and appends to the other one.
func (h *aggHistory) step() {
	h.t.Helper()
	var entries []change.Entry
	var sql []string
	for range 1 + h.rnd.IntN(4) {
		id := h.rnd.IntN(30)
		if h.rnd.IntN(3) == 0 {
			entries = append(entries, records(1, change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=eq.%d", id)}))
			sql = append(sql, fmt.Sprintf("DELETE FROM t WHERE id = %d", id))
			continue
		}
		rec, text := h.row(id)
		entries = append(entries, records(1, change.OpMerge, rec))
		sql = append(sql, fmt.Sprintf("DELETE FROM t WHERE id = %d", id), "INSERT INTO t VALUES "+text)
	}
	rec, text := h.row(h.next)
	h.next++
	entries = append(entries, records(2, change.OpInsert, rec))
	sql = append(sql, "INSERT INTO a VALUES "+text)
	h.d.apply(entries...)
	if _, err := h.pg.Exec(h.t.Context(), strings.Join(sql, "; "), pgx.QueryExecModeSimpleProtocol); err != nil {
		h.t.Fatalf("%v: %s", err, sql)
	}
}

func (h *aggHistory) compare(step int) {
	h.t.Helper()
	for v, query := range h.views {
		results, err := h.pg.PgConn().Exec(h.t.Context(), query).ReadAll()
		if err != nil {
			h.t.Fatalf("PostgreSQL: %v: %s", err, query)
		}
		want := map[string][]string{}
		for _, r := range results[0].Rows {
			want[cellText(r[0])] = nil
			for _, c := range r[1:] {
				want[cellText(r[0])] = append(want[cellText(r[0])], cellText(c))
			}
		}
		rel := h.d.p.Relations[h.first+v]
		if len(h.d.rows[rel.ID]) != len(want) {
			h.t.Fatalf("step %d: %d groups, want %d", step, len(h.d.rows[rel.ID]), len(want))
		}
		for _, row := range h.d.rows[rel.ID] {
			key := showValue(rel.Layout.Type(0), rel.Layout.Get(row, 0))
			for i, c := range h.list {
				typ := rel.Layout.Type(i + 1)
				got, exp := aggNormal(typ, showValue(typ, rel.Layout.Get(row, i+1))), aggNormal(typ, want[key][i])
				if got != exp {
					h.t.Errorf("step %d, %s, group %s: %s is\n  %s\nwhere PostgreSQL has\n  %s", step, rel.Name, key, c.sql, got, exp)
				}
			}
		}
	}
}

func cellText(c []byte) string {
	if c == nil {
		return "NULL"
	}
	return string(c)
}

// aggNormal removes what may differ: the last digits of floats, and how booleans are printed.
func aggNormal(t app.Type, s string) string {
	switch t {
	case app.Float8:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return strconv.FormatFloat(f+0, 'g', 9, 64)
		}
	case app.Numeric:
		if x, ok := new(big.Rat).SetString(s); ok && strings.Contains(s, "e") {
			return x.String()
		}
	case app.Bool:
		return map[string]string{"t": "true", "f": "false"}[s] + strings.TrimLeft(s, "tf")
	}
	return s
}

// TestAggregates compares every aggregate, over a table whose rows come and go and over one to which rows are only appended, by group and as
// a whole, with PostgreSQL's.
func TestAggregates(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	seeds := uint64(4)
	if testing.Short() || testkit.Race() {
		seeds = 2
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 31))
		h := &aggHistory{aggCases: newAggCases(t, rnd), pg: conn, next: 1}
		p := newProgram()
		var defs []string
		for i, c := range h.cols {
			defs = append(defs, c.name+" "+c.typ.String()+map[bool]string{true: " not null"}[i < 2])
		}
		keyed, appended := p.table("t", []int{0}, false, true, defs...), p.table("a", []int{0}, true, false, defs...)
		create := strings.Join(defs, ", ")
		if _, err := conn.Exec(t.Context(), "DROP TABLE IF EXISTS t, a; CREATE TABLE t ("+create+"); CREATE TABLE a ("+create+")", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		h.first = 2
		h.view(p, "t", keyed)
		h.view(p, "a", appended)
		h.d = newDriver(t, &p.p, flow.Options{})
		h.d.apply(change.Entry{Kind: change.EntryDefinition, Body: []byte("{}")})
		for i := range 40 {
			h.step()
			if h.compare(i); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		h.rebuild()
	}
}

// view adds the aggregates by group and as a whole.
func (h *aggHistory) view(p *programOf, table string, in flow.Plan) {
	var aggs []flow.Agg
	var sql []string
	for _, c := range h.list {
		agg := c.agg
		aggs, sql = append(aggs, agg), append(sql, c.sql)
	}
	one := expr.Const(app.Int4, change.Int(0), -1)
	p.view(table+"_by_g", []int{0}, &flow.Aggregate{In: in, Keys: []*expr.Node{h.node("g")}, Aggs: aggs})
	p.view(table+"_whole", []int{0}, &flow.Aggregate{In: in, Keys: []*expr.Node{one}, Aggs: aggs})
	h.views = append(h.views, "SELECT g, "+strings.Join(sql, ", ")+" FROM "+table+" GROUP BY g",
		"SELECT 0, "+strings.Join(sql, ", ")+" FROM "+table+" HAVING count(*) > 0")
}

// rebuild gives a new engine only what is left: the views' bytes are the same.
func (h *aggHistory) rebuild() {
	again := newDriver(h.t, h.d.p, flow.Options{})
	for _, r := range h.d.rows[0] { // any order
		again.apply(records(1, change.OpInsert, change.Record{Row: r}))
	}
	for v := range 2 {
		if got, want := again.table(h.first+v), h.d.table(h.first+v); got != want {
			h.t.Fatalf("%s built anew is\n%swhere it was\n%s", h.d.p.Relations[h.first+v].Name, got, want)
		}
	}
}
