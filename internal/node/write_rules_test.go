package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/ingest"
)

const notesSQL = `CREATE ROLE member;
CREATE ROLE clerk;
CREATE TABLE rooms (room text, member text, PRIMARY KEY (room, member));
CREATE TABLE notes (id bigint PRIMARY KEY, room text NOT NULL, author text NOT NULL DEFAULT auth_subject(), tenant text DEFAULT auth_claim('org.tenant'), text text, stars integer NOT NULL DEFAULT 0 CHECK (stars >= 0)) WITH (audit);
CREATE TABLE facts (id bigint PRIMARY KEY, author text NOT NULL DEFAULT auth_subject()) WITH (append_only);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE facts ENABLE ROW LEVEL SECURITY;
GRANT ALL ON rooms TO clerk;
GRANT ALL ON notes TO member;
GRANT SELECT ON notes TO anon;
GRANT SELECT (id, room, stars), INSERT (id, room), UPDATE (stars) ON notes TO clerk;
GRANT INSERT ON facts TO member;
GRANT SELECT ON laaster.audit TO anon;
CREATE POLICY mine ON facts FOR INSERT TO member WITH CHECK (author = auth_subject());
CREATE POLICY see ON notes FOR SELECT TO member USING (room IN (SELECT room FROM rooms WHERE member = auth_subject()));
CREATE POLICY write ON notes FOR INSERT TO member WITH CHECK (author = auth_subject() AND room IN (SELECT room FROM rooms WHERE member = auth_subject()));
CREATE POLICY change ON notes FOR UPDATE TO member USING (author = auth_subject()) WITH CHECK (author = auth_subject() AND stars < 10);
CREATE POLICY drop ON notes FOR DELETE TO member USING (author = auth_subject());
CREATE POLICY stars ON notes TO clerk USING (true);
CREATE POLICY all_of_it ON notes FOR SELECT TO anon USING (true);
`

func member(name string) auth.Principal {
	return auth.Principal{Subject: name, Role: "member", Token: &auth.Token{Issuer: "i", Roles: []string{"member"}, Expires: time.Now().Add(time.Hour),
		Claims: []byte(`{"org":{"tenant":"acme"}}`)}}
}

// put writes as who and returns what was answered, in short: accepted, duplicates and the codes of refusals, or the code and field of the problem.
func (l *life) put(who auth.Principal, op change.Op, table, rows, filter string) string {
	l.t.Helper()
	res, p := l.n.door.Write(l.t.Context(), who, &ingest.Request{Table: table, Op: op, Rows: []byte(rows), Filter: filter, Received: time.Now()})
	if p != nil {
		return strings.TrimSpace(string(p.Code) + " " + p.Field)
	}
	var codes []string
	for _, x := range res.Rejected {
		codes = append(codes, string(x.Error.Code))
	}
	return strings.TrimSpace(fmt.Sprint(res.Accepted, " ", res.Duplicates, " ", strings.Join(codes, ",")))
}

