package change_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"laaster/internal/change"
)

// The encoding keeps the number and its scale, and its digits are those of the number.
func TestNumericEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		coef, _ := new(big.Int).SetString(rapid.StringMatching(`[0-9]{1,60}`).Draw(t, "digits"), 10)
		scale := rapid.IntRange(0, change.NumericMaxScale).Draw(t, "scale")
		neg := rapid.Bool().Draw(t, "neg")
		le := coef.Bytes()
		for i, j := 0, len(le)-1; i < j; i, j = i+1, j-1 {
			le[i], le[j] = le[j], le[i]
		}
		b := change.AppendNumeric(nil, change.Numeric{Neg: neg, Scale: scale, Coef: append(le, 0, 0)})
		n := change.DecodeNumeric(b)
		if n.Kind != change.NumericFinite || n.Scale != scale || n.Big().Cmp(coef) != 0 || n.Neg != (neg && coef.Sign() != 0) {
			t.Fatalf("%v × 10^-%d became %+v", coef, scale, n)
		}
		if got := string(n.AppendDigits(nil)); got != coef.String() {
			t.Fatalf("digits %s of %v", got, coef)
		}
		if hi, lo, ok := n.Uint128(); ok {
			if got := string(change.AppendNumericUint128(nil, neg, hi, lo, scale)); got != string(b) {
				t.Fatalf("the two encoders differ: %x and %x", got, b)
			}
		}
	})
}
