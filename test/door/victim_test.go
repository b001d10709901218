package door

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// openSQL is the app of the attacks that need no token. Nobody may have hidden, and only a request that was smuggled past the one who sent it writes traps.
const openSQL = `CREATE TABLE votes (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), contestant text NOT NULL CHECK (contestant IN ('A', 'B', 'C')), extra jsonb
) WITH (append_only);
CREATE TABLE rooms (name text PRIMARY KEY, size integer, note text);
CREATE TABLE lines (n bigint PRIMARY KEY, text text) WITH (append_only);
CREATE TABLE traps (id integer PRIMARY KEY);
CREATE TABLE hidden (id integer PRIMARY KEY, secret text);
CREATE MATERIALIZED VIEW tally AS SELECT contestant, count(*) AS votes FROM votes GROUP BY contestant;
GRANT INSERT ON votes TO anon;
GRANT ALL ON rooms TO anon;
GRANT ALL ON lines TO anon;
GRANT ALL ON traps TO anon;
GRANT SELECT ON tally TO anon;
`

// quick has a server lose its patience soon.
const quick = "durability: buffered\nscrub: {rate: 0B}\nlimits: {request_header: 1s, request_body: 1s, stall: 1s}\n"

// rates are what docs/rates.md has for a server that everybody reaches; here nothing comes from elsewhere than loopback, so that is not exempt. Without
// LAASTER_DOOR_PAIRS there are none: attacks are to be answered, not cut off.
const rates = ", rates: {exempt: [], address: {messages: 300/s, query: 200/s, connections: 5/s burst 100, subscriptions: 20/s burst 500, replay: 4MiB/s burst 32MiB, open: 100, sockets: 100/s burst 1000}}}\n"

// attackers is where the first attack comes from, and each further one from the address behind: what a server holds against one must not meet the next one, nor the
// good clients, who come from 127.0.0.1.
const attackers = 66

// victim is a server under attack.
type victim struct {
	*testkit.Server
	t    testing.TB
	addr string // of the public listener
	from string // where the attack comes from
	good *goodClients
	// authorization of the good clients; "": none.
	token string
	tls   *tls.Config // of who connects; nil: no TLS
	ca    []byte      // that they trust, as PEM

	felt     atomic.Int64 // answers that attackers got
	accepted int          // writes of good clients that have ended
}

// startVictim runs an app with its settings.
func startVictim(t testing.TB, sql, settings string, files map[string][]byte) *victim {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		put(t, dir, name, b)
	}
	put(t, dir, "app.sql", []byte(sql))
	if pairs() > 0 {
		settings = strings.Replace(settings, "stall: 1s}\n", "stall: 1s"+rates, 1)
	}
	put(t, dir, "laaster.yaml", []byte(settings))
	x := &victim{Server: testkit.StartServer(t, dir, t.TempDir()), t: t, from: "127.0.0.1"}
	_, x.addr, _ = strings.Cut(x.URL, "://")
	return x
}

func put(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// dial connects as the attacker does.
func (x *victim) dial() (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(x.from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", x.addr)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(30 * time.Second))
}

// raw sends text as it is and returns what comes back until the server closes. The text asks for that, or breaks a rule.
func (x *victim) raw(text string) (string, error) {
	c, err := x.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	g := run.New(context.Background())
	g.Go("sender", func(context.Context) error {
		_, _ = io.WriteString(c, text) // the server may have had enough
		return nil
	})
	b, err := io.ReadAll(io.LimitReader(c, 1<<20)) // a reset is an answer too
	_ = c.Close()
	_ = g.Wait()
	x.felt.Add(1)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return "", fmt.Errorf("after 30 s the server neither answers nor closes: sent %.60q, got %.60q", text, b)
	}
	return string(b), nil
}

// sent sends text and gives the server a second for all that it makes of it.
func (x *victim) sent(text string) error {
	c, err := x.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	x.felt.Add(1)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, c)
	return nil
}

