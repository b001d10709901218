package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/internal/expr"
	"laaster/internal/kit/run"
)

// TestForcedChange: a view that somebody may read goes when that is forced; a column of a table does not.
func TestForcedChange(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	s := settingsFor(t.TempDir(), "embedded")
	l := start(t, dir, s)
	defer func() { l.end() }()
	l.write("POST", "/v1/tables/votes", `{"contestant":"A"}`)
	if p, err := l.n.ForceDeploy(t.Context(), "app.sql", []byte(strings.Replace(votesSQL, ", note text", "", 1)), nil); err != nil || p.Verdict != verdictRefused {
		t.Fatalf("%+v, %v", p, err)
	}
	renamed := strings.NewReplacer("CREATE MATERIALIZED VIEW tally", "CREATE MATERIALIZED VIEW tale", "ON tally", "ON tale").Replace(votesSQL)
	if p, err := l.n.ForceDeploy(t.Context(), "app.sql", []byte(renamed), nil); err != nil || p.Position == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	check := func() {
		t.Helper()
		l.expect("/v1/views/tale", `[{"contestant":"A","votes":1,"points":1}]`)
		if r, err := http.Get(l.n.PublicURL() + "/v1/views/tally"); err != nil || r.StatusCode != http.StatusNotFound {
			t.Errorf("tally: %v, %v", r, err)
		}
	}
	check()
	l.end()
	writeApp(t, dir, renamed)
	l = start(t, dir, s)
	check()
}

// TestRefusedChange: what cannot be deployed says why and changes nothing.
func TestRefusedChange(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	l.write("POST", "/v1/tables/votes", `{"contestant":"A"}`)
	head, program := l.n.shard.Head(), l.n.Program()
	for what, c := range map[string]struct{ text, want string }{
		"a dropped column": {strings.Replace(votesSQL, ", note text", "", 1), "! table rooms, column note"},
		"another type":     {strings.Replace(votesSQL, "points integer", "points bigint", 1), "! table votes, column points, type: integer → bigint"},
		"an error":         {strings.Replace(votesSQL, "count(*) AS votes", "cont(*) AS votes", 1), "app.sql:5:"},
		"a view is gone":   {strings.NewReplacer("CREATE MATERIALIZED VIEW tally", "CREATE MATERIALIZED VIEW tale", "ON tally", "ON tale").Replace(votesSQL), "! view tally"},
	} {
		e := l.deploy(c.text)
		if e.Plan == nil || e.Plan.Verdict != verdictRefused || e.Plan.Position != "" || !strings.Contains(e.Plan.Text(), c.want) || !strings.Contains(e.Plan.Text(), "hint") {
			t.Errorf("%s: %+v\n%s", what, e, e.Plan.Text())
		}
	}
	if e := l.deploy("-- a comment\n" + votesSQL); e.Plan == nil || e.Plan.Verdict != verdictSame {
		t.Errorf("the same: %+v", e)
	}
	if l.n.shard.Head() != head || l.n.Program() != program {
		t.Error("something changed")
	}
	l.expect("/v1/views/tally", `[{"contestant":"A","votes":1,"points":1}]`)
	r, err := http.Post(l.n.AdminURL()+"/v1/deploy", "text/plain", strings.NewReader(votesSQL))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a page of another site could send this: %d", r.StatusCode)
	}
}

