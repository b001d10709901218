package ingest

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/fault"
	"laaster/internal/wire"
)

// How long the writer waits before it asks again to have the log reopened: the first time, and at most.
const (
	reopenPause = 100 * time.Millisecond
	reopenMost  = 5 * time.Second
)

// reopen has a log that stopped taken back to work, however long that takes, and finds out what became of the batch under way. again says that
// it is not in the log and is to be appended: its requests still wait. Meanwhile writes wait for room; after the writer's wait everybody
// who waits is answered: what was queued is not stored, and of the batch under way nobody can say. An error is the log's end.
func (w *Writer) reopen(ctx context.Context, f *flight, why *backbone.Stopped) (again bool, err error) {
	reason := wire.NewProblem(wire.Busy, "the log has stopped ("+string(why.Reason)+") and is being reopened").WithHint(why.Remedy)
	reason.RetryAfterMS = 5000
	w.stall(reason)
	defer w.stall(nil)
	late, pause := w.clock.After(w.wait), reopenPause
	for {
		found, err := w.Reopen(ctx)
		if err == nil {
			w.meters.reopened.Inc()
			fault.Point("ingest.reopened")
			return w.settle(f, found, late == nil), nil
		}
		if final := (*backbone.Stopped)(nil); errors.As(err, &final) && final.Reason != backbone.DiskFull && final.Reason != backbone.Unresolved {
			w.fail(f, final)
			return false, err
		}
		again := w.clock.After(pause)
		pause = min(2*pause, reopenMost)
		for waiting := true; waiting; {
			select {
			case <-again:
				waiting = false
			case <-late:
				late = nil
				w.giveUp(f, reason)
			case <-w.wake:
			case <-ctx.Done():
				w.Close(wire.NewProblem(wire.Draining, "the server is shutting down"))
			}
			if w.ends() {
				w.giveUp(f, reason)
				w.release(f.parts, false)
				return false, nil
			}
		}
	}
}

// ends reports whether nothing is accepted any more, and sees to it that the loop looks again.
func (w *Writer) ends() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed != nil {
		w.rouse()
	}
	return w.mu.closed != nil
}

// giveUp answers those who have waited long enough for the log.
func (w *Writer) giveUp(f *flight, reason *wire.Problem) {
	p := wire.NewProblem(wire.Unresolved, reason.Detail+"; whether this write is in it is not known yet").
		WithHint("repeat it with the same ids or Idempotency-Key: it takes effect once")
	p.RetryAfterMS = reason.RetryAfterMS
	for _, x := range f.parts {
		x.answer(answer{problem: p})
	}
	w.dropQueue(func(x *part) *wire.Problem {
		return w.notStored(x, reason.Detail, "send it again after the given time", time.Duration(reason.RetryAfterMS)*time.Millisecond)
	})
}

// settle decides what becomes of f now that the log has said which batch it has. again says that it is to be appended.
func (w *Writer) settle(f *flight, found []change.Batch, answered bool) (again bool) {
	stored := false
	for i := range found {
		b := &found[i]
		ours := f.build.Seal(*b.Header())
		if stored || !bytes.Equal(ours.Raw(), b.Raw()) {
			w.send(&Batch{Batch: b.Clone(), Received: w.clock.Now(), Logged: w.clock.Now()})
			continue
		}
		stored = !fault.Bug("ingest-double-append")
		w.handOver(f, b)
	}
	switch {
	case stored:
		return false
	case answered: // nobody waits for it any more: who wants it sends it again
		w.release(f.parts, false)
		return false
	}
	return true
}

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
