package node

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"laaster/internal/kit/run"
)

// shunFor is how long an address has no answer that opened connections faster than it may. TCP asks again after a second, so whoever means well there and
// comes in this time is in a second later.
const shunFor = time.Second

// mostShunned is how many addresses have no answer at a time: the kernel compares each new connection's with all of them. Those beyond are accepted and told.
const mostShunned = 64

// shun has the kernel drop what would open a connection, by a filter on the listening socket: accepting and closing one costs the machine more than a small
// request does, and who does nothing else comes thousands of times a second.
type shun struct {
	socket syscall.RawConn
	clock  run.Clock
	log    *slog.Logger
	came   chan netip.Addr
}

// newShun returns the shun of a listener, nil where the kernel has none.
func newShun(l net.Listener, clock run.Clock, log *slog.Logger) *shun {
	c, ok := l.(syscall.Conn)
	if !ok || !canShun {
		return nil
	}
	socket, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return &shun{socket, clock, log, make(chan netip.Addr, mostShunned)}
}

// add has an address be without an answer for a second, if there is room.
func (s *shun) add(a netip.Addr) {
	if s == nil {
		return
	}
	select {
	case s.came <- a:
	default: // it is accepted and told
	}
}

// loop sets the filter until ctx ends, or the kernel refuses it.
func (s *shun) loop(ctx context.Context) error {
	var all []netip.Addr      // the longest there first
	var until []time.Time     // of each
	var next <-chan time.Time // the first one's
	for {
		before := len(all)
		select {
		case <-ctx.Done():
			return nil
		case a := <-s.came:
			if len(all) < mostShunned && !slices.Contains(all, a) {
				all, until = append(all, a), append(until, s.clock.Now().Add(shunFor))
			}
		case <-next:
			all, until = all[1:], until[1:]
		}
		if len(all) == before {
			continue
		}
		if err := dropFrom(s.socket, all); err != nil {
			s.log.Warn("the kernel drops no connections of addresses that open too many: they are accepted and told", "error", err)
			return nil
		}
		if next = nil; len(all) > 0 {
			next = s.clock.After(until[0].Sub(s.clock.Now()))
		}
	}
}
