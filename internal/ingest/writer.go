package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/check"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

// Log appends record batches to a shard: backbone.Shard.
type Log interface {
	// Append stamps, seals and appends what b collected and returns the batch once it is durable. One call at a time. The batch
	// aliases b.
	Append(ctx context.Context, b *change.Builder) (change.Batch, error)
}

// Batch is one appended batch on its way to the engine.
type Batch struct {
	change.Batch
	Received time.Time // when the oldest request in it arrived
	Logged   time.Time // when the log acknowledged it
	parts    []*part   // the writer's own entries, in order
	bytes    int
}

// part is one entry on its way: a request, or a part of one that spans batches.
type part struct {
	entry    change.Entry // owns its bytes
	received time.Time
	done     chan answer // capacity 1: the writer and the engine never wait for a client
	early    bool        // answer when logged, not when applied
}

// answer tells the request what became of its part, unless it was told before.
func (p *part) answer(a answer) {
	select {
	case p.done <- a:
	default:
	}
}

// answer is what became of a part.
type answer struct {
	seq     uint64
	outcome change.Outcome
	problem *wire.Problem
}

// Writer owns the open batch of a shard. While one append is in flight, arrivals collect into the next batch: no timer, no
// linger. Submit may be called from any goroutine; Run is the one writer loop.
type Writer struct {
	log     Log
	clock   run.Clock
	metrics *observe.Metrics
	out     chan *Batch
	limit   int           // bytes of parts that may wait for log and engine together
	wait    time.Duration // how long Submit waits for room
	wake    chan struct{} // capacity 1: there is something to write
	mu      struct {
		sync.Mutex
		open   []*part
		tick   bool          // an empty batch is wanted
		held   int           // bytes in open, in flight and with the engine
		room   chan struct{} // closed and renewed when bytes are freed and somebody waits
		closed *wire.Problem // why nothing is accepted any more
	}
}

// NewWriter returns a writer that hands each appended batch to out, in order. out's capacity bounds how far the engine may lag
// before appends wait for it.
func NewWriter(log Log, clock run.Clock, metrics *observe.Metrics, out chan *Batch, limit int, wait time.Duration) *Writer {
	return &Writer{log: log, clock: clock, metrics: metrics, out: out, limit: limit, wait: wait, wake: make(chan struct{}, 1)}
}

// Held returns the bytes of writes that wait for the log or the engine.
func (w *Writer) Held() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.held
}

// submit queues the parts of one request next to each other. It waits for room at most the writer's wait, then answers busy.
func (w *Writer) submit(ctx context.Context, parts []*part) *wire.Problem {
	size := 0
	for _, p := range parts {
		size += p.entry.Size()
	}
	var late <-chan time.Time
	for {
		room, problem := w.tryQueue(parts, size)
		if room == nil {
			return problem
		}
		if late == nil {
			late = w.clock.After(w.wait)
		}
		select {
		case <-room:
		case <-late:
			p := wire.NewProblem(wire.Busy, "the log is behind: writes that wait for it have reached their memory limit").
				WithHint("send again after the given time; raise limits.pending if this is a burst")
			p.RetryAfterMS = 1000
			return p
		case <-ctx.Done():
			return wire.NewProblem(wire.Busy, "the caller went away before there was room")
		}
	}
}

// tryQueue queues the parts, or returns a channel that closes when bytes are freed. A request larger than the whole limit is
// taken when nothing else is held.
func (w *Writer) tryQueue(parts []*part, size int) (room <-chan struct{}, problem *wire.Problem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed != nil {
		return nil, w.mu.closed
	}
	if w.mu.held > 0 && w.mu.held+size > w.limit {
		if w.mu.room == nil {
			w.mu.room = make(chan struct{})
		}
		return w.mu.room, nil
	}
	w.mu.held += size
	w.mu.open = append(w.mu.open, parts...)
	w.rouse()
	return nil, nil
}

func (w *Writer) release(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.held -= bytes
	w.callLocked()
}

// callLocked has everybody who waits for room look again.
func (w *Writer) callLocked() {
	if w.mu.room != nil {
		close(w.mu.room)
		w.mu.room = nil
	}
}

// Close refuses further writes with p; what is queued is still written, then Run returns.
func (w *Writer) Close(p *wire.Problem) {
	w.mu.Lock()
	if w.mu.closed == nil {
		w.mu.closed = p
	}
	w.callLocked()
	w.mu.Unlock()
	w.rouse()
}

// Abort refuses further writes with p and answers those that are queued with it; an append under way is finished. For when
// nobody can apply any more what the log takes.
func (w *Writer) Abort(p *wire.Problem) {
	w.mu.Lock()
	w.mu.closed = p
	parts := w.mu.open
	w.mu.open = nil
	bytes := 0
	for _, x := range parts {
		bytes += x.entry.Size()
	}
	w.mu.held -= bytes
	w.callLocked()
	w.mu.Unlock()
	for _, x := range parts {
		x.answer(answer{problem: p})
	}
	w.rouse()
}

