package flow

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// joinLoad feeds a join batches of 500 deltas made before the clock runs.
type joinLoad struct {
	b       *testing.B
	j       *join
	x       exec
	log     errorLog
	layouts [2]*change.Layout
	arena   []byte
	in      [][2][]delta
	now     [2][]delta
	n       int
}

func newJoinLoad(b *testing.B, p *Join, appendL, appendR bool) *joinLoad {
	l := &joinLoad{b: b, x: exec{maxJoinRows: 1 << 40, maxStep: 1 << 40}, layouts: [2]*change.Layout{change.NewLayout(p.L.Columns()), change.NewLayout(p.R.Columns())}}
	op, err := newJoin(p, appendL, appendR, &l.log)
	if err != nil {
		b.Fatal(err)
	}
	l.j = op.(*join)
	return l
}

func (l *joinLoad) add(s int, w int64, vals ...change.Value) {
	at := len(l.arena)
	l.arena = l.layouts[s].Append(l.arena, vals)
	l.now[s] = append(l.now[s], delta{l.arena[at:len(l.arena):len(l.arena)], w})
	l.n++
	if len(l.now[0])+len(l.now[1]) == 500 {
		l.cut()
	}
}

func (l *joinLoad) cut() {
	if len(l.now[0])+len(l.now[1]) > 0 {
		l.in = append(l.in, l.now)
	}
	l.now = [2][]delta{}
}

// run applies what was added.
func (l *joinLoad) run() (out int) {
	l.cut()
	for i := range l.in {
		l.x.begin(l.x.seq+1, int64(l.x.seq))
		out += len(l.j.apply(&l.x, l.in[i][:]))
	}
	l.in, l.n = l.in[:0], 0
	return out
}

// measure times the events that fill adds, for each turn a new one.
func measure(b *testing.B, load func() *joinLoad, fill func(l *joinLoad)) {
	b.ReportAllocs()
	n, out, held, used := 0, 0, 0, time.Duration(0)
	for range b.N {
		b.StopTimer()
		l := load()
		l.run()
		fill(l)
		l.cut()
		n += l.n
		b.StartTimer()
		start := processTime()
		out += l.run()
		used += processTime() - start
		held = l.j.held()
	}
	b.ReportMetric(float64(used.Nanoseconds())/float64(n), "cpu-ns/event")
	b.ReportMetric(float64(out)/float64(n), "out/event")
	b.ReportMetric(float64(held)/(1<<20), "MB")
	b.ReportMetric(float64(n)/float64(b.N), "events/op")
}

// held is the memory of the state, free room included.
func (j *join) held() int {
	n := j.groups.slab.store.held + j.groups.segs.held
	for i := range j.sides {
		s := &j.sides[i]
		n += s.slab.store.held
		for _, t := range []*tree{s.tree, s.due} {
			if t != nil {
				n += t.slab.store.held + t.nodes.held
			}
		}
	}
	return n
}

// processTime is what the process has used, collector included.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func columnsAs(types []app.Type, base int, cols ...int) (nodes []*expr.Node) {
	for _, c := range cols {
		nodes = append(nodes, expr.Column(base+c, types[c], -1))
	}
	return nodes
}

var (
	bidTypes     = []app.Type{app.Int8, app.Int8, app.Int8, app.Timestamptz, app.Text} // auction, bidder, price, date_time, extra
	auctionTypes = []app.Type{app.Int8, app.Int8, app.Timestamptz, app.Timestamptz, app.Text}
	benchText    = change.Bytes(bytes.Repeat([]byte("x"), 40))
)

// BenchmarkJoinEnrich joins a stream with a table of 10,000 rows, one match each.
func BenchmarkJoinEnrich(b *testing.B) { benchEnrich(b, 10_000) }

