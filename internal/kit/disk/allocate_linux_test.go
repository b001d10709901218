package disk_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"laaster/internal/kit/disk"
)

// TestAllocate: the space is taken, not only promised.
func TestAllocate(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 3<<20 + 5
	if err := disk.Allocate(f, size); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil || info.Size() != size {
		t.Fatalf("%d bytes: %v", info.Size(), err)
	}
	if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; taken < size {
		t.Errorf("of %d bytes %d are taken", size, taken)
	}
	if err := disk.Allocate(f, 1<<60); err == nil {
		t.Error("an impossible size was allocated")
	}
}
