package backbonetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

// runShard tests the verified log on top of the driver.
func runShard(t *testing.T, newStore func(t *testing.T) Store) {
	shard := func(name string, f func(t *testing.T, r *rig)) {
		t.Run("Shard"+name, func(t *testing.T) {
			f(t, &rig{store: newStore(t), dir: t.TempDir(), clock: NewClock(time.Unix(1700000000, 0), time.Second)})
		})
	}
	shard("Reopen", testShardReopen)
	shard("LostAnswers", testShardLostAnswers)
	shard("Fence", testShardFence)
	shard("ReplayWhileAppending", testShardReplayWhileAppending)
	shard("Refused", testShardRefused)
	shard("ReopenStore", testShardReopenStore)
	shard("ReopenWorse", testShardReopenWorse)
	shard("WriteFails", testShardWriteFails)
	shard("ReplayAfter", testShardReplayAfter)
	shard("Sealed", testShardSealed)
	shard("Trim", testShardTrim)
	shard("TrimFails", testShardTrimFails)
	shard("TrimTooFar", testShardTrimTooFar)
	shard("Floor", testShardFloor)
}

// rig is a shard that can be opened again.
type rig struct {
	store Store
	dir   string
	clock *Clock
	keys  *seal.Ring
	fault *Faulty
}

func (r *rig) open(t *testing.T) *backbone.Shard {
	t.Helper()
	r.fault = &Faulty{Driver: r.store.Open(t)}
	s, err := backbone.Open(t.Context(), backbone.Options{Driver: r.fault, Dir: r.dir, Clock: r.clock, Keys: r.keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeShard(t, s) })
	return s
}

func closeShard(t *testing.T, s *backbone.Shard) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// fill makes b a batch of one request.
func fill(b *change.Builder, request string) error {
	b.Reset()
	return b.Add(&change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Request: []byte(request)})
}

// appendRequest appends a batch of one request.
func appendRequest(ctx context.Context, s *backbone.Shard, request string) (change.Batch, error) {
	var b change.Builder
	if err := fill(&b, request); err != nil {
		return change.Batch{}, err
	}
	return s.Append(ctx, &b)
}

// AppendN appends n batches of one request each, named after their sequence.
func AppendN(t testing.TB, s *backbone.Shard, n int) {
	t.Helper()
	for range n {
		seq := s.Head() + 1
		b, err := appendRequest(t.Context(), s, fmt.Sprint("request ", seq))
		if err != nil {
			t.Fatalf("append %d: %v", seq, err)
		}
		if b.Header().Seq != seq || s.Head() != seq {
			t.Fatalf("append %d: got %d, head %d", seq, b.Header().Seq, s.Head())
		}
	}
}

// Replayed replays a shard from a sequence and returns the requests of its batches, checking what a reader relies on.
func Replayed(ctx context.Context, s *backbone.Shard, from uint64) ([]string, error) {
	var out []string
	next, stamp := max(from, 1), int64(0)
	err := s.Replay(ctx, from, func(b *change.Batch) error {
		h := b.Header()
		if h.Seq != next || h.Stamp <= stamp || h.Log != s.ID() {
			return fmt.Errorf("batch %d with stamp %d of log %s after %d with %d", h.Seq, h.Stamp, h.Log, next-1, stamp)
		}
		next, stamp = h.Seq+1, h.Stamp
		for it, e := b.Entries(), (change.Entry{}); it.Next(&e); {
			out = append(out, string(e.Request))
		}
		return nil
	})
	return out, err
}

// wantReplay checks that the log holds request 1 to request n.
func wantReplay(t *testing.T, s *backbone.Shard, from, n int) {
	t.Helper()
	got, err := Replayed(t.Context(), s, uint64(from))
	if err != nil || len(got) != n-max(from, 1)+1 {
		t.Fatalf("replay from %d: %d batches, %v; want up to %d", from, len(got), err, n)
	}
	for i, request := range got {
		if want := fmt.Sprint("request ", max(from, 1)+i); request != want {
			t.Fatalf("replay: got %q, want %q", request, want)
		}
	}
}

func testShardReopen(t *testing.T, r *rig) {
	s := r.open(t)
	id := s.ID()
	if !s.Recovery().Created || s.Head() != 0 || len(id) != 16 {
		t.Errorf("a new log: %+v, head %d, id %s", s.Recovery(), s.Head(), id)
	}
	closeShard(t, s)
	for round := range 3 {
		s := r.open(t)
		if s.ID() != id || s.Head() != uint64(10*round) || s.Recovery() != (backbone.Recovery{Head: s.Head(), Created: false}) {
			t.Errorf("round %d: log %s head %d, %+v", round, s.ID(), s.Head(), s.Recovery())
		}
		AppendN(t, s, 10)
		r.clock.Set(time.Unix(1600000000, 0)) // stamps go on all the same, as wantReplay checks
		wantReplay(t, s, 0, 10*(round+1))
		closeShard(t, s)
		closeShard(t, s) // again
		if _, err := appendRequest(t.Context(), s, "late"); !isStopped(err, backbone.Closed) {
			t.Errorf("append to a closed shard: %v", err)
		}
	}
	s = r.open(t)
	wantReplay(t, s, 1, 30)
	wantReplay(t, s, 2, 30)
	wantReplay(t, s, 30, 30)
	wantReplay(t, s, 31, 30)
}

