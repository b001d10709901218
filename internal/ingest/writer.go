package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"laaster/app"
	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/check"
	"laaster/internal/kit/fault"
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
	parts    []*part   // one for each entry, in order; none for a batch that nobody of this life waits for
	ahead    bool      // counted in Writer.mu.ahead
}

// part is one entry on its way: a request, or a part of one that spans batches.
type part struct {
	entry    change.Entry // owns its bytes
	received time.Time
	done     chan answer // capacity 1: the writer and the engine never wait for a client
	early    bool        // answer when logged, not when applied
	of       *sender     // whose room it takes until it is answered for good; nil: the server's own, or given back
	cost     int         // of that room
	since    time.Time   // when the write was let in
	logged   bool        // it is with the engine
	event    bool        // it is a CloudEvent, whose repeat is a duplicate
	row      int         // index of the event in its request
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

// controlBytes bounds what waits of the server's own entries: definitions, records of the audit trail.
const controlBytes = 4 << 20

// mostAhead is how many batches the log may have that the engine has not applied, before another one is taken: one that it works at and one that it
// finds when that is done. What comes meanwhile makes the next batch larger, which costs less than one more, and takes its turn later, when it is known who else is there.
const mostAhead = 2

// mostNotes bounds the notes that wait for a batch; beyond it the oldest goes.
const mostNotes = 16

// Writer owns the open batch of a shard. While one append is in flight, arrivals collect into the next batch: no timer, no
// linger. What waits is queued by the principal that sent it, and a batch is filled in turns; see [turns]. How much may be under way at
// once, and for whom, is the business of [gate]. Safe for concurrent use; Run is the one writer loop.
type Writer struct {
	// Reopen takes a log that stopped for want of space, or because an append was not answered, back to work, and returns the batch that
	// was under way if the log has it: backbone.Shard.Reopen. It is called again and again until it succeeds, and only by Run. An error that is
	// a *backbone.Stopped for another reason is final. Set before Run; nil: the first such end is final.
	Reopen func(ctx context.Context) (found []change.Batch, err error)

	log     Log
	clock   run.Clock
	metrics *observe.Metrics
	meters  *meters
	out     chan *Batch
	limit   int           // bytes of writes that may wait for log and engine together
	wait    time.Duration // how long a write waits for room
	wake    chan struct{} // capacity 1: there is something to write
	mu      struct {
		sync.Mutex
		queue   turns
		control []*part // the server's own entries: before all others, in order
		own     int     // bytes of control
		notes   []*part // go to the front of the next batch that is written anyway
		tick    bool    // an empty batch is wanted
		ahead   int     // batches that the engine has not answered
		gate    gate
		closed  *wire.Problem // why nothing is accepted any more
		paused  *wire.Problem // why nothing is accepted now: by Pause
		stalled *wire.Problem // the same: the log is being reopened
	}
}

// NewWriter returns a writer that hands each appended batch to out, in order; the engine answers each with Complete or Abandon. limit is the bytes of writes that may wait for log and engine together, wait how long a write waits for room.
func NewWriter(log Log, clock run.Clock, metrics *observe.Metrics, out chan *Batch, limit int, wait time.Duration) *Writer {
	w := &Writer{log: log, clock: clock, metrics: metrics, meters: newMeters(metrics), out: out, limit: limit, wait: wait,
		wake: make(chan struct{}, 1)}
	w.mu.gate.open(limit, wait, clock.Now())
	gauge := func(name, help string, f func(g *gate) float64) {
		metrics.Gauge(name, help, func() float64 {
			w.mu.Lock()
			defer w.mu.Unlock()
			return f(&w.mu.gate)
		})
	}
	gauge("laaster_write_window_bytes", "Bytes of writes that may be under way, from their check to their answer.", func(g *gate) float64 { return float64(g.window) })
	gauge("laaster_write_line_bytes", "Bytes of writes that wait to be let in.", func(g *gate) float64 { return float64(g.lined) })
	gauge("laaster_write_base_seconds", "What a write takes when nothing is in its way.", func(g *gate) float64 { return g.base.Seconds() })
	return w
}

// Held returns the bytes of writes that are checked, wait for the log or wait for the engine.
func (w *Writer) Held() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.gate.held
}

