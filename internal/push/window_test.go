package push

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// TestWindow compares windows over some hundred rows with the model, at every position that they know: their rows, and what they say changed between any
// two positions. More rows leave than a window has in reserve, so that it reads the view again, also when the view is ahead of it.
func TestWindow(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 5))
		rels := relations()
		store := view.New(rels, view.Options{RingBytes: []int{1 << 14, 1 << 20}[seed%2]})
		h := &Hub{store: store, opt: Options{WindowBytes: 64 << 20}}
		w := newWorld(rels)
		m := &model{bench: &bench{world: w, store: store, hub: h}}
		h.era.Store(newEra(rels, rulesFunc(authorize)))
		m.mu.worlds = []*world{w.clone()}
		var windows []*window
		for range 4 {
			q := modelQuery{view: "tally", match: func([]*string) bool { return true }, cols: []int{0, 1, 2}, limit: 1 + r.IntN(6), offset: max(0, r.IntN(8)-4)}
			q.order, q.less = randomOrder(r)
			if r.IntN(2) == 0 {
				q.filter, q.match = randomCondition(r, 0)
			}
			bound, p := newQuery(sight{rel: rels[0]}, q.params(), false, true)
			if p != nil {
				t.Fatalf("%s: %v", q.params(), p)
			}
			m.queries, windows = append(m.queries, q), append(windows, newWindow(h, &feed{q: bound, now: bound}))
		}
		grow, long := true, strings.Repeat("n", 1000) // more changes than a window remembers
		for range 250 {
			var edits []edit
			for range r.IntN(40) {
				key := fmt.Sprintf("k%d", r.IntN(400))
				gone := r.IntN(10) > 0
				if grow {
					gone = !gone
				}
				note := []string{"x", long}[r.IntN(2)]
				edits = append(edits, edit{rel: 0, gone: gone, vals: []*string{&key, str(fmt.Sprint(r.IntN(100))), &note}})
			}
			if n := len(w.rows[0]); n > 250 || n < 20 {
				grow = n < 20
			}
			e := w.epoch(edits)
			m.mu.worlds = append(m.mu.worlds, w.clone())
			store.Apply(e)
			if r.IntN(3) > 0 { // the hub is behind the view
				continue
			}
			for i := range windows {
				checkWindow(t, m, windows[i], i, r)
			}
		}
		for _, x := range windows {
			x.free()
		}
		if left := h.windowed.Load(); left != 0 {
			t.Errorf("seed %d: %d bytes of windows are left", seed, left)
		}
	}
}

// checkWindow has a window follow to the head, or a little less, and compares it with the model.
func checkWindow(t *testing.T, m *model, w *window, query int, r *rand.Rand) {
	t.Helper()
	h := m.hub
	if p := h.build(w); p != nil {
		t.Fatal("the window cannot be built:", p)
	}
	head, _ := m.store.Head()
	to := head - min(head, uint64(r.IntN(3)))
	if to < w.oldest() {
		to = head
	}
	render := func(changes []*windowRow) map[string]string {
		out := map[string]string{}
		for _, x := range changes {
			key, row := modelRow(t, w.q, x.row)
			out[key] = row
		}
		return out
	}
	rows, ok := w.rowsAt(to, 0)
	if !ok {
		if w.ready() && to >= w.oldest() {
			t.Fatalf("%s: no rows at %d of %d", w.q.raw, to, head)
		}
		return // the ring was too short, and the window begins anew
	}
	want := m.expect(query, to)
	if got := render(rows); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s at %d of %d has\n%v\nwant\n%v", w.q.raw, to, head, got, want)
	}
	if w.limit < len(rows) {
		t.Fatalf("%d rows in a window of %d", len(rows), w.limit)
	}
	from := w.oldest() + uint64(r.IntN(int(to-w.oldest())+1))
	before, ok := w.rowsAt(from, 0)
	if !ok {
		t.Fatalf("%s: no rows at %d, which is not before %d", w.q.raw, from, w.oldest())
	}
	if got, want := render(before), m.expect(query, from); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s at %d, seen from %d, has\n%v\nwant\n%v", w.q.raw, from, head, got, want)
	}
	changes, ok := w.between(from, to, 0)
	if !ok {
		t.Fatalf("%s: nothing is known between %d and %d", w.q.raw, from, to)
	}
	got := render(before)
	for i := range changes {
		c := &changes[i]
		if c.Old != nil {
			key, row := modelRow(t, w.q, c.Old)
			if got[key] != row {
				t.Fatalf("%s: %s was %s, not %s", w.q.raw, key, got[key], row)
			}
			delete(got, key)
		}
		if c.New != nil {
			key, row := modelRow(t, w.q, c.New)
			got[key] = row
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s from %d to %d comes to\n%v\nwant\n%v", w.q.raw, from, to, got, want)
	}
}

