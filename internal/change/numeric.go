package change

import (
	"encoding/binary"
	"math/big"
	"math/bits"
	"strconv"
)

// NumericKind tells the finite numerics from the three special ones.
type NumericKind uint8

// The kinds of numerics.
const (
	NumericFinite NumericKind = iota
	NumericNaN
	NumericPosInf
	NumericNegInf
)

// The limits of numeric, which are PostgreSQL's.
const (
	NumericMaxDigits = 131072 // before the decimal point
	NumericMaxScale  = 16383  // after it
)

// Numeric is one numeric taken apart: Coef × 10^-Scale. Scale is also the display scale: 1.50 and 1.5 are equal numbers
// with different scales, and both keep theirs.
//
// Its encoding, which [Value.B] holds:
//
//	uvarint   scale*4 + kind: 0 zero or positive, 1 negative, 2 special (then scale is 0 for NaN, 1 for +∞, 2 for -∞)
//	rest      the coefficient, little-endian, without high zero bytes; nothing for 0 and for specials
//
// so that the everyday number takes one byte and its coefficient. Zero is never negative.
type Numeric struct {
	Kind  NumericKind
	Neg   bool
	Scale int
	Coef  []byte // as encoded; aliases what was decoded
}

// DecodeNumeric takes b apart. Bytes that no encoder makes decode to NaN; it never fails.
func DecodeNumeric(b []byte) Numeric {
	h, n := uint64(0), 1
	switch {
	case len(b) == 0:
		return Numeric{Kind: NumericNaN}
	case b[0] < 0x80:
		h = uint64(b[0])
	default:
		if h, n = binary.Uvarint(b); n <= 0 || h>>2 > NumericMaxScale {
			return Numeric{Kind: NumericNaN}
		}
	}
	switch h & 3 {
	case 0, 1:
		return Numeric{Neg: h&1 == 1, Scale: int(h >> 2), Coef: b[n:]}
	}
	switch h {
	case 1<<2 | 2:
		return Numeric{Kind: NumericPosInf}
	case 2<<2 | 2:
		return Numeric{Kind: NumericNegInf}
	}
	return Numeric{Kind: NumericNaN}
}

// AppendNumeric appends the encoding of n. Coef may have high zero bytes.
func AppendNumeric(dst []byte, n Numeric) []byte {
	switch n.Kind {
	case NumericNaN:
		return append(dst, 2)
	case NumericPosInf:
		return append(dst, 1<<2|2)
	case NumericNegInf:
		return append(dst, 2<<2|2)
	}
	coef := n.Coef
	for len(coef) > 0 && coef[len(coef)-1] == 0 {
		coef = coef[:len(coef)-1]
	}
	return append(appendNumericHead(dst, n.Scale, n.Neg && len(coef) > 0), coef...)
}

// AppendNumericUint128 appends the encoding of ±(hi·2^64 + lo) × 10^-scale.
func AppendNumericUint128(dst []byte, neg bool, hi, lo uint64, scale int) []byte {
	dst = appendNumericHead(dst, scale, neg && hi|lo != 0)
	if hi == 0 {
		for ; lo != 0; lo >>= 8 {
			dst = append(dst, byte(lo))
		}
		return dst
	}
	dst = binary.LittleEndian.AppendUint64(dst, lo)
	for ; hi != 0; hi >>= 8 {
		dst = append(dst, byte(hi))
	}
	return dst
}

func appendNumericHead(dst []byte, scale int, neg bool) []byte {
	h := uint64(scale) << 2
	if neg {
		h |= 1
	}
	return binary.AppendUvarint(dst, h)
}

// Uint128 returns the coefficient as hi·2^64 + lo; ok is false when it needs more than 128 bits.
func (n *Numeric) Uint128() (hi, lo uint64, ok bool) {
	c := n.Coef
	if len(c) > 16 {
		return 0, 0, false
	}
	if len(c) > 8 {
		return littleUint(c[8:]), binary.LittleEndian.Uint64(c), true
	}
	return 0, littleUint(c), true
}

func littleUint(b []byte) uint64 {
	var n uint64
	for i := len(b) - 1; i >= 0; i-- {
		n = n<<8 | uint64(b[i])
	}
	return n
}

// Big returns the coefficient as a new big integer.
func (n *Numeric) Big() *big.Int {
	be := make([]byte, len(n.Coef))
	for i, c := range n.Coef {
		be[len(be)-1-i] = c
	}
	return new(big.Int).SetBytes(be)
}

// AppendDigits appends the decimal digits of the coefficient, "0" for zero.
func (n *Numeric) AppendDigits(dst []byte) []byte {
	hi, lo, ok := n.Uint128()
	if !ok {
		return n.Big().Append(dst, 10)
	}
	return AppendUint128(dst, hi, lo)
}

// AppendUint128 appends the decimal digits of hi·2^64 + lo.
func AppendUint128(dst []byte, hi, lo uint64) []byte {
	if hi == 0 {
		return strconv.AppendUint(dst, lo, 10)
	}
	const e19 = 10_000_000_000_000_000_000
	qhi, r := hi/e19, hi%e19
	qlo, rest := bits.Div64(r, lo, e19)
	dst = AppendUint128(dst, qhi, qlo)
	at := len(dst)
	dst = append(dst, "0000000000000000000"...)
	for i := at + 18; rest != 0; i-- {
		dst[i] += byte(rest % 10)
		rest /= 10
	}
	return dst
}
