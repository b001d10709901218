package push

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// messages cuts data, which comes in pieces of random size, into messages with the parser. It checks that the parser holds nothing between
// messages, and no more than what has come.
func messages(t *testing.T, data []byte, r *rand.Rand, limit int) (got []string, err error) {
	t.Helper()
	var in inbound
	for len(data) > 0 {
		piece := bytes.Clone(data[:min(len(data), 1+r.IntN(700))])
		data = data[len(piece):]
		for len(piece) > 0 {
			op, payload, rest, err := in.next(piece, limit)
			if err != nil {
				return got, err
			}
			if op != 0 {
				got = append(got, fmt.Sprintf("%d %s", op, payload))
			} else if len(rest) > 0 {
				t.Fatalf("%d bytes are left and nothing came of the others", len(rest))
			}
			if held := in.holds(); held > 2*limit+512 {
				t.Fatalf("%d bytes are held", held)
			}
			piece = rest
		}
	}
	return got, nil
}

// TestInbound sends messages of all sizes, in fragments with control frames between, in pieces of all sizes.
func TestInbound(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		var input []byte
		var want []string
		for range 30 {
			msg := bytes.Repeat([]byte("a€"), r.IntN([]int{10, 200, 20_000}[r.IntN(3)]))
			op, rest := byte(opText), msg
			for r.IntN(3) == 0 {
				cut := r.IntN(len(rest) + 1)
				input = append(input, clientFrame(op, false, rest[:cut])...)
				op, rest = opContinuation, rest[cut:]
				if r.IntN(2) == 0 {
					input = append(input, clientFrame(opPing, true, []byte("ping"))...)
					want = append(want, "9 ping")
				}
			}
			input = append(input, clientFrame(op, true, rest)...)
			want = append(want, "1 "+string(msg))
		}
		got, err := messages(t, input, r, 80_000)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d messages, %v; want %d", seed, len(got), err, len(want))
		}
	}
}

