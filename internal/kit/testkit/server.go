package testkit

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary builds the laaster binary, once for each test process, and returns its path. With LAASTER_BIN set it is that file.
// The binary has the race detector when the test has it.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("LAASTER_BIN"); bin != "" {
		return bin
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "laaster-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "laaster")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "laaster/cmd/laaster")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// Race reports whether the tests, and the binary that they build, have the race detector: it makes memory several times as large.
func Race() bool { return raceEnabled && os.Getenv("LAASTER_BIN") == "" }

// Server is a running laaster process. Methods are for one test goroutine, except URL and Admin.
type Server struct {
	URL   string // of the public listener, without a slash at the end
	Admin string // of the admin listener
	t     testing.TB
	args  []string
	cmd   *exec.Cmd
	log   *lockedBuffer
	ended chan error
}

// StartServer runs `laaster run dir --data data` with further flags on free loopback ports and returns once it is ready. It is
// ended with the test.
func StartServer(t testing.TB, dir, data string, flags ...string) *Server {
	t.Helper()
	args := append([]string{"run", dir, "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, flags...)
	s := &Server{t: t, args: args, log: &lockedBuffer{}}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("server log:\n%s", s.log.String())
		}
	})
	return s
}

func (s *Server) start() error {
	cmd := exec.Command(Binary(s.t), s.args...)
	cmd.Stderr = s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.ended = cmd, make(chan error, 1)
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server ended before it was ready: %v\n%s", cmd.Wait(), s.log.String())
	}
	ended := s.ended
	go func() { // a test's own process: its end is awaited in Kill and Stop
		for {
			if _, err := r.ReadString('\n'); err != nil {
				break
			}
		}
		ended <- cmd.Wait()
	}()
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "public="); ok {
			s.URL = v
		}
		if v, ok := strings.CutPrefix(f, "admin="); ok {
			s.Admin = v
		}
	}
	if s.URL == "" || s.Admin == "" {
		return fmt.Errorf("the first line is not the ready line: %q", line)
	}
	return nil
}

// Pid returns the process id.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Log returns what the server wrote on stderr so far, over all its lives.
func (s *Server) Log() string { return s.log.String() }

// Kill ends the process with SIGKILL and waits for its end. It does nothing when the process has ended.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended by itself
	<-s.ended
	s.cmd = nil
}

// Stop ends the process with SIGTERM and returns its error, nil for exit code 0.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.ended:
		s.cmd = nil
		return err
	case <-time.After(20 * time.Second):
		return fmt.Errorf("the server did not end within 20 s of SIGTERM\n%s", s.log.String())
	}
}

// Restart starts the process again on the same ports, so that clients find it, and waits until it is ready.
func (s *Server) Restart() {
	s.t.Helper()
	_, public, _ := strings.Cut(s.URL, "://")
	_, admin, _ := strings.Cut(s.Admin, "://")
	for i := range s.args[1:] {
		switch s.args[i] {
		case "--listen":
			s.args[i+1] = public
		case "--admin":
			s.args[i+1] = admin
		}
	}
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// lockedBuffer keeps the last megabyte written to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<20 {
		l.b.Next(l.b.Len() / 2)
	}
	return l.b.Write(p)
}

// String returns what is kept.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
