package push

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"laaster/internal/change"
)

// randomFeed is a feed of a random condition on tally, with the same condition in Go.
func randomFeed(t testing.TB, r *rand.Rand, id uint64) (*feed, func(vals []*string) bool) {
	t.Helper()
	raw, match := "", func([]*string) bool { return true }
	if r.IntN(8) > 0 {
		raw, match = randomCondition(r, 0)
	}
	q, p := newQuery(sight{rel: relations()[0]}, raw, false, true)
	if p != nil {
		t.Fatalf("%s: %v", raw, p)
	}
	return &feed{id: id, q: q, now: q}, match
}

// randomChanges is changes of tally, ascending by key, with the rows as text.
func randomChanges(r *rand.Rand, n int) (changes []change.RowChange, rows [][2][]*string) {
	row := func(key string) ([]byte, change.Row, []*string) {
		vals := []*string{&key, str(fmt.Sprint(r.IntN(100))), str([]string{"x", "y"}[r.IntN(2)])}
		if r.IntN(6) == 0 {
			vals[1] = nil
		}
		k, encoded := encode(relations()[0], vals)
		return k, encoded, vals
	}
	for i := range n {
		key := fmt.Sprintf("k%d", i)
		var c change.RowChange
		var both [2][]*string
		if r.IntN(3) > 0 {
			c.Key, c.Old, both[0] = row(key)
		}
		if c.Old == nil || r.IntN(3) > 0 {
			c.Key, c.New, both[1] = row(key)
		}
		changes, rows = append(changes, c), append(rows, both)
	}
	return changes, rows
}

// TestIndex has random feeds come and go and compares what the index finds for random changes with the conditions of all feeds: each feed
// is found once at most, with all changes that its rows enter or leave by, in order.
func TestIndex(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var x index
		feeds := map[*feed]func([]*string) bool{}
		for step := range 300 {
			if r.IntN(3) > 0 || len(feeds) == 0 {
				f, match := randomFeed(t, r, uint64(step))
				feeds[f] = match
				x.add(f)
			} else {
				for f := range feeds {
					x.remove(f)
					delete(feeds, f)
					break
				}
			}
			changes, rows := randomChanges(r, r.IntN(5))
			found := map[*feed][]change.RowChange{}
			x.concerned(relations()[0], changes, func(f *feed, hit []change.RowChange) {
				if found[f] != nil {
					t.Fatalf("seed %d: %s is found twice", seed, f.q.raw)
				}
				found[f] = append([]change.RowChange{}, hit...)
			})
			for f := range found {
				if feeds[f] == nil {
					t.Fatalf("seed %d: %s is found and not there", seed, f.q.raw)
				}
			}
			for f, match := range feeds {
				hit := found[f]
				for i := range changes {
					there := len(hit) > 0 && string(hit[0].Key) == string(changes[i].Key)
					if there {
						hit = hit[1:]
					}
					if !there && (rows[i][0] != nil && match(rows[i][0]) || rows[i][1] != nil && match(rows[i][1])) {
						t.Fatalf("seed %d, step %d: %s is not told of %q", seed, step, f.q.raw, changes[i].Key)
					}
				}
				if len(hit) > 0 {
					t.Fatalf("seed %d: %s is told %d changes out of order", seed, f.q.raw, len(hit))
				}
			}
		}
		for f := range feeds {
			x.remove(f)
		}
		if !x.empty() || len(x.sets)+len(x.anywhere.plain)+len(x.anywhere.ranges) > 0 {
			t.Errorf("seed %d: something is left: %+v", seed, x)
		}
	}
}

// TestIndexIsSelective has feeds of one range, list or key each and counts whom a change is shown to: those whom it concerns, and no more than
// one at the open end of a range.
func TestIndexIsSelective(t *testing.T) {
	for _, form := range []string{"votes=gte.%[1]d&votes=lt.%[2]d", "votes=in.(%[1]d,%[3]d)", "votes=eq.%[1]d&note=gt.a", "or=(votes.eq.%[1]d,votes.eq.%[3]d)"} {
		var x index
		const n = 1000
		for i := range n {
			q, p := newQuery(sight{rel: relations()[0]}, fmt.Sprintf(form, 10*i, 10*i+10, 10*i+5), false, true)
			if p != nil {
				t.Fatal(p)
			}
			x.add(&feed{id: uint64(i), q: q, now: q})
		}
		key, row := encode(relations()[0], []*string{str("k"), str("5000"), str("b")})
		found := 0
		x.concerned(relations()[0], []change.RowChange{{Key: key, New: row}}, func(*feed, []change.RowChange) { found++ })
		if found < 1 || found > 2 {
			t.Errorf("%s: a change is shown to %d of %d feeds", form, found, n)
		}
	}
}
