package push

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/view"
)

// memberOf returns the set that the rule for what who sees of a view compares with, followed but not read, and how to read it: as Hub.buildMember does, in two steps.
func (b *bench) memberOf(who, name string) (s *membership, read func() (*view.Snapshot, map[string]*memberValue)) {
	b.t.Helper()
	seen, p := b.hub.readable(reader1(who), name)
	if p != nil {
		b.t.Fatal(p)
	}
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	s = b.hub.acquireMemberLocked(&seen.rule.Members[0], seen.over[0])
	return s, func() (*view.Snapshot, map[string]*memberValue) {
		snap, r, values := b.store.Snapshot(s.feed.q.rel.ID), reader{query: s.feed.q}, map[string]*memberValue{}
		r.scan(snap, nil, func(_ []byte, row change.Row) bool { s.count(values, row, 1); return true })
		return snap, values
	}
}

func (b *bench) install(s *membership, snap *view.Snapshot, values map[string]*memberValue) {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	s.install(snap, values)
}

func (b *bench) reads(who, path string) string {
	w := httptest.NewRecorder()
	b.hub.ServeView(w, viewRequest("GET", "/v1/views/"+path+" Who:"+who))
	return w.Body.String()
}

func post(names rooms, room, id string) edit {
	return edit{rel: names["posts"], vals: []*string{&room, &id, str("1")}}
}

func enters(names rooms, room, who string) edit {
	return edit{rel: names["members"], vals: []*string{&room, &who, str("9")}}
}

func leaves(names rooms, room, who string) edit {
	e := enters(names, room, who)
	e.gone = true
	return e
}

// TestMemberChangesWhileRead: what changes a set while its rows are read, and is flushed before they are known, counts: in the set of now, and at its position.
func TestMemberChangesWhileRead(t *testing.T) {
	b, names := roomsBench(t, Options{})
	b.happens(post(names, "r1", "secret"), post(names, "r2", "news"), enters(names, "r1", "ann"))
	s, read := b.memberOf("ann", "posts")
	snap, values := read()
	b.happens(leaves(names, "r1", "ann"))
	between := b.hub.reached()
	b.happens(enters(names, "r2", "ann"))
	b.install(s, snap, values)
	if got := b.reads("ann", "posts"); strings.Contains(got, "secret") || !strings.Contains(got, "news") {
		t.Error("after the change ann reads", got)
	}
	list, ok := s.valuesAt(between)
	if !ok || len(list) != 0 {
		t.Error("between the changes the set has", list, ok)
	}
	if list, ok = s.valuesAt(snap.Seq()); !ok || len(list) != 1 {
		t.Error("before them it has", list, ok)
	}
	b.happens(leaves(names, "r2", "ann"))
	if got := b.reads("ann", "posts"); got != "[]\n" {
		t.Error("in the end ann reads", got)
	}
}

// TestMemberReadTooLong: when the ring has lost what changed while a set was read, the set is read again.
func TestMemberReadTooLong(t *testing.T) {
	p, rules := compiled(t, roomsApp)
	b, names := newBenchOf(t, Options{Rules: rules, Principal: byHeader}, 1<<10, p.Relations), rooms{}
	for _, rel := range p.Relations {
		names[rel.Name] = rel.ID
	}
	b.happens(post(names, "r1", "secret"), enters(names, "r1", "ann"))
	s, read := b.memberOf("ann", "posts")
	snap, values := read()
	b.happens(leaves(names, "r1", "ann"))
	for i := range 40 {
		b.happens(edit{rel: names["plans"], vals: []*string{str("x"), str(string(rune('0' + i%10)))}})
	}
	if snap.Seq() >= b.store.Floor() {
		t.Fatal("the ring still has everything")
	}
	b.install(s, snap, values)
	if s.ready() {
		t.Error("the set is taken for known")
	}
	if got := b.reads("ann", "posts"); got != "[]\n" {
		t.Error("ann reads", got)
	}
}

// TestMemberCounts: a set whose count of rows for a value comes out below zero was not followed: it is read again, not trusted.
func TestMemberCounts(t *testing.T) {
	b, names := roomsBench(t, Options{})
	b.happens(post(names, "r1", "secret"))
	s, read := b.memberOf("ann", "posts")
	snap, values := read()
	b.install(s, snap, values)
	rel := s.feed.q.rel
	key, row := encode(rel, enters(names, "r1", "ann").vals)
	head, _ := b.store.Head()
	b.hub.mu.Lock()
	s.apply(head+1, []change.RowChange{{Key: key, Old: row}})
	b.hub.mu.Unlock()
	if s.ready() {
		list, _ := s.valuesAt(head + 1)
		t.Error("a set of a negative number of rows is taken for known:", list)
	}
	if got := b.reads("ann", "posts"); got != "[]\n" {
		t.Error("ann reads", got)
	}
}

// becomes makes a relation another one, with its rows or without, in the epoch that edits make.
func (b *bench) becomes(name string, withRows bool, rules Rules, edits ...edit) *expr.Relation {
	b.t.Helper()
	old := b.hub.relation(name)
	head, _ := b.store.Head()
	a := view.Added{Relation: old, Birth: head + 1}
	if withRows {
		a.From, a.Index = b.store, old.ID
	}
	next := b.store.Redefine([]view.Added{a})[0]
	b.world.rels, b.world.rows = b.store.Relations(), append(b.world.rows, map[string][]*string{})
	if withRows {
		for key, vals := range b.world.rows[old.ID] {
			b.world.rows[next.ID][key] = vals
		}
	}
	var rels []*expr.Relation
	for _, rel := range b.hub.era.Load().byName {
		if rel == old {
			rel = next
		}
		rels = append(rels, rel)
	}
	b.advance(10 * time.Millisecond)
	b.hub.Redefine(rels, rules)
	b.apply(edits...)
	b.hub.Settle()
	b.flushed()
	return next
}

