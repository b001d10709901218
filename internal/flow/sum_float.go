package flow

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// floatSum is sum and avg of double precision, exact: rounded once, when it is read, so that neither the order of the
// values nor what came and went shows.
//
// The state is how many values there are and the ref of a block, 0 until one is there. The block is a fixed-point number in
// two's complement, cut down to the words that the values reach, since one that holds every double takes 280 bytes and the
// values of one group mostly reach three words:
//
//	24 bytes  how many are NaN, +Infinity, -Infinity
//	2 bytes   base: which word the first one is; word 0 begins at 2^-1074
//	2 bytes   n: number of words; the last one is only the sign (0 or all ones)
//	4 bytes   unused
//	n words   of 64 bits
type floatSum struct{ slab slab }

const (
	floatHead  = 32
	floatWords = (2046+52+64)/64 + 3
	floatBias  = 1074
)

func (*floatSum) fixed() int { return 16 }

func (f *floatSum) add(_ ref, state []byte, v change.Value, w int64) {
	putInt(state, getInt(state)+w)
	x := v.Float()
	b := f.block(state)
	switch {
	case math.IsNaN(x):
		putInt(b, getInt(b)+w)
		return
	case math.IsInf(x, 1):
		putInt(b[8:], getInt(b[8:])+w)
		return
	case math.IsInf(x, -1):
		putInt(b[16:], getInt(b[16:])+w)
		return
	case x == 0:
		return
	}
	mantissa, exponent := floatParts(x)
	hi, lo := bits.Mul64(mantissa, magnitude(w))
	at, off := (exponent-1)/64, uint(exponent-1)%64
	part := [3]uint64{lo << off, hi<<off | lo>>1>>(63-off), hi >> 1 >> (63 - off)}
	n := 3
	for n > 1 && part[n-1] == 0 {
		n--
	}
	f.accumulate(state, at, part[:n], (x < 0) != (w < 0))
}

// accumulate adds part, or takes it away, from word at on.
func (f *floatSum) accumulate(state []byte, at int, part []uint64, minus bool) {
	words := f.reach(state, at, at+len(part)+1)
	if minus {
		subWords(words, part)
	} else {
		addWords(words, part)
	}
	if top := getWord(words, len(words)/8-1); top != 0 && top != ^uint64(0) {
		f.widen(state, 0, 1)
	}
}

// addSquare is add of x² in units of 2^-2148; x must be finite.
func (f *floatSum) addSquare(state []byte, x float64, w int64) {
	putInt(state, getInt(state)+w)
	if x == 0 {
		return
	}
	mantissa, exponent := floatParts(x)
	hi, lo := bits.Mul64(mantissa, mantissa)
	top, mid := bits.Mul64(hi, magnitude(w))
	carry, low := bits.Mul64(lo, magnitude(w))
	mid, c := bits.Add64(mid, carry, 0)
	top += c
	at, off := 2*(exponent-1)/64, uint(2*(exponent-1))%64
	part := [4]uint64{low << off, mid<<off | low>>1>>(63-off), top<<off | mid>>1>>(63-off), top >> 1 >> (63 - off)}
	n := 4
	for n > 1 && part[n-1] == 0 {
		n--
	}
	f.accumulate(state, at, part[:n], w < 0)
}

// floatParts returns x > 0 or x < 0 as mantissa·2^(exponent-1-1074).
func floatParts(x float64) (mantissa uint64, exponent int) {
	raw := math.Float64bits(x)
	exponent, mantissa = int(raw>>52)&0x7ff, raw&(1<<52-1)
	if exponent == 0 {
		return mantissa, 1
	}
	return mantissa | 1<<52, exponent
}

// exact returns the number in units of the first word's lowest bit were the base 0. It must not have special values.
func (f *floatSum) exact(state []byte) *big.Int {
	r := ref(getInt(state[8:]))
	if r == 0 { // squares of zeros
		return new(big.Int)
	}
	b := f.slab.at(r)
	base, n := int(binary.LittleEndian.Uint16(b[24:])), int(binary.LittleEndian.Uint16(b[26:]))
	x := bigOfWords(b[floatHead : floatHead+8*n])
	return x.Lsh(x, uint(64*base))
}

func magnitude(w int64) uint64 {
	if w < 0 {
		return uint64(-w)
	}
	return uint64(w)
}

func getWord(b []byte, i int) uint64    { return binary.LittleEndian.Uint64(b[8*i:]) }
func putWord(b []byte, i int, w uint64) { binary.LittleEndian.PutUint64(b[8*i:], w) }

// addWords adds part to words, which are longer.
func addWords(words []byte, part []uint64) {
	var c uint64
	for i := 0; 8*i < len(words); i++ {
		var p, s uint64
		if i < len(part) {
			p = part[i]
		} else if c == 0 {
			return
		}
		s, c = bits.Add64(getWord(words, i), p, c)
		putWord(words, i, s)
	}
}

func subWords(words []byte, part []uint64) {
	var c uint64
	for i := 0; 8*i < len(words); i++ {
		var p, s uint64
		if i < len(part) {
			p = part[i]
		} else if c == 0 {
			return
		}
		s, c = bits.Sub64(getWord(words, i), p, c)
		putWord(words, i, s)
	}
}

