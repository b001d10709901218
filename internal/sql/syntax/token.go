package syntax

import "strings"

// Limits of the parser. What happens at each is an error, see [ErrorKind].
const (
	MaxBytes  = 1 << 20 // of one text
	MaxDepth  = 200     // nested parentheses, sub-queries and operators
	MaxChain  = 2000    // operators in a row on one level, as in a || b || c
	MaxErrors = 100     // errors reported for one text
	maxIdent  = 63      // bytes of an identifier or operator; PostgreSQL would cut a longer one, we refuse it
)

// kind says what a token is.
type kind uint8

const (
	tEOF     kind = iota
	tIdent        // identifier, folded or unquoted; Keyword words have tKeyword
	tKeyword      // Text is the lower-case word
	tInt          // integer that fits 32 bits; Text is its decimal value
	tNum          // any other number, as written
	tString       // Text is the value
	tBit          // B'..', Text is the digits
	tHex          // X'..', Text is the digits
	tParam        // $n, Text is the digits
	tOp           // operator; != reads as <>
	tPunct        // , ( ) [ ] . ; : :: .. := =>
)

// token is one lexical unit. pos and end are byte offsets into the text.
type token struct {
	kind   kind
	quoted bool // a quoted identifier
	word   word // of a keyword
	pos    int
	end    int
	text   string
}

// is reports whether t is the keyword w.
func (t *token) is(w string) bool { return t.kind == tKeyword && t.text == w }

// punct reports whether t is the punctuation s.
func (t *token) punct(s string) bool { return t.kind == tPunct && t.text == s }

// op reports whether t is the operator s.
func (t *token) op(s string) bool { return t.kind == tOp && t.text == s }

// describe names the token for a message.
func (t *token) describe() string {
	switch t.kind {
	case tEOF:
		return "the end of the file"
	case tKeyword:
		return strings.ToUpper(t.text)
	case tIdent:
		return "the name " + quote(t.text)
	case tString:
		return "a string"
	case tInt, tNum:
		return "the number " + t.text
	case tBit, tHex:
		return "a bit string"
	case tParam:
		return "the parameter $" + t.text
	case tPunct:
		if t.text == ";" {
			return "the end of the statement"
		}
	}
	return quote(t.text)
}

func quote(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	return `"` + s + `"`
}

// ErrorKind tells errors of the text from limits of the parser.
type ErrorKind uint8

// The kinds of errors.
const (
	BadSyntax   ErrorKind = iota // not SQL
	Unsupported                  // SQL that Laaster does not read
	TooLarge                     // more than MaxBytes
	TooDeep                      // more than MaxDepth or MaxChain
	TooMany                      // more than MaxErrors; the rest of the text was not read
)

// Error is one thing wrong with a text, at the bytes from Pos to End.
type Error struct {
	Kind     ErrorKind
	Pos, End int
	Msg      string
	Hint     string // what to do about it; may be empty
}

// Error implements error.
func (e *Error) Error() string { return e.Msg }
