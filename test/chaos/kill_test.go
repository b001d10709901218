package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

const ledgerSQL = `CREATE TABLE events (
  id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  worker integer NOT NULL,
  amount bigint NOT NULL
) WITH (append_only);
CREATE TABLE counters (name text PRIMARY KEY, n bigint NOT NULL, note text);
CREATE MATERIALIZED VIEW by_worker AS SELECT worker, count(*) AS n, sum(amount) AS total FROM events GROUP BY worker;
CREATE MATERIALIZED VIEW whole AS SELECT count(*) AS n, min(amount) AS low, max(amount) AS high FROM events;
CREATE MATERIALIZED VIEW top AS SELECT worker, total FROM by_worker ORDER BY total DESC, worker LIMIT 3;
GRANT SELECT, INSERT ON events TO anon;
GRANT SELECT, INSERT, UPDATE, DELETE ON counters TO anon;
GRANT SELECT ON by_worker, whole, top TO anon;
`

type event struct {
	ID     string `json:"id"`
	Worker int    `json:"worker"`
	Amount int64  `json:"amount"`
}

// worker writes events until it is told to stop; a request without an answer is repeated with the same ids.
type worker struct {
	n       int
	rng     *rand.Rand
	client  *http.Client
	url     string
	acked   []event
	counter int64 // last acknowledged value of the worker's own keyed row
}

func (w *worker) batch() []event {
	out := make([]event, 1+w.rng.IntN(20))
	for i := range out {
		out[i] = event{fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", w.rng.Uint32(), w.rng.Uint32N(1<<16), w.rng.Uint32N(1<<12),
			w.rng.Uint32N(1<<12), w.rng.Uint64N(1<<48)), w.n, w.rng.Int64N(1000) - 500}
	}
	return out
}

// send posts until the server says 200, whatever happens to it in between. It gives up only when ctx ends.
func (w *worker) send(ctx context.Context, path string, v any, alive *atomic.Int64) (accepted, duplicates int, err error) {
	body, err := json.Marshal(v)
	if err != nil {
		return 0, 0, err
	}
	for {
		life := alive.Load()
		r, err := w.client.Post(w.url+path, "application/json", bytes.NewReader(body))
		if err == nil {
			var answer struct{ Accepted, Duplicates int }
			b, readErr := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if readErr == nil && r.StatusCode == http.StatusOK {
				return answer.Accepted, answer.Duplicates, json.Unmarshal(b, &answer)
			}
			if readErr == nil && r.StatusCode < 500 {
				return 0, 0, fmt.Errorf("status %d: %s", r.StatusCode, b)
			}
		}
		for alive.Load() == life && ctx.Err() == nil { // dead or draining: wait for its next life
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
			if r, err := w.client.Get(w.url + "/v1/views/whole"); err == nil {
				ok := r.StatusCode == http.StatusOK
				_ = r.Body.Close()
				if ok {
					break
				}
			}
		}
		if ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
	}
}

func (w *worker) run(ctx context.Context, stop <-chan struct{}, alive *atomic.Int64) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		events := w.batch()
		if _, _, err := w.send(ctx, "/v1/tables/events", events, alive); err != nil {
			return err
		}
		w.acked = append(w.acked, events...)
		next := w.counter + 1
		row := map[string]any{"name": "w" + strconv.Itoa(w.n), "n": next}
		if _, _, err := w.send(ctx, "/v1/tables/counters?on_conflict=merge", row, alive); err != nil {
			return err
		}
		w.counter = next
	}
}

// TestKillNine kills the real binary twenty times at random moments under load. After each restart everything that was
// acknowledged is there exactly once and the views equal what the acknowledged events give.
func TestKillNine(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 3
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	dir, data := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.sql"), []byte(ledgerSQL), 0o600); err != nil {
		t.Fatal(err)
	}
	server := testkit.StartServer(t, dir, data)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var alive atomic.Int64
	workers := make([]*worker, 4)
	for i := range workers {
		workers[i] = &worker{n: i, rng: rand.New(rand.NewPCG(seed, uint64(i)+10)), url: server.URL,
			client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 30 * time.Second}}
	}
	for range kills {
		stop := make(chan struct{})
		g := run.New(ctx)
		for _, w := range workers {
			g.Go("worker", func(ctx context.Context) error { return w.run(ctx, stop, &alive) })
		}
		// A random moment: after so many milliseconds of load.
		select {
		case <-time.After(time.Duration(20+rng.IntN(400)) * time.Millisecond):
		case <-g.Context().Done():
			t.Fatal(g.Wait())
		}
		server.Kill()
		server.Restart()
		alive.Add(1)
		close(stop) // each worker resolves its request under way, then rests
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		verify(t, server.URL, workers)
	}
	if err := server.Stop(); err != nil {
		t.Fatalf("after the last check: %v", err)
	}
	total := 0
	for _, w := range workers {
		total += len(w.acked)
	}
	t.Logf("%d events acknowledged over %d kills", total, kills)
	if total < kills*10 {
		t.Errorf("only %d events: the load was no load", total)
	}
}

// get1 reads an object.
func get1[T any](t *testing.T, url string) (out T) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&out); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return out
}

func get[T any](t *testing.T, url string) []T {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", url, r.StatusCode, b, err)
	}
	var out []T
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v in %.200s", url, err, b)
	}
	return out
}

type workerRow struct {
	Worker int   `json:"worker"`
	N      int   `json:"n"`
	Total  int64 `json:"total"`
}

func verify(t *testing.T, url string, workers []*worker) {
	t.Helper()
	want := map[string]event{}
	rows := map[int]workerRow{}
	for _, w := range workers {
		for _, e := range w.acked {
			want[e.ID] = e
			r := rows[w.n]
			rows[w.n] = workerRow{w.n, r.N + 1, r.Total + e.Amount}
		}
	}
	got := map[string]bool{}
	for _, e := range get[event](t, url+"/v1/views/events") {
		if got[e.ID] {
			t.Fatalf("event %s is there twice", e.ID)
		}
		got[e.ID] = true
		if want[e.ID] != e {
			t.Fatalf("event %v is not what was acknowledged: %v", e, want[e.ID])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d events are there, %d were acknowledged", len(got), len(want))
	}
	for _, r := range get[workerRow](t, url+"/v1/views/by_worker") {
		if rows[r.Worker] != r {
			t.Fatalf("by_worker: %v, the acknowledged events give %v", r, rows[r.Worker])
		}
		delete(rows, r.Worker)
	}
	if len(rows) > 0 {
		t.Fatalf("by_worker lacks %v", rows)
	}
	for _, c := range get[struct {
		Name string
		N    int64
	}](t, url+"/v1/views/counters") {
		n, _ := strconv.Atoi(c.Name[1:])
		if c.N != workers[n].counter {
			t.Fatalf("counter %s is %d, acknowledged was %d", c.Name, c.N, workers[n].counter)
		}
	}
	whole := get[struct{ N int }](t, url+"/v1/views/whole")
	if len(whole) != 1 || whole[0].N != len(want) {
		t.Fatalf("whole: %v, want n %d", whole, len(want))
	}
}
