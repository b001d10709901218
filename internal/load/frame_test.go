package load

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// served returns a frame as a server sends it.
func served(op byte, fin bool, payload []byte) []byte {
	b := []byte{op}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// said collects what a client hears and says.
type said struct {
	sent  [][]byte
	heard []string
}

func (s *said) send(b []byte) { s.sent = append(s.sent, bytes.Clone(b)) }

func listener(t *testing.T) (*Client, *said) {
	t.Helper()
	heard := &said{}
	s := &Swarm{host: "x:1", changed: make(chan struct{}, 1)}
	s.mu.codes = map[string]int{}
	s.opt.Hello = func(int, string) string { return `"subscribe":[]` }
	s.opt.Frame = func(c *Client, kind Kind, frame []byte, _ time.Duration) {
		heard.heard = append(heard.heard, string(kind))
	}
	c := &Client{swarm: s, line: heard}
	return c, heard
}

// TestClientReads: however the bytes are cut, a client hears the same frames, answers pings between fragments, and becomes live.
func TestClientReads(t *testing.T) {
	var stream []byte
	stream = append(stream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept: "+accept+"\r\n\r\n"...)
	add := func(op byte, fin bool, text string) { stream = append(stream, served(op, fin, []byte(text))...) }
	add(opText, true, `{"type":"welcome","session":"s"}`)
	long := `{"type":"snapshot","id":"1","position":"log.0-5","key":["id"],"rows":["` + string(bytes.Repeat([]byte("x"), 70_000)) + `"],"more":false}`
	add(opText, false, long[:200])
	add(opPing, true, "between")
	add(opContinuation, false, long[200:300])
	add(opContinuation, true, long[300:])
	add(opText, true, `{"type":"epoch","position":"log.0-9","from":"log.0-5","at":1,"changes":{}}`)
	add(opPing, true, "")
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		c, heard := listener(t)
		c.connected()
		rest := []byte{}
		for left := stream; len(left) > 0; {
			n := 1 + rng.IntN(min(len(left), 1+rng.IntN(20_000)))
			in := append(bytes.Clone(rest), left[:n]...)
			left = left[n:]
			out, need, err := c.feed(in, 0)
			if err != nil {
				t.Fatal(err)
			}
			if need > 0 && need <= len(out) {
				t.Fatalf("%d bytes are left of a frame of %d", len(out), need)
			}
			rest = bytes.Clone(out)
		}
		if got := len(rest); got != 0 || c.Sequence != 9 || string(c.Position) != "log.0-9" || c.state != stateLive {
			t.Fatalf("rest %d, sequence %d, position %s, state %d", got, c.Sequence, c.Position, c.state)
		}
		if want := []string{"welcome", "snapshot",
			"epoch"}; len(heard.heard) != 3 || heard.heard[0] != want[0] || heard.heard[1] != want[1] || heard.heard[2] != want[2] {
			t.Fatalf("heard %q", heard.heard)
		}
		if len(heard.sent) != 4 || !bytes.HasSuffix(heard.sent[2], []byte("between")) || heard.sent[2][0] != 0x80|opPong {
			t.Fatalf("said %q", heard.sent)
		}
	}
}

// TestClientRefuses: what a server may not send ends the connection with a reason.
func TestClientRefuses(t *testing.T) {
	join := func(c *Client) { c.state = stateJoining }
	for name, c := range map[string]struct {
		prepare func(c *Client)
		bytes   []byte
	}{
		"masked":          {join, []byte{0x81, 0x80, 0, 0, 0, 0}},
		"reserved bits":   {join, []byte{0xc1, 0}},
		"huge":            {join, []byte{0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0}},
		"binary":          {join, served(2, true, []byte("x"))},
		"no type":         {join, served(opText, true, []byte("{}"))},
		"no position":     {join, served(opText, true, []byte(`{"type":"epoch","changes":{}}`))},
		"closed":          {join, served(opClose, true, []byte{3, 0xe9})},
		"falling":         {func(c *Client) { join(c); c.Sequence = 9 }, served(opText, true, []byte(`{"type":"epoch","position":"log.0-8","changes":{}}`))},
		"wrong accept":    {func(c *Client) { c.connected() }, []byte("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n")},
		"not an upgrade":  {func(c *Client) { c.connected() }, []byte("HTTP/1.1 404 Not Found\r\n\r\n")},
		"endless headers": {func(c *Client) { c.connected() }, bytes.Repeat([]byte("x"), 70_000)},
	} {
		client, _ := listener(t)
		c.prepare(client)
		if _, _, err := client.feed(c.bytes, 0); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	c, _ := listener(t)
	c.connected()
	_, _, err := c.feed([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\n"), 0)
	if wait := c.down(err); wait.Seconds() != 2 {
		t.Errorf("comes back after %s (%v), want 2s", wait, err)
	}
}

// FuzzFeed: no bytes of a server hurt a client.
func FuzzFeed(f *testing.F) {
	f.Add(served(opText, true, []byte(`{"type":"epoch","position":"log.0-8","changes":{}}`)))
	f.Add(append(served(opText, false, []byte(`{"type":"goodbye",`)), served(opContinuation, true, []byte(`"retry_after_ms":5}`))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _ := listener(t)
		c.state = stateJoining
		for len(b) > 0 {
			rest, need, err := c.feed(b, 0)
			if err != nil || need > len(rest) || len(rest) == len(b) {
				return
			}
			b = rest
		}
	})
}
