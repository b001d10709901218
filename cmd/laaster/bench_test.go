package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
	"laaster/internal/load"
	"laaster/internal/node"
)

// TestBenchCommandLine: what it refuses, before anything is sent anywhere.
func TestBenchCommandLine(t *testing.T) {
	dir := appWith(t, map[string]string{"good": "{\"at_ms\":5}\n", "trace": "{\"at_ms\":5}\n{\"at_ms\":4}\n"})
	for _, c := range []call{
		{[]string{"bench", "--help"}, 0, []string{"Usage: laaster bench <profile>", "Examples:", "laaster bench fanout", "Profiles:", "docs/bench.md"}, nil},
		{[]string{"bench"}, 2, nil, []string{"expected \"<profile>\""}},
		{[]string{"bench", "nothing"}, 2, nil, []string{"idle"}},
		{[]string{"bench", "channels", "--print-app"}, 0, []string{"CREATE TABLE bench_rows", "GRANT"}, nil},
		{[]string{"bench", "fanout", "--url", "http://192.0.2.1:80"}, 1, nil, []string{"not on this machine", "--yes"}},
		{[]string{"bench", "fanout", "--url", "http://192.0.2.1:80", "--yes", "--pid", "5"}, 1, nil, []string{"--pid is a process of this machine"}},
		{[]string{"bench", "fanout", "--url", "ftp://127.0.0.1"}, 1, nil, []string{"no address of a server"}},
		{[]string{"bench", "fanout", "--yes"}, 1, nil, []string{"belong to --url"}},
		{[]string{"bench", "fanout", "--pid", "1"}, 1, nil, []string{"belong to --url"}},
		{[]string{"bench", "fanout", "--clients=-1"}, 1, nil, []string{"clients is -1", "from 1"}},
		{[]string{"bench", "fanout", "--single", "--batch", "5"}, 1, nil, []string{"give one of them"}},
		{[]string{"bench", "fanout", "--burst", "10"}, 1, nil, []string{"TIMES,ON,EVERY"}},
		{[]string{"bench", "ingest", "--compare"}, 1, nil, []string{"--compare is for idle"}},
		{[]string{"bench", "fanout", "--compare", "--watch", "sse"}, 1, nil, []string{"--compare needs --watch ws"}},
		{[]string{"bench", "fanout", "--watch", "smoke"}, 1, nil, []string{"ws or sse"}},
		{[]string{"bench", "fanout", "--compare", "--url", "http://127.0.0.1:1"}, 1, nil, []string{"--compare needs a server of its own"}},
		{[]string{"bench", "storm", "--trace", filepath.Join(dir, "good")}, 1, nil, []string{"trace has no meaning for the profile storm"}},
		{[]string{"bench", "channels", "--saturate"}, 1, nil, []string{"belongs to fanout"}},
		{[]string{"bench", "fanout", "--saturate", "--to", "5"}, 1, nil, []string{"give one of them"}},
		{[]string{"bench", "fanout", "--changing", "5"}, 1, nil, []string{"belongs to channels"}},
		{[]string{"bench", "channels", "--clients", "5", "--changing", "6"}, 1, nil, []string{"changing is 6", "from 1 to the 5 rows"}},
		{[]string{"bench", "channels", "--changing", "5", "--batch", "6"}, 1, nil, []string{"batch is 6, rows that change are 5"}},
		{[]string{"bench", "fanout", "--over", "smoke"}, 1, nil, []string{"http or ws"}},
		{[]string{"bench", "fanout", "--trace", filepath.Join(dir, "trace")}, 1, nil, []string{"line 2 of the trace"}},
		{[]string{"bench", "fanout", "--trace", filepath.Join(dir, "none")}, 1, nil, []string{"no such file"}},
		{[]string{"bench", "fanout", "--url", "http://127.0.0.1:1", "--cpuprofile", "x"}, 1, nil, []string{"--cpuprofile needs a server of its own"}},
	} {
		c.check(t)
	}
}

