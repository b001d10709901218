package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"laaster/client"
	"laaster/internal/kit/run"
)

// tailing runs `laaster tail` and reads its lines.
type tailing struct {
	t     *testing.T
	lines *bufio.Scanner
	errs  *bufio.Scanner
	stop  context.CancelFunc
	group *run.Group
}

func tail(t *testing.T, c tailCommand) *tailing {
	t.Helper()
	in, out := io.Pipe()
	ein, eout := io.Pipe()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	g := run.New(t.Context())
	g.Go("tail", func(context.Context) error {
		defer out.Close()
		defer eout.Close()
		return c.run(ctx, &streams{out, eout}, run.System{})
	})
	return &tailing{t, bufio.NewScanner(in), bufio.NewScanner(ein), stop, g}
}

func (x *tailing) line() (l tailLine) {
	x.t.Helper()
	if !x.lines.Scan() {
		x.t.Fatalf("no more lines: %v", x.group.Wait())
	}
	if err := json.Unmarshal(x.lines.Bytes(), &l); err != nil {
		x.t.Fatalf("%s: %v", x.lines.Bytes(), err)
	}
	return l
}

// end is Ctrl-C.
func (x *tailing) end() {
	x.t.Helper()
	x.stop()
	g := run.New(context.Background())
	for _, s := range []*bufio.Scanner{x.lines, x.errs} {
		g.Go("drain", func(context.Context) error {
			for s.Scan() {
			}
			return nil
		})
	}
	if err := x.group.Wait(); err != nil {
		x.t.Errorf("after Ctrl-C: %v", err)
	}
	_ = g.Wait()
}

func post(t *testing.T, url, body string) {
	t.Helper()
	r, err := http.Post(url+"/v1/tables/votes", "application/json", strings.NewReader(body))
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r, err)
	}
	_ = r.Body.Close()
}

// TestTailLines: the rows, then each change, one JSON object a line, until Ctrl-C.
func TestTailLines(t *testing.T) {
	n := serving(t, appWith(t, map[string]string{"app.sql": tallySQL}))
	x := tail(t, tailCommand{View: "tally", URL: n.PublicURL(), Order: "points.desc", Filter: "points=gt.7"})
	a, b := x.line(), x.line()
	if a.Event != client.Snapshot || a.Op != client.Insert || string(a.Row) != `{"contestant":"Åse","points":12}` || string(a.Key) != `["Åse"]` || a.Position == "" ||
		string(b.Row) != `{"contestant":"Bo","points":8}` {
		t.Errorf("%+v\n%+v", a, b)
	}
	post(t, n.PublicURL(), `{"id":10,"contestant":"Bo","points":5}`)
	if l := x.line(); l.Event != client.Changed || l.Op != client.Update || string(l.Row) != `{"contestant":"Bo","points":13}` || l.At == "" {
		t.Errorf("%+v", l)
	}
	post(t, n.PublicURL(), `{"id":11,"contestant":"Bo","points":-9}`)
	if l := x.line(); l.Op != client.Delete || string(l.Key) != `["Bo"]` || l.Row != nil {
		t.Errorf("%+v", l)
	}
	x.end()
}

// TestTailErrors: what goes wrong is told with what to do about it.
func TestTailErrors(t *testing.T) {
	n := serving(t, appWith(t, map[string]string{"app.sql": tallySQL}))
	at := "--url=" + n.PublicURL()
	for _, c := range []call{
		{[]string{"tail", "--help"}, 0, []string{"Examples", "--filter", "--json"}, nil},
		{[]string{"tail"}, 2, nil, []string{"<view>", "hint"}},
		{[]string{"tail", "tally", "--url", "http://127.0.0.1:1"}, 1, nil, []string{"refused", "hint: is the server running there?"}},
		{[]string{"tail", "tally", "--addr", n.AdminURL()}, 1, nil, []string{"404", "hint: is the server running there?"}},
		{[]string{"tail", "tally", "--url", "ftp://x"}, 1, nil, []string{"--url", "http://"}},
		{[]string{"tail", "nope", at}, 1, nil, []string{"no view or table has this name"}},
		{[]string{"tail", "votes", at}, 1, nil, []string{"not granted to anon", "hint: grant it in app.sql"}},
		{[]string{"tail", "tally", at, "--filter", "colour=eq.red"}, 1, nil, []string{"colour", "hint"}},
		{[]string{"tail", "tally", at, "--order", "colour"}, 1, nil, []string{"colour"}},
		{[]string{"tail", "tally", at, "--limit=-1"}, 1, nil, []string{"limit is -1"}},
	} {
		c.check(t)
	}
}

