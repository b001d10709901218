package sql

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// resultTables are small and full of NULLs and of equal values, so that few rows meet many cases.
const resultTables = `CREATE TABLE a (id bigint PRIMARY KEY, x int, y int, s text);
CREATE TABLE b (id bigint PRIMARY KEY, x int, y bigint, s text);
CREATE TABLE c (id bigint PRIMARY KEY, x int NOT NULL, y numeric, s text);`

// resultRun keeps tables and one view per query in an engine and in PostgreSQL.
type resultRun struct {
	t       *testing.T
	pg      *pgx.Conn
	p       *flow.Program
	e       *flow.Engine
	b       change.Builder
	seq     uint64
	stamp   int64               // of the next batch; 0: by seq
	tables  int                 // before the views
	rows    []map[string]string // by relation: key → row as text
	queries []string
	held    []int // by query: how often PostgreSQL answered
}

func newResultRun(t *testing.T, pg *pgx.Conn, queries []string) *resultRun {
	t.Helper()
	src := resultTables
	for i, q := range queries {
		src += fmt.Sprintf("\nCREATE MATERIALIZED VIEW v%d AS %s;", i, q)
	}
	p, diags := Compile("app.sql", []byte(src), nil)
	if p == nil {
		t.Fatal(Render(diags))
	}
	e, err := flow.New(p, flow.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, Explain(p))
	}
	r := &resultRun{t: t, pg: pg, tables: 3, p: p, e: e, queries: queries, held: make([]int, len(queries)), rows: make([]map[string]string, len(p.Relations))}
	for i := range r.rows {
		r.rows[i] = map[string]string{}
	}
	if _, err := pg.Exec(context.Background(), "SET jit = off; DROP TABLE IF EXISTS a, b, c;"+resultTables); err != nil {
		t.Fatal(err)
	}
	r.apply(change.Entry{Kind: change.EntryDefinition, Body: p.Catalog, Last: true})
	return r
}

func (r *resultRun) apply(entries ...change.Entry) {
	r.t.Helper()
	r.b.Reset()
	for i := range entries {
		if err := r.b.Add(&entries[i]); err != nil {
			r.t.Fatal(err)
		}
	}
	r.seq++
	batch := r.b.Seal(change.Header{Seq: r.seq, Stamp: max(r.stamp, int64(1_000_000+r.seq))})
	epoch, err := r.e.Apply(&batch)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range epoch.Deltas {
		rel := r.p.Relations[d.Relation]
		for _, c := range d.Changes {
			if _, was := r.rows[d.Relation][string(c.Key)]; was != (c.Old != nil) {
				r.t.Fatalf("%s: a change of a row that is not there, or is", rel.Name)
			}
			delete(r.rows[d.Relation], string(c.Key))
			if c.New != nil {
				r.rows[d.Relation][string(c.Key)] = resultRow(rel, c.New)
			}
		}
	}
}

func resultRow(rel *expr.Relation, row change.Row) string {
	n := len(rel.Columns)
	if rel.Copies {
		n--
	}
	cells := make([]string, n)
	for i := range cells {
		v := rel.Layout.Get(row, i)
		if cells[i] = "NULL"; !v.Null {
			cells[i] = string(expr.AppendText(nil, rel.Layout.Type(i), v))
		}
	}
	return strings.Join(cells, "|")
}

// write changes one table on both sides: cells is nil for a deletion.
func (r *resultRun) write(table int, id string, cells []string) {
	r.t.Helper()
	rel := r.p.Relations[table]
	en := change.Entry{Kind: change.EntryWrite, Op: change.OpMerge, Last: true, Table: rel.Table.Catalog, Version: 1, Count: 1}
	sql := fmt.Sprintf("DELETE FROM %s WHERE id = %s", rel.Name, id)
	rec := change.Record{}
	if cells == nil {
		en.Op = change.OpDelete
		rec.Filter = []byte("id=eq." + id)
	} else {
		vals := make([]change.Value, len(cells))
		quoted := make([]string, len(cells))
		for i, c := range cells {
			if vals[i], quoted[i] = change.Null(), "NULL"; c != "NULL" {
				v, _, err := expr.ParseText(rel.Columns[i].Type, []byte(c), nil)
				if err != nil {
					r.t.Fatal(err)
				}
				vals[i], quoted[i] = v, "'"+c+"'"
			}
		}
		rec.Row, rec.Given = rel.Table.Layout.Append(nil, vals), []byte{0x0F}
		sql += fmt.Sprintf("; INSERT INTO %s VALUES (%s)", rel.Name, strings.Join(quoted, ", "))
	}
	en.Body = change.AppendRecord(nil, en.Op, &rec)
	r.apply(en)
	if _, err := r.pg.Exec(context.Background(), sql); err != nil {
		r.t.Fatal(err)
	}
}

