package push

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/internal/wire"
)

// The suite follows the chapters of the Autobahn suite: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, limits, the handshake and
// compression that is not offered. Each case is a connection of its own to the real hub over TCP and HTTP. There is no echo: a text message that came
// through is answered with an error that names what is wrong with it, and the application's ping with its number.

// wsCase is one conversation: what is sent after the upgrade and hello, cut in pieces of so many bytes, and what comes back.
type wsCase struct {
	name string
	send []byte
	want []string // in order: "pong x", "app n" (the answer to the application's ping n), "error code", "close n"; nothing else comes
}

// frame is a client's frame, with every bit at choice.
type wsFrame struct {
	op       byte
	more     bool // not the last of its message
	rsv      byte // 0 to 7
	unmasked bool
	payload  []byte
	size     int // how the length is written: 0 in its shortest form, else in 7, 16 or 64 bits
	mask     [4]byte
}

func (f wsFrame) bytes() []byte {
	b := []byte{f.op | f.rsv<<4, 0x80}
	if !f.more {
		b[0] |= 0x80
	}
	if f.unmasked {
		b[1] = 0
	}
	n, size := len(f.payload), f.size
	if size == 0 {
		size = 7
		if n > 125 {
			size = 16
		}
		if n >= 1<<16 {
			size = 64
		}
	}
	switch size {
	case 7:
		b[1] |= byte(n)
	case 16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	case 64:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if f.unmasked {
		return append(b, f.payload...)
	}
	b = append(b, f.mask[:]...)
	for i, c := range f.payload {
		b = append(b, c^f.mask[i%4])
	}
	return b
}

// all joins frames.
func all(frames ...wsFrame) (b []byte) {
	for _, f := range frames {
		b = append(b, f.bytes()...)
	}
	return b
}

// ask is the application's ping number n, padded with spaces to size bytes.
func ask(n, size int) []byte {
	b := fmt.Appendf(nil, `{"type":"ping","t":%d}`, n)
	return append(b, bytes.Repeat([]byte(" "), max(0, size-len(b)))...)
}

func text(payload []byte) wsFrame {
	return wsFrame{op: opText, payload: payload, mask: [4]byte{0xa1, 2, 0xff, 4}}
}

// named is a subscribe frame with s as the name of a view that does not exist: it is answered with unknown_view when the text was accepted.
func named(s string) []byte {
	return fmt.Appendf(nil, `{"type":"subscribe","id":"x","view":"%s"}`, s)
}

func closing(code int, reason string) wsFrame {
	return wsFrame{op: opClose, payload: append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...), mask: [4]byte{9, 8, 7, 6}}
}

const conformanceLimit = 1 << 17 // limits.frame in this suite

func conformanceCases() (cases []wsCase) {
	add := func(name string, send []byte, want ...string) {
		cases = append(cases, wsCase{name, send, want})
	}
	framing(add)
	pings(add)
	reserved(add)
	opcodes(add)
	fragmented(add)
	utf8Cases(add)
	closes(add)
	sizeLimits(add)
	return cases
}

type adder func(name string, send []byte, want ...string)

