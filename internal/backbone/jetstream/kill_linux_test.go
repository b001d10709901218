package jetstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// The environment of the children that the tests here start.
const (
	childFolder = "LAASTER_TEST_APPEND_TO"  // makes this program append to the log in a folder
	childLimit  = "LAASTER_TEST_FILE_LIMIT" // lets it write files of up to 1 MiB
	childLevel  = "LAASTER_TEST_LEVEL"      // what its appends survive
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if os.Getenv(childLimit) != "" {
			signal.Ignore(syscall.SIGXFSZ)
			syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20})
		}
		fmt.Println(appendForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// appendForEver prints the sequence of each batch once it is acknowledged.
func appendForEver(dir string) error {
	acknowledged, err := backbone.Acknowledged(dir, 0)
	if err != nil {
		return err
	}
	d, err := Open(context.Background(), Options{Dir: filepath.Join(dir, "store"), Acknowledged: acknowledged, Sync: backbone.Level(os.Getenv(childLevel))})
	if err != nil {
		return err
	}
	s, err := backbone.Open(context.Background(), backbone.Options{Driver: d, Dir: dir, Clock: run.System{}})
	if err != nil {
		return err
	}
	var b change.Builder
	for clock := (run.System{}); ; {
		b.Reset()
		e := change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Request: fmt.Appendf(nil, "request %d", s.Head()+1), Body: make([]byte, 20_000)}
		if err := b.Add(&e); err != nil {
			return err
		}
		began := clock.Now()
		if _, err := s.Append(context.Background(), &b); err != nil {
			return fmt.Errorf("%d ms: %w", clock.Now().Sub(began).Milliseconds(), err)
		}
		fmt.Println(s.Head())
	}
}

// TestKill kills a process that appends, again and again: each time the log has what it had acknowledged, at most one batch
// more, and goes on from there.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	acknowledged := uint64(0)
	for _, n := range []int{1, 50, 3, 200, 17} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range n {
			lines.Scan()
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		last := lines.Text()
		for lines.Scan() { // what it still said
			last = lines.Text()
		}
		cmd.Wait() // killed, as it should be
		if _, err := fmt.Sscan(last, &acknowledged); err != nil {
			t.Fatalf("the child says %q", last)
		}
		s := mustOpenLog(t, dir)
		got, err := backbonetest.Replayed(t.Context(), s, 1)
		if err != nil || uint64(len(got)) < acknowledged || uint64(len(got)) > acknowledged+1 {
			t.Fatalf("%d batches, %d acknowledged: %v", len(got), acknowledged, err)
		}
		for i, request := range got {
			if request != fmt.Sprint("request ", i+1) {
				t.Fatalf("batch %d is %q", i+1, request)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWriteError makes a write, and a sync, fail: the append is not acknowledged, the shard stops with the reason within a second, and leaves its
// marker. The next start writes anew what was not synced, has everything that was acknowledged, and goes on.
func TestWriteError(t *testing.T) {
	t.Run("write", func(t *testing.T) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childLimit+"=1")
		failingChild(t, cmd, "file too large")
	})
	// The syncs before the fortieth are those of making the stream and of 30 batches or so.
	inject := func(name, call string, first int, env ...string) {
		t.Run(name, func(t *testing.T) {
			strace, err := exec.LookPath("strace")
			if err != nil {
				testkit.Missing(t, "strace is not installed: no failing sync is tried")
			}
			cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:error=EIO:when=%d+", call, first), os.Args[0])
			cmd.Env = append(os.Environ(), env...)
			failingChild(t, cmd, "input/output error")
		})
	}
	inject("sync", "fsync", 40)
	inject("sync of the mark", "fdatasync", 2)
	if os.Getenv("LAASTER_SEEDS") != "" { // one sync a second: some seconds
		inject("buffered", "fsync", 17, childLevel+"="+string(backbone.Buffered))
	}
}

// failingChild runs a child that appends until it fails, and opens its log again.
func failingChild(t *testing.T, cmd *exec.Cmd, why string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, childFolder+"="+dir)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		t.Fatalf("the child ended with %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 10 {
		t.Fatalf("the child says %q", out)
	}
	last, acknowledged, took := lines[len(lines)-1], uint64(len(lines)-1), 0
	t.Logf("after %d batches: %s", acknowledged, last)
	if !strings.Contains(last, string(backbone.WriteFail)) || !strings.Contains(last, why) {
		t.Errorf("the child ends with %q, want %s and %q", last, backbone.WriteFail, why)
	}
	if _, err := fmt.Sscanf(last, "%d ms", &took); err != nil || took > 1000 {
		t.Errorf("the append that failed took %d ms: %v", took, err)
	}
	if marked, text, err := backbone.Unsynced(dir); err != nil || !marked || !strings.Contains(text, why) {
		t.Errorf("marker %t %q: %v", marked, text, err)
	}
	files, bytes, err := backbone.ResyncStore(dir, time.Time{}, nil)
	if err != nil || files < 3 || bytes < 20_000*int64(acknowledged) {
		t.Errorf("%d files, %d bytes written anew: %v", files, bytes, err)
	}
	s := mustOpenLog(t, dir)
	got, err := backbonetest.Replayed(t.Context(), s, 1)
	if err != nil || uint64(len(got)) < acknowledged || uint64(len(got)) > acknowledged+1 {
		t.Errorf("%d batches, %d acknowledged: %v", len(got), acknowledged, err)
	}
	backbonetest.AppendN(t, s, 1)
}
