package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
)

// Bare is the bound that a run is compared with: one event loop that takes the same requests and writes the same frames to the same clients, and does
// nothing else. No
// log, no engine, no rules, no merging, no heartbeats: each change is encoded once and written to each connection that watches it.
//
// It listens on a loopback port, says so on ready as `laaster run` does, and ends with the context.
func Bare(ctx context.Context, ready io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer f.Close()
	b := &bare{listener: int(f.Fd()), at: map[int]*bareConn{}, own: map[int]map[*bareConn]bool{}, all: map[*bareConn]bool{}, rows: map[int][]byte{},
		buf: make([]byte, 1<<20)}
	if b.poll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	defer syscall.Close(b.poll)
	if err := syscall.SetNonblock(b.listener, true); err != nil {
		return err
	}
	if err := b.watch(syscall.EPOLL_CTL_ADD, b.listener, syscall.EPOLLIN); err != nil {
		return err
	}
	fmt.Fprintf(ready, "ready public=http://%s admin=none\n", l.Addr())
	return b.run(ctx)
}

// missable is how many frames are kept for clients that come back.
const missable = 4096

type bare struct {
	listener, poll int
	buf            []byte
	at             map[int]*bareConn
	all            map[*bareConn]bool         // who watches everything
	own            map[int]map[*bareConn]bool // who watches a row
	rows           map[int][]byte
	seq            uint64
	frames         [missable][]byte // by sequence
}

type bareConn struct {
	fd      int
	in, out []byte
	socket  bool
	row     int // -1: all
}

func (b *bare) watch(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(b.poll, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)}))
}

func (b *bare) run(ctx context.Context) error {
	events := make([]syscall.EpollEvent, 512)
	for ctx.Err() == nil {
		n, err := syscall.EpollWait(b.poll, events, 100)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for i := range max(n, 0) {
			fd := int(events[i].Fd)
			c := b.at[fd]
			switch {
			case fd == b.listener:
				b.accept()
			case c == nil:
			case events[i].Events&syscall.EPOLLOUT != 0 && !b.flush(c), !b.read(c):
				b.drop(c)
			}
		}
	}
	return nil
}

func (b *bare) accept() {
	for {
		fd, _, err := syscall.Accept4(b.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		b.at[fd] = &bareConn{fd: fd}
		_ = b.watch(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN)
	}
}

func (b *bare) drop(c *bareConn) {
	delete(b.at, c.fd)
	delete(b.all, c)
	delete(b.own[c.row], c)
	_ = syscall.Close(c.fd)
}

// read takes what came; false: the connection is over.
func (b *bare) read(c *bareConn) bool {
	kept := copy(b.buf, c.in)
	if kept == len(b.buf) {
		return false
	}
	n, err := syscall.Read(c.fd, b.buf[kept:])
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	in := b.buf[:kept+n]
	for {
		rest, ok := b.take(c, in)
		if !ok {
			return false
		}
		if len(rest) == len(in) {
			c.in = append(c.in[:0], rest...)
			if len(rest) == 0 {
				c.in = nil
			}
			return true
		}
		in = rest
	}
}

// take answers one request or frame, and returns what is behind it.
func (b *bare) take(c *bareConn, in []byte) (rest []byte, ok bool) {
	if c.socket {
		return b.hello(c, in)
	}
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return in, true
	}
	head, body := in[:end+4], in[end+4:]
	if bytes.HasPrefix(head, []byte("GET /v1/live ")) {
		c.socket = true
		return body, b.write(c,
			[]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+accept+"\r\nSec-WebSocket-Protocol: laaster.v1\r\n\r\n"))
	}
	text, _ := header(head, "Content-Length")
	length, err := strconv.Atoi(text)
	if err != nil || length < 0 || length > len(b.buf)/2 {
		return nil, false
	}
	if len(body) < length {
		return in, true
	}
	n := b.publish(body[:length])
	answer := fmt.Appendf(nil, `{"position":"bare.0-%d","final":true,"accepted":%d,"duplicates":0,"rejected":[]}`, b.seq, n)
	return body[length:], b.write(c, append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(answer)), answer...))
}

