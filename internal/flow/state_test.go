package flow

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// A slab against a map: blocks keep their bytes while others come and go, and memory is used again.
func TestSlab(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	s := newSlab()
	type block struct {
		n    int
		fill byte
	}
	live := map[ref]block{}
	check := func(r ref, b block) {
		for _, c := range s.at(r)[:b.n] {
			if c != b.fill {
				t.Fatalf("block %x of %d bytes was overwritten", r, b.n)
			}
		}
	}
	var refs []ref
	for i := range 60_000 {
		grow := i/10_000%2 == 0
		if len(refs) == 0 || rnd.IntN(10) < 7 == grow {
			n := 1 + rnd.IntN(100)
			switch rnd.IntN(200) {
			case 0:
				n = rnd.IntN(3 * maxBlock)
			case 1, 2, 3:
				n = rnd.IntN(2000)
			}
			r := s.alloc(n)
			if r == 0 || r > maxRef {
				t.Fatalf("ref %x", r)
			}
			if _, ok := live[r]; ok {
				t.Fatalf("block %x given out twice", r)
			}
			b := block{n, byte(i)}
			for j := range n {
				s.at(r)[j] = b.fill
			}
			live[r] = b
			refs = append(refs, r)
			continue
		}
		k := rnd.IntN(len(refs))
		r := refs[k]
		check(r, live[r])
		s.release(r)
		delete(live, r)
		refs[k] = refs[len(refs)-1]
		refs = refs[:len(refs)-1]
	}
	for r, b := range live {
		check(r, b)
	}
	for _, r := range refs {
		s.release(r)
	}
	if s.store.held > 2*pageBytes*classes() || s.bytes != 0 {
		t.Errorf("an empty slab holds %d bytes and says that %d are in use", s.store.held, s.bytes)
	}
}

func TestSlabClasses(t *testing.T) {
	for n := 1; n <= maxBlock; n++ {
		c := classOf(n)
		if classSize(c) < n || c > 0 && classSize(c-1) >= n || classSize(c)%8 != 0 {
			t.Fatalf("%d bytes go to class %d of %d bytes", n, c, classSize(c))
		}
		if n > 64 && classSize(c) > n*5/4+8 {
			t.Fatalf("%d bytes take %d", n, classSize(c))
		}
	}
}

// A table against a map, through growth, splits, deletions and values that change their size.
func TestTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	tab := newTable()
	model := map[string]string{}
	for i := range 120_000 {
		key := binary.BigEndian.AppendUint32(nil, uint32(rnd.IntN(20_000)))
		key = append(key, "some more text that differs in length"[:rnd.IntN(20)*rnd.IntN(2)]...)
		h := tab.hash(key)
		r := tab.find(h, key)
		want, ok := model[string(key)]
		if (r != 0) != ok || r != 0 && string(tab.value(r)) != want {
			t.Fatalf("step %d: wrong entry", i)
		}
		switch {
		case r != 0 && rnd.IntN(2) == 0 && i > 40_000:
			tab.remove(h, r)
			delete(model, string(key))
			continue
		case r == 0:
			r = tab.insert(h, key, rnd.IntN(60))
		default:
			tab.setMark(r, uint32(i))
			r = tab.resize(h, r, rnd.IntN(60))
			if tab.mark(r) != uint32(i) {
				t.Fatal("the mark did not move along")
			}
		}
		v := tab.value(r)
		for j := range v {
			v[j] = byte(i)
		}
		model[string(key)] = string(v)
	}
	if tab.n != len(model) {
		t.Fatalf("%d entries, want %d", tab.n, len(model))
	}
	seen := 0
	tab.each(func(r ref) {
		seen++
		if model[string(tab.key(r))] != string(tab.value(r)) {
			t.Fatal("wrong entry in a walk")
		}
	})
	if seen != len(model) {
		t.Fatalf("a walk over %d entries saw %d", len(model), seen)
	}
}

// checkTree walks the nodes and verifies order, bounds, fill and weights.
func checkTree(t *testing.T, tr *tree) {
	t.Helper()
	var walk func(i uint32, depth int, low, high []byte) int64
	walk = func(i uint32, depth int, low, high []byte) (sum int64) {
		n := tr.node(i)
		if i != tr.root && n.n < nodeMin || n.n >= nodeMax {
			t.Fatalf("a node with %d entries", n.n)
		}
		for k := range n.n {
			var key []byte
			if n.block[k] != 0 {
				key = tr.key(n.block[k])
				if !bytes.HasPrefix(key, tr.shared(n, nodeMax)) || n.prefix[k] != prefixOf(key[n.skip:]) {
					t.Fatal("wrong prefix")
				}
			}
			if depth == 0 {
				if bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 {
					t.Fatalf("key %x outside [%x, %x)", key, low, high)
				}
				sum += n.weight[k]
				continue
			}
			lo, hi := low, high
			if k > 0 {
				lo = key
			}
			if k+1 < n.n {
				hi = tr.key(n.block[k+1])
			}
			if got := walk(n.child[k], depth-1, lo, hi); got != n.weight[k] {
				t.Fatalf("weight %d where the child has %d", n.weight[k], got)
			}
			sum += n.weight[k]
		}
		return sum
	}
	walk(tr.root, tr.depth, nil, nil)
}

