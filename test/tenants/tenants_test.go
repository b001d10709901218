package tenants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/client"
	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

var relations = []string{"notes", "events", "seats", "messages", "sums", "big"}

var rooms = []string{"red", "green", "blue", "grey"}

// tap looks through what the server sends to one tenant.
type tap struct {
	foreign [][]byte
	mu      sync.Mutex
	open    map[net.Conn]struct{}
	bytes   int
	leaks   []string
}

type tapped struct {
	net.Conn
	of    *tap
	tail  []byte
	close sync.Once
}

func (t *tap) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[c] = struct{}{}
	return &tapped{Conn: c, of: t}, nil
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tail = append(c.tail, b[:n]...)
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.bytes += n
	for _, f := range c.of.foreign {
		if at := bytes.Index(c.tail, f); at >= 0 {
			c.of.leaks = append(c.of.leaks, fmt.Sprintf("%q", c.tail[max(0, at-200):min(len(c.tail), at+100)]))
		}
	}
	c.tail = append(c.tail[:0], c.tail[max(0, len(c.tail)-16):]...) // a mark may be cut between two reads
	return n, err
}

func (c *tapped) Close() error {
	c.close.Do(func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		delete(c.of.open, c.Conn)
	})
	return c.Conn.Close()
}

// cut ends one of the open connections.
func (t *tap) cut(rng *rand.Rand) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := rng.IntN(max(1, len(t.open)))
	for c := range t.open {
		if n--; n < 0 {
			_ = c.Close()
			return
		}
	}
}

// party is one tenant with its connections.
type party struct {
	*tap
	id      int
	token   string
	http    *http.Client
	writers []*client.Client // over WebSocket and over HTTP
	live    []*watcher
	etags   map[string]string // of the last read of a path
}

// watcher is a client that follows every relation.
type watcher struct {
	c    *client.Client
	subs map[string]*client.Subscription
}

// play is one history.
type play struct {
	t       *testing.T
	rng     *rand.Rand
	server  *testkit.Server
	signer  *auth.Signer
	world   *world
	parties []*party
	steward *client.Client
	next    int
	counts  map[string]int
}

