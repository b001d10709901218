package push

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// Hub serves clients. Create it with NewHub; its methods may be called concurrently.
type Hub struct {
	opt     Options
	store   *view.Store
	era     atomic.Pointer[era]
	clock   run.Clock
	deaf    bool // no client answers pings, as those of some tests: none is asked to
	metrics *observe.Metrics
	signals *signals
	group   *run.Group
	leaving context.Context // ends when the hub drains: for requests that wait
	leave   context.CancelFunc
	applied chan struct{}  // a new epoch is there
	passes  chan []*conn   // connections to write to, for the fan-out goroutines
	passing sync.WaitGroup // the shares of one pass
	opening sync.WaitGroup // connections that are accepted and have no reader yet
	kept    fragments
	past    logReader
	total   counters
	sorting sortBudget
	reading *readers
	kicked  []*conn // of the flush under way; the loop's

	windowed    atomic.Int64  // bytes of all windows
	followed    atomic.Uint64 // the memberships have followed the epochs up to here, see guard.go
	memberBytes atomic.Int64  // of all memberships
	scans       chan struct{} // has an item for each connection that looks through many rows for new subscriptions

	poll      *poller      // nil: every WebSocket has a goroutine that reads it
	partial   atomic.Int64 // bytes of incomplete messages from clients
	sendings  sync.Pool    // of *sending
	buffers   sync.Pool    // of *rowBuffers
	door      *door        // of WebSockets
	strangers strangers
	merged    mergedFrames
	beats     beats

	mu struct {
		sync.Mutex
		pos       uint64 // epochs up to here have been turned into frames
		stamp     int64  // of pos
		feeds     []feeds
		lastFeed  uint64 // the id of the last feed
		feedCount int
		weight    int    // of all feeds, see query.weight
		lastConn  uint64 // the number of the last connection
		shapes    map[string]*shape
		dirty     map[*shape]struct{}
		stepped   []*shape // those that get every epoch and have something in the one under way
		each      int      // shapes that get every epoch
		marked    []*feed  // with a run
		slid      []*feed  // with a window that an epoch of the flush may have changed
		members   map[string]*membership
		idle      []*membership      // that nobody holds, oldest first
		joined    []*feed            // of memberships that an epoch of the flush may have changed
		turned    []*feed            // with a guard that lets other rows through since the flush
		unguided  map[*feed]struct{} // with a guard that does not know what it lets through at pos
		look      int                // rows that the flush under way may still look at for guards
		render    renderer           // of the runs
		parts     []part             // scratch
		scratch   []byte             // a frame
		recent    recent             // a snapshot since the last flush
		frames    int                // bytes in the logs of all shapes
		ahead     map[*conn]struct{} // connections to look after once pos has passed their cursor
		conns     map[*conn]struct{}
		fresh     wire.FreshnessFrame
		stale     map[*expr.Relation]string // views that stand still, and why
		unsettled bool                      // between Redefine and Settle
		draining  bool
		gone      chan struct{} // closed when draining and the last connection has left
	}
}

// counters are totals since the start.
type counters struct {
	frames, bytes, conflated, gaps, slow atomic.Int64
	vanished                             atomic.Int64 // connections closed because they did not answer pings any more
	slowNow, lowered                     atomic.Int64 // connections at a lower rate than they want; how often one was lowered
}

// NewHub returns a hub that follows opt.Store from where it stands. It runs until Close or until ctx ends.
func NewHub(ctx context.Context, opt Options) (*Hub, error) {
	if err := opt.defaults(); err != nil {
		return nil, err
	}
	rels := opt.Store.Relations()
	h := &Hub{
		opt: opt, store: opt.Store, clock: opt.Clock, metrics: opt.Metrics, group: run.New(ctx),
		applied: make(chan struct{}, 1), passes: make(chan []*conn),
	}
	h.sorting.limit, h.sorting.each = int64(opt.SortBytes), int64(opt.SortEach)
	h.reading = newReaders()
	h.past.turns = make(chan struct{}, logHolders)
	h.scans = make(chan struct{}, 4*runtime.GOMAXPROCS(0))
	h.leaving, h.leave = context.WithCancel(h.group.Context())
	var err error
	if h.signals, err = newSignals(h); err != nil {
		return nil, err
	}
	h.era.Store(newEra(rels, opt.Rules))
	h.mu.feeds = make([]feeds, len(rels))
	h.mu.shapes, h.mu.dirty = map[string]*shape{}, map[*shape]struct{}{}
	h.mu.ahead, h.mu.conns = map[*conn]struct{}{}, map[*conn]struct{}{}
	h.mu.fresh = wire.FreshnessFrame{State: wire.FreshLive}
	h.mu.gone = make(chan struct{})
	h.mu.pos, h.mu.stamp = opt.Store.Head()
	h.followed.Store(h.mu.pos)
	h.mu.members, h.mu.unguided = map[string]*membership{}, map[*feed]struct{}{}
	opt.Store.Notify(h.applied)
	h.door = newDoor(opt.MaxOpening)
	h.strangers.begin(opt.EachOpening)
	h.sendings.New = func() any { return newSending() }
	if p, err := newPoller(); err == nil {
		h.poll = p
		for range pollers() {
			h.group.Go("push poller", p.read)
		}
	}
	h.group.Go("push hub", h.loop)
	h.group.Go("push signals", h.signals.run)
	h.group.Go("push clock", h.watch)
	for range fanOut() {
		h.group.Go("push fan-out", h.write)
	}
	return h, nil
}

