package flow

import (
	"crypto/rand"
	"encoding/binary"
)

// secret is the key of a hash function from bytes to 64 bits: who does not know it cannot make keys that collide. It is made at random for each
// hash table and stored with it, because the places of the entries depend on it and pages of a table are stored as they are.
//
// The function multiplies and folds like wyhash: 16 bytes of key go into each product of 128 bits, with two words of the secret, and the
// halves of the product are xored. It is not a cryptographic hash; nothing but the place in a table may depend on it.
type secret [4]uint64

func newSecret() (s secret) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return s
}

func (s *secret) hash(key []byte) uint64 {
	n := len(key)
	h := s[0]
	var a, b uint64
	switch {
	case n > 16:
		if n > 32 {
			h = s.begin(key)
		} else {
			h = fold(binary.LittleEndian.Uint64(key)^s[1], binary.LittleEndian.Uint64(key[8:])^h)
		}
		end := key[n-16:]
		a, b = binary.LittleEndian.Uint64(end), binary.LittleEndian.Uint64(end[8:])
	case n >= 8:
		a, b = binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[n-8:])
	case n >= 4:
		a, b = uint64(binary.LittleEndian.Uint32(key)), uint64(binary.LittleEndian.Uint32(key[n-4:]))
	case n > 0:
		a = uint64(key[0])<<16 | uint64(key[n>>1])<<8 | uint64(key[n-1])
	}
	return fold(fold(a^s[1], b^h)^s[3], uint64(n)^s[2])
}

// begin hashes what is before the last 16 bytes of a key, which may be read twice.
func (s *secret) begin(key []byte) uint64 {
	h := s[0]
	if len(key) > 48 {
		g := s[3]
		for len(key) > 32 {
			h = fold(binary.LittleEndian.Uint64(key)^s[1], binary.LittleEndian.Uint64(key[8:])^h)
			g = fold(binary.LittleEndian.Uint64(key[16:])^s[2], binary.LittleEndian.Uint64(key[24:])^g)
			key = key[32:]
		}
		h ^= g
	}
	for len(key) > 16 {
		h = fold(binary.LittleEndian.Uint64(key)^s[1], binary.LittleEndian.Uint64(key[8:])^h)
		key = key[16:]
	}
	return h
}
