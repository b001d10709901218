package push

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"

	"laaster/internal/change"
	"laaster/internal/wire"
)

// modelSub is a client's subscription and its rows.
type modelSub struct {
	id       string
	query    int
	rows     map[string]string // by key
	key      []string
	complete bool
	asked    bool              // to go on, and not answered yet: frames do not concern it
	pages    map[string]string // of a snapshot that is not complete
	pos      uint64
}

// modelClient is a client that believes nothing.
type modelClient struct {
	m      *model
	addr   string
	rand   *rand.Rand
	who    string
	events bool // over SSE
	out    io.Writer
	in     *bufio.Reader
	pos    uint64 // the last position told
	subs   map[string]*modelSub
	times  map[int]int     // how often a query was subscribed to
	gone   map[string]bool // unsubscribed ids that may still be named
}

// live connects, follows for a while, leaves and comes back, until the history is over; then it must arrive at the last
// position.
func (c *modelClient) live(epochs uint64) error {
	c.subs, c.gone, c.times = map[string]*modelSub{}, map[string]bool{}, map[int]int{}
	for at := uint64(0); ; {
		last := at >= epochs
		if err := c.session(at, last, epochs); err != nil {
			return fmt.Errorf("at %d: %w", c.pos, err)
		}
		if last {
			return nil
		}
		if c.m.calm {
			at += uint64(c.rand.IntN(20))
		} else {
			at += uint64(c.rand.IntN(150))
		}
		c.m.awaitHead(min(at, epochs))
	}
}

// session is one connection. The last one follows to the end.
func (c *modelClient) session(at uint64, last bool, epochs uint64) error {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(2048); err != nil {
		return err
	}
	c.out, c.in = conn, bufio.NewReaderSize(conn, 512)
	frames := 5 + c.rand.IntN(60)
	if c.m.calm {
		frames = 1 + c.rand.IntN(6)
	}
	if c.events {
		err = c.openEvents()
	} else {
		err = c.openSocket()
	}
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if last && c.arrived(epochs) {
			return nil
		}
		if !last && (i == frames || c.arrived(epochs)) {
			return nil
		}
		if c.rand.IntN(8) == 0 { // reads nothing while the history goes on
			c.m.awaitHead(min(epochs, c.pos+uint64(c.rand.IntN(200))))
		}
		if !c.events && c.rand.IntN(4) == 0 {
			if err := c.change(); err != nil {
				return nil // the server may have closed: the next session goes on
			}
		}
		if last && c.subs == nil {
			return nil
		}
		if err := c.readOne(); err != nil {
			return err
		}
	}
}

// arrived reports whether everything is complete and at the last position.
func (c *modelClient) arrived(epochs uint64) bool {
	for _, s := range c.subs {
		if !s.complete || s.asked || s.pos != epochs {
			return false
		}
	}
	return len(c.subs) > 0
}

func (c *modelClient) openSocket() error {
	fmt.Fprintf(c.out, "GET /v1/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: laaster.v1\r\nWho: %s\r\n\r\n", c.who)
	res, err := http.ReadResponse(c.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("upgrade: %v %v", res, err)
	}
	return c.hello()
}

// hello says what the client follows and where it stands.
func (c *modelClient) hello() error {
	hello := wire.HelloFrame{}
	switch c.rand.IntN(6) {
	case 0, 1:
		hello.Rate = float64(50 * (1 + c.rand.IntN(2)))
	case 2:
		hello.Every = true
	}
	resume := c.rand.IntN(4) > 0
	if resume && c.pos > 0 {
		hello.Resume = c.position(c.pos)
	}
	if len(c.subs) == 0 {
		for range 1 + c.rand.IntN(2) {
			c.newSub()
		}
	}
	c.pos = 0
	list := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(c.subs)) {
		list = append(list, c.subFrame(c.subs[id], resume))
	}
	b, err := json.Marshal(map[string]any{"type": "hello", "resume": hello.Resume, "rate": hello.Rate, "every": hello.Every, "subscribe": list})
	if err != nil {
		return err
	}
	return c.send(b)
}

func (c *modelClient) position(seq uint64) string {
	return change.Position{Log: testLog, Seq: seq}.String()
}

// newSub adds a subscription to follow.
func (c *modelClient) newSub() *modelSub {
	q := c.rand.IntN(len(c.m.queries))
	for c.follows(q) || c.m.queries[q].who != c.who {
		q = (q + 1) % len(c.m.queries)
	}
	c.times[q]++
	s := &modelSub{id: fmt.Sprintf("q%d.%d", q, c.times[q]), query: q} // clients share shapes
	c.subs[s.id] = s
	return s
}

func (c *modelClient) follows(q int) bool {
	for _, s := range c.subs {
		if s.query == q {
			return true
		}
	}
	return false
}

