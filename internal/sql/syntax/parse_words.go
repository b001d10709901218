package syntax

// operandWord reads an operand that begins with a keyword.
func (p *parser) operandWord(b bool) Expr {
	t, n := p.tok(), p.ahead(1)
	at := Span{t.pos, t.end}
	switch t.text {
	case "true", "false", "null":
		p.next()
		kinds := map[string]LiteralKind{"true": True, "false": False, "null": Null}
		return &Literal{at, kinds[t.text], ""}
	case "case":
		return p.caseExpr()
	case "array":
		return p.array()
	case "cast":
		return p.cast()
	case "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_role", "current_user",
		"session_user", "user", "current_catalog":
		return p.current()
	case "system_user":
		p.next()
		return &Call{Span: at, Name: systemName("system_user", at), Special: true}
	case "current_schema":
		if !n.punct("(") {
			return p.current()
		}
	}
	if t.word.class == Reserved {
		p.unexpected("an expression")
	}
	if p.startsTypeLiteral() {
		return p.typeLiteral()
	}
	if n.punct("(") {
		if x := p.specialForm(t, b); x != nil {
			return x
		}
	}
	if t.is("collation") && n.is("for") {
		p.at += 2
		p.expectPunct("(")
		c := &Call{Name: systemName("pg_collation_for", at), Special: true, Args: []Arg{{X: p.expr()}}}
		p.expectPunct(")")
		c.Span = p.from(t.pos)
		return c
	}
	return p.named()
}

// specialForm reads the functions that have a syntax of their own. It returns nil when the word is none of them.
func (p *parser) specialForm(t *token, b bool) Expr {
	at := Span{t.pos, t.end}
	switch t.text {
	case "exists":
		p.next()
		return &SubQuery{Kind: Exists, Query: p.queryInParens("EXISTS"), Span: p.from(t.pos)}
	case "row":
		return p.overlaps(p.explicitRow(), b)
	case "coalesce", "greatest", "least", "nullif":
		return p.conditional()
	case "grouping":
		p.at += 2
		g := &Grouping{Args: p.exprList()}
		p.closing()
		g.Span = p.from(t.pos)
		return g
	case "extract":
		return p.extract()
	case "normalize":
		return p.normalize()
	case "overlay":
		return p.overlay()
	case "position":
		return p.position()
	case "substring":
		return p.substring()
	case "trim":
		return p.trim()
	case "treat", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlparse", "xmlpi", "xmlroot", "xmlserialize",
		"json", "json_array", "json_arrayagg", "json_exists", "json_object", "json_objectagg", "json_query", "json_scalar",
		"json_serialize", "json_value", "merge_action":
		hint := ""
		if t.text[0] == 'j' {
			hint = "use the jsonb functions and operators, such as col ->> 'key'"
		}
		p.unsupported(at, upper(t.text)+"(..)", hint)
	}
	return nil
}

func (p *parser) caseExpr() Expr {
	c := &Case{}
	pos := p.next().pos
	if !p.is("when") {
		c.Operand = p.expr()
	}
	for p.is("when") {
		w := When{}
		start := p.next().pos
		w.Cond = p.expr()
		p.expect("then")
		w.Result = p.expr()
		w.Span = p.from(start)
		c.Whens = append(c.Whens, w)
	}
	if len(c.Whens) == 0 {
		p.unexpected("WHEN")
	}
	if p.accept("else") {
		c.Else = p.expr()
	}
	p.expect("end")
	c.Span = p.from(pos)
	return c
}

// array reads ARRAY[..] and ARRAY(SELECT ..).
func (p *parser) array() Expr {
	pos := p.next().pos
	if p.punct("(") {
		return &SubQuery{Kind: ToArray, Query: p.queryInParens("ARRAY"), Span: p.from(pos)}
	}
	x := p.arrayItems()
	x.Span = p.from(pos)
	if t := p.tok(); t.punct("[") {
		p.fail(Span{t.pos, t.end}, "unexpected [ after ARRAY[..]", "put the array in parentheses: (ARRAY[..])[1]")
	}
	return x
}

func (p *parser) arrayItems() *Array {
	p.enter()
	defer p.leave()
	pos := p.tok().pos
	p.expectPunct("[")
	a := &Array{}
	if p.punct("]") {
		p.next()
		a.Span = p.from(pos)
		return a
	}
	inner := p.punct("[")
	for {
		if inner {
			a.Items = append(a.Items, p.arrayItems())
		} else {
			a.Items = append(a.Items, p.expr())
		}
		if !p.acceptPunct(",") {
			break
		}
	}
	p.expectPunct("]")
	a.Span = p.from(pos)
	return a
}

func (p *parser) cast() Expr {
	pos := p.next().pos
	p.expectPunct("(")
	x := p.expr()
	p.expect("as")
	typ := p.typeName()
	p.expectPunct(")")
	return &Cast{p.from(pos), x, typ}
}

// current reads the functions that are called without parentheses; those of time may have a precision.
func (p *parser) current() Expr {
	t := p.next()
	c := &Current{Name: t.text, Precision: -1}
	switch t.text {
	case "current_time", "current_timestamp", "localtime", "localtimestamp":
		if p.punct("(") {
			c.Precision = p.precision()
		}
	}
	c.Span = p.from(t.pos)
	return c
}

