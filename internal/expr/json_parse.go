package expr

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"laaster/internal/change"
)

// jsonParser reads JSON text and writes PostgreSQL's print of it as jsonb: members sorted by the length of their keys and
// then bytewise, the last of equal keys kept, numbers as numeric prints them, one space after colons and commas.
type jsonParser struct {
	s     []byte
	i     int
	out   []byte
	base  int // where this value's print starts in out
	depth int
}

// parseJSONB reads JSON text and appends the print to dst.
func parseJSONB(src, dst []byte) (change.Value, []byte, error) {
	from := len(dst)
	p := jsonParser{s: src, out: dst, base: from}
	p.space()
	err := p.value()
	if err == nil {
		if p.space(); p.i < len(p.s) {
			err = p.unexpected("end of input")
		}
	}
	if err != nil {
		return change.Value{}, dst[:from], err
	}
	return since(p.out, from), p.out, nil
}

func (p *jsonParser) fail(format string, args ...any) error {
	return evalErrorf(codeSyntax, "invalid input syntax for type json: %s at byte %d", fmt.Sprintf(format, args...), p.i)
}

func (p *jsonParser) unexpected(want string) error {
	if p.i >= len(p.s) {
		return p.fail("the input ends where %s was expected", want)
	}
	rest := p.s[p.i:]
	return p.fail("expected %s, but found %s", want, quoteShort(rest[:min(len(rest), 12)]))
}

func (p *jsonParser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *jsonParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *jsonParser) value() error {
	if len(p.out)-p.base > MaxValue {
		return evalErrorf(codeLimit, "the jsonb value takes more than %d bytes", MaxValue)
	}
	switch c := p.peek(); {
	case c == '{' || c == '[':
		if p.depth++; p.depth > MaxDepth {
			return evalErrorf(codeLimit, "json nests deeper than %d levels", MaxDepth)
		}
		var err error
		if c == '{' {
			err = p.object()
		} else {
			err = p.array()
		}
		p.depth--
		return err
	case c == '"':
		return p.string()
	case c == '-' || isDigit(c):
		return p.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(p.s[p.i:], []byte(word)) {
			p.i += len(word)
			p.out = append(p.out, word...)
			return nil
		}
	}
	return p.unexpected("a JSON value")
}

func (p *jsonParser) array() error {
	p.i++
	p.out = append(p.out, '[')
	if p.space(); p.peek() == ']' {
		p.i++
		p.out = append(p.out, ']')
		return nil
	}
	for {
		p.space()
		if err := p.value(); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.i++
			p.out = append(p.out, ", "...)
		case ']':
			p.i++
			p.out = append(p.out, ']')
			return nil
		default:
			return p.unexpected(`"," or "]"`)
		}
	}
}

func (p *jsonParser) object() error {
	p.i++
	start, sorted := len(p.out), true
	p.out = append(p.out, '{')
	if p.space(); p.peek() == '}' {
		p.i++
		p.out = append(p.out, '}')
		return nil
	}
	lastAt, lastEnd := 0, 0 // the key before
	for {
		at := len(p.out)
		end, err := p.member()
		if err != nil {
			return err
		}
		sorted = sorted && (lastEnd == 0 || compareJSONKeys(p.out[lastAt:lastEnd], p.out[at:end]) < 0)
		lastAt, lastEnd = at, end
		p.space()
		switch p.peek() {
		case ',':
			p.i++
			p.out = append(p.out, ", "...)
		case '}':
			p.i++
			p.out = append(p.out, '}')
			if !sorted {
				p.sortMembers(start)
			}
			return nil
		default:
			return p.unexpected(`"," or "}"`)
		}
	}
}

// member reads a key and its value and returns where the printed key ends.
func (p *jsonParser) member() (keyEnd int, err error) {
	if p.space(); p.peek() != '"' {
		return 0, p.unexpected("a string as key")
	}
	if err := p.string(); err != nil {
		return 0, err
	}
	keyEnd = len(p.out)
	if p.space(); p.peek() != ':' {
		return 0, p.unexpected(`":"`)
	}
	p.i++
	p.out = append(p.out, ": "...)
	p.space()
	return keyEnd, p.value()
}

// sortMembers brings the members of the object that is printed from start on into order and drops all but the last of equal
// keys.
func (p *jsonParser) sortMembers(start int) {
	type pair struct{ key, value []byte }
	var pairs []pair
	it := change.IterateJSON(bytes.Clone(p.out[start:]))
	for key, value, ok := it.Next(); ok; key, value, ok = it.Next() {
		pairs = append(pairs, pair{key, value})
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return compareJSONKeys(a.key, b.key) })
	p.out = append(p.out[:start], '{')
	for i, m := range pairs {
		if i+1 < len(pairs) && compareJSONKeys(m.key, pairs[i+1].key) == 0 {
			continue // a later one follows
		}
		if len(p.out) > start+1 {
			p.out = append(p.out, ", "...)
		}
		p.out = append(append(append(p.out, m.key...), ": "...), m.value...)
	}
	p.out = append(p.out, '}')
}

