package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// Structures alone: what a lookup, a change of a value, an insertion cost.

func benchTable(b *testing.B, n int) (*table, [][]byte) {
	t := newTable()
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = binary.BigEndian.AppendUint64([]byte{1}, uint64(i)*0x9e3779b97f4a7c15)
		clear(t.value(t.insert(t.hash(keys[i]), keys[i], 16)))
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	b.ResetTimer()
	return &t, keys
}

func benchFind(b *testing.B, n int) {
	t, keys := benchTable(b, n)
	sum := byte(0)
	for i := range b.N {
		key := keys[i%n]
		sum += t.value(t.find(t.hash(key), key))[0]
	}
	keys[0][0] += sum
}

func BenchmarkTableFind1k(b *testing.B)    { benchFind(b, 1000) }
func BenchmarkTableFind1000k(b *testing.B) { benchFind(b, 1_000_000) }

func BenchmarkTableMark1k(b *testing.B) {
	t, keys := benchTable(b, 1000)
	for i := range b.N {
		key := keys[i%len(keys)]
		r := t.find(t.hash(key), key)
		t.setMark(r, t.mark(r)+1)
	}
}

func BenchmarkTableInsert(b *testing.B) {
	t := newTable()
	var key [9]byte
	for i := range b.N {
		if i%1_000_000 == 0 {
			t = newTable()
		}
		binary.BigEndian.PutUint64(key[1:], uint64(i)*0x9e3779b97f4a7c15)
		t.insert(t.hash(key[:]), key[:], 16)
	}
}

func BenchmarkTreeAdd(b *testing.B) {
	t := newTree()
	rnd := rand.New(rand.NewPCG(1, 1))
	key := make([]byte, 16)
	for i := range b.N + 100_000 {
		if i == 100_000 {
			b.ResetTimer()
		}
		binary.BigEndian.PutUint64(key[8:], uint64(rnd.IntN(100_000)))
		t.add(key, nil, 1)
	}
}

func BenchmarkTreeSeek(b *testing.B) {
	t := newTree()
	key := make([]byte, 16)
	for i := range 100_000 {
		binary.BigEndian.PutUint64(key[8:], uint64(i))
		t.add(key, nil, 1)
	}
	b.ResetTimer()
	for i := range b.N {
		binary.BigEndian.PutUint64(key[8:], uint64(i*7919%100_000))
		c := t.seek(key)
		key[0] = c.key()[0]
	}
}

func BenchmarkWindow(b *testing.B) {
	w := newWindow(domainSeen, 0)
	key := make([]byte, 20)
	for i := range b.N {
		binary.BigEndian.PutUint64(key[4:], uint64(i)*0x9e3779b97f4a7c15)
		w.insert(w.t.hash(key), key, 0, int64(i/500))
		if i%500 == 499 {
			w.expire(int64(i/500 - 200))
		}
	}
}
