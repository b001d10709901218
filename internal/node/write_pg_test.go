package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/kit/testkit"
)

// writeRulesOf returns random policies and grants, in words that both sides read.
func writeRulesOf(r *rand.Rand) string {
	conds := []string{"true", "true", "true", "owner = auth_subject()", "owner = auth_subject() AND n < 4", "n > 1", "n <> 2 OR owner IS NULL", "owner = auth_role()",
		"id IN (SELECT ref FROM m WHERE who = auth_subject())", "owner = auth_subject() OR id IN (SELECT ref FROM m WHERE who = auth_subject() AND ref < 4)"}
	cond := func() string { return "(" + conds[r.IntN(len(conds))] + ")" }
	var b strings.Builder
	for i := range 2 + r.IntN(5) {
		cmd := []string{"ALL", "ALL", "SELECT", "INSERT", "UPDATE", "DELETE"}[r.IntN(6)]
		fmt.Fprintf(&b, "CREATE POLICY p%d ON t", i)
		if r.IntN(6) == 0 {
			b.WriteString(" AS RESTRICTIVE")
		}
		fmt.Fprintf(&b, " FOR %s TO %s", cmd, []string{"public", "w_one", "w_two", "w_one, w_two"}[r.IntN(4)])
		if cmd != "INSERT" {
			b.WriteString(" USING " + cond())
		}
		if cmd == "INSERT" || cmd != "SELECT" && cmd != "DELETE" && r.IntN(2) == 0 {
			b.WriteString(" WITH CHECK " + cond())
		}
		b.WriteString(";\n")
	}
	for _, role := range []string{"w_one", "w_two"} {
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "GRANT SELECT, INSERT ON t TO %s;\n", role)
		} else {
			fmt.Fprintf(&b, "GRANT SELECT, INSERT, UPDATE, DELETE ON t TO %s;\n", role)
		}
	}
	return b.String()
}

