package backbone

import (
	"context"
	"errors"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/seal"
)

// Files passes on whatever may be a batch in the files of a store that nobody has open, in their order: see jetstream.Salvage. It is called more than
// once and must pass on the same each time.
type Files func(fn func(data []byte, sound bool) (size int, err error)) error

// Range is a run of sequences, both ends in it.
type Range struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Loss is a run of batches that are not there, or cannot be trusted, between two that are.
type Loss struct {
	Range
	After  int64 // stamp of the batch before them, microseconds since 1970; 0 when it is not known
	Before int64 // of the batch behind them
}

// SurveyOptions says what is to be looked through.
type SurveyOptions struct {
	Dir   string // the data folder: high-water and base file
	Shard uint32
	Keys  *seal.Ring
	Files Files
	// Log is what log it is when neither high-water nor base file say; zero takes the log of the first batch.
	Log change.LogID
	// Ask lists batches of which the digest is wanted.
	Ask      []uint64
	Progress func(seq uint64) // of each batch; nil tells nobody
}

// Survey says what is left of a log.
type Survey struct {
	Log     change.LogID
	Shard   uint32
	First   uint64 // where the log is to begin: what the base says, else 1
	Found   uint64 // the first batch that is there, 0 when there is none
	Last    uint64 // the last position that certainly was
	Marked  uint64 // what the high-water mark says
	Batches uint64 // good ones from First on
	Bytes   int64  // that they take
	Lost    []Loss
	// Digests has the digests of the batches asked for, of which they are known: from themselves, or from their successors.
	Digests map[uint64]change.Digest
	Mark    error    // why the high-water file cannot be used, nil when it can or is not there
	Base    error    // why the base file cannot be used
	NoMark  bool     // there is no high-water file
	Trimmed bool     // there is a good base file
	Notes   []string // what else is wrong, for people

	options SurveyOptions
	base    *base
	stamp   int64 // of the last good batch
}

// Whole reports whether there is nothing to repair in the log.
func (s *Survey) Whole() bool {
	return len(s.Lost) == 0 && s.Mark == nil && s.Base == nil && !s.NoMark && len(s.Notes) == 0
}

// Look surveys a log whose store is not open. It changes nothing. A batch counts as good when its own checksum, or its seal, holds, and it is of this log;
// one that was found by searching must also link to a neighbour that is there. Errors besides those of reading: a *Damage of kind Locked
// or Newer, since with the key, or the newer program, nothing may be lost; and of kind Forged when nothing at all opens.
func Look(ctx context.Context, o SurveyOptions) (*Survey, error) {
	s := &Survey{Shard: o.Shard, Log: o.Log, First: 1, options: o, Digests: map[uint64]change.Digest{}}
	hw, m, err := openHighWater(highWaterPath(o.Dir, o.Shard))
	switch {
	case err != nil && errors.As(err, new(*change.NewerError)):
		return nil, err
	case err != nil:
		s.Mark = err
	case hw == nil:
		s.NoMark = true
	default:
		if err := hw.close(); err != nil {
			return nil, err
		}
		s.Log, s.Marked = m.Log, m.Seq
	}
	s.base, err = readBase(o.Dir, o.Shard)
	switch {
	case err != nil && errors.As(err, new(*change.NewerError)):
		return nil, err
	case err != nil:
		s.Base = err
	case s.base != nil && m != nil && s.base.Log != m.Log:
		s.Base = &BaseError{basePath(o.Dir, o.Shard), fmt.Errorf("it is of log %s, and the high-water file of log %s", s.base.Log, m.Log)}
		s.base = nil
	case s.base != nil:
		s.Log, s.First, s.Trimmed = s.base.Log, s.base.First, true
	}
	s.Last = max(s.Marked, s.First-1)
	return s, s.look(ctx, m)
}

