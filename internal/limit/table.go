package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"laaster/app"
)

// pace is a rate as GCRA works with it. The zero value is no bound.
type pace struct {
	unit  float64 // nanoseconds that one of what is counted takes
	burst int64   // nanoseconds that may be ahead
}

// paceOf returns the pace of a rate.
func paceOf(r app.Rate) pace {
	if r.None() {
		return pace{}
	}
	unit := float64(r.Per) / r.Count
	return pace{unit, int64(math.Ceil(unit * r.Burst))}
}

// ns returns what so much takes.
func (p pace) ns(cost float64) int64 { return int64(math.Ceil(min(p.unit*cost, float64(longest)))) }

// longest bounds a single charge: what is so far ahead would not be whole again for a day.
const longest = 24 * time.Hour

// table keeps one number for each key: the moment at which all that was used is whole again (GCRA's theoretical arrival time), in nanoseconds of the guard's clock.
// A key whose moment has passed has used nothing, so its place may be taken at any time.
//
// Lookups and charges take no lock. While a shard grows or a place changes hands, a charge under way may be lost or meet the key that came: at most one for each
// goroutine, and far less than anybody's burst.
type table struct {
	shards  [shards]shard
	most    int // slots of a shard
	evicted atomic.Int64
}

const (
	shards = 64
	window = 16 // places at which a key may be
	first  = 32 // slots of a shard in the beginning
)

type shard struct {
	mu    sync.Mutex
	slots atomic.Pointer[slots]
	_     [48]byte
}

type slots struct {
	mask uint64
	slot []slot
}

type slot struct {
	key atomic.Uint64 // 0: free. A place that was taken once is never free again
	at  atomic.Int64
}

// newTable returns a table that tells at least so many keys apart, as far as their hashes spread.
func newTable(keys int) *table {
	t := &table{most: first}
	for t.most*shards < 2*keys {
		t.most *= 2
	}
	return t
}

// find returns the place of a key, nil when it has none.
func (t *table) find(key uint64) *slot {
	s := t.shards[key%shards].slots.Load()
	if s == nil {
		return nil
	}
	return s.find(key)
}

func (s *slots) find(key uint64) *slot {
	for i := range uint64(window) {
		x := &s.slot[(key/shards+i)&s.mask]
		switch x.key.Load() {
		case key:
			return x
		case 0:
			return nil
		}
	}
	return nil
}

// place returns the place of a key, making one. At the bound it takes the place of the key that has used least: with inherit the newcomer goes on
// from there, else it has used nothing.
func (t *table) place(key uint64, now int64, inherit bool) *slot {
	if x := t.find(key); x != nil {
		return x
	}
	sh := &t.shards[key%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.slots.Load()
	if s == nil {
		s = newSlots(first)
		sh.slots.Store(s)
	}
	for {
		if x := s.find(key); x != nil {
			return x
		}
		least := s.least(key)
		if at := least.at.Load(); least.key.Load() == 0 || at <= now {
			least.at.Store(now)
			least.key.Store(key)
			return least
		}
		if len(s.slot) < t.most {
			s = s.grown(now)
			sh.slots.Store(s)
			continue
		}
		t.evicted.Add(1)
		if !inherit {
			least.at.Store(now)
		}
		least.key.Store(key)
		return least
	}
}

func newSlots(n int) *slots { return &slots{mask: uint64(n - 1), slot: make([]slot, n)} }

// least returns the place that a new key takes: a free one, or that of the key which has used least.
func (s *slots) least(key uint64) *slot {
	var best *slot
	for i := range uint64(window) {
		x := &s.slot[(key/shards+i)&s.mask]
		if x.key.Load() == 0 {
			return x
		}
		if best == nil || x.at.Load() < best.at.Load() {
			best = x
		}
	}
	return best
}

// grown returns twice as many slots with the keys that have used something.
func (s *slots) grown(now int64) *slots {
	out := newSlots(2 * len(s.slot))
	for i := range s.slot {
		key, at := s.slot[i].key.Load(), s.slot[i].at.Load()
		if key == 0 || at <= now {
			continue
		}
		x := out.least(key)
		if x.key.Load() != 0 && x.at.Load() >= at { // no room in its window: the one that has used more stays
			continue
		}
		x.at.Store(at)
		x.key.Store(key)
	}
	return out
}

// take charges a key, or says how long until it may be charged so much. What costs more than the whole burst passes when nothing of it is used, and is paid
// for afterwards.
func (t *table) take(key uint64, now int64, p pace, cost float64, inherit bool) (wait time.Duration) {
	x := t.place(key, now, inherit)
	ns := p.ns(cost)
	for {
		old := x.at.Load()
		base := max(old, now)
		if over := base - now + min(ns, p.burst) - p.burst; over > 0 {
			return time.Duration(over)
		}
		if x.at.CompareAndSwap(old, base+ns) {
			return 0
		}
	}
}

// spend charges a key whether or not so much is left, up to most ahead.
func (t *table) spend(key uint64, now int64, p pace, cost float64, most int64, inherit bool) (ahead int64) {
	x := t.place(key, now, inherit)
	ns := p.ns(cost)
	for {
		old := x.at.Load()
		at := min(max(old, now)+ns, max(now+most, old))
		if x.at.CompareAndSwap(old, at) {
			return at - now
		}
	}
}

// ahead returns how much a key has used, in nanoseconds; 0: nothing.
func (t *table) ahead(key uint64, now int64) int64 {
	if x := t.find(key); x != nil {
		return max(x.at.Load()-now, 0)
	}
	return 0
}

// size counts the places that are taken and the bytes that there are. It looks at all of them.
func (t *table) size() (keys, bytes int) {
	for i := range t.shards {
		s := t.shards[i].slots.Load()
		if s == nil {
			continue
		}
		bytes += 16 * len(s.slot)
		for j := range s.slot {
			if s.slot[j].key.Load() != 0 {
				keys++
			}
		}
	}
	return keys, bytes
}
