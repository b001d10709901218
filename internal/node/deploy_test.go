package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"laaster/internal/change"
	"laaster/internal/kit/run"
)

// deploy sends an app.sql to the admin listener and returns the last line of the answer.
func (l *life) deploy(text string) DeployEvent {
	l.t.Helper()
	return l.deployTo("/v1/deploy", text)
}

func (l *life) deployTo(path, text string) DeployEvent {
	l.t.Helper()
	r, err := http.Post(l.n.AdminURL()+path, "application/sql", strings.NewReader(text))
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		l.t.Fatalf("deploy: %d %s %v", r.StatusCode, b, err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	var e DeployEvent
	if err := json.Unmarshal(lines[len(lines)-1], &e); err != nil {
		l.t.Fatalf("%v in %s", err, b)
	}
	return e
}

// change deploys an app.sql that has to take effect, also when views lose columns.
func (l *life) change(text string) *Plan {
	l.t.Helper()
	e := l.deployTo("/v1/deploy?force=true", text)
	if e.Plan == nil || e.Plan.Verdict != verdictCompatible || e.Plan.Position == "" {
		text, _ := json.MarshalIndent(e, "", " ")
		l.t.Fatalf("deploy: %s", text)
	}
	return e.Plan
}

// screen is a live client that holds the rows of its subscriptions, whose ids are the names of their views.
type screen struct {
	t     *testing.T
	conn  net.Conn
	views map[string]*shown
	at    uint64 // the position of the last frame
}

// shown is what a screen has of one view.
type shown struct {
	key       []string
	rows      map[string]string
	next      map[string]string // of a snapshot that is not complete
	snapshots int
	from      uint64 // the position of the last snapshot
	resumed   bool
	problem   string // that ended it
	fresh     string // state and reason
}

func (l *life) watch(resume string, views ...string) *screen {
	l.t.Helper()
	d := ws.Dialer{Protocols: []string{"laaster.v1"}}
	conn, _, _, err := d.Dial(l.t.Context(), "ws"+strings.TrimPrefix(l.url, "http")+"/v1/live")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	s := &screen{t: l.t, conn: conn, views: map[string]*shown{}}
	subs := make([]map[string]string, 0, len(views))
	for _, v := range views {
		s.views[v] = &shown{}
		subs = append(subs, map[string]string{"id": v, "view": v})
	}
	hello, _ := json.Marshal(map[string]any{"type": "hello", "subscribe": subs, "resume": resume})
	if resume == "" {
		hello, _ = json.Marshal(map[string]any{"type": "hello", "subscribe": subs})
	}
	s.send(string(hello))
	return s
}

func (s *screen) send(frame string) {
	s.t.Helper()
	if err := wsutil.WriteClientText(s.conn, []byte(frame)); err != nil {
		s.t.Fatal(err)
	}
}

func seqOf(t *testing.T, position string) uint64 {
	t.Helper()
	p, err := change.ParsePosition(position)
	if err != nil {
		t.Fatal(err)
	}
	return p.Seq
}

type liveFrame struct {
	Type, ID, Position, State, Reason string
	From                              string
	Key                               []string
	Rows                              []map[string]any
	More                              bool
	Changes                           map[string]struct {
		Put []map[string]any
		Del [][]any
	}
	Error struct{ Code string }
}

// step reads one frame, applies it and returns its type.
func (s *screen) step() string {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	b, err := wsutil.ReadServerText(s.conn)
	if err != nil {
		s.t.Fatalf("the screen's connection: %v", err)
	}
	var f liveFrame
	if err := json.Unmarshal(b, &f); err != nil {
		s.t.Fatalf("%v: %s", err, b)
	}
	v := s.views[f.ID]
	switch f.Type {
	case "snapshot":
		if v.next == nil {
			v.next = map[string]string{}
			v.snapshots++
		}
		v.key, v.from = f.Key, seqOf(s.t, f.Position)
		for _, r := range f.Rows {
			put(v.next, v.key, r)
		}
		if !f.More {
			v.rows, v.next = v.next, nil
			s.at = max(s.at, v.from)
		}
	case "resumed":
		v.resumed, v.key, v.rows = true, f.Key, map[string]string{} // this screen forgot what it had: nothing is compared with it
		s.at = max(s.at, seqOf(s.t, f.Position))
	case "epoch":
		s.epoch(&f, b)
	case "error":
		v.problem = f.Error.Code
	case "freshness":
		if v != nil {
			v.fresh = f.State + " " + f.Reason
		}
	case "gap":
		s.t.Fatalf("a gap: %s", b)
	}
	return f.Type
}

func (s *screen) epoch(f *liveFrame, b []byte) {
	s.t.Helper()
	seq := seqOf(s.t, f.Position)
	if f.From != "" {
		if from := seqOf(s.t, f.From); from > s.at {
			s.t.Fatalf("an epoch from %d at %d: %s", from, s.at, b)
		}
	} else if len(f.Changes) > 0 && seq > s.at+1 {
		s.t.Fatalf("epoch %d after %d: %s", seq, s.at, b)
	}
	if seq < s.at {
		s.t.Fatalf("epoch %d after %d: %s", seq, s.at, b)
	}
	s.at = seq
	for id, c := range f.Changes {
		v := s.views[id]
		if v.rows == nil {
			s.t.Fatalf("changes of %s before its rows: %s", id, b)
		}
		for _, k := range c.Del {
			text, _ := json.Marshal(k)
			if _, there := v.rows[string(text)]; !there {
				s.t.Fatalf("%s has no row %s: %s", id, text, b)
			}
			delete(v.rows, string(text))
		}
		for _, r := range c.Put {
			put(v.rows, v.key, r)
		}
	}
}

func put(rows map[string]string, key []string, row map[string]any) {
	k := make([]any, len(key))
	for i, c := range key {
		k[i] = row[c]
	}
	name, _ := json.Marshal(k)
	text, _ := json.Marshal(row)
	rows[string(name)] = string(text)
}

// until reads frames until f is true.
func (s *screen) until(f func() bool) {
	s.t.Helper()
	for !f() {
		s.step()
	}
}

// reach reads frames up to a position.
func (s *screen) reach(seq uint64) {
	s.t.Helper()
	s.until(func() bool { return s.at >= seq })
}

// rows reads a view over HTTP at or after a position; its rows as texts, sorted.
func (l *life) rows(view, after string) []string {
	l.t.Helper()
	status, text, _ := l.call("GET", "/v1/views/"+view+"?_wait=20000&_after="+after, "")
	var rows []map[string]any
	if err := json.Unmarshal([]byte(text), &rows); err != nil || status != http.StatusOK {
		l.t.Fatalf("%s: %d %s", view, status, text)
	}
	out := make([]string, len(rows))
	for i, r := range rows {
		b, _ := json.Marshal(r)
		out[i] = string(b)
	}
	slices.Sort(out)
	return out
}

func (v *shown) sorted() []string {
	out := make([]string, 0, len(v.rows))
	for _, r := range v.rows {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

// writing writes votes and rooms until the returned function is called, which says how many requests there were.
func (l *life) writing(seed uint64) (stop func() int64) {
	ctx, cancel := context.WithCancel(l.t.Context())
	g := run.New(ctx)
	var count atomic.Int64
	for w := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, w))
		g.Go("writer", func(ctx context.Context) error {
			for ctx.Err() == nil {
				path, body := "/v1/tables/votes", fmt.Sprintf(`{"contestant":"%c","points":%d}`, 'A'+rng.IntN(5), rng.IntN(6))
				switch rng.IntN(4) {
				case 0:
					path, body = "/v1/tables/rooms?on_conflict=merge", fmt.Sprintf(`{"name":"%c","size":%d}`, 'A'+rng.IntN(7), 1+rng.IntN(9))
				case 1:
					body = fmt.Sprintf(`[%s,{"contestant":"Z"}]`, body)
				}
				r, err := http.Post(l.url+path, "application/json", strings.NewReader(body))
				if err != nil {
					return err
				}
				b, err := io.ReadAll(r.Body)
				_ = r.Body.Close()
				if err != nil || r.StatusCode != http.StatusOK {
					return fmt.Errorf("%s %s: %d %s %v", path, body, r.StatusCode, b, err)
				}
				count.Add(1)
			}
			return nil
		})
	}
	return func() int64 {
		cancel()
		if err := g.Wait(); err != nil && !strings.Contains(err.Error(), "context canceled") {
			l.t.Error(err)
		}
		return count.Load()
	}
}