// TestWriteRules writes as several callers under policies and column grants. After a restart that reads the log anew, with other policies, the rows are the same.
func TestWriteRules(t *testing.T) {
	dir, folder := t.TempDir(), t.TempDir()
	writeApp(t, dir, notesSQL)
	s := settingsFor(folder, "embedded")
	l := start(t, dir, s)
	ann, bob, eve, anon := member("ann"), member("bob"), member("eve"), auth.Anonymous()
	clerk := auth.Principal{Subject: "c", Role: "clerk", Token: &auth.Token{Issuer: "i", Roles: []string{"clerk"}}}
	const ins, mer, ign, upd, del = change.OpInsert, change.OpMerge, change.OpIgnore, change.OpUpdate, change.OpDelete
	for i, c := range []struct {
		who                 auth.Principal
		op                  change.Op
		table, rows, filter string
		want                string
	}{
		{clerk, ins, "rooms", `[{"room":"x","member":"ann"},{"room":"x","member":"bob"},{"room":"y","member":"bob"}]`, "", "3 0"},
		// WITH CHECK of inserts, on the row with its defaults, and with memberships.
		{ann, ins, "notes", `{"id":1,"room":"x","text":"hi"}`, "", "1 0"},
		{ann, ins, "notes", `{"id":2,"room":"x","author":"bob"}`, "", "forbidden"},
		{ann, ins, "notes", `{"id":2,"room":"y"}`, "", "forbidden"},
		{eve, ins, "notes", `{"id":2,"room":"x"}`, "", "forbidden"},
		{anon, ins, "notes", `{"id":2,"room":"x"}`, "", "unauthenticated"},
		{bob, ins, "notes", `[{"id":2,"room":"x"},{"id":3,"room":"y"},{"id":4,"room":"z"},{"id":5,"room":"y","author":"ann"}]`, "", "2 0 forbidden,forbidden"},
		{ann, ins, "facts", `[{"id":1},{"id":2,"author":"bob"}]`, "", "1 0 forbidden"},
		{ann, ins, "facts", `{"id":1}`, "", "0 1"},
		// The key of a row that is not seen is taken; that is the one thing that is told of it.
		{ann, ins, "notes", `{"id":3,"room":"x"}`, "", "conflict id"},
		{ann, ign, "notes", `{"id":3,"room":"x"}`, "", "0 1"},
		{ann, mer, "notes", `{"id":3,"room":"x","stars":1}`, "", "forbidden"},
		// USING decides what a filter finds: rows that are not seen, and rows that are seen and another's, are not there.
		{ann, upd, "notes", `{"stars":1}`, "id=gt.0", "1 0"},
		{ann, upd, "notes", `{"stars":2}`, "id=eq.2", "0 0"},
		{ann, upd, "notes", `{"stars":2}`, "id=eq.3", "0 0"},
		{ann, upd, "notes", `{"stars":2}`, "id=eq.99", "0 0"},
		{ann, del, "notes", "", "id=eq.3", "0 0"},
		{eve, upd, "notes", `{"stars":2}`, "id=gt.0", "0 0"},
		{anon, upd, "notes", `{"stars":2}`, "id=gt.0", "unauthenticated"},
		// WITH CHECK of updates is about what becomes of the rows, and the row must stay one that is seen.
		{ann, upd, "notes", `{"stars":10}`, "id=eq.1", "forbidden"},
		{ann, upd, "notes", `{"author":"bob"}`, "id=eq.1", "forbidden"},
		{ann, upd, "notes", `{"room":"y"}`, "id=eq.1", "forbidden"},
		{bob, upd, "notes", `{"room":"y"}`, "id=eq.2", "1 0"},
		{bob, upd, "notes", `{"stars":-1}`, "id=eq.2", "constraint notes_stars_check"},
		{bob, mer, "notes", `[{"id":2,"room":"y","stars":3},{"id":3,"room":"y","stars":11},{"id":6,"room":"y","stars":4},{"id":7,"room":"z"}]`, "", "2 0 forbidden,forbidden"},
		// A membership that ends takes effect with the next write.
		{clerk, del, "rooms", "", "room=eq.y&member=eq.bob", "1 0"},
		{bob, ins, "notes", `{"id":8,"room":"y"}`, "", "forbidden"},
		{bob, upd, "notes", `{"stars":5}`, "id=gt.0", "0 0"},
		{clerk, ins, "rooms", `{"room":"y","member":"bob"}`, "", "1 0"},
		{bob, upd, "notes", `{"stars":5}`, "id=gt.0", "3 0"},
		{bob, del, "notes", "", "id=eq.6", "1 0"},
		// Columns that are not granted.
		{clerk, ins, "notes", `{"id":9,"room":"q"}`, "", "1 0"},
		{clerk, ins, "notes", `{"id":10,"room":"q","text":"x"}`, "", "forbidden text"},
		{clerk, upd, "notes", `{"stars":7}`, "room=eq.q", "1 0"},
		{clerk, upd, "notes", `{"room":"r"}`, "room=eq.q", "forbidden room"},
		{clerk, upd, "notes", `{"stars":8}`, "author=eq.ann", "unknown_column author"},
		{clerk, upd, "notes", `{"stars":8}`, "nothing=eq.ann", "unknown_column nothing"},
		{clerk, mer, "notes", `{"id":9,"room":"q"}`, "", "forbidden room"},
		{clerk, del, "notes", "", "id=eq.9", "forbidden"},
	} {
		if got := l.put(c.who, c.op, c.table, c.rows, c.filter); got != c.want {
			t.Errorf("%d: %s writes %s %s: %s, want %s", i, c.who.Subject, c.rows, c.filter, got, c.want)
		}
	}
	want := `[{"id":1,"room":"x","author":"ann","tenant":"acme","text":"hi","stars":1},{"id":2,"room":"y","author":"bob","tenant":"acme","text":null,"stars":5},
		{"id":3,"room":"y","author":"bob","tenant":"acme","text":null,"stars":5},{"id":9,"room":"q","author":"c","tenant":null,"text":null,"stars":7}]`
	l.expect("/v1/views/notes?order=id", want)
	l.expect("/v1/views/laaster.audit?act=eq.write&select=subject,object,outcome&subject=eq.eve", `[{"subject":"eve","object":"notes","outcome":"refused"}]`)
	// A row that is not seen is told from a missing one by nothing but the position of the answer.
	for _, c := range []struct {
		op   change.Op
		rows string
	}{{upd, `{"stars":2}`}, {upd, `{"stars":-5}`}, {upd, `{"author":"x"}`}, {del, ""}} {
		var answers [2]string
		for i, filter := range []string{"id=eq.3", "id=eq.77"} {
			res, p := l.n.door.Write(t.Context(), ann, &ingest.Request{Table: "notes", Op: c.op, Rows: []byte(c.rows), Filter: filter, Received: time.Now()})
			if res != nil {
				res.Position = ""
			}
			text, err := json.Marshal([]any{res, p})
			if answers[i] = string(text); err != nil {
				t.Fatal(err)
			}
		}
		if answers[0] != answers[1] {
			t.Errorf("%d %s: %s, and of a row that is not there %s", c.op, c.rows, answers[0], answers[1])
		}
	}
	l.end()

	// What was written stays what it was: the rules of a write are in the log with it.
	writeApp(t, dir, strings.ReplaceAll(notesSQL, "stars < 10", "stars < 1"))
	if err := errors.Join(os.RemoveAll(filepath.Join(folder, "checkpoints")), os.RemoveAll(filepath.Join(folder, "copy"))); err != nil {
		t.Fatal(err)
	}
	l = start(t, dir, s)
	defer l.end()
	l.expect("/v1/views/notes?order=id", want)
	if got := l.put(ann, upd, "notes", `{"stars":1}`, "id=eq.1"); got != "forbidden" {
		t.Errorf("under the new policy: %s", got)
	}
}

