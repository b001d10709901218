package push

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// nowhere is a sink that takes everything at once.
type nowhere struct{}

func (nowhere) try([][]byte) ([][]byte, error) { return nil, nil }
func (nowhere) write([][]byte, func()) error   { return nil }
func (nowhere) narrow(int, int)                {}
func (nowhere) queued() int                    { return 0 }
func (nowhere) away() int64                    { return 0 }
func (nowhere) close()                         {}

func benchHub(b *testing.B) (*Hub, *world) {
	rels := relations()
	store := view.New(rels, view.Options{})
	hub, err := NewHub(context.Background(), Options{Store: store, Log: testLog, Rules: rulesFunc(authorize), Merge: time.Nanosecond, CloseTimeout: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = hub.Close() })
	return hub, newWorld(rels)
}

// tallyEdits changes n rows of tally.
func tallyEdits(round, n int) []edit {
	edits := make([]edit, n)
	for i := range edits {
		edits[i] = edit{rel: 0, vals: []*string{str(fmt.Sprintf("contestant %02d", i)), str(fmt.Sprint(1000 + round)), nil}}
	}
	return edits
}

// BenchmarkFanOut is one epoch of some changed rows on its way to connections that take everything at once: the cost of ours,
// without the kernel's.
func BenchmarkFanOut(b *testing.B) {
	for _, conns := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("memory/%d", conns), func(b *testing.B) {
			hub, w := benchHub(b)
			for range conns {
				c := newConn(webSocket, auth.Anonymous())
				c.sink = nowhere{}
				if p := hub.open(c); p != nil {
					b.Fatal(p)
				}
				c.drain()
				c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: "tally"}}})
				defer hub.opening.Done()
			}
			fanOutRounds(b, hub, w, conns)
		})
	}
	for _, conns := range []int{100, 1000} {
		b.Run(fmt.Sprintf("loopback/%d", conns), func(b *testing.B) {
			hub, w := benchHub(b)
			readers := dialMany(b, hub, conns)
			fanOutRounds(b, hub, w, conns)
			_ = hub.Close()
			_ = readers.Wait()
		})
	}
}

// fanOutRounds applies epochs one after the other, each when the last is written.
func fanOutRounds(b *testing.B, hub *Hub, w *world, conns int) {
	sent := make(chan uint64, 1)
	hub.opt.Sent = func(_, to uint64) { sent <- to }
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for i := range b.N {
		hub.store.Apply(w.epoch(tallyEdits(i, 4)))
		<-sent
	}
	spent := cpu() - before
	b.StopTimer()
	n := float64(b.N) * float64(conns)
	b.ReportMetric(float64(b.Elapsed().Microseconds())/n, "µs/delivery")
	b.ReportMetric(float64(spent.Microseconds())/n, "µsCPU/delivery")
}

// cpu is the processor time of this process, readers included.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// dialMany connects that many clients, each subscribed to tally, which read and forget.
func dialMany(b testing.TB, hub *Hub, n int) *run.Group {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	g := run.New(context.Background())
	for range n {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		if p := hub.ServeConn(server, auth.Anonymous()); p != nil {
			b.Fatal(p)
		}
		if _, err := client.Write(clientFrame(opText, true, []byte(`{"type":"hello","subscribe":[{"id":"a","view":"tally"}]}`))); err != nil {
			b.Fatal(err)
		}
		g.Go("reader", func(context.Context) error {
			buf := make([]byte, 4096)
			for {
				if _, err := client.Read(buf); err != nil {
					client.Close()
					return nil
				}
			}
		})
	}
	for hub.Stats().Subscriptions < n {
		runtime.Gosched()
	}
	return g
}

// BenchmarkFeeds is epochs that change the same 100 rows, and connections that each follow something of their own, of which every row concerns one: a
// row, a range, a list. The cost of a change is to be the same however many others there are whom it does not concern.
func BenchmarkFeeds(b *testing.B) {
	for _, form := range []struct{ name, filter string }{
		{"row", "contestant=eq.c%[1]d"}, {"range", "votes=gte.%[2]d&votes=lt.%[3]d"}, {"list", "contestant=in.(c%[1]d,x%[1]d)"},
		{"above", "contestant=eq.c%[1]d&votes=gte.%[2]d"},
	} {
		for _, conns := range []int{100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", form.name, conns), func(b *testing.B) {
				benchFeeds(b, conns, func(i int) wire.Subscription {
					return wire.Subscription{ID: "a", View: "tally", Filter: fmt.Sprintf(form.filter, i, 10*i, 10*i+10)}
				})
			})
		}
	}
}

// BenchmarkWindows is the same with 1,000 windows over one view of 10,000 rows, each within a range of its own.
func BenchmarkWindows(b *testing.B) {
	limit := 10
	benchFeeds(b, 1000, func(i int) wire.Subscription {
		return wire.Subscription{ID: "a", View: "tally", Filter: fmt.Sprintf("votes=gte.%d&votes=lt.%d", 10*i, 10*i+10), Order: "votes.desc", Limit: &limit}
	})
}

func benchFeeds(b *testing.B, conns int, subscription func(i int) wire.Subscription) {
	const changed = 100
	hub, w := benchHub(b)
	edits := make([]edit, 10_000)
	for i := range edits {
		edits[i] = edit{rel: 0, vals: []*string{str(fmt.Sprintf("c%d", i)), str(fmt.Sprint(10 * i)), nil}}
	}
	hub.store.Apply(w.epoch(edits))
	for i := range conns {
		c := newConn(webSocket, auth.Anonymous())
		c.sink = nowhere{}
		if p := hub.open(c); p != nil {
			b.Fatal(p)
		}
		c.drain()
		c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{subscription(i)}})
		defer hub.opening.Done()
	}
	sent := make(chan uint64, 1)
	hub.opt.Sent = func(_, to uint64) { sent <- to }
	b.ReportAllocs()
	var spent time.Duration
	const warm = 3
	for i := range warm + b.N {
		if i == warm {
			spent = 0
			b.ResetTimer()
		}
		b.StopTimer()
		edits := make([]edit, changed)
		for j := range edits {
			n := j * (conns / changed)
			edits[j] = edit{rel: 0, vals: []*string{str(fmt.Sprintf("c%d", n)), str(fmt.Sprint(10*n + 1 + i%9)), nil}}
		}
		e := w.epoch(edits)
		b.StartTimer()
		before := cpu()
		hub.store.Apply(e)
		<-sent
		spent += cpu() - before
	}
	b.ReportMetric(float64(spent.Nanoseconds())/1000/float64(b.N)/changed, "µsCPU/change")
}

// BenchmarkResume is clients that come back to one position, 100 epochs behind, one after the other.
func BenchmarkResume(b *testing.B) {
	hub, w := benchHub(b)
	sent := make(chan uint64, 1)
	hub.opt.Sent = func(_, to uint64) { sent <- to }
	for i := range 200 {
		hub.store.Apply(w.epoch(tallyEdits(i, 4)))
		<-sent
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		c := newConn(webSocket, auth.Anonymous())
		c.sink = nowhere{}
		if p := hub.open(c); p != nil {
			b.Fatal(p)
		}
		c.drain()
		c.hello(&wire.HelloFrame{Resume: "aaaaaaaaaaaaaaaa.0-100", Subscribe: []wire.Subscription{{ID: "a", View: "tally"}}})
		c.close()
		hub.opening.Done()
	}
}