// TestRedefineMember: when the table that a rule compares with becomes another one, those who follow what the rule is for get the rows of now, and go on: those who
// were there, as those who come later.
func TestRedefineMember(t *testing.T) {
	for _, hello := range []string{
		`{"type":"hello","subscribe":[{"id":"a","view":"posts"}]}`,
		`{"type":"hello","subscribe":[{"id":"a","view":"posts","order":"id","limit":5}]}`,
	} {
		b, names := roomsBench(t, Options{})
		_, rules := compiled(t, roomsApp)
		b.happens(post(names, "r1", "secret"), post(names, "r2", "news"), enters(names, "r1", "ann"))
		m := b.join("ann", hello)
		if got := strings.Join(b.told(m, 400), "\n"); !strings.Contains(got, "secret") {
			t.Fatal(got)
		}
		names["members"] = b.becomes("members", false, rules, post(names, "r1", "hidden"), post(names, "r2", "seen")).ID
		old := strings.Join(b.told(m, 400), "\n")
		if !strings.Contains(old, `"type":"snapshot"`) || strings.Contains(old, "secret") || strings.Contains(old, "hidden") {
			t.Errorf("%s: who was there is told\n%s", hello, old)
		}
		o := b.join("ann", hello)
		if got := strings.Join(b.told(o, 400), "\n"); !strings.Contains(got, `"rows":[],"more":false`) {
			t.Errorf("%s: who comes later is told\n%q", hello, got)
		}
		b.happens(post(names, "r1", "leak"))
		if got := append(b.told(m, 400), b.told(o, 400)...); len(got) != 0 {
			t.Errorf("%s: nobody is in r1, and told is\n%q", hello, got)
		}
		b.happens(enters(names, "r2", "ann"))
		for _, who := range []*memConn{m, o} {
			if got := strings.Join(b.told(who, 400), "\n"); !strings.Contains(got, "news") || !strings.Contains(got, "seen") || strings.Contains(got, "secret") {
				t.Errorf("%s: with the new table's row is told\n%s", hello, got)
			}
		}
		if got := b.reads("ann", "posts"); strings.Contains(got, "r1") || !strings.Contains(got, "news") {
			t.Errorf("%s: a read has\n%s", hello, got)
		}
		b.hub.mu.Lock()
		if n := len(b.hub.mu.feeds[names["posts"]].all); n != 1 {
			t.Errorf("%s: %d feeds of one question", hello, n)
		}
		b.hub.mu.Unlock()
	}
}

// TestMemberBirth: what is known of a set does not reach back behind the birth of its relation, though its rows are older.
func TestMemberBirth(t *testing.T) {
	b, names := roomsBench(t, Options{})
	_, rules := compiled(t, roomsApp)
	b.happens(post(names, "r1", "p"), enters(names, "r1", "ann"))
	before := b.hub.reached()
	b.happens(post(names, "r1", "q"))
	names["members"] = b.becomes("members", true, rules, post(names, "r1", "r")).ID
	s, read := b.memberOf("ann", "posts")
	snap, values := read()
	b.install(s, snap, values)
	born := b.store.Birth(names["members"])
	if born <= before || s.oldest() < born {
		t.Error("the set is known from", s.oldest(), "on, and its relation was born at", born)
	}
	if s.reachBack(before) {
		t.Error("the set knows its values before its relation was born")
	}
	if !s.reachBack(born) {
		t.Error("the set does not reach back to the birth of its relation")
	}
}

// TestHiddenRowsCostNothing: the patterns that a caller asks for are not tried on rows that he does not see, and nothing is charged for those.
func TestHiddenRowsCostNothing(t *testing.T) {
	b, names := roomsBench(t, Options{})
	long := strings.Repeat("p", 500)
	var edits []edit
	for i := range 20 {
		id := long + string(rune('a'+i))
		edits = append(edits, post(names, "r1", id), edit{rel: names["notes"], vals: []*string{&id, str("bob"), str("1")}},
			edit{rel: names["board"], vals: []*string{&id, nil, nil, str("1")}})
	}
	b.happens(edits...)
	spent := func(view string) (work, rows int) {
		seen, p := b.hub.readable(reader1("ann"), view)
		if p != nil {
			t.Fatal(p)
		}
		q, p := newQuery(seen, "id=match.p(q|p)*$", false, false)
		if p != nil {
			t.Fatal(p)
		}
		rd := &read{query: q}
		defer b.hub.letGo(rd)
		snap, _, p := b.hub.moment(rd)
		if p != nil {
			t.Fatal(p)
		}
		r := reader{query: rd.query}
		snap.Ascend(q.rel.ID, nil, func(_ []byte, row change.Row) bool {
			if r.match(row) {
				rows++
			}
			work += r.ctx.Spent()
			return true
		})
		return work, rows
	}
	for _, view := range []string{"notes", "posts", "board"} {
		if work, _ := spent(view); work != 0 {
			t.Errorf("%s: %d steps on rows that are not seen", view, work)
		}
	}
	id := long + "p"
	b.happens(enters(names, "r1", "ann"), edit{rel: names["notes"], vals: []*string{&id, str("ann"), str("1")}},
		edit{rel: names["board"], vals: []*string{&id, nil, str("ann"), str("1")}})
	for _, view := range []string{"notes", "posts", "board"} {
		if work, rows := spent(view); work == 0 || rows == 0 {
			t.Errorf("%s: %d steps, %d rows of those that are seen", view, work, rows)
		}
	}
}
