package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/sql"
	"laaster/test/nexmark"
)

// flink is what Flink's published in-process run of the suite took, thousand events per second and core; 0: not published or not
// comparable.
func flink() [nexmark.Count]float64 {
	return [nexmark.Count]float64{0: 379, 3: 219, 4: 28, 5: 75, 7: 23, 8: 162, 9: 14, 11: 46, 15: 168, 16: 45, 17: 161, 18: 65, 19: 43, 20: 18}
}

// suite runs the Nexmark queries: each in this process, from the log's binary rows to changes encoded as JSON into a counting sink, and
// again as JSON requests through a server of its own, durably.
func suite(ctx context.Context, c *config) error {
	fmt.Printf("\nNexmark, 10,000 events per second of event time. In process: %d events behind %d to warm up, batches of 1,000 rows. "+
		"As JSON: %d events through a server of their own, requests of 500 rows, four at a time\n", c.events, c.events/10, c.served)
	fmt.Printf("%5s | %14s %10s %12s %12s %10s | %14s\n", "query", "in process", "× Flink", "changes", "JSON, MB", "state, MB", "as JSON")
	fmt.Printf("%5s | %14s %10s %12s %12s %10s | %14s\n", "", "events/cpu-s", "per core", "", "", "", "events/cpu-s")
	product, counted := 1.0, 0
	for q, theirs := range flink() {
		if c.query >= 0 && q != c.query {
			continue
		}
		p, found := sql.Compile("app.sql", []byte(nexmark.App(q)), nil)
		if p == nil {
			return fmt.Errorf("q%d: %s", q, found[0].Render())
		}
		debug.FreeOSMemory() // what the query before left is collected, and not paid for by this one
		r, err := nexmark.Measure(p, c.events/10, c.events, 1000)
		if err != nil {
			return fmt.Errorf("q%d: %w", q, err)
		}
		served := "–"
		if c.served > 0 {
			rate, err := throughServer(ctx, c, q)
			if err != nil {
				return fmt.Errorf("q%d through the server: %w", q, err)
			}
			served = strconv.FormatFloat(rate, 'f', 0, 64)
		}
		ratio := ""
		if theirs > 0 {
			x := r.PerSecond() / 1000 / theirs
			product, counted = product*x, counted+1
			ratio = strconv.FormatFloat(x, 'f', 1, 64)
		}
		fmt.Printf("%5s | %14.0f %10s %12d %12.1f %10.1f | %14s\n", fmt.Sprintf("q%d", q), r.PerSecond(), ratio, r.Changes, float64(r.Bytes)/1e6, float64(r.State)/1e6, served)
	}
	if counted > 1 {
		fmt.Printf("geometric mean over %d queries: %.1f times Flink's figure per core\n", counted, root(product, counted))
	}
	return nil
}

// root returns the n-th root of a positive number.
func root(x float64, n int) float64 {
	lo, hi := 0.0, max(x, 1)
	for range 100 {
		mid := (lo + hi) / 2
		y := 1.0
		for range n {
			y *= mid
		}
		if y < x {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// throughServer sends the events as JSON in requests of 500 rows, four at a time, and returns events per second of the server's processor
// time, all of it: reading, checking and logging the rows, the query, and what a view needs to be read. Nobody watches the view.
func throughServer(ctx context.Context, c *config, q int) (float64, error) {
	s, err := startServer(ctx, c, nexmark.App(q))
	if err != nil {
		return 0, err
	}
	defer s.stop()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: time.Minute}
	if q == 13 {
		for from := 0; from < nexmark.SideRows; from += 500 {
			var body bytes.Buffer
			for i := from; i < from+500; i++ {
				fmt.Fprintf(&body, "{\"key\":%d,\"value\":\"%d\"}\n", i, i)
			}
			if err := s.send(ctx, client, "side_input", body.Bytes(), 500); err != nil {
				return 0, err
			}
		}
	}
	type request struct {
		table string
		body  []byte
		rows  int
	}
	requests := make(chan request, 8)
	g := run.New(ctx)
	for range 4 {
		g.Go("sender", func(ctx context.Context) error {
			for r := range requests {
				if err := s.send(ctx, client, r.table, r.body, r.rows); err != nil {
					return err
				}
			}
			return nil
		})
	}
	before, err := s.cpuTime()
	if err != nil {
		return 0, err
	}
	gen := nexmark.New(nexmark.Options{Seed: 1})
	var ev nexmark.Event
	var open [3][]byte
	var rows [3]int
	put := func(k nexmark.Kind) bool {
		select {
		case requests <- request{k.String(), open[k], rows[k]}:
			open[k], rows[k] = nil, 0
			return true
		case <-g.Context().Done():
			return false
		}
	}
	sent := 0
	for n := range uint64(c.served) {
		gen.Event(n, &ev)
		sent++
		open[ev.Kind] = ev.AppendJSON(open[ev.Kind])
		if rows[ev.Kind]++; rows[ev.Kind] == 500 && !put(ev.Kind) {
			break
		}
	}
	for k := range open {
		if rows[k] > 0 {
			put(nexmark.Kind(k))
		}
	}
	close(requests)
	if err := g.Wait(); err != nil {
		return 0, err
	}
	after, err := s.cpuTime()
	return float64(sent) / (after - before).Seconds(), err
}

// send posts rows and holds the server to taking them all.
func (s *server) send(ctx context.Context, client *http.Client, table string, body []byte, rows int) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.public+"/v1/tables/"+table, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/x-ndjson")
	r, err := client.Do(q)
	if err != nil {
		return err
	}
	status := r.Status
	_, accepted, err := result(r)
	if err == nil && accepted != rows {
		err = fmt.Errorf("%s took %d of %d rows (%s)", table, accepted, rows, status)
	}
	return err
}
