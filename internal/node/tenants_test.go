package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
)

const tenantsSQL = `CREATE ROLE tenant;
CREATE ROLE keeper;
CREATE TABLE notes (id bigint PRIMARY KEY, org text NOT NULL DEFAULT auth_claim('org'), body text NOT NULL, n bigint NOT NULL DEFAULT 0);
CREATE TABLE members (room text, person text, PRIMARY KEY (room, person));
CREATE TABLE messages (id bigint PRIMARY KEY, room text NOT NULL, body text NOT NULL);
CREATE MATERIALIZED VIEW totals AS SELECT org, count(*) AS notes, max(body) AS last FROM notes GROUP BY org;
CREATE MATERIALIZED VIEW newest AS SELECT id, org, body FROM notes ORDER BY id DESC LIMIT 50;
GRANT ALL ON notes, messages TO tenant;
GRANT SELECT ON totals, newest TO tenant;
GRANT ALL ON members, messages TO keeper;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (org = auth_claim('org'));
ALTER TABLE totals ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON totals USING (org = auth_claim('org'));
ALTER TABLE newest ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON newest USING (org = auth_claim('org'));
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY in_room ON messages TO tenant USING (room IN (SELECT room FROM members WHERE person = auth_subject()));
CREATE POLICY all_rooms ON messages TO keeper USING (true);
`

// tenant is one of three who share a server and may not know of each other. What a tenant writes bears its mark, which nobody else may ever receive.
type tenant struct {
	m     *matrix
	t     *testing.T
	name  string
	v     *visitor
	rng   *rand.Rand
	rows  map[int]string // its notes: id to body
	tags  *sync.Map      // of all, by name
	asked atomic.Int64   // requests and frames
	seen  atomic.Int64   // bytes that it received
	live  atomic.Int64   // frames and events with its own mark
	limit int            // ids below it are taken
}

func (x *tenant) mark() string { return "secret" + x.name }

// receive looks for the marks of others in what came, and for their keys.
func (x *tenant) receive(way string, data []byte) {
	x.seen.Add(int64(len(data)))
	for _, other := range []string{"A", "B", "C"} {
		if other != x.name && bytes.Contains(data, []byte("secret"+other)) {
			x.t.Errorf("%s received by %s: %.300s", x.name, way, data)
		}
	}
}

// do makes a request and returns its answer.
func (x *tenant) do(method, path, body string, header ...string) (int, []byte, http.Header) {
	x.asked.Add(1)
	q, err := http.NewRequest(method, x.m.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		x.t.Error(err)
		return 0, nil, nil
	}
	q.Header.Set("Authorization", "Bearer "+x.v.token)
	q.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		x.t.Error(err)
		return 0, nil, nil
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		x.t.Error(err)
	}
	x.receive(method+" "+path, data)
	return r.StatusCode, data, r.Header
}

// accepted returns how many rows an answer says took effect.
func accepted(data []byte) int {
	var r struct{ Accepted int }
	_ = json.Unmarshal(data, &r) // a problem has none
	return r.Accepted
}

// base is where the ids of a tenant's notes begin: they say whose they are.
func base(name string) int { return int(name[0]-'A'+1) * 1_000_000_000 }

// other picks another tenant.
func (x *tenant) other() string {
	return string("ABC"[(int(x.name[0]-'A')+1+x.rng.IntN(2))%3])
}

// own picks one of the tenant's notes, or the id of a note that is not there.
func (x *tenant) own() int { return base(x.name) + x.rng.IntN(max(x.limit, 1)) }

func (x *tenant) body() string { return fmt.Sprintf("%s-%d", x.mark(), x.rng.IntN(1000)) }

