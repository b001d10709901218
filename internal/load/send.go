package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"laaster/internal/kit/run"
)

// answer is what a server said of one request.
type answer struct {
	status   int
	seq      uint64 // the sequence of its position
	accepted int
	after    time.Duration // when to come again, if it said so
	text     []byte        // of an answer that is not 200: its beginning
}

// outlet is a connection that writes, with one request under way at a time.
type outlet interface {
	// write sends rows to a table and waits for the answer.
	write(table, parameters string, rows []byte) (answer, error)
	close()
}

// httpOutlet is a kept HTTP/1.1 connection. It reads of an answer what is needed.
type httpOutlet struct {
	host string // and what follows the line Host
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	body []byte
}

// bearing returns the header line of a token, with the end of the line before in front; empty without one.
func bearing(token string) string {
	if token == "" {
		return ""
	}
	return "\r\nAuthorization: Bearer " + token
}

// server is where rows are written, and what writers bring.
type server struct {
	url, token string
	tls        *tls.Config // nil: the system's authorities are trusted
}

// secured returns conn with TLS to a server of this name, by a configuration that may be nil.
func secured(conn net.Conn, host string, c *tls.Config) net.Conn {
	c = c.Clone()
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	c.ServerName, c.NextProtos = host, []string{"http/1.1"}
	return tls.Client(conn, c)
}

// dial opens a connection to a server.
func dial(ctx context.Context, to server) (net.Conn, string, error) {
	u, err := url.Parse(to.url)
	if err != nil {
		return nil, "", err
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), map[bool]string{false: "80", true: "443"}[u.Scheme == "https"])
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, "", err
	}
	if u.Scheme == "https" {
		conn = secured(conn, u.Hostname(), to.tls)
	}
	return conn, u.Host, nil
}

func newHTTPOutlet(ctx context.Context, to server) (*httpOutlet, error) {
	conn, host, err := dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return &httpOutlet{host: host + bearing(to.token), conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}, nil
}

func (o *httpOutlet) close() { _ = o.conn.Close() }

