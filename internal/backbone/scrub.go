package backbone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"laaster/internal/kit/run"
)

// scrubStep is how many bytes are read at once. An append that comes meanwhile waits no longer than for one such read.
const scrubStep = 256 << 10

// Cursor is where a check of a log is. The zero value is the beginning; it belongs to one log and one reader.
type Cursor struct {
	v     verifier
	begun bool
}

// Next returns the sequence that is checked next.
func (c *Cursor) Next() uint64 { return max(1, c.v.next) }

// Check reads on from a cursor, about limit bytes and no further than the head, and verifies as [Shard.Replay] does; but damage does not stop the shard:
// it is returned, and the cursor goes on behind it. What was trimmed meanwhile is passed over. atHead says that there is nothing more.
func (s *Shard) Check(ctx context.Context, c *Cursor, limit int64) (read int64, atHead bool, err error) {
	s.mu.Lock()
	head, base := s.mu.head, s.mu.base
	log := s.mu.log
	s.mu.Unlock()
	if !c.begun || c.v.next < base.first() {
		c.v = verifier{}
		base.begin(&c.v)
		c.begun = true
	}
	v := &c.v
	v.log, v.shard, v.mark, v.opener.keys = log, s.shard, s.mark, s.keys
	if v.next > head {
		return 0, true, nil
	}
	err = s.driver().Read(ctx, v.next, func(seq uint64, raw []byte) error {
		if seq > head && v.next > head {
			return errDone
		}
		if _, err := v.check(seq, raw); err != nil {
			return err
		}
		if read += int64(len(raw)); read >= limit {
			return errDone
		}
		return ctx.Err()
	})
	if err == nil && v.next <= head {
		err = v.end(head)
	}
	damage := (*Damage)(nil)
	switch {
	case errors.Is(err, errDone):
		err = nil
	case errors.As(err, &damage):
		if v.next < s.First() { // it was trimmed meanwhile
			return read, false, nil
		}
		v.next, v.linked = max(damage.To, v.next)+1, false
	}
	return read, v.next > head, err
}

// Forgetter is a driver that can have the system drop what it caches of the store, so that reading it reads the disk.
type Forgetter interface {
	// Forget may do nothing. It may be called at any time.
	Forget()
}

// ScrubOptions sets up a [Scrubber].
type ScrubOptions struct {
	Shard *Shard
	// Others scrubs what else is at rest, such as checkpoints: about limit bytes of it, and returns the damage found. A pass of it ends when it reads
	// nothing or no more is due; nil is nothing else.
	Others func(limit int64) (read int64, damage []error)
	Size   func() int64 // how many bytes Others has in all
	Rate   int64        // bytes a second; 0 scrubs never
	Every  time.Duration
	Delay  time.Duration // before the first pass; 0 begins at once, as is right after an end that was not clean
	Clock  run.Clock
	Log    *slog.Logger // nil logs nothing
	// Found is called for each damage, once for each pass, and Passed after each pass with how many there were; nil tells nobody.
	Found  func(err error)
	Passed func(damage int)
}

// Scrubber reads everything at rest again and again and verifies it, slowly, so that damage is found while there is still another copy. It only tells:
// the shard goes on. Methods may be called concurrently.
type Scrubber struct {
	o  ScrubOptions
	mu struct {
		sync.Mutex
		s ScrubStatus
	}
}

// ScrubStatus is where a scrubber is.
type ScrubStatus struct {
	Passes   int       // that were finished
	Running  bool      // a pass is under way
	Position uint64    // of the log, that the pass has reached
	Bytes    int64     // read since the start
	Began    time.Time // when the newest pass began; zero: none has
	Finished time.Time // when the newest finished one ended
	Damage   []string  // what the newest pass found, and, while one is under way, the one before; at most 100
}

const maxScrubDamage = 100

// NewScrubber returns a scrubber, which does nothing until Run.
func NewScrubber(o ScrubOptions) *Scrubber {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Scrubber{o: o}
}

