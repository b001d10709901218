package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

const votesSQL = `CREATE TABLE votes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), contestant text NOT NULL, points integer NOT NULL DEFAULT 1
) WITH (append_only);
CREATE TABLE rooms (name text PRIMARY KEY, size integer NOT NULL CHECK (size > 0), note text);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant;
GRANT INSERT ON votes TO anon;
GRANT ALL ON rooms TO anon;
GRANT SELECT ON tally TO anon;
`

// life is one running node of a test.
type life struct {
	t    *testing.T
	n    *Node
	stop context.CancelFunc
	url  string
}

func writeApp(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func settingsFor(data, backbone string) app.Settings {
	s := app.DefaultSettings()
	s.Listen, s.Admin, s.Data, s.Backbone = "127.0.0.1:0", "127.0.0.1:0", data, backbone
	return s
}

func tryStart(t *testing.T, dir string, s app.Settings) (*life, error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	n, err := Start(ctx, Options{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		stop()
		return nil, err
	}
	return &life{t, n, stop, n.PublicURL()}, nil
}

func start(t *testing.T, dir string, s app.Settings) *life {
	t.Helper()
	l, err := tryStart(t, dir, s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// end stops the node gracefully.
func (l *life) end() {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.n.Wait(ctx); err != nil {
		l.t.Errorf("stop: %v", err)
	}
	l.stop()
}

func (l *life) call(method, path, body string, header ...string) (int, string, http.Header) {
	l.t.Helper()
	q, err := http.NewRequest(method, l.url+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return r.StatusCode, string(b), r.Header
}

// write sends rows and returns the answer.
func (l *life) write(method, path, body string, header ...string) wire.WriteResult {
	l.t.Helper()
	status, text, _ := l.call(method, path, body, header...)
	var res wire.WriteResult
	if err := json.Unmarshal([]byte(text), &res); err != nil || status != http.StatusOK {
		l.t.Fatalf("%s %s %s: %d %s", method, path, body, status, text)
	}
	return res
}

// expect compares the rows of a read with JSON, one space or line more or less.
func (l *life) expect(path, want string) {
	l.t.Helper()
	status, text, _ := l.call("GET", path, "")
	var a, b any
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		l.t.Fatalf("%s: %d %s", path, status, text)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		l.t.Fatal(err)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if !bytes.Equal(x, y) {
		l.t.Errorf("%s:\n got %s\nwant %s", path, x, y)
	}
}

// stream opens an SSE stream and returns a function that reads its next event.
func (l *life) stream(path, lastID string) (next func() (event, data, id string), done func()) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	q, err := http.NewRequestWithContext(ctx, "GET", l.url+path, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	q.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		q.Header.Set("Last-Event-ID", lastID)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		l.t.Fatal(err)
	}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 4<<20)
	return func() (event, data, id string) {
		l.t.Helper()
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				event = value
			case "data":
				data = value
			case "id":
				id = value
			case "":
				if event != "" {
					return event, data, id
				}
			}
		}
		l.t.Fatalf("the stream ended: %v", lines.Err())
		return
	}, func() { cancel(); _ = r.Body.Close() }
}

// backbones names every driver; the external one is a server of its own in this process.
func backbones(t *testing.T) map[string]string {
	t.Helper()
	ns, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		MaxPayload: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the external server did not start")
	}
	return map[string]string{"embedded": "embedded", "memory": "memory", "external": ns.ClientURL()}
}

