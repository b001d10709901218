package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// screen is one live client: it reads every frame and remembers when which position arrived.
type screen struct {
	conn   net.Conn
	mu     sync.Mutex
	seen   []arrival
	frames int
	came   chan struct{} // capacity 1: something arrived
}

// arrival says that everything up to seq is on the screen since at.
type arrival struct {
	seq uint64
	at  time.Time
}

// openScreens opens screens until there are n.
func (s *server) openScreens(n int) error {
	more := n - len(s.screens)
	ready := make(chan error, max(more, 0))
	for i := range more {
		x := &screen{came: make(chan struct{}, 1)}
		dialer := ws.Dialer{Protocols: []string{"laaster.v1"}}
		conn, early, _, err := dialer.Dial(s.group.Context(), "ws://"+s.public+"/v1/live")
		if err != nil {
			return err
		}
		if early != nil {
			return fmt.Errorf("screen %d: frames before hello", i)
		}
		x.conn = conn
		hello := `{"type":"hello","subscribe":[{"id":"1","view":"tally"},{"id":"2","view":"leaders"}]}`
		if err := wsutil.WriteClientText(conn, []byte(hello)); err != nil {
			return err
		}
		s.screens = append(s.screens, x)
		s.group.Go("screen", func(ctx context.Context) error { return s.watch(ctx, x, ready) })
	}
	for range more {
		if err := <-ready; err != nil {
			return err
		}
	}
	return nil
}

// watch reads frames until the connection ends. The second snapshot frame makes it ready.
func (s *server) watch(ctx context.Context, x *screen, ready chan<- error) error {
	snapshots := 0
	var buf []byte
	for {
		h, err := ws.ReadHeader(x.conn)
		if err == nil {
			if int(h.Length) > cap(buf) {
				buf = make([]byte, h.Length*2)
			}
			buf = buf[:h.Length]
			_, err = io.ReadFull(x.conn, buf)
		}
		if err != nil {
			if snapshots < 2 {
				ready <- fmt.Errorf("the connection ended before the snapshot: %w", err)
			}
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		at := s.clock.Now()
		switch {
		case bytes.Contains(buf[:min(40, len(buf))], []byte(`"snapshot"`)):
			if snapshots++; snapshots == 2 {
				ready <- nil
			}
		case bytes.Contains(buf[:min(40, len(buf))], []byte(`"epoch"`)):
			x.arrived(buf, at)
		}
	}
}

func (x *screen) arrived(frame []byte, at time.Time) {
	_, rest, ok := bytes.Cut(frame, []byte(`"position":"`))
	if !ok {
		return
	}
	position, _, _ := bytes.Cut(rest, []byte(`"`))
	seq, err := sequence(string(position))
	if err != nil {
		return
	}
	x.mu.Lock()
	x.seen = append(x.seen, arrival{seq, at})
	x.frames++
	x.mu.Unlock()
	select {
	case x.came <- struct{}{}:
	default:
	}
}

// await returns when the screen has everything up to seq, and since when.
func (x *screen) await(ctx context.Context, seq uint64) (time.Time, error) {
	for {
		x.mu.Lock()
		for i := len(x.seen) - 1; i >= 0 && x.seen[i].seq >= seq; i-- {
			if i == 0 || x.seen[i-1].seq < seq {
				at := x.seen[i].at
				x.mu.Unlock()
				return at, nil
			}
		}
		x.mu.Unlock()
		select {
		case <-x.came:
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// reset forgets the arrivals and returns how many frames came since the last time.
func (x *screen) reset() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.frames
	x.seen, x.frames = x.seen[:0], 0
	return n
}
