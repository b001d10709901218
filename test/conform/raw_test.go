package conform

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// The strict client: what docs/protocol.md promises and nothing more. It checks every frame where an SDK would be lenient, and keeps no
// more state than a position and rows.

// rawFrame is any frame or event from the server.
type rawFrame struct {
	Type     string                `json:"type"`
	ID       string                `json:"id"`
	Position string                `json:"position"`
	From     string                `json:"from"`
	Key      []string              `json:"key"`
	Rows     []json.RawMessage     `json:"rows"`
	More     bool                  `json:"more"`
	Changes  map[string]rawChanges `json:"changes"`
	State    string                `json:"state"`
	Code     string                `json:"code"`
	RetryMS  int                   `json:"retry_after_ms"`
	Limits   struct {
		FrameBytes int `json:"frame_bytes"`
	} `json:"limits"`
	Error *struct {
		Code    string `json:"code"`
		Retry   string `json:"retry"`
		RetryMS int    `json:"retry_after_ms"`
		Detail  string `json:"detail"`
	} `json:"error"`
	rawChanges // of an event
	answer

	eventID string // of an event: its id line
}

type rawChanges struct {
	Put []json.RawMessage   `json:"put"`
	Del [][]json.RawMessage `json:"del"`
}

// rawSub is a subscription.
type rawSub struct {
	id       string
	q        query
	key      []string
	rows     map[string]json.RawMessage
	at       string // where the rows stand
	complete bool
	pages    map[string]json.RawMessage // of a snapshot that is not complete
	pagesAt  string
	behind   bool // no answer on this connection yet
	asked    bool // on this connection
	gap      bool
	fresh    string
	stop     context.CancelFunc // of its stream
}

// rawWrite is a write that has no answer yet.
type rawWrite struct {
	c     command
	sends int
}

// rawClient is one client: everything happens on its own goroutine.
type rawClient struct {
	id, url string
	kind    string
	speed   time.Duration
	rate    int
	say     func(event)
	todo    chan func()
	ctx     context.Context
	end     context.CancelFunc
	state   string
	cursor  string
	subs    map[string]*rawSub
	writes  map[string]*rawWrite
	conn    io.Writer // of the open WebSocket; nil: none, or not welcome yet
	largest int
	keys    int
}

// serveRaw drives strict clients: see driver_test.go.
func serveRaw(in io.Reader, out io.Writer) {
	var mu sync.Mutex
	say := func(e event) {
		line, _ := json.Marshal(e) // of JSON
		mu.Lock()
		defer mu.Unlock()
		_, _ = out.Write(append(line, '\n')) // whoever plays may have ended
	}
	clients := map[string]*rawClient{}
	var group sync.WaitGroup
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var c command
		if err := json.Unmarshal(line, &c); err != nil {
			say(event{Ev: "fatal", Text: err.Error()})
			continue
		}
		if c.Do == "connect" {
			clients[c.Client] = openRaw(&c, say, &group)
			continue
		}
		r := clients[c.Client]
		if r == nil {
			say(event{Ev: "fatal", Client: c.Client, Text: "there is no such client"})
			continue
		}
		r.todo <- func() { r.do(&c) }
		if c.Do == "close" {
			delete(clients, c.Client)
		}
	}
	for _, r := range clients {
		r.end()
	}
	group.Wait()
}

func openRaw(c *command, say func(event), group *sync.WaitGroup) *rawClient {
	r := &rawClient{id: c.Client, url: c.URL, kind: c.Kind, speed: time.Duration(max(c.Speed, 1)), rate: c.Rate, todo: make(chan func(), 256), state: "connecting",
		subs: map[string]*rawSub{}, writes: map[string]*rawWrite{}}
	r.say = func(e event) { e.Client = c.Client; say(e) }
	r.ctx, r.end = context.WithCancel(context.Background())
	group.Go(func() {
		defer r.end()
		for {
			select {
			case <-r.ctx.Done():
				return
			case f := <-r.todo:
				f()
			}
		}
	})
	if r.kind == "ws" {
		group.Go(r.connect)
	} else {
		r.on(r.judge)
	}
	return r
}

// on runs f on the client's goroutine.
func (r *rawClient) on(f func()) {
	select {
	case r.todo <- f:
	case <-r.ctx.Done():
	}
}

