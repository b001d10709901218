package sim

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/flow"
	"laaster/internal/kit/run"
	"laaster/internal/view"
)

// sometimes are the states that are worth having been in: a run of many seeds that never was in one of them proves less than it seems to.
func sometimes() []string {
	return []string{
		"recovered from a checkpoint",
		"recovered from the log alone",
		"recovered from an older checkpoint or the second copy",
		"second copy used",
		"replayed behind a checkpoint",
		"damaged or torn checkpoint ignored",
		"power cut while a checkpoint was written",
		"killed while a checkpoint was written",
		"a checkpoint was committed",
		"a second copy was made",
		"the log was trimmed",
		"an answer of the log was lost",
		"an append that was not stored had no answer",
		"an append arrived late",
		"another process's append came first",
		"the log was reopened",
		"a batch that nobody was told of is in the log",
		"a client's answer was lost in a crash",
		"a repeat was recognised by ids",
		"a repeat was answered under its key",
		"a repeat was answered under its sequence",
		"a reader resumed in the next life",
		"a reader was told of a gap",
		"memory was trimmed",
		"damage found while serving",
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestHistories runs random histories and checks the invariants after every step.
func TestHistories(t *testing.T) {
	program, met := compiled(t), map[string]int{}
	first, n := number(t, "LAASTER_SEED", 1), number(t, "LAASTER_SEEDS", 300)
	if os.Getenv("LAASTER_SEED") != "" && os.Getenv("LAASTER_SEEDS") == "" {
		n = 1
	}
	for seed := first; seed < first+n; seed++ {
		synctest.Test(t, func(t *testing.T) { newWorld(t, seed, program, met).history() })
		if t.Failed() {
			return
		}
	}
	for _, s := range sometimes() {
		t.Logf("%6d times: %s", met[s], s)
		if met[s] == 0 && n >= 300 {
			t.Errorf("never: %s", s)
		}
	}
}

// history is one random history.
func (w *world) history() {
	defer func() {
		if p := recover(); p != nil {
			w.ended(p)
		}
	}()
	w.start()
	for range 150 + w.rng.IntN(250) {
		w.step()
		synctest.Wait()
		for _, c := range w.clients {
			c.take()
		}
		if w.life != nil {
			select {
			case err := <-w.life.ended: // the log stopped: the process ends
				w.say("life %d: the writer ended: %v", w.life.number, err)
				w.crash(false)
			default:
			}
		}
		if w.life == nil {
			w.start()
		}
	}
	w.quiet()
}

// step does one thing.
func (w *world) step() {
	l := w.life
	switch n := w.rng.IntN(100); {
	case n < 22:
		w.clients[w.rng.IntN(len(w.clients))].step()
	case n < 44:
		w.decide(w.rng.IntN(100))
	case n < 60:
		w.applyOne()
	case n < 66:
		r := w.readers[w.rng.IntN(len(w.readers))]
		if err := guarded(func() error { r.step(); return nil }); err != nil {
			w.died(err)
		}
	case n < 72:
		l.beginCheckpoint(w.rng.IntN(4) == 0)
	case n < 91:
		for range 1 + w.rng.IntN(6) {
			l.diskStep()
		}
	case n < 93:
		<-run.System{}.After(time.Duration(1+w.rng.IntN(2000)) * time.Millisecond)
	case n < 94:
		w.arrive()
	case n < 95:
		l.trim()
	case n < 96:
		l.forget()
	case n < 97:
		w.damage()
	case n < 98:
		w.crash(false)
	case n < 99:
		w.crash(true)
	}
}

// crash ends the process, and cuts the power as well.
func (w *world) crash(power bool) {
	w.life.die()
	w.say("life %d died, power cut: %v", w.lives, power)
	if w.cutting && power {
		w.sometimes("power cut while a checkpoint was written")
	}
	if w.cutting && !power {
		w.sometimes("killed while a checkpoint was written")
	}
	if power {
		w.disk.Cut()
		w.disk.Restart()
	}
}

// decide has the log answer its oldest append. how is from 0 to 99.
func (w *world) decide(how int) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if len(w.store.queue) == 0 {
		return
	}
	c := w.store.queue[0]
	w.store.queue = w.store.queue[1:]
	w.late = slices.DeleteFunc(w.late, func(x *call) bool { return x.driver == c.driver }) // decided before: it never arrived
	switch {
	case how < 76:
		r := w.store.put(c)
		if f := (*backbone.Fenced)(nil); r.err != nil && asFenced(r.err, &f) && f.Last > f.After {
			w.say("append after %d is fenced at %d", f.After, f.Last)
		}
		c.answer <- r
	case how < 86:
		w.sometimes("an answer of the log was lost")
		w.store.put(c)
		c.answer <- result{err: &backbone.Unknown{Err: errLost}}
	case how < 91:
		w.sometimes("an append that was not stored had no answer")
		c.answer <- result{err: &backbone.Unknown{Err: errLost}}
	case how < 95:
		w.late = append(w.late, c)
		c.answer <- result{err: &backbone.Unknown{Err: errLost}}
	case how < 98:
		c.answer <- result{err: errBusy}
	default:
		c.answer <- result{err: &backbone.WriteError{Full: true, Err: errBusy}}
	}
}

func asFenced(err error, to **backbone.Fenced) bool {
	f, ok := err.(*backbone.Fenced)
	*to = f
	return ok
}

// arrive has an append arrive that was under way for long, perhaps since another life.
func (w *world) arrive() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if len(w.late) == 0 {
		return
	}
	c := w.late[0]
	w.late = w.late[1:]
	if w.store.put(c).err != nil {
		return
	}
	w.sometimes("an append arrived late")
	select {
	case <-c.driver.dead:
		w.sometimes("another process's append came first")
	default:
	}
}

