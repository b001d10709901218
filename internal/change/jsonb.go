package change

import "bytes"

// This file walks jsonb values as [Value.B] holds them: PostgreSQL's own print, so a value's shape shows in its bytes and
// nothing here can fail on what our parser made.

// JSONKind returns what the value at the beginning of b is: 'n' null, 't' true, 'f' false, '"' string, '0' number,
// '[' array, '{' object.
func JSONKind(b []byte) byte {
	if len(b) == 0 {
		return 'n'
	}
	switch b[0] {
	case 'n', 't', 'f', '"', '[', '{':
		return b[0]
	}
	return '0'
}

// JSONLength returns the number of bytes of the value at the beginning of b.
func JSONLength(b []byte) int {
	switch JSONKind(b) {
	case 'n', 't':
		return min(4, len(b))
	case 'f':
		return min(5, len(b))
	case '"':
		return stringLength(b)
	case '[', '{':
		return nestedLength(b)
	}
	for i, c := range b {
		if c == ',' || c == ']' || c == '}' {
			return i
		}
	}
	return len(b)
}

// stringLength returns the length of the string at the beginning of b, quotes included.
func stringLength(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func nestedLength(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringLength(b[i:]) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}

// JSONIter iterates over the elements of an array or the members of an object.
type JSONIter struct {
	rest   []byte
	object bool
}

// IterateJSON returns an iterator over b, an array or object; over a scalar there is nothing to iterate.
func IterateJSON(b []byte) JSONIter {
	if k := JSONKind(b); k != '[' && k != '{' || len(b) < 2 {
		return JSONIter{}
	}
	return JSONIter{rest: b[1 : len(b)-1], object: b[0] == '{'}
}

// Next returns the next element; for objects its key too, quotes and escapes included. ok is false at the end.
func (it *JSONIter) Next() (key, value []byte, ok bool) {
	if len(it.rest) == 0 {
		return nil, nil, false
	}
	if it.object {
		n := stringLength(it.rest)
		key, it.rest = it.rest[:n], it.rest[min(n+2, len(it.rest)):] // ": "
	}
	n := JSONLength(it.rest)
	value, it.rest = it.rest[:n:n], it.rest[min(n+2, len(it.rest)):] // ", "
	return key, value, true
}

// JSONCount returns the number of elements of an array or members of an object.
func JSONCount(b []byte) int {
	n := 0
	for it := IterateJSON(b); ; n++ {
		if _, _, ok := it.Next(); !ok {
			return n
		}
	}
}

// JSONString iterates over the bytes that a jsonb string, quotes included, stands for.
type JSONString struct{ rest []byte }

// ReadJSONString returns an iterator over b.
func ReadJSONString(b []byte) JSONString {
	if len(b) < 2 {
		return JSONString{}
	}
	return JSONString{b[1 : len(b)-1]}
}

// Next returns the next byte. In our print an escape always stands for one byte: the others are written out.
func (s *JSONString) Next() (c byte, ok bool) {
	if len(s.rest) == 0 {
		return 0, false
	}
	c = s.rest[0]
	if c != '\\' || len(s.rest) < 2 {
		s.rest = s.rest[1:]
		return c, true
	}
	c = s.rest[1]
	at := 2
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		if len(s.rest) >= 6 {
			c, at = hexValue(s.rest[4])<<4|hexValue(s.rest[5]), 6
		}
	}
	s.rest = s.rest[at:]
	return c, true
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// AppendJSONString appends the text that the jsonb string b stands for.
func AppendJSONString(dst, b []byte) []byte {
	if len(b) >= 2 && bytes.IndexByte(b, '\\') < 0 {
		return append(dst, b[1:len(b)-1]...)
	}
	s := ReadJSONString(b)
	for c, ok := s.Next(); ok; c, ok = s.Next() {
		dst = append(dst, c)
	}
	return dst
}
