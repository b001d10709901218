package app

import "fmt"

// Type is a SQL value type. The zero value, Unknown, is the type of an untyped literal or of a bare NULL before it is
// resolved; no column has it.
type Type uint8

// The types. A column of a table may have any of them but Unknown and Interval; an array's elements may be any but those and
// arrays.
const (
	Unknown     Type = iota
	Bool             // boolean
	Int4             // integer, 32 bits
	Int8             // bigint, 64 bits
	Float8           // double precision, IEEE 754 binary64
	Numeric          // numeric, exact decimal of any precision
	Text             // text, valid UTF-8 without NUL, compared bytewise (PostgreSQL's C collation)
	UUID             // uuid, 16 bytes
	Timestamptz      // timestamptz, microseconds since 1970-01-01 UTC
	JSONB            // jsonb
	Interval         // interval: months, days, microseconds
	Timestamp        // timestamp (without time zone), microseconds since 1970-01-01 00:00
	Date             // date, days since 1970-01-01
)

// arrayBit marks the array of a type: Array(Text) is text[].
const arrayBit Type = 0x40

// Array returns the type of one-dimensional arrays of t, which is no array itself.
func Array(t Type) Type { return t | arrayBit }

// IsArray reports whether t is an array.
func (t Type) IsArray() bool { return t&arrayBit != 0 }

// Elem returns the type of an array's elements; t itself when it is no array.
func (t Type) Elem() Type { return t &^ arrayBit }

var typeNames = [...]string{"unknown", "boolean", "integer", "bigint", "double precision", "numeric", "text", "uuid",
	"timestamptz", "jsonb", "interval", "timestamp", "date"}

// String returns the name that error messages and schemas use, such as "bigint". (PostgreSQL's own name of
// timestamptz is "timestamp with time zone"; we print the short form that people write.)
func (t Type) String() string {
	if t.IsArray() {
		return t.Elem().String() + "[]"
	}
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}
