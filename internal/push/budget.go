package push

import (
	"context"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"laaster/internal/auth"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// Bounds of what one caller's question may cost. A unit is about what looking at one row costs, a tenth of a microsecond.
const (
	workUnit       = 16        // matching (see expr.Ctx.Spent) that counts as one unit
	lightUnits     = 20_000    // a read of more is heavy: heavy ones take turns
	clockUnits     = 1 << 11   // between two looks at the clock
	largeAnswer    = 256 << 10 // bytes: a read that has written more takes turns, however few its rows are
	readSlice      = 5 * time.Millisecond
	readPatience   = 2 * time.Second // how long a heavy read waits for its first turn
	mostHeavy      = 256             // heavy reads under way, those that wait included
	mostHeavyEach  = mostHeavy / 4   // of these: of one caller
	readRowWork    = 1 << 24         // matching on one row of a read: what one match may take, for all conditions together
	liveRowWork    = 1 << 20         // on one row of a live query, which is looked at while others wait: a row that needs more is not part of it
	compareWork    = 1 << 22         // matching to find that a read is still the same; beyond it the rows are sent again
	liveWeight     = 1000            // elements of the patterns of one live query
	liveWeightsAll = 200_000         // of all live queries
)

// cost estimates the units of work that the rows of q take in snap: rows to look at, times what the condition costs on each, and sorting. A caller may be
// charged by it.
func (q *query) cost(snap *view.Snapshot) int64 {
	rows := int64(snap.Len(q.rel.ID))
	switch {
	case q.point:
		rows = min(rows, 1)
	case len(q.lead) > 0: // a part of the key is given: how many rows have it is not known before they are read
		rows = min(rows, 1024)
	}
	sorted := !inKeyOrder(q.rel, q.order())
	if limit := q.filter.Limit; limit >= 0 && !sorted && q.filter.Cond() == nil {
		rows = min(rows, limit+min(q.filter.Offset, 1<<40))
	}
	units := rows * int64(1+q.weight*64/workUnit) // texts are taken to have 64 characters
	if sorted {
		units += rows * int64(bits.Len64(uint64(rows))) / 4
	}
	return 1 + units
}

// checkWeight refuses a live query whose patterns would make every change wait.
func (q *query) checkWeight() *wire.Problem {
	if q.weight <= liveWeight {
		return nil
	}
	return wire.NewProblem(wire.TooMany, fmt.Sprintf("the patterns of a live query have at most %d elements together, these have %d", liveWeight, q.weight)).
		WithField("filter", "use shorter patterns, or a view that has the condition")
}

// readers lets heavy reads take turns, so that those who ask for much share the processors with each other and not with live rows. Safe for concurrent use.
type readers struct {
	slots int // heavy reads that compute at one time
	mu    struct {
		sync.Mutex
		running int
		queue   []chan struct{} // closed when its turn has come, first come first served
		under   int             // heavy reads under way
		callers map[caller]int  // of these
	}
}

// caller is who reads, as far as fairness goes.
type caller struct {
	subject string
	from    netip.Addr
}

func newReaders() *readers {
	rs := &readers{slots: max(1, runtime.GOMAXPROCS(0)*3/4)}
	rs.mu.callers = map[caller]int{}
	return rs
}

// enter counts a heavy read, or says why there may not be another.
func (rs *readers) enter(who caller) *wire.Problem {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.mu.callers[who] >= mostHeavyEach {
		return busyReading("you have many large reads under way")
	}
	if rs.mu.under >= mostHeavy {
		return busyReading("many large reads are under way")
	}
	rs.mu.under++
	rs.mu.callers[who]++
	return nil
}

func (rs *readers) leave(who caller) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.mu.under--
	if rs.mu.callers[who]--; rs.mu.callers[who] == 0 {
		delete(rs.mu.callers, who)
	}
}

// take waits for a turn. It reports false when done or expired came first.
func (rs *readers) take(done <-chan struct{}, expired <-chan time.Time) bool {
	rs.mu.Lock()
	if rs.mu.running < rs.slots {
		rs.mu.running++
		rs.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	rs.mu.queue = append(rs.mu.queue, turn)
	rs.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-done:
	case <-expired:
	}
	rs.mu.Lock()
	for i, t := range rs.mu.queue {
		if t == turn {
			rs.mu.queue = append(rs.mu.queue[:i], rs.mu.queue[i+1:]...)
			rs.mu.Unlock()
			return false
		}
	}
	rs.mu.Unlock()
	rs.give() // it came at the same moment
	return false
}

