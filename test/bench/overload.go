package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"laaster/internal/kit/run"
)

// busySQL is the app under overload: the votes of appSQL with checks and a dozen more views, so that a row costs about as much as in an app of some
// size. (To refuse a request costs some 30 to 50 µs, most of it for the system to take its bytes off the socket; with views that cost next to
// nothing, ten times what the server takes would keep a processor busy with refusals alone, and the load's network with them.)
func busySQL() string {
	sql := strings.Replace(appSQL, "note       text,", "note       text CHECK (note ~ '^[0-9a-f]*$'),", 1)
	for i := range 12 {
		sql += fmt.Sprintf(`CREATE MATERIALIZED VIEW busy_%d AS SELECT contestant, points %% %d AS rest, count(*) AS n, sum(points) AS points, avg(length(voter)) AS long,
  count(*) FILTER (WHERE voter LIKE '%%%d') AS lucky FROM votes WHERE lower(contestant) <> 'c%02d' GROUP BY 1, 2;
GRANT SELECT ON busy_%d TO anon;
`, i, 2+i, i%10, i, i)
	}
	return sql
}

// ownCPU returns the processor time that this process has used: the load's.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory returns a line of the server's /proc status in MB: VmRSS, VmHWM.
func (s *server) memory(name string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte(name+":"))
	if f := bytes.Fields(rest); len(f) > 0 {
		kb, _ := strconv.ParseFloat(string(f[0]), 64)
		return kb / 1000
	}
	return 0
}

