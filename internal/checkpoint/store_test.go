package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/disk/simdisk"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
	"laaster/internal/seal"
)

// write commits checkpoints of n random steps and returns the last two.
func write(t testing.TB, s *Store, m *model, rng *rand.Rand, n int, l load) (before, last *model) {
	t.Helper()
	for range n {
		next, w, err := m.step(s, rng, l)
		if err == nil {
			err = w.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
		before, m = m, next
	}
	return before, m
}

var small = load{objects: 3, pages: 12, size: 120}

// files returns the names of the files in a folder of the machine.
func files(t testing.TB, dir string) []string {
	t.Helper()
	names, err := disk.OS{}.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

// TestDamage changes, one after the other, a bit of each byte of each file, and cuts each file at each length: what is read is right, or an error. The checkpoint that is
// left can be used.
func TestDamage(t *testing.T) {
	for _, ring := range []*seal.Ring{nil, keys(t, "one")} {
		dir := t.TempDir()
		o := options(nil, dir, ring)
		s := open(t, o)
		rng := rand.New(rand.NewPCG(7, 7))
		history := []*model{newModel()}
		for len(history) <= 6 {
			_, m := write(t, s, history[len(history)-1], rng, 1, small)
			history = append(history, m)
		}
		if _, err := s.Copy(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, folder := range []string{o.Dir, o.Copy} {
			for _, name := range files(t, folder) {
				path := filepath.Join(folder, name)
				good, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				step := 5
				if testkit.Race() {
					step = 50
				}
				for i := rng.IntN(step); i < len(good); i += step {
					bad := bytes.Clone(good)
					bad[i] ^= 1 << rng.IntN(8)
					damaged(t, o, path, bad, fmt.Sprintf("%s, bit in byte %d of %d", path, i, len(good)), history...)
					if i%3 == 0 {
						damaged(t, o, path, good[:i], fmt.Sprintf("%s cut to %d of %d", path, i, len(good)), history...)
					}
				}
				damaged(t, o, path, append(bytes.Clone(good), 0), path+" with a byte more", history...)
				if err := os.WriteFile(path, good, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// damaged opens the store with a file replaced by bad bytes.
func damaged(t *testing.T, o Options, path string, bad []byte, what string, models ...*model) {
	t.Helper()
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	o.ReadOnly = true
	s, err := Open(o)
	if err != nil {
		t.Fatal(what, err)
	}
	defer s.Close()
	_, scrubbed := s.Scrub(1 << 30)
	found, usable := len(scrubbed) > 0, 0
	for _, i := range s.List() {
		if i.Err != nil {
			found = true
			mustName(t, i.Err, what)
			continue
		}
		i.file.hurt.Store(nil) // as at a start, which has not scrubbed yet
		st, err := s.Load(i, true)
		if err != nil {
			mustName(t, err, what)
			found = true
			continue
		}
		usable++
		ok := false
		for _, m := range models {
			differs, err := m.compare(st)
			if err != nil {
				t.Fatal(what, err)
			}
			ok = ok || differs == ""
		}
		if !ok {
			t.Fatalf("%s: a state that never was", what)
		}
	}
	if !found {
		t.Fatalf("%s: nobody saw it", what)
	}
	if usable == 0 {
		t.Fatalf("%s: nothing is left that can be used", what)
	}
}

// mustName fails unless the error is typed and names a file.
func mustName(t *testing.T, err error, what string) {
	t.Helper()
	d, newer, unknown := (*Damage)(nil), (*change.NewerError)(nil), (*seal.UnknownKeyError)(nil)
	if !errors.As(err, &d) && !errors.As(err, &newer) && !errors.As(err, &unknown) && !errors.Is(err, seal.ErrForged) {
		t.Fatalf("%s: an error without a type: %v", what, err)
	}
	if !strings.Contains(err.Error(), fileSuffix) {
		t.Fatalf("%s: no file is named: %v", what, err)
	}
}

// TestSwapped: a file of the same name, history and log that another store wrote is not taken for the one that a checkpoint names.
func TestSwapped(t *testing.T) {
	here, elsewhere := options(nil, t.TempDir(), nil), options(nil, t.TempDir(), nil)
	l := load{objects: 1, pages: 60, size: 500}
	var history []*model
	for _, o := range []Options{here, elsewhere} {
		s, rng := open(t, o), rand.New(rand.NewPCG(1, 1))
		history = []*model{newModel()}
		for len(history) < 12 || len(s.List()[0].file.needs) == 0 {
			_, m := write(t, s, history[len(history)-1], rng, 1, l)
			history = append(history, m)
		}
	}
	needs := open(t, here).List()[0].file.needs
	for _, n := range needs {
		path := filepath.Join(here.Dir, fileName(n.seq))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(elsewhere.Dir, fileName(n.seq)))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, other, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(t, here).List()[0].Err; err == nil || !strings.Contains(err.Error(), "is not the one that has pages of it") {
			t.Errorf("%s of another store: %v", path, err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFallback: when the newest checkpoint is damaged the one before is used, the next one builds on that, and the damaged file goes.
func TestFallback(t *testing.T) {
	d := simdisk.New(1)
	o := options(d, "/data", nil)
	s := open(t, o)
	rng := rand.New(rand.NewPCG(3, 3))
	before, last := write(t, s, newModel(), rng, 9, small)
	newest := s.List()[0]
	if newest.Header.Seq != last.header.Seq {
		t.Fatal("the newest is not the first of the list")
	}
	if err := d.Damage(newest.File, func(b []byte) []byte { b[len(b)-70] ^= 1; return b }); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	list := s.List()
	if len(list) < 2 || list[0].File != newest.File || list[0].Err == nil || list[1].Err != nil {
		t.Fatalf("listed: %+v", list)
	}
	if d := (*Damage)(nil); !errors.As(list[0].Err, &d) || d.File != newest.File {
		t.Fatal(list[0].Err)
	}
	if _, err := s.Load(list[0], false); err == nil {
		t.Fatal("a damaged checkpoint was loaded")
	}
	st, err := s.Load(list[1], true)
	if err != nil {
		t.Fatal(err)
	}
	if differs, err := before.compare(st); differs != "" || err != nil {
		t.Fatal(differs, err)
	}
	_, next := write(t, s, before, rng, 1, small)
	expect(t, open(t, o), next)
	if slices.ContainsFunc(open(t, o).List(), func(i Info) bool { return i.File == newest.File }) {
		t.Error("the damaged file stays")
	}
}

// TestCopy: the second copy is whole by itself, can be loaded when nothing else is left, and is built on.
func TestCopy(t *testing.T) {
	for _, ring := range []*seal.Ring{nil, keys(t, "one")} {
		d := simdisk.New(1)
		o := options(d, "/data", ring)
		s := open(t, o)
		if _, err := s.Copy(); err == nil {
			t.Error("a copy of nothing")
		}
		rng := rand.New(rand.NewPCG(4, 4))
		_, copied := write(t, s, newModel(), rng, 20, small)
		for range 2 {
			info, err := s.Copy()
			if err != nil || info.Err != nil || !info.Copy || info.Header.Seq != copied.header.Seq {
				t.Fatalf("%+v, %v", info, err)
			}
		}
		copies, err := d.List(o.Copy)
		if err != nil || len(copies) != 1 {
			t.Fatalf("the folder of the copy has %v, %v", copies, err)
		}
		write(t, s, copied, rng, 3, small)
		names, _ := d.List(o.Dir)
		for _, n := range names {
			if err := d.Damage(filepath.Join(o.Dir, n), func(b []byte) []byte { return b[:len(b)/2] }); err != nil {
				t.Fatal(err)
			}
		}
		s = open(t, o)
		list := s.List()
		i := slices.IndexFunc(list, func(i Info) bool { return i.Err == nil })
		if i < 0 || !list[i].Copy {
			t.Fatalf("listed: %+v", list)
		}
		st, err := s.Load(list[i], true)
		if err != nil {
			t.Fatal(err)
		}
		if differs, err := copied.compare(st); differs != "" || err != nil {
			t.Fatal(differs, err)
		}
		_, next := write(t, s, copied, rng, 3, small)
		expect(t, open(t, o), next)
		if err := d.Damage(filepath.Join(o.Copy, copies[0]), func([]byte) []byte { return nil }); err != nil {
			t.Fatal(err)
		}
		s = open(t, o)
		if st, err := s.Load(s.List()[0], true); err != nil { // it does not need the copy any more
			t.Fatal(err)
		} else if differs, err := next.compare(st); differs != "" || err != nil {
			t.Fatal(differs, err)
		}
	}
}

// TestKeys: a store that was plain, then sealed, then sealed with a newer key stays readable all the while; a missing or wrong key is said.
func TestKeys(t *testing.T) {
	d := simdisk.New(1)
	rng := rand.New(rand.NewPCG(5, 5))
	m := newModel()
	big := load{objects: 6, pages: 40, size: 300}
	for i, ring := range []*seal.Ring{nil, keys(t, "old"), keys(t, "new", "old"), keys(t, "new", "old")} {
		s := open(t, options(d, "/data", ring))
		if i > 0 {
			expect(t, s, m)
		}
		_, m = write(t, s, m, rng, 4, big)
		if got := s.List()[0].Sealed; got != (ring != nil) {
			t.Errorf("step %d: sealed is %v", i, got)
		}
	}
	names, _ := d.List("/data/checkpoints")
	newest := filepath.Join("/data/checkpoints", names[len(names)-1])
	f, err := d.Open(newest)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	raw := make([]byte, size)
	if _, err := f.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	for o, pages := range m.objects {
		for page, p := range pages {
			if len(p.data) > 20 && bytes.Contains(raw, []byte(p.data[:20])) || len(p.meta) > 10 && bytes.Contains(raw, []byte(p.meta)) {
				t.Fatalf("page %d of object %d can be read without the key", page, o)
			}
		}
	}
	unknown := (*seal.UnknownKeyError)(nil)
	for _, ring := range []*seal.Ring{nil, keys(t, "old")} {
		s := open(t, options(d, "/data", ring))
		for _, i := range s.List() {
			if !errors.As(i.Err, &unknown) || unknown.Key != seal.NameOf("new") || !strings.Contains(i.Err.Error(), i.File) {
				t.Errorf("without the key: %v", i.Err)
			}
		}
		if len(s.List()) == 0 {
			t.Error("checkpoints without a key are not listed")
		}
	}
	line, err := seal.NewLine("new")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := seal.Parse("test", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range open(t, options(d, "/data", wrong)).List() {
		if !errors.Is(i.Err, seal.ErrForged) || !strings.Contains(i.Err.Error(), "under the same id") {
			t.Errorf("with another key of the same id: %v", i.Err)
		}
	}
}

// TestNotOurs: files of a newer version, of another log, of a missing neighbour, and renamed ones.
func TestNotOurs(t *testing.T) {
	d := simdisk.New(1)
	o := options(d, "/data", nil)
	s := open(t, o)
	rng := rand.New(rand.NewPCG(6, 6))
	_, m := write(t, s, newModel(), rng, 1, load{objects: 1, pages: 50, size: 500})
	for len(m.objects) == 0 || len(s.List()[0].file.needs) == 0 {
		_, m = write(t, s, m, rng, 1, load{objects: 1, pages: 50, size: 500})
	}
	newest := s.List()[0]
	needed := fileName(newest.file.needs[0].seq)
	patch := func(at int, b byte) func([]byte) []byte {
		return func(raw []byte) []byte {
			raw[at] = b
			copy(raw[4:8], le32(checksum(0, raw[8:headerSize])))
			return raw
		}
	}
	first := func() Info { return open(t, o).List()[0] }
	check := func(what, want string, as any) {
		t.Helper()
		err := first().Err
		if err == nil || !strings.Contains(err.Error(), want) || as != nil && !errors.As(err, as) {
			t.Errorf("%s: %v", what, err)
		}
	}
	damage, newer := (*Damage)(nil), (*change.NewerError)(nil)
	harm := func(f func([]byte) []byte) {
		t.Helper()
		if err := d.Damage(newest.File, f); err != nil {
			t.Fatal(err)
		}
	}
	harm(patch(8, 9))
	check("newer version", "version 9", &newer)
	harm(patch(8, FormatVersion))
	if err := first().Err; err != nil {
		t.Fatal(err)
	}
	o.Log = change.LogID([]byte("another-log-id.."))
	check("another log", "another-log-id", &damage)
	o.Log = testLog
	if err := d.Rename(filepath.Join(o.Dir, needed), filepath.Join(o.Dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	check("a file is missing", needed+", which has pages of it, is missing", &damage)
	if err := d.Rename(filepath.Join(o.Dir, "elsewhere"), filepath.Join(o.Dir, needed)); err != nil {
		t.Fatal(err)
	}
	if err := d.Rename(newest.File, filepath.Join(o.Dir, fileName(77))); err != nil {
		t.Fatal(err)
	}
	check("renamed", "renamed", &damage)
	if _, err := open(t, o).Load(Info{}, false); err == nil {
		t.Error("loaded what was never listed")
	}
}

func le32(v uint32) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)} }

// TestDiskUse: the folder stays below 2.5 times the state, whatever is overwritten, and has a bounded number of files.
func TestDiskUse(t *testing.T) {
	page := bytes.Repeat([]byte{1}, 4000)
	for name, next := range map[string]func(rng *rand.Rand, round, pages int) []int{
		"random":   func(rng *rand.Rand, _, pages int) []int { return rng.Perm(pages)[:pages/10] },
		"slowly":   func(rng *rand.Rand, _, pages int) []int { return rng.Perm(pages)[:pages/60] },
		"few":      func(rng *rand.Rand, _, pages int) []int { return []int{rng.IntN(pages), rng.IntN(pages)} },
		"hot":      func(rng *rand.Rand, _, pages int) []int { return rng.Perm(pages / 20) },
		"in order": func(_ *rand.Rand, round, pages int) []int { return sequence(round*pages/7, pages/7, pages) },
		"all":      func(_ *rand.Rand, _, pages int) []int { return sequence(0, pages, pages) },
		"skewed": func(rng *rand.Rand, _, pages int) []int {
			out := make([]int, pages/8)
			for i := range out {
				f := rng.Float64()
				out[i] = int(f * f * f * float64(pages))
			}
			return out
		},
	} {
		t.Run(name, func(t *testing.T) {
			const pages = 1000 // 4 MB: much more than what a checkpoint carries over anyway
			d, rng := simdisk.New(1), rand.New(rand.NewPCG(8, 8))
			s := open(t, options(d, "/data", nil))
			worst, written := 0.0, 0
			rounds := 150
			if name == "all" {
				rounds = 10
			}
			for round := range rounds {
				w, err := s.Begin(Header{Log: testLog, Seq: uint64(round + 1)})
				if err != nil {
					t.Fatal(err)
				}
				list := next(rng, round, pages)
				if round == 0 {
					list = sequence(0, pages, pages)
				}
				for _, n := range list {
					if _, err := w.Put(1, uint32(n), nil, page); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Commit(); err != nil {
					t.Fatal(err)
				}
				written += len(list)
				st := s.Stats()
				if st.Pages != pages || st.Disk != d.Used() {
					t.Fatalf("%+v, and the disk has %d", st, d.Used())
				}
				worst = max(worst, float64(st.Disk)/float64(st.Live))
				if st.Files > 2*maxFiles {
					t.Fatalf("round %d: %d files", round, st.Files)
				}
			}
			t.Logf("at most %.2f times the state; written %.2f times what changed", worst, float64(d.Written())/float64(written*(len(page)+frameSize)))
			if worst > 2.5 {
				t.Errorf("%.2f times the state", worst)
			}
			checkScrub(t, s)
		})
	}
}

func sequence(from, n, of int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = (from + i) % of
	}
	return out
}

// TestReadersOutliveFiles: pages are read all the time by others while every file is replaced; and what nobody holds is closed.
func TestReadersOutliveFiles(t *testing.T) {
	o := options(nil, t.TempDir(), nil)
	o.Clock = run.System{}
	s := open(t, o)
	page := func(version, n int) []byte { return bytes.Repeat([]byte{byte(version), byte(n)}, 500+n) }
	var current atomic.Pointer[[]Ref]
	g := run.New(t.Context())
	begun := make(chan struct{}, 3)
	readers := func() {
		for range 3 {
			g.Go("reader", func(ctx context.Context) error {
				var buf []byte
				for i := 0; ctx.Err() == nil; i++ {
					refs := current.Load()
					n := i % len(*refs)
					var err error
					if buf, err = (*refs)[n].Read(buf); err != nil {
						return err
					}
					if !bytes.Equal(buf, page(int(buf[0]), n)) {
						return fmt.Errorf("page %d has other bytes", n)
					}
					if i == 100 {
						begun <- struct{}{}
					}
				}
				return nil
			})
		}
	}
	const pages, rounds = 50, 60
	refs := make([]Ref, pages)
	for v := range rounds {
		w, err := s.Begin(Header{Log: testLog, Seq: uint64(v + 1)})
		if err != nil {
			t.Fatal(err)
		}
		refs = slices.Clone(refs)
		for n := range pages {
			if v == 0 || (n+v)%3 == 0 {
				if refs[n], err = w.Put(1, uint32(n), nil, page(v, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		these := refs
		current.Store(&these)
		if v == 0 {
			readers()
			for range 3 {
				select {
				case <-begun:
				case <-g.Context().Done():
				}
			}
		}
		if v%10 == 5 {
			if _, err := s.Copy(); err != nil {
				t.Fatal(err)
			}
		}
		if v%10 == 7 {
			if _, damage := s.Scrub(100 << 10); len(damage) > 0 {
				t.Fatal(damage)
			}
		}
	}
	g.Stop()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	current.Store(nil)
	runtime.KeepAlive(refs)
	refs = nil
	st := s.Stats()
	want := st.Files + 1 // and the copy
	for range 50 {
		runtime.GC()
		if st = s.Stats(); st.OpenFiles <= want {
			break
		}
		runtime.Gosched()
	}
	if st.OpenFiles > want {
		t.Errorf("%d files are open, of %d", st.OpenFiles, want)
	}
	one := s.mu.base.index.objects[1]
	_, p, _ := one.Min()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := (Ref{p}).Read(nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

// TestErrors fails each operation of a history once, with EIO and with a full disk: the store is as before the checkpoint, and goes on.
func TestErrors(t *testing.T) {
	for n := 1; ; n++ {
		d := simdisk.New(uint64(n))
		o := options(d, "/data", nil)
		s := open(t, o)
		rng := rand.New(rand.NewPCG(9, 9))
		_, m := write(t, s, newModel(), rng, 4, small)
		start, hit := d.Ops(), false
		d.Hook(func(op simdisk.Op) error {
			if op.N != start+n {
				return nil
			}
			hit = true
			if op.Kind == "write" && n%2 == 0 {
				return syscall.ENOSPC
			}
			return syscall.EIO
		})
		for range 4 {
			next, w, err := m.step(s, rng, small)
			if err == nil {
				if err = w.Commit(); err != nil {
					w.Abort()
				}
			}
			if err == nil {
				m = next
			} else if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			if _, err := s.Copy(); err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		if !hit {
			break
		}
		expect(t, open(t, o), m)
	}
}

// TestMisuse: what callers get wrong is an error and leaves the store as it was.
func TestMisuse(t *testing.T) {
	s := open(t, options(simdisk.New(1), "/data", nil))
	h := Header{Log: testLog, Seq: 1}
	if _, err := s.Begin(Header{Seq: 1}); err == nil {
		t.Error("a checkpoint of another log")
	}
	w, err := s.Begin(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(h); !errors.Is(err, errBusy) {
		t.Errorf("a second writer: %v", err)
	}
	if _, err := s.Load(Info{}, false); !errors.Is(err, errBusy) {
		t.Errorf("loaded beside a writer: %v", err)
	}
	if err := s.Close(); !errors.Is(err, errBusy) {
		t.Errorf("closed beside a writer: %v", err)
	}
	w.Abort()
	for _, put := range []func(*Writer){
		func(w *Writer) { _, _ = w.Put(0, 1, nil, nil) },
		func(w *Writer) { _, _ = w.Put(1, 1, make([]byte, MaxMeta+1), nil) },
		func(w *Writer) { _, _ = w.Put(1, 1, nil, make([]byte, MaxPage+1)) },
	} {
		s := open(t, options(simdisk.New(1), "/data", nil))
		w, err := s.Begin(h)
		if err != nil {
			t.Fatal(err)
		}
		put(w)
		if w.Commit() == nil {
			t.Error("committed after a Put that failed")
		}
		w.Abort()
		if len(s.List()) > 0 || w.Commit() == nil {
			t.Error("an aborted checkpoint is there")
		}
		o := s.o
		o.ReadOnly = true
		s = open(t, o)
		_, err = s.Begin(h)
		_, err2 := s.Copy()
		if err == nil || err2 == nil {
			t.Error("a store that is read only was written to")
		}
	}
}

// TestBigPages: pages of many sizes, larger than the buffers too.
func TestBigPages(t *testing.T) {
	for _, ring := range []*seal.Ring{nil, keys(t, "one")} {
		o := options(simdisk.New(1), "/data", ring)
		s := open(t, o)
		rng := rand.New(rand.NewPCG(2, 2))
		m := newModel()
		m.header.Seq = 1
		w, err := s.Begin(m.header)
		if err != nil {
			t.Fatal(err)
		}
		m.objects[5] = map[uint32]testPage{}
		for n, size := range []int{0, 1, 16 << 10, 300 << 10, 1<<20 + 1, 5 << 20, 0} {
			data := make([]byte, size)
			for i := range size / 100 {
				data[i*100] = byte(rng.Uint32())
			}
			m.objects[5][uint32(n)] = testPage{meta: "m", data: string(data)}
			if _, err := w.Put(5, uint32(n), []byte("m"), data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Copy(); err != nil {
			t.Fatal(err)
		}
		checkScrub(t, s)
		s = open(t, o)
		expect(t, s, m)
		if id := s.NewObject(); id != 6 {
			t.Errorf("object %d was given out", id)
		}
	}
}

// TestWriteTo: a checkpoint of one log becomes one of another.
func TestWriteTo(t *testing.T) {
	d := simdisk.New(1)
	s := open(t, options(d, "/data", nil))
	_, m := write(t, s, newModel(), rand.New(rand.NewPCG(2, 2)), 8, small)
	o := options(d, "/data", nil)
	o.ReadOnly, o.Log = true, change.LogID{}
	from := open(t, o)
	st, err := from.Load(from.List()[0], false)
	if err != nil {
		t.Fatal(err)
	}
	o = options(d, "/restored", keys(t, "one"))
	o.Log = change.LogID([]byte("another-log-id.."))
	to := open(t, o)
	m = m.clone()
	m.header.Log = o.Log
	w, err := to.Begin(m.header)
	if err == nil {
		if err = st.WriteTo(w); err == nil {
			err = w.Commit()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	expect(t, open(t, o), m)
}

// TestRate: a checkpoint takes as long as the rate says, and Close ends the wait.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := run.System{}
		o := options(simdisk.New(1), "/data", nil)
		o.Clock, o.Rate = clock, 1<<20
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		put := func() error {
			w, err := s.Begin(Header{Log: testLog, Seq: 1})
			if err != nil {
				return err
			}
			for n := range 4 << 20 / 16384 {
				if _, err := w.Put(1, uint32(n), nil, make([]byte, 16384)); err != nil {
					w.Abort()
					return err
				}
			}
			return w.Commit()
		}
		began := clock.Now()
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if took := clock.Now().Sub(began); took < 3800*time.Millisecond || took > 4200*time.Millisecond {
			t.Errorf("4 MiB at 1 MiB a second took %v", took)
		}
		g := run.New(t.Context())
		g.Go("copy", func(context.Context) error {
			if _, err := s.Copy(); !errors.Is(err, errClosed) {
				return fmt.Errorf("the copy ended with %w", err)
			}
			return nil
		})
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if took := clock.Now().Sub(began); took > 5*time.Second {
			t.Errorf("Close waited for the copy: %v", took)
		}
	})
}
