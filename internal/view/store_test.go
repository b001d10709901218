package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
)

func newStore(ringBytes int) *Store {
	return New([]*expr.Relation{{ID: 0, Name: "a"}, {ID: 1, Name: "b"}}, Options{RingBytes: ringBytes})
}

// world is the oracle: rows by relation and key.
type world [2]map[string]string

func (w *world) clone() world { return world{maps.Clone(w[0]), maps.Clone(w[1])} }

// step makes a random epoch after seq and applies it to w.
func (w *world) step(r *rand.Rand, seq uint64) *change.Epoch {
	e := &change.Epoch{Seq: seq, Stamp: int64(seq) * 10}
	for rel := range w {
		if w[rel] == nil {
			w[rel] = map[string]string{}
		}
		changes := map[string]change.RowChange{}
		for range r.IntN(4) {
			key := fmt.Sprintf("k%02d", r.IntN(20))
			old, was := w[rel][key]
			if _, done := changes[key]; done {
				continue
			}
			c := change.RowChange{Key: []byte(key)}
			if was {
				c.Old = change.Row(old)
			}
			if !was || r.IntN(3) > 0 {
				val := fmt.Sprintf("v%d", seq)
				c.New = change.Row(val)
				w[rel][key] = val
			} else {
				delete(w[rel], key)
			}
			changes[key] = c
		}
		if len(changes) == 0 {
			continue
		}
		d := change.Delta{Relation: rel}
		for _, key := range slices.Sorted(maps.Keys(changes)) {
			d.Changes = append(d.Changes, changes[key])
		}
		e.Deltas = append(e.Deltas, d)
	}
	return e
}

func checkSnapshot(t *testing.T, s *Snapshot, w *world) {
	t.Helper()
	for rel := range w {
		got := map[string]string{}
		var last []byte
		s.Ascend(rel, nil, func(key []byte, row change.Row) bool {
			if bytes.Compare(key, last) <= 0 && last != nil {
				t.Fatalf("key %q after %q", key, last)
			}
			last = key
			got[string(key)] = string(row)
			return true
		})
		if !maps.Equal(got, w[rel]) || s.Len(rel) != len(w[rel]) {
			t.Fatalf("at %d, relation %d: %v\nwant %v", s.Seq(), rel, got, w[rel])
		}
		for key, want := range w[rel] {
			if row, ok := s.Get(rel, []byte(key)); !ok || string(row) != want {
				t.Fatalf("at %d: Get(%q) = %q, %v", s.Seq(), key, row, ok)
			}
		}
	}
}

// TestSnapshots takes snapshots along random histories and checks, long after, that each shows its own position.
func TestSnapshots(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newStore(1 << 12)
		var w world
		type kept struct {
			snap *Snapshot
			w    world
		}
		var all []kept
		for seq := uint64(1); seq <= 200; seq++ {
			s.Apply(w.step(r, seq))
			if r.IntN(5) == 0 {
				all = append(all, kept{s.Snapshot(0, 1), w.clone()})
			}
		}
		for _, k := range all {
			checkSnapshot(t, k.snap, &k.w)
		}
		checkRing(t, s, r)
	}
}

