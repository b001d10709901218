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

const formsTable = `CREATE TABLE t (id bigint PRIMARY KEY, i int, j bigint, n numeric, f double precision NOT NULL, s text NOT NULL,
	b boolean, u uuid, at timestamptz, d jsonb, l timestamp, dt date, tags text[], nums int[])`

// TestRandomForms is TestRandomQueries for aggregates with their clauses, grouping sets, window functions, arrays, rows and times.
func TestRandomForms(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	ctx := context.Background()
	if _, err := conn.Exec(ctx, formsTable); err != nil {
		t.Fatal(err)
	}
	rounds, seed := 3000, uint64(1)
	if testing.Short() || testkit.Race() {
		rounds = 400
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		fmt.Sscan(s, &seed)
		rounds *= 10
	}
	g := &formsGenerator{&generator{rand.New(rand.NewPCG(seed, 3))}}
	accepted, bad := 0, 0
	for range rounds {
		query := g.query()
		p, diags := Compile("app.sql", []byte(formsTable+";\nCREATE MATERIALIZED VIEW v AS "+query), nil)
		want, err := conn.Prepare(ctx, "", query)
		switch {
		case p != nil && err != nil:
			bad++
			t.Errorf("seed %d: PostgreSQL refuses what we accept: %v\n%s", seed, err, query)
		case p == nil && err == nil && !ourOwn(diags) && !ourForms(diags):
			bad++
			t.Errorf("seed %d: PostgreSQL accepts what we refuse\n%s\n%s", seed, query, Render(diags))
		case p != nil:
			accepted++
			for i, col := range p.Definition.Views[0].Columns {
				if f := want.Fields[i]; col.Name != f.Name || uint32(formOID(col.Type.String())) != f.DataTypeOID && f.DataTypeOID != 1043 {
					t.Errorf("seed %d: column %d is %s %s, in PostgreSQL %s %d\n%s", seed, i+1, col.Name, col.Type, f.Name, f.DataTypeOID, query)
				}
			}
		}
		if t.Failed() && bad > 12 {
			break
		}
	}
	t.Logf("%d of %d queries were accepted", accepted, rounds)
	if accepted < rounds/4 {
		t.Errorf("only %d of %d queries were accepted: the generator is of no use", accepted, rounds)
	}
}

// ourForms reports whether an error is one that PostgreSQL has only when it runs the query, or not at all.
func ourForms(diags []Diagnostic) bool {
	for _, d := range diags {
		for _, s := range []string{"must be a constant", "cannot be negative", "has no effect", "could not determine the type", "cannot be of type",
			"malformed array", "invalid input syntax"} {
			if d.Severity == Error && strings.Contains(d.Msg, s) {
				return true
			}
		}
	}
	return false
}

func formOID(name string) int {
	if n := typeOID(name); n != 0 {
		return n
	}
	return map[string]int{"timestamp": 1114, "date": 1082, "interval": 1186, "boolean[]": 1000, "integer[]": 1007, "bigint[]": 1016, "numeric[]": 1231,
		"double precision[]": 1022, "text[]": 1009, "uuid[]": 2951, "timestamptz[]": 1185, "timestamp[]": 1115, "date[]": 1182, "jsonb[]": 3807}[name]
}

// formsGenerator makes queries with the forms that generator has not.
type formsGenerator struct{ *generator }

func (g *formsGenerator) value() string {
	return g.pick("i", "j", "n", "f", "s", "b", "u", "at", "d", "l", "dt", "tags", "nums", "'1'", "NULL", "i + 1", "l - at", "dt + 1", "at::date")
}

func (g *formsGenerator) number() string { return g.pick("i", "j", "n", "f", "i * 2", "nums[1]") }

func (g *formsGenerator) order() string {
	return g.pick("i", "s", "at", "dt", "n DESC", "f DESC NULLS LAST", "j NULLS FIRST", "s, i", "tags")
}

func (g *formsGenerator) aggregate() string {
	filter := g.pick("", "", "", " FILTER (WHERE b)", " FILTER (WHERE i > 1)")
	sort := g.pick("", "", " ORDER BY "+g.order())
	switch g.IntN(10) {
	case 0:
		return "array_agg(" + g.value() + sort + ")" + filter
	case 1:
		return "string_agg(" + g.pick("", "DISTINCT ") + g.pick("s", "s", "i::text", "'x'", "i") + ", " + g.pick("','", "s", "1") + g.pick("", " ORDER BY s") + ")" + filter
	case 2:
		return "jsonb_agg(" + g.pick("i", "s", "d", "tags", "at", "dt", "f") + sort + ")" + filter
	case 3:
		return "jsonb_object_agg(" + g.pick("s", "i", "dt", "b", "u") + ", " + g.value() + ")" + filter
	case 4:
		return g.pick("stddev", "stddev_pop", "variance", "var_pop", "var_samp", "stddev_samp", "sum", "avg") + "(" + g.pick("", "DISTINCT ") + g.pick(g.number(), g.value()) + ")" + filter
	case 5:
		return g.pick("bit_and", "bit_or", "bool_and", "bool_or", "every") + "(" + g.value() + ")" + filter
	case 6:
		return g.pick("min", "max", "count") + "(" + g.pick("", "DISTINCT ") + g.pick("i", "s", "at", "l", "dt", "l - at", "tags", "nums", "b", "u", "d") + ")" + filter
	case 7:
		return g.pick("percentile_cont", "percentile_disc") + "(" + g.pick("0.5", "0.5", "1", "ARRAY[0.1, 0.9]") + ") WITHIN GROUP (ORDER BY " + g.pick("i", "f", "n DESC", "l - at", "s", "at", "dt") + ")" + filter
	case 8:
		return "mode() WITHIN GROUP (ORDER BY " + g.pick("i", "s DESC", "at", "b", "d", "tags") + ")" + filter
	}
	return "count(*)" + filter
}