// position returns where the node stands.
func (l *life) position() string { return l.n.position(l.n.applied.Load()) }

// TestDeployUnderLoad changes the app while it is written to, and follows it live on one connection: a view that stays gets every epoch and
// no rows anew, a changed one gets its rows once, at the position of the change or later, a table with a new column does too, and all of
// them end where a read ends and where a restart ends.
func TestDeployUnderLoad(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
	old := votesSQL + "CREATE MATERIALIZED VIEW best AS SELECT contestant, points FROM tally ORDER BY points DESC LIMIT 3;\nGRANT SELECT ON best TO anon;\n"
	writeApp(t, dir, old)
	l := start(t, dir, s)
	stop := l.writing(1)
	names := []string{"tally", "best", "rooms"}
	x := l.watch("", names...)
	x.until(func() bool { return x.at > 20 && x.views["best"].rows != nil })
	before := x.at
	next := strings.Replace(strings.Replace(old, "LIMIT 3", "LIMIT 2", 1), "note text", "note text, floor integer NOT NULL DEFAULT 4", 1) +
		"CREATE MATERIALIZED VIEW sizes WITH (allow_unbounded = true) AS SELECT r.floor, count(*) AS n, sum(v.points) AS points FROM votes v JOIN rooms r ON r.name = v.contestant GROUP BY r.floor;\nGRANT SELECT ON sizes TO anon;\n"
	plan := l.change(next)
	if plan.Subscribers != 2 || len(plan.Views) != 3 || plan.Replayed == 0 {
		t.Errorf("%+v", plan)
	}
	at := seqOf(t, plan.Position)
	x.send(`{"type":"subscribe","id":"sizes","view":"sizes"}`)
	x.views["sizes"] = &shown{}
	x.until(func() bool { return x.at > at+20 && x.views["sizes"].rows != nil })
	if n := stop(); n < 10 {
		t.Errorf("%d requests are no load", n)
	}
	if before >= at {
		t.Fatalf("the change is at %d, the load began with %d", at, before)
	}
	names = append(names, "sizes")
	end := l.position()
	x.reach(seqOf(t, l.write("POST", "/v1/tables/votes", `{"contestant":"A"}`).Position))
	for name, snapshots := range map[string]int{"tally": 1, "best": 2, "rooms": 2, "sizes": 1} {
		v := x.views[name]
		if v.snapshots != snapshots || snapshots == 2 && v.from < at {
			t.Errorf("%s: rows were sent %d times, last at %d; the change is at %d", name, v.snapshots, v.from, at)
		}
		if got, want := v.sorted(), l.rows(name, end); !slices.Equal(got, want) {
			t.Errorf("%s: the screen shows\n%s\na read\n%s", name, got, want)
		}
	}
	if r := x.views["rooms"].sorted(); len(r) == 0 || !strings.Contains(r[0], `"floor":4`) {
		t.Errorf("rooms: %s", r)
	}
	want := map[string][]string{}
	for _, name := range names {
		want[name] = l.rows(name, end)
	}
	resume := l.position()
	_ = x.conn.Close()
	l.end()
	writeApp(t, dir, next)
	l = start(t, dir, s)
	defer l.end()
	for _, name := range names {
		if got := l.rows(name, end); !slices.Equal(got, want[name]) {
			t.Errorf("%s after a restart: %s\nbefore: %s", name, got, want[name])
		}
	}
	y := l.watch(resume, names...)
	y.until(func() bool {
		return y.views["tally"].resumed && y.views["best"].resumed && y.views["rooms"].resumed && y.views["sizes"].resumed
	})
	z := l.watch(l.n.position(at-1), names...)
	z.until(func() bool {
		return z.views["tally"].resumed && z.views["best"].snapshots+z.views["rooms"].snapshots+z.views["sizes"].snapshots == 3
	})
}

