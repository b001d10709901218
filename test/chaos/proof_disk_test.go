//go:build linux

package chaos

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/test/ledger"
)

// TestLedgerFullDisk fills the disk under load and gives the room back. Writes are refused meanwhile, reads go on, nothing acknowledged is lost, and
// the server takes writes again by itself; now and then it dies while the disk is full.
func TestLedgerFullDisk(t *testing.T) {
	fills := asked(t, "LAASTER_FULL_DISKS", 2, 10)
	d := newDisk(t, 192)
	settings := often + "disk: {low_water: 4MiB, reserve: 2MiB}\n"
	for n := range fills {
		if n%5 == 0 {
			fullDisks(t, d, settings, min(5, fills-n))
		}
	}
}

// fullDisks fills a disk several times under one rig.
func fullDisks(t *testing.T, d *disk, settings string, fills int) {
	r := rigged(t, d.data()+"-"+fmt.Sprint(rand.Uint32()), settings, ledger.LoadOptions{})
	rng := rand.New(rand.NewPCG(rand.Uint64(), 8))
	must(t, r.Up())
	r.Load.Go()
	for n := range fills {
		moment(t.Context(), rng, 300*time.Millisecond)
		refused := r.Book.Counted("refused: busy")
		release := fill(t, d.Dir)
		await(t, r, "a write is refused", func() bool { return r.Book.Counted("refused: busy") > refused+3 })
		if n%3 == 2 {
			r.Down()
			release()
			must(t, r.Up())
		} else {
			release()
		}
		high := r.Book.High()
		await(t, r, "writes are taken again", func() bool { return r.Book.High().Seq > high.Seq+20 })
		must(t, r.Check(t.Context(), n == fills-1))
		clean(t, r)
	}
	finish(t, r)
	must(t, r.Server.Stop())
}

// await waits until something is so. The server must go on.
func await(t *testing.T, r *ledger.Rig, what string, so func() bool) {
	t.Helper()
	for late := (run.System{}).After(time.Minute); !so(); {
		select {
		case <-r.Server.Done():
			t.Fatalf("the server ended before %s: %v\n%s", what, r.Server.Wait(time.Second), last(r.Server.Log(), 5000))
		case <-late:
			t.Fatalf("never: %s\n%s", what, last(r.Server.Log(), 5000))
		case <-run.System{}.After(5 * time.Millisecond):
		}
	}
}
