package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/backbone/memory"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
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

// sample is a log with two checkpoints, of batch 7 and 12, of 20 batches.
type sample struct {
	shard  *backbone.Shard
	raws   [][]byte
	states []*checkpoint.State
}

func pageOf(o checkpoint.ObjectID, n uint32) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "object %d page %d ", o, n), 1+int(n)%5)
}

// newSample makes one; a root part of a checkpoint has about this many bytes.
func newSample(t *testing.T, trim uint64, part int) *sample {
	t.Helper()
	s := &sample{}
	clock := backbonetest.NewClock(time.Unix(1700000000, 0), time.Second)
	var err error
	if s.shard, err = backbone.Open(t.Context(), backbone.Options{Driver: memory.New(), Clock: clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.shard.Close() })
	var store *checkpoint.Store
	for seq := uint64(1); seq <= 20; seq++ {
		var b change.Builder
		if err := b.Add(&change.Entry{Kind: change.EntryWrite, Op: change.OpInsert, Body: fmt.Appendf(nil, "body %d", seq)}); err != nil {
			t.Fatal(err)
		}
		batch, err := s.shard.Append(t.Context(), &b)
		if err != nil {
			t.Fatal(err)
		}
		s.raws = append(s.raws, bytes.Clone(batch.Raw()))
		if seq != 7 && seq != 12 {
			continue
		}
		if store == nil {
			if store, err = checkpoint.Open(checkpoint.Options{Dir: t.TempDir(), Log: s.shard.ID(), Clock: clock}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
		}
		w, err := store.Begin(checkpoint.Header{Log: s.shard.ID(), Seq: seq, Digest: batch.Digest(), Stamp: batch.Header().Stamp, Catalog: []byte("catalog")})
		if err != nil {
			t.Fatal(err)
		}
		for o := checkpoint.ObjectID(1); o <= 3; o++ {
			for n := range uint32(seq) {
				if _, err := w.Put(o, n, []byte{byte(n)}, pageOf(o, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.Part("flow", bytes.Repeat([]byte("root"), part/4))
		w.Part("node", []byte("{}"))
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		state, err := store.Peek(store.List()[0])
		if err != nil {
			t.Fatal(err)
		}
		s.states = append(s.states, state)
	}
	if err := s.shard.Trim(t.Context(), trim); err != nil {
		t.Fatal(err)
	}
	return s
}

// write makes a set up to a position.
func (s *sample) write(t *testing.T, keys *seal.Ring, until uint64, states ...*checkpoint.State) ([]byte, *Manifest) {
	t.Helper()
	var out bytes.Buffer
	lines := len(s.states[0].Part("flow"))
	src := &Source{Log: s.shard.ID(), Until: until, Checkpoints: states, Keys: keys, Made: time.Unix(1700000000, 0),
		Files: []File{{"audit/trail", strings.NewReader(strings.Repeat("line\n", lines))}, {"audit/empty", strings.NewReader("")}},
		Replay: func(ctx context.Context, fn func(*change.Batch) error) error {
			return s.shard.Replay(ctx, s.shard.First(), fn)
		}}
	src.First, src.Digest, src.Stamp = s.shard.Base()
	m, err := Write(t.Context(), &out, src)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), m
}

// TestRoundTrip reads back what was written: batches, pages, parts and files.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		name  string
		keys  *seal.Ring
		trim  uint64
		until uint64
	}{{"plain", nil, 1, 20}, {"sealed", testKeys(t, "k"), 1, 15}, {"trimmed", nil, 8, 20}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSample(t, c.trim, 2*partChunk)
			raw, m := s.write(t, c.keys, c.until, s.states...)
			if m.First != c.trim || m.Until != c.until || m.Batches != c.until-c.trim+1 || len(m.Checkpoints) != 2 || m.Checkpoints[1].Pages != 36 || len(m.Files) != 2 {
				t.Errorf("manifest: %+v", m)
			}
			store, err := checkpoint.Open(checkpoint.Options{Dir: t.TempDir(), Log: s.shard.ID()})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			next, files := c.trim, map[string]int{}
			got, err := Read(bytes.NewReader(raw), c.keys, Visitor{
				Checkpoint: func(h *checkpoint.Header, last checkpoint.ObjectID) (*checkpoint.Writer, error) {
					if h.Seq != 12 {
						return nil, nil
					}
					store.Skip(last)
					return store.Begin(*h)
				},
				Checked: func(w *checkpoint.Writer) error { return w.Commit() },
				Batch: func(b *change.Batch) error {
					if !bytes.Equal(b.Raw(), s.raws[next-1]) {
						return fmt.Errorf("batch %d has changed", next)
					}
					next++
					return nil
				},
				File: func(name string, _ bool, data []byte) error { files[name] += len(data); return nil },
			})
			if err != nil || next != c.until+1 || got.Root != m.Root {
				t.Fatalf("read: %v; up to %d; %+v", err, next, got)
			}
			if want := map[string]int{"audit/trail": 10 * partChunk, "audit/empty": 0}; !maps.Equal(files, want) {
				t.Errorf("files: %v", files)
			}
			state, err := store.Load(store.List()[0], true)
			if err != nil || state.Header().Seq != 12 || string(state.Header().Catalog) != "catalog" || !bytes.Equal(state.Part("flow"), s.states[1].Part("flow")) {
				t.Fatalf("the checkpoint: %v", err)
			}
			for o := checkpoint.ObjectID(1); o <= 3; o++ {
				pages := uint32(0)
				for n, p := range state.Pages(o) {
					data, err := p.Ref.Read(nil)
					if err != nil || n != pages || !bytes.Equal(data, pageOf(o, n)) || !bytes.Equal(p.Meta, []byte{byte(n)}) {
						t.Errorf("object %d page %d: %v", o, n, err)
					}
					pages++
				}
				if pages != 12 {
					t.Errorf("object %d has %d pages", o, pages)
				}
			}
		})
	}
}

