package sql

import (
	"fmt"
	"strings"
	"testing"
)

// TestLargePlans: a short text that means a huge plan is refused, soon.
func TestLargePlans(t *testing.T) {
	chain := "WITH c0 AS (SELECT x FROM a)"
	for i := range 40 {
		chain += fmt.Sprintf(", c%d AS (SELECT l.x FROM c%d l JOIN c%d r ON l.x = r.x)", i+1, i, i)
	}
	nested := "SELECT 1 FROM a b20 WHERE b20.x = b0.x"
	for i := 19; i >= 0; i-- {
		nested = fmt.Sprintf("SELECT count(*) FROM a b%d WHERE b%d.x > (%s)", i, i, nested)
	}
	unions := "WITH c0 AS (SELECT x FROM a)"
	for i := range 40 {
		unions += fmt.Sprintf(", c%d AS (SELECT x + 1 AS x FROM c%d UNION ALL SELECT x FROM c%d)", i+1, i, i)
	}
	twice := func(step string) string {
		q := "WITH c0 AS (SELECT x FROM a WHERE a.y = o.y)"
		for i := range 40 {
			q += fmt.Sprintf(", c%d AS (%s)", i+1, strings.ReplaceAll(step, "#", fmt.Sprint("c", i)))
		}
		return "SELECT o.id, t.x FROM b o, LATERAL (" + q + " SELECT x FROM c40) t"
	}
	for _, q := range []string{twice("SELECT l.x FROM # l JOIN # r USING (x)"), twice("SELECT x + x AS x FROM #"), twice("SELECT x + o.x + x AS x FROM #"), chain + " SELECT x FROM c40", unions + " SELECT x FROM c40", strings.Replace(nested, "(*)", "(*) AS n", 1),
		"SELECT " + strings.Repeat("(SELECT count(*) FROM a WHERE a.x > b.x AND a.y IN (SELECT ", 15) + "1" + strings.Repeat(")) ", 15) + "FROM a b"} {
		p, diags := Compile("app.sql", []byte(resultTables+"CREATE MATERIALIZED VIEW v AS "+q), nil)
		if p != nil && len(ExplainView(p, "v")) > 1<<20 {
			t.Errorf("a plan of %d bytes from %s", len(ExplainView(p, "v")), q)
		}
		if p == nil && !strings.Contains(Render(diags), "limit") && !strings.Contains(Render(diags), "too ") && !strings.Contains(Render(diags), "deep") {
			t.Errorf("%s\n%s", q, Render(diags))
		}
	}
}
