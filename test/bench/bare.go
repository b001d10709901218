package main

import (
	"context"
	"os"
	"sync"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/jetstream"
	"laaster/internal/change"
	"laaster/internal/kit/run"
)

// rowBytes is what one vote of the load takes in the log.
const rowBytes = 130

// bareAppend appends entries of the same size at the same rate to the same kind of log in this process, batching as the
// server does, with nothing before and nothing behind: the floor that the whole path stands on. A delay counts from the
// moment at which an entry was due until its batch was durable.
func bareAppend(ctx context.Context, c *config, rate int) (*delays, error) {
	dir, err := os.MkdirTemp("", "laaster-bare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	driver, err := jetstream.Open(ctx, jetstream.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	clock := run.System{}
	shard, err := backbone.Open(ctx, backbone.Options{Driver: driver, Dir: dir, Clock: clock})
	if err != nil {
		return nil, err
	}
	q := &queue{wake: make(chan struct{}, 1)}
	d := newDelays()
	g := run.New(ctx)
	every := time.Duration(float64(time.Second) * float64(c.rows) / float64(rate))
	total := max(1, int(c.length/every))
	g.Go("schedule", func(ctx context.Context) error {
		defer q.close()
		start := clock.Now().Add(10 * time.Millisecond)
		for i := range total {
			t := start.Add(time.Duration(i) * every)
			if wait := t.Sub(clock.Now()); wait > 0 {
				select {
				case <-clock.After(wait):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			q.put(t)
		}
		return nil
	})
	g.Go("append", func(ctx context.Context) error { return q.append(ctx, c, shard, clock, d) })
	err = g.Wait()
	if closeErr := shard.Close(); err == nil {
		err = closeErr
	}
	return d, err
}

// queue collects what is due while an append is under way.
type queue struct {
	mu     sync.Mutex
	due    []time.Time
	closed bool
	wake   chan struct{} // capacity 1
}

func (q *queue) put(t time.Time) {
	q.mu.Lock()
	q.due = append(q.due, t)
	q.mu.Unlock()
	q.signal()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// append is the loop: everything due goes into the next batch, as far as it fits.
func (q *queue) append(ctx context.Context, c *config, shard *backbone.Shard, clock run.Clock, d *delays) error {
	entry := change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Count: uint32(c.rows)}
	for range c.rows {
		entry.Body = change.AppendRecord(entry.Body, change.OpInsert, &change.Record{ServerID: true, Row: make(change.Row, rowBytes)})
	}
	var b change.Builder
	for {
		q.mu.Lock()
		n := min(len(q.due), (change.MaxBatch-change.HeaderSize)/entry.Size())
		batch := append([]time.Time(nil), q.due[:n]...)
		q.due = append(q.due[:0], q.due[n:]...)
		closed := q.closed
		q.mu.Unlock()
		if n == 0 {
			if closed {
				return nil
			}
			select {
			case <-q.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		b.Reset()
		for range n {
			if err := b.Add(&entry); err != nil {
				return err
			}
		}
		if _, err := shard.Append(ctx, &b); err != nil {
			return err
		}
		now := clock.Now()
		for _, t := range batch {
			d.add(now.Sub(t))
		}
	}
}
