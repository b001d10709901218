//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// server takes connections and writes frames to all of them.
type server interface {
	// accept makes a WebSocket of a request. It does not wait for its end.
	accept(w http.ResponseWriter, r *http.Request) error
	// send writes text to all.
	send(text []byte)
}

var servers = map[string]func() (server, error){
	"coder":        func() (server, error) { return &coder{}, nil },
	"gobwas":       func() (server, error) { return &gobwas{}, nil },
	"gobwas-epoll": func() (server, error) { return newPolled(writeNet) },
	"write":        func() (server, error) { return newPolled(writeRaw) },
	"uring":        newUring,
}

// runServer prints its address, a line when all clients are there, and writes from the first line on standard input until that ends.
func runServer(ctx context.Context, layer string) error {
	s, err := servers[layer]()
	if err != nil {
		fmt.Println("none", err)
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	arrived := make(chan struct{}, *clients)
	h := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.accept(w, r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		arrived <- struct{}{}
	})}
	go func() { _ = h.Serve(l) }()
	debug.FreeOSMemory()
	fmt.Println(l.Addr())
	for range *clients {
		select {
		case <-arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	debug.FreeOSMemory()
	fmt.Println("all")
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return nil
	}
	over := make(chan struct{})
	go func() { in.Scan(); close(over) }()
	tick := time.NewTicker(time.Second / time.Duration(*rate))
	text := []byte(strings.Repeat("x", *size))
	for {
		select {
		case <-over:
			return nil
		case <-tick.C:
			s.send(text)
		}
	}
}

// coder is coder/websocket as it is meant: a goroutine for each connection that writes, and one that reads.
type coder struct {
	mu    sync.Mutex
	queue []chan []byte
}

func (s *coder) accept(w http.ResponseWriter, r *http.Request) error {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return err
	}
	q := make(chan []byte, 16)
	s.mu.Lock()
	s.queue = append(s.queue, q)
	s.mu.Unlock()
	go func() {
		ctx := c.CloseRead(context.Background())
		for text := range q {
			if c.Write(ctx, websocket.MessageText, text) != nil {
				return
			}
		}
	}()
	return nil
}

func (s *coder) send(text []byte) {
	for _, q := range s.queue {
		select {
		case q <- text:
		default: // the client is behind
		}
	}
}

// gobwas is gobwas/ws with a goroutine for each connection that reads, frames made once, and a few goroutines that write.
type gobwas struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (s *gobwas) accept(w http.ResponseWriter, r *http.Request) error {
	c, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	go func() {
		for {
			if _, err := ws.ReadFrame(c); err != nil {
				return
			}
		}
	}()
	return nil
}

func (s *gobwas) send(text []byte) {
	frame := ws.MustCompileFrame(ws.NewTextFrame(text))
	share(len(s.conns), func(i int) { _, _ = s.conns[i].Write(frame) })
}

// share calls do with 0 to n-1 from a goroutine for each processor.
func share(n int, do func(i int)) {
	var g sync.WaitGroup
	k := runtime.GOMAXPROCS(0)
	for p := range k {
		g.Go(func() {
			for i := p * n / k; i < (p+1)*n/k; i++ {
				do(i)
			}
		})
	}
	g.Wait()
}

// polled has one goroutine that reads from all connections.
type polled struct {
	mu    sync.Mutex
	conns []net.Conn
	fds   []int
	poll  int
	write func(s *polled, i int, frame []byte)
}

func newPolled(write func(s *polled, i int, frame []byte)) (*polled, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	s := &polled{poll: poll, write: write}
	go s.read()
	return s, nil
}

func (s *polled) read() {
	buf, events := make([]byte, 4096), make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(s.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for i := range max(n, 0) {
			if got, err := unix.Read(int(events[i].Fd), buf); got == 0 && err == nil {
				_ = unix.EpollCtl(s.poll, unix.EPOLL_CTL_DEL, int(events[i].Fd), nil)
			}
		}
	}
}

func (s *polled) accept(w http.ResponseWriter, r *http.Request) error {
	c, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = raw.Control(func(fd uintptr) {
		s.conns, s.fds = append(s.conns, c), append(s.fds, int(fd))
		err = unix.EpollCtl(s.poll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	})
	return err
}

func (s *polled) send(text []byte) {
	frame := ws.MustCompileFrame(ws.NewTextFrame(text))
	share(len(s.conns), func(i int) { s.write(s, i, frame) })
}

// writeNet writes through package net.
func writeNet(s *polled, i int, frame []byte) { _, _ = s.conns[i].Write(frame) }

// writeRaw is one non-blocking system call, as package push does it.
func writeRaw(s *polled, i int, frame []byte) { _, _ = unix.Write(s.fds[i], frame) }
