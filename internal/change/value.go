package change

import (
	"math"
)

// Value is one cell. Its type is known statically from the column or the expression that made it and is not carried.
// The zero Value is not NULL but the type's zero; see [Null].
//
//	boolean      N is 0 or 1
//	integer      N
//	bigint       N
//	double       N holds math.Float64bits, use [Value.Float]; -0 is stored as 0 and every NaN as one NaN
//	timestamptz  N is microseconds since 1970-01-01 UTC; ±infinity are math.MaxInt64 and math.MinInt64
//	text         B is UTF-8
//	uuid         B is 16 bytes
//	numeric      B is the encoding of numeric.go, see [Numeric]
//	jsonb        B is the text as PostgreSQL prints it (keys sorted by length then bytes, duplicates gone, ": " and ", ")
//	interval     B is 16 bytes little-endian: months int32, days int32, microseconds int64
//	timestamp    N is microseconds since 1970-01-01 00:00; ±infinity as in timestamptz
//	date         N is days since 1970-01-01; ±infinity are math.MaxInt32 and math.MinInt32
//	array        B is the encoding of array.go: one dimension, indexed from 1
//
// B may alias a row or a scratch buffer: it is valid until that is reused, so copy what you keep.
type Value struct {
	N    int64
	B    []byte
	Null bool
}

// Null returns the NULL of every type.
func Null() Value { return Value{Null: true} }

// Int returns an integer, bigint, timestamptz, timestamp or date value.
func Int(n int64) Value { return Value{N: n} }

// Bool returns a boolean value.
func Bool(b bool) Value {
	if b {
		return Value{N: 1}
	}
	return Value{}
}

// Float returns a double precision value in canonical form: one zero and one NaN.
func Float(f float64) Value {
	if f == 0 {
		return Value{}
	}
	if f != f {
		return Value{N: canonicalNaN}
	}
	return Value{N: int64(math.Float64bits(f))}
}

const canonicalNaN = 0x7FF8000000000001

// Bytes returns a value of a type that lives in B. It does not copy.
func Bytes(b []byte) Value { return Value{B: b} }

// Float returns the number of a double precision value.
func (v Value) Float() float64 { return math.Float64frombits(uint64(v.N)) }

// True reports whether a boolean value is true: neither false nor NULL.
func (v Value) True() bool { return !v.Null && v.N != 0 }
