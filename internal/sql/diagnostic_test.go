package sql

import (
	"strings"
	"testing"

	"laaster/internal/sql/syntax"
)

func TestRender(t *testing.T) {
	check := func(src string, pos, end int, want string) {
		t.Helper()
		got := locate("a.sql", src, pos, end, Error, "wrong", "do right").Render()
		if want = strings.TrimPrefix(want, "\n"); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
	check("one\ntwo three\nfour", 8, 13, `
a.sql:2:5: error: wrong
  2 | two three
    |     ^^^^^
  hint: do right`)
	check("\tx\ty", 3, 4, "a.sql:1:4: error: wrong\n  1 | \tx\ty\n    | \t \t^\n  hint: do right")
	check("ünï 'x", 6, 8, `
a.sql:1:5: error: wrong
  1 | ünï 'x
    |     ^^
  hint: do right`)
	check("over\ntwo lines", 2, 7, `
a.sql:1:3: error: wrong
  1 | over
    |   ^^
  hint: do right`)
	// The end of the file is shown behind its last character.
	check("last\n\n", 6, 6, `
a.sql:1:5: error: wrong
  1 | last
    |     ^
  hint: do right`)
	check("", 0, 0, "a.sql:1:1: error: wrong\n  hint: do right")
	check("a\r\nb\r\n", 3, 4, "a.sql:2:1: error: wrong\n  2 | b\n    | ^\n  hint: do right")
	check("bad \xff utf8", 4, 5, "a.sql:1:5: error: wrong\n  1 | bad \uFFFD utf8\n    |     ^\n  hint: do right")
}

// TestLimits: what goes beyond a limit is one clear error, soon.
func TestLimits(t *testing.T) {
	one := func(name, src, want string) {
		t.Helper()
		p, diags := Compile("app.sql", []byte(src), nil)
		if p != nil || len(diags) == 0 || !strings.Contains(Render(diags), want) {
			t.Errorf("%s: %.300s", name, Render(diags))
		}
		if len(diags) > syntax.MaxErrors+1 {
			t.Errorf("%s: %d diagnostics", name, len(diags))
		}
	}
	many := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String()
	}
	number := func(i int) string {
		return string(rune('a'+i/676)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26))
	}
	cols := many(201, func(i int) string { return ", c" + number(i) + " int" })
	one("columns", "CREATE TABLE t (id int PRIMARY KEY"+cols+");", "at most 200 columns")
	one("view columns", "CREATE TABLE t (id int PRIMARY KEY); CREATE MATERIALIZED VIEW v AS SELECT id"+
		many(201, func(i int) string { return ", id AS c" + number(i) })+" FROM t;", "at most 200 columns")
	one("stars", "CREATE TABLE t (id int PRIMARY KEY, a int, b int); CREATE MATERIALIZED VIEW v AS SELECT *"+strings.Repeat(", *", 100000)+" FROM t;", "at most 200 columns")
	one("relations", many(1001, func(i int) string { return "CREATE TABLE t" + number(i) + " (a int);" }), "at most 1000 tables and views")
	one("errors", many(500, func(i int) string { return "CREATE TABLE t" + number(i) + " (a nothing);" }), "more errors not shown")
	one("size", strings.Repeat("-", 1<<20+1), "limit of 1 MiB")
	one("depth", "CREATE TABLE t (a int CHECK ("+strings.Repeat("(", 300)+"a"+strings.Repeat(")", 300)+" > 0));", "nested more than 200 levels")
	deep := strings.Repeat("(", 150) + "a" + strings.Repeat(strings.Repeat("+ b", 1000)+")", 150)
	one("parts", "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE MATERIALIZED VIEW v AS SELECT "+deep+" AS x FROM t GROUP BY a;", "more than 50000 parts")
}

// TestLargeButFair: what is within the limits compiles in reasonable time.
func TestLargeButFair(t *testing.T) {
	src := "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE MATERIALIZED VIEW v AS SELECT a" + strings.Repeat(" + 1 * b", 1900) +
		" AS x, sum(b) FROM t WHERE a IN (1" + strings.Repeat(", 2", 20000) + ") AND (b = 1" + strings.Repeat(" OR b = 2", 5000) + ") GROUP BY x;"
	if p, diags := Compile("app.sql", []byte(src), nil); p == nil {
		t.Errorf("%.500s", Render(diags))
	}
}
