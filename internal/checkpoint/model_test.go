package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/disk/simdisk"
	"laaster/internal/kit/run"
	"laaster/internal/seal"
)

var testLog = change.LogID([]byte("abcdefghijklmnop"))

// keys returns a ring with these ids; one id is always the same key.
func keys(t testing.TB, ids ...string) *seal.Ring {
	t.Helper()
	if len(ids) == 0 {
		return nil
	}
	var text strings.Builder
	for _, id := range ids {
		rng := rand.New(rand.NewPCG(uint64(len(id)), uint64(id[0])))
		text.WriteString(id + " ")
		for range 32 {
			fmt.Fprintf(&text, "%02x", byte(rng.Uint32()))
		}
		text.WriteByte('\n')
	}
	r, err := seal.Parse("test", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func options(fs disk.FS, dir string, ring *seal.Ring) Options {
	return Options{Dir: filepath.Join(dir, "checkpoints"), Copy: filepath.Join(dir, "copy"), Log: testLog, Keys: ring, FS: fs, Clock: run.NewManual(time.UnixMicro(1e15))}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

type testPage struct{ meta, data string }

// model is what a checkpoint should hold.
type model struct {
	header  Header
	objects map[ObjectID]map[uint32]testPage
	parts   map[string]string
}

func newModel() *model {
	return &model{header: Header{Log: testLog}, objects: map[ObjectID]map[uint32]testPage{}, parts: map[string]string{}}
}

func (m *model) clone() *model {
	out := &model{header: m.header, objects: map[ObjectID]map[uint32]testPage{}, parts: maps.Clone(m.parts)}
	for o, pages := range m.objects {
		out.objects[o] = maps.Clone(pages)
	}
	return out
}

// load is how big the steps of a history are.
type load struct{ objects, pages, size int }

// step changes the model at random and writes the same as a checkpoint, up to but not including the commit.
func (m *model) step(s *Store, rng *rand.Rand, l load) (*model, *Writer, error) {
	n := m.clone()
	n.header.Seq += 1 + uint64(rng.IntN(100))
	n.header.Stamp = int64(rng.Uint64())
	n.header.Catalog = randomBytes(rng, rng.IntN(50))
	n.header.Fingerprint[3] = byte(rng.Uint32())
	w, err := s.Begin(n.header)
	if err != nil {
		return nil, nil, err
	}
	if rng.IntN(3) == 0 && len(n.objects) < l.objects {
		n.objects[s.NewObject()] = map[uint32]testPage{}
	}
	for _, o := range slices.Sorted(maps.Keys(n.objects)) {
		if rng.IntN(12) == 0 {
			delete(n.objects, o)
			if rng.IntN(2) == 0 {
				w.Delete(o, uint32(rng.IntN(l.pages)))
			}
			continue
		}
		if err := n.change(w, o, rng, l); err != nil {
			w.Abort()
			return nil, nil, err
		}
	}
	n.parts["flow"] = string(randomBytes(rng, rng.IntN(100)))
	w.Part("flow", []byte("another"))
	for _, name := range slices.Sorted(maps.Keys(n.parts)) {
		w.Part(name, []byte(n.parts[name]))
	}
	return n, w, nil
}

func (m *model) change(w *Writer, o ObjectID, rng *rand.Rand, l load) error {
	pages := m.objects[o]
	w.Keep(o)
	for range rng.IntN(6) {
		page := uint32(rng.IntN(l.pages))
		if rng.IntN(20) == 0 {
			page = 1<<32 - 1 - page
		}
		if rng.IntN(4) == 0 {
			w.Delete(o, page)
			delete(pages, page)
			continue
		}
		p := testPage{string(randomBytes(rng, rng.IntN(MaxMeta+1))), string(randomBytes(rng, rng.IntN(l.size)))}
		if _, err := w.Put(o, page, []byte(p.meta), []byte(p.data)); err != nil {
			return err
		}
		pages[page] = p
	}
	return nil
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// compare says in what a state differs from the model. An unreadable page is an error, not a difference.
func (m *model) compare(st *State) (differs string, err error) {
	h := *st.Header()
	if h.Seq != m.header.Seq || h.Log != m.header.Log || h.Stamp != m.header.Stamp || h.Fingerprint != m.header.Fingerprint || !bytes.Equal(h.Catalog, m.header.Catalog) {
		return fmt.Sprintf("header %+v, want %+v", h, m.header), nil
	}
	for name, root := range m.parts {
		if string(st.Part(name)) != root {
			return fmt.Sprintf("part %s", name), nil
		}
	}
	if len(st.Parts()) != len(m.parts) || st.Part("none") != nil {
		return "parts", nil
	}
	have := map[ObjectID]bool{}
	for _, o := range st.Objects() {
		have[o] = true
	}
	for o, pages := range m.objects {
		if have[o] != (len(pages) > 0) {
			return fmt.Sprintf("object %d is there: %v", o, have[o]), nil
		}
		if differs, err := comparePages(st, o, pages); differs != "" || err != nil {
			return differs, err
		}
		delete(have, o)
	}
	if len(have) > 0 {
		return fmt.Sprintf("objects that should be gone: %v", have), nil
	}
	return "", nil
}

func comparePages(st *State, o ObjectID, pages map[uint32]testPage) (string, error) {
	n, last := 0, int64(-1)
	var buf []byte
	for page, p := range st.Pages(o) {
		n++
		want, ok := pages[page]
		if !ok || int64(page) <= last || string(p.Meta) != want.meta || p.Ref.Len() != len(want.data) || p.Ref.Zero() {
			return fmt.Sprintf("page %d of object %d is there, with meta %x", page, o, p.Meta), nil
		}
		last = int64(page)
		var err error
		if buf, err = p.Ref.Read(buf); err != nil {
			return "", err
		}
		if string(buf) != want.data {
			return fmt.Sprintf("page %d of object %d has other bytes", page, o), nil
		}
	}
	if n != len(pages) {
		return fmt.Sprintf("object %d has %d pages, want %d", o, n, len(pages)), nil
	}
	return "", nil
}

// expect fails unless the newest checkpoint of s is as one of the models, and returns which; nil is a model of no checkpoint.
func expect(t testing.TB, s *Store, models ...*model) *model {
	t.Helper()
	list := s.List()
	for _, i := range list {
		if i.Err != nil {
			t.Fatalf("listed: %v", i.Err)
		}
	}
	if len(list) == 0 {
		if !slices.Contains(models, nil) {
			t.Fatal("there is no checkpoint")
		}
		return nil
	}
	st, err := s.Load(list[0], true)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range models {
		if m == nil {
			continue
		}
		differs, err := m.compare(st)
		if err != nil {
			t.Fatal(err)
		}
		if differs == "" {
			return m
		}
		all = append(all, differs)
	}
	t.Fatalf("the newest checkpoint (batch %d) is none of those that it may be: %q", st.Header().Seq, all)
	return nil
}

// TestHistories: random checkpoints with aborts and restarts; every one is what the model says, and so are the one before and the copy.
func TestHistories(t *testing.T) {
	for seed := range seeds(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var ring *seal.Ring
		if seed%2 == 1 {
			ring = keys(t, "one")
		}
		d := simdisk.New(seed)
		o := options(d, "/data", ring)
		s := open(t, o)
		l := load{objects: 1 + rng.IntN(8), pages: 1 + rng.IntN(300), size: 1 + rng.IntN(2000)}
		m, before, copied := newModel(), (*model)(nil), (*model)(nil)
		first := true
		for range 40 {
			n, w, err := m.step(s, rng, l)
			if err != nil {
				t.Fatal(err)
			}
			if rng.IntN(5) == 0 {
				w.Abort()
				w.Abort()
				continue
			}
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			w.Abort()
			if !first {
				before = m
			}
			m, first = n, false
			if rng.IntN(6) == 0 {
				if _, err := s.Copy(); err != nil {
					t.Fatal(err)
				}
				copied = m
			}
			if rng.IntN(4) == 0 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, o)
				expect(t, s, m)
			}
			checkKept(t, s, m, before, copied)
		}
		checkScrub(t, s)
	}
}

// checkKept looks at everything that List returns.
func checkKept(t *testing.T, s *Store, m, before, copied *model) {
	t.Helper()
	want := map[*model]int{m: 1}
	for _, m := range []*model{before, copied} {
		if m != nil {
			want[m]++
		}
	}
	for _, i := range s.List() {
		if i.Err != nil {
			t.Fatal(i.Err)
		}
		st, err := s.Peek(i)
		if err != nil {
			t.Fatal(err)
		}
		for c := range want {
			if c.header.Seq == st.Header().Seq {
				if differs, err := c.compare(st); differs != "" || err != nil {
					t.Fatal(differs, err)
				}
				if want[c]--; want[c] == 0 {
					delete(want, c)
				}
				break
			}
		}
	}
	if len(want) > 0 {
		t.Fatalf("%d checkpoints are missing", len(want))
	}
}

// checkScrub: a pass over everything in small pieces finds nothing and reads every byte.
func checkScrub(t *testing.T, s *Store) {
	t.Helper()
	stats := s.Stats()
	read, damage := s.Scrub(1 << 40)
	if len(damage) > 0 || read != stats.Disk+stats.CopyDisk {
		t.Fatalf("scrub read %d of %d bytes: %v", read, stats.Disk+stats.CopyDisk, damage)
	}
	for read = 0; read < stats.Disk+stats.CopyDisk; {
		n, damage := s.Scrub(1)
		if n == 0 || len(damage) > 0 {
			t.Fatal(n, damage)
		}
		read += n
	}
}

// TestPowerCuts cuts the power at every operation of random histories: what is there after the restart is the newest checkpoint that was committed, or the
// one under way.
func TestPowerCuts(t *testing.T) {
	kept, lost := 0, 0
	for seed := range seeds(6) {
		ops := cutAt(t, seed, 0, &kept, &lost)
		for n := 1; n <= ops; n++ {
			cutAt(t, seed, n, &kept, &lost)
		}
	}
	if kept == 0 || lost == 0 {
		t.Errorf("the checkpoint under way was there %d times and not there %d times: both should be met", kept, lost)
	}
}

// cutAt runs a history with a power cut at operation n (0: none), restarts, checks, and goes on a little.
func cutAt(t *testing.T, seed uint64, n int, kept, lost *int) (ops int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	d := simdisk.New(seed<<32 + uint64(n))
	d.CutAt(n)
	o := options(d, "/data", nil)
	l := load{objects: 4, pages: 20, size: 900}
	m, under := newModel(), (*model)(nil)
	var copied, copying *model
	none := true
	err := func() error {
		s, err := Open(o)
		if err != nil {
			return err
		}
		for round := range 14 {
			if round == 7 {
				if s, err = Open(o); err != nil {
					return err
				}
				expect(t, s, m)
			}
			next, w, err := m.step(s, rng, l)
			if err != nil {
				return err
			}
			under = next
			if err := w.Commit(); err != nil {
				w.Abort()
				return err
			}
			m, under, none = next, nil, false
			if round%5 == 3 {
				copying = m
				if _, err := s.Copy(); err != nil {
					return err
				}
				copied, copying = m, nil
			}
		}
		return nil
	}()
	if err != nil && !errors.Is(err, simdisk.ErrPower) {
		t.Fatalf("seed %d, cut at %d: %v", seed, n, err)
	}
	ops = d.Ops()
	d.Restart()
	s := open(t, o)
	may := []*model{m, under}
	if none {
		may = []*model{under, nil}
	}
	mains, copies := 0, 0
	for _, i := range s.List() {
		if i.Err != nil {
			t.Fatalf("seed %d, cut at %d: %v", seed, n, i.Err)
		}
		st, err := s.Peek(i)
		if err == nil {
			err = st.c.verify()
		}
		if err != nil {
			t.Fatalf("seed %d, cut at %d: %s: %v", seed, n, i.File, err)
		}
		if !i.Copy {
			mains++
			continue
		}
		if copies++; copies > 1 { // an older one whose removal was lost
			continue
		}
		ok := false
		for _, c := range []*model{copied, copying} {
			if c != nil {
				differs, err := c.compare(st)
				ok = ok || differs == "" && err == nil
			}
		}
		if !ok {
			t.Fatalf("seed %d, cut at %d: the copy is neither the old nor the new one", seed, n)
		}
	}
	if copied != nil && copies == 0 || !none && mains == 0 {
		t.Fatalf("seed %d, cut at %d: %d checkpoints and %d copies are left", seed, n, mains, copies)
	}
	got := expect(t, s, may...)
	if under != nil {
		if got == under {
			*kept++
		} else {
			*lost++
		}
	}
	if got == nil {
		got = newModel()
	}
	for range 3 { // and it goes on
		next, w, err := got.step(s, rng, l)
		if err == nil {
			err = w.Commit()
		}
		if err != nil {
			t.Fatalf("seed %d, cut at %d, afterwards: %v", seed, n, err)
		}
		got = next
	}
	expect(t, open(t, o), got)
	return ops
}

// seeds returns n, or what LAASTER_SEEDS asks for.
func seeds(n uint64) uint64 {
	if more, err := strconv.ParseUint(os.Getenv("LAASTER_SEEDS"), 10, 32); err == nil {
		return more
	}
	return n
}
