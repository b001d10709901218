package door

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"laaster/internal/kit/testkit"
)

// goodEnv has a process be good clients: a JSON goodSpec.
const goodEnv = "LAASTER_DOOR_GOOD"

// goodSpec is whose good clients a process is.
type goodSpec struct{ URL, Token, CA string }

// goodReport is a line that it answers a line on its standard input with: what it saw since the last, sorted.
type goodReport struct {
	Kinds  map[string][]time.Duration
	Failed string
}

func TestMain(m *testing.M) {
	spec := os.Getenv(goodEnv)
	if spec == "" {
		os.Exit(m.Run())
	}
	if err := beGood(spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beGood runs good clients until standard input ends.
func beGood(spec string) error {
	var s goodSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	x := &victim{Server: &testkit.Server{URL: s.URL}, token: s.Token}
	if s.CA != "" {
		x.tls = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS13}
		x.tls.RootCAs.AppendCertsFromPEM([]byte(s.CA))
	}
	g, err := x.begin()
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); err == nil && in.Scan(); {
		r := goodReport{Kinds: g.take()}
		if err := g.group.Err(); err != nil {
			r.Failed = err.Error()
		}
		err = out.Encode(r)
	}
	if g == nil {
		return err
	}
	close(g.done)
	return errors.Join(err, g.group.Wait())
}

// goodProcess is a process of good clients, which attackers in this one cost no time on a processor.
type goodProcess struct {
	x   *victim
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// apart starts good clients in a process of their own, and returns when each has done something.
func (x *victim) apart() *goodProcess {
	x.t.Helper()
	spec, err := json.Marshal(goodSpec{x.URL, x.token, string(x.ca)})
	if err != nil {
		x.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	p := &goodProcess{x: x, cmd: exec.Command(self)}
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), goodEnv+"="+string(spec)), os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := p.cmd.StdinPipe()
	out, oops := p.cmd.StdoutPipe()
	if err = errors.Join(err, oops); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		x.t.Fatal(err)
	}
	p.in, p.out = in, json.NewDecoder(out)
	p.take()
	x.good = &goodClients{x: x} // for what attacks ask as one who may
	return p
}

// take returns the delays since the last take, sorted.
func (p *goodProcess) take() map[string][]time.Duration {
	p.x.t.Helper()
	var r goodReport
	if _, err := io.WriteString(p.in, "take\n"); err != nil {
		p.x.t.Fatal(err)
	}
	if err := p.out.Decode(&r); err != nil {
		p.x.t.Fatal("the good clients have ended: ", err)
	}
	if r.Failed != "" {
		p.x.t.Error(r.Failed)
	}
	return r.Kinds
}

func (p *goodProcess) end() {
	p.x.t.Helper()
	err := p.in.Close()
	if err = errors.Join(err, p.cmd.Wait()); err != nil {
		p.x.t.Error(err)
	}
}

// yield has whatever this process does come after everything else, as what an attacker's machine does would not be felt here at all. The function that it
// returns ends that.
func yield(t testing.TB) (end func()) {
	t.Helper()
	nice := func(n int) {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			id, _ := strconv.Atoi(thread.Name())
			if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, n); err != nil && !errors.Is(err, syscall.ESRCH) {
				testkit.Missing(t, fmt.Sprintf("priorities cannot be changed: %v", err))
			}
		}
	}
	nice(19)
	return func() { nice(0) }
}
