package expr

import (
	"cmp"
	"encoding/binary"
	"math/big"
	"math/bits"

	"laaster/internal/change"
)

// num is a numeric taken apart for arithmetic: ±coefficient × 10^-scale. The coefficient is hi·2^64+lo while that holds it
// (big is nil then), so that everyday numbers are computed on the stack.
type num struct {
	kind  change.NumericKind
	neg   bool
	scale int
	hi    uint64
	lo    uint64
	big   *big.Int // never below 2^128, never changed once set
}

func toNum(b []byte) num {
	d := change.DecodeNumeric(b)
	n := num{kind: d.Kind, neg: d.Neg, scale: d.Scale}
	if d.Kind != change.NumericFinite {
		return num{kind: d.Kind}
	}
	var ok bool
	if n.hi, n.lo, ok = d.Uint128(); !ok {
		n.big = d.Big()
	}
	return n
}

// appendNum appends the encoding of n, which is in range.
func appendNum(dst []byte, n *num) []byte {
	switch {
	case n.kind != change.NumericFinite:
		return change.AppendNumeric(dst, change.Numeric{Kind: n.kind})
	case n.big == nil:
		return change.AppendNumericUint128(dst, n.neg, n.hi, n.lo, n.scale)
	}
	be := n.big.Bytes()
	for i, j := 0, len(be)-1; i < j; i, j = i+1, j-1 {
		be[i], be[j] = be[j], be[i]
	}
	return change.AppendNumeric(dst, change.Numeric{Neg: n.neg, Scale: n.scale, Coef: be})
}

// value puts n into c's scratch memory, or says that it is out of range.
func (c *Ctx) value(n *num) (change.Value, error) {
	if err := n.check(); err != nil {
		return change.Value{}, err
	}
	from := len(c.scratch)
	c.scratch = appendNum(c.scratch, n)
	return c.made(from), nil
}

// check enforces the limits of numeric. Only big coefficients can break the first.
func (n *num) check() error {
	if n.scale > change.NumericMaxScale || n.big != nil && n.digitsBefore() > change.NumericMaxDigits {
		return evalErrorf(codeRange, "value overflows numeric format")
	}
	return nil
}

// digitsBefore returns the number of digits before the decimal point; 0 or less when there are none.
func (n *num) digitsBefore() int { return n.digits() - n.scale }

// digits returns the number of decimal digits of the coefficient, 0 for zero.
func (n *num) digits() int {
	if n.big != nil {
		return bigDigits(n.big)
	}
	return digits128(n.hi, n.lo)
}

func digits128(hi, lo uint64) int {
	if hi|lo == 0 {
		return 0
	}
	length := bits.Len64(lo)
	if hi != 0 {
		length = 64 + bits.Len64(hi)
	}
	d := (length*1233)>>12 + 1 // floor(length·log10 2) + 1, at most one too many
	if p := pow10(d - 1); d > 1 && less128(hi, lo, p.hi, p.lo) {
		d--
	}
	return d
}

// bigDigits returns the number of decimal digits of x > 0.
func bigDigits(x *big.Int) int {
	d := int(uint64(x.BitLen()-1) * 30103 / 100000) // never more than the true count minus one, and close to it
	for d > 0 && x.Cmp(bigPow10(d)) < 0 {
		d--
	}
	for x.Cmp(bigPow10(d)) >= 0 {
		d++
	}
	return d
}

func (n *num) isZero() bool {
	return n.kind == change.NumericFinite && n.big == nil && n.hi|n.lo == 0
}

// sign returns -1, 0 or 1; NaN counts as 1.
func (n *num) sign() int {
	switch {
	case n.kind == change.NumericNegInf, n.kind == change.NumericFinite && n.neg:
		return -1
	case n.isZero():
		return 0
	}
	return 1
}

// bigCoef returns the coefficient as a big integer that the caller must not change.
func (n *num) bigCoef() *big.Int {
	if n.big != nil {
		return n.big
	}
	return big128(n.hi, n.lo)
}

func big128(hi, lo uint64) *big.Int {
	z := new(big.Int).SetUint64(hi)
	return z.Or(z.Lsh(z, 64), new(big.Int).SetUint64(lo))
}

// setBig stores |x| as the coefficient and its sign, and takes x over.
func (n *num) setBig(x *big.Int) {
	n.neg = x.Sign() < 0
	if x.BitLen() > 128 {
		n.big, n.hi, n.lo = x.Abs(x), 0, 0
		return
	}
	var be [16]byte
	x.FillBytes(be[:])
	n.big, n.hi, n.lo = nil, binary.BigEndian.Uint64(be[:]), binary.BigEndian.Uint64(be[8:])
}

// intNum returns an integer.
func intNum(v int64) num {
	if v < 0 {
		return num{neg: true, lo: uint64(-v)} // right for MinInt64 too: its negation wraps to itself
	}
	return num{lo: uint64(v)}
}

// u128 is an unsigned 128-bit integer.
type u128 struct{ hi, lo uint64 }