// give hands a turn to who waits longest.
func (rs *readers) give() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.mu.queue) == 0 {
		rs.mu.running--
		return
	}
	close(rs.mu.queue[0])
	rs.mu.queue = rs.mu.queue[1:]
}

func (rs *readers) wanted() bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return len(rs.mu.queue) > 0
}

func busyReading(detail string) *wire.Problem {
	return retryLater(wire.Busy, detail, time.Second).WithHint("ask again, or for fewer rows: by their key, or with limit in the order of the key")
}

// meter measures what one read costs, lets a heavy one take turns, and ends it at its budget. Waiting for the client is not counted. A nil meter measures
// nothing. Not safe for concurrent use.
type meter struct {
	of      *readers
	who     caller
	clock   run.Clock
	done    <-chan struct{} // of the request
	limit   time.Duration
	units   int           // since the last look at the clock
	total   int           // before that
	spent   time.Duration // up to since
	since   time.Time
	slice   time.Time     // when its turn began
	heavy   bool          // it is counted by readers
	turns   bool          // it takes turns
	turn    bool          // it has one
	problem *wire.Problem // why it was ended
}

// newMeter admits a read by what it is estimated to cost. Call close when it is answered.
func (h *Hub) newMeter(ctx context.Context, who auth.Principal, cost int64) (*meter, *wire.Problem) {
	now := h.clock.Now()
	m := &meter{of: h.reading, who: caller{who.Subject, who.From}, clock: h.clock, done: ctx.Done(), limit: h.opt.ReadTime, since: now, slice: now}
	if cost > lightUnits {
		m.admit()
	}
	return m, m.problem
}

// admit makes the read a heavy one, or ends it when there is no room for it.
func (m *meter) admit() {
	if m.problem = m.of.enter(m.who); m.problem != nil {
		return
	}
	m.heavy, m.turns = true, true
	if !m.turn { // a large answer has one already
		m.take(m.clock.After(readPatience))
	}
}

// take waits for a turn, while it has none; the time until then does not count. When done or expired comes first, the read ends.
func (m *meter) take(expired <-chan time.Time) {
	if m.turn = m.of.take(m.done, expired); !m.turn {
		m.problem = busyReading("other large reads are being answered")
	}
	m.since = m.clock.Now()
	m.slice = m.since
}

// pause gives the turn back and stops the watch: until resume it costs nothing.
func (m *meter) pause() {
	m.spent += m.clock.Now().Sub(m.since)
	if m.turn {
		m.turn = false
		m.of.give()
	}
}

func (m *meter) resume() {
	if m.since = m.clock.Now(); m.turns && m.problem == nil {
		m.take(nil)
	}
}

// step counts one row that was looked at, and reports whether the read may go on.
func (m *meter) step(ctx *expr.Ctx) bool {
	if m == nil {
		return true
	}
	if m.units += 1 + ctx.Spent()/workUnit; m.units < clockUnits {
		return true
	}
	return m.look()
}

func (m *meter) look() bool {
	now := m.clock.Now()
	m.spent += now.Sub(m.since)
	m.since = now
	m.total, m.units = m.total+m.units, 0
	switch {
	case m.problem != nil:
	case m.spent > m.limit:
		m.problem = wire.NewProblem(wire.TooLarge, fmt.Sprintf("the read takes more than %v of the server's time", m.limit)).
			WithHint("ask for rows by their key or in parts of it, with simpler patterns, or make a view of the question")
	case !m.heavy && m.total > lightUnits:
		m.admit()
	case m.turn && now.Sub(m.slice) > readSlice && m.of.wanted():
		m.pause()
		m.resume()
	}
	return m.problem == nil
}

// ended returns why the read may not go on.
func (m *meter) ended() *wire.Problem {
	if m == nil {
		return nil
	}
	return m.problem
}

func (m *meter) close() {
	if m.turn {
		m.turn = false
		m.of.give()
	}
	if m.heavy {
		m.heavy = false
		m.of.leave(m.who)
	}
}

// meteredWriter writes to a client while the meter rests.
type meteredWriter struct {
	w       io.Writer
	m       *meter
	written int // bytes
}

// Write implements io.Writer. Before each piece of a large answer the read waits for its turn: the Go runtime looks for readiness of other sockets only every
// 10 ms while all processors make rows.
func (w *meteredWriter) Write(b []byte) (int, error) {
	if w.written += len(b); w.written > largeAnswer {
		w.m.turns = true
	}
	w.m.pause()
	n, err := w.w.Write(b)
	w.m.resume()
	return n, err
}
