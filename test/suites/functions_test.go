package suites

import (
	"os"
	"slices"
	"strings"
	"testing"

	"laaster/internal/expr"
	"laaster/internal/sql"
)

// group is one line of the table of functions.
type group struct {
	name    string
	entries []entry
}

// entry is a function, or a call that stands for one.
type entry struct {
	name, call string
	supported  bool
}

const functionsTable = "CREATE TABLE c (x integer, f double precision, n numeric, s text, b boolean, j jsonb, at timestamptz);\n"

// readFunctions reads testdata/functions.list and finds out which of them there are.
func readFunctions(t testing.TB) []*group {
	t.Helper()
	text, err := os.ReadFile("testdata/functions.list")
	if err != nil {
		t.Fatal(err)
	}
	var out []*group
	for _, part := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		if strings.HasPrefix(part, "#") {
			continue
		}
		name, list, _ := strings.Cut(part, "\n")
		g := &group{name: name}
		for _, word := range strings.Fields(list) {
			g.entries = append(g.entries, probe(word))
		}
		slices.SortFunc(g.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
		out = append(out, g)
	}
	return out
}

func probe(word string) entry {
	e := entry{name: word}
	if i := strings.IndexAny(word, "(_"); i >= 0 && (strings.Contains(word, "(") || strings.HasPrefix(word, "CASE")) {
		e.name = word[:i]
		e.call = strings.ReplaceAll(word, "_", " ")
		for _, name := range expr.FunctionNames() { // names keep their underscores
			if strings.HasPrefix(word, name+"(") {
				e.name = name
			}
		}
		if open := strings.IndexByte(word, '('); open > 0 {
			e.name = word[:open]
			e.call = e.name + strings.ReplaceAll(word[open:], "_", " ")
		}
		for _, key := range []string{"FROM", "BOTH"} {
			e.call = strings.ReplaceAll(e.call, ","+key+",", " "+key+" ")
			e.call = strings.ReplaceAll(e.call, "("+key+",", "("+key+" ")
		}
		p, _ := sql.Compile("app.sql", []byte(functionsTable+"CREATE MATERIALIZED VIEW v AS SELECT "+e.call+" AS v FROM c;"), nil)
		e.supported = p != nil
		return e
	}
	e.supported = expr.KnownFunction(word) || expr.SetFunction(word) || slices.Contains([]string{"tumble", "hop", "session"}, word)
	return e
}

// TestFunctions holds the list against the catalogue, and against PostgreSQL's.
func TestFunctions(t *testing.T) {
	listed := map[string]bool{}
	for _, g := range readFunctions(t) {
		for _, e := range g.entries {
			listed[e.name] = true
		}
	}
	for _, name := range expr.FunctionNames() {
		if !listed[name] {
			t.Errorf("testdata/functions.list does not have %s", name)
		}
	}
	pg := newOracle(t)
	own := []string{"only in Laaster"}
	syntax := []string{"coalesce", "nullif", "greatest", "least", "CASE", "CAST", "trim", "extract", "count", "mode"}
	for _, g := range readFunctions(t) {
		for _, e := range g.entries {
			a := pg.ask("SELECT 1 FROM pg_proc WHERE proname = '" + e.name + "'")
			if len(a.lines) == 0 && !slices.Contains(own, g.name) && !slices.Contains(syntax, e.name) {
				t.Errorf("PostgreSQL has no function %s", e.name)
			}
		}
	}
}
