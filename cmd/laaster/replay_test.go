package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

// TestReplay: the command serves a data folder of the past, and compares definitions.
func TestReplay(t *testing.T) {
	dir := appWith(t, map[string]string{"app.sql": tallySQL})
	next := appWith(t, map[string]string{"app.sql": strings.Replace(tallySQL, "sum(points)", "sum(points * 2)", 1)})
	s := app.DefaultSettings()
	s.Listen, s.Admin, s.Data = "127.0.0.1:0", "127.0.0.1:0", filepath.Join(dir, ".laaster")
	n, err := node.Start(t.Context(), node.Options{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []string{`[{"id":1,"contestant":"Bo","points":7}]`, `[{"id":2,"contestant":"Bo","points":1}]`} {
		r, err := http.Post(n.PublicURL()+"/v1/tables/votes", "application/json", strings.NewReader(rows))
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := n.Wait(ended); err != nil {
		t.Fatal(err)
	}
	for _, c := range []call{
		{args: []string{"replay", dir, "--with", dir}, out: []string{"have the same rows"}},
		{args: []string{"replay", dir, "--with", next}, code: 1, out: []string{"tally: 1 rows here, 1 there; 0 only here, 0 only there, 1 changed", `"points": 16`}},
		{args: []string{"replay", dir, "--until", "2", "--with", next, "--json"}, code: 1, out: []string{`"differs": true`, `"points": 7`}},
		{args: []string{"replay", dir, "--until", "1999-01-01T00:00:00Z"}, code: 1, err: []string{"where the history begins"}},
		{args: []string{"replay", dir, "--json"}, code: 1, err: []string{"--with"}},
		{args: []string{"replay", next}, code: 1, err: []string{"no such folder"}},
	} {
		c.check(t)
	}
	serveReplay(t, dir)
}

// serveReplay runs the program itself, as it is only ended by a signal.
func serveReplay(t *testing.T, dir string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "laaster")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(bin, "replay", dir, "--until", "2", "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, _, _ := strings.Cut(strings.TrimPrefix(line, "ready public="), " ")
	r, err := http.Get(url + "/v1/views/tally")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	var rows []map[string]any
	if json.Unmarshal(body, &rows) != nil || err != nil || len(rows) != 1 || rows[0]["points"] != 7.0 || !strings.Contains(line, "position=") {
		t.Errorf("%s\n%s", line, body)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
}
