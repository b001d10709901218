package flow_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// votes is a vote table and three grouped views over it. A wide one has a thousand groups, so that most rows of a batch
// change a group of their own; the others have tens.
func votes(wide bool) *flow.Program {
	p := newProgram()
	t := p.table("votes", []int{0}, true, false, "id uuid not null", "contestant text not null", "country text not null",
		"points integer not null", "at timestamptz not null")
	contestant, country := expr.Column(1, app.Text, -1), expr.Column(2, app.Text, -1)
	points, at := expr.Column(3, app.Int4, -1), expr.Column(4, app.Timestamptz, -1)
	count := flow.Agg{Func: flow.CountRows, Type: app.Int8}
	p.view("tally", []int{0}, &flow.Aggregate{In: t, Keys: []*expr.Node{contestant}, Aggs: []flow.Agg{count,
		{Func: flow.Sum, Arg: points, Type: app.Int8}}})
	p.view("countries", []int{0}, &flow.Aggregate{In: t, Keys: []*expr.Node{country}, Aggs: []flow.Agg{count,
		{Func: flow.Max, Arg: at, Type: app.Timestamptz}}})
	if wide {
		p.view("matrix", []int{0, 1}, &flow.Aggregate{In: t, Keys: []*expr.Node{country, contestant}, Aggs: []flow.Agg{count}})
	} else {
		p.view("points", []int{0}, &flow.Aggregate{In: t, Keys: []*expr.Node{points}, Aggs: []flow.Agg{count}})
	}
	return &p.p
}

// voteBatches seals n batches of size rows.
func voteBatches(tb testing.TB, n, size int, serverIDs bool) []change.Batch {
	rnd := rand.New(rand.NewPCG(1, 2))
	d := &driver{t: tb, stamp: 1}
	l := change.NewLayout([]app.Type{app.UUID, app.Text, app.Text, app.Int4, app.Timestamptz})
	out := make([]change.Batch, n)
	for i := range out {
		recs := make([]change.Record, size)
		for j := range recs {
			id := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, rnd.Uint64()), rnd.Uint64())
			recs[j] = change.Record{ServerID: serverIDs, Row: l.Append(nil, []change.Value{change.Bytes(id),
				change.Bytes(fmt.Appendf(nil, "contestant-%02d", rnd.IntN(26))), change.Bytes(fmt.Appendf(nil, "country-%02d", rnd.IntN(40))),
				change.Int(int64(1 + rnd.IntN(12))), change.Int(int64(i)*1000 + int64(j))})}
		}
		b := d.seal(d.stamp+1000, records(1, change.OpInsert, recs...))
		out[i] = b.Clone()
	}
	return out
}

// reseal gives a batch the place and time that follow, so that a few batches can be applied for ever.
func reseal(b *change.Batch, seq uint64) {
	h := b.Header()
	h.Seq, h.Stamp = seq, int64(seq)*1000
}

// cpuTime is what the process has used, collector included: the figure to trust on a machine that does other things too.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchVotes(b *testing.B, n, size int, wide, serverIDs bool) {
	e, err := flow.New(votes(wide), flow.Options{Window: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	batches := voteBatches(b, n, size, serverIDs)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime()
	for i := range b.N {
		batch := &batches[i%len(batches)]
		reseal(batch, uint64(i+1))
		if _, err := e.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-start).Nanoseconds())/float64(b.N*size), "cpu-ns/event")
}

func BenchmarkVotes500(b *testing.B)     { benchVotes(b, 64, 500, false, true) }
func BenchmarkVotes500Wide(b *testing.B) { benchVotes(b, 64, 500, true, true) }
func BenchmarkVotes1(b *testing.B)       { benchVotes(b, 64, 1, false, true) }

// BenchmarkVotesRepeated has ids that were seen before; BenchmarkVotesClientIDs has new ones made by clients, of which half a
// million are remembered: one is forgotten for each that comes.
func BenchmarkVotesRepeated(b *testing.B)  { benchVotes(b, 64, 500, false, false) }
func BenchmarkVotesClientIDs(b *testing.B) { benchVotes(b, 2000, 500, false, false) }

