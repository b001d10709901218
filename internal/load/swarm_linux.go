package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// epoll is an engine with a few event loops, each with its share of the clients.
type epoll struct {
	loops []*loop
}

// loop is one event loop. Everything but the mutex's fields belongs to its goroutine.
type loop struct {
	swarm   *Swarm
	poll    int
	wake    [2]int // a pipe: a byte wakes the loop
	buf     []byte // what one read takes, behind what a client had left
	at      map[int]*peer
	turns   int32   // sockets so far
	window  int     // connections that may be under way at one time
	waiting []*peer // to connect, in order
	opening int
	away    []*peer // come back later
	slow    []*peer // read by the clock
	ticked  time.Duration

	mu struct {
		sync.Mutex
		todo   []func()
		closed bool
	}
}

// peer is a client with its socket.
type peer struct {
	*Client
	loop *loop
	fd   int   // -1: none
	turn int32 // of its socket: events of an earlier one with the same number are not its own
	rest []byte
	need int    // of the frame that rest begins
	out  []byte // not sent yet
	back time.Duration
	due  float64 // bytes that a slow one may read
	slow bool
}

func newEngine(s *Swarm) (engine, error) {
	if s.secure || s.opt.Plain {
		return newPlain(s), nil
	}
	e := &epoll{}
	for range s.opt.Loops {
		l := &loop{swarm: s, buf: make([]byte, 256<<10), at: map[int]*peer{}, window: max(1, s.opt.Window/s.opt.Loops)}
		var err error
		if l.poll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
			return nil, err
		}
		if err := syscall.Pipe2(l.wake[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
			return nil, errors.Join(err, syscall.Close(l.poll))
		}
		if err := l.control(syscall.EPOLL_CTL_ADD, l.wake[0], 0, syscall.EPOLLIN); err != nil {
			return nil, err
		}
		e.loops = append(e.loops, l)
	}
	for i, c := range s.clients {
		p := &peer{Client: c, loop: e.loops[i%len(e.loops)], fd: -1, slow: s.opt.Rate > 0}
		c.line = p
	}
	for _, l := range e.loops {
		s.group.Go("load loop", l.run)
	}
	return e, nil
}

// each runs f on each loop, with those of the clients that it has. It returns how many loops there are.
func (e *epoll) each(clients []*Client, f func(l *loop, mine []*peer)) (loops int) {
	for _, l := range e.loops {
		var mine []*peer
		for _, c := range clients {
			if p := c.line.(*peer); p.loop == l {
				mine = append(mine, p)
			}
		}
		if l.do(func() { f(l, mine) }) {
			loops++
		}
	}
	return loops
}

func (e *epoll) open(clients []*Client) {
	e.each(clients, func(l *loop, mine []*peer) {
		for _, p := range mine {
			if p.state == stateDown {
				l.waiting = append(l.waiting, p)
			}
		}
		l.connectMore()
	})
}

func (e *epoll) cut(clients []*Client) {
	done := make(chan struct{}, len(e.loops))
	loops := e.each(clients, func(l *loop, mine []*peer) {
		for _, p := range mine {
			if p.fd >= 0 {
				_ = syscall.SetsockoptLinger(p.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
				l.end(p, nil)
			}
		}
		done <- struct{}{}
	})
	for range loops {
		<-done
	}
}

func (e *epoll) still(f func()) {
	stopped, on := make(chan struct{}, len(e.loops)), make(chan struct{})
	loops := e.each(nil, func(*loop, []*peer) {
		stopped <- struct{}{}
		<-on
	})
	for range loops {
		<-stopped
	}
	f()
	close(on)
}

func (e *epoll) close() {
	e.each(nil, func(*loop, []*peer) {}) // wakes them, and they see that they are to end
}

// do runs f on the loop. False: the loop has ended, and with it all of its connections.
func (l *loop) do(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return false
	}
	l.mu.todo = append(l.mu.todo, f)
	_, _ = syscall.Write(l.wake[1], []byte{0}) // a full pipe wakes, too
	return true
}

func (l *loop) control(op, fd int, turn int32, events uint32) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(l.poll, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd), Pad: turn}))
}

func (l *loop) run(ctx context.Context) error {
	defer l.finish()
	events := make([]syscall.EpollEvent, 512)
	for ctx.Err() == nil {
		n, err := syscall.EpollWait(l.poll, events, l.patience())
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for i := range max(n, 0) {
			fd := int(events[i].Fd)
			if fd == l.wake[0] {
				l.obey()
			} else if p := l.at[fd]; p != nil && p.turn == events[i].Pad {
				l.handle(p, events[i].Events)
			}
		}
		if len(l.away)+len(l.slow) > 0 {
			l.tick()
		}
	}
	return nil
}

// patience returns how many milliseconds the loop may wait.
func (l *loop) patience() int {
	switch {
	case len(l.slow) > 0:
		return int(slowTick.Milliseconds())
	case len(l.away) > 0:
		return 5
	}
	return 1000
}

