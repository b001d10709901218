package ingest

import (
	"container/list"
	"context"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/wire"
)

// What the gate works with. Times are what a write may wait behind others once it is let in, or before that.
const (
	overhead  = 4 << 10                // bytes that a request takes beside its rows; keeps a crowd of tiny ones from counting as nothing
	target    = 3 * time.Millisecond   // the work let in beyond what keeps log and engine busy takes no longer than this, or than an unhindered write
	patience  = 250 * time.Millisecond // nobody queues for room who would have to wait longer than this
	recovery  = time.Second            // a sender that was refused hardly queues until it was not refused for so long
	measure   = 50 * time.Millisecond  // between two looks at the rate
	baseSpan  = 10 * time.Second       // how long what an unhindered write takes is believed
	bestSpan  = 15 * time.Second       // in which the best rate is forgotten
	windowMin = 64 << 10               // bytes
	rateFirst = 32 << 20               // bytes a second, until there is a measurement
	rateMin   = 64 << 10               // the least that is believed
	baseFirst = 5 * time.Millisecond   // until there is a measurement
	retryMin  = 100 * time.Millisecond
	retryMost = 30 * time.Second
	pace      = 5 * time.Millisecond   // between two refusals of one sender, on average
	paceAlone = 100 * time.Microsecond // the same when nobody else writes
	paceAhead = 25 * time.Millisecond  // that may come at once
	paceMost  = time.Second            // the longest that a refusal, or a paced sender, waits for its turn
	pacedPart = 0.1                    // of the rate, for all together who have more to write than finds room while others are content
	idleFor   = time.Second            // a sender counts among those who share for so long after its last write
	mostOwn   = 1 << 14                // senders that are told apart; others share places
)

// gate lets writes in. It bounds the bytes under way, from a write's check to its final answer, by the limit (memory) and by a window (time): what log and
// engine take while one unhindered write passes, and a little more. A longer queue makes nothing faster and everything late, so what is beyond the
// window waits before it is checked, in a short line, or is refused at once, which costs next to nothing.
//
// Senders share the window: up to half of it is anybody's, beyond that each has an equal part, and who has nothing under way is let in up to
// twice the window. Owned by the [Writer], under its lock.
type gate struct {
	limit   int
	wait    time.Duration
	shut    *wire.Problem // why nobody is let in now
	senders map[senderKey]*sender
	seed    maphash.Seed
	active  int       // senders that share: those that were seen in the last second or two
	greedy  int       // of them, those that were refused
	lines   list.List // of *sender that have somebody waiting, in the order of their turns
	held    int       // bytes let in and not answered
	queued  int       // of them, on their way into the log
	logged  int       // of them, with the engine
	large   int       // of them, being read and checked, in writes larger than windowMin
	dropped int       // bytes that were let in lately and never got to the log
	lined   int       // bytes that wait to be let in

	window int
	rate   float64       // bytes a second that are answered when there is enough to do
	best   float64       // the highest of the last while
	base   time.Duration // what an unhindered write takes, in three of four moments

	// Since the last look:
	looked time.Time
	done   int           // bytes answered
	times  int           // batches answered
	sum    time.Duration // of the times of their quickest writes
	full   time.Duration // how long the window was full

	filled  time.Time // the window has been full since; zero: it is not
	lacked  time.Time // somebody found no room
	freed   time.Time // somebody found no room after a second in which all did
	crowded time.Time // somebody was refused since the lines of all are too long
	last    time.Time // something was answered
	swept   time.Time // the senders
	known   time.Time // when base was last measured; zero: never
	asked   time.Time // since when it should be
	probe   probe
}

// probe is a short time with a small window, for base to be measured when there is always a queue.
type probe struct {
	from, to time.Time // what is measured between counts
}

// senderKey tells principals apart.
type senderKey struct {
	subject string
	from    netip.Addr
	shared  uint16 // beyond mostOwn senders: a place that several share
}

func keyOf(who auth.Principal) senderKey {
	key := who.Caller()
	return senderKey{subject: key.Subject, from: key.From}
}