// TestEveryDriver runs the same conversation on each driver: write in all forms, read, follow, stop, and, where the log
// outlives the process, start again and resume.
func TestEveryDriver(t *testing.T) {
	for name, backbone := range backbones(t) {
		t.Run(name, func(t *testing.T) {
			dir, folder := t.TempDir(), t.TempDir()
			writeApp(t, dir, votesSQL)
			l := start(t, dir, settingsFor(folder, backbone))
			id := converse(t, l)
			l.end()
			if backbone == "memory" {
				return
			}
			l = start(t, dir, settingsFor(folder, backbone))
			l.expect("/v1/views/tally", `[{"contestant":"A","votes":3,"points":6},{"contestant":"B","votes":1,"points":1}]`)
			next, done := l.stream("/v1/views/tally", id)
			if event, data, _ := next(); event != "resumed" {
				t.Errorf("after the restart the stream answers %s %s, want resumed", event, data)
			}
			l.write("POST", "/v1/tables/votes", `{"contestant":"B"}`)
			event, data, _ := next()
			for event == "epoch" && !strings.Contains(data, "put") { // what was written after the cursor changed other views
				event, data, _ = next()
			}
			if event != "epoch" || !strings.Contains(data, `"votes":2`) {
				t.Errorf("got %s %s", event, data)
			}
			done()
			// The stored answer survives the restart too.
			again := l.write("POST", "/v1/tables/votes", `[{"contestant":"A","points":5},{"contestant":"B"}]`, "Idempotency-Key", "k1")
			if again.Accepted != 2 || again.Position == "" {
				t.Errorf("the repeat was answered %+v", again)
			}
			l.expect("/v1/views/tally?contestant=eq.A", `[{"contestant":"A","votes":3,"points":6}]`)
			l.end()
		})
	}
}

// converse writes, reads and follows; it returns the position that the follower had last.
func converse(t *testing.T, l *life) string {
	next, done := l.stream("/v1/views/tally", "")
	defer done()
	if event, data, _ := next(); event != "snapshot" || !strings.Contains(data, `"rows":[]`) {
		t.Errorf("got %s %s", event, data)
	}
	one := l.write("POST", "/v1/tables/votes", `{"contestant":"A"}`)
	if one.Accepted != 1 || !one.Final {
		t.Errorf("%+v", one)
	}
	l.expect("/v1/views/tally?_after="+one.Position, `[{"contestant":"A","votes":1,"points":1}]`)
	if event, data, id := next(); event != "epoch" || !strings.Contains(data, `"put":[{"contestant":"A","votes":1,"points":1}]`) || id != one.Position {
		t.Errorf("got %s %s %s", event, data, id)
	}
	first := l.write("POST", "/v1/tables/votes", `[{"contestant":"A","points":5},{"contestant":"B"}]`, "Idempotency-Key", "k1")
	again := l.write("POST", "/v1/tables/votes", `[{"contestant":"A","points":5},{"contestant":"B"}]`, "Idempotency-Key", "k1")
	if first.Accepted != 2 || again.Accepted != 2 || first.Position != again.Position {
		t.Errorf("first %+v, repeated %+v", first, again)
	}
	if status, text, _ := l.call("POST", "/v1/tables/votes", `{"contestant":"C"}`, "Idempotency-Key", "k1"); status != http.StatusConflict {
		t.Errorf("another body under the same key: %d %s", status, text)
	}
	next()
	twice := `{"id":"11111111-1111-4111-8111-111111111111","contestant":"A","points":0}`
	if r := l.write("POST", "/v1/tables/votes", twice); r.Accepted != 1 {
		t.Errorf("%+v", r)
	}
	if r := l.write("POST", "/v1/tables/votes", twice); r.Duplicates != 1 || r.Accepted != 0 {
		t.Errorf("the same id twice: %+v", r)
	}
	_, _, id := next()
	keyed(t, l)
	return id
}

