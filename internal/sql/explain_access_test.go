package sql

import "testing"

// TestExplainAccess: what is shown of a view ends with who sees which of its rows.
func TestExplainAccess(t *testing.T) {
	p, diags := Compile("app.sql", []byte(`CREATE TABLE a (id int PRIMARY KEY, x text);
CREATE MATERIALIZED VIEW v AS SELECT id, x FROM a WHERE x <> '';
ALTER TABLE v ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON v USING (x =
  auth_subject());
CREATE POLICY small ON v AS RESTRICTIVE FOR SELECT TO clerk, anon USING (id < 9);
CREATE POLICY other ON a USING (true);`), nil)
	if p == nil {
		t.Fatal(Render(diags))
	}
	const want = `view v key (id)
  filter ($2:text <> ''::text)
    scan a
  row level security
    policy own for all to public using (x = auth_subject())
    policy small for select to clerk, anon using (id < 9), restrictive
`
	if got := ExplainView(p, "v"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
