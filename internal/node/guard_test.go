package node

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/ingest"
	"laaster/internal/kit/run"
)

// A name that somebody made resolve to 127.0.0.1 is not ours, whatever page it serves.
func TestHosts(t *testing.T) {
	for _, c := range []struct {
		listen, host string
		proxied      bool
		origins      []string
		ok           bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", false, nil, true},
		{"127.0.0.1:8080", "localhost", false, nil, true},
		{"127.0.0.1:8080", "LocalHost:9", false, nil, true},
		{"127.0.0.1:8080", "[::1]:8080", false, nil, true},
		{"127.0.0.1:8080", "", false, nil, true},
		{"127.0.0.1:8080", "evil.example:8080", false, nil, false},
		{"127.0.0.1:8080", "localhost.evil.example", false, nil, false},
		{"127.0.0.1:8080", "127.0.0.1.evil.example", false, nil, false},
		{"127.0.0.1:8080", "vote.example", false, []string{"https://Vote.example"}, true},
		{"127.0.0.1:8080", "vote.example", true, nil, true},
		{"0.0.0.0:8080", "vote.example", true, nil, true},
	} {
		q := httptest.NewRequest("GET", "/", nil)
		q.Host = c.host
		if p := newHosts(c.listen, c.proxied, c.origins).refuse(q); (p == nil) != c.ok {
			t.Errorf("%+v: %v", c, p)
		}
	}
}

// The pages: nothing outside public/, nothing hidden, nothing that is no file.
func TestPages(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	for name, text := range map[string]string{"public/index.html": "home", "public/sub/index.html": "sub", "public/sub/a.js": "a()", "public/.env": "secret",
		"public/.git/config": "secret", "outside.txt": "secret"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link.txt": "../outside.txt", "absolute.txt": filepath.Join(dir, "outside.txt"), "up": "..", "inner.txt": "sub/a.js"} {
		if err := os.Symlink(to, filepath.Join(dir, "public", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "public", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	for path, want := range map[string]string{"/": "home", "/index.html": "home", "/sub/": "sub", "/sub": "sub", "/sub/a.js": "a()", "/inner.txt": "a()",
		"/.env": "", "/.git/config": "", "/sub/../.env": "", "/link.txt": "", "/absolute.txt": "", "/up/outside.txt": "", "/pipe": "", "/%2e%2e/outside.txt": "",
		"/..%2foutside.txt": "", "/..%5coutside.txt": "", "/a%00b": "", "/sub/%2e%2e/%2e%2e/outside.txt": "", "//evil.example/": ""} {
		status, text, h := l.call("GET", path, "")
		if want == "" && (status != http.StatusNotFound || strings.Contains(text, "secret") || h.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s: %d %s %q", path, status, h.Get("Content-Type"), text)
		}
		if want != "" && (status != http.StatusOK || text != want || h.Get("Content-Security-Policy") == "") {
			t.Errorf("%s: %d %q", path, status, text)
		}
	}
	if status, _, h := l.call("POST", "/index.html", "{}"); status != http.StatusMethodNotAllowed || h.Get("Allow") == "" {
		t.Errorf("POST to a page: %d %v", status, h)
	}
	if status, _, h := l.call("OPTIONS", "/v1/tables/votes", "", "Origin", "http://localhost:3000", "Access-Control-Request-Method", "POST"); status != http.StatusNoContent ||
		h.Get("Access-Control-Allow-Origin") != "http://localhost:3000" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %d %v", status, h)
	}
}

// A panic before the answer is a problem; one within the answer cuts the connection, so that half is not taken for the whole.
func TestPanics(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/late" {
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		}
		panic("test")
	})
	l.n.handler.Store(&h)
	if status, text, _ := l.call("GET", "/early", ""); status != http.StatusInternalServerError || !strings.Contains(text, `"code":"internal"`) {
		t.Errorf("%d %s", status, text)
	}
	r, err := http.Get(l.url + "/late")
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	if err == nil {
		t.Error("half an answer was taken for a whole one")
	}
}

// A request that was taken back before it began costs nothing: HTTP/2 lets a client send hundreds of these in one packet.
func TestTakenBack(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.end()
	asked := 0
	var h http.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ })
	l.n.handler.Store(&h)
	ctx, takeBack := context.WithCancel(t.Context())
	defer takeBack()
	for range 2 { // the second time it is taken back
		for _, method := range []string{"GET", "POST"} {
			q := httptest.NewRequest(method, l.url+"/", nil).WithContext(ctx)
			q.ProtoMajor, q.ProtoMinor = 2, 0
			l.n.public.Handler.ServeHTTP(httptest.NewRecorder(), q)
		}
		takeBack()
	}
	if asked != 2 {
		t.Errorf("%d requests were carried out, want the 2 that nobody took back", asked)
	}
	l.n.public.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", l.url+"/", nil).WithContext(ctx))
	if asked != 3 {
		t.Error("a request over HTTP/1 is not carried out: its client has closed its half and reads on")
	}
}

// When the engine cannot go on, those who wait are told, the loops end, and so does the node, with the reason.
func TestEngineFails(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	l := start(t, dir, settingsFor(t.TempDir(), "memory"))
	defer l.stop()
	var b change.Builder
	if err := b.Add(&change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Table: 999, Last: true}); err != nil {
		t.Fatal(err)
	}
	g := run.New(t.Context())
	for range 20 {
		g.Go("client", func(context.Context) error {
			for {
				r, err := http.Post(l.url+"/v1/tables/votes", "application/json", strings.NewReader(`{"contestant":"A"}`))
				if err != nil {
					return nil
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
				if r.StatusCode != http.StatusOK {
					return nil
				}
			}
		})
	}
	// A batch that the engine cannot apply, as a broken log would have it.
	l.n.batches <- &ingest.Batch{Batch: b.Seal(change.Header{Seq: 1 << 40, Stamp: 1 << 60})}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	err := l.n.Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), "999") {
		t.Errorf("the node ended with %v", err)
	}
	if left := l.n.group.Running(); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// A client that is too slow for the drain is cut; the stop is graceful all the same.
func TestDrainCutsSlowClients(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	s := settingsFor(t.TempDir(), "memory")
	s.Drain = 0
	l := start(t, dir, s)
	c, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 10)); err != nil { // 100 Continue: its body is being read
		t.Fatal(err)
	}
	l.end()
}
