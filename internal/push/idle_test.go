//go:build linux

package push

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/kit/run"
)

// idleConns is how many clients BenchmarkIdle connects; LAASTER_CONNS changes it.
const idleConns = 5000

// BenchmarkIdle reports what a subscribed connection on which nothing happens costs a server process: resident memory, and processor time for
// heartbeats. The server is a process of its own (TestIdleServer), reached over HTTP.
func BenchmarkIdle(b *testing.B) {
	conns := idleConns
	if n, err := strconv.Atoi(os.Getenv("LAASTER_CONNS")); err == nil {
		conns = n
	}
	for range b.N {
		s := startIdleServer(b, conns)
		before := s.ask("rss")
		var ends []net.Conn
		for range conns {
			ends = append(ends, s.connect())
		}
		s.ask("subscribed")
		b.ReportMetric(float64(s.ask("rss")-before)*1024/float64(conns), "B/conn-at-once")
		s.ask("gc")
		b.ReportMetric(float64(s.ask("rss")-before)*1024/float64(conns), "B/conn")
		b.ReportMetric(float64(s.ask("heap"))/float64(conns), "Bheap/conn")
		begin := time.Now()
		cpu := s.ask("cpu")
		for _, c := range ends { // what came for each within a heartbeat
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(s.ask("cpu")-cpu)/1e6/time.Since(begin).Seconds()*100, "%CPU")
		if path := os.Getenv("LAASTER_HEAP"); path != "" {
			s.ask("profile " + path)
		}
		for _, c := range ends {
			c.Close()
		}
	}
}

// idleServer is the other process.
type idleServer struct {
	b    *testing.B
	in   io.Writer
	out  *bufio.Reader
	addr string
}

func startIdleServer(b *testing.B, conns int) *idleServer {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestIdleServer$")
	cmd.Env = append(os.Environ(), "LAASTER_IDLE_SERVER="+strconv.Itoa(conns))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	s := &idleServer{b: b, in: in, out: bufio.NewReader(out)}
	line, err := s.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	s.addr = strings.TrimSpace(line)
	return s
}

// ask sends a command and returns the number that it is answered with.
func (s *idleServer) ask(command string) int {
	fmt.Fprintln(s.in, command)
	line, err := s.out.ReadString('\n')
	if err != nil {
		s.b.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		s.b.Fatal(err)
	}
	return n
}

func (s *idleServer) connect() net.Conn {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.b.Fatal(err)
	}
	fmt.Fprintf(c, "GET /v1/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: laaster.v1\r\nUser-Agent: a browser of some length\r\n\r\n")
	if _, err := c.Write(clientFrame(opText, true, []byte(`{"type":"hello","client":{"name":"idle"},"subscribe":[{"id":"a","view":"tally"}]}`))); err != nil {
		s.b.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 2048)
	for !bytes.Contains(got, []byte(`"more":false`)) {
		n, err := c.Read(buf)
		if err != nil {
			s.b.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	return c
}

// TestIdleServer is the server process of BenchmarkIdle; without it there is nothing to test.
func TestIdleServer(t *testing.T) {
	conns, err := strconv.Atoi(os.Getenv("LAASTER_IDLE_SERVER"))
	if err != nil {
		t.Skip("part of BenchmarkIdle")
	}
	b := newBench(t, Options{Clock: run.System{}, MaxConnections: conns}, 0)
	b.apply(edit{rel: 0, vals: []*string{str("A"), str("1"), nil}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(b.hub.ServeLive)}
	defer server.Close()
	b.group.Go("serve", func(context.Context) error { _ = server.Serve(ln); return nil })
	fmt.Println(ln.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n := 0
		command, arg, _ := strings.Cut(in.Text(), " ")
		switch command {
		case "rss":
			n = residentKB(t)
		case "gc":
			runtime.GC()
			runtime.GC()
		case "subscribed":
			for b.hub.Stats().Subscriptions < conns {
				runtime.Gosched()
			}
		case "heap":
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			n = int(m.HeapAlloc)
		case "cpu":
			n = int(cpu().Microseconds())
		case "profile":
			runtime.GC()
			f, err := os.Create(arg)
			if err != nil {
				t.Fatal(err)
			}
			_ = pprof.Lookup("heap").WriteTo(f, 0)
			f.Close()
		}
		fmt.Println(n)
	}
}

// residentKB is the resident memory of this process.
func residentKB(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