// step does one random thing, most of them an attempt at something that is another's.
func (x *tenant) step() {
	them := x.other()
	theirs := base(them) + x.rng.IntN(50)
	wrong := func(what string, data []byte) { x.t.Errorf("%s: %s: %.300s", x.name, what, data) }
	switch x.rng.IntN(20) {
	case 0, 1:
		id, body := base(x.name)+x.limit, x.body()
		x.limit++
		if _, data, _ := x.do("POST", "/v1/tables/notes", fmt.Sprintf(`{"id":%d,"body":%q}`, id, body)); accepted(data) == 1 {
			x.rows[id] = body
		} else {
			wrong("its own row", data)
		}
	case 2:
		id, body := x.own(), x.body()
		_, data, _ := x.do("PATCH", fmt.Sprintf("/v1/tables/notes?id=eq.%d", id), fmt.Sprintf(`{"body":%q}`, body))
		if _, there := x.rows[id]; there != (accepted(data) == 1) {
			wrong("a change of its own", data)
		} else if there {
			x.rows[id] = body
		}
	case 3:
		id := x.own()
		_, data, _ := x.do("DELETE", fmt.Sprintf("/v1/tables/notes?id=eq.%d", id), "")
		if _, there := x.rows[id]; there != (accepted(data) == 1) {
			wrong("a deletion of its own", data)
		}
		delete(x.rows, id)
	case 4: // a row of another: taken over, given away, changed, deleted
		for _, w := range [][3]string{
			{"POST", "/v1/tables/notes", fmt.Sprintf(`{"id":%d,"org":%q,"body":%q}`, base(x.name)+500_000_000, them, x.body())},
			{"POST", "/v1/tables/notes?on_conflict=merge", fmt.Sprintf(`{"id":%d,"org":%q,"body":%q}`, theirs, them, x.body())},
			{"PATCH", fmt.Sprintf("/v1/tables/notes?id=eq.%d", theirs), fmt.Sprintf(`{"body":%q}`, x.body())},
			{"PATCH", "/v1/tables/notes?org=eq." + them, `{"n":7}`},
			{"PATCH", "/v1/tables/notes?or=(org.eq." + them + ",id.eq." + fmt.Sprint(theirs) + ")", fmt.Sprintf(`{"org":%q}`, x.name)},
			{"DELETE", fmt.Sprintf("/v1/tables/notes?id=eq.%d", theirs), ""},
			{"DELETE", "/v1/tables/notes?body=like.secret" + them + "*", ""},
		} {
			if _, data, _ := x.do(w[0], w[1], w[2]); accepted(data) != 0 {
				wrong(w[0]+" "+w[1]+" "+w[2], data)
			}
		}
	case 5:
		if id := x.own(); x.rows[id] != "" {
			if _, data, _ := x.do("PATCH", fmt.Sprintf("/v1/tables/notes?id=eq.%d", id), fmt.Sprintf(`{"org":%q}`, them)); accepted(data) != 0 {
				wrong("a row was given away", data)
			}
		}
	case 6, 7, 8: // reads that would show another's rows
		for _, path := range []string{"notes?org=eq." + them, fmt.Sprintf("notes?id=eq.%d", theirs), "totals?org=neq." + x.name, "newest?org=in.(A,B,C)&org=neq." + x.name,
			"messages?room=like." + them + "*", "notes?body=match.secret[^" + x.name + "]"} {
			status, data, _ := x.do("GET", "/v1/views/"+path, "")
			if got := string(bytes.TrimSpace(data)); status != 200 || got != "[]" {
				wrong(path, data)
			}
		}
	case 9, 10:
		view := []string{"notes", "totals", "newest", "messages"}[x.rng.IntN(4)]
		query := map[bool]string{true: "?limit=20", false: "?order=body.desc&limit=20"}[view == "totals"]
		accept := []string{"application/json", "text/csv", "application/x-ndjson"}[x.rng.IntN(3)]
		status, data, head := x.do("GET", "/v1/views/"+view+query, "", "Accept", accept)
		if status != 200 {
			wrong(view, data)
		}
		x.tags.Store(x.name+view+accept, head.Get("ETag"))
		if tag, ok := x.tags.Load(them + view + accept); ok {
			if status, data, _ := x.do("GET", "/v1/views/"+view+query, "", "Accept", accept, "If-None-Match", tag.(string)); status != 200 {
				wrong("another's tag of "+view, data)
			}
		}
	case 11: // errors
		for _, path := range []string{"notes?body=like." + them + "&n=eq.x", "notes?nobody=eq.1", "nothing", "members", "notes?order=secret", "notes?select=body,nothing"} {
			if status, data, _ := x.do("GET", "/v1/views/"+path, ""); status < 400 {
				wrong(path, data)
			}
		}
	case 12: // a room of another
		if _, data, _ := x.do("POST", "/v1/tables/messages", fmt.Sprintf(`{"id":%d,"room":"%s1","body":%q}`, x.rng.Int64(), them, x.body())); accepted(data) != 0 {
			wrong("a message into another's room", data)
		}
	default: // a frame, read by listen
		id := fmt.Sprint("q", x.rng.IntN(20))
		for _, frame := range []string{
			`{"type":"unsubscribe","id":"` + id + `"}`,
			[]string{
				`{"type":"subscribe","id":"` + id + `","view":"notes","filter":"org=neq.` + x.name + `"}`,
				`{"type":"subscribe","id":"` + id + `","view":"notes","order":"body.desc","limit":10}`,
				`{"type":"subscribe","id":"` + id + `","view":"messages"}`,
				`{"type":"subscribe","id":"` + id + `","view":"totals","from":"x.0-1"}`,
				fmt.Sprintf(`{"type":"write","id":"w","table":"notes","filter":"id=eq.%d","patch":{"body":%q}}`, theirs, x.body()),
			}[x.rng.IntN(5)],
		} {
			x.asked.Add(1)
			if err := wsutil.WriteClientText(x.v.line.c, []byte(frame)); err != nil {
				x.t.Error(err)
				return
			}
		}
	}
}

