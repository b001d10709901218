package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/flow"
	"laaster/internal/kit/run"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

// roomsApp has rules of every kind: what is one's own, what is in one's rooms, both, and what is for a few.
const roomsApp = `
CREATE ROLE reader;
CREATE TABLE notes (id text PRIMARY KEY, owner text, votes bigint);
CREATE TABLE posts (room text, id text, votes bigint, PRIMARY KEY (room, id));
CREATE TABLE board (id text PRIMARY KEY, room text, owner text, votes bigint);
CREATE TABLE plans (id text PRIMARY KEY, votes bigint);
CREATE TABLE members (room text, member text, since bigint, PRIMARY KEY (room, member));
CREATE TABLE invited (id text PRIMARY KEY, room text, member text);
CREATE TABLE admins (member text PRIMARY KEY);
GRANT SELECT ON notes, posts, board, plans TO reader;
GRANT SELECT (room, member) ON members TO reader;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = auth_subject());
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
CREATE POLICY rooms ON posts USING (room IN (SELECT room FROM members WHERE member = auth_subject() AND since > 3));
ALTER TABLE board ENABLE ROW LEVEL SECURITY;
CREATE POLICY rooms ON board USING (owner = auth_subject() OR room IN (SELECT room FROM invited WHERE member = auth_subject()));
CREATE POLICY known ON board AS RESTRICTIVE USING (votes < 90);
ALTER TABLE plans ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON plans USING (auth_subject() IN (SELECT member FROM admins));
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (member = auth_subject());
`

func compiled(t testing.TB, src string) (*flow.Program, *auth.Rules) {
	t.Helper()
	p, diags := sql.Compile("app.sql", []byte(src), nil)
	if p == nil {
		t.Fatal(sql.Render(diags))
	}
	rules := &auth.Rules{}
	rules.Use(p.Definition, p.Relations...)
	return p, rules
}

// byHeader takes the caller's word for who he is.
func byHeader(r *http.Request) (auth.Principal, *wire.Problem) {
	return reader1(r.Header.Get("Who")), nil
}

// reader1 is a principal with a token and the role reader.
func reader1(subject string) auth.Principal {
	return auth.Principal{Subject: subject, Role: "reader", Token: &auth.Token{Roles: []string{"reader"}, Claims: []byte("{}")}}
}

// TestRulesModel is TestModel with callers who see different rows: each compares his rows at every position that he is told with what the rules let him see at
// that position, the rows that the rules compare with included.
func TestRulesModel(t *testing.T) {
	first, n := uint64(1), uint64(4)
	if testing.Short() {
		n = 2
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, n = seed, 1
	}
	if s := os.Getenv("LAASTER_SEEDS"); s != "" {
		seeds, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n = seeds
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runRulesModel(t, seed) })
	}
}

// rooms is the relations of roomsApp by name.
type rooms map[string]int

// has reports whether a relation has a row for which ok holds.
func (r rooms) has(w *world, name string, ok func(vals []*string) bool) bool {
	for _, vals := range w.rows[r[name]] {
		if ok(vals) {
			return true
		}
	}
	return false
}

func is(v *string, s string) bool { return v != nil && *v == s }

func number(v *string) int {
	n, _ := strconv.Atoi(*v)
	return n
}

// queries are what one caller may ask, with the rules again.
func (r rooms) queries(who string) []modelQuery {
	all := func([]*string) bool { return true }
	own := func(w *world, who string, vals []*string) bool { return is(vals[1], who) }
	inRoom := func(w *world, who string, vals []*string) bool {
		return r.has(w, "members", func(m []*string) bool { return *m[0] == *vals[0] && *m[1] == who && m[2] != nil && number(m[2]) > 3 })
	}
	onBoard := func(w *world, who string, vals []*string) bool {
		invited := vals[1] != nil && r.has(w, "invited", func(m []*string) bool { return is(m[1], *vals[1]) && is(m[2], who) })
		return (is(vals[2], who) || invited) && vals[3] != nil && number(vals[3]) < 90
	}
	few := func(w *world, who string, vals []*string) bool {
		return r.has(w, "admins", func(m []*string) bool { return *m[0] == who })
	}
	high := func(col int) func([]*string) bool {
		return func(v []*string) bool { return v[col] != nil && number(v[col]) >= 40 }
	}
	byVotes := func(col int) func(a, b []*string) bool {
		rank := func(v *string) int {
			if v == nil {
				return -1
			}
			return number(v)
		}
		return func(a, b []*string) bool {
			x, y := rank(a[col]), rank(b[col])
			return x > y || x == y && *a[0] < *b[0]
		}
	}
	list := []modelQuery{
		{view: "notes", match: all, cols: []int{0, 1, 2}, sees: own},
		{view: "notes", filter: "votes=gte.40", match: high(2), cols: []int{0, 1, 2}, sees: own},
		{view: "notes", match: all, cols: []int{0, 1, 2}, sees: own, order: "votes.desc.nullslast", less: byVotes(2), limit: 2},
		{view: "posts", match: all, cols: []int{0, 1, 2}, sees: inRoom},
		{view: "posts", filter: "votes=gte.40", match: high(2), cols: []int{0, 1, 2}, sees: inRoom},
		{view: "posts", filter: "room=eq.r1", match: func(v []*string) bool { return *v[0] == "r1" }, cols: []int{0, 1, 2}, sees: inRoom},
		{view: "posts", sel: "room", match: all, cols: []int{0, 1}, sees: inRoom},
		{view: "board", match: all, cols: []int{0, 1, 2, 3}, sees: onBoard},
		{view: "board", filter: "votes=gte.40", match: high(3), cols: []int{0, 1, 2, 3}, sees: onBoard},
		{view: "board", match: all, cols: []int{0, 1, 2, 3}, sees: onBoard, order: "votes.desc.nullslast", less: byVotes(3), limit: 3, offset: 1},
		{view: "plans", match: all, cols: []int{0, 1}, sees: few},
		{view: "members", match: all, cols: []int{0, 1}, sees: own},
	}
	for i := range list {
		list[i].who = who
	}
	return list
}

