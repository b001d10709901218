package flow_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/run"
)

const millionKeys = 1_000_000

// million is an engine with a kept table of a million rows, a view with a group per ten rows, and one of the best hundred.
type million struct {
	p     *flow.Program
	e     *flow.Engine
	d     *driver
	rnd   *rand.Rand
	store *checkpoint.Store
	state *checkpoint.State
}

// theMillion makes it once; the benchmarks change what it has, not how much.
var theMillion = sync.OnceValue(func() *million {
	p := newProgram()
	t := p.table("prices", []int{0}, false, true, "id bigint not null", "market integer not null", "price bigint not null")
	market, price := expr.Column(1, app.Int4, -1), expr.Column(2, app.Int8, -1)
	p.view("ranges", []int{0}, &flow.Aggregate{In: t, Keys: []*expr.Node{market}, Aggs: []flow.Agg{
		{Func: flow.Sum, Arg: price, Type: app.Numeric}, {Func: flow.Max, Arg: price, Type: app.Int8}}})
	p.view("top", []int{0}, &flow.TopN{In: t, Sort: []app.OrderBy{{Column: 2, Desc: true}}, Limit: 100})
	return &million{p: &p.p, rnd: rand.New(rand.NewPCG(3, 4))}
})

func (m *million) make(b *testing.B) {
	b.Helper()
	if m.e != nil {
		return
	}
	var err error
	if m.e, err = flow.New(m.p, flow.Options{}); err != nil {
		b.Fatal(err)
	}
	m.d = &driver{t: b, stamp: 1}
	for at := 0; at < millionKeys; at += 1000 {
		m.change(b, m.e, 1000, func(i int) int { return at + i })
	}
	if m.store, err = checkpoint.Open(checkpoint.Options{Dir: b.TempDir(), Log: change.LogID{1}, Clock: run.System{}}); err != nil {
		b.Fatal(err)
	}
	m.state = save(b, m.store, m.p, m.e)
}

// change merges n rows with these ids.
func (m *million) change(b *testing.B, e *flow.Engine, n int, id func(i int) int) {
	l := m.p.Relations[0].Table.Layout
	recs := make([]change.Record, n)
	for j := range recs {
		recs[j] = change.Record{Given: []byte{7}, Row: l.Append(nil, []change.Value{change.Int(int64(id(j))), change.Int(int64(id(j) % (millionKeys / 10))),
			change.Int(m.rnd.Int64N(1_000_000))})}
	}
	batch := m.d.seal(m.d.stamp+1000, records(1, change.OpMerge, recs...))
	if _, err := e.Apply(&batch); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFreeze is the engine's own pause for a checkpoint, after 50,000 of a million rows changed; write-ms is what the writer then takes.
func BenchmarkFreeze(b *testing.B) {
	m := theMillion()
	m.make(b)
	var write time.Duration
	var bytes int64
	for b.Loop() {
		b.StopTimer()
		for range 100 {
			m.change(b, m.e, 500, func(int) int { return m.rnd.IntN(millionKeys) })
		}
		b.StartTimer()
		f := m.e.Freeze(m.store.NewObject)
		b.StopTimer()
		bytes = f.Bytes()
		began := time.Now()
		w, err := m.store.Begin(checkpoint.Header{Log: change.LogID{1}, Seq: m.e.Seq(), Stamp: m.e.Stats().Stamp, Plan: m.p.PlanHash()})
		if err == nil {
			err = f.Write(w)
		}
		if err == nil {
			err = w.Commit()
		}
		if err != nil {
			b.Fatal(err)
		}
		write += time.Since(began)
		b.StartTimer()
		m.e.Done(f, true)
	}
	b.ReportMetric(float64(write.Milliseconds())/float64(b.N), "write-ms")
	b.ReportMetric(float64(bytes)/(1<<20), "MB")
}

// BenchmarkLoad loads the million keys: nothing read ahead and everything. batch-ms is the first batch of 500 rows.
func BenchmarkLoad(b *testing.B) {
	for name, resident := range map[string]int64{"lazy": 0, "all": 1 << 40} {
		b.Run(name, func(b *testing.B) {
			m := theMillion()
			m.make(b)
			var batch time.Duration
			for b.Loop() {
				e, err := flow.Load(m.p, flow.Options{Resident: resident}, m.state)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				began := time.Now()
				m.change(b, e, 500, func(int) int { return m.rnd.IntN(millionKeys) })
				batch += time.Since(began)
				b.StartTimer()
			}
			b.ReportMetric(float64(batch.Microseconds())/1000/float64(b.N), "batch-ms")
		})
	}
}

// BenchmarkLoadTables computes the views anew from the million rows of a checkpoint.
func BenchmarkLoadTables(b *testing.B) {
	m := theMillion()
	m.make(b)
	start := cpuTime()
	for b.Loop() {
		if _, _, err := flow.LoadTables(m.p, flow.Options{}, m.state); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuTime()-start).Seconds()/float64(b.N), "cpu-s")
}