// random writes a row with a small id.
func (r *resultRun) random(g *rand.Rand) {
	table := g.IntN(3)
	id := fmt.Sprint(1 + g.IntN(6))
	if g.IntN(4) == 0 {
		r.write(table, id, nil)
		return
	}
	value := func(null bool) string {
		if null && g.IntN(5) == 0 {
			return "NULL"
		}
		return fmt.Sprint(g.IntN(4))
	}
	text := []string{"p", "q", "pq", "NULL"}[g.IntN(4)]
	r.write(table, id, []string{id, value(table != 2), value(true), text})
}

// compare holds every view against its query. What fails in PostgreSQL is not compared.
func (r *resultRun) compare() {
	r.t.Helper()
	for i, q := range r.queries {
		rows, _ := r.pg.Query(context.Background(), q, pgx.QueryExecModeSimpleProtocol)
		var want []string
		for rows.Next() {
			cells := make([]string, len(rows.RawValues()))
			for k, v := range rows.RawValues() {
				if cells[k] = "NULL"; v != nil {
					cells[k] = string(v)
				}
			}
			want = append(want, strings.Join(cells, "|"))
		}
		if rows.Err() != nil {
			continue
		}
		r.held[i]++
		var got []string
		for _, row := range r.rows[r.tables+i] {
			got = append(got, row)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			var tables strings.Builder
			for k := range r.tables {
				fmt.Fprintln(&tables, r.p.Relations[k].Name, r.rows[k])
			}
			r.t.Errorf("after %d batches\n%s\n got  %q\n want %q\n%s\n%s", r.seq, q, got, want, tables.String(), ExplainView(r.p, fmt.Sprint("v", i)))
			r.queries[i] = "SELECT 1/0"
		}
	}
}

