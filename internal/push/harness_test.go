package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// testLog is the log of all tests here.
var testLog = change.LogID([]byte("aaaaaaaaaaaaaaaa"))

// relations returns what the tests read: tally (keyed by text), total (one row), words (no key: copies), secret (not granted).
func relations() []*expr.Relation {
	make := func(id int, name string, key []int, cols ...app.Column) *expr.Relation {
		return &expr.Relation{ID: id, Name: name, Columns: cols, Layout: change.ColumnLayout(cols), Key: key}
	}
	words := make(2, "words", []int{0, 1, 2}, app.Column{Name: "word", Type: app.Text}, app.Column{Name: "lang", Type: app.Text}, app.Column{Name: "_n", Type: app.Int8, NotNull: true})
	words.Copies = true
	tally := make(0, "tally", []int{0}, app.Column{Name: "contestant", Type: app.Text, NotNull: true}, app.Column{Name: "votes", Type: app.Int8}, app.Column{Name: "note", Type: app.Text})
	return []*expr.Relation{
		tally,
		make(1, "total", []int{}, app.Column{Name: "n", Type: app.Int8}),
		words,
		make(3, "secret", []int{0}, app.Column{Name: "x", Type: app.Int8}),
	}
}

// rulesFunc is Rules for all rows and columns of what it allows.
type rulesFunc func(p auth.Principal, relation string) *wire.Problem

func (f rulesFunc) Allow(p auth.Principal, relation string, _ app.Privilege) *wire.Problem {
	return f(p, relation)
}

func (f rulesFunc) Columns(auth.Principal, string, app.Privilege) []bool { return nil }

func (f rulesFunc) Rows(auth.Principal, string, app.Privilege) (*auth.Rule, *wire.Problem) {
	return nil, nil
}

func authorize(p auth.Principal, relation string) *wire.Problem {
	if relation == "secret" {
		return wire.NewProblem(wire.Unauthenticated, "SELECT on secret is not granted to "+p.Role)
	}
	return nil
}

// table is rows of one relation by key bytes, as values in text; nil is NULL.
type table map[string][]*string

// world makes epochs: it knows the present rows.
type world struct {
	rels []*expr.Relation
	rows []table
	seq  uint64
}

func newWorld(rels []*expr.Relation) *world {
	w := &world{rels: rels, rows: make([]table, len(rels))}
	for i := range w.rows {
		w.rows[i] = table{}
	}
	return w
}

func (w *world) clone() *world {
	c := &world{rels: w.rels, seq: w.seq, rows: make([]table, len(w.rows))}
	for i := range w.rows {
		c.rows[i] = maps.Clone(w.rows[i])
	}
	return c
}

// encode returns the key and the row of values in text.
func encode(rel *expr.Relation, vals []*string) (key []byte, row change.Row) {
	cells := make([]change.Value, len(vals))
	for i, v := range vals {
		switch {
		case v == nil:
			cells[i] = change.Null()
		case rel.Columns[i].Type == app.Int8:
			n, err := strconv.ParseInt(*v, 10, 64)
			if err != nil {
				panic(err)
			}
			cells[i] = change.Int(n)
		default:
			cells[i] = change.Bytes([]byte(*v))
		}
	}
	for _, k := range rel.Key {
		key = change.AppendKey(key, rel.Columns[k].Type, cells[k], false, false)
	}
	if key == nil {
		key = []byte{}
	}
	return key, rel.Layout.Append(nil, cells)
}

// edit is one row to put, or with gone to take away.
type edit struct {
	rel  int
	vals []*string
	gone bool
}

