package door

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"laaster/internal/kit/run"
)

// TestLiveAttacks are those on WebSockets.
func TestLiveAttacks(t *testing.T) {
	x := startVictim(t, openSQL, quick+"origins: [https://vote.example]\n", nil)
	under(t, x, []attack{
		{name: "pages of others", workers: 1, rounds: 1, pause: 100 * time.Millisecond, round: foreignPages},
		{name: "broken frames", workers: 2, rounds: 1, pause: 100 * time.Millisecond, round: brokenFrames},
		{name: "messages in pieces", workers: 4, rounds: 2, pause: 20 * time.Millisecond, round: pieces},
		{name: "no hello", workers: 2, rounds: 1, round: noHello},
		{name: "frame flood", workers: 2, rounds: 2, pause: 100 * time.Millisecond, round: frameFlood},
		{name: "subscription flood", workers: 2, rounds: 1, pause: 100 * time.Millisecond, round: subscriptionFlood},
		{name: "subscriptions that come and go", workers: 2, rounds: 1, pause: 100 * time.Millisecond, round: churn},
		{name: "write flood", workers: 2, rounds: 2, pause: 100 * time.Millisecond, round: writeFlood},
		{name: "connection flood", workers: 4, rounds: 2, pause: 50 * time.Millisecond, round: connectionFlood},
		{name: "resume flood", workers: 2, rounds: 5, pause: 200 * time.Millisecond, prepare: func(x *victim) error { return manyLines(x, 1) }, round: resumeFlood},
		{name: "watchers that do not read", workers: 2, rounds: 1, round: watchersThatDoNotRead},
	})
}

// foreignPages connects as pages do that are not the app's.
func foreignPages(x *victim) error {
	for _, origin := range []string{"https://evil.example", "null", "http://" + x.addr + ".evil.example", "http://evil.example/http://" + x.addr, "https://vote.example.evil.example",
		"https://vote.example:8443", "http://vote.example", "https://VOTE.example", "https://vote.example/", "https://x@vote.example", "https://vote.example https://evil.example", "file://",
		"chrome-extension://abcdefgh", "http://127.0.0.1.evil.example", "http://[::1].evil.example", "http://localhost@evil.example", "//localhost", "localhost", "javascript:1"} {
		c, err := x.live(http.Header{"Origin": {origin}})
		var status ws.StatusError
		if err == nil {
			_ = c.Close()
			return fmt.Errorf("a page of %q has a WebSocket", origin)
		}
		if !errors.As(err, &status) || int(status) != http.StatusForbidden && int(status) != http.StatusTooManyRequests {
			return fmt.Errorf("origin %q: %w", origin, err)
		}
	}
	upgrade := "GET /v1/live HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: laaster.v1\r\n"
	for head, status := range map[string]string{"Host: evil.example\r\n": "421", "Host: evil.example\r\nOrigin: http://evil.example\r\n": "421", "Host: localhost.evil.example\r\n": "421",
		"Host: localhost\r\nOrigin: http://localhost\r\nOrigin: https://evil.example\r\n": "403", "Host: localhost\r\nHost: evil.example\r\n": "400"} {
		if err := x.answers(upgrade+head+"\r\n", status); err != nil {
			return err
		}
	}
	for _, origin := range []string{"https://vote.example", "http://localhost:3000"} { // these may
		c, err := x.live(http.Header{"Origin": {origin}})
		if err != nil {
			return fmt.Errorf("origin %q: %w", origin, err)
		}
		_ = c.Close()
	}
	return nil
}

const greeting = `{"type":"hello"}`

