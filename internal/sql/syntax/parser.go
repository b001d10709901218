package syntax

import (
	"slices"
	"strconv"
)

// parser reads tokens by recursive descent. A syntax error is recorded and then thrown as a bail, which the nearest
// list or statement catches to go on behind it.
type parser struct {
	src   string
	toks  []token
	nest  []int32 // parenthesis depth of each token; a pair of parentheses has the depth of what is around it
	at    int
	depth int
	start int // where the statement being read begins
	lex   []*Error
	errs  []*Error
	full  bool // MaxErrors was reached
}

// bail unwinds to the nearest recovery point; with whole set, to the end of the statement. It never leaves the package.
type bail struct{ whole bool }

// Parse reads a text of statements that end with semicolons. It returns the statements that could be read, in order, and
// every error found, by place. Of a statement with an error in a list there may be a partial tree, marked as such.
func Parse(src string) ([]Statement, []*Error) {
	if len(src) > MaxBytes {
		return nil, []*Error{{Kind: TooLarge, Msg: "the file has " + strconv.Itoa(len(src)) + " bytes, more than the limit of 1 MiB"}}
	}
	p := newParser(src)
	var list []Statement
	for !p.full {
		for p.punct(";") {
			p.at++
		}
		if p.tok().kind == tEOF {
			break
		}
		if s := p.oneStatement(); s != nil {
			list = append(list, s)
		}
	}
	return list, p.errors()
}

func newParser(src string) *parser {
	p := &parser{src: src}
	p.toks, p.lex = lex(src)
	p.nest = make([]int32, len(p.toks))
	depth := int32(0)
	for i := range p.toks {
		t := &p.toks[i]
		switch {
		case t.punct(";"):
			depth = 0
		case t.punct(")") && depth > 0:
			depth--
		}
		p.nest[i] = depth
		t.word.joined = joins(t, &p.toks[min(i+1, len(p.toks)-1)])
		if t.punct("(") {
			depth++
		}
	}
	return p
}

// joins reports whether two words are one token of PostgreSQL's grammar.
func joins(t, next *token) bool {
	if t.kind != tKeyword || next.kind != tKeyword {
		return false
	}
	switch t.text {
	case "not":
		return next.text == "between" || next.text == "in" || next.text == "like" || next.text == "ilike" || next.text == "similar"
	case "nulls":
		return next.text == "first" || next.text == "last"
	case "with":
		return next.text == "time" || next.text == "ordinality"
	case "without":
		return next.text == "time"
	case "format":
		return next.text == "json"
	}
	return false
}

// errors returns what the lexer and the parser found, by place.
func (p *parser) errors() []*Error {
	all := slices.Concat(p.lex, p.errs)
	slices.SortStableFunc(all, func(a, b *Error) int { return a.Pos - b.Pos })
	all = slices.CompactFunc(all, func(a, b *Error) bool { return a.Pos == b.Pos && a.Msg == b.Msg })
	if len(all) > MaxErrors {
		all = append(all[:MaxErrors:MaxErrors], &Error{Kind: TooMany, Pos: all[MaxErrors].Pos, End: all[MaxErrors].End,
			Msg: "too many errors; the rest of the file was not read"})
	}
	return all
}

// oneStatement reads a statement and its semicolon. After an error it returns nil and stands behind the statement.
func (p *parser) oneStatement() (s Statement) {
	begin, errs := p.at, len(p.errs)
	p.start = p.tok().pos
	ok := p.attempt(true, func() {
		s = p.statement()
		if !p.punct(";") && p.tok().kind != tEOF {
			p.unexpected(`";"`)
		}
	})
	if !ok {
		p.at = max(p.at, begin+1)
		for !p.punct(";") && p.tok().kind != tEOF && !p.startsStatement() {
			p.at++
		}
		return nil
	}
	if len(p.errs) == errs && !p.lexErrors() {
		return s
	}
	switch s := s.(type) {
	case *CreateTable:
		s.Partial = true
		return s
	case *CreateView:
		s.Partial = true
		return s
	}
	return nil
}

// lexErrors reports whether a token of the statement that was just read is broken.
func (p *parser) lexErrors() bool {
	return slices.ContainsFunc(p.lex, func(e *Error) bool { return e.Pos >= p.start && e.Pos < p.end() })
}

// startsStatement reports whether the token can only begin a statement: the recovery after a forgotten semicolon.
func (p *parser) startsStatement() bool {
	return p.is("create") || p.is("grant")
}

