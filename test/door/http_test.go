package door

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHTTPAttacks are those that need nothing but a connection.
func TestHTTPAttacks(t *testing.T) {
	x := startVictim(t, openSQL, quick, nil)
	under(t, x, []attack{
		{name: "half headers", workers: 8, rounds: 2, round: dribble("GET /v1/views/tally HTTP/1.1\r\nHost: localhost\r\nX-", "a")},
		{name: "half bodies", workers: 8, rounds: 2, round: dribble("POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8000000\r\n\r\n[", " ")},
		{name: "half chunks", workers: 8, rounds: 2,
			round: dribble("POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n7000\r\n[", " ")},
		{name: "connections that come and go", workers: 4, rounds: 100, pause: 5 * time.Millisecond, round: comeAndGo},
		{name: "connections that say nothing", workers: 4, rounds: 1, round: dribble("", "")},
		{name: "readers that do not read", workers: 2, rounds: 1, prepare: func(x *victim) error { return manyLines(x, 8) }, round: doNotRead},
		{name: "pipelined requests", workers: 2, rounds: 2, pause: 50 * time.Millisecond, round: pipelined},
		{name: "lengths and numbers", workers: 2, rounds: 1, pause: 100 * time.Millisecond, round: hugeLengths},
		{name: "JSON bombs", workers: 1, rounds: 2, pause: 200 * time.Millisecond, round: jsonBombs},
		{name: "inflation", workers: 2, rounds: 2, pause: 100 * time.Millisecond, round: inflation},
		{name: "smuggled requests", workers: 1, rounds: 1, pause: 100 * time.Millisecond, round: smuggle},
		{name: "paths", workers: 1, rounds: 1, pause: 100 * time.Millisecond, round: pathTricks},
		{name: "filters", workers: 1, rounds: 1, pause: 100 * time.Millisecond, round: filterTricks},
		{name: "tokens in addresses", workers: 1, rounds: 1, pause: 100 * time.Millisecond, round: tokensInAddresses},
	})
}

// dribble holds 30 connections that begin so and go on byte by byte. All are cut in time.
func dribble(begin, more string) func(*victim) error {
	return func(x *victim) error {
		var conns []net.Conn
		defer func() {
			for _, c := range conns {
				_ = c.Close()
			}
		}()
		for range 30 {
			c, err := x.dial()
			if err != nil {
				return err
			}
			conns = append(conns, c)
			if _, err := io.WriteString(c, begin); err != nil {
				return err
			}
		}
		if begin == "" {
			wait(time.Second) // the header's time begins with its first byte, or with the connection
		}
		for range 20 {
			wait(100 * time.Millisecond)
			for _, c := range conns {
				_, _ = io.WriteString(c, more) // some are cut already
			}
		}
		for _, c := range conns {
			b, err := io.ReadAll(c)
			if late, ok := err.(net.Error); ok && late.Timeout() {
				return fmt.Errorf("a connection that sends %q byte by byte is still open", begin)
			}
			if len(b) > 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 408")) && !bytes.HasPrefix(b, []byte("HTTP/1.1 400")) {
				return fmt.Errorf("%q is answered %.100q", begin, b)
			}
			x.felt.Add(1)
		}
		return nil
	}
}

func comeAndGo(x *victim) error {
	for range 10 {
		c, err := x.dial()
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, "GET / HT")
		_ = c.Close()
		x.felt.Add(1)
	}
	return nil
}

// manyLines fills the view that readers do not read with so many MB of JSON: 8 are more than the kernel keeps for a connection.
func manyLines(x *victim, mb int) error {
	row := strings.Repeat("x", 1000)
	for i := range mb {
		var b strings.Builder
		for n := range 1000 {
			fmt.Fprintf(&b, `{"n":%d,"text":"%s"}`+"\n", i*1000+n, row)
		}
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: x.tls.Clone(), DisableKeepAlives: true}}
		for tries := 0; ; tries++ {
			r, err := c.Post(x.URL+"/v1/tables/lines", "application/x-ndjson", strings.NewReader(b.String()))
			if err != nil {
				return err
			}
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				break
			}
			after, err := strconv.Atoi(r.Header.Get("Retry-After"))
			if err != nil || r.StatusCode != http.StatusTooManyRequests || tries == 10 {
				return fmt.Errorf("filling: %s", r.Status)
			}
			wait(time.Duration(after) * time.Second) // the rates of what is measured hold here, too
		}
	}
	return nil
}

