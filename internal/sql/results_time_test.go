package sql

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

const timeTables = `CREATE TABLE e (at timestamptz NOT NULL, k int, v int)%[1]s;
CREATE TABLE f (at timestamptz NOT NULL, until timestamptz NOT NULL, k int, v int)%[1]s;`

// timeQueries free state by the watermark. E10 and F10 are windows of ten seconds, which PostgreSQL computes by date_bin.
var timeQueries = []string{
	"SELECT e.v, f.v AS w FROM e JOIN f ON e.k = f.k AND e.at BETWEEN f.at AND f.at + interval '6 seconds'",
	"SELECT e.v, f.v AS w FROM e JOIN f ON e.k = f.k AND e.at >= f.at AND e.at < f.until",
	"SELECT e.v, f.v AS w FROM e JOIN f ON e.k = f.k AND e.at - interval '3 seconds' < f.at AND f.at <= e.at + interval '2 seconds'",
	"SELECT e.v, f.v AS w FROM e LEFT JOIN f ON e.k = f.k AND f.at BETWEEN e.at AND e.at + interval '3 seconds'",
	"SELECT e.v, f.v AS w FROM e FULL JOIN f ON e.k = f.k AND f.at BETWEEN e.at - interval '2 seconds' AND e.at + interval '2 seconds'",
	"SELECT e.v FROM e WHERE NOT EXISTS (SELECT 1 FROM f WHERE e.k = f.k AND f.at BETWEEN e.at AND e.at + interval '3 seconds')",
	"SELECT e.v FROM e WHERE EXISTS (SELECT 1 FROM f WHERE e.k = f.k AND f.at >= e.at AND f.at < e.at + interval '3 seconds')",
	"SELECT e.v, f.v AS w FROM e JOIN f ON e.at = f.at",
	"SELECT e.window_end, e.v, f.v AS w FROM E10 AS e JOIN F10 AS f USING (window_end, k)",
	"SELECT window_end, k, count(*) AS n, max(v) AS m FROM E10 AS e GROUP BY window_end, k",
	"SELECT DISTINCT window_start, window_end, k FROM E10 AS e",
	"SELECT n.window_end, n.k, n.n FROM (SELECT window_end, k, count(*) AS n FROM E10 AS e GROUP BY 1, 2) n JOIN (SELECT window_end, count(*) AS n FROM F10 AS f GROUP BY 1) m ON n.window_end = m.window_end AND n.n < m.n",
	"SELECT window_end, v FROM (SELECT *, rank() OVER (PARTITION BY window_end ORDER BY v DESC) AS r FROM E10 AS e) q WHERE r <= 2",
	"SELECT window_end, v, sum(v) OVER (PARTITION BY window_end) AS s FROM E10 AS e",
	"SELECT e.v, m.m FROM e JOIN (SELECT window_end, max(v) AS m FROM E10 AS e GROUP BY window_end) m ON e.v = m.m AND e.at >= m.window_end - interval '10 seconds' AND e.at < m.window_end",
	"SELECT at, count(*) AS n FROM e GROUP BY at",
	"SELECT window_end, k FROM E10 AS e INTERSECT SELECT window_end, k FROM F10 AS f",
	"SELECT window_end, count(*) AS n FROM (SELECT window_end, k FROM E10 AS e UNION ALL SELECT window_end, k FROM F10 AS f) u GROUP BY window_end",
}

func oursAndTheirs(q string) (ours, theirs string) {
	for _, t := range []string{"e", "f"} {
		name := strings.ToUpper(t) + "10"
		q2 := fmt.Sprintf("(SELECT *, date_bin('10 s', at, 'epoch') AS window_start, date_bin('10 s', at, 'epoch') + interval '10 s' AS window_end FROM %s)", t)
		if ours == "" {
			ours, theirs = q, q
		}
		ours = strings.ReplaceAll(ours, name, "tumble("+t+", at, interval '10 seconds')")
		theirs = strings.ReplaceAll(theirs, name, q2)
	}
	return ours, theirs
}

// TestTimeResults holds views that forget by the watermark against PostgreSQL, which forgets nothing, over rows that come out of
// order but not late.
func TestTimeResults(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	if _, err := conn.Exec(context.Background(), "SET timezone = 'UTC';"+fmt.Sprintf(timeTables, "")); err != nil {
		t.Fatal(err)
	}
	src := fmt.Sprintf(timeTables, " WITH (event_time = 'at', lateness = '5 seconds')")
	var theirs []string
	for i, q := range timeQueries {
		a, b := oursAndTheirs(q)
		src += fmt.Sprintf("\nCREATE MATERIALIZED VIEW v%d AS %s;", i, a)
		theirs = append(theirs, b)
	}
	p, diags := Compile("app.sql", []byte(src), nil)
	if p == nil {
		t.Fatal(Render(diags))
	}
	engine, err := flow.New(p, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &resultRun{t: t, pg: conn, p: p, e: engine, queries: theirs, held: make([]int, len(theirs)), tables: 2, rows: make([]map[string]string, len(p.Relations))}
	for i := range r.rows {
		r.rows[i] = map[string]string{}
	}
	const base = 1_700_000_000_000_000
	r.stamp = base
	r.apply(change.Entry{Kind: change.EntryDefinition, Body: p.Catalog, Last: true})
	g := rand.New(rand.NewPCG(5, 5))
	for i := range 120 {
		now := int64(base + i*1_000_000)
		r.stamp = now
		for range 1 + g.IntN(3) {
			at := now - int64(g.IntN(5))*1_000_000
			table := g.IntN(2)
			vals := []string{timeText(at), fmt.Sprint(g.IntN(3)), fmt.Sprint(g.IntN(50))}
			if table == 1 {
				vals = slices.Insert(vals, 1, timeText(at+int64(g.IntN(4))*1_000_000))
			}
			r.insert(table, vals)
		}
		if i%4 == 0 {
			r.compare()
		}
	}
	r.compare()
	for i, n := range r.held {
		if n == 0 {
			t.Errorf("PostgreSQL did not answer: %s", theirs[i])
		}
	}
	if text := Explain(p); strings.Count(text, "kept until") < 12 || strings.Count(text, "(closes") < 10 {
		t.Errorf("little is freed:\n%s", text)
	}
}

func timeText(us int64) string {
	return string(expr.AppendText(nil, expr.TypeNamed("timestamptz"), change.Int(us)))
}

// insert adds a row to an append-only table on both sides.
func (r *resultRun) insert(table int, cells []string) {
	r.t.Helper()
	rel := r.p.Relations[table]
	vals := make([]change.Value, len(cells))
	for i, c := range cells {
		v, _, err := expr.ParseText(rel.Columns[i].Type, []byte(c), nil)
		if err != nil {
			r.t.Fatal(err)
		}
		vals[i] = v
	}
	en := change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Table: rel.Table.Catalog, Version: 1, Count: 1}
	en.Body = change.AppendRecord(nil, en.Op, &change.Record{Row: rel.Table.Layout.Append(nil, vals)})
	r.apply(en)
	if _, err := r.pg.Exec(context.Background(), fmt.Sprintf("INSERT INTO %s VALUES ('%s')", rel.Name, strings.Join(cells, "', '"))); err != nil {
		r.t.Fatal(err)
	}
}
