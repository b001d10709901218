package push

import (
	"sync"
	"time"
)

// How a connection's rate follows what its line carries.
const (
	slowAfter   = 100 // ms that a client held up what comes next, and its rate is lowered
	slowFirst   = 50 * time.Millisecond
	slowMost    = 2 * time.Second       // the least time between frames is never made longer than this
	calmFrames  = 4                     // frames that held up nothing, and the rate is raised; twice as many after each time that was too much
	mostTries   = 6                     // the longest wait for that is calmFrames << mostTries
	lineLook    = 47 * time.Millisecond // between two looks at what a line has left to carry
	lateBytes   = 1 << 10               // that are older than a second, and a client counts as slow
	leastAhead  = 4 << 10               // bytes that a slow connection is given at once, if it has to be less than all
	ownCopy     = 32 << 10              // up to so many bytes a blocked connection has for itself, so as not to hold all of a log
	keptMerged  = 8 << 20               // bytes of merged frames that are kept for others
	mergedExtra = 192                   // what an entry takes beside its frame, about
)

// pacing is what a connection's owner knows of its line.
type pacing struct {
	slower time.Duration // least time between two epoch frames, 0: the line carries everything
	line   int64         // bytes a second that went through when it was full; 0: never was
	frame  int           // bytes of the last frames, about
	calm   int16         // frames since then that held up nothing
	tries  int8          // times that a raised rate was too much
	since  int           // bytes since the last mark
	raised bool          // the last change of the rate was upwards
	bulk   bool          // what is being written has rows of a snapshot, which may take their time
}

// drained is told that the client took n bytes in so many ms, during which it held up what comes next. The caller owns out.
func (c *conn) drained(n int, took int64) {
	p := &c.out.pacing
	if p.bulk {
		return
	}
	if took < slowAfter {
		c.smooth()
		return
	}
	if p.line = c.marks.known(); p.line == 0 {
		p.line = c.line.Load()
	}
	if p.line == 0 { // the clock has not measured it
		p.line = max(1, int64(n)*1000/took)
	}
	p.calm = 0
	if p.raised {
		p.raised, p.tries = false, min(p.tries+1, mostTries)
	}
	next := slowFirst // enough where each frame waits for the answer to the one before: what is made more rarely is older when its turn comes
	for c.marks.known() == 0 && next < slowMost && next < c.longer() {
		next *= 2
	}
	if next = min(next, slowMost); next > p.slower {
		c.slowDown(next)
	}
}

// longer returns clearly more than a frame takes over the line: then what the client has not read yet becomes less. The caller owns out.
func (c *conn) longer() time.Duration {
	p := &c.out.pacing
	return time.Duration(p.frame) * time.Second / time.Duration(p.line) * 3 / 2
}

// smooth is told that a frame held up nothing. The caller owns out.
func (c *conn) smooth() {
	p := &c.out.pacing
	if p.slower == 0 {
		return
	}
	if p.calm++; p.calm < calmFrames<<p.tries {
		return
	}
	next := slowFirst
	for next*2 < p.slower { // the step below
		next *= 2
	}
	if p.slower == slowFirst {
		next = 0
	}
	if line := c.marks.known(); line > 0 { // no need to try
		if p.line = line; max(next, slowFirst/2) < c.longer() {
			p.calm = 0
			return
		}
	}
	p.calm, p.raised = 0, true
	c.slowDown(next)
}

// late measures what the line carries while it is busy, and looks whether the kernel holds more bytes than were written since the last look, so that some
// are older: that finds a thin line before the kernel's buffers are full. It returns how many bytes the line carries in a second then, else 0. The
// caller is the clock.
func (c *conn) late() int64 {
	was := c.queued
	if was == 0 && c.written.Load() < lateBytes { // they wait for more
		return 0
	}
	n := int(c.written.Swap(0))
	c.queued = 0
	c.mu.Lock()
	s, slowed := c.sink, c.mu.slowed
	c.mu.Unlock()
	if s == nil {
		return 0
	}
	c.queued = s.queued()
	if c.queued == 0 {
		return 0
	}
	line, carried := c.line.Load(), int64(max(1, was+n-c.queued))
	switch {
	case line == 0:
		line = carried
	case slowed: // acknowledgements come in lumps
		line += (carried - line) / 8
	default:
		line += (carried - line) / 2
	}
	c.line.Store(max(1, line))
	if slowed || c.blocked.Load() || c.queued < lateBytes || c.queued <= n {
		return 0
	}
	return max(1, line)
}

// full reports whether the line of a slow client is busy with what it was sent: what is written now would only wait in the kernel, and be older when
// it comes. The caller owns out.
func (c *conn) full() bool {
	return c.out.pacing.slower > 0 && !c.out.pacing.bulk && (c.marks.due() || c.sink.queued() > c.room())
}

// awaitLine waits until the line of a slow client has room, and learns from that what it carries. The caller owns out.
func (c *conn) awaitLine() {
	if !c.full() {
		return
	}
	began, first := c.h.now(), c.sink.queued()
	left := first
	c.blocked.Store(true)
	c.moved.Store(began)
	for (left > c.room() || c.marks.due()) && !c.leaves() {
		looks := time.Duration(max(0, left-c.room())) * time.Second / time.Duration(c.out.pacing.line) / lineLook
		select {
		case <-c.h.clock.After(lineLook * min(max(looks, 1), 4)):
		case <-c.h.group.Context().Done():
		}
		now := c.sink.queued()
		if now < left {
			c.moved.Store(c.h.now())
		}
		if left = now; time.Duration(c.h.now()-c.moved.Load())*time.Millisecond > c.h.opt.StallTimeout/2 { // it may read on, and not say so
			c.marks.giveUp()
		}
	}
	c.blocked.Store(false)
	c.drained(first-left, c.h.now()-began)
}

