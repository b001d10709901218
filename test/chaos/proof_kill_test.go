package chaos

import (
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"laaster/test/ledger"
)

// TestLedgerKill kills the server at random moments under load, and checks after each start: with everything synced, with more state than memory, encrypted, and with a log that is only
// written, which is enough for a process that dies.
func TestLedgerKill(t *testing.T) {
	kills := asked(t, "LAASTER_KILLS", 8, 200)
	for _, c := range []struct {
		name, settings string
		kills          int
	}{
		{"durable", often, kills - 3*(kills/4)},
		{"small memory", often + "limits: {memory: 1MiB}\n", kills / 4},
		{"encrypted", often + "encryption: {keys: env:LAASTER_TEST_KEYS}\n", kills / 4},
		{"buffered", often + "durability: buffered\n", kills / 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rigged(t, t.TempDir(), c.settings, ledger.LoadOptions{})
			key, err := exec.Command(r.Spec.Bin, "key").Output()
			must(t, err)
			if c.name == "buffered" {
				r.Level = c.name
			}
			r.Spec.Env = append(r.Spec.Env, "LAASTER_TEST_KEYS="+string(key))
			killing(t, r, c.kills)
		})
	}
}

func killing(t *testing.T, r *ledger.Rig, kills int) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	must(t, r.Up())
	r.Load.Go()
	for n := range kills {
		moment(t.Context(), rng, 600*time.Millisecond)
		r.Down()
		must(t, r.Up())
		must(t, r.Check(t.Context(), n%20 == 19))
		clean(t, r)
	}
	finish(t, r)
}
