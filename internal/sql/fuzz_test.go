package sql

import (
	"bytes"
	"testing"

	"laaster/internal/sql/syntax"
)

// FuzzCompile: no text makes Compile panic; what compiles, compiles again to the same program, and is the same app as itself.
func FuzzCompile(f *testing.F) {
	for _, input := range acceptedInputs(f) {
		f.Add(input)
	}
	f.Add("CREATE TABLE t (a int CHECK (a > 0)); CREATE MATERIALIZED VIEW v AS SELECT b FROM t GROUP BY 1 ORDER BY 9;")
	f.Fuzz(func(t *testing.T, src string) {
		p, diags := Compile("app.sql", []byte(src), nil)
		if (p == nil) != Errors(diags) {
			t.Fatalf("program %v with diagnostics %v", p != nil, diags)
		}
		for _, d := range diags {
			if d.Line < 1 || d.Col < 1 || d.Width < 1 || d.Msg == "" || len(diags) > 2*syntax.MaxErrors {
				t.Fatalf("diagnostic %+v of %d", d, len(diags))
			}
		}
		Render(diags)
		if p == nil {
			return
		}
		Explain(p)
		c, err := ParseCatalog(p.Catalog)
		if err != nil {
			t.Fatalf("our own catalog: %v", err)
		}
		again, diags := Compile("app.sql", []byte(src), c)
		if again == nil {
			t.Fatalf("it compiles once only: %v", diags)
		}
		if change, list := Compare(c, again); change != Same {
			t.Fatalf("it is not the same as itself: %v", list)
		}
		if !bytes.Equal(p.Catalog, again.Catalog) {
			t.Fatalf("two catalogs:\n%s\n%s", p.Catalog, again.Catalog)
		}
	})
}

// FuzzParseCatalog: a damaged document is an error, never a panic, and what is read can be compiled against.
func FuzzParseCatalog(f *testing.F) {
	for _, input := range acceptedInputs(f) {
		p, _ := Compile("app.sql", []byte(input), nil)
		f.Add(p.Catalog)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := ParseCatalog(doc)
		if err != nil {
			return
		}
		p, _ := Compile("app.sql", []byte("CREATE TABLE votes (id uuid PRIMARY KEY, n int); CREATE TABLE t (a text, b int DEFAULT 5);"), c)
		Compare(c, p)
	})
}
