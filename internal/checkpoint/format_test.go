package checkpoint

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/disk/simdisk"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

var update = flag.Bool("update", false, "write the kept samples of this version anew")

// sample is what the kept samples hold: a checkpoint whose index builds on that of the one before, and a second copy.
func sample(t *testing.T, s *Store) *model {
	t.Helper()
	rng := rand.New(rand.NewPCG(11, 11))
	l := load{objects: 2, pages: 60, size: 40}
	_, m := write(t, s, newModel(), rng, 10, l)
	for len(s.mu.base.chain) < 2 || len(s.mu.base.file.needs) < 2 {
		_, m = write(t, s, m, rng, 1, l)
	}
	if *update {
		if _, err := s.Copy(); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestSamples opens the files that earlier versions, and this one, wrote.
func TestSamples(t *testing.T) {
	for _, c := range []struct {
		dir  string
		ring *seal.Ring
	}{{"testdata/format-1-plain", nil}, {"testdata/format-1-sealed", keys(t, "one")}} {
		if *update && FormatVersion == 1 {
			if err := os.RemoveAll(c.dir); err != nil {
				t.Fatal(err)
			}
			sample(t, open(t, options(nil, c.dir, c.ring)))
		}
		want := sample(t, open(t, options(simdisk.New(1), "/data", c.ring))) // the sizes decide when a full index is due
		o := options(nil, c.dir, c.ring)
		o.ReadOnly = true
		s := open(t, o)
		seen := 0
		for _, i := range s.List() {
			st, err := s.Load(i, true)
			if err != nil {
				t.Fatal(c.dir, err)
			}
			if i.Header.Seq != want.header.Seq {
				continue
			}
			seen++
			if differs, err := want.compare(st); differs != "" || err != nil {
				t.Errorf("%s: %s %v", c.dir, differs, err)
			}
			if i.Sealed != (c.ring != nil) {
				t.Errorf("%s: sealed is %v", c.dir, i.Sealed)
			}
		}
		if seen != 2 {
			t.Errorf("%s: %d of 2 samples", c.dir, seen)
		}
		if _, damage := s.Scrub(1 << 30); len(damage) > 0 {
			t.Error(c.dir, damage)
		}
	}
}

func TestNames(t *testing.T) {
	for _, seq := range []uint64{0, 1, 1 << 40, 1<<64 - 1} {
		if got, temp, ok := parseName(fileName(seq)); got != seq || temp || !ok {
			t.Errorf("%d became %d, %v, %v", seq, got, temp, ok)
		}
		if _, temp, ok := parseName(fileName(seq) + ".tmp"); !temp || !ok {
			t.Errorf("%d: not temporary", seq)
		}
	}
	for _, n := range []string{"", "1.ckpt", "000000000000000G.ckpt", "000000000000000A.ckpt", "0000000000000001.ckpt2", " 000000000000001.ckpt", "+000000000000001.ckpt"} {
		if _, _, ok := parseName(n); ok {
			t.Errorf("%q is taken for a checkpoint", n)
		}
	}
}

// someFile returns the bytes of a file with pages, differences and parts.
func someFile(t testing.TB, ring *seal.Ring) []byte {
	t.Helper()
	d := simdisk.New(1)
	s := open(t, options(d, "/data", ring))
	rng := rand.New(rand.NewPCG(12, 12))
	_, m := write(t, s, newModel(), rng, 4, load{objects: 2, pages: 40, size: 40})
	for len(s.List()[0].file.needs) == 0 {
		_, m = write(t, s, m, rng, 1, load{objects: 2, pages: 40, size: 40})
	}
	return bytesOf(t, d, s.List()[0].File)
}

func bytesOf(t testing.TB, fs disk.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzTail: no bytes make the decoder panic or ask for much memory; what it accepts is encoded to something that means the same.
func FuzzTail(f *testing.F) {
	b := someFile(f, nil)
	foot, err := parseFooter(b[len(b)-footerSize:], int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[foot.at : foot.at+foot.size])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		tl, err := parseTail(b)
		if err != nil {
			return
		}
		once := appendTail(nil, tl)
		again, err := parseTail(once)
		if err != nil {
			t.Fatalf("its own encoding is refused: %v", err)
		}
		if !bytes.Equal(appendTail(nil, again), once) {
			t.Fatal("encoded twice, not the same")
		}
	})
}

// FuzzEnds: header, footer and frame.
func FuzzEnds(f *testing.F) {
	ring := keys(f, "one")
	for _, r := range []*seal.Ring{nil, ring} {
		b := someFile(f, r)
		f.Add(b[:headerSize], b[len(b)-footerSize:], b[headerSize:min(len(b)-footerSize, headerSize+400)], int64(len(b)))
	}
	f.Fuzz(func(t *testing.T, head, foot, frame []byte, size int64) {
		d, err := parseHeader(head, ring)
		if err == nil && !bytes.Equal(d.raw[:], head[:headerSize]) {
			t.Fatal("another header")
		}
		if p, err := parseFooter(foot, size); err == nil && !bytes.Equal(appendFooter(nil, &p), foot) {
			t.Fatal("another footer")
		}
		if d == nil {
			return
		}
		fr, err := parseFrame(frame, d)
		if err != nil {
			return
		}
		data, meta, err := fr.open(d, ring)
		if err == nil && len(data)+len(meta) > len(frame) {
			t.Fatal("more than there is")
		}
	})
}

// FuzzFile: a store opens whatever is in its folder, and what it says that it loaded it can read or not read, but not crash.
func FuzzFile(f *testing.F) {
	f.Add(someFile(f, nil))
	f.Add([]byte("LAAC"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := simdisk.New(1)
		o := options(d, "/data", nil)
		s := open(t, o)
		d1, err := d.Create(filepath.Join(o.Dir, fileName(1)))
		if err == nil {
			_, err = d1.Write(b)
		}
		if err != nil || s.Close() != nil {
			t.Fatal(err)
		}
		s = open(t, o)
		for _, i := range s.List() {
			_, err := s.Load(i, true)
			damage, newer := (*Damage)(nil), (*change.NewerError)(nil)
			if unknown := (*seal.UnknownKeyError)(nil); err != nil && !errors.As(err, &damage) && !errors.As(err, &newer) && !errors.As(err, &unknown) {
				t.Fatalf("%T: %v", err, err)
			}
		}
		s.Scrub(1 << 20)
	})
}

func benchmarkWrite(b *testing.B, ring *seal.Ring, durable bool) {
	var fs disk.FS = disk.OS{}
	dir := b.TempDir()
	if !durable {
		if _, err := os.Stat("/dev/shm"); err != nil {
			b.Skip("no memory file system")
		}
		var err error
		if dir, err = os.MkdirTemp("/dev/shm", "checkpoint"); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	o := options(fs, dir, ring)
	o.Clock = run.System{}
	s := open(b, o)
	const pages = 4096 // 64 MiB
	data := randomBytes(rand.New(rand.NewPCG(1, 1)), 16<<10)
	b.SetBytes(pages * 16 << 10)
	for b.Loop() {
		w, err := s.Begin(Header{Log: testLog, Seq: 1})
		if err != nil {
			b.Fatal(err)
		}
		for n := range uint32(pages) {
			if _, err := w.Put(1, n, nil, data); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B)             { benchmarkWrite(b, nil, true) }
func BenchmarkWriteSealed(b *testing.B)       { benchmarkWrite(b, keys(b, "one"), true) }
func BenchmarkWriteMemory(b *testing.B)       { benchmarkWrite(b, nil, false) }
func BenchmarkWriteMemorySealed(b *testing.B) { benchmarkWrite(b, keys(b, "one"), false) }

func benchmarkLoad(b *testing.B, ring *seal.Ring, what func(s *Store, i Info) error) {
	o := options(disk.OS{}, b.TempDir(), ring)
	o.Clock = run.System{}
	s := open(b, o)
	const pages = 16384 // 256 MiB
	data := randomBytes(rand.New(rand.NewPCG(1, 1)), 16<<10)
	w, err := s.Begin(Header{Log: testLog, Seq: 1})
	if err != nil {
		b.Fatal(err)
	}
	for n := range uint32(pages) {
		if _, err := w.Put(1, n, data[:8], data); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(pages * 16 << 10)
	for b.Loop() {
		s := open(b, o)
		if err := what(s, s.List()[0]); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func loadVerified(s *Store, i Info) error { _, err := s.Load(i, true); return err }
func loadIndex(s *Store, i Info) error    { _, err := s.Load(i, false); return err }

func BenchmarkVerify(b *testing.B)       { benchmarkLoad(b, nil, loadVerified) }
func BenchmarkVerifySealed(b *testing.B) { benchmarkLoad(b, keys(b, "one"), loadVerified) }
func BenchmarkOpenLoad(b *testing.B)     { benchmarkLoad(b, nil, loadIndex) }
