package backbonetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/change"
)

// errStore is what a test makes a store fail with.
var errStore = errors.New("the store fails, says the test")

// storeAnd stores the batch and answers with an error.
func storeAnd(err error) Fault {
	return func(ctx context.Context, d backbone.Driver, data []byte, after uint64) (uint64, error) {
		if _, aerr := d.Append(ctx, data, after); aerr != nil {
			return 0, aerr
		}
		return 0, err
	}
}

// openToReopen opens the shard with a way to open its store anew; before is called with each new driver.
func (r *rig) openToReopen(t *testing.T, before func(d backbone.Driver) error) *backbone.Shard {
	t.Helper()
	r.fault = &Faulty{Driver: r.store.Open(t)}
	s, err := backbone.Open(t.Context(), backbone.Options{Driver: r.fault, Dir: r.dir, Clock: r.clock, Keys: r.keys, Patience: time.Second,
		Reopen: func(context.Context) (backbone.Driver, error) {
			d := r.store.Open(t)
			if err := before(d); err != nil {
				return nil, errors.Join(err, d.Close())
			}
			r.fault = &Faulty{Driver: d}
			return r.fault, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeShard(t, s) })
	return s
}

// testShardReopenStore stops the log in every way that passes, with the batch stored or not, and takes it back to work.
func testShardReopenStore(t *testing.T, r *rig) {
	no := 0 // how often the store does not open
	s := r.openToReopen(t, func(backbone.Driver) error {
		if no > 0 {
			no--
			return errStore
		}
		return nil
	})
	if found, err := s.Reopen(t.Context()); err != nil || found != nil {
		t.Errorf("reopening a log at work: %v, %v", found, err)
	}
	full := &backbone.WriteError{Full: true, Err: errStore}
	n, id := 0, s.ID()
	for i, c := range []struct {
		fault  Fault
		why    backbone.Reason
		stored bool
	}{
		{Fail(full), backbone.DiskFull, false},
		{storeAnd(full), backbone.DiskFull, true},
		{LoseRequest, backbone.Unresolved, false},
		{storeAnd(full), backbone.DiskFull, true},
		{Fail(full), backbone.DiskFull, false},
	} {
		AppendN(t, s, i)
		n += i
		request := fmt.Sprint("request ", n+1)
		r.fault.Next(c.fault, LoseRequest, LoseRequest, LoseRequest, LoseRequest, LoseRequest, LoseRequest, LoseRequest, LoseRequest)
		for range 2 {
			if _, err := appendRequest(t.Context(), s, request); !isStopped(err, c.why) {
				t.Fatalf("case %d: append: %v, want %s", i, err, c.why)
			}
		}
		for no = i % 3; no > 0; {
			if found, err := s.Reopen(t.Context()); !errors.Is(err, errStore) || found != nil || !isStopped(s.Err(), c.why) {
				t.Fatalf("case %d: a store that does not open: %v, %v, shard %v", i, found, err, s.Err())
			}
		}
		found, err := s.Reopen(t.Context())
		if err != nil || s.Err() != nil || (len(found) == 1) != c.stored {
			t.Fatalf("case %d: %d found, %v, shard %v", i, len(found), err, s.Err())
		}
		if c.stored {
			n++
			if got := requests(&found[0]); len(got) != 1 || got[0] != request || found[0].Header().Seq != uint64(n) {
				t.Errorf("case %d: found %q at %d, want %q at %d", i, got, found[0].Header().Seq, request, n)
			}
		}
		if s.Head() != uint64(n) || s.ID() != id {
			t.Fatalf("case %d: log %s at %d, want %s at %d", i, s.ID(), s.Head(), id, n)
		}
		AppendN(t, s, 1)
		n++
		wantReplay(t, s, 1, n)
	}
	closeShard(t, s)
	s = r.open(t)
	if got := s.Recovery(); got != (backbone.Recovery{Head: uint64(n)}) {
		t.Errorf("recovery %+v", got)
	}
	wantReplay(t, s, 1, n)
}

// testShardReopenWorse finds, when it opens the store anew, that more is wrong.
func testShardReopenWorse(t *testing.T, r *rig) {
	before := func(backbone.Driver) error { return nil }
	s := r.openToReopen(t, func(d backbone.Driver) error { return before(d) })
	AppendN(t, s, 3)
	r.fault.Next(Fail(&backbone.WriteError{Full: true, Err: errStore}))
	if _, err := appendRequest(t.Context(), s, "full"); !isStopped(err, backbone.DiskFull) {
		t.Fatal(err)
	}
	before = func(d backbone.Driver) error { // another process was quicker
		other, err := backbone.Open(t.Context(), backbone.Options{Driver: kept{d}, Clock: r.clock, Keys: r.keys})
		if err != nil {
			return err
		}
		AppendN(t, other, 1)
		return other.Close()
	}
	for range 2 {
		if found, err := s.Reopen(t.Context()); !isStopped(err, backbone.Displaced) || found != nil {
			t.Fatalf("got %v, %v", found, err)
		}
	}
	if _, err := appendRequest(t.Context(), s, "late"); !isStopped(err, backbone.Displaced) {
		t.Errorf("append: %v", err)
	}
	closeShard(t, s)
	wantReplay(t, r.open(t), 1, 4)
}

// kept is a driver that another shard does not close.
type kept struct{ backbone.Driver }

// Close implements [backbone.Driver].
func (kept) Close() error { return nil }

// testShardWriteFails: after a failed sync nothing is acknowledged, the marker is there, and nothing but a new start helps.
func testShardWriteFails(t *testing.T, r *rig) {
	s := r.openToReopen(t, func(backbone.Driver) error { return nil })
	AppendN(t, s, 3)
	if marked, _, err := backbone.Unsynced(r.dir); err != nil || marked {
		t.Fatalf("a marker before anything failed: %v", err)
	}
	r.fault.Next(storeAnd(&backbone.WriteError{Err: errStore}))
	if _, err := appendRequest(t.Context(), s, "request 4"); !isStopped(err, backbone.WriteFail) || s.Head() != 3 {
		t.Errorf("append: %v, head %d", err, s.Head())
	}
	if marked, text, err := backbone.Unsynced(r.dir); err != nil || !marked || text == "" {
		t.Errorf("marker %t %q: %v", marked, text, err)
	}
	if found, err := s.Reopen(t.Context()); !isStopped(err, backbone.WriteFail) || found != nil {
		t.Errorf("reopened after a failed sync: %v, %v", found, err)
	}
	closeShard(t, s)
	if _, _, err := backbone.ResyncStore(r.dir, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	if marked, _, err := backbone.Unsynced(r.dir); err != nil || marked {
		t.Errorf("the marker is still there: %v", err)
	}
	wantReplay(t, r.open(t), 1, 4)
}

// testShardReplayAfter goes on behind positions whose digest is known.
func testShardReplayAfter(t *testing.T, r *rig) {
	s := r.open(t)
	AppendN(t, s, 20)
	var digests []change.Digest
	var stamps []int64
	err := s.Replay(t.Context(), 1, func(b *change.Batch) error {
		digests, stamps = append(digests, b.Digest()), append(stamps, b.Header().Stamp)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	after := func(seq uint64, digest change.Digest, stamp int64) (n int, err error) {
		err = s.ReplayAfter(t.Context(), seq, digest, stamp, func(b *change.Batch) error {
			if n++; b.Header().Seq != seq+uint64(n) {
				return fmt.Errorf("batch %d after %d", b.Header().Seq, seq)
			}
			return nil
		})
		return n, err
	}
	for seq := range uint64(20) {
		if n, err := after(seq+1, digests[seq], stamps[seq]); err != nil || n != 19-int(seq) {
			t.Errorf("after %d: %d batches, %v", seq+1, n, err)
		}
		wrong := digests[seq]
		wrong[3]++
		mismatch := (*backbone.Mismatch)(nil)
		if n, err := after(seq+1, wrong, stamps[seq]); !errors.As(err, &mismatch) || n != 0 || mismatch.Seq != seq+1 {
			t.Errorf("after %d with a wrong digest: %d batches, %v", seq+1, n, err)
		}
	}
	if n, err := after(0, change.Digest{}, 0); err != nil || n != 20 {
		t.Errorf("after nothing: %d batches, %v", n, err)
	}
	mismatch := (*backbone.Mismatch)(nil)
	if _, err := after(21, digests[19], stamps[19]); !errors.As(err, &mismatch) {
		t.Errorf("after the end: %v", err)
	}
	if err := s.Trim(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	if n, err := after(10, digests[9], stamps[9]); err != nil || n != 10 {
		t.Errorf("after a batch that was trimmed: %d batches, %v", n, err)
	}
	if _, err := after(10, digests[8], stamps[9]); !errors.As(err, &mismatch) {
		t.Errorf("after a batch that was trimmed, with a wrong digest: %v", err)
	}
	trimmed := (*backbone.Trimmed)(nil)
	if _, err := after(9, digests[8], stamps[8]); !errors.As(err, &trimmed) {
		t.Errorf("after a batch whose successor was trimmed: %v", err)
	}
	if s.Err() != nil {
		t.Errorf("the log stopped: %v", s.Err())
	}
}

// requests returns the request of each entry of a batch.
func requests(b *change.Batch) (out []string) {
	for it, e := b.Entries(), (change.Entry{}); it.Next(&e); {
		out = append(out, string(e.Request))
	}
	return out
}