// A tree against a sorted slice.
func TestTree(t *testing.T) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(3, seed))
		tr := newTree()
		model := map[string]int64{}
		space := []int{30, 3000, 100_000, 400}[seed]
		for i := range 40_000 {
			head := []byte("abcdefgh the rest of what many keys share")[:[]int{0, 0, 8, 41, 20}[rnd.IntN(5)]]
			key := []byte(binary.BigEndian.AppendUint32(slices.Clone(head), uint32(rnd.IntN(space)))[rnd.IntN(4)*(len(head)+1)%3:])
			w := int64(1 + rnd.IntN(3))
			if i/8000%2 == 1 && rnd.IntN(4) > 0 {
				if at, _ := tr.at(rnd.Int64N(tr.total() + 1)); at.valid() { // one that is there
					key = bytes.Clone(at.key())
				}
				w = -1 - rnd.Int64N(max(model[string(key)], 1))
				w = max(w, -model[string(key)])
			}
			if got := tr.add(key, key, w); w != 0 && got != model[string(key)] {
				t.Fatalf("weight was %d, want %d", got, model[string(key)])
			}
			if model[string(key)] += w; model[string(key)] == 0 {
				delete(model, string(key))
			}
			if i%1000 == 0 {
				compareTree(t, rnd, &tr, model)
			}
		}
		for k, w := range model {
			tr.add([]byte(k), nil, -w)
		}
		if tr.n != 0 || tr.depth != 0 || tr.first().leaf.n != 0 {
			t.Fatalf("an empty tree of depth %d has %d entries", tr.depth, tr.n)
		}
	}
}

func compareTree(t *testing.T, rnd *rand.Rand, tr *tree, model map[string]int64) {
	t.Helper()
	checkTree(t, tr)
	keys := make([]string, 0, len(model))
	total := int64(0)
	for k, w := range model {
		keys = append(keys, k)
		total += w
	}
	slices.Sort(keys)
	if tr.n != len(keys) || tr.total() != total {
		t.Fatalf("%d entries of weight %d, want %d of %d", tr.n, tr.total(), len(keys), total)
	}
	i, before := 0, int64(0)
	for c := tr.first(); c.valid(); c.next() {
		if string(c.key()) != keys[i] || string(c.value()) != keys[i] || c.weight() != model[keys[i]] {
			t.Fatalf("entry %d is %x", i, c.key())
		}
		at, b := tr.at(before + rnd.Int64N(c.weight()))
		if !at.valid() || string(at.key()) != keys[i] || b != before {
			t.Fatalf("entry at weight %d", before)
		}
		before += c.weight()
		i++
	}
	if c, _ := tr.at(total); c.valid() {
		t.Fatal("an entry behind the end")
	}
	for range 50 {
		key := binary.BigEndian.AppendUint32(nil, rnd.Uint32())[rnd.IntN(4):]
		j, _ := slices.BinarySearch(keys, string(key))
		c := tr.seek(key)
		if c.valid() != (j < len(keys)) || c.valid() && string(c.key()) != keys[j] {
			t.Fatalf("seek %x", key)
		}
	}
}

// A window against a list: keys leave in the order they came, when their time is over.
func TestWindow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	w := newWindow(domainSeen, 0)
	type entry struct {
		key   string
		stamp int64
	}
	var model []entry
	stamp := int64(0)
	for i := range 60_000 {
		if rnd.IntN(20) == 0 {
			stamp += rnd.Int64N(300)
			w.expire(stamp - 5000)
			for len(model) > 0 && model[0].stamp <= stamp-5000 {
				model = model[1:]
			}
		}
		key := binary.BigEndian.AppendUint64(nil, uint64(i))
		r := w.insert(w.t.hash(key), key, 4, stamp)
		copy(w.t.value(r), "abcd")
		w.sum.add(w.digest(r, stamp))
		model = append(model, entry{string(key), stamp})
		switch rnd.IntN(10) {
		case 0:
			m := model[rnd.IntN(len(model))]
			h := w.t.hash([]byte(m.key))
			r := w.t.find(h, []byte(m.key))
			w.sum.sub(w.digest(r, m.stamp))
			r = w.resize(h, r, 4+rnd.IntN(80))
			copy(w.t.value(r), "efgh")
			w.sum.add(w.digest(r, m.stamp))
		}
		if w.t.n != len(model) || len(model) > 0 && w.t.find(w.t.hash([]byte(model[0].key)), []byte(model[0].key)) == 0 {
			t.Fatalf("step %d: %d entries, want %d", i, w.t.n, len(model))
		}
	}
	w.expire(stamp)
	if w.t.n != 0 || w.sum != (sum128{}) {
		t.Fatalf("%d entries left, sum %v", w.t.n, w.sum)
	}
	if w.bytes() > 4<<20 {
		t.Errorf("an empty window holds %d bytes", w.bytes())
	}
}

func TestSum128(t *testing.T) {
	var a, b sum128
	x, y := hash128(1, []byte("some row of a table")), hash128(2, []byte("some row of a table"))
	if x == y || x.lo == x.hi {
		t.Fatal("domains do not part")
	}
	for range 5 {
		a.add(x)
	}
	b.addTimes(x, 7)
	b.addTimes(x, -2)
	if a != b {
		t.Fatalf("%v, want %v", b, a)
	}
	a.addTimes(y, -3)
	b.sub(y)
	b.sub(y)
	b.sub(y)
	if a != b {
		t.Fatalf("%v, want %v", b, a)
	}
}