// capacity returns how many requests a second the server takes from clients that wait for their answers.
func (s *server) capacity(ctx context.Context, c *config) (float64, error) {
	all, kept := bodies(few, c.rows, anybody), client()
	defer kept.CloseIdleConnections()
	var n atomic.Int64
	g := run.New(ctx)
	end := s.clock.Now().Add(c.length)
	for w := range 16 {
		g.Go("client", func(context.Context) error {
			for i := w; s.clock.Now().Before(end); i++ {
				_, _, status, err := s.post(kept, all[i&15])
				if err != nil {
					return err
				}
				if status == 200 {
					n.Add(1)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return float64(n.Load()) / c.length.Seconds(), err
}

// phase drives callers and reports how long it took until all was answered, the processor time of both sides and the largest resident memory of the server.
func (s *server) phase(ctx context.Context, long time.Duration, callers ...*caller) (out []tally, took time.Duration, cpu, own, rss float64, err error) {
	before, err := s.cpuTime()
	if err != nil {
		return nil, 0, 0, 0, 0, err
	}
	mine := ownCPU()
	watch := run.New(ctx)
	var peak atomic.Uint64
	watch.Go("memory", func(ctx context.Context) error {
		for {
			peak.Store(max(peak.Load(), uint64(s.memory("VmRSS"))))
			select {
			case <-ctx.Done():
				return nil
			case <-s.clock.After(100 * time.Millisecond):
			}
		}
	})
	began := s.clock.Now()
	out, err = s.drive(ctx, long, callers...)
	long = s.clock.Now().Sub(began) // what a flood left in the sockets is answered, too
	watch.Stop()
	_ = watch.Wait()
	after, cerr := s.cpuTime()
	if err == nil {
		err = cerr
	}
	return out, long, (after - before).Seconds() / long.Seconds(), (ownCPU() - mine).Seconds() / long.Seconds(), float64(peak.Load()), err
}

// overload measures bursts of ten times what the server takes.
func overload(ctx context.Context, c *config) error {
	s, err := startServer(ctx, c, busySQL())
	if err != nil {
		return err
	}
	defer s.stop()
	most, err := s.capacity(ctx, c)
	if err != nil {
		return err
	}
	fmt.Printf("overload: requests of %d rows; the server takes %.0f requests/s (%.0f rows/s) from 16 clients that wait\n", c.rows, most, most*float64(c.rows))
	requests := prepare(s.public, c.rows)
	usual := &caller{from: "127.0.0.1", lanes: 64, rate: most / 2, requests: requests, rows: c.rows}
	flood := &caller{from: "127.0.0.1", lanes: 256, rate: most * c.times, requests: requests, rows: c.rows}
	fmt.Printf("%8s %8s | %9s %9s | %9s %9s %9s | %8s %8s %8s | %22s | %9s %9s | %7s\n", "", "offered", "accepted", "refused", "p50 ms", "p99 ms", "late p99",
		"busy", "limited", "other", "retry p1 … p50 … p99", "server", "load", "MB")
	fmt.Printf("%8s %8s | %9s %9s | %9s %9s %9s | %8s %8s %8s | %22s | %9s %9s | %7s\n", "", "/s", "/s", "/s", "", "", "", "503", "429", "", "s", "cores", "cores", "peak")
	line := func(name string, long time.Duration, by *caller) (*tally, error) {
		out, long, cpu, own, rss, err := s.phase(ctx, long, by)
		if err != nil {
			return nil, err
		}
		t, secs := &out[0], long.Seconds()
		slices.Sort(t.retries)
		fmt.Printf("%8s %8.0f | %9.0f %9.0f | %9.2f %9.2f %9.2f | %8d %8d %8d | %22s | %9.2f %9.2f | %7.0f\n", name, float64(t.sent)/secs, float64(len(t.accepted))/secs,
			float64(t.turnedAway())/secs, percentile(t.accepted, 50, took), percentile(t.accepted, 99, took), percentile(t.accepted, 99, late),
			t.refused[503], t.refused[429], t.turnedAway()-t.refused[503]-t.refused[429]+t.without+t.cut+t.unsent, spread(t.retries), cpu, own, rss)
		return t, nil
	}
	normal, err := line("normal", c.burst, usual)
	if err != nil {
		return err
	}
	p99 := percentile(normal.accepted, 99, took)
	for i := range c.bursts {
		burst, err := line("burst "+strconv.Itoa(i+1), c.burst, flood)
		if err != nil {
			return err
		}
		after, err := line("after", 15*time.Second, usual)
		if err != nil {
			return err
		}
		fmt.Printf("         accepted p99 %.2f times normal; normal again after %s\n", percentile(burst.accepted, 99, took)/p99, settled(after, p99, 15*time.Second))
	}
	fmt.Printf("largest resident memory of the server (VmHWM): %.0f MB\n", s.memory("VmHWM"))
	return nil
}

// settled returns after how long no second had a p99 of more than one and a half times the normal one.
func settled(t *tally, normal float64, long time.Duration) time.Duration {
	end := time.Duration(0)
	for at := time.Duration(0); at < long; at += time.Second {
		var in []answered
		for _, a := range t.accepted {
			if a.due >= at && a.due < at+time.Second {
				in = append(in, a)
			}
		}
		if len(in) == 0 || percentile(in, 99, took) > 1.5*normal {
			end = at + time.Second
		}
	}
	return end
}

func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	at := func(p int) float64 { return d[min(len(d)-1, len(d)*p/100)].Seconds() }
	return fmt.Sprintf("%.1f … %.1f … %.1f", at(1), at(50), at(99))
}

// fair measures what four modest callers notice of a fifth that sends fifty times its share.
func fair(ctx context.Context, c *config) error {
	s, err := startServer(ctx, c, busySQL())
	if err != nil {
		return err
	}
	defer s.stop()
	most, err := s.capacity(ctx, c)
	if err != nil {
		return err
	}
	const rows, many = 20, 100
	perSecond := most * float64(c.rows)
	var callers []*caller
	for i := range 4 {
		callers = append(callers, &caller{from: fmt.Sprintf("127.0.0.%d", 3+i), lanes: 8, rate: 50, requests: prepare(s.public, rows), rows: rows})
	}
	flood := floodSpec{Public: s.public, From: "127.0.0.2", Lanes: 256, Rate: 50 * perSecond / 5 / many, Rows: many, Long: c.length}
	fmt.Printf("fair: the server takes %.0f rows/s; four callers send 50 requests/s of %d rows each, the fifth %.0f requests/s of %d: 50 times a fifth of what the server takes\n",
		perSecond, rows, flood.Rate, many)
	fmt.Printf("%5s | %19s | %19s | %6s | %21s | %21s\n", "pair", "without: p50, p99 ms", "with: p50, p99 ms", "ratio", "refused of the others", "the flood: accepted/s, refused/s, not read/s")
	var ratios []float64
	for i := range c.pairs {
		without, _, _, _, _, err := s.phase(ctx, c.length, callers...)
		if err != nil {
			return err
		}
		beast, err := startFlood(ctx, flood)
		if err != nil {
			return err
		}
		with, _, cpu, own, rss, err := s.phase(ctx, c.length, callers...)
		told, oops := beast.end()
		if err = errors.Join(err, oops); err != nil {
			return err
		}
		var alone, beside tally
		for k := range callers {
			alone.add(&without[k])
			beside.add(&with[k])
		}
		a, b := percentile(alone.accepted, 99, took), percentile(beside.accepted, 99, took)
		ratios = append(ratios, b/a)
		fmt.Printf("%5d | %8.2f %10.2f | %8.2f %10.2f | %6.2f | %21d | %.0f, %.0f, %.0f (server %.2f cores, load %.2f, %.0f MB)\n", i+1, percentile(alone.accepted, 50, took), a,
			percentile(beside.accepted, 50, took), b, b/a, beside.turnedAway()+alone.turnedAway(), told.Accepted/told.Seconds, told.Refused/told.Seconds, told.Unsent/told.Seconds, cpu, own, rss)
	}
	slices.Sort(ratios)
	fmt.Printf("median of the ratios: %.2f\n", ratios[len(ratios)/2])
	return nil
}
