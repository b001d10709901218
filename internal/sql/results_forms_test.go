package sql

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
)

// formQueries reach aggregates with their clauses, grouping sets, window functions, the first rows of groups, arrays and rows.
// Orders are total, or their ties do not show.
var formQueries = strings.Split(strings.TrimSpace(`
SELECT x, array_agg(y ORDER BY y NULLS FIRST, id) AS l, array_agg(id ORDER BY id DESC) FILTER (WHERE y > 1) AS f FROM a GROUP BY x
SELECT x, string_agg(s, '-' ORDER BY s DESC, id) AS l, string_agg(DISTINCT s, ',' ORDER BY s) AS d FROM a GROUP BY x
SELECT x, jsonb_agg(y ORDER BY id) AS l, jsonb_object_agg(id, s) AS o FROM a GROUP BY x
SELECT jsonb_agg(s ORDER BY id) AS l, array_agg(DISTINCT y ORDER BY y DESC) AS d FROM b
SELECT s, stddev(y) AS a, var_pop(y) AS b, variance(x) AS c, stddev_pop(id) AS d FROM c GROUP BY s
SELECT s, bit_and(x) AS a, bit_or(y) AS b, every(x > 1) AS c, bool_or(y = 2) AS d FROM b GROUP BY s
SELECT s, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS a, percentile_disc(0.3) WITHIN GROUP (ORDER BY y DESC) AS b, mode() WITHIN GROUP (ORDER BY x) AS c FROM b GROUP BY s
SELECT percentile_cont(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY x) AS p, percentile_disc(ARRAY[0.1]) WITHIN GROUP (ORDER BY s) FILTER (WHERE x > 1) AS q FROM a
SELECT sum(DISTINCT y) AS a, count(DISTINCT s) AS b, avg(DISTINCT x) AS c, max(s) AS d, min(y) AS e FROM a
SELECT x, s, count(*) AS n, sum(y) AS t, grouping(x, s) AS g FROM a GROUP BY ROLLUP (x, s)
SELECT x, s, count(*) AS n FROM a GROUP BY CUBE (x, s) HAVING count(*) > 1
SELECT x, s, sum(y) AS n, grouping(s) AS g FROM b GROUP BY GROUPING SETS ((x), (s), ())
SELECT x, count(*) AS n FROM a GROUP BY GROUPING SETS ((x), (x), ())
SELECT x, s, count(*) AS n FROM a GROUP BY DISTINCT ROLLUP (x, s), ROLLUP (x)
SELECT x + 1 AS k, upper(s) AS u, count(*) AS n FROM a GROUP BY (x + 1, s)
SELECT a.id, a.s, x, count(*) AS n FROM a GROUP BY id, ROLLUP (x)
SELECT count(*) AS n FROM a HAVING count(*) > 3
SELECT 1 AS one FROM a HAVING max(x) > 2
SELECT id, row_number() OVER (ORDER BY x, id) AS r, rank() OVER (ORDER BY x) AS k, dense_rank() OVER (PARTITION BY s ORDER BY y DESC) AS d FROM a
SELECT id, percent_rank() OVER (ORDER BY x) AS p, cume_dist() OVER (PARTITION BY s ORDER BY y) AS c, ntile(3) OVER (ORDER BY id) AS n FROM b
SELECT id, lag(y) OVER w AS l1, lead(y, 2, -1) OVER w AS l2, lag(s, 1, 'none') OVER (ORDER BY id DESC) AS l3 FROM a WINDOW w AS (PARTITION BY x ORDER BY id)
SELECT id, first_value(y) OVER w AS f, last_value(y) OVER w AS l, nth_value(id, 2) OVER w AS n FROM b WINDOW w AS (PARTITION BY s ORDER BY id)
SELECT id, sum(y) OVER (ORDER BY id) AS s1, avg(y) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS s2, count(*) OVER (PARTITION BY s) AS s3 FROM a
SELECT id, sum(y) OVER (ORDER BY x RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) AS s1, count(y) OVER (ORDER BY x DESC RANGE BETWEEN CURRENT ROW AND 2 FOLLOWING EXCLUDE TIES) AS s2 FROM a
SELECT id, max(y) OVER (ORDER BY x GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) AS s1, min(y) FILTER (WHERE x > 1) OVER (PARTITION BY s ORDER BY id ROWS 2 PRECEDING) AS s2 FROM b
SELECT id, array_agg(y) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE GROUP) AS l, string_agg(s, '') OVER (ORDER BY id) AS t FROM b
SELECT x, sum(y) AS t, rank() OVER (ORDER BY sum(y) DESC NULLS LAST) AS r, sum(count(*)) OVER () AS n FROM a GROUP BY x
SELECT x, s, count(*) AS n, row_number() OVER (PARTITION BY grouping(x, s) ORDER BY x, s) AS r FROM a GROUP BY ROLLUP (x, s)
SELECT id, x, n FROM (SELECT *, row_number() OVER (PARTITION BY s ORDER BY x DESC, id) AS n FROM a) q WHERE n <= 2
SELECT id FROM (SELECT *, row_number() OVER (PARTITION BY s ORDER BY x DESC, id) AS n FROM a) q WHERE n = 1
SELECT id FROM (SELECT *, row_number() OVER (ORDER BY y, id) AS n FROM b) q WHERE n = 2
SELECT id, n FROM (SELECT *, row_number() OVER (PARTITION BY s ORDER BY id DESC) AS n FROM a) q WHERE n BETWEEN 2 AND 3 AND x > 0
SELECT id, n FROM (SELECT *, rank() OVER (PARTITION BY s ORDER BY x) AS n FROM a) q WHERE n < 3
SELECT id, n FROM (SELECT *, rank() OVER (ORDER BY x) AS n FROM a) q WHERE n > 1 AND n <= 4
SELECT id, n FROM (SELECT *, dense_rank() OVER (PARTITION BY s ORDER BY x DESC) AS n FROM a) q WHERE 2 >= n AND y = 1
SELECT id FROM (SELECT *, dense_rank() OVER (ORDER BY x) AS n FROM a) q WHERE n IN (1, 3)
SELECT id FROM (SELECT *, rank() OVER (ORDER BY x) AS n FROM a) q WHERE n <= 0
SELECT DISTINCT ON (s) s, id, x FROM a ORDER BY s, x DESC, id
SELECT DISTINCT ON (x, s) id FROM a ORDER BY s, x, y DESC, id
SELECT DISTINCT ON (x % 2) id FROM a ORDER BY x % 2, id LIMIT 1
SELECT DISTINCT ON (s) s, count(*) AS n FROM a GROUP BY s, x ORDER BY s, count(*) DESC
SELECT id, x FROM a ORDER BY x DESC NULLS LAST FETCH FIRST 2 ROWS WITH TIES
SELECT x FROM a ORDER BY x OFFSET 1 FETCH FIRST 2 ROWS WITH TIES
SELECT id FROM a WHERE (x, y) < (2, 1) OR (x, s) IN ((1, 'p'), (3, 'q'))
SELECT id, (x, y) >= (y, x) AS a, (x, s) IS DISTINCT FROM (1, 'p') AS b, (x, y) <> (1, 2) AS c, ROW(x, s) IS NULL AS d, ROW(y, s) IS NOT NULL AS e FROM a
SELECT id, (ARRAY[x, y])[2] AS a, (ARRAY[x, y, 7])[2:3] AS b, x = ANY (ARRAY[1, y]) AS c, x > ALL (ARRAY[y, 0]) AS d, s = ANY ('{p,q}') AS e FROM a
SELECT id, y::numeric(3, 1) AS a, s::varchar(1) AS b, s LIKE 'p#%' ESCAPE '#' AS c, s SIMILAR TO '(p|q)' AS d FROM c
SELECT s, array_agg(n ORDER BY n) AS l FROM (SELECT s, count(*) OVER (PARTITION BY x) AS n FROM a) q GROUP BY s
SELECT a.id, t.r FROM a, LATERAL (SELECT rank() OVER (ORDER BY b.y) AS r, b.id FROM b WHERE b.x = a.x) t WHERE t.id = 1
`), "\n")

// TestFormResults is TestResults for formQueries.
func TestFormResults(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	for from := 0; from < len(formQueries); from += 10 {
		queries := formQueries[from:min(from+10, len(formQueries))]
		r := newResultRun(t, conn, slices.Clone(queries))
		g := rand.New(rand.NewPCG(uint64(from), 8))
		r.compare()
		for range 30 {
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
