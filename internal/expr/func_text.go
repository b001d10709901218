package expr

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"strconv"
	"unicode"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
)

func addText(c *catalog) {
	addTextBasics(c)
	addTextTrim(c)
	addTextParts(c)
	addTextJoin(c)
	addTextQuote(c)
}

func addTextBasics(c *catalog) {
	for _, name := range []string{"length", "char_length", "character_length"} {
		c.add(name+"(text) integer", func(_ *Ctx, a change.Value) (change.Value, error) {
			return change.Int(int64(utf8.RuneCount(a.B))), nil
		})
	}
	c.add("octet_length(text) integer", func(_ *Ctx, a change.Value) (change.Value, error) { return change.Int(int64(len(a.B))), nil })
	c.add("lower(text) text", mapCase('A', unicode.ToLower))
	c.add("upper(text) text", mapCase('a', unicode.ToUpper))
	c.add("initcap(text) text", initcap)
	c.add("reverse(text) text", reverse)
	c.add("repeat(text, integer) text", repeat)
	c.add("replace(text, text, text) text", replace)
	c.add("starts_with(text, text) boolean", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		return change.Bool(bytes.HasPrefix(a.B, b.B)), nil
	})
	c.add("^@(text, text) boolean", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		return change.Bool(bytes.HasPrefix(a.B, b.B)), nil
	})
	for _, name := range []string{"strpos", "position"} { // POSITION(sub IN s) calls position(s, sub)
		c.add(name+"(text, text) integer", func(_ *Ctx, a, b change.Value) (change.Value, error) { return position(a.B, b.B), nil })
	}
	c.add("md5(text) text", func(c *Ctx, a change.Value) (change.Value, error) {
		sum := md5.Sum(a.B)
		from := len(c.scratch)
		c.scratch = hex.AppendEncode(c.scratch, sum[:])
		return c.made(from), nil
	})
	c.add("to_hex(integer) text", func(c *Ctx, a change.Value) (change.Value, error) { return c.hex(uint64(uint32(a.N))), nil })
	c.add("to_hex(bigint) text", func(c *Ctx, a change.Value) (change.Value, error) { return c.hex(uint64(a.N)), nil })
	c.add("ascii(text) integer", func(_ *Ctx, a change.Value) (change.Value, error) {
		if len(a.B) == 0 {
			return change.Int(0), nil
		}
		r, _ := utf8.DecodeRune(a.B)
		return change.Int(int64(r)), nil
	})
	c.add("chr(integer) text", chr)
}

func (c *Ctx) hex(n uint64) change.Value {
	from := len(c.scratch)
	c.scratch = strconv.AppendUint(c.scratch, n, 16)
	return c.made(from)
}

func tooLong() *EvalError {
	return evalErrorf(codeLimit, "the result would take more than %d bytes", MaxValue)
}

// mapCase maps each character by Unicode's simple case rules. The 26 letters from first on are those that change in ASCII.
func mapCase(first byte, f func(rune) rune) func(c *Ctx, a change.Value) (change.Value, error) {
	return func(c *Ctx, a change.Value) (change.Value, error) {
		changes := false
		for _, ch := range a.B {
			if ch >= utf8.RuneSelf {
				return mapRunes(c, a, f), nil
			}
			changes = changes || ch-first < 26
		}
		if !changes {
			return a, nil
		}
		from := len(c.scratch)
		c.scratch = append(c.scratch, a.B...)
		for i, ch := range c.scratch[from:] {
			if ch-first < 26 {
				c.scratch[from+i] = ch ^ 0x20
			}
		}
		return c.made(from), nil
	}
}

func mapRunes(c *Ctx, a change.Value, f func(rune) rune) change.Value {
	from := len(c.scratch)
	for _, r := range viewString(a.B) {
		c.scratch = utf8.AppendRune(c.scratch, f(r))
	}
	return c.made(from)
}