// framing is chapter 1: sizes at every edge of the three forms of a length, in one piece, and each form where another is the shortest.
func framing(add adder) {
	for i, n := range []int{22, 64, 124, 125, 126, 127, 128, 255, 256, 1000, 4095, 4096, 16383, 16384, 65534, 65535, 65536, 65537, 100_000, conformanceLimit} {
		add(fmt.Sprintf("1.1.%d text of %d bytes", i+1, n), all(text(ask(i, n))), fmt.Sprintf("app %d", i))
	}
	for i, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, conformanceLimit} {
		add(fmt.Sprintf("1.2.%d binary of %d bytes", i+1, n), all(wsFrame{op: opBinary, payload: make([]byte, n)}), "error invalid_request", "close 1003")
	}
	for i, c := range []struct{ size, n int }{{16, 0}, {16, 22}, {16, 125}, {64, 0}, {64, 22}, {64, 125}, {64, 126}, {64, 65535}} {
		add(fmt.Sprintf("1.3.%d a length of %d in %d bits", i+1, c.n, c.size), all(wsFrame{op: opText, payload: make([]byte, c.n), size: c.size}),
			"error invalid_request", "close 1002")
	}
	add("1.4.1 a length with its highest bit set", append([]byte{0x81, 0xff, 0x80}, make([]byte, 11)...), "error too_large", "close 1009")
	add("1.4.2 unmasked text", all(wsFrame{op: opText, unmasked: true, payload: ask(1, 0)}), "error invalid_request", "close 1002")
	add("1.4.3 unmasked ping", all(wsFrame{op: opPing, unmasked: true}), "error invalid_request", "close 1002")
	add("1.4.4 unmasked close", all(wsFrame{op: opClose, unmasked: true}), "error invalid_request", "close 1002")
	add("1.4.5 unmasked after a good one", append(all(text(ask(1, 0))), all(wsFrame{op: opText, unmasked: true, payload: ask(2, 0)})...),
		"app 1", "error invalid_request", "close 1002")
	for i, mask := range [][4]byte{{}, {255, 255, 255, 255}, {1, 0, 0, 0}, {0, 0, 0, 1}} {
		add(fmt.Sprintf("1.5.%d mask % x", i+1, mask), all(wsFrame{op: opText, payload: ask(i, 300), mask: mask}), fmt.Sprintf("app %d", i))
	}
	add("1.6.1 an empty text", all(text(nil)), "error invalid_json")
	add("1.6.2 many in one piece", all(text(ask(1, 0)), text(ask(2, 500)), text(ask(3, 0)), text(ask(4, 70_000)), text(ask(5, 0))), "app 1", "app 2", "app 3", "app 4", "app 5")
}

// pings is chapter 2.
func pings(add adder) {
	ping := func(payload string) wsFrame {
		return wsFrame{op: opPing, payload: []byte(payload), mask: [4]byte{3, 1, 4, 1}}
	}
	for i, p := range []string{"", "a", "Hello, world!", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", strings.Repeat("p", 124), strings.Repeat("\xfe", 125)} {
		add(fmt.Sprintf("2.1.%d ping with %d bytes", i+1, len(p)), all(ping(p)), "pong "+p)
	}
	for i, n := range []int{126, 127, 1000, 65536} {
		add(fmt.Sprintf("2.2.%d ping with %d bytes", i+1, n), all(ping(strings.Repeat("x", n))), "error invalid_request", "close 1002")
	}
	pong := wsFrame{op: opPong, payload: []byte("unasked")}
	add("2.3.1 a pong that nobody asked for", all(pong, text(ask(1, 0))), "app 1")
	add("2.3.2 an empty one", all(wsFrame{op: opPong}, text(ask(1, 0))), "app 1")
	add("2.3.3 before a ping", all(pong, ping("x")), "pong x")
	add("2.3.4 too long a pong", all(wsFrame{op: opPong, payload: make([]byte, 126)}), "error invalid_request", "close 1002")
	for i, n := range []int{10, 200} {
		var send []byte
		var want []string
		for j := range n {
			send = append(send, all(ping(fmt.Sprintf("payload %d", j)))...)
			want = append(want, fmt.Sprintf("pong payload %d", j))
		}
		add(fmt.Sprintf("2.4.%d %d pings at once", i+1, n), send, want...)
	}
}

// reserved is chapter 3: each pattern of the three bits, on each kind of frame.
func reserved(add adder) {
	for rsv := byte(1); rsv < 8; rsv++ {
		for _, op := range []byte{opText, opBinary, opContinuation, opPing, opPong, opClose} {
			add(fmt.Sprintf("3.%d reserved bits %03b on opcode %d", rsv, rsv, op), append(all(text(ask(1, 0))), all(wsFrame{op: op, rsv: rsv, payload: ask(2, 0)})...),
				"app 1", "error invalid_request", "close 1002")
		}
	}
}

