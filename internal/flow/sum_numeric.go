package flow

import (
	"encoding/binary"
	"math/big"
	"math/bits"
	"slices"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// numericSum is sum and avg of numeric, exact. As in PostgreSQL the sum shows as many digits behind the point as the value
// with the most of them, so the state also counts the values of each scale.
//
// The state is how many values there are and the ref of a block, 0 until one is there:
//
//	24 bytes   how many are NaN, Infinity, -Infinity
//	2 bytes    scale: the words count units of 10^-scale; the largest scale that ever was there
//	2 bytes    how many scales are listed
//	4 bytes    n: number of words; the last one is only the sign (0 or all ones)
//	n words    of 64 bits, two's complement
//	10 bytes   per scale: the scale (2 bytes) and how many values have it
type numericSum struct{ slab slab }

const (
	numericHead  = 32
	scaleEntry   = 10
	numericWords = 3 // of a new block: 128 bits and the sign
)

func (*numericSum) fixed() int { return 16 }

func (s *numericSum) add(_ ref, state []byte, v change.Value, w int64) {
	n := change.DecodeNumeric(v.B)
	s.addNumber(state, &n, w)
}

// addNumber is add for a numeric that was taken apart.
func (s *numericSum) addNumber(state []byte, n *change.Numeric, w int64) {
	putInt(state, getInt(state)+w)
	b := s.block(state)
	if n.Kind != change.NumericFinite {
		at := b[8*(n.Kind-change.NumericNaN):]
		putInt(at, getInt(at)+w)
		return
	}
	s.countScale(state, n.Scale, w)
	b = s.block(state)
	if getInt(state) == w { // nothing else is there: the words are zero, in whatever unit
		binary.LittleEndian.PutUint16(b[24:], uint16(n.Scale))
	}
	scale := int(binary.LittleEndian.Uint16(b[24:]))
	hi, lo, ok := n.Uint128()
	for i := n.Scale; i < scale && ok; i++ {
		hi, lo, ok = timesSmall(hi, lo, 10, ok)
	}
	hi, lo, ok = timesSmall(hi, lo, magnitude(w), ok)
	if !ok || n.Scale > scale {
		s.addBig(state, n, w)
		return
	}
	count := int(binary.LittleEndian.Uint32(b[28:]))
	words := b[numericHead : numericHead+8*count]
	part := [2]uint64{lo, hi}
	if n.Neg != (w < 0) {
		subWords(words, part[:])
	} else {
		addWords(words, part[:])
	}
	if top := getWord(words, count-1); top != 0 && top != ^uint64(0) {
		s.store(state, s.load(b), scale)
	}
}

// timesSmall multiplies 128 bits by m; ok turns false when the product has more.
func timesSmall(hi, lo, m uint64, ok bool) (uint64, uint64, bool) {
	if m == 1 {
		return hi, lo, ok
	}
	over, h := bits.Mul64(hi, m)
	c, l := bits.Mul64(lo, m)
	h, carry := bits.Add64(h, c, 0)
	return h, l, ok && over == 0 && carry == 0
}

// addBig is add for what does not fit 128 bits, and for a scale larger than the block's.
func (s *numericSum) addBig(state []byte, n *change.Numeric, w int64) {
	b := s.block(state)
	sum, scale := s.load(b), int(binary.LittleEndian.Uint16(b[24:]))
	x := new(big.Int).Mul(n.Big(), big.NewInt(w))
	if n.Neg {
		x.Neg(x)
	}
	if n.Scale > scale {
		sum.Mul(sum, tenTo(n.Scale-scale))
		scale = n.Scale
	} else {
		x.Mul(x, tenTo(scale-n.Scale))
	}
	s.store(state, sum.Add(sum, x), scale)
}

// littleBytes returns the magnitude of x as a numeric's coefficient.
func littleBytes(x *big.Int) []byte {
	b := x.Bytes()
	slices.Reverse(b)
	return b
}

func tenTo(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// load reads the words.
func (s *numericSum) load(b []byte) *big.Int {
	n := int(binary.LittleEndian.Uint32(b[28:]))
	return bigOfWords(b[numericHead : numericHead+8*n])
}

// bigOfWords reads a number in two's complement.
func bigOfWords(words []byte) *big.Int {
	be := slices.Clone(words)
	slices.Reverse(be)
	x := new(big.Int).SetBytes(be)
	if len(be) > 0 && be[0]&0x80 != 0 {
		x.Sub(x, new(big.Int).Lsh(big.NewInt(1), uint(8*len(be))))
	}
	return x
}

// exact returns the sum in units of 10^-scale, scale being the largest of the values that are there. It must not have special values.
func (s *numericSum) exact(state []byte) (sum *big.Int, scale int) {
	b := s.at(state)
	at, words := int(binary.LittleEndian.Uint16(b[24:])), int(binary.LittleEndian.Uint32(b[28:]))
	list := b[numericHead+8*words:][:scaleEntry*int(binary.LittleEndian.Uint16(b[26:]))]
	for i := 0; i < len(list); i += scaleEntry {
		scale = max(scale, int(binary.LittleEndian.Uint16(list[i:])))
	}
	sum = s.load(b)
	return sum.Quo(sum, tenTo(at-scale)), scale // digits beyond the scale are zeros: nothing in the sum has them
}

// specials returns how many values are NaN or infinite.
func (s *numericSum) specials(state []byte) int64 {
	b := s.at(state)
	return getInt(b) + getInt(b[8:]) + getInt(b[16:])
}

// store makes x the words of the block, with a word more than it needs for the sign.
func (s *numericSum) store(state []byte, x *big.Int, scale int) {
	b := s.block(state)
	scales := slices.Clone(b[numericHead+8*binary.LittleEndian.Uint32(b[28:]):][:scaleEntry*int(binary.LittleEndian.Uint16(b[26:]))])
	n := max(numericWords, (x.BitLen()+63)/64+1)
	b = s.resize(state, n, len(scales)/scaleEntry)
	binary.LittleEndian.PutUint16(b[24:], uint16(scale))
	if x.Sign() < 0 {
		x.Add(x, new(big.Int).Lsh(big.NewInt(1), uint(64*n)))
	}
	words := b[numericHead : numericHead+8*n]
	x.FillBytes(words)
	slices.Reverse(words)
	copy(b[numericHead+8*n:], scales)
}

// countScale notes that w more values have this scale.
func (s *numericSum) countScale(state []byte, scale int, w int64) {
	b := s.block(state)
	words, scales := int(binary.LittleEndian.Uint32(b[28:])), int(binary.LittleEndian.Uint16(b[26:]))
	list := b[numericHead+8*words:][:scaleEntry*scales]
	for i := 0; i < len(list); i += scaleEntry {
		if int(binary.LittleEndian.Uint16(list[i:])) != scale {
			continue
		}
		n := getInt(list[i+2:]) + w
		putInt(list[i+2:], n)
		if n == 0 {
			copy(list[i:], list[i+scaleEntry:])
			s.resize(state, words, scales-1)
		}
		return
	}
	b = s.resize(state, words, scales+1)
	entry := b[numericHead+8*words+scaleEntry*scales:]
	binary.LittleEndian.PutUint16(entry, uint16(scale))
	putInt(entry[2:], w)
}

// at returns the block of a group that has values, to be read.
func (s *numericSum) at(state []byte) []byte { return s.slab.at(ref(getInt(state[8:]))) }

// block returns the group's block from its start to be written, and makes an empty one if there is none.
func (s *numericSum) block(state []byte) []byte {
	r := ref(getInt(state[8:]))
	if r == 0 {
		r = s.slab.alloc(numericHead + 8*numericWords)
		b := s.slab.edit(r)[:numericHead+8*numericWords]
		clear(b)
		binary.LittleEndian.PutUint32(b[28:], numericWords)
		putInt(state[8:], int64(r))
	}
	return s.slab.edit(r)
}

// resize gives the block room for so many words and scales, and keeps as many bytes of it as fit.
func (s *numericSum) resize(state []byte, words, scales int) []byte {
	r := ref(getInt(state[8:]))
	b := s.slab.edit(r)
	old := numericHead + 8*int(binary.LittleEndian.Uint32(b[28:])) + scaleEntry*int(binary.LittleEndian.Uint16(b[26:]))
	size := numericHead + 8*words + scaleEntry*scales
	if !fits(old, size) {
		to := s.slab.alloc(size)
		b = s.slab.at(r)
		copy(s.slab.edit(to)[:size], b[:min(old, size)])
		s.slab.release(r)
		putInt(state[8:], int64(to))
		b = s.slab.edit(to)
	}
	binary.LittleEndian.PutUint16(b[26:], uint16(scales))
	binary.LittleEndian.PutUint32(b[28:], uint32(words))
	return b
}

func (s *numericSum) result(x *exec, _ ref, state []byte) (change.Value, error) {
	if getInt(state) == 0 {
		return change.Null(), nil
	}
	b := s.at(state)
	nan, plus, minus := getInt(b), getInt(b[8:]), getInt(b[16:])
	kind := change.NumericFinite
	switch {
	case nan > 0 || plus > 0 && minus > 0:
		kind = change.NumericNaN
	case plus > 0:
		kind = change.NumericPosInf
	case minus > 0:
		kind = change.NumericNegInf
	}
	if kind != change.NumericFinite {
		return x.made(func(dst []byte) []byte { return change.AppendNumeric(dst, change.Numeric{Kind: kind}) }), nil
	}
	return s.finite(x, state)
}

func (s *numericSum) average(x *exec, group ref, state []byte) (change.Value, error) {
	sum, err := s.result(x, group, state)
	if err != nil || sum.Null {
		return sum, err
	}
	return x.made(func(dst []byte) []byte { return expr.AppendAverage(dst, sum.B, getInt(state)) }), nil
}

// finite returns the sum at the largest scale of the values that are there now.
func (s *numericSum) finite(x *exec, state []byte) (change.Value, error) {
	b := s.at(state)
	at, words := int(binary.LittleEndian.Uint16(b[24:])), int(binary.LittleEndian.Uint32(b[28:]))
	scale := 0
	list := b[numericHead+8*words:][:scaleEntry*int(binary.LittleEndian.Uint16(b[26:]))]
	for i := 0; i < len(list); i += scaleEntry {
		scale = max(scale, int(binary.LittleEndian.Uint16(list[i:])))
	}
	if scale == at && words == numericWords {
		lo, hi := getWord(b[numericHead:], 0), getWord(b[numericHead:], 1)
		neg := getWord(b[numericHead:], 2) != 0
		if neg {
			var c uint64
			lo, c = bits.Sub64(0, lo, 0)
			hi, _ = bits.Sub64(0, hi, c)
		}
		if !neg || hi|lo != 0 { // -2^128 is left to the general way
			return x.made(func(dst []byte) []byte { return change.AppendNumericUint128(dst, neg, hi, lo, scale) }), nil
		}
	}
	sum, _ := s.exact(state)
	n := change.Numeric{Neg: sum.Sign() < 0, Scale: scale, Coef: littleBytes(sum)}
	if len(n.Coef) > change.NumericMaxDigits/3 && len(n.AppendDigits(nil)) > change.NumericMaxDigits+scale {
		return change.Null(), &expr.EvalError{Code: "numeric_value_out_of_range", Msg: "value overflows numeric format"}
	}
	return x.made(func(dst []byte) []byte { return change.AppendNumeric(dst, n) }), nil
}

func (s *numericSum) free(_ ref, state []byte) {
	if r := ref(getInt(state[8:])); r != 0 {
		s.slab.release(r)
	}
}

func (s *numericSum) bytes() int { return s.slab.bytes }

func (s *numericSum) state(k *keeper) { k.slab(&s.slab) }
