package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
)

var testLog = change.LogID([]byte("abcdefghijklmnop"))

func openCheckpoints(t testing.TB, dir string) *checkpoint.Store {
	t.Helper()
	s, err := checkpoint.Open(checkpoint.Options{Dir: filepath.Join(dir, "checkpoints"), Log: testLog, Clock: run.NewManual(time.UnixMicro(1e15))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// write writes a checkpoint of what f has, or begins to and gives up.
func write(cs *checkpoint.Store, f *Frozen, commit bool) error {
	w, err := cs.Begin(checkpoint.Header{Log: testLog, Seq: f.root.Head})
	if err != nil {
		return err
	}
	if err := f.Write(w); err != nil {
		w.Abort()
		return err
	}
	if !commit {
		w.Abort()
		return nil
	}
	return w.Commit()
}

// newest loads the newest checkpoint.
func newest(t testing.TB, cs *checkpoint.Store, rels []*expr.Relation, opt Options) (*Store, *checkpoint.State) {
	t.Helper()
	list := cs.List()
	if len(list) == 0 || list[0].Err != nil {
		t.Fatalf("no checkpoint: %+v", list)
	}
	state, err := cs.Load(list[0], true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(rels, opt, state)
	if err != nil {
		t.Fatal(err)
	}
	return s, state
}

// past is what a store was at a position.
type past struct {
	rows  [2]map[string]string
	last  [2]uint64
	floor uint64
	head  uint64
}

// pair drives two histories in one store.
type pair struct{ a, b *history }

func newPair(seed uint64) *pair { return &pair{newHistory(seed), newHistory(seed + 1000)} }

func (p *pair) step() *change.Epoch {
	e, f := p.a.step(0), p.b.step(1)
	if e.Deltas = append(e.Deltas, f.Deltas...); e.Seq%9 == 0 {
		e.Outcomes = []change.Outcome{{Accepted: 3, Rejected: []change.Reject{{Index: 1, Code: "conflict", Field: "id", Detail: "no"}}}, {Replayed: 7, Duplicates: 2}}
		e.Stopped = []change.Stopped{{Relation: 1, Reason: "too large", Stack: "here"}}
	}
	for _, d := range e.Deltas {
		for _, c := range d.Changes {
			e.Bytes += 72 + len(c.Key) + len(c.Old) + len(c.New)
		}
	}
	return e
}

func (p *pair) past(s *Store) past {
	head, _ := s.Head()
	return past{[2]map[string]string{maps.Clone(p.a.rows), maps.Clone(p.b.rows)}, [2]uint64{s.LastChange(0), s.LastChange(1)}, s.Floor(), head}
}

func (p *past) check(t testing.TB, s *Store) {
	t.Helper()
	snap := s.Snapshot(0, 1)
	head, stamp := s.Head()
	if head != p.head || stamp != int64(head)*10 || s.Floor() != p.floor || snap.LastChange(0) != p.last[0] || snap.LastChange(1) != p.last[1] {
		t.Fatalf("head %d, stamp %d, floor %d, last %d and %d; want %d, %d, %d", head, stamp, s.Floor(), snap.LastChange(0), snap.LastChange(1), p.head, p.floor, p.last)
	}
	checkRows(t, snap, 0, p.rows[0])
	checkRows(t, snap, 1, p.rows[1])
}

func checkSameRing(t testing.TB, a, b *Store) {
	t.Helper()
	x, ok1 := a.Since(a.Floor())
	y, ok2 := b.Since(b.Floor())
	if !ok1 || !ok2 || len(x) != len(y) {
		t.Fatalf("%d and %d recent epochs", len(x), len(y))
	}
	for i := range x {
		got, want := *y[i], *x[i]
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("epoch %d came back as another one", want.Seq)
		}
	}
}

// TestCheckpoints: stores go on through random histories of epochs, checkpoints that are committed and not, trims, restarts, and are always what they
// should be.
func TestCheckpoints(t *testing.T) {
	for seed := range seeds(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			dir := t.TempDir()
			cs := openCheckpoints(t, dir)
			opt := Options{RingBytes: 1 << 16}
			rels := newStore(0).Relations()
			s, p := New(rels, opt), newPair(seed)
			var committed past
			var snaps []*Snapshot
			var pasts []past
			restarts, trims := 0, 0
			for range 150 {
				switch r.IntN(12) {
				default:
					s.Apply(p.step())
				case 0, 1:
					commit := r.IntN(3) > 0
					now := p.past(s)
					f := s.Freeze(cs.NewObject)
					for range r.IntN(4) { // while it is about to be written
						s.Apply(p.step())
					}
					if err := write(cs, f, commit); err != nil {
						t.Fatal(err)
					}
					for range r.IntN(4) { // before its end is known
						s.Apply(p.step())
					}
					if s.Done(f, commit); commit {
						committed = now
					}
				case 2:
					limit := int64(r.IntN(200_000))
					if held := s.Trim(limit); held != s.Stats().Resident {
						t.Fatalf("%d bytes after Trim, %+v", held, s.Stats())
					}
					trims++
				case 3:
					snaps, pasts = append(snaps, s.Snapshot(0, 1)), append(pasts, p.past(s))
				case 4: // from disk, beside the store that goes on
					if committed.head == 0 {
						continue
					}
					opt.Memory = int64(r.IntN(300_000))
					again, _ := newest(t, openCheckpoints(t, dir), rels, opt)
					committed.check(t, again)
					checkCounts(t, again)
				case 5: // the process ends at a checkpoint and another one goes on
					f := s.Freeze(cs.NewObject)
					if err := write(cs, f, true); err != nil {
						t.Fatal(err)
					}
					s.Done(f, true)
					checkCounts(t, s)
					committed = p.past(s)
					cs = openCheckpoints(t, dir)
					again, _ := newest(t, cs, rels, opt)
					checkSameRing(t, s, again)
					s = again
					restarts++
				}
				if r.IntN(10) == 0 {
					checkCounts(t, s)
				}
			}
			now := p.past(s)
			now.check(t, s)
			for i := range snaps {
				checkRows(t, snaps[i], 0, pasts[i].rows[0])
				checkRows(t, snaps[i], 1, pasts[i].rows[1])
			}
			st := s.Stats()
			if restarts == 0 || trims == 0 || st.Stored < 0 || st.Stored > st.Leaves {
				t.Fatalf("%d restarts, %d trims, %+v", restarts, trims, st)
			}
		})
	}
}

// TestOnlyChangesAreWritten: a checkpoint after a small change is small, however much there is.
func TestOnlyChangesAreWritten(t *testing.T) {
	cs := openCheckpoints(t, t.TempDir())
	s := newStore(1 << 24)
	numbers := make([]int, 30_000)
	for i := range numbers {
		numbers[i] = i
	}
	save := func() int64 {
		f := s.Freeze(cs.NewObject)
		if err := write(cs, f, true); err != nil {
			t.Fatal(err)
		}
		s.Done(f, true)
		var put int64
		for i := range f.trees {
			put += f.trees[i].leaves
		}
		return put
	}
	s.Apply(benchEpoch(1, numbers, false))
	first := save()
	s.Apply(benchEpoch(2, numbers[:3], false))
	second, third := save(), save()
	if st := s.Stats(); first < 400 || second < 1 || second > 3 || third != 0 || st.Stored != st.Leaves {
		t.Fatalf("%d leaves, then %d, then %d were written; %+v", first, second, third, st)
	}
	if len(s.stored.pages) != 2 {
		t.Fatalf("the ring's pages: %+v", s.stored.pages)
	}
	if s.Trim(1) > 4*pageMax {
		t.Fatalf("what is stored should go: %+v", s.Stats())
	}
	if row, ok := s.Snapshot(0).Get(0, benchKey(2)); !ok || row[0] != 2 {
		t.Fatalf("the row is %v", row)
	}
	st := s.Stats()
	s.Apply(benchEpoch(3, numbers[100:101], false))
	if now := s.Stats(); st.Loads == 0 || now.Waits != 1 || now.Evictions == 0 {
		t.Fatalf("%+v", now)
	}
}

// TestTrimKeepsWhatIsUsed: the clock's hand passes leaves that are read between its rounds.
func TestTrimKeepsWhatIsUsed(t *testing.T) {
	cs := openCheckpoints(t, t.TempDir())
	s := newStore(0)
	numbers := make([]int, 20_000)
	for i := range numbers {
		numbers[i] = i
	}
	s.Apply(benchEpoch(1, numbers, false))
	f := s.Freeze(cs.NewObject)
	if err := write(cs, f, true); err != nil {
		t.Fatal(err)
	}
	s.Done(f, true)
	limit := s.Stats().Resident / 2
	for range 8 {
		s.Snapshot(0).Get(0, benchKey(7))
		s.Trim(limit)
		limit = limit * 9 / 10
	}
	before := s.Stats()
	s.Snapshot(0).Get(0, benchKey(7))
	if now := s.Stats(); now.Loads != before.Loads || before.Evictions == 0 {
		t.Fatalf("a row that is read all the time was evicted: %+v", now)
	}
	s.Snapshot(0).Ascend(0, nil, func([]byte, change.Row) bool { return true })
	if now := s.Stats(); now.Resident > limit*2 {
		t.Fatalf("reading everything once left %d bytes in memory, the limit is %d", now.Resident, limit)
	}
}

// TestRedefineKeepsPages: relations that share rows, move and go, with checkpoints in between and all rows on disk.
func TestRedefineKeepsPages(t *testing.T) {
	dir := t.TempDir()
	cs := openCheckpoints(t, dir)
	s, p := newStore(1<<16), newPair(3)
	save := func() {
		t.Helper()
		f := s.Freeze(cs.NewObject)
		if err := write(cs, f, true); err != nil {
			t.Fatal(err)
		}
		s.Done(f, true)
		s.Trim(1)
		s.Trim(1)
		checkCounts(t, s)
	}
	for range 150 {
		s.Apply(p.step())
	}
	save()
	beside := newStore(0)
	beside.Apply(&change.Epoch{Seq: 1, Deltas: []change.Delta{{Relation: 1, Changes: []change.RowChange{{Key: []byte("k"), New: change.Row("moved")}}}}})
	s.Redefine([]Added{{Relation: &expr.Relation{Name: "alias"}, From: s, Index: 0, Birth: 9}, {Relation: &expr.Relation{Name: "other"}, From: beside, Index: 1, Birth: 9}})
	before := maps.Clone(p.a.rows)
	f := s.Freeze(cs.NewObject)
	s.Drop([]int{0})
	if err := write(cs, f, true); err != nil {
		t.Fatal(err)
	}
	s.Done(f, true)
	for range 20 { // relation 0 is gone, its double stays
		e := p.step()
		if len(e.Deltas) > 0 && e.Deltas[0].Relation == 0 {
			e.Deltas[0].Relation = 2
		}
		Translate(e, []int{0, 1, 2})
		s.Apply(e)
	}
	save()
	rels := s.Relations()
	rels[0].Name = ""
	again, _ := newest(t, openCheckpoints(t, dir), rels, Options{RingBytes: 1 << 16})
	for _, x := range []*Store{s, again} {
		snap := x.Snapshot(0, 1, 2, 3)
		checkRows(t, snap, 0, nil)
		checkRows(t, snap, 1, p.b.rows)
		checkRows(t, snap, 2, p.a.rows)
		checkRows(t, snap, 3, map[string]string{"k": "moved"})
		checkCounts(t, x)
	}
	if maps.Equal(before, p.a.rows) || again.Birth(2) != 9 {
		t.Fatal("nothing was tried")
	}
	if err := again.AwaitChange(t.Context(), 0, 1<<60, nil); err != nil {
		t.Error(err)
	}
}

// hurt is a page that cannot be read, or is not what it was.
type hurt struct {
	raw []byte
	err error
}

func (h hurt) Read(dst []byte) ([]byte, error) { return append(dst, h.raw...), h.err }

// TestDamage: a page that cannot be read stops whoever needs it, with the reason; the others, and what was there before, stay.
func TestDamage(t *testing.T) {
	cs := openCheckpoints(t, t.TempDir())
	for name, ref := range map[string]hurt{"unreadable": {err: &checkpoint.Damage{Problem: "gone"}}, "other rows": {raw: []byte{0, 0}}, "noise": {raw: []byte("noise")}, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			var told error
			s := New(newStore(0).Relations(), Options{Damaged: func(err error) { told = err }})
			s.Apply(benchEpoch(1, []int{1, 2, 3}, false))
			f := s.Freeze(cs.NewObject)
			if err := write(cs, f, true); err != nil {
				t.Fatal(err)
			}
			s.Done(f, true)
			before := s.Snapshot(0)
			row, _ := before.Get(0, benchKey(1))
			s.Trim(1)
			s.mu.state[0].tree.root.kids[0].leaf.ref = ref
			fails := func(f func()) {
				t.Helper()
				told = nil
				defer func() {
					err, _ := recover().(error)
					if damage := (*checkpoint.Damage)(nil); !errors.As(err, &damage) || !errors.Is(told, err) {
						t.Errorf("%v; told: %v", err, told)
					}
				}()
				f()
			}
			fails(func() { s.Snapshot(0).Get(0, benchKey(1)) })
			fails(func() { s.Snapshot(0).Ascend(0, nil, func([]byte, change.Row) bool { return true }) })
			fails(func() { s.Apply(benchEpoch(2, []int{1}, false)) })
			if head, _ := s.Head(); head != 1 || len(row) < 60 || row[0] != 1 {
				t.Errorf("at %d, row %v", head, row)
			}
			s.cache.cold.Store(0) // so that Apply does not look before it begins
			fails(func() { s.Apply(benchEpoch(2, []int{1}, false)) })
			defer func() {
				if recover() == nil {
					t.Error("a snapshot of a half applied epoch")
				}
			}()
			s.Snapshot(0)
		})
	}
}

