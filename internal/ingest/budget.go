package ingest

import (
	"sync/atomic"

	"laaster/internal/wire"
)

// uncounted is what a request may hold before it is counted: most requests never touch the budget.
const uncounted = 16 << 10

// countStep is how much is taken from the budget at once.
const countStep = 16 << 10

// refusalBytes is what one refused row costs until the answer is written: its problem, and its text in the answer.
const refusalBytes = 512

// budget bounds the memory of all requests that are being read, checked or answered. The writer's own limit covers what
// waits for the log; without this one a thousand large bodies at once, or small ones that are large as rows, would be held beside it.
type budget struct {
	limit int64
	used  atomic.Int64
}

// share is what one request holds of the budget. Not for concurrent use.
type share struct {
	of    *budget
	bytes int // held by the request
	taken int // of them, taken from the budget
}

// grow counts n more bytes, or says that there is no room for them now.
func (s *share) grow(n int) *wire.Problem {
	s.bytes += n
	lacks := s.bytes - uncounted - s.taken
	if lacks <= 0 {
		return nil
	}
	step := (lacks + countStep - 1) / countStep * countStep
	if s.of.used.Add(int64(step)) > s.of.limit {
		s.of.used.Add(-int64(step))
		p := wire.NewProblem(wire.Busy, "the memory for requests that are being read and checked is full").
			WithHint("send again after the given time, less at once; raise limits.requests if this is a burst")
		p.RetryAfterMS = 1000
		return p
	}
	s.taken += step
	return nil
}

// free gives everything back. It may be called again.
func (s *share) free() {
	if s.taken > 0 {
		s.of.used.Add(-int64(s.taken))
	}
	s.bytes, s.taken = 0, 0
}
