package jetstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// TestDiskFull fills a small disk. The append that does not fit is refused by name within a second, nothing that was
// acknowledged is lost, and once there is space a restart goes on.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		testkit.Missing(t, fmt.Sprintf("a small disk cannot be mounted here (root may): %v", err))
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{700_000, 2000} { // large batches, then small ones in what is left
		s := mustOpenLog(t, dir)
		before := s.Head()
		acknowledged, took := fillDisk(t, s, size)
		if took > time.Second {
			t.Errorf("a full disk was reported after %v", took)
		}
		var b change.Builder
		if _, err := s.Append(t.Context(), &b); !isFull(err) {
			t.Errorf("an append after that: %v", err)
		}
		if s.Head() != before+acknowledged {
			t.Errorf("head %d, want %d", s.Head(), before+acknowledged)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}

	s := mustOpenLog(t, dir) // the disk is still full: the log can be read
	head := s.Head()
	if got, err := backbonetest.Replayed(t.Context(), s, 1); err != nil || len(got) != int(head) {
		t.Errorf("read %d of %d on a full disk: %v", len(got), head, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s = mustOpenLog(t, dir)
	if s.Head() != head {
		t.Errorf("head %d after space was freed, %d before", s.Head(), head)
	}
	appendLarge(t, s, 3, 700_000)
	if got, err := backbonetest.Replayed(t.Context(), s, 1); err != nil || len(got) != int(head)+3 {
		t.Errorf("read %d of %d: %v", len(got), head+3, err)
	}
}

// TestDiskFullReopened fills a small disk under a log that is not closed: with its reserve given up it can be opened anew in the same process and
// read, once there is room it takes appends, and nothing that was acknowledged is lost or there twice.
func TestDiskFullReopened(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		testkit.Missing(t, fmt.Sprintf("a small disk cannot be mounted here (root may): %v", err))
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	guard := backbone.NewGuard(backbone.GuardOptions{Dir: dir, LowWater: 1 << 20, Reserve: 2 << 20})
	if !guard.Restore() {
		t.Fatal("no reserve")
	}
	s := mustOpenLog(t, dir)
	clock := run.System{}
	for round := range 3 {
		if low, free := guard.Check(); low || !guard.Restore() {
			t.Fatalf("round %d: low %t with %d bytes, reserve %t", round, low, free, guard.Held())
		}
		_, free := guard.Check()
		if err := os.WriteFile(ballast, make([]byte, free-2<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		before := s.Head()
		acknowledged, took := fillDisk(t, s, []int{700_000, 2000, 40_000}[round])
		if took > time.Second {
			t.Errorf("round %d: a full disk was reported after %v", round, took)
		}
		if low, free := guard.Check(); !low || !guard.GiveUp() || guard.GiveUp() {
			t.Errorf("round %d: low %t with %d bytes", round, low, free)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		began := clock.Now()
		found, err := s.Reopen(t.Context())
		if err != nil || len(found) > 1 || s.Head() != before+acknowledged+uint64(len(found)) {
			t.Fatalf("round %d: %d found, head %d after %d and %d: %v", round, len(found), s.Head(), before, acknowledged, err)
		}
		t.Logf("reopened in %v, %d found", clock.Now().Sub(began), len(found))
		appendLarge(t, s, 3, 20_000)
		if got, err := backbonetest.Replayed(t.Context(), s, 1); err != nil || len(got) != int(s.Head()) {
			t.Fatalf("round %d: read %d of %d: %v", round, len(got), s.Head(), err)
		}
	}
	head := s.Head()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if s = mustOpenLog(t, dir); s.Head() != head {
		t.Errorf("head %d after a restart, %d before", s.Head(), head)
	}
}

func isFull(err error) bool {
	var stopped *backbone.Stopped
	return errors.As(err, &stopped) && stopped.Reason == backbone.DiskFull
}

// fillDisk appends until the disk is full; it returns how many batches were acknowledged and how long the last append took.
func fillDisk(t *testing.T, s *backbone.Shard, size int) (acknowledged uint64, took time.Duration) {
	t.Helper()
	var b change.Builder
	if err := b.Add(&change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Body: make([]byte, size)}); err != nil {
		t.Fatal(err)
	}
	for clock := (run.System{}); ; acknowledged++ {
		start := clock.Now()
		_, err := s.Append(t.Context(), &b)
		if err == nil {
			continue
		}
		if !isFull(err) {
			t.Fatalf("after %d batches of %d bytes: %v", acknowledged, size, err)
		}
		t.Log(err)
		return acknowledged, clock.Now().Sub(start)
	}
}
