package push

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// TestCrowded: a client that takes no answers cannot pile up subscribes and unsubscribes.
func TestCrowded(t *testing.T) {
	b := newBench(t, Options{Limits: wire.Limits{Subscriptions: 2}}, 0)
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"hello","subscribe":[{"id":"a","view":"tally"}]}`)))
	b.quiet(m)
	m.take()
	c := b.hub.connections()[0]
	m.limit(1)
	m.send(clientFrame(opText, true, []byte(`{"type":"ping","t":1}`)))
	for !stuck(c.sink) {
		runtime.Gosched()
	}
	for range 20 {
		m.send(clientFrame(opText, true, []byte(`{"type":"unsubscribe","id":"a"}`)))
		m.send(clientFrame(opText, true, []byte(`{"type":"subscribe","id":"a","view":"tally"}`)))
	}
	for waits := false; !waits; runtime.Gosched() {
		c.mu.Lock()
		waits = c.mu.room != nil
		n := len(c.mu.ops)
		c.mu.Unlock()
		if n > 4 {
			t.Fatalf("%d changes of what it follows are waiting", n)
		}
	}
	m.limit(-1)
	b.quiet(m)
	if got := string(m.take()); !strings.Contains(got, `"type":"snapshot","id":"a"`) || b.hub.Stats().Subscriptions != 1 {
		t.Error(got)
	}
}

// TestLongSubscribe: who has to look through many rows for a client does not keep its reader from others, and only some do at a time.
func TestLongSubscribe(t *testing.T) {
	b := newBench(t, Options{}, 0)
	edits := make([]edit, manyRows)
	for i := range edits {
		edits[i] = edit{rel: 0, vals: []*string{str(fmt.Sprint(i)), str(fmt.Sprint(i)), nil}}
	}
	b.apply(edits...)
	b.flushed()
	sink := newLineSink(1<<20, 1<<20)
	c := b.opened(sink)
	for range cap(b.hub.scans) {
		b.hub.scans <- struct{}{}
	}
	one := 1
	c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: "tally", Filter: "votes=eq.77"}, {ID: "b", View: "tally", Order: "votes.desc", Limit: &one}}})
	if got := sink.read(1 << 20); len(got) > 0 {
		t.Errorf("it was not waited for: %s", got)
	}
	for range cap(b.hub.scans) {
		<-b.hub.scans
	}
	b.rested(c, sink)
	got := string(sink.read(1 << 20))
	for _, want := range []string{`"welcome"`, `"id":"a","position":"aaaaaaaaaaaaaaaa.0-1","key":["contestant"],"rows":[{"contestant":"77"`,
		`"id":"b","position":"aaaaaaaaaaaaaaaa.0-1","key":["contestant"],"rows":[{"contestant":"9999"`} {
		i := strings.Index(got, want)
		if i < 0 {
			t.Fatalf("no %s: %s", want, got)
		}
		got = got[i:]
	}
}

// TestBlockedIsNotSilent: pings to a client that takes its time to read wait with everything else, so nobody expects answers to them.
func TestBlockedIsNotSilent(t *testing.T) {
	b := newBench(t, Options{}, 0)
	c := &conn{h: b.hub, enc: webSocket, answers: true}
	now := time.Hour.Milliseconds()
	c.heard = now
	c.blocked.Store(true)
	now += time.Hour.Milliseconds()
	if ping, gone := c.silent(now); ping || gone {
		t.Error(ping, gone)
	}
	c.blocked.Store(false)
	now += 2 * time.Minute.Milliseconds()
	if _, gone := c.silent(now - 1); gone {
		t.Error("closed early")
	}
	if _, gone := c.silent(now); !gone {
		t.Error("not closed")
	}
}

// TestFramesCounted: frames that lie one behind the other and go out as one buffer are counted each.
func TestFramesCounted(t *testing.T) {
	b := newBench(t, Options{}, 0)
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"hello","subscribe":[{"id":"a","view":"tally"}]}`)))
	b.quiet(m)
	m.take()
	m.limit(1)
	before := b.hub.Stats().Frames
	for i := range 5 {
		b.advance(10 * time.Millisecond)
		b.apply(edit{rel: 0, vals: []*string{str("A"), str(fmt.Sprint(i)), nil}})
		b.flushed()
		b.quiet(m)
	}
	m.limit(-1)
	b.quiet(m)
	frames, _, err := serverFrames(m.take())
	if n := b.hub.Stats().Frames - before; err != nil || len(frames) != 5 || n != 5 {
		t.Errorf("%d frames came, %d were counted: %v", len(frames), n, err)
	}
}
