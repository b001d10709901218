package backbone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"laaster/internal/change"
)

// Append completes b as the next batch and appends it. When it returns without error, the batch is as durable as Level
// says; it aliases b until b.Reset. An error that is not a [*Stopped] means that the batch is not in the log and that b may
// be appended again. One append is under way at a time, others wait; ctx ends the wait, but not an append that has begun.
func (s *Shard) Append(ctx context.Context, b *change.Builder) (change.Batch, error) {
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return change.Batch{}, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return change.Batch{}, err
	}
	s.mu.Lock()
	err := s.mu.stopped
	h := change.Header{Log: s.mu.log, Shard: s.shard, Seq: s.mu.head + 1, Prev: s.mu.digest,
		Stamp: max(s.clock.Now().UnixMicro(), s.mu.stamp+1)}
	s.mu.Unlock()
	if err != nil {
		return change.Batch{}, err
	}
	batch := b.Seal(h)
	if err := s.store(context.WithoutCancel(ctx), batch.Raw(), h.Seq); err != nil {
		return change.Batch{}, err
	}
	digest := batch.Digest()
	if s.hw != nil {
		if err := s.hw.write(&mark{Log: h.Log, Shard: h.Shard, Seq: h.Seq, Digest: digest}); err != nil {
			return change.Batch{}, s.stop(stopped(reasonOf(err), err))
		}
		select {
		case s.dirty <- struct{}{}:
		default:
		}
	}
	s.mu.Lock()
	s.mu.head, s.mu.digest, s.mu.stamp = h.Seq, digest, h.Stamp
	s.mu.Unlock()
	return batch, nil
}

// store appends raw as seq and sees to it that the outcome is known. Repeating an append is safe: the same bytes after the
// same predecessor are stored at most once, and an append that finds the place taken reads back by whom.
func (s *Shard) store(ctx context.Context, raw []byte, seq uint64) error {
	var (
		lost   *Unknown         // the attempt that may have arrived
		giveUp <-chan time.Time // from the first such attempt on
	)
	for {
		got, err := s.driver.Append(ctx, raw, seq-1)
		if err == nil && got != seq {
			err = fmt.Errorf("the store put batch %d at %d", seq, got)
			return s.stop(stopped(Unresolved, err))
		}
		if fenced := (*Fenced)(nil); errors.As(err, &fenced) {
			err = s.readBack(ctx, raw, seq, fenced)
		}
		unknown, write := (*Unknown)(nil), (*WriteError)(nil)
		damage, fenced := (*Damage)(nil), (*Fenced)(nil)
		switch {
		case err == nil:
			return nil
		case errors.As(err, &write):
			reason := WriteFail
			if write.Full {
				reason = DiskFull
			}
			return s.stop(stopped(reason, err))
		case errors.As(err, &damage):
			return s.stop(stopped(Damaged, err))
		case errors.As(err, &fenced):
			return s.stop(stopped(Displaced, err))
		case errors.As(err, &unknown):
			if lost == nil {
				giveUp = s.clock.After(s.patience)
			}
			lost = unknown
		case lost == nil:
			return fmt.Errorf("append batch %d: %w", seq, err) // certainly not stored
		}
		s.logger.Warn("an append had no answer and is tried again", "seq", seq, "error", err)
		select {
		case <-giveUp:
			return s.stop(stopped(Unresolved, lost))
		case <-s.clock.After(retryPause):
		}
	}
}

// readBack decides an append that found its place taken: nil when the batch there is ours, from an attempt whose answer
// was lost; the *Fenced when it is another's; a *Damage when the log ends before our predecessor; an *Unknown when it
// cannot be read.
func (s *Shard) readBack(ctx context.Context, raw []byte, seq uint64, fenced *Fenced) error {
	_, last, err := s.driver.Bounds(ctx)
	if err != nil {
		return &Unknown{Err: fmt.Errorf("read back: %w", err)}
	}
	fenced.Last = last
	if last < seq-1 {
		v := verifier{log: s.ID(), shard: s.shard}
		return v.damage(Shortened, last+1, seq-1, fmt.Sprintf("the store ends at %d, and %d was acknowledged by this process", last, seq-1))
	}
	found, ours := false, false
	err = s.driver.Read(ctx, seq, func(at uint64, data []byte) error {
		found, ours = at == seq, at == seq && bytes.Equal(data, raw)
		return errDone
	})
	switch {
	case err != nil && err != errDone:
		return &Unknown{Err: fmt.Errorf("read back: %w", err)}
	case ours:
		return nil
	case !found:
		return &Unknown{Err: fmt.Errorf("read back: the log ends at %d and does not return batch %d", last, seq)}
	}
	return fenced
}

// stop makes the shard refuse appends from now on, with the first reason that it is given, and returns that.
func (s *Shard) stop(err *Stopped) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopped == nil {
		s.mu.stopped = err
		if err.Reason != Closed {
			s.logger.Error("the log takes no more appends", "reason", string(err.Reason), "error", err.Err)
		}
	}
	return s.mu.stopped
}
