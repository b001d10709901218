package node

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"laaster/internal/audit"
	"laaster/internal/kit/run"
)

const auditedSQL = `CREATE TABLE secrets (name text PRIMARY KEY, v text) WITH (audit);
CREATE TABLE hidden (name text PRIMARY KEY) WITH (audit);
CREATE TABLE plain (name text PRIMARY KEY);
GRANT SELECT, INSERT ON secrets TO anon;
GRANT INSERT ON hidden TO anon;
GRANT SELECT ON plain, laaster.audit TO anon;
`

// treeOf lists the files of a folder with their sizes, times and contents.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %d %s %x\n", path, len(data), info.ModTime(), sha256.Sum256(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// acts reads the trail of a folder that no server has open, and checks it.
func acts(t *testing.T, dir string, o AuditOptions) (out []string) {
	t.Helper()
	o.Dir, o.Node = dir, Options{Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)}
	o.Each = func(r *audit.Record) {
		var a audit.Act
		if err := json.Unmarshal(r.Act, &a); err != nil {
			t.Error(err)
		}
		out = append(out, a.Subject+" "+a.Act+" "+a.Object+" "+a.Outcome)
	}
	before := treeOf(t, o.Settings.Data)
	r, unasked, err := VerifyAudit(t.Context(), o)
	if after := treeOf(t, o.Settings.Data); after != before {
		t.Errorf("verifying changed the data folder:\n%s\nwas:\n%s", after, before)
	}
	if err != nil || unasked != "" || len(r.Problems) > 0 || r.Logged != len(out) {
		t.Fatalf("%+v, %q, %v", r, unasked, err)
	}
	return out
}

// TestAccessIsRecorded reads a table that asks for it over every transport: each read and each subscription is one record, refused ones too.
func TestAccessIsRecorded(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	writeApp(t, dir, auditedSQL)
	l := start(t, dir, s)
	if r := l.write("POST", "/v1/tables/secrets", `{"name":"a","v":"b"}`); r.Ack != "durable" {
		t.Errorf("the answer does not say what it promises: %+v", r)
	}
	l.expect("/v1/views/plain", `[]`)
	l.expect("/v1/views/secrets", `[{"name":"a","v":"b"}]`)
	for _, path := range []string{"/v1/views/hidden", "/v1/views/nothing"} {
		if status, text, _ := l.call("GET", path, ""); status == http.StatusOK {
			t.Errorf("%s: %s", path, text)
		}
	}
	next, done := l.stream("/v1/views/secrets", "")
	next()
	done()
	w := l.watch("", "secrets", "hidden", "plain")
	w.until(func() bool {
		return w.views["secrets"].snapshots > 0 && w.views["hidden"].problem != "" && w.views["plain"].snapshots > 0
	})
	l.write("POST", "/v1/tables/secrets", `{"name":"c"}`)                              // behind the records: they are in the system table now
	l.expect("/v1/views/laaster.audit?act=eq.read&select=object,outcome&order=number", // one for each of the above
		`[{"object":"secrets","outcome":"done"},{"object":"hidden","outcome":"refused"},{"object":"secrets","outcome":"done"},
		  {"object":"secrets","outcome":"done"},{"object":"hidden","outcome":"refused"}]`)
	l.change(auditedSQL + "GRANT SELECT ON hidden TO anon;\n") // which checks subscriptions again: nobody asks for anything
	_ = w.conn.Close()
	l.end()
	got := acts(t, dir, AuditOptions{Settings: s})
	reads := slices.DeleteFunc(slices.Clone(got), func(a string) bool { return !strings.Contains(a, " read ") })
	want := []string{"anon read secrets done", "anon read hidden refused", "anon read secrets done", "anon read secrets done", "anon read hidden refused"}
	if !slices.Equal(reads, want) {
		t.Errorf("reads:\n%s", strings.Join(reads, "\n"))
	}
	begun := slices.IndexFunc(got, func(a string) bool { return strings.HasPrefix(a, "operator deploy ") && strings.HasSuffix(a, " begun") })
	if begun < 0 || !slices.ContainsFunc(got[begun:], func(a string) bool { return strings.HasPrefix(a, "operator deploy ") && strings.HasSuffix(a, " done") }) {
		t.Errorf("the deployment is not recorded:\n%s", strings.Join(got, "\n"))
	}
	s.Durability = "memory" // the settings of another time: the folder is verified all the same
	if again := acts(t, dir, AuditOptions{Settings: s}); !slices.Equal(again, got) {
		t.Errorf("with durability: memory %d records", len(again))
	}
	if _, _, err := VerifyAudit(t.Context(), AuditOptions{Dir: dir, Settings: settingsFor(filepath.Join(dir, "none"), "embedded")}); err == nil {
		t.Error("a data folder that is not there was verified")
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("verifying made a data folder")
	}
}

// TestUnrecorded: an act that cannot be recorded is not done.
func TestUnrecorded(t *testing.T) {
	dir, s := t.TempDir(), settingsFor("", "memory")
	s.Limits.MemoryLog = 1 << 20
	writeApp(t, dir, auditedSQL)
	l := start(t, dir, s)
	for i := 0; ; i++ {
		status, text, _ := l.call("POST", "/v1/tables/secrets", fmt.Sprintf(`{"name":"%d","v":"%s"}`, i, strings.Repeat("x", 100_000)))
		if status != http.StatusOK {
			break
		}
		if i > 20 {
			t.Fatal(text)
		}
	}
	was := l.n.Program()
	p, err := l.n.Deploy(t.Context(), "app.sql", []byte(auditedSQL+"GRANT SELECT ON hidden TO anon;\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "audit trail") {
		t.Errorf("%+v, %v", p, err)
	}
	if l.n.Program() != was {
		t.Error("the app has changed")
	}
	_ = l.n.stop() // the log has failed
}
