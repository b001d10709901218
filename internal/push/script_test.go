package push

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/flow"
	"laaster/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// TestScripts runs the conversations of testdata. A block is commands, a line of ----, and what comes of them. Commands:
//
//	options ring=N page=N log=N conns=N subs=N frame=N   first block only; rooms=1: over roomsApp, where callers are whom the header Who names
//	put tally A 3 NULL      stage a row (relation, values); NULL is no value
//	del tally A             stage the end of a row (relation, key values)
//	epoch                   apply what is staged as one epoch, 10 ms after the last, and wait until it is flushed
//	hold                    apply without waiting
//	advance 15s             move the clock
//	dirty N                 wait until N shapes have changes that are in no frame
//	flush                   wait until everything is flushed
//	birth tally             tally has its definition since now
//	connect c [ann]         a WebSocket named c, of a client called ann
//	send c {…}              a text message; \xNN is a byte
//	raw c fin|more OP TEXT  a frame with opcode OP
//	bytes c TEXT            bytes as they are
//	sse c PATH [H:v]…       a stream of events named c
//	limit c N               c's socket takes N unread bytes; limit c all
//	hangup c                c vanishes
//	await c                 wait until something came for c
//	closed c                wait until the server has closed c
//	get|head PATH [H:v]…   a request and its answer
//	wait NAME PATH [H:v]…  a request whose answer comes later, at: answer NAME
//	fresh stale             Hub.SetFreshness
//	become c ann [role]     c's client is somebody else now
//	redefine SQL            the app is roomsApp and this: what is staged is the epoch of that definition
//	drain
//	stats
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, conns: map[string]*memConn{}, sse: map[string]*memResponse{}, later: map[string]chan string{}}
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimSpace(string(src)), "\n\n") {
		commands, _, ok := strings.Cut(block+"\n", "\n----\n")
		if !ok { // a comment
			out.WriteString(block + "\n\n")
			continue
		}
		if s.bench == nil {
			commands = s.open(commands)
		}
		fmt.Fprintf(&out, "%s\n----\n", commands)
		for _, line := range strings.Split(commands, "\n") {
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "options") {
				continue
			}
			out.WriteString(s.command(line))
		}
		out.WriteString(s.collect())
		out.WriteString("\n")
	}
	got := strings.TrimRight(out.String(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(src) {
		t.Errorf("%s: the conversation went differently; run with -update and read the difference\n%s", file, firstDifference(got, string(src)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	i := 0
	for i < len(g) && i < len(w) && g[i] == w[i] {
		i++
	}
	part := func(lines []string) string {
		return strings.Join(lines[max(0, min(i, len(lines))-6):min(len(lines), i+4)], "\n")
	}
	return fmt.Sprintf("line %d, got:\n%s\n\nwant:\n%s", i+1, part(g), part(w))
}

type script struct {
	*bench
	t      *testing.T
	staged []edit
	conns  map[string]*memConn
	sse    map[string]*memResponse
	order  []string
	later  map[string]chan string
	rest   map[string][]byte
}

// open makes the bench, with the options of the first line if there are any.
func (s *script) open(commands string) string {
	opt, ring, rels := Options{}, 0, relations()
	s.rest = map[string][]byte{}
	if first, _, _ := strings.Cut(commands, "\n"); strings.HasPrefix(first, "options ") {
		for _, o := range strings.Fields(first)[1:] {
			name, value, _ := strings.Cut(o, "=")
			n, err := strconv.Atoi(value)
			if err != nil {
				s.t.Fatal(err)
			}
			switch name {
			case "ring":
				ring = n
			case "page":
				opt.PageBytes = n
			case "log":
				opt.FrameLogBytes = n
			case "conns":
				opt.MaxConnections = n
			case "subs":
				opt.Limits.Subscriptions = n
			case "frame":
				opt.Limits.FrameBytes = n
			case "rooms":
				var p *flow.Program
				p, opt.Rules = compiled(s.t, roomsApp)
				opt.Principal, rels = byHeader, p.Relations
			}
		}
	}
	opt.Writer = writerFunc(s.write)
	s.bench = newBenchOf(s.t, opt, ring, rels)
	return commands
}

// write is the scripts' writer: "full" is refused, everything else accepted.
func (s *script) write(_ context.Context, _ auth.Principal, f *wire.WriteFrame) (*wire.WriteResult, *wire.Problem) {
	if f.Table == "full" {
		return nil, retryLater(wire.Busy, "the log is full", time.Second)
	}
	return &wire.WriteResult{Position: "p", Final: true, Accepted: 1, Rejected: []wire.Rejected{}}, nil
}

func (s *script) command(line string) string {
	name, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	switch name {
	case "put", "del":
		s.staged = append(s.staged, s.edit(args, name == "del"))
	case "epoch":
		s.advance(10 * time.Millisecond)
		s.apply(s.staged...)
		s.staged = nil
		s.flushed()
		s.settle()
	case "hold":
		s.apply(s.staged...)
		s.staged = nil
	case "advance":
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.t.Fatal(err)
		}
		s.settle()
		s.advance(d)
	case "flush":
		s.flushed()
	case "become":
		p := reader1(args[1])
		if len(args) > 2 {
			p.Role, p.Token = args[2], &auth.Token{Roles: []string{args[2]}, Claims: p.Token.Claims}
		}
		for _, c := range s.hub.connections() {
			if sink, ok := c.sink.(*streamSink); ok && sink.conn == s.conns[args[0]] {
				c.authorized(p)
			}
		}
		s.settle()
	case "redefine":
		_, rules := compiled(s.t, roomsApp+rest)
		s.advance(10 * time.Millisecond)
		s.hub.Redefine(s.store.Relations(), rules)
		s.apply(s.staged...)
		s.staged = nil
		s.hub.Settle()
		s.flushed()
		s.settle()
	case "dirty":
		for s.dirty() != s.number(rest) {
			runtime.Gosched()
		}
	case "birth":
		head, _ := s.store.Head()
		s.store.SetBirth(s.hub.relation(rest).ID, head)
	case "fresh":
		s.hub.SetFreshness(rest, s.clock.Now())
	case "drain":
		s.hub.Drain()
	case "stats":
		return fmt.Sprintf("%+v\n", s.hub.Stats())
	case "get", "head":
		return s.request(strings.ToUpper(name), rest)
	case "wait":
		s.wait(rest)
	case "answer":
		return <-s.later[rest]
	default:
		return s.connection(name, args, rest)
	}
	return ""
}

func (s *script) dirty() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return len(s.hub.mu.dirty)
}

// connection is the commands about one connection.
func (s *script) connection(name string, args []string, rest string) string {
	who, text, _ := strings.Cut(rest, " ")
	m := s.conns[who]
	if r := s.sse[who]; r != nil {
		m = r.memConn
	}
	switch name {
	case "connect":
		m = newMemConn()
		client := auth.Anonymous()
		if text != "" {
			client = reader1(text)
		}
		if p := s.hub.ServeConn(m, client); p != nil {
			return fmt.Sprintf("%s: refused: %v, retry after %d ms\n", who, p, p.RetryAfterMS)
		}
		s.conns[who], s.order = m, append(s.order, who)
	case "sse":
		r := newMemResponse()
		s.sse[who], s.order = r, append(s.order, who)
		s.serve(r, s.hub.ServeView, viewRequest("GET", text+" Accept:text/event-stream"))
		if r.status != http.StatusOK {
			<-r.done
		}
	case "send":
		m.send(clientFrame(opText, true, unescape(text)))
	case "raw":
		m.send(clientFrame(byte(s.number(args[2])), args[1] == "fin", unescape(strings.Join(args[3:], " "))))
	case "bytes":
		m.send(unescape(text))
	case "limit":
		n := -1
		if args[1] != "all" {
			n = s.number(args[1])
		}
		m.limit(n)
	case "hangup":
		before := s.hub.Connections()
		if r := s.sse[who]; r != nil {
			r.vanish()
		} else {
			m.hangUp()
		}
		for s.hub.Connections() == before {
			runtime.Gosched()
		}
	case "await":
		m.awaitOutput()
	case "closed":
		if r := s.sse[who]; r != nil {
			<-r.done
			return ""
		}
		m.awaitClosed()
	default:
		s.t.Fatalf("no command %q", name)
	}
	s.settle()
	return ""
}

func (s *script) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// settle waits until nobody has anything to do.
func (s *script) settle() { s.quiet(slices.Collect(maps.Values(s.conns))...) }

// edit reads the arguments of put and del.
func (s *script) edit(args []string, gone bool) edit {
	rel := s.hub.relation(args[0])
	ed := edit{rel: rel.ID, gone: gone, vals: make([]*string, len(rel.Columns))}
	for i, a := range args[1:] {
		col := i
		if gone {
			col = rel.Key[i]
		}
		if a != "NULL" {
			ed.vals[col] = str(strings.ReplaceAll(a, "_", " "))
		}
	}
	return ed
}

// unescape turns \xNN into bytes.
func unescape(s string) []byte {
	return regexp.MustCompile(`\\x[0-9a-f]{2}`).ReplaceAllFunc([]byte(s), func(m []byte) []byte {
		n, _ := strconv.ParseUint(string(m[2:]), 16, 8)
		return []byte{byte(n)}
	})
}

// viewRequest makes a request from "PATH Name:value …".
func viewRequest(method, line string) *http.Request {
	fields := strings.Fields(line)
	r := httptest.NewRequest(method, fields[0], nil)
	for _, h := range fields[1:] {
		name, value, _ := strings.Cut(h, ":")
		r.Header.Set(name, value)
	}
	path, _, _ := strings.Cut(fields[0], "?")
	r.SetPathValue("view", strings.TrimPrefix(path, "/v1/views/"))
	return r
}

func (s *script) request(method, line string) string {
	w := httptest.NewRecorder()
	s.hub.ServeView(w, viewRequest(method, line))
	var b strings.Builder
	fmt.Fprintf(&b, "%d", w.Code)
	for _, name := range []string{"Content-Type", "Laaster-Position", "ETag", "Retry-After"} {
		if v := w.Header().Get(name); v != "" {
			fmt.Fprintf(&b, " %s=%s", name, v)
		}
	}
	if v := w.Header().Get("Cache-Control"); v != "" && v != "public, no-cache" { // the usual
		fmt.Fprintf(&b, " Cache-Control=%q", v)
	}
	return b.String() + "\n" + w.Body.String()
}

// wait starts a request that waits for something, and returns when it does.
func (s *script) wait(rest string) {
	name, line, _ := strings.Cut(rest, " ")
	answer := make(chan string, 1)
	s.later[name] = answer
	before := s.store.Waiting()
	s.group.Go("request", func(context.Context) error { answer <- s.request("GET", line); return nil })
	for s.store.Waiting() == before {
		runtime.Gosched()
	}
}

// collect returns what arrived at each connection, in the order in which they were made.
func (s *script) collect() string {
	s.settle()
	var b strings.Builder
	for _, who := range s.order {
		if r := s.sse[who]; r != nil {
			if body := string(r.take()); body != "" {
				fmt.Fprintf(&b, "%s: %s\n", who, strings.ReplaceAll(strings.TrimSuffix(body, "\n\n"), "\n", "\n"+who+": "))
			}
			continue
		}
		m := s.conns[who]
		frames, rest, err := serverFrames(append(s.rest[who], m.take()...))
		s.rest[who] = rest
		if err != nil {
			s.t.Errorf("%s: %v", who, err)
		}
		for _, f := range frames {
			fmt.Fprintf(&b, "%s: %s\n", who, tidy(f))
		}
		if m.isClosed() {
			fmt.Fprintf(&b, "%s: (closed)\n", who)
			s.order = slices.DeleteFunc(slices.Clone(s.order), func(x string) bool { return x == who })
		}
	}
	return b.String()
}

// tidy hides what is random.
func tidy(frame string) string {
	frame = regexp.MustCompile(`"session":"[A-Z2-7]+"`).ReplaceAllString(frame, `"session":"…"`)
	return regexp.MustCompile(`"request":"[A-Z2-7]+"`).ReplaceAllString(frame, `"request":"…"`)
}