// subFrame is how a subscription is asked for, from where it stands or, without resume, anew.
func (c *modelClient) subFrame(s *modelSub, resume bool) map[string]any {
	q := c.m.queries[s.query]
	f := map[string]any{"id": s.id, "view": q.view, "filter": q.filter, "select": q.sel}
	if q.less != nil {
		f["order"], f["limit"], f["offset"] = q.order, q.limit, q.offset
	}
	s.pages = nil
	if s.complete && resume {
		f["from"] = c.position(s.pos)
		s.asked = true
	} else {
		f["from"] = nil
		s.complete, s.asked, s.rows = false, false, nil
	}
	return f
}

func (c *modelClient) send(b []byte) error {
	_, err := c.out.Write(clientFrame(opText, true, b))
	return err
}

// change subscribes to something more or ends something.
func (c *modelClient) change() error {
	if len(c.subs) > 1 && c.rand.IntN(2) == 0 {
		for id := range c.subs {
			delete(c.subs, id)
			c.gone[id] = true
			return c.send([]byte(`{"type":"unsubscribe","id":"` + id + `"}`))
		}
	}
	if len(c.subs) > 2+c.rand.IntN(4) {
		return nil
	}
	f := c.subFrame(c.newSub(), false)
	f["type"] = "subscribe"
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return c.send(b)
}

func (c *modelClient) openEvents() error {
	if len(c.subs) == 0 {
		c.newSub()
	}
	s := c.only()
	q := c.m.queries[s.query]
	path := "/v1/views/" + q.view + "?" + q.params()
	last := ""
	if s.complete && c.rand.IntN(4) > 0 {
		last = "Last-Event-ID: " + c.position(s.pos) + "\r\n"
		s.asked = true
	} else {
		s.complete, s.rows = false, nil
	}
	s.pages = nil
	c.pos = 0
	fmt.Fprintf(c.out, "GET %s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nWho: %s\r\n%s\r\n", path, c.who, last)
	res, err := http.ReadResponse(c.in, nil)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("events: %v %v", res, err)
	}
	c.in = bufio.NewReader(res.Body)
	return nil
}

// only is the one subscription of a stream of events.
func (c *modelClient) only() *modelSub {
	for _, s := range c.subs {
		return s
	}
	return nil
}

// incoming is any frame or event.
type incoming struct {
	Type     string
	ID       string
	Position string
	From     string
	Key      []string
	Rows     []map[string]any
	More     bool
	Changes  map[string]incomingChanges
	incomingChanges
	Error *wire.Problem
}

type incomingChanges struct {
	Put []map[string]any
	Del [][]any
}

// readOne reads and applies one frame or event.
func (c *modelClient) readOne() error {
	var f incoming
	var err error
	if c.events {
		f, err = c.readEvent()
	} else {
		f, err = c.readFrame()
	}
	if err != nil {
		return err
	}
	if err := c.take(&f); err != nil {
		b, _ := json.Marshal(f)
		return fmt.Errorf("%w\n%s", err, b)
	}
	return nil
}

func decode(b []byte, f *incoming) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(f)
}

func (c *modelClient) readFrame() (f incoming, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return f, err
	}
	n := int(head[1])
	if extra := map[int]int{126: 2, 127: 8}[n]; extra > 0 {
		b := make([]byte, extra)
		if _, err := io.ReadFull(c.in, b); err != nil {
			return f, err
		}
		n = 0
		for _, x := range b {
			n = n<<8 | int(x)
		}
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return f, err
	}
	if head[0] == 0x80|opPing {
		if _, err := c.out.Write(clientFrame(opPong, true, b)); err != nil {
			return f, err
		}
		return c.readFrame()
	}
	if head[0] != 0x81 {
		return f, fmt.Errorf("frame % x %q", head, b)
	}
	return f, decode(b, &f)
}

func (c *modelClient) readEvent() (f incoming, err error) {
	var data []byte
	var heartbeat string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return f, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case name == "id" && data == nil && f.Type == "": // a heartbeat, or the head of an event
			heartbeat = value
		case line == "" && heartbeat != "" && f.Type == "":
			f.Type, f.Position = "epoch", heartbeat
			return f, nil
		case line == "" && f.Type != "":
			if err := decode(data, &f); err != nil {
				return f, err
			}
			f.ID = c.only().id
			if f.Type == "epoch" {
				f.Changes = map[string]incomingChanges{f.ID: f.incomingChanges}
			}
			return f, nil
		case name == "event":
			f.Type = value
		case name == "data":
			data = []byte(value)
		}
	}
}

