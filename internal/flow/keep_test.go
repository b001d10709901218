package flow

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/disk/simdisk"
)

// storedKept returns structures with something in them, the disk that has their checkpoint, and that.
func storedKept(t testing.TB, seed uint64) (*kept, *simdisk.Disk, *checkpoint.State) {
	t.Helper()
	k := newKept(seed)
	for range 60 {
		k.batch()
	}
	disk := simdisk.New(seed)
	store, err := checkpoint.Open(checkpoint.Options{Dir: "c", Log: change.LogID{1}, FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	f := freezing(store.NewObject)
	k.state(f)
	w, err := store.Begin(checkpoint.Header{Log: change.LogID{1}, Seq: 1})
	if err == nil {
		err = errors.Join(f.done().Write(w), w.Commit())
	}
	if err != nil {
		t.Fatal(err)
	}
	from, err := store.Load(store.List()[0], false)
	if err != nil {
		t.Fatal(err)
	}
	return k, disk, from
}

// A page that changed without a mark is found at the next freeze, by the name of its section.
func TestGuard(t *testing.T) {
	changes := map[string]func(k *kept){
		"slab":  func(k *kept) { k.slab.store.list[len(k.slab.store.list)-1].data[9]++ },
		"table": func(k *kept) { k.table.info[0].used++ },
		"tree":  func(k *kept) { k.tree.node(k.tree.root).weight[0]++ },
		"queue": func(k *kept) { k.queue.store.list[0].used++ },
		"seen":  func(k *kept) { k.seen.queue.store.list[0].data[len(k.seen.queue.store.list[0].data)-1]++ },
	}
	objects := checkpoint.ObjectID(0)
	freeze := func(k *kept) (problem any) {
		defer func() { problem = recover() }()
		f := freezing(func() checkpoint.ObjectID { objects++; return objects })
		f.guard = true
		k.state(f)
		f.done().done(true)
		return nil
	}
	for name, change := range changes {
		k := newKept(3)
		for range 60 {
			k.batch()
		}
		if problem := freeze(k); problem != nil {
			t.Fatal(problem)
		}
		if problem := freeze(k); problem != nil {
			t.Fatal(problem)
		}
		change(k)
		if text, _ := freeze(k).(string); !strings.Contains(text, name+": page ") || !strings.Contains(text, "was not marked") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// A page that cannot be read when it is needed is a panic with what the store says; one that is read ahead is an error.
func TestDamagedPage(t *testing.T) {
	_, disk, from := storedKept(t, 1)
	files, err := disk.List("c")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := disk.Damage(filepath.Join("c", f), func(b []byte) []byte {
			for i := 8192; i < len(b)/2; i += 700 {
				b[i] ^= 1
			}
			return b
		}); err != nil {
			t.Fatal(err)
		}
	}
	k := newKept(1)
	s := loadingFrom(from, from.Part("flow"), 0)
	k.state(s)
	if err := s.loaded(); err != nil {
		t.Fatal(err)
	}
	problem := func() (problem any) {
		defer func() { problem = recover() }()
		for i := range k.slab.store.list {
			if k.slab.store.list[i].size > 0 {
				k.slab.at(ref(i) << refPageShift)
			}
		}
		return nil
	}()
	var damage *checkpoint.Damage
	if err, _ := problem.(error); !errors.As(err, &damage) {
		t.Errorf("a damaged page: %v", problem)
	}
	s = loadingFrom(from, from.Part("flow"), 1<<40)
	newKept(1).state(s)
	if err := s.loaded(); !errors.As(err, &damage) {
		t.Errorf("a damaged page that is read ahead: %v", err)
	}
}

// FuzzRoot loads roots that are not what was stored: there is an error, or structures whose pages are all there, never a panic.
func FuzzRoot(f *testing.F) {
	_, _, from := storedKept(f, 2)
	root := from.Part("flow")
	f.Add(root)
	f.Add(root[:len(root)-1])
	f.Add(append(bytes.Clone(root), 0))
	for i := range root {
		b := bytes.Clone(root)
		b[i] ^= 1 << (i % 8)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k := newKept(2)
		s := loadingFrom(from, b, 0)
		k.state(s)
		err := s.loaded()
		if bytes.Equal(b, root) != (err == nil) && len(b) != len(root) {
			t.Errorf("%d of %d bytes: %v", len(b), len(root), err)
		}
		if err == nil {
			k.state(visiting(func(p *pages) {
				for i := range p.list {
					if p.list[i].size > 0 {
						p.bytes(uint32(i))
					}
				}
			}))
		}
	})
}

// Scalars of every kind come back, and a blob that ends early or is of something else is an error that says where.
func TestKeeper(t *testing.T) {
	type all struct {
		a int64
		b uint64
		c uint32
		d int
		e bool
		f uint8
		g sum128
		h []byte
		i []byte
		j string
		k []string
		l *int
	}
	state := func(k *keeper, v *all) {
		k.section("some of them")
		k.i64(&v.a)
		k.u64(&v.b)
		k.u32(&v.c)
		k.num(&v.d)
		k.flag(&v.e)
		k.u8(&v.f)
		k.sum(&v.g)
		k.section("the rest")
		k.bytes(&v.h)
		k.bytes(&v.i)
		k.text(&v.j)
		n := k.length(len(v.k))
		if k.loading {
			v.k = make([]string, n)
		}
		for i := range v.k {
			k.text(&v.k[i])
		}
		if k.optional(v.l != nil) {
			if k.loading {
				v.l = new(int)
			}
			k.num(v.l)
		}
	}
	seven := 7
	v := all{-1, 1 << 63, 1 << 31, -5, true, 200, sum128{3, 4}, nil, []byte{}, "text", []string{"", "b"}, &seven}
	k := freezing(nil)
	state(k, &v)
	root := k.done().root
	var got all
	k = loadingFrom(nil, root, 0)
	state(k, &got)
	if err := k.loaded(); err != nil || got.a != v.a || got.b != v.b || got.c != v.c || got.d != v.d || !got.e || got.f != v.f || got.g != v.g ||
		got.h != nil || got.i == nil || len(got.i) > 0 || got.j != v.j || len(got.k) != 2 || got.k[1] != "b" || *got.l != 7 {
		t.Errorf("%+v (%v)", got, err)
	}
	for n := range root {
		k := loadingFrom(nil, root[:n], 0)
		state(k, &all{})
		if err := k.loaded(); err == nil {
			t.Errorf("%d bytes of %d are enough", n, len(root))
		}
	}
	k = loadingFrom(nil, root, 0)
	k.section("something else")
	if err := k.loaded(); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Error(err)
	}
}