// rouse makes the loop look at the queue.
func (w *Writer) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Define queues a definition document, in a batch of its own, and returns the batch's sequence once the engine has applied it.
func (w *Writer) Define(ctx context.Context, doc []byte) (uint64, *wire.Problem) {
	p := &part{entry: change.Entry{Kind: change.EntryDefinition, Last: true, Body: doc}, received: w.clock.Now(), done: make(chan answer, 1)}
	if problem := w.submit(ctx, []*part{p}); problem != nil {
		return 0, problem
	}
	a := <-p.done // it is in the queue: somebody answers
	return a.seq, a.problem
}

// Tick asks for an empty batch, so that the log's time moves on, unless something else is written anyway.
func (w *Writer) Tick() {
	w.mu.Lock()
	w.mu.tick = w.mu.closed == nil
	w.mu.Unlock()
	w.rouse()
}

// ticks reports whether an empty batch is wanted, and forgets it.
func (w *Writer) ticks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.mu.tick
	w.mu.tick = false
	return t
}

// take removes the parts of the next batch from the queue; closed says that there is nothing and never will be.
func (w *Writer) take() (parts []*part, bytes int, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for ; n < len(w.mu.open); n++ {
		size, alone := w.mu.open[n].entry.Size(), w.mu.open[n].entry.Kind == change.EntryDefinition
		if change.HeaderSize+bytes+size > change.MaxBatch || alone && n > 0 {
			break
		}
		bytes += size
		if alone {
			n++
			break
		}
	}
	parts = append(parts, w.mu.open[:n]...)
	rest := copy(w.mu.open, w.mu.open[n:])
	clear(w.mu.open[rest:])
	w.mu.open = w.mu.open[:rest]
	return parts, bytes, n == 0 && w.mu.closed != nil
}

// Run is the writer loop: one append at a time until Close or an error of the log. It closes out when it returns. After an
// error every write, queued or later, is answered with it: nothing is acknowledged that the log has not confirmed.
func (w *Writer) Run(ctx context.Context) error {
	defer close(w.out)
	var build change.Builder
	for {
		parts, bytes, closed := w.take()
		tick := w.ticks()
		switch {
		case closed:
			return nil
		case len(parts) == 0 && !tick:
			select {
			case <-w.wake:
			case <-ctx.Done():
				w.Close(wire.NewProblem(wire.Draining, "the server is shutting down"))
			}
			continue
		}
		build.Reset()
		for _, p := range parts {
			err := build.Add(&p.entry)
			check.That(err == nil, "an entry that the door let in does not fit its batch: %v", err)
		}
		// The append must end even when the server drains: its context is not the loop's.
		began := w.clock.Now()
		batch, err := w.log.Append(context.WithoutCancel(ctx), &build)
		if stopped := (*backbone.Stopped)(nil); errors.As(err, &stopped) {
			w.fail(parts, bytes, stopped)
			return err
		}
		if err != nil { // certainly not in the log, and the log goes on
			w.refuse(parts, bytes, err)
			continue
		}
		b := &Batch{Batch: batch.Clone(), Received: oldest(parts, began), Logged: w.clock.Now(), parts: parts, bytes: bytes}
		w.metrics.Appended(batch.Header().Records, len(batch.Raw()), b.Logged.Sub(began), b.Logged.Sub(b.Received))
		for _, p := range parts {
			if p.early {
				p.answer(answer{seq: b.Header().Seq, outcome: change.Outcome{Accepted: p.entry.Count}})
			}
		}
		w.out <- b
	}
}

// oldest returns when the first of parts arrived; a tick's batch arrives when it is made.
func oldest(parts []*part, made time.Time) time.Time {
	t := made
	for _, p := range parts {
		if p.received.Before(t) {
			t = p.received
		}
	}
	return t
}

// refuse answers parts that the log did not take.
func (w *Writer) refuse(parts []*part, bytes int, err error) {
	p := wire.NewProblem(wire.Busy, "the log did not take the write: "+err.Error()).WithHint("nothing of it was stored: send it again")
	p.RetryAfterMS = 1000
	for _, x := range parts {
		x.answer(answer{problem: p})
	}
	w.release(bytes)
}

// fail answers parts and everything queued with a problem and refuses the rest.
func (w *Writer) fail(parts []*part, bytes int, stopped *backbone.Stopped) {
	p := wire.NewProblem(wire.StorageDamaged, "the log did not confirm the write: "+stopped.Error()).
		WithHint("whether it is there is decided when the log is opened again: repeat it with the same ids or Idempotency-Key")
	if stopped.Reason == backbone.DiskFull {
		p = wire.NewProblem(wire.Busy, "the disk that holds the log is full; the write was not stored").WithHint(stopped.Remedy)
		p.RetryAfterMS = 10_000
	}
	for _, x := range parts {
		x.answer(answer{problem: p})
	}
	w.release(bytes)
	w.Abort(p)
}

// Abandon answers the requests of b, which the log has and the engine will not apply in this life, with p.
func (w *Writer) Abandon(b *Batch, p *wire.Problem) {
	for _, x := range b.parts {
		x.answer(answer{problem: p})
	}
	w.release(b.bytes)
}

// Complete answers the requests of b with the engine's outcomes, which are in the order of b's entries. The node's engine loop
// calls it once the views have the epoch.
func (w *Writer) Complete(b *Batch, outcomes []change.Outcome) {
	for i, p := range b.parts {
		if !p.early {
			p.answer(answer{seq: b.Header().Seq, outcome: outcomes[i]})
		}
	}
	w.release(b.bytes)
}
