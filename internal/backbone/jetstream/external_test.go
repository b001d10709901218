package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/kit/run"
)

// TestServerRestart: while the external server is away, an append fails and is certainly not in the log; when it is back,
// the log goes on.
func TestServerRestart(t *testing.T) {
	dir := t.TempDir()
	srv := startExternal(t, dir, server.RANDOM_PORT)
	port := srv.Addr().(*net.TCPAddr).Port
	d := openDriver(t, Options{URL: srv.ClientURL(), Timeout: time.Second})
	s, err := backbone.Open(t.Context(), backbone.Options{Driver: d, Clock: run.System{}})
	if err != nil {
		t.Fatal(err)
	}
	backbonetest.AppendN(t, s, 5)
	lost, back := d.conn.StatusChanged(nats.RECONNECTING), d.conn.StatusChanged(nats.CONNECTED)
	srv.Shutdown()
	srv.WaitForShutdown()
	<-lost
	if _, err := d.Append(t.Context(), []byte("no"), 5); err == nil || errors.As(err, new(*backbone.Unknown)) {
		t.Errorf("an append while the server is away: %v", err)
	}
	if s.Err() != nil {
		t.Errorf("the shard has stopped: %v", s.Err())
	}
	startExternal(t, dir, port)
	<-back
	backbonetest.AppendN(t, s, 5)
	if got, err := backbonetest.Replayed(t.Context(), s, 1); err != nil || len(got) != 10 {
		t.Errorf("read %d of 10: %v", len(got), err)
	}
}

// proxy passes bytes between a client and a server, and drops what the server says, with the connection, when a test wants.
type proxy struct {
	listener net.Listener
	server   string
	deaf     atomic.Bool // answers are lost from now on; the next connection is sound again
}

func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server}
	g := run.New(context.WithoutCancel(t.Context()))
	g.Go("accept", func(context.Context) error { return p.accept(g) })
	t.Cleanup(func() {
		l.Close()
		g.Stop()
		g.Wait()
	})
	return p
}

func (p *proxy) accept(g *run.Group) error {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return nil // closed by the test
		}
		upstream, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		p.deaf.Store(false)
		g.Go("requests", func(context.Context) error {
			defer upstream.Close()
			io.Copy(upstream, client) // ends with either side
			return nil
		})
		g.Go("answers", func(context.Context) error { return p.answers(client, upstream) })
	}
}

func (p *proxy) answers(client, upstream net.Conn) error {
	defer client.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buf)
		if err != nil || p.deaf.Load() {
			return nil
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return nil
		}
	}
}

// TestConnectionCut cuts the connection when an append has reached the server and its answer has not come back.
func TestConnectionCut(t *testing.T) {
	srv := startExternal(t, t.TempDir(), server.RANDOM_PORT)
	p := startProxy(t, srv.Addr().String())
	d := openDriver(t, Options{URL: "nats://" + p.listener.Addr().String(), Timeout: 500 * time.Millisecond})
	s, err := backbone.Open(t.Context(), backbone.Options{Driver: d, Clock: run.System{}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		backbonetest.AppendN(t, s, 2)
		p.deaf.Store(true)
		backbonetest.AppendN(t, s, 1)
	}
	if got, err := backbonetest.Replayed(t.Context(), s, 1); err != nil || len(got) != 9 {
		t.Errorf("read %d of 9: %v", len(got), err)
	}
}

func TestRefusesServer(t *testing.T) {
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(startTimeout) {
		t.Fatal("the server is not ready")
	}
	if _, err := Open(t.Context(), Options{URL: srv.ClientURL()}); err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("a server with small messages: %v", err)
	}
	if _, err := Open(t.Context(), Options{URL: "nats://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("no server: %v", err)
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("neither folder nor URL was taken")
	}
}

// TestRefusesStream opens streams that somebody else made.
func TestRefusesStream(t *testing.T) {
	url := startExternal(t, t.TempDir(), server.RANDOM_PORT).ClientURL()
	names := 0
	for part, change := range map[string]func(c *js.StreamConfig){
		"limits that drop": func(c *js.StreamConfig) { c.MaxAge = time.Hour },
		"storage":          func(c *js.StreamConfig) { c.Storage = js.MemoryStorage },
		"retention":        func(c *js.StreamConfig) { c.Retention = js.WorkQueuePolicy },
		"deletes":          func(c *js.StreamConfig) { c.DenyDelete = false },
		"direct gets":      func(c *js.StreamConfig) { c.AllowDirect = false },
		"subject":          func(c *js.StreamConfig) { c.Subjects = []string{"laaster.log.LAASTER.>"} },
		"rollups":          func(c *js.StreamConfig) { c.AllowRollup = true },
	} {
		// Each has a name of its own and none is deleted: behind its answer the server removes the deleted stream's files and,
		// with the last stream, the directory of all streams, in which the next one may just be opening its own.
		names++
		o := Options{URL: url, Name: fmt.Sprint("LAASTER", names)}
		d := openDriver(t, o)
		c := d.config()
		change(&c)
		if _, err := d.js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q", err, part)
		}
	}
}

// TestStreamGuards: the stream refuses what would make a hole.
func TestStreamGuards(t *testing.T) {
	d := openDriver(t, Options{Dir: t.TempDir()})
	if _, err := d.Append(t.Context(), []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	s, err := d.js.Stream(t.Context(), d.stream)
	if err != nil {
		t.Fatal(err)
	}
	if s.DeleteMsg(t.Context(), 1) == nil || s.SecureDeleteMsg(t.Context(), 1) == nil {
		t.Error("a message can be deleted")
	}
	if addr := d.embedded.srv.Addr(); addr != nil {
		t.Errorf("the embedded server listens on %v", addr)
	}
}