// TestPlan is how a plan reads and what programs get.
func TestPlan(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	x := l.watch("", "tally", "rooms")
	defer x.conn.Close()
	x.until(func() bool { return x.views["tally"].rows != nil && x.views["rooms"].rows != nil })
	p, err := l.n.Plan("app.sql", []byte(strings.NewReplacer("sum(points)", "max(points)", "note text", "note text, floor integer").Replace(votesSQL)+
		"CREATE MATERIALIZED VIEW many AS SELECT count(*) AS n FROM rooms;\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := `the change fits the running app
    table rooms, column floor: new: integer, older rows have NULL
    view tally: changed, rebuilt by replay
    view many: new
    table rooms is changed: it is built anew from the log (1 live subscription gets its rows anew)
    view tally is changed: it is built anew from the log (1 live subscription gets its rows anew)
    view many is new: it is built from the log
`
	if p.Text() != want {
		t.Errorf("got\n%swant\n%s", p.Text(), want)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := `{"verdict":"compatible","differences":[{"what":"table rooms, column floor","new":"new: integer, older rows have NULL","refused":false},` +
		`{"what":"view tally","new":"changed, rebuilt by replay","refused":false},{"what":"view many","new":"new","refused":false}],` +
		`"views":[{"name":"rooms","table":true,"change":"changed","subscribers":1},{"name":"tally","change":"changed","subscribers":1},` +
		`{"name":"many","change":"new","subscribers":0}],"findings":[],"subscribers":2}`
	if string(b) != wantJSON {
		t.Errorf("got  %s\nwant %s", b, wantJSON)
	}
}

// TestReadersOfAChange: streams, long polls and tags across changes of a view and of grants.
func TestReadersOfAChange(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	l.write("POST", "/v1/tables/votes", `[{"contestant":"A","points":5},{"contestant":"A"}]`)
	l.write("POST", "/v1/tables/rooms", `{"name":"red","size":3}`)
	next, done := l.stream("/v1/views/tally", "")
	defer done()
	next()
	_, _, head := l.call("GET", "/v1/views/tally", "")
	tag := head.Get("ETag")
	g := run.New(t.Context())
	type answer struct {
		status int
		text   string
	}
	polled := make(chan answer, 1)
	g.Go("long poll", func(context.Context) error {
		status, text, _ := l.call("GET", "/v1/views/tally?_wait=20000", "", "If-None-Match", tag)
		polled <- answer{status, text}
		return nil
	})
	for l.n.store.Waiting() == 0 {
		// the poll is on its way
	}
	changed := strings.Replace(votesSQL, "sum(points) AS points", "max(points) AS best", 1)
	plan := l.change(changed)
	if a := <-polled; a.status != http.StatusOK || !strings.Contains(a.text, `"best":5`) {
		t.Errorf("the long poll: %d %s", a.status, a.text)
	}
	if event, data, id := next(); event != "snapshot" || !strings.Contains(data, `"best":5`) || id == "" || seqOf(t, id) < seqOf(t, plan.Position) {
		t.Errorf("the stream: %s %s %s", event, data, id)
	}
	if status, _, h := l.call("GET", "/v1/views/tally", "", "If-None-Match", tag); status != http.StatusOK || h.Get("ETag") == tag {
		t.Errorf("the tag of the old view: %d %s", status, h.Get("ETag"))
	}
	l.write("POST", "/v1/tables/votes", `{"contestant":"A","points":9}`)
	if event, data, _ := next(); event != "epoch" || !strings.Contains(data, `"best":9`) {
		t.Errorf("after it: %s %s", event, data)
	}

	rooms, end := l.stream("/v1/views/rooms", "")
	defer end()
	rooms()
	x := l.watch("", "rooms", "tally")
	defer x.conn.Close()
	x.until(func() bool { return x.views["rooms"].rows != nil && x.views["tally"].rows != nil })
	revoked := strings.Replace(changed, "GRANT ALL ON rooms", "GRANT INSERT ON rooms", 1) + "GRANT SELECT ON votes TO anon;\n"
	l.change(revoked)
	if event, data, _ := rooms(); event != "error" || !strings.Contains(data, "not granted") {
		t.Errorf("a revoked stream: %s %s", event, data)
	}
	if event, data, _ := rooms(); event != "goodbye" {
		t.Errorf("a revoked stream goes on: %s %s", event, data)
	}
	x.until(func() bool { return x.views["rooms"].problem != "" })
	if status, _, _ := l.call("GET", "/v1/views/rooms", ""); status != http.StatusUnauthorized {
		t.Errorf("revoked: %d", status)
	}
	if got := l.rows("votes", l.position()); len(got) != 3 {
		t.Errorf("a table that is readable from now on: %s", got)
	}
	l.write("POST", "/v1/tables/rooms", `{"name":"blue","size":4}`)
	l.change(changed)
	l.expect("/v1/views/rooms", `[{"name":"blue","size":4,"note":null},{"name":"red","size":3,"note":null}]`)
	if n := x.views["tally"].snapshots; n != 1 {
		t.Errorf("tally was sent %d times", n)
	}
}

// TestErrorsAcrossAChange: the rows of laaster.errors are those of the running app's views.
func TestErrorsAcrossAChange(t *testing.T) {
	dir := t.TempDir()
	app := votesSQL + "CREATE MATERIALIZED VIEW shares AS SELECT id, 12 / points AS share FROM votes;\nGRANT SELECT ON shares, laaster.errors, laaster.late TO anon;\n"
	writeApp(t, dir, app)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	x := l.watch("", "laaster.errors", "laaster.late")
	defer x.conn.Close()
	at := seqOf(t, l.write("POST", "/v1/tables/votes", `[{"contestant":"A","points":0},{"contestant":"B","points":3}]`).Position)
	x.until(func() bool { return x.views["laaster.late"].rows != nil && len(x.views["laaster.errors"].rows) == 1 })
	if got := x.views["laaster.errors"].sorted(); !strings.Contains(got[0], `"view":"shares"`) || !slices.Equal(got, l.rows("laaster.errors", l.n.position(at))) {
		t.Errorf("%s", got)
	}
	metrics := func() string {
		r, err := http.Get(l.n.AdminURL() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if m := metrics(); !strings.Contains(m, `laaster_view_errors{view="shares"} 1`) || !strings.Contains(m, `laaster_view_stopped{view="shares"} 0`) {
		t.Error("the metrics do not say it")
	}
	l.change(strings.Replace(app, "12 / points", "12 / (points - 3)", 1))
	x.until(func() bool {
		r := x.views["laaster.errors"]
		return len(r.rows) == 1 && strings.Contains(r.sorted()[0], "B")
	})
	l.change(strings.Replace(app, "12 / points", "12 + points", 1))
	x.until(func() bool { return len(x.views["laaster.errors"].rows) == 0 })
	if n := x.views["laaster.errors"].snapshots; n != 1 {
		t.Errorf("laaster.errors was sent %d times", n)
	}
}

// TestStoppedView: a view that passes its limit stops, everybody is told, the others go on, and a change of it ends that.
func TestStoppedView(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
	s.Limits.JoinRows = 3
	app := votesSQL + `CREATE MATERIALIZED VIEW pairs WITH (allow_unbounded = true) AS SELECT a.id AS a, b.id AS b FROM votes a JOIN votes b ON a.contestant = b.contestant;
GRANT SELECT ON pairs TO anon;
`
	writeApp(t, dir, app)
	l := start(t, dir, s)
	next, done := l.stream("/v1/views/pairs", "")
	next()
	x := l.watch("", "pairs", "tally")
	x.until(func() bool { return x.views["pairs"].rows != nil && x.views["tally"].rows != nil })
	l.write("POST", "/v1/tables/votes", `[{"contestant":"A"},{"contestant":"A"}]`)
	l.write("POST", "/v1/tables/votes", `[{"contestant":"A"},{"contestant":"A"},{"contestant":"A"}]`)
	l.write("POST", "/v1/tables/votes", `{"contestant":"A"}`)
	x.until(func() bool {
		return strings.HasPrefix(x.views["pairs"].fresh, "stale ") && len(x.views["tally"].rows) == 1 && strings.Contains(x.views["tally"].sorted()[0], `"votes":6`)
	})
	event, data, _ := next()
	for event == "epoch" {
		event, data, _ = next()
	}
	if event != "freshness" || !strings.Contains(data, `"stale"`) || !strings.Contains(data, "rows of one side of a join") {
		t.Errorf("the stream: %s %s", event, data)
	}
	done()
	check := func(when string) {
		t.Helper()
		status, text, h := l.call("GET", "/v1/views/pairs", "")
		if status != http.StatusOK || !strings.Contains(h.Get("Laaster-Stale"), "the limit is 3") {
			t.Errorf("%s: %d %q %s", when, status, h.Get("Laaster-Stale"), text)
		}
		y := l.watch("", "pairs", "tally")
		y.until(func() bool { return strings.HasPrefix(y.views["pairs"].fresh, "stale ") })
		_ = y.conn.Close()
		if _, _, h := l.call("GET", "/v1/views/tally", ""); h.Get("Laaster-Stale") != "" {
			t.Errorf("%s: tally is said to be stale", when)
		}
		r, err := http.Get(l.n.AdminURL() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if !strings.Contains(string(b), `laaster_view_stopped{view="pairs"} 1`) {
			t.Errorf("%s: the metrics do not say it", when)
		}
	}
	check("after the limit")
	other := app + "CREATE MATERIALIZED VIEW more AS SELECT count(*) AS n FROM rooms;\n"
	l.change(other)
	check("after another change")
	_ = x.conn.Close()
	l.end()
	writeApp(t, dir, other)
	l = start(t, dir, s)
	defer l.end()
	check("after a restart")
	z := l.watch("", "pairs")
	defer z.conn.Close()
	z.until(func() bool { return strings.HasPrefix(z.views["pairs"].fresh, "stale ") })
	l.change(strings.Replace(other, "a.id AS a, b.id AS b FROM votes a JOIN votes b ON a.contestant = b.contestant", "id AS a, contestant AS b FROM votes", 1))
	z.until(func() bool {
		return strings.HasPrefix(z.views["pairs"].fresh, "live") && len(z.views["pairs"].rows) == 6
	})
}

// TestTicks: rows leave a view with now() by themselves, with one tick when they are due and none otherwise.
func TestTicks(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, `CREATE TABLE hits (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()) WITH (append_only);
CREATE MATERIALIZED VIEW recent AS SELECT id, at FROM hits WHERE at > now() - interval '10 seconds';
GRANT SELECT ON recent TO anon;
GRANT INSERT ON hits TO anon;
`)
	clock := run.NewManual(time.Unix(1_800_000_000, 0))
	n, err := Start(t.Context(), Options{Dir: dir, Settings: settingsFor(t.TempDir(), "memory"), Clock: clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t, n, func() {}, n.PublicURL()}
	defer l.end()
	next, done := l.stream("/v1/views/recent", "")
	defer done()
	next()
	l.write("POST", "/v1/tables/hits", `{"id":1}`)
	clock.Advance(50 * time.Millisecond)
	l.write("POST", "/v1/tables/hits", `{"id":2}`)
	for range 2 {
		if event, data, _ := next(); event != "epoch" || !strings.Contains(data, `"put"`) {
			t.Fatalf("%s %s", event, data)
		}
	}
	due := func() (d int64) {
		if err := n.betweenBatches(func() { d = n.engine.NextDue() }); err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := due(); d < clock.Now().UnixMicro()+9_000_000 || d == math.MaxInt64 {
		t.Fatalf("due at %d", d)
	}
	head := n.shard.Head()
	clock.Advance(9 * time.Second)
	due()
	if n.shard.Head() != head {
		t.Errorf("%d batches while nothing was due", n.shard.Head()-head)
	}
	slot := slices.IndexFunc(n.store.Relations(), func(r *expr.Relation) bool { return r.Name == "recent" })
	left := func(n int) {
		for due(); l.n.store.Snapshot(slot).Len(slot) != n; due() {
			runtime.Gosched()
		}
	}
	clock.Advance(960 * time.Millisecond) // the first row is due, the second in 40 ms
	left(1)
	if ticks := n.shard.Head() - head; ticks != 1 {
		t.Errorf("%d ticks for a row", ticks)
	}
	clock.Advance(99 * time.Millisecond)
	due()
	if ticks := n.shard.Head() - head; ticks != 1 {
		t.Errorf("%d ticks within 100 ms", ticks)
	}
	clock.Advance(time.Millisecond)
	left(0)
	if ticks := n.shard.Head() - head; ticks != 2 {
		t.Errorf("%d ticks for two rows that were due 50 ms apart", ticks)
	}
	if d := due(); d != math.MaxInt64 {
		t.Errorf("something is due at %d", d)
	}
	head = n.shard.Head()
	clock.Advance(time.Hour)
	due()
	if n.shard.Head() != head {
		t.Error("a tick for nothing")
	}
	l.expect("/v1/views/recent", `[]`)
}

// TestDeployEnds: a second deployment is refused, a caller who goes away and a stop end one, and nothing has changed then.
func TestDeployEnds(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	for range 40 {
		l.write("POST", "/v1/tables/votes", `{"contestant":"A"}`)
	}
	program := l.n.Program()
	changed := []byte(strings.Replace(votesSQL, "sum(points) AS points", "max(points) AS points", 1))
	l.n.deploying.Store(true)
	if e := l.deploy(string(changed)); !strings.Contains(e.Error, "another deployment") {
		t.Errorf("%+v", e)
	}
	l.n.deploying.Store(false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := l.n.Deploy(ctx, "app.sql", changed, nil); err == nil || p != nil || l.n.Program() != program {
		t.Errorf("a caller who has gone: %v %v", p, err)
	}
	l.n.leave()
	if _, err := l.n.Deploy(t.Context(), "app.sql", changed, nil); err == nil || l.n.Program() != program {
		t.Errorf("a node that leaves: %v", err)
	}
	l.end()
	if p, err := l.n.Deploy(t.Context(), "app.sql", changed, nil); err == nil || !strings.Contains(err.Error(), stateDraining) {
		t.Errorf("a node that has ended: %v %v", p, err)
	}
	if left := l.n.group.Running(); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// TestDeployBehind deploys while more rows are due than may leave at once: the change takes effect when they have left, and what is seen then
// is what a new node would compute.
func TestDeployBehind(t *testing.T) {
	dir := t.TempDir()
	app := `CREATE TABLE hits (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()) WITH (append_only);
CREATE MATERIALIZED VIEW recent AS SELECT count(*) AS n FROM hits WHERE at > now() - interval '10 seconds';
GRANT SELECT ON recent TO anon;
GRANT INSERT ON hits TO anon;
`
	writeApp(t, dir, app)
	clock := run.NewManual(time.Unix(1_800_000_000, 0))
	n, err := Start(t.Context(), Options{Dir: dir, Settings: settingsFor(t.TempDir(), "memory"), Clock: clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := &life{t, n, func() {}, n.PublicURL()}
	defer l.end()
	var b strings.Builder
	for i := range 360_000 {
		fmt.Fprintf(&b, `{"id":%d}`+"\n", i)
		if i%90_000 == 89_999 {
			l.write("POST", "/v1/tables/hits", b.String(), "Content-Type", "application/x-ndjson")
			b.Reset()
			clock.Advance(100 * time.Microsecond) // the rows of each request leave at another stamp
		}
	}
	behind := func() (is bool) {
		if err := n.betweenBatches(func() { is = n.engine.NextDue() == n.engine.Stats().Stamp+1 }); err != nil {
			t.Fatal(err)
		}
		return is
	}
	clock.Advance(10*time.Second + time.Millisecond)
	for !behind() { // until the first tick for them is applied
		runtime.Gosched()
	}
	g := run.New(t.Context())
	done := make(chan *Plan, 1)
	g.Go("deploy", func(ctx context.Context) error {
		p, err := n.Deploy(ctx, "app.sql", []byte(app+"CREATE MATERIALIZED VIEW few AS SELECT id FROM hits WHERE at > now() - interval '10 seconds' AND id < 3;\nGRANT SELECT ON few TO anon;\n"), nil)
		done <- p
		return err
	})
	late := false
	var p *Plan
	for p == nil {
		select {
		case p = <-done:
		default:
			if err := n.betweenBatches(func() { d := n.next.Load(); late = late || d != nil && d.late }); err != nil {
				t.Fatal(err)
			}
			if late { // what comes before needs no time to pass
				clock.Advance(time.Millisecond)
			}
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if !late {
		t.Error("the definition did not meet an engine that was behind")
	}
	if p.Position == "" || n.next.Load() != nil {
		t.Errorf("%+v", p)
	}
	l.write("POST", "/v1/tables/hits", `{"id":-1}`)
	l.expect("/v1/views/recent", `[{"n":1}]`)
	l.expect("/v1/views/few", `[{"id":-1}]`)
}

// TestLateRows: a row behind the watermark is in laaster.late, read and live, and in the metrics, also after a change of the app.
func TestLateRows(t *testing.T) {
	dir := t.TempDir()
	app := `CREATE TABLE hits (id bigint PRIMARY KEY, at timestamptz NOT NULL) WITH (append_only, event_time = 'at', lateness = '1 second');
CREATE MATERIALIZED VIEW tens WITH (emit = 'final') AS SELECT window_start, window_end, count(*) AS n FROM tumble(hits, at, interval '10 seconds') GROUP BY window_start, window_end;
GRANT SELECT ON tens, laaster.late TO anon;
GRANT INSERT ON hits TO anon;
`
	writeApp(t, dir, app)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	x := l.watch("", "laaster.late", "tens")
	defer x.conn.Close()
	for _, body := range []string{`{"id":1,"at":"2026-01-01T00:00:01Z"}`, `{"id":2,"at":"2026-01-01T00:00:30Z"}`, `{"id":3,"at":"2026-01-01T00:00:02Z"}`} {
		l.write("POST", "/v1/tables/hits", body)
	}
	x.until(func() bool { return len(x.views["laaster.late"].rows) == 1 && len(x.views["tens"].rows) == 1 })
	check := func() {
		t.Helper()
		if got := l.rows("laaster.late", l.position()); len(got) != 1 || !strings.Contains(got[0], `"id":3`) || !strings.Contains(got[0], `"view":"tens"`) {
			t.Errorf("%s", got)
		}
		r, err := http.Get(l.n.AdminURL() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if m := string(b); !strings.Contains(m, `laaster_table_late_rows{table="hits"} 1`) || !strings.Contains(m, `laaster_view_late_rows{view="tens"} 1`) {
			t.Error("the metrics do not say it")
		}
	}
	check()
	l.change(app + "CREATE MATERIALIZED VIEW all_hits AS SELECT count(*) AS n FROM hits;\n")
	check()
	if n := x.views["laaster.late"].snapshots + x.views["tens"].snapshots; n != 2 {
		t.Errorf("rows were sent %d times", n)
	}
}
