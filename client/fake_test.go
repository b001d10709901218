package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// fake is a server whose every frame is the test's.
type fake struct {
	*httptest.Server
	t     testing.TB
	conns chan *fakeConn
	mu    sync.Mutex
	http  http.HandlerFunc // what is no WebSocket; nil: this path speaks WebSocket
	up    http.HandlerFunc // in place of the upgrade
}

type fakeConn struct {
	net.Conn
	t testing.TB
}

func newFake(t testing.TB) *fake {
	f := &fake{t: t, conns: make(chan *fakeConn, 100)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	plain, up := f.http, f.up
	f.mu.Unlock()
	upgrade := r.URL.Path == "/v1/live" && r.Header.Get("Upgrade") != ""
	switch {
	case upgrade && up != nil:
		up(w, r)
	case upgrade:
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		f.conns <- &fakeConn{conn, f.t}
	case r.URL.Path == "/v1/live":
		problem(w, 400, "invalid_request", "no")
	case plain != nil:
		plain(w, r)
	default:
		problem(w, 404, "not_found", "no")
	}
}

func problem(w http.ResponseWriter, status int, code, retry string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":"as the test says","retry":%q}`, status, code, retry)
}

// with sets how requests and upgrades are answered.
func (f *fake) with(plain, up http.HandlerFunc) {
	f.mu.Lock()
	f.http, f.up = plain, up
	f.mu.Unlock()
}

// accept waits for a connection and its hello.
func (f *fake) accept() (*fakeConn, map[string]any) {
	f.t.Helper()
	for {
		select {
		case c := <-f.conns:
			hello, err := c.next()
			if errors.Is(err, io.EOF) {
				continue // of a client that was closed while it dialed
			}
			if err != nil || hello["type"] != "hello" {
				f.t.Fatalf("%v %v, want a frame hello", hello, err)
			}
			return c, hello
		case <-time.After(10 * time.Second):
			f.t.Fatal("no connection came")
			return nil, nil
		}
	}
}

// welcome accepts a connection and welcomes it.
func (f *fake) welcome() (*fakeConn, map[string]any) {
	f.t.Helper()
	c, hello := f.accept()
	c.send(`{"type":"welcome","session":"s","now":1000,"log":"l","limits":{"frame_bytes":2000,"subscriptions":10,"writes_in_flight":3,"row_bytes":1000,"heartbeat_seconds":15,"dedupe_seconds":600}}`)
	return c, hello
}

func (c *fakeConn) send(frames ...string) {
	c.t.Helper()
	for _, f := range frames {
		if err := wsutil.WriteServerText(c.Conn, []byte(f)); err != nil {
			c.t.Errorf("send: %v", err)
		}
	}
}

// next returns the next frame that is no ping.
func (c *fakeConn) next() (map[string]any, error) {
	for {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		b, op, err := wsutil.ReadClientData(c.Conn)
		if err != nil {
			return nil, err
		}
		var m map[string]any
		if op != ws.OpText || json.Unmarshal(b, &m) != nil {
			return nil, fmt.Errorf("%v %q", op, b)
		}
		if m["type"] == "ping" {
			continue
		}
		return m, nil
	}
}

func (c *fakeConn) expect(kind string) map[string]any {
	c.t.Helper()
	m, err := c.next()
	if err != nil || m["type"] != kind {
		c.t.Fatalf("%v %v, want a frame %s", m, err, kind)
	}
	return m
}

// gone waits until the client has closed the connection.
func (c *fakeConn) gone() {
	c.t.Helper()
	for {
		if m, err := c.next(); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				c.t.Fatal("the client keeps the connection")
			}
			return
		} else if m["type"] == "write" {
			c.t.Fatalf("a write on a connection that should end: %v", m)
		}
	}
}

func read(r *http.Request) string {
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

func epoch(pos string, changes string) string {
	return fmt.Sprintf(`{"type":"epoch","position":"l.0-%s","at":1000.5,"changes":{%s}}`, pos, changes)
}

func page(id, pos string, more bool, rows ...string) string {
	return fmt.Sprintf(`{"type":"snapshot","id":%q,"position":"l.0-%s","key":["k"],"rows":[%s],"more":%v}`, id, pos, strings.Join(rows, ","), more)
}

// readHead reads one frame of the client and returns its first byte.
func readHead(c *fakeConn) (byte, error) {
	h, err := ws.ReadHeader(c.Conn)
	if err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, c.Conn, h.Length)
	return 0x80 | byte(h.OpCode), err
}
