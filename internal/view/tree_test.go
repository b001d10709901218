package view

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"laaster/internal/change"
)

// seeds is how many histories a test goes through: so many, or as many as LAASTER_SEEDS says.
func seeds(n uint64) uint64 {
	if long, err := strconv.ParseUint(os.Getenv("LAASTER_SEEDS"), 10, 64); err == nil {
		return long
	}
	return n
}

// history makes random epochs of one relation: mostly short rows, sometimes long ones, keys that share beginnings, times of growth and of
// shrinking, rows at the end, and whole ranges that go.
type history struct {
	r    *rand.Rand
	rows map[string]string
	seq  uint64
	last int // the number of the newest key at the end
}

func newHistory(seed uint64) *history {
	return &history{r: rand.New(rand.NewPCG(seed, 3)), rows: map[string]string{}}
}

func (h *history) key() string {
	switch h.r.IntN(4) {
	case 0:
		return fmt.Sprintf("%c%s", 'a'+h.r.IntN(3), strings.Repeat("long ", h.r.IntN(40)))
	case 1:
		return string([]byte{byte(h.r.IntN(4)), byte(h.r.IntN(256))}[:h.r.IntN(3)])
	}
	return fmt.Sprintf("key %05d", h.r.IntN(9000))
}

func (h *history) row() string {
	n := h.r.IntN(120)
	switch h.r.IntN(60) {
	case 0:
		n = h.r.IntN(3 * pageMax)
	case 1:
		n = pageMax - h.r.IntN(40)
	}
	return strings.Repeat(string(rune('a'+h.r.IntN(26))), n)
}

// step returns the next epoch, of relation rel.
func (h *history) step(rel int) *change.Epoch {
	h.seq++
	news := map[string]*string{}
	put := func(key string) { row := h.row(); news[key] = &row }
	growing := h.seq/100%2 == 0
	switch how := h.r.IntN(10); {
	case how == 0: // at the end
		for range 1 + h.r.IntN(50) {
			h.last++
			put(fmt.Sprintf("log %08d", h.last))
		}
	case how == 1 && !growing: // a range goes
		keys := slices.Sorted(maps.Keys(h.rows))
		if from := h.r.IntN(len(keys) + 1); from < len(keys) {
			for _, k := range keys[from:min(len(keys), from+h.r.IntN(400))] {
				news[k] = nil
			}
		}
	case how < 4: // a few rows are replaced by such that are as long
		for k, v := range h.rows {
			row := strings.Repeat("=", len(v))
			if news[k] = &row; h.r.IntN(4) == 0 {
				break
			}
		}
	default:
		for range 1 + h.r.IntN(200)*h.r.IntN(2) {
			if k := h.key(); growing || h.r.IntN(3) == 0 {
				put(k)
			} else {
				news[k] = nil
			}
		}
	}
	d := change.Delta{Relation: rel}
	for _, k := range slices.Sorted(maps.Keys(news)) {
		c := change.RowChange{Key: []byte(k)}
		if old, was := h.rows[k]; was {
			c.Old = change.Row(old)
		}
		if v := news[k]; v != nil {
			c.New = append(change.Row{}, *v...)
			h.rows[k] = *v
		} else {
			delete(h.rows, k)
		}
		d.Changes = append(d.Changes, c)
	}
	e := &change.Epoch{Seq: h.seq, Stamp: int64(h.seq) * 10}
	if len(d.Changes) > 0 {
		e.Deltas = []change.Delta{d}
	}
	return e
}