// sender is one principal while it writes, and a while afterwards.
type sender struct {
	key     senderKey
	held    int       // bytes let in and not answered
	seen    time.Time // when it last asked
	refused time.Time // when it was last refused for want of room
	owed    float64   // bytes that it would have waiting if nothing had been refused, as of owedAt
	owedAt  time.Time
	next    time.Time // when what it was let in with has passed at the rate of those that are paced
	told    time.Time // when the next refusal is due, see pace
	line    []*waiter // who waits to be let in, in order
	lined   int       // bytes of line

	place *list.Element // in gate.lines; nil when nobody waits

	parts   []*part // in turns: what waits for the log
	deficit int
	behind  *sender
}

// waiter is a write that waits to be let in.
type waiter struct {
	cost     int
	priority app.Priority
	since    time.Time
	in       chan *wire.Problem // capacity 1: nil when it is let in
}

// ticket is the room that one write has. Not for concurrent use.
type ticket struct {
	w    *Writer
	of   *sender
	cost int
	at   time.Time
}

func (g *gate) open(limit int, wait time.Duration, now time.Time) {
	g.limit, g.wait = limit, wait
	g.senders, g.seed = map[senderKey]*sender{}, maphash.MakeSeed()
	g.rate, g.base = rateFirst, baseFirst
	g.looked, g.last, g.swept = now, now, now
	g.asked = now.Add(time.Second - baseSpan)
	g.resize(now)
}

// resize sets the window: what is answered in twice the time of an unhindered write, so that a sender that may have half of it can keep log
// and engine busy. A rate that is measured while the machine is busy with something else must not make the window so small that the rate
// stays low: half of the best of the last while is always believed.
func (g *gate) resize(now time.Time) {
	window := min(max(g.rate, g.best/2)*(g.base+max(g.base, target)).Seconds(), 1<<40)
	if now.Before(g.probe.to) {
		window /= 4
	}
	g.window = min(max(int(window), windowMin), g.limit)
}

// sender returns the sender of a principal, making it if needed.
func (g *gate) sender(who auth.Principal, now time.Time) *sender {
	if now.Sub(g.swept) > idleFor { // here and not where writes are answered: also while nothing is, one that comes again and again is one
		g.sweep(now)
	}
	key := keyOf(who)
	s := g.senders[key]
	if s == nil && len(g.senders) >= mostOwn {
		if now.Sub(g.swept) > idleFor/10 {
			g.sweep(now)
		}
		if len(g.senders) >= mostOwn {
			key = senderKey{shared: uint16(1 + maphash.Comparable(g.seed, key)%1024)}
			s = g.senders[key]
		}
	}
	if s == nil {
		s = &sender{key: key, owedAt: now}
		g.senders[key] = s
	}
	if now.Sub(s.seen) > idleFor && s.held == 0 && s.line == nil { // else it is counted
		g.active++
	}
	s.seen = now
	return s
}

// sweep counts the senders that share, and forgets those that have nothing and were not seen for a while.
func (g *gate) sweep(now time.Time) {
	g.swept, g.active, g.greedy = now, 0, 0
	for k, s := range g.senders {
		if s.tight(now) {
			g.greedy++
		}
		switch {
		case s.held > 0 || s.line != nil || now.Sub(s.seen) <= idleFor:
			g.active++
		case g.owing(s, now) == 0:
			delete(g.senders, k)
		}
	}
}

// sharing returns how many share the window.
func (g *gate) sharing() int { return max(1, g.active) }

// capped returns how much of most a priority may fill.
func capped(most int, p app.Priority) int {
	switch p {
	case app.LowPriority:
		return most / 2
	case app.HighPriority:
		return most
	}
	return most / 10 * 9
}

// room reports whether a write may be let in now.
func (g *gate) room(s *sender, cost int, p app.Priority, now time.Time) bool {
	if g.shut != nil {
		return false
	}
	most, held := capped(g.window/9*10, p), g.held
	if cost <= windowMin { // a large write that takes long to check, or to refuse, is not before the small ones
		held -= g.large
	}
	switch {
	case g.paced(s, now):
		return false
	case held == 0 && g.held+cost <= g.limit || g.held == 0: // whatever its size
		return true
	case g.held+cost > capped(g.limit, p):
		return false
	case s.held == 0:
		return held < 2*most
	case held < most/2:
		return cost <= most
	}
	return held < most && s.held < most/g.sharing() && cost <= most
}

// paced reports whether a sender that has a line, or goes on after refusals, has had what it may while others write, too. With one of its writes always under
// way, as the window alone would have it, every write of the others would be behind it.
func (g *gate) paced(s *sender, now time.Time) bool { return g.beside(s, now) && now.Before(s.next) }

