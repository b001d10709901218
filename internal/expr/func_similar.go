package expr

import (
	"unicode/utf8"

	"laaster/internal/change"
)

// addSimilar adds what rewrites a pattern of SIMILAR TO as a regular expression.
func addSimilar(c *catalog) {
	c.add("similar_to_escape(text) text", func(c *Ctx, a change.Value) (change.Value, error) { return c.similar(a.B, `\`) })
	c.add("similar_to_escape(text, text) text", func(c *Ctx, a, b change.Value) (change.Value, error) {
		if utf8.RuneCount(b.B) > 1 {
			return a, evalErrorf(codeEscape, "invalid escape string")
		}
		return c.similar(a.B, string(b.B))
	})
}

func (c *Ctx) similar(p []byte, escape string) (change.Value, error) {
	from := len(c.scratch)
	dst := append(c.scratch, "^(?:"...)
	inClass, escaped := false, false
	for len(p) > 0 {
		_, n := utf8.DecodeRune(p)
		ch := p[:n]
		p = p[n:]
		switch {
		case escaped:
			if ch[0] == '"' && !inClass {
				c.scratch = dst
				return change.Value{}, &EvalError{codeFeature, "escape-double-quote separators are not supported"}
			}
			dst = append(append(dst, '\\'), ch...)
			escaped = false
		case string(ch) == escape:
			escaped = true
		case inClass:
			if ch[0] == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, ch...)
			inClass = ch[0] != ']'
		default:
			dst = appendSimilar(dst, ch)
			inClass = ch[0] == '['
		}
	}
	c.scratch = append(dst, ")$"...)
	return c.limited(from)
}

// appendSimilar writes a character that is in no class.
func appendSimilar(dst, ch []byte) []byte {
	switch ch[0] {
	case '%':
		return append(dst, ".*"...)
	case '_':
		return append(dst, '.')
	case '(':
		return append(dst, "(?:"...)
	case '\\', '.', '^', '$':
		dst = append(dst, '\\')
	}
	return append(dst, ch...)
}
