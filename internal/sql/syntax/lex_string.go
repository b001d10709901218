package syntax

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// style says how the inside of a string is read.
type style uint8

const (
	plainString   style = iota // '' is a quote
	escapeString               // E'': backslash escapes too
	unicodeString              // U&'': \XXXX and \+XXXXXX, or another character after UESCAPE
)

// quoted reads a string whose opening takes n bytes, with its continuations on following lines.
func (l *lexer) quoted(n int, k kind, st style) {
	start := l.at
	l.at += n
	var b strings.Builder
	for {
		if !l.segment(&b, st) {
			l.fail(start, start+n, "this string is never closed", "end it with ' (inside a string, write a quote as '')")
			l.emit(k, start, "")
			return
		}
		if !l.continues() {
			break
		}
	}
	text := b.String()
	switch {
	case st == unicodeString:
		text = l.unescape(start, text)
	case k == tBit && strings.Trim(text, "01") != "":
		l.fail(start, l.at, "B'..' may contain only 0 and 1", "")
	case k == tHex && strings.Trim(text, "0123456789abcdefABCDEF") != "":
		l.fail(start, l.at, "X'..' may contain only hexadecimal digits", "")
	}
	l.checkText(start, text)
	l.emit(k, start, text)
}

// segment reads up to and over the closing quote. It returns false when there is none.
func (l *lexer) segment(b *strings.Builder, st style) bool {
	for l.at < len(l.src) {
		c := l.src[l.at]
		l.at++
		switch {
		case c == '\'' && l.peek(0) == '\'':
			b.WriteByte(c)
			l.at++
		case c == '\'':
			return true
		case c == '\\' && st == escapeString:
			l.escape(b)
		default:
			b.WriteByte(c)
		}
	}
	return false
}

// continues reports whether the string goes on after white space with a newline in it, and moves into that part. (The
// oracle's scanner does not read on over a comment there, so neither do we.)
func (l *lexer) continues() bool {
	at, newline := l.at, false
	for at < len(l.src) && isSpace(l.src[at]) {
		newline = newline || l.src[at] == '\n' || l.src[at] == '\r'
		at++
	}
	if !newline || at >= len(l.src) || l.src[at] != '\'' {
		return false
	}
	l.at = at + 1
	return true
}

// escape reads what follows a backslash in E”.
func (l *lexer) escape(b *strings.Builder) {
	start := l.at - 1
	if l.at >= len(l.src) {
		return
	}
	c := l.src[l.at]
	l.at++
	switch c {
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'v':
		b.WriteByte('\v')
	case 'x':
		if n := l.hexRun(2); n > 0 {
			b.WriteByte(byte(l.hexValue(n)))
		} else {
			b.WriteByte(c)
		}
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v := uint(c - '0')
		for i := 0; i < 2 && l.peek(0) >= '0' && l.peek(0) <= '7'; i++ {
			v = v*8 + uint(l.peek(0)-'0')
			l.at++
		}
		b.WriteByte(byte(v))
	case 'u', 'U':
		l.unicodeEscape(b, start, c)
	default:
		b.WriteByte(c)
	}
}

// hexRun returns how many hexadecimal digits stand here, at most n.
func (l *lexer) hexRun(n int) int {
	i := 0
	for i < n && isHex(l.peek(i)) {
		i++
	}
	return i
}

