package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"laaster/internal/kit/disk"
)

func TestLockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "LOCK")
	for range 2 { // taken, released, taken again
		l, err := disk.LockFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(os.Getpid()) {
			t.Errorf("the file says %q, %v", b, err)
		}
		_, err = disk.LockFile(path)
		if held := (*disk.LockedError)(nil); !errors.As(err, &held) || held.PID != os.Getpid() {
			t.Errorf("a second lock: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := disk.LockFile(filepath.Join(path, "no folder")); err == nil {
		t.Error("a lock where there is no folder")
	}
}

func TestSyncAndFree(t *testing.T) {
	dir := t.TempDir()
	if free, err := disk.Free(dir); err != nil || free == 0 {
		t.Errorf("free: %d, %v", free, err)
	}
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.SyncData(f); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if disk.SyncData(f) == nil {
		t.Error("a closed file was synced")
	}
}