// wrong tells a violation of the protocol.
func (r *rawClient) wrong(format string, args ...any) {
	r.say(event{Ev: "fatal", Text: "protocol: " + fmt.Sprintf(format, args...)})
}

func (r *rawClient) become(state, code string) {
	if r.state != state {
		r.state = state
		r.say(event{Ev: "state", Name: state, Code: code})
	}
}

func (s *rawSub) become(r *rawClient, fresh, code string) {
	if s.fresh != fresh {
		s.fresh = fresh
		r.say(event{Ev: "fresh", Sub: s.id, Name: fresh, Code: code})
	}
}

// do carries out a command.
func (r *rawClient) do(c *command) {
	switch c.Do {
	case "subscribe":
		s := &rawSub{id: c.Sub, q: c.query, rows: map[string]json.RawMessage{}, behind: true, fresh: "loading"}
		r.subs[c.Sub] = s
		if r.kind == "sse" {
			ctx, stop := context.WithCancel(r.ctx)
			s.stop = stop
			go r.stream(ctx, s)
		} else if r.conn != nil {
			s.asked = true
			r.send(r.request(s, "subscribe"))
		}
		r.judge()
	case "leave":
		if s := r.subs[c.Sub]; s != nil && s.stop != nil {
			s.stop()
		}
		delete(r.subs, c.Sub)
		r.say(event{Ev: "left", Sub: c.Sub})
		if r.conn != nil {
			r.send(map[string]any{"type": "unsubscribe", "id": c.Sub})
		}
		r.judge()
	case "write":
		if r.keys++; c.Key == "" {
			c.Key = fmt.Sprintf("raw-%s-%d", strings.ReplaceAll(r.id, "/", "-"), r.keys)
		}
		r.writes[c.Write] = &rawWrite{c: *c}
		if r.kind == "sse" {
			go r.post(*c)
		} else if r.conn != nil {
			r.write(r.writes[c.Write])
		}
	case "look":
		all := map[string]seen{}
		for id, s := range r.subs {
			all[id] = seen{s.at, s.list(), s.fresh}
		}
		r.say(event{Ev: "looked", Look: c.Look, Name: r.state, Subs: all})
	case "close":
		r.end()
		r.say(event{Ev: "closed"})
	}
}

func (s *rawSub) list() []json.RawMessage {
	out := []json.RawMessage{}
	for _, row := range s.rows {
		out = append(out, row)
	}
	if s.q.Order != "" {
		sortRows(out, s.q.Order, s.key)
	}
	return out
}

// judge derives the states.
func (r *rawClient) judge() {
	up := r.conn != nil
	if r.kind == "sse" {
		up = true
	}
	live := up
	for _, s := range r.subs {
		switch {
		case s.fresh == "refused":
		case !up || r.kind == "sse" && s.behind:
			if s.complete {
				s.become(r, "stale", "")
			}
			live = false
		case s.behind || !s.complete:
			live = false
		default:
			s.become(r, "live", "")
		}
	}
	switch {
	case live:
		r.become("live", "")
	case up && r.kind == "ws":
		r.become("catching_up", "")
	case r.state != "connecting":
		r.become("stale", "")
	}
}

// send writes a frame; an error is noticed by the reader.
func (r *rawClient) send(frame map[string]any) {
	text, _ := json.Marshal(frame) // of plain values
	_ = wsutil.WriteClientText(r.conn, text)
}

// request is the frame, or the member of hello, that asks for a subscription.
func (r *rawClient) request(s *rawSub, kind string) map[string]any {
	f := map[string]any{"id": s.id, "view": s.q.View}
	if kind != "" {
		f["type"] = kind
	}
	for name, value := range map[string]string{"filter": s.q.Filter, "select": s.q.Select, "order": s.q.Order} {
		if value != "" {
			f[name] = value
		}
	}
	if s.q.Limit > 0 {
		f["limit"] = s.q.Limit
	}
	switch {
	case !s.complete:
		f["from"] = nil
	case s.at != r.cursor:
		f["from"] = s.at
	}
	return f
}

// connect holds one WebSocket after the other.
func (r *rawClient) connect() {
	wait := time.Duration(0)
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = r.session()
	}
}