// doNotRead asks for megabytes on many connections and takes none until the server has had enough.
func doNotRead(x *victim) error {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range 5 {
		c, err := x.dial()
		if err != nil {
			return err
		}
		conns = append(conns, c)
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		accept := []string{"application/json", "text/csv", "text/event-stream"}[i%3]
		if _, err := fmt.Fprintf(c, "GET /v1/views/lines HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: %s\r\n\r\n", accept); err != nil {
			return err
		}
	}
	wait(4 * time.Second)
	for i, c := range conns {
		if i%3 == 2 {
			continue // a stream has half a minute
		}
		n, err := io.Copy(io.Discard, c)
		if late, ok := err.(net.Error); ok && late.Timeout() {
			return fmt.Errorf("who does not read is not cut")
		}
		if n == 0 || n > 15<<19 {
			return fmt.Errorf("%d bytes came to one who did not read for 4 s: %v", n, err)
		}
		x.felt.Add(1)
	}
	return nil
}

// pipelined sends a thousand requests at once and reads the answers: they come one after the other.
func pipelined(x *victim) error {
	one := "GET /v1/views/tally HTTP/1.1\r\nHost: localhost\r\n\r\n"
	got, err := x.raw(strings.Repeat(one, 999) + strings.Replace(one, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
	if err == nil && strings.Count(got, "HTTP/1.1 200") != 1000 {
		err = fmt.Errorf("%d of 1000 requests in a row are answered", strings.Count(got, "HTTP/1.1 200"))
	}
	return err
}

func hugeLengths(x *victim) error {
	post := "POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
	for _, c := range []struct {
		send string
		want []string
	}{
		{post + "Content-Length: 9223372036854775807\r\n\r\n{", []string{"413"}},
		{post + "Content-Length: 9223372036854775808\r\n\r\n{", []string{"400"}},
		{post + "Content-Length: 999999999999999999999999999\r\n\r\n{", []string{"400"}},
		{post + "Content-Length: -1\r\n\r\n{", []string{"400"}},
		{post + "Content-Length: 0x10\r\n\r\n{", []string{"400"}},
		{post + "Content-Length: +5\r\n\r\n{", []string{"400"}},
		{post + "Content-Length: 1_0\r\n\r\n{", []string{"400"}},
		{post + "Content-Length:\r\n\r\n{", []string{"400"}},
		{post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{", []string{"408", "413"}},
		{post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{", []string{"400"}},
		{post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n{", []string{"400"}},
		{post + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 1<<16) + "\r\n{", []string{"400"}},
		{post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 3000)+"\r\n \r\n", 2000), []string{"400"}}, // more about chunks than in them
		{"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: "+strings.Repeat("y", 1000)+"\r\n", 100) + "\r\n", []string{"431"}},
		{"GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 1<<20), []string{"431"}},
		{"GET /" + strings.Repeat("y", 60<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", []string{"431"}},
		{"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + strings.Repeat("a:\r\n", 3000) + "\r\n", []string{"404", "431"}},
		{"GET /v1/views/tally?limit=99999999999999999999 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", []string{"400"}},
		{"GET /v1/views/tally?limit=1&offset=9223372036854775807 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", []string{"200", "400"}},
		{"GET /v1/views/tally?offset=-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", []string{"400"}},
		{"GET /v1/views/tally?_wait=9999999999999 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", []string{"400"}},
		{strings.Repeat("\x00\xff", 1000) + "\r\n\r\n", []string{"400"}},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 1000), []string{"400", "505", "403", "404", ""}}, // HTTP/2 without TLS is not spoken
	} {
		if err := x.answers(c.send, c.want...); err != nil {
			return err
		}
	}
	return nil
}

// jsonBombs are small and want to become large, or deep.
func jsonBombs(x *victim) error {
	for _, body := range []string{
		`{"contestant":"A","extra":` + strings.Repeat("[", 200_000),
		`{"contestant":"A","extra":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + "}",
		strings.Repeat("[", 1_000_000),
		"[" + strings.Repeat("0,", 90_000) + "0]",
		"[" + strings.Repeat(`{"contestant":"Z","extra":1e30000},`, 300) + "0]",
		`{"contestant":"A","extra":` + strings.Repeat("9", 1<<18) + `}`,
		`{"contestant":"A","extra":1e999999999}`,
		`{"contestant":"Z","extra":{` + strings.Repeat(`"a":1,`, 60_000) + `"a":1}}`,
		`{` + strings.Repeat(`"contestant":"Z",`, 10_000) + `"contestant":"Z"}`,
		`{"contestant":"` + strings.Repeat(`\ud800`, 50_000) + `"}`,
		`{"contestant":"A","` + strings.Repeat("x", 1<<20) + `":1}`,
	} {
		status, text, err := x.call("POST", "/v1/tables/votes", body)
		if err != nil {
			return err
		}
		if status < 400 || status >= 500 || len(text) > 1100<<10 {
			return fmt.Errorf("%.60q is answered %d with %d bytes: %.200s", body, status, len(text), text)
		}
	}
	return nil
}

// bomb is 64 MiB of spaces as 64 KiB of gzip.
var bomb = sync.OnceValue(func() string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 64<<20))
	_ = z.Close()
	return b.String()
})

// inflation sends what would become large: nothing is inflated, over HTTP as over a WebSocket.
func inflation(x *victim) error {
	b := bomb()
	for _, coding := range []string{"gzip", "GZIP", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"} {
		text := fmt.Sprintf("POST /v1/tables/votes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s",
			coding, len(b), b)
		if err := x.answers(text, "415"); err != nil {
			return err
		}
	}
	got, err := x.raw("GET /v1/views/tally HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: gzip, br\r\n\r\n")
	if err == nil && strings.Contains(strings.ToLower(got), "content-encoding") {
		err = fmt.Errorf("an answer is compressed: %.200q", got)
	}
	return err
}

// smuggle sends requests whose end two readers see at two places. Whatever is behind the first end is not taken for a request.
func smuggle(x *victim) error {
	inner := "POST /v1/tables/traps HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n" + `{"id":%d}`
	post := "POST /v1/tables/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for i, head := range []string{
		"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Content-Length: 5\r\nContent-Length: %d\r\n\r\n{}   ",
		"Content-Length: %d\r\nContent-Length: 5\r\n\r\n{}   ",
		"Content-Length: 5, %d\r\n\r\n{}   ",
		"Content-Length : %d\r\n\r\n",
		"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked, identity\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: identity, chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding:\tchunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding:\x0bchunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"X: y\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"X: y\rTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nX: %d\r\n\r\n0\r\nA: b\r\n\r\n",
		"Transfer-Encoding: chunked\r\nX: %d\r\n\r\n0\n\n",
		"Transfer-Encoding: chunked\r\nX: %d\r\n\r\n00000\r\n\r\n",
	} {
		hidden := fmt.Sprintf(inner, i)
		if err := x.sent(post + fmt.Sprintf(head, len(hidden)+5) + hidden); err != nil {
			return fmt.Errorf("%q: %w", head, err)
		}
	}
	if err := x.sent(strings.Replace(post, "1.1", "1.0", 1) + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + fmt.Sprintf(inner, 99)); err != nil {
		return err
	}
	text, err := x.good.once("GET", "/v1/views/traps", "")
	if err == nil && strings.TrimSpace(text) != "[]" {
		err = fmt.Errorf("a request inside of another one was carried out: %s", text)
	}
	return err
}

// pathTricks asks for a table that nobody may read, by every way to write its name.
func pathTricks(x *victim) error {
	for _, path := range []string{"/v1/views/hidden", "/v1/views/hidden/", "/v1/views//hidden", "//v1/views/hidden", "/v1/./views/hidden", "/v1/views/./hidden", "/v1/views/tally/../hidden",
		"/v1/views/%68idden", "/v1/views/hidden%00", "/v1/views/hidden%20", "/v1/views/HIDDEN", "/v1/views/hidden;a=b", "/v1/views/hidden?", "/v1/views/%2e%2e/views/hidden",
		"/v1/views/tally%2f..%2fhidden", "/v1/views/tally%2Fhidden", "/v1/views/hidden%ff", "/v1/views/\"hidden\"", "/v1/views/public.hidden", "/v1/views/hidden,tally", "/v1/views/*",
		"/V1/views/hidden", "/v1/Views/hidden", "/v1/tables/hidden", "/v1/views/hidden#x", "http://localhost/v1/views/hidden", "/v1/views/laaster.audit", "/v1/views/laaster.rejected",
		"/v1/views/..%5chidden", "/v1/views/%252e%252e/hidden", "/v1/views/hidden%0d%0aX: y", "*", "v1/views/hidden", "/v1\\views\\hidden", "/v1/views/ｈidden"} {
		for _, method := range []string{"GET", "HEAD", "get", "OPTIONS", "PATCH", "DELETE", "POST", "PUT", "TRACE"} {
			text := method + " " + path + " HTTP/1.1\r\nHost: " + x.addr + "\r\nConnection: close\r\nX-Http-Method-Override: GET\r\nX-Original-Url: /v1/views/tally\r\nX-Rewrite-Url: /v1/views/tally\r\n\r\n"
			got, err := x.raw(text)
			if err != nil {
				return err
			}
			if len(got) < 12 || got[9:12] == "200" || got[9] == '5' && got[9:12] != "505" {
				return fmt.Errorf("%s %s is answered %.200q", method, path, got)
			}
			if head, _, _ := strings.Cut(got, "\r\n\r\n"); strings.Contains(head, "\r\nX:") || strings.Contains(head, "Location: //") {
				return fmt.Errorf("%s %s: %q", method, path, head)
			}
		}
	}
	return nil
}

// filterTricks writes what other systems would take for SQL, or for more filters than one: each is refused or finds nothing it should not.
func filterTricks(x *victim) error {
	for _, filter := range []string{"contestant=eq.A' OR '1'='1", "contestant=eq.A'; DROP TABLE votes; --", "contestant=eq.\"", "contestant=in.(A,B", "contestant=in.((A))", "contestant=in.()",
		"or=(contestant.eq.A,hidden.id.eq.1)", "or=" + strings.Repeat("(or", 5000), "and=(" + strings.Repeat("not.and=(", 2000), "contestant=like." + strings.Repeat("%25a", 3000), "contestant=match.(a+)+$",
		"contestant=eq.A&contestant=eq.B&contestant=neq.A", "select=contestant,hidden(secret)", "select=*,hidden(*)", "select=secret", "select=contestant::text", "select=count()",
		"order=contestant.desc;select secret from hidden", "order=(select secret from hidden)", "order=secret", "secret=eq.x", "hidden.secret=eq.x", "contestant=eq.A%00", "contestant=eq.%ff",
		"votes=gt.1 OR 1=1", "votes=gt.(select count(*) from hidden)", "votes=eq.1e999999999", "contestant=fts.x", "contestant->secret=eq.x", "limit=1;drop", "_at=0", "_role=admin", "_subject=x",
		"contestant=is.null&or=(contestant.is.null,contestant.not.is.null)", "not.or=(contestant.eq.A)", "=eq.1", "&&&=&=", "contestant", "contestant=", "contestant=eq", "contestant=not.not.not.eq.A"} {
		status, text, err := x.call("GET", "/v1/views/tally?"+url.PathEscape(strings.ReplaceAll(filter, "%", "%25")), "")
		if err == nil && strings.Contains(filter, "&") {
			status, text, err = x.call("GET", "/v1/views/tally?"+strings.ReplaceAll(filter, " ", "%20"), "")
		}
		if err != nil {
			return err
		}
		if status >= 500 && status != http.StatusNotImplemented || strings.Contains(text, "secret\":") {
			return fmt.Errorf("%.100s is answered %d %.200s", filter, status, text)
		}
	}
	return nil
}

// tokensInAddresses are refused before anything else, and not repeated.
func tokensInAddresses(x *victim) error {
	for _, query := range []string{"access_token=s3cret", "token=s3cret", "id_token=s3cret", "x=eyJhbGciOiJFZERTQSJ9.s3cret.c2ln", "contestant=eq.A&%74oken=s3cret"} {
		for _, path := range []string{"/v1/views/tally?", "/v1/live?", "/v1/tables/votes?"} {
			status, text, err := x.call("GET", path+query, "")
			if err != nil {
				return err
			}
			if status != http.StatusBadRequest && status != http.StatusMethodNotAllowed || strings.Contains(text, "s3cret") {
				return fmt.Errorf("%s%s is answered %d %s", path, query, status, text)
			}
		}
	}
	if strings.Contains(x.Log(), "s3cret") {
		return fmt.Errorf("the server's log has a token of an address")
	}
	return nil
}
