package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

const tallySQL = `CREATE TABLE votes (id bigint PRIMARY KEY, contestant text NOT NULL, points integer NOT NULL) WITH (append_only);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, sum(points) AS points FROM votes GROUP BY contestant;
GRANT INSERT ON votes TO anon;
GRANT SELECT ON tally TO anon;
`

// serving runs an app in this process until the test ends.
func serving(t *testing.T, dir string) *node.Node {
	t.Helper()
	return servingAt(t, dir, "127.0.0.1:0")
}

// servingAt is serving on a public address.
func servingAt(t *testing.T, dir, listen string) *node.Node {
	t.Helper()
	s := app.DefaultSettings()
	s.Listen, s.Admin, s.Backbone = listen, "127.0.0.1:0", "memory"
	n, err := node.Start(t.Context(), node.Options{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := n.Wait(ctx); err != nil {
			t.Error(err)
		}
	})
	r, err := http.Post(n.PublicURL()+"/v1/tables/votes", "application/json",
		strings.NewReader(`[{"id":1,"contestant":"Åse","points":12},{"id":2,"contestant":"Bo","points":7},{"id":3,"contestant":"Bo","points":1}]`))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	return n
}

func rewrite(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// call is one command line and what it prints.
type call struct {
	args     []string
	code     int
	out, err []string // parts; nil: nothing is printed there
}

func (c *call) check(t *testing.T) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Main(c.args, &out, &errs); code != c.code {
		t.Errorf("%q: exit code %d, want %d\n%s%s", c.args, code, c.code, out.String(), errs.String())
	}
	prints(t, c.args, "stdout", out.String(), c.out)
	prints(t, c.args, "stderr", errs.String(), c.err)
}

// TestRemoteCommands: the commands that talk to a server, against a server.
func TestRemoteCommands(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": tallySQL})
	n := serving(t, dir)
	admin, public := strings.TrimPrefix(n.AdminURL(), "http://"), n.PublicURL()
	for _, c := range []call{
		{[]string{"deploy", "--help"}, 0, []string{"Examples", "--dry-run", "--json", "--server"}, nil},
		{[]string{"dev", "--help"}, 0, []string{"Examples", "--listen"}, nil},
		{[]string{"explain", "--help"}, 0, []string{"Examples", "--live"}, nil},
		{[]string{"query", "--help"}, 0, []string{"Examples", "--watch", "--csv"}, nil},
		{[]string{"deploy", dir, "--server", "127.0.0.1:1"}, 1, nil, []string{"refused", "hint: is the server running there?"}},
		{[]string{"deploy", dir, "--server", "::"}, 1, nil, []string{"is not an address", "hint"}},
		{[]string{"deploy", dir, "--server", public}, 1, nil, []string{"404", "hint: --server names the admin listener"}},
		{[]string{"deploy", filepath.Join(dir, "nope"), "--server", admin}, 1, nil, []string{"there is no such folder", "hint"}},
		{[]string{"check", dir, "--server", admin}, 0, []string{"nothing changes: the running app means the same\n"}, nil},
		{[]string{"deploy", dir, "--server", admin}, 0, []string{"nothing changes"}, nil},
		{[]string{"explain", dir}, 0, []string{"tally", "aggregate"}, nil},
		{[]string{"explain", dir, "nope"}, 1, nil, []string{"no view is named nope"}},
		{[]string{"explain", dir, "tally", "--server", admin}, 0, []string{"tally", "now: 2 rows, ", "rows in", "state bytes"}, nil},
		{[]string{"explain", dir, "nope", "--server", admin}, 1, nil, []string{"no view has this name"}},
		{[]string{"query", public, "tally"}, 0, []string{"contestant  points\n----------  ------\nBo          8\nÅse         12\n(2 rows)\n"}, nil},
		{[]string{"query", public, "tally", "order=points.desc&limit=1", "--json"}, 0, []string{`[{"contestant":"Åse","points":12}]` + "\n"}, nil},
		{[]string{"query", public, "tally", "points=lt.10", "--csv"}, 0, []string{"contestant,points\n", "Bo,8\n"}, nil},
		{[]string{"query", public, "tally", "contestant=eq.no one"}, 0, []string{"(0 rows)\n"}, nil},
		{[]string{"query", public, "nope"}, 1, nil, []string{"no view or table has this name"}},
		{[]string{"query", public, "votes"}, 1, nil, []string{"not granted to anon", "hint: grant it in app.sql"}},
		{[]string{"query", public, "tally", "colour=eq.red"}, 1, nil, []string{"colour"}},
		{[]string{"query", admin, "tally"}, 1, nil, []string{"404", "hint: the address must be the public listener"}},
		{[]string{"query", "127.0.0.1:1", "tally"}, 1, nil, []string{"hint: is the server running there?"}},
		{[]string{"query", "nope", "tally"}, 1, nil, []string{"neither an app folder nor an address"}},
		{[]string{"query", public, "tally", "--csv", "--json"}, 2, nil, []string{"--json", "--csv"}},
		{[]string{"query", public, "tally", "--csv", "--watch"}, 1, nil, []string{"--watch prints text or --json"}},
		{[]string{"query", public, "tally", "limit=1001", "--watch"}, 1, nil, []string{"limit", "1000"}},
	} {
		c.check(t)
	}
	rewrite(t, dir, tallySQL+"CREATE MATERIALIZED VIEW best AS SELECT contestant, points FROM tally ORDER BY points DESC LIMIT 1;\nGRANT SELECT ON best TO anon;\n")
	planned := []string{"the change fits the running app\n", "    view best: new\n", "    view best is new: it is built from the log\n"}
	for _, c := range []call{
		{[]string{"check", dir, "--server", admin}, 0, planned, nil},
		{[]string{"deploy", dir, "--server", admin, "--dry-run"}, 0, planned, nil},
		{[]string{"query", public, "best"}, 1, nil, []string{"no view or table has this name"}},
		{[]string{"deploy", dir, "--server", admin}, 0, append(planned, "in effect at ", "; built from "), nil},
		{[]string{"query", public, "best"}, 0, []string{"Åse         12\n(1 row)\n"}, nil},
		{[]string{"deploy", dir, "--server", admin, "--json"}, 0, []string{`"verdict": "same"`}, nil},
	} {
		c.check(t)
	}
	rewrite(t, dir, strings.Replace(tallySQL, "points integer", "points text", 1))
	for _, c := range []call{
		{[]string{"deploy", dir, "--server", admin}, 1, []string{"app.sql:2:", "error"}, nil},
		{[]string{"deploy", dir, "--server", admin, "--json"}, 1, []string{`"verdict": "refused"`, `"severity": "error"`}, nil},
	} {
		c.check(t)
	}
	rewrite(t, dir, tallySQL)
	c := call{[]string{"deploy", dir, "--server", admin}, 1, []string{"refused: ", "! view best: exists → is gone (put it back", "hint: undo what is marked with !"}, nil}
	c.check(t)
}