// answers sends text and checks how the answer begins: one of the statuses, or "" for a connection that is closed without an answer.
func (x *victim) answers(text string, statuses ...string) error {
	c, err := x.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	g := run.New(context.Background())
	g.Go("sender", func(context.Context) error {
		_, _ = io.WriteString(c, text) // the server may have had enough
		return nil
	})
	head := make([]byte, 300)
	n, err := io.ReadAtLeast(c, head, len("HTTP/1.1 200"))
	got := string(head[:n])
	_ = c.Close()
	_ = g.Wait()
	x.felt.Add(1)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("after 30 s the server neither answers nor closes: sent %.60q, got %.60q", text, got)
	}
	for _, s := range append(statuses, "429") { // who attacks may be cut off for a time
		if s == "" && got == "" || s != "" && strings.HasPrefix(got, "HTTP/1.1 "+s) {
			return nil
		}
	}
	return fmt.Errorf("sent %.100q, want %v, got %.300q", text, statuses, got)
}

// call sends a request as the attacker does and returns status and body.
func (x *victim) call(method, path, body string, header ...string) (int, string, error) {
	text := method + " " + path + " HTTP/1.1\r\nHost: " + x.addr + "\r\nConnection: close\r\n"
	for i := 0; i+1 < len(header); i += 2 {
		text += header[i] + ": " + header[i+1] + "\r\n"
	}
	if body != "" {
		text += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	got, err := x.raw(text + "\r\n" + body)
	if err != nil {
		return 0, "", err
	}
	head, rest, _ := strings.Cut(got, "\r\n\r\n")
	if len(head) < 12 {
		return 0, "", fmt.Errorf("%s %.100s: answered %.100q", method, path, got)
	}
	status, err := strconv.Atoi(head[9:12])
	return status, strings.TrimSpace(rest), err
}

// live opens a WebSocket as the attacker does, without a hello.
func (x *victim) live(header http.Header) (net.Conn, error) {
	d := ws.Dialer{Protocols: []string{"laaster.v1"}, Timeout: 10 * time.Second, Header: ws.HandshakeHeaderHTTP(header),
		NetDial: func(context.Context, string, string) (net.Conn, error) { return x.dial() }}
	c, buf, _, err := d.Dial(context.Background(), "ws://"+x.addr+"/v1/live")
	if err != nil {
		return nil, err
	}
	if buf != nil {
		ws.PutReader(buf) // nothing comes before hello
	}
	x.felt.Add(1)
	return c, c.SetDeadline(time.Now().Add(30 * time.Second))
}

// frames reads what the server sends until one has the type, and returns it.
func frames(c net.Conn, kinds ...string) (string, error) {
	for {
		b, err := wsutil.ReadServerText(c)
		if err != nil {
			return "", err
		}
		for _, kind := range kinds {
			if strings.Contains(string(b), `"type":"`+kind+`"`) {
				return string(b), nil
			}
		}
	}
}

// say sends a text frame.
func say(c net.Conn, format string, args ...any) error {
	return wsutil.WriteClientText(c, fmt.Appendf(nil, format, args...))
}

// memory returns a line of the server's /proc status in KiB: VmRSS, or VmHWM for the highest since forget.
func (x *victim) memory(line string) int {
	x.t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(x.Pid()), "status"))
	if err != nil {
		testkit.Missing(x.t, fmt.Sprintf("memory cannot be read here: %v", err))
	}
	for _, l := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				x.t.Fatal(err)
			}
			return n
		}
	}
	x.t.Fatalf("no %s", line)
	return 0
}

// forget has VmHWM begin anew.
func (x *victim) forget() {
	x.t.Helper()
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(x.Pid()), "clear_refs"), []byte("5"), 0); err != nil {
		testkit.Missing(x.t, fmt.Sprintf("the highest memory cannot be forgotten here: %v", err))
	}
}