// session is one connection: it returns how long to wait for the next.
func (r *rawClient) session() time.Duration {
	again := 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second/r.speed)
	defer cancel()
	conn, early, _, err := ws.Dialer{Protocols: []string{"laaster.v1"}}.Dial(ctx, "ws"+strings.TrimPrefix(r.url, "http")+"/v1/live")
	if err != nil {
		return again
	}
	defer conn.Close()
	in := io.Reader(conn)
	if early != nil {
		in = io.MultiReader(early, conn)
	}
	rw := struct {
		io.Reader
		io.Writer
	}{bufio.NewReader(in), conn}
	asked := make(chan map[string]any, 1)
	r.on(func() { asked <- r.hello() })
	select {
	case hello := <-asked:
		text, _ := json.Marshal(hello) // of plain values
		if wsutil.WriteClientText(conn, text) != nil {
			return again
		}
	case <-r.ctx.Done():
		return 0
	}
	var heard sync.Mutex
	at := time.Now()
	over := make(chan struct{})
	defer close(over)
	go func() { // the heartbeat
		for {
			select {
			case <-over:
				return
			case <-r.ctx.Done():
				conn.Close()
				return
			case <-time.After(2500 * time.Millisecond / r.speed):
			}
			heard.Lock()
			quiet := time.Since(at)
			heard.Unlock()
			if quiet > 25*time.Second/r.speed {
				conn.Close()
				return
			}
			r.on(func() {
				if r.conn == conn {
					r.send(map[string]any{"type": "ping", "t": 1})
				}
			})
		}
	}()
	welcome := false
	for {
		text, _, err := wsutil.ReadServerData(rw)
		if err != nil {
			r.on(func() { r.lost() })
			return again
		}
		heard.Lock()
		at = time.Now()
		heard.Unlock()
		var f rawFrame
		if err := json.Unmarshal(text, &f); err != nil {
			r.wrong("not a frame: %v: %.200s", err, text)
			return again
		}
		if !welcome && f.Type != "welcome" && f.Type != "error" && f.Type != "goodbye" {
			r.wrong("%s before welcome", f.Type)
		}
		welcome = true
		if f.Type == "goodbye" {
			again = min(time.Duration(f.RetryMS)*time.Millisecond/5, time.Second)
		}
		done := make(chan struct{})
		r.on(func() { r.frame(&f, conn); close(done) })
		select {
		case <-done:
		case <-r.ctx.Done():
			return 0
		}
	}
}

func (r *rawClient) hello() map[string]any {
	subs := []any{}
	for _, s := range r.subs {
		s.pages, s.behind, s.asked = nil, true, true
		if s.fresh != "refused" {
			subs = append(subs, r.request(s, ""))
		}
	}
	f := map[string]any{"type": "hello", "client": map[string]any{"name": "strict", "version": "1"}, "subscribe": subs}
	if r.cursor != "" {
		f["resume"] = r.cursor
	}
	if r.rate > 0 {
		f["rate"] = r.rate
	}
	return f
}

func (r *rawClient) lost() {
	r.conn = nil
	for _, s := range r.subs {
		s.behind, s.asked = true, false
	}
	r.judge()
}

// frame takes one frame of the WebSocket.
func (r *rawClient) frame(f *rawFrame, conn io.Writer) {
	s := r.subs[f.ID]
	switch f.Type {
	case "welcome":
		r.conn, r.largest = conn, f.Limits.FrameBytes
		for _, s := range r.subs { // made since the hello
			if !s.asked {
				s.asked = true
				r.send(r.request(s, "subscribe"))
			}
		}
		for _, w := range r.writes {
			r.write(w)
		}
	case "snapshot":
		if s != nil {
			s.page(r, f)
			if !f.More && r.cursor == "" {
				r.cursor = f.Position
			}
		}
	case "resumed":
		if s != nil {
			s.resumed(r, f)
		}
	case "gap":
		if s != nil {
			s.gap, s.complete = true, false
		}
	case "epoch":
		r.epoch(f)
	case "result":
		f.answer.Position = f.Position
		r.answered(f.ID, f.answer)
	case "error":
		r.refused(f)
	}
	r.judge()
}

func (s *rawSub) resumed(r *rawClient, f *rawFrame) {
	if !s.complete || !s.behind {
		r.wrong("%s: resumed at %s, but it has no complete state, or was answered before", s.id, f.Position)
	}
	if f.Position != s.at {
		r.wrong("%s: resumed at %s, but its rows are those of %s", s.id, f.Position, s.at)
	}
	s.behind = false
}

