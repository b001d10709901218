package jetstream

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/change"
)

// onDisk returns the bytes of the files below a folder.
func onDisk(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// wantFrom opens a copy of a data folder and reads the log from first to last.
func wantFrom(t *testing.T, what, dir string, first, last uint64) {
	t.Helper()
	s, err := openLog(t, dir)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	defer s.Close()
	next := first
	err = s.Replay(t.Context(), s.First(), func(b *change.Batch) error {
		if b.Header().Seq != next {
			return fmt.Errorf("batch %d where %d was due", b.Header().Seq, next)
		}
		next++
		return nil
	})
	if err != nil || s.First() != first || next != last+1 || s.Head() != last {
		t.Errorf("%s: from %d to %d, head %d, want %d to %d: %v", what, s.First(), next-1, s.Head(), first, last, err)
	}
}

// TestTrimSpace: what is trimmed is given back on disk, and after a clean end as well as after a kill the log is what is left.
func TestTrimSpace(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenLog(t, dir)
	appendLarge(t, s, 40, 900_000)
	before := onDisk(t, dir)
	for _, first := range []uint64{2, 21, 39, 40} {
		if err := s.Trim(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if after, kept := onDisk(t, dir), int64(41-first)*900_000; after > kept+9<<20 {
			t.Errorf("trimmed up to %d: %d bytes on disk, %d before; %d are kept", first, after, before, kept)
		}
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		wantFrom(t, fmt.Sprint("killed after the trim up to ", first), killed, first, 40)
	}
	appendLarge(t, s, 5, 900_000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantFrom(t, "closed", dir, 40, 45)
}

// TestTrimDamage damages the store of a trimmed log: it is found, or nothing that is kept is lost.
func TestTrimDamage(t *testing.T) {
	const n, rounds = 200, 30
	clean, killed := t.TempDir(), t.TempDir()
	s := mustOpenLog(t, clean)
	backbonetest.AppendN(t, s, n/2)
	appendLarge(t, s, 10, 900_000)
	if err := s.Trim(t.Context(), 70); err != nil {
		t.Fatal(err)
	}
	backbonetest.AppendN(t, s, n/2-10)
	if err := os.CopyFS(killed, os.DirFS(clean)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found := 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 2))
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS([]string{clean, killed}[r.IntN(2)])); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, streamFiles, "msgs", "*"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		files = append(files, filepath.Join(dir, "base-0"), filepath.Join(dir, "highwater-0"))
		what := damageOne(t, r, files[r.IntN(len(files))])
		s, err := openLog(t, dir)
		if err == nil {
			got := 0
			err = s.Replay(t.Context(), s.First(), func(*change.Batch) error { got++; return nil })
			if err == nil && (s.First() != 70 || got != n-70+1) {
				t.Errorf("seed %d: %s: from %d, %d batches and no error", seed, what, s.First(), got)
			}
			s.Close()
		}
		if err != nil {
			found++
		}
	}
	if found < rounds/4 || found == rounds {
		t.Errorf("%d of %d damages were found: the test does not try what it should", found, rounds)
	}
	for _, gone := range []string{"base-0", streamFiles + "/msgs"} {
		dir := t.TempDir()
		if err := errors.Join(os.CopyFS(dir, os.DirFS(clean)), os.RemoveAll(filepath.Join(dir, gone))); err != nil {
			t.Fatal(err)
		}
		if _, err := openLog(t, dir); !errors.As(err, new(*backbone.Damage)) {
			t.Errorf("without %s: %v", gone, err)
		}
	}
}

// TestTrimOld trims a log whose stream an older version made.
func TestTrimOld(t *testing.T) {
	dir := t.TempDir()
	d := openDriver(t, Options{Dir: dir})
	c := d.config()
	c.DenyPurge = true
	if _, err := d.js.CreateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = openDriver(t, Options{Dir: dir})
	for seq := range uint64(3) {
		if _, err := d.Append(t.Context(), []byte("x"), seq); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Trim(t.Context(), 3); err == nil || !strings.Contains(err.Error(), "laaster repair") {
		t.Errorf("trim: %v", err)
	}
}
