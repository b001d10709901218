package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"laaster/internal/kit/run"
)

// addedSQL is the view that is added to the running app.
const addedSQL = appSQL + `
CREATE MATERIALIZED VIEW voters AS
  SELECT voter, count(*) AS votes, sum(points) AS points, max(at) AS last FROM votes GROUP BY voter ORDER BY points DESC, voter LIMIT 100;
GRANT SELECT ON voters TO anon;
`

// backfill measures what the live views notice when a view is added to an app with a long log: the delays of a steady load alone, and of
// the same load while the deployment runs.
func backfill(ctx context.Context, c *config) error {
	const rate = 20_000
	s, err := startServer(ctx, c, appSQL)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.openScreens(c.screens); err != nil {
		return err
	}
	if err := s.fill(ctx, c, c.retained); err != nil {
		return err
	}
	c.rows = 20 // requests of 20 rows, a thousand a second
	fmt.Printf("%d events in the log, %d screens, %d events/s in requests of %d rows\n", c.retained, c.screens, rate, c.rows)
	if _, err := s.load(ctx, c, rate); err != nil { // everything is warm
		return err
	}
	before, err := s.load(ctx, c, rate)
	if err != nil {
		return err
	}
	type built struct {
		took time.Duration
		ms   int64
	}
	done := make(chan built, 1)
	g := run.New(ctx)
	g.Go("deploy", func(ctx context.Context) error {
		began := s.clock.Now()
		ms, err := s.deploy(ctx, addedSQL)
		done <- built{s.clock.Now().Sub(began), ms}
		return err
	})
	during := &measure{delay: newDelays()}
	for rounds := 0; ; rounds++ { // as long as before: the first moments of a load are its worst
		select {
		case b := <-done:
			if err := g.Wait(); err != nil {
				return err
			}
			if rounds == 0 {
				return fmt.Errorf("the view was there after %s: nothing could be measured meanwhile", b.took)
			}
			fmt.Printf("event → frame, ms     p50 %8.2f  p99 %8.2f  p99.9 %8.2f  alone\n", before.delay.at(50), before.delay.at(99), before.delay.at(99.9))
			fmt.Printf("                      p50 %8.2f  p99 %8.2f  p99.9 %8.2f  while the view is built\n", during.delay.at(50), during.delay.at(99), during.delay.at(99.9))
			fmt.Printf("ratio of the p99 %.2f; the view took %.1f s (%d ms by the server)\n", during.delay.at(99)/before.delay.at(99), b.took.Seconds(), b.ms)
			return nil
		default:
		}
		m, err := s.load(ctx, c, rate)
		if err != nil {
			return err
		}
		if len(done) == 0 || rounds == 0 {
			during.delay.h.Merge(m.delay.h)
		}
	}
}

// fill writes events as fast as the server takes them.
func (s *server) fill(ctx context.Context, c *config, events int) error {
	const rows, at = 500, 4
	g := run.New(ctx)
	all, kept := bodies(few, rows, anybody), client()
	work := make(chan int)
	for range at {
		g.Go("filler", func(context.Context) error {
			for i := range work {
				if _, _, status, err := s.post(kept, all[i&15]); err != nil || status != http.StatusOK {
					return fmt.Errorf("fill: status %d: %w", status, err)
				}
			}
			return nil
		})
	}
	for i := range events / rows {
		select {
		case work <- i:
		case <-g.Context().Done():
			close(work)
			return g.Wait()
		}
	}
	close(work)
	if err := g.Wait(); err != nil {
		return err
	}
	for _, x := range s.screens {
		x.reset()
	}
	return nil
}

// deploy changes the running app and returns how long the server says that it took, in ms.
func (s *server) deploy(ctx context.Context, sql string) (int64, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.admin+"/v1/deploy", bytes.NewReader([]byte(sql)))
	if err != nil {
		return 0, err
	}
	q.Header.Set("Content-Type", "application/sql")
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	lines, last := bufio.NewScanner(r.Body), ""
	for lines.Scan() {
		last = lines.Text()
	}
	var e struct {
		Plan *struct {
			Position string
			BuiltMS  int64 `json:"built_ms"`
		}
	}
	if err := json.Unmarshal([]byte(last), &e); err != nil || e.Plan == nil || e.Plan.Position == "" {
		return 0, fmt.Errorf("deploy: %s %.500s", r.Status, strings.TrimSpace(last))
	}
	return e.Plan.BuiltMS, nil
}
