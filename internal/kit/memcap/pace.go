package memcap

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"laaster/internal/kit/run"
)

// The garbage collector runs when as much has been allocated as a part of what is alive, whatever that costs: a server with 50 MB alive that allocates 4 MB/s
// would let 100 MB pile up, and no collection for half a minute is worth that. So the part follows the cost: as much may pile up as keeps collecting within a
// share of the processor time that is used anyway, at least leastRoom, and at most mostRoom, as much as is alive, or mostPercent of what is alive beyond smallServer.
// With less than as much as is alive the cost of a change grows with everything that has nothing to do with it: of 1,000 changes a second in a server with 10,000
// subscribers (80 MB), collecting at every 32 MB was 9 µs of 45 for each.
const (
	mostPercent  = 200      // of what is alive: what the server starts with, and what a heavy load gets
	leastPercent = 20       // so that a sudden load is not all collecting until the next look
	leastRoom    = 32 << 20 // bytes; a heap below 16 MiB keeps mostPercent
	mostRoom     = 48 << 20 // bytes, as much as is alive, or mostPercent of what is alive beyond smallServer, whichever is most: a small server stays small when somebody has it allocate
	smallServer  = 104 << 20
	gcShare      = 0.03   // of the processor time that is used
	gcIdle       = 0.0025 // processors: what an idle server may spend in any case
	lookEvery    = time.Second
)

// Collect sets how much garbage may pile up, and looks again every second until ctx ends: little where collecting is cheap, up to twice of what is alive under
// load. GOGC in the environment wins: then nothing is set. There is one setting per process, so one call at a time. A memory limit (debug.SetMemoryLimit,
// GOMEMLIMIT) holds besides.
func Collect(ctx context.Context, clock run.Clock) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := mostPercent
	debug.SetGCPercent(percent)
	last := count(clock)
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.After(lookEvery):
		}
		now := count(clock)
		if now.cycles == last.cycles {
			continue // the counts of processor time move at the end of a collection
		}
		want := now.percent(last)
		if last = now; math.Abs(float64(want-percent)) < float64(percent)/10 {
			continue // a change stops all goroutines for a moment
		}
		percent = want
		debug.SetGCPercent(percent)
	}
}

// counts is what the runtime counted until a moment.
type counts struct {
	at        time.Time
	cycles    uint64
	allocated uint64  // bytes
	collector float64 // seconds of processor time, that which nobody else wanted included
	used      float64 // seconds of processor time, the collector's included
	alive     uint64  // bytes that the last collection left, and the stacks and variables that it looked through: what percent is of
}

func count(clock run.Clock) counts {
	m := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/user:cpu-seconds"},
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(m)
	collector := m[2].Value.Float64()
	return counts{clock.Now(), m[0].Value.Uint64(), m[1].Value.Uint64(), collector, collector + m[3].Value.Float64(), m[4].Value.Uint64() + m[5].Value.Uint64() + m[6].Value.Uint64()}
}

// percent returns how much may pile up, in percent of what is alive, after a time with at least one collection. With room bytes between two collections,
// collecting takes (cost of one) × (bytes allocated per second) ÷ room.
func (c counts) percent(before counts) int {
	span := max(c.at.Sub(before.at).Seconds(), 1e-3)
	one := (c.collector - before.collector) / float64(c.cycles-before.cycles)
	rate := float64(c.allocated-before.allocated) / span
	may := max(gcShare*(c.used-before.used)/span, gcIdle)
	room := min(max(one*rate/may, leastRoom), max(mostRoom, float64(c.alive), mostPercent/100*(float64(c.alive)-smallServer)))
	return int(min(max(100*room/float64(max(c.alive, 1)), leastPercent), mostPercent))
}
