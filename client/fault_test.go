package client_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
)

// faults makes connections that break after a random number of bytes, in either direction, and come in small pieces.
type faults struct {
	mu   sync.Mutex
	rand *rand.Rand
	most int // bytes until a cut; 0: none
	cuts int
}

var errCut = errors.New("cut by the test")

func (f *faults) intN(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rand.IntN(n)
}

func (f *faults) float() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rand.Float64()
}

// heal ends the faults of connections that are made from now on.
func (f *faults) heal() {
	f.mu.Lock()
	f.most = 0
	f.mu.Unlock()
}

func (f *faults) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &faulty{Conn: conn, f: f, left: 1 << 40}
	if f.most > 0 {
		c.left = 1 + f.rand.IntN(f.most)
		if f.rand.IntN(4) == 0 {
			c.left = 1 + f.rand.IntN(400) // within the upgrade or the first frames
		}
	}
	return c, nil
}

type faulty struct {
	net.Conn
	f    *faults
	mu   sync.Mutex
	left int
}

// take returns how many of n bytes may pass.
func (c *faulty) take(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, c.left)
	c.left -= n
	return n
}

func (c *faulty) cut() error {
	c.f.mu.Lock()
	c.f.cuts++
	c.f.mu.Unlock()
	_ = c.Conn.Close()
	return errCut
}

func (c *faulty) Read(b []byte) (int, error) {
	if c.f.intN(3) == 0 {
		b = b[:min(len(b), 1+c.f.intN(40))]
	}
	n, err := c.Conn.Read(b)
	if m := c.take(n); m < n {
		return m, c.cut()
	}
	return n, err
}

func (c *faulty) Write(b []byte) (int, error) {
	n := c.take(len(b))
	m, err := c.Conn.Write(b[:n])
	if err == nil && n < len(b) {
		err = c.cut()
	}
	return m, err
}
