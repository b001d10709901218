package oracle

import (
	"fmt"
	"strings"
)

// kind is a type of columns and expressions that the generator knows.
type kind int

const (
	integer kind = iota
	bigint
	text
	boolean
	numeric
	double
	instant // timestamptz
	moment  // timestamp
	date
	jsonb
	texts // text[]
	ints  // integer[]
	span  // interval, inside expressions only
	kinds
)

func (k kind) String() string {
	return [...]string{"integer", "bigint", "text", "boolean", "numeric", "double precision", "timestamptz", "timestamp", "date", "jsonb", "text[]",
		"integer[]", "interval"}[k]
}

// column is something that an expression may name.
type column struct {
	ref  string // t1.c2
	name string
	kind kind
}

// table is one table of the random app.
type table struct {
	name       string
	cols       []column // ref is the bare name
	keyed      bool     // id is the primary key, rows change
	appendOnly bool
	late       int  // lateness in seconds of an append-only table with the event time at_
	ttl        int  // seconds that rows live; 0: for ever. Without an event time, if append-only
	wild       bool // NaN, infinities and large numbers among its values
}

// timed reports whether the table has an event time.
func (t *table) timed() bool { return t.appendOnly && t.ttl == 0 }

func (t *table) ddl() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", t.name)
	for i, c := range t.cols {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", c.name, c.kind)
		switch {
		case c.name == "id" && t.keyed:
			b.WriteString(" PRIMARY KEY")
		case c.name == "id" || c.name == "at_":
			b.WriteString(" NOT NULL")
		}
	}
	b.WriteString(")")
	switch {
	case t.timed():
		fmt.Fprintf(&b, " WITH (append_only, event_time = 'at_', lateness = '%d seconds')", t.late)
	case t.appendOnly:
		fmt.Fprintf(&b, " WITH (append_only, ttl = '%d seconds')", t.ttl)
	case t.ttl > 0:
		fmt.Fprintf(&b, " WITH (ttl = '%d seconds')", t.ttl)
	}
	return b.String() + ";\n"
}

// The names of columns that the tables have in PostgreSQL only: the table's watermark when the row arrived, and the stamp of its last write
// in microseconds.
const (
	mark  = "mark_"
	wrote = "wrote_"
)

func (t *table) oracleDDL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s_all (", t.name)
	names := make([]string, len(t.cols))
	for i, c := range t.cols {
		fmt.Fprintf(&b, "%s %s%s, ", c.name, c.kind, map[bool]string{true: " PRIMARY KEY"}[c.name == "id" && t.keyed])
		names[i] = c.name
	}
	fmt.Fprintf(&b, "%s timestamptz, %s bigint);\nCREATE VIEW %s AS SELECT %s FROM %s_all;\n", mark, wrote, t.name, strings.Join(names, ", "), t.name)
	return b.String()
}

// schema makes the tables of an app.
func (g *gen) schema() {
	for i := range 2 + g.n(3) {
		t := &table{name: fmt.Sprintf("t%d", i+1), keyed: g.n(2) == 0 || g.choices.keyed}
		t.appendOnly = !t.keyed
		add := func(name string, k kind) { t.cols = append(t.cols, column{name, name, k}) }
		add("id", integer)
		add("k", pick(g.choices, integer, text))
		add("at_", pick(g.choices, instant, moment))
		for j := range 1 + g.n(4) {
			add(fmt.Sprintf("v%d", j+1), kind(g.n(int(span))))
		}
		if t.late = 10; g.lateRows {
			t.late = 5
		}
		if g.often(15) && !g.choices.keyed {
			t.ttl = 12
			g.see(map[bool]string{true: "keyed table with ttl", false: "append-only table with ttl"}[t.keyed])
		}
		if t.wild = g.often(20); t.wild {
			g.see("NaN, infinity and large numbers")
		}
		g.tables = append(g.tables, t)
		g.see(map[bool]string{true: "keyed table", false: "append-only table"}[t.keyed])
	}
}