// goodClients write, read and watch at a steady pace. Each request has to be answered well, and each write has to be seen by the one who watches.
type goodClients struct {
	x     *victim
	group *run.Group
	done  chan struct{}
	busy  atomic.Int64 // answers to come again

	mu struct {
		sync.Mutex
		kinds    map[string][]time.Duration
		accepted int
		failed   error
		seq      uint64        // what the watcher has been told
		moved    chan struct{} // closed and renewed when seq grows
	}
}

// behave starts the good clients, and returns when each has done something.
func (x *victim) behave() *goodClients {
	x.t.Helper()
	g, err := x.begin()
	if err != nil {
		x.t.Fatal(err)
	}
	x.good = g
	return g
}

func (x *victim) begin() (*goodClients, error) {
	g := &goodClients{x: x, group: run.New(context.Background()), done: make(chan struct{})}
	g.mu.kinds, g.mu.moved = map[string][]time.Duration{}, make(chan struct{})
	g.group.Go("watch", g.watch)
	for range 3 {
		g.group.Go("write", func(ctx context.Context) error { return g.keep(ctx, 25*time.Millisecond, g.write) })
		g.group.Go("read", func(ctx context.Context) error { return g.keep(ctx, 20*time.Millisecond, g.read) })
	}
	for g.count("shown") < 10 || g.count("read") < 10 {
		if err := g.group.Err(); err != nil {
			return nil, err
		}
		wait(20 * time.Millisecond)
	}
	return g, nil
}

func wait(d time.Duration) { <-time.After(d) }