// opcodes is chapter 4: those that mean nothing, with and without a payload.
func opcodes(add adder) {
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		for i, payload := range []string{"", "payload"} {
			add(fmt.Sprintf("4.%d.%d opcode %d", i+1, op, op), all(text(ask(1, 0)), wsFrame{op: op, payload: []byte(payload)}, wsFrame{op: opPing}),
				"app 1", "error invalid_request", "close 1002")
		}
	}
}

// fragmented is chapter 5: messages in frames, with control frames between them.
func fragmented(add adder) {
	part := func(op byte, b []byte, more bool) wsFrame {
		return wsFrame{op: op, more: more, payload: b, mask: [4]byte{0x55, 0xaa, 0, 1}}
	}
	ping := func(s string) wsFrame { return wsFrame{op: opPing, payload: []byte(s)} }
	msg := ask(1, 60)
	for _, op := range []byte{opPing, opPong, opClose} {
		add(fmt.Sprintf("5.1 a control frame in two parts, opcode %d", op), all(part(op, []byte("a"), true), part(opContinuation, []byte("b"), false)),
			"error invalid_request", "close 1002")
	}
	for _, cut := range []int{0, 1, 30, 59, 60} {
		first, second := msg[:cut], msg[cut:]
		add(fmt.Sprintf("5.2.%d in two parts", cut), all(part(opText, first, true), part(opContinuation, second, false)), "app 1")
		add(fmt.Sprintf("5.3.%d with a ping between", cut), all(part(opText, first, true), ping("in between"), part(opContinuation, second, false)), "pong in between", "app 1")
		add(fmt.Sprintf("5.4.%d with a pong between", cut), all(part(opText, first, true), wsFrame{op: opPong}, part(opContinuation, second, false)), "app 1")
		add(fmt.Sprintf("5.5.%d with a close between", cut), all(part(opText, first, true), closing(1000, ""), part(opContinuation, second, false)), "close 1000")
		add(fmt.Sprintf("5.6.%d in three parts, one of them empty", cut), all(part(opText, first, true), part(opContinuation, nil, true), part(opContinuation, second, false)), "app 1")
	}
	var bits []wsFrame
	var want []string
	for i := range msg {
		op := byte(opContinuation)
		if i == 0 {
			op = opText
		}
		bits = append(bits, part(op, msg[i:i+1], i < len(msg)-1))
		if i%10 == 5 {
			bits = append(bits, ping(fmt.Sprint(i)))
			want = append(want, fmt.Sprintf("pong %d", i))
		}
	}
	add("5.7.1 a part for each byte, and pings", all(bits...), append(want, "app 1")...)
	add("5.7.2 empty parts only", all(part(opText, nil, true), part(opContinuation, nil, true), part(opContinuation, nil, false)), "error invalid_json")
	for _, more := range []bool{false, true} {
		add(fmt.Sprintf("5.8.1 a continuation of nothing, more %t", more), all(part(opContinuation, msg, more)), "error invalid_request", "close 1002")
		add(fmt.Sprintf("5.8.2 after a whole message, more %t", more), all(text(msg), part(opContinuation, msg, more)), "app 1", "error invalid_request", "close 1002")
		add(fmt.Sprintf("5.8.3 after a message in parts, more %t", more), all(part(opText, msg[:9], true), part(opContinuation, msg[9:], false), part(opContinuation, msg, more)),
			"app 1", "error invalid_request", "close 1002")
		add(fmt.Sprintf("5.8.4 a new message inside another, more %t", more), all(part(opText, msg[:9], true), part(opText, msg[9:], more)), "error invalid_request", "close 1002")
		add(fmt.Sprintf("5.8.5 a binary one inside a text, more %t", more), all(part(opText, msg[:9], true), part(opBinary, msg[9:], more)), "error invalid_request", "close 1002")
	}
	add("5.9.1 a binary message in parts", all(part(opBinary, msg[:9], true), ping("x"), part(opContinuation, msg[9:], false)), "pong x", "error invalid_request", "close 1003")
	add("5.9.2 two messages in parts, one behind the other", all(part(opText, msg[:9], true), part(opContinuation, msg[9:], false),
		part(opText, ask(2, 90)[:50], true), part(opContinuation, ask(2, 90)[50:], false)), "app 1", "app 2")
}

