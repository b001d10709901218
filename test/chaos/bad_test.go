package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
	"laaster/internal/wire"
)

const doorSQL = `CREATE TABLE votes (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  contestant text NOT NULL CHECK (contestant IN ('A','B','C')),
  points     integer NOT NULL DEFAULT 1 CHECK (points BETWEEN 1 AND 12),
  extra      jsonb
) WITH (append_only);
CREATE TABLE rooms (name text PRIMARY KEY, size integer CHECK (size > 0), secret text);
CREATE TABLE hidden (id bigint PRIMARY KEY);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant;
GRANT INSERT, SELECT ON votes TO anon;
GRANT ALL ON rooms TO anon;
GRANT SELECT ON tally TO anon;
`

func appFolder(t *testing.T, sql string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(sql), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

type request struct {
	name, method, path, kind, body string
	status                         int
	code                           wire.Code
	field                          string // expected in the problem, when not empty
}

func do(t *testing.T, base string, r request) (int, []byte, http.Header) {
	t.Helper()
	q, err := http.NewRequest(r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if r.kind != "" {
		q.Header.Set("Content-Type", r.kind)
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	return a.StatusCode, b, a.Header
}

// TestBadRequests sends what no client should and looks for a typed answer that names the place and the remedy, and for
// state that is untouched afterwards.
func TestBadRequests(t *testing.T) {
	s := testkit.StartServer(t, appFolder(t, doorSQL), t.TempDir())
	js, nd := "application/json", "application/x-ndjson"
	deep := strings.Repeat("[", 100_000)
	big := `{"contestant":"A","extra":"` + strings.Repeat("x", 10<<20) + `"}`
	wide := `{"contestant":"A","extra":"` + strings.Repeat("x", 300<<10) + `"}`
	for _, r := range []request{
		{"broken JSON", "POST", "/v1/tables/votes", js, `{"contestant":`, 400, wire.InvalidJSON, ""},
		{"trailing comma", "POST", "/v1/tables/votes", js, `[{"contestant":"A"},]`, 400, wire.InvalidJSON, ""},
		{"two values", "POST", "/v1/tables/votes", js, `{"contestant":"A"}{"contestant":"A"}`, 400, wire.InvalidJSON, ""},
		{"empty body", "POST", "/v1/tables/votes", js, ``, 400, wire.InvalidJSON, ""},
		{"not an object", "POST", "/v1/tables/votes", js, `3`, 422, wire.InvalidRow, ""},
		{"wrong type", "POST", "/v1/tables/votes", js, `{"contestant":"A","points":"many"}`, 422, wire.InvalidRow, "points"},
		{"fraction for integer", "POST", "/v1/tables/votes", js, `{"contestant":"A","points":1.5}`, 422, wire.InvalidRow, "points"},
		{"out of range", "POST", "/v1/tables/votes", js, `{"contestant":"A","points":99999999999}`, 422, wire.InvalidRow, "points"},
		{"bad uuid", "POST", "/v1/tables/votes", js, `{"id":"x","contestant":"A"}`, 422, wire.InvalidRow, "id"},
		{"null", "POST", "/v1/tables/votes", js, `{"contestant":null}`, 422, wire.InvalidRow, "contestant"},
		{"missing", "POST", "/v1/tables/votes", js, `{}`, 422, wire.InvalidRow, "contestant"},
		{"check", "POST", "/v1/tables/votes", js, `{"contestant":"Z"}`, 422, wire.Constraint, ""},
		{"unknown column", "POST", "/v1/tables/votes", js, `{"contestant":"A","colour":1}`, 400, wire.UnknownColumn, "colour"},
		{"unknown table", "POST", "/v1/tables/nope", js, `{}`, 404, wire.UnknownTable, ""},
		{"a view is not a table", "POST", "/v1/tables/tally", js, `{}`, 404, wire.UnknownTable, ""},
		{"not granted", "POST", "/v1/tables/hidden", js, `{"id":1}`, 401, wire.Unauthenticated, ""},
		{"read not granted", "GET", "/v1/views/hidden", "", ``, 401, wire.Unauthenticated, ""},
		{"unknown view", "GET", "/v1/views/nope", "", ``, 404, wire.UnknownView, ""},
		{"unknown column in a filter", "GET", "/v1/views/tally?colour=eq.1", "", ``, 400, wire.UnknownColumn, "colour"},
		{"bad operator", "GET", "/v1/views/tally?votes=near.1", "", ``, 400, wire.BadFilter, ""},
		{"bad constant", "GET", "/v1/views/tally?votes=eq.x", "", ``, 400, wire.BadFilter, ""},
		{"unknown parameter", "POST", "/v1/tables/votes?_nope=1", js, `{"contestant":"A"}`, 400, wire.InvalidRequest, "_nope"},
		{"bad ack", "POST", "/v1/tables/votes?_ack=maybe", js, `{"contestant":"A"}`, 400, wire.InvalidRequest, "_ack"},
		{"10 MB", "POST", "/v1/tables/votes", js, big, 413, wire.TooLarge, ""},
		{"row too large", "POST", "/v1/tables/votes", js, wide, 413, wire.TooLarge, ""},
		{"deep nesting", "POST", "/v1/tables/votes", js, `{"contestant":"A","extra":` + deep, 400, wire.InvalidJSON, ""},
		{"invalid UTF-8", "POST", "/v1/tables/votes", js, "{\"contestant\":\"\xff\"}", 400, wire.InvalidJSON, ""},
		{"NUL in text", "POST", "/v1/tables/rooms", js, `{"name":"a\u0000b"}`, 422, wire.InvalidRow, "name"},
		{"content type", "POST", "/v1/tables/votes", "text/csv", `a,b`, 415, wire.InvalidRequest, "Content-Type"},
		{"atomic with a bad row", "POST", "/v1/tables/votes?_atomic=true", js, `[{"contestant":"A"},{"contestant":"Z"}]`, 422, wire.Constraint, ""},
		{"update without filter", "PATCH", "/v1/tables/rooms", js, `{"size":1}`, 400, wire.BadFilter, ""},
		{"update of append-only", "PATCH", "/v1/tables/votes?contestant=eq.A", js, `{"points":1}`, 0, "", ""},
		{"delete without filter", "DELETE", "/v1/tables/rooms", "", ``, 400, wire.BadFilter, ""},
		{"update of nothing", "PATCH", "/v1/tables/rooms?name=eq.x", js, `{}`, 422, wire.InvalidRow, ""},
		{"unknown path", "GET", "/v1/nope", "", ``, 404, wire.NotFound, ""},
		{"unknown page", "GET", "/nope.html", "", ``, 404, wire.NotFound, ""},
		{"folder escape", "GET", "/..%2f..%2fetc/passwd", "", ``, 404, wire.NotFound, ""},
		{"broken lines", "POST", "/v1/tables/votes", nd, "{\n{\"contestant\":\"Z\"}\n", 422, "", ""},
	} {
		status, body, header := do(t, s.URL, r)
		if r.status != 0 && status != r.status {
			t.Errorf("%s: status %d, want %d: %s", r.name, status, r.status, body)
			continue
		}
		if r.code == "" {
			continue
		}
		var p wire.Problem
		if err := json.Unmarshal(body, &p); err != nil || header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: not a problem: %v %s", r.name, err, body)
			continue
		}
		if p.Code != r.code || p.Status != r.status || p.Request == "" || p.Detail == "" || r.field != "" && p.Field != r.field {
			t.Errorf("%s: got %s, want code %s, field %q", r.name, body, r.code, r.field)
		}
	}
	if rows := get[map[string]any](t, s.URL+"/v1/views/votes"); len(rows) != 0 {
		t.Errorf("refused rows are in the table: %v", rows)
	}
	mixed := "{\"contestant\":\"A\"}\nnot json\n\n{\"contestant\":\"Z\"}\n{\"contestant\":\"B\"}\n"
	status, body, _ := do(t, s.URL, request{"mixed", "POST", "/v1/tables/votes", nd, mixed, 200, "", ""})
	var res wire.WriteResult
	if err := json.Unmarshal(body, &res); err != nil || status != 200 || res.Accepted != 2 || len(res.Rejected) != 2 ||
		res.Rejected[0].Index != 1 || res.Rejected[1].Index != 2 {
		t.Errorf("a bad line must refuse only itself: %d %s", status, body)
	}
	if rows := get[map[string]any](t, s.URL+"/v1/views/votes"); len(rows) != 2 {
		t.Errorf("want the two good rows, got %v", rows)
	}
}

// startFails runs the binary and returns what it says on its way out with exit code 1.
func startFails(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(testkit.Binary(t), append([]string{"run"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if !asExit(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v: ended with %v, want exit code 1\n%s", args, err, out.String())
	}
	return out.String()
}

func asExit(err error, to **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*to = e
	return ok
}

func wants(t *testing.T, name, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: the message lacks %q:\n%s", name, p, text)
		}
	}
}

// TestBadStarts starts the server where it cannot run: it ends with exit code 1 and says what to do.
func TestBadStarts(t *testing.T) {
	dir := appFolder(t, doorSQL)
	free := []string{"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
	with := func(more ...string) []string { return append(append([]string{}, more...), free...) }

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out := startFails(t, dir, "--data", t.TempDir(), "--listen", l.Addr().String(), "--admin", "127.0.0.1:0")
	wants(t, "port taken", out, "cannot take "+l.Addr().String(), "--listen", "address already in use")

	out = startFails(t, with(dir, "--data", "/proc/laaster-cannot-be-here")...)
	wants(t, "data not writable", out, "/proc/laaster-cannot-be-here")

	newer := t.TempDir()
	write(t, newer, "FORMAT", "laaster data folder, format 99\n")
	out = startFails(t, with(dir, "--data", newer)...)
	wants(t, "newer data", out, "99", "newer")

	odd := t.TempDir()
	write(t, odd, "holiday.jpg", "x")
	out = startFails(t, with(dir, "--data", odd)...)
	wants(t, "folder of something else", out, "holiday.jpg", "choose an empty folder")

	settings := appFolder(t, doorSQL)
	write(t, settings, "laaster.yaml", "listen: 127.0.0.1:0\nlisten_on: 3\n")
	out = startFails(t, with(settings, "--data", t.TempDir())...)
	wants(t, "unknown setting", out, "laaster.yaml:2:1", "listen_on", "hint")

	broken := appFolder(t, "CREATE TABLE t (a bigint);\nCREATE MATERIALIZED VIEW v AS SELECT b FROM t;\nCREATE TABLE u (x strange);\n")
	out = startFails(t, with(broken, "--data", t.TempDir())...)
	wants(t, "errors in app.sql", out, "app.sql:2:", "app.sql:3:", "^")

	out = startFails(t, with(t.TempDir(), "--data", t.TempDir())...)
	wants(t, "no app", out, "app.sql", "hint")
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestForeignLog swaps the store of another log in: the server must refuse to go on from it.
func TestForeignLog(t *testing.T) {
	dir := appFolder(t, doorSQL)
	folders := [2]string{t.TempDir(), t.TempDir()}
	for _, data := range folders {
		s := testkit.StartServer(t, dir, data)
		for i := range 3 {
			r := request{"write", "POST", "/v1/tables/votes", "application/json", fmt.Sprintf(`{"contestant":"A","points":%d}`, i+1), 200, "", ""}
			if status, body, _ := do(t, s.URL, r); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(folders[0], "store"), filepath.Join(folders[0], "own")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(folders[1], "store"), filepath.Join(folders[0], "store")); err != nil {
		t.Fatal(err)
	}
	out := startFails(t, dir, "--data", folders[0], "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	wants(t, "foreign log", out, "foreign", "data folder")

	if err := os.RemoveAll(filepath.Join(folders[0], "store")); err != nil {
		t.Fatal(err)
	}
	out = startFails(t, dir, "--data", folders[0], "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	wants(t, "wiped log", out, "shortened", "acknowledged")
}
