package chaos

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
)

const upgrade = "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: laaster.v1\r\n\r\n"

// frame returns a client's frame, masked with zeros.
func frame(head byte, payload string) string {
	b := []byte{head}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return string(b) + "\x00\x00\x00\x00" + payload
}

func text(payload string) string { return frame(0x81, payload) }

const hello = `{"type":"hello","client":{"name":"attack","version":"1"}}`

// socket is an upgraded connection.
type socket struct {
	net.Conn
	in *bufio.Reader
}

func openSocket(t *testing.T, addr string) *socket {
	t.Helper()
	s := &socket{Conn: dial(t, addr)}
	s.in = bufio.NewReader(s)
	if _, err := io.WriteString(s, upgrade); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(s.in, nil)
	if err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v %v", r, err)
	}
	return s
}

// next returns the next frame's opcode and payload.
func (s *socket) next() (byte, string, error) {
	var h [2]byte
	if _, err := io.ReadFull(s.in, h[:]); err != nil {
		return 0, "", err
	}
	n := uint64(h[1] & 127)
	if n >= 126 {
		b := make([]byte, map[uint64]int{126: 2, 127: 8}[n])
		if _, err := io.ReadFull(s.in, b); err != nil {
			return 0, "", err
		}
		n = 0
		for _, c := range b {
			n = n<<8 | uint64(c)
		}
	}
	b := make([]byte, n)
	_, err := io.ReadFull(s.in, b)
	return h[0] & 15, string(b), err
}

// closing returns the close code that the server sends, and the texts before it.
func (s *socket) closing(t *testing.T) (code int, texts string) {
	t.Helper()
	for {
		op, payload, err := s.next()
		if err != nil {
			return 0, texts + err.Error()
		}
		if op == 8 && len(payload) >= 2 {
			return int(binary.BigEndian.Uint16([]byte(payload))), texts
		}
		texts += payload + "\n"
	}
}

// TestMalformedFrames breaks RFC 6455 and the protocol in every way: each ends that one connection with the code that says why.
func TestMalformedFrames(t *testing.T) {
	s, addr := attacked(t, doorSQL, "limits: {frame: 64KiB}\n")
	for _, c := range []struct {
		name, send string
		code       int
		part       string
	}{
		{"unmasked", "\x81\x02{}", 1002, "masked"},
		{"reserved bit", frame(0xc1, hello), 1002, "reserved"},
		{"unknown opcode", frame(0x83, ""), 1002, "opcode"},
		{"long control frame", frame(0x89, strings.Repeat("x", 126)), 1002, "125"},
		{"control frame in parts", frame(0x09, "x"), 1002, "fragments"},
		{"continuation of nothing", frame(0x80, "x"), 1002, "continuation"},
		{"message in a message", frame(0x01, "{") + frame(0x81, "}"), 1002, "fragmented"},
		{"length not shortest", "\x81\xfe\x00\x05\x00\x00\x00\x00hello", 1002, "shortest"},
		{"too big", text(hello) + text(strings.Repeat("x", 70_000)), 1009, "too_large"},
		{"announced too big", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1009, "too_large"},
		{"too big in parts", frame(0x01, strings.Repeat("x", 40_000)) + frame(0x00, strings.Repeat("x", 40_000)), 1009, "too_large"},
		{"empty parts without end", frame(0x01, "") + strings.Repeat(frame(0x00, ""), 10_000) + frame(0x80, hello) + frame(0x88, "\x03\xe8"), 1000, "welcome"},
		{"not UTF-8", text("\xff\xfe"), 1007, "UTF-8"},
		{"binary", frame(0x82, hello), 1003, "text"},
		{"not JSON", text("{"), 1008, "invalid"},
		{"not hello", text(`{"type":"ping","t":1}`), 1008, "hello"},
		{"deep", text(`{"type":"hello","x":` + strings.Repeat("[", 30_000)), 1008, ""},
		{"close code of nobody", text(hello) + frame(0x88, "\x00\x01"), 1002, "welcome"},
		{"close in one byte", text(hello) + frame(0x88, "\x03"), 1002, "welcome"},
		{"close", text(hello) + frame(0x88, "\x03\xe9bye"), 1001, "welcome"},
	} {
		ws := openSocket(t, addr)
		if _, err := io.WriteString(ws, c.send); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if code, texts := ws.closing(t); code != c.code || !strings.Contains(texts, c.part) {
			t.Errorf("%s: closed with %d after %.300q, want %d and %q", c.name, code, texts, c.code, c.part)
		}
		_ = ws.Close()
	}
	for name, request := range map[string]string{
		"no key":         strings.Replace(upgrade, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "", 1),
		"short key":      strings.Replace(upgrade, "AAAAAAAAAAAAAAAAAAAAAA==", "AAAA", 1),
		"old version":    strings.Replace(upgrade, "Version: 13", "Version: 8", 1),
		"no upgrade":     strings.Replace(upgrade, "Upgrade: websocket\r\n", "", 1),
		"foreign page":   strings.Replace(upgrade, "Host: localhost\r\n", "Host: localhost\r\nOrigin: https://evil.example\r\n", 1),
		"rebound name":   strings.Replace(upgrade, "Host: localhost", "Host: evil.example", 1),
		"another method": strings.Replace(upgrade, "GET", "POST", 1),
	} {
		got := raw(t, addr, strings.Replace(request, "Connection: Upgrade", "Connection: Upgrade, close", 1))
		if !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%s: %.200q", name, got)
		}
	}
	stillServes(t, s)
}

