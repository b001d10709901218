package jetstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"laaster/internal/backbone/backbonetest"
	"laaster/internal/kit/run"
)

// TestSettled: after a clean end the files before a position are left to later, and inspected once something of them is read; after a kill
// all are inspected.
func TestSettled(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	s := mustOpenLog(t, dir)
	appendLarge(t, s, 20, 900_000) // nine to a file
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left := func(dir string, clean uint64) int {
		t.Helper()
		o := Options{Dir: filepath.Join(dir, "store"), CleanBefore: clean}
		rest, err := inspect(&o, "LAASTER-0")
		if err != nil {
			t.Fatal(err)
		}
		return len(rest.mu.blocks)
	}
	if got := left(killed, 1<<40); got != 0 {
		t.Errorf("killed without an index: %d files are left to later", got)
	}
	for clean, want := range map[uint64]int{0: 0, 8: 0, 9: 1, 17: 1, 18: 2, 1 << 40: 2} {
		if got := left(dir, clean); got != want {
			t.Errorf("clean before %d: %d files are left to later, want %d", clean, got, want)
		}
	}
	d := openDriver(t, Options{Dir: filepath.Join(dir, "store"), CleanBefore: 20})
	read := func(from uint64, want int) {
		t.Helper()
		if err := d.Read(t.Context(), from, func(uint64, []byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got := len(d.rest.mu.blocks); got != want {
			t.Errorf("read from %d: %d files are left to later, want %d", from, got, want)
		}
	}
	read(19, 2)
	read(10, 1)
	if err := d.Trim(t.Context(), 6); err != nil { // in the middle of the first file, which may be written anew
		t.Fatal(err)
	}
	g := run.New(t.Context())
	for range 3 {
		g.Go("reader", func(ctx context.Context) error {
			return d.Read(ctx, 1, func(uint64, []byte) error { return nil })
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	read(1, 0)
	if err := d.Trim(t.Context(), 19); err != nil {
		t.Fatal(err)
	}
	read(1, 0)
}

// TestIndexRenewed: after a kill the server is given an index of the blocks as they are, takes it, and has the same state as when it reads
// them all itself; trims, appends and ends go on from it as from its own.
func TestIndexRenewed(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenLog(t, dir)
	appendLarge(t, s, 10, 900_000)
	appendLarge(t, s, 30, 1000)
	none, stale, same := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.CopyFS(none, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpenLog(t, dir)
	appendLarge(t, s, 10, 900_000)
	if err := os.CopyFS(stale, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir  string
		n    uint64
		left int // files that are not read at the start
	}{"no index": {none, 40, 0}, "an older index": {stale, 50, 1}} {
		var log bytes.Buffer
		o := Options{Dir: filepath.Join(c.dir, "store"), CleanBefore: c.n, Log: slog.New(slog.NewTextHandler(&log, nil))}
		d := openDriver(t, o)
		if len(d.rest.mu.blocks) != c.left {
			t.Errorf("%s: %d files are left to later, want %d", name, len(d.rest.mu.blocks), c.left)
		}
		if log.Len() > 0 {
			t.Errorf("%s: the server did not take its index: %s", name, &log)
		}
		state := func(d *Driver) js.StreamState {
			t.Helper()
			st, err := d.js.Stream(t.Context(), d.stream)
			if err != nil {
				t.Fatal(err)
			}
			return st.CachedInfo().State
		}
		got := state(d)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(same), os.CopyFS(same, os.DirFS(c.dir)), os.Remove(filepath.Join(same, streamFiles, "msgs/index.db"))); err != nil {
			t.Fatal(err)
		}
		e, err := startServer(filepath.Join(same, "store"), false, slog.New(slog.DiscardHandler)) // without our inspection
		if err != nil {
			t.Fatal(err)
		}
		conn, err := nats.Connect("", nats.InProcessServer(e.srv))
		if err != nil {
			t.Fatal(err)
		}
		j, err := js.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		if want := state(&Driver{conn: conn, js: j, stream: d.stream}); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: state %+v\nthe server itself finds %+v", name, got, want)
		}
		conn.Close()
		e.stop()

		s := mustOpenLog(t, c.dir)
		appendLarge(t, s, 5, 900_000)
		if err := s.Trim(t.Context(), 12); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s = mustOpenLog(t, c.dir); s.Head() != c.n+5 || s.First() != 12 {
			t.Errorf("%s: from %d to %d", name, s.First(), s.Head())
		}
		if got, err := backbonetest.Replayed(t.Context(), s, 12); err != nil || len(got) != int(c.n)+5-11 {
			t.Errorf("%s: %d batches: %v", name, len(got), err)
		}
	}
}

// FuzzIndex: whatever index the server leaves, reading it ends, and one that is sound has its blocks in a row.
func FuzzIndex(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "folder-1", streamFiles, "msgs/index.db"))
	if err != nil {
		f.Fatal(err)
	}
	if x, err := parseIndex(b, "LAASTER-0"); err != nil || !x.sound() || len(x.blocks) != 1 || x.last != 40 {
		f.Fatalf("the sample: %+v, %v", x, err)
	}
	x, _ := parseIndex(b, "LAASTER-0")
	if again, err := x.encode("LAASTER-0"); err != nil || !bytes.Equal(again, b) {
		f.Fatalf("the server wrote\n%x, this writes\n%x: %v", b, again, err)
	}
	f.Add(b[:len(b)-8])
	f.Fuzz(func(t *testing.T, body []byte) {
		key := sha256.Sum256([]byte("LAASTER-0"))
		sum, err := highwayhash.NewDigest64(key[:])
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(body)
		x, err := parseIndex(sum.Sum(body[:len(body):len(body)]), "LAASTER-0")
		if err != nil || !x.sound() {
			return
		}
		again, err := x.encode("LAASTER-0")
		if err != nil {
			t.Fatal(err)
		}
		if y, err := parseIndex(again, "LAASTER-0"); err != nil || fmt.Sprint(x) != fmt.Sprint(y) {
			t.Fatalf("%+v was written as %+v: %v", x, y, err)
		}
		for i, b := range x.blocks {
			if b.first > b.last || b.last > x.last || i > 0 && b.first <= x.blocks[i-1].last {
				t.Fatalf("%+v", x)
			}
		}
	})
}
