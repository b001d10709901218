package node

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"laaster/internal/change"
)

// manyRows returns a body whose rows take several batches, with a refused row in each.
func manyRows(n int, salt string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		if i%5000 == 17 {
			b.WriteString(`{"contestant":null}`)
			continue
		}
		fmt.Fprintf(&b, `{"contestant":"%s%0200d"}`, salt, i%7)
	}
	return b.String() + "]"
}

// TestLargeRequestOnce repeats a request that spans several batches, with its Idempotency-Key, in one life of the node and in
// the next: the answer is the stored one, and its rows are there once.
func TestLargeRequestOnce(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
	writeApp(t, dir, votesSQL+"CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM votes;\nGRANT SELECT ON n TO anon;\n")
	l := start(t, dir, s)
	const rows = 15_000
	body := manyRows(rows, "c")
	if len(body) < 2*change.MaxBatch {
		t.Fatalf("%d bytes are not several batches", len(body))
	}
	head := l.n.shard.Head()
	first := l.write("POST", "/v1/tables/votes", body, "Idempotency-Key", "big")
	if n := l.n.shard.Head() - head; n < 3 {
		t.Fatalf("the request took %d batches", n)
	}
	count := fmt.Sprintf(`[{"n":%d}]`, rows-3)
	if first.Accepted != rows-3 || len(first.Rejected) != 3 || first.Rejected[1].Index != 5017 {
		t.Fatalf("accepted %d, rejected %+v", first.Accepted, first.Rejected)
	}
	repeat := func(when string) {
		t.Helper()
		again := l.write("POST", "/v1/tables/votes", body, "Idempotency-Key", "big")
		for i := range again.Rejected {
			again.Rejected[i].Error.Request = first.Rejected[i].Error.Request
		}
		if !reflect.DeepEqual(again, first) {
			t.Errorf("%s: the repeat was answered %+v, the first %+v", when, again, first)
		}
		l.expect("/v1/views/n", count)
	}
	repeat("in the same life")
	if status, text, _ := l.call("POST", "/v1/tables/votes", manyRows(rows, "d"), "Idempotency-Key", "big"); status != http.StatusConflict || !strings.Contains(text, "conflict") {
		t.Errorf("another body under the key: %d %.300s", status, text)
	}
	// The key is the table's own.
	if r := l.write("POST", "/v1/tables/rooms", `{"name":"red","size":1}`, "Idempotency-Key", "big"); r.Accepted != 1 {
		t.Errorf("the same key for another table: %+v", r)
	}
	if r := l.write("POST", "/v1/tables/votes?_ack=logged", `{"contestant":"e"}`, "Idempotency-Key", "early"); !r.Final {
		t.Errorf("under a key the outcome is always final: %+v", r)
	}
	if status, _, _ := l.call("POST", "/v1/tables/votes?_ack=logged", `{"contestant":"f"}`, "Idempotency-Key", "early"); status != http.StatusConflict {
		t.Errorf("_ack=logged under a used key: %d", status)
	}
	count = fmt.Sprintf(`[{"n":%d}]`, rows-2)
	l.end()
	l = start(t, dir, s)
	repeat("after a restart")
	repeat("and again")
	l.end()
}