// TestFrozenBeside has the race detector look at readers, checkpoints and trims beside the engine.
func TestFrozenBeside(t *testing.T) {
	cs := openCheckpoints(t, t.TempDir())
	s, p := newStore(1<<16), newPair(7)
	g := run.New(context.Background())
	frozen, written := make(chan *Frozen), make(chan *Frozen)
	g.Go("writer", func(context.Context) error {
		defer close(written)
		for f := range frozen {
			if err := write(cs, f, f.root.Head%3 > 0); err != nil {
				return err
			}
			written <- f
		}
		return nil
	})
	ctx, stop := context.WithCancel(context.Background())
	for i := range 3 {
		g.Go("reader", func(context.Context) error {
			r := rand.New(rand.NewPCG(uint64(i), 4))
			for ctx.Err() == nil {
				snap, n := s.Snapshot(0, 1), 0
				if i == 0 {
					s.Trim(int64(r.IntN(100_000)))
				}
				snap.Ascend(0, nil, func(key []byte, row change.Row) bool { n++; return true })
				if n != snap.Len(0) {
					return fmt.Errorf("at %d: %d rows of %d", snap.Seq(), n, snap.Len(0))
				}
				snap.Get(1, []byte(fmt.Sprintf("key %05d", r.IntN(9000))))
				s.Stats()
			}
			return nil
		})
	}
	rounds := 0
	var f *Frozen
	for range 300 {
		s.Apply(p.step())
		if f == nil {
			f = s.Freeze(cs.NewObject)
			frozen <- f
		}
		select {
		case <-written:
			s.Done(f, f.root.Head%3 > 0)
			f = nil
			rounds++
		default:
		}
	}
	if f != nil {
		s.Done(<-written, f.root.Head%3 > 0)
	}
	close(frozen)
	stop()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	now := p.past(s)
	now.check(t, s)
	checkCounts(t, s)
	if rounds < 3 {
		t.Errorf("%d checkpoints", rounds)
	}
}