// applyOne has the engine take the next batch.
func (w *world) applyOne() {
	l := w.life
	select {
	case b, open := <-l.batches:
		if !open {
			return
		}
		if l.flight != nil {
			w.sometimes("batches were applied while a checkpoint was written")
		}
		var epoch *change.Epoch
		err := guarded(func() (err error) { epoch, err = l.step(&b.Batch); return err })
		if err != nil {
			w.died(err)
			return
		}
		w.readable(b.Header().Seq)
		l.writer.Complete(b, epoch.Outcomes)
	default:
	}
}

// readable notes that a position is shown.
func (w *world) readable(seq uint64) { w.tell(seq) }

// died ends a life whose state could not be read.
func (w *world) died(err error) {
	if w.harmed == 0 {
		w.fail("life %d: %v", w.lives, err)
	}
	w.sometimes("damage found while serving")
	w.suspect = true
	w.crash(false)
}

// guarded calls f, which may panic with an error when a page cannot be read.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			var ok bool
			if err, ok = p.(error); !ok || isRuntime(err) {
				panic(p)
			}
		}
	}()
	return f()
}

func isRuntime(err error) bool {
	_, ok := err.(runtime.Error)
	return ok
}

// beginCheckpoint begins to write the state as it is, or a second copy.
func (l *life) beginCheckpoint(copy bool) {
	if l.flight != nil {
		return
	}
	f := &flight{seq: l.applied, done: make(chan error, 1)}
	if copy {
		if l.kept == 0 {
			return
		}
		l.flight = f
		l.disk.pacing.Store(true)
		l.group.Go("copy", func(context.Context) error {
			_, err := l.cps.Copy()
			f.done <- err
			return nil
		})
		return
	}
	if l.applied == l.kept || l.last == nil {
		return
	}
	h := l.last.Header()
	last := *l.last
	header := checkpoint.Header{Log: h.Log, Shard: h.Shard, Seq: h.Seq, Stamp: h.Stamp, Digest: last.Digest(), Fingerprint: l.engine.Fingerprint(),
		Plan: l.w.program.PlanHash(), Catalog: l.w.program.Catalog}
	f.engine, f.store = l.engine.Freeze(l.cps.NewObject), l.store.Freeze(l.cps.NewObject)
	l.flight = f
	l.disk.pacing.Store(true)
	l.group.Go("checkpoint", func(context.Context) error {
		f.done <- written(l.cps, header, f.engine, f.store)
		return nil
	})
}

func written(s *checkpoint.Store, h checkpoint.Header, engine *flow.Frozen, rows *view.Frozen) (err error) {
	w, err := s.Begin(h)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	if err := engine.Write(w); err != nil {
		return err
	}
	if err := rows.Write(w); err != nil {
		return err
	}
	return w.Commit()
}

