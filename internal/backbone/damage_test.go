package backbone_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
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

// rotten is a store whose batches a test may change, lose or replace. It is a driver that believes what it has.
type rotten struct {
	batches     map[uint64][]byte
	first, last uint64
}

func (r *rotten) Append(_ context.Context, data []byte, after uint64) (uint64, error) {
	if after != r.last {
		return 0, &backbone.Fenced{After: after, Last: r.last}
	}
	r.first = max(r.first, 1)
	r.last++
	r.batches[r.last] = bytes.Clone(data)
	return r.last, nil
}

func (r *rotten) Read(_ context.Context, from uint64, fn func(uint64, []byte) error) error {
	for _, seq := range slices.Sorted(maps.Keys(r.batches)) {
		if seq >= from && seq <= r.last {
			if err := fn(seq, r.batches[seq]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *rotten) Bounds(context.Context) (uint64, uint64, error) { return r.first, r.last, nil }
func (r *rotten) Size(context.Context) (int64, error)            { return int64(len(r.batches)), nil }
func (r *rotten) Level() backbone.Level                          { return backbone.Memory }
func (r *rotten) Close() error                                   { return nil }

func (r *rotten) Trim(_ context.Context, before uint64) error {
	maps.DeleteFunc(r.batches, func(seq uint64, _ []byte) bool { return seq < before })
	r.first = max(r.first, before)
	return nil
}

// clone copies the store, as a backup does.
func (r *rotten) clone() *rotten {
	return &rotten{batches: maps.Clone(r.batches), first: r.first, last: r.last}
}

// newLog returns a store with n batches and the folder of its high-water file.
func newLog(t *testing.T, n int) (*rotten, string) {
	t.Helper()
	r, dir := &rotten{batches: map[uint64][]byte{}}, t.TempDir()
	s := openShard(t, r, dir)
	backbonetest.AppendN(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return r, dir
}

func openShard(t *testing.T, d backbone.Driver, dir string) *backbone.Shard {
	t.Helper()
	s, err := backbone.Open(t.Context(), options(d, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func options(d backbone.Driver, dir string) backbone.Options {
	return backbone.Options{Driver: d, Dir: dir, Clock: backbonetest.NewClock(time.Unix(1700000000, 0), time.Second)}
}

// openAndReplay returns the first error of opening the log and of reading it whole, and checks that after one of reading it
// takes no appends.
func openAndReplay(t *testing.T, d backbone.Driver, dir string) error {
	t.Helper()
	s, err := backbone.Open(t.Context(), options(d, dir))
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = backbonetest.Replayed(t.Context(), s, 1)
	if stopped := (*backbone.Stopped)(nil); err != nil && (!errors.As(s.Err(), &stopped) || stopped.Reason != backbone.Damaged) {
		t.Errorf("the shard goes on after damage: %v", s.Err())
	}
	return err
}

// reseal puts a right checksum on a changed batch.
func reseal(raw []byte) []byte {
	binary.LittleEndian.PutUint32(raw[4:], crc32.Checksum(raw[8:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// edit changes one byte of a copy of a batch.
func (r *rotten) edit(seq uint64, at int, seal bool) {
	raw := bytes.Clone(r.batches[seq])
	if raw[at]++; seal {
		reseal(raw)
	}
	r.batches[seq] = raw
}

func TestDamage(t *testing.T) {
	const n = 20
	good, dir := newLog(t, n)
	other, _ := newLog(t, n)
	check := func(what string, kind backbone.Kind, from, to uint64, f func(r *rotten)) {
		t.Helper()
		r := good.clone()
		f(r)
		err := openAndReplay(t, r, dir)
		var d *backbone.Damage
		if !errors.As(err, &d) || d.Kind != kind || d.From != from || d.To != to || d.Remedy == "" {
			t.Errorf("%s: got %v\nwant %s from %d to %d", what, err, kind, from, to)
		}
	}
	check("one missing", backbone.Hole, 7, 7, func(r *rotten) { delete(r.batches, 7) })
	check("many missing", backbone.Hole, 7, 15, func(r *rotten) {
		for seq := range uint64(9) {
			delete(r.batches, 7+seq)
		}
	})
	check("the last missing", backbone.Hole, n, n, func(r *rotten) { delete(r.batches, n) })
	check("the first missing", backbone.Hole, 1, 1, func(r *rotten) { delete(r.batches, 1) })
	check("trimmed", backbone.Hole, 1, 4, func(r *rotten) { r.first = 5 })
	check("a byte", backbone.Checksum, 7, 7, func(r *rotten) { r.edit(7, 120, false) })
	check("the first byte", backbone.Checksum, 7, 7, func(r *rotten) { r.edit(7, 0, false) })
	check("cut off", backbone.Checksum, 7, 7, func(r *rotten) { r.batches[7] = r.batches[7][:100] })
	check("empty", backbone.Checksum, 7, 7, func(r *rotten) { r.batches[7] = nil })
	check("a forged byte", backbone.Chain, 8, 8, func(r *rotten) { r.edit(7, len(r.batches[7])-1, true) })
	check("a forged byte at the end", backbone.Chain, n, n, func(r *rotten) { r.edit(n, len(r.batches[n])-1, true) })
	check("a forged link", backbone.Chain, 7, 7, func(r *rotten) { r.edit(7, 50, true) })
	check("a forged stamp", backbone.Chain, 7, 7, func(r *rotten) {
		r.batches[7] = bytes.Clone(r.batches[7])
		copy(r.batches[7][40:48], r.batches[6][40:48])
		reseal(r.batches[7])
	})
	check("malformed", backbone.Malformed, 7, 7, func(r *rotten) { r.edit(7, 92, true) })
	check("swapped", backbone.Chain, 7, 7, func(r *rotten) { r.batches[7], r.batches[8] = r.batches[8], r.batches[7] })
	check("repeated", backbone.Chain, 8, 8, func(r *rotten) { r.batches[8] = r.batches[7] })
	check("shortened", backbone.Shortened, 16, n, func(r *rotten) { r.last = 15 })
	check("wiped", backbone.Shortened, 1, n, func(r *rotten) { *r = rotten{} })
	check("of another log", backbone.Foreign, 1, 1, func(r *rotten) { r.batches = other.batches })
	check("one of another log", backbone.Foreign, 7, 7, func(r *rotten) { r.batches[7] = other.batches[7] })
	check("of another shard", backbone.Foreign, 7, 7, func(r *rotten) { r.edit(7, 12, true) })
	check("newer", backbone.Newer, 7, 7, func(r *rotten) { r.edit(7, 9, true) })
	check("a newer end", backbone.Newer, n, n, func(r *rotten) { r.edit(n, 9, true) })
	check("of a version with rules, without any", backbone.Malformed, 7, 7, func(r *rotten) { r.edit(7, 8, true) })
	check("rewound and written on", backbone.Chain, n, n, func(r *rotten) {
		r.last = 15
		o := options(r, "") // a writer without the high-water file, which would have refused this
		o.Clock = backbonetest.NewClock(time.Unix(1800000000, 0), time.Second)
		s, err := backbone.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		backbonetest.AppendN(t, s, n-15)
	})
	if err := openAndReplay(t, good.clone(), dir); err != nil {
		t.Errorf("an undamaged log: %v", err)
	}
}

func TestDamageSaysWhat(t *testing.T) {
	good, dir := newLog(t, 9)
	delete(good.batches, 3)
	delete(good.batches, 4)
	err := openAndReplay(t, good, dir)
	for _, part := range []string{"batches 3 to 4 of shard 0", "hole", "restore it from a backup"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// TestRewoundWhileOpen: the store loses its tail under a shard that is at work.
func TestRewoundWhileOpen(t *testing.T) {
	r, dir := newLog(t, 9)
	s := openShard(t, r, dir)
	r.last = 6
	var b change.Builder
	_, err := s.Append(t.Context(), &b)
	var d *backbone.Damage
	if !errors.As(err, &d) || d.Kind != backbone.Shortened || d.From != 7 || d.To != 9 {
		t.Errorf("got %v", err)
	}
	if _, again := s.Append(t.Context(), &b); again != err || r.last != 6 {
		t.Errorf("a damaged log was written to: %v", again)
	}
}

// TestChangedWhileOpen: a replay of a log that is open sees what changed since.
func TestChangedWhileOpen(t *testing.T) {
	r, dir := newLog(t, 9)
	s := openShard(t, r, dir)
	backbonetest.AppendN(t, s, 2)
	r.edit(11, len(r.batches[11])-1, true)
	_, err := backbonetest.Replayed(t.Context(), s, 1)
	var d *backbone.Damage
	if !errors.As(err, &d) || d.Kind != backbone.Chain || d.From != 11 {
		t.Errorf("got %v", err)
	}
}

func TestUnresolved(t *testing.T) {
	r, dir := newLog(t, 2)
	f := &backbonetest.Faulty{Driver: r}
	o := options(f, dir)
	o.Clock = backbonetest.NewClock(time.Unix(1700000000, 0), time.Hour) // patience ends at once, too
	s, err := backbone.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f.Next(slices.Repeat([]backbonetest.Fault{backbonetest.LoseRequest}, 1000)...)
	var b change.Builder
	_, err = s.Append(t.Context(), &b)
	var stopped *backbone.Stopped
	if !errors.As(err, &stopped) || stopped.Reason != backbone.Unresolved || !errors.Is(err, backbonetest.ErrLost) {
		t.Errorf("got %v", err)
	}
}

func TestWriteErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want backbone.Reason
	}{
		{&backbone.WriteError{Full: true, Err: backbonetest.ErrLost}, backbone.DiskFull},
		{&backbone.WriteError{Err: backbonetest.ErrLost}, backbone.WriteFail},
	} {
		r, dir := newLog(t, 2)
		f := &backbonetest.Faulty{Driver: r}
		s := openShard(t, f, dir)
		f.Next(backbonetest.Fail(c.err))
		var b change.Builder
		for range 2 {
			_, err := s.Append(t.Context(), &b)
			if stopped := (*backbone.Stopped)(nil); !errors.As(err, &stopped) || stopped.Reason != c.want || s.Head() != 2 {
				t.Errorf("got %v, want %s", err, c.want)
			}
		}
	}
}

func TestHighWaterFile(t *testing.T) {
	good, dir := newLog(t, 20)
	file := filepath.Join(dir, "highwater-0")
	kept, err := os.ReadFile(file)
	if err != nil || len(kept) != 1024 {
		t.Fatalf("the file has %d bytes: %v", len(kept), err)
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(at int, seal bool) []byte {
		b := bytes.Clone(kept)
		for slot := b[:0]; len(slot) < 1024; {
			slot = b[:len(slot)+512]
			s := slot[len(slot)-512:]
			if s[at]++; seal {
				binary.LittleEndian.PutUint32(s[4:], crc32.Checksum(s[8:80], crc32.MakeTable(crc32.Castagnoli)))
			}
		}
		return b
	}
	refused := func(what string, b []byte, part string) {
		t.Helper()
		write(b)
		if err := openAndReplay(t, good.clone(), dir); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: got %v, want %q", what, err, part)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, b) {
			t.Errorf("%s: the file was changed", what)
		}
	}
	refused("both slots damaged", edit(33, false), "neither of its two marks is valid")
	refused("empty", nil, "neither of its two marks is valid")
	refused("cut", kept[:40], "neither of its two marks is valid")
	refused("newer", edit(8, true), "format version 2")
	refused("another shard", edit(12, true), "is of shard 1")
	refused("another log", edit(16, true), "foreign")
	refused("a higher mark", edit(32, true), "shortened")
	refused("another digest", edit(40, true), "high-water mark")

	for slot := range 2 { // a torn write damages one slot; the other is at most one batch behind
		b := bytes.Clone(kept)
		clear(b[512*slot : 512*slot+60])
		write(b)
		s := openShard(t, good.clone(), dir)
		if s.Recovery().Unmarked > 1 {
			t.Errorf("slot %d damaged: %+v", slot, s.Recovery())
		}
		s.Close()
	}

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s := openShard(t, good.clone(), dir)
	if r := s.Recovery(); !r.MarkMissing || r.Created || r.Head != 20 {
		t.Errorf("without the file: %+v", r)
	}
	s.Close()
	if err := openAndReplay(t, good.clone(), dir); err != nil {
		t.Errorf("with the file made anew: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	id := openShard(t, good.clone(), dir).ID()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if s := openShard(t, &rotten{batches: map[uint64][]byte{}}, dir); !s.Recovery().Created || s.ID() == id {
		t.Errorf("without file and store: %+v, id %s", s.Recovery(), s.ID())
	}
}

// TestBehindMark: a power cut may lose the newest marks; what the store has more than them is verified and kept.
func TestBehindMark(t *testing.T) {
	r, dir := newLog(t, 5)
	file := filepath.Join(dir, "highwater-0")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := openShard(t, r, dir)
	backbonetest.AppendN(t, s, 5)
	s.Close()
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openShard(t, r, dir)
	if got := s.Recovery(); got.Unmarked != 5 || got.Head != 10 {
		t.Errorf("got %+v", got)
	}
	backbonetest.AppendN(t, s, 1)
	if _, err := backbonetest.Replayed(t.Context(), s, 1); err != nil {
		t.Error(err)
	}
}
