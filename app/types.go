package app

import "fmt"

// Type is a SQL value type. The zero value, Unknown, is the type of an untyped literal or of a bare NULL before it is
// resolved; no column has it.
type Type uint8

// The types. A column may have any of them but Unknown and Interval.
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
	Interval         // interval: months, days, microseconds; only inside expressions
)

var typeNames = [...]string{"unknown", "boolean", "integer", "bigint", "double precision", "numeric", "text", "uuid",
	"timestamptz", "jsonb", "interval"}

// String returns the name that error messages and schemas use, such as "bigint". (PostgreSQL's own name of
// timestamptz is "timestamp with time zone"; we print the short form that people write.)
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}
