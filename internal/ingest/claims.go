package ingest

import (
	"sync"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// What is remembered of a row with an id of its own and of a request with a key, about, in bytes: only the parts that principals have of the whole
// count, and the engine says how large the whole is.
const (
	claimOfRow     = 64
	claimOfRequest = 256
)

// slots is how finely the window is divided; mostClaims bounds the principals whose part is known; others count as newcomers.
const (
	slots      = 8
	mostClaims = 1 << 14
)

// claims knows which part of the memory for ids and idempotency keys each principal has filled within the window, so that one cannot fill it for
// all: half of it is anybody's, beyond that each has an equal part, and one that is alone leaves an eighth to those who come. It begins with nothing at a start. Safe
// for concurrent use.
type claims struct {
	window time.Duration
	mu     struct {
		sync.Mutex
		of    map[senderKey]*claim
		total int
		swept int64 // slot
	}
}

type claim struct {
	at    int64 // the newest slot
	bytes [slots]int
	sum   int
}

// forget moves c to slot now and returns how many bytes left the window.
func (c *claim) forget(now int64) (gone int) {
	for ; c.at < now && c.sum > 0; c.at++ {
		i := (c.at + 1) % slots
		gone += c.bytes[i]
		c.sum -= c.bytes[i]
		c.bytes[i] = 0
	}
	c.at = now
	return gone
}

// take counts bytes as who's, or says why not. filled is how much of limit is taken.
func (c *claims) take(who auth.Principal, bytes, filled, limit int, now time.Time) *wire.Problem {
	slot := max(time.Millisecond, c.window/slots)
	at, key := now.UnixNano()/int64(slot), keyOf(who)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.of == nil {
		c.mu.of = map[senderKey]*claim{}
	}
	if at != c.mu.swept {
		c.mu.swept = at
		for k, x := range c.mu.of {
			if c.mu.total -= x.forget(at); x.sum == 0 {
				delete(c.mu.of, k)
			}
		}
	}
	own := c.mu.of[key]
	sharing, part := len(c.mu.of), 0
	if own == nil {
		sharing++
	} else {
		part = int(float64(filled) * float64(own.sum) / float64(c.mu.total))
	}
	most := limit / sharing
	if sharing == 1 {
		most = limit / 8 * 7
	}
	after := min(max(slot-time.Duration(now.UnixNano()%int64(slot)), retryMin), retryMost) // when something leaves the window
	switch {
	case filled >= limit:
		return busy("the memory for ids and idempotency keys is full", after).
			WithHint("it empties as the window passes; raise limits.dedupe_memory, or shorten limits.dedupe_window")
	case filled > limit/2 && part > most:
		p := wire.NewProblem(wire.RateLimited, "this caller has its share of the memory for ids and idempotency keys").
			WithHint("it empties as the window passes; a producer with sequences takes next to nothing of it")
		p.RetryAfterMS = int(after / time.Millisecond)
		return p
	}
	if own == nil {
		if len(c.mu.of) >= mostClaims {
			return nil
		}
		own = &claim{at: at}
		c.mu.of[key] = own
	}
	own.bytes[at%slots] += bytes
	own.sum += bytes
	c.mu.total += bytes
	return nil
}