// change returns a random edit.
func (r rooms) change(rd *rand.Rand) edit {
	callers := []string{"ann", "bob", "cid", "dan"}
	one := func(list ...string) *string { return str(list[rd.IntN(len(list))]) }
	caller, room, votes := one(callers...), one("r1", "r2", "r3", "r4"), str(fmt.Sprint(rd.IntN(100)))
	if rd.IntN(10) == 0 {
		votes = nil
	}
	e := edit{gone: rd.IntN(3) == 0}
	switch name := *one("notes", "notes", "posts", "posts", "posts", "board", "board", "plans", "members", "members", "invited", "admins"); name {
	case "notes":
		e.rel, e.vals = r[name], []*string{one("n1", "n2", "n3", "n4", "n5"), caller, votes}
	case "posts":
		e.rel, e.vals = r[name], []*string{room, one("p1", "p2", "p3", "p4"), votes}
	case "board":
		e.rel, e.vals = r[name], []*string{one("b1", "b2", "b3", "b4", "b5", "b6"), room, caller, votes}
		if rd.IntN(8) == 0 {
			e.vals[1] = nil
		}
	case "plans":
		e.rel, e.vals = r[name], []*string{one("x", "y"), votes}
	case "members":
		e.rel, e.vals = r[name], []*string{room, caller, str(fmt.Sprint(rd.IntN(10)))}
	case "invited":
		e.rel, e.vals = r[name], []*string{one("i1", "i2", "i3", "i4", "i5", "i6"), room, caller}
		if rd.IntN(8) == 0 {
			e.vals[1] = nil
		}
	case "admins":
		e.rel, e.vals = r[name], []*string{caller}
	}
	return e
}

func (r rooms) history(m *model, rd *rand.Rand, epochs int) {
	for range epochs {
		var edits []edit
		for range rd.IntN(4) {
			edits = append(edits, r.change(rd))
		}
		m.advanceTo(edits)
		for range rd.IntN(200) { // clients come and go within a run
			runtime.Gosched()
		}
		if rd.IntN(8) == 0 {
			m.flushed()
		}
	}
	m.advanceTo(nil) // told by a heartbeat
	m.mu.Lock()
	m.mu.over = true
	m.mu.moved.Broadcast()
	m.mu.Unlock()
}

func runRulesModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 11))
	ring := []int{1 << 12, 1 << 14, 1 << 18}[r.IntN(3)]
	p, rules := compiled(t, roomsApp)
	names := rooms{}
	for _, rel := range p.Relations {
		names[rel.Name] = rel.ID
	}
	callers := []string{"ann", "bob", "cid", "dan"}
	m := &model{seed: seed, calm: seed%2 == 0}
	for _, who := range callers {
		m.queries = append(m.queries, names.queries(who)...)
	}
	m.bench = newBenchOf(t, Options{Clock: run.System{}, Merge: time.Duration(1+r.IntN(3)) * time.Millisecond, PageBytes: 200 + r.IntN(2000),
		FrameLogBytes: 500 + r.IntN(4000), UnsentBytes: 4096, Limits: wire.Limits{HeartbeatSeconds: 1}, Rules: rules, Principal: byHeader}, ring, p.Relations)
	addr, end := m.serve(t)
	defer end()
	clients := run.New(context.Background())
	const epochs = 600
	for i := range 10 {
		c := &modelClient{m: m, addr: addr, rand: rand.New(rand.NewPCG(seed, uint64(100+i))), who: callers[i%len(callers)], events: i%5 == 4}
		clients.Go(fmt.Sprint("client ", i), func(context.Context) error { return c.live(epochs + 1) })
	}
	names.history(m, r, epochs)
	if err := clients.Wait(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	for range 50 { // reads see the same
		q := r.IntN(len(m.queries))
		m.compareRead(t, addr, q)
	}
	t.Logf("%+v, %d bytes of memberships", m.hub.Stats(), m.hub.memberBytes.Load())
}

// compareRead reads over HTTP and compares the rows with the model's.
func (m *model) compareRead(t *testing.T, addr string, q int) {
	t.Helper()
	mq := &m.queries[q]
	req, err := http.NewRequest("GET", "http://"+addr+"/v1/views/"+mq.view+"?"+mq.params(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Who", mq.who)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := readRows(t, res)
	var want []string
	head, _ := m.store.Head()
	for _, row := range m.expect(q, head) {
		want = append(want, row)
	}
	if mq.sel != "" { // a read has no key but what is selected
		return
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%+v reads %v\nwant %v", *mq, got, want)
	}
}

// readRows returns the rows of an answer as canonical text.
func readRows(t *testing.T, res *http.Response) (rows []string) {
	t.Helper()
	var list []map[string]any
	if err := decodeNumbers(res.Body, &list); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.StatusCode, err)
	}
	for _, row := range list {
		rows = append(rows, canonical(row))
	}
	return rows
}

func decodeNumbers(r io.Reader, to any) error {
	d := json.NewDecoder(r)
	d.UseNumber()
	return d.Decode(to)
}
