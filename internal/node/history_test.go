package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/change"
	"laaster/internal/kit/run"
)

const linesSQL = `CREATE TABLE line (room text, n bigint, who text NOT NULL, body text, PRIMARY KEY (n, room)) WITH (append_only);
CREATE MATERIALIZED VIEW said AS SELECT upper(left(body, 20)) AS body, n, room FROM line WHERE room = 'a';
CREATE MATERIALIZED VIEW loud AS SELECT room, n, body FROM said WHERE n % 2 = 0;
CREATE MATERIALIZED VIEW rooms AS SELECT room, count(*) AS lines FROM line GROUP BY room;
GRANT INSERT, SELECT ON line TO anon;
GRANT SELECT ON said, loud, rooms TO anon;
`

// wrote is a line and the batch that brought it.
type wrote struct {
	seq       uint64
	room, who string
	n         int
}

// lines writes requests of random lines, with ids that are there already among them, and returns the new ones.
type lines struct {
	l    *life
	r    *rand.Rand
	next int
	all  []wrote
	head uint64
}

func (w *lines) write(requests int) {
	w.l.t.Helper()
	for i := range requests {
		var rows []string
		var fresh []wrote
		for range 1 + w.r.IntN(4) {
			w.next++
			x := wrote{room: []string{"a", "b"}[w.r.IntN(2)], who: fmt.Sprintf("w%d", w.r.IntN(3)), n: w.next}
			fresh = append(fresh, x)
			rows = append(rows, fmt.Sprintf(`{"room":%q,"n":%d,"who":%q,"body":%q}`, x.room, x.n, x.who, x.who+strings.Repeat("x", 1500)))
		}
		if len(w.all) > 0 {
			x := w.all[w.r.IntN(len(w.all))]
			rows = append(rows, fmt.Sprintf(`{"room":%q,"n":%d,"who":"another","body":"another"}`, x.room, x.n))
		}
		header := []string{}
		if i%3 == 0 {
			header = []string{"Idempotency-Key", fmt.Sprint("k", w.next)}
		}
		body := "[" + strings.Join(rows, ",") + "]"
		res := w.l.write("POST", "/v1/tables/line", body, header...)
		if i%9 == 0 {
			w.l.write("POST", "/v1/tables/line", body, header...) // all of them again
		}
		p, err := change.ParsePosition(res.Position)
		if err != nil || int(res.Accepted) != len(fresh) {
			w.l.t.Fatal(err, res)
		}
		for _, x := range fresh {
			x.seq = p.Seq
			w.all = append(w.all, x)
		}
	}
	w.head = w.l.n.applied.Load()
}

// at returns the keys of the lines that f selects, as of a position.
func (w *lines) at(seq uint64, f func(wrote) bool) map[string]bool {
	out := map[string]bool{}
	for _, x := range w.all {
		if x.seq <= seq && f(x) {
			out[fmt.Sprint(x.room, x.n)] = true
		}
	}
	return out
}

// follow resumes a stream at a position, with the rows of it, and checks the rows at every position until the last line. It returns the kinds of events that
// came.
func (w *lines) follow(path string, from uint64, f func(wrote) bool) (kinds string) {
	w.l.t.Helper()
	rows := w.at(from, f)
	next, done := w.l.stream(path, w.l.n.position(from))
	defer done()
	at, last := from, from
	for _, x := range w.all {
		if f(x) {
			last = max(last, x.seq)
		}
	}
	for at < last {
		kind, data, _ := next()
		if !strings.HasSuffix(kinds, kind+" ") {
			kinds += kind + " "
		}
		var e struct {
			Position string
			From     string
			More     bool
			Rows     []map[string]any
			Put      []map[string]any
			Del      [][]any
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			w.l.t.Fatal(err)
		}
		if kind == "gap" {
			rows = map[string]bool{}
			continue
		}
		for _, row := range append(e.Rows, e.Put...) {
			rows[fmt.Sprint(row["room"], row["n"])] = true
		}
		if p, err := change.ParsePosition(e.Position); err != nil || p.Seq < at || len(e.Del) > 0 {
			w.l.t.Fatalf("%s after %d: %s", kind, at, data)
		} else if !e.More {
			at = p.Seq
		}
		if want := w.at(at, f); !e.More && !maps.Equal(rows, want) {
			w.l.t.Fatalf("%s from %d: at %d there are %d rows, and %d are wanted", path, from, at, len(rows), len(want))
		}
	}
	return kinds
}

