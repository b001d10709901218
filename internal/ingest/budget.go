package ingest

import (
	"sync"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// uncounted is what a request may hold before it is counted: most requests never touch the budget.
const uncounted = 16 << 10

// countStep is how much is taken from the budget at once.
const countStep = 16 << 10

// refusalBytes is what one refused row costs until the answer is written: its problem, and its text in the answer.
const refusalBytes = 512

// briefBytes is what it costs when only its code is told.
const briefBytes = 16

// budget bounds the memory of all requests that are being read, checked or answered. The writer's own limit covers what
// waits for the log; without this one a thousand large bodies at once, or small ones that are large as rows, would be held beside it.
//
// Half of it is anybody's; beyond that each principal that holds something has an equal part, and one that holds most of it alone leaves an eighth to
// those who come. A single request may always have all of it. Safe for concurrent use.
type budget struct {
	limit  int
	meters *meters
	mu     struct {
		sync.Mutex
		used    int
		holders map[senderKey]*holder
	}
}

// holder is what one principal has of the budget.
type holder struct{ bytes, requests int }

// share is what one request holds of the budget. Not for concurrent use.
type share struct {
	of    *budget
	who   senderKey
	table string // that it writes to; empty when there is none of that name
	bytes int    // held by the request
	taken int    // of them, taken from the budget
}

// begin says whose request it is, and to which table. Calling it again has no effect.
func (s *share) begin(of *budget, who auth.Principal, table string) {
	if s.of == nil {
		s.of, s.who, s.table = of, keyOf(who), table
	}
}

// grow counts n more bytes, or says that there is no room for them now.
func (s *share) grow(n int) *wire.Problem {
	s.bytes += n
	lacks := s.bytes - uncounted - s.taken
	if lacks <= 0 {
		return nil
	}
	step := (lacks + countStep - 1) / countStep * countStep
	if p := s.of.take(s.who, step, s.taken == 0); p != nil {
		if s.of.meters != nil {
			s.of.meters.refuse(s.table, reasonMemory)
		}
		return p
	}
	s.taken += step
	return nil
}

// free gives everything back. It may be called again.
func (s *share) free() {
	if s.taken > 0 {
		s.of.give(s.who, s.taken)
	}
	s.bytes, s.taken = 0, 0
}

// take takes bytes for a request of who; first says that it had none yet.
func (b *budget) take(who senderKey, bytes int, first bool) *wire.Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.mu.holders[who]
	own, requests, sharing := bytes, 0, len(b.mu.holders)
	if h == nil {
		sharing++
	} else {
		own, requests = own+h.bytes, h.requests
	}
	if first {
		requests++
	}
	after := b.mu.used + bytes
	part := b.limit / sharing
	switch {
	case sharing > 1:
	case requests == 1:
		part = b.limit
	default:
		part = b.limit / 8 * 7
	}
	switch {
	case after > b.limit:
		return busy("the memory for requests that are being read and checked is full", time.Second).
			WithHint("send again after the given time, less at once; raise limits.requests if this is a burst")
	case after > b.limit/2 && own > part:
		p := wire.NewProblem(wire.RateLimited, "the requests of this caller that are being read and checked take its share of the memory for them").
			WithHint("send again after the given time, less at once; raise limits.requests if this is a burst")
		p.RetryAfterMS = 1000
		return p
	}
	if h == nil {
		h = &holder{}
		if b.mu.holders == nil {
			b.mu.holders = map[senderKey]*holder{}
		}
		b.mu.holders[who] = h
	}
	h.bytes, h.requests = own, requests
	b.mu.used = after
	return nil
}

// give gives back all that a request of who took.
func (b *budget) give(who senderKey, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.mu.holders[who]
	h.bytes -= bytes
	h.requests--
	b.mu.used -= bytes
	if h.bytes == 0 {
		delete(b.mu.holders, who)
	}
}

// held returns the bytes that are taken.
func (b *budget) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.used
}
