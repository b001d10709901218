package expr

import (
	"fmt"

	"laaster/app"
)

// MaxValue is the most bytes that one value may take: nothing larger fits a batch.
const MaxValue = 1 << 20

// MaxDepth is how deep jsonb may nest.
const MaxDepth = 128

// TypeError says why an expression cannot be bound: an unknown function, types that do not fit, a literal that is none.
type TypeError struct {
	Msg  string
	Hint string // what to do about it; may be empty
	Pos  int    // byte offset in the source text; -1 when there is none
}

// Error implements error.
func (e *TypeError) Error() string { return e.Msg }

func typeErrorf(pos int, hint, format string, args ...any) *TypeError {
	return &TypeError{Msg: fmt.Sprintf(format, args...), Hint: hint, Pos: pos}
}

// EvalError says why a value cannot be read or an expression has no value for this row. Code is the name of the SQLSTATE
// condition as PostgreSQL's appendix lists it, such as "division_by_zero"; Msg is PostgreSQL's wording.
type EvalError struct {
	Code string
	Msg  string
}

// Error implements error.
func (e *EvalError) Error() string { return e.Msg }

// The conditions that evaluation raises.
const (
	codeSyntax       = "invalid_text_representation"                // 22P02
	codeRange        = "numeric_value_out_of_range"                 // 22003
	codeZero         = "division_by_zero"                           // 22012
	codeDateSyntax   = "invalid_datetime_format"                    // 22007
	codeDateRange    = "datetime_field_overflow"                    // 22008
	codeIntervalOver = "interval_field_overflow"                    // 22015
	codeParameter    = "invalid_parameter_value"                    // 22023
	codeFeature      = "feature_not_supported"                      // 0A000
	codeLimit        = "program_limit_exceeded"                     // 54000
	codeNoChar       = "untranslatable_character"                   // 22P05
	codeEncoding     = "character_not_in_repertoire"                // 22021
	codeSubstring    = "substring_error"                            // 22011
	codeEscape       = "invalid_escape_sequence"                    // 22025
	codeRegexp       = "invalid_regular_expression"                 // 2201B
	codeLog          = "invalid_argument_for_logarithm"             // 2201E
	codePower        = "invalid_argument_for_power_function"        // 2201F
	codeSyntaxError  = "syntax_error"                               // 42601
	codeBucket       = "invalid_argument_for_width_bucket_function" // 2201G
	codeNull         = "null_value_not_allowed"                     // 22004
	codeElement      = "array_subscript_error"                      // 2202E
	codeUndefined    = "internal_error"                             // XX000
	codeTimeZone     = "invalid_time_zone_displacement_value"       // 22009
)

func evalErrorf(code, format string, args ...any) *EvalError {
	return &EvalError{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// syntaxError is PostgreSQL's answer to text that a type cannot read. It repeats at most a little of the text.
func syntaxError(t app.Type, s []byte) *EvalError {
	return evalErrorf(codeSyntax, "invalid input syntax for type %s: %s", t, quoteShort(s))
}

// quoteShort quotes the beginning of s for a message.
func quoteShort(s []byte) string {
	const most = 100
	if len(s) <= most {
		return `"` + string(s) + `"`
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return `"` + string(s[:cut]) + `…"`
}

func rangeError(t app.Type) *EvalError { return evalErrorf(codeRange, "%s out of range", t) }