func (l *lexer) hexValue(n int) uint64 {
	v, _ := strconv.ParseUint(l.src[l.at:l.at+n], 16, 64)
	l.at += n
	return v
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// unicodeEscape reads the digits of \uXXXX and \UXXXXXXXX, and the second half of a surrogate pair.
func (l *lexer) unicodeEscape(b *strings.Builder, start int, c byte) {
	n := 4
	if c == 'U' {
		n = 8
	}
	if l.hexRun(n) < n {
		l.fail(start, l.at, "this escape needs "+strconv.Itoa(n)+" hexadecimal digits", `write \uXXXX or \UXXXXXXXX`)
		return
	}
	r := l.hexValue(n)
	if r >= 0xD800 && r <= 0xDBFF && l.peek(0) == '\\' && (l.peek(1) == 'u' || l.peek(1) == 'U') {
		m := 4
		if l.peek(1) == 'U' {
			m = 8
		}
		l.at += 2
		if l.hexRun(m) == m {
			if low := l.hexValue(m); low >= 0xDC00 && low <= 0xDFFF {
				r = uint64(utf16.DecodeRune(rune(r), rune(low)))
			}
		}
	}
	l.writeRune(b, start, r)
}

func (l *lexer) writeRune(b *strings.Builder, start int, r uint64) {
	if r == 0 || r > utf8.MaxRune || r >= 0xD800 && r <= 0xDFFF {
		l.fail(start, l.at, "this escape is not a Unicode character", "")
		return
	}
	b.WriteRune(rune(r))
}

// quotedIdent reads "name" and U&"name", whose opening takes n bytes.
func (l *lexer) quotedIdent(n int, unicode bool) {
	start := l.at
	l.at += n
	var b strings.Builder
	for {
		i := strings.IndexByte(l.src[l.at:], '"')
		if i < 0 {
			l.fail(start, start+n, "this quoted name is never closed", `end it with " (double quotes are for names, single quotes for strings)`)
			l.at = len(l.src)
			break
		}
		b.WriteString(l.src[l.at : l.at+i])
		l.at += i + 1
		if l.peek(0) != '"' {
			break
		}
		b.WriteByte('"')
		l.at++
	}
	text := b.String()
	if unicode {
		text = l.unescape(start, text)
	}
	l.checkIdent(start, text)
	l.emit(tIdent, start, text)
	l.toks[len(l.toks)-1].quoted = true
}

// unescape decodes the inside of U&” and U&"", after reading the UESCAPE that may follow.
func (l *lexer) unescape(start int, s string) string {
	esc := l.uescape()
	var b strings.Builder
	in := &lexer{src: s}
	for in.at < len(s) {
		c := s[in.at]
		in.at++
		if c != esc {
			b.WriteByte(c)
			continue
		}
		if in.peek(0) == esc {
			b.WriteByte(esc)
			in.at++
			continue
		}
		r, ok := in.unicodeDigits()
		if ok && r >= 0xD800 && r <= 0xDBFF && in.peek(0) == esc {
			in.at++
			low, _ := in.unicodeDigits()
			r = uint64(utf16.DecodeRune(rune(r), rune(low)))
			ok = r != utf8.RuneError
		}
		if !ok {
			l.fail(start, l.at, "invalid Unicode escape in U&", `write \XXXX or \+XXXXXX with hexadecimal digits`)
			return b.String()
		}
		l.writeRune(&b, start, r)
	}
	return b.String()
}

func (l *lexer) unicodeDigits() (uint64, bool) {
	n := 4
	if l.peek(0) == '+' {
		l.at++
		n = 6
	}
	if l.hexRun(n) < n {
		return 0, false
	}
	return l.hexValue(n), true
}

// uescape reads UESCAPE 'c' if it comes next, and returns the escape character, by default a backslash.
func (l *lexer) uescape() byte {
	save := l.at
	if l.skipSpace() && len(l.src)-l.at >= 7 && fold(l.src[l.at:l.at+7]) == "uescape" && !isIdent(l.peek(7)) {
		start := l.at
		l.at += 7
		if l.skipSpace() && l.peek(0) == '\'' && l.peek(2) == '\'' && l.peek(3) != '\'' {
			c := l.peek(1)
			if !isHex(c) && !isSpace(c) && c != '+' && c != '\'' && c != '"' {
				l.at += 3
				return c
			}
		}
		l.fail(start, l.at, "invalid UESCAPE", "write UESCAPE '!' with one character that is no digit, letter of a-f, +, quote or space")
		return '\\'
	}
	l.at = save
	return '\\'
}

// checkText reports a string that no text value can hold.
func (l *lexer) checkText(start int, s string) {
	switch {
	case strings.IndexByte(s, 0) >= 0:
		l.fail(start, l.at, "a string cannot contain a NUL byte", "")
	case !utf8.ValidString(s):
		l.fail(start, l.at, "this string is not valid UTF-8", "save the file as UTF-8")
	}
}
