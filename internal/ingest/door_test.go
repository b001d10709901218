package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"laaster/internal/auth"
	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

const doorSQL = `CREATE TABLE r (id bigint PRIMARY KEY, i integer, d double precision, n numeric, t text, b boolean, j jsonb, "größe" integer);
CREATE TABLE e (a text NOT NULL, u uuid PRIMARY KEY DEFAULT gen_random_uuid()) WITH (append_only);
CREATE TABLE k (a text NOT NULL, b integer DEFAULT 7, CHECK (b > 0)) WITH (append_only);
GRANT ALL ON r TO anon;
GRANT INSERT ON e, k TO anon;
`

// newDoor returns a door on a writer whose batches are completed at once.
func newDoor(t *testing.T, limits Limits) (*Door, *rig) {
	t.Helper()
	r := newRig(t, nil, 1<<20)
	p := compile(t)
	var rules auth.Rules
	rules.Use(p.Definition)
	d, err := NewDoor(Options{Tables: p.Relations, Rules: &rules, Writer: r.writer, Clock: r.clock, Metrics: observe.NewMetrics(), Limits: limits,
		Position: func(seq uint64) string { return fmt.Sprint(seq) }, Applied: func() uint64 { return 0 }, Remembered: func() int { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	return d, r
}

// accept has the engine of the test accept every row.
func (r *rig) accept() {
	r.group.Go("engine", func(context.Context) error {
		for b := range r.out {
			var outcomes []change.Outcome
			it, e := b.Entries(), change.Entry{}
			for it.Next(&e) {
				outcomes = append(outcomes, change.Outcome{Accepted: e.Count})
			}
			r.writer.Complete(b, outcomes)
		}
		return nil
	})
}

func compile(t testing.TB) *flow.Program {
	t.Helper()
	p, found := sql.Compile("app.sql", []byte(doorSQL), nil)
	for _, f := range found {
		t.Fatal(f.Render())
	}
	return p
}

func ample() Limits {
	return Limits{Row: 256 << 10, Body: 8 << 20, DedupeMemory: 1 << 20, Requests: 64 << 20}
}

func (d *Door) send(t *testing.T, r *Request) (*wire.WriteResult, *wire.Problem) {
	t.Helper()
	if r.Table == "" {
		r.Table = "e"
	}
	r.Op = max(r.Op, change.OpInsert)
	return d.Write(t.Context(), auth.Anonymous(), r)
}

// TestDoorBounds: what is too much is refused with the code that says so, and nothing of it is held any more.
func TestDoorBounds(t *testing.T) {
	d, r := newDoor(t, ample())
	r.accept()
	rows := func(n int, row string) []byte { return []byte("[" + strings.Repeat(row+",", n-1) + row + "]") }
	for _, c := range []struct {
		name string
		r    Request
		code wire.Code // "": accepted
	}{
		{"a batch and more", Request{Rows: rows(30_000, `{"a":"0123456789012345678901234567890123456789"}`)}, ""},
		{"the same, atomic", Request{Rows: rows(30_000, `{"a":"0123456789012345678901234567890123456789"}`), Atomic: true}, wire.TooLarge},
		{"too many rows", Request{Rows: rows(maxRows+1, `{"a":""}`)}, wire.TooMany},
		{"too many lines", Request{Rows: bytes.Repeat([]byte("{\"a\":\"\"}\n"), maxRows+1), Lines: true}, wire.TooMany},
		{"too many broken lines", Request{Rows: bytes.Repeat([]byte("x\n"), maxRows+1), Lines: true}, wire.TooMany},
		{"small text, huge rows", Request{Table: "r", Rows: rows(12_000, `{"id":1,"j":1e4000}`)}, wire.TooLarge},
		{"few, huge rows", Request{Table: "r", Rows: rows(300, `{"id":1,"j":1e30000}`)}, wire.TooLarge},
		{"small lines, huge rows", Request{Table: "r", Rows: bytes.Repeat([]byte("{\"id\":1,\"j\":1e4000}\n"), 12_000), Lines: true}, wire.TooLarge},
	} {
		_, p := d.send(t, &c.r)
		if (p == nil) != (c.code == "") || p != nil && p.Code != c.code {
			t.Errorf("%s: %+v, want %q", c.name, p, c.code)
		}
		if n := d.budget.held(); n != 0 {
			t.Fatalf("%s: %d bytes are still counted", c.name, n)
		}
	}
	r.close()
}

// TestDoorBusy: requests that together hold too much are told to come back.
func TestDoorBusy(t *testing.T) {
	limits := ample()
	limits.Requests = 100 << 10
	d, r := newDoor(t, limits)
	r.accept()
	large := `[` + strings.Repeat(`{"a":"x"},`, 20_000) + `{"a":"x"}]`
	_, p := d.send(t, &Request{Rows: []byte(large)})
	if p == nil || p.Code != wire.Busy || p.RetryAfterMS == 0 || p.Hint == "" {
		t.Errorf("%+v", p)
	}
	refused := `[` + strings.Repeat(`0,`, 1000) + `0]`
	if _, p := d.send(t, &Request{Rows: []byte(refused)}); p == nil || p.Code != wire.Busy {
		t.Errorf("a thousand refusals: %+v", p)
	}
	if _, p := d.send(t, &Request{Rows: []byte(`{"a":"x"}`)}); p != nil {
		t.Errorf("a small one afterwards: %+v", p)
	}
	r.close()
}

// TestDoorGivesUp: a caller that is gone, or a clock that has run on, ends the reading of a request. Nothing is written.
func TestDoorGivesUp(t *testing.T) {
	d, r := newDoor(t, ample())
	r.accept()
	gone, leave := context.WithCancel(t.Context())
	leave()
	rows := []byte(`[{"a":"x"},{"a":"y"}]`)
	if _, p := d.Write(gone, auth.Anonymous(), &Request{Table: "e", Op: change.OpInsert, Rows: rows}); p == nil || p.Code != wire.Busy {
		t.Errorf("a caller that is gone: %+v", p)
	}
	d.opt.Clock = &hurried{Clock: r.clock}
	if _, p := d.send(t, &Request{Rows: rows}); p == nil || p.Code != wire.TooLarge {
		t.Errorf("a request that takes too long: %+v", p)
	}
	if r.shard.Head() != 0 {
		t.Error("something was written")
	}
	r.close()
}

// hurried is a clock on which every look takes a minute.
type hurried struct {
	run.Clock
	looks int
}

func (h *hurried) Now() time.Time {
	h.looks++
	return h.Clock.Now().Add(time.Duration(h.looks) * time.Minute)
}

// TestLinesKeepTheirIndex: refusals name the row as the caller counts, whatever was refused before it.
func TestLinesKeepTheirIndex(t *testing.T) {
	d, r := newDoor(t, ample())
	r.accept()
	res, p := d.send(t, &Request{Lines: true, Rows: []byte("{\"a\":\"x\"}\n\nnope\n{\"a\":\"y\"} z\r\n{\"a\":null}\n  \n[]\n{\"a\":\"z\"}")})
	if p != nil || res.Accepted != 2 {
		t.Fatalf("%+v %+v", res, p)
	}
	var got []int
	for _, x := range res.Rejected {
		got = append(got, x.Index)
	}
	if fmt.Sprint(got) != "[1 2 3 4]" {
		t.Errorf("refused %v", got)
	}
	r.close()
}

// TestRefusedRowsAreLogged: of a request that may be repeated each row is a record, so that a record's number is its row's whatever the door refuses. The answer
// is what the engine decided; it has the door's words where both speak of one refusal.
func TestRefusedRowsAreLogged(t *testing.T) {
	row, bad := `{"a":"`+strings.Repeat("x", 300)+`"}`, `{"a":null}`
	body := func(every int) []byte {
		var b strings.Builder
		for i := range 10_000 {
			if i%every == every-1 {
				b.WriteString(bad + "\n")
			} else {
				b.WriteString(row + "\n")
			}
		}
		return []byte(b.String())
	}
	for _, c := range []struct {
		r    Request
		want int
	}{{Request{Key: "k", Rows: body(3)}, 10_000}, {Request{Producer: "p", Sequence: 1, Rows: body(7)}, 10_000}, {Request{Rows: body(3)}, 6667},
		{Request{Key: "k", Rows: body(1)}, 10_000}, {Request{Producer: "p", Sequence: 1, Rows: body(1)}, 10_000}, {Request{Key: "k", Rows: body(20_000)}, 10_000}} {
		d, r := newDoor(t, ample())
		next, parts, flagged := uint32(0), 0, 0
		r.group.Go("engine", func(context.Context) error {
			for b := range r.out {
				var outcomes []change.Outcome
				it, e := b.Entries(), change.Entry{}
				for it.Next(&e) {
					if e.First != next {
						t.Errorf("part %d begins with %d, want %d", parts, e.First, next)
					}
					next, parts = next+e.Count, parts+1
					if e.Refused {
						flagged++
					}
					o := change.Outcome{}
					records, rec := e.Records(), change.Record{}
					for i := e.First; records.Next(&rec); i++ {
						if len(rec.Refused) == 0 {
							o.Accepted++
							continue
						}
						why, err := change.ReadReject(rec.Refused)
						if err != nil {
							return err
						}
						why.Index = i
						o.Rejected = append(o.Rejected, *why)
					}
					if err := records.Err(); err != nil {
						return err
					}
					outcomes = append(outcomes, o)
				}
				r.writer.Complete(b, outcomes)
			}
			return nil
		})
		c.r.Lines = true
		name := fmt.Sprintf("key %q, producer %q", c.r.Key, c.r.Producer)
		res, p := d.send(t, &c.r)
		if p != nil || int(res.Accepted)+len(res.Rejected) != 10_000 || int(next) != c.want || (flagged > 0) != (d.repeats(&c.r) && len(res.Rejected) > 0) {
			t.Fatalf("%s: %d records in %d parts, %d with refused rows, %+v", name, next, parts, flagged, p)
		}
		last := -1
		for i, x := range res.Rejected {
			if x.Index <= last || x.Error.Code != wire.InvalidRow || (x.Error.Detail == "") != (i >= mostTold) || i < mostTold && x.Error.Hint == "" {
				t.Fatalf("%s: refusal %d is of row %d after %d: %+v", name, i, x.Index, last, x.Error)
			}
			last = x.Index
		}
		r.close()
	}
}

func (d *Door) repeats(r *Request) bool { return (&job{door: d, r: r}).repeatable() }

// TestManyRefusals: of very many refused rows only the first have words, and the answer is no multiple of the request's size that counts.
func TestManyRefusals(t *testing.T) {
	d, r := newDoor(t, ample())
	r.accept()
	rows := `[` + strings.Repeat(`0,`, 89_998) + `{"a":"x"},0]`
	res, p := d.send(t, &Request{Rows: []byte(rows)})
	if p != nil || res.Accepted != 1 || len(res.Rejected) != 89_999 {
		t.Fatalf("%+v", p)
	}
	var b bytes.Buffer
	if n, err := res.WriteTo(&b); err != nil || int(n) != b.Len() || n > 6<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	var back wire.WriteResult
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	for i, x := range back.Rejected {
		want := i
		if i == 89_998 {
			want = 89_999
		}
		if x.Index != want || x.Error.Code != wire.InvalidRow || x.Error.Status != 422 || (x.Error.Detail == "") != (i >= mostTold) {
			t.Fatalf("refusal %d: %d %+v", i, x.Index, x.Error)
		}
	}
	r.close()
}

// TestNoKey: a row for a table without a key has the table's columns; the number that tells its copies apart is no column to be given.
func TestNoKey(t *testing.T) {
	d, r := newDoor(t, ample())
	r.accept()
	if res, p := d.send(t, &Request{Table: "k", Rows: []byte(`[{"a":"x"},{"a":"y","b":3}]`)}); p != nil || res.Accepted != 2 {
		t.Errorf("%+v %+v", res, p)
	}
	for row, code := range map[string]wire.Code{`{"a":"x","_n":1}`: wire.UnknownColumn, `{"b":1}`: wire.InvalidRow, `{"a":"x","b":0}`: wire.Constraint} {
		if _, p := d.send(t, &Request{Table: "k", Rows: []byte(row)}); p == nil || p.Code != code {
			t.Errorf("%s: %+v", row, p)
		}
	}
	r.close()
}

// TestAbort: when nobody can apply any more what the log takes, everybody is answered, in the queue, in a batch, waiting for room,
// and afterwards, and nothing is held.
func TestAbort(t *testing.T) {
	r := newRig(t, nil, 100<<10)
	sent := []*part{newPart(10_000), newPart(10_000), newPart(10_000)}
	for _, x := range sent {
		if p := r.submit(t.Context(), []*part{x}); p != nil {
			t.Fatal(p)
		}
	}
	waiting := make(chan *wire.Problem, 1)
	g := run.New(t.Context())
	g.Go("waits for room", func(ctx context.Context) error {
		waiting <- r.submit(ctx, []*part{newPart(80_000)})
		return nil
	})
	r.clock.AwaitSleepers(1)
	stop := wire.NewProblem(wire.Internal, "test")
	r.writer.Abort(stop)
	for b := range r.out {
		r.writer.Abandon(b, stop)
		r.writer.Abandon(b, stop) // an engine that stopped half-way through Complete
	}
	for _, x := range sent {
		if a := <-x.done; a.problem != stop {
			t.Errorf("%+v", a)
		}
	}
	if p := <-waiting; p != stop {
		t.Errorf("who waited for room is told %v", p)
	}
	if p := r.submit(t.Context(), []*part{newPart(1)}); p != stop {
		t.Errorf("a later write is told %v", p)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if err := r.group.Wait(); err != nil {
		t.Error(err)
	}
}

// TestNothingIsHeldAfterTheEnd: a log that stops gives the queue's memory back and wakes who waits for room.
func TestNothingIsHeldAfterTheEnd(t *testing.T) {
	r := newRig(t, &brokenLog{openMemory(t), &backbone.Stopped{Reason: backbone.WriteFail, Err: io.ErrShortWrite}}, 4096)
	x := newPart(3000)
	if p := r.submit(t.Context(), []*part{x}); p != nil {
		t.Fatal(p)
	}
	<-x.done
	_ = r.group.Wait()
	if n := r.writer.Held(); n != 0 {
		t.Errorf("%d bytes", n)
	}
}

// TestBodies: memory follows what has arrived, and what is compressed is refused in words.
func TestBodies(t *testing.T) {
	if n := nextSize(0, 8<<20); n > 64<<10 {
		t.Errorf("%d bytes for a body of which nothing has come", n)
	}
	for size, total := 0, 0; ; total++ {
		next := nextSize(size, 100_000)
		if next <= size || total > 20 {
			t.Fatalf("from %d to %d", size, next)
		}
		if size = next; size > 100_000 {
			break
		}
	}
	d, r := newDoor(t, ample())
	r.accept()
	h := serving(d)
	for _, c := range []struct {
		coding string
		status int
	}{{"", 200}, {"identity", 200}, {"gzip", 415}} {
		q := httptest.NewRequest("POST", "/v1/tables/e", strings.NewReader(`{"a":"`+strings.Repeat("x", 100_000)+`"}`))
		q.SetPathValue("table", "e")
		q.Header.Set("Content-Encoding", c.coding)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		if w.Code != c.status {
			t.Errorf("%q: %d %s", c.coding, w.Code, w.Body)
		}
	}
	if n := d.budget.held(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
	r.close()
}

func serving(d *Door) *HTTP {
	return &HTTP{Door: d, Principal: func(*http.Request) (auth.Principal, *wire.Problem) { return auth.Anonymous(), nil },
		RequestID: func(*http.Request) string { return "1" }, BodyTime: time.Second,
		Answer: func(w http.ResponseWriter, _ *http.Request, p *wire.Problem) { http.Error(w, p.Detail, p.Status) }}
}

// FuzzRowsAgreeWithStandardLibrary decodes an object as a row and as the standard library does: what is taken has the same
// members with the same values, the last of equal ones; what the library does not take is refused.
func FuzzRowsAgreeWithStandardLibrary(f *testing.F) {
	for _, s := range []string{`{"id":1}`, `{"id":1,"i":-0,"d":1e3,"n":1.50,"t":"a\u00e9\ud83d\ude00","b":true,"j":{"a":[1,{}]},"gr\u00f6\u00dfe":2}`,
		`{"id":1,"id":2}`, `{"id":1,"j":{"a":1,"a":2}}`, `{"id":1,"d":1e400}`, `{"id":1.0}`, `{"id":1e2}`, `{"id":9223372036854775808}`, `{"id":1,"t":"\u0000"}`,
		`{"id":1,"t":"\ud800"}`, `{"id":1,"j":1e130000}`, `{"id":1,"n":1e-20000}`, `{ "id" : 1 , "b" : null }`, `{"id":1}x`, `{"id":1,}`, `[]`, `{"id":"1"}`, `{"":1}`} {
		f.Add(s)
	}
	rel, anon := relation(f, "r"), auth.Anonymous()
	table, err := newTable(rel)
	if err != nil {
		f.Fatal(err)
	}
	d := &rowDecoder{}
	f.Fuzz(func(t *testing.T, src string) {
		if !utf8.ValidString(src) || strings.Count(src, "[")+strings.Count(src, "{") > maxDepth {
			return
		}
		d.reset(table, &permit{}, []byte(src), 0, &anon)
		err := d.members()
		if err == nil {
			err = end(d)
		}
		valid := json.Valid([]byte(src))
		if valid != (err == nil) {
			t.Fatalf("%q: read with %v, the standard library says valid %v", src, err, valid)
		}
		if err != nil || d.problem != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(src), &want); err != nil {
			t.Fatalf("%q: taken as a row, but %v", src, err)
		}
		for i, c := range rel.Columns {
			raw, given := want[c.Name]
			if given != d.has(i) {
				t.Fatalf("%q: column %s given: %v, want %v", src, c.Name, d.has(i), given)
			}
			if given {
				compareValue(t, src, c.Name, rel, i, d.vals[i], raw)
			}
		}
	})
}

func relation(t testing.TB, name string) *expr.Relation {
	for _, rel := range compile(t).Relations {
		if rel.Name == name {
			return rel
		}
	}
	t.Fatal("no relation")
	return nil
}

// compareValue compares a decoded value with the standard library's, through our own print of it.
func compareValue(t *testing.T, src, name string, rel *expr.Relation, col int, v change.Value, raw json.RawMessage) {
	t.Helper()
	if v.Null {
		if string(raw) != "null" {
			t.Fatalf("%q: %s is NULL, want %s", src, name, raw)
		}
		return
	}
	var got, want any
	printed := expr.AppendJSON(nil, rel.Columns[col].Type, v, false)
	if err := json.Unmarshal(printed, &got); err != nil {
		if strings.Contains(err.Error(), "cannot unmarshal number") { // beyond a double
			return
		}
		t.Fatalf("%q: %s is printed as %q: %v", src, name, printed, err)
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		return // a number beyond a double
	}
	_, number := got.(float64)
	if _, other := want.(float64); number != other {
		return // a number given as text, or the other way round, as PostgreSQL reads its columns
	}
	if f, ok := got.(float64); ok && f == want.(float64) { // -0 and 0 alike
		return
	}
	if name == "j" || reflect.DeepEqual(got, want) {
		if name == "j" && !reflect.DeepEqual(got, want) && !strings.Contains(src, `\u`) && !strings.Contains(src, "-0") {
			t.Fatalf("%q: %s is %s, want %s", src, name, printed, raw)
		}
		return
	}
	t.Fatalf("%q: %s is %s, want %s", src, name, printed, raw)
}