// checkRows compares a relation of a snapshot with what it should hold.
func checkRows(t testing.TB, s *Snapshot, rel int, want map[string]string) {
	t.Helper()
	if s.Len(rel) != len(want) {
		t.Fatalf("at %d: %d rows, want %d", s.Seq(), s.Len(rel), len(want))
	}
	keys, n := slices.Sorted(maps.Keys(want)), 0
	s.Ascend(rel, nil, func(key []byte, row change.Row) bool {
		if n >= len(keys) || string(key) != keys[n] || string(row) != want[keys[n]] {
			t.Fatalf("at %d: row %d is %q, want %q", s.Seq(), n, key, keys[min(n, len(keys)-1)])
		}
		n++
		return true
	})
	if n != len(keys) {
		t.Fatalf("at %d: Ascend ends after %d of %d rows", s.Seq(), n, len(keys))
	}
	for i, k := range keys {
		if row, ok := s.Get(rel, []byte(k)); !ok || string(row) != want[k] {
			t.Fatalf("at %d: Get(%q) finds %t", s.Seq(), k, ok)
		}
		if i%17 == 0 {
			checkAscend(t, s, rel, keys, i)
		}
	}
	if _, ok := s.Get(rel, []byte("none")); ok {
		t.Fatal("a row that nobody put")
	}
}

// checkAscend begins at, and right behind, key i.
func checkAscend(t testing.TB, s *Snapshot, rel int, keys []string, i int) {
	t.Helper()
	for _, from := range [][]byte{[]byte(keys[i]), append([]byte(keys[i]), 0)} {
		want, _ := slices.BinarySearch(keys, string(from))
		s.Ascend(rel, from, func(key []byte, _ change.Row) bool {
			if len(from) > 0 && (want >= len(keys) || string(key) != keys[want]) {
				t.Fatalf("Ascend from %q begins at %q", from, key)
			}
			return false
		})
	}
}

// checkTree looks whether a tree is as trees must be, and returns its leaves and the bytes of its pages in memory.
func checkTree(t testing.TB, tr *tree) (leaves, bytesHeld int64) {
	t.Helper()
	depth, rows := tr.root.level, 0
	var visit func(b *branch, in bounds, level int)
	visit = func(b *branch, in bounds, level int) {
		if b.level != level || len(b.kids) > kidsMax || len(b.kids) == 0 && b != tr.root {
			t.Fatalf("a branch of level %d, at %d, with %d children", b.level, level, len(b.kids))
		}
		for i := range b.kids {
			in := b.bounds(i, in)
			if !in.end && in.from >= in.until {
				t.Fatalf("bounds %q to %q", in.from, in.until)
			}
			if level > 1 {
				visit(b.kids[i].branch, in, level-1)
				continue
			}
			l := b.kids[i].leaf
			leaves++
			rows += int(l.rows)
			p := l.page()
			if l.gone.Load() || l.counted.Load() != (p != nil) {
				t.Fatal("a leaf of the tree is gone, or not counted right")
			}
			if p == nil {
				continue
			}
			bytesHeld += int64(len(p))
			if err := l.verify(p, in); err != nil {
				t.Fatal(err)
			}
			if len(p) > pageMax && l.rows > 1 {
				t.Fatalf("a page of %d bytes with %d rows", len(p), l.rows)
			}
		}
	}
	visit(tr.root, bounds{end: true}, depth)
	if rows != tr.rows {
		t.Fatalf("%d rows in the leaves, %d counted", rows, tr.rows)
	}
	return leaves, bytesHeld
}

func checkCounts(t testing.TB, s *Store) {
	t.Helper()
	var leaves, held int64
	for i := range s.mu.state {
		l, h := checkTree(t, s.mu.state[i].tree)
		leaves, held = leaves+l, held+h
	}
	if st := s.Stats(); st.Leaves != leaves || st.Resident != held {
		t.Fatalf("%d leaves with %d bytes, counted %+v", leaves, held, st)
	}
}

