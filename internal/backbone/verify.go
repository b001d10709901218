package backbone

import (
	"errors"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/seal"
)

// verifier checks batches as they are read, in order.
type verifier struct {
	log    change.LogID // zero until the first batch names it
	shard  uint32
	next   uint64        // the sequence that must come next
	prev   change.Digest // of batch next-1
	stamp  int64         // of batch next-1
	linked bool          // prev and stamp are known
	mark   *mark         // what the high-water file says; nil when there is none
	opener opener        // with the keys of an encrypted log
}

// check returns the batch at seq when it is the one that must come next, or a *Damage. raw is what the store has; the batch is valid until
// the next call and as long as raw.
func (v *verifier) check(seq uint64, raw []byte) (change.Batch, error) {
	if seq > v.next {
		return change.Batch{}, v.damage(Hole, v.next, seq-1, fmt.Sprintf("the store goes on at %d", seq))
	}
	if seq < v.next {
		return change.Batch{}, fmt.Errorf("the store returned batch %d where %d was due", seq, v.next)
	}
	plain, err := v.opener.open(raw)
	if err != nil {
		return change.Batch{}, v.envelopeDamage(seq, err)
	}
	b, err := change.ParseBatch(plain)
	if err != nil {
		return b, v.parseDamage(seq, err)
	}
	if err := v.checkHeader(seq, b.Header()); err != nil {
		return b, err
	}
	digest := b.Digest()
	if m := v.mark; m != nil && seq == m.Seq && digest != m.Digest {
		return b, v.damage(Chain, seq, seq, "it is not the batch that was acknowledged at this position (high-water mark)")
	}
	v.next, v.prev, v.stamp, v.linked = seq+1, digest, b.Header().Stamp, true
	return b, nil
}

// checkHeader checks what the batch says about its place.
func (v *verifier) checkHeader(seq uint64, h *change.Header) error {
	if v.log == (change.LogID{}) {
		v.log = h.Log
	}
	switch {
	case h.Log != v.log:
		return v.damage(Foreign, seq, seq, fmt.Sprintf("it belongs to log %s, this is log %s", h.Log, v.log))
	case h.Shard != v.shard:
		return v.damage(Foreign, seq, seq, fmt.Sprintf("it belongs to shard %d", h.Shard))
	case h.Seq != seq:
		return v.damage(Chain, seq, seq, fmt.Sprintf("it was written as batch %d", h.Seq))
	case v.linked && h.Prev != v.prev:
		return v.damage(Chain, seq, seq, "it does not follow the batch before it")
	case v.linked && h.Stamp <= v.stamp:
		return v.damage(Chain, seq, seq, "its time is not after that of the batch before it")
	}
	return nil
}

// parseDamage says what a batch that cannot be parsed means.
func (v *verifier) parseDamage(seq uint64, err error) error {
	kind := Malformed
	if newer := (*change.NewerError)(nil); errors.As(err, &newer) {
		kind = Newer
	} else if errors.Is(err, change.ErrChecksum) || errors.Is(err, change.ErrMagic) {
		kind = Checksum
	}
	return v.damage(kind, seq, seq, err.Error())
}

// envelopeDamage says what an envelope that does not open means.
func (v *verifier) envelopeDamage(seq uint64, err error) error {
	kind := Malformed
	newer, unknown := (*change.NewerError)(nil), (*seal.UnknownKeyError)(nil)
	switch {
	case errors.As(err, &newer):
		kind = Newer
	case errors.As(err, &unknown):
		kind = Locked
	case errors.Is(err, seal.ErrForged), errors.Is(err, errUnsealed):
		kind = Forged
	case errors.Is(err, errEnvelopeSum):
		kind = Checksum
	case errors.Is(err, errEnvelopePlace):
		kind = Chain
	}
	return v.damage(kind, seq, seq, err.Error())
}

// end reports a log that stops before last.
func (v *verifier) end(last uint64) error {
	if v.next <= last {
		return v.damage(Hole, v.next, last, "the store says that it has them and does not return them")
	}
	return nil
}

func (v *verifier) damage(k Kind, from, to uint64, detail string) *Damage {
	return &Damage{Kind: k, Log: v.log, Shard: v.shard, From: from, To: to, Detail: detail, Remedy: k.Remedy()}
}
