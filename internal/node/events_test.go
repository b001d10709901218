package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/kit/testkit"
	"laaster/internal/wire"
)

const tapsSQL = `CREATE TABLE taps (
  tag text NOT NULL, gate integer NOT NULL CHECK (gate > 0), at timestamptz NOT NULL, ce_type text, ce_id text, ce_tenant text
) WITH (append_only, event_time = 'at');
CREATE TABLE gates (gate integer PRIMARY KEY, open boolean);
CREATE MATERIALIZED VIEW seen AS SELECT tag, count(*) AS n, max(gate) AS gate, max(at) AS at, max(ce_type) AS kind, max(ce_id) AS id, max(ce_tenant) AS tenant FROM taps GROUP BY tag;
GRANT INSERT ON taps TO anon;
GRANT SELECT ON seen TO anon;
GRANT ALL ON gates TO anon;
`

// TestCloudEvents posts events in the three forms, again in another form, and after a restart: each takes effect once.
func TestCloudEvents(t *testing.T) {
	dir, folder := t.TempDir(), t.TempDir()
	writeApp(t, dir, tapsSQL)
	l := start(t, dir, settingsFor(folder, "embedded"))
	const structured, batch = "application/cloudevents+json", "application/cloudevents-batch+json"
	binary := func(id, body string, more ...string) (int, string) {
		status, text, _ := l.call("POST", "/v1/tables/taps", body, append([]string{"ce-specversion", "1.0", "ce-source", "//gate/1", "ce-type", "tap", "ce-id", id}, more...)...)
		return status, text
	}
	counts := func(status int, text string, want string) {
		t.Helper()
		var r wire.WriteResult
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%d %s", status, text)
		}
		if got := fmt.Sprint(status, r.Accepted, r.Duplicates, len(r.Rejected)); got != want {
			t.Errorf("got %s, want %s: %s", got, want, text)
		}
	}
	status, text := binary("1", `{"tag":"a","gate":1}`, "ce-time", "2026-01-31T12:00:00.5Z", "ce-tenant", "caf%C3%A9 %7")
	counts(status, text, "200 1 0 0")
	status, text = binary("1", `{"tag":"a","gate":1}`, "ce-time", "2026-01-31T12:00:00.5Z")
	counts(status, text, "200 0 1 0")
	l.expect("/v1/views/seen", `[{"tag":"a","n":1,"gate":1,"at":"2026-01-31T12:00:00.500000Z","kind":"tap","id":"1","tenant":"café %7"}]`)

	event := func(id, data string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"//gate/1","type":"tap","time":"2026-01-31t12:00:01z","data":` + data + `}`
	}
	// What has the same source and id is the same event, in whatever form and with whatever data.
	status, text, _ = l.call("POST", "/v1/tables/taps", event("1", `{"tag":"zz","gate":9}`), "Content-Type", structured)
	counts(status, text, "200 0 1 0")
	status, text, _ = l.call("POST", "/v1/tables/taps", event("2", `{"tag":"a","gate":2,"ce_type":"own"}`), "Content-Type", structured+"; charset=utf-8")
	counts(status, text, "200 1 0 0")
	list := `[` + strings.Join([]string{event("2", `{"tag":"zz","gate":9}`), event("3", `{"tag":"b","gate":3}`), event("4", `{"tag":"b","gate":0}`), event("3", `{"tag":"zz","gate":9}`),
		strings.Replace(event("5", `"eyJ0YWciOiJiIiwiZ2F0ZSI6NX0="`), `"data"`, `"data_base64"`, 1), `7`, strings.Replace(event("6", `{"tag":"b","gate":6}`), `"1.0"`, `"0.3"`, 1)}, ",") + `]`
	status, text, _ = l.call("POST", "/v1/tables/taps", list, "Content-Type", batch)
	counts(status, text, "200 2 2 3")
	for i, want := range []string{`{"index":2,`, `{"index":5,`, `{"index":6,`} {
		if !strings.Contains(text, want) {
			t.Errorf("refusal %d: no %s in %s", i, want, text)
		}
	}
	seen := `[{"tag":"a","n":2,"gate":2,"at":"2026-01-31T12:00:01.000000Z","kind":"tap","id":"2","tenant":"café %7"},{"tag":"b","n":2,"gate":5,"at":"2026-01-31T12:00:01.000000Z","kind":"tap","id":"5","tenant":null}]`
	l.expect("/v1/views/seen", seen)

	// The engine's refusals are remembered with the event, too.
	gate := func(id, data string) (int, string) {
		status, text, _ := l.call("POST", "/v1/tables/gates", event(id, data), "Content-Type", structured)
		return status, text
	}
	status, text = gate("1", `{"gate":1,"open":true}`)
	counts(status, text, "200 1 0 0")
	for range 2 {
		if status, text = gate("2", `{"gate":1,"open":false}`); status != http.StatusConflict {
			t.Errorf("%d %s", status, text)
		}
	}
	l.end()
	l = start(t, dir, settingsFor(folder, "embedded"))
	defer l.end()
	status, text, _ = l.call("POST", "/v1/tables/taps", list, "Content-Type", batch)
	counts(status, text, "200 0 4 3")
	l.expect("/v1/views/seen", seen)
}

// TestCloudEventsOfOthers sends what the CloudEvents SDK for JavaScript makes of events.
func TestCloudEventsOfOthers(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		testkit.Missing(t, "node is not installed")
	}
	sdk := filepath.Join("testdata", "cloudevents")
	testkit.NodeModules(t, sdk)
	dir := t.TempDir()
	writeApp(t, dir, tapsSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	cmd := exec.CommandContext(t.Context(), node, "send.mjs", l.url+"/v1/tables/taps")
	cmd.Dir = sdk
	out, err := cmd.CombinedOutput()
	want := `["binary",200,1,0]
["binary again",200,0,1]
["structured",200,1,0]
["binary after structured",200,0,1]
["bytes",200,1,0]
["text",422,"invalid_row","datacontenttype"]
["text in binary",415,"invalid_request","Content-Type"]
["no data",422,"invalid_row","tag"]
["batch",200,2,2]
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
	l.expect("/v1/views/seen?tag=in.(t1,t2,t5)&select=tag,n,at,kind,tenant", `[{"tag":"t1","n":1,"at":"2026-01-31T12:00:00.250000Z","kind":"tap","tenant":"a \"x\" 100%"},
		{"tag":"t2","n":1,"at":"2026-01-31T12:00:00.250000Z","kind":"tap","tenant":"a \"x\" 100%"},{"tag":"t5","n":1,"at":"2026-01-31T12:00:00.250000Z","kind":"tap","tenant":"a \"x\" 100%"}]`)
}
