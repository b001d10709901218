package chaos

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// attacked starts a server with short patience and returns it with its address.
func attacked(t *testing.T, sql, settings string) (*testkit.Server, string) {
	t.Helper()
	dir := appFolder(t, sql)
	write(t, dir, "laaster.yaml", settings)
	s := testkit.StartServer(t, dir, t.TempDir())
	return s, strings.TrimPrefix(s.URL, "http://")
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// raw sends text as it is and returns everything that comes back until the server closes or 20 s have passed.
func raw(t *testing.T, addr, text string) string {
	t.Helper()
	c := dial(t, addr)
	g := run.New(t.Context())
	g.Go("sender", func(context.Context) error {
		_, _ = io.WriteString(c, text) // the server may have had enough
		return nil
	})
	b, _ := io.ReadAll(c) // a reset is an answer too
	_ = g.Wait()
	return string(b)
}

// memory returns a line of /proc/pid/status in KiB: VmRSS, or VmHWM for the highest so far.
func memory(t *testing.T, s *testkit.Server, line string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.Pid()), "status"))
	if err != nil {
		testkit.Missing(t, fmt.Sprintf("memory cannot be read here: %v", err))
	}
	for _, l := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s", line)
	return 0
}

// most checks that the server took at most so many MiB more than before, which is in KiB, at any time. The race detector's
// share is allowed for.
func most(t *testing.T, s *testkit.Server, before, mib int) {
	t.Helper()
	if testkit.Race() {
		mib *= 4
	}
	n := (memory(t, s, "VmHWM") - before) >> 10
	t.Logf("%d MiB more at the highest", n)
	if n > mib {
		t.Errorf("%d MiB more, want at most %d", n, mib)
	}
}

func stillServes(t *testing.T, s *testkit.Server) {
	t.Helper()
	status, body, _ := do(t, s.URL, request{"still serves", "POST", "/v1/tables/votes", "application/json", `{"contestant":"A"}`, 200, "", ""})
	if status != http.StatusOK {
		t.Fatalf("the server answers %d %s", status, body)
	}
}