// utf8Cases is chapter 6: text that is valid, that is not, and that is found wrong before it is complete.
func utf8Cases(add adder) {
	valid := []string{"κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\u0080", "\u07ff", "\u0800", "\uffff", "\U00010000", "\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufeff",
		"\U0001f600\U0001f680", "日本語", "\ufdd0", "\U0001fffe"}
	for i, s := range valid {
		msg := named(s)
		add(fmt.Sprintf("6.1.%d valid %+q", i+1, s), all(text(msg)), "error unknown_view")
		at := bytes.Index(msg, []byte(s))
		for cut := 1; cut < len(s) && cut < 5; cut++ {
			add(fmt.Sprintf("6.2.%d.%d the same cut inside a character", i+1, cut), all(
				wsFrame{op: opText, more: true, payload: msg[:at+cut]}, wsFrame{op: opPing}, wsFrame{op: opContinuation, payload: msg[at+cut:]}), "pong ", "error unknown_view")
		}
	}
	invalid := []string{"\x80", "\xbf", "\x80\xbf", "\xc0", "\xc1\xbf", "\xc2", "\xe0\x80", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xaf\xbf", "\xed\xbf\xbf",
		"\xed\xa0\x80\xed\xb0\x80", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe", "\xff",
		"\xc0\xaf", "\xc0\x80", "\xe2\x82", "\xf0\x9f\x98", "κόσμε\xed\xa0\x80edited"}
	for i, s := range invalid {
		msg := named(s)
		add(fmt.Sprintf("6.3.%d invalid %+q", i+1, s), all(text(msg)), "error invalid_request", "close 1007")
		half := bytes.Index(msg, []byte(s)) + len(s) + 1
		if half > len(msg) {
			half = len(msg)
		}
		add(fmt.Sprintf("6.4.%d the same, told before the message is complete", i+1), all(wsFrame{op: opText, more: true, payload: msg[:half]}), "error invalid_request", "close 1007")
		whole := text(append(msg, make([]byte, 2000)...)).bytes()
		add(fmt.Sprintf("6.5.%d the same, before the frame is", i+1), whole[:8+half], "error invalid_request", "close 1007")
	}
	add("6.6.1 a message that ends inside a character", all(wsFrame{op: opText, more: true, payload: []byte("a\xe2")}, wsFrame{op: opContinuation, payload: []byte("\x82")}),
		"error invalid_request", "close 1007")
	add("6.6.2 with an empty last part", all(wsFrame{op: opText, more: true, payload: []byte("a\xe2\x82")}, wsFrame{op: opContinuation}), "error invalid_request", "close 1007")
	add("6.6.3 bytes in a binary message are not text", all(wsFrame{op: opBinary, payload: []byte("\xff\xfe")}), "error invalid_request", "close 1003")
}

