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

// joinGenerator makes random queries of joins, sub-queries and set operations over the tables of resultTables. All its columns are
// numbers, so that most of what it makes is right.
type joinGenerator struct {
	*rand.Rand
	names int
}

func (g *joinGenerator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g *joinGenerator) name() string {
	g.names++
	return fmt.Sprint("t", g.names)
}

// column is a column of one of the items in scope.
func (g *joinGenerator) column(scope []string) string {
	return scope[g.IntN(len(scope))] + "." + g.pick("id", "x", "y", "x", "y")
}

// item is one item of FROM with columns id, x and y, and its name. outer is what LATERAL would see.
func (g *joinGenerator) item(depth int, outer []string) (text, name string) {
	name = g.name()
	if depth == 0 || g.IntN(4) > 0 {
		return g.pick("a", "b", "c") + " AS " + name, name
	}
	inner := g.name()
	from := g.pick("a", "b", "c") + " AS " + inner
	lateral := ""
	see := []string{inner}
	if len(outer) > 0 && g.IntN(2) == 0 {
		lateral, see = "LATERAL ", append(see, outer...)
	}
	switch g.IntN(6) {
	case 0:
		return fmt.Sprintf("%s(SELECT %s.x AS id, count(*) AS x, max(%s.y) AS y FROM %s WHERE %s GROUP BY %s.x) AS %s", lateral, inner, inner, from, g.cond(depth-1, see), inner, name), name
	case 1:
		return fmt.Sprintf("%s(SELECT count(*) AS id, sum(%s.x) AS x, min(%s.y) AS y FROM %s WHERE %s) AS %s", lateral, inner, inner, from, g.cond(depth-1, see), name), name
	case 2:
		return fmt.Sprintf("%s(SELECT %s.id, %s.x, %s.y FROM %s WHERE %s ORDER BY %s.x DESC NULLS LAST, %s.id LIMIT %d) AS %s", lateral, inner, inner, inner, from,
			g.cond(depth-1, see), inner, inner, 1+g.IntN(2), name), name
	case 3:
		return fmt.Sprintf("%s(SELECT DISTINCT %s.x AS id, %s.x, %s AS y FROM %s WHERE %s) AS %s", lateral, inner, inner, g.number(0, see), from, g.cond(depth-1, see), name), name
	case 4:
		return fmt.Sprintf("%s(SELECT %s.id, %s.x, %s.y FROM %s WHERE %s %s SELECT b.id, b.x, b.y FROM b WHERE %s) AS %s", lateral, inner, inner, inner, from,
			g.cond(depth-1, see), g.setOp(), g.cond(0, append([]string{"b"}, see[1:]...)), name), name
	}
	return fmt.Sprintf("%s(SELECT %s.id, %s AS x, %s.y FROM %s WHERE %s) AS %s", lateral, inner, g.number(0, see), inner, from, g.cond(depth-1, see), name), name
}

func (g *joinGenerator) setOp() string {
	return g.pick("UNION", "INTERSECT", "EXCEPT") + g.pick("", " ALL")
}

// number is an expression; scope holds the names it can use.
func (g *joinGenerator) number(depth int, scope []string) string {
	switch {
	case depth == 0 || g.IntN(3) > 0:
		return g.pick(g.column(scope), g.column(scope), g.column(scope), fmt.Sprint(g.IntN(4)), "coalesce("+g.column(scope)+", 1)", g.column(scope)+" + 1")
	case g.IntN(4) == 0:
		return "CASE WHEN " + g.cond(depth-1, scope) + " THEN " + g.number(depth-1, scope) + " END"
	}
	from, name := g.item(0, nil)
	see := append([]string{name}, scope...)
	switch g.IntN(4) {
	case 0:
		return fmt.Sprintf("(SELECT %s.%s FROM %s WHERE %s ORDER BY %s.id LIMIT 1)", name, g.pick("x", "y", "id"), from, g.cond(depth-1, see), name)
	case 1:
		return fmt.Sprintf("(SELECT %s FROM %s WHERE %s AND %s.id = %s)", g.number(depth-1, see), from, g.cond(depth-1, see), name, g.column(scope))
	}
	return fmt.Sprintf("(SELECT %s FROM %s WHERE %s)", g.pick("count(*)", "sum("+g.number(0, see)+")", "max("+name+".y) + count(*)", "count("+name+".x)"), from, g.cond(depth-1, see))
}