// resultQueries reach each way to plan joins, sub-queries and set operations.
var resultQueries = strings.Split(strings.TrimSpace(`
SELECT a.id, b.id AS bid, a.s FROM a JOIN b ON a.x = b.x
SELECT a.id, b.id AS bid, a.s FROM a, b WHERE a.x = b.x AND a.y < b.y AND a.s = 'p'
SELECT a.id, b.id AS bid, b.s FROM a LEFT JOIN b ON a.x = b.x AND b.y > 1
SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.x = b.x WHERE b.y <> ALL ('{}'::integer[])
SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.x = b.x WHERE cardinality(ARRAY[1] || b.y) > 0
SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.x = b.x AND a.y > 1
SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.x = b.x WHERE b.y > 1
SELECT a.id, b.id AS bid FROM a LEFT JOIN b ON a.x = b.x WHERE b.y IS NULL
SELECT a.id, b.id AS bid FROM a RIGHT JOIN b ON a.x = b.x AND a.s = b.s
SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.x = b.x AND a.y > 0
SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.x = b.x WHERE a.y > 0
SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.x = b.x WHERE b.y > 0
SELECT x, a.y, b.y AS by FROM a FULL JOIN b USING (x)
SELECT * FROM a NATURAL JOIN (SELECT x, y AS z FROM b) AS q
SELECT * FROM (SELECT x, y FROM a) l LEFT JOIN (SELECT x, y AS z FROM c) r USING (x)
SELECT * FROM (SELECT x, y FROM a) l RIGHT JOIN (SELECT x, y AS z FROM c) r USING (x)
SELECT a1.id, a2.id AS other FROM a a1 JOIN a a2 ON a1.x = a2.y
SELECT a.id, b.id AS bid, c.id AS cid FROM a, b, c WHERE a.x = b.x AND b.y = c.x AND a.id < 5
SELECT a.id, b.id AS bid, c.id AS cid FROM a LEFT JOIN (b JOIN c ON b.x = c.x) ON a.y = c.y
SELECT a.id, c.id AS cid FROM a CROSS JOIN c WHERE a.y + c.x = 3
SELECT a.id, b.id AS bid FROM a JOIN b ON a.x = b.y
SELECT a.id, b.id AS bid FROM a JOIN b ON a.s || 'q' = b.s OR a.x = b.x
SELECT a.x, count(*) AS n, sum(b.y) AS t FROM a JOIN b ON a.x = b.x GROUP BY a.x
SELECT a.id, a.s, count(b.id) AS n FROM a LEFT JOIN b ON a.x = b.x GROUP BY a.id
SELECT a.id, b.id AS bid FROM a, b WHERE a.x IS NOT DISTINCT FROM b.x
SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x = a.x)
SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.x = a.x AND b.y > a.y)
SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.s = 'p')
SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b JOIN c ON b.x = c.x WHERE c.y = a.y)
SELECT id FROM a WHERE x IN (SELECT x FROM b)
SELECT id FROM a WHERE x NOT IN (SELECT x FROM b WHERE y > 1)
SELECT id FROM a WHERE x NOT IN (SELECT y FROM b WHERE b.s = a.s)
SELECT id FROM a WHERE id NOT IN (SELECT x FROM c)
SELECT id FROM a WHERE (x, y) IN (SELECT x, y FROM b)
SELECT id, x IN (SELECT x FROM b) AS m FROM a
SELECT id, x NOT IN (SELECT y FROM b WHERE b.s = a.s) AS m FROM a
SELECT id FROM a WHERE x IN (SELECT x FROM b) OR y > 2
SELECT id, x IN (SELECT a.x) AS m, EXISTS (SELECT a.y) AS e FROM a
SELECT id FROM a WHERE x = ANY (SELECT y FROM b WHERE b.x = a.y)
SELECT id FROM a WHERE x > ANY (SELECT x FROM b)
SELECT id FROM a WHERE x <= ALL (SELECT x FROM b WHERE b.y = a.y)
SELECT id, x < ALL (SELECT x FROM b WHERE b.id <> a.id) AS m FROM a
SELECT id, (SELECT count(*) FROM b WHERE b.x = a.x) AS n FROM a
SELECT id, (SELECT count(*) + coalesce(sum(b.y), 10) FROM b WHERE b.x = a.x AND b.s = 'p') AS n FROM a
SELECT id, (SELECT max(b.y) FROM b) AS n FROM a
SELECT id, (SELECT s FROM b WHERE b.id = a.x) AS bs FROM a
SELECT id, (SELECT b.s || a.s FROM b WHERE b.id = a.x) AS bs FROM a
SELECT id, (SELECT count(*) FROM b WHERE b.x > a.x) AS n FROM a
SELECT id, (SELECT sum(a.y + b.y) FROM b WHERE b.x = a.x) AS n FROM a
SELECT id, (SELECT b.id FROM b WHERE b.x = a.x ORDER BY b.y, b.id LIMIT 1) AS first FROM a
SELECT id, (SELECT b.id FROM b WHERE b.x >= a.x ORDER BY b.y DESC, b.id LIMIT 1) AS first FROM a
SELECT id FROM a WHERE y > (SELECT avg(y) FROM a a2 WHERE a2.x = a.x)
SELECT id FROM a WHERE (SELECT count(*) FROM b WHERE b.x = a.x AND EXISTS (SELECT 1 FROM c WHERE c.x = b.y AND c.y = a.y)) > 0
SELECT id, ARRAY(SELECT b.id FROM b WHERE b.x = a.x ORDER BY b.y DESC NULLS LAST, b.id) AS ids FROM a
SELECT id, EXISTS (SELECT 1 FROM b WHERE b.x = a.x) AS e FROM a
SELECT id, EXISTS (SELECT 1 FROM b WHERE b.x > a.x) AS e FROM a
SELECT x, count(*) AS n, (SELECT count(*) FROM b WHERE b.x = a.x) AS m FROM a GROUP BY x
SELECT x, sum(y) AS n FROM a GROUP BY x HAVING sum(y) > (SELECT min(y) FROM b WHERE b.x = a.x)
SELECT x, count(*) AS n FROM a GROUP BY x HAVING EXISTS (SELECT 1 FROM b WHERE b.x = a.x)
SELECT sum((SELECT count(*) FROM b WHERE b.x = a.x)) AS n FROM a
SELECT a.id, t.id AS bid, t.y FROM a, LATERAL (SELECT * FROM b WHERE b.x = a.x ORDER BY b.y DESC NULLS LAST, b.id LIMIT 2) t
SELECT a.id, t.id AS bid FROM a LEFT JOIN LATERAL (SELECT * FROM b WHERE b.x > a.x ORDER BY b.id LIMIT 1) t ON true
SELECT a.id, t.n FROM a, LATERAL (SELECT count(*) AS n FROM b WHERE b.x = a.x) t
SELECT a.id, t.n FROM a LEFT JOIN LATERAL (SELECT sum(y) AS n FROM b WHERE b.x = a.x) t ON t.n > 2
SELECT a.id, t.z FROM a, LATERAL (SELECT a.x + b.y AS z FROM b WHERE b.x = a.x) t
SELECT a.id, t.one FROM a LEFT JOIN LATERAL (SELECT 1 AS one FROM b WHERE b.x = a.x) t ON true
SELECT a.id, t.z FROM a, LATERAL (SELECT a.x * 2 AS z) t WHERE t.z > 1
SELECT a.id, t.v FROM a, LATERAL (VALUES (a.x), (a.y)) AS t (v)
SELECT a.id, t.v FROM a, LATERAL (SELECT b.y AS v FROM b WHERE b.x = a.x UNION SELECT c.x FROM c WHERE c.x = a.y) t
SELECT a.id, t.v FROM a, LATERAL (SELECT b.x AS v FROM b WHERE b.x > a.x INTERSECT SELECT c.x FROM c) t
SELECT a.id, t.v FROM a, LATERAL (SELECT b.x AS v FROM b EXCEPT SELECT c.x FROM c WHERE c.x > a.x) t
SELECT a.id, t.bid, t.cid FROM a, LATERAL (SELECT b.id AS bid, c.id AS cid FROM b LEFT JOIN c ON c.x = b.x AND c.y > a.y WHERE b.x = a.x) t
SELECT a.id, t.bid, t.cid FROM a, LATERAL (SELECT b.id AS bid, c.id AS cid FROM b FULL JOIN c ON c.x = b.x AND c.y > a.y) t
SELECT x FROM a UNION SELECT x FROM b
SELECT x FROM a UNION ALL SELECT y FROM b
SELECT x, s FROM a INTERSECT SELECT x, s FROM b
SELECT x FROM a INTERSECT ALL SELECT x FROM b
SELECT x FROM a EXCEPT SELECT x FROM b
SELECT x FROM a EXCEPT ALL SELECT x FROM b
(SELECT x FROM a UNION SELECT y FROM b) EXCEPT SELECT x FROM c ORDER BY 1
SELECT x, NULL AS n FROM a UNION ALL SELECT NULL, y FROM b
SELECT q.x FROM (SELECT x FROM a UNION ALL SELECT x FROM b) q WHERE q.x > 1
WITH t AS (SELECT x, count(*) AS n FROM a GROUP BY x) SELECT t1.x, t2.n FROM t t1 JOIN t t2 ON t1.n = t2.n
WITH t (k) AS (SELECT x FROM a), u AS (SELECT k + 1 AS k FROM t) SELECT k FROM t UNION ALL SELECT k FROM u
SELECT DISTINCT a.x, b.s FROM a JOIN b ON a.x = b.x
SELECT a.id, g.n FROM a, generate_series(1, a.x) AS g (n)
SELECT a.id, g.n, g.o FROM a LEFT JOIN generate_series(1, a.x) WITH ORDINALITY AS g (n, o) ON true
SELECT id FROM a WHERE x IN (SELECT n FROM generate_series(1, 2) AS n)
SELECT 1 AS one, 'x' AS s
SELECT v.n, a.id FROM (VALUES (1, 'p'), (2, 'q')) AS v (n, s) JOIN a ON a.s = v.s
SELECT (SELECT count(*) FROM a) AS na, (SELECT count(*) FROM b) AS nb
SELECT a.id FROM a WHERE a.x = (SELECT max(b.x) FROM b WHERE b.y = a.y AND b.x IN (SELECT c.x FROM c WHERE c.x = a.x))
SELECT t.x, t.n FROM (SELECT x, count(*) AS n FROM a GROUP BY x) t WHERE t.x > 1 AND t.n > 1
SELECT id FROM a ORDER BY (SELECT count(*) FROM b WHERE b.x = a.x), id LIMIT 3
SELECT a.id, b.id AS bid FROM a JOIN b ON a.x = b.x AND EXISTS (SELECT 1 FROM c WHERE c.x = a.x AND c.y = b.y)
`), "\n")

// TestResults holds what views have against what PostgreSQL answers, after each of many small changes.
func TestResults(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	for from := 0; from < len(resultQueries); from += 20 {
		queries := resultQueries[from:min(from+20, len(resultQueries))]
		r := newResultRun(t, conn, slices.Clone(queries))
		g := rand.New(rand.NewPCG(uint64(from), 7))
		r.compare()
		for range 25 {
			for range 1 + g.IntN(3) {
				r.random(g)
			}
			r.compare()
		}
		for i, n := range r.held {
			if n < 5 {
				t.Errorf("PostgreSQL answered %d times: %s", n, queries[i])
			}
		}
	}
}
