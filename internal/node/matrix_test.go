package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// The access matrix: relations with random grants, callers with all kinds of roles, and every way to read or write, against a model that knows nothing of
// the server but what GRANT means.

// grantedTo is the model: what each role was granted on each relation.
type grantedTo map[string]map[string]bool // "relation privilege" to roles

func (g grantedTo) may(caller *visitor, relation string, privileges ...string) bool {
	return !slices.ContainsFunc(privileges, func(p string) bool {
		roles := g[relation+" "+p]
		return !roles["PUBLIC"] && !slices.ContainsFunc(caller.roles, func(r string) bool { return roles[r] })
	})
}

// visitor is one caller of the matrix.
type visitor struct {
	name  string
	roles []string
	token string // "": none
	line  *socket
	said  int // frames with ids
}

// way is one way to read or write, by the route or frame that it takes.
type way struct {
	name, over string
	table      bool     // over tables only
	needs      []string // privileges
	ask        func(m *matrix, v *visitor, relation string) (status int, said string)
}

type matrix struct {
	*clinic
	next int // ids of rows that were never used
}

func (m *matrix) id() int {
	m.next++
	return m.next
}

// asked makes a request of a visitor.
func (m *matrix) asked(v *visitor, method, path, body string, header ...string) (int, string) {
	if v.token != "" {
		header = append(header, bearer(v.token)...)
	}
	status, text, _ := m.call(method, path, body, header...)
	return status, text
}

// framed sends a frame of a visitor and returns the status of its answer.
func (m *matrix) framed(v *visitor, frame string) (int, string) {
	m.t.Helper()
	v.said++
	id := fmt.Sprint("f", v.said)
	v.line.send(strings.Replace(frame, "ID", id, 1))
	for {
		text, err := wsutil.ReadServerText(v.line.c)
		if err != nil {
			m.t.Fatalf("%s: %s: %v", v.name, frame, err)
		}
		var f struct {
			Type, ID string
			Error    wire.Problem
			Rejected []struct{ Error wire.Problem }
		}
		if err := json.Unmarshal(text, &f); err != nil {
			m.t.Fatal(err)
		}
		switch {
		case f.ID != id:
		case f.Type == "error":
			return f.Error.Status, string(text)
		case f.Type == "result" && len(f.Rejected) > 0:
			return f.Rejected[0].Error.Status, string(text)
		case f.Type == "result", f.Type == "snapshot", f.Type == "signals":
			return http.StatusOK, string(text)
		}
	}
}

// events opens a stream of events and returns what it begins with.
func (m *matrix) events(v *visitor, path string) (int, string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, "GET", m.url+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	q.Header.Set("Accept", "text/event-stream")
	if v.token != "" {
		q.Header.Set("Authorization", "Bearer "+v.token)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(text)
	}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "event: snapshot") {
			return r.StatusCode, "snapshot"
		}
	}
	m.t.Fatalf("%s: no snapshot: %v", path, lines.Err())
	return 0, ""
}

func row(id int) string { return fmt.Sprintf(`{"id":%d,"v":"x"}`, id) }