// listen reads the tenant's connection until it ends.
func (x *tenant) listen() {
	for {
		text, err := wsutil.ReadServerText(x.v.line.c)
		if err != nil {
			return
		}
		x.receive("frame", text)
		if bytes.Contains(text, []byte(x.mark())) {
			x.live.Add(1)
		}
	}
}

// follow reads a stream of events until ctx ends.
func (x *tenant) follow(ctx context.Context, view string) {
	q, err := http.NewRequestWithContext(ctx, "GET", x.m.url+"/v1/views/"+view, nil)
	if err != nil {
		x.t.Error(err)
		return
	}
	q.Header.Set("Accept", "text/event-stream")
	q.Header.Set("Authorization", "Bearer "+x.v.token)
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return // ctx
	}
	defer r.Body.Close()
	for lines := bufio.NewReader(r.Body); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		x.receive("event of "+view, line)
		if bytes.Contains(line, []byte(x.mark())) {
			x.live.Add(1)
		}
	}
}

// TestTenants: three tenants do random things at the same time, over HTTP, WebSocket and event streams, most of them aimed at the others. Nobody ever receives a row, a count or an error that
// bears another's mark, nobody changes another's row, and each has at the end exactly what it wrote. LAASTER_FULL does 100,000 things and more.
func TestTenants(t *testing.T) {
	steps := 400
	if os.Getenv("LAASTER_FULL") != "" {
		steps = 13_000
	}
	m := &matrix{clinic: matrixNode(t, tenantsSQL)}
	defer m.end()
	keeper := m.token(claims{"sub": "keeper", "roles": []string{"keeper"}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var tags sync.Map
	var all []*tenant
	var acting, listening sync.WaitGroup
	for i, name := range []string{"A", "B", "C"} {
		x := &tenant{m: m, t: t, name: name, rng: rand.New(rand.NewPCG(7, uint64(i))), rows: map[int]string{}, tags: &tags, v: &visitor{name: name}}
		x.v.token = m.token(claims{"sub": "u" + name, "roles": []string{"tenant"}, "org": name})
		x.v.line = m.connect(fmt.Sprintf(`{"type":"hello","token":%q,"subscribe":[{"id":"n","view":"notes"},{"id":"t","view":"totals"},{"id":"m","view":"messages"}]}`, x.v.token))
		_ = x.v.line.c.SetDeadline(time.Time{}) // none: the test's own ends it
		all = append(all, x)
		listening.Go(x.listen)
		listening.Go(func() { x.follow(ctx, "notes") })
		listening.Go(func() { x.follow(ctx, "messages") })
	}
	for _, x := range all {
		acting.Go(func() {
			for range steps {
				x.step()
			}
		})
	}
	acting.Go(func() { m.keep(keeper, steps) })
	acting.Wait()
	for _, x := range all {
		x.settle()
	}
	cancel()
	for _, x := range all {
		_ = x.v.line.c.Close()
	}
	listening.Wait()
	for _, x := range all {
		t.Logf("%s: %d requests and frames, %d notes, %d bytes received, %d frames and events of its own", x.name, x.asked.Load(), len(x.rows), x.seen.Load(), x.live.Load())
		if x.live.Load() == 0 || len(x.rows) == 0 {
			t.Errorf("%s saw nothing of its own", x.name)
		}
	}
}

// keep moves people in and out of the rooms of their own tenant, and writes messages there.
func (m *matrix) keep(token string, steps int) {
	rng := rand.New(rand.NewPCG(7, 9))
	x := &tenant{m: m, t: m.t, v: &visitor{token: token}, name: "keeper"}
	for i := range steps {
		name := string("ABC"[rng.IntN(3)])
		room := fmt.Sprintf("%s%d", name, 1+rng.IntN(3))
		person := fmt.Sprintf(`{"room":%q,"person":"u%s"}`, room, name)
		method, path, body := "POST", "/v1/tables/members?on_conflict=ignore", person
		switch rng.IntN(3) {
		case 0:
			method, path, body = "DELETE", "/v1/tables/members?room=eq."+room, ""
		case 1:
			path, body = "/v1/tables/messages", fmt.Sprintf(`{"id":%d,"room":%q,"body":"secret%s-%d"}`, i, room, name, i)
		}
		q, err := http.NewRequest(method, m.url+path, bytes.NewReader([]byte(body)))
		if err != nil {
			m.t.Error(err)
			return
		}
		q.Header.Set("Authorization", "Bearer "+x.v.token)
		q.Header.Set("Content-Type", "application/json")
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			m.t.Error(err)
			return
		}
		if text, _ := io.ReadAll(r.Body); r.StatusCode != 200 {
			m.t.Errorf("keeper: %s %s: %d %s", method, path, r.StatusCode, text)
		}
		r.Body.Close()
	}
}

// settle compares the tenant's rows with what it wrote.
func (x *tenant) settle() {
	_, data, _ := x.do("GET", "/v1/views/notes", "")
	var rows []struct {
		ID        int
		Org, Body string
		N         int
	}
	if err := json.Unmarshal(data, &rows); err != nil {
		x.t.Fatal(err)
	}
	for _, r := range rows {
		if x.rows[r.ID] != r.Body || r.Org != x.name || r.N != 0 {
			x.t.Errorf("%s has %+v, and wrote %q", x.name, r, x.rows[r.ID])
		}
	}
	if len(rows) != len(x.rows) {
		x.t.Errorf("%s has %d notes, and wrote %d", x.name, len(rows), len(x.rows))
	}
	_, data, _ = x.do("GET", "/v1/views/totals", "")
	var totals []struct {
		Org   string
		Notes int
	}
	if err := json.Unmarshal(data, &totals); err != nil || len(totals) != 1 || totals[0].Notes != len(x.rows) {
		x.t.Errorf("%s: totals %s, want one of %d", x.name, data, len(x.rows))
	}
}
