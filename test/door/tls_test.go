package door

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// TestTLSAttacks are those on handshakes and on HTTP/2. The good clients speak HTTP/2 and a WebSocket over TLS.
func TestTLSAttacks(t *testing.T) {
	a := testkit.NewAuthority(t)
	cert, key := a.Issue(time.Hour, "127.0.0.1", "localhost")
	x := startVictim(t, openSQL, quick+"tls: {cert: server.pem, key: server.key}\n", map[string][]byte{"server.pem": cert, "server.key": key})
	x.tls, x.ca = a.Client(), a.PEM
	under(t, x, []attack{
		{name: "half handshakes", workers: 4, rounds: 1, round: dribble("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a")},
		{name: "no handshakes", workers: 2, rounds: 20, pause: 10 * time.Millisecond, round: noHandshake},
		{name: "handshakes that come and go", workers: 2, rounds: 20, pause: 10 * time.Millisecond, round: handshakes},
		{name: "streams begun and reset", workers: 2, rounds: 2, pause: 200 * time.Millisecond, round: resets},
		{name: "headers without end", workers: 2, rounds: 2, pause: 50 * time.Millisecond, round: endlessHeaders},
		{name: "headers that grow", workers: 2, rounds: 2, pause: 50 * time.Millisecond, round: growingHeaders},
		{name: "settings and pings", workers: 2, rounds: 2, pause: 50 * time.Millisecond, round: controlFlood},
		{name: "empty frames", workers: 2, rounds: 2, pause: 50 * time.Millisecond, round: emptyFrames},
		{name: "broken HTTP/2 frames", workers: 1, rounds: 1, pause: 50 * time.Millisecond, round: brokenStreams},
		{name: "more streams than allowed", workers: 2, rounds: 1, pause: 50 * time.Millisecond, round: manyStreams},
		{name: "windows that stay shut", workers: 2, rounds: 1, pause: 50 * time.Millisecond, prepare: func(x *victim) error { return manyLines(x, 2) }, round: shutWindows},
	})
}

func noHandshake(x *victim) error {
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("\x00", 5000), "\x16\x03\x01\xff\xff" + strings.Repeat("\x01", 70_000), "\x80\x2e\x01\x00\x02"} {
		if got, err := x.raw(text); err != nil {
			return err
		} else if strings.Contains(got, "200 OK") {
			return fmt.Errorf("%.20q without TLS is answered %q", text, got)
		}
	}
	return nil
}

// secure connects over TLS as the attacker does.
func (x *victim) secure(protocols ...string) (*tls.Conn, error) {
	c, err := x.dial()
	if err != nil {
		return nil, err
	}
	conf := x.tls.Clone()
	conf.NextProtos, conf.ServerName = protocols, "localhost"
	s := tls.Client(c, conf)
	if err := s.Handshake(); err != nil {
		_ = c.Close()
		return nil, err
	}
	x.felt.Add(1)
	return s, nil
}

func handshakes(x *victim) error {
	for range 3 {
		c, err := x.secure("h2", "http/1.1")
		if err != nil {
			return err
		}
		if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
			return fmt.Errorf("version %x", v)
		}
		_ = c.NetConn().Close()
	}
	conf := x.tls.Clone()
	conf.MaxVersion = tls.VersionTLS12
	c, err := x.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if tls.Client(c, conf).Handshake() == nil {
		return errors.New("TLS 1.2 is spoken")
	}
	return nil
}

// The frames of HTTP/2 that are used here, and their flags.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9
	endStream         = 1
	endHeaders        = 4
	preface           = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

