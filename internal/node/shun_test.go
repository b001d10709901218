package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
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
			clock := run.NewManual(time.Now().Add(time.Hour)) // deadlines of sockets are of the machine's clock
			l, err := listenTCP(t.Context(), x.listen)
			if err != nil {
				testkit.Missing(t, err.Error())
			}
			guard := limit.New(limit.Options{Clock: clock, Rates: app.Rates{Keys: 1000, Address: app.CallRates{Sockets: app.Rate{Count: 2, Per: time.Second, Burst: 2}}}})
			metrics := observe.NewMetrics()
			s := newSockets(l, 100, clock, metrics)
			live := func() int { return 0 }
			s.rate, s.shun = guard.Socket, newShun(l, clock, slog.New(slog.DiscardHandler), metrics)
			if err := dropFrom(s.shun.socket, []netip.Addr{netip.MustParseAddr("192.0.2.1")}); err != nil {
				testkit.Missing(t, "the kernel takes no filter: "+err.Error())
			}
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
			if !strings.HasPrefix(string(b), "HTTP/1.1 429") || !strings.Contains(string(b), "Retry-After: 1\r\n") || !strings.Contains(string(b), `"retry_after_ms":500}`) || !strings.Contains(string(b), "limits.rates.address.sockets") {
				t.Fatalf("one more is told %q (%v)", b, err)
			}
			clock.AwaitSleepers(1)
			if _, err = dialFrom(t, x.bad, addr, 300*time.Millisecond); !unanswered(err) {
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

// unanswered reports whether nobody answered who connected.
func unanswered(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// Each address of a list is dropped, whatever stands before it, and no other is.
func TestShunFilter(t *testing.T) {
	if !canShun {
		testkit.Missing(t, "the kernel drops no connections here")
	}
	l, err := listenTCP(t.Context(), "[::]:0")
	if err != nil {
		testkit.Missing(t, err.Error())
	}
	defer l.Close()
	s := newShun(l, run.System{}, slog.New(slog.DiscardHandler), observe.NewMetrics())
	var many []netip.Addr // one by one, as loop has them
	for i := range mostShunned {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, byte(i)})
		if i%4 == 3 {
			a = netip.AddrFrom4([4]byte{127, 0, 1, byte(i)})
		}
		many = append(many, a)
		if err := dropFrom(s.socket, many); err != nil {
			t.Fatalf("%d addresses: %v", len(many), err)
		}
	}
	addrs := func(names ...string) (out []netip.Addr) {
		for _, n := range names {
			out = append(out, netip.MustParseAddr(n))
		}
		return out
	}
	const far, near = "2001:db8::", "0:0:1::" // the second has the first 32 bits of ::1
	for _, c := range []struct {
		list []netip.Addr
		from string
		drop bool
	}{
		{many, many[mostShunned-1].String(), true},
		{many, "127.0.2.1", false},
		{many, "::1", false},
		{addrs("127.0.0.9", far, "127.0.0.8", "::1"), "::1", true},
		{addrs("127.0.0.9", far, "127.0.0.8", near), "::1", false},
		{addrs("127.0.0.9", far, "127.0.0.8", near), "127.0.0.8", true},
		{addrs("127.0.0.9", far, "127.0.0.8", near), "127.0.0.7", false},
		{addrs(far, near), "127.0.0.7", false},
		{addrs("192.0.2.200", "127.0.0.7"), "::1", false},
		{addrs("192.0.2.200", "127.0.0.7"), "127.0.0.7", true},
		{addrs(far, near, "::1"), "::1", true},
		{nil, "::1", false},
		{nil, "127.0.0.7", false},
	} {
		if err := dropFrom(s.socket, c.list); err != nil {
			t.Fatal(err)
		}
		to, patience := "127.0.0.1", 10*time.Second
		if strings.Contains(c.from, ":") {
			to = "::1"
		}
		if c.drop {
			patience = 200 * time.Millisecond
		}
		_, err := dialFrom(t, c.from, net.JoinHostPort(to, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), patience)
		if c.drop && !unanswered(err) || !c.drop && err != nil {
			t.Errorf("%d shunned, from %s: %v", len(c.list), c.from, err)
		}
	}
	for range 10 * mostShunned { // nobody takes them
		s.add(many[0])
	}
	if len(s.came) != mostShunned {
		t.Errorf("%d wait to be shunned", len(s.came))
	}
}

// Who is refused since there are too many connections pays for it all the same.
func TestRefusedSocketsCount(t *testing.T) {
	var conns []net.Conn
	for i := range 20 {
		conns = append(conns, &from{addr: fmt.Sprintf("192.0.2.1:%d", i+1)})
	}
	metrics := observe.NewMetrics()
	s := newSockets(&queue{conns: conns}, 2, run.System{}, metrics)
	guard := limit.New(limit.Options{Clock: run.NewManual(time.Now()), Rates: app.Rates{Keys: 1000, Address: app.CallRates{Sockets: app.Rate{Count: 1, Per: time.Minute, Burst: 5}}}})
	live := func() int { return 0 }
	s.rate = guard.Socket
	s.live.Store(&live)
	for {
		c, err := s.Accept()
		if err != nil {
			break
		}
		s.count(c, http.StateNew)
	}
	told := map[string]int{}
	for _, c := range conns {
		told[strings.SplitN(c.(*from).sent.String()+" none ", " ", 3)[1]]++
	}
	if want := map[string]int{"none": 2, "503": 3, "429": 15}; !maps.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