// initcap upper-cases the first letter of each word; words are letters and digits.
func initcap(c *Ctx, a change.Value) (change.Value, error) {
	from, inWord := len(c.scratch), false
	for _, r := range viewString(a.B) {
		if inWord {
			r = unicode.ToLower(r)
		} else {
			r = unicode.ToUpper(r)
		}
		c.scratch = utf8.AppendRune(c.scratch, r)
		inWord = unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	return c.made(from), nil
}

func reverse(c *Ctx, a change.Value) (change.Value, error) {
	from := len(c.scratch)
	for rest := a.B; len(rest) > 0; {
		_, n := utf8.DecodeLastRune(rest)
		c.scratch = append(c.scratch, rest[len(rest)-n:]...)
		rest = rest[:len(rest)-n]
	}
	return c.made(from), nil
}

func repeat(c *Ctx, a, b change.Value) (change.Value, error) {
	n := max(b.N, 0)
	if len(a.B) > 0 && n > int64(MaxValue/len(a.B)) {
		return a, tooLong()
	}
	from := len(c.scratch)
	if len(a.B) > 0 {
		for range n {
			c.scratch = append(c.scratch, a.B...)
		}
	}
	return c.made(from), nil
}

func replace(c *Ctx, a, b, d change.Value) (change.Value, error) {
	if len(b.B) == 0 {
		return a, nil
	}
	i := bytes.Index(a.B, b.B)
	if i < 0 {
		return a, nil
	}
	from := len(c.scratch)
	rest := a.B
	for ; i >= 0; i = bytes.Index(rest, b.B) {
		c.scratch = append(append(c.scratch, rest[:i]...), d.B...)
		if rest = rest[i+len(b.B):]; len(c.scratch)-from > MaxValue {
			return a, tooLong()
		}
	}
	c.scratch = append(c.scratch, rest...)
	return c.made(from), nil
}

// position returns where sub begins in s, counted in characters from 1; 0 when nowhere.
func position(s, sub []byte) change.Value {
	i := bytes.Index(s, sub)
	if i < 0 {
		return change.Int(0)
	}
	return change.Int(int64(utf8.RuneCount(s[:i])) + 1)
}

func chr(c *Ctx, a change.Value) (change.Value, error) {
	switch r := rune(a.N); {
	case a.N < 0:
		return a, evalErrorf(codeParameter, "character number must be positive")
	case a.N == 0:
		return a, evalErrorf(codeLimit, "null character not permitted")
	case a.N > utf8.MaxRune || !utf8.ValidRune(r):
		return a, evalErrorf(codeLimit, "requested character too large for encoding: %d", a.N)
	}
	from := len(c.scratch)
	c.scratch = utf8.AppendRune(c.scratch, rune(a.N))
	return c.made(from), nil
}

func addTextTrim(c *catalog) {
	for _, t := range []struct {
		name        string
		left, right bool
	}{{"btrim", true, true}, {"ltrim", true, false}, {"rtrim", false, true}} {
		c.add(t.name+"(text) text", func(_ *Ctx, a change.Value) (change.Value, error) {
			return change.Bytes(trim(a.B, []byte{' '}, t.left, t.right)), nil
		})
		c.add(t.name+"(text, text) text", func(_ *Ctx, a, b change.Value) (change.Value, error) {
			return change.Bytes(trim(a.B, b.B, t.left, t.right)), nil
		})
	}
	c.add("lpad(text, integer) text", func(c *Ctx, a, b change.Value) (change.Value, error) { return pad(c, a.B, b.N, []byte{' '}, true) })
	c.add("rpad(text, integer) text", func(c *Ctx, a, b change.Value) (change.Value, error) { return pad(c, a.B, b.N, []byte{' '}, false) })
	c.add("lpad(text, integer, text) text", func(c *Ctx, a, b, d change.Value) (change.Value, error) { return pad(c, a.B, b.N, d.B, true) })
	c.add("rpad(text, integer, text) text", func(c *Ctx, a, b, d change.Value) (change.Value, error) { return pad(c, a.B, b.N, d.B, false) })
}

// trim removes characters of a set from the ends.
func trim(s, set []byte, left, right bool) []byte {
	for left && len(s) > 0 {
		_, n := utf8.DecodeRune(s)
		if !bytes.Contains(set, s[:n]) {
			break
		}
		s = s[n:]
	}
	for right && len(s) > 0 {
		_, n := utf8.DecodeLastRune(s)
		if !bytes.Contains(set, s[len(s)-n:]) {
			break
		}
		s = s[:len(s)-n]
	}
	return s
}

// pad fills up to, or cuts to, a number of characters.
func pad(c *Ctx, s []byte, length int64, fill []byte, left bool) (change.Value, error) {
	have := int64(utf8.RuneCount(s))
	if length = max(length, 0); length <= have || len(fill) == 0 {
		return change.Bytes(s[:runeOffset(s, min(length, have))]), nil
	}
	if length > MaxValue {
		return change.Value{}, tooLong()
	}
	from := len(c.scratch)
	if !left {
		c.scratch = append(c.scratch, s...)
	}
	for rest, n := fill, length-have; n > 0; n-- {
		_, size := utf8.DecodeRune(rest)
		c.scratch = append(c.scratch, rest[:size]...)
		if rest = rest[size:]; len(rest) == 0 {
			rest = fill
		}
	}
	if left {
		c.scratch = append(c.scratch, s...)
	}
	if len(c.scratch)-from > MaxValue {
		return change.Value{}, tooLong()
	}
	return c.made(from), nil
}

// runeOffset returns where character n (from 0) begins; len(s) beyond the last.
func runeOffset(s []byte, n int64) int {
	at := 0
	for ; n > 0 && at < len(s); n-- {
		_, size := utf8.DecodeRune(s[at:])
		at += size
	}
	return at
}

func addTextParts(c *catalog) {
	for _, name := range []string{"substr", "substring"} {
		c.add(name+"(text, integer) text", func(_ *Ctx, a, b change.Value) (change.Value, error) {
			return change.Bytes(a.B[runeOffset(a.B, b.N-1):]), nil
		})
		c.add(name+"(text, integer, integer) text", func(_ *Ctx, a, b, d change.Value) (change.Value, error) {
			return substring(a.B, b.N, d.N)
		})
	}
	c.add("overlay(text, text, integer) text", func(c *Ctx, args []change.Value) (change.Value, error) {
		return overlay(c, args[0].B, args[1].B, args[2].N, int64(utf8.RuneCount(args[1].B)))
	})
	c.add("overlay(text, text, integer, integer) text", func(c *Ctx, args []change.Value) (change.Value, error) {
		return overlay(c, args[0].B, args[1].B, args[2].N, args[3].N)
	})
	c.add("left(text, integer) text", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		n := b.N
		if n < 0 {
			n += int64(utf8.RuneCount(a.B))
		}
		return change.Bytes(a.B[:runeOffset(a.B, n)]), nil
	})
	c.add("right(text, integer) text", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		n := -b.N
		if n <= 0 {
			n += int64(utf8.RuneCount(a.B))
		}
		return change.Bytes(a.B[runeOffset(a.B, n):]), nil
	})
	c.add("split_part(text, text, integer) text", splitPart)
}