// TestTree: random histories against a map, with snapshots that are looked at long after.
func TestTree(t *testing.T) {
	for seed := range seeds(3) {
		h, s := newHistory(seed), newStore(0)
		type kept struct {
			snap *Snapshot
			rows map[string]string
		}
		var all []kept
		deepest := 0
		for range 300 {
			s.Apply(h.step(0))
			deepest = max(deepest, s.mu.state[0].tree.root.level)
			if h.r.IntN(8) == 0 {
				all = append(all, kept{s.Snapshot(0), maps.Clone(h.rows)})
			}
			if h.r.IntN(20) == 0 {
				checkCounts(t, s)
			}
		}
		for _, k := range all {
			checkRows(t, k.snap, 0, k.rows)
		}
		if deepest < 2 {
			t.Fatalf("seed %d: the tree had %d level only", seed, deepest)
		}
		last := &change.Epoch{Seq: h.seq + 1, Deltas: []change.Delta{{Relation: 0}}}
		for _, k := range slices.Sorted(maps.Keys(h.rows)) {
			last.Deltas[0].Changes = append(last.Deltas[0].Changes, change.RowChange{Key: []byte(k), Old: change.Row(h.rows[k])})
		}
		s.Apply(last)
		checkRows(t, s.Snapshot(0), 0, nil)
		if st := s.Stats(); st.Leaves != 0 || st.Resident != 0 || s.mu.state[0].tree.root.level != 1 {
			t.Fatalf("an empty store holds %+v", st)
		}
	}
}

// TestRowsStay: what a snapshot hands out does not change while the rows around it do.
func TestRowsStay(t *testing.T) {
	h, s := newHistory(1), newStore(0)
	for range 60 {
		s.Apply(h.step(0))
	}
	type pair struct{ got, want []byte }
	var held []pair
	s.Snapshot(0).Ascend(0, nil, func(key []byte, row change.Row) bool {
		held = append(held, pair{key, bytes.Clone(key)}, pair{row, bytes.Clone(row)})
		return true
	})
	for range 200 {
		s.Apply(h.step(0))
	}
	for _, p := range held {
		if !bytes.Equal(p.got, p.want) {
			t.Fatalf("%q became %q", p.want, p.got)
		}
	}
}

// TestBulk: one epoch with everything makes full pages, in order or not, and twice the same key counts once.
func TestBulk(t *testing.T) {
	s := newStore(0)
	e := &change.Epoch{Seq: 1, Deltas: []change.Delta{{Relation: 0}}}
	want := map[string]string{}
	for i := range 20_000 {
		k, v := fmt.Sprintf("%08d", i*7919%20_000), fmt.Sprint(i)
		want[k] = v
		e.Deltas[0].Changes = append(e.Deltas[0].Changes, change.RowChange{Key: []byte(k), New: change.Row("old")}, change.RowChange{Key: []byte(k), New: change.Row(v)})
	}
	s.Apply(e)
	checkCounts(t, s)
	checkRows(t, s.Snapshot(0), 0, want)
	if st := s.Stats(); st.Resident/st.Leaves < pageMax*9/10 {
		t.Errorf("pages of %d bytes", st.Resident/st.Leaves)
	}
}

func FuzzPage(f *testing.F) {
	var m pageMaker
	m.add([]byte("a"), change.Row("1"))
	m.add([]byte("b"), nil)
	m.add([]byte("ccc"), change.Row("333"))
	f.Add([]byte(m.appendPage(nil, 0, 3)), 3, []byte("a"), []byte("d"))
	f.Add([]byte(emptyPage()), 0, []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, raw []byte, n int, from, until []byte) {
		if len(until) == 0 {
			until = nil
		}
		if page(raw).check(n, from, until) != nil {
			return
		}
		r := page(raw).rows()
		var again pageMaker
		for i := range r.n {
			key, row := r.at(i)
			if at, ok := r.search(key, 0); !ok || at != i || bytes.Compare(key, from) < 0 || until != nil && bytes.Compare(key, until) >= 0 {
				t.Fatalf("row %d has key %q", i, key)
			}
			again.add(key, row)
		}
		if r.n != n || len(again.all) > len(r.all) { // a length may be written longer than needed
			t.Fatalf("%d rows in %d bytes became %d", r.n, len(r.all), len(again.all))
		}
	})
}