// keyed writes to a table whose rows change.
func keyed(t *testing.T, l *life) {
	l.write("POST", "/v1/tables/rooms", `[{"name":"red","size":1},{"name":"blue","size":2,"note":"n"}]`)
	if status, text, _ := l.call("POST", "/v1/tables/rooms", `{"name":"red","size":9}`); status != http.StatusConflict {
		t.Errorf("an existing key: %d %s", status, text)
	}
	if r := l.write("POST", "/v1/tables/rooms?on_conflict=ignore", `{"name":"red","size":9}`); r.Duplicates != 1 {
		t.Errorf("ignore: %+v", r)
	}
	l.write("POST", "/v1/tables/rooms?on_conflict=merge", `[{"name":"blue","size":7},{"name":"green","size":3}]`)
	if r := l.write("POST", "/v1/tables/rooms?on_conflict=merge", "{\"name\":\"blue\",\"size\":7}\n{\"name\":\"green\",\"size\":3}\n", "Content-Type", "application/x-ndjson"); r.Accepted != 2 {
		t.Errorf("merge by lines: %+v", r)
	}
	if r := l.write("PATCH", "/v1/tables/rooms?size=gte.3", `{"note":"big"}`); r.Accepted != 2 {
		t.Errorf("patch: %+v", r)
	}
	if status, text, _ := l.call("PATCH", "/v1/tables/rooms?name=eq.red", `{"size":-1}`); status != 422 || !strings.Contains(text, "constraint") {
		t.Errorf("a patch against a check: %d %s", status, text)
	}
	if r := l.write("DELETE", "/v1/tables/rooms?name=eq.green", ""); r.Accepted != 1 {
		t.Errorf("delete: %+v", r)
	}
	if status, _, _ := l.call("POST", "/v1/tables/rooms?_atomic=true", `[{"name":"x","size":1},{"name":"red","size":1}]`); status == http.StatusOK {
		t.Error("an atomic write with a conflict was accepted")
	}
	l.expect("/v1/views/rooms", `[{"name":"blue","size":7,"note":"big"},{"name":"red","size":1,"note":null}]`)
}

// TestEditingAnApp changes app.sql between starts.
func TestEditingAnApp(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
	writeApp(t, dir, votesSQL)
	l := start(t, dir, s)
	l.write("POST", "/v1/tables/votes", `[{"contestant":"A","points":5},{"contestant":"B"},{"contestant":"A"}]`)
	l.write("POST", "/v1/tables/rooms", `{"name":"red","size":1}`)
	next, done := l.stream("/v1/views/tally", "")
	_, _, id := next()
	done()
	l.end()

	writeApp(t, dir, strings.Replace(votesSQL, "points integer NOT NULL DEFAULT 1", "points integer NOT NULL DEFAULT 1,\n  colour text, weight integer NOT NULL DEFAULT 7", 1)+
		`CREATE MATERIALIZED VIEW colours AS SELECT colour, sum(weight) AS weight FROM votes GROUP BY colour;
CREATE MATERIALIZED VIEW best AS SELECT contestant, points FROM tally ORDER BY points DESC LIMIT 1;
GRANT SELECT ON colours, best TO anon;
`)
	l = start(t, dir, s)
	l.expect("/v1/views/colours", `[{"colour":null,"weight":21}]`)
	l.expect("/v1/views/best", `[{"contestant":"A","points":6}]`)
	l.write("POST", "/v1/tables/votes", `{"contestant":"B","colour":"red"}`)
	l.expect("/v1/views/colours", `[{"colour":"red","weight":7},{"colour":null,"weight":21}]`)
	next, done = l.stream("/v1/views/tally", id)
	if event, data, _ := next(); event != "resumed" && event != "epoch" {
		t.Errorf("a view that did not change answers an old cursor with %s %s", event, data)
	}
	done()
	next, done = l.stream("/v1/views/colours", id)
	if event, data, _ := next(); event == "resumed" {
		t.Errorf("a view that is younger than the cursor answers %s %s", event, data)
	}
	done()
	l.end()

	for what, text := range map[string]string{
		"a dropped column":     strings.Replace(votesSQL, ", note text", "", 1),
		"another type":         strings.Replace(votesSQL, "points integer", "points bigint", 1),
		"a dropped table":      strings.Replace(strings.Replace(votesSQL, "CREATE TABLE rooms (name text PRIMARY KEY, size integer NOT NULL CHECK (size > 0), note text);", "", 1), "GRANT ALL ON rooms TO anon;", "", 1),
		"a column without way": strings.Replace(votesSQL, ", note text", ", note text, must text NOT NULL", 1),
		"another check":        strings.Replace(votesSQL, "size > 0", "size > 5", 1),
	} {
		writeApp(t, dir, text)
		l, err := tryStart(t, dir, s)
		if err == nil {
			t.Errorf("%s was not refused", what)
			l.end()
			continue
		}
		if !strings.Contains(err.Error(), "hint") {
			t.Errorf("%s: the refusal has no remedy: %v", what, err)
		}
	}
}