// substring takes length characters from start, counted from 1; what lies before the text counts but is not there.
func substring(s []byte, start, length int64) (change.Value, error) {
	if length < 0 {
		return change.Value{}, &EvalError{codeSubstring, "negative substring length not allowed"}
	}
	end := start + length // both are of 32 bits
	from := runeOffset(s, start-1)
	if end <= max(start, 1) {
		return change.Bytes(s[from:from]), nil
	}
	return change.Bytes(s[from : from+runeOffset(s[from:], end-max(start, 1))]), nil
}

// overlay replaces length characters from start, counted from 1.
func overlay(c *Ctx, s, by []byte, start, length int64) (change.Value, error) {
	if start <= 0 {
		return change.Value{}, &EvalError{codeSubstring, "negative substring length not allowed"}
	}
	if !fitInt(app.Int4, start+length) {
		return change.Value{}, rangeError(app.Int4)
	}
	head, tail := s[:runeOffset(s, start-1)], s[runeOffset(s, start+length-1):]
	if len(head)+len(by)+len(tail) > MaxValue {
		return change.Value{}, tooLong()
	}
	from := len(c.scratch)
	c.scratch = append(append(append(c.scratch, head...), by...), tail...)
	return c.made(from), nil
}

func splitPart(_ *Ctx, a, b, d change.Value) (change.Value, error) {
	n := d.N
	if n == 0 {
		return a, &EvalError{codeParameter, "field position must not be zero"}
	}
	if len(b.B) == 0 {
		if n == 1 || n == -1 {
			return a, nil
		}
		return change.Bytes(nil), nil
	}
	if n < 0 {
		if n += int64(bytes.Count(a.B, b.B)) + 2; n < 1 {
			return change.Bytes(nil), nil
		}
	}
	rest := a.B
	for ; ; n-- {
		i := bytes.Index(rest, b.B)
		switch {
		case n == 1 && i < 0:
			return change.Bytes(rest), nil
		case n == 1:
			return change.Bytes(rest[:i:i]), nil
		case i < 0:
			return change.Bytes(nil), nil
		}
		rest = rest[i+len(b.B):]
	}
}

