package node

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"laaster/app"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

// encrypted starts a node with a certificate for localhost and 127.0.0.1.
func encrypted(t *testing.T, clientCA *testkit.Authority, change func(*app.Settings)) (*life, *testkit.Authority, string) {
	t.Helper()
	dir := t.TempDir()
	writeApp(t, dir, votesSQL)
	a := testkit.NewAuthority(t)
	a.Write(dir, "server", time.Hour, "localhost", "127.0.0.1")
	s := settingsFor(t.TempDir(), "memory")
	s.TLS.Cert, s.TLS.Key = "server.pem", "server.key"
	if clientCA != nil {
		s.TLS.ClientCA = "clients.pem"
		if err := os.WriteFile(filepath.Join(dir, "clients.pem"), clientCA.PEM, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&s)
	}
	return start(t, dir, s), a, dir
}

// httpOver returns a client of HTTP over TLS; two: HTTP/2.
func httpOver(t *testing.T, c *tls.Config, two bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: two}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func fetch(c *http.Client, method, url, body string, header ...string) (*http.Response, string, error) {
	q, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			q.Host = header[i+1]
			continue
		}
		q.Header.Set(header[i], header[i+1])
	}
	r, err := c.Do(q)
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r, string(b), err
}

// The public listener over TLS: 1.3 alone, both versions of HTTP, streams of events, WebSockets, what browsers are told, and whose pages may call.
func TestTLS(t *testing.T) {
	l, a, _ := encrypted(t, nil, func(s *app.Settings) { s.Origins = []string{"https://vote.example"} })
	defer l.end()
	if !strings.HasPrefix(l.url, "https://") || strings.HasPrefix(l.n.AdminURL(), "https://") {
		t.Errorf("addresses %s, %s", l.url, l.n.AdminURL())
	}
	for _, two := range []bool{false, true} {
		c := httpOver(t, a.Client(), two)
		r, text, err := fetch(c, "POST", l.url+"/v1/tables/votes", `{"contestant":"A"}`)
		if err != nil || r.StatusCode != http.StatusOK || (r.ProtoMajor == 2) != two || r.TLS.Version != tls.VersionTLS13 {
			t.Fatalf("HTTP/2 %v: %v %v %s", two, err, r, text)
		}
		if r.Header.Get("Strict-Transport-Security") != "" {
			t.Error("the name localhost is told to be HTTPS only")
		}
		r, _, err = fetch(c, "GET", l.url+"/v1/views/tally", "", "Host", "vote.example")
		if err != nil || r.StatusCode != http.StatusOK || r.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
			t.Errorf("HTTP/2 %v: %v %v", two, err, r)
		}
		for origin, status := range map[string]int{l.url: 200, strings.Replace(l.url, "https", "http", 1): 200, // both are loopback's
			"https://vote.example": 200, "http://vote.example": 403, "https://vote.example:444": 403, "https://vote.example.evil.example": 403, "null": 403} {
			if r, _, err = fetch(c, "GET", l.url+"/v1/views/tally", "", "Origin", origin); err != nil || r.StatusCode != status {
				t.Errorf("origin %s: %v %v, want %d", origin, err, r, status)
			}
		}
		streamed(t, c, l.url)
	}
	old := a.Client()
	old.MaxVersion = tls.VersionTLS12
	if _, _, err := fetch(httpOver(t, old, false), "GET", l.url+"/v1/views/tally", ""); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	r, _, err := fetch(http.DefaultClient, "GET", strings.Replace(l.url, "https", "http", 1)+"/v1/views/tally", "")
	if err != nil || r.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %v %v", err, r)
	}
	if r, text, err := fetch(httpOver(t, a.Client(), true), "GET", l.url+"/v1/live", "", "Upgrade", "websocket"); err == nil && r.StatusCode == http.StatusOK {
		t.Errorf("a WebSocket over HTTP/2: %v %s", r, text)
	}
}

// streamed reads a stream of events until a change comes.
func streamed(t *testing.T, c *http.Client, url string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), "GET", url+"/v1/views/tally", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Accept", "text/event-stream")
	r, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		switch {
		case strings.HasPrefix(lines.Text(), "event: snapshot"):
			if _, text, err := fetch(c, "POST", url+"/v1/tables/votes", `{"contestant":"A"}`); err != nil {
				t.Fatal(err, text)
			}
		case strings.HasPrefix(lines.Text(), "event: epoch"):
			return
		}
	}
	t.Error("the stream ended without a change")
}

