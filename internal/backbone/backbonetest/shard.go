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
}

// rig is a shard that can be opened again.
type rig struct {
	store Store
	dir   string
	clock *Clock
	fault *Faulty
}

func (r *rig) open(t *testing.T) *backbone.Shard {
	t.Helper()
	r.fault = &Faulty{Driver: r.store.Open(t)}
	s, err := backbone.Open(t.Context(), backbone.Options{Driver: r.fault, Dir: r.dir, Clock: r.clock})
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
