package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/checkpoint"
)

// keptSQL has a table of each kind and views that need the past in different ways.
const keptSQL = `CREATE TABLE votes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), contestant text NOT NULL, points integer NOT NULL DEFAULT 1) WITH (append_only);
CREATE TABLE players (name text PRIMARY KEY, team text NOT NULL, score bigint NOT NULL);
CREATE TABLE seen (what text NOT NULL);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, count(*) AS votes, sum(points) AS points FROM votes GROUP BY contestant;
CREATE MATERIALIZED VIEW best AS SELECT name, score FROM players ORDER BY score DESC, name LIMIT 2;
CREATE MATERIALIZED VIEW teams AS SELECT p.team, sum(t.points) AS points FROM players p JOIN tally t ON t.contestant = p.name GROUP BY p.team;
GRANT INSERT ON votes, seen TO anon;
GRANT ALL ON players TO anon;
GRANT SELECT ON tally, best, teams, seen TO anon;
`

// image copies the data folder of a node that nobody writes to: what a kill -9 would leave.
func (l *life) image(s *app.Settings) app.Settings {
	l.t.Helper()
	to := *s
	to.Data = filepath.Join(l.t.TempDir(), "data")
	err := filepath.WalkDir(s.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := filepath.Join(to.Data, strings.TrimPrefix(path, s.Data))
		if d.IsDir() {
			return os.MkdirAll(at, 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(at, b, 0o600)
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return to
}

func (l *life) checkpoint() uint64 {
	l.t.Helper()
	seq, err := l.n.Checkpoint(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return seq
}

// some writes a few rows.
func (l *life) some(rng *rand.Rand) {
	l.t.Helper()
	for range 5 {
		l.write("POST", "/v1/tables/votes", fmt.Sprintf(`[{"contestant":"%c","points":%d},{"contestant":"C"}]`, 'A'+rune(rng.IntN(5)), rng.IntN(9)))
		l.write("POST", "/v1/tables/players?on_conflict=merge", fmt.Sprintf(`{"name":"%c","team":"t%d","score":%d}`, 'A'+rune(rng.IntN(5)), rng.IntN(2), rng.IntN(100)))
		l.write("POST", "/v1/tables/seen", `[{"what":"x"},{"what":"y"}]`)
	}
	if rng.IntN(2) == 0 {
		l.write("DELETE", fmt.Sprintf("/v1/tables/players?name=eq.%c", 'A'+rune(rng.IntN(5))), "")
	}
}

// views reads all that may be read.
func (l *life) views(names ...string) string {
	l.t.Helper()
	var b strings.Builder
	for _, v := range names {
		status, text, _ := l.call("GET", "/v1/views/"+v, "")
		fmt.Fprintf(&b, "%s %d %s", v, status, text)
	}
	return b.String()
}

// same compares the node with one that has replayed the whole log: views and fingerprint.
func (l *life) same(dir string, s app.Settings, names ...string) {
	l.t.Helper()
	whole := l.image(&s)
	for _, name := range []string{"checkpoints", "copy"} {
		if err := os.RemoveAll(filepath.Join(whole.Data, name)); err != nil {
			l.t.Fatal(err)
		}
	}
	other := start(l.t, dir, whole)
	defer other.end()
	if other.n.from.Header.Seq != 0 {
		l.t.Fatal("the whole log was not replayed")
	}
	if is, want := l.views(names...), other.views(names...); is != want {
		l.t.Errorf("the views are\n%s\nthe whole log says\n%s", is, want)
	}
	if is, want := l.print(), other.print(); is != want {
		l.t.Errorf("fingerprint %x, the whole log says %x", is, want)
	}
}

func (l *life) print() (p [16]byte) {
	l.t.Helper()
	if err := l.n.betweenBatches(func() { p = l.n.engine.Fingerprint() }); err != nil {
		l.t.Fatal(err)
	}
	return p
}

// TestCheckpoints kills and stops a node again and again, between checkpoints and deployments: each start goes on from the newest
// checkpoint, has what the whole log says, and readers resume.
func TestCheckpoints(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
			text := keptSQL
			writeApp(t, dir, text)
			l := start(t, dir, s)
			names := []string{"tally", "best", "teams", "seen", "players"}
			for life := range 6 {
				l.some(rng)
				x := l.watch("", "tally", "best")
				x.reach(l.n.applied.Load())
				held, _ := l.position(), x.conn.Close()
				at := uint64(0)
				if rng.IntN(3) > 0 {
					at = l.checkpoint()
					l.some(rng)
				}
				if rng.IntN(3) == 0 { // the definition is behind the checkpoint
					text += fmt.Sprintf("CREATE MATERIALIZED VIEW more%d AS SELECT team, max(score) AS best FROM players GROUP BY team HAVING count(*) > %d;\nGRANT SELECT ON more%d TO anon;\n", life, rng.IntN(2), life)
					names = append(names, fmt.Sprintf("more%d", life))
					if rng.IntN(2) == 0 {
						l.change(text)
						l.some(rng)
					}
				}
				was := l.views(names...)
				writeApp(t, dir, text) // or app.sql is edited while the server is down
				if rng.IntN(2) == 0 {
					killed := l.image(&s)
					l.end()
					s = killed
				} else {
					l.end()
					at = 1 // a clean stop makes one
				}
				l = start(t, dir, s)
				if at > 0 && l.n.from.Header.Seq == 0 {
					t.Error("the start did not go on from a checkpoint")
				}
				if reasons := l.n.degraded.list(); len(reasons) > 0 {
					t.Errorf("degraded: %+v", reasons)
				}
				if is := l.views(names...); is != was && !strings.Contains(was, "404") {
					t.Errorf("before\n%s\nafter the start\n%s", was, is)
				}
				x = l.watch(held, "tally", "best")
				x.until(func() bool {
					for _, v := range x.views {
						if v.snapshots > 0 {
							t.Fatalf("the cursor %s of the life before was not resumed at %s (from the checkpoint of %d)", held, l.position(), l.n.from.Header.Seq)
						}
					}
					return x.views["tally"].resumed && x.views["best"].resumed
				})
				_ = x.conn.Close()
				l.same(dir, s, names...)
			}
			l.end()
		})
	}
}

// TestFallBack damages checkpoints: the start takes an older one, the second copy, or the log, says so, and shows the same.
func TestFallBack(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	writeApp(t, dir, keptSQL)
	l := start(t, dir, s)
	rng := rand.New(rand.NewPCG(1, 1))
	l.some(rng)
	first := l.checkpoint()
	l.some(rng)
	second := l.checkpoint()
	l.some(rng)
	names := []string{"tally", "best", "teams", "seen", "players"}
	was := l.views(names...)
	defer l.end()
	for _, c := range []struct {
		name   string
		damage func(folder string) bool // of a file's folder; false: leave it
		from   uint64
	}{
		{"nothing", func(string) bool { return false }, second},
		{"the newest", func(f string) bool { return f == "newest" }, first},
		{"both", func(f string) bool { return f != "copy" }, first},
		{"all", func(string) bool { return true }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			killed := l.image(&s)
			files, err := filepath.Glob(filepath.Join(killed.Data, "checkpoints", "*"))
			if err != nil || len(files) < 2 {
				t.Fatal(files, err)
			}
			slices.Sort(files)
			copies, _ := filepath.Glob(filepath.Join(killed.Data, "copy", "*"))
			for i, f := range append(files, copies...) {
				folder := "older"
				switch {
				case i >= len(files):
					folder = "copy"
				case i == len(files)-1:
					folder = "newest"
				}
				if c.damage(folder) {
					flipFile(t, f)
				}
			}
			k := start(t, dir, killed)
			defer k.end()
			if k.n.from.Header.Seq != c.from {
				t.Errorf("the start went on from %d, not %d", k.n.from.Header.Seq, c.from)
			}
			if is := k.views(names...); is != was {
				t.Errorf("before\n%s\nafter\n%s", was, is)
			}
			if d := k.n.degraded.list(); (len(d) > 0) != (c.name != "nothing") {
				t.Errorf("degraded: %+v", d)
			}
		})
	}
}

