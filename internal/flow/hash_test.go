package flow

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// Every byte and the length count, and each bit of a key changes about half of the bits of the hash, those that say the segment and the slot
// as well as the others.
func TestHash(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	s := newSecret()
	if other := newSecret(); other == s || other.hash([]byte("a key")) == s.hash([]byte("a key")) {
		t.Fatal("two secrets are one")
	}
	seen := map[uint64]int{}
	for n := range 200 {
		key := make([]byte, n)
		if old, ok := seen[s.hash(key)]; ok {
			t.Fatalf("%d and %d bytes of zeros hash alike", n, old)
		}
		seen[s.hash(key)] = n
		for i := range key {
			key[i] = byte(rnd.Uint32())
		}
		h := s.hash(key)
		flips, high, low := 0, 0, 0
		for i := range 8 * n {
			key[i/8] ^= 1 << (i % 8)
			d := s.hash(key) ^ h
			key[i/8] ^= 1 << (i % 8)
			if d == 0 {
				t.Fatalf("bit %d of %d bytes does not count", i, n)
			}
			flips += bits.OnesCount64(d)
			high += bits.OnesCount64(d >> 44)
			low += bits.OnesCount64(d & slotTagMask)
		}
		if n < 8 {
			continue
		}
		for _, part := range [][2]int{{flips, 64}, {high, 20}, {low, 24}} {
			if mean := float64(part[0]) / float64(8*n); mean < 0.45*float64(part[1]) || mean > 0.55*float64(part[1]) {
				t.Fatalf("a flip in %d bytes changes %.1f of %d bits", n, mean, part[1])
			}
		}
	}
}

// Keys that count up, as primary keys do, spread over the slots like random ones.
func TestHashOfCounters(t *testing.T) {
	for _, n := range []int{4, 8, 12, 16, 21, 40, 100} {
		s := newSecret()
		const buckets, each = 1 << 12, 16
		for _, shift := range []int{0, 52} {
			var load [buckets]int
			key := make([]byte, n)
			for i := range uint32(buckets * each) {
				binary.BigEndian.PutUint32(key[n-4:], i)
				load[s.hash(key)>>shift%buckets]++
			}
			most, square := 0, 0.0
			for _, l := range load {
				most = max(most, l)
				square += float64((l - each) * (l - each))
			}
			if chi := square / each / buckets; chi < 0.85 || chi > 1.15 || most > 3*each {
				t.Errorf("%d bytes, bits from %d: chi squared per bucket is %.2f, the fullest has %d", n, shift, chi, most)
			}
		}
	}
}

func BenchmarkHash(b *testing.B) {
	for _, n := range []int{4, 8, 16, 21, 40, 200} {
		keys := make([]byte, 1024+n)
		s := newSecret()
		b.Run(fmt.Sprintf("own/%d", n), func(b *testing.B) {
			sum := uint64(0)
			for i := range b.N {
				sum += s.hash(keys[i&1023:][:n])
			}
			keys[0] = byte(sum)
		})
		seed := maphash.MakeSeed()
		b.Run(fmt.Sprintf("maphash/%d", n), func(b *testing.B) {
			sum := uint64(0)
			for i := range b.N {
				sum += maphash.Bytes(seed, keys[i&1023:][:n])
			}
			keys[0] = byte(sum)
		})
	}
}