// TestRepeatAfterTheRulesChanged: a request that is repeated under its key or its producer's number when other rows of it are refused than at first, is answered with
// what was decided at first, in the same life of the node and in the next.
func TestRepeatAfterTheRulesChanged(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
	writeApp(t, dir, notesSQL)
	l := start(t, dir, s)
	clerk := auth.Principal{Subject: "c", Role: "clerk", Token: &auth.Token{Issuer: "i", Roles: []string{"clerk"}}}
	bob := member("bob")
	send := func(r ingest.Request) string {
		t.Helper()
		r.Table, r.Op, r.Received = "notes", change.OpInsert, time.Now()
		res, p := l.n.door.Write(t.Context(), bob, &r)
		if p != nil {
			return string(p.Code)
		}
		text := fmt.Sprint(res.Accepted, " ", res.Duplicates)
		for _, x := range res.Rejected {
			text += fmt.Sprint(" ", x.Index, x.Error.Code)
			if x.Error.Code == "forbidden" && (x.Error.Detail == "" || x.Error.Hint == "") {
				t.Errorf("a refusal without words: %+v", x.Error)
			}
		}
		return text
	}
	join := func(room string, in bool) {
		t.Helper()
		got, want := "", "1 0"
		if in {
			got = l.put(clerk, change.OpInsert, "rooms", `{"room":"`+room+`","member":"bob"}`, "")
		} else {
			got = l.put(clerk, change.OpDelete, "rooms", "", "member=eq.bob&room=eq."+room)
		}
		if got != want {
			t.Fatal(got)
		}
	}
	body := func(from int) []byte {
		return fmt.Appendf(nil, `[{"id":%d,"room":"y"},{"id":%d,"room":"x"},{"nothing":1},{"id":%d,"room":"x"},{"Idempotency-Key":1}]`, from, from+1, from+2)
	}
	keyed := ingest.Request{Rows: body(10), Key: "k"}
	numbered := ingest.Request{Rows: body(20), Producer: "p", Sequence: 1}
	const decided = "2 0 0forbidden 2unknown_column 4unknown_column"
	repeat := func(when string) {
		t.Helper()
		for _, r := range []ingest.Request{keyed, numbered} {
			if got := send(r); got != decided {
				t.Errorf("%s, key %q: %s, want %s", when, r.Key, got, decided)
			}
		}
	}
	join("x", true)
	repeat("at first")
	repeat("again")
	join("y", true)
	repeat("when the row would be allowed")
	join("x", false)
	repeat("when others would be refused")
	join("y", false)
	repeat("when all would be refused")
	// A key under which nothing was done is free for the request when it is mended.
	free := ingest.Request{Rows: []byte(`{"id":30,"room":"z"}`), Key: "free"}
	if got := send(free); got != "forbidden" {
		t.Errorf("a row that is refused: %s", got)
	}
	join("z", true)
	for range 2 {
		if got := send(free); got != "1 0" {
			t.Errorf("and when it is allowed: %s", got)
		}
	}
	const want = `[{"id":11},{"id":12},{"id":21},{"id":22},{"id":30}]`
	l.expect("/v1/views/notes?order=id&select=id", want)
	l.end()
	l = start(t, dir, s)
	defer l.end()
	repeat("in the next life")
	l.expect("/v1/views/notes?order=id&select=id", want)
}

// TestRefusedWritesAreCounted: a flood of refused writes is no flood of records, and the next record says how many were left out.
func TestRefusedWritesAreCounted(t *testing.T) {
	var r refusedWrites
	at := time.Unix(1_700_000_000, 0)
	for i := range 3 * refusedPerSecond {
		if _, ok := r.take(at); ok != (i < refusedPerSecond) {
			t.Fatalf("record %d: %v", i, ok)
		}
	}
	if silent, ok := r.take(at.Add(time.Second)); !ok || silent != 2*refusedPerSecond {
		t.Errorf("in the next second: %d, %v", silent, ok)
	}
	if silent, ok := r.take(at.Add(time.Second)); !ok || silent != 0 {
		t.Errorf("and then: %d, %v", silent, ok)
	}
}