// flipFile changes a byte in the last hundred of a file, which every part of a checkpoint needs.
func flipFile(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-50] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTrimmed trims the log behind the checkpoints: answers stay, a new view begins with the rows that tables keep and says from when it has the others.
func TestTrimmed(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	s.Retention.Bytes, s.Checkpoint.CopyEvery = 1, app.Duration(time.Second)
	writeApp(t, dir, keptSQL)
	l := start(t, dir, s)
	rng := rand.New(rand.NewPCG(2, 1))
	l.some(rng)
	l.checkpoint()
	l.some(rng)
	l.checkpoint()
	l.some(rng)
	for l.n.shard.First() == 1 { // the copy is made at most once a second
		l.some(rng)
		l.checkpoint()
	}
	first := l.n.shard.First()
	names := []string{"tally", "best", "teams", "seen", "players"}
	was := l.views(names...)
	killed := l.image(&s)
	k := start(t, dir, killed)
	if is := k.views(names...); is != was {
		t.Errorf("before\n%s\nafter a start over a log that begins at %d\n%s", was, first, is)
	}
	text := keptSQL + `CREATE MATERIALIZED VIEW scores AS SELECT team, sum(score) AS score FROM players GROUP BY team;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM votes;
CREATE MATERIALIZED VIEW whats AS SELECT what, count(*) AS n FROM seen GROUP BY what;
GRANT SELECT ON scores, counted, whats TO anon;
`
	p := k.change(text)
	from := map[string]string{}
	for _, v := range p.Views {
		from[v.Name] = v.CompleteFrom
	}
	if from["scores"] != "" || from["whats"] != "" || from["counted"] == "" {
		t.Errorf("complete from %v", from)
	}
	var info AppInfo
	status, body, _ := (&life{t, k.n, nil, k.n.AdminURL()}).call("GET", "/v1/app", "")
	if err := json.Unmarshal([]byte(body), &info); err != nil || status != 200 || len(info.CompleteFrom) != 1 || info.CompleteFrom["counted"] == "" {
		t.Errorf("%d %s", status, body)
	}
	names = append(names, "scores", "counted", "whats")
	k.some(rng)
	was = k.views(names...)
	// What is kept is whole: the sums agree with the tables.
	var players []struct {
		Team  string
		Score int64
	}
	_, body, _ = k.call("GET", "/v1/views/players", "")
	if err := json.Unmarshal([]byte(body), &players); err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, r := range players {
		sums[r.Team] += r.Score
	}
	_, body, _ = k.call("GET", "/v1/views/scores", "")
	players = nil
	if err := json.Unmarshal([]byte(body), &players); err != nil {
		t.Fatal(err)
	}
	for _, r := range players {
		if sums[r.Team] != r.Score {
			t.Errorf("scores %+v, the rows say %v", players, sums)
		}
	}
	writeApp(t, dir, text)
	again := k.image(&killed) // the definition is behind the checkpoint
	k.end()
	k = start(t, dir, again)
	if is := k.views(names...); is != was {
		t.Errorf("before\n%s\nafter a kill\n%s", was, is)
	}
	k.end()
	k = start(t, dir, again)
	if is := k.views(names...); is != was {
		t.Errorf("before\n%s\nafter a stop\n%s", was, is)
	}
	k.end()
	l.end()
}