// hello reads a frame of a client: the first one says what it watches, others say nothing.
func (b *bare) hello(c *bareConn, in []byte) (rest []byte, ok bool) {
	if len(in) < 2 {
		return in, true
	}
	head, n := 2, int(in[1]&0x7f)
	switch {
	case n == 126 && len(in) >= 4:
		head, n = 4, int(in[2])<<8|int(in[3])
	case n >= 126:
		return in, n == 126
	}
	if len(in) < head+4+n {
		return in, true
	}
	payload := in[head+4 : head+4+n] // the mask is zero
	if kindOf(payload) != "hello" {
		return in[head+4+n:], true
	}
	c.row = -1
	if _, f, own := bytes.Cut(payload, []byte(`id=eq.`)); own {
		c.row, _, _ = number(f)
		if b.own[c.row] == nil {
			b.own[c.row] = map[*bareConn]bool{}
		}
		b.own[c.row][c] = true
	} else {
		b.all[c] = true
	}
	out := serverFrame(nil, []byte(`{"type":"welcome","session":"bare"}`))
	resume, _ := member(payload, "resume")
	_, at, _ := bytes.Cut(resume, []byte("-"))
	if from, _, ok := number(at); ok && b.seq-uint64(from) < missable && c.row < 0 {
		out = serverFrame(out, fmt.Appendf(nil, `{"type":"resumed","id":"1","position":"bare.0-%d"}`, from))
		for s := uint64(from) + 1; s <= b.seq; s++ {
			out = append(out, b.frames[s%missable]...)
		}
	} else {
		out = serverFrame(out, b.snapshot(c.row))
	}
	return in[head+4+n:], b.write(c, out)
}

func (b *bare) snapshot(row int) []byte {
	out := fmt.Appendf(nil, `{"type":"snapshot","id":"1","position":"bare.0-%d","key":["id"],"rows":[`, b.seq)
	first := true
	for id, text := range b.rows {
		if row >= 0 && id != row {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(out, text...)
	}
	return append(out, `],"more":false}`...)
}

// publish takes the rows of a request, writes them to who watches, and returns how many they are.
func (b *bare) publish(body []byte) int {
	b.seq++
	frame := func(rows []byte) []byte {
		return serverFrame(nil, append(append(fmt.Appendf(nil, `{"type":"epoch","position":"bare.0-%d","at":0,"changes":{"1":{"put":`, b.seq),
			rows...), `}}}`...))
	}
	whole := frame(body)
	b.frames[b.seq%missable] = whole
	for c := range b.all {
		b.write(c, whole) // one that is gone shows when it is read
	}
	n := 0
	for _, row := range bytes.SplitAfter(bytes.Trim(body, "[]"), []byte("}")) {
		row = bytes.TrimPrefix(row, []byte(","))
		id, _, ok := number(bytes.TrimPrefix(row, []byte(`{"id":`)))
		if !ok {
			continue
		}
		n++
		b.rows[id] = append(b.rows[id][:0], row...)
		if to := b.own[id]; len(to) > 0 {
			one := frame(append(append([]byte{'['}, row...), ']'))
			for c := range to {
				b.write(c, one)
			}
		}
	}
	return n
}

// serverFrame appends a text frame as a server sends it.
func serverFrame(b, payload []byte) []byte {
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x81, byte(n))
	case n < 1<<16:
		b = append(b, 0x81, 126, byte(n>>8), byte(n))
	default:
		b = append(b, 0x81, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, payload...)
}

// write sends bytes, and keeps what the kernel does not take. False: the connection is over.
func (b *bare) write(c *bareConn, p []byte) bool {
	if len(c.out) == 0 {
		n, err := syscall.Write(c.fd, p)
		if err == nil && n == len(p) {
			return true
		}
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			return false
		}
		p = p[max(n, 0):]
		_ = b.watch(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN|syscall.EPOLLOUT)
	}
	if len(c.out)+len(p) > maxFrame {
		return false
	}
	c.out = append(c.out, p...)
	return true
}

func (b *bare) flush(c *bareConn) bool {
	n, err := syscall.Write(c.fd, c.out)
	if err != nil {
		return errors.Is(err, syscall.EAGAIN)
	}
	if c.out = c.out[:copy(c.out, c.out[n:])]; len(c.out) == 0 {
		c.out = nil
		_ = b.watch(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN)
	}
	return true
}