// Close refuses further writes with p; what is queued is still written, then Run returns.
func (w *Writer) Close(p *wire.Problem) {
	w.mu.Lock()
	if w.mu.closed == nil {
		w.mu.closed = p
	}
	w.mu.gate.refuseAll(p)
	w.mu.Unlock()
	w.rouse()
}

// Abort refuses further writes with p and answers those that are queued with it; an append under way is finished. For when
// nobody can apply any more what the log takes.
func (w *Writer) Abort(p *wire.Problem) {
	w.mu.Lock()
	w.mu.closed = p
	w.mu.gate.refuseAll(p)
	w.mu.Unlock()
	w.dropQueue(func(*part) *wire.Problem { return p })
	w.rouse()
}

// Pause has writes wait, at most as long as a write waits for room, and then be refused with p, until Resume: the disk is low, say. What was
// taken before is written; definitions and records of the audit trail are taken. A second Pause replaces p.
func (w *Writer) Pause(p *wire.Problem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.paused = p
	w.mu.gate.shut = w.reasonLocked()
}

// Resume ends Pause: who waits is let in, in turn.
func (w *Writer) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.paused = nil
	w.mu.gate.shut = w.reasonLocked()
	w.mu.gate.admit(w.clock.Now())
}

// stall is Pause and Resume for the writer itself.
func (w *Writer) stall(p *wire.Problem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.stalled = p
	w.mu.gate.shut = w.reasonLocked()
	w.mu.gate.admit(w.clock.Now())
}

func (w *Writer) reasonLocked() *wire.Problem {
	if w.mu.stalled != nil {
		return w.mu.stalled
	}
	return w.mu.paused
}

// dropQueue answers everything that is queued and was never appended.
func (w *Writer) dropQueue(with func(*part) *wire.Problem) {
	w.mu.Lock()
	parts := append(w.mu.control, w.mu.queue.drain()...)
	w.mu.control, w.mu.own = nil, 0
	w.mu.Unlock()
	for _, x := range parts {
		x.answer(answer{problem: with(x)})
	}
	w.release(parts, false)
}

// release gives back the room of parts that are answered for good. It may be called again. passed says that they went all the way.
func (w *Writer) release(parts []*part, passed bool) {
	now := w.clock.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	g, took := &w.mu.gate, time.Duration(-1)
	for _, p := range parts {
		if p.of == nil {
			continue
		}
		if p.logged {
			g.logged -= p.cost
		} else {
			g.queued -= p.cost
		}
		g.leave(p.of, p.cost, passed)
		p.of = nil
		if d := now.Sub(p.since); took < 0 || d < took {
			took = d
		}
	}
	if passed && took >= 0 {
		g.look(took, now)
	}
	g.admit(now)
}

// submit queues the parts of one write, next to each other as far as its turn reaches, and takes the ticket over.
func (w *Writer) submit(t *ticket, parts []*part) *wire.Problem {
	size := overhead
	for _, p := range parts {
		size += p.entry.Size()
	}
	w.mu.Lock()
	g, problem := &w.mu.gate, w.mu.closed
	switch {
	case problem != nil:
	case w.mu.stalled != nil:
		problem = w.mu.stalled
	case g.held > t.cost && g.held-t.cost+size > g.limit: // it takes more as rows than as JSON
		problem, _ = g.refuse(t.of, size, app.NormalPriority, w.clock.Now())
	}
	if problem != nil {
		w.mu.Unlock()
		t.drop()
		return problem
	}
	g.checks(t.cost, -1)
	g.leave(t.of, t.cost, false)
	g.take(t.of, size)
	g.charge(t.of, size-t.cost, w.clock.Now())
	g.queued += size
	for i, p := range parts {
		p.of, p.cost, p.since = t.of, p.entry.Size(), t.at
		if i == 0 {
			p.cost += overhead
		}
		w.mu.queue.push(t.of, p)
	}
	t.of = nil
	g.admit(w.clock.Now()) // it may take less as rows than as JSON
	w.mu.Unlock()
	w.rouse()
	return nil
}

