package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/kit/run"
)

// What became of a request, in place of the sequence of its answer.
const (
	unanswered = 0
	refused    = ^uint64(0)
)

// drive sends requests by a schedule on a few connections, each with one request under way. What is due while its connection still
// waits goes out late, and its delay says so.
type drive struct {
	server
	way, table, parameters string
	conns                  int
	clock                  run.Clock
	start                  time.Time                    // what times are counted from
	lead                   atomic.Int64                 // when the schedule begins, ns since start
	schedule               Schedule                     // nil: as fast as answers come, for length
	length                 time.Duration                // without a schedule
	body                   func(b []byte, i int) []byte // of request i
	answers                []atomic.Uint64              // by request: the sequence at which it is in, unanswered, or refused
	dues                   []atomic.Int64               // without a schedule: when request i mod len left, ns since start
	warm                   time.Duration                // delays of what is due before that are not counted
	delays                 *Delays

	begun, sent, refusals atomic.Int64  // requests that left, that were answered, that were refused
	accepted              atomic.Int64  // rows
	late                  atomic.Int64  // requests that left more than a millisecond after they were due
	last                  atomic.Uint64 // the newest sequence of an answer
	over                  atomic.Bool   // no further request leaves

	mu struct {
		sync.Mutex
		errs []string
	}
}

// due returns when request i was due, since the start.
func (d *drive) due(i int) time.Duration {
	if d.schedule != nil {
		return time.Duration(d.lead.Load()) + d.schedule[i]
	}
	return time.Duration(d.dues[i%len(d.dues)].Load())
}

// count returns how many requests there may be.
func (d *drive) count() int { return len(d.answers) }

// answer returns what became of request i.
func (d *drive) answer(i int) uint64 {
	if i >= len(d.answers) {
		return unanswered
	}
	return d.answers[i].Load()
}

// interrupted says whether requests were sent whose answers did not come.
func (d *drive) interrupted() bool { return d.begun.Load() > d.sent.Load() }

// run sends everything and returns when all is answered, or the context ends, which is no error.
func (d *drive) run(ctx context.Context) error {
	g := run.New(ctx)
	for c := range d.conns {
		g.Go("load sender", func(ctx context.Context) error { return d.send(ctx, c) })
	}
	return g.Wait()
}

// send is one connection's share: every conns-th request, from c on.
func (d *drive) send(ctx context.Context, c int) error {
	var out outlet
	stop := func() bool { return true }
	drop := func() {
		if out != nil {
			stop()
			out.close()
			out = nil
		}
	}
	defer func() { drop() }()
	var body []byte
	for i := c; d.more(i); i += d.conns {
		var due time.Duration
		if d.schedule != nil {
			due = d.due(i)
			if !until(ctx, d.clock, d.start.Add(due)) || d.over.Load() {
				return nil
			}
		} else if due = d.clock.Now().Sub(d.start); due > time.Duration(d.lead.Load())+d.length || ctx.Err() != nil {
			return nil
		} else {
			d.dues[i%len(d.dues)].Store(int64(due))
		}
		if now := d.clock.Now().Sub(d.start); now-due > time.Millisecond {
			d.late.Add(1)
		}
		body = d.body(body[:0], i)
		var a answer
		var err error
		if out == nil {
			if out, err = newOutlet(ctx, d.way, d.server); err != nil {
				return err
			}
			conn := out
			stop = context.AfterFunc(ctx, conn.close) // an answer that never comes must not keep us
		}
		d.begun.Add(1)
		if a, err = out.write(d.table, d.parameters, body); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			d.failed(fmt.Sprintf("request %d: %v", i, err)) // whether it took effect is not known
			drop()
			continue
		}
		d.answered(i, a)
		now := d.clock.Now().Sub(d.start)
		if due-time.Duration(d.lead.Load()) >= d.warm {
			d.delays.Add(now - due)
		}
	}
	return nil
}

func (d *drive) more(i int) bool {
	if d.over.Load() {
		return false
	}
	if d.schedule != nil {
		return i < len(d.schedule)
	}
	return d.answers == nil || i < len(d.answers)
}

func (d *drive) answered(i int, a answer) {
	d.sent.Add(1)
	seq := a.seq
	if a.status != http.StatusOK {
		seq = refused
		d.refusals.Add(1)
		d.failed(fmt.Sprintf("request %d: status %d: %s", i, a.status, a.text))
	}
	d.accepted.Add(int64(a.accepted))
	for seq != refused {
		if last := d.last.Load(); last >= seq || d.last.CompareAndSwap(last, seq) {
			break
		}
	}
	if d.answers != nil {
		d.answers[i].Store(seq)
	}
}

func (d *drive) failed(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.mu.errs) < 5 {
		d.mu.errs = append(d.mu.errs, what)
	}
}

func (d *drive) errors() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.mu.errs...)
}

// settle writes what is there before the load: bodies, one after the other.
func settle(ctx context.Context, to server, table, parameters string, bodies ...[]byte) (seq uint64, err error) {
	out, err := newHTTPOutlet(ctx, to)
	if err != nil {
		return 0, err
	}
	defer out.close()
	for _, b := range bodies {
		a, err := out.write(table, parameters, b)
		if err != nil {
			return 0, err
		}
		if a.status == http.StatusNotFound {
			return 0, fmt.Errorf("the server has no table %s: its app must have the tables of this profile, which --print-app prints (%s)", table, a.text)
		}
		if a.status != http.StatusOK {
			return 0, fmt.Errorf("the first rows of %s were refused with status %d: %s", table, a.status, a.text)
		}
		seq = a.seq
	}
	if seq == 0 {
		return 0, errors.New("there is nothing to write")
	}
	return seq, nil
}
