//go:build linux

// Command sockets compares what WebSocket libraries and system calls cost a server that writes one small frame to many connections.
//
//	cd test/sockets && go run . -clients 1000 -rate 50 -time 10s
//
// For each layer it starts itself as a server, connects clients to it, and prints the server's processor time for each delivered frame and its resident
// memory for each idle connection. The layers do nothing else: no log, no subscriptions, no slow clients, no heartbeats.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	clients = flag.Int("clients", 1000, "connections")
	rate    = flag.Int("rate", 50, "frames a second to each")
	size    = flag.Int("size", 300, "bytes of a frame's text, 126 to 65535")
	length  = flag.Duration("time", 10*time.Second, "time measured, for each layer and round")
	rounds  = flag.Int("rounds", 3, "times that all layers are measured, in turn")
	only    = flag.String("layers", "coder,gobwas,gobwas-epoll,write,uring", "which, with commas between")
	serve   = flag.String("serve", "", "be the server of a layer")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sockets:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context) error {
	if *size < 126 || *size > 65535 || *clients < 1 || *rate < 1 || *rounds < 1 || *length < time.Second {
		return errors.New("a flag is out of its range; see -help")
	}
	if *serve != "" {
		return runServer(ctx, *serve)
	}
	layers := strings.Split(*only, ",")
	for _, l := range layers {
		if servers[l] == nil {
			return fmt.Errorf("there is no layer %q", l)
		}
	}
	fmt.Printf("%d clients, %d frames/s of %d bytes to each, %d processors, %s\n", *clients, *rate, *size, runtime.NumCPU(), runtime.Version())
	for round := range *rounds {
		for _, l := range layers {
			r, err := measure(ctx, l)
			switch {
			case errors.Is(err, errNone):
				fmt.Printf("round %d  %-13s not possible here: %v\n", round+1, l, err)
			case err != nil:
				return fmt.Errorf("%s: %w", l, err)
			default:
				fmt.Printf("round %d  %-13s %5.2f µs a delivery (%d of %d delivered), %5.1f KB an idle connection\n", round+1, l, r.each, r.delivered, r.due, r.kb)
			}
		}
	}
	return nil
}

// errNone is a layer that this system does not have.
var errNone = errors.New("not supported")

type result struct {
	each           float64 // µs of the server's processor time for a delivery
	kb             float64
	delivered, due int64
}

// measure runs one layer in a process of its own.
func measure(ctx context.Context, layer string) (r result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, "-serve", layer, "-rate", strconv.Itoa(*rate), "-size", strconv.Itoa(*size), "-clients", strconv.Itoa(*clients))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	defer func() {
		_ = in.Close() // it ends then
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	next := func() (string, error) {
		if !lines.Scan() {
			return "", errors.New("the server ended")
		}
		return lines.Text(), nil
	}
	addr, err := next()
	if err != nil {
		return r, err
	}
	if why, none := strings.CutPrefix(addr, "none "); none {
		return r, fmt.Errorf("%w: %s", errNone, why)
	}
	pid := cmd.Process.Pid
	before := resident(pid)
	swarm, err := connect(addr, *clients)
	if err != nil {
		return r, err
	}
	defer swarm.close()
	if _, err := next(); err != nil { // all are there, and garbage is collected
		return r, err
	}
	r.kb = float64(resident(pid)-before) / float64(*clients)
	fmt.Fprintln(in, "go")
	if err := swarm.read(ctx, time.Second); err != nil { // warms up
		return r, err
	}
	from, had, began := processor(pid), swarm.bytes, time.Now()
	if err := swarm.read(ctx, *length); err != nil {
		return r, err
	}
	used := processor(pid) - from
	r.delivered = (swarm.bytes - had) / int64(*size+4)
	r.due = int64(time.Since(began).Seconds() * float64(*rate) * float64(*clients))
	r.each = float64(used.Microseconds()) / float64(max(1, r.delivered))
	return r, nil
}

// processor is the time that a process has had.
func processor(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// resident is the memory of a process, in KB.
func resident(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kb
}

// swarm reads from many connections with one epoll instance.
type swarm struct {
	conns []*net.TCPConn
	poll  int
	bytes int64
}

func connect(addr string, n int) (*swarm, error) {
	s := &swarm{}
	var err error
	if s.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return s, err
		}
		t := c.(*net.TCPConn)
		s.conns = append(s.conns, t)
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", addr); err != nil {
			return s, err
		}
		var head strings.Builder
		one := make([]byte, 1)
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			if _, err := c.Read(one); err != nil {
				return s, err
			}
			head.WriteByte(one[0])
		}
		if !strings.HasPrefix(head.String(), "HTTP/1.1 101 ") {
			return s, errors.New(head.String())
		}
		raw, err := t.SyscallConn()
		if err != nil {
			return s, err
		}
		_ = raw.Control(func(fd uintptr) {
			err = unix.EpollCtl(s.poll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		})
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *swarm) read(ctx context.Context, span time.Duration) error {
	buf, events := make([]byte, 64<<10), make([]unix.EpollEvent, 512)
	for end := time.Now().Add(span); time.Now().Before(end); {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := unix.EpollWait(s.poll, events, 20)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for i := range max(n, 0) {
			switch got, err := unix.Read(int(events[i].Fd), buf); {
			case errors.Is(err, unix.EAGAIN):
			case err != nil:
				return err
			case got == 0:
				return errors.New("the server closed a connection")
			default:
				s.bytes += int64(got)
			}
		}
	}
	return nil
}

func (s *swarm) close() {
	for _, c := range s.conns {
		_ = c.Close()
	}
	_ = unix.Close(s.poll)
}
