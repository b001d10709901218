package push

import (
	"context"
	"runtime"
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
	metrics *observe.Metrics
	group   *run.Group
	leaving context.Context // ends when the hub drains: for requests that wait
	leave   context.CancelFunc
	applied chan struct{}  // a new epoch is there
	passes  chan []*conn   // connections to write to, for the fan-out goroutines
	passing sync.WaitGroup // the shares of one pass
	opening sync.WaitGroup // connections that are accepted and have no reader yet
	kept    fragments
	total   counters
	sorting sortBudget

	mu struct {
		sync.Mutex
		pos       uint64 // epochs up to here have been turned into frames
		stamp     int64  // of pos
		feeds     []feeds
		lastFeed  uint64 // the id of the last feed
		feedCount int
		lastConn  uint64 // the number of the last connection
		shapes    map[string]*shape
		dirty     map[*shape]struct{}
		marked    []*feed            // with a run
		frames    int                // bytes in the logs of all shapes
		ahead     map[*conn]struct{} // connections to look after once pos has passed their cursor
		conns     map[*conn]struct{}
		fresh     wire.FreshnessFrame
		stale     map[*expr.Relation]string // views that stand still, and why
		draining  bool
		gone      chan struct{} // closed when draining and the last connection has left
	}
}

// counters are totals since the start.
type counters struct {
	frames, bytes, conflated, gaps, slow atomic.Int64
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
	h.sorting.limit = int64(opt.SortBytes)
	h.leaving, h.leave = context.WithCancel(h.group.Context())
	h.era.Store(newEra(rels, opt.Authorize))
	h.mu.feeds = make([]feeds, len(rels))
	h.mu.shapes, h.mu.dirty = map[string]*shape{}, map[*shape]struct{}{}
	h.mu.ahead, h.mu.conns = map[*conn]struct{}{}, map[*conn]struct{}{}
	h.mu.fresh = wire.FreshnessFrame{State: wire.FreshLive}
	h.mu.gone = make(chan struct{})
	h.mu.pos, h.mu.stamp = opt.Store.Head()
	opt.Store.Notify(h.applied)
	h.group.Go("push hub", h.loop)
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
	var took time.Duration // the last pass
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
		if wait := last.Add(h.window(took)).Sub(h.clock.Now()); wait > 0 {
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
			last, took = now, h.clock.Now().Sub(now)
			h.opt.Sent(f.from, f.to)
		}
		due = nil
		if f.wait > 0 {
			due = h.clock.After(f.wait)
		}
	}
}

// window returns how long epochs are merged after a pass that took so long: at most Options.Merge, and with Options.MergeFactor no
// longer than so many times the pass. A pass to a few screens costs little, so they get every epoch almost at once, while a pass to
// thousands is not repeated before it has paid off.
func (h *Hub) window(took time.Duration) time.Duration {
	if h.opt.MergeFactor <= 0 {
		return h.opt.Merge
	}
	return min(h.opt.Merge, time.Duration(h.opt.MergeFactor)*took)
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
	f := flushed{from: h.mu.pos, to: h.mu.pos}
	epochs, ok := h.store.Since(h.mu.pos)
	switch {
	case !ok:
		f.to = h.restartLocked(&f)
	case len(epochs) > 0:
		last := epochs[len(epochs)-1]
		h.markLocked(history(epochs).span(h.mu.pos, last.Seq))
		defer h.unmarkLocked()
		f.to = last.Seq
		h.mu.pos, h.mu.stamp = last.Seq, last.Stamp
	}
	for s := range h.mu.dirty {
		if wait := s.due.Sub(now); s.every > 0 && wait > 0 {
			if f.wait == 0 || wait < f.wait {
				f.wait = wait
			}
			continue
		}
		h.buildLocked(s, f.from, now)
		delete(h.mu.dirty, s)
		for c := range s.conns {
			f.conns = append(f.conns, c)
		}
	}
	for c := range h.mu.ahead {
		f.conns = append(f.conns, c)
	}
	clear(h.mu.ahead)
	return f
}

// restartLocked goes on from the head after the ring has lost epochs that were not turned into frames: every connection will
// find that it cannot be continued.
func (h *Hub) restartLocked(f *flushed) uint64 {
	h.mu.pos, h.mu.stamp = h.store.Head()
	for _, s := range h.mu.shapes {
		h.emptyLocked(s)
		delete(h.mu.dirty, s)
		for c := range s.conns {
			f.conns = append(f.conns, c)
		}
	}
	return h.mu.pos
}

// emptyLocked forgets the frames of s: connections go on from what the shape has reached or are conflated.
func (h *Hub) emptyLocked(s *shape) {
	h.mu.frames -= s.bytes
	s.frames, s.bytes, s.dirty = nil, 0, false
	s.start, s.told = h.mu.pos, h.mu.pos
}

// markLocked encodes the changes of the run for each feed that they concern and marks the shapes that have one of those.
func (h *Hub) markLocked(run *span) {
	run.touched(func(rel int) {
		x := &h.mu.feeds[rel]
		if len(x.all) == 0 {
			return
		}
		x.concerned(h.store.Relations()[rel], run.changes(rel), func(f *feed, changes []change.RowChange) {
			body := f.render(changes)
			if len(body) == 0 {
				return
			}
			f.run = fragment{run.from, run.to, body}
			h.mu.marked = append(h.mu.marked, f)
			for _, s := range f.shapes {
				if !s.dirty {
					s.dirty, s.base = true, run.from
					h.mu.dirty[s] = struct{}{}
				}
			}
		})
	})
}

// unmarkLocked lets go of what the feeds hold for the flush.
func (h *Hub) unmarkLocked() {
	for _, f := range h.mu.marked {
		f.run = fragment{}
	}
	clear(h.mu.marked)
	h.mu.marked = h.mu.marked[:0]
}

// buildLocked makes the frame of a dirty shape. from is where the last flush ended.
func (h *Hub) buildLocked(s *shape, from uint64, now time.Time) {
	parts := make([]part, len(s.members))
	changed := false
	var run *span
	if s.base < from { // a rated shape that has waited
		epochs, ok := h.store.Since(s.base)
		if !ok {
			h.emptyLocked(s)
			return
		}
		run = history(epochs).span(s.base, h.mu.pos)
	}
	for i, m := range s.members {
		parts[i].id = m.id
		switch f := m.feed; {
		case run != nil:
			parts[i].body = h.fragment(f, run)
		case f.run.to == h.mu.pos:
			parts[i].body = f.run.body
		}
		changed = changed || len(parts[i].body) > 0
	}
	frame := shapeFrame{from: s.told, base: s.base, to: h.mu.pos}
	if changed {
		frame.bytes = h.epochFrame(s.enc, parts, s.told, h.mu.pos, h.mu.stamp)
		s.told = h.mu.pos
		s.due = now.Add(s.every)
	}
	s.dirty = false
	s.frames = append(s.frames, frame)
	s.bytes += len(frame.bytes)
	h.mu.frames += len(frame.bytes)
	h.trimLocked(s)
}

// trimLocked drops frames that every connection has, and others when there are too many.
func (h *Hub) trimLocked(s *shape) {
	everybody := h.mu.pos
	for c := range s.conns {
		everybody = min(everybody, c.cursor.Load())
	}
	limit := h.opt.FrameLogBytes
	if h.mu.frames > h.opt.FrameLogsTotal {
		limit = len(s.frames[len(s.frames)-1].bytes)
	}
	h.mu.frames -= s.trim(everybody, limit)
}