// randomApp makes an app of the series: columns and views only grow, views and grants change.
type randomApp struct {
	rng     *rand.Rand
	columns int
	floor   bool
	views   map[string]int // variant
}

// variants are what a view of a name may be.
func variants() map[string][]string {
	return map[string][]string{
		"tally": {"SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant",
			"SELECT contestant, max(points) AS points FROM votes WHERE points > 1 GROUP BY contestant",
			"SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant HAVING count(*) > 2"},
		"best":  {"SELECT contestant, points FROM tally ORDER BY points DESC, contestant LIMIT 2", "SELECT contestant, points FROM tally ORDER BY points, contestant LIMIT 3"},
		"split": {"SELECT contestant, sum(12 / (points - 3)) AS x FROM votes GROUP BY contestant", "SELECT id, 10 / points AS x FROM votes"},
		"sizes": {"SELECT r.size, count(*) AS n FROM votes v JOIN rooms r ON r.name = v.contestant GROUP BY r.size", "SELECT r.name, v.points FROM rooms r LEFT JOIN tally v ON v.contestant = r.name"},
		"names": {"SELECT name, size FROM rooms ORDER BY size", "SELECT name, size FROM rooms ORDER BY size DESC", "SELECT name, size FROM rooms WHERE size > 3"},
		"same":  {"SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant", "SELECT name, size FROM rooms"},
	}
}