// epoch applies edits and returns the epoch that does the same.
func (w *world) epoch(edits []edit) *change.Epoch {
	w.seq++
	e := &change.Epoch{Seq: w.seq, Stamp: int64(w.seq) * 1000}
	for rel := range w.rels {
		changes := map[string]*change.RowChange{}
		for _, ed := range edits {
			if ed.rel == rel {
				w.edit(changes, ed)
			}
		}
		d := change.Delta{Relation: rel}
		for _, k := range slices.Sorted(maps.Keys(changes)) {
			if c := changes[k]; !same(c.Old, c.New) {
				d.Changes = append(d.Changes, *c)
			}
		}
		if len(d.Changes) > 0 {
			e.Deltas = append(e.Deltas, d)
		}
	}
	e.Bytes = 200
	for _, d := range e.Deltas {
		for _, c := range d.Changes {
			e.Bytes += 72 + len(c.Key) + len(c.Old) + len(c.New)
		}
	}
	return e
}

func (w *world) edit(changes map[string]*change.RowChange, ed edit) {
	key, row := encode(w.rels[ed.rel], ed.vals)
	k := string(key)
	c := changes[k]
	if c == nil {
		c = &change.RowChange{Key: key}
		if old, ok := w.rows[ed.rel][k]; ok {
			_, c.Old = encode(w.rels[ed.rel], old)
		}
		changes[k] = c
	}
	if ed.gone {
		delete(w.rows[ed.rel], k)
		c.New = nil
		return
	}
	w.rows[ed.rel][k] = ed.vals
	c.New = row
}

// bench is a hub over a store that the test moves by hand.
type bench struct {
	t     *testing.T
	world *world
	store *view.Store
	hub   *Hub
	clock *testClock
	group *run.Group
	sent  atomic.Uint64
}

func newBench(t *testing.T, opt Options, ringBytes int) *bench {
	t.Helper()
	return newBenchOf(t, opt, ringBytes, relations())
}

