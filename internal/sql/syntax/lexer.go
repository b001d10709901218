package syntax

import (
	"strings"
	"unicode/utf8"
)

// lexer cuts a text into tokens by PostgreSQL's rules (its flex scanner with standard_conforming_strings on).
type lexer struct {
	src  string
	at   int
	toks []token
	errs []*Error
}

// lex returns the tokens of src, the last one tEOF, and the errors. After an error it goes on as well as it can.
func lex(src string) ([]token, []*Error) {
	l := &lexer{src: src, toks: make([]token, 0, len(src)/5+8)}
	for l.next() {
	}
	l.emit(tEOF, len(src), "")
	return l.toks, l.errs
}

func (l *lexer) fail(pos, end int, msg, hint string) {
	if len(l.errs) < MaxErrors {
		l.errs = append(l.errs, &Error{Pos: pos, End: end, Msg: msg, Hint: hint})
	}
}

// emit adds a token that began at pos and ends where the lexer stands.
func (l *lexer) emit(k kind, pos int, text string) {
	l.toks = append(l.toks, token{kind: k, pos: pos, end: l.at, text: text})
}

// peek returns the byte n after the current one, 0 beyond the end.
func (l *lexer) peek(n int) byte {
	if l.at+n < len(l.src) {
		return l.src[l.at+n]
	}
	return 0
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}
func isDigit(c byte) bool      { return '0' <= c && c <= '9' }
func isIdentStart(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func isIdent(c byte) bool      { return isIdentStart(c) || isDigit(c) || c == '$' }
func isOp(c byte) bool         { return c != 0 && strings.IndexByte("~!@#^&|`?+-*/%<>=", c) >= 0 }

// next reads one token. It returns false at the end of the text.
func (l *lexer) next() bool {
	if !l.skipSpace() {
		return false
	}
	c, n := l.src[l.at], l.peek(1)
	switch {
	case c == '\'':
		l.quoted(1, tString, plainString)
	case (c == 'e' || c == 'E') && n == '\'':
		l.quoted(2, tString, escapeString)
	case (c == 'b' || c == 'B') && n == '\'':
		l.quoted(2, tBit, plainString)
	case (c == 'x' || c == 'X') && n == '\'':
		l.quoted(2, tHex, plainString)
	case (c == 'u' || c == 'U') && n == '&' && l.peek(2) == '\'':
		l.quoted(3, tString, unicodeString)
	case (c == 'u' || c == 'U') && n == '&' && l.peek(2) == '"':
		l.quotedIdent(3, true)
	case (c == 'n' || c == 'N') && n == '\'':
		l.at++
		l.toks = append(l.toks, token{kind: tKeyword, word: keywords["nchar"], pos: l.at - 1, end: l.at, text: "nchar"})
	case c == '"':
		l.quotedIdent(1, false)
	case c == '$':
		l.dollar()
	case isIdentStart(c):
		l.ident()
	case isDigit(c) || c == '.' && isDigit(n):
		l.number()
	case isOp(c):
		l.operator()
	default:
		l.punctuation(c, n)
	}
	return true
}

// skipSpace moves to the next token, over white space and comments. It returns false at the end of the text.
func (l *lexer) skipSpace() bool {
	for l.at < len(l.src) {
		switch c := l.src[l.at]; {
		case isSpace(c):
			l.at++
		case c == '-' && l.peek(1) == '-':
			l.lineComment()
		case c == '/' && l.peek(1) == '*':
			l.blockComment()
		case c == 0xEF && l.at == 0 && strings.HasPrefix(l.src, "\uFEFF"):
			l.fail(0, 3, "the file begins with a byte order mark", "save it as UTF-8 without BOM")
			l.at += 3
		default:
			return true
		}
	}
	return false
}

func (l *lexer) lineComment() {
	for l.at < len(l.src) && l.src[l.at] != '\n' && l.src[l.at] != '\r' {
		l.at++
	}
}

// blockComment skips a comment; such comments nest.
func (l *lexer) blockComment() {
	start, depth := l.at, 0
	for l.at < len(l.src) {
		switch {
		case l.src[l.at] == '/' && l.peek(1) == '*':
			depth++
			l.at += 2
		case l.src[l.at] == '*' && l.peek(1) == '/':
			depth--
			l.at += 2
			if depth == 0 {
				return
			}
		default:
			l.at++
		}
	}
	l.fail(start, start+2, "this comment is never closed", "end it with */ (comments nest: each /* needs its own */)")
}

func (l *lexer) ident() {
	start := l.at
	for l.at < len(l.src) && isIdent(l.src[l.at]) {
		l.at++
	}
	text := fold(l.src[start:l.at])
	if w, ok := keywords[text]; ok {
		l.toks = append(l.toks, token{kind: tKeyword, word: w, pos: start, end: l.at, text: text})
		return
	}
	l.checkIdent(start, text)
	l.emit(tIdent, start, text)
}

func (l *lexer) checkIdent(start int, text string) {
	switch {
	case text == "":
		l.fail(start, l.at, "a quoted name is empty", "")
	case len(text) > maxIdent:
		l.fail(start, l.at, "this name is longer than 63 bytes", "PostgreSQL would cut it; choose a shorter one")
	case !utf8.ValidString(text):
		l.fail(start, l.at, "this name is not valid UTF-8", "save the file as UTF-8")
	case strings.IndexByte(text, 0) >= 0:
		l.fail(start, l.at, "a name cannot contain a NUL byte", "")
	}
}

// fold lower-cases the ASCII letters, as PostgreSQL does with unquoted names in UTF-8.
func fold(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] |= 0x20
				}
			}
			return string(b)
		}
	}
	return s
}

// operator reads the longest operator, ended by a comment, and gives back trailing + and - unless the operator has a
// character that no operator of standard SQL has: so a*-b is a * (-b), and @- is one operator.
func (l *lexer) operator() {
	start := l.at
	end := start
	for end < len(l.src) && isOp(l.src[end]) {
		if end > start && (strings.HasPrefix(l.src[end:], "--") || strings.HasPrefix(l.src[end:], "/*")) {
			break
		}
		end++
	}
	for end-start > 1 && (l.src[end-1] == '+' || l.src[end-1] == '-') && !strings.ContainsAny(l.src[start:end-1], "~!@#^&|`?%") {
		end--
	}
	l.at = end
	text := l.src[start:end]
	switch {
	case text == "=>":
		l.emit(tPunct, start, text)
		return
	case text == "!=":
		text = "<>"
	case len(text) > maxIdent:
		l.fail(start, end, "this operator is longer than 63 bytes", "")
	}
	l.emit(tOp, start, text)
}

func (l *lexer) punctuation(c, n byte) {
	start := l.at
	l.at++
	switch {
	case c == ':' && n == ':', c == ':' && n == '=', c == '.' && n == '.':
		l.at++
		l.emit(tPunct, start, l.src[start:l.at])
	case strings.IndexByte(",()[].;:", c) >= 0:
		l.emit(tPunct, start, l.src[start:l.at])
	case c == '\\':
		l.fail(start, l.at, `unexpected character "\"`, "commands of psql such as \\d are not SQL")
	case c == 0:
		l.fail(start, l.at, "unexpected NUL byte", "the file must be text, saved as UTF-8")
	default:
		l.fail(start, l.at, "unexpected character "+quote(string(rune(c))), "")
	}
}
