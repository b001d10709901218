package wire

import "unicode/utf8"

// Members calls fn with the name and the text of the value of each member of a JSON object, in the order of the text, until fn returns false. The
// whole text must be one object, nested at most [MaxDepth] levels; what was read before something is wrong was handed to fn. Values alias text.
func Members(text []byte, fn func(name string, value []byte) bool) *Problem {
	on := true
	s := &scanner{b: text, max: MaxDepth}
	return s.whole(s.object(func(quoted, value []byte) bool {
		name, ok := unquote(quoted)
		if !ok {
			return s.fail("half of a surrogate pair")
		}
		on = on && fn(name, value)
		return true
	}))
}

// Elements is Members for the elements of a JSON array.
func Elements(text []byte, fn func(value []byte) bool) *Problem {
	on := true
	s := &scanner{b: text, max: MaxDepth}
	return s.whole(s.array(func(value []byte) bool {
		on = on && fn(value)
		return true
	}))
}

// whole returns what is wrong with a text of which one value was read.
func (s *scanner) whole(ok bool) *Problem {
	if !utf8.Valid(s.b) {
		return NewProblem(InvalidJSON, "the text is not valid UTF-8")
	}
	if s.space(); ok && s.i < len(s.b) {
		ok = s.fail("expected nothing more")
	}
	if ok {
		return nil
	}
	return syntaxProblem(s.err)
}