// precision reads (n).
func (p *parser) precision() int {
	p.expectPunct("(")
	n := p.integer()
	p.expectPunct(")")
	return n
}

func (p *parser) conditional() Expr {
	t := p.next()
	kinds := map[string]ConditionalKind{"coalesce": Coalesce, "nullif": NullIf, "greatest": Greatest, "least": Least}
	c := &Conditional{Kind: kinds[t.text]}
	p.expectPunct("(")
	c.Args = p.exprList()
	if c.Kind == NullIf && len(c.Args) != 2 {
		p.fail(p.from(t.pos), "NULLIF takes two arguments", "")
	}
	p.closing()
	c.Span = p.from(t.pos)
	return c
}

// special begins a call of a catalog function with its own syntax: it reads the word and "(".
func (p *parser) special(name string) *Call {
	t := p.next()
	p.expectPunct("(")
	return &Call{Span: Span{Pos: t.pos}, Name: systemName(name, Span{t.pos, t.end}), Special: true}
}

// finish reads ")" and sets the arguments.
func (p *parser) finish(c *Call, args ...Expr) Expr {
	p.closing()
	for _, a := range args {
		c.Args = append(c.Args, Arg{X: a})
	}
	c.Span = p.from(c.Pos)
	return c
}

func (p *parser) extract() Expr {
	c := p.special("extract")
	t := p.tok()
	ok := t.kind == tIdent || t.kind == tString
	switch t.text {
	case "year", "month", "day", "hour", "minute", "second":
		ok = true
	}
	if !ok {
		p.unexpected("a field such as year, hour or epoch")
	}
	p.next()
	p.expect("from")
	return p.finish(c, &Literal{Span{t.pos, t.end}, String, t.text}, p.expr())
}

func (p *parser) normalize() Expr {
	c := p.special("normalize")
	args := []Expr{p.expr()}
	if p.acceptPunct(",") {
		t := p.tok()
		if !t.is("nfc") && !t.is("nfd") && !t.is("nfkc") && !t.is("nfkd") {
			p.unexpected("NFC, NFD, NFKC or NFKD")
		}
		p.next()
		args = append(args, &Literal{Span{t.pos, t.end}, String, upper(t.text)})
	}
	return p.finish(c, args...)
}

func (p *parser) position() Expr {
	c := p.special("position")
	sub := p.restricted()
	p.expect("in")
	return p.finish(c, p.restricted(), sub)
}

func (p *parser) trim() Expr {
	name := "btrim"
	switch n := p.ahead(2); {
	case n.is("leading"):
		name = "ltrim"
	case n.is("trailing"):
		name = "rtrim"
	}
	c := p.special(name)
	if p.is("both") || p.is("leading") || p.is("trailing") {
		p.next()
	}
	if p.accept("from") {
		return p.finish(c, p.exprList()...)
	}
	first := p.expr()
	if p.accept("from") {
		return p.finish(c, append(p.exprList(), first)...)
	}
	list := []Expr{first}
	for p.acceptPunct(",") {
		list = append(list, p.expr())
	}
	return p.finish(c, list...)
}

// overlay reads overlay(a PLACING b FROM n FOR m), and overlay(a, b, n).
func (p *parser) overlay() Expr {
	if !p.keywordInside("placing") {
		return p.plainCall()
	}
	c := p.special("overlay")
	args := []Expr{p.expr()}
	p.expect("placing")
	args = append(args, p.expr())
	p.expect("from")
	args = append(args, p.expr())
	if p.accept("for") {
		args = append(args, p.expr())
	}
	return p.finish(c, args...)
}

// substring reads substring(a FROM n FOR m) in its forms, and substring(a, n, m).
func (p *parser) substring() Expr {
	if !p.keywordInside("from") && !p.keywordInside("for") && !p.keywordInside("similar") {
		return p.plainCall()
	}
	c := p.special("substring")
	x := p.expr()
	switch {
	case p.accept("similar"):
		pattern := p.expr()
		p.expect("escape")
		return p.finish(c, x, pattern, p.expr())
	case p.accept("from"):
		from := p.expr()
		if p.accept("for") {
			return p.finish(c, x, from, p.expr())
		}
		return p.finish(c, x, from)
	}
	p.expect("for")
	n := p.expr()
	if p.accept("from") {
		return p.finish(c, x, p.expr(), n)
	}
	at := n.At()
	one := &Literal{Span{at.Pos, at.Pos}, Int, "1"}
	int4 := &TypeName{Span: at, System: true, Names: systemName("int4", at)}
	return p.finish(c, x, one, &Cast{at, n, int4})
}

// keywordInside reports whether the keyword stands directly inside the parentheses that open at the next token.
func (p *parser) keywordInside(w string) bool {
	level := p.nest[min(p.at+1, len(p.nest)-1)] + 1
	for i := p.at + 2; i < len(p.toks) && p.nest[i] >= level; i++ {
		t := &p.toks[i]
		if t.punct(";") || t.kind == tEOF {
			return false
		}
		if p.nest[i] == level && t.is(w) && !(w == "from" && p.toks[i-1].is("distinct")) {
			return true
		}
	}
	return false
}