func (p *play) sign(subject, role string) string {
	p.t.Helper()
	now := run.System{}.Now()
	claims := map[string]any{"iss": "https://id.example.org/", "aud": "rooms", "sub": subject, "roles": []string{role}, "tenant": subject,
		"iat": now.Unix(), "exp": now.Add(10 * time.Hour).Unix()}
	text, err := p.signer.Sign(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func newPlay(t *testing.T, seed uint64) *play {
	t.Helper()
	dir := t.TempDir()
	signer, err := auth.NewSigner("EdDSA")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.KeySet(nil, signer)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"app.sql": appSQL, "jwks.json": string(keys),
		"laaster.yaml": "durability: buffered\nauth:\n  max_lifetime: 24h\n  issuers:\n    - issuer: https://id.example.org/\n      audience: rooms\n      jwks: jwks.json\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &play{t: t, rng: rand.New(rand.NewPCG(seed, 17)), signer: signer, world: newWorld(), counts: map[string]int{},
		server: testkit.StartServer(t, dir, filepath.Join(t.TempDir(), "data"))}
	for i := range names {
		x := &party{tap: &tap{open: map[net.Conn]struct{}{}}, id: i, token: p.sign(names[i], "member"), etags: map[string]string{}}
		for k := range names {
			if k != i {
				x.foreign = append(x.foreign, []byte(mark(k)))
			}
		}
		x.http = &http.Client{Transport: &http.Transport{DialContext: x.dial, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		p.parties = append(p.parties, x)
		for _, transport := range []client.Transport{client.WebSocket, client.Events} {
			x.writers = append(x.writers, p.connect(x.dial, x.token, transport))
		}
		for range 2 {
			x.live = append(x.live, p.watch(x))
		}
	}
	p.steward = p.connect(new(net.Dialer).DialContext, p.sign("steward", "steward"), client.WebSocket)
	return p
}

func (p *play) connect(dial func(context.Context, string, string) (net.Conn, error), token string, transport client.Transport) *client.Client {
	p.t.Helper()
	c, err := client.New(p.server.URL, client.Options{Transport: transport, Dial: dial, Token: func(context.Context) (string, error) { return token, nil }})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// watch has a new client follow everything.
func (p *play) watch(x *party) *watcher {
	transport := client.WebSocket
	if p.rng.IntN(3) == 0 {
		transport = client.Events
	}
	w := &watcher{c: p.connect(x.dial, x.token, transport), subs: map[string]*client.Subscription{}}
	for _, r := range relations {
		w.subs[r] = w.c.Subscribe(r, client.Query{})
	}
	return w
}

// write does a write of a tenant over one of the transports.
func (p *play) write(x *party, w client.Write) (client.Result, *client.Problem) {
	p.t.Helper()
	c := x.writers[p.rng.IntN(len(x.writers))]
	w.HTTP = p.rng.IntN(3) == 0
	return p.done(c, w)
}

func (p *play) done(c *client.Client, w client.Write) (client.Result, *client.Problem) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	res, err := c.Write(ctx, w)
	var problem *client.Problem
	if err != nil && !errors.As(err, &problem) {
		p.t.Fatalf("%+v: %v", w, err)
	}
	if problem == nil && len(res.Rejected) == 1 && res.Accepted == 0 {
		return res, res.Rejected[0].Problem
	}
	return res, problem
}

// id returns a new id, or one that somebody has.
func (p *play) id(fresh bool) int {
	if p.next++; fresh || p.rng.IntN(2) == 0 {
		return p.next
	}
	return 1 + p.rng.IntN(p.next)
}

func (p *play) text(x *party) string { return mark(x.id) + strconv.Itoa(p.rng.IntN(1000)) }

// step is one random act of one tenant, judged by the model.
func (p *play) step() {
	p.t.Helper()
	x := p.parties[p.rng.IntN(len(p.parties))]
	act := []string{"insert", "insert", "foreign", "merge", "ignore", "patch", "move", "delete", "read", "read", "conditional", "event", "cloud", "seat", "message",
		"message", "unsay", "cut", "again", "forge"}[p.rng.IntN(20)]
	p.counts[act]++
	me := names[x.id]
	switch act {
	case "insert", "merge", "ignore":
		p.put(x, act)
	case "foreign": // a row in another one's name
		n := note{p.id(true), names[(x.id+1)%len(names)], p.text(x), 1}
		if _, problem := p.write(x, client.Write{Table: "notes", Rows: n}); problem == nil || problem.Code != "forbidden" {
			p.t.Fatalf("%s writes %+v: %v", me, n, problem)
		}
	case "patch", "move", "delete":
		p.change(x, act)
	case "read":
		p.read(x)
	case "conditional":
		p.conditional(x)
	case "event", "cloud":
		p.event(x, act == "cloud")
	case "seat":
		p.seat()
	case "message", "unsay":
		p.message(x, act == "unsay")
	case "cut":
		x.cut(p.rng)
	case "again":
		i := p.rng.IntN(len(x.live))
		x.live[i].c.Close()
		x.live[i] = p.watch(x)
	case "forge":
		p.forge(x)
	}
}

// put inserts a note under an id that may be anybody's.
func (p *play) put(x *party, act string) {
	p.t.Helper()
	n := note{p.id(act == "insert" && p.rng.IntN(2) == 0), names[x.id], p.text(x), p.rng.IntN(100)}
	w := client.Write{Table: "notes", Rows: n}
	if act != "insert" {
		w.OnConflict = act
	}
	old, there := p.world.notes[n.ID]
	own := there && old.Tenant == n.Tenant
	res, problem := p.write(x, w)
	switch {
	case !there || act == "merge" && own:
		if problem != nil || res.Accepted != 1 {
			p.t.Fatalf("%s %ss %+v over %+v: %+v %v", names[x.id], act, n, old, res, problem)
		}
		p.world.notes[n.ID] = n
	case act == "ignore":
		if problem != nil || res.Accepted != 0 || res.Duplicates != 1 {
			p.t.Fatalf("%s ignores %+v over %+v: %+v %v", names[x.id], n, old, res, problem)
		}
	case act == "merge":
		if problem == nil || problem.Code != "forbidden" {
			p.t.Fatalf("%s merges %+v over %+v: %+v %v", names[x.id], n, old, res, problem)
		}
	default:
		if problem == nil || problem.Code != "conflict" {
			p.t.Fatalf("%s inserts %+v over %+v: %+v %v", names[x.id], n, old, res, problem)
		}
	}
}

// filter returns a condition on notes and what it means.
func (p *play) filter() (string, func(note) bool) {
	k := p.rng.IntN(100)
	switch p.rng.IntN(4) {
	case 0:
		k = 1 + p.rng.IntN(p.next+1)
		return fmt.Sprintf("id=eq.%d", k), func(n note) bool { return n.ID == k }
	case 1:
		return fmt.Sprintf("size=gt.%d", k), func(n note) bool { return n.Size > k }
	case 2:
		who := names[p.rng.IntN(len(names))]
		return fmt.Sprintf("tenant=eq.%s&size=lte.%d", who, k), func(n note) bool { return n.Tenant == who && n.Size <= k }
	}
	return fmt.Sprintf("or=(size.lt.%d,tenant.neq.%s)", k, names[0]), func(n note) bool { return n.Size < k || n.Tenant != names[0] }
}

// change patches or deletes what a filter says, of the tenant's own alone.
func (p *play) change(x *party, act string) {
	p.t.Helper()
	filter, meant := p.filter()
	var ids []int
	for id, n := range p.world.notes {
		if n.Tenant == names[x.id] && meant(n) {
			ids = append(ids, id)
		}
	}
	if act == "delete" && p.rng.IntN(4) > 0 && len(ids) > 3 { // rows should become more
		return
	}
	w := client.Write{Table: "notes", Filter: filter, Delete: act == "delete"}
	size, body := p.rng.IntN(100), p.text(x)
	switch act {
	case "patch":
		w.Patch = map[string]any{"size": size, "body": body}
	case "move": // to somebody else
		w.Patch = map[string]any{"tenant": names[(x.id+1)%len(names)]}
	}
	res, problem := p.write(x, w)
	if act == "move" {
		if len(ids) > 0 && problem == nil && res.Accepted > 0 {
			p.t.Fatalf("%s moves %d notes to another tenant: %+v", names[x.id], len(ids), res)
		}
		return
	}
	if problem != nil || res.Accepted != len(ids) {
		p.t.Fatalf("%s: %s where %s: %+v %v, want %d rows", names[x.id], act, filter, res, problem, len(ids))
	}
	for _, id := range ids {
		n := p.world.notes[id]
		n.Size, n.Body = size, body
		p.world.notes[id] = n
		if act == "delete" {
			delete(p.world.notes, id)
		}
	}
}

// get makes a plain request.
func (p *play) get(x *party, method, path, body string, header ...string) (int, http.Header, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for try := 0; ; try++ {
		q, err := http.NewRequestWithContext(ctx, method, p.server.URL+path, strings.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+x.token)
		for i := 0; i < len(header); i += 2 {
			q.Header.Set(header[i], header[i+1])
		}
		r, err := x.http.Do(q)
		if err == nil {
			text, e := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err = e; err == nil {
				return r.StatusCode, r.Header, string(text)
			}
		}
		if try > 4 { // connections are cut now and then
			p.t.Fatal(err)
		}
	}
}

func (p *play) rows(text string) []json.RawMessage {
	p.t.Helper()
	var rows []json.RawMessage
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	return rows
}

// read compares a relation with the model, or looks through another form of it.
func (p *play) read(x *party) {
	p.t.Helper()
	relation := relations[p.rng.IntN(len(relations))]
	switch p.rng.IntN(4) {
	case 0:
		filter, meant := p.filter()
		status, _, text := p.get(x, "GET", "/v1/views/notes?"+filter+"&order=size.desc,id", "")
		var want []string
		for _, n := range p.world.notes {
			if n.Tenant == names[x.id] && meant(n) {
				row, _ := json.Marshal(n)
				want = append(want, string(row))
			}
		}
		slices.Sort(want)
		if status != 200 || !slices.Equal(plain(p.rows(text)), want) {
			p.t.Fatalf("%s reads notes where %s: %d %s\nwant %s", names[x.id], filter, status, text, want)
		}
	case 1:
		accept := []string{"text/csv", "application/x-ndjson"}[p.rng.IntN(2)]
		status, _, text := p.get(x, "GET", "/v1/views/"+relation, "", "Accept", accept)
		n := strings.Count(strings.TrimRight(text, "\n"), "\n") + 1
		if text == "" {
			n = 0
		} else if accept == "text/csv" {
			n--
		}
		if want := p.world.sees(x.id, relation); status != 200 || n != len(want) {
			p.t.Fatalf("%s reads %s as %s: %d, %d rows, want %d\n%s", names[x.id], relation, accept, status, n, len(want), text)
		}
	default:
		status, _, text := p.get(x, "GET", "/v1/views/"+relation, "")
		if want := p.world.sees(x.id, relation); status != 200 || !slices.Equal(plain(p.rows(text)), want) {
			p.t.Fatalf("%s reads %s: %d %s\nwant %s", names[x.id], relation, status, text, want)
		}
	}
}

// conditional reads with the mark of an answer that anybody had: not modified means that the caller's own rows are those of that answer.
func (p *play) conditional(x *party) {
	p.t.Helper()
	path := "/v1/views/" + relations[p.rng.IntN(len(relations))]
	relation := strings.TrimPrefix(path, "/v1/views/")
	from := p.parties[p.rng.IntN(len(p.parties))]
	status, head, text := p.get(x, "GET", path, "", "If-None-Match", from.etags[path])
	want := p.world.sees(x.id, relation)
	switch status {
	case http.StatusNotModified:
		if from != x {
			p.t.Fatalf("%s is told that %s is what %s read", names[x.id], relation, names[from.id])
		}
		p.counts["not modified"]++
	case http.StatusOK:
		if !slices.Equal(plain(p.rows(text)), want) {
			p.t.Fatalf("%s reads %s again: %s\nwant %s", names[x.id], relation, text, want)
		}
		x.etags[path] = head.Get("ETag")
	default:
		p.t.Fatalf("%s: %d %s", path, status, text)
	}
}

// event appends an event, as a row or as a CloudEvent.
func (p *play) event(x *party, cloud bool) {
	p.t.Helper()
	p.next++
	e := event{names[x.id], p.next, p.text(x)}
	foreign := p.rng.IntN(4) == 0
	if foreign {
		e.Tenant = names[(x.id+2)%len(names)]
	}
	ok, said := false, ""
	if cloud {
		row, _ := json.Marshal(e)
		status, _, text := p.get(x, "POST", "/v1/tables/events", string(row), "Content-Type", "application/json", "ce-specversion", "1.0", "ce-type", "t",
			"ce-source", "/"+names[x.id], "ce-id", strconv.Itoa(p.next))
		ok, said = status == 200, text
	} else {
		res, problem := p.write(x, client.Write{Table: "events", Rows: e})
		ok, said = problem == nil && res.Accepted == 1, fmt.Sprint(res, problem)
	}
	if ok == foreign {
		p.t.Fatalf("%s appends %+v: %s", names[x.id], e, said)
	}
	if ok {
		p.world.events = append(p.world.events, e)
	}
}

// seat gives a tenant a seat in a room, or takes it away. Nobody but the steward may.
func (p *play) seat() {
	p.t.Helper()
	at := [2]string{rooms[p.rng.IntN(len(rooms))], names[p.rng.IntN(len(names))]}
	thief := p.parties[p.rng.IntN(len(p.parties))]
	if _, problem := p.write(thief, client.Write{Table: "seats", Rows: map[string]string{"room": at[0], "who": names[thief.id]}}); problem == nil || problem.Code != "forbidden" {
		p.t.Fatalf("%s takes a seat: %v", names[thief.id], problem)
	}
	w := client.Write{Table: "seats", Rows: map[string]string{"room": at[0], "who": at[1]}}
	if p.world.seats[at] {
		w = client.Write{Table: "seats", Delete: true, Filter: "room=eq." + at[0] + "&who=eq." + at[1]}
	}
	if res, problem := p.done(p.steward, w); problem != nil || res.Accepted != 1 {
		p.t.Fatalf("the steward: %+v: %+v %v", w, res, problem)
	}
	if p.world.seats[at] {
		delete(p.world.seats, at)
	} else {
		p.world.seats[at] = true
	}
}

// message says something in a room, or deletes all that was said there: those who sit there may. What is said has no mark, since others there see it.
func (p *play) message(x *party, unsay bool) {
	p.t.Helper()
	room := rooms[p.rng.IntN(len(rooms))]
	seated := p.world.seats[[2]string{room, names[x.id]}]
	if unsay {
		want := 0
		for _, m := range p.world.messages {
			if seated && m.Room == room {
				want++
			}
		}
		res, problem := p.write(x, client.Write{Table: "messages", Delete: true, Filter: "room=eq." + room})
		if problem != nil || res.Accepted != want {
			p.t.Fatalf("%s deletes %s: %+v %v, want %d", names[x.id], room, res, problem, want)
		}
		for id, m := range p.world.messages {
			if seated && m.Room == room {
				delete(p.world.messages, id)
			}
		}
		return
	}
	m := message{p.id(true), room, "said in " + room}
	res, problem := p.write(x, client.Write{Table: "messages", Rows: m})
	if seated != (problem == nil && res.Accepted == 1) || !seated && problem.Code != "forbidden" {
		p.t.Fatalf("%s (seated: %t) says %+v: %+v %v", names[x.id], seated, m, res, problem)
	}
	if seated {
		p.world.messages[m.ID] = m
	}
}

// forge sends what a tenant may not, in ways that a client library does not.
func (p *play) forge(x *party) {
	p.t.Helper()
	other := mark((x.id + 1) % len(names))
	for _, c := range []struct {
		method, path, body string
		header             []string
		want               []int
	}{
		{"GET", "/v1/views/laaster.audit", "", nil, []int{403, 404}},
		{"GET", "/v1/views/laaster.errors", "", nil, []int{403, 404}},
		{"GET", "/v1/views/notes?tenant=eq." + names[(x.id+1)%len(names)], "", nil, []int{200}},
		{"GET", "/v1/views/notes?body=like." + strings.TrimSuffix(other, "~") + "*&select=id", "", nil, []int{200}},
		{"GET", "/v1/views/notes", "", []string{"Laaster-Subject", names[(x.id+1)%len(names)], "X-Forwarded-User", names[(x.id+1)%len(names)]}, []int{200}},
		{"PATCH", "/v1/tables/notes?tenant=eq." + names[(x.id+1)%len(names)], `{"size":1}`, nil, []int{200}},
		{"GET", "/v1/views/notes", "", []string{"Authorization", "Bearer " + x.token[:len(x.token)-8] + "AAAAAAAA"}, []int{401}},
		{"GET", "/v1/views/%6eotes/../sums", "", nil, []int{404, 301, 307, 308, 400}},
	}[p.rng.IntN(8):][:1] {
		status, _, text := p.get(x, c.method, c.path, c.body, c.header...)
		if !slices.Contains(c.want, status) {
			p.t.Fatalf("%s: %s %s: %d %s", names[x.id], c.method, c.path, status, text)
		}
		if status == 200 && strings.Contains(c.path, "eq."+names[(x.id+1)%len(names)]) && (c.method == "GET" && text != "[]" && text != "[]\n" || c.method == "PATCH" && !strings.Contains(text, `"accepted":0`)) {
			p.t.Fatalf("%s: %s %s: %s", names[x.id], c.method, c.path, text)
		}
	}
}

// settle waits until everybody has everything, and compares all rows of all watchers with the model.
func (p *play) settle() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	positions := map[*party]string{}
	for _, x := range p.parties { // one row of each relation that everybody sees: what follows comes behind it
		n := note{p.id(true), names[x.id], p.text(x), 99}
		res, problem := p.write(x, client.Write{Table: "notes", Rows: n})
		if problem != nil {
			p.t.Fatal(problem)
		}
		p.world.notes[n.ID] = n
		positions[x] = res.Position
	}
	for _, x := range p.parties {
		for i, w := range x.live {
			for _, relation := range relations {
				s := w.subs[relation]
				if err := s.Ready(ctx); err != nil {
					p.t.Fatalf("%s, %s: %v", names[x.id], relation, err)
				}
			}
			if err := w.c.Reach(ctx, positions[x], w.subs["notes"], w.subs["big"], w.subs["sums"]); err != nil {
				p.t.Fatalf("%s, watcher %d: %v", names[x.id], i, err)
			}
			for _, relation := range relations {
				s, want := w.subs[relation], p.world.sees(x.id, relation)
				for { // relations that the last write did not touch follow by themselves
					err := s.Err()
					if slices.Equal(plain(s.Rows()), want) {
						break
					}
					select {
					case <-run.System{}.After(5 * time.Millisecond):
					case <-ctx.Done():
						p.t.Fatalf("%s, watcher %d: %s has %s\nwant %s (%v)", names[x.id], i, relation, plain(s.Rows()), want, err)
					}
				}
			}
		}
		x.mu.Lock()
		if len(x.leaks) > 0 {
			p.t.Fatalf("%s was sent what is not its own:\n%s", names[x.id], strings.Join(x.leaks, "\n"))
		}
		x.mu.Unlock()
	}
}

// number returns what a variable of the environment says.
func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestTenants: the length is LAASTER_OPS, the seed LAASTER_SEED.
func TestTenants(t *testing.T) {
	ops, seed := number(t, "LAASTER_OPS", 1500), number(t, "LAASTER_SEED", 1)
	p := newPlay(t, uint64(seed))
	for i := range ops {
		if p.step(); i%250 == 249 || i == ops-1 {
			p.settle()
		}
		if len(p.world.notes) > 400 || len(p.world.messages) > 200 || len(p.world.events) > 2000 && i%5000 == 0 {
			p.thin()
		}
	}
	total := 0
	for _, x := range p.parties {
		x.mu.Lock()
		total += x.bytes
		x.mu.Unlock()
	}
	t.Logf("%d acts %v; %d bytes looked through, %d notes, %d events, %d messages at the end", ops, p.counts, total, len(p.world.notes), len(p.world.events), len(p.world.messages))
	for _, act := range []string{"not modified"} {
		if p.counts[act] == 0 && ops >= 1500 {
			t.Errorf("never: %s", act)
		}
	}
}

// thin deletes what has become too much: every tenant its own.
func (p *play) thin() {
	p.t.Helper()
	for _, x := range p.parties {
		res, problem := p.write(x, client.Write{Table: "notes", Delete: true, Filter: "size=gte.20"})
		if problem != nil {
			p.t.Fatal(problem)
		}
		for id, n := range p.world.notes {
			if n.Tenant == names[x.id] && n.Size >= 20 {
				delete(p.world.notes, id)
				res.Accepted--
			}
		}
		if res.Accepted != 0 {
			p.t.Fatalf("%s deleted %d too many", names[x.id], res.Accepted)
		}
		for _, room := range rooms {
			if _, problem := p.write(x, client.Write{Table: "messages", Delete: true, Filter: "room=eq." + room}); problem != nil {
				p.t.Fatal(problem)
			}
			for id, m := range p.world.messages {
				if m.Room == room && p.world.seats[[2]string{room, names[x.id]}] {
					delete(p.world.messages, id)
				}
			}
		}
	}
}
