package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/kit/run"
)

// TestIncompleteMessages: what clients begin and do not finish is bounded in sum and in time, and given back.
func TestIncompleteMessages(t *testing.T) {
	b := newBench(t, Options{PartialBytes: 300 << 10}, 0)
	begun := clientFrame(opText, true, bytes.Repeat([]byte(" "), 100<<10))
	begun = begun[:len(begun)-1]
	var conns []*memConn
	for range 4 {
		m := newMemConn()
		if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
			t.Fatal(p)
		}
		m.send(clientFrame(opText, true, []byte(`{"type":"hello"}`)))
		b.quiet(m)
		m.take()
		m.send(begun)
		b.quiet(m)
		conns = append(conns, m)
	}
	refused := 0
	for _, m := range conns {
		if out := string(m.take()); strings.Contains(out, `"busy"`) && strings.Contains(out, `"goodbye"`) && strings.Contains(out, `"retry_after_ms":5000`) {
			refused++
		}
	}
	if held := b.hub.partial.Load(); refused == 0 || refused == len(conns) || held > 300<<10 {
		t.Fatalf("%d of %d refused, %d bytes held", refused, len(conns), held)
	}
	b.advance(time.Minute)
	b.quiet(conns...)
	late := 0
	for _, m := range conns {
		late += strings.Count(string(m.take()), "a message took too long to come")
	}
	if late == 0 {
		t.Error("nobody was told that the rest did not come")
	}
	b.advance(6 * time.Second)
	for b.hub.Connections() > 0 || b.hub.group.Running()["push reader"] > 0 {
		runtime.Gosched()
	}
	if held := b.hub.partial.Load(); held != 0 {
		t.Errorf("%d bytes are still counted", held)
	}
}

// TestComeAndGo: connections that come and go over each other, with the numbers of their sockets used again, get their own answers, and leave no
// trace.
func TestComeAndGo(t *testing.T) {
	b := newBench(t, Options{}, 0)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.group.Go("accept", func(context.Context) error {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return nil
			}
			if p := b.hub.ServeConn(nc, auth.Anonymous()); p != nil {
				return p
			}
		}
	})
	clients := run.New(context.Background())
	for who := range 8 {
		clients.Go("client", func(context.Context) error {
			for i := range 40 {
				if err := comeAndGo(ln.Addr().String(), who*1000+i); err != nil {
					return fmt.Errorf("client %d, round %d: %w", who, i, err)
				}
			}
			return nil
		})
	}
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	ln.Close()
	for b.hub.Connections() > 0 {
		runtime.Gosched()
	}
	if n := b.hub.partial.Load(); n != 0 {
		t.Errorf("%d bytes of incomplete messages are counted", n)
	}
	if n := b.hub.poll.watched(); n != 0 {
		t.Errorf("%d sockets are still watched", n)
	}
}

// comeAndGo says hello and asks something, and leaves in one of several ways.
func comeAndGo(addr string, n int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	ask := fmt.Sprintf(`{"type":"ping","t":%d}`, n)
	in := append(clientFrame(opText, true, []byte(`{"type":"hello"}`)), clientFrame(opText, true, []byte(ask))...)
	cut := n % len(in)
	if _, err := c.Write(in[:cut]); err != nil {
		return err
	}
	if n%5 == 0 {
		if n%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
		}
		return nil
	}
	if _, err := c.Write(in[cut:]); err != nil {
		return err
	}
	var got []byte
	buf := make([]byte, 1024)
	for want := fmt.Sprintf(`"t":%d,`, n); !bytes.Contains(got, []byte(want)); {
		k, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("%w after %q", err, got)
		}
		got = append(got, buf[:k]...)
	}
	if n%3 == 0 {
		_, err = c.Write(clientFrame(opClose, true, []byte{3, 232}))
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// TestDoor: new connections are let in a few at a time, and beyond the bound sent away.
func TestDoor(t *testing.T) {
	d := newDoor(3)
	inside := 0
	for d.enter(context.Background()) == nil {
		if inside++; inside == cap(d.turns) {
			break
		}
	}
	g := run.New(context.Background())
	for range 3 {
		g.Go("waits", func(ctx context.Context) error {
			if p := d.enter(ctx); p != nil {
				return p
			}
			d.leave()
			return nil
		})
	}
	for d.waiting.Load() < 3 {
		runtime.Gosched()
	}
	p := d.enter(context.Background())
	if p == nil || p.Code != "busy" || p.RetryAfterMS < 1000 || p.RetryAfterMS > 5000 {
		t.Errorf("one too many: %v", p)
	}
	gone, leave := context.WithCancel(context.Background())
	leave()
	d.leave()
	for d.waiting.Load() > 0 {
		runtime.Gosched()
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	for range cap(d.turns) - len(d.turns) {
		d.turns <- struct{}{}
	}
	if p := d.enter(gone); p == nil {
		t.Error("somebody who had left was let in")
	}
}
