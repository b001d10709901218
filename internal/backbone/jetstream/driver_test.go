package jetstream

import (
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
)

// embeddedStore is a folder with the store of a server in this process.
type embeddedStore struct {
	dir  string
	sync backbone.Level
}

func (s embeddedStore) Open(t *testing.T) backbone.Driver {
	return openDriver(t, Options{Dir: s.dir, Sync: s.sync, First: math.MaxInt64})
}

// Beside connects a second driver to d's server, as if another process could.
func (s embeddedStore) Beside(t *testing.T, d backbone.Driver) backbone.Driver {
	t.Helper()
	first := d.(*Driver)
	conn, err := nats.Connect("", nats.InProcessServer(first.embedded.srv), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	j, err := js.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return &Driver{conn: conn, js: j, stream: first.stream, subject: first.subject, o: first.o}
}

// externalStore is a server in this process that listens on a loopback port.
type externalStore struct{ url string }

func (s externalStore) Open(t *testing.T) backbone.Driver {
	return openDriver(t, Options{URL: s.url, External: backbone.Durable})
}

func (s externalStore) Beside(t *testing.T, _ backbone.Driver) backbone.Driver { return s.Open(t) }

func openDriver(t testing.TB, o Options) *Driver {
	t.Helper()
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// startExternal starts a server with a listener, as an operator would.
func startExternal(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, SyncAlways: true,
		MaxPayload: maxPayload, NoSigs: true, NoLog: true, JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		t.Fatal("the external server is not ready")
	}
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	return srv
}

func TestEmbedded(t *testing.T) {
	backbonetest.Run(t, func(t *testing.T) backbonetest.Store { return embeddedStore{dir: t.TempDir()} })
}

func TestBuffered(t *testing.T) {
	backbonetest.Run(t, func(t *testing.T) backbonetest.Store { return embeddedStore{t.TempDir(), backbone.Buffered} })
}

// TestLevel: what an append survives is what the driver was opened for, and a promise that it cannot keep is refused.
func TestLevel(t *testing.T) {
	for sync, want := range map[backbone.Level]backbone.Level{
		"": backbone.Durable, backbone.Durable: backbone.Durable, backbone.Buffered: backbone.Buffered, backbone.Memory: "", backbone.Replicated: "",
	} {
		d, err := Open(t.Context(), Options{Dir: t.TempDir(), Sync: sync})
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), string(sync)) {
				t.Errorf("%s: got %v", sync, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if d.Level() != want || d.embedded.srv.JetStreamConfig().SyncAlways != (want == backbone.Durable) {
			t.Errorf("%q: level %s, sync always %t", sync, d.Level(), d.embedded.srv.JetStreamConfig().SyncAlways)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestExternal(t *testing.T) {
	backbonetest.Run(t, func(t *testing.T) backbonetest.Store {
		return externalStore{startExternal(t, t.TempDir(), server.RANDOM_PORT).ClientURL()}
	})
}

// TestGoroutines: after Close none of ours, the server's or the client's is left.
func TestGoroutines(t *testing.T) {
	s := mustOpenLog(t, t.TempDir())
	backbonetest.AppendN(t, s, 10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var left []string
	for range 100_000 { // one that has ended but was not yet scheduled away may show for an instant
		if left = leftGoroutines(); left == nil {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("left after Close:\n%s", strings.Join(left, "\n\n"))
}

func leftGoroutines() (left []string) {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	for i, g := range strings.Split(string(b), "\n\n") {
		if i > 0 && (strings.Contains(g, "nats-io") || strings.Contains(g, "laaster/internal/backbone.")) {
			left = append(left, g)
		}
	}
	return left
}