// TestRawRequests sends what no HTTP library would: each is answered or cut, none harms the next caller.
func TestRawRequests(t *testing.T) {
	s, addr := attacked(t, doorSQL, "limits: {request_body: 1s, request_header: 1s}\n")
	post := "POST /v1/tables/votes HTTP/1.1\r\nHost: " + addr + "\r\nContent-Type: application/json\r\n"
	for _, c := range []struct{ name, send, want string }{
		{"header bomb", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: "+strings.Repeat("y", 1000)+"\r\n", 100) + "\r\n", "431"},
		{"endless header line", "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 1<<20), "431"},
		{"long path", "GET /" + strings.Repeat("y", 60<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
		{"no HTTP", strings.Repeat("\x00\xff", 1000) + "\r\n\r\n", "400"},
		{"two lengths", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", "400"},
		{"length and chunks", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", "400"},
		{"negative length", post + "Content-Length: -1\r\n\r\n", "400"},
		{"huge length", post + "Content-Length: 999999999999\r\n\r\n{", "413"},
		{"huge chunk", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{", "408"},
		{"chunk beyond 64 bits", post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{", "400"},
		{"endless chunks", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat(" ", 1<<16)+"\r\n", 160), "413"},
		{"body that never comes", post + "Content-Length: 20\r\n\r\n{", "408"},
		{"body of a read that never comes", "GET /v1/views/tally HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: 20\r\n\r\n", ""},
		{"half a header", "GET / HTTP/1.1\r\nHost:", ""},
		{"foreign host", "GET /v1/views/tally HTTP/1.1\r\nHost: evil.example:8080\r\nConnection: close\r\n\r\n", "421"},
		{"foreign host and its own page", "GET /v1/views/tally HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n", "421"},
		{"host of a longer name", "GET /v1/views/tally HTTP/1.1\r\nHost: localhost.evil.example\r\nConnection: close\r\n\r\n", "421"},
		{"loopback by another name", "GET /v1/views/tally HTTP/1.1\r\nHost: LOCALHOST:1\r\nConnection: close\r\n\r\n", "200"},
		{"null origin", "GET /v1/views/tally HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nConnection: close\r\n\r\n", "403"},
		{"origin with a loopback prefix", "GET /v1/views/tally HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost.evil.example\r\nConnection: close\r\n\r\n", "403"},
		{"another method", "PUT /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "405"},
		{"gzip", post + "Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: 2\r\n\r\n\x1f\x8b", "415"},
	} {
		got := raw(t, addr, c.send)
		if !strings.HasPrefix(got, strings.TrimSpace("HTTP/1.1 "+c.want)) && (c.want != "" || got != "") {
			t.Errorf("%s: want %s, got %.200q", c.name, c.want, got)
		}
	}
	one := post + "Content-Length: 18\r\n\r\n" + `{"contestant":"A"}`
	got := raw(t, addr, strings.Repeat(one, 200)+"GET /v1/views/tally HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if n := strings.Count(got, `"accepted":1`); n != 200 || !strings.Contains(got, `"votes":200`) {
		t.Errorf("200 pipelined writes: %d accepted, %.300q", n, got[max(0, len(got)-300):])
	}
	stillServes(t, s)
}

// TestSlowSenders holds hundreds of connections with half a header or half a body: each is cut after its time, and others
// are served meanwhile.
func TestSlowSenders(t *testing.T) {
	s, addr := attacked(t, doorSQL, "limits: {request_body: 1s, request_header: 1s}\n")
	conns := make([]net.Conn, 300)
	for i := range conns {
		conns[i] = dial(t, addr)
		text := []string{"GET / HTT", "POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n[",
			"POST /v1/tables/nope HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n["}[i%3]
		if _, err := io.WriteString(conns[i], text); err != nil {
			t.Fatal(err)
		}
	}
	stillServes(t, s)
	for i, c := range conns {
		if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
			t.Fatalf("connection %d is still open", i)
		}
	}
	most(t, s, 0, 150)
}

// TestSocketLimit opens more connections than the server holds: those too many are told so, and as soon as others leave,
// newcomers are served.
func TestSocketLimit(t *testing.T) {
	s, addr := attacked(t, doorSQL, "limits: {sockets: 40, request_header: 30s}\n")
	var held []net.Conn
	refused := 0
	for range 120 {
		c := dial(t, addr)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"); err != nil {
			refused++
			continue
		}
		held = append(held, c)
	}
	told := false
	for _, c := range held {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil || !os.IsTimeout(err) {
			refused++
			told = told || strings.Contains(line, "503")
		}
		if refused > 75 {
			break
		}
	}
	if refused < 75 || !told {
		t.Errorf("%d of 120 connections were refused, told why: %v; 40 may be open", refused, told)
	}
	for _, c := range held {
		_ = c.Close()
	}
	for range 50 { // the server notices a moment later
		r, err := http.Get(s.URL + "/v1/views/tally")
		if err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	t.Error("no newcomer is served after the others left")
}

// TestSmallBodiesLargeRows sends bodies that are small as JSON and huge as rows or as refusals, many at once: they are refused
// with a typed error, and memory stays bounded.
func TestSmallBodiesLargeRows(t *testing.T) {
	s, _ := attacked(t, doorSQL, "")
	bombs := map[string]string{
		"numbers":  "[" + strings.TrimSuffix(strings.Repeat(`{"contestant":"A","extra":1e30000},`, 5000), ",") + "]",
		"refusals": "[" + strings.TrimSuffix(strings.Repeat("0,", 90_000), ",") + "]",
		"lines":    strings.Repeat("x\n", 1_000_000),
	}
	for name, body := range bombs {
		kind := "application/json"
		if name == "lines" {
			kind = "application/x-ndjson"
		}
		g := run.New(t.Context())
		for range 8 {
			g.Go("bomb", func(context.Context) error {
				r, err := http.Post(s.URL+"/v1/tables/votes", kind, strings.NewReader(body))
				if err != nil {
					return nil // cut: an answer too
				}
				b, _ := io.ReadAll(r.Body)
				_ = r.Body.Close()
				if r.StatusCode == http.StatusOK || r.StatusCode == http.StatusInternalServerError {
					return fmt.Errorf("status %d %.200s", r.StatusCode, b)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	most(t, s, 0, 500)
	stillServes(t, s)
}

// TestReadersThatDoNotRead asks for a large view many times at once and reads nothing: memory stays bounded, and they are cut.
func TestReadersThatDoNotRead(t *testing.T) {
	s, addr := attacked(t, doorSQL, "limits: {stall: 2s}\n")
	row := `{"contestant":"A","extra":"` + strings.Repeat("x", 200) + `"}`
	for range 4 {
		r, err := http.Post(s.URL+"/v1/tables/votes", "application/json", strings.NewReader("["+strings.Repeat(row+",", 9999)+row+"]"))
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r, err)
		}
		_ = r.Body.Close()
	}
	before := memory(t, s, "VmRSS")
	conns := make([]net.Conn, 50)
	for i := range conns {
		conns[i] = dial(t, addr)
		if _, err := fmt.Fprintf(conns[i], "GET /v1/views/votes HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	stillServes(t, s)
	gone := func() bool {
		r, err := http.Get(s.Admin + "/debug/pprof/goroutine?debug=2")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return err == nil && !bytes.Contains(b, []byte("serveRows"))
	}
	for end := time.Now().Add(40 * time.Second); !gone(); {
		if time.Now().After(end) {
			t.Fatal("after 40 s the server still writes to clients that do not read")
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	most(t, s, before, 150)
	// Who reads gets everything, however slowly the server's other clients are.
	if rows := get[map[string]any](t, s.URL+"/v1/views/votes"); len(rows) != 40_001 {
		t.Errorf("%d rows", len(rows))
	}
}