// TestInboundHolds: a header that announces much costs nothing until it comes, and a complete message leaves nothing.
func TestInboundHolds(t *testing.T) {
	var in inbound
	head := []byte{0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4, 'x'}
	if op, _, _, err := in.next(head, 1<<20); op != 0 || err != nil {
		t.Fatal(op, err)
	}
	if in.holds() > 512 {
		t.Errorf("%d bytes held for 1 byte of data", in.holds())
	}
	in = inbound{}
	whole := clientFrame(opText, true, bytes.Repeat([]byte("a"), 1000))
	for i := range whole {
		if _, _, _, err := in.next(whole[i:i+1], 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if in.part != nil {
		t.Error("something is held after a complete message")
	}
}

// FuzzInbound: whatever comes, in pieces or at once, the parser says the same as a simple decoder that has all of it.
func FuzzInbound(f *testing.F) {
	f.Add(clientFrame(opText, true, []byte(`{"type":"hello"}`)))
	f.Add(append(clientFrame(opText, false, []byte("a\xe2\x82")), clientFrame(opContinuation, true, []byte("\xacc"))...))
	f.Add(append(clientFrame(opBinary, false, nil), clientFrame(opPing, true, []byte("c"))...))
	f.Add(clientFrame(opText, false, []byte{'a', 0xe0, 0x80, 'b'}))
	f.Add(clientFrame(opClose, true, []byte{3, 232}))
	f.Add(clientFrame(opText, true, make([]byte, 5000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 4096
		want, wantCode := simpleDecode(bytes.Clone(data), limit)
		for seed := range uint64(3) {
			got, err := messages(t, bytes.Clone(data), rand.New(rand.NewPCG(seed, 1)), limit)
			code := 0
			var pe *protocolError
			if errors.As(err, &pe) {
				code = pe.code
			}
			if !slices.Equal(got, want) || code != wantCode {
				t.Fatalf("%q %v; the simple decoder: %q %d", got, err, want, wantCode)
			}
		}
		var in inbound
		for rest, op := bytes.Clone(data), byte(0); len(rest) > 0; {
			var payload []byte
			var err error
			if op, payload, rest, err = in.next(rest, limit); err != nil {
				return
			}
			if op == opClose {
				if c := closeCode(payload); c < 1000 || c > 4999 {
					t.Fatalf("close code %d", c)
				}
			}
		}
	})
}

// simpleDecode reads client frames as RFC 6455 describes them, byte after byte, and returns the messages and control frames, and the code of the
// violation that follows them, 0 for none. What is incomplete at the end counts only as far as it breaks a rule.
func simpleDecode(data []byte, limit int) (out []string, code int) {
	var message []byte
	var op byte
	for {
		if len(data) < 2 {
			return out, 0
		}
		fin, kind, size := data[0] >= 128, data[0]%16, uint64(data[1]%128)
		control := kind >= 8
		if data[0]/16%8 != 0 || data[1] < 128 || kind > 10 || kind > 2 && kind < 8 || control && (!fin || size > 125) ||
			!control && (kind == 0) != (op != 0) {
			return out, 1002
		}
		rest := data[2:]
		if size > 125 {
			n := 2
			if size == 127 {
				n = 8
			}
			if len(rest) < n {
				return out, 0
			}
			size = 0
			for _, b := range rest[:n] {
				size = size*256 + uint64(b)
			}
			if n == 2 && size < 126 || n == 8 && size < 65536 {
				return out, 1002
			}
			rest = rest[n:]
		}
		if !control && (size > uint64(limit) || len(message)+int(size) > limit) {
			return out, 1009
		}
		if len(rest) < 4 {
			return out, 0
		}
		mask, rest := rest[:4], rest[4:]
		body := make([]byte, 0, 128)
		for i := 0; i < len(rest) && uint64(i) < size; i++ {
			body = append(body, rest[i]^mask[i%4])
		}
		whole := uint64(len(body)) == size
		if !control {
			if kind != 0 {
				op = kind
			}
			message = append(message, body...)
			if op == opText {
				for i := 0; i < len(message); {
					if !utf8.FullRune(message[i:]) && !(whole && fin) {
						break // the rest may come
					}
					r, n := utf8.DecodeRune(message[i:])
					if r == utf8.RuneError && n == 1 {
						return out, 1007
					}
					i += n
				}
			}
		}
		if !whole {
			return out, 0
		}
		switch {
		case control:
			out = append(out, fmt.Sprintf("%d %s", kind, body))
		case fin:
			out = append(out, fmt.Sprintf("%d %s", op, message))
			message, op = nil, 0
		}
		data = rest[len(body):]
	}
}

// tcpClient connects to a hub over loopback and says hello. The client's end reads one byte and then nothing by itself.
func tcpClient(t *testing.T, h *Hub, hello string) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if p := h.ServeConn(server, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	if _, err := client.Write(clientFrame(opText, true, []byte(hello))); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != nil { // the welcome begins
		t.Fatal(err)
	}
	return client
}

// TestNeverReads: over a real socket, a client that reads nothing holds up nobody, costs bounded memory, and is gone after its
// time.
func TestNeverReads(t *testing.T) {
	b := newBench(t, Options{FrameLogBytes: 64 << 10}, 1<<20)
	const hello = `{"type":"hello","subscribe":[{"id":"a","view":"tally"}]}`
	dead := tcpClient(t, b.hub, hello)
	fast := newMemConn()
	if p := b.hub.ServeConn(fast, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	fast.send(clientFrame(opText, true, []byte(hello)))
	b.quiet(fast)
	fast.take()
	big := strings.Repeat("x", 8000)
	for i := range 300 {
		b.advance(10 * time.Millisecond)
		b.apply(edit{rel: 0, vals: []*string{str("A"), str(fmt.Sprint(i)), &big}})
		b.flushed()
		b.quiet(fast)
		if frames, _, err := serverFrames(fast.take()); err != nil || len(frames) != 1 {
			t.Fatalf("round %d: the fast client got %d frames, %v", i, len(frames), err)
		}
		if held := b.hub.Stats().FrameLogBytes; held > 64<<10 {
			t.Fatalf("round %d: %d bytes of frames are kept", i, held)
		}
	}
	b.advance(30 * time.Second)
	b.quiet(fast)
	if st := b.hub.Stats(); st.SlowClosed != 1 || st.Connections != 2 {
		t.Errorf("after 30 s: %+v", st)
	}
	b.advance(5 * time.Second)
	if st := b.hub.Stats(); st.Connections != 1 {
		t.Errorf("after 35 s: %+v", st)
	}
	if n, err := io.Copy(io.Discard, dead); n == 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestVanishes: clients that are cut off in the middle of anything leave nothing behind.
func TestVanishes(t *testing.T) {
	b := newBench(t, Options{}, 0)
	b.apply(edit{rel: 0, vals: []*string{str("A"), str("1"), nil}})
	for i := range 50 {
		c := tcpClient(t, b.hub, `{"type":"hello","subscribe":[{"id":"a","view":"tally"},{"id":"b","view":"total"}]}`)
		if i%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
		}
		c.Close()
	}
	for b.hub.Connections() > 0 {
		runtime.Gosched()
	}
	if st := b.hub.Stats(); st.Subscriptions+st.Feeds+st.Shapes+st.FrameLogBytes != 0 {
		t.Errorf("%+v", st)
	}
	for n := b.hub.group.Running()["push reader"]; n > 0; n = b.hub.group.Running()["push reader"] {
		runtime.Gosched()
	}
}

// TestManySubscriptions: a thousand on one connection, each with a filter of its own, in one frame.
func TestManySubscriptions(t *testing.T) {
	b := newBench(t, Options{}, 0)
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	var subs []string
	for i := range 1000 {
		subs = append(subs, fmt.Sprintf(`{"id":"s%d","view":"tally","filter":"contestant=eq.c%d"}`, i, i))
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"hello","subscribe":[`+strings.Join(subs, ",")+`]}`)))
	b.quiet(m)
	if frames, _, err := serverFrames(m.take()); err != nil || len(frames) != 1001 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	b.advance(10 * time.Millisecond)
	var edits []edit
	for i := range 1000 {
		edits = append(edits, edit{rel: 0, vals: []*string{str(fmt.Sprintf("c%d", i)), str("1"), nil}})
	}
	b.apply(edits...)
	b.flushed()
	b.quiet(m)
	frames, _, err := serverFrames(m.take())
	if err != nil || len(frames) != 1 || strings.Count(frames[0], `"put"`) != 1000 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
}

// TestFloods: requests that a client does not read the answers of are not read either, and writes beyond the limit are refused.
func TestFloods(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, Options{Writer: writerFunc(func(context.Context, auth.Principal, *wire.WriteFrame) (*wire.WriteResult, *wire.Problem) {
		<-release
		return &wire.WriteResult{Rejected: []wire.Rejected{}}, nil
	})}, 0)
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"hello"}`)))
	b.quiet(m)
	m.take()
	for range 70 {
		m.send(clientFrame(opText, true, []byte(`{"type":"write","id":"w","table":"t","rows":{}}`)))
	}
	m.awaitIdle()
	close(release)
	b.quiet(m)
	frames, _, err := serverFrames(m.take())
	if all := strings.Join(frames, "\n"); err != nil || strings.Count(all, `"result"`) != 64 || strings.Count(all, `"busy"`) != 6 {
		t.Errorf("%d frames, %v: %.500s", len(frames), err, all)
	}

	m.limit(0)
	ping := clientFrame(opText, true, []byte(`{"type":"ping","t":1}`))
	const pings = 100_000
	m.send(bytes.Repeat(ping, pings))
	for c := b.hub.connections()[0]; !c.waitsForRoom(); {
		runtime.Gosched()
	}
	if left := m.left(); left < pings*len(ping)/2 {
		t.Errorf("%d bytes of %d are left unread", left, pings*len(ping))
	}
	m.limit(-1)
	b.quiet(m)
	if frames, _, err := serverFrames(m.take()); err != nil || len(frames) != pings {
		t.Errorf("%d frames, %v", len(frames), err)
	}
}

func (c *conn) waitsForRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.room != nil
}

