package jetstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/highwayhash"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/backbone/memory"
	"laaster/internal/change"
	"laaster/internal/seal"
)

func testKeys(t testing.TB, id string) *seal.Ring {
	t.Helper()
	line, err := seal.NewLine(id)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.Parse("test", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// original is a log as it was: where its batches are in the files, and what is in them.
type original struct {
	dir  string
	keys *seal.Ring
	raws [][]byte // the plain batch at sequence i+1
	at   []place
}

type place struct {
	file     string
	from, to int // of what the store has of the batch
}

// newOriginal makes a log of n batches of random sizes.
func newOriginal(t *testing.T, r *rand.Rand, n int, keys *seal.Ring, trimmed uint64) *original {
	t.Helper()
	o := &original{dir: t.TempDir(), keys: keys}
	s, err := openSealed(t, o.dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	var b change.Builder
	for range n {
		b.Reset()
		for range r.IntN(3) + 1 {
			body := make([]byte, []int{10, 100, 3000, 200_000}[min(r.IntN(60)/18, 3)])
			for i := range body {
				body[i] = byte(r.Uint32())
			}
			if r.IntN(10) == 0 && len(o.raws) > 0 { // what looks like a record of the store, and like a batch
				body = append([]byte("xxxxlaaster.log.LAASTER-0.0"), o.raws[r.IntN(len(o.raws))]...)
				body = body[:min(len(body), 300_000)]
			}
			if err := b.Add(&change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := s.Append(t.Context(), &b)
		if err != nil {
			t.Fatal(err)
		}
		o.raws = append(o.raws, bytes.Clone(batch.Raw()))
	}
	if trimmed > 1 {
		if err := s.Trim(t.Context(), trimmed); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.at = make([]place, n)
	o.locate(t)
	return o
}

func openSealed(t testing.TB, dir string, keys *seal.Ring) (*backbone.Shard, error) {
	t.Helper()
	store := filepath.Join(dir, "store")
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	acknowledged, err := backbone.Acknowledged(dir, 0)
	if err != nil {
		return nil, err
	}
	first, err := backbone.Begins(dir, 0)
	if err != nil {
		return nil, err
	}
	d, err := Open(t.Context(), Options{Dir: store, Acknowledged: acknowledged, First: first, Sync: backbone.Buffered})
	if err != nil {
		return nil, err
	}
	return backbone.Open(t.Context(), backbone.Options{Driver: d, Dir: dir, Keys: keys, Clock: backbonetest.NewClock(testStart, 1000)})
}

// locate notes where each batch is.
func (o *original) locate(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.dir, streamFiles, "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		buf, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := &salvager{buf: buf, subject: []byte("laaster.log.LAASTER.0")}
		s.sum = sumOf(t, file)
		for at := 0; at < len(buf); {
			size, seq, ok := record(buf[at:], s.sum)
			if !ok {
				t.Fatalf("%s: the record at %d of a sound log is not sound", file, at)
			}
			if seq&notMessage == 0 {
				m := message(buf[at : at+size])
				o.at[seq-1] = place{filepath.Base(file), at + size - recordSum - len(m), at + size - recordSum}
			}
			at += size
		}
	}
}

// intact returns the sequences whose bytes are in the files of a damaged copy as they were.
func (o *original) intact(t *testing.T, dir string) (out []uint64) {
	t.Helper()
	was, is := map[string][]byte{}, map[string][]byte{}
	for i, p := range o.at {
		if p.file == "" {
			continue
		}
		if was[p.file] == nil {
			was[p.file], _ = os.ReadFile(filepath.Join(o.dir, streamFiles, "msgs", p.file))
			is[p.file], _ = os.ReadFile(filepath.Join(dir, streamFiles, "msgs", p.file)) // may be gone
		}
		if p.to <= len(is[p.file]) && bytes.Equal(was[p.file][p.from:p.to], is[p.file][p.from:p.to]) {
			out = append(out, uint64(i+1))
		}
	}
	return out
}

// look surveys the log in a data folder.
func look(t *testing.T, dir string, keys *seal.Ring) (*backbone.Survey, error) {
	t.Helper()
	return backbone.Look(t.Context(), backbone.SurveyOptions{Dir: dir, Keys: keys, Files: func(fn func([]byte, bool) (int, error)) error {
		return Salvage(filepath.Join(dir, "store"), 0, fn)
	}})
}

// hurt damages a copy of a log in one to four places and says how.
func hurt(t *testing.T, r *rand.Rand, dir string) string {
	t.Helper()
	var what []string
	for range r.IntN(4) + 1 {
		files, err := filepath.Glob(filepath.Join(dir, streamFiles, "msgs", "*.blk"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			break
		}
		file := files[r.IntN(len(files))]
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			continue
		}
		at := r.IntN(len(b))
		switch r.IntN(12) {
		case 0:
			what = append(what, file+" removed")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			continue
		case 1, 2:
			what = append(what, fmt.Sprintf("%s cut at %d of %d", file, at, len(b)))
			b = b[:at]
		case 3, 4:
			at &^= 511
			to := min(len(b), at+512*(1+r.IntN(16)))
			what = append(what, fmt.Sprintf("%s zeroed from %d to %d", file, at, to))
			clear(b[at:to])
		default:
			what = append(what, fmt.Sprintf("%s byte %d flipped", file, at))
			b[at] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(what, "; ")
}

// TestSalvage damages logs and rewrites what is left of them: every batch whose bytes are there is in the new log as it was, and where one is
// lost there is one that says so.
func TestSalvage(t *testing.T) {
	const n = 150
	rounds := 8
	if more, err := strconv.Atoi(os.Getenv("LAASTER_SEEDS")); err == nil {
		rounds = more
	}
	for _, c := range []struct {
		name    string
		keys    *seal.Ring
		trimmed uint64
	}{{"plain", nil, 1}, {"sealed", testKeys(t, "k"), 1}, {"trimmed", nil, 40}} {
		t.Run(c.name, func(t *testing.T) {
			o := newOriginal(t, rand.New(rand.NewPCG(1, 7)), n, c.keys, c.trimmed)
			if s, err := look(t, o.dir, c.keys); err != nil || !s.Whole() || s.Batches != n-c.trimmed+1 || s.First != c.trimmed || s.Last != n {
				t.Fatalf("a sound log: %+v, %v", s, err)
			}
			lost := 0
			for seed := range uint64(rounds) {
				r := rand.New(rand.NewPCG(seed, 3))
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(o.dir)); err != nil {
					t.Fatal(err)
				}
				what := hurt(t, r, dir)
				want := o.intact(t, dir)
				want = slices.DeleteFunc(want, func(seq uint64) bool { return seq < c.trimmed })
				got := o.rewritten(t, dir, c.trimmed, seed%4 == 0)
				lost += n - int(c.trimmed) + 1 - len(want)
				if !slices.Equal(got, want) {
					t.Errorf("seed %d: %s:\n%d batches, want %d (the first that differ: %v)", seed, what, len(got), len(want), firstDifference(got, want))
				}
				if t.Failed() {
					t.FailNow()
				}
			}
			if lost < rounds {
				t.Errorf("%d batches were lost in all: the test does not try what it should", lost)
			}
		})
	}
}

func firstDifference(a, b []uint64) string {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return fmt.Sprint(a[min(i, len(a)):min(i+3, len(a))], b[min(i, len(b)):min(i+3, len(b))])
		}
	}
	return "none"
}

// rewritten surveys and rewrites a damaged log, opens the new one, and returns which batches it has of the original.
func (o *original) rewritten(t *testing.T, dir string, first uint64, onDisk bool) (kept []uint64) {
	t.Helper()
	s, err := look(t, dir, o.keys)
	if err != nil {
		t.Errorf("survey: %v", err)
		return nil
	}
	to := filepath.Join(t.TempDir(), "new")
	if err := os.MkdirAll(filepath.Join(to, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	inMemory := memory.NewStore(0)
	open := func() backbone.Driver { return inMemory.Open() }
	if onDisk {
		open = func() backbone.Driver {
			return openDriver(t, Options{Dir: filepath.Join(to, "store"), First: first, Sync: backbone.Buffered})
		}
	}
	d := open()
	w, err := backbone.NewRewriter(t.Context(), backbone.RewriteOptions{Driver: d, Dir: to, Log: backbone.NewLogID(), Parent: s.Log, Keys: o.keys, First: s.First})
	if err == nil {
		err = s.Each(t.Context(), func(b *change.Batch) error { return w.Add(context.Background(), b) })
	}
	if err == nil {
		err = w.Lose(t.Context(), s.Last)
	}
	if err == nil {
		err = w.Finish()
	}
	if err != nil {
		t.Fatalf("rewrite: %v", err)
	}
	log, err := backbone.Open(t.Context(), backbone.Options{Driver: open(), Dir: to, Keys: o.keys, Clock: backbonetest.NewClock(testStart, 1000)})
	if err != nil {
		t.Fatalf("open the new log: %v", err)
	}
	defer log.Close()
	if log.ID() == s.Log || log.Head() != uint64(len(o.raws)) || log.First() != first {
		t.Errorf("the new log %s of %s is from %d to %d", log.ID(), s.Log, log.First(), log.Head())
	}
	err = log.Replay(t.Context(), log.First(), func(b *change.Batch) error {
		h := b.Header()
		e := change.Entry{}
		if it := b.Entries(); it.Next(&e) && e.Kind == change.EntryLost {
			var body struct{ Seq uint64 }
			return errors.Join(json.Unmarshal(e.Body, &body), check(body.Seq == h.Seq, "a lost batch that says another sequence"))
		}
		was, err := change.ParseBatch(o.raws[h.Seq-1])
		kept = append(kept, h.Seq)
		return errors.Join(err, check(bytes.Equal(was.Raw()[change.HeaderSize:], b.Raw()[change.HeaderSize:]) && was.Header().Stamp == h.Stamp,
			fmt.Sprintf("batch %d has changed", h.Seq)))
	})
	if err != nil {
		t.Errorf("replay of the new log: %v", err)
	}
	return kept
}

func check(ok bool, what string) error {
	if ok {
		return nil
	}
	return errors.New(what)
}

// TestSalvageKeys: without the key, or with another one under its id, nothing counts as lost.
func TestSalvageKeys(t *testing.T) {
	o := newOriginal(t, rand.New(rand.NewPCG(2, 7)), 20, testKeys(t, "k"), 1)
	for kind, keys := range map[backbone.Kind]*seal.Ring{backbone.Locked: testKeys(t, "other"), backbone.Forged: testKeys(t, "k")} {
		if _, err := look(t, o.dir, keys); !isDamage(err, kind) {
			t.Errorf("got %v, want %s", err, kind)
		}
	}
	if _, err := look(t, o.dir, nil); !isDamage(err, backbone.Locked) {
		t.Errorf("without keys: %v", err)
	}
}

func isDamage(err error, k backbone.Kind) bool {
	var d *backbone.Damage
	return errors.As(err, &d) && d.Kind == k
}

var testStart = time.Unix(1700000000, 0)

func sumOf(t *testing.T, file string) hash.Hash64 {
	t.Helper()
	key := sha256.Sum256([]byte("LAASTER-0-" + strings.TrimSuffix(filepath.Base(file), ".blk")))
	sum, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
