package nexmark_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"laaster/internal/change"
	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/test/nexmark"
)

// TestCuts runs every query over the same records in other batches, with other numbers of processors, and again: the state is the same.
func TestCuts(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for q := range nexmark.Count {
		t.Run(fmt.Sprintf("q%d", q), func(t *testing.T) {
			p, diags := sql.Compile("app.sql", []byte(nexmark.App(q)), nil)
			if p == nil {
				t.Fatal(diags[0].Render())
			}
			want := cut(t, p, func() int { return 1 << 20 })
			for procs := 1; procs <= 2; procs++ {
				runtime.GOMAXPROCS(procs)
				rnd := rand.New(rand.NewPCG(uint64(q), uint64(procs)))
				if got := cut(t, p, func() int { return 1 + rnd.IntN(40) }); got != want {
					t.Errorf("fingerprint %x in other batches with %d processors, %x in few large ones", got, procs, want)
				}
			}
			if again := cut(t, p, func() int { return 1 << 20 }); again != want {
				t.Errorf("fingerprint %x when run again, %x before", again, want)
			}
		})
	}
}

// cut plays 10,000 events, 200 to a stamp, in batches of at most size() of them.
func cut(t *testing.T, p *flow.Program, size func() int) [16]byte {
	t.Helper()
	e, err := flow.New(p, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(b change.Batch) {
		if _, err := e.Apply(&b); err != nil {
			t.Fatal(err)
		}
	}
	enc := nexmark.NewEncoder(p)
	gen := nexmark.New(nexmark.Options{Seed: 3, Rate: 200, Disorder: 300, Repeat: 19}) // 50 s of event time
	apply(enc.Definition(p))
	apply(enc.Side())
	var ev nexmark.Event
	stamp := int64(0)
	for n := uint64(0); n < 10_000; {
		var entries []change.Entry
		for range 200 {
			gen.Event(n, &ev)
			enc.Add(&ev, taken(n))
			entries = append(entries, enc.Entries()...)
			stamp = max(stamp, ev.Time)
			n++
		}
		stamp += 1000
		for len(entries) > 0 {
			k := min(size(), len(entries))
			apply(enc.Seal(stamp, entries[:k]...))
			entries = entries[k:]
		}
	}
	return e.Fingerprint()
}
