//go:build linux

package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
	"laaster/test/ledger"
)

// inject attaches strace to a server and has syncs fail or stall as what says. The function that it returns takes it off again.
func inject(t *testing.T, r *ledger.Rig, what string) (off func()) {
	t.Helper()
	return injectAt(t, r, "fsync,fdatasync", what)
}

// injectAt is inject for other system calls, on certain files.
func injectAt(t *testing.T, r *ledger.Rig, calls, what string, paths ...string) (off func()) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		testkit.Missing(t, "strace is not installed: no failing sync is tried")
	}
	args := []string{"-f", "-p", strconv.Itoa(r.Server.Pid()), "-o", "/dev/null", "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + what}
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	cmd := exec.Command(strace, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	says, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	attached := make(chan string, 1)
	ended := make(chan struct{})
	r.Group.Go("strace", func(context.Context) error {
		b := make([]byte, 4096)
		n, _ := says.Read(b)
		attached <- string(b[:n])
		_, _ = io.Copy(io.Discard, says)
		_ = cmd.Wait() // it ends with the server, or by our signal
		close(ended)
		return nil
	})
	if first := <-attached; !strings.Contains(first, "attached") {
		select {
		case <-r.Server.Done(): // it died just before
			return func() {}
		case <-run.System{}.After(time.Second):
		}
		testkit.Missing(t, "strace cannot attach here: "+first)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-run.System{}.After(5 * time.Second): // now and then it waits for a thread that is gone
			_ = cmd.Process.Kill()
			<-ended
		}
	}
}

// TestLedgerIO has syncs fail under load, once or from then on. The server ends with exit code 1 and says why, and then the power is cut, so that
// what was acknowledged although its sync failed would be missing.
func TestLedgerIO(t *testing.T) {
	errs := asked(t, "LAASTER_IO_ERRORS", 4, 50)
	d := newDisk(t, 512)
	r := rigged(t, d.data(), often, ledger.LoadOptions{})
	rng := rand.New(rand.NewPCG(rand.Uint64(), 3))
	must(t, r.Up())
	r.Load.Go()
	ended := 0
	for n := range errs {
		moment(t.Context(), rng, 200*time.Millisecond)
		what := fmt.Sprintf("error=EIO:when=%d", 1+rng.IntN(30))
		all := n%2 == 0
		if all {
			what += "+"
		}
		off := inject(t, r, what)
		patience := 20 * time.Second
		if !all { // it may have been the sync of something that can be written again
			patience = 1500 * time.Millisecond
		}
		select {
		case <-r.Server.Done():
			r.Target.Down()
			ended++
			err := r.Server.Wait(time.Second)
			if code, log := ledger.ExitCode(err), r.Server.Log(); code != 1 || !strings.Contains(log, "input/output error") {
				t.Errorf("after %s the server ended with %v, want exit code 1 and the reason:\n%s", what, err, last(log, 3000))
			}
		case <-run.System{}.After(patience):
			if all {
				t.Errorf("the server goes on although every sync fails:\n%s", last(r.Server.Log(), 3000))
			}
			r.Target.Down()
		}
		must(t, d.cut())
		r.Down()
		off()
		must(t, d.back())
		must(t, r.Up())
		must(t, r.Check(t.Context(), false))
		clean(t, r)
	}
	if ended == 0 {
		t.Error("no failed sync ended the server")
	}
	finish(t, r)
}

// TestLedgerStall has syncs take long, some longer than the patience of an append. Nothing is lost or written twice, and the server goes on.
func TestLedgerStall(t *testing.T) {
	stalls := asked(t, "LAASTER_STALLS", 2, 50)
	r := rigged(t, t.TempDir(), often, ledger.LoadOptions{})
	rng := rand.New(rand.NewPCG(rand.Uint64(), 4))
	must(t, r.Up())
	r.Load.Go()
	for n := range stalls {
		stall := time.Duration(200+rng.IntN(1800)) * time.Millisecond
		if n%10 == 9 {
			stall = 6 * time.Second
		}
		before := r.Book.High()
		off := inject(t, r, fmt.Sprintf("delay_enter=%d:when=%d", stall.Microseconds(), 1+rng.IntN(10)))
		moment(t.Context(), rng, stall)
		must(t, r.Check(t.Context(), false))
		off()
		if r.Book.High() == before {
			t.Error("nothing was written")
		}
		if n%5 == 4 {
			r.Down()
			must(t, r.Up())
		}
		clean(t, r)
	}
	finish(t, r)
}