// modelRow renders a row as the model does.
func modelRow(t *testing.T, q *query, row change.Row) (key, text string) {
	t.Helper()
	var f incoming
	if err := decode(append(append([]byte(`{"put":[`), q.appendRow(nil, row)...), `]}`...), &f); err != nil {
		t.Fatal(err)
	}
	s := modelSub{key: q.keyNames}
	return s.keyOf(f.Put[0]), canonical(f.Put[0])
}

// windowOf returns a window over tally, by votes downwards, that has n rows to read.
func windowOf(t *testing.T, opt Options, n int, note string) (*bench, *window) {
	t.Helper()
	b := newBench(t, opt, 0)
	var edits []edit
	for i := range n {
		edits = append(edits, edit{rel: 0, vals: []*string{str(fmt.Sprint(i)), str(fmt.Sprint(i)), &note}})
	}
	b.apply(edits...)
	b.flushed()
	q, p := newQuery(sight{rel: b.hub.relation("tally")}, "order=votes.desc&limit=2", false, true)
	if p != nil {
		t.Fatal(p)
	}
	return b, newWindow(b.hub, &feed{q: q, now: q})
}

// TestWindowFreed: who builds a window that was given up meanwhile leaves nothing behind.
func TestWindowFreed(t *testing.T) {
	b, w := windowOf(t, Options{}, 10, "x")
	w.free()
	if b.hub.build(w) == nil || w.ready() || b.hub.windowed.Load() != 0 {
		t.Error(w.ready(), b.hub.windowed.Load())
	}
}

// TestWindowBytes: a window for which there is no memory is told so, and what it shares its connection with goes on.
func TestWindowBytes(t *testing.T) {
	b, w := windowOf(t, Options{WindowBytes: 8 << 10}, 20, strings.Repeat("n", 1000))
	if p := b.hub.build(w); p == nil || p.Code != wire.Busy || w.ready() || b.hub.windowed.Load() != windowBytes {
		t.Error(p, w.ready(), b.hub.windowed.Load())
	}
	w.free()
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"hello","subscribe":[{"id":"w","view":"tally","order":"votes","limit":2},{"id":"t","view":"total"}]}`)))
	b.quiet(m)
	got := string(m.take())
	if !strings.Contains(got, `"type":"error","id":"w"`) || !strings.Contains(got, "the memory for live windows") || !strings.Contains(got, `"type":"snapshot","id":"t"`) {
		t.Error(got)
	}
	if left := b.hub.windowed.Load(); left != 0 {
		t.Errorf("%d bytes are left", left)
	}
}

// TestWindowRefill: a window whose reserve is used up reads the view again if it need not look at too many rows for that; else it begins anew.
func TestWindowRefill(t *testing.T) {
	for _, most := range []int{0, 100, 1000} {
		b, w := windowOf(t, Options{}, 300, "x")
		if p := b.hub.build(w); p != nil {
			t.Fatal(p)
		}
		var gone []edit
		for i := range 100 {
			gone = append(gone, edit{rel: 0, gone: true, vals: []*string{str(fmt.Sprint(299 - i)), nil, nil}})
		}
		e := b.world.epoch(gone)
		b.store.Apply(e)
		look := most
		w.apply(e.Seq, changesOf(e, 0), &look)
		if w.ready() != (most >= 200) {
			t.Errorf("with %d rows to look at it is there: %t", most, w.ready())
		}
		if rows, ok := w.rowsAt(e.Seq, e.Seq); ok && (len(rows) != 2 || !strings.Contains(string(rows[0].key), "199")) {
			t.Errorf("%d rows, %q", len(rows), rows[0].key)
		}
	}
}
