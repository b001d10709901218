package syntax

import (
	"strconv"
	"strings"
)

// number reads a number: 1, 1.5, .5, 1e5, 0x1F, 0o17, 0b11, with underscores between digits.
func (l *lexer) number() {
	start := l.at
	if l.src[start] == '0' && l.radix(start) {
		return
	}
	float := false
	l.digits(isDigit)
	if l.peek(0) == '.' && l.peek(1) != '.' {
		float = true
		l.at++
		if isDigit(l.peek(0)) {
			l.digits(isDigit)
		}
	}
	if c := l.peek(0) | 0x20; c == 'e' {
		n := 1
		if l.peek(1) == '+' || l.peek(1) == '-' {
			n = 2
		}
		if isDigit(l.peek(n)) {
			float = true
			l.at += n
			l.digits(isDigit)
		} else if n == 2 {
			l.at += n
		}
	}
	if l.junk(start, "after a number") {
		return
	}
	l.emitNumber(start, float)
}

// radix reads 0x, 0o and 0b numbers. It returns false when there is none here.
func (l *lexer) radix(start int) bool {
	var ok func(byte) bool
	var name string
	switch l.peek(1) | 0x20 {
	case 'x':
		name, ok = "hexadecimal", func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
	case 'o':
		name, ok = "octal", func(c byte) bool { return '0' <= c && c <= '7' }
	case 'b':
		name, ok = "binary", func(c byte) bool { return c == '0' || c == '1' }
	default:
		return false
	}
	l.at += 2
	if l.peek(0) == '_' && ok(l.peek(1)) {
		l.at++
	}
	if !ok(l.peek(0)) {
		l.junk(start, "in a "+name+" number")
		return true
	}
	l.digits(ok)
	if !l.junk(start, "after a number") {
		l.emitNumber(start, false)
	}
	return true
}

// digits reads digits with single underscores between them.
func (l *lexer) digits(ok func(byte) bool) {
	for ok(l.peek(0)) || l.peek(0) == '_' && ok(l.peek(1)) {
		l.at++
	}
}

// junk reports letters that stick to a number, such as 12abc, and reads them as part of it.
func (l *lexer) junk(start int, where string) bool {
	from := l.at
	for l.at < len(l.src) && isIdent(l.src[l.at]) {
		l.at++
	}
	bad := l.at > from || from > start && strings.IndexByte("+-xXoObB", l.src[from-1]) >= 0
	if bad {
		l.fail(start, l.at, "unexpected characters "+where+": "+quote(l.src[start:l.at]), "a name cannot begin with a digit unless it is in double quotes")
		l.emit(tInt, start, "0")
	}
	return bad
}

func (l *lexer) emitNumber(start int, float bool) {
	text := l.src[start:l.at]
	if !float {
		if n, err := strconv.ParseInt(integerText(text), 0, 32); err == nil {
			l.emit(tInt, start, strconv.FormatInt(n, 10))
			return
		}
	}
	l.emit(tNum, start, text)
}

// integerText makes an integer of SQL one of Go: no leading zeros (Go would read them as octal), no underscores.
func integerText(s string) string {
	s = strings.ReplaceAll(s, "_", "")
	if len(s) > 1 && s[0] == '0' && isDigit(s[1]) {
		s = strings.TrimLeft(s[:len(s)-1], "0") + s[len(s)-1:]
	}
	return s
}

// dollar reads $1 parameters and $tag$ strings.
func (l *lexer) dollar() {
	start := l.at
	l.at++
	if isDigit(l.peek(0)) {
		for isDigit(l.peek(0)) {
			l.at++
		}
		if !l.junk(start, "after a parameter") {
			l.emit(tParam, start, l.src[start+1:l.at])
		}
		return
	}
	for isIdent(l.peek(0)) && l.peek(0) != '$' {
		l.at++
	}
	if l.peek(0) != '$' {
		l.at = start + 1
		l.fail(start, l.at, `unexpected character "$"`, "")
		return
	}
	l.at++
	tag := l.src[start:l.at]
	n := strings.Index(l.src[l.at:], tag)
	if n < 0 {
		l.fail(start, l.at, "this string is never closed", "end it with "+tag)
		l.at = len(l.src)
		l.emit(tString, start, "")
		return
	}
	text := l.src[l.at : l.at+n]
	l.at += n + len(tag)
	l.checkText(start, text)
	l.emit(tString, start, text)
}