// frames cuts a set into its prelude and its frames.
func frames(raw []byte) (out [][]byte) {
	out = append(out, raw[:prelude])
	for at := prelude; at < len(raw); {
		n := frameHead + int(binary.LittleEndian.Uint32(raw[at+4:]))
		out = append(out, raw[at:at+n])
		at += n
	}
	return out
}

// sealFrames puts frames together again with numbers and checksums that are right.
func sealFrames(parts [][]byte) []byte {
	out := bytes.Clone(parts[0])
	for i, f := range parts[1:] {
		f = bytes.Clone(f)
		putFrameHead(f, kind(f[0]), uint64(i), f[frameHead:])
		out = append(out, f...)
	}
	return out
}

// TestTampered changes sets in every way: none is read as if nothing were wrong, and the error says where.
func TestTampered(t *testing.T) {
	s := newSample(t, 1, 300)
	keys := testKeys(t, "k")
	for _, ring := range []*seal.Ring{nil, keys} {
		raw, _ := s.write(t, ring, 20, s.states[0])
		refused := func(what string, b []byte) {
			t.Helper()
			_, err := Read(bytes.NewReader(b), ring, Visitor{})
			if e := (*SetError)(nil); !errors.As(err, &e) || e.Offset > int64(len(b)) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		parts := frames(raw)
		at := 0
		for i, f := range parts {
			step := max(1, len(f)/40)
			for j := 0; j < len(f); j += step {
				b := bytes.Clone(raw)
				b[at+j] ^= 1 << (j % 8)
				refused(fmt.Sprintf("part %d byte %d flipped", i, j), b)
			}
			refused(fmt.Sprintf("cut before part %d", i), raw[:at])
			refused(fmt.Sprintf("cut within part %d", i), raw[:at+len(f)/2])
			refused(fmt.Sprintf("cut at the end of part %d", i), raw[:at+len(f)-1])
			at += len(f)
		}
		refused("trailing byte", append(bytes.Clone(raw), 0))
		refused("two sets", append(bytes.Clone(raw), raw...))
		for i := 1; i < len(parts); i++ {
			dropped := slices.Delete(slices.Clone(parts), i, i+1)
			refused(fmt.Sprintf("part %d dropped", i), bytes.Join(dropped, nil))
			refused(fmt.Sprintf("part %d dropped and the rest numbered anew", i), sealFrames(dropped))
			twice := slices.Insert(slices.Clone(parts), i, parts[i])
			refused(fmt.Sprintf("part %d twice", i), bytes.Join(twice, nil))
			refused(fmt.Sprintf("part %d twice and the rest numbered anew", i), sealFrames(twice))
			if i+1 < len(parts) {
				swapped := slices.Clone(parts)
				swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
				refused(fmt.Sprintf("part %d and the next swapped", i), bytes.Join(swapped, nil))
				refused(fmt.Sprintf("part %d and the next swapped and numbered anew", i), sealFrames(swapped))
			}
		}
		other, _ := s.write(t, ring, 20, s.states[0])
		mixed := frames(other)
		for i := range parts {
			m := slices.Clone(parts)
			if m[i] = mixed[i]; !bytes.Equal(m[i], parts[i]) {
				refused(fmt.Sprintf("part %d of another set", i), bytes.Join(m, nil))
			}
		}
		newer := bytes.Clone(raw)
		newer[len(magic)] = version + 1
		if _, err := Read(bytes.NewReader(newer), ring, Visitor{}); !errors.As(err, new(*change.NewerError)) {
			t.Errorf("a newer set: %v", err)
		}
	}
}

// TestForged has somebody without the keys make a set anew: of a sealed one that is refused; of a plain one its root differs.
func TestForged(t *testing.T) {
	s := newSample(t, 1, 300)
	forge := func(raw []byte) []byte {
		parts := frames(raw)
		i := slices.IndexFunc(parts[1:], func(f []byte) bool { return kind(f[0]) == kindPage }) + 1
		parts[i] = bytes.Clone(parts[i])
		parts[i][len(parts[i])-1] ^= 1
		last := len(parts) - 1
		out := sealFrames(parts[:last])
		var tr tree
		for _, f := range frames(out)[1:] {
			tr.add(f)
		}
		var m Manifest
		if json.Unmarshal(parts[last][frameHead:], &m) != nil {
			m = Manifest{}
		}
		m.Root = tr.root()
		body, _ := json.Marshal(m)
		f := append(make([]byte, frameHead), body...)
		putFrameHead(f, kindManifest, uint64(last-1), body)
		return append(out, f...)
	}
	raw, m := s.write(t, nil, 20, s.states[0])
	if got, err := Read(bytes.NewReader(forge(raw)), nil, Visitor{}); err != nil || got.Root == m.Root {
		t.Errorf("a plain set made anew: %v, %v", got, err)
	}
	keys := testKeys(t, "k")
	raw, _ = s.write(t, keys, 20, s.states[0])
	if _, err := Read(bytes.NewReader(forge(raw)), keys, Visitor{}); !errors.Is(err, seal.ErrForged) {
		t.Errorf("a sealed set made anew: %v", err)
	}
	for _, other := range []*seal.Ring{nil, testKeys(t, "other"), testKeys(t, "k")} {
		if _, err := Read(bytes.NewReader(raw), other, Visitor{}); err == nil || other == nil && !errors.Is(err, ErrSealed) {
			t.Errorf("without its keys: %v", err)
		}
	}
}

// TestOtherHistory puts a checkpoint beside a log that it is not of.
func TestOtherHistory(t *testing.T) {
	s, other := newSample(t, 1, 300), newSample(t, 1, 300)
	var out bytes.Buffer
	src := &Source{Log: s.shard.ID(), First: 1, Until: 20, Checkpoints: other.states,
		Replay: func(ctx context.Context, fn func(*change.Batch) error) error { return s.shard.Replay(ctx, 1, fn) }}
	if _, err := Write(t.Context(), &out, src); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(&out, nil, Visitor{}); err == nil || !strings.Contains(err.Error(), "another history") {
		t.Errorf("got %v", err)
	}
}

// TestVisitorError passes errors of the visitor on as they are.
func TestVisitorError(t *testing.T) {
	s := newSample(t, 1, 300)
	raw, _ := s.write(t, nil, 20, s.states...)
	enough := errors.New("enough")
	n := 0
	if _, err := Read(bytes.NewReader(raw), nil, Visitor{Batch: func(*change.Batch) error { n++; return enough }}); err != enough || n != 1 {
		t.Errorf("got %v after %d", err, n)
	}
}

// TestWriteFails has the writer's target fail at random places.
func TestWriteFails(t *testing.T) {
	s := newSample(t, 1, 300)
	raw, _ := s.write(t, nil, 20, s.states...)
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		w := &short{left: r.IntN(len(raw))}
		src := &Source{Log: s.shard.ID(), First: 1, Until: 20, Checkpoints: s.states,
			Replay: func(ctx context.Context, fn func(*change.Batch) error) error { return s.shard.Replay(ctx, 1, fn) }}
		if _, err := Write(t.Context(), w, src); !errors.Is(err, errShort) && w.left <= 0 {
			t.Errorf("got %v", err)
		}
	}
}