// newBenchOf is newBench over other relations.
func newBenchOf(t *testing.T, opt Options, ringBytes int, rels []*expr.Relation) *bench {
	t.Helper()
	b := &bench{t: t, world: newWorld(rels), store: view.New(rels, view.Options{RingBytes: ringBytes}), group: run.New(context.Background())}
	if opt.Clock == nil {
		b.clock = &testClock{Manual: run.NewManual(time.UnixMilli(1_000_000))}
		opt.Clock = b.clock
	}
	opt.Store, opt.Log = b.store, testLog
	if opt.Rules == nil {
		opt.Rules = rulesFunc(authorize)
	}
	opt.Sent = func(_, to uint64) { b.sent.Store(to) }
	hub, err := NewHub(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	b.hub = hub
	hub.deaf = true
	t.Cleanup(func() {
		hub.Drain()
		for _, c := range hub.connections() {
			c.close()
		}
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		if err := b.group.Wait(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// apply makes an epoch and applies it, without waiting for anybody.
func (b *bench) apply(edits ...edit) { b.store.Apply(b.world.epoch(edits)) }

// flushed waits until the hub has written what the store holds to whoever could take it.
func (b *bench) flushed() {
	head, _ := b.store.Head()
	for looks := 1; b.sent.Load() < head; looks++ {
		runtime.Gosched()
		if b.clock == nil || looks%100_000 != 0 {
			continue
		}
		if d := b.clock.merging.Load() - b.clock.Now().UnixNano(); d > 0 { // the hub has begun to merge since the clock was moved, and would for ever
			b.clock.Advance(time.Duration(d))
		}
	}
}

// quiet waits until nobody has anything to do: every request is answered, everything is written that a socket takes.
func (b *bench) quiet(conns ...*memConn) {
	for _, m := range conns {
		m.awaitIdle()
	}
	for _, c := range b.hub.connections() {
		for c.active() {
			runtime.Gosched()
		}
	}
}

// active reports whether somebody works for c, or has to. Waiting for the client to read is not work.
func (c *conn) active() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.mu.over && !stuck(c.sink) && (c.writing() || c.mu.reading > 0)
}

// writing reports whether there is something to write, pages of the log apart. The caller holds c.mu.
func (c *conn) writing() bool {
	return c.mu.busy || c.mu.again || len(c.mu.ops)+len(c.mu.writes)+len(c.mu.replies) > 0
}

// written waits until everything is written but pages of the log that are still to be read.
func (b *bench) written(m *memConn) {
	m.awaitIdle()
	for _, c := range b.hub.connections() {
		for writing := true; writing; runtime.Gosched() {
			c.mu.Lock()
			writing = c.writing()
			c.mu.Unlock()
		}
	}
}

// stuck reports whether a write to s waits for the client to read.
func stuck(s sink) bool {
	var m *memConn
	switch s := s.(type) {
	case *streamSink:
		m, _ = s.conn.(*memConn)
	case *eventSink:
		if r, ok := s.w.(*memResponse); ok {
			m = r.memConn
		}
	}
	if m == nil {
		return true // a real socket: nobody waits for those
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full
}

// testClock is a clock moved by hand that knows until when the hub is merging.
type testClock struct {
	*run.Manual
	merging atomic.Int64
	line    atomic.Int64 // until when somebody waits for the line of a slow client
	turns   atomic.Int64 // waits for a turn to read the log
}

// After implements run.Clock. Only the hub's merging waits so shortly.
func (c *testClock) After(d time.Duration) <-chan time.Time {
	ch := c.Manual.After(d)
	if d <= 10*time.Millisecond {
		c.merging.Store(c.Now().Add(d).UnixNano())
	}
	if d%lineLook == 0 { // nobody else waits for such odd times
		c.line.Store(c.Now().Add(d).UnixNano())
	}
	if d == logTurn {
		c.turns.Add(1)
	}
	return ch
}

// advance moves the clock, once the hub has noticed every epoch, and waits until it has looked at it.
func (b *bench) advance(d time.Duration) {
	for b.hub.behind() && b.clock.merging.Load() <= b.clock.Now().UnixNano() {
		runtime.Gosched()
	}
	b.clock.AwaitSleepers(1)
	b.clock.Advance(d)
	b.clock.AwaitSleepers(1)
}

func str(s string) *string { return &s }

// memConn is a connection in memory. What the server writes piles up unless the reader is stopped, and then at most room bytes.
type memConn struct {
	mu      sync.Mutex
	changed *sync.Cond
	in      []byte // for the server to read
	out     []byte // written by the server
	room    int    // bytes that out takes; negative: any number
	reading bool   // the server waits for input
	full    bool   // a write waits for room
	closed  bool
	eof     bool
}

func newMemConn() *memConn {
	m := &memConn{room: -1}
	m.changed = sync.NewCond(&m.mu)
	return m
}

func (m *memConn) Read(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reading = true
	defer func() { m.reading = false }()
	for told := false; len(m.in) == 0; told = true {
		if m.closed {
			return 0, net.ErrClosed
		}
		if m.eof {
			return 0, io.EOF
		}
		if !told { // once: a write that waits for room would answer with the same
			m.changed.Broadcast()
		}
		m.changed.Wait()
	}
	n := copy(b, m.in)
	m.in = m.in[n:]
	return n, nil
}

func (m *memConn) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for {
		if m.closed {
			return n, net.ErrClosed
		}
		take := len(b) - n
		if m.room >= 0 {
			take = min(take, max(0, m.room-len(m.out)))
		}
		m.out = append(m.out, b[n:n+take]...)
		n += take
		if take > 0 {
			m.changed.Broadcast()
		}
		if n == len(b) {
			return n, nil
		}
		m.full = m.room >= 0 && len(m.out) >= m.room
		m.changed.Wait()
		m.full = false
	}
}

func (m *memConn) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.changed.Broadcast()
	return nil
}

// send gives the server bytes to read.
func (m *memConn) send(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.in = append(m.in, b...)
	m.changed.Broadcast()
}

// hangUp is the client vanishing: the server reads an end.
func (m *memConn) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.eof = true
	m.changed.Broadcast()
}

// limit says how many unread bytes the connection holds before the server's writes wait.
func (m *memConn) limit(room int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.room, m.full = room, false
	m.changed.Broadcast()
}

// awaitIdle waits until the server has read everything and waits for more, or has closed.
func (m *memConn) awaitIdle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.closed && !m.eof && !(m.reading && len(m.in) == 0) {
		m.changed.Wait()
	}
}

// left returns how many bytes the server has not read.
func (m *memConn) left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.in)
}