func (s *Survey) look(ctx context.Context, m *mark) error {
	asked := map[uint64]bool{}
	for _, seq := range s.options.Ask {
		asked[seq] = true
	}
	next, stamp := s.First, int64(0)
	if s.base != nil {
		stamp = s.base.Stamp
	}
	sv := &sieve{keys: s.options.Keys, log: s.Log, shard: s.Shard}
	err := s.each(ctx, sv, func(b *change.Batch) error {
		h := b.Header()
		if s.Found == 0 {
			s.Found = h.Seq
		}
		if asked[h.Seq] {
			s.Digests[h.Seq] = b.Digest()
		}
		if asked[h.Seq-1] {
			s.Digests[h.Seq-1] = h.Prev
		}
		if m != nil && h.Seq == m.Seq && b.Digest() != m.Digest {
			s.note("the batch at %d is not the one that was acknowledged there (high-water mark): the store was rewound or exchanged", h.Seq)
		}
		if h.Seq < s.First {
			return nil
		}
		if h.Seq > next {
			s.Lost = append(s.Lost, Loss{Range{next, h.Seq - 1}, stamp, h.Stamp})
		}
		next, stamp = h.Seq+1, h.Stamp
		s.Batches++
		s.Bytes += int64(len(b.Raw()))
		if s.options.Progress != nil {
			s.options.Progress(h.Seq)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Log, s.Last, s.stamp = sv.log, max(s.Last, next-1), stamp
	if next <= s.Last {
		s.Lost = append(s.Lost, Loss{Range{next, s.Last}, stamp, 0})
	}
	if sv.foreign > 0 {
		s.note("%d batches are of another log or shard and are left out", sv.foreign)
	}
	for _, seq := range sv.breaks {
		s.note("batch %d does not follow the one before it, though both are whole", seq)
	}
	if sv.forged != nil && s.Batches == 0 {
		return sv.forged
	}
	return nil
}

// Extend says that a position certainly was, as a checkpoint or a lineage tells: what the log lacks up to there is lost.
func (s *Survey) Extend(known uint64) {
	if known <= s.Last {
		return
	}
	if n := len(s.Lost); n > 0 && s.Lost[n-1].To == s.Last {
		s.Lost[n-1].To = known
	} else {
		s.Lost = append(s.Lost, Loss{Range{s.Last + 1, known}, s.stamp, 0})
	}
	s.Last = known
}

// Start returns a digest and a stamp that a log which is made of this one may begin behind: those of batch first-1 where they are known. first is
// First, or follows a loss.
func (s *Survey) Start(first uint64) (change.Digest, int64) {
	if s.base != nil && first == s.base.First {
		return s.base.Digest, s.base.Stamp
	}
	for _, l := range s.Lost {
		if l.To+1 == first && l.Before > 0 {
			return change.Digest{}, l.Before - 1
		}
	}
	return change.Digest{}, 0
}

func (s *Survey) note(format string, args ...any) {
	const most = 20
	if len(s.Notes) < most {
		s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
	}
}

// Each calls fn for every good batch from First on, in order, as Look counted them. b is valid during fn.
func (s *Survey) Each(ctx context.Context, fn func(b *change.Batch) error) error {
	return s.each(ctx, &sieve{keys: s.options.Keys, log: s.Log, shard: s.Shard}, func(b *change.Batch) error {
		if b.Header().Seq < s.First {
			return nil
		}
		return fn(b)
	})
}

func (s *Survey) each(ctx context.Context, sv *sieve, fn func(b *change.Batch) error) error {
	sv.emit = fn
	err := s.options.Files(func(data []byte, sound bool) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return sv.take(data, sound)
	})
	if err == nil {
		err = sv.flush()
	}
	return err
}

// sieve lets good batches through. It holds one back until the next says whether it links to it.
type sieve struct {
	keys    *seal.Ring
	log     change.LogID
	shard   uint32
	emit    func(b *change.Batch) error
	foreign int
	breaks  []uint64 // the first few batches that do not link to a whole predecessor
	forged  error    // the first batch that does not open with its key

	bound  envelopeBound
	sealed bool
	held   struct {
		some   bool
		batch  change.Batch
		digest change.Digest
		firm   bool // the store's checksum holds, or it links to its predecessor
	}
	last stampedSeq // what was emitted last
}

// take looks at what may be a batch and returns how many bytes of it are one, 0 when it is none.
func (s *sieve) take(data []byte, sound bool) (int, error) {
	plain, size, err := s.open(data, sound)
	if err != nil || size == 0 {
		return 0, err
	}
	b, err := change.ParseBatch(plain)
	if newer := (*change.NewerError)(nil); errors.As(err, &newer) {
		return 0, s.damage(Newer, err)
	}
	if err != nil {
		return 0, nil
	}
	h := b.Header()
	if s.log == (change.LogID{}) {
		s.log = h.Log
	}
	if h.Log != s.log || h.Shard != s.shard || h.Seq == 0 {
		s.foreign++
		return size, nil
	}
	return size, s.hold(&b, sound)
}

// open returns the plain batch at the start of data, as far as it can be told without parsing it.
func (s *sieve) open(data []byte, sound bool) (plain []byte, size int, err error) {
	if !isEnvelope(data) {
		size = change.BatchLen(data)
		if s.sealed || size == 0 || sound && size != len(data) {
			return nil, 0, nil // a plain batch behind sealed ones is not ours
		}
		return data[:size], size, nil
	}
	plain, err = openEnvelope(s.keys, nil, data, &s.bound)
	newer, unknown := (*change.NewerError)(nil), (*seal.UnknownKeyError)(nil)
	switch {
	case err == nil:
		s.sealed = true
		return plain, len(data), nil
	case errors.As(err, &newer):
		return nil, 0, s.damage(Newer, err)
	case errors.As(err, &unknown):
		return nil, 0, s.damage(Locked, err)
	case errors.Is(err, seal.ErrForged) && s.forged == nil:
		s.forged = s.damage(Forged, err)
	}
	return nil, 0, nil
}

func (s *sieve) damage(k Kind, err error) error {
	return &Damage{Kind: k, Log: s.log, Shard: s.shard, From: s.last.seq + 1, To: s.last.seq + 1, Detail: err.Error(), Remedy: k.Remedy()}
}

// hold takes b in when it fits behind what was held, which goes on.
func (s *sieve) hold(b *change.Batch, sound bool) error {
	h := b.Header()
	if s.held.some && !s.held.firm && (h.Seq <= s.held.batch.Header().Seq || h.Seq == s.held.batch.Header().Seq+1 && h.Prev != s.held.digest) {
		s.held.some = false // it only looked like a batch
	}
	last := s.last
	if s.held.some {
		last = stampedSeq{s.held.batch.Header().Seq, s.held.batch.Header().Stamp}
	}
	if h.Seq <= last.seq || h.Stamp-last.stamp < int64(h.Seq-last.seq) {
		return nil // there already, or it cannot be behind the one before in any log
	}
	firm := sound
	if s.held.some && h.Seq == last.seq+1 {
		switch linked := h.Prev == s.held.digest; {
		case linked:
			firm, s.held.firm = true, true
		case !sound:
			return nil
		case len(s.breaks) < 10:
			s.breaks = append(s.breaks, h.Seq)
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.held.some, s.held.batch, s.held.digest, s.held.firm = true, b.Clone(), b.Digest(), firm
	return nil
}

// flush emits what is held, unless it was found by searching and links to nothing.
func (s *sieve) flush() error {
	if !s.held.some {
		return nil
	}
	s.held.some = false
	if !s.held.firm {
		return nil
	}
	s.last = stampedSeq{s.held.batch.Header().Seq, s.held.batch.Header().Stamp}
	return s.emit(&s.held.batch)
}

// stampedSeq is a sequence and the stamp of its batch.
type stampedSeq struct {
	seq   uint64
	stamp int64
}