// logged counts parts as the engine's.
func (w *Writer) logged(parts []*part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range parts {
		if p.of != nil {
			w.mu.gate.queued -= p.cost
			w.mu.gate.logged += p.cost
			p.logged = true
		}
	}
}

// rouse makes the loop look at the queue.
func (w *Writer) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Define queues a definition document, in a batch of its own, and returns the batch's sequence once the engine has applied it. The end of ctx
// does not end that wait: the definition is in the queue, and somebody answers.
func (w *Writer) Define(ctx context.Context, doc []byte) (uint64, *wire.Problem) {
	return w.serve(context.WithoutCancel(ctx), &part{entry: change.Entry{Kind: change.EntryDefinition, Last: true, Body: doc}})
}

// Record queues a record of the audit trail and returns the sequence of its batch once the log has it: who does something privileged does it
// only then. It is taken while writes are paused. A problem means that the act may not happen; after storage_damaged and unresolved the
// record may be in the log all the same.
func (w *Writer) Record(ctx context.Context, body []byte) (uint64, *wire.Problem) {
	return w.serve(ctx, &part{entry: change.Entry{Kind: change.EntryAudit, Last: true, Body: body}, early: true})
}

// serve queues an entry of the server itself and waits for its answer.
func (w *Writer) serve(ctx context.Context, p *part) (uint64, *wire.Problem) {
	size := p.entry.Size()
	if size > change.MaxEntry {
		return 0, wire.NewProblem(wire.TooLarge, "the entry does not fit a record batch")
	}
	p.received, p.done = w.clock.Now(), make(chan answer, 1)
	w.mu.Lock()
	switch {
	case w.mu.closed != nil:
		problem := w.mu.closed
		w.mu.Unlock()
		return 0, problem
	case w.mu.stalled != nil:
		problem := w.mu.stalled
		w.mu.Unlock()
		return 0, problem
	case w.mu.own+size > controlBytes:
		w.mu.Unlock()
		return 0, busy("the log is behind with the server's own entries", time.Second)
	}
	w.mu.own += size
	w.mu.control = append(w.mu.control, p)
	w.mu.Unlock()
	w.rouse()
	select {
	case a := <-p.done:
		return a.seq, a.problem
	case <-ctx.Done():
		return 0, wire.NewProblem(wire.Unresolved, "the caller went away before the log had the entry")
	}
}