// compareJSONKeys orders two printed keys.
func compareJSONKeys(a, b []byte) int {
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return bytes.Compare(a, b)
	}
	if la, lb := jsonStringLength(a), jsonStringLength(b); la != lb {
		return la - lb
	}
	return compareJSONStrings(a, b)
}

func jsonStringLength(b []byte) int {
	n := 0
	s := change.ReadJSONString(b)
	for _, ok := s.Next(); ok; _, ok = s.Next() {
		n++
	}
	return n
}

// number copies a number, or computes its print when that differs.
func (p *jsonParser) number() error {
	from := p.i
	if err := p.numberSyntax(); err != nil {
		return err
	}
	text := p.s[from:p.i]
	if text[0] != '-' && len(text) < change.NumericMaxScale && bytes.IndexByte(text, 'e') < 0 && bytes.IndexByte(text, 'E') < 0 {
		p.out = append(p.out, text...)
		return nil
	}
	d, _ := scanDecimal(text)
	out, ok := d.appendText(p.out)
	if !ok {
		return overflowNum()
	}
	p.out = out
	return nil
}

// numberSyntax moves past a number.
func (p *jsonParser) numberSyntax() error {
	if p.peek() == '-' {
		p.i++
	}
	digits, i := scanDigits(p.s, p.i)
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return p.unexpected("a number")
	}
	if p.i = i; p.peek() == '.' {
		if digits, p.i = scanDigits(p.s, p.i+1); len(digits) == 0 {
			return p.unexpected("a digit")
		}
	}
	if p.peek()|0x20 != 'e' {
		return nil
	}
	p.i++
	if c := p.peek(); c == '+' || c == '-' {
		p.i++
	}
	if digits, p.i = scanDigits(p.s, p.i); len(digits) == 0 {
		return p.unexpected("a digit")
	}
	return nil
}

func (p *jsonParser) string() error {
	p.out = append(p.out, '"')
	from := p.i + 1
	i := from
	for i < len(p.s) && p.s[i] >= ' ' && p.s[i] != '"' && p.s[i] != '\\' && p.s[i] < utf8.RuneSelf {
		i++
	}
	if i < len(p.s) && p.s[i] == '"' { // all of it plain
		p.out = append(append(p.out, p.s[from:i]...), '"')
		p.i = i + 1
		return nil
	}
	text, n, err := unescapeJSON(p.s[p.i:], nil)
	if err != nil {
		return err
	}
	p.out = append(appendJSONChars(p.out, text), '"')
	p.i += n
	return nil
}

// unescapeJSON reads the JSON string at the beginning of s, quotes included, appends the text it stands for to dst and
// returns how many bytes it took.
func unescapeJSON(s, dst []byte) (text []byte, n int, err error) {
	i := 1
	for i < len(s) {
		switch c := s[i]; {
		case c == '"':
			return dst, i + 1, nil
		case c < ' ':
			return dst, i, evalErrorf(codeSyntax, "invalid input syntax for type json: character 0x%02x must be escaped", c)
		case c == '\\':
			r, size := jsonEscape(s[i:])
			if size == 0 {
				return dst, i, evalErrorf(codeSyntax, "invalid input syntax for type json: escape sequence %s is invalid", quoteShort(s[i:min(i+6, len(s))]))
			}
			if r == 0 {
				return dst, i, evalErrorf(codeNoChar, `unsupported Unicode escape sequence: \u0000 cannot be converted to text`)
			}
			dst = utf8.AppendRune(dst, r)
			i += size
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				return dst, i, evalErrorf(codeEncoding, `invalid byte sequence for encoding "UTF8": 0x%02x`, c)
			}
			dst = append(dst, s[i:i+size]...)
			i += size
		}
	}
	return dst, i, evalErrorf(codeSyntax, "invalid input syntax for type json: a string does not end")
}

// jsonEscape reads the escape sequence at the beginning of s; size is 0 when it is none.
func jsonEscape(s []byte) (r rune, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return 0, 0
	}
	first, ok := hex4(s[2:])
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(first) {
		return first, 6
	}
	if len(s) < 8 || s[6] != '\\' || s[7] != 'u' {
		return 0, 0
	}
	second, ok := hex4(s[8:])
	if r = utf16.DecodeRune(first, second); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	r := rune(0)
	for _, c := range s[:4] {
		d := hexDigit(c)
		if d > 15 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

// appendJSONChars appends text with JSON's escapes where it needs them, without quotes, as PostgreSQL prints it.
func appendJSONChars(dst, text []byte) []byte {
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			const hexDigits = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, text[from:]...)
}