func (a *randomApp) next() string {
	all := variants()
	names := []string{"tally", "best", "names", "same", "sizes", "split"} // a view comes after those that it reads
	for _, name := range names {
		if _, there := a.views[name]; a.rng.IntN(3) == 0 || !there && name == "tally" {
			a.views[name] = a.rng.IntN(len(all[name]))
		}
	}
	if _, there := a.views["tally"]; !there {
		a.views["tally"] = 0
	}
	a.columns += a.rng.IntN(2)
	a.floor = a.floor || a.rng.IntN(3) == 0
	var b strings.Builder
	b.WriteString("CREATE TABLE votes (\n  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), contestant text NOT NULL, points integer NOT NULL DEFAULT 1")
	for i := range a.columns {
		fmt.Fprintf(&b, ", more%d integer NOT NULL DEFAULT %d", i, i)
	}
	b.WriteString("\n) WITH (append_only);\nCREATE TABLE rooms (name text PRIMARY KEY, size integer NOT NULL, note text")
	if a.floor {
		b.WriteString(", floor integer DEFAULT 3")
	}
	b.WriteString(");\n")
	for _, name := range names {
		if v, there := a.views[name]; there {
			fmt.Fprintf(&b, "CREATE MATERIALIZED VIEW %s WITH (allow_unbounded = true) AS %s;\nGRANT SELECT ON %s TO anon;\n", name, all[name][v], name)
		}
	}
	b.WriteString("GRANT INSERT ON votes TO anon;\nGRANT INSERT, UPDATE, DELETE ON rooms TO anon;\nGRANT SELECT ON rooms TO " + [2]string{"anon", "boss"}[a.rng.IntN(2)] + ";\n")
	for _, name := range []string{"votes", "laaster.errors", "laaster.late"} {
		if a.rng.IntN(2) == 0 {
			fmt.Fprintf(&b, "GRANT SELECT ON %s TO anon;\n", name)
		}
	}
	return b.String()
}

// state is everything that a node has, as text by name, and its fingerprint.
func (l *life) state() (map[string]string, [16]byte) {
	l.t.Helper()
	out := map[string]string{}
	var print [16]byte
	if err := l.n.betweenBatches(func() {
		print = l.n.engine.Fingerprint()
		p := l.n.program.Load()
		for i, r := range p.Relations {
			slot := l.n.slots[i]
			if r.Table != nil && !readable(p.Definition, r.Name) {
				continue // nobody sees its rows
			}
			snap := l.n.store.Snapshot(slot)
			var b strings.Builder
			snap.Ascend(slot, nil, func(key []byte, row change.Row) bool {
				fmt.Fprintf(&b, "%x %x\n", key, row)
				return true
			})
			out[r.Name] = b.String()
			out["birth of "+r.Name] = fmt.Sprint(l.n.store.Birth(slot) > 1)
		}
	}); err != nil {
		l.t.Fatal(err)
	}
	return out, print
}

// TestDeploySeries deploys random series of apps under load. After each series the node is as one that starts on the same log.
func TestDeploySeries(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir, s := t.TempDir(), settingsFor(t.TempDir(), "embedded")
			app := &randomApp{rng: rand.New(rand.NewPCG(seed, 7)), views: map[string]int{}}
			text := app.next()
			writeApp(t, dir, text)
			l := start(t, dir, s)
			stop := l.writing(seed)
			for range 4 {
				x := l.watch("", "tally")
				x.until(func() bool { return x.at > l.n.applied.Load()/2+5 && x.views["tally"].rows != nil })
				_ = x.conn.Close()
				e := l.deployTo("/v1/deploy?force=true", app.next()) // views lose columns
				if e.Plan == nil || e.Plan.Verdict == verdictRefused {
					t.Fatalf("%+v\n%s", e, e.Plan.Text())
				}
			}
			stop()
			was, _ := l.state()
			if len(was) < 4 {
				t.Errorf("only %d relations", len(was))
			}
			text = l.n.program.Load().Definition.Source
			l.end()
			print := l.n.engine.Fingerprint() // with the record of the stop
			if seed%2 == 0 {                  // else the start goes on from the checkpoint
				for _, name := range []string{"checkpoints", "copy"} {
					if err := os.RemoveAll(filepath.Join(s.Data, name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			writeApp(t, dir, text)
			l = start(t, dir, s)
			defer l.end()
			is, again := l.state()
			for name := range is {
				if strings.HasPrefix(name, "birth") || name == "laaster.audit" {
					continue
				}
				if is[name] != was[name] {
					t.Errorf("%s: after the restart\n%s\nbefore\n%s", name, is[name], was[name])
				}
			}
			if print != again {
				t.Errorf("fingerprint %x, after the restart %x", print, again)
			}
		})
	}
}
