package backbone_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/disk"
)

func TestFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data")
	for range 2 { // made, then opened again
		f, err := backbone.OpenFolder(path)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(f.Store()); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			t.Errorf("store: %v, %v", info, err)
		}
		_, err = backbone.OpenFolder(path)
		if held := (*disk.LockedError)(nil); !errors.As(err, &held) || held.PID != os.Getpid() || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Errorf("a folder in use: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFolderRefuses(t *testing.T) {
	check := func(name, content, part string) error {
		t.Helper()
		path := t.TempDir()
		if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := backbone.OpenFolder(path)
		if err == nil || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s %q: got %v, want %q", name, content, err, part)
		}
		if left, _ := os.ReadDir(path); len(left) != 1 {
			t.Errorf("%s %q: the folder was changed: %v", name, content, left)
		}
		return err
	}
	check("holiday.jpg", "", "not empty (holiday.jpg)")
	check("FORMAT", "something", "does not say that it is a laaster data folder")
	check("FORMAT", "laaster data folder, format 0\n", "does not say")
	err := check("FORMAT", "laaster data folder, format 3\n", "use the newer program")
	if newer := (*change.NewerError)(nil); !errors.As(err, &newer) || newer.Version != 3 {
		t.Errorf("a newer folder: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backbone.OpenFolder(file); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// TestFolderUpgrade: a folder of format 1 stays one until it is upgraded, and is one of format 2 from then on.
func TestFolderUpgrade(t *testing.T) {
	path := t.TempDir()
	format := filepath.Join(path, "FORMAT")
	if err := os.WriteFile(format, []byte("laaster data folder, format 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		before  int
		upgrade bool
		after   string
	}{{1, false, "1"}, {1, true, "2"}, {2, true, "2"}} {
		f, err := backbone.OpenFolder(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Format() != c.before {
			t.Errorf("format %d, want %d", f.Format(), c.before)
		}
		if c.upgrade {
			if err := f.Upgrade(); err != nil {
				t.Error(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(format); err != nil || string(b) != "laaster data folder, format "+c.after+"\n" {
			t.Errorf("FORMAT says %q, %v; want %s", b, err, c.after)
		}
	}
}
