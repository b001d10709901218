package push

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// lineSink is a socket and what is behind it: the kernel's buffer here, as large as it was told, and the client's own, from which the test reads.
type lineSink struct {
	mu      sync.Mutex
	changed *sync.Cond
	bytes   []byte // of both buffers
	here    int    // size of the buffer here
	there   int    // of the client's
	unsent  int    // how much of the buffer here may be unsent, as it was told
	far     int64  // ms there and back
	waiting bool   // a write waits for room
	closed  bool
}

func newLineSink(here, there int) *lineSink {
	s := &lineSink{here: here, there: there}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// put takes what fits of bufs. The caller holds mu.
func (s *lineSink) put(bufs [][]byte) [][]byte {
	for len(bufs) > 0 {
		n := min(len(bufs[0]), max(0, s.here+s.there-len(s.bytes)))
		s.bytes = append(s.bytes, bufs[0][:n]...)
		if bufs = skip(bufs, n); n == 0 {
			return bufs
		}
	}
	return nil
}

func (s *lineSink) try(bufs [][]byte) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	return s.put(bufs), nil
}

func (s *lineSink) write(bufs [][]byte, moved func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return net.ErrClosed
		}
		before := length(bufs)
		if bufs = s.put(bufs); length(bufs) < before {
			moved()
		}
		if len(bufs) == 0 {
			return nil
		}
		s.waiting = true
		s.changed.Wait()
	}
}

func (s *lineSink) narrow(bytes, unsent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.here, s.unsent = bytes, unsent
}

func (s *lineSink) queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, len(s.bytes)-s.there)
}

func (s *lineSink) away() int64 { return s.far }

func (s *lineSink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
}

// read is the client reading at most n bytes.
func (s *lineSink) read(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.bytes))
	got := bytes.Clone(s.bytes[:n])
	s.bytes = s.bytes[n:]
	s.waiting = false
	s.changed.Broadcast()
	return got
}

func (s *lineSink) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// opened is a WebSocket connection without a principal, as it is before the client's first frame.
func (b *bench) opened(s *lineSink) *conn {
	c := newConn(webSocket, auth.Anonymous())
	c.sink = s
	if p := b.hub.open(c); p != nil {
		b.t.Fatal(p)
	}
	b.hub.opening.Done()
	c.drain()
	return c
}

// rested waits until whoever works for c has nothing to do, or waits for the client or the clock.
func (b *bench) rested(c *conn, s *lineSink) {
	for {
		c.mu.Lock()
		busy := c.mu.busy
		c.mu.Unlock()
		if !busy || s.waits() || c.blocked.Load() && b.clock.line.Load() > b.clock.Now().UnixNano() {
			return
		}
		runtime.Gosched()
	}
}

// TestThinLine: a client that reads two kilobytes a second of a view that changes faster than that sees rows that are no older than what can be under
// way to it: its own buffer, a little in the kernel here, and a frame. Age is counted in bytes that it has read since something newer was there, so it
// does not depend on how fast the test runs.
func TestThinLine(t *testing.T) {
	t.Run("answers no pings", func(t *testing.T) { thinLine(t, 0) })
	t.Run("answers pings", func(t *testing.T) { thinLine(t, lineSteps) })
	t.Run("answers no pings later", func(t *testing.T) { thinLine(t, lineSteps/2) })
}

const lineSteps = 3000 // a minute