// TestWriteOdds: writes at the edges of what is allowed.
func TestWriteOdds(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL+`CREATE TABLE odd ("größe" integer PRIMARY KEY, d double precision, n numeric, j jsonb, must text NOT NULL, "Name" text DEFAULT 'x',
  CHECK (d IS NULL OR must <> 'none'));
GRANT ALL ON odd TO anon;
`)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		part                     string
	}{
		{"a name written with escapes", "POST", "/v1/tables/odd", `{"gr\u00f6\u00dfe":1,"must":"a"}`, 200, `"accepted":1`},
		{"a name that is not there, with escapes", "POST", "/v1/tables/odd", `{"gr\u00f6sse":1,"must":"a"}`, 400, `"field":"grösse"`},
		{"the last of two members wins", "POST", "/v1/tables/odd", `{"größe":9,"größe":2,"must":"a"}`, 200, `"accepted":1`},
		{"minus zero", "POST", "/v1/tables/odd", `{"größe":-0,"d":-0,"n":-0.0,"must":"a"}`, 200, `"accepted":1`},
		{"beyond double", "POST", "/v1/tables/odd", `{"größe":3,"d":1e400,"must":"a"}`, 422, `"field":"d"`},
		{"beyond numeric", "POST", "/v1/tables/odd", `{"größe":3,"n":1e999999999,"must":"a"}`, 422, `"field":"n"`},
		{"beyond jsonb", "POST", "/v1/tables/odd", `{"größe":3,"j":[1e999999999],"must":"a"}`, 422, `"field":"j"`},
		{"half a surrogate", "POST", "/v1/tables/odd", `{"größe":3,"must":"\ud800"}`, 422, `"field":"must"`},
		{"atomic beyond a batch", "POST", "/v1/tables/votes?_atomic=true", manyRows(7000, "c")[:1_400_000] + `"}]`, 413, `"too_large"`},
		{"merge of a part of a row that is there", "POST", "/v1/tables/odd?on_conflict=merge", `{"größe":1,"d":1}`, 200, `"accepted":1`},
		{"merge of a part of a row that is not there", "POST", "/v1/tables/odd?on_conflict=merge", `{"größe":77,"d":1}`, 422, `"field":"must"`},
		{"merge to NULL", "POST", "/v1/tables/odd?on_conflict=merge", `{"größe":1,"must":null}`, 422, `"field":"must"`},
		{"merge against a check with what is there", "POST", "/v1/tables/odd?on_conflict=merge", `{"größe":1,"must":"none"}`, 422, `"constraint"`},
		{"a new primary key", "PATCH", "/v1/tables/odd?größe=eq.2", `{"größe":5}`, 422, `delete it and insert another`},
		{"the same primary key", "PATCH", "/v1/tables/odd?größe=eq.2", `{"größe":2,"d":2}`, 200, `"accepted":1`},
		{"a primary key of NULL", "PATCH", "/v1/tables/odd?größe=eq.2", `{"größe":null}`, 422, `"invalid_row"`},
		{"a list for an update", "PATCH", "/v1/tables/odd?größe=eq.5", `[{"d":1}]`, 422, `"invalid_row"`},
		{"on_conflict of a PATCH", "PATCH", "/v1/tables/odd?größe=eq.5&on_conflict=merge", `{"d":1}`, 400, `"on_conflict"`},
		{"on_conflict of append-only, merge", "POST", "/v1/tables/votes?on_conflict=merge", `{"contestant":"A"}`, 401, `INSERT, UPDATE`},
		{"on_conflict that is not known", "POST", "/v1/tables/odd?on_conflict=replace", `{"größe":1,"must":"a"}`, 400, `merge or ignore`},
		{"a filter for a POST", "POST", "/v1/tables/odd?größe=eq.5", `{}`, 400, `"field":"größe"`},
		{"a broken query", "POST", "/v1/tables/odd?_ack=%zz", `{}`, 400, `"invalid_request"`},
		{"a long key", "POST", "/v1/tables/odd", `{}`, 400, `"Idempotency-Key"`},
		{"a wait that is too long", "GET", "/v1/views/odd?_wait=30001", "", 400, `"_wait"`},
		{"a wait that is negative", "GET", "/v1/views/odd?_wait=-1", "", 400, `"_wait"`},
		{"a wait beyond numbers", "GET", "/v1/views/odd?_wait=99999999999999999999", "", 400, `"_wait"`},
		{"a position of nobody", "GET", "/v1/views/odd?_after=x", "", 400, `"_after"`},
		{"a position of another log", "GET", "/v1/views/odd?_after=aaaaaaaaaaaaaaaa.0-1", "", 410, `"gap"`},
	} {
		header := []string{}
		if c.name == "a long key" {
			header = []string{"Idempotency-Key", strings.Repeat("k", 256)}
		}
		status, text, _ := l.call(c.method, c.path, c.body, header...)
		if status != c.status || !strings.Contains(text, c.part) {
			t.Errorf("%s: want %d with %s, got %d %.400s", c.name, c.status, c.part, status, text)
		}
	}
	l.expect("/v1/views/odd?select=größe,d,must", `[{"größe":0,"d":0,"must":"a"},{"größe":1,"d":1,"must":"a"},{"größe":2,"d":2,"must":"a"}]`)
}