// beside reports whether a sender has more to write than finds room while most others are content. Where most are refused there is nobody to protect.
func (g *gate) beside(s *sender, now time.Time) bool {
	return g.active > 1 && 2*g.greedy <= g.active && (s.line != nil || s.tight(now))
}

// allowance is the bytes a second that a sender has while it is paced: all such senders together have a part of the rate, each at least a third of what it would
// be if all had alike. More is before too many of the others' writes: with all of its equal part their p99 was 1.3 to 1.6 times as long.
func (g *gate) allowance() float64 {
	return max(g.rate*pacedPart/float64(max(1, g.greedy)), g.rate/float64(3*g.sharing()))
}

// turn is when a paced sender has had time for what waits before a write.
func (g *gate) turn(s *sender, before int, now time.Time) time.Time {
	return later(s.next, now).Add(time.Duration(float64(before) / g.allowance() * float64(time.Second)))
}

// share is the part of the rate that a sender has which waits.
func (g *gate) share() float64 { return g.rate / float64(max(1, g.lines.Len())) }

// tight reports whether a sender was refused so recently that it hardly queues.
func (s *sender) tight(now time.Time) bool {
	return !s.refused.IsZero() && now.Sub(s.refused) < recovery
}

// hopeless reports whether a write of s that finds no room is refused without a wait.
func (g *gate) hopeless(s *sender, cost int, p app.Priority, now time.Time) bool {
	switch {
	case g.shut != nil:
		return g.lined+cost > capped(g.limit, p)
	case p == app.LowPriority || g.wait == 0 || g.lined+cost > g.limit:
		return true
	case s.tight(now) && g.paced(s, now):
		return true
	case s.tight(now): // a moment's worth of a line keeps those from being refused who come together by chance
		return s.before(p)+cost > g.window/4/max(1, g.lines.Len())
	case now.Sub(g.crowded) < recovery, g.lined > int(g.rate*patience.Seconds()*3/2): // however short its own line is
		g.crowded = now
		return true
	}
	ahead := time.Duration(float64(s.before(p)) / g.share() * float64(time.Second))
	if g.beside(s, now) {
		ahead = g.turn(s, s.before(p), now).Sub(now)
	}
	return ahead > min(patience, g.wait)
}

// lacks notes that s finds no room.
func (g *gate) lacks(s *sender, now time.Time) {
	if g.shut != nil {
		return
	}
	if now.Sub(g.lacked) > recovery {
		g.freed = now
	}
	g.lacked = now
	if g.filled.IsZero() && !g.beside(s, now) { // whose lack says nothing of how much passes
		g.filled = now
	}
}

// fills returns for how much of the time since the last look the window was full.
func (g *gate) fills(now time.Time) float64 {
	if !g.filled.IsZero() {
		g.full += now.Sub(g.filled)
		g.filled = now
	}
	return float64(g.full) / float64(now.Sub(g.looked))
}

// urgent returns how many of high priority are at the front of the line, and their bytes.
func (s *sender) urgent() (n, bytes int) {
	for n < len(s.line) && s.line[n].priority == app.HighPriority {
		bytes += s.line[n].cost
		n++
	}
	return n, bytes
}

// before returns the bytes in s's own line that go before a write.
func (s *sender) before(p app.Priority) int {
	if p == app.HighPriority {
		_, bytes := s.urgent()
		return bytes
	}
	return s.lined
}

// queue has a write wait for room, behind those of its sender that do; high priority goes before others, which come on other connections.
func (g *gate) queue(s *sender, cost int, p app.Priority, now time.Time) *waiter {
	x := &waiter{cost: cost, priority: p, since: now, in: make(chan *wire.Problem, 1)}
	if s.place == nil {
		s.place = g.lines.PushBack(s)
	}
	at := len(s.line)
	if p == app.HighPriority {
		at, _ = s.urgent()
	}
	s.line = slices.Insert(s.line, at, x)
	s.lined += cost
	g.lined += cost
	return x
}

// unqueue takes the i-th of s's line out.
func (g *gate) unqueue(s *sender, i int) *waiter {
	x := s.line[i]
	s.line = append(s.line[:i], s.line[i+1:]...)
	s.lined -= x.cost
	g.lined -= x.cost
	if len(s.line) == 0 {
		g.lines.Remove(s.place)
		s.line, s.place = nil, nil
	}
	return x
}