// A WebSocket over TLS gets its snapshot and its changes, and ends with its goodbye.
func TestTLSWebSocket(t *testing.T) {
	l, a, _ := encrypted(t, nil, nil)
	addr := strings.TrimPrefix(l.url, "https://")
	conf := a.Client()
	conf.ServerName = "localhost"
	conf.NextProtos = []string{"http/1.1"}
	d := ws.Dialer{Protocols: []string{wire.Subprotocol}, TLSConfig: conf, Timeout: 10 * time.Second}
	c, buf, _, err := d.Dial(t.Context(), "wss://"+addr+"/v1/live")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	var in io.Reader = c
	if buf != nil {
		in = io.MultiReader(buf, c)
	}
	rw := struct {
		io.Reader
		io.Writer
	}{in, c}
	say := func(text string) {
		t.Helper()
		if err := wsutil.WriteClientText(c, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	await := func(kind string) {
		t.Helper()
		for {
			b, err := wsutil.ReadServerText(rw)
			if err != nil {
				t.Fatalf("waiting for %s: %v", kind, err)
			}
			if strings.Contains(string(b), `"type":"`+kind+`"`) {
				return
			}
		}
	}
	say(`{"type":"hello","subscribe":[{"id":"1","view":"tally"}]}`)
	await("snapshot")
	say(`{"type":"write","id":"w","table":"votes","rows":[{"contestant":"B"}]}`)
	await("epoch")
	g := run.New(t.Context())
	g.Go("end", func(context.Context) error { l.end(); return nil })
	await("goodbye")
	if _, err := wsutil.ReadServerText(rw); !errors.As(err, new(wsutil.ClosedError)) {
		t.Errorf("after goodbye: %v", err)
	}
	_ = c.Close()
	_ = g.Wait()
}

// The admin listener serves whom its authorities vouch for, and the audit trail has the name in the certificate.
func TestAdminCertificates(t *testing.T) {
	clients := testkit.NewAuthority(t)
	l, a, dir := encrypted(t, clients, func(s *app.Settings) { s.TLS.Clients = []string{"spiffe://example.org/operator"} })
	defer l.end()
	admin := l.n.AdminURL()
	with := func(from *testkit.Authority, names ...string) *http.Client {
		c := a.Client()
		if from != nil {
			c.Certificates = from.Client(names...).Certificates
		}
		return httpOver(t, c, false)
	}
	good := with(clients, "spiffe://example.org/operator")
	if r, text, err := fetch(good, "GET", admin+"/readyz", ""); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%v %v %s", err, r, text)
	}
	for name, c := range map[string]*http.Client{"none": with(nil), "another authority's": with(testkit.NewAuthority(t), "spiffe://example.org/operator"),
		"another name": with(clients, "spiffe://example.org/other"), "a longer name": with(clients, "spiffe://example.org/operator/x"),
		"the server's own authority": with(a, "spiffe://example.org/operator")} {
		if r, _, err := fetch(c, "GET", admin+"/readyz", ""); err == nil {
			t.Errorf("certificate %s: %v", name, r)
		}
	}
	for origin, status := range map[string]int{"https://evil.example": 403, "http://localhost:3000": 403, "null": 403, admin: 200} {
		if r, _, err := fetch(good, "GET", admin+"/readyz", "", "Origin", origin); err != nil || r.StatusCode != status {
			t.Errorf("origin %s: %v %v", origin, err, r)
		}
	}
	q := httptest.NewRequest("GET", "/", nil)
	if who := caller(l.n.identify(q).Context()); who != operator {
		t.Errorf("without TLS the caller is %s", who)
	}
	q.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{clients.Client("other.example", "spiffe://example.org/operator").Certificates[0].Leaf}}
	if who := caller(l.n.identify(q).Context()); who != "spiffe://example.org/operator" {
		t.Errorf("the caller is %s", who)
	}
	// Other authorities hold for the next connection.
	next := testkit.NewAuthority(t)
	if err := os.WriteFile(filepath.Join(dir, "clients.pem"), next.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := l.n.certificates.load(); !changed || err != nil {
		// The loop may have been first.
		if k := l.n.certificates.now.Load(); err != nil || string(k.files[2]) != string(next.PEM) {
			t.Fatal(changed, err)
		}
	}
	if _, _, err := fetch(with(clients, "spiffe://example.org/operator"), "GET", admin+"/readyz", ""); err == nil {
		t.Error("an authority that was taken away still counts")
	}
	if r, _, err := fetch(with(next, "spiffe://example.org/operator"), "GET", admin+"/readyz", ""); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("%v %v", err, r)
	}
}

