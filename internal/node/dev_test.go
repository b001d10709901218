package node

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
)

// TestDevelop saves files as editors do, on a clock that the test moves: what is looked the same twice is used, once.
func TestDevelop(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	if err := os.Mkdir(filepath.Join(dir, "public"), 0o700); err != nil {
		t.Fatal(err)
	}
	save := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("public/index.html", "<body>one</body>")
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	clock := run.NewManual(time.Unix(0, 0))
	ctx, stop := context.WithCancel(t.Context())
	events := make(chan DevEvent, 8)
	l.n.Beside(ctx, func(ctx context.Context, n *Node) error {
		return n.Develop(ctx, clock, func(e DevEvent) { events <- e })
	})
	look := func() { clock.AwaitSleepers(1); clock.Advance(devEvery) }
	quiet := func(when string) {
		t.Helper()
		clock.AwaitSleepers(1)
		select {
		case e := <-events:
			t.Errorf("%s: %+v", when, e)
		default:
		}
	}
	look()
	look()
	quiet("nothing was saved")

	changed := strings.Replace(votesSQL, "sum(points) AS points", "max(points) AS best", 1)
	writeApp(t, dir, changed[:50])
	look()
	quiet("half a file")
	writeApp(t, dir, changed)
	look()
	quiet("another half")
	look()
	if e := <-events; e.Kind != devDeployed || !strings.Contains(e.Text, "view tally is changed") {
		t.Errorf("saved: %+v", e)
	}
	look()
	quiet("nothing more")

	save("app.sql~", strings.Replace(changed, "max(", "mox(", 1))
	if err := os.Rename(filepath.Join(dir, "app.sql~"), filepath.Join(dir, "app.sql")); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	if e := <-events; e.Kind != devProblem || !strings.Contains(e.Text, "mox") || !strings.Contains(e.Text, "^^^") {
		t.Errorf("broken: %+v", e)
	}
	l.expect("/v1/views/tally", "[]")
	pages := listen(t, l)
	if kind, data := pages(); kind != devProblem || !strings.Contains(data, "mox") {
		t.Errorf("a page that is opened now: %s %s", kind, data)
	}
	save("public/index.html", "<body>two</body>")
	look()
	look()
	if e := <-events; e.Kind != devReload {
		t.Errorf("a page: %+v", e)
	}
	if kind, _ := pages(); kind != devReload {
		t.Errorf("the page hears %s", kind)
	}
	if status, text, _ := l.call("GET", "/", ""); status != http.StatusOK || text != `<body>two<script type="module" src="/v1/dev.js"></script></body>` {
		t.Errorf("the page is %s", text)
	}
	save("laaster.yaml", "limits:\n  row: 100KiB\n")
	look()
	look()
	if e := <-events; e.Kind != devProblem || !strings.Contains(e.Text, "restart") {
		t.Errorf("settings: %+v", e)
	}
	if kind, data := pages(); kind != devProblem || !strings.Contains(data, "mox") || !strings.Contains(data, "restart") {
		t.Errorf("the page hears %s %s", kind, data)
	}
	writeApp(t, dir, changed)
	if err := os.Remove(filepath.Join(dir, "laaster.yaml")); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	for range 2 {
		if e := <-events; e.Kind != devDeployed {
			t.Errorf("repaired: %+v", e)
		}
	}
	kind, _ := pages()
	for kind == devProblem {
		kind, _ = pages()
	}
	if kind != devFine {
		t.Errorf("the page hears %s", kind)
	}
	stop()
	l.n.leave()
	if status, _, _ := l.call("GET", "/v1/dev.js", ""); status != http.StatusOK && status != http.StatusNotFound {
		t.Errorf("the script: %d", status)
	}
}

// listen follows the events that pages get.
func listen(t *testing.T, l *life) (next func() (kind, data string)) {
	t.Helper()
	r, err := http.Get(l.url + "/v1/dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Body.Close() })
	lines := bufio.NewScanner(r.Body)
	return func() (kind, data string) {
		t.Helper()
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				kind = value
			case "data":
				return kind, value
			}
		}
		t.Fatal("the events ended")
		return
	}
}

// TestNoDevelopment: a server that is not in development serves pages as they are, and nothing of it.
func TestNoDevelopment(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	if err := os.Mkdir(filepath.Join(dir, "public"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "public", "index.html"), []byte("<body></body>"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	if _, text, _ := l.call("GET", "/", ""); text != "<body></body>" {
		t.Errorf("the page is %s", text)
	}
	for _, path := range []string{"/v1/dev", "/v1/dev.js"} {
		if status, _, _ := l.call("GET", path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}