// TestBenchOwnServer: it starts a server, measures it, writes both reports, and leaves nothing behind.
func TestBenchOwnServer(t *testing.T) {
	binary, tmp, page := testkit.Binary(t), t.TempDir(), filepath.Join(t.TempDir(), "report.html")
	trace := filepath.Join(filepath.Dir(page), "trace")
	t.Setenv("TMPDIR", tmp)
	var out, errs bytes.Buffer
	code := Main([]string{"bench", "fanout", "--binary", binary, "--clients", "10", "--rate", "100", "--time", "500ms", "--warm", "10ms", "--json",
		"--html", page, "--record", trace}, &out, &errs)
	var r load.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || code != exitDone {
		t.Fatalf("exit code %d: %v\n%s%s", code, err, out.String(), errs.String())
	}
	if r.Profile != "fanout" || r.Version != version || !r.OK() || len(r.Checks) == 0 || r.Interrupted {
		t.Errorf("%+v", r)
	}
	cpu := false
	for _, f := range r.Figures {
		cpu = cpu || f.Name == "server time per delivery" && f.Value > 0
	}
	if !cpu {
		t.Errorf("no processor time of the server: %+v", r.Figures)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("<svg")) && !bytes.Contains(html, []byte("<table")) {
		t.Error("no page", err)
	}
	if text, err := os.ReadFile(trace); err != nil || bytes.Count(text, []byte("\n")) != 50 {
		t.Errorf("the trace has not 50 lines: %s %v", text, err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBenchTokens: with --tokens every client is let in by its token and sees what the policies leave it, on every way to write and to watch.
func TestBenchTokens(t *testing.T) {
	binary := testkit.Binary(t)
	for _, args := range [][]string{
		{"fanout", "--clients", "10", "--rate", "100", "--time", "400ms", "--warm", "10ms"},
		{"fanout", "--clients", "10", "--rate", "100", "--time", "400ms", "--warm", "10ms", "--watch", "sse", "--over", "ws"},
		{"channels", "--clients", "20", "--rate", "500", "--time", "400ms", "--warm", "10ms"},
		{"storm", "--clients", "20", "--rate", "100", "--rounds", "1"},
		{"ingest", "--clients", "2", "--rates", "1000", "--time", "300ms"},
	} {
		cmd := exec.CommandContext(t.Context(), binary, append([]string{"bench", "--tokens", "--json"}, args...)...)
		out, err := cmd.Output()
		var r load.Report
		if err != nil || json.Unmarshal(out, &r) != nil || !r.OK() || len(r.Checks) == 0 {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestBenchCompare: the bare loop passes the same checks, and its figures stand beside.
func TestBenchCompare(t *testing.T) {
	binary := testkit.Binary(t)
	for _, args := range [][]string{
		{"fanout", "--clients", "10", "--rate", "100", "--time", "400ms", "--warm", "10ms"},
		{"channels", "--clients", "20", "--rate", "500", "--time", "400ms", "--warm", "10ms"},
		{"storm", "--clients", "20", "--rate", "100", "--time", "50ms", "--rounds", "2"},
		{"idle", "--clients", "20", "--time", "50ms"},
	} {
		cmd := exec.CommandContext(t.Context(), binary, append([]string{"bench", "--compare", "--json"}, args...)...)
		out, err := cmd.Output()
		var r load.Report
		if err != nil || json.Unmarshal(out, &r) != nil || !r.OK() {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		beside := 0
		for _, f := range r.Figures {
			if f.Bare != 0 {
				beside++
			}
		}
		if beside < 3 || len(r.Notes) != 0 {
			t.Errorf("%v: %d figures stand beside, notes %q", args, beside, r.Notes)
		}
	}
}

// TestBenchCtrlC: it ends cleanly when it is interrupted, and reports what it has.
func TestBenchCtrlC(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": load.AppSQL("fanout")})
	s := app.DefaultSettings()
	s.Listen, s.Admin, s.Backbone = "127.0.0.1:0", "127.0.0.1:0", "memory"
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
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), testkit.Binary(t), "bench", "fanout", "--url", n.PublicURL(), "--clients", "3", "--rate", "200", "--time",
		"1h", "--warm", "1ms", "--json")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for begun := false; !begun; { // until the load has written something
		r, err := http.Get(n.PublicURL() + "/v1/views/bench_feed?n=gt.2&limit=1")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		begun = err == nil && strings.Contains(string(body), `"pad"`)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	var r load.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || len(r.Delays) == 0 || r.Delays[0].Count == 0 || !r.OK() {
		t.Errorf("%s", out.String())
	}
}
