// Package backbonetest is the conformance suite of backbone drivers: the contract's second text. A driver is done when it
// passes.
package backbonetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"laaster/internal/backbone"
	"laaster/internal/kit/run"
)

// Store is a place where batches of one shard are kept.
type Store interface {
	// Open opens a driver on the store, as a process does that starts. The driver before it was closed.
	Open(t *testing.T) backbone.Driver
	// Beside opens another driver on the store while d is open, as a second process does.
	Beside(t *testing.T, d backbone.Driver) backbone.Driver
}

// Run runs the suite. newStore returns a new, empty store each time.
func Run(t *testing.T, newStore func(t *testing.T) Store) {
	driver := func(name string, f func(t *testing.T, s Store, d backbone.Driver)) {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			d := s.Open(t)
			t.Cleanup(func() { closeDriver(t, d) })
			f(t, s, d)
		})
	}
	driver("Empty", testEmpty)
	driver("Append", testAppend)
	driver("ReadFrom", testReadFrom)
	driver("ReadStops", testReadStops)
	driver("Large", testLarge)
	driver("Many", testMany)
	driver("Fence", testFence)
	driver("Race", testRace)
	driver("ReadWhileAppending", testReadWhileAppending)
	driver("Reopen", testReopen)
	driver("Closed", testClosed)
	driver("Trim", testTrim)
	driver("TrimNew", testTrimNew)
	driver("TrimWhileAppending", testTrimWhileAppending)
	runShard(t, newStore)
}

func closeDriver(t *testing.T, d backbone.Driver) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// payload returns bytes that tell their sequence.
func payload(seq uint64) []byte { return fmt.Appendf(nil, "batch %d", seq) }

func appendOne(t *testing.T, d backbone.Driver, data []byte, after uint64) {
	t.Helper()
	seq, err := d.Append(t.Context(), data, after)
	if err != nil || seq != after+1 {
		t.Fatalf("append after %d: got %d, %v", after, seq, err)
	}
}

func wantBounds(t *testing.T, d backbone.Driver, first, last uint64) {
	t.Helper()
	f, l, err := d.Bounds(t.Context())
	if err != nil || f != first || l != last {
		t.Fatalf("bounds: got %d, %d, %v, want %d, %d", f, l, err, first, last)
	}
}

// wantRead checks that a read from a sequence returns payload(first) to payload(last).
func wantRead(t *testing.T, d backbone.Driver, from, first, last uint64) {
	t.Helper()
	next := first
	err := d.Read(t.Context(), from, func(seq uint64, data []byte) error {
		if seq != next || !bytes.Equal(data, payload(seq)) {
			return fmt.Errorf("got %d %q, want %d", seq, data, next)
		}
		next++
		return nil
	})
	if err != nil || next != last+1 {
		t.Fatalf("read from %d: ended before %d, want %d: %v", from, next, last+1, err)
	}
}

func wantFenced(t *testing.T, d backbone.Driver, after, last uint64) {
	t.Helper()
	_, err := d.Append(t.Context(), []byte("no"), after)
	if f := (*backbone.Fenced)(nil); !errors.As(err, &f) || f.After != after || f.Last != last {
		t.Fatalf("append after %d: got %v, want to be fenced at %d", after, err, last)
	}
}

func testEmpty(t *testing.T, _ Store, d backbone.Driver) {
	wantBounds(t, d, 0, 0)
	wantRead(t, d, 0, 1, 0)
	wantRead(t, d, 7, 1, 0)
	wantFenced(t, d, 3, 0)
	wantBounds(t, d, 0, 0)
	if d.Level() == "" {
		t.Error("no level")
	}
}

func testAppend(t *testing.T, _ Store, d backbone.Driver) {
	for seq := range uint64(20) {
		data := payload(seq + 1)
		appendOne(t, d, data, seq)
		clear(data) // ours again
		wantBounds(t, d, 1, seq+1)
	}
	wantRead(t, d, 1, 1, 20)
}

func testReadFrom(t *testing.T, _ Store, d backbone.Driver) {
	for seq := range uint64(10) {
		appendOne(t, d, payload(seq+1), seq)
	}
	wantRead(t, d, 0, 1, 10)
	wantRead(t, d, 4, 4, 10)
	wantRead(t, d, 10, 10, 10)
	wantRead(t, d, 11, 11, 10)
	wantRead(t, d, 1<<40, 11, 10)
}