// TestRingBounds: an epoch that is larger than what a checkpoint may have of the ring leaves what is behind it.
func TestRingBounds(t *testing.T) {
	dir := t.TempDir()
	cs := openCheckpoints(t, dir)
	s := newStore(10_000)
	for seq := uint64(1); seq <= 3; seq++ {
		s.Apply(&change.Epoch{Seq: seq, Bytes: 1})
	}
	s.Apply(&change.Epoch{Seq: 4, Bytes: mostRing + 1})
	f := s.Freeze(cs.NewObject)
	if err := write(cs, f, true); err != nil {
		t.Fatal(err)
	}
	s.Done(f, true)
	again, _ := newest(t, cs, s.Relations(), Options{RingBytes: 10_000})
	if head, _ := again.Head(); head != 4 || again.Floor() != 4 || s.Floor() != 3 {
		t.Fatalf("head %d, floor %d and %d", head, again.Floor(), s.Floor())
	}
	again.Apply(&change.Epoch{Seq: 5})
	if epochs, ok := again.Since(4); !ok || len(epochs) != 1 {
		t.Fatal("the ring does not go on")
	}
}

func FuzzEpoch(f *testing.F) {
	f.Add(appendEpoch(nil, &change.Epoch{}))
	f.Add(appendEpoch(nil, &change.Epoch{Seq: 7, Stamp: -3, Bytes: 200, Deltas: []change.Delta{{Relation: 1, Changes: []change.RowChange{{Key: []byte("k"), Old: change.Row("old"), New: change.Row{}},
		{Key: []byte("l"), New: change.Row("new")}}}}}))
	f.Add(appendEpoch(nil, &change.Epoch{Seq: 1 << 40, Outcomes: []change.Outcome{{Accepted: 3, Rejected: []change.Reject{{Index: 1, Code: "conflict", Field: "id", Detail: "no"}}}, {Replayed: 7, Duplicates: 2}},
		Stopped: []change.Stopped{{Relation: 1, Reason: "too large", Stack: "here"}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, rest, err := decodeEpoch(raw)
		if err != nil {
			return
		}
		again, none, err := decodeEpoch(appendEpoch(nil, e))
		if err != nil || len(none) > 0 || len(rest) > len(raw) {
			t.Fatalf("%v, %d bytes left", err, len(none))
		}
		if !reflect.DeepEqual(e, again) {
			t.Fatalf("%+v came back as %+v", e, again)
		}
	})
}

// TestLoadChecks: a checkpoint whose pages are all intact but do not belong together is not loaded.
func TestLoadChecks(t *testing.T) {
	numbers := make([]int, 10_000)
	for i := range numbers {
		numbers[i] = i
	}
	for name, spoil := range map[string]func(w *checkpoint.Writer, f *Frozen){
		"a page of rows is missing":   func(w *checkpoint.Writer, f *Frozen) { w.Delete(f.trees[0].kept.object, 1) },
		"a branch is missing":         func(w *checkpoint.Writer, f *Frozen) { w.Delete(f.trees[0].kept.object, f.root.Relations[0].Root) },
		"a page of epochs is missing": func(w *checkpoint.Writer, f *Frozen) { w.Delete(f.ring.object, 1) },
		"a page too many":             func(w *checkpoint.Writer, f *Frozen) { put(w, f.trees[0].kept.object, 9999, emptyPage()) },
		"another page of rows":        func(w *checkpoint.Writer, f *Frozen) { put(w, f.trees[0].kept.object, 1, emptyPage()) },
		"a page of rows for a branch": func(w *checkpoint.Writer, f *Frozen) {
			put(w, f.trees[0].kept.object, f.root.Relations[0].Root, emptyPage())
		},
		"a root with another count":  func(_ *checkpoint.Writer, f *Frozen) { f.root.Relations[0].Rows++ },
		"a root with another branch": func(_ *checkpoint.Writer, f *Frozen) { f.root.Relations[0].Root-- },
		"a root with another ring":   func(_ *checkpoint.Writer, f *Frozen) { f.root.Ring = f.root.Relations[1].Object },
		"a root with another head":   func(_ *checkpoint.Writer, f *Frozen) { f.root.Head++ },
		"a root with another floor":  func(_ *checkpoint.Writer, f *Frozen) { f.root.Floor += 2 },
		"two relations with the same": func(_ *checkpoint.Writer, f *Frozen) {
			f.root.Relations[1].Object, f.root.Relations[1].Root = f.root.Relations[0].Object, 1
		},
		"an epoch of an unknown relation": func(w *checkpoint.Writer, f *Frozen) {
			put(w, f.ring.object, 1, appendEpoch(nil, &change.Epoch{Seq: 1, Deltas: []change.Delta{{Relation: 7}}}))
		},
		"no root": func(_ *checkpoint.Writer, f *Frozen) { f.root.Version = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			cs := openCheckpoints(t, t.TempDir())
			s := newStore(1 << 24)
			s.Apply(benchEpoch(1, numbers, false))
			f := s.Freeze(cs.NewObject)
			w, err := cs.Begin(checkpoint.Header{Log: testLog, Seq: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Write(w); err != nil {
				t.Fatal(err)
			}
			spoil(w, f)
			raw, err := json.Marshal(&f.root)
			if err != nil {
				t.Fatal(err)
			}
			w.Part(part, raw)
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			state, err := cs.Load(cs.List()[0], true)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(s.Relations(), Options{RingBytes: 1 << 24, Memory: 1 << 30}, state)
			if damage := (*checkpoint.Damage)(nil); !errors.As(err, &damage) {
				t.Fatalf("loaded: %v", err)
			}
		})
	}
}

func put(w *checkpoint.Writer, o checkpoint.ObjectID, page uint32, raw []byte) {
	_, _ = w.Put(o, page, nil, raw) // an error comes back from Commit
}

// TestLoadOfOthers: a checkpoint of other relations, or of a newer program, is refused for what it is.
func TestLoadOfOthers(t *testing.T) {
	cs := openCheckpoints(t, t.TempDir())
	s := newStore(0)
	f := s.Freeze(cs.NewObject)
	f.root.Head = 1
	if err := write(cs, f, true); err != nil {
		t.Fatal(err)
	}
	state, err := cs.Load(cs.List()[0], true)
	if err != nil {
		t.Fatal(err)
	}
	for _, rels := range [][]*expr.Relation{nil, {{Name: "a"}}, {{Name: "b"}, {Name: "a"}}} {
		if _, err := Load(rels, Options{}, state); err == nil {
			t.Errorf("loaded for %d relations", len(rels))
		}
	}
}