// New files are served from the next handshake on; files that do not belong together leave the old certificate in service and say so.
func TestNewCertificate(t *testing.T) {
	dir := t.TempDir()
	a := testkit.NewAuthority(t)
	a.Write(dir, "server", time.Hour, "one.example")
	c, err := openCertificates(dir, app.TLS{Cert: "server.pem", Key: "server.key"})
	if err != nil {
		t.Fatal(err)
	}
	clock := run.NewManual(time.Now())
	n := &Node{opt: Options{Clock: clock, Logger: slog.New(slog.DiscardHandler)}, certificates: c}
	g := run.New(t.Context())
	g.Go("certificates", n.certificateLoop)
	// look has the loop look at the files once.
	look := func() {
		clock.AwaitSleepers(1)
		clock.Advance(lookAtFiles)
		clock.AwaitSleepers(1)
	}
	served := func(want string) {
		t.Helper()
		conf, err := c.publicConfig().GetConfigForClient(nil)
		if err != nil || conf.Certificates[0].Leaf.DNSNames[0] != want || conf.MinVersion != tls.VersionTLS13 {
			t.Errorf("%v %v, want %s", err, conf.Certificates[0].Leaf.DNSNames, want)
		}
	}
	look()
	served("one.example")
	a.Write(dir, "server", time.Hour, "two.example")
	look()
	served("two.example")
	cert, key := a.Issue(time.Hour, "three.example")
	if err := os.WriteFile(filepath.Join(dir, "server.pem"), cert, 0o600); err != nil { // without its key yet
		t.Fatal(err)
	}
	look()
	served("two.example")
	if d := n.degraded.list(); len(d) != 1 || d[0].What != "tls" {
		t.Errorf("%+v", d)
	}
	if err := os.WriteFile(filepath.Join(dir, "server.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	look()
	served("three.example")
	if d := n.degraded.list(); len(d) != 0 {
		t.Errorf("%+v", d)
	}
	clock.Advance(2 * time.Hour)
	clock.AwaitSleepers(1)
	look()
	if d := n.degraded.list(); len(d) != 1 || d[0].What != "certificate" {
		t.Errorf("%+v", d)
	}
	g.Stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{"server.pem": "no certificate", "server.key": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openCertificates(dir, app.TLS{Cert: "server.pem", Key: "server.key"}); err == nil {
			t.Errorf("%s is taken for one", text)
		}
	}
	if _, err := openCertificates(dir, app.TLS{Cert: "server.pem", Key: "nowhere.key"}); err == nil || !strings.Contains(err.Error(), "nowhere.key") {
		t.Errorf("a missing file: %v", err)
	}
}

// from is a connection of an address.
type from struct {
	net.Conn
	addr string
	sent strings.Builder
}

func (f *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

func (f *from) Write(b []byte) (int, error) { return f.sent.Write(b) }

func (f *from) SetWriteDeadline(time.Time) error { return nil }

func (f *from) Close() error { return nil }

// queue is a listener of connections that are there already.
type queue struct {
	net.Listener
	conns []net.Conn
}

func (q *queue) Accept() (net.Conn, error) {
	if len(q.conns) == 0 {
		return nil, net.ErrClosed
	}
	c := q.conns[0]
	q.conns = q.conns[1:]
	return c, nil
}

// One address has so many connections, others are served meanwhile; who leaves makes room.
func TestSocketsOfAddress(t *testing.T) {
	conns := func(addr string, n int) (out []net.Conn) {
		for i := range n {
			out = append(out, &from{addr: fmt.Sprintf(addr, i+1)})
		}
		return out
	}
	for _, c := range []struct {
		name   string
		conns  []net.Conn
		served int
		answer string
	}{
		{"one address", conns("192.0.2.1:%d", 10), 3, "one address may have"},
		{"IPv4 in IPv6", conns("[::ffff:192.0.2.1]:%d", 10), 3, "one address may have"},
		{"a /64", conns("[2001:db8::%x]:1", 10), 3, "one address may have"},
		{"several networks", conns("[2001:db8:0:%x::1]:1", 8), 8, ""},
		{"several addresses", conns("192.0.2.%d:1", 8), 8, ""},
		{"too many in all", conns("192.0.2.%d:1", 10), 8, "limits.sockets"},
		{"loopback", conns("127.0.0.1:%d", 8), 8, ""},
		{"IPv6 loopback", conns("[::1]:%d", 8), 8, ""},
	} {
		s := newSockets(&queue{conns: c.conns}, 8, run.System{}, observe.NewMetrics())
		s.each = 3
		var open []net.Conn
		for {
			conn, err := s.Accept()
			if err != nil {
				break
			}
			s.count(conn, http.StateNew)
			open = append(open, conn)
		}
		if len(open) != c.served {
			t.Errorf("%s: %d are served, want %d", c.name, len(open), c.served)
		}
		last := c.conns[len(c.conns)-1].(*from).sent.String()
		if (c.answer == "") != (last == "") || !strings.Contains(last, c.answer) {
			t.Errorf("%s: the last is told %q", c.name, last)
		}
		for i, conn := range open {
			s.count(conn, http.StateActive)
			s.count(conn, []http.ConnState{http.StateClosed, http.StateHijacked}[i%2])
		}
		if len(s.mu.by) != 0 || s.open.Load() != 0 {
			t.Errorf("%s: %d addresses and %d connections are left", c.name, len(s.mu.by), s.open.Load())
		}
	}
}

// Tokens in addresses are refused, filters by columns of such a name are not.
func TestTokenInURL(t *testing.T) {
	for query, ok := range map[string]bool{"access_token=secret": false, "token=secret": false, "TOKEN=secret": false, "%74oken=secret": false, "id=eq.1&token=x": false,
		"x=eyJhbGciOiJFZERTQSJ9.e30.c2ln": false, "_ticket=eyJhbGciOiJFZERTQSJ9.e30.c2ln": false, "_ticket=abcdef": true, "token=eq.7": true, "token=not.is.null": true,
		"access_token=in.(a,b)": true, "id=eq.1": true, "select=token": true, "": true} {
		for path, here := range map[string]bool{"/v1/views/tally": true, "/v1/live": true, "/v1/tables/votes": true, "/page.html": false} {
			q := httptest.NewRequest("GET", path+"?"+query, nil)
			if p := tokenInURL(q); (p == nil) != (ok || !here) {
				t.Errorf("%s?%s: %v", path, query, p)
			} else if p != nil && (strings.Contains(p.Error(), "secret") || p.Code != wire.InvalidRequest) {
				t.Errorf("%s?%s: %v", path, query, p)
			}
		}
	}
}

// An address that others reach is served only with TLS and tokens, or when the settings say that it shall be.
func TestOpenAddress(t *testing.T) {
	for _, c := range []struct {
		yaml string
		want string // in the error; "": served
	}{
		{"listen: 0.0.0.0:1", "neither a token issuer nor TLS"},
		{"listen: 0.0.0.0:1\nauth: anonymous", "there is no TLS"},
		{"listen: 0.0.0.0:1\nplain_http: true", "there is no token issuer"},
		{"listen: 0.0.0.0:1\ntls: {cert: a, key: b}", "there is no token issuer"},
		{"listen: 0.0.0.0:1\nauth: anonymous\nplain_http: true", ""},
		{"listen: 0.0.0.0:1\nauth: anonymous\ntls: {cert: a, key: b}", ""},
		{"listen: 0.0.0.0:1\nauth: anonymous\ntls: {cert: a}", "tls.key"},
		{"admin: 0.0.0.0:1\nauth: anonymous\ntls: {cert: a, key: b}", "admin: 0.0.0.0:1 is not a loopback address"},
		{"admin: 0.0.0.0:1\ntls: {cert: a, key: b, client_ca: c}", ""},
		{"tls: {client_ca: c}", "needs tls.cert"},
		{"tls: {cert: a, key: b, clients: [x]}", "needs tls.client_ca"},
		{"tls: {cert: a, key: b, client_ca: c, clients: ['']}", "tls.clients[0]"},
		{"tls: {cert: a, key: b, hsts: 30000h}", "tls.hsts"},
		{"limits: {address_sockets: 0}", "limits.address_sockets"},
	} {
		_, err := app.ParseSettings("laaster.yaml", []byte(c.yaml))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.yaml, err, c.want)
		}
	}
}
