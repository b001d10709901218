package nexmark_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
	"laaster/internal/sql"
)

// fiveViews is an app with one view of each common kind over one stream.
const fiveViews = `CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL, price bigint NOT NULL);
CREATE TABLE orders (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), product bigint NOT NULL, region text NOT NULL, amount bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
) WITH (append_only, event_time = 'at', lateness = '5 seconds');
CREATE MATERIALIZED VIEW regions AS SELECT region, count(*) AS orders, sum(amount) AS amount FROM orders GROUP BY region;
CREATE MATERIALIZED VIEW priced WITH (allow_unbounded = true) AS
  SELECT o.id, p.name, o.amount * p.price AS total FROM orders o JOIN products p ON p.id = o.product;
CREATE MATERIALIZED VIEW largest AS SELECT id, region, amount FROM orders ORDER BY amount DESC, id LIMIT 10;
CREATE MATERIALIZED VIEW minutes AS
  SELECT window_start, count(*) AS orders, max(amount) AS largest FROM tumble(orders, at, interval '1 minute') GROUP BY window_start, window_end;
CREATE MATERIALIZED VIEW lately AS SELECT product, count(*) AS orders FROM orders WHERE at > now() - interval '10 seconds' GROUP BY product;
GRANT INSERT ON orders, products TO anon;
GRANT SELECT ON regions, priced, largest, minutes, lately TO anon;
`

// five is an engine of fiveViews and what feeds it.
type five struct {
	e      *flow.Engine
	orders *expr.TableRules
	rnd    *rand.Rand
	b      change.Builder
	seq    uint64
	stamp  int64
}

func newFive(tb testing.TB, opt flow.Options) *five {
	tb.Helper()
	p, found := sql.Compile("app.sql", []byte(fiveViews), nil)
	if p == nil {
		tb.Fatal(found[0].Render())
	}
	e, err := flow.New(p, opt)
	if err != nil {
		tb.Fatal(err)
	}
	f := &five{e: e, rnd: rand.New(rand.NewPCG(1, 2)), stamp: time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC).UnixMicro()}
	f.apply(tb, f.seal(change.Entry{Kind: change.EntryDefinition, Last: true, Body: p.Catalog}))
	for _, r := range p.Relations {
		switch {
		case r.Name == "orders":
			f.orders = r.Table
		case r.Name == "products":
			var body []byte
			for i := range int64(1000) {
				body = change.AppendRecord(body, change.OpInsert, &change.Record{Row: r.Table.Layout.Append(nil,
					[]change.Value{change.Int(i), change.Bytes(fmt.Appendf(nil, "product %d", i)), change.Int(i + 1)})})
			}
			f.apply(tb, f.seal(change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Table: r.Table.Catalog,
				Version: r.Table.Version, Count: 1000, Body: body}))
		}
	}
	return f
}

func (f *five) seal(en change.Entry) change.Batch {
	f.b.Reset()
	if err := f.b.Add(&en); err != nil {
		panic(err)
	}
	f.seq++
	f.stamp += 5000 // 200 events a second
	b := f.b.Seal(change.Header{Seq: f.seq, Stamp: f.stamp})
	return b.Clone()
}

// order returns a batch of one order.
func (f *five) order() change.Batch {
	var id [16]byte
	for i := range id {
		id[i] = byte(f.rnd.Uint32())
	}
	row := f.orders.Layout.Append(nil, []change.Value{change.Bytes(id[:]), change.Int(f.rnd.Int64N(1000)),
		change.Bytes(fmt.Appendf(nil, "region %d", f.rnd.IntN(50))), change.Int(f.rnd.Int64N(1_000_000)), change.Int(f.stamp + 5000)})
	return f.seal(change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Table: f.orders.Catalog, Version: f.orders.Version,
		Count: 1, Body: change.AppendRecord(nil, change.OpInsert, &change.Record{ServerID: true, Row: row})})
}

func (f *five) apply(tb testing.TB, b change.Batch) *change.Epoch {
	epoch, err := f.e.Apply(&b)
	if err != nil {
		tb.Fatal(err)
	}
	return epoch
}

// BenchmarkFiveViews applies one event per batch, with the clock that the server gives the engine and without one.
func BenchmarkFiveViews(b *testing.B) {
	began := time.Now()
	for _, c := range []struct {
		name  string
		clock func() int64
	}{{"clock", func() int64 { return time.Since(began).Nanoseconds() }}, {"none", nil}} {
		b.Run(c.name, func(b *testing.B) {
			f := newFive(b, flow.Options{Clock: c.clock})
			b.ReportAllocs()
			spent, changes := time.Duration(0), 0
			for left := b.N; left > 0; left -= 1000 {
				b.StopTimer()
				made := make([]change.Batch, min(left, 1000))
				for i := range made {
					made[i] = f.order()
				}
				b.StartTimer()
				start := cpuTime()
				for _, m := range made {
					for _, d := range f.apply(b, m).Deltas {
						changes += len(d.Changes)
					}
				}
				spent += cpuTime() - start
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/event")
			b.ReportMetric(float64(changes)/float64(b.N), "changes/event")
		})
	}
}

// TestFiveViews holds one event alone in its batch to the allocations that make the epoch, and to 50 µs in the engine.
func TestFiveViews(t *testing.T) {
	began := time.Now()
	f := newFive(t, flow.Options{Clock: func() int64 { return time.Since(began).Nanoseconds() }})
	for range 5000 {
		f.apply(t, f.order())
	}
	made := make([]change.Batch, 2000)
	for i := range made {
		made[i] = f.order()
	}
	changes, next := 0, 0
	start := cpuTime()
	allocs := testing.AllocsPerRun(len(made)-1, func() {
		for _, d := range f.apply(t, made[next]).Deltas {
			changes += len(d.Changes)
		}
		next++
	})
	each := (cpuTime() - start) / time.Duration(len(made))
	if changes < 4*len(made) {
		t.Errorf("%d changes of %d events", changes, len(made))
	}
	if allocs > 8 {
		t.Errorf("%v allocations per event", allocs)
	}
	if each > 50*time.Microsecond && !testkit.Race() {
		t.Errorf("%s of processor time per event", each)
	}
	t.Logf("%s of processor time and %.1f changes per event, %v allocations", each, float64(changes)/float64(len(made)), allocs)
}

// cpuTime is what the process has used, collector included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
