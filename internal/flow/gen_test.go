package flow_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"laaster/app"
)

// The generator makes an app, by seed: tables of all column types and views of every form that the engine has, as SQL that
// PostgreSQL answers too. Values come from small sets, so that groups, ties, duplicates and equal numbers of different
// form meet.

type genTable struct {
	name       string
	cols       []genColumn
	pk         []int
	appendOnly bool
	readable   bool
	check      string
}

type genColumn struct {
	name    string
	typ     app.Type
	notNull bool
}

type genView struct {
	name string
	sql  string
	cols []genColumn
	form string
}

type genApp struct {
	rnd    *rand.Rand
	scale  bool // every numeric has two digits behind the point: results can be compared digit by digit
	tables []*genTable
	views  []*genView
}

func newApp(seed uint64) *genApp {
	g := &genApp{rnd: rand.New(rand.NewPCG(seed, 77))}
	g.scale = g.chance(2)
	for i := range 1 + g.rnd.IntN(2) {
		g.tables = append(g.tables, g.table(i))
	}
	for i := range 4 + g.rnd.IntN(3) {
		g.views = append(g.views, g.view(i))
	}
	return g
}

func (g *genApp) chance(n int) bool { return g.rnd.IntN(n) == 0 }

func pick[T any](g *genApp, from ...T) T { return from[g.rnd.IntN(len(from))] }

func (g *genApp) table(i int) *genTable {
	t := &genTable{name: fmt.Sprintf("t%d", i), readable: g.chance(2)}
	types := []app.Type{app.Bool, app.Int4, app.Int8, app.Float8, app.Numeric, app.Text, app.UUID, app.Timestamptz, app.JSONB}
	for range 3 + g.rnd.IntN(4) {
		t.cols = append(t.cols, genColumn{fmt.Sprintf("c%d", len(t.cols)), pick(g, types...), g.chance(4)})
	}
	// Something to add up and something to group by are always there.
	t.cols = append(t.cols, genColumn{fmt.Sprintf("c%d", len(t.cols)), pick(g, app.Int4, app.Int8, app.Float8, app.Numeric), g.chance(4)})
	t.cols = append(t.cols, genColumn{fmt.Sprintf("c%d", len(t.cols)), app.Text, g.chance(4)})
	switch g.rnd.IntN(4) {
	case 0:
		t.appendOnly = true
	case 1:
		t.appendOnly = true
		t.key(g)
	default:
		t.key(g)
	}
	for _, c := range t.cols {
		if (c.typ == app.Int4 || c.typ == app.Int8 || c.typ == app.Numeric) && g.chance(2) {
			t.check = c.name + " > -4"
		}
	}
	return t
}

// key makes one or two columns of a fitting type the primary key.
func (t *genTable) key(g *genApp) {
	for range 1 + g.rnd.IntN(2) {
		typ := pick(g, app.Int4, app.Int8, app.Text, app.UUID, app.Numeric, app.Timestamptz, app.Bool, app.Float8)
		if len(t.pk) == 0 && (typ == app.Bool || typ == app.Float8) {
			typ = app.Int8
		}
		t.pk = append(t.pk, len(t.cols))
		t.cols = append(t.cols, genColumn{fmt.Sprintf("c%d", len(t.cols)), typ, true})
	}
	g.rnd.Shuffle(len(t.cols), func(i, j int) {
		t.cols[i], t.cols[j] = t.cols[j], t.cols[i]
		for k := range t.pk {
			switch t.pk[k] {
			case i:
				t.pk[k] = j
			case j:
				t.pk[k] = i
			}
		}
	})
	for i := range t.cols {
		t.cols[i].name = fmt.Sprintf("c%d", i)
	}
}

// create is the CREATE TABLE, for Laaster or for PostgreSQL.
func (t *genTable) create(laaster bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.name)
	for i, c := range t.cols {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", c.name, c.typ)
		if c.notNull {
			b.WriteString(" NOT NULL")
		}
	}
	if t.check != "" {
		fmt.Fprintf(&b, ", CHECK (%s)", t.check)
	}
	if len(t.pk) > 0 {
		names := make([]string, len(t.pk))
		for i, c := range t.pk {
			names[i] = t.cols[c].name
		}
		fmt.Fprintf(&b, ", PRIMARY KEY (%s)", strings.Join(names, ", "))
	}
	b.WriteString(")")
	if laaster && t.appendOnly {
		b.WriteString(" WITH (append_only)")
	}
	b.WriteString(";\n")
	return b.String()
}

