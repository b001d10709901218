package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"laaster/internal/auth"
	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/flow"
	"laaster/internal/ingest"
	"laaster/internal/kit/disk/simdisk"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/sql"
	"laaster/internal/view"
	"laaster/internal/wire"
)

const appSQL = `CREATE TABLE events (id bigint PRIMARY KEY, client integer NOT NULL, n bigint NOT NULL) WITH (append_only);
CREATE TABLE notes (client integer NOT NULL, n bigint NOT NULL) WITH (append_only);
CREATE TABLE things (id integer PRIMARY KEY, client integer NOT NULL, n bigint NOT NULL);
CREATE MATERIALIZED VIEW per_client AS SELECT client, count(*) AS n, sum(n) AS total FROM events GROUP BY client;
CREATE MATERIALIZED VIEW last AS SELECT client, n FROM notes ORDER BY n DESC, client LIMIT 3;
CREATE MATERIALIZED VIEW pairs WITH (allow_unbounded = true) AS SELECT e.client, count(*) AS n FROM events AS e JOIN things AS t ON t.client = e.client GROUP BY e.client;
GRANT ALL ON events, notes, things TO anon;
GRANT SELECT ON per_client, last, pairs TO anon;
`

// world is one history: what outlives the processes, and what was told to whom.
type world struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	program *flow.Program
	disk    *simdisk.Disk // of the checkpoints
	dir     string        // of the high-water mark and of where the log begins: a real folder, whose power is never cut
	store   *store
	late    []*call // whose answers were lost and that may still arrive
	clients []*client
	readers []*reader
	kept    uint64                   // position of the newest checkpoint that was committed
	told    map[uint64]change.Digest // of each position that a client was told: the batch there
	prints  map[uint64][16]byte      // the engine's fingerprint at each position that any life applied
	life    *life
	lives   int
	trimmed bool // the log begins later than it did
	cutting bool // a checkpoint was being written when the last life ended
	hostile bool // checkpoint files may be damaged
	harmed  int  // how many were
	suspect bool // a page could not be read: the next start reads them all
	met     map[string]int
	trace   []string
}

// life is one process.
type life struct {
	w       *world
	number  int
	disk    *paced
	shard   *backbone.Shard
	cps     *checkpoint.Store
	writer  *ingest.Writer
	door    *ingest.Door
	engine  *flow.Engine
	store   *view.Store
	group   *run.Group
	batches chan *ingest.Batch
	ended   chan error // of the writer
	applied uint64
	last    *change.Batch
	kept    uint64 // position of the newest checkpoint of this life
	flight  *flight
}

// flight is a checkpoint, or a second copy, that is being written.
type flight struct {
	engine *flow.Frozen
	store  *view.Frozen
	seq    uint64
	done   chan error
}

func (w *world) sometimes(what string) { w.met[what]++ }

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
	if len(w.trace) > 60 {
		w.trace = w.trace[1:]
	}
}

// broken is what a history ends with when an invariant does not hold.
type broken struct{ text string }

// fail ends the history.
func (w *world) fail(format string, args ...any) { panic(&broken{fmt.Sprintf(format, args...)}) }

// ended says how a history failed, with what led there, and ends what still runs.
func (w *world) ended(p any) {
	b, ok := p.(*broken)
	if !ok {
		b = &broken{fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
	}
	for _, s := range w.trace {
		w.t.Log(s)
	}
	w.t.Errorf("LAASTER_SEED=%d: %s", w.seed, b.text)
	if w.life != nil {
		w.life.die()
	}
}

func newWorld(t *testing.T, seed uint64, program *flow.Program, met map[string]int) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), program: program, disk: simdisk.New(seed), store: newStore(), met: met, dir: scratch(t),
		told: map[uint64]change.Digest{}, prints: map[uint64][16]byte{}}
	w.hostile = seed%3 == 0
	for i := range 4 {
		w.clients = append(w.clients, &client{w: w, n: i, things: map[int]int64{}})
	}
	for range 2 {
		w.readers = append(w.readers, &reader{w: w})
	}
	return w
}