// Status returns where it is.
func (s *Scrubber) Status() ScrubStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.mu.s
	out.Damage = append([]string(nil), out.Damage...)
	return out
}

// Run scrubs until ctx ends, a whole pass each Every. It never fails: what goes wrong is told.
func (s *Scrubber) Run(ctx context.Context) error {
	if s.o.Rate <= 0 {
		return nil
	}
	wait := s.o.Delay
	for {
		if !s.sleep(ctx, wait) {
			return nil
		}
		began := s.o.Clock.Now()
		if err := s.pass(ctx, began); err != nil {
			return nil // ctx has ended
		}
		wait = max(0, s.o.Every-s.o.Clock.Now().Sub(began))
	}
}

func (s *Scrubber) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-s.o.Clock.After(d):
		return true
	}
}

// pass reads everything once.
func (s *Scrubber) pass(ctx context.Context, began time.Time) error {
	s.mu.Lock()
	s.mu.s.Running, s.mu.s.Began, s.mu.s.Position = true, began, 0
	s.mu.Unlock()
	if f, ok := s.o.Shard.driver().(Forgetter); ok {
		f.Forget()
	}
	var found []string
	tell := func(err error) {
		s.o.Log.Error("the scrubber found damage", "error", err.Error())
		if s.o.Found != nil {
			s.o.Found(err)
		}
		if len(found) < maxScrubDamage {
			found = append(found, err.Error())
		}
	}
	if err := s.log(ctx, tell); err != nil {
		return err
	}
	if err := s.others(ctx, tell); err != nil {
		return err
	}
	s.mu.Lock()
	m := &s.mu.s
	m.Running, m.Passes, m.Finished, m.Damage = false, m.Passes+1, s.o.Clock.Now(), found
	s.mu.Unlock()
	s.o.Log.Debug("a scrub has ended", "took", s.o.Clock.Now().Sub(began), "damage", len(found))
	if s.o.Passed != nil {
		s.o.Passed(len(found))
	}
	return nil
}

// log reads the log. A store that cannot be read just now, while it is opened anew, is tried again.
func (s *Scrubber) log(ctx context.Context, tell func(error)) error {
	var c Cursor
	failed := 0
	for {
		read, atHead, err := s.o.Shard.Check(ctx, &c, scrubStep)
		s.mu.Lock()
		s.mu.s.Bytes += read
		s.mu.s.Position = c.Next() - 1
		s.mu.Unlock()
		damage := (*Damage)(nil)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &damage):
			tell(err)
			failed = 0
		case err != nil:
			const most = 10
			if failed++; failed == most {
				tell(fmt.Errorf("the log cannot be read from batch %d on: %w", c.Next(), err))
				return nil
			}
			read = s.o.Rate * int64(failed) // wait for some seconds
		default:
			failed = 0
		}
		if !s.rest(ctx, read) {
			return ctx.Err()
		}
		if atHead {
			return nil
		}
	}
}

// others scrubs what is beside the log: as much as there is of it when it begins.
func (s *Scrubber) others(ctx context.Context, tell func(error)) error {
	if s.o.Others == nil {
		return ctx.Err()
	}
	for left := s.o.Size(); left > 0; {
		read, damage := s.o.Others(min(left, scrubStep))
		s.mu.Lock()
		s.mu.s.Bytes += read
		s.mu.Unlock()
		for _, err := range damage {
			if !errors.Is(err, fs.ErrClosed) {
				tell(err)
			}
		}
		if left -= read; read == 0 && len(damage) == 0 {
			break
		}
		if !s.rest(ctx, read) {
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// rest waits as long as reading so many bytes may take.
func (s *Scrubber) rest(ctx context.Context, read int64) bool {
	return s.sleep(ctx, time.Duration(float64(read)/float64(s.o.Rate)*float64(time.Second)))
}
