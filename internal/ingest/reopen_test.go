package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// scriptLog is a log in memory that a test makes fail. An append takes the next of fails; none left: it succeeds.
type scriptLog struct {
	mu      sync.Mutex
	batches []change.Batch
	stopped *backbone.Stopped
	pending *change.Batch // under way when it stopped, and in the store all the same
	fails   []failure
	closed  int           // attempts to reopen that fail, for want of space
	asked   chan struct{} // capacity: every attempt to reopen
	gate    chan struct{} // not nil: each append waits for an item
}

// failure is how one append ends.
type failure struct {
	err    error
	stored bool // the store has it nevertheless
}

func (l *scriptLog) Append(ctx context.Context, b *change.Builder) (change.Batch, error) {
	if l.gate != nil {
		<-l.gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped != nil {
		return change.Batch{}, l.stopped
	}
	batch := b.Seal(change.Header{Seq: uint64(len(l.batches) + 1), Stamp: int64(len(l.batches) + 1)})
	if len(l.fails) > 0 {
		f := l.fails[0]
		l.fails = l.fails[1:]
		errors.As(f.err, &l.stopped)
		if f.stored {
			own := batch.Clone()
			l.pending = &own
		}
		if f.err != nil {
			return change.Batch{}, f.err
		}
	}
	l.batches = append(l.batches, batch.Clone())
	return batch, nil
}

func (l *scriptLog) reopen(context.Context) ([]change.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.asked <- struct{}{}:
	default:
	}
	if l.closed != 0 {
		l.closed--
		return nil, fmt.Errorf("still no space")
	}
	l.stopped = nil
	if l.pending == nil {
		return nil, nil
	}
	found := *l.pending
	l.batches, l.pending = append(l.batches, found), nil
	return []change.Batch{found}, nil
}

func (l *scriptLog) entries() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.batches {
		n += int(l.batches[i].Header().Entries)
	}
	return n
}

func newScript(t *testing.T, l *scriptLog, limit int) *rig {
	l.asked = make(chan struct{}, 1000)
	r := newRig(t, l, limit)
	r.writer.Reopen = l.reopen
	return r
}

func full() error {
	return &backbone.Stopped{Reason: backbone.DiskFull, Err: errors.New("no space left"), Remedy: "Free space"}
}

// TestWriterReopens: a full disk costs nobody anything when there is room in time: what was under way is in the log once, whether the log
// has it or not, and what was queued follows.
func TestWriterReopens(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			l := &scriptLog{fails: []failure{{full(), stored}}, closed: 2, gate: make(chan struct{}, 10)}
			r := newScript(t, l, 1<<20)
			r.accept()
			sent := []*part{newPart(10)}
			if p := r.submit(t.Context(), sent); p != nil {
				t.Fatal(p)
			}
			r.awaitTaken()
			sent = append(sent, newPart(10))
			if p := r.submit(t.Context(), sent[1:]); p != nil {
				t.Fatal(p)
			}
			for range 10 {
				l.gate <- struct{}{}
			}
			for range 2 { // attempts that fail
				<-l.asked
				r.awaitAndAdvance(reopenMost)
			}
			for i, x := range sent {
				if a := <-x.done; a.problem != nil || a.seq != uint64(i+1) || a.outcome.Accepted != 1 {
					t.Errorf("part %d: %+v", i, a)
				}
			}
			if n := l.entries(); n != 2 {
				t.Errorf("%d entries in the log", n)
			}
			r.close()
			if n := r.writer.Held(); n != 0 {
				t.Errorf("%d bytes are held", n)
			}
		})
	}
}

// awaitTaken returns when the writer has taken what was queued.
func (r *rig) awaitTaken() {
	for {
		r.writer.mu.Lock()
		n := r.writer.mu.queue.parts
		r.writer.mu.Unlock()
		if n == 0 {
			return
		}
		select { // let the loop run
		case <-r.t.Context().Done():
			return
		default:
			runtime.Gosched()
		}
	}
}

// awaitAndAdvance moves the clock, by less than a write waits, once the writer sleeps between two attempts.
func (r *rig) awaitAndAdvance(time.Duration) {
	r.clock.AwaitSleepers(2) // the writer's patience, and the pause
	r.clock.Advance(2 * reopenPause)
}