// take applies one frame, and complains.
func (c *modelClient) take(f *incoming) error {
	switch f.Type {
	case "welcome", "freshness":
		return nil
	case "snapshot":
		return c.takePage(f)
	case "resumed":
		s := c.subs[f.ID]
		if s == nil {
			return c.late(f.ID)
		}
		if !s.complete || f.Position != c.position(s.pos) {
			return fmt.Errorf("%s stands at %d and is resumed at %s", f.ID, s.pos, f.Position)
		}
		s.asked = false
		return nil
	case "gap":
		if s := c.subs[f.ID]; s != nil {
			s.complete, s.asked, s.rows, s.pages = false, false, nil, nil
			return nil
		}
		return c.late(f.ID)
	case "epoch":
		return c.takeEpoch(f)
	}
	return fmt.Errorf("unexpected %s: %v", f.Type, f.Error)
}

func (c *modelClient) late(id string) error {
	if c.gone[id] {
		return nil
	}
	return fmt.Errorf("nobody asked for %q", id)
}

func (c *modelClient) reach(position string) (uint64, error) {
	p, err := change.ParsePosition(position)
	if err != nil || p.Log != testLog {
		return 0, fmt.Errorf("position %q: %v", position, err)
	}
	return p.Seq, nil
}

func (c *modelClient) takePage(f *incoming) error {
	s := c.subs[f.ID]
	if s == nil {
		return c.late(f.ID)
	}
	if s.complete && s.asked { // its view has become another one
		s.complete, s.asked, s.rows = false, false, nil
	}
	if s.complete {
		return fmt.Errorf("a page for %s, which is complete", f.ID)
	}
	seq, err := c.reach(f.Position)
	if err != nil {
		return err
	}
	if s.pages == nil {
		s.pages, s.pos, s.key = map[string]string{}, seq, f.Key
	} else if s.pos != seq {
		return fmt.Errorf("pages of %s at %d and %d", s.id, s.pos, seq)
	}
	for _, row := range f.Rows {
		key := s.keyOf(row)
		if _, twice := s.pages[key]; twice {
			return fmt.Errorf("row %s twice", key)
		}
		s.pages[key] = canonical(row)
	}
	if f.More {
		return nil
	}
	s.rows, s.pages, s.complete = s.pages, nil, true
	return c.check(s)
}

func (s *modelSub) keyOf(row map[string]any) string {
	key := []any{}
	for _, k := range s.key {
		key = append(key, row[k])
	}
	return canonical(key)
}

// check compares the rows with the model's at the subscription's position.
func (c *modelClient) check(s *modelSub) error {
	if want := c.m.expect(s.query, s.pos); !maps.Equal(s.rows, want) {
		return fmt.Errorf("%s (%+v) at %d has %v\nwant %v", s.id, c.m.queries[s.query], s.pos, s.rows, want)
	}
	return nil
}

func (c *modelClient) takeEpoch(f *incoming) error {
	seq, err := c.reach(f.Position)
	if err != nil {
		return err
	}
	if seq < c.pos {
		return fmt.Errorf("the position fell from %d to %d", c.pos, seq)
	}
	if f.From != "" {
		from, err := c.reach(f.From)
		if err != nil {
			return err
		}
		for _, s := range c.subs {
			if s.complete && !s.asked && from > s.pos {
				return fmt.Errorf("%s stands at %d, the run begins at %d", s.id, s.pos, from)
			}
		}
	}
	c.pos = seq
	for id, ch := range f.Changes {
		s := c.subs[id]
		if s == nil {
			if err := c.late(id); err != nil {
				return err
			}
			continue
		}
		if !s.complete || s.asked {
			return fmt.Errorf("changes for %s, which has no rows yet", id)
		}
		if err := s.apply(ch, c.m.again[c.m.queries[s.query].view]); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	for _, s := range c.subs {
		if !s.complete || s.asked {
			continue
		}
		s.pos = seq
		if err := c.check(s); err != nil {
			return err
		}
	}
	return nil
}

// apply takes changes. again says that a row may come that is there already.
func (s *modelSub) apply(ch incomingChanges, again bool) error {
	named := map[string]bool{}
	for _, row := range ch.Put {
		key, val := s.keyOf(row), canonical(row)
		if named[key] {
			return fmt.Errorf("key %s twice in a frame", key)
		}
		named[key] = true
		if s.rows[key] == val && !again {
			return fmt.Errorf("put of %s changes nothing", val)
		}
		s.rows[key] = val
	}
	for _, k := range ch.Del {
		key := canonical(k)
		if named[key] {
			return fmt.Errorf("key %s twice in a frame", key)
		}
		named[key] = true
		if _, ok := s.rows[key]; !ok {
			return fmt.Errorf("del of %s, which is not there", key)
		}
		delete(s.rows, key)
	}
	return nil
}
