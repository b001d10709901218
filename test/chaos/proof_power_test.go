//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/test/ledger"
)

// TestLedgerPower cuts the power under load, at random moments or just after the process died at some crash point, and checks after each start. What
// the server says between the cut and its death counts: an acknowledgement then is a lie.
func TestLedgerPower(t *testing.T) {
	cuts := asked(t, "LAASTER_CUTS", 6, 60)
	d := newDisk(t, 512)
	r := rigged(t, d.data(), often, ledger.LoadOptions{})
	rng := rand.New(rand.NewPCG(rand.Uint64(), 2))
	atPoints := 0
	for n := range cuts {
		var env []string
		if n%3 == 2 {
			env = []string{fmt.Sprintf("LAASTER_CRASH=*:%d", 1+rng.IntN(500))}
		}
		if died := upToCut(t, r, rng, env); died {
			atPoints++
			must(t, d.cut())
		} else {
			must(t, d.cut())
			if rng.IntN(2) == 0 { // the machine is dead; or it dies a little later
				moment(t.Context(), rng, 50*time.Millisecond)
			}
		}
		r.Down()
		must(t, d.back())
		must(t, r.Up())
		must(t, r.Check(t.Context(), n%20 == 19))
		clean(t, r)
		r.Down()
	}
	t.Logf("%d of %d cuts came at a crash point", atPoints, cuts)
	must(t, r.Up())
	finish(t, r)
	must(t, r.Server.Stop())
}

// upToCut starts the server and lets the load run for a moment. It reports whether the server died of a crash point.
func upToCut(t *testing.T, r *ledger.Rig, rng *rand.Rand, env []string) (died bool) {
	t.Helper()
	err := r.Up(env...)
	if ended := (*ledger.Ended)(nil); errors.As(err, &ended) && killed(ended.Err) {
		return true
	}
	if err != nil && len(env) > 0 { // it died while it was asked for its position
		return killed(r.Server.Wait(10 * time.Second))
	}
	must(t, err)
	r.Load.Go()
	wait := time.Duration(rng.Int64N(int64(800 * time.Millisecond)))
	if len(env) > 0 {
		wait = 3 * time.Second
	}
	select {
	case <-r.Server.Done():
		return killed(r.Server.Wait(time.Second))
	case <-run.System{}.After(wait):
		return false
	}
}