// source is the app.sql.
func (g *genApp) source() string {
	var b strings.Builder
	for _, t := range g.tables {
		b.WriteString(t.create(true))
		if t.readable {
			fmt.Fprintf(&b, "GRANT SELECT ON %s TO anon;\n", t.name)
		}
	}
	for _, v := range g.views {
		fmt.Fprintf(&b, "CREATE MATERIALIZED VIEW %s AS %s;\n", v.name, v.sql)
	}
	return b.String()
}

// oracle is the same for PostgreSQL, views as plain views.
func (g *genApp) oracle() string {
	var b strings.Builder
	for _, t := range g.tables {
		b.WriteString(t.create(false))
	}
	for _, v := range g.views {
		fmt.Fprintf(&b, "CREATE VIEW %s AS %s;\n", v.name, v.sql)
	}
	return b.String()
}

// from picks what a view reads: a table, or a view before it.
func (g *genApp) from() (string, []genColumn) {
	if len(g.views) > 0 && g.chance(3) {
		v := g.views[g.rnd.IntN(len(g.views))]
		return v.name, v.cols
	}
	t := g.tables[g.rnd.IntN(len(g.tables))]
	return t.name, t.cols
}

func (g *genApp) view(i int) *genView {
	v := &genView{name: fmt.Sprintf("v%d", i)}
	name, cols := g.from()
	where := ""
	if g.chance(3) {
		where = " WHERE " + g.cond(cols, 2)
	}
	ordered := slices.DeleteFunc(slices.Clone(cols), func(c genColumn) bool { return c.typ == app.JSONB }) // ORDER BY refuses jsonb
	switch f := g.rnd.IntN(10); {
	case f < 2 || len(ordered) == 0:
		g.selection(v, cols)
		v.sql += " FROM " + name + where
	case f < 6:
		g.grouping(v, cols, name+where)
	case f < 7:
		g.whole(v, cols)
		v.sql += " FROM " + name + where
	default:
		g.top(v, ordered, name+where)
	}
	return v
}

func (g *genApp) selection(v *genView, cols []genColumn) {
	v.form = "select"
	items := []string{}
	for i := range 1 + g.rnd.IntN(4) {
		c := genColumn{name: fmt.Sprintf("x%d", i)}
		var e string
		if g.chance(3) {
			c.typ = pick(g, app.Int8, app.Float8, app.Numeric, app.Text, app.Bool)
			e = g.expr(cols, c.typ, 2)
		} else {
			from := cols[g.rnd.IntN(len(cols))]
			e, c.typ = from.name, from.typ
		}
		items = append(items, e+" AS "+c.name)
		v.cols = append(v.cols, c)
	}
	v.sql = "SELECT " + strings.Join(items, ", ")
	if g.chance(4) {
		v.form = "distinct"
		v.sql = "SELECT DISTINCT " + strings.Join(items, ", ")
	}
}

func (g *genApp) grouping(v *genView, cols []genColumn, from string) {
	v.form = "group"
	var items, keys []string
	for i := range 1 + g.rnd.IntN(2) {
		c := genColumn{name: fmt.Sprintf("k%d", i)}
		e := ""
		if g.chance(4) {
			c.typ = pick(g, app.Int8, app.Bool, app.Text, app.Numeric)
			e = g.expr(cols, c.typ, 1)
		} else {
			from := cols[g.rnd.IntN(len(cols))]
			e, c.typ = from.name, from.typ
		}
		items = append(items, e+" AS "+c.name)
		keys = append(keys, e)
		v.cols = append(v.cols, c)
	}
	for i := range g.rnd.IntN(4) {
		e, typ := g.aggregate(cols)
		items = append(items, fmt.Sprintf("%s AS a%d", e, i))
		v.cols = append(v.cols, genColumn{name: fmt.Sprintf("a%d", i), typ: typ})
	}
	v.sql = "SELECT " + strings.Join(items, ", ") + " FROM " + from + " GROUP BY " + strings.Join(keys, ", ")
	if g.chance(4) {
		v.form = "having"
		v.sql += " HAVING " + g.having(cols)
	}
}

func (g *genApp) having(cols []genColumn) string {
	e, typ := g.aggregate(cols)
	switch typ {
	case app.Bool:
		return e
	case app.Text, app.UUID, app.JSONB, app.Timestamptz:
		return e + " IS NOT NULL"
	}
	return fmt.Sprintf("%s %s %d", e, pick(g, ">", "<", ">=", "<>"), g.rnd.IntN(4))
}

