package backbone_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/change"
	"laaster/internal/seal"
)

// newSealed returns a store with n plain batches and n encrypted ones behind them, and the folder of its high-water file.
func newSealed(t *testing.T, n int, keys *seal.Ring) (*rotten, string) {
	t.Helper()
	r, dir := newLog(t, n)
	s := openSealed(t, r, dir, keys)
	backbonetest.AppendN(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return r, dir
}

func openSealed(t *testing.T, d backbone.Driver, dir string, keys *seal.Ring) *backbone.Shard {
	t.Helper()
	o := options(d, dir)
	o.Keys = keys
	s, err := backbone.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// readSealed returns the first error of opening the log and of reading it whole.
func readSealed(t *testing.T, d backbone.Driver, dir string, keys *seal.Ring) error {
	t.Helper()
	o := options(d, dir)
	o.Keys = keys
	s, err := backbone.Open(t.Context(), o)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = backbonetest.Replayed(t.Context(), s, 1)
	return err
}

func TestSealedDamage(t *testing.T) {
	const n = 10
	keys := backbonetest.Keys(t, "one")
	good, dir := newSealed(t, n, keys)
	other, _ := newSealed(t, n, keys)
	check := func(what string, kind backbone.Kind, at uint64, f func(r *rotten)) {
		t.Helper()
		r := good.clone()
		f(r)
		err := readSealed(t, r, dir, keys)
		var d *backbone.Damage
		if !errors.As(err, &d) || d.Kind != kind || d.From != at || d.To != at || d.Remedy == "" {
			t.Errorf("%s: got %v\nwant %s at %d", what, err, kind, at)
		}
	}
	check("a byte", backbone.Checksum, 15, func(r *rotten) { r.edit(15, 120, false) })
	check("the first byte", backbone.Checksum, 15, func(r *rotten) { r.edit(15, 0, false) })
	check("cut off", backbone.Checksum, 15, func(r *rotten) { r.batches[15] = r.batches[15][:100] })
	check("cut to the magic", backbone.Checksum, 15, func(r *rotten) { r.batches[15] = r.batches[15][:5] })
	check("a forged byte", backbone.Forged, 15, func(r *rotten) { r.edit(15, len(r.batches[15])-1, true) })
	check("a forged nonce", backbone.Forged, 15, func(r *rotten) { r.edit(15, 50, true) })
	check("a forged key", backbone.Locked, 15, func(r *rotten) { r.edit(15, 40, true) })
	check("a forged shard", backbone.Forged, 15, func(r *rotten) { r.edit(15, 12, true) })
	check("a forged log", backbone.Forged, 15, func(r *rotten) { r.edit(15, 16, true) })
	check("a forged sequence", backbone.Forged, 15, func(r *rotten) { r.edit(15, 32, true) })
	check("newer", backbone.Newer, 15, func(r *rotten) { r.edit(15, 8, true) })
	check("flags", backbone.Malformed, 15, func(r *rotten) { r.edit(15, 10, true) })
	check("cut and sealed", backbone.Forged, 15, func(r *rotten) { r.batches[15] = reseal(bytes.Clone(r.batches[15][:60])) })
	check("without content", backbone.Forged, 15, func(r *rotten) { r.batches[15] = reseal(bytes.Clone(r.batches[15][:40])) })
	check("swapped", backbone.Chain, 15, func(r *rotten) { r.batches[15], r.batches[16] = r.batches[16], r.batches[15] })
	check("one of another log", backbone.Foreign, 15, func(r *rotten) { r.batches[15] = other.batches[15] })
	check("a plain one", backbone.Forged, 15, func(r *rotten) { r.batches[15] = r.batches[5] })
	check("a plain end", backbone.Forged, 2*n, func(r *rotten) { r.batches[2*n] = r.batches[n] })
	if err := readSealed(t, good.clone(), dir, keys); err != nil {
		t.Errorf("an undamaged log: %v", err)
	}
}

// TestSealedWrongKey: a key file that has another key under the id that sealed.
func TestSealedWrongKey(t *testing.T) {
	good, dir := newSealed(t, 3, backbonetest.Keys(t, "one"))
	wrong, err := seal.Parse("wrong", []byte("one 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"))
	if err != nil {
		t.Fatal(err)
	}
	before := good.clone()
	var d *backbone.Damage
	if err := readSealed(t, good, dir, wrong); !errors.As(err, &d) || d.Kind != backbone.Forged {
		t.Errorf("got %v", err)
	}
	for seq, raw := range before.batches {
		if !bytes.Equal(raw, good.batches[seq]) {
			t.Errorf("batch %d was changed", seq)
		}
	}
	if err := readSealed(t, good, dir, backbonetest.Keys(t, "one")); err != nil {
		t.Errorf("with the right key: %v", err)
	}
}

// TestSealedEveryByte flips each byte of an encrypted batch, with a right checksum or without: it never opens.
func TestSealedEveryByte(t *testing.T) {
	keys := backbonetest.Keys(t, "one")
	good, dir := newSealed(t, 1, keys)
	for at := range good.batches[2] {
		for _, seal := range []bool{false, true} {
			if seal && (at < 8) {
				continue // the magic, and the checksum itself
			}
			r := good.clone()
			r.edit(2, at, seal)
			if d := (*backbone.Damage)(nil); !errors.As(readSealed(t, r, dir, keys), &d) {
				t.Errorf("byte %d, checksum %t: not found", at, seal)
			}
		}
	}
}

// TestSealedLargest: the largest batch goes through an envelope.
func TestSealedLargest(t *testing.T) {
	keys := backbonetest.Keys(t, "one")
	r, dir := newLog(t, 0)
	s := openSealed(t, r, dir, keys)
	var b change.Builder
	if err := b.Add(&change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Body: make([]byte, change.MaxBody)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n := len(r.batches[1]); n != backbone.MaxStored {
		t.Errorf("the store was given %d bytes, the most is %d", n, backbone.MaxStored)
	}
	if err := readSealed(t, r, dir, keys); err != nil {
		t.Error(err)
	}
}

// null is a store that keeps nothing.
type null struct {
	rotten
}

// Append implements backbone.Driver.
func (n *null) Append(_ context.Context, _ []byte, after uint64) (uint64, error) {
	return after + 1, nil
}

var start = time.Unix(1700000000, 0)

// FuzzEnvelope gives a log whatever bytes as its second batch: it reads what was written, or says what is wrong.
func FuzzEnvelope(f *testing.F) {
	keys := backbonetest.Keys(f, "one")
	r := &rotten{batches: map[uint64][]byte{}}
	s, err := backbone.Open(f.Context(), backbone.Options{Driver: r, Keys: keys, Clock: backbonetest.NewClock(start, 0)})
	if err != nil {
		f.Fatal(err)
	}
	backbonetest.AppendN(f, s, 2)
	good := r.batches[2]
	f.Add(good, true)
	f.Add(good[:40], true)
	f.Add(good[:10], false)
	f.Fuzz(func(t *testing.T, raw []byte, sum bool) {
		if raw = bytes.Clone(raw); sum && len(raw) > 8 {
			binary.LittleEndian.PutUint32(raw[4:], crc32.Checksum(raw[8:], crc32.MakeTable(crc32.Castagnoli)))
		}
		read := &rotten{batches: map[uint64][]byte{1: r.batches[1], 2: raw}, first: 1, last: 2}
		s, err := backbone.Open(t.Context(), backbone.Options{Driver: read, Keys: keys, Clock: backbonetest.NewClock(start, 0)})
		if err == nil {
			defer s.Close()
			_, err = backbonetest.Replayed(t.Context(), s, 1)
		}
		if d := (*backbone.Damage)(nil); errors.As(err, &d) == bytes.Equal(raw, good) || err != nil && d == nil {
			t.Fatalf("%x: %v", raw, err)
		}
	})
}

// BenchmarkShardAppend is what the log itself costs on top of its store.
func BenchmarkShardAppend(b *testing.B) {
	for name, keys := range map[string]*seal.Ring{"plain": nil, "sealed": backbonetest.Keys(b, "one")} {
		b.Run(name, func(b *testing.B) {
			s, err := backbone.Open(b.Context(), backbone.Options{Driver: &null{}, Dir: b.TempDir(), Keys: keys, Clock: backbonetest.NewClock(start, 0)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var build change.Builder
			e := change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Last: true, Body: make([]byte, 20_000)}
			b.SetBytes(20_000)
			b.ReportAllocs()
			for b.Loop() {
				build.Reset()
				if err := build.Add(&e); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Append(context.WithoutCancel(b.Context()), &build); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