// page takes a page of a snapshot; the last one puts the rows in place.
func (s *rawSub) page(r *rawClient, f *rawFrame) {
	if s.pages == nil {
		s.pages, s.pagesAt = map[string]json.RawMessage{}, f.Position
	}
	if f.Position != s.pagesAt {
		r.wrong("%s: a page at %s after one at %s", s.id, f.Position, s.pagesAt)
	}
	for _, row := range f.Rows {
		k, err := keyOf(row, f.Key)
		if err != nil || s.pages[k] != nil {
			r.wrong("%s: the row %s comes twice in a snapshot, or has no key: %v", s.id, row, err)
		}
		s.pages[k] = row
	}
	if f.More {
		return
	}
	var changes []rowChange
	for k, old := range s.rows {
		if now := s.pages[k]; now == nil {
			changes = append(changes, rowChange{Op: "delete", Old: old})
		} else if canonical(now) != canonical(old) {
			changes = append(changes, rowChange{Op: "update", Row: now, Old: old})
		}
	}
	for k, now := range s.pages {
		if s.rows[k] == nil {
			changes = append(changes, rowChange{Op: "insert", Row: now})
		}
	}
	cause := "snapshot"
	if s.gap {
		cause = "gap"
	}
	s.rows, s.pages, s.complete, s.behind, s.gap, s.key, s.at = s.pages, nil, true, false, false, f.Key, f.Position
	r.say(event{Ev: "rows", Sub: s.id, Cause: cause, answer: answer{Position: s.at}, Changes: changes, Rows: s.list(), Key: s.key})
}

// epoch takes changes of all subscriptions.
func (r *rawClient) epoch(f *rawFrame) {
	_, to, err := position(f.Position)
	_, was, errWas := position(r.cursor)
	if err != nil || errWas == nil && to < was {
		r.wrong("epoch at %s after %s (%v)", f.Position, r.cursor, err)
	}
	if f.From != "" {
		for _, s := range r.subs {
			_, from, err := position(f.From)
			_, at, errAt := position(s.at)
			if _, changed := f.Changes[s.id]; changed && (err != nil || errAt == nil && s.complete && from > at) {
				r.wrong("epoch from %s to %s for %s, which is at %s (%v)", f.From, f.Position, s.id, s.at, err)
			}
		}
	}
	for id, ch := range f.Changes {
		if s := r.subs[id]; s != nil {
			s.change(r, &ch, f.Position)
		}
	}
	r.cursor = f.Position
	for _, s := range r.subs {
		if s.complete && !s.behind && s.pages == nil {
			s.at = f.Position
		}
	}
}

// change applies the changes of one frame.
func (s *rawSub) change(r *rawClient, ch *rawChanges, at string) {
	if !s.complete || s.pages != nil || s.behind {
		r.wrong("%s: changes at %s before its rows are complete", s.id, at)
		return
	}
	var changes []rowChange
	once := map[string]bool{}
	for _, values := range ch.Del {
		var b strings.Builder
		for _, v := range values {
			b.Write(v)
			b.WriteByte(',')
		}
		k := b.String()
		old := s.rows[k]
		if old == nil || once[k] {
			r.wrong("%s: at %s the row %s leaves, which is not there", s.id, at, k)
			continue
		}
		once[k] = true
		delete(s.rows, k)
		changes = append(changes, rowChange{Op: "delete", Old: old})
	}
	for _, row := range ch.Put {
		k, err := keyOf(row, s.key)
		if err != nil || once[k] {
			r.wrong("%s: at %s the row %s comes twice, or has no key: %v", s.id, at, row, err)
		}
		once[k] = true
		if old := s.rows[k]; old == nil {
			changes = append(changes, rowChange{Op: "insert", Row: row})
		} else {
			changes = append(changes, rowChange{Op: "update", Row: row, Old: old})
		}
		s.rows[k] = row
	}
	s.at = at
	if len(changes) > 0 {
		e := event{Ev: "rows", Sub: s.id, Cause: "epoch", answer: answer{Position: at}, Changes: changes, Key: s.key}
		if len(s.rows) <= 100 {
			e.Rows = s.list()
		}
		r.say(e)
	}
}

