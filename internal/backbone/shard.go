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
	"laaster/internal/kit/fault"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

const (
	defaultPatience = 10 * time.Second
	retryPause      = 100 * time.Millisecond // between attempts of an append without an answer
	syncEvery       = 100 * time.Millisecond // of the high-water file, while there are new marks
)

// Options opens a shard.
type Options struct {
	Driver Driver // the store; the shard closes it
	// Reopen opens the store anew, as Driver was opened; it is called by [Shard.Reopen] once the driver before is closed. nil: a shard that
	// stopped stays stopped.
	Reopen func(ctx context.Context) (Driver, error)
	// Dir is an existing folder for the shard's high-water file. Empty keeps none, so that a shortened log goes unseen:
	// for stores that do not outlive the process.
	Dir   string
	Shard uint32
	// Keys encrypt what is appended, with the first of them, and open what is read. nil appends plain batches and reads only those. A plain
	// log may be opened with keys: it is encrypted from there on; an encrypted one does not open without them (Damage of kind Locked).
	Keys     *seal.Ring
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
	reopen   func(ctx context.Context) (Driver, error)
	dir      string // of the high-water file; empty without one
	shard    uint32
	keys     *seal.Ring
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
	sealer sealer        // of the append under way
	write  mark          // of the append under way
	trims  trimming

	halting sync.Mutex // held while the shard stops, until the marker of a failed sync is written

	mu struct {
		sync.Mutex
		driver  Driver // changed by Reopen
		log     change.LogID
		head    uint64
		digest  change.Digest // of the batch at head
		stamp   int64         // of the batch at head
		base    *base         // where the log begins; nil when nothing was trimmed
		stopped *Stopped      // why appends are refused, or nil
		pending change.Digest // of the batch of the newest append that began
	}
}

