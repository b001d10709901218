package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"laaster/internal/kit/run"
)

// keyedSQL is the app of the durability figures: a view with as many rows as there are voters.
const keyedSQL = appSQL + `
CREATE MATERIALIZED VIEW voters AS SELECT voter, count(*) AS votes, sum(points) AS points FROM votes GROUP BY voter;
GRANT SELECT ON voters TO anon;
`

// fillVoters writes events of so many voters, in requests of 500 rows, as fast as the server takes them.
func (s *server) fillVoters(ctx context.Context, events, voters int) error {
	const rows, at = 500, 4
	all, kept := bodies(4096, rows, voters), client()
	g := run.New(ctx)
	for w := range at {
		g.Go("filler", func(ctx context.Context) error {
			for i := w; i < events/rows; i += at {
				if err := ctx.Err(); err != nil {
					return err
				}
				if _, _, status, err := s.post(kept, all[i%len(all)]); err != nil || status != http.StatusOK {
					return fmt.Errorf("fill: status %d: %w", status, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// settings writes laaster.yaml.
func (s *server) settings(text string) error {
	return os.WriteFile(filepath.Join(s.dir, "laaster.yaml"), []byte(text), 0o600)
}

// metric returns a figure of /metrics.
func (s *server) metric(name string) (float64, error) {
	r, err := http.Get(s.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// restart starts the server again and returns how long it took until it was ready.
func (s *server) restart(c *config, sql string) (time.Duration, error) {
	began := s.clock.Now()
	err := s.start(c, sql)
	return s.clock.Now().Sub(began), err
}

// starts measures how long a start takes after a clean stop, after a kill, and without a checkpoint.
func starts(ctx context.Context, c *config) error {
	s, err := startServer(ctx, c, keyedSQL)
	if err != nil {
		return err
	}
	defer s.stop()
	began := s.clock.Now()
	if err := s.fillVoters(ctx, c.retained, c.keys); err != nil {
		return err
	}
	filled := s.clock.Now().Sub(began)
	apply, err := s.metric("laaster_engine_apply_seconds_sum")
	if err != nil {
		return err
	}
	rows, err := s.metric("laaster_view_rows{view=\"voters\"}")
	if err != nil {
		return err
	}
	live := float64(c.retained) / apply
	fmt.Printf("%d events of %.0f keys written in %.1f s (%.0f/s); the engine alone %.0f/s\n", c.retained, rows, filled.Seconds(), float64(c.retained)/filled.Seconds(), live)
	began = s.clock.Now()
	if err := s.end(os.Interrupt); err != nil {
		return err
	}
	fmt.Printf("clean stop                    %6.2f s\n", s.clock.Now().Sub(began).Seconds())
	took, err := s.restart(c, keyedSQL)
	if err != nil {
		return err
	}
	fmt.Printf("ready after a clean stop      %6.2f s\n", took.Seconds())
	if err := s.fillVoters(ctx, c.retained/10, c.keys); err != nil {
		return err
	}
	if err := s.end(os.Kill); err != nil {
		return err
	}
	if took, err = s.restart(c, keyedSQL); err != nil {
		return err
	}
	replayed, err := s.replayed()
	if err != nil {
		return err
	}
	fmt.Printf("ready after a kill            %6.2f s, %d batches replayed\n", took.Seconds(), replayed)
	if err := s.end(os.Kill); err != nil {
		return err
	}
	for _, dir := range []string{"checkpoints", "copy"} {
		if err := os.RemoveAll(filepath.Join(s.dir, ".laaster", dir)); err != nil {
			return err
		}
	}
	if took, err = s.restart(c, keyedSQL); err != nil {
		return err
	}
	rate := float64(c.retained+c.retained/10) / took.Seconds()
	fmt.Printf("ready without a checkpoint    %6.2f s, %.0f/s: %.2f of the engine's live rate\n", took.Seconds(), rate, rate/live)
	return nil
}

// end stops the server with a signal and waits for it.
func (s *server) end(sig os.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil {
		return err
	}
	_ = s.cmd.Wait() // killed is an error to it
	return nil
}

// replayed returns how many batches the start applied.
func (s *server) replayed() (int, error) {
	h, err := s.health()
	return h.Replayed, err
}

type health struct {
	Replayed   int
	Checkpoint *struct {
		PauseUS int64 `json:"pause_us"`
		TookMS  int64 `json:"took_ms"`
	}
}

func (s *server) health() (h health, err error) {
	r, err := http.Get(s.admin + "/readyz")
	if err != nil {
		return h, err
	}
	defer r.Body.Close()
	return h, json.NewDecoder(r.Body).Decode(&h)
}

// checkpoints measures what the screens notice of checkpoints: under one load, one is written every second; the delays of the requests that were on their way while
// one was written are compared with those of the others, in five spans of time.
func checkpoints(ctx context.Context, c *config) error {
	const rate, spans = 20_000, 5
	s, err := startServer(ctx, c, keyedSQL)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.end(os.Interrupt); err != nil {
		return err
	}
	if err := s.settings("checkpoint:\n  every: 1h\n  log_bytes: 16GiB\n"); err != nil {
		return err
	}
	if err := s.start(c, keyedSQL); err != nil {
		return err
	}
	if err := s.fillVoters(ctx, max(c.keys*3/2, 500), c.keys); err != nil {
		return err
	}
	if err := s.openScreens(c.screens); err != nil {
		return err
	}
	c.rows, c.bodies = 20, bodies(4096, 20, c.keys)
	if _, err := s.load(ctx, c, rate); err != nil { // everything is warm
		return err
	}
	if err := s.checkpoint(ctx); err != nil { // all of it, and the second copy
		return err
	}
	rows, err := s.metric("laaster_view_rows{view=\"voters\"}")
	if err != nil {
		return err
	}
	var ratios []float64
	var pauses, took []int64
	for range spans {
		var written [][2]time.Time
		c.inside = func(from, to time.Time) bool {
			return slices.ContainsFunc(written, func(w [2]time.Time) bool { return from.Before(w[1]) && w[0].Before(to) })
		}
		stop := make(chan struct{})
		g := run.New(ctx)
		g.Go("checkpoints", func(ctx context.Context) error {
			for {
				select {
				case <-stop:
					return nil
				case <-s.clock.After(time.Second):
				}
				began := s.clock.Now()
				if err := s.checkpoint(ctx); err != nil {
					return err
				}
				written = append(written, [2]time.Time{began, s.clock.Now()})
				h, err := s.health()
				if err != nil {
					return err
				}
				pauses, took = append(pauses, h.Checkpoint.PauseUS), append(took, h.Checkpoint.TookMS)
			}
		})
		m, err := s.loadUntil(ctx, c, rate, func() error { close(stop); return g.Wait() })
		if err != nil {
			return err
		}
		ratio := m.inside.at(99) / m.delay.at(99)
		ratios = append(ratios, ratio)
		fmt.Printf("event → frame p99, ms: %7.2f between checkpoints, %7.2f during %d of them: %.2f\n", m.delay.at(99), m.inside.at(99), len(written), ratio)
	}
	for _, list := range [][]int64{pauses, took} {
		slices.Sort(list)
	}
	slices.Sort(ratios)
	fmt.Printf("%.0f keys, %d events/s, a checkpoint each second, written in %d ms (median): median ratio %.2f; the engine's pause: median %.2f ms, longest %.2f ms of %d\n",
		rows, rate, took[len(took)/2], ratios[len(ratios)/2], float64(pauses[len(pauses)/2])/1000, float64(pauses[len(pauses)-1])/1000, len(pauses))
	return nil
}

// checkpoint has one written.
func (s *server) checkpoint(ctx context.Context) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.admin+"/v1/checkpoint", bytes.NewReader(nil))
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	return r.Body.Close()
}
