package flow

import (
	"encoding/binary"
	"math/bits"
)

// sum128 is an order-independent hash of a multiset: the sum, modulo 2^128, of a 128-bit hash of each member. Members can
// be taken out again, so it follows state that grows and shrinks at the price of one hash per change.
type sum128 struct{ lo, hi uint64 }

func (s *sum128) add(h sum128) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, h.lo, 0)
	s.hi, _ = bits.Add64(s.hi, h.hi, carry)
}

func (s *sum128) sub(h sum128) {
	var borrow uint64
	s.lo, borrow = bits.Sub64(s.lo, h.lo, 0)
	s.hi, _ = bits.Sub64(s.hi, h.hi, borrow)
}

// addTimes adds h w times; w may be negative.
func (s *sum128) addTimes(h sum128, w int64) {
	n := uint64(w)
	if w < 0 {
		n = uint64(-w)
	}
	hi, lo := bits.Mul64(h.lo, n)
	p := sum128{lo, hi + h.hi*n}
	if w < 0 {
		s.sub(p)
	} else {
		s.add(p)
	}
}

// Odd constants with as many ones as zeros, from the fraction of pi.
const (
	mixA = 0x243f6a8885a308d3
	mixB = 0x13198a2e03707345
	mixC = 0xa4093822299f31d1
	mixD = 0x082efa98ec4e6c89
)

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hash128 hashes b under a domain: equal bytes in different relations hash apart. The function is part of what a
// fingerprint means: changing it makes fingerprints of different versions incomparable.
func hash128(domain uint64, b []byte) sum128 {
	x, y := domain^mixA, uint64(len(b))^mixB
	for len(b) > 16 {
		p, q := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		x = fold(x^p^mixC, q^mixD) + y
		y = fold(y^q^mixA, p^mixB) ^ bits.RotateLeft64(x, 29)
		b = b[16:]
	}
	var tail [16]byte
	copy(tail[:], b)
	p, q := binary.LittleEndian.Uint64(tail[:]), binary.LittleEndian.Uint64(tail[8:])
	x = fold(x^p^mixB, q^mixC) + y
	y = fold(y^q^mixD, p^mixA) ^ bits.RotateLeft64(x, 29)
	return sum128{fold(x^mixD, y^mixC) ^ x, fold(y^mixB, x^mixA) ^ y}
}

// Domains of hash128. Relations use what domainOf makes of their identity.
const (
	domainSeen = 1<<32 + iota
	domainRequest
	domainState
	domainError
	domainIdentity
	domainQueue
	domainAudit
	domainProducer
)

// domainOf returns the domain for the rows of the relation with this identity.
func domainOf(identity string) uint64 { return hash128(domainIdentity, []byte(identity)).lo }
