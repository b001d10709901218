package node

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws/wsutil"
)

const channelSQL = votesSQL + `CREATE TABLE typing (room text, who text DEFAULT auth_subject(), line int CHECK (line > 0), PRIMARY KEY (room, who))
  WITH (channel, ttl = '1 hour');
CREATE TABLE here (page text) WITH (presence);
CREATE TABLE mute (x int PRIMARY KEY) WITH (channel, ttl = '1 hour');
GRANT SELECT, INSERT ON typing, here TO anon;
GRANT SELECT ON mute TO anon;
`

// frame reads frames until one has all of these parts.
func (s *screen) frame(parts ...string) string {
	s.t.Helper()
	for {
		b, err := wsutil.ReadServerText(s.conn)
		if err != nil {
			s.t.Fatalf("waiting for %q: %v", parts, err)
		}
		all := true
		for _, p := range parts {
			all = all && strings.Contains(string(b), p)
		}
		if all {
			return string(b)
		}
	}
}

// TestChannels: tables whose rows are in memory alone, through the whole binary: rights, deployments, restarts, and never a byte in the log.
func TestChannels(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
	writeApp(t, dir, channelSQL)
	l := start(t, dir, s)
	x := l.watch("", "typing", "here", "mute", "tally")
	x.frame(`"id":"mute","full":true`)
	head := l.n.shard.Head()
	l.write("POST", "/v1/tables/typing", `{"room":"a","line":3}`)
	x.frame(`"id":"typing","put":[{"room":"a","who":"anon","line":3}]`)
	l.expect("/v1/views/typing", `[{"room":"a","who":"anon","line":3}]`)
	x.send(`{"type":"signal","id":"1","table":"here","value":{"page":"/"}}`)
	x.frame(`"id":"here","put":[{"page":"/"`)
	x.send(`{"type":"signal","id":"1","table":"typing","key":{"room":"a"},"value":{"line":0}}`)
	x.frame(`{"type":"error","id":"1"`, `"code":"constraint"`)
	x.send(`{"type":"signal","id":"2","table":"mute","key":{"x":1},"value":{}}`)
	x.frame(`{"type":"error","id":"2"`, `"code":"unauthenticated","detail":"INSERT on mute is not granted to anon"`)
	if status, text, _ := l.call("POST", "/v1/tables/mute", `{"x":1}`); status != http.StatusUnauthorized {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := l.call("POST", "/v1/tables/nothing", `{"x":1}`); status != http.StatusNotFound {
		t.Errorf("%d %s", status, text)
	}
	if got := l.n.shard.Head(); got != head {
		t.Errorf("signals took %d batches of the log", got-head)
	}

	// A deployment: typing keeps its rows, here gets a column, mute goes, and another one comes.
	next := strings.Replace(channelSQL, "page text)", "page text, name text)", 1)
	next = strings.Replace(next, "CREATE TABLE mute (x", "CREATE TABLE fresh (x", 1)
	next = strings.Replace(next, "GRANT SELECT ON mute", "GRANT SELECT, INSERT ON fresh", 1)
	plan := l.change(next)
	said := ""
	for _, d := range plan.Differences {
		said += d.String() + "\n"
	}
	for _, want := range []string{"presence here: changed, forgets its rows\n", "channel fresh: new\n", "channel mute: is gone\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("the plan lacks %q:\n%s", want, said)
		}
	}
	x.frame(`{"type":"error","id":"mute"`, `"code":"unknown_view"`)
	l.expect("/v1/views/typing", `[{"room":"a","who":"anon","line":3}]`)
	l.expect("/v1/views/here", `[]`)
	l.write("POST", "/v1/tables/fresh", `{"x":1}`)
	l.expect("/v1/views/fresh", `[{"x":1}]`)
	x.send(`{"type":"signal","id":"1","table":"here","value":{"page":"/","name":"Ann"}}`)
	x.frame(`"id":"here","put":[{"page":"/","name":"Ann"`)
	x.send(`{"type":"subscribe","id":"late","view":"fresh"}`)
	x.frame(`"id":"late","full":true,"key":["x"],"put":[{"x":1}]`)
	// Rights alone: whoever follows is told.
	l.change(strings.Replace(next, "GRANT SELECT, INSERT ON typing, here", "GRANT SELECT, INSERT ON here", 1))
	x.frame(`{"type":"error","id":"typing"`, `"code":"unauthenticated"`)

	r, err := http.Get(l.n.AdminURL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	metrics, _ := io.ReadAll(r.Body)
	for _, want := range []string{"laaster_signal_rows 3\n", "laaster_signal_senders 1\n", `laaster_signals_total{outcome="set"} 4`, `laaster_signals_total{outcome="evicted"} 1`} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	_ = x.conn.Close()
	l.end()

	writeApp(t, dir, next)
	l = start(t, dir, s) // knows nothing of it, and what the log has is the same app
	defer l.end()
	l.expect("/v1/views/fresh", `[]`)
	x = l.watch("", "here", "fresh")
	x.frame(`"id":"fresh","full":true,"key":["x"],"put":[]`)
	l.write("POST", "/v1/tables/fresh", `{"x":2}`)
	x.frame(`"id":"fresh","put":[{"x":2}]`)
	_ = x.conn.Close()
}
