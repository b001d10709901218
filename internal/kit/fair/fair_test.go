package fair

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
)

func TestFloor(t *testing.T) {
	clock := run.NewManual(time.Unix(1000, 0))
	f := NewFloor(clock, 2)
	var busy, other Peer
	work := func(p *Peer, took time.Duration) {
		began := clock.Now()
		clock.Advance(took)
		f.Worked(p, began)
	}
	work(&busy, 300*time.Microsecond)
	if p := f.Pause(&busy); p != 0 {
		t.Errorf("after 0.3 ms of work it rests %v", p)
	}
	work(&busy, 300*time.Microsecond) // and has rested for as long meanwhile
	if p := f.Pause(&busy); p != 1500*time.Microsecond {
		t.Errorf("after 0.6 ms of work it rests %v", p)
	}
	if p := f.Pause(&other); p != 0 {
		t.Errorf("another one rests %v", p)
	}
	clock.Advance(1500 * time.Microsecond)
	if p := f.Pause(&busy); p != 0 {
		t.Errorf("having rested, it rests %v", p)
	}
	f.Worked(&other, clock.Now())
	work(&busy, time.Second)
	if p := f.Pause(&busy); p != 3*most {
		t.Errorf("after a second, of which it may have waited most, it rests %v", p)
	}
	for range 1000 {
		f.add(&busy, clock.Now(), most)
	}
	if p := f.Pause(&busy); p != longest {
		t.Errorf("it rests %v at once", p)
	}

	clock.Advance(time.Minute)
	work(&busy, time.Millisecond)
	if p := f.Pause(&busy); p != 0 {
		t.Errorf("the only one rests %v", p)
	}
	work(&other, time.Millisecond)
	work(&busy, time.Millisecond)
	if p := f.Pause(&busy); p != 3*time.Millisecond {
		t.Errorf("no longer the only one, it rests %v", p)
	}
}

func TestManyProcessors(t *testing.T) {
	clock := run.NewManual(time.Unix(1000, 0))
	for processors, want := range map[int]time.Duration{0: 7, 1: 7, 2: 3, 4: 1, 8: 0, 64: 0} {
		var p Peer
		f := NewFloor(clock, processors)
		f.add(&p, clock.Now(), time.Millisecond)
		if got := f.Pause(&p); got != want*time.Millisecond {
			t.Errorf("with %d processors it rests %v", processors, got)
		}
	}
}

// TestNoise: who sends much that is no part of a request rests longer, and is cut in the end. Bytes of bodies, and of what is no HTTP, are none.
func TestNoise(t *testing.T) {
	for _, c := range []struct {
		name    string
		between func(*Conn)
		cut     bool
	}{
		{"noise", func(*Conn) {}, true},
		{"requests", (*Conn).Asked, false},
		{"downloads", func(c *Conn) { _, _ = c.Write(make([]byte, 2<<20)) }, false},
		{"small answers", func(c *Conn) { _, _ = c.Write(make([]byte, 100)) }, true},
		{"bodies", func(c *Conn) { _, _ = (&Body{io.NopCloser(strings.NewReader("x")), c}).Read(make([]byte, 1)) }, false},
	} {
		near, far := net.Pipe()
		conn := &Conn{Conn: near, floor: NewFloor(run.System{}, 8), between: true}
		g := run.New(t.Context())
		g.Go("taker", func(context.Context) error {
			_, err := io.Copy(io.Discard, far)
			return err
		})
		g.Go("sender", func(context.Context) error {
			for b := make([]byte, 64<<10); ; {
				if _, err := far.Write(b); err != nil {
					return nil
				}
			}
		})
		b, total := make([]byte, 64<<10), 0
		var err error
		for ; err == nil && total < 2*tooMuch; c.between(conn) {
			var n int
			n, err = conn.Read(b)
			total += n
		}
		if cut := errors.Is(err, ErrNoise); cut != c.cut || err != nil && !cut {
			t.Errorf("%s: %d bytes, then %v", c.name, total, err)
		}
		conn.Free()
		if _, err := conn.Read(b); err != nil {
			t.Errorf("%s: no HTTP any more, and %v", c.name, err)
		}
		_, _ = near.Close(), far.Close()
		_ = g.Wait()
	}
}

// TestConn: what is sent on a paced connection arrives, however much work it makes, and the one on another is not kept waiting.
func TestConn(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	l := &Listener{Listener: tcp, Floor: NewFloor(run.System{}, 2), Encrypted: true}
	dial := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if server, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		return client, server
	}
	client, server := dial()
	other, calm := dial()
	if Of(server) == nil || Of(client) != nil {
		t.Fatal("the server's side is paced, the client's is not")
	}
	if _, err := client.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	total, buf := 0, make([]byte, 1<<10)
	for err = nil; err == nil; {
		var n int
		n, err = server.Read(buf)
		total += n
		l.Floor.add(&Of(server).Peer, time.Now(), time.Millisecond)
		l.Floor.add(&Of(calm).Peer, time.Now(), 0)
	}
	if err != io.EOF || total != 64<<10 {
		t.Errorf("%d bytes came, then %v", total, err)
	}
	if p := l.Floor.Pause(&Of(calm).Peer); p != 0 {
		t.Errorf("the other rests %v", p)
	}
	if err := Of(server).CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := client.Read(buf); err != io.EOF {
		t.Errorf("the client meets %v", err)
	}
	for _, c := range []net.Conn{client, server, other, calm} {
		_ = c.Close()
	}
}