// write sends a write, at most three times.
func (r *rawClient) write(w *rawWrite) {
	c := &w.c
	f := map[string]any{"type": "write", "id": c.Write, "table": c.Table, "key": c.Key}
	switch c.Op {
	case "update":
		f["patch"], f["filter"] = c.Patch, c.query.Filter
	case "delete":
		f["delete"], f["filter"] = true, c.query.Filter
	default:
		f["rows"] = c.Rows
	}
	if c.Conflict != "" {
		f["on_conflict"] = c.Conflict
	}
	if c.Atomic {
		f["atomic"] = true
	}
	text, _ := json.Marshal(f) // of JSON
	switch w.sends++; {
	case r.largest > 0 && len(text) > r.largest:
		r.answered(c.Write, answer{Problem: "too_large"})
	case w.sends > 3 && !strings.Contains(r.id, "-cuts"): // a lane that cuts on purpose does so more often
		r.answered(c.Write, answer{Problem: "unreachable"})
	default:
		r.send(f)
	}
}

func (r *rawClient) answered(id string, a answer) {
	if r.writes[id] == nil {
		r.wrong("an answer to %q, which waits for none", id)
		return
	}
	delete(r.writes, id)
	for i := range a.Rejected {
		a.Rejected[i].Code = a.Rejected[i].Error.Code
	}
	r.say(event{Ev: "result", Write: id, answer: a})
}

// refused takes an error frame: of a write, of a subscription, or of the connection.
func (r *rawClient) refused(f *rawFrame) {
	code, later := f.Error.Code, f.Error.Retry == "after"
	w, s := r.writes[f.ID], r.subs[f.ID]
	wait := time.Duration(max(f.Error.RetryMS, 20)) * time.Millisecond
	switch {
	case f.ID == "" && !later && code != "draining":
		r.become("closed", code)
		r.end()
	case w != nil && later:
		go func() {
			<-time.After(wait)
			r.on(func() {
				if r.conn != nil && r.writes[f.ID] == w {
					w.sends--
					r.write(w)
				}
			})
		}()
	case w != nil:
		r.answered(f.ID, answer{Problem: code})
	case s != nil && later:
		go func() {
			<-time.After(wait)
			r.on(func() {
				if r.conn != nil && r.subs[f.ID] == s {
					r.send(r.request(s, "subscribe"))
				}
			})
		}()
	case s != nil:
		s.behind = false
		s.become(r, "refused", code)
		delete(r.subs, f.ID)
	}
}

// post sends a write by HTTP until it has an answer.
func (r *rawClient) post(c command) {
	q := c.query.Filter
	if c.Conflict != "" {
		q = "on_conflict=" + c.Conflict
	}
	method, body := "POST", []byte(c.Rows)
	switch c.Op {
	case "update":
		method, body = "PATCH", c.Patch
	case "delete":
		method, body = "DELETE", nil
	}
	for r.ctx.Err() == nil {
		a, wait := r.tryPost(method, r.url+"/v1/tables/"+c.Table+"?"+q, c.Key, body)
		if a != nil {
			r.on(func() { r.answered(c.Write, *a) })
			return
		}
		<-time.After(wait)
	}
}

func (r *rawClient) tryPost(method, u, key string, body []byte) (*answer, time.Duration) {
	again := 20 * time.Millisecond
	req, err := http.NewRequestWithContext(r.ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return &answer{Problem: err.Error()}, 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return nil, again
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, again
	}
	var a struct {
		answer
		Code    string `json:"code"`
		Retry   string `json:"retry"`
		RetryMS int    `json:"retry_after_ms"`
	}
	if json.Unmarshal(text, &a) != nil {
		return nil, again
	}
	switch {
	case a.Position != "":
		return &a.answer, 0
	case a.Retry == "after":
		return nil, time.Duration(max(a.RetryMS, 20)) * time.Millisecond
	}
	return &answer{Problem: a.Code}, 0
}