// TestDeployJSON: programs read the plan with what became of it.
func TestDeployJSON(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": tallySQL})
	n := serving(t, dir)
	rewrite(t, dir, strings.Replace(tallySQL, "sum(points)", "max(points)", 1))
	var out, errs bytes.Buffer
	if code := Main([]string{"deploy", dir, "--server", n.AdminURL(), "--json"}, &out, &errs); code != exitDone || errs.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var p node.Plan
	if err := json.Unmarshal(out.Bytes(), &p); err != nil || p.Verdict != "compatible" || p.Position == "" || len(p.Views) != 1 || p.Views[0].Change != "changed" {
		t.Errorf("%v %s", err, out.String())
	}
}

// TestQueryWatch: rows, then changes, until the server ends.
func TestQueryWatch(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": tallySQL})
	n := serving(t, dir)
	in, out := io.Pipe()
	var errs bytes.Buffer
	g := run.New(t.Context())
	g.Go("watch", func(context.Context) error {
		code := Main([]string{"query", n.PublicURL(), "tally", "--watch"}, out, &errs)
		_ = out.CloseWithError(io.EOF)
		if code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		return nil
	})
	read := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(in, b); err != nil || string(b) != want {
			t.Fatalf("got %q %v, want %q", b, err, want)
		}
	}
	read("+ {\"contestant\":\"Bo\",\"points\":8}\n")
	read("+ {\"contestant\":\"Åse\",\"points\":12}\n")
	r, err := http.Post(n.PublicURL()+"/v1/tables/votes", "application/json", strings.NewReader(`{"id":9,"contestant":"Bo","points":5}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	read("+ {\"contestant\":\"Bo\",\"points\":13}\n")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := n.Wait(ctx); err != nil {
		t.Error(err)
	}
	if err := g.Wait(); err != nil || !strings.Contains(errs.String(), "the server ended the stream: draining") {
		t.Errorf("%v %q", err, errs.String())
	}
}
