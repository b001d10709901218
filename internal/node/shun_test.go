package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
	"laaster/internal/limit"
	"laaster/internal/observe"
)

// dialFrom connects from an address of this machine.
func dialFrom(t *testing.T, from, to string, patience time.Duration) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.DialContext(t.Context(), "tcp", to)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return c, err
}

// An address that opens sockets too fast is told so, and then has no answer for a second; what it has open goes on, and so do others.
func TestShun(t *testing.T) {
	if !canShun {
		testkit.Missing(t, "the kernel drops no connections here")
	}
	for name, x := range map[string]struct{ listen, bad, good string }{"IPv4": {"127.0.0.1:0", "127.0.0.5", "127.0.0.6"}, "IPv4 in IPv6": {"[::]:0", "127.0.0.5", "127.0.0.6"},
		"IPv6": {"[::1]:0", "::1", ""}} {
		t.Run(name, func(t *testing.T) {
			clock := run.NewManual(time.Now())
			var lc net.ListenConfig
			lc.SetMultipathTCP(false)
			l, err := lc.Listen(t.Context(), "tcp", x.listen)
			if err != nil {
				testkit.Missing(t, err.Error())
			}
			guard := limit.New(limit.Options{Clock: clock, Rates: app.Rates{Keys: 1000, Address: app.CallRates{Sockets: app.Rate{Count: 2, Per: time.Second, Burst: 2}}}})
			s := newSockets(l, 100, clock, observe.NewMetrics())
			live := func() int { return 0 }
			s.welcome, s.shun = guard.Socket, newShun(l, clock, slog.New(slog.DiscardHandler))
			s.live.Store(&live)
			group := run.New(t.Context())
			group.Go("shun", s.shun.loop)
			group.Go("accept", func(context.Context) error {
				for {
					c, err := s.Accept()
					if err != nil {
						return nil
					}
					group.Go("echo", func(context.Context) error {
						defer c.Close()
						_, _ = io.Copy(c, c) // until the client has gone
						return nil
					})
				}
			})
			t.Cleanup(func() { // when those who connected have gone
				_ = l.Close()
				group.Stop()
				if err := group.Wait(); err != nil {
					t.Error(err)
				}
			})
			addr := l.Addr().String()
			if x.listen == "[::]:0" {
				addr = strings.Replace(addr, "[::]", "127.0.0.1", 1)
			}
			echo := func(c net.Conn) string {
				t.Helper()
				if _, err := io.WriteString(c, "hello"); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 12)
				n, err := io.ReadAtLeast(c, b, 5)
				if err != nil {
					t.Fatal(err)
				}
				return string(b[:n])
			}
			var open []net.Conn
			for range 2 {
				c, err := dialFrom(t, x.bad, addr, 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, c)
				if got := echo(c); got != "hello" {
					t.Fatalf("a connection within the rate is answered %q", got)
				}
			}
			c, err := dialFrom(t, x.bad, addr, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c)
			if !strings.HasPrefix(string(b), "HTTP/1.1 429") || !strings.Contains(string(b), "limits.rates.address.sockets") {
				t.Fatalf("one more is told %q (%v)", b, err)
			}
			clock.AwaitSleepers(1)
			_, err = dialFrom(t, x.bad, addr, 300*time.Millisecond)
			if late := net.Error(nil); !errors.As(err, &late) || !late.Timeout() {
				t.Errorf("an address that is shunned connects: %v", err)
			}
			for _, c := range open {
				if got := echo(c); got != "hello" {
					t.Errorf("what is open is answered %q", got)
				}
			}
			if x.good != "" {
				c, err := dialFrom(t, x.good, addr, 10*time.Second)
				if err != nil {
					t.Fatalf("another address: %v", err)
				}
				if got := echo(c); got != "hello" {
					t.Errorf("another address is answered %q", got)
				}
			}
			clock.Advance(shunFor)
			if c, err = dialFrom(t, x.bad, addr, 10*time.Second); err != nil {
				t.Fatalf("a second later: %v", err)
			}
			if got := echo(c); got != "hello" {
				t.Errorf("a second later it is answered %q", got)
			}
		})
	}
}

// As many addresses are shunned as there is room for, and each of them is looked for.
func TestShunIsBounded(t *testing.T) {
	if !canShun {
		testkit.Missing(t, "the kernel drops no connections here")
	}
	clock := run.NewManual(time.Now())
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newShun(l, clock, slog.New(slog.DiscardHandler))
	var all []netip.Addr
	for i := range mostShunned {
		all = append(all, netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}))
		if i%2 == 1 {
			all[i] = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, byte(i)})
		}
	}
	if err := dropFrom(s.socket, all); err != nil {
		t.Fatalf("%d addresses: %v", len(all), err)
	}
	if _, err := dialFrom(t, all[mostShunned-2].String(), l.Addr().String(), 300*time.Millisecond); err == nil {
		t.Error("the last of them connects")
	}
	if _, err := dialFrom(t, "127.0.2.1", l.Addr().String(), 10*time.Second); err != nil {
		t.Errorf("none of them: %v", err)
	}
	if err := dropFrom(s.socket, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := dialFrom(t, all[0].String(), l.Addr().String(), 10*time.Second); err != nil {
		t.Errorf("nobody is shunned, and the first one: %v", err)
	}
	for range 10 * mostShunned { // nobody takes them
		s.add(all[0])
	}
	if len(s.came) != mostShunned {
		t.Errorf("%d wait to be shunned", len(s.came))
	}
}
