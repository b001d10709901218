package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"laaster/test/ledger"
)

// TestLedgerClock sets the time of day wrong, by up to a day and in both directions, while the server runs and over its deaths. The subscribers check
// that the log's time only grows, and that nothing is lost or comes twice.
func TestLedgerClock(t *testing.T) {
	lives := asked(t, "LAASTER_CLOCKS", 3, 40)
	r := rigged(t, t.TempDir(), often, ledger.LoadOptions{})
	rng := rand.New(rand.NewPCG(rand.Uint64(), 5))
	for range lives {
		jumps := []string{fmt.Sprintf("0s:%ds", rng.IntN(172800)-86400)}
		for at := range 1 + rng.IntN(3) {
			jumps = append(jumps, fmt.Sprintf("%dms:%ds", 300+200*at, rng.IntN(172800)-86400))
		}
		must(t, r.Up("LAASTER_CLOCK="+strings.Join(jumps, ",")))
		r.Load.Go()
		moment(t.Context(), rng, 1500*time.Millisecond)
		must(t, r.Check(t.Context(), false))
		r.Down()
		clean(t, r)
	}
	must(t, r.Up())
	r.Load.Go()
	moment(t.Context(), rng, 500*time.Millisecond)
	finish(t, r)
}
