package sql

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"laaster/internal/expr"
)

// TestFunctionsAreAnAllowList: what an app or a policy may call is the list in testdata/functions.list, which is read when it changes (-update writes it): functions of their
// arguments, of the row and of the caller, none of which sees a file, the network, the process or another row.
func TestFunctionsAreAnAllowList(t *testing.T) {
	names := slices.Concat(aggregateNames(), windowNames(), expr.FunctionNames())
	slices.Sort(names)
	got := strings.Join(slices.Compact(names), "\n") + "\n"
	file := filepath.Join("testdata", "functions.list")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the functions are not those of %s: read what is new, and write the file with -update\n%s", file, difference(string(want), got))
	}
}

// difference lists the lines that are in one text alone.
func difference(was, is string) string {
	old, now := strings.Split(was, "\n"), strings.Split(is, "\n")
	var out []string
	for _, line := range old {
		if !slices.Contains(now, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

// TestExpressionsReachNothing: the rooms that compile and compute expressions link nothing that could open a file or a connection, start a program or load code.
func TestExpressionsReachNothing(t *testing.T) {
	allowed := []string{"net/url"} // escapes
	for _, dir := range []string{".", "syntax", filepath.Join("..", "expr"), filepath.Join("..", "flow")} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				root, _, _ := strings.Cut(path, "/")
				if slices.Contains([]string{"os", "net", "syscall", "plugin", "C", "embed"}, root) && !slices.Contains(allowed, path) && !(path == "embed" && strings.HasSuffix(dir, "expr")) {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}

// TestForeignFunctions: what PostgreSQL has to reach files, the network, settings, other sessions or time is refused wherever an expression may stand.
func TestForeignFunctions(t *testing.T) {
	const base = "CREATE TABLE t (a text PRIMARY KEY, n bigint);\n"
	places := func(call string) []string {
		return []string{
			"CREATE MATERIALIZED VIEW v AS SELECT a, " + call + " AS x FROM t;",
			"CREATE MATERIALIZED VIEW v AS SELECT a FROM t WHERE " + call + " = 'x';",
			"CREATE TABLE u (b text PRIMARY KEY DEFAULT " + call + ");",
			"CREATE TABLE u (b text PRIMARY KEY, CHECK (" + call + " = 'x'));",
			"ALTER TABLE t ENABLE ROW LEVEL SECURITY;\nCREATE POLICY p ON t USING (" + call + " = a);",
		}
	}
	for _, place := range places("upper('x')") {
		if p, found := Compile("app.sql", []byte(base+place), nil); p == nil {
			t.Errorf("refused: %s %v", place, found)
		}
	}
	for _, call := range []string{"pg_read_file('/etc/passwd')", "pg_read_binary_file('x')::text", "pg_ls_dir('/')", "pg_stat_file('x')::text", "lo_import('x')::text", "lo_export(1, 'x')::text",
		"pg_sleep(10)::text", "dblink('h', 'q')", "dblink_exec('h', 'q')", "current_setting('x')", "set_config('x', 'y', false)", "query_to_xml('q', true, true, '')::text",
		"pg_terminate_backend(1)::text", "pg_reload_conf()::text", "nextval('s')::text", "pg_advisory_lock(1)::text", "pg_notify('c', 'x')::text", "version()", "inet_server_addr()::text",
		"pg_backend_pid()::text", "txid_current()::text", "pg_logical_emit_message(true, 'a', 'b')::text", "xmlparse(document '<a/>')::text", "convert_from('x', 'UTF8')", "load_file('x')", "sys_exec('x')"} {
		for _, place := range places(call) {
			if p, found := Compile("app.sql", []byte(base+place), nil); p != nil || len(found) == 0 {
				t.Errorf("taken: %s", place)
			}
		}
	}
	for _, statement := range []string{"COPY t FROM '/etc/passwd';", "COPY t TO PROGRAM 'x';", "CREATE EXTENSION dblink;", "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x';", "DO $$ BEGIN END $$;",
		"CREATE LANGUAGE x;", "LOAD 'x';", "SET ROLE anon;", "CREATE FOREIGN TABLE f (a int) SERVER s;", "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f();", "CALL f();", "TRUNCATE t;"} {
		if p, found := Compile("app.sql", []byte(base+statement), nil); p != nil || len(found) == 0 {
			t.Errorf("taken: %s", statement)
		}
	}
}
