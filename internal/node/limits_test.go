package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/wire"
)

const limitsSQL = `CREATE TABLE votes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), a text NOT NULL) WITH (append_only, rate = '1/h per subject', burst = 3);
CREATE TABLE notes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), a text NOT NULL);
CREATE TABLE typing (room text, who text DEFAULT auth_subject(), PRIMARY KEY (room, who)) WITH (channel, ttl = '1 hour');
CREATE ROLE member;
GRANT SELECT, INSERT ON votes, typing TO anon, member;
GRANT ALL ON notes TO anon, member;
`

// crowd is the clients of a node.
type crowd struct {
	*life
	live []net.Conn
}

// end closes what is open: the node would wait for clients to say goodbye.
func (c *crowd) end() {
	for _, conn := range c.live {
		_ = conn.Close()
	}
	c.life.end()
}

// guest is a client at an address of its own, with a token or without.
type guest struct {
	t     *testing.T
	l     *crowd
	from  string
	token string
	http  *http.Client
}

func (l *crowd) guest(from, token string) *guest {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return d.DialContext(ctx, network, addr)
	}}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &guest{l.t, l, from, token, &http.Client{Transport: tr}}
}

// call returns the status and, of a problem, code and what is to blame.
func (g *guest) call(method, path, body string) (status int, problem wire.Problem, retry string) {
	g.t.Helper()
	q, err := http.NewRequestWithContext(g.t.Context(), method, g.l.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if g.token != "" {
		q.Header.Set("Authorization", "Bearer "+g.token)
	}
	r, err := g.http.Do(q)
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if r.StatusCode >= 400 {
		if err := json.Unmarshal(b, &problem); err != nil {
			g.t.Fatalf("%d %s", r.StatusCode, b)
		}
	}
	return r.StatusCode, problem, r.Header.Get("Retry-After")
}

// gets expects statuses of one request after the other.
func (g *guest) gets(what, method, path, body string, statuses ...int) {
	g.t.Helper()
	for i, want := range statuses {
		status, p, retry := g.call(method, path, body)
		if status != want {
			g.t.Fatalf("%s: number %d is answered %d %s: %s", what, i+1, status, p.Code, p.Detail)
		}
		if status == http.StatusTooManyRequests && (p.Code != wire.RateLimited || p.RetryAfterMS <= 0 || retry == "" || p.Hint == "" || p.Detail == "" || p.Request == "") {
			g.t.Errorf("%s: %+v, Retry-After %q", what, p, retry)
		}
	}
}

// dial connects and says hello; the first frame that comes back is returned.
func (g *guest) dial(subscribe string) (*screen, string) {
	g.t.Helper()
	d := ws.Dialer{Protocols: []string{"laaster.v1"}, NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(g.from)}}).DialContext(ctx, network, addr)
	}}
	conn, _, _, err := d.Dial(g.t.Context(), "ws"+strings.TrimPrefix(g.l.url, "http")+"/v1/live")
	if err != nil {
		g.t.Fatal(err)
	}
	g.l.live = append(g.l.live, conn)
	s := &screen{t: g.t, conn: conn, views: map[string]*shown{}}
	token := ""
	if g.token != "" {
		token = `"token":"` + g.token + `",`
	}
	s.send(`{"type":"hello",` + token + `"subscribe":[` + subscribe + `]}`)
	b, err := wsutil.ReadServerText(conn)
	if err != nil {
		g.t.Fatal(err)
	}
	return s, string(b)
}

// ended reads until the server closes.
func (s *screen) ended() (last string) {
	s.t.Helper()
	for {
		b, err := wsutil.ReadServerText(s.conn)
		if err != nil {
			return last
		}
		last = string(b)
	}
}

