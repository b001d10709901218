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
func (nowhere) close()                         {}

func benchHub(b *testing.B) (*Hub, *world) {
	rels := relations()
	store := view.New(rels, view.Options{})
	hub, err := NewHub(context.Background(), Options{Store: store, Log: testLog, Authorize: authorize, Merge: time.Nanosecond, CloseTimeout: time.Millisecond})
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
				c := &conn{enc: webSocket, who: auth.Anonymous(), sink: nowhere{}}
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

// BenchmarkOwnRow is 1,000 connections that each follow a row of their own, and epochs that change 200 of these.
func BenchmarkOwnRow(b *testing.B) {
	const conns, changed = 1000, 200
	hub, w := benchHub(b)
	for i := range conns {
		c := &conn{enc: webSocket, who: auth.Anonymous(), sink: nowhere{}}
		if p := hub.open(c); p != nil {
			b.Fatal(p)
		}
		c.drain()
		c.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: "tally", Filter: fmt.Sprintf("contestant=eq.c%d", i)}}})
		defer hub.opening.Done()
	}
	sent := make(chan uint64, 1)
	hub.opt.Sent = func(_, to uint64) { sent <- to }
	b.ReportAllocs()
	for i := range b.N {
		b.StopTimer()
		edits := make([]edit, changed)
		for j := range edits {
			edits[j] = edit{rel: 0, vals: []*string{str(fmt.Sprintf("c%d", (i*changed+j)%conns)), str(fmt.Sprint(i)), nil}}
		}
		e := w.epoch(edits)
		b.StartTimer()
		hub.store.Apply(e)
		<-sent
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/changed, "µs/change")
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
		c := &conn{enc: webSocket, who: auth.Anonymous(), sink: nowhere{}}
		if p := hub.open(c); p != nil {
			b.Fatal(p)
		}
		c.drain()
		c.hello(&wire.HelloFrame{Resume: "aaaaaaaaaaaaaaaa.0-100", Subscribe: []wire.Subscription{{ID: "a", View: "tally"}}})
		c.close()
		hub.opening.Done()
	}
}

// BenchmarkIdle reports the memory of a connection that is subscribed and hears nothing, over loopback, ours alone: the client's
// half of the sockets costs the Go heap about as much as the server's, which is measured and taken off.
func BenchmarkIdle(b *testing.B) {
	const conns = 2000
	for range b.N {
		hub, _ := benchHub(b)
		before := heap()
		var ends []net.Conn
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		for range conns {
			client, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			server, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			ends = append(ends, client, server)
		}
		sockets := heap()
		for i := 0; i < len(ends); i += 2 {
			if p := hub.ServeConn(ends[i+1], auth.Anonymous()); p != nil {
				b.Fatal(p)
			}
			if _, err := ends[i].Write(clientFrame(opText, true, []byte(`{"type":"hello","subscribe":[{"id":"a","view":"tally"}]}`))); err != nil {
				b.Fatal(err)
			}
		}
		for hub.Stats().Subscriptions < conns {
			runtime.Gosched()
		}
		b.ReportMetric(float64(heap()-sockets)/conns, "B/conn")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.StackInuse)/conns, "Bstack/conn")
		b.ReportMetric(float64(sockets-before)/2/conns, "B/socket")
		for i := 0; i < len(ends); i += 2 {
			ends[i].Close()
		}
		ln.Close()
	}
}

// heap is the memory in use, goroutine stacks included.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