func (l *loop) obey() {
	var drop [64]byte
	_, _ = syscall.Read(l.wake[0], drop[:])
	l.mu.Lock()
	todo := l.mu.todo
	l.mu.todo = nil
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// finish ends all connections and what waits for the loop.
func (l *loop) finish() {
	for _, p := range l.at {
		l.end(p, nil)
	}
	l.mu.Lock()
	todo := l.mu.todo
	l.mu.closed = true
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
	_, _, _ = syscall.Close(l.poll), syscall.Close(l.wake[0]), syscall.Close(l.wake[1])
}

func (l *loop) connectMore() {
	for l.opening < l.window && len(l.waiting) > 0 && l.swarm.group.Context().Err() == nil {
		p := l.waiting[0]
		l.waiting = l.waiting[1:]
		if p.state != stateDown {
			continue
		}
		l.opening++
		p.state = stateConnecting
		if err := l.dial(p); err != nil {
			l.end(p, fmt.Errorf("cannot connect: %w", err))
		}
	}
}

func (l *loop) dial(p *peer) error {
	family, to := sockaddr(l.swarm.addr.IP, l.swarm.addr.Port)
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	p.fd, l.at[fd] = fd, p
	l.turns++
	p.turn = l.turns
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if p.slow {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
	}
	if from := l.swarm.source(p.ID); from != nil {
		_, sa := sockaddr(from, 0)
		if err := syscall.Bind(fd, sa); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	if err := syscall.Connect(fd, to); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return os.NewSyscallError("connect", err)
	}
	return l.control(syscall.EPOLL_CTL_ADD, fd, p.turn, syscall.EPOLLIN|syscall.EPOLLOUT)
}

func sockaddr(ip net.IP, port int) (family int, sa syscall.Sockaddr) {
	if v4 := ip.To4(); v4 != nil {
		return syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte(v4)}
	}
	return syscall.AF_INET6, &syscall.SockaddrInet6{Port: port, Addr: [16]byte(ip.To16())}
}

// handle does what a socket is ready for.
func (l *loop) handle(p *peer, events uint32) {
	if events&syscall.EPOLLOUT != 0 && p.state == stateConnecting {
		if e, err := syscall.GetsockoptInt(p.fd, syscall.SOL_SOCKET, syscall.SO_ERROR); err != nil || e != 0 {
			l.end(p, fmt.Errorf("cannot connect: %w", errors.Join(err, syscall.Errno(e))))
			return
		}
		p.connected()
	} else if events&syscall.EPOLLOUT != 0 {
		p.flush()
	}
	if p.fd < 0 {
		return
	}
	if events&syscall.EPOLLOUT != 0 && len(p.out) == 0 {
		_ = l.control(syscall.EPOLL_CTL_MOD, p.fd, p.turn, syscall.EPOLLIN)
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		l.read(p, len(l.buf))
	}
}

// read takes what is there, at most limit bytes, and returns how many came.
func (l *loop) read(p *peer, limit int) int {
	kept := copy(l.buf, p.rest)
	if want := max(p.need, kept+64<<10); want > len(l.buf) {
		l.buf = append(make([]byte, 0, 2*want), l.buf[:kept]...)[:2*want]
	}
	n, err := syscall.Read(p.fd, l.buf[kept:min(len(l.buf), kept+limit)])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return 0
	case err != nil:
		l.end(p, os.NewSyscallError("read", err))
		return 0
	case n == 0:
		l.end(p, errors.New("the server ended the connection"))
		return 0
	}
	was := p.state
	rest, need, err := p.feed(l.buf[:kept+n], l.swarm.now())
	if err != nil {
		l.end(p, err)
		return n
	}
	if p.rest, p.need = append(p.rest[:0], rest...), need; len(rest) == 0 && cap(p.rest) > 4<<10 {
		p.rest = nil
	}
	if was != stateLive && p.state == stateLive {
		l.opening--
		if p.slow {
			_ = l.control(syscall.EPOLL_CTL_DEL, p.fd, p.turn, 0)
			l.slow = append(l.slow, p)
			p.due = 0
		}
		l.connectMore()
	}
	return n
}

// send implements line.
func (p *peer) send(b []byte) {
	if len(p.out) == 0 {
		n, err := syscall.Write(p.fd, b)
		if err == nil && n == len(b) {
			return
		}
		b = b[max(n, 0):] // an error shows when the socket is read
		_ = p.loop.control(syscall.EPOLL_CTL_MOD, p.fd, p.turn, syscall.EPOLLIN|syscall.EPOLLOUT)
	}
	p.out = append(p.out, b...)
}

func (p *peer) flush() {
	if len(p.out) == 0 {
		return
	}
	n, err := syscall.Write(p.fd, p.out)
	if err == nil {
		p.out = p.out[:copy(p.out, p.out[n:])]
	}
}

// end closes a socket and says when its client comes back.
func (l *loop) end(p *peer, err error) {
	if was := p.state; was != stateLive && was != stateDown {
		l.opening--
	}
	if p.fd >= 0 {
		delete(l.at, p.fd)
		_ = syscall.Close(p.fd)
		p.fd = -1
	}
	p.rest, p.out, p.need = nil, nil, 0
	for i, x := range l.slow {
		if x == p {
			l.slow = append(l.slow[:i], l.slow[i+1:]...)
			break
		}
	}
	if wait := p.down(err); wait >= 0 {
		p.back = l.swarm.now() + wait
		l.away = append(l.away, p)
	}
	if err != nil {
		l.connectMore()
	}
}

// tick brings back who was sent away and lets slow clients read.
func (l *loop) tick() {
	now := l.swarm.now()
	kept := l.away[:0]
	for _, p := range l.away {
		if p.back > now {
			kept = append(kept, p)
			continue
		}
		l.waiting = append(l.waiting, p)
	}
	l.away = kept
	l.connectMore()
	if now-l.ticked < slowTick {
		return
	}
	allowance := min(now-l.ticked, time.Second).Seconds() * float64(l.swarm.opt.Rate)
	l.ticked = now
	for _, p := range append([]*peer(nil), l.slow...) {
		p.due = min(p.due+allowance, float64(l.swarm.opt.Rate))
		if p.due >= 1 && p.fd >= 0 {
			p.due -= float64(l.read(p, int(p.due)))
		}
	}
}
