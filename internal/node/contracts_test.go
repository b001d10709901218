package node

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"

	"laaster/internal/kit/run"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

const readingsSQL = `CREATE TABLE readings (id bigint PRIMARY KEY, data jsonb NOT NULL) WITH (append_only, schema = 'schemas/reading.json', owner = 'sensors');
CREATE TABLE devices (name text PRIMARY KEY, setup jsonb DEFAULT '{}') WITH (schema = 'schemas/setup.json');
CREATE MATERIALIZED VIEW heat WITH (owner = 'screens') AS SELECT data->>'room' AS room, count(*) AS n FROM readings GROUP BY 1;
GRANT INSERT, SELECT ON readings TO anon;
GRANT ALL ON devices TO anon;
GRANT SELECT ON heat TO anon;
`

const (
	readingSchema = `{"type": "object", "required": ["room"], "additionalProperties": false,
  "properties": {"room": {"type": "string", "maxLength": 8}, "values": {"type": "array", "items": {"type": "integer", "maximum": 100}}}}`
	setupSchema = `{"type": "object", "properties": {"every": {"type": "integer", "minimum": 1}}}`
)

func writeSchema(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "schemas"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "schemas", name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// send deploys what is in a folder, with its files, as the command does.
func (l *life) send(dir, path string) *Plan {
	l.t.Helper()
	src, files, err := ReadSource(dir)
	if err != nil {
		l.t.Fatal(err)
	}
	body, err := json.Marshal(Sent{Source: string(src.SQL), Files: files})
	if err != nil {
		l.t.Fatal(err)
	}
	r, err := http.Post(l.n.AdminURL()+path, AppType, strings.NewReader(string(body)))
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Body.Close()
	d := json.NewDecoder(r.Body)
	if path == "/v1/check" {
		p := &Plan{}
		if err := d.Decode(p); err != nil {
			l.t.Fatal(err)
		}
		return p
	}
	for {
		var e DeployEvent
		if err := d.Decode(&e); err != nil || e.Error != "" {
			l.t.Fatalf("%v %s", err, e.Error)
		}
		if e.Plan != nil {
			return e.Plan
		}
	}
}

// TestContracts: jsonb values follow their schemas whatever the way in; a wider schema takes effect live, a narrower one is refused and names who would break;
// a restart knows every schema that the log's rows were written under.
func TestContracts(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
	writeApp(t, dir, readingsSQL)
	writeSchema(t, dir, "reading.json", readingSchema)
	writeSchema(t, dir, "setup.json", setupSchema)
	if found, err := Check(dir); err != nil || len(found) != 0 {
		t.Fatalf("%v %+v", err, found)
	}
	l := start(t, dir, s)
	refused := func(method, path, body, field, hint string) {
		t.Helper()
		status, text, _ := l.call(method, path, body)
		var p wire.Problem
		if err := json.Unmarshal([]byte(text), &p); err != nil || status != http.StatusUnprocessableEntity || p.Code != wire.InvalidRow || p.Field != field || !strings.Contains(p.Hint, hint) {
			t.Errorf("%s %s %s: %d %s", method, path, body, status, text)
		}
	}
	const readings, devices = "/v1/tables/readings", "/v1/tables/devices"
	l.write("POST", readings, `{"id": 1, "data": {"room": "attic", "values": [1, 2]}}`)
	refused("POST", readings, `{"id": 2, "data": {"room": "attic", "values": [1, 101]}}`, "data/values/1", "schemas/reading.json asks for it at /properties/values/items/maximum")
	refused("POST", readings, `{"id": 2, "data": {}}`, "data", "/required")
	refused("POST", readings, `{"id": 2, "data": 5}`, "data", "/type")
	if r := l.write("POST", readings, `[{"id": 2, "data": {"room": "hall"}}, {"id": 3, "data": {"hall": 1}}]`); r.Accepted != 1 || len(r.Rejected) != 1 || r.Rejected[0].Error.Field != "data" {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct{ kind, body string }{
		{"application/x-ndjson", `{"id": 3, "data": {"hall": 1}}` + "\n"},
		{"application/cloudevents+json", `{"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": {"id": 3, "data": {"hall": 1}}}`},
		{"application/cloudevents-batch+json", `[{"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": {"id": 3, "data": {"hall": 1}}}]`},
	} {
		if status, text, _ := l.call("POST", readings, c.body, "Content-Type", c.kind); status != http.StatusUnprocessableEntity || !strings.Contains(text, `"field":"data"`) {
			t.Errorf("%s: %d %s", c.kind, status, text)
		}
	}
	ws := l.watch("")
	ws.send(`{"type":"write","id":"w","table":"readings","rows":[{"id":3,"data":{"hall":1}}]}`)
	for answer := ""; answer == ""; {
		text, err := wsutil.ReadServerText(ws.conn)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"id":"w"`) {
			if answer = string(text); !strings.Contains(answer, `"field":"data"`) || !strings.Contains(answer, "invalid_row") {
				t.Error(answer)
			}
		}
	}
	_ = ws.conn.Close()
	l.write("POST", devices, `{"name": "a"}`)
	l.write("POST", devices, `{"name": "b", "setup": null}`)
	refused("POST", devices+"?on_conflict=merge", `{"name": "a", "setup": {"every": 0}}`, "setup/every", "/properties/every/minimum")
	refused("PATCH", devices+"?name=eq.a", `{"setup": {"every": "x"}}`, "setup/every", "/properties/every/type")
	l.write("PATCH", devices+"?name=eq.a", `{"setup": {"every": 5}}`)
	l.expect("/v1/views/devices?order=name", `[{"name": "a", "setup": {"every": 5}}, {"name": "b", "setup": null}]`)

	writeSchema(t, dir, "reading.json", strings.Replace(readingSchema, `"maximum": 100`, `"maximum": 50`, 1))
	x := l.watch("", "heat")
	x.until(func() bool { return x.views["heat"].rows != nil })
	for _, path := range []string{"/v1/check", "/v1/deploy"} {
		p := l.send(dir, path)
		text := p.Text()
		for _, want := range []string{"refused: ", "! table readings, schema of data against version 1, /values/*: maximum 100 → maximum 50",
			`writers of readings: anon, owner sensors; of late "anon" as anon (`, "readers of heat: anon, owner screens, 1 live now", "readers of readings: anon, 0 live now"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q:\n%s", path, want, text)
			}
		}
		if p.Verdict != verdictRefused || sql.Forcible(p.Differences) {
			t.Errorf("%+v", p)
		}
	}
	writeSchema(t, dir, "reading.json", strings.Replace(readingSchema, `"maximum": 100`, `"maximum": 200`, 1))
	if p := l.send(dir, "/v1/deploy"); p.Verdict != verdictCompatible || p.Position == "" {
		t.Errorf("%+v", p)
	}
	l.write("POST", readings, `{"id": 2, "data": {"room": "hall"}}`) // it is there
	l.write("POST", readings, `{"id": 4, "data": {"room": "attic", "values": [150]}}`)
	refused("POST", readings, `{"id": 5, "data": {"room": "attic", "values": [201]}}`, "data/values/0", "maximum")
	x.until(func() bool { return x.at >= l.n.applied.Load() })
	if n := x.views["heat"].snapshots; n != 1 {
		t.Errorf("the rows of a view were sent %d times", n)
	}
	_ = x.conn.Close()
	want := `[{"room": "attic", "n": 2}, {"room": "hall", "n": 1}]`
	l.expect("/v1/views/heat?order=room", want)
	l.end()

	// A start compares with both versions.
	writeSchema(t, dir, "reading.json", strings.Replace(readingSchema, `"maximum": 100`, `"maximum": 150`, 1))
	if _, err := tryStart(t, dir, s); err == nil || !strings.Contains(err.Error(), "against version 2, /values/*: maximum 200 → maximum 150") || !strings.Contains(err.Error(), "writers of readings: anon") {
		t.Fatalf("%v", err)
	}
	writeSchema(t, dir, "reading.json", strings.Replace(readingSchema, `"maximum": 100`, `"maximum": 200`, 1))
	l = start(t, dir, s)
	l.expect("/v1/views/heat?order=room", want)
	refused("POST", readings, `{"id": 5, "data": {"room": "attic", "values": [201]}}`, "data/values/0", "maximum")
	l.end()
	if err := os.RemoveAll(filepath.Join(s.Data, "checkpoints")); err != nil {
		t.Fatal(err)
	}
	l = start(t, dir, s) // from the log, under both definitions
	l.expect("/v1/views/heat?order=room", want)
	l.end()
}

// TestPlanAgainst: two folders are compared as a deployment would compare them.
func TestPlanAgainst(t *testing.T) {
	old, dir := t.TempDir(), t.TempDir()
	for _, d := range []string{old, dir} {
		writeApp(t, d, readingsSQL)
		writeSchema(t, d, "reading.json", readingSchema)
		writeSchema(t, d, "setup.json", setupSchema)
	}
	plan := func() *Plan {
		t.Helper()
		p, err := PlanAgainst(dir, filepath.Join(old, "app.sql"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := plan(); p.Verdict != verdictSame {
		t.Errorf("%+v", p)
	}
	writeApp(t, dir, strings.Replace(readingsSQL, "AS room", "AS place", 1))
	p := plan()
	if p.Verdict != verdictRefused || !sql.Forcible(p.Differences) || !strings.Contains(p.Text(), "view heat, column room: text → is gone") || !strings.Contains(p.Text(), "readers of heat: anon, owner screens\n") {
		t.Errorf("%s", p.Text())
	}
	writeApp(t, dir, strings.Replace(strings.Replace(readingsSQL, "AS room", "AS place", 1), "heat WITH (", "heat WITH (compatibility = 'none', ", 1))
	if p := plan(); p.Verdict != verdictCompatible {
		t.Errorf("%s", p.Text())
	}
	if err := os.Remove(filepath.Join(dir, "schemas", "setup.json")); err != nil {
		t.Fatal(err)
	}
	if p := plan(); p.Verdict != verdictRefused || len(p.Findings) != 1 || !strings.Contains(p.Text(), `the schema "schemas/setup.json" cannot be read: there is no such file`) {
		t.Errorf("%s", p.Text())
	}
	if _, err := PlanAgainst(dir, filepath.Join(old, "nothing")); err == nil {
		t.Error("it is compared with nothing")
	}
}

// TestFilesStayInside: a schema file outside of the app folder is not read, whatever links to it.
func TestFilesStayInside(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "secret.json"), []byte("true"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(other, "secret.json"), filepath.Join(dir, "a.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.json"), []byte("true"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := AppFiles(dir)
	for _, name := range []string{"a.json", "../" + filepath.Base(other) + "/secret.json", filepath.Join(other, "secret.json")} {
		if text, err := read(name); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
	if text, err := read("b.json"); err != nil || string(text) != "true" {
		t.Errorf("%s %v", text, err)
	}
}

// TestContractsTrimmed: a schema binds as long as the log has rows that were written under it.
func TestContractsTrimmed(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	src := strings.Replace(readingsSQL, "'sensors'", "'sensors', compatibility = 'none'", 1)
	writeApp(t, dir, src)
	loose, tight := readingSchema, strings.Replace(readingSchema, `"maximum": 100`, `"maximum": 50`, 1)
	writeSchema(t, dir, "reading.json", loose)
	writeSchema(t, dir, "setup.json", setupSchema)
	l := start(t, dir, s)
	defer l.end()
	const path = "/v1/tables/readings"
	l.write("POST", path, `{"id": 1, "data": {"room": "attic", "values": [100]}}`)
	writeSchema(t, dir, "reading.json", tight)
	if p := l.send(dir, "/v1/deploy"); p.Verdict != verdictCompatible {
		t.Fatal(p.Text())
	}
	writeApp(t, dir, readingsSQL) // from now on backward
	if p := l.send(dir, "/v1/check"); p.Verdict != verdictRefused || !strings.Contains(p.Text(), "against version 1, /values/*: maximum 100 → maximum 50") {
		t.Fatal(p.Text())
	}
	l.write("POST", path, `{"id": 2, "data": {"room": "hall", "values": [50]}}`)
	if _, err := l.n.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.write("POST", path, `{"id": 3, "data": {"room": "hall"}}`)
	if err := l.n.shard.Trim(t.Context(), l.n.oldestKept()+1); err != nil || l.n.shard.First() < 3 {
		t.Fatalf("trim: %v, first %d", err, l.n.shard.First())
	}
	if p := l.send(dir, "/v1/deploy"); p.Verdict != verdictCompatible {
		t.Error(p.Text())
	}
}

// TestDevelopSchema: a schema file that is saved is deployed as app.sql is.
func TestDevelopSchema(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, readingsSQL)
	writeSchema(t, dir, "reading.json", readingSchema)
	writeSchema(t, dir, "setup.json", setupSchema)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	clock := run.NewManual(time.Unix(0, 0))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	events := make(chan DevEvent, 8)
	l.n.Beside(ctx, func(ctx context.Context, n *Node) error {
		return n.Develop(ctx, clock, func(e DevEvent) { events <- e })
	})
	look := func() { clock.AwaitSleepers(1); clock.Advance(devEvery) }
	look()
	look()
	clock.AwaitSleepers(1)
	if len(events) > 0 {
		t.Fatalf("nothing was saved: %+v", <-events)
	}
	for _, c := range []struct{ from, to, kind, text string }{
		{`"maximum": 100`, `"maximum": 200`, devDeployed, "schema of data: schemas/reading.json → schemas/reading.json with other contents"},
		{`"maximum": 100`, `"maximum": 50`, devProblem, "maximum 200 → maximum 50"},
		{`"type": "object"`, `"type": "objekt"`, devProblem, "schemas/reading.json: at /type: value must be one of"},
		{`"maximum": 100`, `"maximum": 300`, devDeployed, "reading.json"},
	} {
		writeSchema(t, dir, "reading.json", strings.Replace(readingSchema, c.from, c.to, 1))
		look()
		look()
		if e := <-events; e.Kind != c.kind || !strings.Contains(e.Text, c.text) {
			t.Errorf("%s: %+v", c.to, e)
		}
	}
}