// thinLine: a client that answers pings does so when it has read up to them, so that it has no more before it than the frame that it reads. After so many steps it
// answers none.
func thinLine(t *testing.T, answers int) {
	const (
		step     = 20 * time.Millisecond
		perStep  = 41 // bytes: 2 KB/s
		steps    = lineSteps
		here     = 16 << 10 // the kernel's buffer
		there    = 8 << 10  // the client's own
		underWay = here + there + 1<<10
		warm     = 1000 // steps until the line is known
	)
	first, later := underWay, there+3<<10 // and two frames of all rows: a minute's worth of changes is 900 KiB
	if answers == steps {
		first, later = 5<<10, 3<<10 // two windows of a trial and a frame
	}
	b := newBench(t, Options{}, 0)
	b.hub.deaf = false
	sink := newLineSink(here, there)
	c := b.opened(sink)
	c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: "tally"}}})
	pad := strings.Repeat("x", 200)
	position := regexp.MustCompile(`"epoch","position":"a+\.0-(\d+)"`)
	var got, raw []byte
	read, frames := 0, 0
	readAt := []int{0} // what was read when an epoch was applied
	oldest := [2]int{}
	for i := range steps {
		b.advance(step)
		b.rested(c, sink)
		b.apply(edit{rel: 0, vals: []*string{str(fmt.Sprint(i % 5)), str(fmt.Sprint(i)), &pad}})
		readAt = append(readAt, read)
		b.flushed()
		b.rested(c, sink)
		more := sink.read(perStep)
		read += len(more)
		got = append(got, more...)
		if answers > 0 {
			raw = append(raw, more...)
			for op, payload := cutFrame(&raw); op != 0; op, payload = cutFrame(&raw) {
				if op == opPing && i < answers {
					c.consume(clientFrame(opPong, true, payload), false)
				}
			}
		}
		at := position.FindAllSubmatchIndex(got, -1)
		if len(at) == 0 {
			continue
		}
		last := at[len(at)-1]
		seq, err := strconv.Atoi(string(got[last[2]:last[3]]))
		if err != nil {
			t.Fatal(err)
		}
		got = got[last[1]:]
		frames += len(at)
		if seq+1 < len(readAt) {
			phase := 0
			if i >= warm {
				phase = 1
			}
			oldest[phase] = max(oldest[phase], read-readAt[seq+1])
		}
	}
	st := b.hub.Stats()
	t.Logf("%d frames in %d bytes, of %d epochs; oldest %d bytes; %+v", frames, read, steps, oldest, st)
	if frames < 10 || read < perStep*steps/4 {
		t.Fatal("too little came")
	}
	if oldest[0] > first || oldest[1] > later {
		t.Errorf("rows were older than what was under way: %d bytes", oldest)
	}
	if st.Slow != 1 || st.Lowered == 0 || st.SlowClosed > 0 || st.Gaps > 0 {
		t.Errorf("%+v", st)
	}
	if every := c.pace().every; answers < steps && every <= slowFirst || answers == steps && every != slowFirst {
		t.Errorf("a frame every %v", every)
	}
	if sink.unsent < 1<<10 || sink.unsent > sink.here {
		t.Errorf("%d bytes may be unsent, of %d", sink.unsent, sink.here)
	}
}

// cutFrame takes the first of a server's frames away; op 0: not all of it is there.
func cutFrame(raw *[]byte) (op byte, payload []byte) {
	b := *raw
	if len(b) < 4 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return 0, nil
		}
	}
	size, head := int(b[1]), 2
	if size == 126 {
		size, head = int(binary.BigEndian.Uint16(b[2:])), 4
	}
	if len(b) < head+size {
		return 0, nil
	}
	*raw = b[head+size:]
	return b[0] & 0xf, b[head : head+size]
}