// TestFloods: pings, subscriptions and writes as fast as they go, by a client that reads nothing.
func TestFloods(t *testing.T) {
	s, addr := attacked(t, doorSQL, "")
	before := memory(t, s, "VmRSS")
	for name, one := range map[string]string{
		"pings":     frame(0x89, strings.Repeat("p", 125)),
		"app pings": text(`{"type":"ping","t":1}`),
		"errors":    text(`{"type":"subscribe","id":"1","view":"nope"}`),
		"writes":    text(`{"type":"write","id":"1","table":"votes","rows":[{"contestant":"A"}]}`),
		"snapshots": text(`{"type":"subscribe","id":"s","view":"votes"}`) + text(`{"type":"unsubscribe","id":"s"}`),
	} {
		ws := openSocket(t, addr)
		_ = ws.SetDeadline(time.Now().Add(time.Second))
		flood := []byte(strings.Repeat(one, 1000))
		if _, err := io.WriteString(ws, text(hello)); err != nil {
			t.Fatal(err)
		}
		sent := 0
		for range 200 {
			n, err := ws.Write(flood)
			sent += n
			if err != nil {
				break
			}
		}
		t.Logf("%s: %d KiB sent", name, sent>>10)
		_ = ws.Close()
	}
	most(t, s, before, 200)
	stillServes(t, s)
}

// TestSubscriptions: a thousand subscriptions are served on one connection, one more is refused, and so is each that is wrong.
func TestSubscriptions(t *testing.T) {
	s, addr := attacked(t, doorSQL, "")
	ws := openSocket(t, addr)
	var subs strings.Builder
	for i := range 1001 {
		subs.WriteString(text(fmt.Sprintf(`{"type":"subscribe","id":"%d","view":"votes","filter":"points=lt.%d"}`, i, i)))
	}
	g := run.New(t.Context())
	g.Go("subscriber", func(context.Context) error {
		_, err := io.WriteString(ws, text(hello)+subs.String())
		return err
	})
	snapshots, refused := 0, 0
	for snapshots+refused < 1001 {
		op, payload, err := ws.next()
		if err != nil {
			t.Fatalf("after %d snapshots: %v", snapshots, err)
		}
		if op == 1 && strings.Contains(payload, `"type":"snapshot"`) {
			snapshots++
		}
		if op == 1 && strings.Contains(payload, `"too_many"`) {
			refused++
		}
	}
	if err := g.Wait(); err != nil || snapshots != 1000 || refused != 1 {
		t.Errorf("%d snapshots, %d refused, %v", snapshots, refused, err)
	}
	stillServes(t, s)
	for {
		op, payload, err := ws.next()
		if err != nil {
			t.Fatal(err)
		}
		if op == 1 && strings.Contains(payload, `"type":"epoch"`) {
			var f struct{ Changes map[string]json.RawMessage }
			if err := json.Unmarshal([]byte(payload), &f); err != nil || len(f.Changes) != 998 { // points=1 is not below 0 or 1
				t.Errorf("one vote changed %d subscriptions, %v", len(f.Changes), err)
			}
			return
		}
	}
}

// TestLiveReaderThatDoesNotRead: a fast writer runs while live clients read nothing; others get every vote, and memory is bounded.
func TestLiveReaderThatDoesNotRead(t *testing.T) {
	s, addr := attacked(t, doorSQL, "")
	for i := range 40 {
		ws := openSocket(t, addr)
		hello := fmt.Sprintf(`{"type":"hello","subscribe":[{"id":"a","view":"votes","filter":"points=lte.%d"},{"id":"b","view":"tally"}]}`, 1+i%12)
		if _, err := io.WriteString(ws, text(hello)); err != nil {
			t.Fatal(err)
		}
	}
	sse := dial(t, addr)
	if _, err := io.WriteString(sse, "GET /v1/views/votes HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	row := `{"contestant":"B","extra":"` + strings.Repeat("x", 100) + `"}`
	body := "[" + strings.Repeat(row+",", 499) + row + "]"
	for range 100 {
		r, err := http.Post(s.URL+"/v1/tables/votes", "application/json", strings.NewReader(body))
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r, err)
		}
		_ = r.Body.Close()
	}
	most(t, s, 0, 350) // 50,000 rows of about 200 bytes in the engine and in the view, the ring, frames
	if rows := get[struct{ Votes int }](t, s.URL+"/v1/views/tally"); len(rows) != 1 || rows[0].Votes != 50_000 {
		t.Errorf("%+v", rows)
	}
}

