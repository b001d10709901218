package flow_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/flow"
	"laaster/internal/kit/disk/simdisk"
	"laaster/internal/kit/run"
)

// shadow makes checkpoints of a driver's engine at random batches, writes each while the engine goes on, loads an engine from it, and holds
// that one to the same epochs and the same state from then on. Now and then the loaded engine becomes the driver's own.
type shadow struct {
	t       testing.TB
	p       *flow.Program
	opt     flow.Options
	rnd     *rand.Rand
	store   *checkpoint.Store
	of      *flow.Engine // whose shadow it is; another engine gets another shadow
	e       *flow.Engine // loaded; nil: none yet
	trim    bool         // both engines keep nothing in memory that is stored
	frozen  *flow.Frozen // being written; nil: nothing is
	header  checkpoint.Header
	written chan error
	since   []change.Batch // since it was frozen
	epochs  []*change.Epoch
}

// made is how many drivers each test has made.
var made = map[string]int{}

// newShadow returns nil for benchmarks, and for most drivers of a test that makes many.
func newShadow(t testing.TB, p *flow.Program, opt flow.Options) *shadow {
	if _, ok := t.(*testing.T); !ok || os.Getenv("LAASTER_NO_SHADOW") != "" {
		return nil
	}
	if n := made[t.Name()]; n >= 4 && n%4 != 0 {
		made[t.Name()]++
		return nil
	}
	made[t.Name()]++
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name()))
	return &shadow{t: t, p: p, opt: opt, rnd: rand.New(rand.NewPCG(h.Sum64(), uint64(len(p.Relations)))), trim: h.Sum64()%2 == 0}
}

// applied is called with each batch that the driver's engine has applied, and returns the engine to go on with.
func (s *shadow) applied(e *flow.Engine, b change.Batch, epoch *change.Epoch) *flow.Engine {
	s.t.Helper()
	if e != s.of {
		s.of, s.e, s.store, s.frozen = e, nil, nil, nil
	}
	if s.e != nil {
		s.same(s.e, b, epoch)
	}
	if s.trim {
		e.Trim(0)
	}
	switch {
	case s.frozen != nil:
		s.since, s.epochs = append(s.since, b.Clone()), append(s.epochs, epoch)
		if s.rnd.IntN(2) == 0 {
			s.load()
		}
	case s.rnd.IntN(shadowEvery) == 0:
		s.freeze()
	}
	return s.of
}

// shadowEvery is how many batches there are from one checkpoint to the next, on average.
const shadowEvery = 6

// took follows the engine that Take made of the one that was followed: checkpoints go on, and what is being written is still written.
func (s *shadow) took(p *flow.Program, e *flow.Engine) *shadow {
	if s == nil {
		return nil
	}
	s.t.Helper()
	if s.frozen != nil {
		if err := <-s.written; err != nil {
			s.t.Fatal(err)
		}
		e.Done(s.frozen, true)
	}
	s.p, s.of, s.e, s.frozen = p, e, nil, nil
	return s
}

// freeze begins a checkpoint.
func (s *shadow) freeze() {
	s.t.Helper()
	if s.store == nil {
		var err error
		if s.store, err = checkpoint.Open(checkpoint.Options{Dir: "/checkpoints", Log: change.LogID{1}, Clock: run.System{}, FS: simdisk.New(1)}); err != nil {
			s.t.Fatal(err)
		}
		store := s.store
		s.t.Cleanup(func() { _ = store.Close() })
	}
	s.header = checkpoint.Header{Log: change.LogID{1}, Seq: s.of.Seq(), Stamp: s.of.Stats().Stamp, Fingerprint: s.of.Fingerprint(), Plan: s.p.PlanHash(), Catalog: s.p.Catalog}
	s.frozen = s.of.Freeze(s.store.NewObject)
	s.written, s.since, s.epochs = make(chan error, 1), nil, nil
	w, err := s.store.Begin(s.header)
	if err != nil {
		s.t.Fatal(err)
	}
	frozen, written := s.frozen, s.written
	go func() {
		err := frozen.Write(w)
		if err == nil {
			err = w.Commit()
		}
		written <- err
	}()
}

