package flow_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/flow"
)

// numberedEntry is request number seq of a producer: rows with these ids, of which it brings those from first on, n of them.
func numberedEntry(t *testing.T, p *flow.Program, producer string, seq uint64, ids []int, first, n int) change.Entry {
	var rows []string
	for _, id := range ids[first : first+n] {
		rows = append(rows, fmt.Sprintf("%d|1", id))
	}
	en := inserts(t, p, "t", change.OpInsert, 0xff, rows...)
	en.Key, en.BodyHash, en.First, en.Last = append([]byte{0}, producer...), seq, uint32(first), first+n == len(ids)
	return en
}

// Producers against a model: what is next is applied once, what was is a repeat, what leaves numbers out is refused, and whoever was quiet for the
// window is a stranger again. Producers of one name but of other subjects are others.
func TestProducers(t *testing.T) {
	p := system(compile(t, `CREATE TABLE t (id bigint, v integer) WITH (append_only);
		CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t;`, nil))
	type producer struct {
		last  uint64
		rows  int
		stamp int64
	}
	for seed := range uint64(8) {
		d := newDriver(t, p, flow.Options{Window: time.Second})
		rnd := rand.New(rand.NewPCG(seed, 5))
		known, keys := map[string]producer{}, map[string]int64{}
		rows, met := 0, map[string]int{}
		for i := range 400 {
			d.stamp += rnd.Int64N(60_000)
			if rnd.IntN(40) == 0 {
				d.stamp += 1_000_000
			}
			if rnd.IntN(5) == 0 {
				key := fmt.Sprint("key", rnd.IntN(20))
				en := inserts(t, p, "t", change.OpInsert, 0xff, "1|1")
				en.Key, en.BodyHash = []byte(key), 7
				out := d.apply(en).Outcomes[0]
				if at, ok := keys[key]; ok && d.stamp-at < 1_000_000 {
					if out.Replayed == 0 || out.Accepted != 1 {
						t.Fatalf("seed %d, step %d: a repeat under %s: %+v", seed, i, key, out)
					}
				} else {
					keys[key] = d.stamp
					rows++
				}
				continue
			}
			subject := fmt.Sprint("s", rnd.IntN(2))
			name := fmt.Sprint("p", rnd.IntN(3))
			k := known[subject+name]
			if d.stamp+1-k.stamp >= 1_000_000 {
				k = producer{}
			}
			ids := make([]int, rnd.IntN(5)) // none: every row was refused before
			seq := max(2, k.last+uint64(rnd.IntN(4))) - 1
			if rnd.IntN(3) > 0 {
				seq = k.last + 1
			}
			en := numberedEntry(t, p, name, seq, ids, 0, len(ids))
			en.Subject = []byte(subject)
			out := d.apply(en).Outcomes[0]
			switch {
			case k.last == 0 || seq == k.last+1:
				met["applied"]++
				if int(out.Accepted) != len(ids) || out.Replayed != 0 {
					t.Fatalf("seed %d, step %d: %d after %+v: %+v", seed, i, seq, k, out)
				}
				known[subject+name] = producer{seq, len(ids), d.stamp}
				rows += len(ids)
			case seq == k.last:
				met["repeat"]++
				if int(out.Accepted) != k.rows || out.Replayed == 0 {
					t.Fatalf("seed %d, step %d: a repeat of %+v: %+v", seed, i, k, out)
				}
			case seq < k.last:
				met["old"]++
				if int(out.Duplicates) != len(ids) || out.Accepted != 0 || out.Replayed == 0 {
					t.Fatalf("seed %d, step %d: %d behind %+v: %+v", seed, i, seq, k, out)
				}
			default:
				met["gap"]++
				want := fmt.Sprintf("sequence gap: %d is expected, not %d", k.last+1, seq)
				if len(out.Rejected) != max(1, len(ids)) || out.Rejected[0].Detail != want || out.Rejected[0].Field != "Producer-Sequence" || out.Accepted != 0 {
					t.Fatalf("seed %d, step %d: %+v, want %s", seed, i, out, want)
				}
			}
			if got, want := d.table(1), fmt.Sprintln(rows); got != want {
				t.Fatalf("seed %d, step %d: %s rows, want %s", seed, i, got, want)
			}
		}
		for _, what := range []string{"applied", "repeat", "old", "gap"} {
			if met[what] == 0 {
				t.Errorf("seed %d: %s was never met", seed, what)
			}
		}
		if s := d.e.Stats(); s.Producers == 0 || s.Producers > 6 || s.Requests > 20 {
			t.Errorf("%d producers and %d requests are remembered", s.Producers, s.Requests)
		}
	}
}

// A request of a producer that was cut off is gone on with, and what comes behind it has to wait for its end.
func TestProducerCutOff(t *testing.T) {
	p := system(compile(t, `CREATE TABLE t (id bigint, v integer) WITH (append_only);
		CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t;`, nil))
	d := newDriver(t, p, flow.Options{})
	ids := []int{1, 2, 3, 4, 5}
	one := func(seq uint64, first, n int) change.Outcome {
		t.Helper()
		return d.apply(numberedEntry(t, p, "p", seq, ids, first, n)).Outcomes[0]
	}
	one(7, 0, 2)
	if out := one(8, 0, 5); len(out.Rejected) != 5 || !strings.Contains(out.Rejected[4].Detail, "7 is expected again") {
		t.Fatalf("%+v", out)
	}
	if out := one(7, 0, 2); out.Accepted != 2 || out.Replayed != 0 {
		t.Fatalf("%+v", out)
	}
	if out := one(7, 2, 3); out.Accepted != 3 {
		t.Fatalf("%+v", out)
	}
	if out := one(7, 0, 5); out.Accepted != 5 || out.Replayed == 0 || d.table(1) != "5\n" {
		t.Fatalf("%+v, %s rows", out, d.table(1))
	}
	if out := one(8, 0, 5); out.Accepted != 5 || d.table(1) != "10\n" {
		t.Fatalf("%+v, %s rows", out, d.table(1))
	}
	if out := one(0, 0, 5); len(out.Rejected) != 5 {
		t.Fatalf("%+v", out)
	}
}
