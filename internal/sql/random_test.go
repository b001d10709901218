package sql

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
)

const randomTable = `CREATE TABLE t (id bigint PRIMARY KEY, i int, j bigint, n numeric, f double precision NOT NULL, s text NOT NULL,
	b boolean, u uuid, at timestamptz, d jsonb)`

// TestRandomQueries holds the binder against PostgreSQL's analysis of random queries: what we accept it accepts, with the same
// names and types of columns; what we refuse it refuses too, unless we say that it is not supported.
func TestRandomQueries(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	ctx := context.Background()
	if _, err := conn.Exec(ctx, randomTable); err != nil {
		t.Fatal(err)
	}
	rounds, seed := 3000, uint64(1)
	if testing.Short() {
		rounds = 300
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		fmt.Sscan(s, &seed)
		rounds *= 10
	}
	g := &generator{rand.New(rand.NewPCG(seed, 2))}
	accepted := 0
	for range rounds {
		query := g.query(2)
		p, diags := Compile("app.sql", []byte(randomTable+";\nCREATE MATERIALIZED VIEW v AS "+query), nil)
		want, err := conn.Prepare(ctx, "", query)
		switch {
		case p != nil && err != nil:
			t.Errorf("seed %d: PostgreSQL refuses what we accept: %v\n%s", seed, err, query)
		case p == nil && err == nil && !ourOwn(diags):
			t.Errorf("seed %d: PostgreSQL accepts what we refuse\n%s\n%s", seed, query, Render(diags))
		case p != nil:
			accepted++
			cols := p.Definition.Views[0].Columns
			for i, f := range want.Fields {
				if cols[i].Name != f.Name || uint32(typeOID(cols[i].Type.String())) != f.DataTypeOID {
					t.Errorf("seed %d: column %d is %s %s, in PostgreSQL %s %d\n%s", seed, i+1, cols[i].Name, cols[i].Type, f.Name, f.DataTypeOID, query)
				}
			}
		}
	}
	t.Logf("%d of %d queries were accepted", accepted, rounds)
	if accepted < rounds/5 {
		t.Errorf("only %d of %d queries were accepted: the generator is of no use", accepted, rounds)
	}
}

// ourOwn reports whether an error is one that PostgreSQL does not have.
func ourOwn(diags []Diagnostic) bool {
	for _, d := range diags {
		for _, s := range []string{"not supported", "has no name", "two columns are named", "cannot have type interval", "has no effect", "the limits are"} {
			if d.Severity == Error && strings.Contains(d.Msg, s) {
				return true
			}
		}
	}
	return false
}

func typeOID(name string) int {
	return map[string]int{"boolean": 16, "bigint": 20, "integer": 23, "text": 25, "double precision": 701, "numeric": 1700, "uuid": 2950,
		"timestamptz": 1184, "jsonb": 3802, "interval": 1186}[name]
}

// generator makes random queries, most of them right.
type generator struct{ *rand.Rand }

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

// expr makes an expression; kind is n number, s text, b boolean, t time, or any letter else for anything.
func (g *generator) expr(kind string, depth int) string {
	if g.IntN(40) == 0 {
		kind = "?"
	}
	if depth == 0 || g.IntN(4) == 0 {
		return g.leaf(kind)
	}
	d := depth - 1
	n, s, b := func() string { return g.expr("n", d) }, func() string { return g.expr("s", d) }, func() string { return g.expr("b", d) }
	switch kind {
	case "n":
		switch g.IntN(9) {
		case 0:
			return "CASE WHEN " + b() + " THEN " + n() + " ELSE " + n() + " END"
		case 1:
			return g.pick("coalesce", "greatest", "least", "nullif") + "(" + n() + ", " + n() + ")"
		case 2:
			return "CAST(" + n() + " AS " + g.pick("int", "bigint", "numeric", "double precision") + ")"
		case 3:
			return g.pick("abs", "round", "- ", "length") + "(" + g.pick(n(), n(), n(), s()) + ")"
		case 4:
			return "extract(" + g.pick("epoch", "hour") + " FROM " + g.expr("t", d) + ")"
		}
		return "(" + n() + g.pick(" + ", " - ", " * ", " / ") + n() + ")"
	case "s":
		return g.pick("upper("+s()+")", s()+" || "+s(), "("+n()+")::text", "coalesce("+s()+", "+s()+")", "substring("+s()+" FROM 1 FOR 2)", "d ->> 'x'", "CASE WHEN "+b()+" THEN "+s()+" END")
	case "b":
		return g.pick("("+n()+g.pick(" < ", " = ", " <> ", " >= ")+n()+")", "("+s()+g.pick(" = ", " LIKE ", " < ")+s()+")", "("+b()+g.pick(" AND ", " OR ")+b()+")", "NOT "+b(),
			n()+" IS "+g.pick("", "NOT ")+"NULL", "("+n()+" BETWEEN "+n()+" AND "+n()+")", "("+n()+" IN (1, "+n()+"))", b()+" IS TRUE", "("+n()+" IS DISTINCT FROM "+n()+")")
	case "t":
		return g.pick("date_trunc('hour', "+g.expr("t", d)+")", "("+g.expr("t", d)+" + interval '1 day')", "at")
	}
	return g.expr(g.pick("n", "s", "b", "t"), d)
}