// TestTrial: a new client gets a window of bytes until it has said that it read them. One that is far away, and one that answers no pings, are only behind for a
// moment, and get every epoch from then on.
func TestTrial(t *testing.T) {
	const (
		step     = 20 * time.Millisecond
		patience = int((trialLapse*time.Millisecond+tick)/step) + 2
	)
	for _, x := range []struct {
		name   string
		away   int // steps until an answer comes; 0: never
		behind int // steps that it is behind at most
		until  int // steps until it is behind no more
	}{
		{"near", 1, 2, 10},
		{"far", 10, 12, 120},
		{"answers no pings", 0, patience, patience},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t, Options{}, 0)
			b.hub.deaf = false
			sink := newLineSink(1<<20, 1<<20)
			sink.far = step.Milliseconds() * int64(x.away)
			c := b.opened(sink)
			c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: "tally"}}})
			pad := strings.Repeat("x", 400)
			position := regexp.MustCompile(`"epoch","position":"a+\.0-(\d+)"`)
			var raw []byte
			pongs := map[int][][]byte{} // by step
			seen, behind, last, marks := 0, 0, 0, 0
			for i := range 400 {
				b.advance(step)
				b.rested(c, sink)
				b.apply(edit{rel: 0, vals: []*string{str("A"), str(fmt.Sprint(i)), &pad}})
				b.flushed()
				b.rested(c, sink)
				for _, p := range pongs[i] {
					c.consume(clientFrame(opPong, true, p), false)
					b.rested(c, sink)
				}
				raw = append(raw, sink.read(1<<20)...)
				for op, payload := cutFrame(&raw); op != 0; op, payload = cutFrame(&raw) {
					if op == opPing && len(payload) > 0 {
						marks++
						if x.away > 0 {
							pongs[i+x.away] = append(pongs[i+x.away], payload)
						}
					}
					if at := position.FindSubmatch(payload); at != nil {
						seq, err := strconv.Atoi(string(at[1]))
						if err != nil || seq < seen {
							t.Fatalf("position %s after %d", at[1], seen)
						}
						seen = seq
					}
				}
				head, _ := b.store.Head()
				if late := int(head) - seen; seen > 0 && late > 0 {
					behind, last = max(behind, late), i
				}
			}
			st := b.hub.Stats()
			t.Logf("behind by %d at most, last in step %d, %d marks; %+v", behind, last, marks, st)
			if behind > x.behind || last > x.until {
				t.Errorf("it was behind by %d, want at most %d; last in step %d, want %d", behind, x.behind, last, x.until)
			}
			if x.away > 1 && behind == 0 {
				t.Error("it was on no trial")
			}
			if st.Slow > 0 || st.Lowered+st.Gaps+st.SlowClosed > 0 || marks > trialMarks {
				t.Errorf("%d marks, %+v", marks, st)
			}
		})
	}
}

// TestRateFollowsTheLine: who holds up frames gets fewer, and as many as before when it does not any more.
func TestRateFollowsTheLine(t *testing.T) {
	b := newBench(t, Options{}, 0)
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"hello","subscribe":[{"id":"a","view":"tally"}]}`)))
	b.quiet(m)
	m.take()
	change := func(i int) {
		b.advance(50 * time.Millisecond)
		b.apply(edit{rel: 0, vals: []*string{str("A"), str(fmt.Sprint(i)), nil}})
	}
	hold := func() {
		m.limit(10)
		for i := range 10 {
			change(i)
		}
		b.quiet(m)
		m.limit(-1)
		b.quiet(m)
	}
	hold()
	if st := b.hub.Stats(); st.Slow != 1 || st.Lowered != 1 {
		t.Fatalf("after half a second: %+v", st)
	}
	m.take()
	frames := 0
	for i := range 20 {
		change(100 + i)
		b.quiet(m)
		got, _, err := serverFrames(m.take())
		if err != nil {
			t.Fatal(err)
		}
		frames += len(got)
	}
	if frames == 0 || frames > 15 {
		t.Errorf("%d frames for 20 changes of a client whose rate is lowered", frames)
	}
	for i := range 200 {
		change(200 + i)
		b.quiet(m)
	}
	if st := b.hub.Stats(); st.Slow != 0 {
		t.Errorf("long after: %+v", st)
	}
	hold()
	m.hangUp()
	for b.hub.Connections() > 0 {
		b.quiet(m)
	}
	if st := b.hub.Stats(); st.Slow != 0 {
		t.Errorf("after it left: %+v", st)
	}
}