// closes is chapter 7.
func closes(add adder) {
	add("7.1.1 without a code", all(wsFrame{op: opClose}), "close 1005")
	add("7.1.2 twice", all(wsFrame{op: opClose}, wsFrame{op: opClose}), "close 1005")
	add("7.1.3 a ping after it", all(closing(1000, ""), wsFrame{op: opPing}), "close 1000")
	add("7.1.4 text after it", all(closing(1000, ""), text(ask(1, 0))), "close 1000")
	add("7.1.5 after a message", all(text(ask(1, 0)), closing(1000, "")), "app 1", "close 1000")
	add("7.1.6 after the first part of a message", all(wsFrame{op: opText, more: true, payload: []byte("{")}, closing(1000, "")), "close 1000")
	add("7.1.7 half a code", all(wsFrame{op: opClose, payload: []byte{3}}), "close 1002")
	for i, reason := range []string{"", "bye", "κόσμε", strings.Repeat("r", 123)} {
		add(fmt.Sprintf("7.2.%d a reason of %d bytes", i+1, len(reason)), all(closing(1000, reason)), "close 1000")
	}
	add("7.2.5 a reason that is too long", all(closing(1000, strings.Repeat("r", 124))), "error invalid_request", "close 1002")
	add("7.2.6 a reason that is not UTF-8", all(closing(1000, "\xce\xba\xed\xa0\x80")), "close 1007")
	add("7.2.7 a reason cut inside a character", all(closing(1000, "a\xe2\x82")), "close 1007")
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		add(fmt.Sprintf("7.3.%d a code that may be sent", code), all(closing(code, "x")), fmt.Sprintf("close %d", code))
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65535} {
		add(fmt.Sprintf("7.4.%d a code that may not", code), all(closing(code, "")), "close 1002")
	}
}

// sizeLimits is chapter 9, with the limit of messages from clients instead of how large they may get.
func sizeLimits(add adder) {
	add("9.1.1 one byte beyond the limit", all(text(ask(1, conformanceLimit+1))), "error too_large", "close 1009")
	add("9.1.2 the header alone says so", text(ask(1, conformanceLimit+1)).bytes()[:10], "error too_large", "close 1009")
	add("9.1.3 a binary one", all(wsFrame{op: opBinary, payload: make([]byte, conformanceLimit+1)}), "error too_large", "close 1009")
	add("9.1.4 a length of 2^62", []byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0}, "error too_large", "close 1009")
	msg := ask(1, conformanceLimit)
	for i, size := range []int{1000, 4096, 16384, 65536} {
		var parts []wsFrame
		for at := 0; at < len(msg); at += size {
			op := byte(opContinuation)
			if at == 0 {
				op = opText
			}
			end := min(at+size, len(msg))
			parts = append(parts, wsFrame{op: op, payload: msg[at:end], more: end < len(msg)})
		}
		add(fmt.Sprintf("9.2.%d at the limit, in parts of %d bytes", i+1, size), all(parts...), "app 1")
		parts[len(parts)-1].more = true
		add(fmt.Sprintf("9.3.%d beyond it by one more part", i+1), all(append(parts, wsFrame{op: opContinuation, payload: []byte(" ")})...), "error too_large", "close 1009")
	}
	add("9.4.1 control frames do not count", all(wsFrame{op: opText, more: true, payload: msg[:conformanceLimit-1]}, wsFrame{op: opPing, payload: make([]byte, 125)},
		wsFrame{op: opContinuation, payload: []byte(" ")}), "pong "+string(make([]byte, 125)), "app 1")
}

// wsServer is a hub behind HTTP.
type wsServer struct {
	t    *testing.T
	hub  *Hub
	addr string
}

func newWsServer(t *testing.T) *wsServer {
	t.Helper()
	b := newBench(t, Options{Limits: wire.Limits{FrameBytes: conformanceLimit}}, 0)
	server := httptest.NewServer(http.HandlerFunc(b.hub.ServeLive))
	t.Cleanup(server.Close)
	return &wsServer{t, b.hub, server.Listener.Addr().String()}
}

const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// dial sends a request and reads its answer.
func (s *wsServer) dial(request, header string) (net.Conn, *bufio.Reader, *http.Response) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // a case that waits for ever fails instead
	fmt.Fprintf(c, "%s\r\nHost: x\r\n%s\r\n", request, header)
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return c, in, res
}

// greeted returns a connection that has said hello and been welcomed.
func (s *wsServer) greeted() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	c, in, res := s.dial("GET / HTTP/1.1", upgrade)
	if res.StatusCode != http.StatusSwitchingProtocols {
		s.t.Fatal(res.Status)
	}
	if _, err := c.Write(text([]byte(`{"type":"hello"}`)).bytes()); err != nil {
		s.t.Fatal(err)
	}
	if got, err := nextAnswer(in); err != nil || got != "welcome" {
		s.t.Fatalf("%q, %v", got, err)
	}
	return c, in
}