// TestGrants: nothing is allowed that is not granted, on any way in.
func TestGrants(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL+"CREATE TABLE secret (id bigint PRIMARY KEY);\nCREATE TABLE blind (id bigint PRIMARY KEY);\nGRANT INSERT, UPDATE, DELETE ON blind TO anon;\nCREATE MATERIALIZED VIEW inner_view AS SELECT count(*) AS n FROM secret;\n")
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/tables/secret", `{"id":1}`}, {"PATCH", "/v1/tables/secret?id=eq.1", `{"id":2}`}, {"DELETE", "/v1/tables/secret?id=eq.1", ""},
		{"POST", "/v1/tables/secret?on_conflict=merge", `{"id":1}`}, {"GET", "/v1/views/secret", ""}, {"GET", "/v1/views/inner_view", ""},
		{"PATCH", "/v1/tables/blind?id=eq.1", `{"id":2}`}, {"DELETE", "/v1/tables/blind?id=eq.1", ""}, // the count would tell
		{"GET", "/v1/views/votes", ""}, // granted to insert, not to select
	} {
		if status, text, _ := l.call(c.method, c.path, c.body); status != http.StatusUnauthorized {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
	if status, _, _ := l.call("GET", "/v1/views/inner_view", "", "Accept", "text/event-stream"); status != http.StatusUnauthorized {
		t.Errorf("SSE on what is not granted: %d", status)
	}
	if status, _, _ := l.call("GET", "/v1/views/tally", "", "Authorization", "Bearer x"); status != http.StatusUnauthorized {
		t.Errorf("a token that cannot be verified must not be ignored: %d", status)
	}
	if status, _, _ := l.call("GET", "/v1/views/tally", "", "Origin", "https://evil.example"); status != http.StatusForbidden {
		t.Errorf("a foreign origin: %d", status)
	}
}

// TestDrain: live clients are told to come back, and the process has no goroutine of ours left.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	next, done := l.stream("/v1/views/tally", "")
	defer done()
	next()
	told := make(chan string, 1)
	g := run.New(t.Context())
	g.Go("reader", func(context.Context) error {
		for {
			event, data, _ := next()
			if event == "goodbye" {
				told <- data
				return nil
			}
		}
	})
	l.end()
	if data := <-told; !strings.Contains(data, "draining") || !strings.Contains(data, "retry_after_ms") {
		t.Errorf("goodbye %s", data)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if left := l.n.group.Running(); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// TestErrorTypesLead: the type of every problem is a page that says what it means.
func TestErrorTypesLead(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	for _, c := range wire.Codes() {
		if status, text, _ := l.call("GET", wire.NewProblem(c.Code, "").Type, ""); status != http.StatusOK || !strings.Contains(text, c.Title) {
			t.Errorf("%s: %d %s", c.Code, status, text)
		}
	}
}

// TestEarlyAck: _ack=logged answers with final false, and the rows are there in the end.
func TestEarlyAck(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	r := l.write("POST", "/v1/tables/votes?_ack=logged", `[{"contestant":"A"},{"contestant":"A"}]`)
	if r.Final || r.Accepted != 2 {
		t.Errorf("%+v", r)
	}
	l.expect("/v1/views/tally?_after="+r.Position, `[{"contestant":"A","votes":2,"points":2}]`)
	if r := l.write("POST", "/v1/tables/rooms?_ack=logged", `{"name":"x","size":1}`); !r.Final {
		t.Errorf("a keyed table always answers the final outcome: %+v", r)
	}
	if status, text, _ := l.call("GET", fmt.Sprintf("/v1/views/tally?_after=%s9&_wait=50", r.Position), ""); status != http.StatusGatewayTimeout {
		t.Errorf("a position that is not there yet: %d %s", status, text)
	}
}
