package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

const historySQL = `CREATE TABLE items (id bigint PRIMARY KEY, grp text NOT NULL, points integer NOT NULL);
CREATE MATERIALIZED VIEW tally AS SELECT grp, count(*) AS n, sum(points) AS points FROM items GROUP BY grp;
GRANT ALL ON items TO anon;
GRANT SELECT ON tally TO anon;
`

// moment is what a view was at a position.
type moment struct {
	position string
	at       time.Time
	tally    string
}

// lived runs an app for a while, with checkpoints, and returns what was at its moments. The log goes on behind the last of them.
func lived(t *testing.T, dir string, s app.Settings) (moments []moment) {
	t.Helper()
	l := start(t, dir, s)
	for i := range 12 {
		var rows []string
		for k := range 40 {
			rows = append(rows, fmt.Sprintf(`{"id":%d,"grp":"g%d","points":%d}`, i*30+k, k%5, i+k))
		}
		res := l.write("POST", "/v1/tables/items?on_conflict=merge", "["+strings.Join(rows, ",")+"]")
		_, tally, _ := l.call("GET", "/v1/views/tally?_after="+res.Position, "")
		moments = append(moments, moment{res.Position, time.Now(), tally})
		if i == 3 || i == 7 {
			if _, err := l.n.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		l.write("DELETE", fmt.Sprintf("/v1/tables/items?id=eq.%d", i*30), "")
	}
	l.end()
	return moments
}

func historyOptions(dir string, s app.Settings, until string) HistoryOptions {
	return HistoryOptions{Dir: dir, Settings: s, Until: until, Clock: run.System{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// recalled opens the past, serves it and has f look at it.
func recalled(t *testing.T, o HistoryOptions, f func(h *History, l *life)) {
	t.Helper()
	h, err := OpenHistory(t.Context(), o)
	if err != nil {
		t.Fatalf("--until %q: %v", o.Until, err)
	}
	url, err := h.Serve(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f(h, &life{t: t, url: url})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(h.Wait(ctx), h.Close()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// fingerprint is of everything in a folder: names, contents, times.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, path, info.Mode(), info.ModTime())
		if !d.IsDir() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum.Write(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// withKeys makes a key file in the app folder and names it in the settings.
func withKeys(t *testing.T, dir string, s *app.Settings) {
	t.Helper()
	line, err := seal.NewLine("k")
	if err != nil {
		t.Fatal(err)
	}
	s.Encryption.Keys = "keys.txt"
	if err := os.WriteFile(filepath.Join(dir, "keys.txt"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHistory: every moment of the past is served as it was, from checkpoints and from the log alone, and the folder stays as it is.
func TestHistory(t *testing.T) {
	for _, name := range []string{"plain", "encrypted"} {
		t.Run(name, func(t *testing.T) { testHistory(t, name == "encrypted") })
	}
}

func testHistory(t *testing.T, encrypted bool) {
	dir := t.TempDir()
	writeApp(t, dir, historySQL)
	s := settingsFor(filepath.Join(dir, "data"), "embedded")
	if encrypted {
		withKeys(t, dir, &s)
	}
	moments := lived(t, dir, s)
	before := fingerprint(t, s.Data)
	from := map[string]bool{}
	for _, m := range moments {
		for _, until := range []string{m.position, m.position[strings.LastIndex(m.position, "-")+1:]} {
			recalled(t, historyOptions(dir, s, until), func(h *History, l *life) {
				from[h.From()] = true
				status, tally, head := l.call("GET", "/v1/views/tally", "")
				if status != http.StatusOK || tally != m.tally || !strings.HasPrefix(head.Get("Laaster-History"), m.position) || head.Get("Laaster-Position") != m.position {
					t.Errorf("at %s: %d %s, want %s; %v", m.position, status, tally, m.tally, head)
				}
				if !strings.Contains(head.Get("Laaster-Stale"), "history") {
					t.Errorf("nothing says that it is history: %v", head)
				}
			})
		}
	}
	if len(from) < 3 {
		t.Errorf("made from %v", from)
	}
	if now := fingerprint(t, s.Data); now != before {
		t.Error("the data folder has changed")
	}
	last := moments[len(moments)-1]
	recalled(t, historyOptions(dir, s, ""), func(h *History, l *life) {
		if h.Position() == last.position || h.Position() != h.Last() {
			t.Errorf("the end is %s, and %s", h.Position(), h.Last())
		}
		historyRefuses(t, l)
	})
	m := moments[4]
	recalled(t, historyOptions(dir, s, m.at.UTC().Format(time.RFC3339Nano)), func(h *History, l *life) {
		if h.Time().After(m.at) || h.Position() != m.position {
			t.Errorf("at %s: %s of %s", m.at, h.Position(), h.Time())
		}
		l.expect("/v1/views/tally", m.tally)
		historyLive(t, l)
	})
	for _, until := range []string{"0", "99999", "yesterday", "2001-01-01T00:00:00Z", "aaaaaaaaaaaaaaaa.0-3"} {
		if h, err := OpenHistory(t.Context(), historyOptions(dir, s, until)); err == nil {
			t.Errorf("--until %s was opened at %s", until, h.Position())
		} else if !strings.Contains(err.Error(), "--until "+until) && !strings.Contains(err.Error(), `"`+until+`"`) {
			t.Errorf("--until %s: %v", until, err)
		}
	}
	if now := fingerprint(t, s.Data); now != before {
		t.Error("the data folder has changed")
	}
	l := start(t, dir, s) // and goes on
	if _, err := OpenHistory(t.Context(), historyOptions(dir, s, "")); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("of a running server: %v", err)
	}
	l.end()
}

func historyRefuses(t *testing.T, l *life) {
	t.Helper()
	for _, method := range []string{"POST", "PATCH", "DELETE"} {
		status, text, _ := l.call(method, "/v1/tables/items?id=eq.1", `{"id":1,"grp":"x","points":1}`)
		if status < 400 || !strings.Contains(text, "history") {
			t.Errorf("%s: %d %s", method, status, text)
		}
	}
}

// historyLive: a live subscription gets the rows and hears that they are of the past.
func historyLive(t *testing.T, l *life) {
	t.Helper()
	next, done := l.stream("/v1/views/tally", "")
	defer done()
	rows, stale := false, false
	for !rows || !stale {
		event, data, _ := next()
		rows = rows || event == "snapshot" && strings.Contains(data, `"grp":"g0"`)
		stale = stale || event == "freshness" && strings.Contains(data, "history")
	}
}

// TestHistoryOfATrimmedLog: what is left of the log, and what is not.
func TestHistoryOfATrimmedLog(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, historySQL)
	s := settingsFor(filepath.Join(dir, "data"), "embedded")
	early := lived(t, dir, s)
	l := start(t, dir, s)
	if _, err := l.n.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := l.n.oldestKept() + 1
	if err := l.n.shard.Trim(t.Context(), first); err != nil || l.n.shard.First() != first {
		t.Fatalf("begins at %d, not %d: %v", l.n.shard.First(), first, err)
	}
	l.end()
	late := lived(t, dir, s)
	for _, m := range late[6:] {
		recalled(t, historyOptions(dir, s, m.position), func(_ *History, l *life) { l.expect("/v1/views/tally", m.tally) })
	}
	if h, err := OpenHistory(t.Context(), historyOptions(dir, s, early[2].position)); err == nil || !strings.Contains(err.Error(), fmt.Sprint("batch ", first)) {
		t.Errorf("a trimmed moment: %v, %v", h, err)
	}
	h, err := OpenHistory(t.Context(), historyOptions(dir, s, ""))
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Compare(t.Context(), dir)
	if err != nil || c.Differs {
		t.Errorf("the same app over a trimmed log: %+v, %v", c, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// TestHistoryOfABackup: a backup set gives the same, under the same positions, also of a moment before its end.
func TestHistoryOfABackup(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, historySQL)
	s := settingsFor(filepath.Join(dir, "data"), "embedded")
	withKeys(t, dir, &s)
	moments := lived(t, dir, s)
	set := filepath.Join(dir, "set")
	f, err := os.Create(set)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Backup(t.Context(), BackupOptions{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)}, f)
	if err := errors.Join(err, f.Close(), os.RemoveAll(s.Data)); err != nil {
		t.Fatal(err)
	}
	temps, _ := filepath.Glob(filepath.Join(os.TempDir(), "laaster-replay-*"))
	for _, m := range []moment{moments[1], moments[5], moments[11]} {
		o := historyOptions(dir, s, m.position)
		o.Set = set
		recalled(t, o, func(_ *History, l *life) { l.expect("/v1/views/tally", m.tally) })
	}
	raw, err := os.ReadFile(set)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(set, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	o := historyOptions(dir, s, "")
	o.Set = set
	if _, err := OpenHistory(t.Context(), o); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("a changed set: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "laaster-replay-*")); len(left) > len(temps) {
		t.Errorf("left behind: %v", left)
	}
}

// TestCompareHistory: another definition over the same history, row by row.
func TestCompareHistory(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	writeApp(t, dir, historySQL+"CREATE MATERIALIZED VIEW extra AS SELECT id, points FROM items WHERE points > 10;\nGRANT SELECT ON extra TO anon;\n")
	s := settingsFor(filepath.Join(dir, "data"), "embedded")
	lived(t, dir, s)
	h, err := OpenHistory(t.Context(), historyOptions(dir, s, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	compare := func(text string) *Comparison {
		t.Helper()
		writeApp(t, other, text)
		c, err := h.Compare(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		c.Print(&out)
		if c.Differs != strings.Contains(out.String(), "\ntally") {
			t.Errorf("%s", out.String())
		}
		return c
	}
	own, err := os.ReadFile(filepath.Join(dir, "app.sql"))
	if err != nil {
		t.Fatal(err)
	}
	if c := compare(string(own)); c.Differs || len(c.Views) < 3 {
		t.Errorf("the same definition: %+v", c)
	}
	changed := strings.Replace(string(own), "FROM items GROUP BY grp", "FROM items WHERE grp <> 'g1' GROUP BY grp UNION ALL SELECT 'zz', 1, 1", 1)
	changed = strings.ReplaceAll(strings.Replace(changed, "sum(points) AS points FROM items", "sum(CASE WHEN grp = 'g2' THEN 2 ELSE 1 END * points) AS points FROM items", 1), " UNION ALL SELECT 'zz', 1, 1", "")
	changed = strings.Replace(changed, "CREATE MATERIALIZED VIEW extra AS SELECT id, points FROM items WHERE points > 10;\nGRANT SELECT ON extra TO anon;\n",
		"CREATE MATERIALIZED VIEW fresh AS SELECT id FROM items;\nGRANT SELECT ON fresh TO anon;\n", 1)
	found := map[string]ViewCompared{}
	for _, v := range compare(changed).Views {
		found[v.Name] = v
	}
	tally, items := found["tally"], found["items"]
	if tally.Here != 5 || tally.There != 4 || tally.Missing != 1 || tally.Changed != 1 || tally.Added != 0 || len(tally.ChangedRows) != 1 ||
		!strings.Contains(string(tally.ChangedRows[0].There), `"grp": "g2"`) || !strings.Contains(string(tally.MissingRows[0]), `"g1"`) {
		t.Errorf("tally: %+v", tally)
	}
	if found["extra"].Only != "here" || found["fresh"].Only != "there" || items.differs() || items.Here == 0 {
		t.Errorf("%+v", found)
	}
	found = map[string]ViewCompared{}
	for _, v := range compare(strings.Replace(string(own), "SELECT grp, count(*) AS n, sum(points) AS points FROM items GROUP BY grp",
		"SELECT grp, id % 2 AS odd, count(*) AS n, sum(points) AS points FROM items GROUP BY grp, id % 2", 1)).Views {
		found[v.Name] = v
	}
	if tally = found["tally"]; tally.Note == "" || tally.Missing != 5 || tally.Added != 10 {
		t.Errorf("another key: %+v", tally)
	}
	if c := compare(strings.Replace(string(own), "sum(points) AS points FROM", "sum(points) AS points, max(id) AS newest FROM", 1)); !c.Differs || c.Views[0].Changed != 5 {
		t.Errorf("another column: %+v", c.Views[0])
	}
}

// TestHistoryOfAnotherApp: the app of a moment is the one that ran then, whatever app.sql is today.
func TestHistoryOfAnotherApp(t *testing.T) {
	dir := t.TempDir()
	s := settingsFor(filepath.Join(dir, "data"), "embedded")
	writeApp(t, dir, historySQL)
	old := lived(t, dir, s)
	writeApp(t, dir, strings.Replace(historySQL, "count(*) AS n", "max(points) AS best", 1))
	now := lived(t, dir, s)
	if err := os.Remove(filepath.Join(dir, "app.sql")); err != nil {
		t.Fatal(err)
	}
	for _, m := range []moment{old[0], old[11], now[0], now[11]} {
		recalled(t, historyOptions(dir, s, m.position), func(_ *History, l *life) { l.expect("/v1/views/tally", m.tally) })
	}
	if strings.Contains(now[11].tally, `"n"`) || !strings.Contains(old[11].tally, `"n"`) {
		t.Errorf("%s\n%s", old[11].tally, now[11].tally)
	}
}
