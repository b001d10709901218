package expr

import (
	"math/bits"

	"laaster/internal/change"
)

// mediumNumeric returns a number of at most 7 bytes of coefficient and 31 digits after the point without taking it apart.
func mediumNumeric(b []byte) (coef int64, scale int, ok bool) {
	if len(b) == 0 || len(b) > 8 || b[0] >= 32<<2 || b[0]&2 != 0 {
		return 0, 0, false
	}
	for i := len(b) - 1; i > 0; i-- {
		coef = coef<<8 | int64(b[i])
	}
	if b[0]&1 == 1 {
		coef = -coef
	}
	return coef, int(b[0] >> 2), true
}

// small puts ±n × 10^-scale into scratch memory.
func (c *Ctx) small(n int64, scale int) change.Value {
	from := len(c.scratch)
	c.scratch = change.AppendNumericUint128(c.scratch, n < 0, 0, absInt64(n), scale)
	return c.made(from)
}

// addNumeric is a + b, or a - b when sign is -1. Everyday numbers are added as integers.
func addNumeric(sign int64) func(c *Ctx, a, b change.Value) (change.Value, error) {
	return func(c *Ctx, a, b change.Value) (change.Value, error) {
		x, sx, ok1 := mediumNumeric(a.B)
		y, sy, ok2 := mediumNumeric(b.B)
		if ok1 && ok2 {
			var fits bool
			if sx < sy {
				x, fits = timesPow10(x, sy-sx)
			} else {
				y, fits = timesPow10(y, sx-sy)
			}
			if fits {
				if sum, ok := addInt64(x, sign*y); ok {
					return c.small(sum, max(sx, sy)), nil
				}
			}
		}
		m, n := toNum(a.B), toNum(b.B)
		if sign < 0 {
			n = negNum(n)
		}
		r := addNum(m, n)
		return c.value(&r)
	}
}

func timesPow10(n int64, k int) (int64, bool) {
	if k == 0 {
		return n, true
	}
	if k >= len(pow10Small)-1 {
		return 0, n == 0
	}
	return mulInt64(n, int64(pow10Small[k]))
}

// mulNumeric is a × b.
func mulNumeric(c *Ctx, a, b change.Value) (change.Value, error) {
	x, sx, ok1 := mediumNumeric(a.B)
	y, sy, ok2 := mediumNumeric(b.B)
	if ok1 && ok2 {
		hi, lo := bits.Mul64(absInt64(x), absInt64(y))
		from := len(c.scratch)
		c.scratch = change.AppendNumericUint128(c.scratch, (x < 0) != (y < 0), hi, lo, sx+sy)
		return c.made(from), nil
	}
	r := mulNum(toNum(a.B), toNum(b.B))
	return c.value(&r)
}
