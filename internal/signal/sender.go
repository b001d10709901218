package signal

import (
	"slices"
	"time"

	"laaster/internal/expr"
	"laaster/internal/wire"
)

// Sender is one connection: rows that it sets end with it. Create it with [State.Join].
type Sender struct {
	Tag any // what Join was given

	s   *State
	who Caller // its role comes with each Set

	// Guarded by the State's lock.
	rows   map[*row]struct{} // that it set last
	over   bool
	tokens int64 // signals that may take effect, in millionths
	at     int64 // when tokens was right, microseconds
	held   []*intent
	waits  int // bytes of held, as their clients sent them
}

// Bounds of what is held back.
const (
	heldRows = 4   // so many rows of the largest size for one sender; beyond it: rate_limited
	heldCost = 384 // of one signal beside its bytes, in bytes, estimated
)

// aToken is one signal in the unit of Sender.tokens: with it, a rate per second is tokens per microsecond.
const aToken = 1_000_000

// Join returns a sender for a connection. tag is for the caller to find it again from a [Refusal].
func (s *State) Join(now time.Time, who Caller, tag any) *Sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.stats.Senders++
	return &Sender{Tag: tag, s: s, who: who, rows: map[*row]struct{}{}, tokens: int64(s.opt.Burst) * aToken, at: now.UnixMicro()}
}

// Set sets the row of a key in a role, which may change from one to the next: key has the key columns, value the others; nil: clear. Beyond the rate it takes effect later, unless a newer one of
// the same key comes before. id comes back in a [Refusal] then.
func (x *Sender) Set(now time.Time, role string, ch *Channel, id string, key, value []byte) *wire.Problem {
	us, who := now.UnixMicro(), x.who
	who.Role = role
	in, p := x.s.intent(&who, ch, us, key, value, valuePart)
	if p != nil {
		return p
	}
	in.id = id
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.over {
		return nil // nobody waits for an answer
	}
	x.refill(us)
	if len(x.held) == 0 && x.tokens >= aToken {
		x.tokens -= aToken
		return s.applyLocked(x, in, us)
	}
	return s.holdLocked(x, in, us)
}

// refill adds the tokens of the time since the last look.
func (x *Sender) refill(now int64) {
	if past := now - x.at; past > 0 {
		x.at = now
		most := int64(x.s.opt.Burst) * aToken
		x.tokens = min(most, x.tokens+min(past, most)*int64(x.s.opt.Rate))
	}
}

// nextToken returns when there is a token, microseconds.
func (x *Sender) nextToken(now int64) int64 {
	rate := int64(x.s.opt.Rate)
	return max(now+1, x.at+(aToken-x.tokens+rate-1)/rate)
}

// holdLocked keeps a signal until the rate allows it, in the place of an older one of its key.
func (s *State) holdLocked(x *Sender, in *intent, now int64) *wire.Problem {
	i := slices.IndexFunc(x.held, func(old *intent) bool { return old.ch == in.ch && old.key == in.key })
	more, cost := in.size(), heldCost
	if i >= 0 {
		more, cost = more-x.held[i].size(), 0
	}
	switch {
	case i < 0 && len(x.held) >= s.opt.MaxHeld, more > 0 && x.waits+more > heldRows*s.opt.MaxRowBytes:
		p := wire.NewProblem(wire.RateLimited, "more signals than a connection may send").WithField("", "send each key less often")
		p.RetryAfterMS = max(1, len(x.held)*1000/s.opt.Rate)
		return p
	case more+cost > 0 && s.mu.stats.Bytes+more+cost > s.opt.MaxBytes:
		return s.noMemory()
	}
	in.ctx = &expr.Ctx{Now: in.ctx.Now, Subject: in.ctx.Subject, Role: in.ctx.Role} // without the draft that it was a part of
	s.mu.stats.Held++
	s.mu.stats.Bytes += more + cost
	x.waits += more
	if i >= 0 {
		s.mu.stats.Merged++
		x.held[i] = in
		return nil
	}
	x.held = append(x.held, in)
	s.mu.limited[x] = struct{}{}
	s.wantLocked(x.nextToken(now))
	return nil
}

// releaseLocked lets held signals take effect as far as the rate allows.
func (s *State) releaseLocked(x *Sender, now int64, refused []Refusal) []Refusal {
	x.refill(now)
	n := min(len(x.held), int(x.tokens/aToken))
	x.tokens -= int64(n) * aToken
	for _, in := range x.held[:n] {
		x.letGoLocked(in)
		if p := s.applyLocked(x, in, now); p != nil {
			refused = append(refused, Refusal{x, in.id, p})
		}
	}
	x.held = slices.Delete(x.held, 0, n)
	if len(x.held) == 0 {
		x.held = nil
		delete(s.mu.limited, x)
	}
	return refused
}

// letGoLocked counts a held signal no more.
func (x *Sender) letGoLocked(in *intent) {
	x.waits -= in.size()
	x.s.mu.stats.Bytes -= in.size() + heldCost
}

// Leave ends the sender with its connection: its rows of channels end at once, those of presence after the ttl, unless another sender sets them
// again. It may be called again.
func (x *Sender) Leave(now time.Time) {
	s, us := x.s, now.UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.over {
		return
	}
	for _, in := range x.held {
		x.letGoLocked(in)
	}
	x.over, x.held = true, nil
	delete(s.mu.limited, x)
	s.mu.stats.Senders--
	for r := range x.rows {
		if !r.ch.rules.Presence {
			s.mu.stats.Cleared++
			s.removeLocked(r, us)
			continue
		}
		s.ownLocked(r, nil)
		s.endsLocked(r, us+r.ch.ttl)
	}
}
