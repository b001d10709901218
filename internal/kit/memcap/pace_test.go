package memcap

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"laaster/internal/kit/run"
)

// TestPercent: two collections in ten seconds, of what is alive and allocated in MB/s, each of so many seconds of processor time, beside used of them a second.
func TestPercent(t *testing.T) {
	for _, c := range []struct {
		name        string
		alive, rate float64
		cost, used  float64
		want        int
	}{
		{"small", 8, 4, 0.01, 0.1, 200},
		{"calm", 64, 3, 0.03, 0.1, 50}, // 32 MiB, at 0.3 % of a processor
		{"watched by many", 80, 5, 0.06, 0.06, 100},
		{"busy", 64, 40, 0.03, 1, 62},             // 40 MB, at 3 %
		{"heavy", 40, 400, 0.03, 1, 120},          // 48 MiB; it would be 1000 %
		{"heavier", 160, 400, 0.08, 1, 100},       // as much as is alive
		{"heaviest", 312, 1000, 0.1, 1, 133},      // 416 MiB
		{"large and calm", 4096, 1, 2, 0.1, 20},   // 400 MB
		{"large and heavy", 4096, 100, 2, 1, 162}, // 6.7 GB
		{"idle", 0, 0, 0, 0, 200},
	} {
		before := counts{at: time.Unix(100, 0), cycles: 7, allocated: 5 << 30, collector: 3, used: 40}
		after := counts{before.at.Add(10 * time.Second), 9, before.allocated + uint64(10*c.rate*(1<<20)), 3 + 2*c.cost, 40 + 10*c.used, uint64(c.alive * (1 << 20))}
		if got := after.percent(before); got != c.want {
			t.Errorf("%s: %d %%, want %d", c.name, got, c.want)
		}
	}
}

func percentNow() uint64 {
	m := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(m)
	return m[0].Value.Uint64()
}

// TestCollect: a process that has 128 MiB and does little may not let as much again pile up.
func TestCollect(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	alive := make([]*[1 << 10]byte, 128<<10)
	for i := range alive {
		alive[i] = new([1 << 10]byte)
	}
	clock := run.NewManual(time.Unix(1000, 0))
	g := run.New(t.Context())
	g.Go("collect", func(ctx context.Context) error {
		Collect(ctx, clock)
		return nil
	})
	clock.AwaitSleepers(1)
	if got := percentNow(); got != mostPercent {
		t.Errorf("at the beginning %d %%", got)
	}
	runtime.GC()
	clock.Advance(time.Hour) // in which nearly nothing was allocated
	clock.AwaitSleepers(1)
	if got := percentNow(); got < leastPercent || got > 30 {
		t.Errorf("%d %% of more than 128 MiB may pile up, want 32 MiB", got)
	}
	g.Stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(alive)
}

// TestCollectHeedsGOGC: who says how much may pile up is heeded.
func TestCollectHeedsGOGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(300))
	t.Setenv("GOGC", "300")
	Collect(t.Context(), run.System{})
	if got := percentNow(); got != 300 {
		t.Errorf("%d %%", got)
	}
}