// load ends the checkpoint and loads an engine from it.
func (s *shadow) load() {
	s.t.Helper()
	if err := <-s.written; err != nil {
		s.t.Fatal(err)
	}
	s.of.Done(s.frozen, true)
	s.frozen = nil
	state, err := s.store.Load(s.store.List()[0], s.rnd.IntN(2) == 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.e, err = flow.Load(s.p, s.opt, state); err != nil {
		s.t.Fatal(err)
	}
	cover(s.e)
	if s.trim {
		s.e.Trim(0)
	}
	for i := range s.since {
		s.same(s.e, s.since[i], s.epochs[i])
	}
	if s.rnd.IntN(3) == 0 {
		s.of, s.e = s.e, s.of
	}
}

// same applies a batch to an engine and compares all that can be seen.
func (s *shadow) same(e *flow.Engine, b change.Batch, want *change.Epoch) {
	s.t.Helper()
	got, err := e.Apply(&b)
	if err != nil {
		s.t.Fatalf("an engine that was loaded: %v", err)
	}
	if s.trim {
		e.Trim(0)
	}
	if !reflect.DeepEqual(plain(got), plain(want)) {
		s.t.Fatalf("batch %d: an engine that was loaded makes\n%+v\nwhere one that never stopped makes\n%+v", b.Header().Seq, plain(got), plain(want))
	}
}

// plain is an epoch without what is no part of the state.
func plain(e *change.Epoch) change.Epoch {
	c := *e
	c.Stopped = append([]change.Stopped(nil), e.Stopped...)
	for i := range c.Stopped {
		c.Stopped[i].Stack = ""
	}
	return c
}

// covered is which kinds of holders of state were loaded with something in them.
var covered = map[string]bool{}

func cover(e *flow.Engine) {
	for _, name := range e.Holding() {
		covered[name] = true
	}
}

// rich is a program with a bit of everything, an engine of it, and a checkpoint.
func rich(t *testing.T) (*flow.Program, *driver, *checkpoint.Store, *checkpoint.State) {
	t.Helper()
	p := system(compile(t, `CREATE TABLE k (id bigint PRIMARY KEY, g text, n numeric, v integer) WITH (ttl = '1 hour');
		CREATE TABLE a (id bigint PRIMARY KEY, g text, at timestamptz NOT NULL) WITH (append_only, event_time = 'at', lateness = '5 seconds');
		CREATE MATERIALIZED VIEW sums AS SELECT g, sum(n) AS n, min(v) AS v, count(DISTINCT v) AS d FROM k GROUP BY g;
		CREATE MATERIALIZED VIEW top AS SELECT g, v FROM k ORDER BY v DESC, g LIMIT 5;
		CREATE MATERIALIZED VIEW tens AS SELECT g, window_start, count(*) AS n FROM tumble(a, at, interval '10 seconds') GROUP BY g, window_start, window_end;
		CREATE MATERIALIZED VIEW pairs WITH (allow_unbounded = true) AS SELECT k.id, a.at FROM k JOIN a USING (g);
		CREATE MATERIALIZED VIEW bad AS SELECT id, 1 / v AS q FROM k;`, nil))
	d := newDriver(t, p, flow.Options{})
	d.twin = nil
	for i := range 60 {
		d.apply(inserts(t, p, "k", change.OpMerge, 15, fmt.Sprintf("%d|%c|%d.5|%d", i%40, 'a'+rune(i%7), i, i%5)))
		d.apply(inserts(t, p, "a", change.OpInsert, 7, fmt.Sprintf("%d|%c|1970-01-01 00:00:%02d", i, 'a'+rune(i%7), i)))
	}
	store, err := checkpoint.Open(checkpoint.Options{Dir: "/checkpoints", Log: change.LogID{1}, Clock: run.System{}, FS: simdisk.New(1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return p, d, store, save(t, store, p, d.e)
}

// A checkpoint of another program is refused by name, and so is one whose state is not what its fingerprint says.
func TestLoadRefuses(t *testing.T) {
	p, d, store, state := rich(t)
	other := system(compile(t, `CREATE TABLE k (id bigint PRIMARY KEY, v integer);`, nil))
	_, err := flow.Load(other, flow.Options{}, state)
	var plan *flow.PlanError
	if !errors.As(err, &plan) || plan.Has != p.PlanHash() || plan.Wants != other.PlanHash() {
		t.Errorf("a checkpoint of another program: %v", err)
	}
	w, err := store.Begin(checkpoint.Header{Log: change.LogID{1}, Seq: d.e.Seq(), Stamp: d.e.Stats().Stamp, Fingerprint: [16]byte{1}, Plan: p.PlanHash()})
	if err != nil {
		t.Fatal(err)
	}
	f := d.e.Freeze(store.NewObject)
	if err = f.Write(w); err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	d.e.Done(f, true)
	if state, err = store.Load(store.List()[0], true); err != nil {
		t.Fatal(err)
	}
	_, err = flow.Load(p, flow.Options{}, state)
	var wrong *flow.StateError
	if !errors.As(err, &wrong) || wrong.Wants != [16]byte{1} || wrong.Has != d.e.Fingerprint() {
		t.Errorf("a checkpoint with another fingerprint: %v", err)
	}
}

// A root that is cut off anywhere, or has bytes behind it, is an error.
func TestLoadCutOff(t *testing.T) {
	p, _, _, state := rich(t)
	root := state.Part("flow")
	if err := flow.LoadRoot(p, state, root); err != nil {
		t.Fatal(err)
	}
	for n := range root {
		if n > 2000 && n%7 != 0 {
			continue
		}
		if err := flow.LoadRoot(p, state, root[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for the state", n, len(root))
		}
	}
	if err := flow.LoadRoot(p, state, append(bytes.Clone(root), 0)); err == nil {
		t.Error("a root with a byte too many was taken for the state")
	}
}

// A checkpoint that was not committed is as if it had not been: the next one has all that changed.
func TestAbandoned(t *testing.T) {
	p, d, store, _ := rich(t)
	for i := range 10 {
		d.apply(inserts(t, p, "k", change.OpMerge, 15, fmt.Sprintf("%d|z|1|%d", i, i)))
		w, err := store.Begin(checkpoint.Header{Log: change.LogID{1}, Seq: d.e.Seq(), Stamp: d.e.Stats().Stamp, Plan: p.PlanHash()})
		if err != nil {
			t.Fatal(err)
		}
		f := d.e.Freeze(store.NewObject)
		if i%2 == 0 {
			if err := f.Write(w); err != nil {
				t.Fatal(err)
			}
		}
		w.Abort()
		d.e.Done(f, false)
	}
	want := d.e.Fingerprint()
	e, err := flow.Load(p, flow.Options{}, save(t, store, p, d.e))
	if err != nil || e.Fingerprint() != want {
		t.Fatal(err)
	}
}