// Note puts an entry at the front of the next batch that is written anyway, canaries before others. Nobody waits for it: it is lost, and
// counted, when the writer is closed before, or when more than a few notes come without a batch.
func (w *Writer) Note(kind change.EntryKind, body []byte) {
	n := &part{entry: change.Entry{Kind: kind, Last: true, Body: body}, done: make(chan answer, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed != nil || n.entry.Size() > change.MaxEntry/mostNotes/2 { // all notes leave room for a part
		w.meters.notes.Inc()
		return
	}
	if len(w.mu.notes) == mostNotes {
		w.meters.notes.Inc()
		w.mu.notes = append(w.mu.notes[:0], w.mu.notes[1:]...)
	}
	n.received = w.clock.Now()
	w.mu.notes = append(w.mu.notes, n)
}

// Tick asks for an empty batch, so that the log's time moves on, unless something else is written anyway.
func (w *Writer) Tick() {
	w.mu.Lock()
	w.mu.tick = w.mu.closed == nil
	w.mu.Unlock()
	w.rouse()
}

// flight is the batch that is being appended.
type flight struct {
	build change.Builder
	parts []*part // in the order of the entries
	tick  bool    // an empty batch is wanted
	bytes int     // of the entries
	began time.Time
}

func (f *flight) fits(p *part) bool {
	return change.HeaderSize+f.bytes+p.entry.Size() <= change.MaxBatch
}

func (f *flight) add(p *part) {
	f.bytes += p.entry.Size()
	f.parts = append(f.parts, p)
}

// take moves what makes the next batch from the queues to f; closed says that there is nothing and never will be.
func (w *Writer) take(f *flight) (closed bool) {
	f.build.Reset()
	f.parts, f.bytes, f.began = nil, 0, w.clock.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	f.tick = false
	if w.mu.ahead >= mostAhead && (w.mu.closed == nil || len(w.mu.control)+w.mu.queue.parts > 0) {
		return false // answered rouses the loop
	}
	f.tick, w.mu.tick = w.mu.tick, false
	if len(w.mu.control) == 0 && w.mu.queue.parts == 0 {
		return w.mu.closed != nil && !f.tick
	}
	if len(w.mu.control) > 0 && w.mu.control[0].entry.Kind == change.EntryDefinition { // always alone
		f.add(w.mu.control[0])
		w.shiftControl(1)
		return false
	}
	for _, n := range w.mu.notes { // canaries first: a replay looks for them there
		if n.entry.Kind == change.EntryCanary {
			f.add(n)
		}
	}
	for _, n := range w.mu.notes {
		if n.entry.Kind != change.EntryCanary {
			f.add(n)
		}
	}
	w.mu.notes = w.mu.notes[:0]
	n := 0
	for ; n < len(w.mu.control) && w.mu.control[n].entry.Kind != change.EntryDefinition && f.fits(w.mu.control[n]); n++ {
		f.add(w.mu.control[n])
	}
	w.shiftControl(n)
	for p := w.mu.queue.next(); p != nil && f.fits(p); p = w.mu.queue.next() {
		w.mu.queue.pop()
		f.add(p)
	}
	return false
}

func (w *Writer) shiftControl(n int) {
	for _, p := range w.mu.control[:n] {
		w.mu.own -= p.entry.Size()
	}
	rest := copy(w.mu.control, w.mu.control[n:])
	clear(w.mu.control[rest:])
	w.mu.control = w.mu.control[:rest]
}

// Run is the writer loop: one append at a time until Close or an error of the log that Reopen does not mend. It closes out when it
// returns. After an error every write, queued or later, is answered with it: nothing is acknowledged that the log has not confirmed.
func (w *Writer) Run(ctx context.Context) error {
	defer close(w.out)
	var f flight
	for {
		closed := w.take(&f)
		switch {
		case closed:
			return nil
		case len(f.parts) == 0 && !f.tick:
			select {
			case <-w.wake:
			case <-ctx.Done():
				w.Close(wire.NewProblem(wire.Draining, "the server is shutting down"))
			}
			continue
		}
		fault.Point("ingest.batch_taken")
		w.planted(&f)
		for _, p := range f.parts {
			err := f.build.Add(&p.entry)
			check.That(err == nil, "an entry that the door let in does not fit its batch: %v", err)
		}
		if err := w.write(ctx, &f); err != nil {
			return err
		}
	}
}

// write appends f and hands it over. An error is the log's end.
func (w *Writer) write(ctx context.Context, f *flight) error {
	for {
		// The append must end even when the server drains: its context is not the loop's.
		batch, err := w.log.Append(context.WithoutCancel(ctx), &f.build)
		stopped := (*backbone.Stopped)(nil)
		switch {
		case err == nil:
			fault.Point("ingest.appended")
			w.handOver(f, &batch)
			return nil
		case !errors.As(err, &stopped): // certainly not in the log, and the log goes on
			w.refuse(f, err)
			return nil
		case w.Reopen == nil || stopped.Reason != backbone.DiskFull && stopped.Reason != backbone.Unresolved:
			w.fail(f, stopped)
			return err
		}
		if again, err := w.reopen(ctx, f, stopped); err != nil || !again {
			return err
		}
	}
}

// handOver passes a batch that the log has to the engine and answers those who wait for no more.
func (w *Writer) handOver(f *flight, batch *change.Batch) {
	b := &Batch{Batch: batch.Clone(), Received: f.oldest(), Logged: w.clock.Now(), parts: f.parts}
	w.metrics.Appended(batch.Header().Records, len(batch.Raw()), b.Logged.Sub(f.began), b.Logged.Sub(b.Received))
	for _, p := range f.parts {
		if p.early {
			p.answer(answer{seq: b.Header().Seq, outcome: change.Outcome{Accepted: p.entry.Count}})
		}
	}
	fault.Point("ingest.early_answered")
	w.logged(b.parts)
	w.send(b)
	fault.Point("ingest.handed_over")
}

// send hands b to the engine.
func (w *Writer) send(b *Batch) {
	w.mu.Lock()
	b.ahead = true
	w.mu.ahead++
	w.mu.Unlock()
	w.out <- b
}

// answered counts b as done by the engine. It may be called again.
func (w *Writer) answered(b *Batch) {
	w.mu.Lock()
	if b.ahead {
		b.ahead = false
		w.mu.ahead--
	}
	w.mu.Unlock()
	w.rouse()
}

// oldest returns when the first of the parts arrived; a tick's batch arrives when it is made.
func (f *flight) oldest() time.Time {
	t := f.began
	for _, p := range f.parts {
		if p.received.Before(t) {
			t = p.received
		}
	}
	return t
}

// refuse answers parts that the log did not take.
func (w *Writer) refuse(f *flight, err error) {
	for _, x := range f.parts {
		x.answer(answer{problem: w.notStored(x, "the log did not take the write: "+err.Error(), "send it again", time.Second)})
	}
	if fault.Bug("ingest-double-append") { // and appends it after all
		w.requeue(f)
		return
	}
	w.release(f.parts, false)
}

// notStored is the problem of a part that is certainly not in the log.
func (w *Writer) notStored(p *part, detail, hint string, after time.Duration) *wire.Problem {
	if p.entry.First > 0 { // parts before it may be
		problem := wire.NewProblem(wire.Unresolved, detail+"; rows before row "+itoa(p.entry.First)+" of the request may be stored").
			WithHint("repeat it whole with the same ids or Idempotency-Key")
		problem.RetryAfterMS = int(after / time.Millisecond)
		return problem
	}
	problem := wire.NewProblem(wire.Busy, detail).WithHint("nothing of it was stored: " + hint)
	problem.RetryAfterMS = int(after / time.Millisecond)
	return problem
}

// fail answers parts and everything queued with a problem and refuses the rest.
func (w *Writer) fail(f *flight, stopped *backbone.Stopped) {
	rest := wire.NewProblem(wire.StorageDamaged, "the log takes no more writes: "+stopped.Error()).WithHint("this one was not stored")
	flying := wire.NewProblem(wire.StorageDamaged, "the log did not confirm the write: "+stopped.Error()).
		WithHint("whether it is there is decided when the log is opened again: repeat it with the same ids or Idempotency-Key")
	if stopped.Reason == backbone.DiskFull {
		rest = busy("the disk that holds the log is full; the write was not stored", 10*time.Second).WithHint(stopped.Remedy)
		flying = wire.NewProblem(wire.Unresolved, "the disk that holds the log is full; whether the write is in it is not known yet").
			WithHint("repeat it with the same ids or Idempotency-Key: it takes effect once")
		flying.RetryAfterMS = 10_000
	}
	for _, x := range f.parts {
		x.answer(answer{problem: flying})
	}
	w.release(f.parts, false)
	w.Abort(rest)
}

// Abandon answers the requests of b, which the log has and the engine will not apply in this life, with p.
func (w *Writer) Abandon(b *Batch, p *wire.Problem) {
	for _, x := range b.parts {
		x.answer(answer{problem: p})
	}
	w.release(b.parts, false)
	w.answered(b)
}

// Complete answers the requests of b with the engine's outcomes, which are in the order of b's entries. The node's engine loop
// calls it once the views have the epoch.
func (w *Writer) Complete(b *Batch, outcomes []change.Outcome) {
	fault.Point("ingest.applied")
	w.release(b.parts, true) // before the answers: whoever has his must find the room
	for i, p := range b.parts {
		if !p.early {
			p.answer(answer{seq: b.Header().Seq, outcome: outcomes[i]})
		}
	}
	w.answered(b)
}