// checkRing replays what the ring gives on top of nothing but the keys that it names, and compares with the head.
func checkRing(t *testing.T, s *Store, r *rand.Rand) {
	t.Helper()
	head, _ := s.Head()
	floor := s.Floor()
	if floor == 0 || floor >= head {
		t.Fatalf("floor %d, head %d: the ring should have dropped some and kept some", floor, head)
	}
	if _, ok := s.Since(floor - 1); ok {
		t.Fatal("Since reaches behind the floor")
	}
	if _, ok := s.Since(head + 1); ok {
		t.Fatal("Since reaches beyond the head")
	}
	from := floor + r.Uint64N(head-floor+1)
	epochs, ok := s.Since(from)
	if !ok || uint64(len(epochs)) != head-from {
		t.Fatalf("Since(%d): %d epochs, %v", from, len(epochs), ok)
	}
	snap := s.Snapshot(0, 1)
	for i, e := range epochs {
		if e.Seq != from+1+uint64(i) {
			t.Fatalf("epoch %d at place %d after %d", e.Seq, i, from)
		}
	}
	for i := len(epochs) - 1; i >= 0; i-- { // the last word on each key is the snapshot's
		for _, d := range epochs[i].Deltas {
			for _, c := range d.Changes {
				later := slices.ContainsFunc(epochs[i+1:], func(e *change.Epoch) bool { return mentions(e, d.Relation, c.Key) })
				row, ok := snap.Get(d.Relation, c.Key)
				if !later && (ok != (c.New != nil) || !bytes.Equal(row, c.New)) {
					t.Fatalf("key %q: the ring says %q, the snapshot %q", c.Key, c.New, row)
				}
			}
		}
	}
}

func mentions(e *change.Epoch, rel int, key []byte) bool {
	for _, d := range e.Deltas {
		if d.Relation == rel && slices.ContainsFunc(d.Changes, func(c change.RowChange) bool { return bytes.Equal(c.Key, key) }) {
			return true
		}
	}
	return false
}

// TestRingStaysValid: a slice from Since does not change while the ring moves on.
func TestRingStaysValid(t *testing.T) {
	s := newStore(2000)
	r := rand.New(rand.NewPCG(1, 2))
	var w world
	for seq := uint64(1); seq <= 20; seq++ {
		s.Apply(w.step(r, seq))
	}
	from := s.Floor()
	epochs, _ := s.Since(from)
	before := slices.Clone(epochs)
	for seq := uint64(21); seq <= 2000; seq++ {
		s.Apply(w.step(r, seq))
	}
	if !slices.Equal(epochs, before) {
		t.Fatal("a slice that was handed out changed")
	}
	if st := s.Stats(); st.RingBytes > 2000 || st.Epochs == 0 {
		t.Fatalf("%+v", st)
	}
	if c := cap(s.mu.ring.epochs); c > 200 {
		t.Fatalf("the ring keeps room for %d epochs", c)
	}
}

// TestRingKeepsTheNewest, however large it is.
func TestRingKeepsTheNewest(t *testing.T) {
	s := newStore(100)
	s.Apply(&change.Epoch{Seq: 1, Bytes: 50})
	s.Apply(&change.Epoch{Seq: 2, Bytes: 1 << 20})
	if epochs, ok := s.Since(1); !ok || len(epochs) != 1 {
		t.Fatalf("%v, %v", epochs, ok)
	}
	s.Apply(&change.Epoch{Seq: 3, Bytes: 1})
	if _, ok := s.Since(1); ok {
		t.Fatal("the large epoch should be gone")
	}
}

func TestLastChangeAndBirth(t *testing.T) {
	s := newStore(0)
	put := func(seq uint64, rel int) *change.Epoch {
		return &change.Epoch{Seq: seq, Deltas: []change.Delta{{Relation: rel, Changes: []change.RowChange{{Key: []byte("k"), New: change.Row{byte(seq)}}}}}}
	}
	s.Apply(put(1, 0))
	s.Apply(put(2, 1))
	s.Apply(&change.Epoch{Seq: 3})
	if a, b := s.LastChange(0), s.LastChange(1); a != 1 || b != 2 {
		t.Errorf("last changes %d, %d", a, b)
	}
	s.SetBirth(0, 3)
	if a := s.Snapshot(0).LastChange(0); a != 3 || s.Birth(0) != 3 {
		t.Errorf("born at 3: %d", a)
	}
	s = newStore(0)
	s.Start(10, 100)
	if _, ok := s.Since(9); ok {
		t.Error("nothing is known before the start")
	}
	if epochs, ok := s.Since(10); !ok || len(epochs) != 0 {
		t.Error("the start itself is known")
	}
}

