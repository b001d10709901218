package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
	"laaster/test/ledger"
)

// The tests of the files proof_*.go put the ledger through one kind of fault each. What they do in an ordinary run of the tests is a sample; the
// environment asks for more: a number for one kind (LAASTER_KILLS, LAASTER_CUTS, …), or LAASTER_FULL=1 for the whole proof, see docs/reliability.md.

// asked returns how often a fault is to happen: what the environment says under name, all of it with LAASTER_FULL, else the sample.
func asked(t *testing.T, name string, sample, full int) int {
	t.Helper()
	if s := os.Getenv(name); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if os.Getenv("LAASTER_FULL") != "" {
		return full
	}
	if testing.Short() {
		return min(sample, 2)
	}
	return sample
}

// tagged builds the binary with build tags, without the race detector, once for each test process.
func tagged(t *testing.T, tags string) string {
	t.Helper()
	path, err := builds.get(tags)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

type built struct {
	mu    sync.Mutex
	paths map[string]string
}

var builds = &built{paths: map[string]string{}}

func (b *built) get(tags string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.paths[tags]; p != "" {
		return p, nil
	}
	if p := os.Getenv("LAASTER_BIN_TAGGED"); p != "" && tags == crashTags {
		return p, nil
	}
	dir, err := os.MkdirTemp("", "laaster-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "laaster")
	out, err := exec.Command("go", "build", "-tags", tags, "-o", path, "laaster/cmd/laaster").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build -tags %s: %w\n%s", tags, err, out)
	}
	b.paths[tags] = path
	return path, nil
}

// crashTags are the build tags of the binary that most of the proof runs.
const crashTags = "crashpoints"

// often are settings that write checkpoints all the time.
const often = `checkpoint: {every: 100ms, log_bytes: 64KiB, copy_every: 1s}
`

// rigged makes a rig on a data folder. At the test's end it is closed and what it noted is an error.
func rigged(t *testing.T, data, settings string, o ledger.LoadOptions) *ledger.Rig {
	t.Helper()
	dir, err := ledger.App(t.TempDir(), settings)
	if err != nil {
		t.Fatal(err)
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Pace == 0 {
		o.Pace = 4 * time.Millisecond
	}
	t.Logf("seed %d", o.Seed)
	r := ledger.NewRig(t.Context(), &ledger.Spec{Bin: tagged(t, crashTags), App: dir, Data: data}, o)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := r.Book.Err(); err != nil {
			t.Error(err)
		}
		if t.Failed() && r.Server != nil {
			t.Logf("the server's last life:\n%s", last(r.Server.Log(), 20_000))
		}
		t.Log(r.Summary())
	})
	return r
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clean ends the test when the book has a violation: what follows would only say the same again.
func clean(t *testing.T, r *ledger.Rig) {
	t.Helper()
	if r.Book.Err() != nil {
		t.FailNow() // the cleanup says what
	}
}

// moment lets the load run for a random time of up to most.
func moment(ctx context.Context, rng *rand.Rand, most time.Duration) {
	select {
	case <-run.System{}.After(time.Duration(rng.Int64N(int64(most)))):
	case <-ctx.Done():
	}
}

// finish compares everything: the events, the live subscribers, PostgreSQL; and stops the server cleanly.
func finish(t *testing.T, r *ledger.Rig) {
	t.Helper()
	must(t, r.Load.Rest(t.Context()))
	must(t, r.CheckAtRest(t.Context(), true))
	clean(t, r)
	must(t, r.Compare(t.Context(), testkit.Postgres(t).Schema(t)))
	clean(t, r)
	if err := r.Server.Stop(); err != nil {
		t.Errorf("the last stop: %v\n%s", err, last(r.Server.Log(), 5000))
	}
	must(t, r.Up())
	must(t, r.CheckAtRest(t.Context(), true))
	for level, n := range r.Book.Levels() {
		if level != r.Level {
			t.Errorf("%d answers name the level %q", n, level)
		}
	}
	sent, acked, _, _ := r.Book.Totals()
	if acked < sent/3 || acked < 100 {
		t.Errorf("of %d events %d were acknowledged: the load was no load", sent, acked)
	}
}