// take lets a write in.
func (g *gate) take(s *sender, cost int) {
	g.held += cost
	s.held += cost
}

// charge counts what s was let in with against what it has while it is paced. What it was let in with before does not count: as long as nobody else wrote, it had
// all there was.
func (g *gate) charge(s *sender, cost int, now time.Time) {
	d := min(time.Duration(float64(cost)/g.allowance()*float64(time.Second)), paceMost)
	if cost < 0 { // it takes less than it was let in with
		s.next = s.next.Add(d)
		return
	}
	s.next = now.Add(d)
}

// admit lets in those who wait, one of each sender in turn, as far as there is room.
func (g *gate) admit(now time.Time) {
	short := false // somebody has no room, and it is not for being paced
	for stuck := 0; stuck < g.lines.Len() && (g.held == 0 || g.held-g.large < 2*g.window); {
		at := g.lines.Front()
		g.lines.MoveToBack(at)
		s := at.Value.(*sender)
		x := s.line[0]
		if !g.room(s, x.cost, x.priority, now) {
			stuck++
			short = short || !g.paced(s, now)
			continue
		}
		stuck, short = 0, false
		g.unqueue(s, 0)
		s.seen = now
		g.take(s, x.cost)
		g.checks(x.cost, 1)
		g.charge(s, x.cost, now)
		x.in <- nil
	}
	if !g.filled.IsZero() && !short && g.held < g.window {
		g.full += now.Sub(g.filled)
		g.filled = time.Time{}
	}
}

// refuseAll answers everybody who waits to be let in.
func (g *gate) refuseAll(p *wire.Problem) {
	for g.lines.Len() > 0 {
		g.unqueue(g.lines.Front().Value.(*sender), 0).in <- p
	}
}

// leave gives room back. passed says that the bytes went all the way.
func (g *gate) leave(s *sender, cost int, passed bool) {
	if s == nil {
		return
	}
	g.held -= cost
	s.held -= cost
	if passed {
		g.done += cost
	}
}

// checks counts a write whose check begins, or ends with by -1.
func (g *gate) checks(cost, by int) {
	if cost > windowMin {
		g.large += by * cost
	}
}

// look measures what passes, now and then. took is the time of the quickest write of one batch.
func (g *gate) look(took time.Duration, now time.Time) {
	g.last = now
	g.times++
	g.sum += took
	span := now.Sub(g.looked)
	if span < measure {
		return
	}
	filled, rate := g.fills(now), float64(g.done)/span.Seconds()
	probing := g.looked.Before(g.probe.to)
	switch {
	case filled < 0.5:
		g.rate = max(g.rate, rate)
	case !probing && (rate > g.rate || g.dropped+g.large <= g.done): // what was refused by its rows says nothing of how much passes
		g.rate += (rate - g.rate) / 4
	}
	g.dropped -= g.dropped / 4
	g.rate = max(g.rate, rateMin)
	g.best = max(rate, g.best*(1-min(span.Seconds()/bestSpan.Seconds(), 0.5)))
	if g.looked.Sub(g.lacked) > measure+2*g.base || probing && !g.looked.Before(g.probe.from) {
		g.rebase(g.sum/time.Duration(g.times), now)
		g.asked = now
	} else if filled > 0.5 && now.Sub(g.asked) > baseSpan && !probing { // a queue that is always there would be taken for the way itself
		drained := time.Duration(float64(g.held) / g.rate * float64(time.Second))
		g.probe.from = now.Add(drained + measure)
		g.probe.to = g.probe.from.Add(2*measure + drained)
	}
	g.looked, g.done, g.times, g.sum, g.full = now, 0, 0, 0, 0
	g.resize(now)
	g.shed(now)
}

// rebase believes the time that writes took while there was no queue. It moves in small steps, three times as far up as down: to what three of four
// times are below, whatever the fourth is. A moment in which the machine stood still is nothing to go by.
func (g *gate) rebase(took time.Duration, now time.Time) {
	switch first := g.known.IsZero(); {
	case first:
		g.base = took
	case took > g.base:
		g.base += min(took-g.base, g.base*8/100)
	default:
		g.base -= min(g.base-took, g.base*8/300)
	}
	g.known = now
}

