package syntax

import "strconv"

// operand reads what operators connect (c_expr).
func (p *parser) operand(b bool) Expr {
	t := p.tok()
	switch t.kind {
	case tInt, tNum, tString, tBit, tHex:
		p.next()
		kinds := map[kind]LiteralKind{tInt: Int, tNum: Num, tString: String, tBit: Bit, tHex: Hex}
		return &Literal{Span{t.pos, t.end}, kinds[t.kind], t.text}
	case tParam:
		p.next()
		n, err := strconv.ParseInt(t.text, 10, 32)
		if err != nil {
			p.fail(Span{t.pos, t.end}, "parameter number too large", "")
		}
		return p.indirection(&Param{Span{t.pos, t.end}, int(n)})
	case tPunct:
		if t.text == "(" {
			return p.parenthesised(b)
		}
	case tIdent:
		return p.named()
	case tKeyword:
		return p.operandWord(b)
	}
	p.unexpected("an expression")
	return nil
}

// parenthesised reads (x), (a, b) and (SELECT ..).
func (p *parser) parenthesised(b bool) Expr {
	pos := p.tok().pos
	q, items := p.parens()
	return p.fromParens(pos, q, items, b)
}

// fromParens makes an operand of what parens read.
func (p *parser) fromParens(pos int, q *Select, items []Expr, b bool) Expr {
	switch {
	case q != nil:
		return p.indirection(&SubQuery{p.from(pos), Scalar, q})
	case len(items) == 1:
		return p.indirection(items[0])
	}
	return p.overlaps(&Row{Span: p.from(pos), Items: items}, b)
}

// parens reads "(", then a query or a list of expressions, then ")". Which one it is may show late: ((SELECT 1) + 1) and
// ((SELECT 1) UNION SELECT 2) begin alike.
func (p *parser) parens() (*Select, []Expr) {
	p.expectPunct("(")
	if p.startsQuery() {
		q := p.query()
		p.expectPunct(")")
		return q, nil
	}
	if !p.punct("(") || !p.queryInside() {
		items := p.exprList()
		p.closing()
		return nil, items
	}
	pos := p.tok().pos
	p.enter()
	q, items := p.parens()
	p.leave()
	if q != nil {
		if p.acceptPunct(")") {
			return q, nil
		}
		if p.continuesQuery() {
			q = p.queryAfter(q)
			p.expectPunct(")")
			return q, nil
		}
	}
	x := p.continued(p.fromParens(pos, q, items, false), 0, false)
	items = []Expr{x}
	for p.acceptPunct(",") {
		items = append(items, p.expr())
	}
	p.closing()
	return nil, items
}

// queryInside reports whether the first token behind all the opening parentheses here begins a query.
func (p *parser) queryInside() bool {
	n := 0
	for p.ahead(n).punct("(") {
		n++
	}
	t, after := p.ahead(n), p.ahead(n+1)
	return t.is("select") || t.is("with") || t.is("table") || t.is("values") && after.punct("(")
}

func (p *parser) startsQuery() bool { return !p.punct("(") && p.queryInside() }

// continuesQuery reports whether the token can follow a query in parentheses inside a larger query.
func (p *parser) continuesQuery() bool {
	t := p.tok()
	if t.kind != tKeyword {
		return false
	}
	switch t.text {
	case "union", "intersect", "except", "order", "limit", "offset", "fetch", "for":
		return true
	}
	return false
}

func (p *parser) exprList() []Expr {
	list := []Expr{p.expr()}
	for p.acceptPunct(",") {
		list = append(list, p.expr())
	}
	return list
}

// overlaps reads row OVERLAPS row.
func (p *parser) overlaps(x *Row, b bool) Expr {
	if b || !p.is("overlaps") {
		return x
	}
	p.next()
	t := p.tok()
	var y *Row
	if t.is("row") && p.ahead(1).punct("(") {
		y = p.explicitRow()
	} else if q, items := p.parens(); q == nil && len(items) > 1 {
		y = &Row{Span: p.from(t.pos), Items: items}
	}
	if y == nil || len(x.Items) != 2 || len(y.Items) != 2 {
		p.fail(p.from(x.Pos), "OVERLAPS compares two pairs", "write (start1, end1) OVERLAPS (start2, end2)")
	}
	c := &Call{Span: p.from(x.Pos), Name: systemName("overlaps", x.Span), Special: true}
	for _, a := range append(append([]Expr(nil), x.Items...), y.Items...) {
		c.Args = append(c.Args, Arg{X: a})
	}
	return c
}

