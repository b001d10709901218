package ingest

import (
	"fmt"
)

// maxDepth bounds how deep JSON may nest, in values of jsonb columns too.
const maxDepth = 64

// syntaxError is text that is not JSON. Offset counts bytes from 0.
type syntaxError struct {
	Offset int
	Msg    string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.Msg, e.Offset) }

// scanner walks JSON text (RFC 8259) token by token without building anything. The text must be valid UTF-8: the caller
// checks that once for the whole body.
type scanner struct {
	src []byte
	pos int
}

func (s *scanner) fail(msg string) error { return &syntaxError{s.pos, msg} }

// space skips white space and returns the next byte without taking it, or 0 at the end. (A NUL in the text is returned as
// it is and is refused by whoever expected something else.)
func (s *scanner) space() byte {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; c {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// value takes one value of any kind and returns its bytes.
func (s *scanner) value(depth int) ([]byte, error) {
	start := s.pos
	var err error
	switch c := s.space(); {
	case c == '"':
		start = s.pos
		_, err = s.str()
	case c == '{':
		start = s.pos
		err = s.skipObject(depth)
	case c == '[':
		start = s.pos
		err = s.skipArray(depth)
	case c == '-' || c >= '0' && c <= '9':
		start = s.pos
		err = s.number()
	case c == 't':
		start = s.pos
		err = s.word("true")
	case c == 'f':
		start = s.pos
		err = s.word("false")
	case c == 'n':
		start = s.pos
		err = s.word("null")
	default:
		err = s.fail("expected a value")
	}
	if err != nil {
		return nil, err
	}
	return s.src[start:s.pos], nil
}

func (s *scanner) word(w string) error {
	if len(s.src)-s.pos < len(w) || string(s.src[s.pos:s.pos+len(w)]) != w {
		return s.fail("expected a value")
	}
	s.pos += len(w)
	return nil
}

// str takes a string and returns its bytes with the quotes. Escapes are checked, not resolved.
func (s *scanner) str() ([]byte, error) {
	start := s.pos
	i := start + 1
	for i < len(s.src) {
		switch c := s.src[i]; {
		case c == '"':
			s.pos = i + 1
			return s.src[start:s.pos], nil
		case c == '\\':
			n := s.escape(i)
			if n == 0 {
				s.pos = i
				return nil, s.fail("invalid escape in a string")
			}
			i += n
		case c < 0x20:
			s.pos = i
			return nil, s.fail("a control character in a string must be escaped")
		default:
			i++
		}
	}
	s.pos = len(s.src)
	return nil, s.fail("a string without its closing quote")
}

// escape returns the length of the escape sequence at i, or 0 when it is not one.
func (s *scanner) escape(i int) int {
	if i+1 >= len(s.src) {
		return 0
	}
	switch s.src[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if i+6 > len(s.src) {
			return 0
		}
		for _, c := range s.src[i+2 : i+6] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.src) && s.src[s.pos] >= '0' && s.src[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) number() error {
	if s.src[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.src) && s.src[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail("a number without digits")
	}
	if s.pos < len(s.src) && s.src[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return s.fail("a number without digits after its point")
		}
	}
	if s.pos < len(s.src) && s.src[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.src) && (s.src[s.pos] == '+' || s.src[s.pos] == '-') {
			s.pos++
		}
		if !s.digits() {
			return s.fail("a number without digits in its exponent")
		}
	}
	return nil
}

func (s *scanner) skipObject(depth int) error {
	if depth >= maxDepth {
		return s.fail(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	s.pos++
	if s.space() == '}' {
		s.pos++
		return nil
	}
	for {
		if _, err := s.key(); err != nil {
			return err
		}
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		if done, err := s.more('}'); done || err != nil {
			return err
		}
	}
}

func (s *scanner) skipArray(depth int) error {
	if depth >= maxDepth {
		return s.fail(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	s.pos++
	if s.space() == ']' {
		s.pos++
		return nil
	}
	for {
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		if done, err := s.more(']'); done || err != nil {
			return err
		}
	}
}

// key takes a member's name and the colon and returns the name with its quotes.
func (s *scanner) key() ([]byte, error) {
	if s.space() != '"' {
		return nil, s.fail("expected a member name in quotes")
	}
	k, err := s.str()
	if err != nil {
		return nil, err
	}
	if s.space() != ':' {
		return nil, s.fail("expected ':' after a member name")
	}
	s.pos++
	return k, nil
}

// more takes ',' or the closing byte; done is true for the latter.
func (s *scanner) more(end byte) (done bool, err error) {
	switch s.space() {
	case ',':
		s.pos++
		return false, nil
	case end:
		s.pos++
		return true, nil
	}
	return false, s.fail(fmt.Sprintf("expected ',' or '%c'", end))
}
