package jetstream

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"laaster/internal/backbone"
)

// TestCheckDisk changes a byte of a block file of a log that is open: a check finds it on the disk, whatever the system has cached, and the log goes on.
func TestCheckDisk(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenLog(t, dir)
	appendLarge(t, s, 30, 900_000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpenLog(t, dir)
	file := filepath.Join(dir, streamFiles, "msgs", "1.blk")
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	const at = 3_000_000
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	var found []*backbone.Damage
	var c backbone.Cursor
	for atHead := false; !atHead; {
		_, atHead, err = s.Check(t.Context(), &c, 256<<10)
		if d := (*backbone.Damage)(nil); errors.As(err, &d) {
			found = append(found, d)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) == 0 || found[0].From > 4 || found[0].To < 4 {
		t.Errorf("found %v, want damage at batch 4", found)
	}
	appendLarge(t, s, 1, 100)
}