// whole is an aggregate without GROUP BY: one row, always.
func (g *genApp) whole(v *genView, cols []genColumn) {
	v.form = "whole"
	var items []string
	for i := range 1 + g.rnd.IntN(3) {
		e, typ := g.aggregate(cols)
		items = append(items, fmt.Sprintf("%s AS a%d", e, i))
		v.cols = append(v.cols, genColumn{name: fmt.Sprintf("a%d", i), typ: typ})
	}
	v.sql = "SELECT " + strings.Join(items, ", ")
}

// top is ORDER BY all columns with LIMIT and OFFSET, over rows or over groups.
func (g *genApp) top(v *genView, cols []genColumn, from string) {
	tail := ""
	if g.chance(2) {
		g.selection(v, cols)
		v.sql += " FROM " + from
	} else {
		g.grouping(v, cols, from)
	}
	v.form = "top"
	order := g.rnd.Perm(len(v.cols))
	terms := []string{}
	for _, i := range order {
		terms = append(terms, v.cols[i].name+pick(g, "", " DESC", " ASC NULLS FIRST", " DESC NULLS LAST", ""))
	}
	if !g.chance(8) {
		tail = fmt.Sprintf(" LIMIT %d", pick(g, 1, 2, 3, 5, 10))
	}
	if tail == "" || g.chance(3) {
		tail += fmt.Sprintf(" OFFSET %d", g.rnd.IntN(4))
		v.form = "offset"
	}
	v.sql += " ORDER BY " + strings.Join(terms, ", ") + tail
}

func (g *genApp) aggregate(cols []genColumn) (string, app.Type) {
	e, typ := g.bareAggregate(cols)
	if g.chance(4) {
		e += " FILTER (WHERE " + g.cond(cols, 1) + ")"
	}
	return e, typ
}

func (g *genApp) bareAggregate(cols []genColumn) (string, app.Type) {
	distinct := ""
	if g.chance(4) {
		distinct = "DISTINCT "
	}
	for {
		c := cols[g.rnd.IntN(len(cols))]
		arg := c.name
		if g.chance(5) {
			c.typ = pick(g, app.Int4, app.Int8, app.Float8, app.Numeric, app.Bool, app.Text)
			arg = g.expr(cols, c.typ, 1)
		}
		switch f := pick(g, "count(*)", "count", "sum", "avg", "min", "max", "bool_and", "bool_or"); f {
		case "count(*)":
			return f, app.Int8
		case "count":
			return "count(" + distinct + arg + ")", app.Int8
		case "sum", "avg":
			if typ, ok := sumType(f, c.typ); ok {
				return f + "(" + distinct + arg + ")", typ
			}
		case "min", "max":
			switch c.typ {
			case app.Int4, app.Int8, app.Float8, app.Numeric, app.Text, app.Timestamptz:
				return f + "(" + arg + ")", c.typ
			}
		default:
			if c.typ == app.Bool {
				return f + "(" + arg + ")", app.Bool
			}
		}
	}
}

func sumType(f string, t app.Type) (app.Type, bool) {
	switch t {
	case app.Int4:
		if f == "sum" {
			return app.Int8, true
		}
		return app.Numeric, true
	case app.Int8, app.Numeric:
		return app.Numeric, true
	case app.Float8:
		return app.Float8, true
	}
	return app.Unknown, false
}

// cond is a boolean expression over cols.
func (g *genApp) cond(cols []genColumn, depth int) string {
	if depth > 0 && g.chance(3) {
		a, b := g.cond(cols, depth-1), g.cond(cols, depth-1)
		return pick(g, "("+a+" AND "+b+")", "("+a+" OR "+b+")", "(NOT "+a+")")
	}
	c := cols[g.rnd.IntN(len(cols))]
	switch g.rnd.IntN(5) {
	case 0:
		return "(" + c.name + pick(g, " IS NULL)", " IS NOT NULL)")
	case 1:
		return "(" + c.name + " IN (" + g.literal(c.typ) + ", " + g.literal(c.typ) + "))"
	case 2:
		return "(" + c.name + pick(g, " IS DISTINCT FROM ", " IS NOT DISTINCT FROM ") + g.literal(c.typ) + ")"
	}
	op := pick(g, "=", "<>", "<", "<=", ">", ">=")
	if c.typ == app.JSONB {
		op = pick(g, "=", "<>")
	}
	return "(" + c.name + " " + op + " " + g.literal(c.typ) + ")"
}

