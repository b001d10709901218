package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/change"
	"laaster/internal/seal"
)

// openLog opens the log in a data folder as a node does.
func openLog(t testing.TB, dir string) (*backbone.Shard, error) {
	t.Helper()
	return openLogWith(t, dir, nil, 0)
}

// openSealedLog is openLog with keys.
func openSealedLog(t testing.TB, dir string, keys *seal.Ring) (*backbone.Shard, error) {
	t.Helper()
	return openLogWith(t, dir, keys, 0)
}

// openLogWith is openLog with keys and a position up to which the store is taken for sound.
func openLogWith(t testing.TB, dir string, keys *seal.Ring, clean uint64) (*backbone.Shard, error) {
	t.Helper()
	store := filepath.Join(dir, "store")
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	open := func(ctx context.Context) (backbone.Driver, error) {
		acknowledged, err := backbone.Acknowledged(dir, 0)
		if err != nil {
			return nil, err
		}
		first, err := backbone.Begins(dir, 0)
		if err != nil {
			return nil, err
		}
		return Open(ctx, Options{Dir: store, Acknowledged: acknowledged, First: first, CleanBefore: clean})
	}
	d, err := open(t.Context())
	if err != nil {
		return nil, err
	}
	return backbone.Open(t.Context(), backbone.Options{Driver: d, Reopen: open, Dir: dir, Keys: keys,
		Clock: backbonetest.NewClock(time.Unix(1700000000, 0), time.Second)})
}

func mustOpenLog(t testing.TB, dir string) *backbone.Shard {
	t.Helper()
	s, err := openLog(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// appendLarge appends n batches of size bytes each.
func appendLarge(t testing.TB, s *backbone.Shard, n, size int) {
	t.Helper()
	var b change.Builder
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i*7 + i/251)
	}
	for range n {
		b.Reset()
		if err := b.Add(&change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Body: body}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
}

const streamFiles = "store/jetstream/$G/streams/LAASTER-0"

// TestDamage changes the store's files between two runs: 30 small batches, 24 of 900 kB, which fill several files, 30 small
// ones. Each case is tried after a clean end and after a kill (the files as they were while the server had them open).
// Nothing may be lost without a word, and what inspection finds leaves the files as they are.
func TestDamage(t *testing.T) {
	const n = 84
	clean, killed := t.TempDir(), t.TempDir()
	s := mustOpenLog(t, clean)
	backbonetest.AppendN(t, s, 30)
	appendLarge(t, s, 24, 900_000)
	backbonetest.AppendN(t, s, 30)
	if err := os.CopyFS(killed, os.DirFS(clean)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(clean, streamFiles, "msgs", "*.blk"))
	if err != nil || len(blocks) != 3 {
		t.Fatalf("%d block files: %v", len(blocks), err)
	}
	flip := func(name string, at float64) func(dir string) error {
		return func(dir string) error {
			file := filepath.Join(dir, streamFiles, name)
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			b[int(at*float64(len(b)-1))] ^= 4
			return os.WriteFile(file, b, 0o600)
		}
	}
	cut := func(name string, to float64, less int64) func(dir string) error {
		return func(dir string) error {
			file := filepath.Join(dir, streamFiles, name)
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			return os.Truncate(file, int64(to*float64(info.Size()))-less)
		}
	}
	remove := func(name string) func(dir string) error {
		return func(dir string) error { return os.RemoveAll(filepath.Join(dir, name)) }
	}
	const same = 0
	for _, c := range []struct {
		name     string
		do       func(dir string) error
		kind     backbone.Kind // none: nothing is lost
		from, to uint64        // 0 when the case has several right answers
		kept     bool          // no byte of the block files changes
	}{
		{"nothing", func(string) error { return nil }, "", 0, 0, true},
		{"flip the first byte", flip("msgs/1.blk", 0), backbone.Checksum, 1, 0, true},
		{"flip in the middle", flip("msgs/2.blk", 0.5), backbone.Checksum, 0, same, true},
		{"flip at the end of a file", flip("msgs/2.blk", 1), backbone.Checksum, 0, same, true},
		{"flip at the end of the log", flip("msgs/3.blk", 1), backbone.Checksum, n, n, true},
		{"cut a file", cut("msgs/2.blk", 0.5, 0), backbone.Checksum, 0, 0, true},
		{"empty a file", cut("msgs/2.blk", 0, 0), backbone.Hole, 0, 0, true},
		{"empty the first file", cut("msgs/1.blk", 0, 0), backbone.Hole, 1, 0, true},
		{"cut the last file", cut("msgs/3.blk", 0.5, 0), backbone.Checksum, 0, n, true},
		{"cut the last record", cut("msgs/3.blk", 1, 10), backbone.Checksum, n, n, true},
		{"remove the first file", remove(streamFiles + "/msgs/1.blk"), backbone.Hole, 1, 0, true},
		{"remove a file", remove(streamFiles + "/msgs/2.blk"), backbone.Hole, 0, 0, true},
		{"remove the last file", remove(streamFiles + "/msgs/3.blk"), "any", 0, n, false},
		{"remove all files", remove(streamFiles + "/msgs"), "any", 1, n, false},
		{"remove the stream", remove(streamFiles), backbone.Shortened, 1, n, false},
		{"remove the store", remove("store"), backbone.Shortened, 1, n, false},
		{"flip the stream's settings", flip("meta.inf", 0.5), backbone.Unreadable, 1, 0, true},
		{"remove the stream's settings", remove(streamFiles + "/meta.inf"), backbone.Unreadable, 1, 0, true},
		{"flip the index", flip("msgs/index.db", 0.5), "", 0, 0, true},
		{"remove the index", remove(streamFiles + "/msgs/index.db"), "", 0, 0, true},
	} {
		for _, start := range []struct {
			from   string
			name   string
			before uint64
		}{{clean, "clean end", 0}, {killed, "killed", 0}, {clean, "clean end, thought sound", n}} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(start.from)); err != nil {
				t.Fatal(err)
			}
			if err := c.do(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // there is no index after a kill
				t.Fatal(err)
			}
			name := c.name + ", " + start.name
			before := blockSizes(t, dir)
			err := openAndReplayWith(t, dir, n, start.before)
			var d *backbone.Damage
			switch {
			case c.kind == "" && err != nil:
				t.Errorf("%s: %v", name, err)
			case c.kind != "" && !errors.As(err, &d):
				t.Errorf("%s: got %v, want damage", name, err)
			case c.kind != "" && (c.kind != "any" && d.Kind != c.kind || c.from != 0 && d.From != c.from || c.to != 0 && d.To != c.to || d.To > n):
				t.Errorf("%s: got %v, want %s from %d to %d", name, err, c.kind, c.from, c.to)
			}
			if after := blockSizes(t, dir); c.kept && after != before {
				t.Errorf("%s: the server changed the files: %v, before %v", name, after, before)
			}
		}
	}
}