func addTextJoin(c *catalog) {
	c.add("||(text, text) text", join)
	c.add("||(text, anynonarray) text", buildFunc(buildJoin))
	c.add("||(anynonarray, text) text", buildFunc(buildJoin))
	c.add("concat(any...) text", buildFunc(buildConcat))
	c.add("concat_ws(text, any...) text", buildFunc(buildConcat))
}

func join(c *Ctx, a, b change.Value) (change.Value, error) {
	if len(a.B)+len(b.B) > MaxValue {
		return a, tooLong()
	}
	from := len(c.scratch)
	c.scratch = append(append(c.scratch, a.B...), b.B...)
	return c.made(from), nil
}

// buildJoin compiles text || any: the other operand is printed.
func buildJoin(n *Node, _ *change.Layout, args []Func) (Func, error) {
	ta, tb := n.Args[0].Type, n.Args[1].Type
	return strict2(func(c *Ctx, a, b change.Value) (change.Value, error) {
		return join(c, c.text(ta, a), c.text(tb, b))
	}, args[0], args[1]), nil
}

// buildConcat compiles concat, and concat_ws, whose first argument goes between the others. NULLs are skipped, but for the
// separator, which makes the result NULL.
func buildConcat(n *Node, _ *change.Layout, args []Func) (Func, error) {
	types := typesOf(n.Args)
	separated := n.Func.Name == "concat_ws"
	return all(func(c *Ctx, args []change.Value) (change.Value, error) {
		types, sep := types, []byte(nil)
		if separated {
			if args[0].Null {
				return change.Null(), nil
			}
			sep, args, types = args[0].B, args[1:], types[1:]
		}
		return concat(c, sep, args, types)
	}, args), nil
}

func concat(c *Ctx, sep []byte, args []change.Value, types []app.Type) (change.Value, error) {
	from, first := len(c.scratch), true
	for i, v := range args {
		if v.Null {
			continue
		}
		if !first {
			c.scratch = append(c.scratch, sep...)
		}
		first = false
		c.scratch = AppendText(c.scratch, types[i], v) // its output, unlike ||, which casts: true is t here
		if len(c.scratch)-from > MaxValue {
			return v, tooLong()
		}
	}
	return c.made(from), nil
}
