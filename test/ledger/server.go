package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"laaster/internal/kit/run"
)

// Spec says how the server is started.
type Spec struct {
	Bin  string   // the binary
	App  string   // the app folder
	Data string   // the data folder
	Env  []string // besides the environment of the tests, NAME=value
	Args []string // further flags of `laaster run`
	Wrap []string // a command in front of the binary, such as strace with its flags
}

// Server is one life of the binary. Methods are for one goroutine, Done and Log for any.
type Server struct {
	URL   string // of the public listener, without a slash at the end
	Admin string // of the admin listener

	cmd   *exec.Cmd
	log   *tail
	ended chan struct{} // closed when the process has ended
	err   error         // of Wait, once ended
}

// Ended is the error of a server that ended before it was ready.
type Ended struct {
	Err error  // how it ended
	Log string // what it said on stderr
}

// Error implements error.
func (e *Ended) Error() string {
	return fmt.Sprintf("the server ended before it was ready: %v\n%s", e.Err, e.Log)
}

// startPatience is how long a start may take before it counts as one that hangs.
const startPatience = 2 * time.Minute

// Start runs the binary on free loopback ports and returns once it is ready. An [*Ended] says that it ended before. The process dies with the
// one that started it; g waits for its end.
func Start(ctx context.Context, g *run.Group, spec *Spec) (*Server, error) {
	args := append([]string{}, spec.Wrap...)
	args = append(args, spec.Bin, "run", spec.App, "--data", spec.Data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	args = append(args, spec.Args...)
	cmd := exec.Command(args[0], args[1:]...)
	s := &Server{cmd: cmd, log: &tail{}, ended: make(chan struct{})}
	cmd.Env = append(os.Environ(), spec.Env...)
	cmd.Stderr = s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	g.Go("server process", func(context.Context) error {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		ready <- line
		_, _ = io.Copy(io.Discard, r) // until its end
		s.err = cmd.Wait()
		close(s.ended)
		return nil
	})
	select {
	case line := <-ready:
		if !s.address(line) {
			s.Kill()
			return nil, &Ended{s.err, s.log.String()}
		}
		return s, nil
	case <-ctx.Done():
	case <-run.System{}.After(startPatience):
	}
	s.Kill()
	return nil, fmt.Errorf("the server was not ready within %v\n%s", startPatience, s.log.String())
}

// address reads the line that says where the server is.
func (s *Server) address(line string) bool {
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "public="); ok {
			s.URL = v
		}
		if v, ok := strings.CutPrefix(f, "admin="); ok {
			s.Admin = v
		}
	}
	return s.URL != "" && s.Admin != ""
}

// Pid returns the process id: the server's own, or that of what wraps it.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Log returns the last megabyte that the process wrote on stderr.
func (s *Server) Log() string { return s.log.String() }

// Done is closed when the process has ended.
func (s *Server) Done() <-chan struct{} { return s.ended }

// Kill ends the process, and what wraps it, with SIGKILL and waits for its end. It does nothing when it has ended.
func (s *Server) Kill() {
	select {
	case <-s.ended:
		return // its id may be another's by now
	default:
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.ended
}

// Stop ends the process with SIGTERM and returns its error, nil for exit code 0.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	return s.Wait(30 * time.Second)
}

// Wait returns how the process ended, nil for exit code 0. One that does not end within patience is killed.
func (s *Server) Wait(patience time.Duration) error {
	select {
	case <-s.ended:
		return s.err
	case <-run.System{}.After(patience):
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines, for the log
		select {
		case <-s.ended:
		case <-run.System{}.After(5 * time.Second):
			s.Kill()
		}
		return fmt.Errorf("the server did not end within %v\n%s", patience, s.log.String())
	}
}

// ExitCode returns the exit code of a process that ended by itself; -1 when a signal ended it.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// tail keeps the last megabyte written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() > 1<<20 {
		t.b.Next(t.b.Len() / 2)
	}
	return t.b.Write(p)
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