// brokenFrames breaks the rules of RFC 6455 one by one: each costs the connection, and that alone.
func brokenFrames(x *victim) error {
	mask := []byte{1, 2, 3, 4}
	frame := func(first, second byte, length []byte, body string) []byte {
		b := append(append([]byte{first, second}, length...), mask...)
		m := []byte(body)
		ws.Cipher(m, [4]byte(mask), 0)
		return append(b, m...)
	}
	long := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for name, b := range map[string][]byte{
		"2^63 bytes":                frame(0x81, 0xff, long(1<<63-1), ""),
		"2^64 bytes":                frame(0x81, 0xff, long(1<<64-1), ""),
		"a gigabyte":                frame(0x81, 0xff, long(1<<30), ""),
		"a length not its shortest": frame(0x81, 0xff, long(5), "hello"),
		"compressed":                frame(0xc1, 0x85, nil, "hello"),
		"another reserved bit":      frame(0xa1, 0x85, nil, "hello"),
		"not masked":                {0x81, 5, 'h', 'e', 'l', 'l', 'o'},
		"an unknown opcode":         frame(0x83, 0x85, nil, "hello"),
		"an unknown control":        frame(0x8b, 0x80, nil, ""),
		"a control in pieces":       frame(0x09, 0x80, nil, ""),
		"a long ping":               frame(0x89, 0xfe, []byte{1, 0}, strings.Repeat("x", 256)),
		"a continuation of nothing": frame(0x80, 0x85, nil, "hello"),
		"a message in a message":    append(frame(0x01, 0x81, nil, "a"), frame(0x81, 0x81, nil, "b")...),
		"no UTF-8":                  frame(0x81, 0x82, nil, "\xff\xfe"),
		"binary":                    frame(0x82, 0x85, nil, "hello"),
		"a close of one byte":       frame(0x88, 0x81, nil, "x"),
		"a close of no meaning":     frame(0x88, 0x82, nil, "\x03\xed"),
	} {
		for _, greeted := range []bool{false, true} {
			c, err := x.live(nil)
			if err != nil {
				return err
			}
			if greeted {
				if err = say(c, greeting); err == nil {
					_, err = frames(c, "welcome")
				}
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			_, _ = c.Write(b)
			if err := ends(c); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			x.felt.Add(1)
		}
	}
	return nil
}

// ends reads until the server says goodbye or closes, as it has to within 30 s, and closes.
func ends(c net.Conn) error {
	defer c.Close()
	for {
		_, _, err := wsutil.ReadServerData(c)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return errors.New("the connection is still open")
		}
		if err != nil {
			return nil
		}
	}
}

// pieces sends one message in a thousand frames, with pings between them, and another one that never ends.
func pieces(x *victim) error {
	c, err := x.live(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	var b bytes.Buffer
	text := greeting + strings.Repeat(" ", 1000)
	for i := range text {
		op := ws.OpContinuation
		if i == 0 {
			op = ws.OpText
		}
		f := ws.MaskFrame(ws.NewFrame(op, i == len(text)-1, []byte(text[i:i+1])))
		if err := errors.Join(ws.WriteFrame(&b, f), ws.WriteFrame(&b, ws.MaskFrame(ws.NewPingFrame([]byte("p"))))); err != nil {
			return err
		}
	}
	g := run.New(context.Background())
	g.Go("send", func(context.Context) error { _, err := c.Write(b.Bytes()); return err })
	if _, err := frames(c, "welcome"); err != nil {
		return fmt.Errorf("a hello in pieces: %w", err)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// A message that does not end has the size of a frame at most, and a connection of which nothing whole comes is cut.
	head := ws.MaskFrame(ws.NewFrame(ws.OpText, false, bytes.Repeat([]byte(" "), 1000)))
	if err := ws.WriteFrame(c, head); err != nil {
		return err
	}
	more := ws.MaskFrame(ws.NewFrame(ws.OpContinuation, false, bytes.Repeat([]byte(" "), 60_000)))
	for range 20 {
		if err := ws.WriteFrame(c, more); err != nil {
			break // it had enough
		}
	}
	return ends(c)
}

// noHello opens connections that say nothing, or something else first.
func noHello(x *victim) error {
	var conns []net.Conn
	for i := range 30 {
		c, err := x.live(nil)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		switch i % 3 {
		case 1:
			_ = say(c, `{"type":"subscribe","id":"1","view":"tally"}`)
		case 2:
			_ = say(c, `{"type":"hello","token":"%s"}`, strings.Repeat(".", 500_000))
		}
	}
	for i, c := range conns {
		if err := ends(c); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return nil
}

// frameFlood sends thousands of small frames that are refused, and does not read at first.
func frameFlood(x *victim) error {
	c, err := x.live(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := say(c, greeting); err != nil {
		return err
	}
	var b bytes.Buffer
	for i := range 5000 {
		text := []string{`{"type":"nope"}`, `{"type":"unsubscribe","id":"x"}`, `{`, `{"type":"ping","t":1}`, `{"type":"seen","position":"x","shown_ms":-1e300}`, `{"type":"call","id":"1"}`,
			`{"type":"token","token":"a.b.c"}`}[i%7]
		if err := wsutil.WriteClientText(&b, []byte(text)); err != nil {
			return err
		}
	}
	g := run.New(context.Background())
	g.Go("send", func(context.Context) error {
		_, _ = c.Write(b.Bytes()) // the server may have had enough
		_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))))
		return nil
	})
	wait(200 * time.Millisecond)
	err = ends(c)
	return errors.Join(err, g.Wait())
}