// try runs f and reports whether it came through without a syntax error. What concerns the whole statement passes on.
func (p *parser) try(f func()) (ok bool) { return p.attempt(false, f) }

func (p *parser) attempt(statement bool, f func()) (ok bool) {
	depth := p.depth
	defer func() {
		if r := recover(); r != nil {
			if b, is := r.(bail); !is || b.whole && !statement {
				panic(r)
			}
			p.depth = depth
		}
	}()
	f()
	return true
}

// fail records an error at the span and unwinds.
func (p *parser) fail(at Span, msg, hint string) { p.failAs(BadSyntax, at, msg, hint) }

func (p *parser) failAs(k ErrorKind, at Span, msg, hint string) {
	p.report(k, at, msg, hint)
	panic(bail{whole: k == TooDeep || p.full})
}

// report records an error and goes on. What follows a broken token in its statement is not reported: it would be noise.
func (p *parser) report(k ErrorKind, at Span, msg, hint string) {
	for _, e := range p.lex {
		if e.Pos >= p.start && e.Pos <= at.Pos {
			return
		}
	}
	p.errs = append(p.errs, &Error{Kind: k, Pos: at.Pos, End: at.End, Msg: msg, Hint: hint})
	p.full = len(p.errs) > MaxErrors
}

// unsupported refuses SQL that PostgreSQL has and we do not read.
func (p *parser) unsupported(at Span, what, hint string) {
	p.failAs(Unsupported, at, what+" is not supported", hint)
}

// unexpected fails at the current token.
func (p *parser) unexpected(expected string) {
	t := p.tok()
	hint := p.suggest()
	if hint == "" && t.kind == tKeyword && t.word.class == Reserved && expected == "a name" {
		hint = "it is a word of SQL; to use it as a name, put it in double quotes"
	}
	p.fail(Span{t.pos, t.end}, "expected "+expected+", found "+t.describe(), hint)
}

// enter counts one level of nesting; each needs a leave. It bounds the recursion of every walk over the tree.
func (p *parser) enter() {
	if p.depth++; p.depth > MaxDepth {
		t := p.tok()
		p.failAs(TooDeep, Span{t.pos, t.end}, "nested more than "+strconv.Itoa(MaxDepth)+" levels deep", "split the query into several views")
	}
}

func (p *parser) leave() { p.depth-- }

// chain bounds what is built by iteration, such as a + b + c: the tree is as deep as the chain is long.
func (p *parser) chain(n int) {
	if n > MaxChain {
		t := p.tok()
		p.failAs(TooDeep, Span{t.pos, t.end}, "more than "+strconv.Itoa(MaxChain)+" operators in a row", "")
	}
}

func (p *parser) tok() *token { return &p.toks[p.at] }

// ahead returns the token n after the current one.
func (p *parser) ahead(n int) *token { return &p.toks[min(p.at+n, len(p.toks)-1)] }

func (p *parser) is(w string) bool    { return p.tok().is(w) }
func (p *parser) punct(s string) bool { return p.tok().punct(s) }
func (p *parser) op(s string) bool    { return p.tok().op(s) }

// next returns the current token and moves on. It never moves behind the end.
func (p *parser) next() *token {
	t := p.tok()
	if t.kind != tEOF {
		p.at++
	}
	return t
}

// end returns where the last token read ends.
func (p *parser) end() int {
	if p.at == 0 {
		return 0
	}
	return p.toks[p.at-1].end
}

// from returns the span from a start to the end of the last token read.
func (p *parser) from(pos int) Span { return Span{pos, max(pos, p.end())} }

// accept reads the keywords ws if all of them come next.
func (p *parser) accept(ws ...string) bool {
	for i, w := range ws {
		if !p.ahead(i).is(w) {
			return false
		}
	}
	p.at += len(ws)
	return true
}

func (p *parser) acceptPunct(s string) bool {
	if p.punct(s) {
		p.at++
		return true
	}
	return false
}

// expect reads the keywords ws.
func (p *parser) expect(ws ...string) {
	for _, w := range ws {
		if !p.accept(w) {
			p.unexpected(upper(w))
		}
	}
}

func (p *parser) expectPunct(s string) *token {
	if !p.punct(s) {
		p.unexpected(`"` + s + `"`)
	}
	return p.next()
}

// closing reads the parenthesis that closes a list.
func (p *parser) closing() {
	if !p.punct(")") {
		p.unexpected(`"," or ")"`)
	}
	p.next()
}