// issued makes an issuer with a key, and returns its settings and what signs for a subject.
func issued(t *testing.T, dir string) (app.Auth, func(subject string) string) {
	t.Helper()
	signer, err := auth.NewSigner("EdDSA")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.KeySet(nil, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys.json"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	a := app.DefaultSettings().Auth
	a.Issuers = []app.Issuer{{Issuer: "https://issuer.test", Audience: "votes", JWKS: "keys.json"}}
	return a, func(subject string) string {
		now := time.Now().Unix()
		token, err := signer.Sign(map[string]any{"iss": "https://issuer.test", "aud": "votes", "sub": subject, "roles": []string{"member"}, "iat": now, "exp": now + 600})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
}

func metric(l *crowd, name string) (value string) {
	l.t.Helper()
	r, err := http.Get(l.n.AdminURL() + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func repeat(status, n int, then ...int) []int {
	out := make([]int, n, n+len(then))
	for i := range out {
		out[i] = status
	}
	return append(out, then...)
}

// TestRates reaches each rate over the transport that it is about; nobody else notices.
func TestRates(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "memory")
	var token func(string) string
	s.Auth, token = issued(t, dir)
	hourly := func(burst float64) app.Rate { return app.Rate{Count: 1, Per: time.Hour, Burst: burst} }
	s.Limits.Rates = app.Rates{Keys: 1000, Exempt: []string{"127.0.0.9"},
		Address:   app.CallRates{Messages: hourly(12), Connections: hourly(2), Subscriptions: hourly(5), Query: app.Rate{Count: 1, Per: time.Hour, Burst: 2}},
		Principal: app.CallRates{Bytes: app.Rate{Count: 100, Per: time.Hour, Burst: 1000}, Open: 1},
		Table:     app.DataRates{Bytes: app.Rate{Count: 1, Per: time.Second, Burst: 5000}}}
	s.Limits.Abuse = app.Abuse{}
	writeApp(t, dir, limitsSQL)
	l := &crowd{life: start(t, dir, s)}
	defer l.end()

	one, other, near := l.guest("127.0.0.1", ""), l.guest("127.0.0.2", ""), l.guest("127.0.0.9", "")
	ada, bob := l.guest("127.0.0.1", token("ada")), l.guest("127.0.0.1", token("bob"))
	one.gets("the table's rate", "POST", "/v1/tables/votes", `{"a":"x"}`, 200, 200, 200, 429)
	other.gets("of another address", "POST", "/v1/tables/votes", `[{"a":"x"},{"a":"y"},{"a":"z"}]`, 200, 429)
	near.gets("also where addresses are not one caller", "POST", "/v1/tables/votes", `{"a":"x"}`, 200, 200, 200, 429)
	ada.gets("of a subject", "POST", "/v1/tables/votes", `[{"a":"x"},{"a":"y"}]`, 200, 429)
	bob.gets("of another subject", "POST", "/v1/tables/votes", `[{"a":"1"},{"a":"2"},{"a":"3"},{"a":"4"}]`, 422)
	if _, p, _ := bob.call("POST", "/v1/tables/votes", `[{"a":"1"},{"a":"2"},{"a":"3"},{"a":"4"}]`); p.Code != wire.RateLimited && p.Code != wire.TooMany {
		t.Errorf("more rows than the burst: %+v", p)
	}
	if _, text, _ := l.call("GET", "/v1/views/votes?select=a", "", "Accept", "application/x-ndjson"); strings.Count(text, "\n") != 11 {
		t.Errorf("what is refused is written: %s", text)
	}
	one.gets("the address's messages", "POST", "/v1/tables/notes", `{"a":"x"}`, repeat(200, 7, 429)...)
	near.gets("not where addresses are exempt", "POST", "/v1/tables/notes", `{"a":"x"}`, repeat(200, 20)...)
	ada.gets("the subject's bytes", "POST", "/v1/tables/notes", `{"a":"`+strings.Repeat("x", 440)+`"}`, 200, 200, 429)
	bob.gets("not another's", "POST", "/v1/tables/notes", `{"a":"x"}`, 200)
	near.gets("the table's bytes", "POST", "/v1/tables/notes", `{"a":"`+strings.Repeat("x", 2000)+`"}`, 200, 429)
	near.gets("not another table's", "POST", "/v1/tables/typing", `{"room":"a"}`, 200)
	other.gets("reads", "GET", "/v1/views/notes", "", 200, 200, 429)

	a, welcome := other.dial(`{"id":"1","view":"notes"},{"id":"2","view":"typing"}`)
	if !strings.Contains(welcome, `"welcome"`) {
		t.Fatal(welcome)
	}
	for i := 3; i <= 5; i++ {
		a.send(fmt.Sprintf(`{"type":"subscribe","id":"%d","view":"notes"}`, i))
	}
	a.send(`{"type":"subscribe","id":"6","view":"notes"}`)
	if text := a.frame(`"type":"error"`); !strings.Contains(text, `"id":"6"`) || !strings.Contains(text, `"code":"rate_limited"`) || !strings.Contains(text, `"retry_after_ms":3`) {
		t.Error(text)
	}
	for i := range 8 {
		a.send(fmt.Sprintf(`{"type":"write","id":"w%d","table":"notes","rows":[{"a":"x"}]}`, i))
	}
	if text := a.frame(`"type":"error"`); !strings.Contains(text, `"code":"rate_limited"`) || !strings.Contains(text, `"id":"w`) {
		t.Error(text)
	}
	a.send(`{"type":"ping","t":1}`)
	a.frame(`"pong"`)
	if again, text := other.dial(""); !strings.Contains(text, `"welcome"`) {
		t.Error(text)
	} else {
		_ = again.conn.Close()
	}
	_ = a.conn.Close()
	c, text := other.dial("")
	if !strings.Contains(text, `"rate_limited"`) || !strings.Contains(c.ended(), `"goodbye"`) {
		t.Error(text)
	}
	b, text := bob.dial("")
	if !strings.Contains(text, `"welcome"`) {
		t.Error(text)
	}
	if _, text := bob.dial(""); !strings.Contains(text, `as many live connections as one principal may have: 1`) {
		t.Error(text)
	}
	_ = b.conn.Close()
	for deadline := time.Now().Add(10 * time.Second); ; { // until the server has noticed
		if b, text := bob.dial(""); strings.Contains(text, `"welcome"`) {
			_ = b.conn.Close()
			break
		} else if time.Now().After(deadline) {
			t.Fatal(text)
		}
	}
	if v := metric(l, `laaster_limited_total{level="address",measure="messages"}`); v == "" || v == "0" {
		t.Errorf("laaster_limited_total is %q", v)
	}
}

// TestRatesChange deploys another rate.
func TestRatesChange(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(t.TempDir(), "memory")
	writeApp(t, dir, limitsSQL)
	l := &crowd{life: start(t, dir, s)}
	defer l.end()
	one := l.guest("127.0.0.1", "")
	one.gets("three", "POST", "/v1/tables/votes", `{"a":"x"}`, 200, 200, 200, 429)
	l.deploy(strings.Replace(limitsSQL, "1/h per subject', burst = 3", "1/h', burst = 5", 1))
	one.gets("five of all", "POST", "/v1/tables/votes", `{"a":"x"}`, 200, 200, 200, 200, 200, 429)
	l.guest("127.0.0.2", "").gets("and none of others", "POST", "/v1/tables/votes", `{"a":"x"}`, 429)
	l.deploy(strings.Replace(limitsSQL, "rate = '1/h per subject', burst = 3", "priority = 'low'", 1))
	one.gets("no rate", "POST", "/v1/tables/votes", `{"a":"x"}`, repeat(200, 10)...)
}

// TestAbuse has callers who do nothing but harm, each of a kind, beside good ones at the same address: these are always answered.
func TestAbuse(t *testing.T) {
	for name, harm := range map[string]func(bad *guest){
		"tokens": func(bad *guest) {
			bad.token = "eyJhbGciOiJFZERTQSJ9.e30.AAAA"
			bad.call("GET", "/v1/views/notes", "")
		},
		"rows":  func(bad *guest) { bad.call("POST", "/v1/tables/notes", `{"nothing":1}`) },
		"json":  func(bad *guest) { bad.call("POST", "/v1/tables/notes", `{`) },
		"reads": func(bad *guest) { bad.call("GET", "/v1/views/notes?a=like", "") },
		"frames": func(bad *guest) {
			s, text := bad.dial("")
			if strings.Contains(text, `"welcome"`) {
				for range 30 {
					s.send(`{"type":"mischief"}`)
				}
				s.send(`{"type":"ping","t":1}`)
				s.frame(`"`)
			}
			_ = s.conn.Close()
		},
		"tokens in frames": func(bad *guest) {
			bad.token = "eyJhbGciOiJFZERTQSJ9.e30.AAAA"
			s, _ := bad.dial("")
			_ = s.conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
			var token func(string) string
			s.Auth, token = issued(t, dir)
			s.Limits.Rates.Exempt = []string{} // loopback counts like any other address
			s.Limits.Abuse = app.Abuse{Slow: 45, Cut: 50, CutFor: app.Duration(time.Hour)}
			writeApp(t, dir, limitsSQL)
			l := &crowd{life: start(t, dir, s)}
			bad, ada, elsewhere := l.guest("127.0.0.1", ""), l.guest("127.0.0.1", token("ada")), l.guest("127.0.0.2", "")
			listener, welcome := l.guest("127.0.0.1", token("bob")).dial(`{"id":"1","view":"notes"}`)
			if !strings.Contains(welcome, `"welcome"`) {
				t.Fatal(welcome)
			}
			cut := false
			for i := 0; i < 1000 && !cut; i++ {
				harm(bad)
				status, p, _ := l.guest("127.0.0.1", "").call("GET", "/v1/views/notes", "")
				cut = status == http.StatusTooManyRequests && strings.Contains(p.Detail, "was harm")
				if i%5 == 0 {
					ada.gets("a token at the address", "POST", "/v1/tables/notes", `{"a":"x"}`, 200)
					elsewhere.gets("another address", "POST", "/v1/tables/notes", `{"a":"x"}`, 200)
				}
			}
			if !cut {
				t.Fatal("a thousand times, and still answered")
			}
			if status, p, _ := l.guest("127.0.0.1", "eyJhbGciOiJFZERTQSJ9.e30.AAAA").call("GET", "/v1/views/notes", ""); status != http.StatusTooManyRequests {
				t.Errorf("a token that is not genuine is answered %d %s", status, p.Detail)
			}
			if _, text := l.guest("127.0.0.1", "").dial(""); !strings.Contains(text, `"rate_limited"`) {
				t.Error(text)
			}
			ada.gets("after the cut", "POST", "/v1/tables/notes", `{"a":"x"}`, repeat(200, 30)...)
			ada.gets("and reads", "GET", "/v1/views/notes?limit=1", "", repeat(200, 30)...)
			if _, text := ada.dial(""); !strings.Contains(text, `"welcome"`) {
				t.Error(text)
			}
			elsewhere.gets("and elsewhere", "GET", "/v1/views/notes?limit=1", "", repeat(200, 30)...)
			elsewhere.gets("once more", "POST", "/v1/tables/notes", `{"a":"last"}`, 200)
			listener.frame(`"last"`) // who listened goes on
			if v := metric(l, "laaster_cuts_total"); v != "1" {
				t.Errorf("%s cuts", v)
			}
			l.end()
			told := 0
			for _, act := range acts(t, dir, AuditOptions{Settings: s}) {
				if act == "anon cut address 127.0.0.1 done" {
					told++
				}
			}
			if told != 1 {
				t.Errorf("the audit trail tells of %d cuts", told)
			}
		})
	}
}

// TestAbuseOfSubject cuts a subject that does harm with a good token: neither its address nor anybody else there.
func TestAbuseOfSubject(t *testing.T) {
	dir, s := t.TempDir(), settingsFor(filepath.Join(t.TempDir(), "data"), "embedded")
	var token func(string) string
	s.Auth, token = issued(t, dir)
	s.Limits.Rates.Exempt = []string{}
	s.Limits.Abuse = app.Abuse{Slow: 20, Cut: 50, CutFor: app.Duration(time.Hour)}
	writeApp(t, dir, limitsSQL)
	l := &crowd{life: start(t, dir, s)}
	bad, ada, anon := l.guest("127.0.0.1", token("bad")), l.guest("127.0.0.1", token("ada")), l.guest("127.0.0.1", "")
	live, _ := bad.dial("")
	slowed := 0
	for detail, n := "", 0; !strings.Contains(detail, "from this subject was harm"); n++ {
		_, p, _ := bad.call("POST", "/v1/tables/notes", `{"nothing":1}`)
		if detail = p.Detail; strings.Contains(detail, "only a few requests a second") {
			slowed++
		}
		if n == 2000 {
			t.Fatalf("not cut: %+v", p)
		}
	}
	if slowed == 0 {
		t.Error("cut, and not slowed before")
	}
	if _, p, _ := l.guest("127.0.0.3", token("bad")).call("GET", "/v1/views/notes", ""); p.Code != wire.RateLimited {
		t.Errorf("with another token from elsewhere: %+v", p)
	}
	live.send(`{"type":"ping","t":1}`)
	if last := live.ended(); !strings.Contains(last, `"goodbye"`) || !strings.Contains(last, `"rate_limited"`) {
		t.Errorf("its connection ends with %s", last)
	}
	ada.gets("another subject", "POST", "/v1/tables/notes", `{"a":"x"}`, repeat(200, 30)...)
	anon.gets("the address", "POST", "/v1/tables/notes", `{"a":"x"}`, repeat(200, 30)...)
	l.end()
	var told []string
	for _, act := range acts(t, dir, AuditOptions{Settings: s}) {
		if strings.Contains(act, " slow ") || strings.Contains(act, " cut ") {
			told = append(told, act)
		}
	}
	if len(told) != 2 || !strings.Contains(told[0], `slow subject "`) || !strings.Contains(told[1], `cut subject "`) {
		t.Errorf("the audit trail tells of %q", told)
	}
}
