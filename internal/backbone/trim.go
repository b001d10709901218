package backbone

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"laaster/internal/change"
	"laaster/internal/kit/fault"
)

// Trimmed says that a position was asked for which the log no longer has.
type Trimmed struct {
	From  uint64 // the batch that was asked for
	First uint64 // the first that is there
}

// Error implements error.
func (e *Trimmed) Error() string {
	return fmt.Sprintf("batch %d was trimmed: the log begins at %d", e.From, e.First)
}

// batchOverhead is about what the store adds to the bytes of each batch.
const batchOverhead = 100

// trimming is what belongs to the trims of a shard, which are made one at a time.
type trimming struct {
	sync.Mutex
	dir     string // of the base file; empty keeps none
	counted struct {
		from, next uint64 // the batches from and up to before next
		bytes      int64  // take this much
	}
}

// First returns the sequence of the first batch that is kept; 1 when nothing was trimmed, also of an empty log.
func (s *Shard) First() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.base.first()
}

// Base returns where the log begins, and the digest and the stamp of the batch before: zero when nothing was trimmed.
func (s *Shard) Base() (first uint64, digest change.Digest, stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.mu.base; b != nil {
		return b.First, b.Digest, b.Stamp
	}
	return 1, change.Digest{}, 0
}

// Trim takes away the batches before first, at most up to the head, which stays. That the log begins at first is durable before the store is told:
// a crash in between leaves a store with more than the log says, which the next Trim takes away. Nobody may be reading what goes: a Replay that does
// ends with a *Trimmed. Appends go on meanwhile. Safe for concurrent use; a first that is not later than First only repeats what a crash or an error left undone.
func (s *Shard) Trim(ctx context.Context, first uint64) error {
	s.trims.Lock()
	defer s.trims.Unlock()
	s.mu.Lock()
	log, now, head := s.mu.log, s.mu.base, s.mu.head
	s.mu.Unlock()
	first = min(first, head)
	if first > now.first() {
		before, err := s.batchAt(ctx, first-1)
		if err != nil {
			return fmt.Errorf("trim the log at %d: %w", first, err)
		}
		now = &base{Log: log, Shard: s.shard, First: first, Stamp: before.Header().Stamp, Digest: before.Digest()}
		if s.trims.dir != "" {
			if err := writeBase(s.trims.dir, now); err != nil {
				return fmt.Errorf("trim the log at %d: %w", first, err)
			}
		}
		fault.Point("log.base_written")
		s.mu.Lock()
		s.mu.base = now
		s.mu.Unlock()
	}
	if now.first() == 1 {
		return nil
	}
	stored, _, err := s.driver().Bounds(ctx)
	if err != nil || stored >= now.first() {
		return err
	}
	first = now.first()
	if fault.Bug("trim-too-far") {
		first++
	}
	if err := s.driver().Trim(ctx, first); err != nil {
		return fmt.Errorf("trim the log at %d: %w", first, err)
	}
	fault.Point("log.trimmed")
	return nil
}

// batchAt returns a copy of one batch that is in the log, checked by itself: not its links, which need its neighbours.
func (s *Shard) batchAt(ctx context.Context, seq uint64) (out change.Batch, err error) {
	v := verifier{log: s.ID(), shard: s.shard, mark: s.mark, next: seq, opener: opener{keys: s.keys}}
	err = s.driver().Read(ctx, seq, func(at uint64, raw []byte) error {
		b, err := v.check(at, raw)
		if err != nil {
			return err
		}
		out = b.Clone()
		return errDone
	})
	if err == nil {
		return out, v.end(seq)
	}
	if err == errDone {
		err = nil
	}
	return out, err
}

// Extent returns the first and the last sequence of the log, and how many bytes its store takes. A log without batches ends before it begins.
func (s *Shard) Extent(ctx context.Context) (first, last uint64, bytes int64, err error) {
	if bytes, err = s.driver().Size(ctx); err != nil {
		return 0, 0, 0, fmt.Errorf("ask for the size of the log: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.base.first(), s.mu.head, bytes, nil
}

// Floor returns the first sequence to keep when batches older than age go, and the oldest that make the store larger than bytes; 0 is no limit. It is at
// most the head. For the bytes it reads what would go, each batch once. Nobody trims on its own: see Trim.
func (s *Shard) Floor(ctx context.Context, age time.Duration, bytes int64) (uint64, error) {
	floor, head, size, err := s.Extent(ctx)
	if err != nil || head < floor {
		return floor, err
	}
	if age > 0 {
		at, err := s.FirstAfter(ctx, s.clock.Now().Add(-age).UnixMicro())
		if err != nil {
			return 0, err
		}
		floor = max(floor, min(at, head))
	}
	if bytes > 0 && size > bytes {
		at, err := s.beyond(ctx, size-bytes)
		if err != nil {
			return 0, err
		}
		floor = max(floor, min(at, head))
	}
	return floor, nil
}

// FirstAfter returns the first batch whose stamp is at least t (microseconds since 1970), the sequence after the head when there is none.
// It reads a single batch for each halving of the log.
func (s *Shard) FirstAfter(ctx context.Context, t int64) (uint64, error) {
	s.mu.Lock()
	low, high := s.mu.base.first(), s.mu.head+1
	s.mu.Unlock()
	for low < high {
		middle := low + (high-low)/2
		b, err := s.batchAt(ctx, middle)
		if err != nil {
			return 0, err
		}
		if b.Header().Stamp < t {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// beyond returns the batch before which there are at least this many bytes.
func (s *Shard) beyond(ctx context.Context, bytes int64) (uint64, error) {
	s.trims.Lock()
	defer s.trims.Unlock()
	c := &s.trims.counted
	if first := s.First(); c.from != first || c.bytes > bytes {
		c.from, c.next, c.bytes = first, first, 0
	}
	if c.bytes >= bytes {
		return c.next, nil
	}
	err := s.driver().Read(ctx, c.next, func(seq uint64, raw []byte) error {
		c.next = seq + 1
		if c.bytes += int64(len(raw)) + batchOverhead; c.bytes >= bytes {
			return errDone
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errDone) {
		return 0, err
	}
	return c.next, nil
}
