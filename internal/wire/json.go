package wire

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonError is what is wrong with a text that should be JSON, and where.
type jsonError struct {
	at   int
	what string
	deep bool // not wrong, but nested deeper than the limit
}

// scanner walks over JSON text without building anything. It accepts exactly RFC 8259, nested at most max levels.
type scanner struct {
	b     []byte
	i     int
	depth int
	max   int
	err   *jsonError
}

func (s *scanner) fail(what string) bool {
	if s.err == nil {
		s.err = &jsonError{at: s.i, what: what}
	}
	return false
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// next skips white space and returns the byte that follows without consuming it; 0 at the end.
func (s *scanner) next() byte {
	s.space()
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) expect(c byte, what string) bool {
	if s.next() != c {
		return s.fail("expected " + what)
	}
	s.i++
	return true
}

func (s *scanner) enter() bool {
	if s.depth++; s.depth > s.max {
		s.err = &jsonError{at: s.i, what: "nested deeper than " + strconv.Itoa(s.max) + " levels", deep: true}
		return false
	}
	return true
}

// value skips one value of any kind and returns its text.
func (s *scanner) value() ([]byte, bool) {
	c := s.next()
	start, ok := s.i, false
	switch {
	case c == '{':
		ok = s.object(nil)
	case c == '[':
		ok = s.array(nil)
	case c == '"':
		ok = s.str()
	case c == '-' || c >= '0' && c <= '9':
		ok = s.number()
	case c == 't':
		ok = s.word("true")
	case c == 'f':
		ok = s.word("false")
	case c == 'n':
		ok = s.word("null")
	default:
		s.fail("expected a value")
	}
	return s.b[start:s.i], ok
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.fail("expected " + w)
	}
	s.i += len(w)
	return true
}

// object skips an object and calls member with the text of each name, quotes included, and value.
func (s *scanner) object(member func(name, value []byte) bool) bool {
	if !s.enter() || !s.expect('{', "an object") {
		return false
	}
	if s.next() == '}' {
		s.i++
		s.depth--
		return true
	}
	for {
		s.space()
		start := s.i
		if !s.str() {
			return false
		}
		name := s.b[start:s.i]
		if !s.expect(':', "':' after a name") {
			return false
		}
		val, ok := s.value()
		if !ok || member != nil && !member(name, val) {
			return false
		}
		switch s.next() {
		case ',':
			s.i++
		case '}':
			s.i++
			s.depth--
			return true
		default:
			return s.fail("expected ',' or '}'")
		}
	}
}

// array skips an array and calls element with the text of each value.
func (s *scanner) array(element func(value []byte) bool) bool {
	if !s.enter() || !s.expect('[', "an array") {
		return false
	}
	if s.next() == ']' {
		s.i++
		s.depth--
		return true
	}
	for {
		val, ok := s.value()
		if !ok || element != nil && !element(val) {
			return false
		}
		switch s.next() {
		case ',':
			s.i++
		case ']':
			s.i++
			s.depth--
			return true
		default:
			return s.fail("expected ',' or ']'")
		}
	}
}

func (s *scanner) str() bool {
	if s.i == len(s.b) || s.b[s.i] != '"' {
		return s.fail("expected a string")
	}
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return true
		case c < 0x20:
			return s.fail("control character in a string")
		case c == '\\':
			s.i++
			if !s.escape() {
				return false
			}
		}
	}
	return s.fail("string without an end")
}

// escape checks the escape sequence whose letter is at i and leaves i at its last byte.
func (s *scanner) escape() bool {
	if s.i == len(s.b) {
		return s.fail("string without an end")
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			s.i++
			if s.i == len(s.b) || hexDigit(s.b[s.i]) < 0 {
				return s.fail(`\u needs four hexadecimal digits`)
			}
		}
		return true
	}
	return s.fail("unknown escape sequence")
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		return s.fail("expected a digit")
	}
	return true
}

func (s *scanner) number() bool {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		return s.digits()
	}
	return true
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// unquote returns the characters of a string that the scanner accepted, or false when it has half of a surrogate pair,
// which no UTF-8 text can hold.
func unquote(quoted []byte) (string, bool) {
	in := quoted[1 : len(quoted)-1]
	out := make([]byte, 0, len(in))
	for i := 0; i < len(in); i++ {
		if in[i] != '\\' {
			out = append(out, in[i])
			continue
		}
		i++
		switch in[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, size := unquoteRune(in[i+1:])
			if r == utf8.RuneError && size < 0 {
				return "", false
			}
			out = utf8.AppendRune(out, r)
			i += size
		default:
			out = append(out, in[i])
		}
	}
	return string(out), true
}

// unquoteRune reads the digits after \u, and the second half of a surrogate pair. It returns how many bytes it read, or -1.
func unquoteRune(in []byte) (rune, int) {
	r := hexRune(in)
	if !utf16.IsSurrogate(r) {
		return r, 4
	}
	if len(in) < 10 || in[4] != '\\' || in[5] != 'u' {
		return utf8.RuneError, -1
	}
	both := utf16.DecodeRune(r, hexRune(in[6:]))
	if both == utf8.RuneError {
		return utf8.RuneError, -1
	}
	return both, 10
}

func hexRune(in []byte) rune {
	var r rune
	for _, c := range in[:4] {
		r = r<<4 | rune(hexDigit(c))
	}
	return r
}
