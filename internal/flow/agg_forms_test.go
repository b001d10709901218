package flow_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// TestAggregateForms has equal values of many forms under every aggregate. Whatever came and went, and however the changes were cut into batches,
// the views' bytes are those of an engine that only ever sees what is there.
func TestAggregateForms(t *testing.T) {
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 51))
		c := newAggCases(t, rnd)
		for i, col := range c.cols {
			switch col.typ {
			case app.Numeric:
				c.cols[i].text = []string{"1", "1.0", "1.00", "-2", "-2.0", "0", "0.000", "NaN", "1e30", "3.14159"}
			case app.JSONB:
				c.cols[i].text = []string{"1", "1.0", "[1]", "[1.0]", `{"a": 2.50}`, `{"a": 2.5}`, "null"}
			case app.Float8:
				c.cols[i].text = []string{"0", "-0", "1e300", "-1e300", "1e-300", "0.1", "NaN", "Infinity"}
			}
		}
		p := newProgram()
		var defs []string
		for i, col := range c.cols {
			defs = append(defs, col.name+" "+col.typ.String()+map[bool]string{true: " not null"}[i < 2])
		}
		table := p.table("t", []int{0}, false, true, defs...)
		var aggs []flow.Agg
		for _, one := range c.list {
			aggs = append(aggs, one.agg)
		}
		p.view("by_g", []int{0}, &flow.Aggregate{In: table, Keys: []*expr.Node{c.node("g")}, Aggs: aggs})
		p.view("by_n", []int{0}, &flow.Aggregate{In: table, Keys: []*expr.Node{c.node("n")}, Aggs: aggs[:40]})
		p.view("whole", []int{0}, &flow.Aggregate{In: table, Aggs: aggs})
		h := &aggHistory{aggCases: c, d: newDriver(t, &p.p, flow.Options{})}
		cut := newDriver(t, &p.p, flow.Options{})
		var open []change.Entry
		for i := range 120 {
			id := rnd.IntN(40)
			en := records(1, change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=eq.%d", id)})
			if rnd.IntN(3) > 0 {
				rec, _ := h.row(id)
				en = records(1, change.OpMerge, rec)
			}
			h.d.applyAt(int64(2_000_000+i/10), en)
			if open = append(open, en); i%10 == 9 || rnd.IntN(3) == 0 {
				cut.applyAt(int64(2_000_000+i/10), open...)
				open = nil
			}
		}
		if h.d.e.Fingerprint() != cut.e.Fingerprint() {
			t.Fatalf("seed %d: other batches end in another state", seed)
		}
		again := newDriver(t, &p.p, flow.Options{})
		for _, r := range h.d.rows[0] { // any order
			again.apply(records(1, change.OpInsert, change.Record{Row: r}))
		}
		for rel := 1; rel <= 3; rel++ {
			if got, want := again.table(rel), h.d.table(rel); got != want {
				t.Fatalf("seed %d: %s built anew is\n%swhere it was\n%s", seed, p.p.Relations[rel].Name, got, want)
			}
		}
	}
}
