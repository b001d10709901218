package jetstream

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/change"
)

// copySample copies a kept data folder of an earlier version.
func copySample(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFormat1 opens a data folder that the version of format 1 wrote: with the server's index as after a clean end, and without as after a kill. It
// stays as it was until it is upgraded; from then on it may be encrypted.
func TestFormat1(t *testing.T) {
	const id, n = "r2422oj3pnjvi5ti", 40
	for _, killed := range []bool{false, true} {
		dir := copySample(t, "folder-1")
		if killed {
			if err := os.Remove(filepath.Join(dir, streamFiles, "msgs/index.db")); err != nil {
				t.Fatal(err)
			}
		}
		f, err := backbone.OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		s := mustOpenLog(t, dir)
		if s.ID().String() != id || s.Recovery() != (backbone.Recovery{Head: n}) || f.Format() != 1 {
			t.Fatalf("log %s, %+v, format %d", s.ID(), s.Recovery(), f.Format())
		}
		if got, err := backbonetest.Replayed(t.Context(), s, 1); err != nil || len(got) != n || got[n-1] != "request 40" {
			t.Fatalf("%d batches: %v", len(got), err)
		}
		if err := f.Upgrade(); err != nil {
			t.Fatal(err)
		}
		backbonetest.AppendN(t, s, 2)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = openSealedLog(t, dir, backbonetest.Keys(t, "one")); err != nil {
			t.Fatal(err)
		}
		backbonetest.AppendN(t, s, 2)
		if err := s.Trim(t.Context(), 21); err == nil || !strings.Contains(err.Error(), "never trimmed") { // its stream forbids it, for ever
			t.Errorf("trim: %v", err)
		}
		if got, err := backbonetest.Replayed(t.Context(), s, 21); err != nil || len(got) != n+4-20 {
			t.Errorf("%d batches: %v", len(got), err)
		}
		if err := errors.Join(s.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "FORMAT")); err != nil || string(b) != "laaster data folder, format 2\n" {
			t.Errorf("FORMAT says %q: %v", b, err)
		}
	}
}

// TestFormat3: a folder of a later version is refused, and not touched.
func TestFormat3(t *testing.T) {
	dir := copySample(t, "folder-1")
	format := filepath.Join(dir, "FORMAT")
	if err := os.WriteFile(format, []byte("laaster data folder, format 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := backbone.OpenFolder(dir)
	if newer := (*change.NewerError)(nil); !errors.As(err, &newer) || newer.Version != 3 || !strings.Contains(err.Error(), "use the newer program") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(format); err != nil || string(b) != "laaster data folder, format 3\n" {
		t.Errorf("FORMAT says %q: %v", b, err)
	}
}
