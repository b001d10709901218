package expr

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"laaster/internal/change"
)

func addMatching(c *catalog) {
	for _, op := range []string{"~~", "!~~", "~~*", "!~~*"} {
		c.add(op+"(text, text) boolean", buildFunc(buildLike))
	}
	for _, op := range []string{"~", "!~", "~*", "!~*"} {
		c.add(op+"(text, text) boolean", buildFunc(buildRegexp))
	}
	addRegexp(c)
	addSimilar(c)
	c.add("like_escape(text, text) text", likeEscape)
}

// buildLike compiles LIKE, ILIKE and their negations. A constant pattern of the everyday forms becomes a comparison.
func buildLike(n *Node, _ *change.Layout, args []Func) (Func, error) {
	op := n.Func.Name
	not, fold := op[0] == '!', op[len(op)-1] == '*'
	if p := n.Args[1]; p.Kind == KConst && !p.Value.Null && !fold {
		if match := simpleLike(p.Value.B); match != nil {
			return strict1(func(_ *Ctx, a change.Value) (change.Value, error) { return change.Bool(match(a.B) != not), nil }, args[0]), nil
		}
	}
	return strict2(func(c *Ctx, a, b change.Value) (change.Value, error) {
		if err := c.spend(len(a.B) * len(b.B)); err != nil {
			return a, err
		}
		ok, err := like(a.B, b.B, fold)
		return change.Bool(ok != not), err
	}, args[0], args[1]), nil
}

// simpleLike returns a matcher for text, text%, %text and %text%; nil for other patterns.
func simpleLike(pattern []byte) func(s []byte) bool {
	head := len(pattern) > 0 && pattern[0] == '%'
	tail := len(pattern) > 1 && pattern[len(pattern)-1] == '%'
	text := bytes.Clone(pattern)
	if head {
		text = text[1:]
	}
	if tail {
		text = text[:len(text)-1]
	}
	switch {
	case bytes.ContainsAny(text, `%_\`):
		return nil
	case head && tail:
		return func(s []byte) bool { return bytes.Contains(s, text) }
	case head:
		return func(s []byte) bool { return bytes.HasSuffix(s, text) }
	case tail:
		return func(s []byte) bool { return bytes.HasPrefix(s, text) }
	}
	return func(s []byte) bool { return bytes.Equal(s, text) }
}

// The most work that one match may take, in characters of text times elements of the pattern: a caller's pattern must not
// hold up the rows behind it.
const (
	maxLikeWork   = 1 << 26
	maxRegexpWork = 1 << 24
	maxRegexpSize = 10_000 // elements, with repetitions written out
)

func tooCostly() *EvalError {
	return &EvalError{codeLimit, "the pattern is too costly for a text of this length"}
}

// like matches with % for any run of characters, _ for one, and \ before a character that stands for itself. On a mismatch
// only the last % need be tried again one character further on.
func like(s, p []byte, fold bool) (bool, error) {
	if len(s)*len(p) > maxLikeWork {
		return false, tooCostly()
	}
	i, j := 0, 0
	retryS, retryP := 0, -1
	for i < len(s) {
		if j < len(p) {
			switch p[j] {
			case '%':
				j++
				retryS, retryP = i, j
				continue
			case '_':
				_, n := utf8.DecodeRune(s[i:])
				i, j = i+n, j+1
				continue
			}
			at := j
			if p[at] == '\\' {
				if at++; at == len(p) {
					return false, &EvalError{codeEscape, "LIKE pattern must not end with escape character"}
				}
			}
			if n, m, ok := sameChar(s[i:], p[at:], fold); ok {
				i, j = i+n, at+m
				continue
			}
		}
		if retryP < 0 {
			return false, nil
		}
		_, n := utf8.DecodeRune(s[retryS:])
		retryS += n
		i, j = retryS, retryP
	}
	for j < len(p) && p[j] == '%' {
		j++
	}
	return j == len(p), nil
}

// sameChar compares the first characters and returns their lengths.
func sameChar(s, p []byte, fold bool) (n, m int, ok bool) {
	if s[0] == p[0] && s[0] < utf8.RuneSelf {
		return 1, 1, true
	}
	a, n := utf8.DecodeRune(s)
	b, m := utf8.DecodeRune(p)
	return n, m, a == b || fold && unicode.ToLower(a) == unicode.ToLower(b)
}

// likeEscape rewrites a pattern that uses another escape character, or none, to one that uses the backslash.
func likeEscape(c *Ctx, a, b change.Value) (change.Value, error) {
	if string(b.B) == `\` {
		return a, nil
	}
	if utf8.RuneCount(b.B) > 1 {
		return a, evalErrorf(codeEscape, "invalid escape string: it must be empty or one character")
	}
	from, escaped := len(c.scratch), false
	for rest := a.B; len(rest) > 0; {
		_, n := utf8.DecodeRune(rest)
		ch := rest[:n]
		rest = rest[n:]
		switch {
		case bytes.Equal(ch, b.B) && !escaped:
			c.scratch = append(c.scratch, '\\')
			escaped = true
			continue
		case ch[0] == '\\' && !escaped:
			c.scratch = append(c.scratch, `\\`...)
		default:
			c.scratch = append(c.scratch, ch...)
		}
		escaped = false
	}
	return c.made(from), nil
}
