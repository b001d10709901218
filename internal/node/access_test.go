package node

import (
	"net/http"
	"testing"
)

const accessSQL = `CREATE TABLE members (room text, person text, PRIMARY KEY (room, person));
CREATE TABLE notes (id int PRIMARY KEY, room text NOT NULL, author text NOT NULL DEFAULT auth_subject(), body text, secret text);
CREATE MATERIALIZED VIEW busy AS SELECT room, count(*) AS n FROM notes GROUP BY room;
GRANT SELECT, INSERT, UPDATE, DELETE ON notes, members TO anon;
GRANT SELECT ON busy TO anon;
CREATE TABLE readers (name text, since timestamptz NOT NULL DEFAULT now());
CREATE TABLE helpers (name text PRIMARY KEY);
GRANT INSERT ON readers, helpers TO anon;
ALTER TABLE busy ENABLE ROW LEVEL SECURITY;
`

// TestPolicies: reads, counts, writes and live changes of one caller follow the policies, those that a deployment changes from then on, and all of it
// survives a restart.
func TestPolicies(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	writeApp(t, dir, accessSQL)
	l := start(t, dir, settingsFor(data, "embedded"))
	for _, row := range []string{`{"id":1,"room":"a","author":"anon"}`, `{"id":2,"room":"b","author":"bob"}`, `{"id":3,"room":"b","author":"anon"}`} {
		l.write("POST", "/v1/tables/notes", row)
	}
	ids := func(want string) {
		t.Helper()
		l.expect("/v1/views/notes?select=id&order=id", want)
	}
	ids(`[{"id":1},{"id":2},{"id":3}]`)
	l.expect("/v1/views/busy", `[]`) // enabled, and no policy

	const own = accessSQL + `CREATE POLICY open ON busy USING (room IN (SELECT room FROM members WHERE person = auth_subject()));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (author = auth_subject());
`
	l.change(own)
	ids(`[{"id":1},{"id":3}]`)
	l.expect("/v1/views/notes?id=eq.2", `[]`)
	l.expect("/v1/views/busy", `[]`)
	if r := l.write("PATCH", "/v1/tables/notes?id=gt.0", `{"body":"mine"}`); r.Accepted != 2 {
		t.Errorf("%d rows changed, two are the caller's", r.Accepted)
	}
	if r := l.write("DELETE", "/v1/tables/notes?id=eq.2", ""); r.Accepted != 0 {
		t.Error("a row of another was deleted")
	}
	if status, text, _ := l.call("POST", "/v1/tables/notes", `{"id":4,"room":"a","author":"bob"}`); status != http.StatusUnprocessableEntity && status != http.StatusForbidden && status != http.StatusUnauthorized {
		t.Errorf("a row in the name of another: %d %s", status, text)
	}
	if status, text, _ := l.call("PATCH", "/v1/tables/notes?id=eq.1", `{"author":"bob"}`); status == http.StatusOK {
		t.Errorf("a row is given away: %s", text)
	}
	ids(`[{"id":1},{"id":3}]`)
	l.write("POST", "/v1/tables/members", `{"room":"b","person":"anon"}`)
	l.expect("/v1/views/busy", `[{"room":"b","n":2}]`)

	// Members that come and go bring rows and take them, without a change of the rows.
	s := l.watch("", "busy", "notes")
	defer s.conn.Close()
	shows := func(view string, rows int) func() bool {
		return func() bool { v := s.views[view]; return v != nil && v.next == nil && len(v.rows) == rows }
	}
	s.until(shows("busy", 1))
	s.until(shows("notes", 2))
	l.write("POST", "/v1/tables/members", `{"room":"a","person":"anon"}`)
	s.until(shows("busy", 2))
	l.write("DELETE", "/v1/tables/members?room=eq.b", "")
	s.until(shows("busy", 1))

	// A deployment judges open subscriptions anew.
	l.change(own + "CREATE POLICY all_of_b ON notes FOR SELECT USING (room = 'b');\n")
	s.until(shows("notes", 3))
	ids(`[{"id":1},{"id":2},{"id":3}]`)

	// A policy reads a table that nobody may read, of whose rows only the log or only the engine knew: rows from before count, and later ones.
	for _, table := range []string{"readers", "helpers"} {
		l.write("POST", "/v1/tables/"+table, `{"name":"anon"}`)
		l.change(own)
		s.until(shows("notes", 2))
		l.change(own + "CREATE POLICY named ON notes FOR SELECT USING (auth_subject() IN (SELECT name FROM " + table + "));\n")
		ids(`[{"id":1},{"id":2},{"id":3}]`)
		s.until(shows("notes", 3))
		l.change(own + "CREATE POLICY named ON notes FOR SELECT USING (auth_subject() || '2' IN (SELECT name FROM " + table + "));\n")
		s.until(shows("notes", 2))
		l.write("POST", "/v1/tables/"+table, `{"name":"anon2"}`)
		s.until(shows("notes", 3))
	}
	_ = s.conn.Close()

	writeApp(t, dir, own+"CREATE POLICY all_of_b ON notes FOR SELECT USING (room = 'b');\n")
	l.end()
	l = start(t, dir, settingsFor(data, "embedded"))
	ids(`[{"id":1},{"id":2},{"id":3}]`)
	l.expect("/v1/views/busy", `[{"room":"a","n":1}]`)
	writeApp(t, dir, own+"REVOKE SELECT ON notes FROM anon; GRANT SELECT (id, room) ON notes TO anon;\n")
	l.end()
	l = start(t, dir, settingsFor(data, "embedded"))
	l.expect("/v1/views/notes?order=id", `[{"id":1,"room":"a"},{"id":3,"room":"b"}]`)
	for _, query := range []string{"secret=is.null", "select=secret", "order=secret", "select=id,body"} {
		if status, text, _ := l.call("GET", "/v1/views/notes?"+query, ""); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	l.end()
}