func (g *generator) leaf(kind string) string {
	switch kind {
	case "n":
		return g.pick("id", "i", "j", "n", "f", "i", "1", "2.5", "'3'", "NULL", "5000000000", "1e3")
	case "s":
		return g.pick("s", "s", "'x'", "''", "NULL")
	case "b":
		return g.pick("b", "true", "'t'", "(i > 1)", "NULL")
	case "t":
		return g.pick("at", "'2024-01-01'", "NULL", "at")
	}
	return g.pick("id", "s", "b", "at", "u", "d", "'1'", "NULL", "1", "nope")
}

func (g *generator) aggregate() string {
	filter := g.pick("", "", "", " FILTER (WHERE "+g.expr("b", 1)+")")
	distinct := g.pick("", "", "DISTINCT ")
	switch g.IntN(6) {
	case 0:
		return "count(*)" + filter
	case 1:
		return "count(" + distinct + g.expr("?", 1) + ")" + filter
	case 2:
		return g.pick("bool_and", "bool_or", "every") + "(" + g.expr("b", 1) + ")" + filter
	case 3:
		return g.pick("min", "max") + "(" + g.expr(g.pick("n", "s", "t"), 1) + ")" + filter
	}
	return g.pick("sum", "avg", "min", "max") + "(" + distinct + g.expr("n", 1) + ")" + filter
}

func (g *generator) query(depth int) string {
	from := "t"
	if depth > 0 && g.IntN(5) == 0 {
		from = "(SELECT * FROM t WHERE " + g.expr("b", 1) + ") AS " + g.pick("t", "x")
	}
	q := from
	if g.IntN(3) == 0 {
		q += " WHERE " + g.expr("b", 2)
	}
	if g.IntN(2) == 0 {
		return g.grouped(q)
	}
	var list []string
	for i := range 1 + g.IntN(4) {
		list = append(list, g.expr("?", 2)+g.pick("", fmt.Sprintf(" AS c%d", i), fmt.Sprintf(" AS c%d", i)))
	}
	if g.IntN(6) == 0 {
		list = []string{g.pick("*", "t.*")}
	}
	return "SELECT " + g.pick("", "", "DISTINCT ") + strings.Join(list, ", ") + " FROM " + q + g.tail(len(list))
}

func (g *generator) grouped(from string) string {
	keys := []string{g.pick("s", "i", "upper(s)", "i + 1", "id", "t.s", "date_trunc('hour', at)", "b", "f")}
	if g.IntN(2) == 0 {
		keys = append(keys, g.pick("s", "j", "n", "lower(s)", "id"))
	}
	by := strings.Join(keys, ", ")
	list := []string{keys[0] + g.pick("", " AS k")}
	if len(keys) > 1 {
		list = append(list, keys[1]+" AS k2")
	}
	for i := range 1 + g.IntN(3) {
		list = append(list, g.aggregate()+fmt.Sprintf(" AS a%d", i))
	}
	if g.IntN(4) == 0 {
		list = append(list, g.pick("s AS y", "n", "i + 1 AS z", "upper(s) || 'x' AS w", "count(*) + 1 AS v", "sum(i) / count(*) AS q", "k"))
	}
	q := "SELECT " + strings.Join(list, ", ") + " FROM " + from
	if g.IntN(8) > 0 {
		q += " GROUP BY " + g.pick(by, by, "1", "k", by+", 2", "1, 2")
	}
	if g.IntN(3) == 0 {
		q += " HAVING " + g.aggregate() + g.pick(" > 1", " IS NULL", "")
	}
	return q + g.tail(len(list))
}

func (g *generator) tail(columns int) string {
	q := ""
	if g.IntN(3) == 0 {
		q += " ORDER BY " + g.pick("1", fmt.Sprint(columns), "c0", "k", "s", "i + 1", "count(*)", "a0", "9") + g.pick("", " DESC", " NULLS FIRST", ", 1")
	}
	if g.IntN(3) == 0 {
		q += " LIMIT " + g.pick("3", "1 + 1", "NULL", "ALL", "0") + g.pick("", " OFFSET 1")
	}
	return q
}
