package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"laaster/internal/kit/run"
)

// caller is one principal that sends: from an address of its own, on so many connections, by a schedule that does not wait for answers.
type caller struct {
	from     string   // a loopback address
	lanes    int      // connections; requests follow each other on each without a wait for answers
	rate     float64  // requests a second on all of them together, at random times
	requests [][]byte // whole requests, ready to be sent
	rows     int      // of each
}

// prepare makes whole requests of bodies.
func prepare(host string, rows int) [][]byte {
	var out [][]byte
	for _, b := range bodies(few, rows, anybody) {
		head := fmt.Sprintf("POST /v1/tables/votes HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", host, len(b))
		out = append(out, append([]byte(head), b...))
	}
	return out
}

// answered is one answer: when its request was due, how long after that it was there, and how late it was sent.
type answered struct{ due, took, late time.Duration }

// tally is what a caller was told.
type tally struct {
	accepted []answered
	refused  map[int]int     // by status
	retries  []time.Duration // that the refused were told
	without  int             // refused without being told when to come back
	cut      int             // connections that ended
	sent     int
	unsent   int // due, and never sent since the server had not read what was sent before
}

func (t *tally) add(o *tally) {
	t.accepted = append(t.accepted, o.accepted...)
	t.retries = append(t.retries, o.retries...)
	for status, n := range o.refused {
		if t.refused == nil {
			t.refused = map[int]int{}
		}
		t.refused[status] += n
	}
	t.without += o.without
	t.cut += o.cut
	t.sent += o.sent
	t.unsent += o.unsent
}

func (t *tally) turnedAway() (n int) {
	for _, x := range t.refused {
		n += x
	}
	return n
}

// percentile returns a percentile of f over the answers, in milliseconds.
func percentile(all []answered, p float64, f func(answered) time.Duration) float64 {
	d := make([]time.Duration, len(all))
	for i, a := range all {
		d[i] = f(a)
	}
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[min(len(d)-1, int(float64(len(d))*p/100))].Microseconds()) / 1000
}

func took(a answered) time.Duration { return a.took }
func late(a answered) time.Duration { return a.late }

// drive has the callers send for so long and returns what each was told.
func (s *server) drive(ctx context.Context, long time.Duration, callers ...*caller) ([]tally, error) {
	out := make([]tally, len(callers))
	var mu sync.Mutex
	g := run.New(ctx)
	start := s.clock.Now().Add(50 * time.Millisecond)
	for i, c := range callers {
		for n := range c.lanes {
			g.Go("lane", func(ctx context.Context) error {
				t, err := s.lane(ctx, c, uint64(i*10_000+n), start, long)
				mu.Lock()
				defer mu.Unlock()
				out[i].add(t)
				return err
			})
		}
	}
	return out, g.Wait()
}

// lane sends on one connection after the other until the time is over and everything is answered.
func (s *server) lane(ctx context.Context, c *caller, seed uint64, start time.Time, long time.Duration) (*tally, error) {
	rng, t := rand.New(rand.NewPCG(seed, 9)), &tally{refused: map[int]int{}}
	gap := func() time.Duration {
		return time.Duration(rng.ExpFloat64() * float64(c.lanes) / c.rate * float64(time.Second))
	}
	dial := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
	for due := gap(); due < long; {
		conn, err := dial.DialContext(ctx, "tcp", s.public)
		if err != nil {
			return t, err
		}
		sent := make(chan answered, 4096) // many more than a server that answers leaves open
		g := run.New(ctx)
		g.Go("answers", func(context.Context) error { return s.answers(conn, t, sent, start) })
		for ; due < long; due += gap() {
			if wait := start.Add(due).Sub(s.clock.Now()); wait > 0 {
				<-s.clock.After(wait)
			}
			a := answered{due: due, late: s.clock.Now().Sub(start) - due}
			if due+a.late > long+time.Second {
				t.unsent++
				continue
			}
			t.sent++
			sent <- a
			if _, err = conn.Write(c.requests[rng.IntN(len(c.requests))]); err != nil || g.Err() != nil {
				due += gap()
				break
			}
		}
		close(sent)
		err = g.Wait()
		_ = conn.Close()
		if errors.Is(err, errCut) {
			t.cut++
		} else if err != nil {
			return t, err
		}
	}
	return t, nil
}

var errCut = errors.New("the server ended the connection")

// answers reads the answer to each request that was sent.
func (s *server) answers(conn net.Conn, t *tally, sent <-chan answered, start time.Time) error {
	r := bufio.NewReaderSize(conn, 4<<10)
	var body []byte
	for a := range sent {
		_ = conn.SetReadDeadline(s.clock.Now().Add(time.Minute))
		status, length, closing, err := readHead(r)
		if err == nil {
			body = slices.Grow(body[:0], length)[:length]
			_, err = io.ReadFull(r, body)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("a request had no answer for a minute")
		case err != nil:
			_ = conn.Close()
			return errCut
		case status == 200:
			a.took = s.clock.Now().Sub(start) - a.due
			t.accepted = append(t.accepted, a)
		default:
			t.refused[status]++
			if ms := retryAfter(body); ms > 0 {
				t.retries = append(t.retries, ms)
			} else {
				t.without++
			}
		}
		if closing {
			_ = conn.Close()
			return errCut
		}
	}
	return nil
}

// readHead reads the head of an answer.
func readHead(r *bufio.Reader) (status, length int, closing bool, err error) {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch name, value, _ := strings.Cut(string(line), ": "); {
		case first && len(line) >= 12:
			status, err = strconv.Atoi(string(line[9:12]))
		case len(line) == 0:
			return status, length, closing, nil
		case name == "Content-Length":
			length, err = strconv.Atoi(value)
		case name == "Connection":
			closing = value == "close"
		case name == "Transfer-Encoding":
			err = errors.New("an answer in chunks")
		}
		if err != nil {
			return 0, 0, false, err
		}
	}
}

// retryAfter reads retry_after_ms of a problem.
func retryAfter(body []byte) time.Duration {
	_, rest, ok := bytes.Cut(body, []byte(`"retry_after_ms":`))
	if !ok {
		return 0
	}
	n := 0
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return time.Duration(n) * time.Millisecond
}