func testReadStops(t *testing.T, _ Store, d backbone.Driver) {
	for seq := range uint64(10) {
		appendOne(t, d, payload(seq+1), seq)
	}
	enough, n := errors.New("enough"), 0
	err := d.Read(t.Context(), 1, func(uint64, []byte) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	})
	if err != enough || n != 3 {
		t.Errorf("got %v after %d batches", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Read(ctx, 1, func(uint64, []byte) error { cancel(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	wantRead(t, d, 1, 1, 10)
}

func testLarge(t *testing.T, _ Store, d backbone.Driver) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // a batch of the largest size
	for seq := range uint64(12) {
		appendOne(t, d, big, seq)
	}
	n := 0
	err := d.Read(t.Context(), 1, func(seq uint64, data []byte) error {
		if !bytes.Equal(data, big) {
			return fmt.Errorf("batch %d has changed", seq)
		}
		n++
		return nil
	})
	if err != nil || n != 12 {
		t.Errorf("read %d of 12: %v", n, err)
	}
}

// testMany goes beyond what one request of a driver returns.
func testMany(t *testing.T, _ Store, d backbone.Driver) {
	const n = 2100
	for seq := range uint64(n) {
		appendOne(t, d, payload(seq+1), seq)
	}
	wantRead(t, d, 1, 1, n)
}

func testFence(t *testing.T, s Store, d backbone.Driver) {
	appendOne(t, d, payload(1), 0)
	appendOne(t, d, payload(2), 1)
	wantFenced(t, d, 0, 2)
	wantFenced(t, d, 1, 2)
	wantFenced(t, d, 3, 2)
	other := s.Beside(t, d)
	defer closeDriver(t, other)
	appendOne(t, other, payload(3), 2)
	wantFenced(t, d, 2, 3)
	appendOne(t, d, payload(4), 3)
	wantFenced(t, other, 3, 4)
	wantRead(t, d, 1, 1, 4)
	wantRead(t, other, 1, 1, 4)
}

// testRace lets two writers append at each sequence at the same time: one of them gets it.
func testRace(t *testing.T, s Store, d backbone.Driver) {
	const n = 100
	drivers := []backbone.Driver{d, s.Beside(t, d)}
	defer closeDriver(t, drivers[1])
	for after := range uint64(n) {
		g := run.New(t.Context())
		var errs [2]error
		for i, d := range drivers {
			g.Go("writer", func(ctx context.Context) error {
				_, errs[i] = d.Append(ctx, payload(after+1), after)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		var f *backbone.Fenced
		if won0, won1 := errs[0] == nil, errs[1] == nil; won0 == won1 || !errors.As(errors.Join(errs[:]...), &f) {
			t.Fatalf("two appends after %d: %v and %v", after, errs[0], errs[1])
		}
	}
	wantRead(t, d, 1, 1, n)
}

// testReadWhileAppending has one reader that follows and one that begins anew each time.
func testReadWhileAppending(t *testing.T, _ Store, d backbone.Driver) {
	const n = 100
	g := run.New(t.Context())
	g.Go("writer", func(ctx context.Context) error {
		for seq := range uint64(n) {
			if _, err := d.Append(ctx, payload(seq+1), seq); err != nil {
				return err
			}
		}
		return nil
	})
	for _, follow := range []bool{true, false} {
		g.Go("reader", func(ctx context.Context) error {
			for seen := uint64(0); seen < n; {
				next := uint64(1)
				if follow {
					next = seen + 1
				}
				err := d.Read(ctx, next, func(seq uint64, data []byte) error {
					if seq != next || !bytes.Equal(data, payload(seq)) {
						return fmt.Errorf("got %d %q, want %d", seq, data, next)
					}
					next++
					return nil
				})
				if err != nil || next <= seen {
					return fmt.Errorf("read up to %d after up to %d: %w", next-1, seen, err)
				}
				seen = next - 1
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func testReopen(t *testing.T, s Store, d backbone.Driver) {
	if d.Level() == backbone.Memory {
		t.Log("reopened within the process")
	}
	for round := range uint64(3) {
		for i := range uint64(5) {
			appendOne(t, d, payload(5*round+i+1), 5*round+i)
		}
		closeDriver(t, d)
		d = s.Open(t)
		wantBounds(t, d, 1, 5*round+5)
		wantRead(t, d, 1, 1, 5*round+5)
		wantFenced(t, d, 5*round, 5*round+5)
	}
	closeDriver(t, d)
}

func testClosed(t *testing.T, _ Store, d backbone.Driver) {
	appendOne(t, d, payload(1), 0)
	closeDriver(t, d)
	closeDriver(t, d) // again
	if _, err := d.Append(t.Context(), payload(2), 1); err == nil {
		t.Error("append to a closed driver succeeded")
	}
	if err := d.Read(t.Context(), 1, func(uint64, []byte) error { return nil }); err == nil {
		t.Error("read of a closed driver succeeded")
	}
	if _, _, err := d.Bounds(t.Context()); err == nil {
		t.Error("bounds of a closed driver succeeded")
	}
}

func trim(t *testing.T, d backbone.Driver, before uint64) {
	t.Helper()
	if err := d.Trim(t.Context(), before); err != nil {
		t.Fatalf("trim up to %d: %v", before, err)
	}
}

func testTrim(t *testing.T, s Store, d backbone.Driver) {
	trim(t, d, 0)
	trim(t, d, 1)
	wantBounds(t, d, 0, 0)
	for seq := range uint64(20) {
		appendOne(t, d, payload(seq+1), seq)
	}
	before, err := d.Size(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trim(t, d, 8)
	wantBounds(t, d, 8, 20)
	wantRead(t, d, 0, 8, 20)
	wantRead(t, d, 5, 8, 20)
	wantRead(t, d, 12, 12, 20)
	if after, err := d.Size(t.Context()); err != nil || after >= before || after <= 0 {
		t.Errorf("%d bytes after, %d before: %v", after, before, err)
	}
	trim(t, d, 3) // gone
	trim(t, d, 8)
	wantBounds(t, d, 8, 20)
	if err := d.Trim(t.Context(), 23); err == nil {
		t.Error("a trim beyond the end succeeded")
	}
	wantFenced(t, d, 19, 20)
	appendOne(t, d, payload(21), 20)
	trim(t, d, 21)
	wantBounds(t, d, 21, 21)
	closeDriver(t, d)
	d = s.Open(t)
	defer closeDriver(t, d)
	wantBounds(t, d, 21, 21)
	wantRead(t, d, 1, 21, 21)
	appendOne(t, d, payload(22), 21)
	wantRead(t, d, 1, 21, 22)
	trim(t, d, 23) // everything: the next append follows all the same
	wantBounds(t, d, 23, 22)
	wantFenced(t, d, 0, 22)
	appendOne(t, d, payload(23), 22)
	wantRead(t, d, 1, 23, 23)
}

// testTrimNew begins a new store in the middle, as a rewritten log does.
func testTrimNew(t *testing.T, s Store, d backbone.Driver) {
	trim(t, d, 1000)
	wantBounds(t, d, 1000, 999)
	wantFenced(t, d, 0, 999)
	closeDriver(t, d)
	d = s.Open(t)
	defer closeDriver(t, d)
	wantBounds(t, d, 1000, 999)
	for seq := uint64(999); seq < 1010; seq++ {
		appendOne(t, d, payload(seq+1), seq)
	}
	wantRead(t, d, 1, 1000, 1010)
}

// testTrimWhileAppending has one who trims, one who appends and one who reads.
func testTrimWhileAppending(t *testing.T, _ Store, d backbone.Driver) {
	const n = 100
	appendOne(t, d, payload(1), 0)
	g := run.New(t.Context())
	g.Go("writer", func(ctx context.Context) error {
		for seq := uint64(1); seq < n; seq++ {
			if _, err := d.Append(ctx, payload(seq+1), seq); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go("trimmer", func(ctx context.Context) error {
		for last := uint64(0); last < n; {
			var err error
			if _, last, err = d.Bounds(ctx); err == nil {
				err = d.Trim(ctx, max(1, last)-last%3)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	g.Go("reader", func(ctx context.Context) error {
		for last := uint64(0); last < n; {
			err := d.Read(ctx, 1, func(seq uint64, data []byte) error {
				last = max(last, seq)
				if !bytes.Equal(data, payload(seq)) {
					return fmt.Errorf("got %d %q", seq, data)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantRead(t, d, n, n, n)
}