func TestApplyRefusesTheSameAgain(t *testing.T) {
	s := newStore(0)
	s.Apply(&change.Epoch{Seq: 1})
	defer func() {
		if recover() == nil {
			t.Error("an epoch was applied twice")
		}
	}()
	s.Apply(&change.Epoch{Seq: 1})
}

// TestAwait: waits end with the position, with the time, or with the caller.
func TestAwait(t *testing.T) {
	s := newStore(0)
	clock := run.NewManual(time.Unix(0, 0))
	g := run.New(context.Background())
	results := make(chan error, 4)
	wait := func(name string, f func() error) {
		g.Go(name, func(context.Context) error { results <- f(); return nil })
	}
	ctx, cancel := context.WithCancel(context.Background())
	waiting := func(n int) {
		for {
			s.mu.Lock()
			have := len(s.mu.waiting)
			s.mu.Unlock()
			if have == n {
				return
			}
		}
	}
	wait("position", func() error { return s.Await(context.Background(), 2, nil) })
	waiting(1)
	wait("change", func() error { return s.AwaitChange(context.Background(), 1, 1, nil) })
	waiting(2)
	s.Apply(&change.Epoch{Seq: 1})
	waiting(2)
	s.Apply(&change.Epoch{Seq: 2, Deltas: []change.Delta{{Relation: 1, Changes: []change.RowChange{{Key: []byte("k"), New: change.Row("v")}}}}})
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	waiting(0)
	if err := s.Await(context.Background(), 2, nil); err != nil {
		t.Error(err)
	}
	wait("expired", func() error { return s.Await(context.Background(), 9, clock.After(time.Second)) })
	clock.AwaitSleepers(1)
	waiting(1)
	clock.Advance(time.Second)
	if err := <-results; !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	wait("cancelled", func() error { return s.Await(ctx, 9, nil) })
	waiting(1)
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	waiting(0)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// TestConcurrent has the race detector look at readers beside the engine: every snapshot holds one world.
func TestConcurrent(t *testing.T) {
	s := newStore(1 << 12)
	tell := make(chan struct{}, 1)
	s.Notify(tell)
	g := run.New(context.Background())
	const last = 2000
	for range 4 {
		g.Go("reader", func(context.Context) error {
			for seq := uint64(0); seq < last; {
				snap := s.Snapshot(0, 1)
				if snap.Seq() < seq {
					return errors.New("the position fell")
				}
				seq = snap.Seq()
				a, _ := snap.Get(0, []byte("k"))
				b, _ := snap.Get(1, []byte("k"))
				if !bytes.Equal(a, b) {
					return fmt.Errorf("two relations at %d disagree: %q, %q", seq, a, b)
				}
				if epochs, ok := s.Since(seq); ok && len(epochs) > 0 && epochs[0].Seq != seq+1 {
					return fmt.Errorf("after %d comes %d", seq, epochs[0].Seq)
				}
			}
			return nil
		})
	}
	var old change.Row
	for seq := uint64(1); seq <= last; seq++ {
		c := []change.RowChange{{Key: []byte("k"), Old: old, New: change.Row(fmt.Sprint(seq))}}
		s.Apply(&change.Epoch{Seq: seq, Deltas: []change.Delta{{Relation: 0, Changes: c}, {Relation: 1, Changes: c}}})
		old = c[0].New
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	select {
	case <-tell:
	default:
		t.Error("nobody was told")
	}
}

func BenchmarkApply(b *testing.B) {
	for _, rows := range []int{1, 40, 500} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			s := newStore(0)
			var changes []change.RowChange
			for i := range rows {
				changes = append(changes, change.RowChange{Key: []byte(fmt.Sprintf("key %06d", i)), New: make(change.Row, 60)})
			}
			b.ReportAllocs()
			for i := range b.N {
				s.Apply(&change.Epoch{Seq: uint64(i + 1), Deltas: []change.Delta{{Relation: 0, Changes: changes}}})
				if i%10 == 0 {
					s.Snapshot(0)
				}
			}
		})
	}
}
