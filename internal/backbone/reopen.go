package backbone

import (
	"context"
	"errors"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// Reopen takes a shard back to work that stopped for want of space, or on an append that it could not resolve ([Stopped] with DiskFull or
// Unresolved), without an end of the process: it closes the store, opens it anew with Options.Reopen, verifies the end of the log as Open
// does, and takes appends again. The append that was under way is decided by that: found is that batch when the log has it,
// and else empty: the caller passes it on to whoever follows the log, before it appends again, as if Append had returned it.
//
// When it fails, the shard is stopped as before and Reopen may be called again; with a *Stopped it stays stopped (what is in the log is damaged, or
// another process's, or the disk fails in another way). It waits for the append under way; a Replay that runs meanwhile ends with an error.
func (s *Shard) Reopen(ctx context.Context) (found []change.Batch, err error) {
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	why := s.mu.stopped
	s.mu.Unlock()
	if why == nil {
		return nil, nil
	}
	if s.reopen == nil || why.Reason != DiskFull && why.Reason != Unresolved {
		return nil, why
	}
	if err := s.driver().Close(); err != nil {
		s.logger.Warn("the store that stopped did not close well", "error", err)
	}
	fault.Point("log.store_closed")
	d, err := s.reopen(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the store anew: %w", err)
	}
	s.mu.Lock()
	s.mu.driver = d
	s.mu.Unlock()
	fault.Point("log.store_reopened")
	found, err = s.catchUp(ctx)
	damage, fenced, write := (*Damage)(nil), (*Fenced)(nil), (*WriteError)(nil)
	switch {
	case errors.As(err, &damage):
		return nil, s.stopWorse(stopped(Damaged, damage))
	case errors.As(err, &fenced):
		return nil, s.stopWorse(stopped(Displaced, fenced))
	case errors.As(err, &write) && !write.Full:
		return nil, s.stopWorse(stopped(WriteFail, write))
	case err != nil:
		return nil, err
	}
	s.mu.Lock()
	s.mu.stopped = nil
	s.mu.Unlock()
	s.logger.Info("the log takes appends again", "head", s.Head(), "found", len(found), "stopped by", string(why.Reason))
	return found, nil
}

// catchUp verifies the log from the head on, moves the head to where it ends, and the mark with it, durably.
func (s *Shard) catchUp(ctx context.Context) (found []change.Batch, err error) {
	_, last, err := s.driver().Bounds(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the bounds of the log: %w", err)
	}
	s.mu.Lock()
	head, pending := mark{Log: s.mu.log, Shard: s.shard, Seq: s.mu.head, Digest: s.mu.digest}, s.mu.pending
	base := s.mu.base
	s.mu.Unlock()
	v := s.verifier(max(1, head.Seq))
	if v.mark = &head; head.Seq < base.first() {
		base.begin(&v)
	}
	if last < head.Seq {
		return nil, v.damage(Shortened, last+1, head.Seq, fmt.Sprintf("the store ends at %d, and %d was acknowledged by this process", last, head.Seq))
	}
	if last > head.Seq+1 {
		return nil, &Fenced{After: head.Seq, Last: last}
	}
	if last >= v.next {
		err = s.driver().Read(ctx, v.next, func(seq uint64, raw []byte) error {
			b, err := v.check(seq, raw)
			if err == nil && seq > head.Seq {
				found = append(found, b.Clone())
			}
			return err
		})
		if err == nil {
			err = v.end(last)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(found) > 0 && v.prev != pending {
		return nil, &Fenced{After: head.Seq, Last: last}
	}
	if s.hw != nil && v.linked { // also when nothing was found: the mark's own last sync may have failed
		m := mark{Log: head.Log, Shard: s.shard, Seq: last, Digest: v.prev}
		if err := errors.Join(s.hw.write(&m), s.hw.sync()); err != nil {
			return nil, &WriteError{Full: disk.IsFull(err), Err: err}
		}
		fault.Point("log.reopened_marked")
	}
	if v.linked {
		s.mu.Lock()
		s.mu.head, s.mu.digest, s.mu.stamp = last, v.prev, v.stamp
		s.mu.Unlock()
	}
	return found, nil
}