// TestWriterGivesUp: when the disk stays full, everybody is told in time: what was queued is not stored, of what was under way nobody
// knows; and what comes later waits and is refused with the reason. Once there is room, what the log has goes to the engine and
// writes are taken again.
func TestWriterGivesUp(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			l := &scriptLog{fails: []failure{{full(), stored}}, closed: -1, gate: make(chan struct{}, 10)}
			r := newScript(t, l, 1<<20)
			applied := make(chan *Batch, 10)
			r.group.Go("engine", func(context.Context) error {
				for b := range r.out {
					r.writer.Complete(b, make([]change.Outcome, b.Header().Entries))
					applied <- b
				}
				return nil
			})
			flying, queued := newPart(10), newPart(10)
			later := newPart(10)
			later.entry.First = 7
			_ = r.submit(t.Context(), []*part{flying})
			r.awaitTaken()
			_ = r.submit(t.Context(), []*part{queued})
			_ = r.submit(t.Context(), []*part{later})
			for range 10 {
				l.gate <- struct{}{}
			}
			<-l.asked
			r.clock.AwaitSleepers(2)
			r.clock.Advance(2 * time.Second)
			if a := <-flying.done; a.problem == nil || a.problem.Code != wire.Unresolved {
				t.Errorf("under way: %+v", a.problem)
			}
			if a := <-queued.done; a.problem == nil || a.problem.Code != wire.Busy || !strings.Contains(a.problem.Detail, "disk full") {
				t.Errorf("queued: %+v", a.problem)
			}
			if a := <-later.done; a.problem == nil || a.problem.Code != wire.Unresolved {
				t.Errorf("the second part of a request: %+v", a.problem)
			}
			if _, p := r.writer.Record(t.Context(), []byte("{}")); p == nil {
				t.Error("a record of the audit trail is taken without a log")
			}
			refused := make(chan *wire.Problem, 1)
			g := run.New(t.Context())
			g.Go("waits for the disk", func(ctx context.Context) error {
				refused <- r.submit(ctx, []*part{newPart(10)})
				return nil
			})
			r.clock.AwaitSleepers(2)
			l.mu.Lock()
			l.closed = 0
			l.mu.Unlock()
			r.clock.Advance(time.Second)
			if p := <-refused; p != nil {
				t.Errorf("a write that waited until there was room: %+v", p)
			}
			for n := 0; n < 1+btoi(stored); n++ {
				<-applied
			}
			r.close()
			if n := l.entries(); n != 1+btoi(stored) {
				t.Errorf("%d entries in the log", n)
			}
			if n := r.writer.Held(); n != 0 {
				t.Errorf("%d bytes are held", n)
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestWriterEndsWhileItReopens: a stop does not wait for a disk.
func TestWriterEndsWhileItReopens(t *testing.T) {
	l := &scriptLog{fails: []failure{{full(), false}}, closed: -1}
	r := newScript(t, l, 1<<20)
	r.accept()
	x := newPart(10)
	_ = r.submit(t.Context(), []*part{x})
	<-l.asked
	r.close()
	if a := <-x.done; a.problem == nil || a.problem.Code != wire.Unresolved {
		t.Errorf("%+v", a.problem)
	}
	if n := r.writer.Held(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}

// TestWriterReopensInVain: a log that turns out to be damaged ends the writer.
func TestWriterReopensInVain(t *testing.T) {
	l := &scriptLog{fails: []failure{{full(), false}}}
	r := newScript(t, l, 1<<20)
	damaged := &backbone.Stopped{Reason: backbone.Damaged, Err: errors.New("a hole")}
	r.writer.Reopen = func(context.Context) ([]change.Batch, error) { return nil, damaged }
	x := newPart(10)
	_ = r.submit(t.Context(), []*part{x})
	if a := <-x.done; a.problem == nil || a.problem.Code != wire.StorageDamaged {
		t.Errorf("%+v", a.problem)
	}
	if err := r.group.Wait(); !errors.Is(err, error(damaged)) {
		t.Errorf("the loop ended with %v", err)
	}
}

// TestWriterPauses: while writes are paused they wait, then are refused with the reason; what the server writes itself goes on; those who
// wait when it ends get in.
func TestWriterPauses(t *testing.T) {
	r := newRig(t, nil, 1<<20)
	r.accept()
	r.writer.Pause(busy("the disk is low", 10*time.Second))
	got := make(chan *wire.Problem, 2)
	g := run.New(t.Context())
	send := func(x *part) {
		g.Go("write", func(ctx context.Context) error {
			got <- r.submit(ctx, []*part{x})
			return nil
		})
		r.clock.AwaitSleepers(1)
	}
	send(newPart(10))
	if seq, p := r.writer.Record(t.Context(), []byte("{}")); p != nil || seq != 1 {
		t.Errorf("a record of the audit trail: %d %v", seq, p)
	}
	r.clock.Advance(2 * time.Second)
	if p := <-got; p == nil || p.Detail != "the disk is low" || p.RetryAfterMS < 10_000 {
		t.Errorf("%+v", p)
	}
	x := newPart(10)
	send(x)
	r.writer.Resume()
	if p := <-got; p != nil {
		t.Errorf("%+v", p)
	}
	if a := <-x.done; a.problem != nil {
		t.Errorf("%+v", a.problem)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	r.close()
}

// TestNotes: they make no batch of their own, go first, canaries before others, and no definition shares its batch with them.
func TestNotes(t *testing.T) {
	l := &scriptLog{}
	r := newScript(t, l, 1<<20)
	r.accept()
	for i := range mostNotes + 2 { // the first two make room
		r.writer.Note(change.EntryAudit, []byte(fmt.Sprint("a", i)))
	}
	r.writer.Note(change.EntryCanary, []byte("c"))
	if _, p := r.writer.Define(t.Context(), []byte("{}")); p != nil {
		t.Fatal(p)
	}
	if seq, p := r.writer.Record(t.Context(), []byte("record")); p != nil || seq != 2 {
		t.Fatal(seq, p)
	}
	r.writer.Tick()
	r.close()
	want := []string{"{}", "c a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13 a14 a15 a16 a17 record", ""}
	for i := range l.batches {
		var got []string
		it, e := l.batches[i].Entries(), change.Entry{}
		for it.Next(&e) {
			got = append(got, string(e.Body))
		}
		if i >= len(want) || strings.Join(got, " ") != want[i] {
			t.Errorf("batch %d: %v", i+1, got)
		}
	}
}

// TestWriterHistories: whatever the log does and however parts come and are paused, everybody is answered, what is answered as applied is in
// the log once, what is refused is not in it, and nothing is held at the end.
func TestWriterHistories(t *testing.T) {
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 7))
		l := &scriptLog{}
		for range 40 {
			f := failure{}
			switch rng.IntN(6) {
			case 0:
				f = failure{full(), rng.IntN(2) == 0}
			case 1:
				f.err = errors.New("not now")
			case 2:
				f = failure{&backbone.Stopped{Reason: backbone.Unresolved, Err: errors.New("no answer")}, rng.IntN(2) == 0}
			}
			l.fails = append(l.fails, f)
		}
		r := newScript(t, l, 1<<20)
		r.accept()
		type sent struct {
			id string
			p  *part
		}
		var all []sent
		stop := r.ticking(t, 100*time.Microsecond) // who has a line waits for its turn
		for i := range 120 {
			x := newPart(rng.IntN(20_000))
			x.entry.Request = []byte(fmt.Sprint("r", i))
			x.early = rng.IntN(4) == 0
			who := auth.Principal{Subject: fmt.Sprint("s", rng.IntN(4))}
			if p := r.submitAs(t.Context(), who, []*part{x}); p == nil {
				all = append(all, sent{string(x.entry.Request), x})
			}
			if rng.IntN(10) == 0 {
				r.writer.Note(change.EntryCanary, []byte("c"))
			}
			if rng.IntN(5) == 0 {
				r.clock.Advance(time.Duration(rng.IntN(3000)) * time.Millisecond)
			}
		}
		stop()
		r.writer.Close(wire.NewProblem(wire.Draining, "test ends"))
		if err := r.group.Wait(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		logged := map[string]int{}
		for i := range l.batches {
			it, e := l.batches[i].Entries(), change.Entry{}
			for it.Next(&e) {
				logged[string(e.Request)]++
			}
		}
		for _, s := range all {
			select {
			case a := <-s.p.done:
				n := logged[s.id]
				if a.problem == nil && n != 1 || a.problem != nil && a.problem.Code == wire.Busy && n != 0 || n > 1 {
					t.Fatalf("seed %d: %s is %d times in the log, answered %+v", seed, s.id, n, a)
				}
			default:
				t.Fatalf("seed %d: %s was not answered", seed, s.id)
			}
		}
		if n := r.writer.Held(); n != 0 {
			t.Fatalf("seed %d: %d bytes are held", seed, n)
		}
	}
}

// TestStalledEngine: memory stays bounded however long the engine takes, and writers are told why.
func TestStalledEngine(t *testing.T) {
	const limit = 4 << 20
	r := newRig(t, nil, limit)
	reasons := map[string]int{}
	for i := range 2000 {
		who := auth.Principal{Subject: fmt.Sprint("s", i%50)}
		tk, p := r.writer.enter(gone(), who, app.NormalPriority, "t", 20_000)
		if p != nil {
			reasons[p.Detail]++
			continue
		}
		if p := r.writer.submit(tk, []*part{newPart(20_000)}); p != nil {
			t.Fatal(p)
		}
		if n := r.writer.Held(); n > limit {
			t.Fatalf("%d bytes are held, the limit is %d", n, limit)
		}
	}
	if len(reasons) == 0 {
		t.Fatal("everything was taken")
	}
	t.Log(reasons)
	r.close()
}

// gone is the context of a caller that does not wait.
func gone() context.Context {
	ctx, leave := context.WithCancel(context.Background())
	leave()
	return ctx
}
