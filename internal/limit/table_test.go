package limit

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/kit/testkit"
)

func rate(t *testing.T, text string) pace {
	t.Helper()
	r, err := app.ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return paceOf(r)
}

// TestTakeAgainstBucket compares GCRA with a bucket of tokens that is filled by the clock, operation by operation.
func TestTakeAgainstBucket(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := []string{"20/s", "1/s burst 1", "100/min burst 7", "3/h", "2/s burst 50"}[r.IntN(5)]
		p, tab := rate(t, text), newTable(1000)
		bound, _ := app.ParseRate(text)
		type bucket struct {
			tokens float64
			at     int64
		}
		model := map[uint64]*bucket{}
		now := int64(1)
		for op := range 300 {
			now += r.Int64N(int64(bound.Per / 4))
			key, cost := uint64(1+r.IntN(3)), float64(1+r.IntN(4))
			m := model[key]
			if m == nil {
				m = &bucket{bound.Burst, now}
				model[key] = m
			}
			m.tokens, m.at = min(bound.Burst, m.tokens+float64(now-m.at)/float64(bound.Per)*bound.Count), now
			need := min(cost, bound.Burst)
			if d := m.tokens - need; d < 1e-6 && d > -1e-6 { // rounding decides
				now += int64(bound.Per) / 1000
				continue
			}
			wait := tab.take(key, now, p, cost, true)
			if allowed := m.tokens >= need; allowed != (wait == 0) {
				t.Fatalf("seed %d, op %d, %s: %v of key %d at %d: %v tokens, but wait %s", seed, op, text, cost, key, now, m.tokens, wait)
			} else if allowed {
				m.tokens -= cost
				continue
			}
			if short := tab.take(key, now+int64(wait)-1000, p, cost, true); short == 0 { // a microsecond too early
				t.Fatalf("seed %d, op %d, %s: told to wait %s, but less is enough", seed, op, text, wait)
			}
			now += int64(wait)
			if wait := tab.take(key, now, p, cost, true); wait != 0 {
				t.Fatalf("seed %d, op %d, %s: waited as told and have to wait %s more", seed, op, text, wait)
			}
			m.tokens, m.at = need-cost, now
		}
	}
}

// TestSpend takes what was done already, up to a debt that is bounded.
func TestSpend(t *testing.T) {
	tab, p := newTable(1000), rate(t, "10/s burst 10")
	if ahead := tab.spend(7, 1, p, 1e6, int64(2*time.Second), false); ahead != int64(2*time.Second) {
		t.Errorf("ahead by %s, not 2s", time.Duration(ahead))
	}
	if wait := tab.take(7, 1, p, 1, false); wait != 1100*time.Millisecond {
		t.Errorf("to wait %s, not 1.1s", wait)
	}
	if ahead := tab.spend(7, 1, p, 1, int64(time.Second), false); ahead != int64(2*time.Second) {
		t.Errorf("a smaller bound forgives: ahead by %s", time.Duration(ahead))
	}
}

