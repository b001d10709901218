package backbone_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/change"
)

// unsyncedFolder is a data folder whose log met a failed sync a second ago, with files of several ages, and what is in them.
func unsyncedFolder(t *testing.T) (dir string, at time.Time, files map[string]string) {
	t.Helper()
	r, dir := newLog(t, 3)
	at = time.Unix(1700000000, 0)
	f := &backbonetest.Faulty{Driver: r}
	s := openShard(t, f, dir)
	f.Next(backbonetest.Fail(&backbone.WriteError{Err: errors.New("input/output error\nsecond line")}))
	var b change.Builder
	if _, err := s.Append(t.Context(), &b); err == nil {
		t.Fatal("appended")
	}
	s.Close()
	files = map[string]string{}
	for name, age := range map[string]time.Duration{
		"store/old": time.Hour, "store/a/older": 48 * time.Hour, "store/a/b/new": time.Minute, "store/now": 0, "store/a/later": -time.Hour, "other": 0,
	} {
		path := filepath.Join(dir, name)
		files[name] = strings.Repeat(name, 10_000)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(files[name]), 0o640), os.Chtimes(path, at, at.Add(-age)))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "store/a/new.resync"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, at, files
}

// inodes returns the identity of each file.
func inodes(t *testing.T, dir string, files map[string]string) map[string]os.FileInfo {
	t.Helper()
	out := map[string]os.FileInfo{}
	for name := range files {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = info
	}
	return out
}

func TestResync(t *testing.T) {
	for _, c := range []struct {
		name   string
		marker func(text []byte) []byte
		since  func(at time.Time) time.Time
		want   []string
	}{
		{"since the marker", nil, nil, []string{"store/a/b/new", "store/a/later", "store/now"}},
		{"since a checkpoint", nil, func(at time.Time) time.Time { return at.Add(-2 * time.Hour) },
			[]string{"store/a/b/new", "store/a/later", "store/now", "store/old"}},
		{"a checkpoint after the marker", nil, func(at time.Time) time.Time { return at }, []string{"store/a/b/new", "store/a/later", "store/now"}},
		{"a marker without content", func([]byte) []byte { return nil }, nil,
			[]string{"store/a/b/new", "store/a/later", "store/a/older", "store/now", "store/old"}},
		{"half a marker", func(b []byte) []byte { return b[:30] }, nil, []string{"store/a/b/new", "store/a/later", "store/a/older", "store/now", "store/old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, at, files := unsyncedFolder(t)
			marker := filepath.Join(dir, "UNSYNCED")
			text, err := os.ReadFile(marker)
			if err != nil || !bytes.HasPrefix(text, []byte("laaster unsynced, format 1\nat 2023-11-14T22:13:2")) ||
				!bytes.Contains(text, []byte("because the store cannot write: input/output error second line\n")) {
				t.Fatalf("the marker says %q: %v", text, err)
			}
			if c.marker != nil {
				if err := os.WriteFile(marker, c.marker(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var since time.Time
			if c.since != nil {
				since = c.since(at)
			}
			before := inodes(t, dir, files)
			n, size, err := backbone.ResyncStore(dir, since, nil)
			if err != nil {
				t.Fatal(err)
			}
			var anew []string
			wantSize := int64(1024) // of the high-water file
			for name, info := range inodes(t, dir, files) {
				if !os.SameFile(info, before[name]) {
					anew = append(anew, name)
					wantSize += int64(len(files[name]))
				}
				if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != files[name] || info.Mode() != before[name].Mode() {
					t.Errorf("%s: %d bytes, mode %v, %v", name, len(b), info.Mode(), err)
				}
			}
			if slices.Sort(anew); !slices.Equal(anew, c.want) || n != len(c.want)+1 || size != wantSize {
				t.Errorf("written anew: %d, %d bytes, %v\nwant %d bytes, %v", n, size, anew, wantSize, c.want)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "store/*/*.resync")); err != nil || left != nil {
				t.Errorf("left: %v, %v", left, err)
			}
			if n, _, err := backbone.ResyncStore(dir, since, nil); err != nil || n != 0 {
				t.Errorf("again: %d, %v", n, err)
			}
		})
	}
}

// TestResyncFails: what cannot be written anew keeps the marker, and the start may be tried again.
func TestResyncFails(t *testing.T) {
	dir, _, files := unsyncedFolder(t)
	if err := os.Mkdir(filepath.Join(dir, "store/now.resync"), 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "store/now.resync/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := backbone.ResyncStore(dir, time.Time{}, nil)
	if err == nil || !strings.Contains(err.Error(), "UNSYNCED stays") {
		t.Errorf("got %v", err)
	}
	if marked, _, err := backbone.Unsynced(dir); err != nil || !marked {
		t.Errorf("the marker is gone: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "store/now.resync")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := backbone.ResyncStore(dir, time.Time{}, nil); err != nil {
		t.Error(err)
	}
	for name := range maps.Keys(files) {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != files[name] {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestGuard(t *testing.T) {
	const low, reserve = 1000, 300
	dir, free := t.TempDir(), uint64(5000)
	var freeErr error
	o := backbone.GuardOptions{Dir: dir, LowWater: low, Reserve: reserve, Free: func(string) (uint64, error) { return free, freeErr }}
	g := backbone.NewGuard(o)
	check := func(now uint64, want bool) {
		t.Helper()
		free = now
		if got, n := g.Check(); got != want || n != now {
			t.Errorf("with %d bytes: low %t, %d", now, got, n)
		}
	}
	size := func() string {
		info, err := os.Stat(filepath.Join(dir, "RESERVE"))
		if errors.Is(err, os.ErrNotExist) {
			return "none"
		}
		return fmt.Sprint(info.Size())
	}
	for _, c := range []struct {
		free uint64
		low  bool
	}{{5000, false}, {1000, false}, {999, true}, {1000, true}, {1099, true}, {1100, false}, {1000, false}, {0, true}, {1 << 60, false}} {
		check(c.free, c.low)
	}
	if g.GiveUp() || g.Held() || size() != "none" {
		t.Errorf("a reserve before it was made: %s", size())
	}
	free = 1399
	if g.Restore() || size() != "none" {
		t.Error("a reserve that would make the space low")
	}
	free = 1400
	for range 2 {
		if !g.Restore() || !g.Held() || size() != "300" {
			t.Errorf("reserve: %s", size())
		}
	}
	if g = backbone.NewGuard(o); !g.Held() {
		t.Error("the reserve was not taken over")
	}
	if !g.GiveUp() || g.GiveUp() || g.Held() || size() != "none" {
		t.Errorf("given up: %s", size())
	}
	check(10, true)
	free = 5000
	if g.Restore() {
		t.Error("a reserve while the space is low")
	}
	check(5000, false)
	if !g.Restore() {
		t.Error("no reserve")
	}
	freeErr = errors.New("no answer")
	if low, n := g.Check(); low || n != 5000 {
		t.Errorf("without an answer: low %t, %d", low, n)
	}
	freeErr = nil
	o.Reserve = 200 // it was made smaller
	if g = backbone.NewGuard(o); g.Held() || size() != "none" || !g.Restore() || size() != "200" {
		t.Errorf("another size: %s", size())
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "RESERVE")), os.Mkdir(filepath.Join(dir, "RESERVE"), 0o700)); err != nil {
		t.Fatal(err)
	}
	o.Reserve, o.LowWater = 0, 0
	if g = backbone.NewGuard(o); g.Restore() || g.GiveUp() {
		t.Error("a reserve of no bytes")
	}
	check(0, false)
}