func (g *formsGenerator) window() string {
	spec := g.pick("", "PARTITION BY s ", "PARTITION BY s, i ", "PARTITION BY dt ")
	if g.IntN(4) > 0 {
		spec += "ORDER BY " + g.pick("i", "j DESC", "at", "dt", "n", "f", "s", "i, s", "l - at")
		spec += g.pick("", "", " ROWS 2 PRECEDING", " ROWS BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING", " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES",
			" RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", " RANGE BETWEEN 5 PRECEDING AND 1 FOLLOWING", " RANGE BETWEEN '1 day' PRECEDING AND CURRENT ROW",
			" RANGE BETWEEN 1.5 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW")
	}
	return g.pick("OVER ("+spec+")", "OVER ("+spec+")", "OVER w", "OVER (w ORDER BY i)", "OVER (w)")
}

func (g *formsGenerator) windowCall() string {
	call := g.pick("row_number()", "rank()", "dense_rank()", "percent_rank()", "cume_dist()", "ntile("+g.pick("2", "i", "j")+")",
		g.pick("lag", "lead")+"("+g.value()+g.pick("", ", 1", ", i")+")", g.pick("lag", "lead")+"("+g.value()+", 1, "+g.value()+")",
		g.pick("first_value", "last_value")+"("+g.value()+")", "nth_value("+g.value()+", "+g.pick("1", "2", "s")+")",
		g.pick("sum", "avg", "min", "max", "count")+"("+g.number()+")", "count(*)", "array_agg("+g.value()+")", "sum("+g.number()+") FILTER (WHERE b)")
	return call + " " + g.window()
}

func (g *formsGenerator) expression() string {
	switch g.IntN(9) {
	case 0:
		return "ARRAY[" + g.value() + ", " + g.value() + "]"
	case 1:
		return g.pick("tags", "nums", "d", "s") + g.pick("[1]", "[i]", "['1']", "[1:2]", "[:i]", "[j]")
	case 2:
		return g.value() + g.pick(" = ", " < ", " <> ") + g.pick("ANY", "ALL") + "(" + g.pick("tags", "nums", "ARRAY[1, 2]", "'{1,2}'", "ARRAY['a']", "i") + ")"
	case 3:
		return "(" + g.value() + ", i)" + g.pick(" = ", " < ", " >= ", " <> ", " IS DISTINCT FROM ") + "(" + g.value() + ", j)"
	case 4:
		return "(i, s) " + g.pick("", "NOT ") + "IN ((1, 'x'), (" + g.value() + ", s))"
	case 5:
		return g.pick("at", "l", "dt") + g.pick(" AT TIME ZONE 'UTC'", "::date", "::timestamp", " + interval '1 hour'", " - interval '2' day", " - dt", " - at", "::text")
	case 6:
		return "n::numeric(" + g.pick("5", "10, 2", "3, 1") + ")"
	case 7:
		return g.pick("s::varchar(3)", "CAST(i AS varchar)", "date '2024-01-01'", "timestamp '2024-01-01'", "'{a}'::text[]", "ARRAY[]::int[]", "ARRAY['1', '2']::int[]", "nums::text[]", "d['a']", "tags || 'x'",
			"at + make_interval(hours => i)", "extract(year FROM dt)", "date_trunc('month', l)", "(at, at) OVERLAPS (at, interval '1 day')")
	}
	return g.value()
}

func (g *formsGenerator) query() string {
	var list []string
	grouped := g.IntN(3) == 0
	for i := range 1 + g.IntN(3) {
		x := g.expression()
		switch {
		case grouped:
			x = g.aggregate()
			if g.IntN(4) == 0 {
				x = g.pick("sum(count(*)) OVER ()", "rank() OVER (ORDER BY sum(i))", "lag(max(s)) OVER (ORDER BY min(dt))", "grouping(s)", "s", "s || 'x'", "row_number() OVER (PARTITION BY s)")
			}
		case g.IntN(2) == 0:
			x = g.windowCall()
		}
		list = append(list, x+fmt.Sprintf(" AS c%d", i))
	}
	q := "SELECT " + g.pick("", "", "", "DISTINCT ", "DISTINCT ON (c0) ") + strings.Join(list, ", ") + " FROM t"
	if grouped {
		q += g.pick("", " GROUP BY s", " GROUP BY s", " GROUP BY ROLLUP (s, i)", " GROUP BY CUBE (s, dt)", " GROUP BY GROUPING SETS ((s), (s, i), ())", " GROUP BY s, ()", " GROUP BY (s, i)",
			" GROUP BY DISTINCT ROLLUP (s), s")
		q += g.pick("", "", " HAVING count(*) > 1", " HAVING max(s) = 'x'")
	}
	if strings.Contains(q, " OVER w") || strings.Contains(q, " OVER (w") {
		q += " WINDOW w AS (" + g.pick("PARTITION BY s", "PARTITION BY s ORDER BY s", "") + ")"
	}
	q += g.pick("", "", " ORDER BY c0", " ORDER BY 1 DESC", " ORDER BY s") + g.pick("", "", " LIMIT 3", " FETCH FIRST 2 ROWS WITH TIES", " OFFSET 1")
	return q
}