var errShort = errors.New("no more")

type short struct{ left int }

func (s *short) Write(b []byte) (int, error) {
	if s.left -= len(b); s.left <= 0 {
		return 0, errShort
	}
	return len(b), nil
}

func FuzzRead(f *testing.F) {
	var out bytes.Buffer
	shard, err := backbone.Open(f.Context(), backbone.Options{Driver: memory.New(), Clock: backbonetest.NewClock(time.Unix(1700000000, 0), time.Second)})
	if err != nil {
		f.Fatal(err)
	}
	defer shard.Close()
	var b change.Builder
	if _, err := shard.Append(f.Context(), &b); err != nil {
		f.Fatal(err)
	}
	src := &Source{Log: shard.ID(), First: 1, Until: 1, Replay: func(ctx context.Context, fn func(*change.Batch) error) error { return shard.Replay(ctx, 1, fn) }}
	if _, err := Write(f.Context(), &out, src); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes(), false)
	f.Add(out.Bytes(), true)
	f.Fuzz(func(t *testing.T, raw []byte, sums bool) {
		if sums && len(raw) > prelude && wellFramed(raw) { // past the checksums
			raw = sealFrames(frames(raw))
		}
		_, _ = Read(bytes.NewReader(raw), nil, Visitor{})
	})
}

func wellFramed(raw []byte) bool {
	for at := prelude; at < len(raw); {
		if at+frameHead > len(raw) {
			return false
		}
		at += frameHead + int(binary.LittleEndian.Uint32(raw[at+4:]))
		if at > len(raw) || at < 0 {
			return false
		}
	}
	return true
}
