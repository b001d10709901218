package sql

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/app"
	"laaster/internal/kit/testkit"
	"laaster/internal/sql/syntax"
)

// TestPostgres runs every program of the scripts in a real PostgreSQL: it accepts what we accept, and gives the columns of
// views the same names and types, and checks the same names.
func TestPostgres(t *testing.T) {
	pg := testkit.Postgres(t)
	for _, input := range acceptedInputs(t) {
		if pg.Version < 16 && (strings.Contains(input, "0x") || strings.Contains(input, "1_000") || strings.Contains(input, "GROUP BY b) WHERE")) {
			continue // numbers with underscores and radix, and FROM (SELECT ..) without a name, came with 16
		}
		if slices.ContainsFunc([]string{"FROM tumble(", "FROM hop(", "FROM session(", "emit = ", "as_of("}, func(s string) bool { return strings.Contains(input, s) }) {
			continue // ours alone
		}
		t.Run("", func(t *testing.T) { runInPostgres(t, pg.Schema(t), input) })
	}
}

// acceptedInputs returns the inputs of the scripts that compile.
func acceptedInputs(t testing.TB) []string {
	files, _ := filepath.Glob("testdata/*.txt")
	var list []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(b), "\n\n") {
			for strings.HasPrefix(block, "#") {
				_, block, _ = strings.Cut(block, "\n")
			}
			in, _, ok := strings.Cut(block, "\n----")
			command, input, _ := strings.Cut(in, "\n")
			if !ok || !slices.Contains([]string{"compile", "define", "change", "catalog"}, command) {
				continue
			}
			if p, _ := Compile("app.sql", []byte(input), nil); p != nil {
				list = append(list, input)
			}
		}
	}
	if len(list) < 15 {
		t.Fatalf("only %d programs in the scripts", len(list))
	}
	return list
}

func runInPostgres(t *testing.T, conn *pgx.Conn, input string) {
	ctx := context.Background()
	exec := func(s string) {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("PostgreSQL refuses what we accept: %v\n%s", err, s)
		}
	}
	exec("CREATE FUNCTION auth_subject() RETURNS text LANGUAGE sql AS $$SELECT 'anon'$$")
	exec("CREATE FUNCTION first_of(anyelement, anyelement) RETURNS anyelement LANGUAGE sql AS $$SELECT $1$$")
	exec("CREATE FUNCTION counted(bigint, anyelement) RETURNS bigint LANGUAGE sql AS $$SELECT $1 + 1$$")
	exec("CREATE AGGREGATE any_value(anyelement) (SFUNC = first_of, STYPE = anyelement)") // came with 16
	exec("CREATE AGGREGATE approx_count_distinct(anyelement) (SFUNC = counted, STYPE = bigint)")
	// Inputs say public.t for a table without a schema.
	input = strings.ReplaceAll(input, "public.", "")
	list, errs := syntax.Parse(input)
	if len(errs) > 0 {
		t.Fatal(errs[0])
	}
	for _, s := range list {
		text := input[s.At().Pos:s.At().End]
		switch s := s.(type) {
		case *syntax.CreateTable:
			if len(s.Options) > 0 { // ours, which PostgreSQL does not know
				text = text[:strings.LastIndex(text, "WITH (")]
			}
			exec(text)
		case *syntax.CreateView:
			exec(text)
		}
	}
	p, _ := Compile("app.sql", []byte(input), nil)
	for _, v := range p.Definition.Views {
		compareColumns(t, conn, v.Name, v.Columns)
	}
	for _, table := range p.Definition.Tables {
		compareColumns(t, conn, table.Name, table.Columns)
		compareChecks(t, conn, table)
	}
}

func compareColumns(t *testing.T, conn *pgx.Conn, relation string, cols []app.Column) {
	rows, _ := conn.Query(context.Background(), `SELECT attname || ' ' || replace(format_type(atttypid, NULL), 'character varying', 'text')
		FROM pg_attribute WHERE attrelid = quote_ident($1)::regclass AND attnum > 0 ORDER BY attnum`, relation)
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i := range want { // json_agg gives jsonb here
		if strings.HasSuffix(want[i], " json") {
			want[i] += "b"
		}
		want[i] = strings.ReplaceAll(want[i], "timestamp without time zone", "timestamp")
	}
	var got []string
	for _, c := range cols {
		got = append(got, c.Name+" "+strings.ReplaceAll(c.Type.String(), "timestamptz", "timestamp with time zone"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("columns of %s\n ours       %q\n PostgreSQL %q", relation, got, want)
	}
}

func compareChecks(t *testing.T, conn *pgx.Conn, table *app.Table) {
	rows, _ := conn.Query(context.Background(), "SELECT conname::text FROM pg_constraint WHERE conrelid = quote_ident($1)::regclass AND contype = 'c'", table.Name)
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range table.Checks {
		got = append(got, c.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("checks of %s\n ours       %q\n PostgreSQL %q", table.Name, got, want)
	}
}
