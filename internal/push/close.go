package push

import (
	"cmp"
	"slices"
	"time"

	"laaster/internal/wire"
)

// Drain says goodbye to every client and refuses new ones. It does not wait: Close does. Clients are told to come back spread
// over a time that grows with their number.
func (h *Hub) Drain() {
	h.mu.Lock()
	if h.mu.draining {
		h.mu.Unlock()
		return
	}
	h.mu.draining = true
	if len(h.mu.conns) == 0 {
		close(h.mu.gone)
	}
	h.mu.Unlock()
	h.leave()
	all := h.connections()
	slices.SortFunc(all, func(a, b *conn) int { return cmp.Compare(a.number, b.number) })
	for i, c := range all {
		c.goodbye(wire.Draining, "the server is shutting down", drainRetry(i, len(all)), closeGoingAway)
	}
}

// drainRetry spreads n clients over at least two seconds, 2,000 a second, after the first half second.
func drainRetry(i, n int) time.Duration {
	spread := max(2*time.Second, time.Duration(n)*500*time.Microsecond)
	return 500*time.Millisecond + spread*time.Duration(i)/time.Duration(n)
}

// Close drains, waits until the clients have taken their goodbye or Options.CloseTimeout is over, cuts the others and ends every
// goroutine. It returns the first failure of one, or nil, also when called again.
func (h *Hub) Close() error {
	h.Drain()
	h.opening.Wait()
	h.mu.Lock()
	gone := h.mu.gone
	h.mu.Unlock()
	select {
	case <-gone:
	case <-h.group.Context().Done():
	case <-h.clock.After(h.opt.CloseTimeout):
	}
	for _, c := range h.connections() {
		c.close()
	}
	h.group.Stop()
	return h.group.Wait()
}

// Done is closed when the hub has ended: after Close, with its context, or because of a bug of ours. Then nothing is delivered any
// more and Err says why.
func (h *Hub) Done() <-chan struct{} { return h.group.Context().Done() }

// Err returns the first failure of a goroutine of the hub, or nil.
func (h *Hub) Err() error { return h.group.Err() }
