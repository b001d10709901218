package change

import (
	"bytes"
	"encoding/binary"

	"laaster/app"
)

// AppendKey appends a key: bytes whose order under bytes.Compare is the order of the values, as PostgreSQL compares
// them; values that are equal have equal keys (numeric 1.0 and 1.00, double 0 and -0). Keys of several columns are
// appended one after the other: none is a prefix of another's. desc turns the order of the values round; nullsFirst
// places NULL, whatever desc says. A key cannot be turned back into a value.
//
//	first byte     0 NULL that comes first, 1 a value, 2 NULL that comes last
//	boolean        1 byte
//	integer, …     4 or 8 bytes big-endian, sign bit flipped; double: all bits flipped when negative
//	text           its bytes, then 0 (text holds no NUL)
//	uuid           16 bytes
//	numeric        class byte, exponent, digits; see appendNumericKey
//	interval       its length in microseconds, 16 bytes
//	jsonb          see appendJSONKey
//	array          the keys of its elements, NULL above values, then 0: below a longer one that begins with it
func AppendKey(dst []byte, t app.Type, v Value, desc, nullsFirst bool) []byte {
	if v.Null {
		if nullsFirst {
			return append(dst, 0)
		}
		return append(dst, 2)
	}
	dst = append(dst, 1)
	from := len(dst)
	switch t {
	case app.Bool:
		dst = append(dst, byte(v.N))
	case app.Int4, app.Date:
		dst = binary.BigEndian.AppendUint32(dst, uint32(v.N)^1<<31)
	case app.Int8, app.Timestamptz, app.Timestamp:
		dst = binary.BigEndian.AppendUint64(dst, uint64(v.N)^1<<63)
	case app.Float8:
		dst = appendFloatKey(dst, v)
	case app.UUID:
		dst = append(dst, v.B...)
	case app.Numeric:
		dst = appendNumericKey(dst, DecodeNumeric(v.B))
	case app.Interval:
		dst = appendIntervalKey(dst, v.B)
	case app.JSONB:
		dst = appendJSONKey(dst, v.B, true)
	default:
		if t.IsArray() {
			dst = appendArrayKey(dst, t.Elem(), v.B)
		} else {
			dst = append(append(dst, v.B...), 0)
		}
	}
	if desc {
		for i := from; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
	}
	return dst
}

func appendArrayKey(dst []byte, elem app.Type, b []byte) []byte {
	it := IterateArray(b, elem)
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		dst = AppendKey(dst, elem, v, false, false)
	}
	return append(dst, 0)
}

// appendFloatKey relies on there being one zero and one NaN, whose bits are above those of infinity.
func appendFloatKey(dst []byte, v Value) []byte {
	b := uint64(Float(v.Float()).N)
	if b>>63 == 1 {
		return binary.BigEndian.AppendUint64(dst, ^b)
	}
	return binary.BigEndian.AppendUint64(dst, b|1<<63)
}

// The class bytes of numeric keys, in order.
const (
	keyNegInf = iota + 1
	keyNegative
	keyZero
	keyPositive
	keyPosInf
	keyNaN
)

// appendNumericKey writes ±0.d1d2d3… × 10^e as the class, e in 4 bytes and the digits without trailing zeros, two to a
// byte as 1 + their value, then 0. The bytes after the class are flipped for negative numbers.
func appendNumericKey(dst []byte, n Numeric) []byte {
	switch n.Kind {
	case NumericNegInf:
		return append(dst, keyNegInf)
	case NumericPosInf:
		return append(dst, keyPosInf)
	case NumericNaN:
		return append(dst, keyNaN)
	}
	if len(n.Coef) == 0 {
		return append(dst, keyZero)
	}
	var buf [40]byte
	digits := n.AppendDigits(buf[:0])
	return appendDigitsKey(dst, n.Neg, digits, len(digits)-n.Scale)
}

func appendDigitsKey(dst []byte, neg bool, digits []byte, exponent int) []byte {
	class := byte(keyPositive)
	if neg {
		class = keyNegative
	}
	dst = append(dst, class)
	from := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(int32(exponent))^1<<31)
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	for i := 0; i < len(digits); i += 2 {
		pair := (digits[i] - '0') * 10
		if i+1 < len(digits) {
			pair += digits[i+1] - '0'
		}
		dst = append(dst, pair+1)
	}
	dst = append(dst, 0)
	if neg {
		for i := from; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
	}
	return dst
}

// appendIntervalKey writes the span, with months of 30 days and days of 24 hours, in 16 bytes.
func appendIntervalKey(dst, b []byte) []byte {
	const usPerDay = 86_400_000_000
	days := int64(int32(binary.LittleEndian.Uint32(b)))*30 + int64(int32(binary.LittleEndian.Uint32(b[4:])))
	us := int64(binary.LittleEndian.Uint64(b[8:]))
	// Split so that the rest of a day is not negative: then (days, rest) orders as the sum does.
	days += us / usPerDay
	if us %= usPerDay; us < 0 {
		days, us = days-1, us+usPerDay
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(days)^1<<63)
	return binary.BigEndian.AppendUint64(dst, uint64(us))
}

// The class bytes of jsonb keys, in PostgreSQL's order of types. An empty array at the top is below everything, a quirk that
// PostgreSQL keeps.
const (
	keyJSONEmpty = iota + 1
	keyJSONNull
	keyJSONString
	keyJSONNumber
	keyJSONFalse
	keyJSONTrue
	keyJSONArray
	keyJSONObject
)

// appendJSONKey writes the class; of strings their bytes and 0; of numbers the numeric key; of arrays the count in 4 bytes
// and the elements; of objects the count, and each key and value.
func appendJSONKey(dst, b []byte, top bool) []byte {
	switch JSONKind(b) {
	case 'n':
		return append(dst, keyJSONNull)
	case 't':
		return append(dst, keyJSONTrue)
	case 'f':
		return append(dst, keyJSONFalse)
	case '"':
		return append(AppendJSONString(append(dst, keyJSONString), b), 0)
	case '0':
		return appendJSONNumberKey(append(dst, keyJSONNumber), b)
	}
	n, object := JSONCount(b), b[0] == '{'
	switch {
	case object:
		dst = append(dst, keyJSONObject)
	case top && n == 0:
		return append(dst, keyJSONEmpty)
	default:
		dst = append(dst, keyJSONArray)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	it := IterateJSON(b)
	for key, value, ok := it.Next(); ok; key, value, ok = it.Next() {
		if object {
			dst = append(AppendJSONString(dst, key), 0)
		}
		dst = appendJSONKey(dst, value, false)
	}
	return dst
}

// appendJSONNumberKey reads a number as our print has it: sign, digits, perhaps a point and digits.
func appendJSONNumberKey(dst, b []byte) []byte {
	neg := b[0] == '-'
	if neg {
		b = b[1:]
	}
	whole, frac, _ := bytes.Cut(b, []byte{'.'})
	exponent := len(whole)
	var buf [40]byte
	digits := append(append(buf[:0], whole...), frac...)
	for len(digits) > 0 && digits[0] == '0' {
		digits = digits[1:]
		exponent--
	}
	if len(digits) == 0 {
		return append(dst, keyZero)
	}
	return appendDigitsKey(dst, neg, digits, exponent)
}
