package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// chunked returns text in chunks of random sizes.
func chunked(rng *rand.Rand, text string) (b []byte) {
	for len(text) > 0 {
		n := 1 + rng.IntN(min(len(text), 1+rng.IntN(5000)))
		b = append(fmt.Appendf(b, "%x\r\n", n), text[:n]+"\r\n"...)
		text = text[n:]
	}
	return b
}

// TestEventStreams: however bytes and chunks are cut, a client hears the same events.
func TestEventStreams(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 30_000))
	text := "retry: 1000\n\n: a comment\n\nid: log.0-5\nevent: snapshot\ndata: {\"position\":\"log.0-5\",\"rows\":[\"" + long + "\"],\"more\":false}\n\n" +
		"id: log.0-9\nevent: epoch\ndata: {\"position\":\"log.0-9\",\"from\":\"log.0-5\",\"at\":1}\n\nevent: freshness\ndata: {\"state\":\"live\"}\n\n"
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		c, heard := listener(t)
		c.swarm.opt.Path = func(int) string { return "/v1/views/x" }
		c.Position = []byte("log.0-3")
		c.connected()
		if want := "GET /v1/views/x HTTP/1.1\r\nHost: x:1\r\nAccept: text/event-stream\r\nLast-Event-ID: log.0-3\r\n\r\n"; string(heard.sent[0]) != want {
			t.Fatalf("said %q", heard.sent[0])
		}
		rest, left := []byte{}, append([]byte("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), chunked(rng, text)...)
		for len(left) > 0 {
			n := 1 + rng.IntN(min(len(left), 1+rng.IntN(20_000)))
			out, _, err := c.feed(append(bytes.Clone(rest), left[:n]...), 0)
			if err != nil {
				t.Fatal(err)
			}
			rest, left = bytes.Clone(out), left[n:]
		}
		if got := fmt.Sprint(heard.heard); got != "[snapshot epoch freshness]" || len(rest) != 0 || c.Sequence != 9 || c.state != stateLive {
			t.Fatalf("heard %s, rest %q, sequence %d, state %d", got, rest, c.Sequence, c.state)
		}
		if _, _, err := c.feed([]byte("0\r\n\r\n"), 0); err == nil {
			t.Fatal("the end is not noticed")
		}
	}
	for name, bad := range map[string]string{
		"no chunks":     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"not a stream":  "HTTP/1.1 404 Not Found\r\n\r\n",
		"no length":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"endless":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + string(bytes.Repeat([]byte("1"), 30)),
		"huge":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
		"without place": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n18\r\nevent: epoch\ndata: {}\n\n\r\n",
	} {
		c, _ := listener(t)
		c.swarm.opt.Path = func(int) string { return "/v1/views/x" }
		c.connected()
		if _, _, err := c.feed([]byte(bad), 0); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzEvents: no bytes of a server hurt a client.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("c\r\nevent: x\n\nda\r\n3\r\nta:\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _ := listener(t)
		c.state, c.events = stateJoining, &stream{}
		for len(b) > 0 {
			n := min(len(b), 7)
			rest, _, err := c.feed(b[:n], 0)
			if err != nil {
				return
			}
			if len(rest) == n {
				return // it waits for more than this test has
			}
			b = b[n-len(rest):]
		}
	})
}
