package flow

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

func joinScan() *Scan { return &Scan{Types: joinTypes} }

// joinPlans calls f with every kind of join, for every keys and condition.
func joinPlans(t *testing.T, f func(t *testing.T, p *Join, seed uint64)) {
	conds, keySets := joinConds(t), joinKeySets(t)
	seed := uint64(0)
	for kind := InnerJoin; kind <= AntiJoin; kind++ {
		for _, keyName := range slices.Sorted(maps.Keys(keySets)) {
			for _, condName := range slices.Sorted(maps.Keys(conds)) {
				seed++
				keys := keySets[keyName]
				t.Run(fmt.Sprintf("%d/%s/%s", kind, keyName, condName), func(t *testing.T) {
					f(t, &Join{Kind: kind, L: joinScan(), R: joinScan(), LKeys: keys.l, RKeys: keys.r, NullSafe: keys.safe, Cond: conds[condName]}, seed)
				})
			}
		}
	}
}

func TestJoinHistories(t *testing.T) {
	joinPlans(t, func(t *testing.T, p *Join, seed uint64) {
		runJoinHistory(t, p, [2]bool{}, seed)
		mode := 1 + seed%3
		runJoinHistory(t, p, [2]bool{mode&1 != 0, mode&2 != 0}, seed)
	})
}

// TestJoinCuts cuts one history into other batches: what is shown and what the state takes stay the same.
func TestJoinCuts(t *testing.T) {
	joinPlans(t, func(t *testing.T, p *Join, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		h := &joinHistory{rnd: rnd, keys: []int{1, 2, 6}[seed%3], l: change.NewLayout(joinTypes), appends: [2]bool{seed%4 == 1, seed%5 == 1}}
		a, b := newJoinModel(t, p, h.appends), newJoinModel(t, p, h.appends)
		var next [2][]delta
		for range 6 {
			in := h.batch(50, false)
			a.apply(in)
			for len(in[0])+len(in[1]) > 0 { // in b, deltas come in batches of their own, some with the beginning of what follows
				s := rnd.IntN(2)
				n := rnd.IntN(len(in[s]) + 1)
				next[s] = append(next[s], in[s][:n]...)
				if in[s] = in[s][n:]; rnd.IntN(3) > 0 {
					b.apply(next)
					next = [2][]delta{}
				}
			}
		}
		b.apply(next)
		if !maps.Equal(a.shown, b.shown) || a.log.rows != b.log.rows {
			t.Fatal("other batches, other rows")
		}
		if a.j.bytes() != b.j.bytes() {
			t.Fatalf("%d bytes and %d", a.j.bytes(), b.j.bytes())
		}
	})
}

// TestJoinConstant has one side complete at the first batch: the rows of the other need not be kept.
func TestJoinConstant(t *testing.T) {
	joinPlans(t, func(t *testing.T, p *Join, seed uint64) {
		for _, constant := range [][2]bool{{true, false}, {false, true}, {true, true}} {
			h := &joinHistory{rnd: rand.New(rand.NewPCG(seed, 4)), keys: 3, l: change.NewLayout(joinTypes), appends: constant}
			q := *p
			if constant[0] {
				q.L = &Project{In: &Values{Types: joinTypes}, Exprs: columnsAs(joinTypes, 0, 0, 1, 2, 3)}
			}
			if constant[1] {
				q.R = &Values{Types: joinTypes}
			}
			m := newJoinModel(t, &q, constant)
			for i := range 6 {
				in := h.batch(30, false)
				for s := range in {
					if constant[s] && i > 0 {
						in[s] = nil
					}
				}
				m.apply(in)
				m.check()
			}
			if constant[1] && m.kept(0) > 0 || constant[0] && !constant[1] && m.kept(1) > 0 {
				t.Fatal("rows are kept that meet nothing new")
			}
		}
	})
}

func runJoinHistory(t *testing.T, p *Join, appends [2]bool, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	h := &joinHistory{rnd: rnd, keys: []int{1, 2, 6}[seed%3], l: change.NewLayout(joinTypes), appends: appends}
	m := newJoinModel(t, p, appends)
	for i := range 9 {
		m.apply(h.batch([]int{2, 20, 50}[rnd.IntN(3)], i > 6))
		m.check()
	}
	if appends[0] || appends[1] {
		return
	}
	m.apply(h.rest())
	m.check()
	if len(m.shown) > 0 || m.log.rows != 0 {
		t.Fatalf("%d rows and %d errors of nothing", len(m.shown), m.log.rows)
	}
	m.empty()
}

