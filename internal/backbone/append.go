package backbone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"laaster/internal/change"
	"laaster/internal/kit/fault"
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
	if refused := s.refusal(); refused != nil {
		return change.Batch{}, refused
	}
	s.mu.Lock()
	h := change.Header{Log: s.mu.log, Shard: s.shard, Seq: s.mu.head + 1, Prev: s.mu.digest,
		Stamp: max(s.clock.Now().UnixMicro(), s.mu.stamp+1)}
	s.mu.Unlock()
	batch := b.Seal(h)
	digest := batch.Digest()
	s.mu.Lock()
	s.mu.pending = digest
	s.mu.Unlock()
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	if err := s.store(ctx, s.sealer.wrap(&batch), h.Seq); err != nil {
		return change.Batch{}, err
	}
	fault.Point("log.appended")
	if err := s.acknowledge(h.Log, h.Seq, digest); err != nil {
		return change.Batch{}, err
	}
	if refused := s.advance(h.Seq, digest, h.Stamp); refused != nil {
		return change.Batch{}, refused
	}
	fault.Point("log.acknowledged")
	return batch, nil
}

// advance moves the head to a batch that was appended, unless the shard was stopped meanwhile, such as by a failed sync of the mark: then the batch
// is not answered, though it is in the log.
func (s *Shard) advance(seq uint64, digest change.Digest, stamp int64) *Stopped {
	s.mu.Lock()
	going := s.mu.stopped == nil
	if going {
		s.mu.head, s.mu.digest, s.mu.stamp = seq, digest, stamp
	}
	s.mu.Unlock()
	if going {
		return nil
	}
	return s.refusal()
}

// acknowledge moves the high-water mark to a batch that the store has. It is the last thing before the append is answered.
func (s *Shard) acknowledge(log change.LogID, seq uint64, digest change.Digest) error {
	if s.hw == nil || fault.Bug("log-skip-mark") {
		return nil
	}
	s.write = mark{Log: log, Shard: s.shard, Seq: seq, Digest: digest}
	if err := s.hw.write(&s.write); err != nil {
		return s.stop(stopped(reasonOf(err), err))
	}
	fault.Point("log.marked")
	select {
	case s.dirty <- struct{}{}:
	default:
	}
	return nil
}

// store appends raw, what the store is to hold of a batch, as seq and sees to it that the outcome is known. Repeating an append is safe: the same bytes after the
// same predecessor are stored at most once, and an append that finds the place taken reads back by whom.
func (s *Shard) store(ctx context.Context, raw []byte, seq uint64) error {
	fault.Point("log.append_begins")
	got, err := s.driver().Append(ctx, raw, seq-1)
	if err == nil && got == seq {
		return nil
	}
	return s.resolve(ctx, raw, seq, got, err)
}

// resolve goes on after the first attempt to store raw as seq did not simply succeed.
func (s *Shard) resolve(ctx context.Context, raw []byte, seq, got uint64, err error) error {
	var (
		lost   *Unknown         // the attempt that may have arrived
		giveUp <-chan time.Time // from the first such attempt on
	)
	for ; ; got, err = s.again(ctx, raw, seq) {
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
		fault.Point("log.answer_lost")
		s.logger.Warn("an append had no answer and is tried again", "seq", seq, "error", err)
		select {
		case <-giveUp:
			return s.stop(stopped(Unresolved, lost))
		case <-s.clock.After(retryPause):
		}
	}
}

// again repeats the append of raw as seq, of which one may have arrived.
func (s *Shard) again(ctx context.Context, raw []byte, seq uint64) (uint64, error) {
	if fault.Bug("log-unknown-retry") { // wherever the log ends now
		_, last, err := s.driver().Bounds(ctx)
		if err != nil {
			return 0, &Unknown{Err: err}
		}
		if _, err = s.driver().Append(ctx, raw, last); err != nil {
			return 0, err
		}
		return seq, nil
	}
	return s.driver().Append(ctx, raw, seq-1)
}

// readBack decides an append that found its place taken: nil when the batch there is ours, from an attempt whose answer
// was lost; the *Fenced when it is another's; a *Damage when the log ends before our predecessor; an *Unknown when it
// cannot be read.
func (s *Shard) readBack(ctx context.Context, raw []byte, seq uint64, fenced *Fenced) error {
	_, last, err := s.driver().Bounds(ctx)
	if err != nil {
		return &Unknown{Err: fmt.Errorf("read back: %w", err)}
	}
	fenced.Last = last
	if last < seq-1 {
		v := verifier{log: s.ID(), shard: s.shard}
		return v.damage(Shortened, last+1, seq-1, fmt.Sprintf("the store ends at %d, and %d was acknowledged by this process", last, seq-1))
	}
	found, ours := false, false
	err = s.driver().Read(ctx, seq, func(at uint64, data []byte) error {
		found, ours = at == seq, at == seq && bytes.Equal(data, raw)
		return errDone
	})
	switch {
	case err != nil && err != errDone:
		return &Unknown{Err: fmt.Errorf("read back: %w", err)}
	case ours:
		fault.Point("log.read_back")
		return nil
	case !found:
		return &Unknown{Err: fmt.Errorf("read back: the log ends at %d and does not return batch %d", last, seq)}
	}
	return fenced
}

// stop makes the shard refuse appends from now on, with the first reason that it is given, and returns that. When the store, or the high-water
// file, could not be written for another reason than space, nothing tells what of the bytes that the system has in memory ever reaches the
// disk: the marker says so to the next start ([ResyncStore]).
func (s *Shard) stop(err *Stopped) error {
	s.halting.Lock()
	defer s.halting.Unlock()
	s.mu.Lock()
	before := s.mu.stopped
	if before == nil {
		s.mu.stopped = err
	}
	s.mu.Unlock()
	if before != nil {
		return before
	}
	s.tell(err)
	return err
}

// stopWorse is stop for a shard that is stopped already, for a reason that could have passed.
func (s *Shard) stopWorse(err *Stopped) error {
	s.halting.Lock()
	defer s.halting.Unlock()
	s.mu.Lock()
	s.mu.stopped = err
	s.mu.Unlock()
	s.tell(err)
	return err
}

// refusal returns why appends are refused, nil when they are not. Whoever hears of it may end the process: everything that the stop is to leave
// behind is there by then.
func (s *Shard) refusal() *Stopped {
	s.mu.Lock()
	stopped := s.mu.stopped
	s.mu.Unlock()
	if stopped != nil {
		s.halting.Lock() // wait for the one that is under way
		defer s.halting.Unlock()
	}
	return stopped
}

// tell says why the shard has stopped, to the log and where it matters to the next start.
func (s *Shard) tell(err *Stopped) {
	if err.Reason == Closed {
		return
	}
	s.logger.Error("the log takes no more appends", "reason", string(err.Reason), "error", err.Err)
	if err.Reason == WriteFail && s.dir != "" {
		if merr := markUnsynced(s.dir, s.clock.Now(), err.Err); merr != nil {
			s.logger.Error("the marker of a failed sync cannot be written: give the next start the disk as it is, and have the files of the store "+
				"rewritten by hand (an empty file "+unsyncedName+" in the data folder does that)", "folder", s.dir, "error", merr)
		}
	}
}