func ways() []way {
	post, frame := "POST /v1/tables/{table}", "write"
	get := func(query string, header ...string) func(*matrix, *visitor, string) (int, string) {
		return func(m *matrix, v *visitor, rel string) (int, string) {
			return m.asked(v, "GET", "/v1/views/"+rel+query, "", header...)
		}
	}
	send := func(query, contentType string, body func(id int) string) func(*matrix, *visitor, string) (int, string) {
		return func(m *matrix, v *visitor, rel string) (int, string) {
			return m.asked(v, "POST", "/v1/tables/"+rel+query, body(m.id()), "Content-Type", contentType)
		}
	}
	write := func(rest func(id int) string) func(*matrix, *visitor, string) (int, string) {
		return func(m *matrix, v *visitor, rel string) (int, string) {
			return m.framed(v, `{"type":"write","id":"ID","table":"`+rel+`",`+rest(m.id())+`}`)
		}
	}
	event := func(id int) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"s","type":"t","data":%s}`, id, row(id))
	}
	return []way{
		{"GET", "GET /v1/views/{view}", false, []string{"SELECT"}, get("")},
		{"GET, one key", "GET /v1/views/{view}", false, []string{"SELECT"}, get("?id=eq.1")},
		{"GET, lines", "GET /v1/views/{view}", false, []string{"SELECT"}, get("", "Accept", "application/x-ndjson")},
		{"GET, CSV", "GET /v1/views/{view}", false, []string{"SELECT"}, get("?order=v", "Accept", "text/csv")},
		{"GET, conditional", "GET /v1/views/{view}", false, []string{"SELECT"}, get("?_wait=0", "If-None-Match", `"x"`)},
		{"HEAD", "GET /v1/views/{view}", false, []string{"SELECT"}, func(m *matrix, v *visitor, rel string) (int, string) {
			return m.asked(v, "HEAD", "/v1/views/"+rel, "")
		}},
		{"events", "GET /v1/views/{view}", false, []string{"SELECT"}, func(m *matrix, v *visitor, rel string) (int, string) {
			return m.events(v, "/v1/views/"+rel)
		}},
		{"subscribe", "subscribe", false, []string{"SELECT"}, func(m *matrix, v *visitor, rel string) (int, string) {
			return m.framed(v, `{"type":"subscribe","id":"ID","view":"`+rel+`"}`)
		}},
		{"subscribe, first rows", "subscribe", false, []string{"SELECT"}, func(m *matrix, v *visitor, rel string) (int, string) {
			return m.framed(v, `{"type":"subscribe","id":"ID","view":"`+rel+`","limit":2,"order":"v","filter":"id=gt.0"}`)
		}},
		{"POST", post, true, []string{"INSERT"}, send("", "application/json", row)},
		{"POST, several", post, true, []string{"INSERT"}, send("?_atomic=true", "application/json", func(id int) string { return "[" + row(id) + "," + row(-id) + "]" })},
		{"POST, lines", post, true, []string{"INSERT"}, send("", "application/x-ndjson", row)},
		{"POST, ignore", post, true, []string{"INSERT"}, send("?on_conflict=ignore", "application/json", row)},
		{"POST, merge", post, true, []string{"INSERT", "UPDATE"}, send("?on_conflict=merge", "application/json", row)},
		{"POST, event", post, true, []string{"INSERT"}, send("", "application/cloudevents+json", event)},
		{"POST, events", post, true, []string{"INSERT"}, send("", "application/cloudevents-batch+json", func(id int) string { return "[" + event(id) + "]" })},
		{"PATCH", "PATCH /v1/tables/{table}", true, []string{"UPDATE", "SELECT"}, func(m *matrix, v *visitor, rel string) (int, string) {
			return m.asked(v, "PATCH", "/v1/tables/"+rel+"?id=eq.1", `{"v":"x"}`)
		}},
		{"DELETE", "DELETE /v1/tables/{table}", true, []string{"DELETE", "SELECT"}, func(m *matrix, v *visitor, rel string) (int, string) {
			return m.asked(v, "DELETE", "/v1/tables/"+rel+"?id=eq.0", "")
		}},
		{"write", frame, true, []string{"INSERT"}, write(func(id int) string { return `"rows":[` + row(id) + `]` })},
		{"write, ignore", frame, true, []string{"INSERT"}, write(func(id int) string { return `"on_conflict":"ignore","rows":` + row(id) })},
		{"write, merge", frame, true, []string{"INSERT", "UPDATE"}, write(func(id int) string { return `"on_conflict":"merge","rows":` + row(id) })},
		{"write, patch", frame, true, []string{"UPDATE", "SELECT"}, write(func(int) string { return `"filter":"id=eq.1","patch":{"v":"x"}` })},
		{"write, delete", frame, true, []string{"DELETE", "SELECT"}, write(func(int) string { return `"filter":"id=eq.0","delete":true` })},
	}
}

// matrixApp makes an app with random grants, and the model of them.
func matrixApp(rng *rand.Rand, tables int) (text string, relations []string, model grantedTo) {
	var b strings.Builder
	model = grantedTo{}
	roles := []string{"reader", "writer", "clerk", "anon", "PUBLIC"}
	b.WriteString("CREATE ROLE reader;\nCREATE ROLE writer;\nCREATE ROLE clerk;\n")
	grant := func(relation string, privileges ...string) {
		for _, p := range privileges {
			model[relation+" "+p] = map[string]bool{}
			for _, role := range roles {
				if rng.IntN(6) > 0 {
					continue
				}
				model[relation+" "+p][role] = true
				fmt.Fprintf(&b, "GRANT %s ON %s TO %s;\n", p, relation, role)
			}
		}
	}
	for i := range tables {
		table, view := fmt.Sprint("t", i), fmt.Sprint("v", i)
		fmt.Fprintf(&b, "CREATE TABLE %s (id bigint PRIMARY KEY, v text NOT NULL);\nCREATE MATERIALIZED VIEW %s AS SELECT id, v FROM %s;\n", table, view, table)
		grant(table, "SELECT", "INSERT", "UPDATE", "DELETE")
		grant(view, "SELECT")
		relations = append(relations, table, view)
	}
	return b.String(), relations, model
}

// TestAccessMatrix: every way to read or write, of every caller, on every relation, is allowed exactly when the model says so; what is refused is refused with 401 without
// a token and 403 with one; what is allowed works. Each route and frame that docs/security.md gives to GRANT has a way here.
func TestAccessMatrix(t *testing.T) {
	covered := map[string]bool{}
	for _, w := range ways() {
		covered[w.over] = true
	}
	for _, kind := range []string{"route", "frame"} {
		for name, rule := range inventory(t, kind) {
			if rule == "grant" && !covered[name] && name != "signal" { // channels: TestChannelsAreGranted
				t.Errorf("no way of the matrix goes over the %s %s", kind, name)
			}
		}
	}
	rng := rand.New(rand.NewPCG(6, 1))
	tables := 16
	if testing.Short() {
		tables = 4
	}
	text, relations, model := matrixApp(rng, tables)
	m := &matrix{clinic: matrixNode(t, text), next: 1000}
	defer m.end()
	visitors := m.visitors()
	asked, allowed := 0, 0
	for _, v := range visitors {
		for _, relation := range relations {
			for _, w := range ways() {
				if w.table && relation[0] == 'v' {
					continue
				}
				want := http.StatusForbidden
				switch {
				case model.may(v, relation, w.needs...):
					want = http.StatusOK
					allowed++
				case v.token == "":
					want = http.StatusUnauthorized
				}
				asked++
				if status, said := w.ask(m, v, relation); status != want {
					t.Errorf("%s: %s on %s: %d %.200s, want %d", v.name, w.name, relation, status, said, want)
				}
			}
			if _, said := m.framed(v, `{"type":"subscribe","id":"ID","view":"`+relation+`x"}`); !strings.Contains(said, string(wire.UnknownView)) {
				t.Errorf("%s: a view that is not there: %s", v.name, said)
			}
			for i := range v.said + 1 { // room for more
				v.line.send(fmt.Sprintf(`{"type":"unsubscribe","id":"f%d"}`, i))
			}
			v.said = 0
		}
	}
	t.Logf("%d combinations, %d of them allowed", asked, allowed)
	if asked < 300 || allowed < asked/20 || allowed > asked*19/20 {
		t.Errorf("%d combinations, %d allowed: the app does not tell the model from its opposite", asked, allowed)
	}
}

// visitors returns callers of all kinds, connected.
func (m *matrix) visitors() []*visitor {
	m.t.Helper()
	all := []*visitor{{name: "nobody", roles: []string{"anon"}}, {name: "reader", roles: []string{"reader"}}, {name: "writer and clerk", roles: []string{"writer", "clerk"}},
		{name: "without a role", roles: nil}, {name: "of a role that is not declared", roles: []string{"boss"}}, {name: "reader, clerk and boss", roles: []string{"boss", "reader", "clerk"}}}
	for i, v := range all {
		hello := `{"type":"hello"}`
		if i > 0 {
			v.token = m.token(claims{"sub": fmt.Sprint("u", i), "roles": v.roles})
			hello = fmt.Sprintf(`{"type":"hello","token":%q}`, v.token)
		}
		v.line = m.connect(hello)
	}
	return all
}

// TestChannelsAreGranted is the matrix of channels: four ways to read and to set rows.
func TestChannelsAreGranted(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 2))
	text, _, _ := matrixApp(rng, 0)
	model, channels := grantedTo{}, 12
	for i := range channels {
		name := fmt.Sprint("c", i)
		text += fmt.Sprintf("CREATE TABLE %s (k text PRIMARY KEY, v text) WITH (channel, ttl = '5 seconds');\n", name)
		for _, p := range []string{"SELECT", "INSERT"} {
			model[name+" "+p] = map[string]bool{}
			for _, role := range []string{"reader", "writer", "clerk", "anon", "PUBLIC"} {
				if rng.IntN(5) == 0 {
					model[name+" "+p][role] = true
					text += fmt.Sprintf("GRANT %s ON %s TO %s;\n", p, name, role)
				}
			}
		}
	}
	m := &matrix{clinic: matrixNode(t, text)}
	defer m.end()
	asked, allowed := 0, 0
	for _, v := range m.visitors() {
		for i := range channels {
			name := fmt.Sprint("c", i)
			for _, w := range []struct {
				name, need string
				ask        func() (int, string)
			}{
				{"GET", "SELECT", func() (int, string) { return m.asked(v, "GET", "/v1/views/"+name, "") }},
				{"POST", "INSERT", func() (int, string) { return m.asked(v, "POST", "/v1/tables/"+name, `{"k":"a","v":"b"}`) }},
				{"subscribe", "SELECT", func() (int, string) { return m.framed(v, `{"type":"subscribe","id":"ID","view":"`+name+`"}`) }},
				{"signal", "INSERT", func() (int, string) { return m.signalled(v, name) }},
			} {
				want := http.StatusForbidden
				switch {
				case model.may(v, name, w.need):
					want = http.StatusOK
					allowed++
				case v.token == "":
					want = http.StatusUnauthorized
				}
				asked++
				if status, said := w.ask(); status != want {
					t.Errorf("%s: %s on %s: %d %.200s, want %d", v.name, w.name, name, status, said, want)
				}
			}
		}
	}
	t.Logf("%d combinations, %d of them allowed", asked, allowed)
	if allowed < 20 || allowed > asked-20 {
		t.Errorf("%d of %d allowed", allowed, asked)
	}
}

// signalled sets a row of a channel. Only refusals are answered, so a ping behind it tells that there is none.
func (m *matrix) signalled(v *visitor, channel string) (int, string) {
	m.t.Helper()
	v.said++
	id := fmt.Sprint("s", v.said)
	v.line.send(fmt.Sprintf(`{"type":"signal","id":%q,"table":%q,"key":{"k":"a"},"value":{"v":"b"}}`, id, channel))
	v.line.send(fmt.Sprintf(`{"type":"ping","t":%d}`, v.said))
	for {
		text, err := wsutil.ReadServerText(v.line.c)
		if err != nil {
			m.t.Fatalf("%s: %v", v.name, err)
		}
		var f struct {
			Type, ID string
			T        float64
			Error    wire.Problem
		}
		if err := json.Unmarshal(text, &f); err != nil {
			m.t.Fatal(err)
		}
		switch {
		case f.Type == "error" && f.ID == id:
			return f.Error.Status, string(text)
		case f.Type == "pong" && int(f.T) == v.said:
			return http.StatusOK, ""
		}
	}
}

// matrixNode starts an app with an issuer.
func matrixNode(t *testing.T, text string) *clinic {
	t.Helper()
	c := &clinic{clock: &skewed{}, dir: t.TempDir()}
	writeApp(t, c.dir, text)
	var err error
	if c.signer, err = auth.NewSigner("EdDSA"); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.KeySet(nil, c.signer)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "jwks.json"), keys, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.set = settingsFor(filepath.Join(c.dir, "data"), "memory")
	c.set.Auth.Issuers = []app.Issuer{{Issuer: "https://id.example.org/", Audience: "clinic", JWKS: "jwks.json"}}
	ctx, stop := context.WithCancel(t.Context())
	n, err := Start(ctx, Options{Dir: c.dir, Settings: c.set, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	c.life = &life{t, n, stop, n.PublicURL()}
	return c
}