// expr is an expression of a type over cols that never fails.
func (g *genApp) expr(cols []genColumn, t app.Type, depth int) string {
	var same []string
	for _, c := range cols {
		if c.typ == t {
			same = append(same, c.name)
		}
	}
	if depth == 0 || g.chance(4) {
		if len(same) > 0 && !g.chance(4) {
			return pick(g, same...)
		}
		return g.literal(t)
	}
	sub := func(t app.Type) string { return g.expr(cols, t, depth-1) }
	switch g.rnd.IntN(4) {
	case 0:
		return "CASE WHEN " + g.cond(cols, 1) + " THEN " + sub(t) + " ELSE " + sub(t) + " END"
	case 1:
		return "coalesce(" + sub(t) + ", " + sub(t) + ")"
	}
	switch t {
	case app.Bool:
		return g.cond(cols, depth)
	case app.Int4, app.Int8:
		// The modulus keeps what grows inside the type.
		one := "(1)::" + t.String()
		return pick(g, "(("+sub(t)+") % 1000 + ("+sub(t)+") % 1000)", "(-(("+sub(t)+") % 1000) - "+one+")", "abs(("+sub(t)+") % 100)",
			"((("+sub(t)+") % 1000) * "+one+")")
	case app.Float8:
		return pick(g, "(("+sub(app.Int4)+")::double precision / 8)", "(-("+sub(t)+"))")
	case app.Numeric:
		return pick(g, "(("+sub(t)+") + 1.25)", "(("+sub(app.Int4)+")::numeric * 0.50)", "round("+sub(t)+", 2)", "(("+sub(t)+") - 0.10)")
	case app.Text:
		return pick(g, "(("+sub(t)+") || 'x')", "replace("+sub(t)+", 'a', 'q')", "substr("+sub(t)+", 1, 1)", "(("+sub(app.Int8)+")::text)")
	}
	return g.literal(t)
}

// literal is a constant of a type, never NULL, with a cast.
func (g *genApp) literal(t app.Type) string {
	return "'" + strings.ReplaceAll(g.value(t), "'", "''") + "'::" + t.String()
}

// value is the text of a value that is not NULL.
func (g *genApp) value(t app.Type) string {
	switch t {
	case app.Bool:
		return pick(g, "true", "false")
	case app.Int4:
		return fmt.Sprint(g.rnd.IntN(9) - 4)
	case app.Int8:
		if g.chance(20) {
			return pick(g, "9223372036854775807", "-9223372036854775808", "4611686018427387904")
		}
		return fmt.Sprint(g.rnd.IntN(9) - 4)
	case app.Float8:
		if g.chance(15) {
			return pick(g, "NaN", "Infinity", "-Infinity", "-0")
		}
		// PostgreSQL rounds a float sum at each step, the engine once: with these no step rounds.
		return pick(g, "0", "1", "1.5", "-2.25", "0.125", "3", "-7.125")
	case app.Numeric:
		if g.scale {
			return pick(g, "0.00", "1.00", "1.50", "-2.25", "3.10", "-7.13", "12345678901234567890.55")
		}
		return pick(g, "0", "0.0", "1", "1.0", "1.00", "-2.5", "-2.50", "3.333", "100", "1e2", "0.0001", "12345678901234567890.5",
			pick(g, "NaN", "Infinity", "-Infinity"))
	case app.Text:
		return pick(g, "", "a", "b", "ab", "B", "ä", "it's", "a b", "zz")
	case app.UUID:
		return fmt.Sprintf("0000000%d-0000-4000-8000-00000000000%d", g.rnd.IntN(2), g.rnd.IntN(4))
	case app.Timestamptz:
		return pick(g, "2026-05-16 20:00:00+00", "2026-05-16 20:00:00.5+00", "1999-12-31 23:59:59.999999+00", "infinity", "2026-05-17 00:00:00+02")
	case app.JSONB:
		if g.scale {
			return pick(g, "{}", "[]", "null", "1.00", `"a"`, `{"a": [1.00, true]}`, `[1.00, null]`)
		}
		return pick(g, "{}", "[]", "null", "1", "1.0", `"a"`, `{"a": 1}`, `{"a": 1.00}`, `[1, null]`, `{"b": "x", "a": 1}`)
	}
	panic(t)
}