// TestRaisedLimit stops a view at a limit, and builds it anew at a start with a higher one.
func TestRaisedLimit(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	s.Limits.ViewState = 1 << 20
	writeApp(t, dir, `CREATE TABLE hits (who text NOT NULL);
CREATE MATERIALIZED VIEW per AS SELECT who, count(*) AS n FROM hits GROUP BY who;
CREATE MATERIALIZED VIEW all_hits AS SELECT count(*) AS n FROM hits;
GRANT INSERT ON hits TO anon;
GRANT SELECT ON per, all_hits TO anon;
`)
	l := start(t, dir, s)
	rows := func(from int) string {
		var b strings.Builder
		for i := range 20_000 {
			fmt.Fprintf(&b, `{"who":"somebody with a long name %d"}`+"\n", from+i)
		}
		return b.String()
	}
	l.write("POST", "/v1/tables/hits", rows(0), "Content-Type", "application/x-ndjson")
	l.write("POST", "/v1/tables/hits", rows(20_000), "Content-Type", "application/x-ndjson")
	stopped := func(l *life) (n int) {
		if err := l.n.betweenBatches(func() { n = len(l.n.engine.Stopped()) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if stopped(l) != 1 {
		t.Fatal("the view did not stop")
	}
	l.end()
	l = start(t, dir, s)
	if stopped(l) != 1 {
		t.Error("the view runs again under the same limit")
	}
	l.end()
	s.Limits.ViewState = 1 << 30
	l = start(t, dir, s)
	defer l.end()
	if stopped(l) != 0 {
		t.Error("the view did not begin again under a higher limit")
	}
	l.expect("/v1/views/per?who=eq.somebody%20with%20a%20long%20name%2039999", `[{"who":"somebody with a long name 39999","n":1}]`)
	l.expect("/v1/views/all_hits", `[{"n":40000}]`)
}

// TestLargerThanMemory keeps state and rows that are many times what may be in memory: they are read from the checkpoint when they are
// needed, and everything is as with enough memory.
func TestLargerThanMemory(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	s.Limits.Memory = 1 << 20
	writeApp(t, dir, keptSQL+`CREATE MATERIALIZED VIEW by_name AS SELECT name, sum(score) AS score, max(score) AS best FROM players GROUP BY name;
GRANT SELECT ON by_name TO anon;
`)
	l := start(t, dir, s)
	rng := rand.New(rand.NewPCG(5, 5))
	for round := range 6 {
		var b strings.Builder
		for range 10_000 {
			fmt.Fprintf(&b, `{"name":"player %d with a name that takes room","team":"t%d","score":%d}`+"\n", rng.IntN(30_000), rng.IntN(3), rng.IntN(1000))
		}
		l.write("POST", "/v1/tables/players?on_conflict=merge", b.String(), "Content-Type", "application/x-ndjson")
		l.checkpoint()
		l.some(rng)
		if round == 3 {
			killed := l.image(&s)
			l.end()
			s = killed
			l = start(t, dir, s)
		}
	}
	l.checkpoint()
	if r := l.n.resident.Load(); r > 3<<20 || r == 0 {
		t.Errorf("%d bytes in memory", r)
	}
	if st := l.n.store.Stats(); st.Evictions == 0 || st.Loads == 0 || st.Rows < 40_000 {
		t.Errorf("%+v", st)
	}
	l.same(dir, s, "tally", "best", "teams", "seen", "players", "by_name")
	l.end()
}

// TestDamagedWhileRunning meets a damaged page in the middle of work: the node ends with a clear error, and the next start verifies every page
// before it uses a checkpoint, so that it does not meet the same again.
func TestDamagedWhileRunning(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	s.Limits.Memory, s.Limits.Ring = 1<<20, 64<<10
	writeApp(t, dir, keptSQL)
	l := start(t, dir, s)
	rows := func() string {
		var b strings.Builder
		for i := range 30_000 {
			fmt.Fprintf(&b, `{"name":"player %d with a name that takes room","team":"t%d","score":%d}`+"\n", i, i%3, i)
		}
		return b.String()
	}
	l.write("POST", "/v1/tables/players?on_conflict=merge", rows(), "Content-Type", "application/x-ndjson")
	l.checkpoint()
	l.end()
	files, err := filepath.Glob(filepath.Join(s.Data, "checkpoints", "*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b string) int { // the largest has most pages; its index is at its end
		x, _ := os.Stat(a)
		y, _ := os.Stat(b)
		return int(y.Size() - x.Size())
	})
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; ; i++ { // a page that a start does not read
		bad := slices.Clone(good)
		bad[len(bad)/100*(95-i)] ^= 1
		if err := os.WriteFile(files[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		killed := l.image(&s)
		l = start(t, dir, killed)
		if !l.n.from.Copy && l.n.from.Header.Seq != 0 && meets(t, l, rows()) {
			s = killed
			break
		}
		l.end()
		if i == 90 {
			t.Fatal("nobody has met the damage")
		}
	}
	if err := l.n.Wait(context.Background()); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Fatalf("the node ended with %v", err)
	}
	l = start(t, dir, s)
	defer l.end()
	if status, body, _ := l.call("GET", "/v1/views/players", ""); status != 200 || strings.Count(body, `"name":`) != 30_000 {
		t.Errorf("%d, %d rows", status, strings.Count(body, `"name":`))
	}
	if d := l.n.degraded.list(); len(d) == 0 {
		t.Error("nothing says that a checkpoint was damaged")
	}
}

// meets reads and writes everything, and reports whether one of both did not work.
func meets(t *testing.T, l *life, rows string) bool {
	t.Helper()
	for _, method := range []string{"GET", "POST"} {
		path, body := "/v1/views/players", ""
		if method == "POST" {
			path, body = "/v1/tables/players?on_conflict=merge", rows
		}
		q, err := http.NewRequestWithContext(t.Context(), method, l.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/x-ndjson")
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			return true
		}
		_, err = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK {
			return true
		}
	}
	return false
}

// TestDamageOfAnother: what was told of the rows of a checkpoint that a start has passed over does not end the node that goes on with other ones.
func TestDamageOfAnother(t *testing.T) {
	n := &Node{broken: make(chan error, 1)}
	n.damaged(&checkpoint.Damage{Problem: "a page that the replay needed"})
	n.startOver()
	select {
	case err := <-n.broken:
		t.Errorf("it ends with %v", err)
	default:
	}
}