func frame2(kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// get is the header block of a GET.
func get(path string) []byte {
	b := append([]byte{0x82, 0x87, 0x04, byte(len(path))}, path...)
	return append(append(b, 0x01, 9), "localhost"...)
}

// begin2 begins HTTP/2 on a connection of its own, with settings.
func begin2(x *victim, settings ...byte) (*tls.Conn, error) {
	c, err := x.secure("h2")
	if err != nil {
		return nil, err
	}
	_, err = c.Write(append([]byte(preface), frame2(frameSettings, 0, 0, settings)...))
	return c, err
}

// flood sends many frames on a new connection, for which the server has two seconds, and reports whether it ended the connection and how many frames of
// each kind came.
func flood(x *victim, settings []byte, frames func(w io.Writer)) (ended bool, came [10]int, err error) {
	c, err := begin2(x, settings...)
	if err != nil {
		return false, came, err
	}
	defer c.Close()
	g := run.New(context.Background())
	g.Go("send", func(context.Context) error {
		var b bytes.Buffer
		frames(&b)
		_, _ = c.Write(b.Bytes()) // the server may have had enough
		return nil
	})
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	for head := make([]byte, 9); ; {
		if _, err = io.ReadFull(c, head); err == nil {
			_, err = io.CopyN(io.Discard, c, int64(head[0])<<16|int64(head[1])<<8|int64(head[2]))
		}
		if err != nil {
			break
		}
		if head[3] < 10 {
			came[head[3]]++
		}
		if ended = ended || head[3] == frameGoAway; ended {
			break
		}
	}
	var late net.Error
	ended = ended || !errors.As(err, &late) || !late.Timeout()
	_ = c.NetConn().Close()
	return ended, came, g.Wait()
}

func must(what string, ended bool, err error) error {
	if err == nil && !ended {
		err = fmt.Errorf("%s: the connection is still open", what)
	}
	return err
}

func resets(x *victim) error {
	_, _, err := flood(x, nil, func(w io.Writer) {
		for i := range uint32(3000) {
			_, _ = w.Write(frame2(frameHeaders, endHeaders|endStream, 2*i+1, get("/v1/views/tally")))
			_, _ = w.Write(frame2(frameReset, 0, 2*i+1, []byte{0, 0, 0, 8}))
		}
	})
	return err
}

func endlessHeaders(x *victim) error {
	ended, _, err := flood(x, nil, func(w io.Writer) {
		_, _ = w.Write(frame2(frameHeaders, endStream, 1, get("/v1/views/tally")))
		field := append([]byte{0x00, 1, 'x', 0x7f, 0x81, 0x7e}, bytes.Repeat([]byte("y"), 16256)...) // a literal of 16,256 bytes
		for range 100 {
			_, _ = w.Write(frame2(frameContinuation, 0, 1, field[:16000]))
		}
	})
	return must("headers without end", ended, err)
}

// growingHeaders puts one field into the table and refers to it ten thousand times: 40 MB in as many bytes.
func growingHeaders(x *victim) error {
	_, came, err := flood(x, nil, func(w io.Writer) {
		field := append([]byte{0x40, 1, 'x', 0x7f, 0x81, 0x1e}, bytes.Repeat([]byte("y"), 4000)...)
		_, _ = w.Write(frame2(frameHeaders, endStream, 1, append(get("/v1/views/tally"), field...)))
		_, _ = w.Write(frame2(frameContinuation, endHeaders, 1, bytes.Repeat([]byte{0xbe}, 10_000)))
	})
	if err == nil && came[frameData] > 1 {
		err = fmt.Errorf("a request with 40 MB of headers is answered with %v frames", came)
	}
	return err
}

func controlFlood(x *victim) error {
	_, _, err := flood(x, nil, func(w io.Writer) {
		for range 20_000 {
			_, _ = w.Write(frame2(frameSettings, 0, 0, []byte{0, 4, 0, 0, 0xff, 0xff}))
			_, _ = w.Write(frame2(framePing, 0, 0, make([]byte, 8)))
		}
	})
	return err
}

func emptyFrames(x *victim) error {
	_, _, err := flood(x, nil, func(w io.Writer) {
		_, _ = w.Write(frame2(frameHeaders, endHeaders, 1, append([]byte{0x83}, get("/v1/tables/votes")[1:]...)))
		for range 50_000 {
			_, _ = w.Write(frame2(frameData, 0, 1, nil))
		}
	})
	return err
}

// brokenStreams breaks the rules of RFC 9113 one by one: each costs the connection, and that alone.
func brokenStreams(x *victim) error {
	for name, b := range map[string][]byte{
		"a frame of 16 MB":             {0xff, 0xff, 0xff, frameHeaders, endHeaders, 0, 0, 0, 1},
		"data of no stream":            frame2(frameData, 0, 0, []byte("x")),
		"headers of no stream":         frame2(frameHeaders, endHeaders, 0, get("/")),
		"a stream of the server's":     frame2(frameHeaders, endHeaders, 2, get("/")),
		"a continuation of nothing":    frame2(frameContinuation, endHeaders, 1, get("/")),
		"settings of seven bytes":      frame2(frameSettings, 0, 0, make([]byte, 7)),
		"a ping of nine bytes":         frame2(framePing, 0, 0, make([]byte, 9)),
		"a window of nothing more":     frame2(frameWindow, 0, 0, make([]byte, 4)),
		"a window beyond its bound":    append(frame2(frameWindow, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff}), frame2(frameWindow, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})...),
		"headers that cannot be read":  frame2(frameHeaders, endHeaders|endStream, 1, bytes.Repeat([]byte{0xff}, 50)),
		"a table larger than allowed":  frame2(frameHeaders, endHeaders|endStream, 1, append([]byte{0x3f, 0xff, 0xff, 0xff, 0x0f}, get("/")...)),
		"something between headers":    append(frame2(frameHeaders, endStream, 1, get("/")), frame2(framePing, 0, 0, make([]byte, 8))...),
		"a number larger than 32 bits": frame2(frameHeaders, endHeaders|endStream, 1, append([]byte{0x7f}, bytes.Repeat([]byte{0xff}, 20)...)),
	} {
		ended, _, err := flood(x, nil, func(w io.Writer) { _, _ = w.Write(b) })
		if err := must(name, ended, err); err != nil {
			return err
		}
	}
	return nil
}

// manyStreams begins three hundred writes at one time whose bodies do not come: a hundred are heard.
func manyStreams(x *victim) error {
	_, came, err := flood(x, nil, func(w io.Writer) {
		head := append([]byte{0x83}, get("/v1/tables/votes")[1:]...)
		head = append(append(append(head, 0x0f, 0x10, 16), "application/json"...), 0x0f, 0x0d, 4, '1', '0', '0', '0')
		for i := range uint32(300) {
			_, _ = w.Write(frame2(frameHeaders, endHeaders, 2*i+1, head))
		}
	})
	if err == nil && came[frameReset] < 100 && came[frameGoAway] == 0 {
		err = fmt.Errorf("300 streams at one time: %v frames of each kind", came)
	}
	return err
}

// shutWindows asks for megabytes on a hundred streams and lets nothing come.
func shutWindows(x *victim) error {
	_, came, err := flood(x, []byte{0, 4, 0, 0, 0, 0}, func(w io.Writer) {
		for i := range uint32(100) {
			_, _ = w.Write(frame2(frameHeaders, endHeaders|endStream, 2*i+1, get("/v1/views/lines")))
		}
	})
	if err == nil && came[frameReset] < 90 && came[frameGoAway] == 0 { // limits.stall is a second
		err = fmt.Errorf("100 streams that take nothing: %v frames of each kind", came)
	}
	return err
}
