package syntax

import (
	"fmt"
	"strings"
	"testing"
)

// TestRecovery: one call reports the errors of a whole file.
func TestRecovery(t *testing.T) {
	src := `CREATE TABLE a (x int,, y text NOTT NULL, z int CHECK (z >), w text);
CREATE TABEL b (x int);
SELECT a, b c d, (e, FROM t;
GRANT SELECT ON t TO anon
CREATE TABLE c (x int) WITH (y = , z w, v = 1);
CRATE TABLE d (x int);
SELECT * FORM t;`
	_, errs := Parse(src)
	var got []string
	for _, e := range errs {
		line := 1 + strings.Count(src[:e.Pos], "\n")
		got = append(got, fmt.Sprintf("%d %q %s | %s", line, src[e.Pos:e.End], e.Msg, e.Hint))
	}
	want := []string{
		`1 "," expected a column, PRIMARY KEY, CHECK or CONSTRAINT, found "," | `,
		`1 "NOTT" expected a constraint, "," or ")", found the name "nott" | did you mean NOT?`,
		`1 ")" expected an expression, found ")" | `,
		`2 "TABEL" expected TABLE or MATERIALIZED VIEW, found the name "tabel" | did you mean TABLE?`,
		`3 "d" expected "," or FROM, found the name "d" | is a comma missing before "c"?`,
		`3 "FROM" expected an expression, found FROM | `,
		`5 "CREATE" expected ";", found CREATE | `,
		`5 "," expected a value, found "," | `,
		`5 "w" expected "=", "," or ")", found the name "w" | `,
		`6 "CRATE" expected CREATE, GRANT or another statement, found the name "crate" | did you mean CREATE?`,
		`7 "FORM" expected "," or FROM, found the name "form" | did you mean FROM?`,
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got:\n%s\nwant:\n%s", a, b)
	}
}

// TestLimits: each limit has an error of its own kind, and no input makes the parser recurse without bound.
func TestLimits(t *testing.T) {
	kind := func(src string) ErrorKind {
		t.Helper()
		_, errs := Parse(src)
		if len(errs) == 0 {
			t.Fatalf("no error for %.40q…", src)
		}
		return errs[len(errs)-1].Kind
	}
	many := strings.Repeat
	for name, src := range map[string]string{
		"parentheses": "SELECT " + many("(", 30000) + "1" + many(")", 30000),
		"unclosed":    "SELECT " + many("(", 30000),
		"not":         "SELECT " + many("NOT ", 30000) + "true",
		"minus":       "SELECT " + many("- ", 30000) + "a",
		"case":        "SELECT " + many("CASE WHEN ", 20000),
		"brackets":    "SELECT ARRAY" + many("[", 30000),
		"from":        "SELECT * FROM " + many("(", 30000) + "a",
		"sub-queries": many("(SELECT ", 30000),
		"joins":       "SELECT * FROM " + many("a JOIN ", 20000) + "a",
		"grouping":    "SELECT 1 GROUP BY " + many("GROUPING SETS (", 20000),
		"chain":       "SELECT 1" + many(" || 1", 30000),
		"unions":      "SELECT 1" + many(" UNION SELECT 1", 20000),
		"subscripts":  "SELECT a" + many("[1]", 30000),
		"casts":       "SELECT a" + many("::int", 30000),
	} {
		if k := kind(src); k != TooDeep {
			t.Errorf("%s: kind %d", name, k)
		}
	}
	if k := kind(many(" ", MaxBytes+1)); k != TooLarge {
		t.Errorf("a large text: kind %d", k)
	}
	if k := kind(many("x;", 5000)); k != TooMany {
		t.Errorf("many errors: kind %d", k)
	}
	if _, errs := Parse("SELECT a" + many(" AND a", 20000)); len(errs) > 0 {
		t.Errorf("a flat AND is no nesting: %v", errs[0])
	}
	if _, errs := Parse("SELECT " + many("(", 195) + "1" + many(")", 195)); len(errs) > 0 {
		t.Errorf("195 levels: %v", errs[0])
	}
}

// FuzzParse: the parser ends, without a panic, with spans inside the text.
func FuzzParse(f *testing.F) {
	valid, unsupported, invalid := corpus(f)
	for _, list := range [][]string{valid, unsupported, invalid} {
		for _, s := range list {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, src string) {
		list, errs := Parse(src)
		for _, e := range errs {
			if e.Pos < 0 || e.End < e.Pos || e.End > len(src) || e.Msg == "" {
				t.Errorf("error %+v in a text of %d bytes", e, len(src))
			}
		}
		for _, s := range list {
			if at := s.At(); at.Pos < 0 || at.End < at.Pos || at.End > len(src) {
				t.Errorf("statement at %+v in a text of %d bytes", at, len(src))
			}
		}
	})
}