// stream follows one subscription over one event stream after the other.
func (r *rawClient) stream(ctx context.Context, s *rawSub) {
	for ctx.Err() == nil {
		wait := r.events(ctx, s)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// events is one stream: it returns how long to wait for the next.
func (r *rawClient) events(ctx context.Context, s *rawSub) time.Duration {
	again := 20 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := make(chan string, 1)
	r.on(func() {
		s.pages, s.behind = nil, true
		if s.complete {
			asked <- s.at
		} else {
			asked <- ""
		}
	})
	var from string
	select {
	case from = <-asked:
	case <-ctx.Done():
		return 0
	}
	u := r.url + "/v1/views/" + url.PathEscape(s.q.View) + "?" + strings.TrimPrefix(s.q.url(), "&")
	req, err := http.NewRequestWithContext(ctx, "GET", u, nil)
	if err != nil {
		return time.Hour
	}
	req.Header.Set("Accept", "text/event-stream")
	if from != "" {
		req.Header.Set("Last-Event-ID", from)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return again
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return r.noStream(s, res)
	}
	defer r.on(func() {
		s.behind = true
		r.judge()
	})
	quiet := time.AfterFunc(25*time.Second/r.speed, cancel)
	defer quiet.Stop()
	lines := bufio.NewReader(res.Body)
	var f rawFrame
	var data []byte
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return again
		}
		quiet.Reset(25 * time.Second / r.speed)
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			f.Type = value
		case "data":
			data = append(data, value...)
		case "id":
			f.eventID = value
		case "":
			if line != "\n" {
				continue // a comment
			}
			f = rawFrame{Type: f.Type, eventID: f.eventID}
			if data != nil {
				if err := json.Unmarshal(data, &f); err != nil {
					r.wrong("%s: not an event: %v: %.200s", s.id, err, data)
				}
			}
			now, done := f, make(chan struct{})
			r.on(func() { r.event(s, &now); close(done) })
			select {
			case <-done:
			case <-ctx.Done():
				return 0
			}
			if f.Type == "goodbye" {
				again = min(time.Duration(f.RetryMS)*time.Millisecond/5, time.Second)
			}
			f, data = rawFrame{}, nil
		}
	}
}

// noStream takes the answer of a stream that did not begin.
func (r *rawClient) noStream(s *rawSub, res *http.Response) time.Duration {
	var p struct {
		Code    string `json:"code"`
		Retry   string `json:"retry"`
		RetryMS int    `json:"retry_after_ms"`
	}
	text, _ := io.ReadAll(res.Body)
	if json.Unmarshal(text, &p) != nil || p.Retry == "after" {
		return time.Duration(max(p.RetryMS, 20)) * time.Millisecond
	}
	r.on(func() {
		s.behind = false
		s.become(r, "refused", p.Code)
		r.judge()
		s.stop()
	})
	return 0
}

// event takes one event of a stream.
func (r *rawClient) event(s *rawSub, f *rawFrame) {
	if r.subs[s.id] != s {
		return
	}
	switch f.Type {
	case "snapshot":
		if s.page(r, f); (f.eventID != "") == f.More {
			r.wrong("%s: a page has the id %q and more is %v", s.id, f.eventID, f.More)
		}
	case "resumed":
		s.resumed(r, f)
	case "gap":
		s.gap, s.complete = true, false
	case "epoch":
		if f.eventID != f.Position {
			r.wrong("%s: an epoch at %s has the id %q", s.id, f.Position, f.eventID)
		}
		_, to, err := position(f.Position)
		_, was, _ := position(s.at)
		if from := f.From; err != nil || to < was {
			r.wrong("%s: an epoch from %s to %s after %s (%v)", s.id, from, f.Position, s.at, err)
		}
		if _, from, err := position(f.From); err == nil && from > was {
			r.wrong("%s: an epoch from %s to %s, and it is at %s", s.id, f.From, f.Position, s.at)
		}
		s.change(r, &f.rawChanges, f.Position)
	case "error":
		s.become(r, "refused", f.Error.Code)
		s.stop()
	case "": // a comment that moves the id
		if f.eventID != "" && s.complete && !s.behind {
			s.at = f.eventID
		}
	}
	r.judge()
}

// sortRows sorts by columns such as points.desc, then by key.
func sortRows(rows []json.RawMessage, order string, key []string) {
	parsed := map[*byte]row{}
	for _, raw := range rows {
		var v row
		if json.Unmarshal(raw, &v) == nil {
			parsed[&raw[0]] = v
		}
	}
	columns := append(strings.Split(order, ","), key...)
	less := func(a, b json.RawMessage) int {
		x, y := parsed[&a[0]], parsed[&b[0]]
		for _, o := range columns {
			column, how, _ := strings.Cut(o, ".")
			if c := compare(x[column], y[column]); c != 0 && how == "desc" {
				return -c
			} else if c != 0 {
				return c
			}
		}
		return 0
	}
	slices.SortStableFunc(rows, less)
}
