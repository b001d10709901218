package ingest

import (
	"context"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// Limiter bounds how much each caller may write. Its methods are called concurrently and do not wait; a nil problem lets the write go on.
type Limiter interface {
	// Ask says why a request of so many bytes may not come now. It is asked before anything of it is read; 0: its size is not known.
	Ask(p auth.Principal, bytes int) *wire.Problem
	// Came is told the size of a request of which Ask did not know it.
	Came(p auth.Principal, bytes int)
	// Write says why the table may not take a write of so many bytes now. It is asked of those who may write there, before the rows are read.
	Write(p auth.Principal, table string, bytes int) *wire.Problem
	// Rows says why so many rows may not be written. It is asked when they are read, before they are queued: nothing took effect.
	Rows(p auth.Principal, table string, rows int) *wire.Problem
	// Wrote is told why nothing of a write took effect.
	Wrote(p auth.Principal, code wire.Code)
}

// noLimiter is what a Door has that is given none.
type noLimiter struct{}

func (noLimiter) Ask(auth.Principal, int) *wire.Problem           { return nil }
func (noLimiter) Came(auth.Principal, int)                        {}
func (noLimiter) Write(auth.Principal, string, int) *wire.Problem { return nil }
func (noLimiter) Rows(auth.Principal, string, int) *wire.Problem  { return nil }
func (noLimiter) Wrote(auth.Principal, wire.Code)                 {}

// linger waits a part of the time that a caller is told to wait: who asks again and again, without looking at the answers, gets few of them on a connection.
func (d *Door) linger(ctx context.Context, p *wire.Problem) {
	if wait := min(p.RetryAfterMS/10, mostLinger); wait > 0 {
		select {
		case <-d.opt.Clock.After(time.Duration(wait) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// mostLinger is the longest that an answer to somebody beyond a rate takes, in milliseconds.
const mostLinger = 100

// told tells the limiter of a write of which nothing took effect.
func (d *Door) told(who auth.Principal, result *wire.WriteResult, problem *wire.Problem) {
	switch {
	case problem != nil:
		d.opt.Limiter.Wrote(who, problem.Code)
	case result.Accepted == 0 && result.Duplicates == 0 && len(result.Rejected) > 0:
		d.opt.Limiter.Wrote(who, result.Rejected[0].Error.Code)
	}
}