// shed refuses who has no prospect any more: when the first of a line has waited twice as long as anybody should, all but the first few of it.
func (g *gate) shed(now time.Time) {
	keep := int(g.share() * target.Seconds())
	for at := g.lines.Front(); at != nil; {
		s := at.Value.(*sender)
		at = at.Next()
		if g.shut != nil || now.Sub(s.line[0].since) < min(2*patience, g.wait) {
			continue
		}
		for len(s.line) > 1 && s.lined > keep {
			x := g.unqueue(s, len(s.line)-1)
			problem, _ := g.refuse(s, x.cost, x.priority, now)
			x.in <- problem
		}
	}
}

// owing returns the bytes that s would have waiting if nothing of it had been refused: they drain with its part of the rate, and are gone when
// there was room for all.
func (g *gate) owing(s *sender, now time.Time) float64 {
	if s.owedAt.Before(g.freed) {
		s.owed = 0
	}
	part := g.rate / float64(g.sharing())
	s.owed = max(0, s.owed-part*now.Sub(s.owedAt).Seconds())
	s.owedAt = now
	return s.owed
}

// retry is when a refused write of s would have its turn, with a jitter so that not all come back at once.
func (g *gate) retry(s *sender, cost int, now time.Time) time.Duration {
	part := g.rate / float64(g.sharing())
	s.owed = min(g.owing(s, now)+float64(cost), part*retryMost.Seconds())
	after := time.Duration((s.owed + float64(s.held+s.lined)) / part * float64(time.Second))
	if g.held > 0 { // nothing moves: it will not move much sooner
		after = max(after, now.Sub(g.last))
	}
	after = time.Duration(float64(after) * (0.8 + 0.4*rand.Float64()))
	return min(max(after, retryMin), retryMost)
}

// Reasons of refusals, as /metrics names them.
const (
	reasonPaused   = "paused"   // the disk is low, or the log is being reopened
	reasonPriority = "priority" // the table's priority is too low for now
	reasonShare    = "share"    // its sender has its share
	reasonEngine   = "engine"   // the engine is behind
	reasonLog      = "log"      // the log is behind
	reasonLoad     = "load"     // more comes than can be checked
	reasonMemory   = "memory"   // limits.requests
	reasonIDs      = "ids"      // limits.dedupe_memory
)

// refuse is the problem of a write for which there is no room, with the reason.
func (g *gate) refuse(s *sender, cost int, p app.Priority, now time.Time) (problem *wire.Problem, reason string) {
	after := g.retry(s, cost, now)
	if g.shut != nil {
		own := *g.shut
		own.RetryAfterMS = max(own.RetryAfterMS, int(after/time.Millisecond))
		return &own, reasonPaused
	}
	s.refused = now
	switch {
	case p == app.LowPriority && g.held+cost <= g.window:
		return busy("the table has low priority, and half of what may be pending is", after).
			WithHint("send again after the given time; the table's WITH (priority = …) says that its writes go last"), reasonPriority
	case g.sharing() > 1 && s.held+cost > capped(g.window/9*10, p)/g.sharing() && g.held+cost <= g.limit:
		problem = wire.NewProblem(wire.RateLimited, "more than this caller's share of what the server takes").
			WithHint("send again after the given time, and slower")
		problem.RetryAfterMS = int(after / time.Millisecond)
		return problem, reasonShare
	case g.logged > g.held/2:
		return busy("the engine is behind: writes that wait for it have reached their limit", after).
			WithHint("send again after the given time; laaster_engine_apply_seconds says how long a batch takes"), reasonEngine
	case g.queued > g.held/2:
		return busy("the log is behind: writes that wait for it have reached their limit", after).
			WithHint("send again after the given time; laaster_log_append_seconds says how long an append takes"), reasonLog
	}
	return busy("more comes than the server takes", after).WithHint("send again after the given time, and slower"), reasonLoad
}

func busy(detail string, after time.Duration) *wire.Problem {
	p := wire.NewProblem(wire.Busy, detail)
	p.RetryAfterMS = int(after / time.Millisecond)
	return p
}