// Open opens the log of a shard, or creates it when neither the store nor the high-water file has anything. It verifies
// the end of the log, from the high-water mark on; Replay verifies everything. ctx bounds only the opening. When Open
// fails, the driver is closed.
func Open(ctx context.Context, o Options) (*Shard, error) {
	s := &Shard{reopen: o.Reopen, dir: o.Dir, shard: o.Shard, keys: o.Keys, clock: o.Clock, logger: o.Log, patience: o.Patience}
	s.mu.driver, s.sealer.keys = o.Driver, o.Keys
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
		return nil, errors.Join(err, s.driver().Close())
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
	if err := s.openBase(dir); err != nil {
		return err
	}
	if fault.Bug("log-reuse-sequence") {
		s.mark = nil // a shortened log is taken as it is
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
	if s.mark != nil && s.mark.Seq == s.mu.head {
		return nil
	}
	if s.mark != nil {
		s.recovery.Unmarked = s.mu.head - s.mark.Seq
	}
	if err := s.hw.write(now); err != nil {
		return err
	}
	fault.Point("log.mark_settled")
	return s.hw.sync()
}

// driver returns the store.
func (s *Shard) driver() Driver {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.driver
}

// readTail finds the head and verifies the batches from the high-water mark on, or the last one without a mark.
func (s *Shard) readTail(ctx context.Context) error {
	first, last, err := s.driver().Bounds(ctx)
	if err != nil {
		return fmt.Errorf("read the bounds of the log: %w", err)
	}
	v := verifier{shard: s.shard, mark: s.mark, next: last, opener: opener{keys: s.keys}}
	if s.mark != nil {
		v.log = s.mark.Log
		if last < s.mark.Seq {
			return v.damage(Shortened, last+1, s.mark.Seq, fmt.Sprintf("the log ends at %d and was acknowledged up to %d", last, s.mark.Seq))
		}
		v.next = max(1, s.mark.Seq)
	}
	base := s.mu.base
	if err := base.fits(&v, first, last); err != nil {
		return err
	}
	if base != nil && v.next <= base.First {
		base.begin(&v)
	}
	if last >= base.first() {
		all := v
		base.begin(&all)
		if err := s.verify(ctx, &v, last); err != nil {
			// The end is damaged. Where the damage begins, the whole log says.
			if first := s.verify(ctx, &all, last); first != nil {
				err = first
			}
			return err
		}
	}
	s.mu.head = last
	s.mu.log, s.mu.digest, s.mu.stamp = v.log, v.prev, v.stamp
	return nil
}

// verify reads and checks the batches from v.next to last.
func (s *Shard) verify(ctx context.Context, v *verifier, last uint64) error {
	err := s.driver().Read(ctx, v.next, func(seq uint64, raw []byte) error {
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
func (s *Shard) Level() Level { return s.driver().Level() }

// Recovery says what Open found.
func (s *Shard) Recovery() Recovery { return s.recovery }

// Err returns why appends are refused, a [*Stopped], or nil.
func (s *Shard) Err() error {
	if stopped := s.refusal(); stopped != nil {
		return stopped
	}
	return nil
}

// Replay calls fn for every batch from sequence from (0 and 1 are the first) to the head as of the call, verified: its
// checksum, its log and shard, its place, its link to its predecessor, and at the high-water mark its digest. b aliases a
// buffer that is valid during fn: Clone what must last. An error of fn ends the replay and is returned; a [*Damage] is
// returned as such and stops the shard.
func (s *Shard) Replay(ctx context.Context, from uint64, fn func(b *change.Batch) error) error {
	from = max(from, 1)
	v := s.verifier(max(1, from-1)) // one earlier, for the link
	s.mu.Lock()
	base := s.mu.base
	s.mu.Unlock()
	if from <= base.first() {
		base.begin(&v)
	}
	return s.replay(ctx, &v, from, fn)
}

// ReplayAfter is Replay from seq+1 for a caller that knows the digest and the stamp of batch seq, as a checkpoint does: the batch at seq
// need not be there any more, the one after it must link to that digest. When seq is the head, the digest must be the head's. Of a position or a
// digest that is not this log's, the error is a *Mismatch, and the log is none the worse for it. seq 0 is Replay from the first.
func (s *Shard) ReplayAfter(ctx context.Context, seq uint64, digest change.Digest, stamp int64, fn func(b *change.Batch) error) error {
	if seq == 0 {
		return s.Replay(ctx, 1, fn)
	}
	s.mu.Lock()
	head, last := s.mu.head, s.mu.digest
	s.mu.Unlock()
	if seq > head || seq == head && digest != last {
		return &Mismatch{Seq: seq, Head: head}
	}
	if err := s.checkLink(ctx, seq, digest); err != nil {
		return err
	}
	if fault.Bug("flow-apply-twice") && seq >= s.First() {
		return s.Replay(ctx, seq, fn)
	}
	v := s.verifier(seq + 1)
	v.prev, v.stamp, v.linked = digest, stamp, true
	return s.replay(ctx, &v, seq+1, fn)
}

// checkLink returns a *Mismatch when it is certain that the log is sound around seq and the digest is not that of its batch there. What is wrong with
// the log, the replay says.
func (s *Shard) checkLink(ctx context.Context, seq uint64, digest change.Digest) error {
	s.mu.Lock()
	base := s.mu.base
	s.mu.Unlock()
	if seq+1 == base.first() && base.Digest != digest {
		return &Mismatch{Seq: seq, Head: s.Head()}
	}
	if seq < base.first() {
		return nil
	}
	v := s.verifier(seq)
	var at change.Digest // of batch seq
	err := s.driver().Read(ctx, seq, func(got uint64, raw []byte) error {
		b, err := v.check(got, raw)
		switch {
		case err != nil:
			return err
		case got > seq:
			return errDone
		}
		at = b.Digest()
		return nil
	})
	if v.next > seq+1 && at != digest {
		return &Mismatch{Seq: seq, Head: s.Head()}
	}
	if damage := (*Damage)(nil); errors.As(err, &damage) || errors.Is(err, errDone) {
		return nil
	}
	return err
}

// Mismatch says that what somebody remembers of a log is not how the log is.
type Mismatch struct {
	Seq  uint64 // the batch that is another one, or is not there
	Head uint64 // where the log ends
}

// Error implements error.
func (e *Mismatch) Error() string {
	if e.Seq > e.Head {
		return fmt.Sprintf("it is of batch %d, and the log ends at %d", e.Seq, e.Head)
	}
	return fmt.Sprintf("batch %d of the log is another one", e.Seq)
}

// verifier returns one that begins at a sequence, whose predecessor it does not know.
func (s *Shard) verifier(next uint64) verifier {
	return verifier{log: s.ID(), shard: s.shard, mark: s.mark, next: next, opener: opener{keys: s.keys}}
}

// replay reads and verifies from v.next to the head and passes on what is at or after from.
func (s *Shard) replay(ctx context.Context, v *verifier, from uint64, fn func(b *change.Batch) error) error {
	s.mu.Lock()
	head, digest, first := s.mu.head, s.mu.digest, s.mu.base.first()
	s.mu.Unlock()
	if from > head {
		return nil
	}
	if from < first {
		return &Trimmed{From: from, First: first}
	}
	err := s.driver().Read(ctx, v.next, func(seq uint64, raw []byte) error {
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
		if first := s.First(); v.next < first { // what is missing was trimmed meanwhile
			return &Trimmed{From: v.next, First: first}
		}
		s.stop(stopped(Damaged, d))
		return d
	}
	return err
}

var errDone = errors.New("done")