// fanOut is how many goroutines write frames: more than there are processors would only wait for each other.
func fanOut() int { return min(runtime.GOMAXPROCS(0), 4) }

// loop turns epochs into frames: at once after a quiet spell, else when Options.Merge has passed and the last frames are
// written. What comes meanwhile becomes one run.
func (h *Hub) loop(ctx context.Context) error {
	var last time.Time
	var cost time.Duration // of a pass
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.applied:
			if !h.behind() {
				continue // a run took this epoch along
			}
		case <-due:
		}
		if wait := last.Add(h.window(cost)).Sub(h.clock.Now()); wait > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-h.clock.After(wait):
			}
		}
		now := h.clock.Now()
		f := h.flush(now)
		if err := h.pass(ctx, f.conns); err != nil {
			return nil
		}
		if f.to > f.from {
			last, cost = now, passCost(cost, h.clock.Now().Sub(now))
			h.opt.Sent(f.from, f.to)
		}
		due = nil
		if f.wait > 0 {
			due = h.clock.After(f.wait)
		}
	}
}

// window returns how long epochs are merged after a pass, by what a pass costs: at most Options.Merge, and with Options.MergeFactor no
// longer than so many times the pass. A pass to a few screens costs little, so they get every epoch almost at once, while a pass to
// thousands is not repeated before it has paid off.
func (h *Hub) window(cost time.Duration) time.Duration {
	if h.opt.MergeFactor <= 0 {
		return h.opt.Merge
	}
	return min(h.opt.Merge, time.Duration(h.opt.MergeFactor)*cost)
}

// passCost returns what a pass costs after one that took so long: a mean of the last few, in which one counts as twice the mean at most. A pass of 30 µs that
// waits 1 ms for its processor has cost nothing more; taken as it is, its MergeFactor would have the next epoch wait for the whole of Options.Merge, and most
// of all while others keep the processors busy.
func passCost(cost, took time.Duration) time.Duration {
	const few = 100 * time.Microsecond // whatever the mean is
	return cost + (min(took, max(2*cost, few))-cost)/4
}

// behind reports whether there are epochs that are in no frame.
func (h *Hub) behind() bool {
	head, _ := h.store.Head()
	h.mu.Lock()
	defer h.mu.Unlock()
	return head > h.mu.pos
}

// pass has everything written to conns that their sockets take without waiting, and returns then.
func (h *Hub) pass(ctx context.Context, conns []*conn) error {
	const share = 64
	if len(conns) <= share {
		for _, c := range conns {
			c.kick(true)
		}
		return nil
	}
	for len(conns) > 0 {
		n := min(share, len(conns))
		h.passing.Add(1)
		select {
		case h.passes <- conns[:n]:
		case <-ctx.Done():
			return ctx.Err()
		}
		conns = conns[n:]
	}
	h.passing.Wait()
	return nil
}

// write is a fan-out goroutine. It yields between shares so that epochs get in.
func (h *Hub) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case conns := <-h.passes:
			for _, c := range conns {
				c.kick(true)
			}
			h.passing.Done()
			runtime.Gosched()
		}
	}
}

// flushed is what a flush leaves to do.
type flushed struct {
	from, to uint64
	conns    []*conn       // have something to be written
	wait     time.Duration // until a rated shape is due; 0: none is waiting
}

