//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/testkit"
	"laaster/test/ledger"
)

// memoryCap is a cgroup (version 1) that holds a process to so many MiB.
type memoryCap struct{ dir string }

func newMemoryCap(t *testing.T, mib int) *memoryCap {
	t.Helper()
	dir := fmt.Sprintf("/sys/fs/cgroup/memory/laaster-test-%d-%d", os.Getpid(), rand.Uint32())
	if err := os.Mkdir(dir, 0o755); err != nil {
		testkit.Missing(t, fmt.Sprintf("no memory cgroup can be made here: %v", err))
	}
	c := &memoryCap{dir}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil { // empty, as its processes have ended
			t.Logf("the cgroup stays: %v", err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte(strconv.Itoa(mib<<20)), 0o600); err != nil {
		testkit.Missing(t, fmt.Sprintf("no memory limit can be set here: %v", err))
	}
	return c
}

// wrap is what starts a process in the group.
func (c *memoryCap) wrap() []string {
	return []string{"/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, c.dir}
}

// highest returns the most that the group ever held, in MiB.
func (c *memoryCap) highest(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "memory.max_usage_in_bytes"))
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	must(t, err)
	return n >> 20
}

// TestLedgerMemory runs the server under a cap of memory with more writers, and larger requests, than it can keep up with. Nothing acknowledged is lost,
// whether the kernel kills it or not; the settings that go with the cap, which the server reads, keep it from that.
func TestLedgerMemory(t *testing.T) {
	seconds := asked(t, "LAASTER_MEMORY_SECONDS", 4, 60)
	load := ledger.LoadOptions{Each: 8, Rows: 200, Pace: time.Microsecond}
	if seconds < 30 {
		load.Each, load.Rows = 4, 60
	}
	c := newMemoryCap(t, 512)
	settings := often + "limits: {memory: 64MiB, pending: 8MiB, requests: 32MiB, ring: 4MiB, body: 2MiB}\n"
	r := rigged(t, t.TempDir(), settings, load)
	r.Spec.Wrap = c.wrap()
	must(t, r.Up())
	r.Load.Go()
	kills := 0
	for range seconds {
		moment(t.Context(), rand.New(rand.NewPCG(rand.Uint64(), 9)), 2*time.Second)
		select {
		case <-r.Server.Done():
			kills++
			r.Target.Down()
			if err := r.Server.Wait(time.Second); !killed(err) {
				t.Fatalf("the server ended: %v\n%s", err, last(r.Server.Log(), 5000))
			}
			must(t, errors.Join(r.Up(), r.Check(t.Context(), false)))
			clean(t, r)
		default:
		}
	}
	must(t, r.Check(t.Context(), false))
	clean(t, r)
	t.Logf("%d MiB at the highest, page cache included; killed %d times", c.highest(t), kills)
	if kills > 0 {
		t.Errorf("the kernel killed it %d times for want of memory", kills)
	}
	r.Spec.Wrap = nil
	finish(t, r)
}
