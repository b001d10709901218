package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/sql"
)

func appWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const goodSQL = "CREATE TABLE t (id bigint PRIMARY KEY);\nGRANT ALL ON t TO anon;\n"

// TestCommandLine: what each call prints, where, and with which exit code.
func TestCommandLine(t *testing.T) {
	good := appWith(t, map[string]string{"app.sql": goodSQL})
	bad := appWith(t, map[string]string{"app.sql": "CREATE TABLE t (id strange, other odd);\n", "laaster.yaml": "listen: 0.0.0.0:80\nfoo: 1\nlimits:\n  row: 9MiB\n"})
	for _, c := range []struct {
		args     []string
		code     int
		out, err []string // parts; nil: nothing is printed there
	}{
		{nil, 2, nil, []string{"Usage: laaster", "Examples"}},
		{[]string{"--help"}, 0, []string{"Usage: laaster", "Examples", "Exit codes"}, nil},
		{[]string{"run", "--help"}, 0, []string{"Examples", "--listen", "--data"}, nil},
		{[]string{"check", "--help"}, 0, []string{"Examples", "--json"}, nil},
		{[]string{"version"}, 0, []string{"laaster " + version}, nil},
		{[]string{"key", "my-key"}, 0, []string{"my-key "}, nil},
		{[]string{"key", "my key"}, 1, nil, []string{"my key", "a-z"}},
		{[]string{"frob"}, 2, nil, []string{"frob", "hint"}},
		{[]string{"run"}, 2, nil, []string{"<app>", "hint"}},
		{[]string{"run", good, "--nope"}, 2, nil, []string{"--nope", "hint"}},
		{[]string{"run", good, "--log-level", "loud"}, 2, nil, []string{"--log-level"}},
		{[]string{"run", good, "--listen", "xx"}, 1, nil, []string{"listen", "host:port"}},
		{[]string{"run", filepath.Join(good, "nope")}, 1, nil, []string{"there is no such folder", "hint"}},
		{[]string{"run", t.TempDir()}, 1, nil, []string{"no app.sql", "hint"}},
		{[]string{"run", bad}, 1, nil, []string{"laaster.yaml:1:9", "laaster.yaml:2:1", "laaster.yaml:4:8"}},
		{[]string{"check", good}, 0, []string{"no errors\n"}, nil},
		{[]string{"check", good, "--json"}, 0, []string{"[]\n"}, nil},
		{[]string{"check", "../../examples/cursors"}, 0, []string{"no errors\n", "  channel pointers key (connection) ttl 30s\n  presence here key (connection) ttl 5s list-up-to 20\n"}, nil},
		{[]string{"check", filepath.Join(good, "nope")}, 1, nil, []string{"there is no such folder"}},
		{[]string{"check", bad}, 1, []string{"laaster.yaml:1:9: error: listen", "laaster.yaml:2:1: error: unknown key \"foo\"", "laaster.yaml:4:8: error: limits.row",
			"\n  4 |   row: 9MiB\n    |        ^^^^\n", "app.sql:1:20: error", "app.sql:1:35: error", "^^^\n"}, nil},
	} {
		var out, errs bytes.Buffer
		if code := Main(c.args, &out, &errs); code != c.code {
			t.Errorf("%q: exit code %d, want %d\n%s%s", c.args, code, c.code, out.String(), errs.String())
		}
		prints(t, c.args, "stdout", out.String(), c.out)
		prints(t, c.args, "stderr", errs.String(), c.err)
	}
}

func prints(t *testing.T, args []string, where, text string, parts []string) {
	t.Helper()
	if len(parts) == 0 && text != "" {
		t.Errorf("%q: unexpected on %s: %s", args, where, text)
	}
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q: %s lacks %q:\n%s", args, where, p, text)
		}
	}
	if strings.ContainsAny(text, "\r\x1b") {
		t.Errorf("%q: %s is for a terminal: %q", args, where, text)
	}
}

// TestCheckJSON: programs read the findings of both files.
func TestCheckJSON(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": "CREATE TABLE t (id strange);\n", "laaster.yaml": "# settings\nlimits:\n  rows: 1\n"})
	var out, errs bytes.Buffer
	if code := Main([]string{"check", dir, "--json"}, &out, &errs); code != exitFailed || errs.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, errs.String())
	}
	var found []sql.Diagnostic
	if err := json.Unmarshal(out.Bytes(), &found); err != nil || len(found) != 2 {
		t.Fatalf("%v %s", err, out.String())
	}
	if d := found[0]; filepath.Base(d.File) != "laaster.yaml" || d.Line != 3 || d.Col != 3 || d.Severity != sql.Error || d.Hint == "" || d.Excerpt != "  rows: 1" {
		t.Errorf("%+v", d)
	}
	if d := found[1]; filepath.Base(d.File) != "app.sql" || d.Line != 1 || d.Col != 20 {
		t.Errorf("%+v", d)
	}
}