func isStopped(err error, why backbone.Reason) bool {
	var s *backbone.Stopped
	return errors.As(err, &s) && s.Reason == why && s.Remedy != ""
}

// testShardLostAnswers loses answers before and after the batch was stored: in the log it is once.
func testShardLostAnswers(t *testing.T, r *rig) {
	s := r.open(t)
	var late []byte
	hold := func(_ context.Context, _ backbone.Driver, data []byte, _ uint64) (uint64, error) {
		late = append([]byte(nil), data...)
		return 0, &backbone.Unknown{Err: ErrLost}
	}
	arrive := func(ctx context.Context, d backbone.Driver, data []byte, after uint64) (uint64, error) {
		if _, err := d.Append(ctx, late, after); err != nil { // the first attempt arrives now, before the second
			return 0, err
		}
		return d.Append(ctx, data, after)
	}
	n := 0
	for _, faults := range [][]Fault{
		{LoseAnswer},
		{LoseRequest},
		{LoseRequest, LoseAnswer},
		{LoseAnswer, LoseAnswer},
		{LoseRequest, LoseRequest, LoseRequest},
		{LoseRequest, Fail(errors.New("no responders"))}, // the second attempt certainly failed, the first perhaps not
		{hold, arrive},
	} {
		r.fault.Next(faults...)
		AppendN(t, s, 2)
		n += 2
		wantReplay(t, s, 1, n)
	}
	closeShard(t, s)
	wantReplay(t, r.open(t), 1, n)
}