// write implements outlet.
func (o *httpOutlet) write(table, parameters string, rows []byte) (answer, error) {
	b := append(append(append(append(o.out[:0], "POST /v1/tables/"...), table...), parameters...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, o.host...), "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = append(append(strconv.AppendInt(b, int64(len(rows)), 10), "\r\n\r\n"...), rows...)
	o.out = b[:0]
	if _, err := o.conn.Write(b); err != nil {
		return answer{}, err
	}
	return o.read()
}

// read reads one answer.
func (o *httpOutlet) read() (answer, error) {
	var a answer
	line, err := o.in.ReadSlice('\n')
	if err != nil {
		return a, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return a, fmt.Errorf("not an answer of HTTP/1.1: %.40q", line)
	}
	a.status, _, _ = number(line[9:])
	length := -1
	for {
		if line, err = o.in.ReadSlice('\n'); err != nil {
			return a, err
		}
		if len(line) <= 2 {
			break
		}
		k, v, _ := bytes.Cut(line, []byte(":"))
		switch v = bytes.TrimSpace(v); {
		case bytes.EqualFold(k, []byte("Content-Length")):
			length, _, _ = number(v)
		case bytes.EqualFold(k, []byte("Retry-After")):
			s, _, _ := number(v)
			a.after = time.Duration(s) * time.Second
		}
	}
	if length < 0 || length > maxFrame {
		return a, errors.New("an answer without a Content-Length")
	}
	if cap(o.body) < length {
		o.body = make([]byte, length)
	}
	o.body = o.body[:length]
	if _, err := io.ReadFull(o.in, o.body); err != nil {
		return a, err
	}
	return a, a.result(o.body)
}

// result reads a result: position and rows that took effect.
func (a *answer) result(body []byte) error {
	if a.status != http.StatusOK {
		a.text = body[:min(len(body), 300)]
		return nil
	}
	var ok bool
	if a.seq, ok = sequence(body); !ok {
		return fmt.Errorf("an answer without a position: %.100q", body)
	}
	if at := bytes.Index(body, []byte(`"accepted":`)); at >= 0 {
		a.accepted, _, _ = number(body[at+len(`"accepted":`):])
	}
	return nil
}

// wsOutlet is a WebSocket that writes with write frames.
type wsOutlet struct {
	conn net.Conn
	in   *bufio.Reader
	buf  []byte
	out  []byte
	body []byte
	id   int
}

func newWSOutlet(ctx context.Context, to server) (*wsOutlet, error) {
	conn, host, err := dial(ctx, to)
	if err != nil {
		return nil, err
	}
	o := &wsOutlet{conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}
	request := "GET /v1/live HTTP/1.1\r\nHost: " + host + bearing(to.token) + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + nonce +
		"\r\nSec-WebSocket-Protocol: laaster.v1\r\n\r\n"
	hello := appendFrame(nil, opText, []byte(`{"type":"hello"}`))
	_, err = io.WriteString(conn, request)
	if err == nil {
		var r *http.Response
		if r, err = http.ReadResponse(o.in, nil); err == nil && r.StatusCode != http.StatusSwitchingProtocols {
			err = fmt.Errorf("the server refused the upgrade: %s", r.Status)
		}
	}
	if err == nil {
		_, err = conn.Write(hello)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return o, nil
}

func (o *wsOutlet) close() { _ = o.conn.Close() }

// write implements outlet.
func (o *wsOutlet) write(table, parameters string, rows []byte) (answer, error) {
	o.id++
	b := strconv.AppendInt(append(o.body[:0], `{"type":"write","id":"`...), int64(o.id), 10)
	b = append(append(append(b, `","table":"`...), table...), '"')
	if parameters == merging {
		b = append(b, `,"on_conflict":"merge"`...)
	}
	o.body = append(append(append(b, `,"rows":`...), rows...), '}')
	o.out = appendFrame(o.out[:0], opText, o.body)
	if _, err := o.conn.Write(o.out); err != nil {
		return answer{}, err
	}
	for {
		frame, err := o.next()
		if err != nil {
			return answer{}, err
		}
		switch kindOf(frame) {
		case "result":
			a := answer{status: http.StatusOK}
			return a, a.result(frame)
		case "error":
			return answer{status: http.StatusServiceUnavailable, text: frame[:min(len(frame), 300)]}, nil
		case "goodbye":
			return answer{}, fmt.Errorf("the server said %.200s", frame)
		}
	}
}

// next reads one text frame and answers pings.
func (o *wsOutlet) next() ([]byte, error) {
	for {
		head, err := o.in.Peek(2)
		if err != nil {
			return nil, err
		}
		size := 2
		switch head[1] & 0x7f {
		case 126:
			size = 4
		case 127:
			size = 10
		}
		if head, err = o.in.Peek(size); err != nil {
			return nil, err
		}
		_, _, _, _, need, err := nextFrame(head)
		if err != nil {
			return nil, err
		}
		need = max(need, size)
		if cap(o.buf) < need {
			o.buf = make([]byte, 2*need)
		}
		if _, err := io.ReadFull(o.in, o.buf[:need]); err != nil {
			return nil, err
		}
		op, _, payload, _, _, err := nextFrame(o.buf[:need])
		switch {
		case err != nil:
			return nil, err
		case op == opText:
			return payload, nil
		case op == opPing:
			if _, err := o.conn.Write(appendFrame(nil, opPong, payload)); err != nil {
				return nil, err
			}
		case op == opClose:
			return nil, errors.New("the server closed the connection")
		}
	}
}

// merging are the parameters of writes that replace rows.
const merging = "?on_conflict=merge"

// Transports, of writes and of what clients follow.
const (
	OverHTTP = "http"
	OverWS   = "ws"
	// OverEvents is how clients follow a view over HTTP: server-sent events.
	OverEvents = "sse"
)

func newOutlet(ctx context.Context, over string, to server) (outlet, error) {
	if over == OverWS {
		o, err := newWSOutlet(ctx, to)
		if err != nil {
			return nil, err // and not o: a nil pointer in an interface is not nil
		}
		return o, nil
	}
	o, err := newHTTPOutlet(ctx, to)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// until waits for a moment; false: the context ended first.
func until(ctx context.Context, clock run.Clock, t time.Time) bool {
	wait := t.Sub(clock.Now())
	if wait <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-clock.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}
