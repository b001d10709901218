package push

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"laaster/internal/signal"
	"laaster/internal/wire"
)

// Requests that set and clear rows of channels have a rate like that of connections, for each subject at each address. It is some times as high, since
// an address may be that of several people.
const (
	postFactor = 4
	deleteCost = 9      // of a request that clears, beside the one that each request costs: it looks at all rows
	mostPosts  = 10_000 // callers whose rate is known; those beyond share one
)

// poster is who sends requests. The zero value stands for all for whom there is no place.
type poster struct {
	subject string
	from    netip.Addr
}

// allowance is what a caller may still send: rows. Below zero it has sent a large request and has to wait.
type allowance struct {
	rows float64
	at   time.Time // when rows was right
}

// postRates is the rates of callers without a connection.
type postRates struct {
	rate, burst float64 // rows a second, and at once after a pause
	mu          struct {
		sync.Mutex
		by    map[poster]allowance // those that are not full
		swept time.Time            // when full ones were last looked for
	}
}

func (r *postRates) begin(opt signal.Options) {
	r.rate, r.burst = postFactor*float64(opt.Rate), postFactor*float64(opt.Burst)
	r.mu.by = map[poster]allowance{}
}

// admit takes one row's place for a request, or says when to come again.
func (r *postRates) admit(who poster, now time.Time) *wire.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.mu.by[who]; !there && len(r.mu.by) >= mostPosts {
		r.sweepLocked(now)
		if len(r.mu.by) >= mostPosts {
			who = poster{}
		}
	}
	a, there := r.mu.by[who]
	if !there {
		a.rows, a.at = r.burst, now
	}
	if a = r.fill(a, now); a.rows < 1 {
		p := retryLater(wire.RateLimited, "more rows of channels than one caller may set and clear over HTTP", 0)
		p.RetryAfterMS = 1 + int((1-a.rows)/r.rate*1000)
		return p.WithHint("send less often, or over a WebSocket, where the newest of each key waits")
	}
	a.rows--
	r.mu.by[who] = a
	return nil
}

// spend takes more for a request that was admitted, whether or not that much is left.
func (r *postRates) spend(who poster, rows int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.mu.by[who]; !there {
		who = poster{}
	}
	if a, there := r.mu.by[who]; there && rows > 0 {
		a.rows -= float64(rows)
		r.mu.by[who] = a
	}
}

func (r *postRates) fill(a allowance, now time.Time) allowance {
	if past := now.Sub(a.at); past > 0 {
		a.rows, a.at = min(r.burst, a.rows+past.Seconds()*r.rate), now
	}
	return a
}

// sweepLocked forgets callers that have been quiet, at most once a second.
func (r *postRates) sweepLocked(now time.Time) {
	if now.Sub(r.mu.swept) < time.Second {
		return
	}
	r.mu.swept = now
	maps.DeleteFunc(r.mu.by, func(_ poster, a allowance) bool { return r.fill(a, now).rows >= r.burst })
}