// openAndReplay opens and reads a log, which has n batches unless an error says what is wrong.
func openAndReplay(t *testing.T, dir string, n uint64) error {
	t.Helper()
	return openAndReplayWith(t, dir, n, 0)
}

// openAndReplayWith is openAndReplay with a position up to which the store is taken for sound.
func openAndReplayWith(t *testing.T, dir string, n, clean uint64) error {
	t.Helper()
	s, err := openLogWith(t, dir, nil, clean)
	if err != nil {
		return err
	}
	defer s.Close()
	got := uint64(0)
	err = s.Replay(t.Context(), 1, func(*change.Batch) error { got++; return nil })
	if err == nil && got != n {
		t.Errorf("%d of %d batches and no error", got, n)
	}
	return err
}

// blockSizes returns the sizes of the block files.
func blockSizes(t *testing.T, dir string) (sizes [8]int64) {
	t.Helper()
	for i := range sizes {
		info, err := os.Stat(filepath.Join(dir, streamFiles, "msgs", string(rune('0'+i))+".blk"))
		if err == nil {
			sizes[i] = info.Size()
		}
	}
	return sizes
}

// TestSwapped opens the store of one log with the high-water file of another.
func TestSwapped(t *testing.T) {
	var dirs [2]string
	for i := range dirs {
		dirs[i] = t.TempDir()
		s := mustOpenLog(t, dirs[i])
		backbonetest.AppendN(t, s, 5+i)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range dirs {
		mixed := t.TempDir()
		err := errors.Join(os.CopyFS(filepath.Join(mixed, "store"), os.DirFS(filepath.Join(dirs[i], "store"))),
			os.Link(filepath.Join(dirs[1-i], "highwater-0"), filepath.Join(mixed, "highwater-0")))
		if err != nil {
			t.Fatal(err)
		}
		err = openAndReplay(t, mixed, 0)
		var d *backbone.Damage
		if want := []backbone.Kind{backbone.Shortened, backbone.Foreign}[i]; !errors.As(err, &d) || d.Kind != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestTorn: a record that a crash cut short, and that nobody was told of, is cut off and the log goes on.
func TestTorn(t *testing.T) {
	dir, torn := t.TempDir(), t.TempDir()
	s := mustOpenLog(t, dir)
	backbonetest.AppendN(t, s, 10)
	mark, err := os.ReadFile(filepath.Join(dir, "highwater-0"))
	if err != nil {
		t.Fatal(err)
	}
	backbonetest.AppendN(t, s, 1)
	block := filepath.Join(torn, streamFiles, "msgs/1.blk")
	err = errors.Join(os.CopyFS(torn, os.DirFS(dir)), os.WriteFile(filepath.Join(torn, "highwater-0"), mark, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(block)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(block, info.Size()-20); err != nil {
		t.Fatal(err)
	}
	s = mustOpenLog(t, torn)
	if s.Head() != 10 {
		t.Errorf("head %d, want 10", s.Head())
	}
	backbonetest.AppendN(t, s, 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openAndReplay(t, torn, 12); err != nil {
		t.Error(err)
	}
}

// TestRandomDamage flips a bit of, or cuts, any file of the log: it is found, or nothing is lost.
func TestRandomDamage(t *testing.T) {
	const n, rounds = 200, 150
	clean, killed := t.TempDir(), t.TempDir()
	s := mustOpenLog(t, clean)
	backbonetest.AppendN(t, s, n)
	if err := os.CopyFS(killed, os.DirFS(clean)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found := 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS([]string{clean, killed}[r.IntN(2)])); err != nil {
			t.Fatal(err)
		}
		var files []string
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		what := damageOne(t, r, files[r.IntN(len(files))])
		if err := openAndReplay(t, dir, n); err != nil {
			found++
		}
		if t.Failed() {
			t.Fatalf("seed %d: %s", seed, what)
		}
	}
	if found < rounds/4 || found == rounds {
		t.Errorf("%d of %d damages were found: the test does not try what it should", found, rounds)
	}
}

// damageOne damages a file and says how.
func damageOne(t *testing.T, r *rand.Rand, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := r.IntN(max(1, len(b)))
	what := fmt.Sprintf("%s cut at %d of %d", file, at, len(b))
	if len(b) > 0 && r.IntN(4) > 0 {
		bit := r.IntN(8)
		b[at] ^= 1 << bit
		what = fmt.Sprintf("%s bit %d of byte %d flipped", file, bit, at)
		at = len(b)
	}
	if err := os.WriteFile(file, b[:at], 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}
