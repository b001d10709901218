package backbone

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"laaster/internal/change"
	"laaster/internal/kit/run"
)

const (
	defaultPatience = 10 * time.Second
	retryPause      = 100 * time.Millisecond // between attempts of an append without an answer
	syncEvery       = 100 * time.Millisecond // of the high-water file, while there are new marks
)

// Options opens a shard.
type Options struct {
	Driver Driver // the store; the shard closes it
	// Dir is an existing folder for the shard's high-water file. Empty keeps none, so that a shortened log goes unseen:
	// for stores that do not outlive the process.
	Dir      string
	Shard    uint32
	Clock    run.Clock
	Log      *slog.Logger  // nil logs nothing
	Patience time.Duration // how long an append is tried before it is given up as unresolved; 0 is 10 s
}

// Recovery is what Open found.
type Recovery struct {
	Created bool   // the log is new
	Head    uint64 // the last position
	// MarkMissing says that the log had batches but no high-water file: it was made anew from the log as it is, and
	// nothing tells whether the log is shorter than it was.
	MarkMissing bool
	Unmarked    uint64 // batches behind the high-water mark: appended just before a power cut, intact
}

// Shard is one log: a verified, single-writer view of a [Driver]. Safe for concurrent use.
type Shard struct {
	driver   Driver
	shard    uint32
	clock    run.Clock
	logger   *slog.Logger
	patience time.Duration
	mark     *mark // as the high-water file had it when it was opened
	recovery Recovery

	group *run.Group    // the goroutine that syncs the high-water file
	dirty chan struct{} // has an item when there are marks to sync

	gate   chan struct{} // holds an item while an append is under way
	closed bool          // by the holder of the gate
	hw     *highWater    // nil without Dir; written by the append under way

	mu struct {
		sync.Mutex
		log     change.LogID
		head    uint64
		digest  change.Digest // of the batch at head
		stamp   int64         // of the batch at head
		stopped error         // why appends are refused, or nil
	}
}

// Open opens the log of a shard, or creates it when neither the store nor the high-water file has anything. It verifies
// the end of the log, from the high-water mark on; Replay verifies everything. ctx bounds only the opening. When Open
// fails, the driver is closed.
func Open(ctx context.Context, o Options) (*Shard, error) {
	s := &Shard{driver: o.Driver, shard: o.Shard, clock: o.Clock, logger: o.Log, patience: o.Patience}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.patience <= 0 {
		s.patience = defaultPatience
	}
	s.gate, s.dirty = make(chan struct{}, 1), make(chan struct{}, 1)
	s.group = run.New(context.WithoutCancel(ctx)) // ends with Close
	if err := s.open(ctx, o.Dir); err != nil {
		if s.hw != nil {
			err = errors.Join(err, s.hw.close())
		}
		return nil, errors.Join(err, s.driver.Close())
	}
	if s.hw != nil {
		s.group.Go("high-water sync", s.syncMarks)
	}
	return s, nil
}

func (s *Shard) open(ctx context.Context, dir string) error {
	path := highWaterPath(dir, s.shard)
	if dir != "" {
		var err error
		if s.hw, s.mark, err = openHighWater(path); err != nil {
			return err
		}
	}
	if s.mark != nil && s.mark.Shard != s.shard {
		return fmt.Errorf("the high-water file %s is of shard %d", path, s.mark.Shard)
	}
	if err := s.readTail(ctx); err != nil {
		return err
	}
	if s.mu.log == (change.LogID{}) {
		s.mu.log = newLogID()
		s.recovery.Created = true
	}
	s.recovery.Head = s.mu.head
	if dir == "" {
		return nil
	}
	return s.settleMark(path)
}

// settleMark makes the high-water file agree with the log that readTail found intact.
func (s *Shard) settleMark(path string) error {
	now := &mark{Log: s.mu.log, Shard: s.shard, Seq: s.mu.head, Digest: s.mu.digest}
	if s.hw == nil {
		if s.mu.head > 0 {
			s.recovery.MarkMissing = true
			s.logger.Warn("the high-water file was missing and is made anew: whether the log is shorter than it was cannot be told",
				"file", path, "head", s.mu.head)
		}
		var err error
		s.hw, err = createHighWater(path, now)
		return err
	}
	if s.mark.Seq == s.mu.head {
		return nil
	}
	s.recovery.Unmarked = s.mu.head - s.mark.Seq
	if err := s.hw.write(now); err != nil {
		return err
	}
	return s.hw.sync()
}