// block returns the group's block from its start to be written, and makes an empty one if there is none.
func (f *floatSum) block(state []byte) []byte {
	r := ref(getInt(state[8:]))
	if r == 0 {
		r = f.slab.alloc(floatHead)
		clear(f.slab.edit(r)[:floatHead])
		putInt(state[8:], int64(r))
	}
	return f.slab.edit(r)
}

// reach makes the block's words cover those from at up to end, and returns them from at on.
func (f *floatSum) reach(state []byte, at, end int) []byte {
	b := f.block(state)
	base, n := int(binary.LittleEndian.Uint16(b[24:])), int(binary.LittleEndian.Uint16(b[26:]))
	if n == 0 {
		base = at
		binary.LittleEndian.PutUint16(b[24:], uint16(at))
	}
	down, up := max(0, base-at), max(0, end-base-n)
	if down > 0 || up > 0 {
		b = f.widen(state, down, up)
		base, n = base-down, n+down+up
	}
	return b[floatHead+8*(at-base) : floatHead+8*n]
}

// widen gives the number more words at both ends without changing its value.
func (f *floatSum) widen(state []byte, down, up int) []byte {
	r := ref(getInt(state[8:]))
	b := f.slab.at(r)
	base, n := int(binary.LittleEndian.Uint16(b[24:])), int(binary.LittleEndian.Uint16(b[26:]))
	to := f.slab.alloc(floatHead + 8*(n+down+up))
	b = f.slab.at(r)
	c := f.slab.edit(to)
	copy(c, b[:floatHead])
	binary.LittleEndian.PutUint16(c[24:], uint16(base-down))
	binary.LittleEndian.PutUint16(c[26:], uint16(n+down+up))
	words := c[floatHead:]
	clear(words[:8*down])
	copy(words[8*down:], b[floatHead:floatHead+8*n])
	sign := uint64(0)
	if n > 0 && int64(getWord(b[floatHead:], n-1)) < 0 {
		sign = ^sign
	}
	for i := n + down; i < n+down+up; i++ {
		putWord(words, i, sign)
	}
	f.slab.release(r)
	putInt(state[8:], int64(to))
	return c
}

func (f *floatSum) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	count := getInt(state)
	if count == 0 {
		return change.Null(), nil
	}
	b := f.slab.at(ref(getInt(state[8:])))
	nan, plus, minus := getInt(b), getInt(b[8:]), getInt(b[16:])
	switch {
	case nan > 0 || plus > 0 && minus > 0:
		return change.Float(math.NaN()), nil
	case plus > 0:
		return change.Float(math.Inf(1)), nil
	case minus > 0:
		return change.Float(math.Inf(-1)), nil
	}
	base, n := int(binary.LittleEndian.Uint16(b[24:])), int(binary.LittleEndian.Uint16(b[26:]))
	x := roundWords(b[floatHead:floatHead+8*n], base)
	if math.IsInf(x, 0) {
		return change.Null(), &expr.EvalError{Code: "numeric_value_out_of_range", Msg: "value out of range: overflow"}
	}
	return change.Float(x), nil
}

func (f *floatSum) average(x *exec, group ref, state []byte) (change.Value, error) {
	v, err := f.result(x, group, state)
	if err != nil || v.Null {
		return v, err
	}
	return change.Float(v.Float() / float64(getInt(state))), nil
}

// roundWords returns the double nearest to the number, ties to even.
func roundWords(words []byte, base int) float64 {
	var mag [floatWords + 2]uint64
	n := len(words) / 8
	for i := range n {
		mag[i] = getWord(words, i)
	}
	negative := n > 0 && int64(mag[n-1]) < 0
	if negative {
		c := uint64(1)
		for i := range n {
			mag[i], c = bits.Add64(^mag[i], 0, c)
		}
	}
	top := n - 1
	for top >= 0 && mag[top] == 0 {
		top--
	}
	if top < 0 {
		return 0
	}
	// The highest 64 bits, and whether anything is below them.
	lead := uint(bits.Len64(mag[top]))
	word, below := mag[top]<<(64-lead), uint64(0)
	if top > 0 {
		word |= mag[top-1] >> lead
		below = mag[top-1] << (64 - lead)
	}
	for i := top - 2; i >= 0; i-- {
		below |= mag[i]
	}
	exponent := 64*(base+top-1) + int(lead) - floatBias // the number is word·2^exponent and a little
	drop := uint(max(11, -floatBias-exponent))
	kept, half, rest := word>>drop, word>>(drop-1)&1, word<<(64-drop)<<1|below
	if half == 1 && (rest != 0 || kept&1 == 1) {
		kept++
	}
	x := math.Ldexp(float64(kept), exponent+int(drop))
	if negative {
		return -x
	}
	return x
}

func (f *floatSum) free(_ ref, state []byte) {
	if r := ref(getInt(state[8:])); r != 0 {
		f.slab.release(r)
	}
}

func (f *floatSum) bytes() int { return f.slab.bytes }

func (f *floatSum) state(k *keeper) { k.slab(&f.slab) }
