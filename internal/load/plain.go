package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// plain is an engine with a goroutine for each connection: for TLS, and for systems without epoll. One mutex stands in for the
// loop: clients are called one at a time.
type plain struct {
	swarm *Swarm
	turns chan struct{} // who may connect
	peers []*plainPeer

	mu sync.Mutex
}

type plainPeer struct {
	*Client
	engine *plain
	conn   net.Conn
	cut    bool
	ended  chan struct{} // closed when the goroutine ended; nil: none runs
}

// slowTick is how often slow clients read.
const slowTick = 50 * time.Millisecond

func newPlain(s *Swarm) engine {
	e := &plain{swarm: s, turns: make(chan struct{}, s.opt.Window)}
	for _, c := range s.clients {
		p := &plainPeer{Client: c, engine: e}
		c.line = p
		e.peers = append(e.peers, p)
	}
	return e
}

func (e *plain) open(clients []*Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range clients {
		p := c.line.(*plainPeer)
		if p.ended == nil && e.swarm.group.Context().Err() == nil {
			ended := make(chan struct{})
			p.ended, p.cut = ended, false
			e.swarm.group.Go("load client", func(ctx context.Context) error {
				defer close(ended)
				p.run(ctx)
				return nil
			})
		}
	}
}

func (e *plain) cut(clients []*Client) {
	var wait []chan struct{}
	e.mu.Lock()
	for _, c := range clients {
		p := c.line.(*plainPeer)
		if p.cut = true; p.conn != nil {
			if t, ok := p.conn.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
			_ = p.conn.Close()
		}
		if p.ended != nil {
			wait = append(wait, p.ended)
		}
	}
	e.mu.Unlock()
	for _, w := range wait {
		<-w
	}
}

func (e *plain) still(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *plain) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if p.cut = true; p.conn != nil {
			_ = p.conn.Close()
		}
	}
}

// run connects until the connection ends for good.
func (p *plainPeer) run(ctx context.Context) {
	e := p.engine
	for {
		err := p.once(ctx)
		e.mu.Lock()
		if p.cut || ctx.Err() != nil {
			err = nil
		}
		wait := p.down(err)
		if p.conn = nil; wait < 0 {
			p.ended = nil
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
		select {
		case <-e.swarm.opt.Clock.After(wait):
		case <-ctx.Done():
		}
	}
}

// once is one connection, from its beginning to its end.
func (p *plainPeer) once(ctx context.Context) error {
	e, s := p.engine, p.swarm
	select {
	case e.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	turn := sync.OnceFunc(func() { <-e.turns })
	defer turn()
	d := net.Dialer{}
	if from := s.source(p.ID); from != nil {
		d.LocalAddr = &net.TCPAddr{IP: from}
	}
	conn, err := d.DialContext(ctx, "tcp", s.host)
	if err != nil {
		return fmt.Errorf("cannot connect: %w", err)
	}
	defer conn.Close()
	slow := s.opt.Rate > 0
	if t := conn.(*net.TCPConn); slow {
		_ = t.SetReadBuffer(4096)
	}
	if s.secure {
		host, _, _ := net.SplitHostPort(s.host)
		conn = secured(conn, host, s.opt.TLS)
	}
	e.mu.Lock()
	p.conn = conn
	over := p.cut
	if !over {
		p.connected()
	}
	e.mu.Unlock()
	if over {
		return nil
	}
	return p.follow(ctx, conn, slow, turn)
}

// follow reads until the connection ends; live is called when the client is live.
func (p *plainPeer) follow(ctx context.Context, conn net.Conn, slow bool, live func()) error {
	e, s := p.engine, p.swarm
	buf, kept := make([]byte, 16<<10), 0
	for {
		room := buf[kept:]
		if slow && p.state == stateLive {
			room = room[:min(len(room), max(1, int(slowTick.Seconds()*float64(s.opt.Rate))))]
		}
		n, err := conn.Read(room)
		if n == 0 && err != nil {
			return err
		}
		e.mu.Lock()
		rest, need, err := p.feed(buf[:kept+n], s.now())
		is := p.state == stateLive
		e.mu.Unlock()
		if err != nil {
			return err
		}
		if is {
			live()
		}
		if want := max(need, len(rest)+4<<10); want > len(buf) {
			grown := make([]byte, 2*want)
			kept = copy(grown, rest)
			buf = grown
		} else {
			kept = copy(buf, rest)
		}
		if slow && is {
			select {
			case <-s.opt.Clock.After(time.Duration(float64(n) / float64(s.opt.Rate) * float64(time.Second))):
			case <-ctx.Done():
				return errors.New("stopped")
			}
		}
	}
}

// send implements line. A client sends little, and the server reads it at once.
func (p *plainPeer) send(b []byte) { _, _ = p.conn.Write(b) } // an error shows when the connection is read