// diskStep lets the disk do one operation of what is being written, and takes note of its end.
func (l *life) diskStep() {
	f := l.flight
	if f == nil {
		return
	}
	select {
	case l.disk.turn <- struct{}{}:
	default:
	}
	synctest.Wait()
	select {
	case err := <-f.done:
		l.flight = nil
		l.disk.pacing.Store(false)
		if f.engine != nil {
			l.store.Done(f.store, err == nil)
			l.engine.Done(f.engine, err == nil)
		}
		switch {
		case err != nil:
			l.w.say("life %d: the checkpoint of %d failed: %v", l.number, f.seq, err)
			if l.w.harmed == 0 {
				l.w.fail("a checkpoint failed: %v", err)
			}
			l.w.sometimes("a checkpoint failed over damage in an older one")
		case f.engine == nil:
			l.w.sometimes("a second copy was made")
		default:
			l.kept, l.w.kept = f.seq, f.seq
			l.w.sometimes("a checkpoint was committed")
		}
	default:
	}
}

// trim takes away the log that no checkpoint needs.
func (l *life) trim() {
	oldest, copied := l.applied, false
	for _, i := range l.cps.List() {
		if i.Err == nil {
			oldest = min(oldest, i.Header.Seq)
			copied = copied || i.Copy
		}
	}
	if !copied || oldest+1 <= l.shard.First() || l.w.hostile || l.flight != nil {
		return
	}
	if err := l.shard.Trim(context.Background(), oldest+1); err != nil {
		l.w.fail("trim: %v", err)
	}
	l.w.trimmed = true
	l.w.sometimes("the log was trimmed")
}

// forget frees memory of what a checkpoint has.
func (l *life) forget() {
	if l.kept == 0 || l.flight != nil {
		return
	}
	l.engine.Trim(1)
	l.store.Trim(1)
	l.w.sometimes("memory was trimmed")
}

// damage changes a bit of a checkpoint's file, in histories whose log is never trimmed.
func (w *world) damage() {
	l := w.life
	if !w.hostile || l.flight != nil || w.harmed > 2 {
		return
	}
	names, err := w.disk.List("/data/checkpoints")
	if err != nil || len(names) == 0 {
		return
	}
	name := names[w.rng.IntN(len(names))]
	if !strings.HasSuffix(name, ".ckpt") {
		return
	}
	err = w.disk.Damage("/data/checkpoints/"+name, func(b []byte) []byte {
		if len(b) > 0 {
			b[w.rng.IntN(len(b))] ^= 1 << w.rng.IntN(8)
		}
		return b
	})
	if err != nil {
		w.fail("%v", err)
	}
	w.harmed++
	w.say("damaged %s", name)
}

// quiet lets everything come to its end and checks once more.
func (w *world) quiet() {
	for range 10_000 {
		open := false
		for _, c := range w.clients {
			if c.pending != nil {
				open = true
				c.step()
			}
		}
		synctest.Wait()
		w.decide(0)
		synctest.Wait()
		if w.life != nil {
			w.applyOne()
		}
		synctest.Wait()
		for _, c := range w.clients {
			c.take()
		}
		if w.life != nil {
			w.life.diskStep()
			select {
			case <-w.life.ended:
				w.crash(false)
			default:
			}
		}
		if w.life == nil {
			w.start()
		}
		if !open && w.life.flight == nil && w.life.applied == w.life.shard.Head() {
			break
		}
		<-run.System{}.After(100 * time.Millisecond)
	}
	for _, c := range w.clients {
		if c.pending != nil {
			w.fail("client %d is never answered", c.n)
		}
	}
	err := guarded(func() error {
		w.checkRows("at the end")
		for _, r := range w.readers {
			r.step()
		}
		return nil
	})
	if err != nil && w.harmed == 0 {
		w.fail("at the end: %v", err)
	}
	w.recompute()
	w.crash(true)
	w.start() // what it recovers is checked
	w.life.die()
}

// recompute builds the state anew from the whole log, when there is a whole one, and compares.
func (w *world) recompute() {
	if w.trimmed || w.life == nil {
		return
	}
	engine, err := flow.New(w.program, w.life.engineOptions())
	if err != nil {
		w.fail("%v", err)
	}
	if err := w.life.shard.Replay(context.Background(), 1, func(b *change.Batch) error {
		_, err := engine.Apply(b)
		if was, there := w.prints[b.Header().Seq]; err == nil && there && was != engine.Fingerprint() {
			w.fail("the whole log gives another state at %d", b.Header().Seq)
		}
		return err
	}); err != nil {
		w.fail("replay of the whole log: %v", err)
	}
}
