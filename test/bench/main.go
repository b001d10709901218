// Command bench drives the whole path under an open-loop load and prints a table: HTTP POST → log → engine → views → frames on
// live WebSocket screens, with the real binary, beside a bare append loop on the same kind of log at the same rate.
//
// Requests are sent by a schedule that does not wait for answers (no coordinated omission): a delay counts from the moment at
// which the request was due until the frame that carries its position reached the screen. The server's processor time is read
// from the kernel and divided by the events accepted. Run it with make bench; -help lists the knobs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// config is the knobs.
type config struct {
	bin     string
	rates   []int
	rows    int
	screens int
	length  time.Duration
	idle    int
	sample  int
	profile string
	what    string
	events  int
	served  int
	query   int

	retained int
	keys     int
	bodies   [][]byte                      // nil: those of bodies
	inside   func(from, to time.Time) bool // of a request: its delay counts apart; nil: of none

	burst  time.Duration
	bursts int
	times  float64
	pairs  int
}

func main() {
	c, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch spec := os.Getenv(floodEnv); {
	case spec != "":
		err = beFlood(ctx, spec)
	case err == nil:
		err = bench(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*config, error) {
	c := &config{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	rates := f.String("rates", "1000,10000,50000,100000,150000,250000,500000", "events per second, comma-separated")
	f.StringVar(&c.bin, "bin", "bin/laaster", "the server's binary")
	f.IntVar(&c.rows, "rows", 500, "rows per request")
	f.IntVar(&c.screens, "screens", 100, "live WebSocket clients")
	f.IntVar(&c.sample, "sample", 10, "screens whose delays are counted; all of them receive everything")
	f.DurationVar(&c.length, "time", 10*time.Second, "length of each rate")
	f.IntVar(&c.idle, "idle", 500, "events sent one at a time to the idle server")
	f.StringVar(&c.profile, "profile", "", "write a processor profile of the server at the last rate to this file")
	f.StringVar(&c.what, "what", "path,nexmark", "what to measure, comma-separated: path (HTTP to screens), nexmark (the queries), backfill (a view added to a running app), start (after a stop, a kill, without a checkpoint), checkpoint (what screens notice of them)")
	f.IntVar(&c.retained, "retained", 5_000_000, "backfill, start: events in the log")
	f.IntVar(&c.keys, "keys", 1_400_000, "start, checkpoint: keys that the rows of the largest view are drawn from; three quarters of them come")
	f.IntVar(&c.events, "events", 1_000_000, "nexmark: events of each query in process")
	f.IntVar(&c.served, "served", 100_000, "nexmark: events of each query through the server; 0: none")
	f.IntVar(&c.query, "query", -1, "nexmark: this query alone")
	f.DurationVar(&c.burst, "burst", time.Minute, "overload: length of each burst")
	f.IntVar(&c.bursts, "bursts", 3, "overload: bursts")
	f.Float64Var(&c.times, "times", 10, "overload: how many times what the server takes is sent")
	f.IntVar(&c.pairs, "pairs", 5, "fair: interleaved pairs without and with a flood")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, r := range strings.Split(*rates, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(r))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-rates: %q is not a rate", r)
		}
		c.rates = append(c.rates, n)
	}
	return c, nil
}

func bench(ctx context.Context, c *config) error {
	if strings.Contains(c.what, "path") {
		if err := path(ctx, c); err != nil {
			return err
		}
	}
	if strings.Contains(c.what, "nexmark") {
		if err := suite(ctx, c); err != nil {
			return err
		}
	}
	if strings.Contains(c.what, "start") {
		if err := starts(ctx, c); err != nil {
			return err
		}
	}
	if strings.Contains(c.what, "checkpoint") {
		if err := checkpoints(ctx, c); err != nil {
			return err
		}
	}
	if strings.Contains(c.what, "backfill") {
		if err := backfill(ctx, c); err != nil {
			return err
		}
	}
	if strings.Contains(c.what, "overload") {
		if err := overload(ctx, c); err != nil {
			return err
		}
	}
	if strings.Contains(c.what, "fair") {
		return fair(ctx, c)
	}
	return nil
}

// path measures the way from a request to the screens.
func path(ctx context.Context, c *config) error {
	fmt.Printf("%d cores, Go %s; server, load and %d screens on this machine; requests of %d rows, %s each rate\n",
		runtime.NumCPU(), runtime.Version(), c.screens, c.rows, c.length)
	s, err := startServer(ctx, c, appSQL)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := idleLines(ctx, c, s); err != nil {
		return err
	}
	fmt.Printf("\n%10s %12s %9s | %28s | %9s %9s | %28s | %12s\n", "", "", "", "event → frame, ms", "server", "frames", "bare append, ms", "p99 over")
	fmt.Printf("%10s %12s %9s | %8s %9s %9s | %9s %9s | %8s %9s %9s | %12s\n", "rate/s", "accepted/s", "refused", "p50", "p99", "p99.9",
		"µs/event", "/s/screen", "p50", "p99", "p99.9", "bare, ms")
	for i, rate := range c.rates {
		stopProfile := func() {}
		if c.profile != "" && i == len(c.rates)-1 {
			stopProfile = s.profile(ctx, c)
		}
		m, err := s.load(ctx, c, rate)
		stopProfile()
		if err != nil {
			return fmt.Errorf("rate %d: %w", rate, err)
		}
		bare, err := bareAppend(ctx, c, rate)
		if err != nil {
			return fmt.Errorf("bare append at %d: %w", rate, err)
		}
		fmt.Printf("%10d %12.0f %9d | %8.2f %9.2f %9.2f | %9.2f %9.1f | %8.2f %9.2f %9.2f | %12.2f\n", rate, m.accepted, m.refused,
			m.delay.at(50), m.delay.at(99), m.delay.at(99.9), m.cpu, m.frames, bare.at(50), bare.at(99), bare.at(99.9), m.delay.at(99)-bare.at(99))
	}
	return nil
}

// idleLines sends events one at a time to the idle server, with one screen and with all, and prints how long they took to the first
// screen. It leaves all screens open.
func idleLines(ctx context.Context, c *config, s *server) error {
	for _, n := range []int{1, c.screens} {
		if err := s.openScreens(n); err != nil {
			return err
		}
		rss, cpu, err := s.atRest(ctx)
		if err != nil {
			return err
		}
		d, err := s.oneByOne(ctx, c)
		if err != nil {
			return err
		}
		fmt.Printf("idle, %3d screens: %.1f MB resident, %.2f %% of a core; one event at a time: POST → frame p50 %.2f ms, p99 %.2f ms (%d events, durable)\n",
			n, rss, cpu, d.at(50), d.at(99), c.idle)
	}
	return nil
}