// flush turns the epochs since the last flush into frames.
func (h *Hub) flush(now time.Time) flushed {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.kicked)
	f := flushed{from: h.mu.pos, to: h.mu.pos, conns: h.kicked[:0]}
	if h.mu.unsettled { // what an epoch from here on shows to whom is decided by Settle
		return f
	}
	h.mu.look = turnRows
	epochs, ok := h.store.Since(h.mu.pos)
	switch {
	case !ok:
		f.to = h.restartLocked(&f)
	case len(epochs) > 0:
		last := epochs[len(epochs)-1]
		f.to = last.Seq
		h.followMembersLocked(epochs, f.from, f.to)
		h.mu.pos, h.mu.stamp, h.mu.recent = last.Seq, last.Stamp, recent{}
		h.turnLocked()
		h.slideLocked(epochs)
		if h.mu.each > 0 {
			h.stepLocked(epochs, &f)
		}
		h.markLocked(history(epochs).span(f.from, f.to), false, &f)
		defer h.unmarkLocked()
		h.mu.slid = unslide(h.mu.slid)
		h.unturnLocked()
	}
	for s := range h.mu.dirty {
		if wait := s.due.Sub(now); s.pace.every > 0 && wait > 0 {
			if f.wait == 0 || wait < f.wait {
				f.wait = wait
			}
			continue
		}
		h.buildLocked(s, f.from, now)
		delete(h.mu.dirty, s)
		f.kick(s)
	}
	for c := range h.mu.ahead {
		f.conns = append(f.conns, c)
	}
	clear(h.mu.ahead)
	h.kicked = f.conns
	return f
}

// kick has the connections of s written to.
func (f *flushed) kick(s *shape) {
	for c := range s.conns {
		f.conns = append(f.conns, c)
	}
}

// restartLocked goes on from the head after the ring has lost epochs that were not turned into frames: every connection will
// find that it cannot be continued.
func (h *Hub) restartLocked(f *flushed) uint64 {
	h.mu.pos, h.mu.stamp = h.store.Head()
	h.mu.recent = recent{}
	for _, s := range h.mu.members {
		s.forget()
	}
	h.followed.Store(h.mu.pos)
	for i := range h.mu.feeds {
		for _, x := range h.mu.feeds[i].all {
			if x.window != nil {
				x.window.forget()
			}
			if x.guard != nil {
				h.guideLocked(x)
			}
		}
	}
	for _, s := range h.mu.shapes {
		h.abandonLocked(s, f)
	}
	return h.mu.pos
}

// abandonLocked has every connection of s begin anew with what cannot be continued.
func (h *Hub) abandonLocked(s *shape, f *flushed) {
	h.emptyLocked(s)
	delete(h.mu.dirty, s)
	f.kick(s)
}

// slideLocked has the windows follow the epochs, one by one.
func (h *Hub) slideLocked(epochs []*change.Epoch) {
	rels, look := h.store.Relations(), refillRows
	for _, e := range epochs {
		for i := range e.Deltas {
			d := &e.Deltas[i]
			x := &h.mu.feeds[d.Relation]
			if x.windows.empty() {
				continue
			}
			x.windows.concerned(rels[d.Relation], d.Changes, func(w *feed, changes []change.RowChange) {
				if !w.slid {
					w.slid = true
					h.mu.slid = append(h.mu.slid, w)
				}
				w.window.apply(e.Seq, changes, &look)
			})
		}
	}
}

func unslide(feeds []*feed) []*feed {
	for _, f := range feeds {
		f.slid = false
	}
	clear(feeds)
	return feeds[:0]
}

// stepLocked makes a frame of each epoch for the shapes that want that.
func (h *Hub) stepLocked(epochs []*change.Epoch, f *flushed) {
	var built []*shape
	for _, e := range epochs {
		h.markLocked(history(epochs).span(e.Seq-1, e.Seq), true, f)
		for _, s := range h.mu.stepped {
			if !s.dirty { // abandoned
				continue
			}
			if !s.built {
				s.built, built = true, append(built, s)
			}
			h.frameLocked(s, shapeFrame{base: e.Seq - 1, to: e.Seq, stamp: e.Stamp}, nil)
		}
		clear(h.mu.stepped)
		h.mu.stepped = h.mu.stepped[:0]
		if len(epochs) > 1 {
			h.unmarkLocked()
		}
	}
	for _, s := range built {
		s.built = false
		f.kick(s)
		h.trimLocked(s)
	}
}

// emptyLocked forgets the frames of s: connections go on from what the shape has reached or are conflated.
func (h *Hub) emptyLocked(s *shape) {
	h.mu.frames -= size(s.frames)
	s.frames, s.log, s.dirty = nil, nil, false
	s.start, s.told = h.mu.pos, h.mu.pos
}

// markLocked encodes the changes of the run for each feed that they concern and marks the shapes that have one of those: with each, which
// are for runs of one epoch, those that get every epoch, else the others.
func (h *Hub) markLocked(run *span, each bool, out *flushed) {
	rels := h.store.Relations()
	marks := func(f *feed) bool { return len(f.shapes) > f.each && !each || f.each > 0 && each }
	mark := func(f *feed, changes []change.RowChange) {
		if !f.turned && marks(f) {
			h.markFeedLocked(f, run, f.now, f.window != nil, changes, each)
		}
	}
	run.touched(func(rel int) {
		if x := &h.mu.feeds[rel]; !x.rows.empty() {
			x.rows.concerned(rels[rel], run.changes(rel), mark)
		}
	})
	for _, f := range h.mu.slid {
		changes, ok := f.window.between(run.from, run.to, h.mu.pos)
		switch {
		case !ok:
			h.abandonAllLocked(f, out)
		case marks(f):
			h.markFeedLocked(f, run, f.now, true, changes, each)
		}
	}
	for _, f := range h.mu.turned {
		if f.window != nil || !marks(f) {
			continue
		}
		if changes, q, whole, ok := h.guardedChanges(f, run, &h.mu.look); ok {
			h.markFeedLocked(f, run, q, whole, changes, each)
		} else {
			h.abandonAllLocked(f, out)
		}
	}
}