// subscriptionFlood asks for more subscriptions than a connection may have, each with a filter of its own.
func subscriptionFlood(x *victim) error {
	c, err := x.live(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	var list []string
	for i := range 1500 {
		list = append(list, fmt.Sprintf(`{"id":"%d","view":"tally","filter":"votes=gt.%d&or=(contestant.eq.A,votes.eq.%d)"}`, i, i, i))
	}
	if err := say(c, `{"type":"hello","subscribe":[%s]}`, strings.Join(list, ",")); err != nil {
		return err
	}
	f, err := frames(c, "error", "goodbye")
	if err != nil {
		return fmt.Errorf("1500 subscriptions: %w", err)
	}
	if !strings.Contains(f, "too_many") && !strings.Contains(f, "rate_limited") {
		return fmt.Errorf("1500 subscriptions: %s", f)
	}
	return nil
}

// churn subscribes and unsubscribes all the time, with filters that nobody else has, of what may be had and what may not.
func churn(x *victim) error {
	c, err := x.live(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := say(c, greeting); err != nil {
		return err
	}
	g := run.New(context.Background())
	g.Go("send", func(context.Context) error {
		for i := range 1000 {
			view := []string{"tally", "lines", "hidden", "nope"}[i%4]
			order := []string{"", `,"order":"text.desc","limit":10`}[i/4%2]
			if err := say(c, `{"type":"subscribe","id":"%d","view":"%s","filter":"n=gt.%d"%s}`, i, view, i, order); err != nil {
				return nil // it had enough
			}
			if err := say(c, `{"type":"unsubscribe","id":"%d"}`, i); err != nil {
				return nil
			}
		}
		_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))))
		return nil
	})
	err = ends(c)
	return errors.Join(err, g.Wait())
}

// writeFlood writes without waiting for answers: each is answered, what is too much with busy.
func writeFlood(x *victim) error {
	c, err := x.live(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := say(c, greeting); err != nil {
		return err
	}
	g := run.New(context.Background())
	g.Go("send", func(context.Context) error {
		for i := range 500 {
			if say(c, `{"type":"write","id":"%d","table":"votes","rows":[{"contestant":"B"}]}`, i) != nil {
				return nil // it had enough
			}
		}
		return nil
	})
	for range 500 {
		f, err := frames(c, "result", "error", "goodbye")
		if err != nil || strings.Contains(f, "goodbye") {
			break
		}
		if strings.Contains(f, `"type":"error"`) && !strings.Contains(f, `"busy"`) && !strings.Contains(f, `"rate_limited"`) {
			return fmt.Errorf("a write is answered %s", f)
		}
	}
	_ = c.Close()
	return g.Wait()
}

// connectionFlood opens and closes WebSockets, at every stage of their opening.
func connectionFlood(x *victim) error {
	for i := range 40 {
		c, err := x.live(nil)
		if err != nil {
			var status ws.StatusError
			if errors.As(err, &status) && (status == 503 || status == 429) {
				continue
			}
			return err
		}
		if i%2 == 0 {
			_ = say(c, `{"type":"hello","subscribe":[{"id":"1","view":"tally"}]}`)
		}
		if i%4 == 0 {
			_, _ = frames(c, "welcome")
		}
		_ = c.Close()
	}
	return nil
}

// resumeFlood comes back from the beginning of the log, from the future and from logs that never were.
func resumeFlood(x *victim) error {
	text, err := x.good.once("POST", "/v1/tables/votes", `{"contestant":"B"}`)
	if err != nil {
		return err
	}
	_, now, _ := strings.Cut(text, `"position":"`)
	now, _, _ = strings.Cut(now, `"`)
	log, _, _ := strings.Cut(now, ".")
	for _, from := range []string{log + ".0-1", log + ".0-2", now, log + ".0-99999999999", "00000000000000000000000000000000.0-1", log + ".7-1", "x", strings.Repeat("9", 10_000)} {
		c, err := x.live(nil)
		if err != nil {
			return err
		}
		if err := say(c, `{"type":"hello","resume":"%s","subscribe":[{"id":"1","view":"lines"},{"id":"2","view":"tally"}]}`, from); err != nil {
			return err
		}
		f, err := frames(c, "epoch", "snapshot", "resumed", "gap", "error", "goodbye")
		if err != nil {
			return fmt.Errorf("resume from %.60s: %w", from, err)
		}
		x.felt.Add(1)
		_ = f
		_ = c.Close()
	}
	return nil
}

// watchersThatDoNotRead subscribe to megabytes and take none.
func watchersThatDoNotRead(x *victim) error {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range 20 {
		c, err := x.live(nil)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		if err := say(c, `{"type":"hello","subscribe":[{"id":"1","view":"lines"},{"id":"2","view":"tally"}]}`); err != nil {
			return err
		}
	}
	wait(2 * time.Second)
	return nil
}
