package syntax

// callOrLiteral reads what follows a function's name: a call, or the modifiers of a type with a string behind them, as in
// timestamp(3) '2024-01-01'.
func (p *parser) callOrLiteral(name QName) Expr {
	c := p.callArgs(name)
	if p.tok().kind == tString && len(c.Args) > 0 && !c.Distinct && !c.Variadic && !c.Star {
		return p.modifiedLiteral(c)
	}
	return p.indirectionOfCall(p.callTail(c))
}

// indirectionOfCall: PostgreSQL's grammar has no f(x).y; it wants (f(x)).y.
func (p *parser) indirectionOfCall(c *Call) Expr {
	if p.punct(".") || p.punct("[") {
		t := p.tok()
		p.fail(Span{t.pos, t.end}, "unexpected "+t.describe()+" after a function call", "put the call in parentheses: (f(x))"+t.text)
	}
	return c
}

// plainCall reads a call of a special word in its plain form.
func (p *parser) plainCall() Expr {
	t := p.next()
	p.expectPunct("(")
	c := &Call{Name: QName{{Span{t.pos, t.end}, t.text}}}
	if !p.punct(")") {
		p.args(c)
	}
	p.closing()
	c.Span = p.from(t.pos)
	return c
}

// callArgs reads the parentheses of a call.
func (p *parser) callArgs(name QName) *Call {
	p.expectPunct("(")
	c := &Call{Name: name}
	switch {
	case p.punct(")"):
	case p.op("*"):
		p.next()
		c.Star = true
	default:
		all := p.accept("all")
		c.Distinct = !all && p.accept("distinct")
		if (all || c.Distinct) && p.is("variadic") {
			p.unexpected("an expression")
		}
		p.args(c)
		if p.is("order") {
			c.OrderBy = p.orderBy()
		}
	}
	p.closing()
	c.Span = p.from(name.At().Pos)
	return c
}

// args reads the arguments, VARIADIC before the last.
func (p *parser) args(c *Call) {
	for {
		c.Variadic = p.accept("variadic")
		c.Args = append(c.Args, p.arg())
		if c.Variadic || !p.acceptPunct(",") {
			return
		}
	}
}

func (p *parser) arg() Arg {
	t, n := p.tok(), p.ahead(1)
	if (isTypeFunc(t) || t.is("offset")) && (n.punct("=>") || n.punct(":=")) {
		p.at += 2
		return Arg{Name: &Name{Span{t.pos, t.end}, t.text}, X: p.expr()}
	}
	return Arg{X: p.expr()}
}

// modifiedLiteral makes a literal with a type of what looked like a call.
func (p *parser) modifiedLiteral(c *Call) Expr {
	if c.OrderBy != nil {
		p.fail(c.Span, "type modifiers cannot have ORDER BY", "")
	}
	typ := &TypeName{Span: c.Span, Names: c.Name}
	for _, a := range c.Args {
		if a.Name != nil {
			p.fail(a.Name.Span, "type modifiers cannot have names", "")
		}
		typ.Mods = append(typ.Mods, a.X)
	}
	return p.literalOf(typ)
}

// callTail reads WITHIN GROUP, FILTER and OVER.
func (p *parser) callTail(c *Call) *Call {
	if p.accept("within", "group") {
		if len(c.OrderBy) > 0 || c.Distinct || c.Variadic {
			p.fail(c.Span, "WITHIN GROUP cannot be used with ORDER BY, DISTINCT or VARIADIC inside the call", "")
		}
		p.expectPunct("(")
		c.OrderBy, c.Within = p.orderBy(), true
		p.closing()
	}
	if p.is("filter") {
		p.next()
		p.expectPunct("(")
		p.expect("where")
		c.Filter = p.expr()
		p.closing()
	}
	if p.accept("over") {
		c.Over = p.over()
	}
	c.Span = p.from(c.Pos)
	return c
}

// over reads what follows OVER: a name, or a definition.
func (p *parser) over() *Window {
	if p.punct("(") {
		return p.windowSpec()
	}
	n := p.colID(`a window's name or "("`)
	return &Window{Span: n.Span, Name: &n}
}

// windowSpec reads ( [name] [PARTITION BY ..] [ORDER BY ..] [frame] ).
func (p *parser) windowSpec() *Window {
	w := &Window{Hi: Bound{Kind: CurrentRow}}
	pos := p.expectPunct("(").pos
	if t := p.tok(); isColID(t) && !t.is("partition") && !t.is("range") && !t.is("rows") && !t.is("groups") {
		n := p.colID("a window's name")
		w.Ref = &n
	}
	if p.accept("partition") {
		p.expect("by")
		w.Partition = p.exprList()
	}
	if p.is("order") {
		w.OrderBy = p.orderBy()
	}
	for mode, word := range []string{Range: "range", Rows: "rows", Groups: "groups"} {
		if word != "" && p.accept(word) {
			w.Mode = FrameMode(mode)
			p.frame(w)
			break
		}
	}
	p.closing()
	w.Span = p.from(pos)
	return w
}

func (p *parser) frame(w *Window) {
	at := p.tok()
	if w.Between = p.accept("between"); w.Between {
		w.Lo = p.bound()
		p.expect("and")
		w.Hi = p.bound()
	} else {
		w.Lo = p.bound()
	}
	span := p.from(at.pos)
	switch lo, hi := w.Lo.Kind, w.Hi.Kind; {
	case lo == UnboundedFollowing:
		p.fail(span, "a frame cannot start at UNBOUNDED FOLLOWING", "")
	case w.Between && hi == UnboundedPreceding:
		p.fail(span, "a frame cannot end at UNBOUNDED PRECEDING", "")
	case !w.Between && lo == Following:
		p.fail(span, "a frame that starts after the current row cannot end at it", "write BETWEEN .. AND ..")
	case w.Between && (lo == CurrentRow && hi == Preceding || lo == Following && (hi == Preceding || hi == CurrentRow)):
		p.fail(span, "this frame ends before it starts", "")
	}
	if p.accept("exclude") {
		switch {
		case p.accept("current", "row"):
			w.Exclude = ExcludeCurrentRow
		case p.accept("group"):
			w.Exclude = ExcludeGroup
		case p.accept("ties"):
			w.Exclude = ExcludeTies
		default:
			p.expect("no", "others")
		}
	}
}

func (p *parser) bound() Bound {
	switch {
	case p.accept("unbounded", "preceding"):
		return Bound{Kind: UnboundedPreceding}
	case p.accept("unbounded", "following"):
		return Bound{Kind: UnboundedFollowing}
	case p.accept("current", "row"):
		return Bound{Kind: CurrentRow}
	}
	x := p.expr()
	if p.accept("preceding") {
		return Bound{Preceding, x}
	}
	if !p.accept("following") {
		p.unexpected("PRECEDING or FOLLOWING")
	}
	return Bound{Following, x}
}