// readTail finds the head and verifies the batches from the high-water mark on, or the last one without a mark.
func (s *Shard) readTail(ctx context.Context) error {
	first, last, err := s.driver.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("read the bounds of the log: %w", err)
	}
	v := verifier{shard: s.shard, mark: s.mark, next: last}
	if s.mark != nil {
		v.log = s.mark.Log
		if last < s.mark.Seq {
			return v.damage(Shortened, last+1, s.mark.Seq, fmt.Sprintf("the log ends at %d and was acknowledged up to %d", last, s.mark.Seq))
		}
		v.next = max(1, s.mark.Seq)
	}
	if first > 1 {
		return v.damage(Hole, 1, first-1, fmt.Sprintf("the store begins at %d", first))
	}
	if last > 0 {
		all := v
		all.next = 1
		if err := s.verify(ctx, &v, last); err != nil {
			// The end is damaged. Where the damage begins, the whole log says.
			if first := s.verify(ctx, &all, last); first != nil {
				err = first
			}
			return err
		}
		s.mu.head = last
	}
	s.mu.log, s.mu.digest, s.mu.stamp = v.log, v.prev, v.stamp
	return nil
}

// verify reads and checks the batches from v.next to last.
func (s *Shard) verify(ctx context.Context, v *verifier, last uint64) error {
	err := s.driver.Read(ctx, v.next, func(seq uint64, raw []byte) error {
		if v.next > last {
			return errDone // appended meanwhile, by another writer
		}
		_, err := v.check(seq, raw)
		return err
	})
	if err != nil && err != errDone {
		return err
	}
	return v.end(last)
}

// newLogID makes the name of a new log.
func newLogID() change.LogID {
	var b [10]byte
	rand.Read(b[:]) // never fails
	id := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	return change.LogID([]byte(id))
}

// ID returns the log's id.
func (s *Shard) ID() change.LogID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.log
}

// Number returns the shard's number.
func (s *Shard) Number() uint32 { return s.shard }

// Head returns the sequence of the last batch, 0 when there is none.
func (s *Shard) Head() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.head
}

// Level says what an acknowledged append survives.
func (s *Shard) Level() Level { return s.driver.Level() }

// Recovery says what Open found.
func (s *Shard) Recovery() Recovery { return s.recovery }

// Err returns why appends are refused, a [*Stopped], or nil.
func (s *Shard) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.stopped
}

// Replay calls fn for every batch from sequence from (0 and 1 are the first) to the head as of the call, verified: its
// checksum, its log and shard, its place, its link to its predecessor, and at the high-water mark its digest. b aliases a
// buffer that is valid during fn: Clone what must last. An error of fn ends the replay and is returned; a [*Damage] is
// returned as such and stops the shard.
func (s *Shard) Replay(ctx context.Context, from uint64, fn func(b *change.Batch) error) error {
	s.mu.Lock()
	head, digest, log := s.mu.head, s.mu.digest, s.mu.log
	s.mu.Unlock()
	from = max(from, 1)
	if from > head {
		return nil
	}
	v := verifier{log: log, shard: s.shard, mark: s.mark, next: max(1, from-1)} // one earlier, for the link
	err := s.driver.Read(ctx, v.next, func(seq uint64, raw []byte) error {
		if seq > head && v.next > head {
			return errDone
		}
		b, err := v.check(seq, raw)
		if err != nil || seq < from {
			return err
		}
		return fn(&b)
	})
	if err == nil || err == errDone {
		err = v.end(head)
		if err == nil && v.prev != digest && v.next == head+1 {
			err = v.damage(Chain, head, head, "it changed since it was appended")
		}
	}
	if d := (*Damage)(nil); errors.As(err, &d) {
		s.stop(stopped(Damaged, d))
		return d
	}
	return err
}

var errDone = errors.New("done")