// literal returns a constant of small range, so that equal values meet.
func (g *gen) literal(k kind) string {
	n := g.n(7)
	switch k {
	case integer:
		return fmt.Sprint(n - 1)
	case bigint:
		return fmt.Sprintf("%d::bigint", n*3-2)
	case numeric:
		return fmt.Sprintf("%d.%d::numeric", n-2, g.n(4)*25)
	case double:
		return fmt.Sprintf("'%g'::double precision", float64(n-3)*0.25)
	case text:
		return pick(g.choices, "'a'", "'b'", "'ab'", "''", "'Zeta'", "'a%c'", "'ß x'")
	case boolean:
		return pick(g.choices, "true", "false")
	case instant:
		return fmt.Sprintf("'%s+00'::timestamptz", g.clock())
	case moment:
		return fmt.Sprintf("'%s'::timestamp", g.clock())
	case date:
		return fmt.Sprintf("'2024-02-%02d'::date", 27+g.n(3))
	case jsonb:
		return pick(g.choices, `'1'`, `'{"a": 1}'`, `'{"a": "x", "b": [1, 2]}'`, `'[1, "z", null]'`, `'null'`, `'"s"'`) + "::jsonb"
	case texts:
		return pick(g.choices, "ARRAY['a']", "ARRAY['a','b',NULL]", "'{}'::text[]", "ARRAY['b','ab']")
	case ints:
		return pick(g.choices, "ARRAY[1]", "ARRAY[1,2,NULL]", "'{}'::integer[]", "ARRAY[3,1]")
	}
	return pick(g.choices, "interval '1 second'", "interval '10 seconds'", "interval '1 day'", "interval '90 minutes'")
}

// cell returns a value of a column in PostgreSQL's text form, and whether it is NULL.
func (g *gen) cell(k kind, wild bool) (string, bool) {
	if g.often(g.nulls) {
		return "", true
	}
	n := g.n(7)
	if wild && g.n(2) == 1 {
		switch k {
		case double:
			return pick(g.choices, "NaN", "Infinity", "-Infinity", "-0", "1e300", "-1e300", "1e-300"), false
		case numeric:
			return pick(g.choices, "NaN", "Infinity", "-Infinity", "123456789012345678901234567890.5", "-99999999999999999999", "0.00", "1.0", "1.000", "0.0000000000000001"), false
		case bigint:
			return pick(g.choices, "1000000000000000000", "-1000000000000000000", "4611686018427387904"), false
		}
	}
	switch k {
	case integer:
		return fmt.Sprint(n - 1), false
	case bigint:
		return fmt.Sprint(n*3 - 2), false
	case numeric:
		return fmt.Sprintf("%d.%02d", n-2, g.n(4)*25), false
	case double:
		return fmt.Sprint(float64(n-3) * 0.25), false
	case text:
		return pick(g.choices, "a", "b", "ab", "", "Zeta", "a%c", "ß x"), false
	case boolean:
		return pick(g.choices, "t", "f"), false
	case instant:
		return g.clock() + "+00", false
	case moment:
		return g.clock(), false
	case date:
		return fmt.Sprintf("2024-02-%02d", 27+g.n(3)), false
	case jsonb:
		return pick(g.choices, `1`, `{"a": 1}`, `{"a": "x", "b": [1, 2]}`, `[1, "z", null]`, `null`, `"s"`), false
	case texts:
		return pick(g.choices, "{a}", "{a,b,NULL}", "{}", "{b,ab}"), false
	}
	return pick(g.choices, "{1}", "{1,2,NULL}", "{}", "{3,1}"), false
}

// clock returns a time of day near the histories' own.
func (g *gen) clock() string {
	s := g.n(120)
	return fmt.Sprintf("2024-02-28 12:%02d:%02d", s/60, s%60)
}
