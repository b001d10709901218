package backbone_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
)

// checkAll checks a log from its beginning to its head in steps and returns the damage.
func checkAll(t *testing.T, s *backbone.Shard, step int64) (found []*backbone.Damage) {
	t.Helper()
	var c backbone.Cursor
	for {
		_, atHead, err := s.Check(t.Context(), &c, step)
		if d := (*backbone.Damage)(nil); errors.As(err, &d) {
			found = append(found, d)
		} else if err != nil {
			t.Fatal(err)
		}
		if atHead {
			return found
		}
	}
}

// TestCheck damages a log that is open: a check names every damaged batch and no other, and the shard takes appends all the same.
func TestCheck(t *testing.T) {
	const n = 60
	good, _ := newLog(t, n)
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 8))
		store := good.clone()
		s, err := backbone.Open(t.Context(), options(store, t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		step := int64(1 + r.IntN(3000))
		if found := checkAll(t, s, step); found != nil {
			t.Fatalf("seed %d: a sound log: %v", seed, found)
		}
		var want []uint64
		for range r.IntN(6) {
			seq := uint64(1 + r.IntN(n))
			if slices.Contains(want, seq) {
				continue
			}
			if want = append(want, seq); r.IntN(2) == 0 {
				delete(store.batches, seq)
			} else {
				store.edit(seq, r.IntN(len(store.batches[seq])), false)
			}
		}
		var got []uint64
		for _, d := range checkAll(t, s, step) {
			for seq := d.From; seq <= d.To; seq++ {
				got = append(got, seq)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: found %v, want %v", seed, got, want)
		}
		if s.Err() != nil {
			t.Fatalf("seed %d: the shard has stopped: %v", seed, s.Err())
		}
		backbonetest.AppendN(t, s, 3)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckTrimmed goes on behind what was trimmed while a check was under way.
func TestCheckTrimmed(t *testing.T) {
	store, dir := newLog(t, 30)
	s := openShard(t, store, dir)
	var c backbone.Cursor
	if _, _, err := s.Check(t.Context(), &c, 1); err != nil || c.Next() != 2 {
		t.Fatalf("at %d: %v", c.Next(), err)
	}
	if err := s.Trim(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	for atHead := false; !atHead; {
		var err error
		if _, atHead, err = s.Check(t.Context(), &c, 1); err != nil {
			t.Fatal(err)
		}
	}
	if c.Next() != 31 {
		t.Errorf("ended at %d", c.Next())
	}
}

// jumping is a clock that moves on as long as somebody waits.
type jumping struct{ *backbonetest.Clock }

func (j jumping) After(d time.Duration) <-chan time.Time {
	j.Set(j.Now().Add(d))
	return j.Clock.After(0)
}

// TestScrubber makes passes at a rate over a log and something else: it tells of damage each time, and of its end.
func TestScrubber(t *testing.T) {
	store, dir := newLog(t, 200)
	s := openShard(t, store, dir)
	raw := slices.Clone(store.batches[50])
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	clock := jumping{backbonetest.NewClock(time.Unix(1700000000, 0), 24*time.Hour)}
	began := clock.Now()
	var found []error
	var passed []int
	others := 0
	var scrubber *backbone.Scrubber
	scrubber = backbone.NewScrubber(backbone.ScrubOptions{Shard: s, Rate: 1000, Every: time.Hour, Clock: clock,
		Size: func() int64 { return 3 << 18 },
		Others: func(limit int64) (int64, []error) {
			if others++; others == 5 {
				return limit, []error{errors.New("a page")}
			}
			return limit, nil
		},
		Found: func(err error) { found = append(found, err) },
		Passed: func(damage int) {
			passed = append(passed, damage)
			if st := scrubber.Status(); st.Passes != len(passed) || st.Running || st.Position != 200 || len(st.Damage) != damage {
				t.Errorf("status after pass %d: %+v", len(passed), st)
			}
			switch len(passed) {
			case 1: // found by the second pass, with a page of the rest
				store.edit(50, 30, false)
			case 2:
				store.batches[50] = raw
			case 3:
				stop()
			}
		}})
	if err := scrubber.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(passed, []int{0, 2, 0}) || len(found) != 2 || others != 9 {
		t.Errorf("passes %v, found %v, %d others", passed, found, others)
	}
	if st := scrubber.Status(); clock.Now().Sub(began) < time.Duration(st.Bytes)*time.Millisecond-time.Second || clock.Now().Sub(began) < 2*time.Hour || st.Bytes < 9<<18 {
		t.Errorf("%d bytes in %v", st.Bytes, clock.Now().Sub(began))
	}
	if s.Err() != nil {
		t.Errorf("the shard has stopped: %v", s.Err())
	}
	never := backbone.NewScrubber(backbone.ScrubOptions{Shard: s, Clock: clock})
	if err := never.Run(t.Context()); err != nil || never.Status().Passes != 0 {
		t.Errorf("at rate 0: %v, %+v", err, never.Status())
	}
}