// nextAnswer reads one frame of the server and says what it is, in the words of wsCase.
func nextAnswer(in *bufio.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return "", err
	}
	if head[0]&0x70 != 0 || head[0]&0x80 == 0 || head[1]&0x80 != 0 {
		return "", fmt.Errorf("a frame that no server may send: % x", head)
	}
	n := int(head[1])
	if wide := map[int]int{126: 2, 127: 8}[n]; wide > 0 {
		var b [8]byte
		if _, err := io.ReadFull(in, b[8-wide:]); err != nil {
			return "", err
		}
		n = int(binary.BigEndian.Uint64(b[:]))
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(in, payload); err != nil {
		return "", err
	}
	switch head[0] & 15 {
	case opPong:
		return "pong " + string(payload), nil
	case opClose:
		if len(payload) == 0 {
			return "close 1005", nil
		}
		return fmt.Sprintf("close %d", binary.BigEndian.Uint16(payload)), nil
	case opText:
		return textAnswer(string(payload)), nil
	}
	return "", fmt.Errorf("opcode %d", head[0]&15)
}

func textAnswer(frame string) string {
	member := func(name string) string {
		_, after, _ := strings.Cut(frame, `"`+name+`":`)
		end := strings.IndexAny(after, ",}")
		return strings.Trim(after[:max(end, 0)], `"`)
	}
	switch kind := member("type"); kind {
	case "pong":
		return "app " + member("t")
	case "error":
		return "error " + member("code")
	default:
		return kind
	}
}

// TestConformance runs all cases, each as a whole and in pieces of some sizes.
func TestConformance(t *testing.T) {
	s := newWsServer(t)
	cases := conformanceCases()
	t.Logf("%d cases", len(cases))
	for i, c := range cases {
		pieces := []int{len(c.send), []int{1, 2, 3, 5, 7, 13, 977, 4096}[i%8]}
		if len(c.send) > 4096 {
			pieces[1] = 977
		}
		for _, piece := range pieces {
			if got := s.run(c, piece); !slices.Equal(got, c.want) {
				t.Errorf("%s, in pieces of %d bytes:\ngot  %.300q\nwant %.300q", c.name, piece, got, c.want)
			}
		}
	}
	for s.hub.Connections() > 0 { // the last of them may still be on its way out
		runtime.Gosched()
	}
	if n := s.hub.partial.Load(); n != 0 {
		t.Errorf("%d bytes of incomplete messages are still counted", n)
	}
}

// run returns what comes back in one case. A conversation that does not close is ended with a ping whose pong shows that nothing else came, and a
// close.
func (s *wsServer) run(c wsCase, piece int) (got []string) {
	conn, in := s.greeted()
	defer conn.Close()
	ends := strings.HasPrefix(c.want[len(c.want)-1], "close")
	send := c.send
	if !ends {
		send = append(slices.Clone(send), all(wsFrame{op: opPing, payload: []byte("the end")}, closing(4711, ""))...)
	}
	for len(send) > 0 {
		n := min(piece, len(send))
		if _, err := conn.Write(send[:n]); err != nil {
			break // the server has closed: what it said can still be read
		}
		send = send[n:]
	}
	for {
		answer, err := nextAnswer(in)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return got
			}
			return append(got, err.Error())
		}
		switch {
		case answer == "goodbye": // the application's word for what the close says
		case !ends && answer == "pong the end":
			ends = true
			if last, err := nextAnswer(in); err != nil || last != "close 4711" {
				got = append(got, fmt.Sprintf("%s %v", last, err))
			}
			return got
		default:
			got = append(got, answer)
		}
		if strings.HasPrefix(answer, "close") {
			_, _ = conn.Write(wsFrame{op: opClose}.bytes())
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			if more, err := io.Copy(io.Discard, in); more > 0 {
				got = append(got, fmt.Sprintf("%d bytes after the close, %v", more, err))
			}
			return got
		}
	}
}