// TestResumeFromLog: who was away for longer than the ring reaches back gets exactly what he missed, over restarts and definitions, with filters and
// projections, as long as the log has it.
func TestResumeFromLog(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, linesSQL)
	s := settingsFor(t.TempDir(), "embedded")
	s.Limits.Ring = 64 << 10
	l := start(t, dir, s)
	defer func() { l.end() }()
	w := &lines{l: l, r: rand.New(rand.NewPCG(1, 2))}
	w.write(60)
	first := w.head
	longer := strings.Replace(linesSQL, "body text,", "body text, mood text DEFAULT 'calm',", 1)
	if e := l.deploy(longer); e.Error != "" {
		t.Fatal(e.Error)
	}
	w.write(60)
	l.end()
	writeApp(t, dir, longer)
	l = start(t, dir, s)
	w.l = l
	w.write(60)
	if floor := l.n.store.Floor(); floor < first+30 {
		t.Fatalf("the ring goes back to %d", floor)
	}
	queries := map[string]func(wrote) bool{
		"/v1/views/said": func(x wrote) bool { return x.room == "a" },
		"/v1/views/loud": func(x wrote) bool { return x.room == "a" && x.n%2 == 0 },
		"/v1/views/loud?select=n&n=gt.40&body=like.W1*": func(x wrote) bool { return x.room == "a" && x.n%2 == 0 && x.n > 40 && x.who == "w1" },
	}
	for path, f := range queries {
		for range 4 {
			from := 2 + w.r.Uint64N(l.n.store.Floor()-2)
			if got := w.follow(path, from, f); !strings.HasPrefix(got, "resumed ") || strings.Contains(got, "gap") || strings.Contains(got, "snapshot") {
				t.Errorf("%s from %d: %s", path, from, got)
			}
		}
	}
	all := func(wrote) bool { return true }
	if got := w.follow("/v1/views/line", 3, all); got != "snapshot " { // it has another column since
		t.Error(got)
	}
	if got := w.follow("/v1/views/line?who=eq.w2", first+3, func(x wrote) bool { return x.who == "w2" }); got != "resumed epoch " {
		t.Error(got)
	}
	next, done := l.stream("/v1/views/rooms", l.n.position(3))
	if kind, data, _ := next(); kind != "gap" {
		t.Error(kind, data)
	}
	done()
	if begun, failed := l.n.hub.Resumes(); begun != 13 || failed != 0 {
		t.Error(begun, failed)
	}

	if err := l.n.shard.Trim(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
	if got := w.follow("/v1/views/said", 38, queries["/v1/views/said"]); got != "gap snapshot " {
		t.Error(got)
	}
	if got := w.follow("/v1/views/said", 39, queries["/v1/views/said"]); got != "resumed epoch " {
		t.Error(got)
	}
}

// BenchmarkResumeFromLog is one client that comes back from the log's beginning, over all of 20,000 rows: the first reads the log at its rate, the others share
// its pages.
func BenchmarkResumeFromLog(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(linesSQL), 0o600); err != nil {
		b.Fatal(err)
	}
	s := settingsFor(b.TempDir(), "embedded")
	s.Limits.Ring = 64 << 10
	n, err := Start(b.Context(), Options{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.Wait(ctx)
	}()
	const rows, each = 20_000, 100
	for i := 0; i < rows; i += each {
		var body strings.Builder
		for k := range each {
			fmt.Fprintf(&body, `{"room":"a","n":%d,"who":"w","body":%q}`+"\n", i+k, strings.Repeat("x", 200))
		}
		r, err := http.Post(n.PublicURL()+"/v1/tables/line", "application/x-ndjson", strings.NewReader(body.String()))
		if err != nil || r.StatusCode != http.StatusOK {
			b.Fatal(err, r)
		}
		r.Body.Close()
	}
	q, err := http.NewRequest("GET", n.PublicURL()+"/v1/views/line?_from="+n.position(1), nil)
	if err != nil {
		b.Fatal(err)
	}
	q.Header.Set("Accept", "text/event-stream")
	b.ResetTimer()
	var size int64
	for b.Loop() {
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			b.Fatal(err)
		}
		in := bufio.NewReaderSize(r.Body, 1<<20)
		for got := 0; got < rows; {
			line, err := in.ReadString('\n')
			if err != nil {
				b.Fatal(err)
			}
			size += int64(len(line))
			got += strings.Count(line, `{"room":`)
		}
		r.Body.Close()
	}
	b.SetBytes(size / int64(b.N))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