// testShardFence has a second writer: the first is stopped and none of its batches is in the log.
func testShardFence(t *testing.T, r *rig) {
	s := r.open(t)
	AppendN(t, s, 3)
	other, err := backbone.Open(t.Context(), backbone.Options{Driver: r.store.Beside(t, r.fault.Driver), Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer closeShard(t, other)
	if other.ID() != s.ID() || other.Head() != 3 {
		t.Fatalf("the second writer sees log %s at %d, want %s at 3", other.ID(), other.Head(), s.ID())
	}
	AppendN(t, other, 1)
	for range 2 {
		if _, err := appendRequest(t.Context(), s, "fenced"); !isStopped(err, backbone.Displaced) {
			t.Errorf("append behind another writer's back: %v", err)
		}
	}
	if !isStopped(s.Err(), backbone.Displaced) || s.Head() != 3 {
		t.Errorf("the first writer: head %d, %v", s.Head(), s.Err())
	}
	AppendN(t, other, 1)
	wantReplay(t, other, 1, 5)
}

func testShardReplayWhileAppending(t *testing.T, r *rig) {
	const n = 100
	s := r.open(t)
	g := run.New(t.Context())
	g.Go("writer", func(ctx context.Context) error {
		var b change.Builder
		for i := range n {
			if err := fill(&b, fmt.Sprint("request ", i+1)); err != nil {
				return err
			}
			if _, err := s.Append(ctx, &b); err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 {
		g.Go("reader", func(ctx context.Context) error {
			for s.Head() < n {
				before := s.Head()
				got, err := Replayed(ctx, s, 1)
				if err != nil || len(got) < int(before) {
					return fmt.Errorf("%d batches at head %d: %w", len(got), before, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantReplay(t, s, 1, n)
}

// testShardRefused: an append that certainly failed leaves the shard as it was.
func testShardRefused(t *testing.T, r *rig) {
	s := r.open(t)
	AppendN(t, s, 1)
	var b change.Builder
	if err := fill(&b, "request 2"); err != nil {
		t.Fatal(err)
	}
	no := errors.New("not now")
	r.fault.Next(Fail(no))
	if _, err := s.Append(t.Context(), &b); !errors.Is(err, no) || s.Err() != nil {
		t.Fatalf("got %v, shard %v", err, s.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ctx, &b); !errors.Is(err, context.Canceled) {
		t.Errorf("append under a canceled context: %v", err)
	}
	if _, err := s.Append(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	wantReplay(t, s, 1, 2)
}

// testShardTrim trims step by step and opens the log again each time.
func testShardTrim(t *testing.T, r *rig) {
	s := r.open(t)
	if err := s.Trim(t.Context(), 10); err != nil || s.First() != 1 {
		t.Fatalf("trim of an empty log: %v, first %d", err, s.First())
	}
	AppendN(t, s, 30)
	id := s.ID()
	for _, first := range []uint64{1, 7, 5, 25} {
		was := s.First()
		if err := s.Trim(t.Context(), first); err != nil {
			t.Fatalf("trim up to %d: %v", first, err)
		}
		closeShard(t, s)
		s = r.open(t)
		want := max(first, was)
		if s.First() != want || s.ID() != id || s.Head() != 30 {
			t.Fatalf("after a trim up to %d the log %s is from %d to %d", first, s.ID(), s.First(), s.Head())
		}
		wantReplay(t, s, int(want), 30)
		wantReplay(t, s, 28, 30)
		if trimmed := (*backbone.Trimmed)(nil); want > 1 && (!errors.As(s.Replay(t.Context(), want-1, nil), &trimmed) || trimmed.First != want) {
			t.Errorf("replay from %d, before the first: %v", want-1, trimmed)
		}
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
	}
	if err := s.Trim(t.Context(), 99); err != nil || s.First() != 30 { // the head stays
		t.Fatalf("trim beyond the head: %v, first %d", err, s.First())
	}
	AppendN(t, s, 5)
	closeShard(t, s)
	s = r.open(t)
	wantReplay(t, s, 30, 35)
	if s.Recovery() != (backbone.Recovery{Head: 35}) {
		t.Errorf("recovery: %+v", s.Recovery())
	}
}

// testShardTrimFails has the store refuse a trim after its base is written: the log begins there all the same, and the next trim makes up for it.
func testShardTrimFails(t *testing.T, r *rig) {
	s := r.open(t)
	AppendN(t, s, 20)
	r.fault.NoTrim = errors.New("not now")
	if err := s.Trim(t.Context(), 10); !errors.Is(err, r.fault.NoTrim) || s.First() != 10 {
		t.Fatalf("trim: %v, first %d", err, s.First())
	}
	wantReplay(t, s, 10, 20)
	closeShard(t, s)
	s = r.open(t) // a new Faulty
	if s.First() != 10 {
		t.Fatalf("first %d", s.First())
	}
	wantReplay(t, s, 10, 20)
	if first, _, err := r.fault.Bounds(t.Context()); err != nil || first != 1 {
		t.Fatalf("the store begins at %d: %v", first, err)
	}
	if err := s.Trim(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if first, _, err := r.fault.Bounds(t.Context()); err != nil || first != 10 {
		t.Fatalf("the store begins at %d: %v", first, err)
	}
	wantReplay(t, s, 10, 20)
}

// testShardTrimTooFar takes away from the store more than the base says: that is damage.
func testShardTrimTooFar(t *testing.T, r *rig) {
	s := r.open(t)
	AppendN(t, s, 20)
	if err := errors.Join(s.Trim(t.Context(), 5), r.fault.Trim(t.Context(), 8)); err != nil {
		t.Fatal(err)
	}
	closeShard(t, s)
	_, err := backbone.Open(t.Context(), backbone.Options{Driver: r.store.Open(t), Dir: r.dir, Clock: r.clock})
	if d := (*backbone.Damage)(nil); !errors.As(err, &d) || d.Kind != backbone.Hole || d.From != 5 || d.To != 7 {
		t.Errorf("got %v, want a hole from 5 to 7", err)
	}
}

// testShardFloor compares the first batch to keep by age and by bytes with a count over all of them.
func testShardFloor(t *testing.T, r *rig) {
	s := r.open(t)
	AppendN(t, s, 60)
	var stamps []int64
	err := s.Replay(t.Context(), 1, func(b *change.Batch) error { stamps = append(stamps, b.Header().Stamp); return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{1, 2, 30, 59, 60} {
		if got, err := s.FirstAfter(t.Context(), stamps[at-1]); err != nil || got != uint64(at) {
			t.Errorf("the first batch at or after the stamp of %d is %d: %v", at, got, err)
		}
	}
	if got, err := s.FirstAfter(t.Context(), stamps[59]+1); err != nil || got != 61 {
		t.Errorf("the first batch after all is %d: %v", got, err)
	}
	_, _, size, err := s.Extent(t.Context())
	if err != nil || size < 60*100 {
		t.Fatalf("%d bytes: %v", size, err)
	}
	last := uint64(1)
	for part := int64(10); part > 0; part-- {
		got, err := s.Floor(t.Context(), 0, size*part/10)
		if err != nil || got < last || got > 60 {
			t.Fatalf("%d tenths: from %d, after %d: %v", part, got, last, err)
		}
		if err := s.Trim(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		if last = got; part == 5 && (got < 20 || got > 45) {
			t.Errorf("half of the bytes begins at %d of 60", got)
		}
	}
	if got, err := s.Floor(t.Context(), time.Microsecond, 1); err != nil || got != 60 {
		t.Errorf("nothing to keep: from %d: %v", got, err)
	}
}
