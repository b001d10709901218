package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"laaster/internal/kit/run"
	"laaster/internal/observe"
)

// shunFor is how long an address has no answer that opened connections faster than it may. TCP asks again after a second, and then after two more.
const shunFor = time.Second

// mostShunned is how many addresses have no answer at a time: the kernel compares each new connection's with all of them, and a
// filter of so many fits twice into what Linux lets a socket have for it (net.core.optmem_max, 20 KiB once). Those beyond are accepted and told.
const mostShunned = 32

// shun has the kernel drop what would open a connection, by a filter on the listening socket: accepting and closing one costs the machine more than a small
// request does, and who does nothing else comes thousands of times a second.
type shun struct {
	socket syscall.RawConn
	clock  run.Clock
	log    *slog.Logger
	count  prometheus.Counter
	came   chan netip.Addr
}

// newShun returns the shun of a listener, nil where the kernel has none.
func newShun(l net.Listener, clock run.Clock, log *slog.Logger, metrics *observe.Metrics) *shun {
	c, ok := l.(syscall.Conn)
	if !ok || !canShun {
		return nil
	}
	socket, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return &shun{socket, clock, log, metrics.Shunned, make(chan netip.Addr, mostShunned)}
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

// loop sets the filter until ctx ends.
func (s *shun) loop(ctx context.Context) error {
	var all []netip.Addr      // the longest there first
	var until []time.Time     // of each
	var next <-chan time.Time // the first one's
	told := false
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
		err := dropFrom(s.socket, all)
		switch {
		case err != nil: // the one before would stay
			all, until = nil, nil
			err = errors.Join(err, dropFrom(s.socket, nil))
			if !told {
				told = true
				s.log.Warn("the kernel drops no connections of addresses that open too many: they are accepted and told", "error", err)
			}
		case len(all) > before:
			s.count.Inc()
		}
		if next = nil; len(all) > 0 {
			next = s.clock.After(until[0].Sub(s.clock.Now()))
		}
	}
}