// explicitRow reads ROW(..).
func (p *parser) explicitRow() *Row {
	pos := p.next().pos
	p.expectPunct("(")
	r := &Row{Explicit: true}
	if !p.punct(")") {
		r.Items = p.exprList()
	}
	p.closing()
	r.Span = p.from(pos)
	return r
}

// indirection reads .field, .*, [i] and [a:b] behind x.
func (p *parser) indirection(x Expr) Expr {
	steps := p.steps()
	if len(steps) == 0 {
		return x
	}
	p.checkStars(steps)
	return &Indirection{p.from(x.At().Pos), x, steps}
}

func (p *parser) steps() []Step {
	var steps []Step
	for {
		switch {
		case p.punct("."):
			p.next()
			if p.op("*") {
				p.next()
				steps = append(steps, Step{Star: true})
				continue
			}
			n := p.label("a name or *")
			steps = append(steps, Step{Field: &n})
		case p.punct("["):
			steps = append(steps, p.subscript())
		default:
			return steps
		}
		p.chain(len(steps))
	}
}

func (p *parser) subscript() Step {
	p.expectPunct("[")
	var s Step
	if !p.punct(":") {
		s.Index = p.expr()
	}
	if p.acceptPunct(":") {
		s.Slice, s.Lo, s.Index = true, s.Index, nil
		if !p.punct("]") {
			s.Index = p.expr()
		}
	}
	p.expectPunct("]")
	return s
}

// checkStars refuses a * that is not the last step.
func (p *parser) checkStars(steps []Step) {
	for i, s := range steps {
		if s.Star && i < len(steps)-1 {
			p.fail(p.from(p.end()-1), `".*" must come last`, "")
		}
	}
}

// named reads a column, a function call or a literal with its type in front: all begin with a name.
func (p *parser) named() Expr {
	t := p.next()
	first := Name{Span{t.pos, t.end}, t.text}
	steps := p.steps()
	path, plain := QName{first}, true
	for _, s := range steps {
		if s.Field == nil {
			plain = false
			break
		}
		path = append(path, *s.Field)
	}
	function := plain && (len(path) > 1 || isTypeFunc(t))
	if t.kind == tKeyword && t.word.class == TypeFunc && len(path) > 1 {
		p.fail(first.Span, upper(t.text)+" is a word of SQL here", "to use it as a name, put it in double quotes")
	}
	switch {
	case function && p.punct("("):
		return p.callOrLiteral(path)
	case function && p.tok().kind == tString:
		s := p.next()
		typ := &TypeName{Span: path.At(), Names: path}
		return &Cast{p.from(t.pos), &Literal{Span{s.pos, s.end}, String, s.text}, typ}
	case !isColID(t):
		p.at--
		if p.ahead(1).kind != tEOF {
			p.unexpected("an expression")
		}
		p.fail(first.Span, "expected an expression, found "+t.describe(), "")
	}
	return p.column(path, steps)
}

// column makes a ColumnRef of a name and its steps; subscripts and what follows them are an Indirection over it.
func (p *parser) column(path QName, steps []Step) Expr {
	p.checkStars(steps)
	n := len(path) - 1
	ref := &ColumnRef{Span: path.At(), Names: path}
	if n < len(steps) && steps[n].Star {
		ref.Star = true
		ref.Span = p.from(ref.Pos)
		n++
	}
	if n == len(steps) {
		return ref
	}
	return &Indirection{p.from(ref.Pos), ref, steps[n:]}
}

// literalOf reads the string behind a type: interval '1 day'.
func (p *parser) literalOf(typ *TypeName) Expr {
	s := p.tok()
	if s.kind != tString {
		p.unexpected("a string")
	}
	p.next()
	return &Cast{p.from(typ.Pos), &Literal{Span{s.pos, s.end}, String, s.text}, typ}
}