func benchEnrich(b *testing.B, rows int64) {
	p := &Join{L: &Scan{Types: bidTypes}, R: &Scan{Types: auctionTypes}, LKeys: columnsAs(bidTypes, 0, 0), RKeys: columnsAs(auctionTypes, 0, 0)}
	measure(b, func() *joinLoad {
		l := newJoinLoad(b, p, true, false)
		for i := range rows {
			l.add(1, 1, change.Int(i), change.Int(1), change.Int(1), change.Int(2), benchText)
		}
		return l
	}, func(l *joinLoad) {
		rnd := rand.New(rand.NewPCG(1, 1))
		for i := range 200_000 {
			l.add(0, 1, change.Int(rnd.Int64N(rows)), change.Int(int64(i)), change.Int(rnd.Int64N(1000)), change.Int(int64(i)), benchText)
		}
	})
}

// BenchmarkJoinLarge is BenchmarkJoinEnrich with a table that no cache holds: half a million rows.
func BenchmarkJoinLarge(b *testing.B) { benchEnrich(b, 500_000) }

// BenchmarkJoinQ3 joins two streams that are kept: three auctions for a person.
func BenchmarkJoinQ3(b *testing.B) {
	types := []app.Type{app.Int8, app.Text, app.Text, app.Text}
	p := &Join{L: &Scan{Types: auctionTypes}, R: &Scan{Types: types}, LKeys: columnsAs(auctionTypes, 0, 1), RKeys: columnsAs(types, 0, 0)}
	measure(b, func() *joinLoad { return newJoinLoad(b, p, true, true) }, func(l *joinLoad) {
		rnd := rand.New(rand.NewPCG(1, 1))
		for i := range 200_000 {
			if i%4 == 0 {
				l.add(1, 1, change.Int(int64(i/4)), benchText, change.Bytes([]byte("city")), change.Bytes([]byte("OR")))
				continue
			}
			l.add(0, 1, change.Int(int64(i)), change.Int(max(0, int64(i/4)-rnd.Int64N(1000))), change.Int(1), change.Int(2), benchText)
		}
	})
}

func betweenTimes(b *testing.B) *expr.Node {
	at := columnsAs(bidTypes, 0, 3)[0]
	bounds := columnsAs(auctionTypes, len(bidTypes), 2, 3)
	return conjunction(b, operation(b, ">=", at, bounds[0]), operation(b, "<=", at, bounds[1]))
}

// BenchmarkJoinQ4 joins auctions with their bids within the auction's time; both are kept.
func BenchmarkJoinQ4(b *testing.B) {
	p := &Join{L: &Scan{Types: bidTypes}, R: &Scan{Types: auctionTypes}, LKeys: columnsAs(bidTypes, 0, 0), RKeys: columnsAs(auctionTypes, 0, 0),
		Cond: betweenTimes(b)}
	measure(b, func() *joinLoad { return newJoinLoad(b, p, true, true) }, func(l *joinLoad) {
		rnd := rand.New(rand.NewPCG(1, 1))
		for i := range 200_000 {
			if i%16 == 0 {
				l.add(1, 1, change.Int(int64(i/16)), change.Int(1), change.Int(int64(i)), change.Int(int64(i+1000)), benchText)
				continue
			}
			l.add(0, 1, change.Int(max(0, int64(i/16)-rnd.Int64N(100))), change.Int(1), change.Int(rnd.Int64N(1000)), change.Int(int64(i)), benchText)
		}
	})
}