// keep does f again and again until stop.
func (g *goodClients) keep(ctx context.Context, every time.Duration, f func(*http.Client) error) error {
	tr := &http.Transport{MaxIdleConnsPerHost: 1, TLSClientConfig: g.x.tls.Clone(), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	next := time.After(0)
	for {
		select {
		case <-g.done:
			return nil
		case <-ctx.Done():
			return nil
		case <-next:
		}
		next = time.After(every)
		if err := f(c); err != nil {
			return err
		}
	}
}

func (g *goodClients) request(c *http.Client, method, path, body string) (string, error) {
	return g.again(c, method, path, body, 20)
}

func (g *goodClients) again(c *http.Client, method, path, body string, tries int) (string, error) {
	q, err := http.NewRequest(method, g.x.URL+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	if g.x.token != "" {
		q.Header.Set("Authorization", "Bearer "+g.x.token)
	}
	r, err := c.Do(q)
	if err != nil {
		return "", fmt.Errorf("a good client is not answered: %w", err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if (r.StatusCode == http.StatusServiceUnavailable || r.StatusCode == http.StatusTooManyRequests) && tries > 0 { // come again, it says; that counts as the time that it took
		var p struct {
			After int `json:"retry_after_ms"`
		}
		if json.Unmarshal(b, &p) == nil && p.After > 0 {
			g.busy.Add(1)
			wait(time.Duration(p.After) * time.Millisecond)
			return g.again(c, method, path, body, tries-1)
		}
	}
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("a good client is answered %d %s", r.StatusCode, b)
	}
	return string(b), err
}

// once sends a request on a connection of its own.
func (g *goodClients) once(method, path, body string) (string, error) {
	tr := &http.Transport{TLSClientConfig: g.x.tls.Clone(), DisableKeepAlives: true}
	return g.request(&http.Client{Transport: tr, Timeout: 30 * time.Second}, method, path, body)
}

// write writes a row and waits until the watcher has been told of it.
func (g *goodClients) write(c *http.Client) error {
	began := time.Now()
	text, err := g.request(c, "POST", "/v1/tables/votes", `{"contestant":"A"}`)
	if err != nil {
		return err
	}
	answered := time.Since(began)
	var result struct {
		Position string
		Accepted int
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil || result.Accepted != 1 {
		return fmt.Errorf("a good client's write: %v %s", err, text)
	}
	late := time.After(30 * time.Second)
	for {
		g.mu.Lock()
		seq, moved := g.mu.seq, g.mu.moved
		g.mu.Unlock()
		if seq >= sequence(result.Position) {
			break
		}
		select {
		case <-moved:
		case <-g.done:
			return g.tell("write", answered, 1) // the watcher may be gone
		case <-late:
			return fmt.Errorf("after 30 s nobody has seen a good client's write at %s", result.Position)
		}
	}
	shown := time.Since(began)
	return errors.Join(g.tell("write", answered, 1), g.tell("shown", shown, 0))
}

func (g *goodClients) read(c *http.Client) error {
	began := time.Now()
	if text, err := g.request(c, "GET", "/v1/views/tally?contestant=eq.A", ""); err != nil {
		return err
	} else if !strings.Contains(text, `"votes"`) && g.count("write") > 3 {
		return fmt.Errorf("a good client reads %s", text)
	}
	return g.tell("read", time.Since(began), 0)
}

func (g *goodClients) tell(kind string, took time.Duration, accepted int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.kinds[kind] = append(g.mu.kinds[kind], took)
	g.mu.accepted += accepted
	return nil
}

// watch follows the view and notes how far it is told to be.
func (g *goodClients) watch(context.Context) error {
	d := ws.Dialer{Protocols: []string{"laaster.v1"}, Timeout: 10 * time.Second, TLSConfig: g.x.tls.Clone()}
	c, _, _, err := d.Dial(context.Background(), strings.Replace(g.x.URL, "http", "ws", 1)+"/v1/live")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	token := ""
	if g.x.token != "" {
		token = `"token":"` + g.x.token + `",`
	}
	if err := say(c, `{"type":"hello",%s"subscribe":[{"id":"1","view":"tally"}]}`, token); err != nil {
		return err
	}
	g.group.Go("watch end", func(context.Context) error {
		<-g.done
		_ = c.Close() // it may have ended
		return nil
	})
	for {
		b, _, err := wsutil.ReadServerData(c) // answers pings
		select {
		case <-g.done:
			return nil
		default:
		}
		if err != nil {
			return fmt.Errorf("a good client that watches is cut: %w", err)
		}
		var f struct{ Type, Position string }
		if err := json.Unmarshal(b, &f); err != nil {
			return err
		}
		if f.Type == "goodbye" || f.Type == "error" {
			return fmt.Errorf("a good client that watches is told %s", b)
		}
		if seq := sequence(f.Position); seq > 0 {
			g.mu.Lock()
			g.mu.seq = max(g.mu.seq, seq)
			close(g.mu.moved)
			g.mu.moved = make(chan struct{})
			g.mu.Unlock()
		}
	}
}

// sequence returns the number at the end of a position, 0 for none.
func sequence(position string) uint64 {
	n, _ := strconv.ParseUint(position[strings.LastIndexByte(position, '-')+1:], 10, 64)
	return n
}

func (g *goodClients) count(kind string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.mu.kinds[kind])
}

// take returns the delays since the last take, sorted.
func (g *goodClients) take() map[string][]time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.mu.kinds
	g.mu.kinds = map[string][]time.Duration{}
	for _, all := range out {
		slices.Sort(all)
	}
	return out
}

// end stops the good clients and checks that every row of theirs is there, and no other.
func (g *goodClients) end() {
	g.x.t.Helper()
	close(g.done)
	if err := g.group.Wait(); err != nil {
		g.x.t.Error(err)
	}
	text, err := g.once("GET", "/v1/views/tally?contestant=eq.A", "")
	if err != nil {
		g.x.t.Fatal(err)
	}
	var rows []struct{ Votes int }
	g.x.accepted += g.mu.accepted
	if err := json.Unmarshal([]byte(text), &rows); err != nil || len(rows) != 1 || rows[0].Votes != g.x.accepted {
		g.x.t.Errorf("%d writes of good clients were accepted, the view says %s", g.x.accepted, text)
	}
}