// TestHandshake is the upgrade: what it must and must not accept.
func TestHandshake(t *testing.T) {
	s := newWsServer(t)
	for _, c := range []struct {
		name, request, header string
		status                int
	}{
		{"plain", "GET / HTTP/1.1", upgrade, 101},
		{"names in other case", "GET / HTTP/1.1", strings.ReplaceAll(strings.ToLower(upgrade), "dghlihnhbxbszsbub25jzq==", "dGhlIHNhbXBsZSBub25jZQ=="), 101},
		{"Connection with a list", "GET / HTTP/1.1", strings.Replace(upgrade, "Connection: Upgrade", "Connection: keep-alive, Upgrade", 1), 101},
		{"a query and a path", "GET /v1/live?x=1 HTTP/1.1", upgrade, 101},
		{"POST", "POST / HTTP/1.1", upgrade + "Content-Length: 0\r\n", 405},
		{"HTTP/1.0", "GET / HTTP/1.0", upgrade, 505},
		{"no Upgrade", "GET / HTTP/1.1", "Connection: Upgrade\r\n", 400},
		{"another Upgrade", "GET / HTTP/1.1", strings.Replace(upgrade, "websocket", "h2c", 1), 400},
		{"no Connection", "GET / HTTP/1.1", strings.Replace(upgrade, "Connection: Upgrade\r\n", "", 1), 400},
		{"no key", "GET / HTTP/1.1", strings.Replace(upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 1), 400},
		{"a short key", "GET / HTTP/1.1", strings.Replace(upgrade, "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 1), 400},
		{"no version", "GET / HTTP/1.1", strings.Replace(upgrade, "Sec-WebSocket-Version: 13\r\n", "", 1), 400},
		{"version 8", "GET / HTTP/1.1", strings.Replace(upgrade, "13", "8", 1), 426},
	} {
		if _, _, res := s.dial(c.request, c.header); res.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, res.Status, c.status)
		} else if c.status == 101 && res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Errorf("%s: %v", c.name, res.Header)
		} else if c.status == 426 && res.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%s: %v", c.name, res.Header)
		}
	}
}

// TestCompressionIsNotOffered: whoever asks for it is connected without.
func TestCompressionIsNotOffered(t *testing.T) {
	s := newWsServer(t)
	for _, offer := range []string{
		"permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
		"permessage-deflate; server_max_window_bits=9, permessage-deflate", "x-webkit-deflate-frame", "permessage-bzip2, permessage-deflate",
	} {
		c, in, res := s.dial("GET / HTTP/1.1", upgrade+"Sec-WebSocket-Extensions: "+offer+"\r\n")
		if res.StatusCode != http.StatusSwitchingProtocols || len(res.Header["Sec-Websocket-Extensions"]) > 0 {
			t.Errorf("%s: %s %v", offer, res.Status, res.Header)
			continue
		}
		if _, err := c.Write(text([]byte(`{"type":"hello"}`)).bytes()); err != nil {
			t.Fatal(err)
		}
		if got, err := nextAnswer(in); err != nil || got != "welcome" {
			t.Errorf("%s: %q, %v", offer, got, err)
		}
	}
}

// TestSubprotocol: ours is chosen from whatever list.
func TestSubprotocol(t *testing.T) {
	s := newWsServer(t)
	for offer, want := range map[string]string{"": "", "laaster.v1": "laaster.v1", "a, laaster.v1, b": "laaster.v1", "graphql-ws": "", "laaster.v2": ""} {
		header := upgrade
		if offer != "" {
			header += "Sec-WebSocket-Protocol: " + offer + "\r\n"
		}
		if _, _, res := s.dial("GET / HTTP/1.1", header); res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Protocol") != want {
			t.Errorf("%q: %s %v", offer, res.Status, res.Header)
		}
	}
}