// BenchmarkJoinQ5 joins the counts of 2,000 auctions per window, most of which change again and again, with the window's highest.
func BenchmarkJoinQ5(b *testing.B) {
	counts := []app.Type{app.Int8, app.Timestamptz, app.Timestamptz, app.Int8}
	most := []app.Type{app.Int8, app.Timestamptz, app.Timestamptz}
	p := &Join{L: &Scan{Types: counts}, R: &Scan{Types: most}, LKeys: columnsAs(counts, 0, 1, 2), RKeys: columnsAs(most, 0, 1, 2),
		Cond: operation(b, ">=", expr.Column(3, app.Int8, -1), expr.Column(4, app.Int8, -1))}
	measure(b, func() *joinLoad { return newJoinLoad(b, p, false, false) }, func(l *joinLoad) {
		rnd := rand.New(rand.NewPCG(1, 1))
		num, top := [5][2000]int64{}, [5]int64{}
		for range 40_000 {
			w, a := rnd.Int64N(5), int64(float64(2000)*rnd.Float64()*rnd.Float64())
			n := num[w][a]
			if n > 0 {
				l.add(0, -1, change.Int(a), change.Int(w), change.Int(w+1), change.Int(n))
			}
			num[w][a]++
			l.add(0, 1, change.Int(a), change.Int(w), change.Int(w+1), change.Int(n+1))
			if n+1 > top[w] {
				if top[w] > 0 {
					l.add(1, -1, change.Int(top[w]), change.Int(w), change.Int(w+1))
				}
				top[w] = n + 1
				l.add(1, 1, change.Int(top[w]), change.Int(w), change.Int(w+1))
			}
		}
	})
}

// BenchmarkJoinHot changes rows of a table of which 100,000 have one key, with one partner: each event takes a row back or brings one.
func BenchmarkJoinHot(b *testing.B) {
	p := &Join{Kind: LeftJoin, L: &Scan{Types: bidTypes}, R: &Scan{Types: auctionTypes}, LKeys: columnsAs(bidTypes, 0, 0), RKeys: columnsAs(auctionTypes, 0, 0)}
	price := make([]int64, 100_000)
	bid := func(l *joinLoad, i int, w int64) {
		l.add(0, w, change.Int(7), change.Int(int64(i)), change.Int(price[i]), change.Int(int64(i)), benchText)
	}
	measure(b, func() *joinLoad {
		l := newJoinLoad(b, p, false, false)
		l.add(1, 1, change.Int(7), change.Int(1), change.Int(1), change.Int(2), benchText)
		for i := range price {
			bid(l, i, 1)
		}
		return l
	}, func(l *joinLoad) {
		rnd := rand.New(rand.NewPCG(1, 1))
		for range 50_000 {
			i := rnd.IntN(len(price))
			bid(l, i, -1)
			price[i]++
			bid(l, i, 1)
		}
	})
}

// BenchmarkJoinTable changes rows on either side of a join of two tables, one match each, in the steady state.
func BenchmarkJoinTable(b *testing.B) {
	p := &Join{Kind: FullJoin, L: &Scan{Types: bidTypes}, R: &Scan{Types: auctionTypes}, LKeys: columnsAs(bidTypes, 0, 0), RKeys: columnsAs(auctionTypes, 0, 0)}
	price := make([]int64, 20_000)
	row := func(l *joinLoad, i, s int, w int64) {
		if s == 0 {
			l.add(0, w, change.Int(int64(i)), change.Int(int64(i)), change.Int(price[i]), change.Int(int64(i)), benchText)
			return
		}
		l.add(1, w, change.Int(int64(i)), change.Int(price[i]), change.Int(1), change.Int(2), benchText)
	}
	measure(b, func() *joinLoad {
		clear(price)
		l := newJoinLoad(b, p, false, false)
		for i := range price {
			row(l, i, i&1, 1)
			row(l, i, 1-i&1, 1)
		}
		return l
	}, func(l *joinLoad) {
		rnd := rand.New(rand.NewPCG(1, 1))
		for range 50_000 {
			i := rnd.IntN(len(price)) &^ 1
			row(l, i, 0, -1)
			row(l, i+1, 1, -1)
			price[i], price[i+1] = price[i]+1, price[i+1]+1
			row(l, i, 0, 1)
			row(l, i+1, 1, 1)
			price[i], price[i+1] = price[i]-1, price[i+1]-1
			row(l, i, 0, -1)
			row(l, i+1, 1, -1)
			row(l, i, 0, 1)
			row(l, i+1, 1, 1)
		}
	})
}