// cond is a condition over the names in scope, the first of which is of the query itself.
func (g *joinGenerator) cond(depth int, scope []string) string {
	n := func() string { return g.number(depth, scope) }
	if depth > 0 {
		from, name := g.item(depth-1, nil)
		see := append([]string{name}, scope...)
		switch g.IntN(9) {
		case 0:
			return fmt.Sprintf("%sEXISTS (SELECT 1 FROM %s WHERE %s)", g.pick("", "NOT "), from, g.cond(depth-1, see))
		case 1:
			return fmt.Sprintf("%s %sIN (SELECT %s.%s FROM %s WHERE %s)", n(), g.pick("", "NOT "), name, g.pick("id", "x", "y"), from, g.cond(depth-1, see))
		case 2:
			return fmt.Sprintf("%s %s %s (SELECT %s.%s FROM %s WHERE %s)", n(), g.pick("=", "<", ">=", "<>"), g.pick("ANY", "ALL"), name, g.pick("id", "x", "y"), from, g.cond(depth-1, see))
		case 3:
			return "(" + g.cond(depth-1, scope) + g.pick(" AND ", " OR ") + g.cond(depth-1, scope) + ")"
		case 4:
			return "NOT (" + g.cond(depth-1, scope) + ")"
		}
	}
	own := scope[0] + "." + g.pick("id", "x", "y")
	return g.pick(own+" = "+g.column(scope), own+" = "+g.column(scope), n()+g.pick(" < ", " = ", " <> ", " >= ")+n(), n()+" IS "+g.pick("", "NOT ")+"NULL",
		own+" BETWEEN 1 AND "+n(), own+" IS "+g.pick("", "NOT ")+"DISTINCT FROM "+g.column(scope), "true")
}

// query is a whole query with one to three columns.
func (g *joinGenerator) query(depth int) string {
	from, first := g.item(depth, nil)
	scope, joined := []string{first}, []string{first}
	for range g.IntN(3) {
		text, name := g.item(depth, scope)
		switch kind := g.pick(", ", " JOIN ", " LEFT JOIN ", " RIGHT JOIN ", " FULL JOIN "); {
		case kind == ", ":
			from, joined = from+", "+text, nil
		case strings.HasPrefix(text, "LATERAL") && kind != " JOIN ":
			from += " LEFT JOIN " + text + " ON " + g.cond(0, []string{name, joined[0]})
		case kind == " FULL JOIN ":
			from += kind + text + " ON " + name + ".x = " + joined[len(joined)-1] + "." + g.pick("x", "y")
		default:
			from += kind + text + " ON " + g.cond(0, []string{name, joined[len(joined)-1]})
		}
		scope, joined = append(scope, name), append(joined, name) // ON sees its own join alone
	}
	where := g.pick("", " WHERE "+g.cond(depth, scope), " WHERE "+g.cond(depth, scope)+" AND "+g.cond(0, scope))
	if g.IntN(4) == 0 {
		key := g.column(scope)
		return fmt.Sprintf("SELECT %s AS k, count(*) AS n, sum(%s) AS s FROM %s%s GROUP BY %s%s", key, g.number(0, scope), from, where, key, g.pick("", " HAVING count(*) > 1"))
	}
	q := fmt.Sprintf("SELECT %s AS c1, %s AS c2, %s AS c3 FROM %s%s", g.column(scope), g.number(depth, scope), g.column(scope), from, where)
	switch g.IntN(8) {
	case 0:
		return q + " " + g.setOp() + " SELECT id, x, y FROM " + g.pick("a", "b", "c")
	case 1:
		return "WITH w AS (" + q + ") SELECT w1.c1, w2.c2 FROM w w1 JOIN w w2 ON w1.c1 = w2." + g.pick("c1", "c2")
	}
	return q
}

// TestRandomJoins holds random joins, sub-queries and set operations against PostgreSQL: the names and types of their columns, and
// their rows over tables that change.
func TestRandomJoins(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	ctx := context.Background()
	rounds, seed := 6, uint64(1)
	if testing.Short() || testkit.Race() {
		rounds = 2
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		fmt.Sscan(s, &seed)
		rounds = 40
	}
	made, refused := 0, 0
	for round := range rounds {
		g := &joinGenerator{Rand: rand.New(rand.NewPCG(seed, uint64(round)))}
		if _, err := conn.Exec(ctx, "SET jit = off; DROP TABLE IF EXISTS a, b, c;"+resultTables); err != nil {
			t.Fatal(err)
		}
		var queries []string
		for len(queries) < 25 {
			q := g.query(1 + g.IntN(2))
			made++
			p, diags := Compile("app.sql", []byte(resultTables+"CREATE MATERIALIZED VIEW v AS "+q), nil)
			want, err := conn.Prepare(ctx, "", q)
			switch {
			case p == nil && err == nil && !ourOwn(diags):
				t.Errorf("seed %d: PostgreSQL accepts what we refuse\n%s\n%s", seed, q, Render(diags))
			case p != nil && err != nil:
				t.Errorf("seed %d: PostgreSQL refuses what we accept: %v\n%s", seed, err, q)
			case p == nil:
				refused++
			default:
				for i, f := range want.Fields {
					col := p.Definition.Views[0].Columns[i]
					if col.Name != f.Name || uint32(typeOID(col.Type.String())) != f.DataTypeOID {
						t.Errorf("seed %d: column %d is %s %s, in PostgreSQL %s %d\n%s", seed, i+1, col.Name, col.Type, f.Name, f.DataTypeOID, q)
					}
				}
				queries = append(queries, q)
			}
			if t.Failed() {
				return
			}
		}
		r := newResultRun(t, conn, queries)
		data := rand.New(rand.NewPCG(seed, uint64(round)+1000))
		for range 8 {
			for range 4 {
				r.random(data)
			}
			r.compare()
		}
		if t.Failed() {
			return
		}
	}
	if t.Logf("%d of %d queries were refused", refused, made); refused > made/3 {
		t.Error("too many: the generator is of no use")
	}
}