// BenchmarkMerge changes rows of a kept table of 100,000 rows that nobody reads but a grouped view with min and max and a top ten.
func BenchmarkMerge(b *testing.B) {
	p := newProgram()
	t := p.table("prices", []int{0}, false, true, "id bigint not null", "market integer not null", "price bigint not null")
	p.p.Definition.Grants = nil
	market, price := expr.Column(1, app.Int4, -1), expr.Column(2, app.Int8, -1)
	p.view("ranges", []int{0}, &flow.Aggregate{In: t, Keys: []*expr.Node{market}, Aggs: []flow.Agg{
		{Func: flow.Min, Arg: price, Type: app.Int8}, {Func: flow.Max, Arg: price, Type: app.Int8}}})
	p.view("top", []int{0}, &flow.TopN{In: t, Sort: []app.OrderBy{{Column: 2, Desc: true}}, Limit: 10})
	e, err := flow.New(&p.p, flow.Options{})
	if err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	l := change.NewLayout([]app.Type{app.Int8, app.Int4, app.Int8})
	d := &driver{t: b, stamp: 1}
	batches := make([]change.Batch, 1000)
	for i := range batches {
		recs := make([]change.Record, 500)
		for j := range recs {
			id := rnd.IntN(100_000)
			recs[j] = change.Record{Given: []byte{7}, Row: l.Append(nil, []change.Value{change.Int(int64(id)), change.Int(int64(id % 100)),
				change.Int(rnd.Int64N(1_000_000))})}
		}
		batch := d.seal(d.stamp+1000, records(1, change.OpMerge, recs...))
		batches[i] = batch.Clone()
		if _, err := e.Apply(&batches[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	start := cpuTime()
	for i := range b.N {
		batch := &batches[i%len(batches)]
		reseal(batch, uint64(len(batches)+i+1))
		if _, err := e.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-start).Nanoseconds())/float64(b.N*500), "cpu-ns/event")
}

// heap returns the bytes that the live objects of the process take, free room in their spans included.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// BenchmarkKeys counts a million keys, 500 rows at a time, half of them new: the bytes that each key takes in the engine, as the engine
// counts them and as the heap does.
func BenchmarkKeys(b *testing.B) {
	p := newProgram()
	t := p.table("t", nil, true, false, "k bigint not null")
	p.view("n", []int{0}, &flow.Aggregate{In: t, Keys: []*expr.Node{expr.Column(0, app.Int8, -1)},
		Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}})
	const keys, size = 1_000_000, 500
	for range b.N {
		before := heap()
		e, err := flow.New(&p.p, flow.Options{})
		if err != nil {
			b.Fatal(err)
		}
		d := &driver{t: b, stamp: 1}
		l := change.NewLayout([]app.Type{app.Int8})
		recs := make([]change.Record, size)
		buf := make([]byte, 0, size*16)
		for i := 0; i < 2*keys; i += size {
			buf = buf[:0]
			for j := range recs {
				k := (i + j) / 2
				if (i+j)%2 == 1 {
					k = (i + j) * 7919 / 2 % (k + 1)
				}
				at := len(buf)
				buf = l.Append(buf, []change.Value{change.Int(int64(k))})
				recs[j] = change.Record{Row: buf[at:len(buf):len(buf)]}
			}
			b.StopTimer()
			batch := d.seal(d.stamp+1000, records(1, change.OpInsert, recs...))
			b.StartTimer()
			if _, err := e.Apply(&batch); err != nil {
				b.Fatal(err)
			}
		}
		st := e.Stats()
		rows := float64(st.Views[0].Rows)
		b.ReportMetric(float64(st.Bytes)/rows, "bytes/key")
		b.ReportMetric(float64(heap()-before)/rows, "heap-bytes/key")
		runtime.KeepAlive(e)
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2*keys), "ns/event")
	}
}

// TestAllocations holds the steady state to the few allocations that make the epoch.
func TestAllocations(t *testing.T) {
	e, err := flow.New(system(votes(true)), flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	batches := voteBatches(t, 20, 500, true)
	seq := uint64(0)
	apply := func() {
		seq++
		batch := &batches[seq%20]
		reseal(batch, seq)
		if _, err := e.Apply(batch); err != nil {
			t.Fatal(err)
		}
	}
	for range 40 {
		apply()
	}
	if n := testing.AllocsPerRun(50, apply); n > 6 {
		t.Errorf("%v allocations per batch of 500 rows", n)
	}
}