func (m *memConn) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func (m *memConn) awaitClosed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.closed {
		m.changed.Wait()
	}
}

func (m *memConn) awaitOutput() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.out) == 0 {
		m.changed.Wait()
	}
}

// take returns what the server has written.
func (m *memConn) take() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.out
	m.out, m.full = nil, false
	m.changed.Broadcast()
	return b
}

func (m *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (m *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (m *memConn) SetDeadline(time.Time) error      { return nil }
func (m *memConn) SetReadDeadline(time.Time) error  { return nil }
func (m *memConn) SetWriteDeadline(time.Time) error { return nil }

// clientFrame is a masked frame as a client sends it.
func clientFrame(op byte, fin bool, payload []byte) []byte {
	mask := [4]byte{1, 2, 3, 4}
	b := []byte{op}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = append(b, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// serverFrames cuts what the server wrote into frames.
func serverFrames(b []byte) (frames []string, rest []byte, err error) {
	for len(b) >= 2 {
		op, n, head := b[0]&15, int(b[1]), 2
		if b[1]&0x80 != 0 || b[0]&0x70 != 0 || b[0]&0x80 == 0 {
			return frames, b, fmt.Errorf("a frame that no server may send: % x", b[:2])
		}
		switch n {
		case 126:
			head = 4
		case 127:
			head = 10
		}
		if len(b) < head {
			break
		}
		if head > 2 {
			n = 0
			for _, c := range b[2:head] {
				n = n<<8 | int(c)
			}
		}
		if len(b) < head+n {
			break
		}
		payload := b[head : head+n]
		switch op {
		case opText:
			frames = append(frames, string(payload))
		case opPing:
			frames = append(frames, "(ping) "+string(payload))
		case opPong:
			frames = append(frames, "(pong) "+string(payload))
		case opClose:
			s := "(close)"
			if n >= 2 {
				s = fmt.Sprintf("(close %d) %s", int(payload[0])<<8|int(payload[1]), payload[2:])
			}
			frames = append(frames, s)
		default:
			return frames, b, errors.New("unexpected opcode")
		}
		b = b[head+n:]
	}
	return frames, b, nil
}

// memResponse is an http.ResponseWriter whose body can be looked at while the handler runs.
type memResponse struct {
	*memConn
	head    http.Header
	started chan struct{} // closed with the status
	done    chan struct{} // closed by whoever runs the handler, when it has returned
	status  int
	vanish  context.CancelFunc // the client is gone
}

func newMemResponse() *memResponse {
	return &memResponse{memConn: newMemConn(), head: http.Header{}, started: make(chan struct{}), done: make(chan struct{})}
}

func (m *memResponse) Header() http.Header { return m.head }

func (m *memResponse) WriteHeader(status int) {
	m.status = status
	close(m.started)
}

// FlushError implements what http.ResponseController looks for.
func (m *memResponse) FlushError() error { return nil }

// SetWriteDeadline implements what http.ResponseController looks for: only the past is ever set, to stop a write.
func (m *memResponse) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() {
		return m.Close()
	}
	return nil
}

// serve runs a handler on m and returns when it has begun to answer.
func (b *bench) serve(m *memResponse, handler http.HandlerFunc, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	m.vanish = cancel
	b.group.Go("request", func(context.Context) error {
		defer close(m.done)
		handler(m, r.WithContext(ctx))
		return m.Close()
	})
	<-m.started
}

// writerFunc is a Writer.
type writerFunc func(ctx context.Context, p auth.Principal, f *wire.WriteFrame) (*wire.WriteResult, *wire.Problem)

func (f writerFunc) Write(ctx context.Context, p auth.Principal, w *wire.WriteFrame) (*wire.WriteResult, *wire.Problem) {
	return f(ctx, p, w)
}

// relation returns what has this name now.
func (h *Hub) relation(name string) *expr.Relation { return h.era.Load().byName[name] }
