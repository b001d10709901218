package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// TestJoinFree joins rows of equal times under a watermark: what is shown is what a join without it shows, and rows behind it are gone.
func TestJoinFree(t *testing.T) {
	k, at := colL(colKey), colL(colTime)
	same := operation(t, "=", colL(colTime), colR(colTime))
	later := operation(t, ">=", colL(colTime), colR(colTime))
	conds := map[string]*expr.Node{"equal": same, "range": conjunction(t, same, later, operation(t, "<=", colL(colTime), colR(colTime)))}
	keys := map[string][]*expr.Node{"time": {k, at}, "key": {k}, "none": nil}
	seed := uint64(0)
	for kind := InnerJoin; kind <= AntiJoin; kind++ {
		for keyName, on := range keys {
			for condName, cond := range conds {
				for mode := range 8 {
					seed++
					p := &Join{Kind: kind, L: joinScan(), R: joinScan(), LKeys: on, RKeys: on, Cond: cond}
					if keyName == "time" && condName == "equal" {
						p.Cond = nil
					}
					if mode&3 != 1 {
						p.FreeL = &Free{Until: at, Tables: []int{0}, OrAt: mode&4 != 0}
					}
					if mode&3 != 2 {
						p.FreeR = &Free{Until: at, Tables: []int{0}, OrAt: mode&4 != 0}
					}
					t.Run(fmt.Sprintf("%d/%s/%s/%d", kind, keyName, condName, mode), func(t *testing.T) {
						runJoinFree(t, p, [2]bool{mode&3 == 3, mode&3 == 3}, seed)
					})
				}
			}
		}
	}
}

func runJoinFree(t *testing.T, p *Join, appends [2]bool, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	h := &joinHistory{rnd: rnd, keys: 1 + int(seed%3), l: change.NewLayout(joinTypes), appends: appends}
	m := newJoinModel(t, p, appends)
	mark, open := int64(0), int64(0) // rows at open and later may still come and go
	m.j.mark = func(*exec, []int) int64 { return mark }
	for range 8 {
		in := h.batch([]int{2, 30, 60}[rnd.IntN(3)], false)
		for s := range in {
			for i := range in[s] {
				h.shift(in[s], i, s, open)
			}
		}
		m.apply(in)
		m.check()
		mark += int64(rnd.IntN(8))
		if open = mark; p.FreeL != nil && p.FreeL.OrAt || p.FreeR != nil && p.FreeR.OrAt {
			open++
		}
		h.forget(open)
		if rnd.IntN(2) == 0 && m.j.due(&m.x) {
			m.apply([2][]delta{})
			m.check()
			if m.j.due(&m.x) {
				t.Fatal("rows that are due stay")
			}
		}
	}
	mark = 1 << 40
	m.apply([2][]delta{})
	m.check()
	for s, f := range []*Free{p.FreeL, p.FreeR} {
		if f != nil && m.kept(s) > 0 {
			t.Fatalf("side %d keeps %d rows of the past", s, m.kept(s))
		}
	}
	if p.FreeL != nil && p.FreeR != nil {
		m.empty()
	}
}

// kept counts the rows in the state of side s.
func (m *joinModel) kept(s int) (n int) {
	m.j.groups.each(func(r ref) { n += int(bucket(m.j.groups.value(r)[s*bucketSize:]).rows()) })
	return n
}

// shift gives an inserted row a time from open on, in the history too.
func (h *joinHistory) shift(in []delta, i, s int, open int64) {
	at := h.l.Get(in[i].row, colTime).N
	if in[i].w < 0 || at >= open {
		return
	}
	vals := make([]change.Value, h.l.Columns())
	for c := range vals {
		vals[c] = h.l.Get(in[i].row, c)
	}
	vals[colTime] = change.Int(open + at%7)
	old, row := string(in[i].row), h.l.Append(nil, vals)
	for k := i; k < len(in); k++ { // later removals in the batch are of the new row
		if string(in[k].row) == old {
			in[k].row = row
		}
	}
	for k := range h.live[s] {
		if string(h.live[s][k]) == old {
			h.live[s][k] = row
		}
	}
}

// forget makes rows of the past stay for ever.
func (h *joinHistory) forget(open int64) {
	for s := range h.live {
		n := 0
		for _, row := range h.live[s] {
			if h.l.Get(row, colTime).N >= open {
				h.live[s][n] = row
				n++
			}
		}
		h.live[s] = h.live[s][:n]
	}
}