// leaves reports whether nothing but the last bytes is to be written, if anything.
func (c *conn) leaves() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.over || c.mu.ending != nil || c.h.group.Context().Err() != nil
}

// room returns how many bytes may be on a slow client's line when the next are written: what it carries in a quarter of a second.
func (c *conn) room() int { return int(min(max(c.out.pacing.line/4, 256), behindLimit)) }

// slowDown sets the least time between two frames; fewer and merged frames carry newer rows over a line that cannot carry all of them. Those whose
// line is alike share a shape and so its frames. The caller owns out.
func (c *conn) slowDown(every time.Duration) {
	p := &c.out.pacing
	was := p.slower
	p.slower = every
	if every > was {
		c.h.total.lowered.Add(1)
	}
	c.mu.Lock()
	if c.mu.over {
		every = 0
	}
	c.countSlow(every > 0)
	c.mu.Unlock()
	switch {
	case every > 0:
		c.sink.narrow(c.ahead(), max(c.ahead()/4, 1<<10))
	case was > 0:
		c.sink.narrow(behindLimit, c.h.opt.UnsentBytes)
	}
	if every != was && len(c.out.live) > 0 {
		c.reshape()
	}
}

// countSlow keeps the count of slow connections. The caller holds c.mu.
func (c *conn) countSlow(slow bool) {
	switch {
	case slow && !c.mu.slowed:
		c.h.total.slowNow.Add(1)
	case !slow && c.mu.slowed:
		c.h.total.slowNow.Add(-1)
	}
	c.mu.slowed = slow
}

// ahead returns how many bytes may be under way to a slow client: what its line carries in half a second.
func (c *conn) ahead() int {
	return int(min(max(c.out.pacing.line/2, leastAhead), behindLimit))
}

// most returns how many bytes of frames the connection is sent to catch up. Beyond it, merged changes are less to send and nothing older than
// needed.
func (c *conn) most() int {
	switch {
	case c.marks.trial.Load():
		return trialWindow
	case c.out.pacing.slower == 0:
		return behindLimit
	case c.marks.known() > 0:
		return c.room()
	}
	return c.ahead()
}

// pace returns how often the connection gets frames: as often as the client wants, and not more often than its line allows. The caller owns
// out.
func (c *conn) pace() pace {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.each {
		return pace{c.mu.every, true}
	}
	return pace{max(c.mu.every, c.out.pacing.slower), false}
}

// own returns a copy of bufs when these are few bytes, which are mostly parts of a log that many share: whoever waits should hold only what is
// its own.
func own(bufs [][]byte) [][]byte {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	if n > ownCopy {
		return bufs
	}
	one := make([]byte, 0, n)
	for _, b := range bufs {
		one = append(one, b...)
	}
	return [][]byte{one}
}

// mergedKey names a frame of merged changes: all connections of a shape that stand at one position and were told the same get the same bytes.
type mergedKey struct {
	shape           *shape
	told, from, end uint64
}

type mergedFrame struct {
	bytes []byte // none: nothing has changed
	told  uint64
	stamp int64
}

// mergedFrames keeps frames of merged changes for a moment: those who are slow at the same pace stand at the same few positions. Safe for
// concurrent use.
type mergedFrames struct {
	mu struct {
		sync.Mutex
		frames map[mergedKey]mergedFrame
		queue  []mergedKey // oldest first
		bytes  int
	}
}

func (m *mergedFrames) get(key mergedKey) (mergedFrame, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.mu.frames[key]
	return f, ok
}

func (m *mergedFrames) put(key mergedKey, f mergedFrame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.mu.frames[key]; there || len(f.bytes) > keptMerged/8 {
		return
	}
	if m.mu.frames == nil {
		m.mu.frames = map[mergedKey]mergedFrame{}
	}
	m.mu.frames[key] = f
	m.mu.queue = append(m.mu.queue, key)
	for m.mu.bytes += len(f.bytes) + mergedExtra; m.mu.bytes > keptMerged; {
		oldest := m.mu.queue[0]
		m.mu.queue = m.mu.queue[1:]
		m.mu.bytes -= len(m.mu.frames[oldest].bytes) + mergedExtra
		delete(m.mu.frames, oldest)
	}
}

// clear forgets everything.
func (m *mergedFrames) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.frames, m.mu.queue, m.mu.bytes = nil, nil, 0
}

// merged is conflate for a connection of s to which nothing joins, with the frame of another one when there is one that is the same. The caller owns
// out.
func (c *conn) merged(s *shape, to uint64) [][]byte {
	key := mergedKey{s, c.out.told, c.cursor.Load(), to}
	if f, ok := c.h.merged.get(key); ok {
		c.out.inside = false
		c.advance(to, f.stamp)
		c.out.told = f.told
		c.h.total.conflated.Add(1)
		if f.bytes == nil {
			return nil
		}
		return [][]byte{f.bytes}
	}
	bufs := c.conflate(nil, to)
	c.h.mu.Lock()
	moved := c.out.shape != s
	c.h.mu.Unlock()
	if moved || c.cursor.Load() != to || len(bufs) > 1 || len(c.out.pages) > 0 {
		return bufs
	}
	f := mergedFrame{told: c.out.told, stamp: c.out.stamp}
	if len(bufs) == 1 {
		f.bytes = bufs[0]
	}
	c.h.merged.put(key, f)
	return bufs
}