// TestServeLive is the upgrade over HTTP: what is refused before it, and frames sent along with the request.
func TestServeLive(t *testing.T) {
	b := newBench(t, Options{MaxConnections: 1}, 0)
	server := httptest.NewServer(http.HandlerFunc(b.hub.ServeLive))
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 400 || !strings.Contains(string(body), "WebSocket") {
		t.Errorf("without an upgrade: %d %s", res.StatusCode, body)
	}
	dial := func(header, more string) (*http.Response, *bufio.Reader) {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n%s", header, more)
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		return res, in
	}
	if res, _ := dial("Authorization: Bearer x\r\n", ""); res.StatusCode != 401 {
		t.Errorf("with a token: %d", res.StatusCode)
	}
	res, in := dial("Sec-WebSocket-Protocol: other, laaster.v1\r\n", string(clientFrame(opText, true, []byte(`{"type":"hello"}`))))
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Protocol") != "laaster.v1" ||
		res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("upgrade: %d %v", res.StatusCode, res.Header)
	}
	if line, err := in.ReadString('}'); err != nil || !strings.Contains(line, `"welcome"`) {
		t.Errorf("%q, %v", line, err)
	}
	if res, _ := dial("", ""); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("one connection too many: %d %v", res.StatusCode, res.Header)
	}
}