// TestFilterBombs: what a filter may cost is bounded.
func TestFilterBombs(t *testing.T) {
	s, _ := attacked(t, doorSQL, "")
	row := `{"contestant":"C","extra":"` + strings.Repeat("ab", 50) + `"}`
	for range 2 {
		r, err := http.Post(s.URL+"/v1/tables/votes", "application/json", strings.NewReader("["+strings.Repeat(row+",", 9999)+row+"]"))
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r, err)
		}
		_ = r.Body.Close()
	}
	for name, q := range map[string]string{
		"many terms":     strings.TrimSuffix(strings.Repeat("contestant=neq.A&", 100), "&"),
		"too many terms": strings.TrimSuffix(strings.Repeat("contestant=neq.A&", 101), "&"),
		"too long":       "contestant=eq." + strings.Repeat("x", 9<<10),
		"deep":           "and=(" + strings.Repeat("or(", 17) + "contestant.eq.A" + strings.Repeat(")", 17) + ")",
		"deepest":        "and=" + strings.Repeat("(", 4000) + strings.Repeat(")", 4000),
		"like":           "contestant=like." + strings.Repeat("%25a", 500),
		"like of one":    "contestant=like." + strings.Repeat("*C", 900),
		"regex":          "contestant=match." + url.QueryEscape("(a+)+$"),
		"long list":      "points=in.(" + strings.TrimSuffix(strings.Repeat("1,", 1001), ",") + ")",
		"order by all":   "order=" + strings.TrimSuffix(strings.Repeat("extra.desc,", 500), ","),
	} {
		began := time.Now()
		r, err := http.Get(s.URL + "/v1/views/votes?limit=10&" + q)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		took := time.Since(began)
		if err != nil || r.StatusCode >= 500 || took > 10*time.Second {
			t.Errorf("%s: %d after %v: %v %.200s", name, r.StatusCode, took, err, b)
		}
		t.Logf("%s: %d after %v: %.100s", name, r.StatusCode, took, b)
	}
	before := memory(t, s, "VmHWM")
	g := run.New(t.Context())
	for range 20 {
		g.Go("sorting reader", func(context.Context) error {
			r, err := http.Get(s.URL + "/v1/views/votes?order=points.desc,extra")
			if err != nil {
				return err
			}
			defer r.Body.Close()
			n, err := io.Copy(io.Discard, r.Body)
			if err == nil && r.StatusCode == http.StatusOK && n < 1e6 {
				err = fmt.Errorf("%d bytes", n)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	most(t, s, before, 300) // each of them sorts the keys of all rows
	for _, id := range []string{"x", "-1", strings.Repeat("9", 5000), "aaaaaaaaaaaaaaaa.0-1", "\xff", "a.b-c,d-e"} {
		q, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v1/views/tally", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Accept", "text/event-stream")
		q.Header.Set("Last-Event-ID", id)
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, _ := io.ReadAtLeast(r.Body, b, 60)
		_ = r.Body.Close()
		if !strings.Contains(string(b[:n]), "snapshot") && !strings.Contains(string(b[:n]), "gap") && r.StatusCode != http.StatusBadRequest {
			t.Errorf("Last-Event-ID %.20q: %d %s", id, r.StatusCode, b[:n])
		}
	}
	stillServes(t, s)
}

// TestClientVanishes: writers leave in the middle of their request. What was sent whole counts once, the rest not at all.
func TestClientVanishes(t *testing.T) {
	s, addr := attacked(t, doorSQL, "")
	const whole, half = 60, 60
	one := `[{"contestant":"A"},{"contestant":"B"}]`
	for i := range whole + half {
		c := dial(t, addr)
		body := one
		if i >= whole {
			body = one[:len(one)-1]
		}
		if _, err := fmt.Fprintf(c, "POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(one), body); err != nil {
			t.Fatal(err)
		}
		if i < whole { // the answer's first byte: the write is done
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.(*net.TCPConn).SetLinger(0) // reset
		_ = c.Close()
	}
	rows := get[struct{ Votes int }](t, s.URL+"/v1/views/tally?contestant=eq.A")
	if len(rows) != 1 || rows[0].Votes != whole {
		t.Errorf("%+v, want %d", rows, whole)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}