// TestMillionKeys has a million keys in a table that is made for them: nearly none lose their place, and its memory is bounded.
func TestMillionKeys(t *testing.T) {
	keys := 1_000_000
	if testkit.Race() { // which makes it slow and has nothing to find here
		keys = 65_000 // which nearly fill the table too
	}
	tab, p := newTable(keys), rate(t, "1/h burst 2")
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]uint64, keys)
	for i := range all {
		all[i] = max(r.Uint64(), 1)
		if wait := tab.take(all[i], 1, p, 1, true); wait != 0 && tab.evicted.Load() == 0 {
			t.Fatalf("key %d has to wait %s at first", i, wait)
		}
	}
	if lost := tab.evicted.Load(); lost > int64(keys/1000) {
		t.Errorf("%d of %d keys lost their place", lost, keys)
	}
	if _, bytes := tab.size(); bytes > 32<<20 {
		t.Errorf("%d bytes", bytes)
	}
	wrong := 0
	for _, k := range all {
		if tab.take(k, 2, p, 1, true) != 0 || tab.take(k, 3, p, 1, true) == 0 {
			wrong++
		}
	}
	if wrong > keys/500 {
		t.Errorf("%d of %d keys were not remembered", wrong, keys)
	}
	for i := range 3 * keys { // far more than there is room for: memory stays, newcomers gain nothing
		tab.take(max(r.Uint64(), 1), int64(4+i), p, 2, true)
	}
	passed := 0
	for range 10_000 {
		if tab.take(max(r.Uint64(), 1), 5_000_000, p, 2, true) == 0 {
			passed++
		}
	}
	if passed > 20 {
		t.Errorf("%d of 10000 new addresses had their whole burst in a full table", passed)
	}
	if wait := tab.take(max(r.Uint64(), 1), 5_000_001, p, 2, false); wait != 0 {
		t.Errorf("a new subject has to wait %s in a full table", wait)
	}
	if _, bytes := tab.size(); bytes > 32<<20 {
		t.Errorf("%d bytes", bytes)
	}
	hour := int64(3 * time.Hour)
	if wait := tab.take(max(r.Uint64(), 1), hour, p, 2, true); wait != 0 {
		t.Errorf("a table of keys that have recovered refuses a new one for %s", wait)
	}
}

// TestGrownKeeps fills a table step by step and looks that growing forgets nobody.
func TestGrownKeeps(t *testing.T) {
	tab, p := newTable(100_000), rate(t, "1/h burst 1")
	r := rand.New(rand.NewPCG(5, 5))
	var all []uint64
	for range 60_000 {
		k := max(r.Uint64(), 1)
		all = append(all, k)
		tab.take(k, 1, p, 1, true)
	}
	forgotten := 0
	for _, k := range all {
		if tab.take(k, 2, p, 1, true) == 0 {
			forgotten++
		}
	}
	if forgotten > 60 {
		t.Errorf("%d of %d keys were forgotten", forgotten, len(all))
	}
}

// TestTogether charges one key from many goroutines: exactly its burst passes.
func TestTogether(t *testing.T) {
	tab, p := newTable(1000), rate(t, "1000/h burst 1000")
	tab.take(9, 1, p, 0, true)
	var passed, wg = make([]int, 8), sync.WaitGroup{}
	for i := range passed {
		wg.Go(func() {
			for range 1000 {
				if tab.take(9, 1, p, 1, true) == 0 {
					passed[i]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range passed {
		sum += n
	}
	if sum != 1000 {
		t.Errorf("%d passed, not 1000", sum)
	}
}

// TestConcurrentPlaces grows and evicts under many goroutines, for the race detector; nothing may be charged twice for good.
func TestConcurrentPlaces(t *testing.T) {
	tab, p := newTable(1000), rate(t, "1/s burst 1")
	wg := sync.WaitGroup{}
	for i := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(i, i))
			for n := range 5000 {
				tab.take(max(r.Uint64N(1<<40), 1), int64(n), p, 1, r.IntN(2) == 0)
				tab.spend(1+r.Uint64N(5), int64(n), p, 1, int64(time.Minute), true)
			}
		})
	}
	wg.Wait()
	if _, bytes := tab.size(); bytes > 16*tab.most*shards {
		t.Errorf("%d bytes", bytes)
	}
	if ahead := tab.ahead(1, 5000); ahead > int64(time.Minute) {
		t.Errorf("ahead by %s", time.Duration(ahead))
	}
}

func BenchmarkTake(b *testing.B) {
	tab := newTable(1_000_000)
	p := paceOf(app.Rate{Count: 1e9, Per: time.Second, Burst: 1e9})
	now := int64(1)
	b.ReportAllocs()
	for b.Loop() {
		now++
		tab.take(uint64(now)%1000+1, now, p, 1, true)
	}
}