// empty checks that nothing is kept.
func (m *joinModel) empty() {
	m.t.Helper()
	if m.j.groups.n > 0 {
		m.t.Fatalf("%d keys are kept", m.j.groups.n)
	}
	for i := range m.j.sides {
		s := &m.j.sides[i]
		for _, p := range s.slab.pages {
			if p.live > 0 {
				m.t.Fatalf("side %d keeps %d blocks of %d bytes", i, p.live, p.size)
			}
		}
		if s.size != 0 {
			m.t.Fatalf("side %d has %d bytes of nothing", i, s.size)
		}
		if s.tree != nil && s.tree.n > 0 || s.due != nil && s.due.n > 0 || s.failed != 0 {
			m.t.Fatalf("side %d keeps rows in trees", i)
		}
	}
}

// TestJoinLimits passes the number of rows of a key, and of rows out of one batch.
func TestJoinLimits(t *testing.T) {
	h := &joinHistory{rnd: rand.New(rand.NewPCG(1, 5)), keys: 1, l: change.NewLayout(joinTypes)}
	one := delta{row: h.row(), w: 60}
	for name, in := range map[string][2][]delta{"left": {{one, one}}, "right": {nil, {one, one}}} {
		m := newJoinModel(t, &Join{L: joinScan(), R: joinScan()}, [2]bool{})
		m.x.maxJoinRows = 100
		if m.apply(in); m.x.limit == nil || m.x.limit.Limit != "limits.join_rows" || m.x.limit.Got != 120 {
			t.Errorf("%s: %v", name, m.x.limit)
		}
	}
	m := newJoinModel(t, &Join{L: joinScan(), R: joinScan()}, [2]bool{})
	m.x.maxJoinRows = 100
	var in [2][]delta
	for range 50 {
		in[0], in[1] = append(in[0], delta{h.row(), 1}), append(in[1], delta{h.row(), 1})
	}
	if m.apply(in); m.x.limit == nil || m.x.limit.Got > 510 {
		t.Errorf("2,500 rows in one batch: %v", m.x.limit)
	}
}

func TestJoinRefusals(t *testing.T) {
	for name, p := range map[string]*Join{
		"number": {LKeys: columnsAs(joinTypes, 0, 0)},
		"type":   {LKeys: columnsAs(joinTypes, 0, 0), RKeys: columnsAs(joinTypes, 0, 1)},
		"safe":   {LKeys: columnsAs(joinTypes, 0, 0), RKeys: columnsAs(joinTypes, 0, 0), NullSafe: []bool{true, true}},
		"now":    {Cond: operation(t, "<", colL(colTime), &expr.Node{Kind: expr.KNow, Type: app.Timestamptz})},
		"until":  {FreeL: &Free{Until: &expr.Node{Kind: expr.KNow, Type: app.Timestamptz}}},
	} {
		p.L, p.R = joinScan(), joinScan()
		if _, err := newJoin(p, false, false, &errorLog{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestJoinAllocations holds a join to no allocation once its memory has grown.
func TestJoinAllocations(t *testing.T) {
	between := joinConds(t)["between"]
	h := &joinHistory{rnd: rand.New(rand.NewPCG(1, 6)), keys: 5, l: change.NewLayout(joinTypes)}
	m := newJoinModel(t, &Join{Kind: FullJoin, L: joinScan(), R: joinScan(), LKeys: columnsAs(joinTypes, 0, 0), RKeys: columnsAs(joinTypes, 0, 0),
		Cond: between}, [2]bool{})
	m.apply(h.batch(400, false))
	there, back := h.batch(200, false), [2][]delta{}
	for s := range there {
		for _, d := range slices.Backward(there[s]) {
			back[s] = append(back[s], delta{d.row, -d.w})
		}
	}
	turn := func() {
		for _, in := range [][2][]delta{there, back} {
			m.x.begin(m.x.seq+1, int64(m.x.seq+1))
			m.j.apply(&m.x, in[:])
		}
	}
	for range 20 {
		turn()
	}
	if n := testing.AllocsPerRun(20, turn); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
