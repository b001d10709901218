package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// changedLedger is one of a series of apps: each changes a view, and now and then one adds a column.
func changedLedger(n int) string {
	var more strings.Builder
	for i := range columns(n) {
		fmt.Fprintf(&more, ", more%d integer NOT NULL DEFAULT %d", i, i)
	}
	text := strings.Replace(ledgerSQL, "note text", "note text"+more.String(), 1)
	return strings.Replace(text, "LIMIT 3;", fmt.Sprintf("LIMIT %d;\nCREATE MATERIALIZED VIEW big AS SELECT worker, count(*) AS n, sum(amount) AS total FROM events WHERE amount > %d GROUP BY worker;\nGRANT SELECT ON big TO anon;", 3+n%4, n%7), 1)
}

// TestKillDuringDeploy kills the real binary at random moments of deployments under load: what was acknowledged is there exactly once, and the
// views are those of the app in the folder, whether its definition was in the log already or not.
func TestKillDuringDeploy(t *testing.T) {
	kills := 8
	if testing.Short() {
		kills = 3
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	dir, data := t.TempDir(), t.TempDir()
	save := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save(changedLedger(0))
	server := testkit.StartServer(t, dir, data)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var alive, deployed atomic.Int64
	workers := make([]*worker, 2)
	for i := range workers {
		workers[i] = &worker{n: i, rng: rand.New(rand.NewPCG(seed, uint64(i)+10)), url: server.URL,
			client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 30 * time.Second}}
	}
	version := 0
	for round := range kills {
		stop, effect := make(chan struct{}), make(chan struct{}, 1000)
		g := run.New(ctx)
		for _, w := range workers {
			g.Go("worker", func(ctx context.Context) error { return w.run(ctx, stop, &alive) })
		}
		dead := make(chan struct{})
		g.Go("deployer", func(context.Context) error {
			for {
				select {
				case <-dead:
					return nil
				default:
				}
				version++
				text := changedLedger(version)
				save(text)
				r, err := http.Post(server.Admin+"/v1/deploy", "application/sql", strings.NewReader(text))
				if err != nil {
					continue // killed
				}
				b, err := io.ReadAll(r.Body)
				_ = r.Body.Close()
				switch {
				case err != nil:
				case strings.Contains(string(b), `"position"`):
					deployed.Add(1)
					effect <- struct{}{}
				default:
					return fmt.Errorf("version %d: %s", version, b)
				}
			}
		})
		if round%2 == 0 { // some time after a deployment; otherwise at any moment
			select {
			case <-effect:
			case <-g.Context().Done():
				t.Fatal(g.Wait())
			}
		}
		select {
		case <-time.After(time.Duration(rng.IntN(200)) * time.Millisecond):
		case <-g.Context().Done():
			t.Fatal(g.Wait())
		}
		server.Kill()
		close(dead)
		for g.Running()["deployer"] > 0 {
			select {
			case <-time.After(time.Millisecond):
			case <-g.Context().Done():
				t.Fatal(g.Wait())
			}
		}
		server.Restart()
		alive.Add(1)
		close(stop)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		verify(t, server.URL, workers)
		verifyChanged(t, server.URL, workers, version)
	}
	if err := server.Stop(); err != nil {
		t.Fatalf("after the last check: %v", err)
	}
	t.Logf("%d of %d deployments were in effect before a kill", deployed.Load(), version)
	if deployed.Load() < int64(kills/2) {
		t.Errorf("only %d deployments", deployed.Load())
	}
}

func verifyChanged(t *testing.T, url string, workers []*worker, version int) {
	t.Helper()
	want := map[int]workerRow{}
	for _, w := range workers {
		for _, e := range w.acked {
			if e.Amount > int64(version%7) {
				r := want[w.n]
				want[w.n] = workerRow{w.n, r.N + 1, r.Total + e.Amount}
			}
		}
	}
	for _, r := range get[workerRow](t, url+"/v1/views/big") {
		if want[r.Worker] != r {
			t.Fatalf("big in version %d: %v, the acknowledged events give %v", version, r, want[r.Worker])
		}
		delete(want, r.Worker)
	}
	if len(want) > 0 {
		t.Fatalf("big in version %d lacks %v", version, want)
	}
	for _, c := range get[map[string]any](t, url+"/v1/views/counters") {
		for i := range columns(version) {
			if c[fmt.Sprintf("more%d", i)] != float64(i) {
				t.Fatalf("counters in version %d: %v", version, c)
			}
		}
	}
}

// columns is how many columns a version has added.
func columns(version int) int { return min(version/30, 20) }