// TestTailTable: the picture on a terminal.
func TestTailTable(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	rows := []client.Row{
		client.Row(`{"name":"Åse","points":12,"note":"a\tb\u001b[31m"}`), client.Row(`{"name":"Bo 日本","points":8,"note":null}`),
		client.Row(`{"name":"Cy","points":7,"note":"` + strings.Repeat("long ", 20) + `"}`), client.Row(`{"name":"Dee","points":6.5,"note":{"a":1}}`),
	}
	tb := &tailTable{view: "tally", rows: rows, fresh: client.Freshness{State: client.Live}, state: client.State{Name: client.StateLive},
		pulse: client.Pulse{P50: 3 * time.Millisecond, P99: 21 * time.Millisecond, Samples: 9, Rate: 4.2}, position: "log.0-7"}
	first := client.Event{Kind: client.Snapshot}
	tb.mark(&first, now)
	e := client.Event{Kind: client.Changed, Changes: []client.Change{
		{Op: client.Update, Row: rows[1], Old: client.Row(`{"name":"Bo 日本","points":7,"note":null}`)}, {Op: client.Insert, Row: rows[3]},
		{Op: client.Delete, Key: client.Row(`["Zoe"]`), Old: client.Row(`{"name":"Zoe","points":1,"note":""}`)},
	}}
	tb.mark(&e, now)
	check := func(at time.Time, w, h int, want string) {
		t.Helper()
		got := tb.render(at, w, h)
		if strings.TrimPrefix(want, "\n") != got {
			t.Errorf("got\n%s", got)
		}
		lines := strings.Split(got, "\n")
		for _, l := range lines {
			if tailLetters(l) > w || strings.ContainsRune(l, '\x1b') {
				t.Errorf("%d places of %d: %q", tailLetters(l), w, l)
			}
		}
		if len(lines) > h {
			t.Errorf("%d lines of %d", len(lines), h)
		}
	}
	check(now, 80, 20, `
tally · live · 4 rows · 4.2 changes/s · delay 3.0 ms (p99 21 ms) · at log.0-7
  name     points  note                                     
  Åse          12  a␣b␣[31m                                 
~ Bo 日本       8                                           
  Cy            7  long long long long long long long long… 
+ Dee         6.5  {"a":1}                                  
- Zoe           1                                           `)
	check(now, 30, 6, `
tally · live · 4 rows · 4.2 c…
  name     points  note     
  Åse          12  a␣b␣[31m 
~ Bo 日本       8           
- Zoe           1           
  … and 2 more rows`)
	tb.state = client.State{Name: client.StateStale, RetryAt: now.Add(7 * time.Second), Reason: io.ErrUnexpectedEOF}
	tb.fresh = client.Freshness{State: client.Stale, Since: now}
	tb.rows = tb.rows[:1]
	check(now.Add(5*time.Second), 80, 20, `
tally · stale for 5s · 1 row · 4.2 changes/s · delay 3.0 ms (p99 21 ms) · at lo…
connection lost (unexpected EOF); next attempt in 2s
  name  points  note     
  Åse       12  a␣b␣[31m `)
	tb.rows = nil
	tb.state = client.State{Name: client.StateLive}
	tb.fresh = client.Freshness{State: client.Live}
	tb.pulse = client.Pulse{}
	check(now.Add(5*time.Second), 80, 20, `
tally · live · 0 rows · 0 changes/s · at log.0-7
 
  no rows`)
	tb.mark(&client.Event{Changes: []client.Change{{Op: client.Delete, Key: client.Row("[1]"), Old: rows[0]}}}, now)
	tb.mark(&client.Event{Changes: []client.Change{{Op: client.Insert, Key: client.Row("[1]"), Row: rows[0]}}}, now)
	if len(tb.gone) != 0 && tb.gone[len(tb.gone)-1].key == "[1]" {
		t.Errorf("%+v is shown as gone and is back", tb.gone)
	}
	tb.colour = true
	tb.rows = rows[:1]
	tb.marks[string(rows[0])] = tailMark{client.Insert, nil, now}
	if got := tb.render(now, 80, 20); !strings.Contains(got, "\x1b[32m") || strings.Contains(got, "b\x1b[31m") {
		t.Errorf("%q", got)
	}
}

// TestTailReconnects: a lost connection is told, and made again, with the difference.
func TestTailReconnects(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": tallySQL})
	n := serving(t, dir)
	at := strings.TrimPrefix(n.PublicURL(), "http://")
	x := tail(t, tailCommand{View: "tally", URL: n.PublicURL()})
	x.line()
	x.line()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if !x.errs.Scan() || !strings.Contains(x.errs.Text(), "connection lost: draining") {
		t.Errorf("%q", x.errs.Text())
	}
	if l := x.line(); l.Event != client.FreshnessChanged || l.State != client.Stale {
		t.Errorf("%+v", l)
	}
	servingAt(t, dir, at)
	var out bytes.Buffer
	for { // a log of its own, with the same rows as before: no change, and a gap
		l := x.line()
		out.Write(append(x.lines.Bytes(), '\n'))
		if l.State == client.Live {
			break
		}
	}
	if !strings.Contains(out.String(), `"event":"gap"`) || strings.Contains(out.String(), `"op"`) {
		t.Errorf("%s", out.String())
	}
	if !x.errs.Scan() || x.errs.Text() != "connected again" {
		t.Errorf("%q", x.errs.Text())
	}
	x.end()
}
