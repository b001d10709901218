package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sort"
	"sync"
	"time"

	"laaster/internal/kit/run"
)

// senders bounds the requests under way: far more than a server that keeps up ever has.
const senders = 64

// measure is what one rate showed.
type measure struct {
	accepted float64 // per second
	refused  int     // requests answered with an error
	delay    *delays
	cpu      float64 // server µs per accepted event
	frames   float64 // per second and screen
	inside   *delays // those of the requests that were under way while something else was; see config.inside
}

// placed is one request: when it was due, and where its rows are.
type placed struct {
	due time.Time
	seq uint64
}

// few is how many different requests are enough where it does not matter who votes.
const (
	few     = 16
	anybody = 1e9 // voters
)

// bodies returns count requests of so many rows, of so many voters, different enough that nothing can be learned by heart.
func bodies(count, rows, voters int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([][]byte, count)
	for i := range out {
		b := []byte{'['}
		for r := range rows {
			if r > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, `{"contestant":"C%02d","voter":"phone-%09d","points":%d,"note":"%032x%032x"}`,
				rng.IntN(26), rng.IntN(voters), rng.IntN(12)+1, rng.Uint64(), rng.Uint64())
		}
		out[i] = append(b, ']')
	}
	return out
}

func client() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders, MaxConnsPerHost: senders, DisableCompression: true}}
}

// load sends requests by the schedule of rate and follows them to the screens.
func (s *server) load(ctx context.Context, c *config, rate int) (*measure, error) {
	return s.loadUntil(ctx, c, rate, func() error { return nil })
}

// loadUntil is load, and calls sent when the last request was answered, before the delays are counted.
func (s *server) loadUntil(ctx context.Context, c *config, rate int, sent func() error) (*measure, error) {
	every := time.Duration(float64(time.Second) * float64(c.rows) / float64(rate))
	total := max(1, int(c.length/every))
	for _, x := range s.screens {
		x.reset()
	}
	cpu, err := s.cpuTime()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var done []placed
	accepted, refused := 0, 0
	start := s.clock.Now().Add(10 * time.Millisecond)
	due := make(chan time.Time, total) // the schedule never waits for the server
	g := run.New(ctx)
	all, kept := c.bodies, client()
	if all == nil {
		all = bodies(few, c.rows, anybody)
	}
	for w := range min(senders, total) {
		g.Go("sender", func(context.Context) error {
			for t := range due {
				seq, n, status, err := s.post(kept, all[(w+int(t.UnixNano()))&(len(all)-1)])
				if err != nil {
					return err
				}
				mu.Lock()
				if status == 200 {
					accepted += n
					done = append(done, placed{t, seq})
				} else {
					refused++
				}
				mu.Unlock()
			}
			return nil
		})
	}
	g.Go("schedule", func(ctx context.Context) error {
		defer close(due)
		for i := range total {
			t := start.Add(time.Duration(i) * every)
			if wait := t.Sub(s.clock.Now()); wait > 0 {
				select {
				case <-s.clock.After(wait):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			due <- t
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	took := s.clock.Now().Sub(start)
	after, err := s.cpuTime()
	if err != nil {
		return nil, err
	}
	m := &measure{accepted: float64(accepted) / took.Seconds(), refused: refused, delay: newDelays(), inside: newDelays()}
	if err := sent(); err != nil {
		return nil, err
	}
	m.cpu = float64((after - cpu).Microseconds()) / float64(max(accepted, 1))
	return m, s.follow(ctx, c, done, m, took)
}

// follow finds, for each request and sampled screen, the frame that carried it.
func (s *server) follow(ctx context.Context, c *config, done []placed, m *measure, took time.Duration) error {
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	last := uint64(0)
	for _, d := range done {
		last = max(last, d.seq)
	}
	frames := 0
	for i, x := range s.screens {
		if last > 0 {
			if _, err := x.await(limit, last); err != nil {
				return fmt.Errorf("screen %d never showed position %d: %w", i, last, err)
			}
		}
		x.mu.Lock()
		if i < c.sample {
			for _, d := range done {
				k := sort.Search(len(x.seen), func(k int) bool { return x.seen[k].seq >= d.seq })
				shown := x.seen[k].at
				if c.inside != nil && c.inside(d.due, shown) {
					m.inside.add(shown.Sub(d.due))
					continue
				}
				m.delay.add(shown.Sub(d.due))
			}
		}
		x.mu.Unlock()
		frames += x.reset()
	}
	m.frames = float64(frames) / took.Seconds() / float64(len(s.screens))
	return nil
}

// oneByOne sends single events, each after the one before is on the screen, on one plain connection: the client's own machinery must
// not be what is measured.
func (s *server) oneByOne(ctx context.Context, c *config) (*delays, error) {
	conn, err := net.Dial("tcp", s.public)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	body := `{"contestant":"C07","voter":"one","points":1}`
	request := []byte(fmt.Sprintf("POST /v1/tables/votes HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		s.public, len(body), body))
	answers, d := bufio.NewReader(conn), newDelays()
	for i := range c.idle {
		began := s.clock.Now()
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			return nil, err
		}
		seq, _, err := result(r)
		if err != nil || r.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("event %d: status %d: %w", i, r.StatusCode, err)
		}
		limit, cancel := context.WithTimeout(ctx, 5*time.Second)
		at, err := s.screens[0].await(limit, seq)
		cancel()
		if err != nil {
			return nil, err
		}
		d.add(at.Sub(began))
		<-s.clock.After(2 * time.Millisecond * time.Duration(rand.IntN(10)+5)) // quiet again: no merging with the one before
	}
	return d, nil
}