// abandonAllLocked has every connection that follows f begin anew with what cannot be continued. Who has rows from within the run is told what changed since.
func (h *Hub) abandonAllLocked(f *feed, out *flushed) {
	for _, s := range f.shapes {
		if s.start < h.mu.pos {
			h.abandonLocked(s, out)
		}
	}
}

func (h *Hub) markFeedLocked(f *feed, run *span, q *query, whole bool, changes []change.RowChange, each bool) {
	if f.run.to != run.to || f.run.from != run.from {
		f.run = fragment{run.from, run.to, h.mu.render.render(q, whole, changes)}
		h.mu.marked = append(h.mu.marked, f)
	}
	if len(f.run.body) == 0 {
		return
	}
	for _, s := range f.shapes {
		if s.dirty || s.pace.each != each || run.from < s.start { // or abandoned in this flush
			continue
		}
		s.dirty, s.base = true, run.from
		if each {
			h.mu.stepped = append(h.mu.stepped, s)
		} else {
			h.mu.dirty[s] = struct{}{}
		}
	}
}

// unmarkLocked lets go of what the feeds hold for the run.
func (h *Hub) unmarkLocked() {
	for _, f := range h.mu.marked {
		f.run = fragment{}
	}
	clear(h.mu.marked)
	h.mu.marked = h.mu.marked[:0]
	h.mu.render.cut()
}

// buildLocked makes the frame of a dirty shape. from is where the last flush ended.
func (h *Hub) buildLocked(s *shape, from uint64, now time.Time) {
	frame := shapeFrame{from: s.told, base: s.base, to: h.mu.pos, stamp: h.mu.stamp}
	var run *span
	if s.base < from { // a rated shape that has waited
		epochs, ok := h.store.Since(s.base)
		if !ok {
			h.emptyLocked(s)
			return
		}
		run = history(epochs).span(s.base, h.mu.pos)
	}
	if h.frameLocked(s, frame, run) {
		s.due = now.Add(s.pace.every)
	}
	h.trimLocked(s)
}

// frameLocked adds a frame to the log of s: out of run, or out of what the feeds have of the run under way. It reports whether the frame says
// anything.
func (h *Hub) frameLocked(s *shape, f shapeFrame, run *span) bool {
	s.dirty = false
	h.mu.parts = h.mu.parts[:0]
	changed := false
	for _, m := range s.members {
		p := part{id: m.id}
		switch {
		case run != nil:
			var ok bool
			if p.body, ok = h.encode(m.feed, run, h.mu.pos, &h.mu.look); !ok {
				h.emptyLocked(s)
				return false
			}
		case m.feed.run.to == f.to:
			p.body = m.feed.run.body
		}
		changed = changed || len(p.body) > 0
		h.mu.parts = append(h.mu.parts, p)
	}
	var bytes []byte
	if changed {
		named := f.from
		if s.pace.each {
			named = f.base
		}
		h.mu.scratch = slices.Grow(h.mu.scratch[:0], frameSize(h.mu.parts))
		bytes = h.epochFrameIn(h.mu.scratch, s.enc, h.mu.parts, named, f.to, f.stamp)
		s.told = f.to
	}
	clear(h.mu.parts)
	h.mu.frames += s.add(f, bytes)
	if cap(h.mu.scratch) > keptScratch {
		h.mu.scratch = nil
	}
	return changed
}

// keptScratch is the size up to which memory for assembling frames is kept.
const keptScratch = 256 << 10

// trimLocked drops frames that every connection has, and others when there are too many.
func (h *Hub) trimLocked(s *shape) {
	if len(s.frames) == 0 {
		return
	}
	limit := h.opt.FrameLogBytes
	if h.mu.frames > h.opt.FrameLogsTotal {
		limit = s.frames[len(s.frames)-1].size()
	}
	if held := size(s.frames); len(s.conns) > fewConns && held < limit/4 {
		return // not worth looking at them all
	}
	everybody := h.mu.pos
	for c := range s.conns {
		everybody = min(everybody, c.cursor.Load())
	}
	h.mu.frames -= s.trim(everybody, limit)
}