// start brings up a new process as a node does, and checks what it recovered.
func (w *world) start() {
	w.lives++
	l := &life{w: w, number: w.lives, disk: newPaced(w.disk), group: run.New(context.Background()), batches: make(chan *ingest.Batch, 4), ended: make(chan error, 1)}
	w.life = l
	ctx := context.Background()
	var err error
	l.shard, err = backbone.Open(ctx, backbone.Options{Driver: w.store.open(l.disk.dead), Dir: w.dir, Clock: run.System{},
		Reopen: func(context.Context) (backbone.Driver, error) { return w.store.open(l.disk.dead), nil }})
	if err != nil {
		w.fail("life %d: open the log: %v", l.number, err)
	}
	for seq := range w.told {
		if seq > l.shard.Head() {
			w.fail("LOST: position %d was told, and the log ends at %d", seq, l.shard.Head())
		}
	}
	l.cps, err = checkpoint.Open(checkpoint.Options{Dir: "/data/checkpoints", Copy: "/data/copy", Log: l.shard.ID(), Clock: run.System{}, FS: l.disk,
		Slog: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.fail("life %d: open the checkpoints: %v", l.number, err)
	}
	l.recover(ctx)
	l.serve()
	w.say("life %d at %d, from %d", l.number, l.applied, l.kept)
}

func (l *life) engineOptions() flow.Options { return flow.Options{} }

// recover brings engine and views to the head of the log, from the newest checkpoint that can be used.
func (l *life) recover(ctx context.Context) {
	w := l.w
	l.committedIsThere()
	for i, info := range l.cps.List() {
		if err := l.resume(ctx, info); err != nil {
			w.say("life %d: the checkpoint of %d (copy %v) is not used: %v", l.number, info.Header.Seq, info.Copy, err)
			continue
		}
		w.sometimes("recovered from a checkpoint")
		if i > 0 {
			w.sometimes("recovered from an older checkpoint or the second copy")
		}
		if info.Copy {
			w.sometimes("second copy used")
		}
		if l.applied > info.Header.Seq {
			w.sometimes("replayed behind a checkpoint")
		}
		w.suspect = false
		return
	}
	if l.shard.First() > 1 {
		w.fail("life %d: the log begins at %d, and no checkpoint can be used", l.number, l.shard.First())
	}
	var err error
	if l.engine, err = flow.New(w.program, l.engineOptions()); err != nil {
		w.fail("%v", err)
	}
	l.store = view.New(w.program.Relations, view.Options{RingBytes: 2 << 10})
	if err := l.shard.Replay(ctx, 1, l.apply); err != nil {
		w.fail("life %d: replay: %v", l.number, err)
	}
	if w.lives > 1 {
		w.sometimes("recovered from the log alone")
	}
	w.suspect = false
	if err := l.verify(); err != nil {
		w.fail("life %d: %v", l.number, err)
	}
}

// committedIsThere checks that a checkpoint that was committed is there, in the first copy, until a newer one is.
func (l *life) committedIsThere() {
	if l.w.hostile || l.w.kept == 0 {
		return
	}
	for _, info := range l.cps.List() {
		if info.Err == nil && !info.Copy && info.Header.Seq >= l.w.kept {
			return
		}
	}
	l.w.fail("life %d: the checkpoint of %d was committed and is gone", l.number, l.w.kept)
}

// resume begins at a checkpoint.
func (l *life) resume(ctx context.Context, info checkpoint.Info) error {
	if info.Err != nil {
		l.w.sometimes("damaged or torn checkpoint ignored")
		return info.Err
	}
	if info.Header.Seq > l.shard.Head() {
		l.w.fail("a checkpoint of %d, and the log ends at %d", info.Header.Seq, l.shard.Head())
	}
	if info.Header.Seq+1 < l.shard.First() {
		return fmt.Errorf("the log begins at %d", l.shard.First())
	}
	state, err := l.cps.Load(info, l.w.suspect)
	if err != nil {
		l.w.sometimes("damaged or torn checkpoint ignored")
		return err
	}
	h := state.Header()
	if l.engine, err = flow.Load(l.w.program, l.engineOptions(), state); err != nil {
		return err
	}
	if l.store, err = view.Load(l.w.program.Relations, view.Options{RingBytes: 2 << 10}, state); err != nil {
		return err
	}
	l.applied, l.kept, l.last = h.Seq, h.Seq, nil
	if err := l.shard.ReplayAfter(ctx, h.Seq, h.Digest, h.Stamp, l.apply); err != nil {
		return err
	}
	return l.verify()
}

// apply is what the engine loop does with a batch. A page that cannot be read panics.
func (l *life) apply(b *change.Batch) error {
	return guarded(func() error { _, err := l.step(b); return err })
}

func (l *life) step(b *change.Batch) (*change.Epoch, error) {
	seq := b.Header().Seq
	epoch, err := l.engine.Apply(b)
	if err != nil {
		return nil, err
	}
	l.store.Apply(epoch)
	l.applied = seq
	last := b.Clone()
	l.last = &last
	print := l.engine.Fingerprint()
	if was, there := l.w.prints[seq]; there && was != print {
		l.w.fail("life %d: the state at %d is another one than it was", l.number, seq)
	}
	l.w.prints[seq] = print
	return epoch, nil
}

// verify checks a recovered state: it is that of the head, and holds what was acknowledged. The error is of a page that cannot be read.
func (l *life) verify() error {
	w := l.w
	if l.applied != l.shard.Head() {
		w.fail("life %d: the state is of %d, the log ends at %d", l.number, l.applied, l.shard.Head())
	}
	w.cutting = false
	err := guarded(func() error { w.checkRows("after the recovery"); return nil })
	if err != nil && w.harmed == 0 {
		w.fail("life %d: %v", l.number, err)
	}
	return err
}

// serve opens the door.
func (l *life) serve() {
	w := l.w
	if l.shard.Head() == 0 {
		var b change.Builder
		if err := b.Add(&change.Entry{Kind: change.EntryDefinition, Last: true, Body: w.program.Catalog}); err != nil {
			w.fail("%v", err)
		}
		go1 := make(chan error, 1)
		l.group.Go("definition", func(ctx context.Context) error {
			batch, err := l.shard.Append(ctx, &b)
			if err == nil {
				err = l.apply(&batch)
			}
			go1 <- err
			return nil
		})
		for {
			synctest.Wait()
			select {
			case err := <-go1:
				if err != nil {
					w.fail("the definition: %v", err)
				}
			default:
				w.decide(0) // answered as it should be
				continue
			}
			break
		}
	}
	metrics := observe.NewMetrics()
	l.writer = ingest.NewWriter(l.shard, run.System{}, metrics, l.batches, 1<<20, time.Second)
	l.writer.Reopen = func(ctx context.Context) ([]change.Batch, error) {
		select {
		case <-l.disk.dead:
			return nil, &backbone.Stopped{Reason: backbone.Closed, Err: errDead}
		default:
			w.sometimes("the log was reopened")
			return l.shard.Reopen(ctx)
		}
	}
	rules := &auth.Rules{}
	rules.Use(w.program.Definition)
	var err error
	l.door, err = ingest.NewDoor(ingest.Options{Tables: w.program.Relations, Rules: rules, Writer: l.writer, Clock: run.System{}, Metrics: metrics,
		Limits:   ingest.Limits{Row: 256 << 10, Body: 1 << 20, DedupeMemory: 1 << 20, Requests: 16 << 20},
		Position: func(seq uint64) string { return fmt.Sprint(seq) }, Applied: func() uint64 { return l.applied }, Remembered: func() int { return int(l.engine.SeenBytes()) }})
	if err != nil {
		w.fail("%v", err)
	}
	l.group.Go("writer", func(ctx context.Context) error {
		l.ended <- l.writer.Run(ctx)
		return nil
	})
}

// die ends a process: nothing of it has an effect any more but what is on its way to the log's store.
func (l *life) die() {
	w := l.w
	w.cutting = l.flight != nil
	for _, c := range w.clients {
		c.take() // what it was told before
	}
	close(l.disk.dead)
	w.store.mu.Lock()
	for _, c := range w.store.queue { // each of them arrives, or not, or later
		switch w.rng.IntN(3) {
		case 0:
			if w.store.put(c).err == nil {
				w.sometimes("a batch that nobody was told of is in the log")
			}
		case 1:
			w.late = append(w.late, c)
		}
		c.answer <- result{err: &backbone.Unknown{Err: errDead}}
	}
	w.store.queue = nil
	w.store.mu.Unlock()
	if l.writer == nil { // it failed at its start
		l.ended <- nil
		close(l.batches)
	} else {
		l.writer.Abort(wire.NewProblem(wire.Draining, "dead"))
	}
	closed := make(chan struct{})
	l.group.Go("close", func(context.Context) error {
		if l.shard != nil {
			_ = l.shard.Close()
		}
		close(closed)
		return nil
	})
	for open := true; open; {
		select {
		case b, more := <-l.batches:
			if open = more; more {
				l.writer.Abandon(b, wire.NewProblem(wire.Draining, "dead"))
			}
		case <-run.System{}.After(time.Hour):
			w.fail("life %d: the writer does not end", l.number)
		}
	}
	<-closed
	l.group.Stop()
	if err := l.group.Wait(); err != nil {
		w.fail("life %d: %v", l.number, err)
	}
	if l.cps != nil {
		_ = l.cps.Close()
	}
	synctest.Wait()
	for _, c := range w.clients {
		c.lose()
	}
	w.life = nil
}

func compiled(t *testing.T) *flow.Program {
	t.Helper()
	p, found := sql.Compile("app.sql", []byte(appSQL), nil)
	for _, f := range found {
		if f.Severity == sql.Error {
			t.Fatal(f.Render())
		}
	}
	return p
}

// scratch returns an empty folder, in memory where there is such a place: nothing here is to outlive a power cut.
func scratch(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "laaster-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
