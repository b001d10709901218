package ingest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/backbone"
	"laaster/internal/backbone/memory"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

type rig struct {
	t      *testing.T
	clock  *run.Manual
	writer *Writer
	out    chan *Batch
	group  *run.Group
	shard  *backbone.Shard
}

func newRig(t *testing.T, log Log, limit int) *rig {
	t.Helper()
	r := &rig{t: t, clock: run.NewManual(time.UnixMicro(1e15)), out: make(chan *Batch, 1), group: run.New(t.Context())}
	if log == nil {
		var err error
		r.shard, err = backbone.Open(t.Context(), backbone.Options{Driver: memory.New(), Clock: r.clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		log = r.shard
	}
	r.writer = NewWriter(log, r.clock, observe.NewMetrics(), r.out, limit, 2*time.Second)
	r.group.Go("writer", r.writer.Run)
	return r
}

func newPart(size int) *part {
	return &part{entry: change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Count: 1,
		Body: change.AppendRecord(nil, change.OpInsert, &change.Record{Row: make(change.Row, size)})}, done: make(chan answer, 1)}
}

// submit lets parts in as one write of the anonymous principal and queues them.
func (r *rig) submit(ctx context.Context, parts []*part) *wire.Problem {
	return r.submitAs(ctx, auth.Anonymous(), parts)
}

func (r *rig) submitAs(ctx context.Context, who auth.Principal, parts []*part) *wire.Problem {
	size := 0
	for _, p := range parts {
		size += p.entry.Size()
	}
	t, problem := r.writer.enter(ctx, who, app.NormalPriority, "t", size)
	if problem != nil {
		return problem
	}
	return r.writer.submit(t, parts)
}

func (r *rig) complete(b *Batch) {
	r.writer.Complete(b, make([]change.Outcome, b.Header().Entries))
}

func TestWriterBatchesWhatArrivesMeanwhile(t *testing.T) {
	r := newRig(t, nil, 1<<20)
	first := newPart(10)
	if p := r.submit(t.Context(), []*part{first}); p != nil {
		t.Fatal(p)
	}
	b1 := <-r.out // in the engine's hands: the writer is free
	// Two batches may be on their way (one in out, one that waits for it); what comes later shares one batch.
	var parts []*part
	for range 50 {
		x := newPart(10)
		parts = append(parts, x)
		if p := r.submit(t.Context(), []*part{x}); p != nil {
			t.Fatal(p)
		}
	}
	r.complete(b1)
	if a := <-first.done; a.problem != nil || a.seq != 1 {
		t.Fatalf("first: %+v", a)
	}
	entries, batches := 0, 0
	for entries < 50 {
		b := <-r.out
		entries += int(b.Header().Entries)
		batches++
		r.complete(b)
	}
	for _, x := range parts {
		if a := <-x.done; a.problem != nil || a.seq < 2 {
			t.Fatalf("%+v", a)
		}
	}
	if batches == 50 {
		t.Error("fifty batches for fifty entries that came while the writer waited: nothing was shared")
	}
	if r.writer.Held() != 0 {
		t.Errorf("%d bytes still held", r.writer.Held())
	}
	r.close()
}

func (r *rig) close() {
	r.writer.Close(wire.NewProblem(wire.Draining, "test ends"))
	for b := range r.out {
		r.complete(b)
	}
	if err := r.group.Wait(); err != nil {
		r.t.Error(err)
	}
	if r.shard != nil {
		if err := r.shard.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

func TestWriterFull(t *testing.T) {
	r := newRig(t, nil, 100<<10)
	held := newPart(60_000)
	if p := r.submit(t.Context(), []*part{held}); p != nil {
		t.Fatal(p)
	}
	b := <-r.out
	busy := make(chan *wire.Problem, 1)
	g := run.New(t.Context())
	g.Go("waits in vain", func(ctx context.Context) error {
		busy <- r.submit(ctx, []*part{newPart(60_000)})
		return nil
	})
	r.clock.AwaitSleepers(1)
	r.clock.Advance(2 * time.Second)
	if p := <-busy; p == nil || p.Code != wire.Busy || p.RetryAfterMS < 100 || !strings.Contains(p.Detail, "the engine is behind") {
		t.Fatalf("got %v, want busy with its reason and a time to come back", p)
	}
	if p := r.submit(t.Context(), []*part{newPart(60_000)}); p == nil || p.Code != wire.Busy {
		t.Fatalf("got %v, want busy at once: who was just refused does not wait again", p)
	}
	r.clock.Advance(recovery)
	lucky := newPart(60_000)
	g.Go("waits for room", func(ctx context.Context) error {
		busy <- r.submit(ctx, []*part{lucky})
		return nil
	})
	r.clock.AwaitSleepers(1)
	r.complete(b)
	if p := <-busy; p != nil {
		t.Fatalf("there was room, got %v", p)
	}
	r.complete(<-r.out)
	if a := <-lucky.done; a.problem != nil {
		t.Fatal(a.problem)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	r.close()
}

// brokenLog fails once in the given way.
type brokenLog struct {
	backbone *backbone.Shard
	err      error
}

func (l *brokenLog) Append(ctx context.Context, b *change.Builder) (change.Batch, error) {
	if err := l.err; err != nil {
		if stopped := (*backbone.Stopped)(nil); !errors.As(err, &stopped) {
			l.err = nil
		}
		return change.Batch{}, err
	}
	return l.backbone.Append(ctx, b)
}

func openMemory(t *testing.T) *backbone.Shard {
	t.Helper()
	s, err := backbone.Open(t.Context(), backbone.Options{Driver: memory.New(), Clock: run.System{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestWriterRefusedAppendGoesOn(t *testing.T) {
	log := &brokenLog{openMemory(t), errors.New("not now")}
	r := newRig(t, log, 1<<20)
	x := newPart(1)
	if p := r.submit(t.Context(), []*part{x}); p != nil {
		t.Fatal(p)
	}
	if a := <-x.done; a.problem == nil || a.problem.Code != wire.Busy {
		t.Fatalf("got %+v, want busy: nothing was stored", a)
	}
	y := newPart(1)
	if p := r.submit(t.Context(), []*part{y}); p != nil {
		t.Fatal(p)
	}
	r.complete(<-r.out)
	if a := <-y.done; a.problem != nil || a.seq != 1 {
		t.Fatalf("got %+v, want sequence 1", a)
	}
	r.close()
}

func TestWriterStopsWithItsLog(t *testing.T) {
	for reason, code := range map[backbone.Reason]wire.Code{backbone.DiskFull: wire.Unresolved, backbone.WriteFail: wire.StorageDamaged} {
		t.Run(string(reason), func(t *testing.T) { stopsWith(t, reason, code) })
	}
}

func stopsWith(t *testing.T, reason backbone.Reason, code wire.Code) {
	stop := &backbone.Stopped{Reason: reason, Err: errors.New("no space left")}
	r := newRig(t, &brokenLog{openMemory(t), stop}, 1<<20)
	x := newPart(1)
	if p := r.submit(t.Context(), []*part{x}); p != nil {
		t.Fatal(p)
	}
	if a := <-x.done; a.problem == nil || a.problem.Code != code {
		t.Fatalf("got %+v, want %s", a, code)
	}
	if err := r.group.Wait(); !errors.Is(err, error(stop)) {
		t.Fatalf("the loop ended with %v", err)
	}
	if code == wire.Unresolved {
		code = wire.Busy // certainly not stored
	}
	if p := r.submit(t.Context(), []*part{newPart(1)}); p == nil || p.Code != code {
		t.Fatalf("a write after the end: %v", p)
	}
}