func (a u128) shiftRight(n int) u128 {
	if n >= 64 {
		return u128{0, a.hi >> (n - 64)}
	}
	return u128{a.hi >> n, a.lo>>n | a.hi<<(64-n)}
}

// pow10 returns 10^k for 0 <= k <= 38.
func pow10(k int) u128 {
	if k < 20 {
		return u128{0, pow10Small[k]}
	}
	hi, lo := bits.Mul64(pow10Small[19], pow10Small[k-19])
	return u128{hi, lo}
}

var pow10Small = [20]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
	1e17, 1e18, 1e19}

func bigPow10(k int) *big.Int {
	if k <= 38 {
		p := pow10(k)
		return big128(p.hi, p.lo)
	}
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(k)), nil)
}

func less128(ahi, alo, bhi, blo uint64) bool { return ahi < bhi || ahi == bhi && alo < blo }

// mul128 multiplies; ok is false when the product needs more than 128 bits.
func mul128(a, b u128) (p u128, ok bool) {
	if a.hi != 0 && b.hi != 0 {
		return u128{}, false
	}
	if a.hi != 0 {
		a, b = b, a
	}
	// a < 2^64
	hi, lo := bits.Mul64(a.lo, b.lo)
	over, mid := bits.Mul64(a.lo, b.hi)
	hi, carry := bits.Add64(hi, mid, 0)
	return u128{hi, lo}, over|carry == 0
}

// div128 divides by d > 0 and returns quotient and remainder.
func div128(a u128, d uint64) (q u128, r uint64) {
	q.hi, r = a.hi/d, a.hi%d
	q.lo, r = bits.Div64(r, a.lo, d)
	return q, r
}

// scaleUp multiplies the coefficient by 10^k, k >= 0, and adds k to the scale.
func (n *num) scaleUp(k int) {
	if k == 0 {
		return
	}
	n.scale += k
	if n.big == nil && n.hi|n.lo == 0 {
		return
	}
	if n.big == nil && k <= 38 {
		if p, ok := mul128(u128{n.hi, n.lo}, pow10(k)); ok {
			n.hi, n.lo = p.hi, p.lo
			return
		}
	}
	neg := n.neg
	n.setBig(new(big.Int).Mul(n.bigCoef(), bigPow10(k)))
	n.neg = neg
}

// compareNum orders numerics as PostgreSQL does: -∞, numbers, ∞, NaN; all NaNs are equal.
func compareNum(a, b *num) int {
	if a.kind|b.kind != change.NumericFinite {
		return rankNum(a) - rankNum(b)
	}
	sa, sb := a.sign(), b.sign()
	if sa != sb || sa == 0 {
		return sa - sb
	}
	c := compareAbs(a, b)
	if sa < 0 {
		return -c
	}
	return c
}

// rankNum places the specials around the finite numbers.
func rankNum(n *num) int {
	switch n.kind {
	case change.NumericNegInf:
		return -1
	case change.NumericPosInf:
		return 1
	case change.NumericNaN:
		return 2
	}
	return 0
}

// compareAbs compares the magnitudes of two finite, nonzero numbers.
func compareAbs(a, b *num) int {
	if a.scale == b.scale && a.big == nil && b.big == nil {
		return compare128(a.hi, a.lo, b.hi, b.lo)
	}
	if da, db := a.digitsBefore(), b.digitsBefore(); da != db {
		return da - db
	}
	x, y := *a, *b
	if x.scale < y.scale {
		x.scaleUp(y.scale - x.scale)
	} else {
		y.scaleUp(x.scale - y.scale)
	}
	if x.big == nil && y.big == nil {
		return compare128(x.hi, x.lo, y.hi, y.lo)
	}
	return x.bigCoef().Cmp(y.bigCoef())
}

func compare128(ahi, alo, bhi, blo uint64) int {
	switch {
	case ahi == bhi && alo == blo:
		return 0
	case less128(ahi, alo, bhi, blo):
		return -1
	}
	return 1
}

// compareNumeric orders encoded numerics. Everyday numbers are compared without taking them apart.
func compareNumeric(a, b []byte) int {
	if x, sx, ok := smallNumeric(a); ok {
		if y, sy, ok := smallNumeric(b); ok {
			if sx < sy {
				x *= int64(pow10Small[sy-sx])
			} else {
				y *= int64(pow10Small[sx-sy])
			}
			return cmp.Compare(x, y)
		}
	}
	x, y := toNum(a), toNum(b)
	return compareNum(&x, &y)
}

// smallNumeric returns a number of at most 5 bytes of coefficient and 6 digits after the point: such numbers brought to one
// scale fit 64 bits.
func smallNumeric(b []byte) (coef int64, scale uint8, ok bool) {
	if len(b) == 0 || len(b) > 6 || b[0] >= 7<<2 || b[0]&2 != 0 {
		return 0, 0, false
	}
	for i := len(b) - 1; i > 0; i-- {
		coef = coef<<8 | int64(b[i])
	}
	if b[0]&1 == 1 {
		coef = -coef
	}
	return coef, b[0] >> 2, true
}