// enter lets a write of so many bytes in, or waits for room, or refuses it. The ticket is the caller's: it goes to submit, or is dropped.
func (w *Writer) enter(ctx context.Context, who auth.Principal, p app.Priority, table string, bytes int) (*ticket, *wire.Problem) {
	cost := bytes + overhead
	now := w.clock.Now()
	w.mu.Lock()
	g := &w.mu.gate
	if w.mu.closed != nil {
		w.mu.Unlock()
		return nil, w.mu.closed
	}
	s := g.sender(who, now)
	t := &ticket{w: w, of: s, cost: cost, at: now}
	if s.before(p) == 0 && g.room(s, cost, p, now) {
		g.take(s, cost)
		g.checks(cost, 1)
		g.charge(s, cost, now)
		w.mu.Unlock()
		return t, nil
	}
	g.lacks(s, now)
	if g.hopeless(s, cost, p, now) {
		problem, reason := g.refuse(s, cost, p, now)
		w.mu.Unlock()
		w.meters.refuse(table, reason)
		return nil, problem
	}
	before := s.before(p)
	x := g.queue(s, cost, p, now)
	var turn time.Duration
	if g.paced(s, now) {
		turn = g.turn(s, before, now).Sub(now)
	}
	w.mu.Unlock()
	problem := w.await(ctx, t, x, p, table, turn)
	if problem != nil {
		return nil, problem
	}
	t.at = w.clock.Now()
	return t, nil
}

// await waits until x is let in. When it is not, nothing of it is held. turn, if not 0, is how long a sender that is paced has to wait: nothing else may happen then
// that would let it in.
func (w *Writer) await(ctx context.Context, t *ticket, x *waiter, p app.Priority, table string, turn time.Duration) *wire.Problem {
	late := w.clock.After(w.wait)
	for waiting := true; waiting; {
		var again <-chan time.Time
		if turn > 0 {
			again = w.clock.After(turn)
		}
		select {
		case problem := <-x.in:
			return problem
		case <-again:
			turn = w.turn(t.of, x)
		case <-late:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, y := range t.of.line {
		if y != x {
			continue
		}
		w.mu.gate.unqueue(t.of, i)
		if ctx.Err() != nil {
			return wire.NewProblem(wire.Busy, "the caller went away before there was room")
		}
		problem, reason := w.mu.gate.refuse(t.of, x.cost, p, w.clock.Now())
		w.meters.refuse(table, reason)
		return problem
	}
	return <-x.in // let in, or answered, just now
}

// turn lets in who may be now, and returns how long x has to wait if it was not among them and nothing else would let it in; else 0.
func (w *Writer) turn(s *sender, x *waiter) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, now := &w.mu.gate, w.clock.Now()
	g.admit(now)
	before := 0
	for _, y := range s.line {
		if y == x {
			if g.paced(s, now) {
				return max(g.turn(s, before, now).Sub(now), time.Millisecond)
			}
			return 0
		}
		before += y.cost
	}
	return 0
}

// refuses says why a write of so many bytes would be refused at once, nil when it would not: before its body is read. The answer to one who is refused very
// often is to wait for so long: refusals cost little, and a flood of them still keeps a processor from those who are let in.
func (w *Writer) refuses(who auth.Principal, p app.Priority, table string, bytes int) (problem *wire.Problem, wait time.Duration) {
	cost := bytes + overhead
	now := w.clock.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	g := &w.mu.gate
	if w.mu.closed != nil {
		return w.mu.closed, 0
	}
	s := g.sender(who, now)
	if s.before(p) == 0 && g.room(s, cost, p, now) || !g.hopeless(s, cost, p, now) {
		return nil, 0
	}
	g.lacks(s, now)
	problem, reason := g.refuse(s, cost, p, now)
	w.meters.refuse(table, reason)
	s.told = later(s.told, now)
	each := pace
	if g.active < 2 { // nobody else to protect, and its own good writes are behind these
		each = paceAlone
	}
	if s.told = s.told.Add(each); s.told.Sub(now) > paceAhead+paceMost {
		s.told = now.Add(paceAhead + paceMost)
	}
	return problem, max(s.told.Sub(now)-paceAhead, 0)
}

// drop gives the room back of a write that was not queued. It may be called again.
func (t *ticket) drop() {
	if t == nil || t.of == nil {
		return
	}
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.w.mu.gate.checks(t.cost, -1)
	t.w.mu.gate.dropped += t.cost
	t.w.mu.gate.leave(t.of, t.cost, false)
	t.of = nil
	t.w.mu.gate.admit(t.w.clock.Now())
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