// TestWriteRulesAreAsPostgres runs random writes of several callers under random policies here and in PostgreSQL: both accept and refuse the same, and
// have the same rows afterwards.
func TestWriteRulesAreAsPostgres(t *testing.T) {
	pg := testkit.Postgres(t).Schema(t)
	ask := func(text string, args ...any) {
		t.Helper()
		if _, err := pg.Exec(t.Context(), text, args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	var schema string
	if err := pg.QueryRow(t.Context(), "SELECT current_schema()").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"w_one", "w_two"} {
		ask("DO $$ BEGIN CREATE ROLE " + role + "; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
		ask("GRANT USAGE ON SCHEMA " + schema + " TO " + role)
	}
	ask("CREATE FUNCTION auth_subject() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('test.subject', true) $$")
	ask("CREATE FUNCTION auth_role() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('test.role', true) $$")
	const tables = `CREATE TABLE t (id integer PRIMARY KEY, owner text, n integer);
CREATE TABLE m (who text, ref integer, PRIMARY KEY (who, ref));
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON m TO w_one, w_two;
`
	said := map[string]int{}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		rules := writeRulesOf(r)
		ask("DROP TABLE IF EXISTS t, m")
		ask(tables + rules)
		dir := t.TempDir()
		writeApp(t, dir, "CREATE ROLE w_one;\nCREATE ROLE w_two;\n"+tables+rules+"CREATE MATERIALIZED VIEW every AS SELECT id, owner, n FROM t;\nGRANT SELECT ON every TO anon;\nGRANT ALL ON m TO anon;\n")
		l := start(t, dir, settingsFor(t.TempDir(), "memory"))
		for i := range 12 { // the members, whom nobody's rules are about
			who, ref := string("ab"[i%2]), r.IntN(8)
			l.put(auth.Anonymous(), change.OpIgnore, "m", fmt.Sprintf(`{"who":%q,"ref":%d}`, who, ref), "")
			ask("INSERT INTO m VALUES ($1, $2) ON CONFLICT DO NOTHING", who, ref)
		}
		for step := range 40 {
			w := randomWrite(r)
			got, want := l.put(w.who(), w.op, "t", w.rows, w.filter), w.inPostgres(t, pg)
			said[got]++
			if w.op == change.OpMerge && want == "forbidden" && got == "1 0" {
				// PostgreSQL also asks the INSERT policies of a row that it then updates, and the SELECT policies of one that it inserts.
				ask(w.sql)
				said["merged"]++
			} else if got != want {
				t.Fatalf("seed %d, step %d: %s writes %q %q: %s, PostgreSQL says %s\n%s", seed, step, w.subject+"/"+w.role, w.rows, w.filter, got, want, rules)
			}
			var rows string
			if err := pg.QueryRow(t.Context(), "SELECT coalesce(json_agg(t ORDER BY id), '[]')::text FROM t").Scan(&rows); err != nil {
				t.Fatal(err)
			}
			if l.expect("/v1/views/every?order=id", rows); t.Failed() {
				t.Fatalf("seed %d, step %d: %s writes %q %q\n%s", seed, step, w.subject+"/"+w.role, w.rows, w.filter, rules)
			}
		}
		l.end()
	}
	t.Log(said)
	for _, want := range []string{"1 0", "0 0", "2 0", "0 1", "forbidden", "conflict id"} {
		if said[want] < 3 {
			t.Errorf("hardly ever %q: the writes are no test", want)
		}
	}
}

// randomized is a write for both sides.
type randomized struct {
	subject, role string
	op            change.Op
	rows, filter  string
	sql           string
}

func (w *randomized) who() auth.Principal {
	return auth.Principal{Subject: w.subject, Role: w.role, Token: &auth.Token{Issuer: "i", Roles: []string{w.role}}}
}

func randomWrite(r *rand.Rand) *randomized {
	w := &randomized{subject: string("ab"[r.IntN(2)]), role: []string{"w_one", "w_two"}[r.IntN(2)]}
	id, n := r.IntN(8), r.IntN(6)
	owner := []string{"a", "b", w.subject, "w_one", ""}[r.IntN(5)]
	value, literal := `"`+owner+`"`, "'"+owner+"'"
	if owner == "" {
		value, literal = "null", "NULL"
	}
	where := fmt.Sprintf("id = %d", id)
	w.filter = fmt.Sprintf("id=eq.%d", id)
	if r.IntN(2) == 0 {
		where, w.filter = fmt.Sprintf("n >= %d", n), fmt.Sprintf("n=gte.%d", n)
	}
	switch r.IntN(10) {
	case 8, 9:
		w.op, w.filter = change.OpMerge, ""
		w.rows = fmt.Sprintf(`{"id":%d,"owner":%s,"n":%d}`, id, value, n)
		w.sql = fmt.Sprintf("INSERT INTO t VALUES (%d, %s, %d) ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, n = excluded.n", id, literal, n)
	case 0, 1, 2:
		w.op, w.filter = change.OpInsert, ""
		w.rows, w.sql = fmt.Sprintf(`{"id":%d,"owner":%s,"n":%d}`, id, value, n), fmt.Sprintf("INSERT INTO t VALUES (%d, %s, %d)", id, literal, n)
	case 3:
		w.op, w.filter = change.OpIgnore, ""
		w.rows, w.sql = fmt.Sprintf(`{"id":%d,"owner":%s,"n":%d}`, id, value, n), fmt.Sprintf("INSERT INTO t VALUES (%d, %s, %d) ON CONFLICT DO NOTHING", id, literal, n)
	case 4, 5:
		w.op, w.rows, w.sql = change.OpUpdate, fmt.Sprintf(`{"n":%d}`, n), fmt.Sprintf("UPDATE t SET n = %d WHERE %s", n, where)
	case 6:
		w.op, w.rows, w.sql = change.OpUpdate, fmt.Sprintf(`{"owner":%s}`, value), fmt.Sprintf("UPDATE t SET owner = %s WHERE %s", literal, where)
	case 7:
		w.op, w.sql = change.OpDelete, "DELETE FROM t WHERE "+where
	}
	return w
}

// inPostgres carries the write out as its caller and says what [life.put] would.
func (w *randomized) inPostgres(t *testing.T, pg *pgx.Conn) string {
	t.Helper()
	said := ""
	err := pgx.BeginFunc(context.WithoutCancel(t.Context()), pg, func(tx pgx.Tx) error {
		for _, text := range []string{"SET LOCAL test.subject = '" + w.subject + "'", "SET LOCAL test.role = '" + w.role + "'", "SET LOCAL ROLE " + w.role} {
			if _, err := tx.Exec(t.Context(), text); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(t.Context(), w.sql)
		said = fmt.Sprint(tag.RowsAffected(), " 0")
		if w.op == change.OpIgnore && tag.RowsAffected() == 0 {
			said = "0 1"
		}
		return err
	})
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "42501":
		return "forbidden"
	case errors.As(err, &refused) && refused.Code == "23505":
		return "conflict id"
	case err != nil:
		t.Fatalf("%s: %v", w.sql, err)
	}
	return said
}
