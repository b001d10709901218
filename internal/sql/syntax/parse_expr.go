package syntax

// The precedence of PostgreSQL's operators, from the loosest.
const (
	precOr = iota + 1
	precAnd
	precNot
	precIs      // not associative
	precCompare // not associative
	precLike    // BETWEEN IN LIKE ILIKE SIMILAR, not associative
	precOp      // every operator that is not named here
	precAdd
	precMul
	precPow
	precAt // AT TIME ZONE
	precCollate
	precUnary
	precCast
)

// expr reads an expression (PostgreSQL's a_expr).
func (p *parser) expr() Expr { return p.exprFrom(0, false) }

// restricted reads an expression without the logical operators, LIKE and the like (b_expr): DEFAULT and the lower
// bound of BETWEEN allow no more.
func (p *parser) restricted() Expr { return p.exprFrom(0, true) }

// exprFrom reads an expression of operators that bind at least as tightly as lowest.
func (p *parser) exprFrom(lowest int, b bool) Expr {
	p.enter()
	defer p.leave()
	return p.continued(p.prefix(b), lowest, b)
}

// continued reads the operators that follow x.
func (p *parser) continued(x Expr, lowest int, b bool) Expr {
	for n := 0; ; {
		prec := p.infix(b)
		if prec == 0 || prec < lowest {
			return x
		}
		if prec > precAnd { // AND and OR make flat lists, the others make the tree deeper
			n++
			p.chain(n)
		}
		var open bool
		x, open = p.apply(x, prec, b)
		if open && (prec == precIs || prec == precCompare || prec == precLike) && p.infix(b) == prec {
			t := p.tok()
			p.fail(Span{t.pos, t.end}, "comparisons cannot be chained", "put one of them in parentheses, or join them with AND")
		}
	}
}

// infix returns the precedence of the operator at the current token, 0 when there is none.
func (p *parser) infix(b bool) int {
	t := p.tok()
	switch t.kind {
	case tOp:
		return precOf(t.text)
	case tPunct:
		if t.text == "::" {
			return precCast
		}
	case tKeyword:
		return p.infixWord(t, b)
	}
	return 0
}

func precOf(op string) int {
	switch op {
	case "<", ">", "=", "<=", ">=", "<>":
		return precCompare
	case "+", "-":
		return precAdd
	case "*", "/", "%":
		return precMul
	case "^":
		return precPow
	}
	return precOp
}

func (p *parser) infixWord(t *token, b bool) int {
	n := p.ahead(1)
	switch {
	case t.text == "operator" && n.punct("("):
		return precOp
	case t.text == "is":
		if b && !n.is("distinct") && !(n.is("not") && p.ahead(2).is("distinct")) {
			return 0
		}
		return precIs
	case b:
		return 0
	}
	switch t.text {
	case "and":
		return precAnd
	case "or":
		return precOr
	case "isnull", "notnull":
		return precIs
	case "between", "in", "like", "ilike":
		return precLike
	case "similar":
		if n.is("to") {
			return precLike
		}
	case "not":
		if n.is("between") || n.is("in") || n.is("like") || n.is("ilike") || n.is("similar") {
			return precLike
		}
	case "collate":
		return precCollate
	case "at":
		if n.is("time") || n.is("local") {
			return precAt
		}
	}
	return 0
}

// prefix reads an operand with the operators in front of it.
func (p *parser) prefix(b bool) Expr {
	t := p.tok()
	switch {
	case t.op("+"), t.op("-"):
		p.next()
		x := p.exprFrom(precUnary, b)
		if t.text == "-" {
			if n := negated(x, t.pos); n != nil {
				return n
			}
		}
		return &Op{Span: p.from(t.pos), Name: t.text, R: x, OpPos: t.pos}
	case t.kind == tOp && precOf(t.text) == precOp, t.is("operator") && p.ahead(1).punct("("):
		schema, name := p.operatorName()
		x := p.exprFrom(precOp+1, b)
		return &Op{Span: p.from(t.pos), Schema: schema, Name: name, R: x, OpPos: t.pos}
	case t.is("not") && !b:
		p.next()
		x := p.exprFrom(precNot, false)
		return &Logic{Span: p.from(t.pos), Op: Not, Args: []Expr{x}}
	case t.is("default") && !b:
		p.next()
		return &DefaultValue{Span{t.pos, t.end}}
	case t.is("unique") && !b:
		p.unsupported(Span{t.pos, t.end}, "the UNIQUE predicate", "")
	}
	return p.operand(b)
}

// negated folds a minus into a number, as PostgreSQL's grammar does. It returns nil when x is no number.
func negated(x Expr, pos int) Expr {
	l, ok := x.(*Literal)
	if !ok || l.Kind != Int && l.Kind != Num {
		return nil
	}
	n := &Literal{Span{pos, l.End}, l.Kind, "-" + l.Text}
	if l.Text[0] == '-' {
		n.Text = l.Text[1:]
	}
	if l.Kind == Int && l.Text == "0" {
		n.Text = "0"
	}
	return n
}

// operatorName reads an operator or OPERATOR(schema.op).
func (p *parser) operatorName() (QName, string) {
	if p.tok().kind == tOp {
		return nil, p.next().text
	}
	p.expect("operator")
	p.expectPunct("(")
	var schema QName
	for isColID(p.tok()) {
		schema = append(schema, p.colID("a schema"))
		p.expectPunct(".")
	}
	if p.tok().kind != tOp {
		p.unexpected("an operator")
	}
	name := p.next().text
	p.expectPunct(")")
	return schema, name
}

// apply reads the operator at the current token and its right side. open says that the right side was an expression, so
// that another operator of the same level would be ambiguous.
func (p *parser) apply(x Expr, prec int, b bool) (e Expr, open bool) {
	t := p.tok()
	pos := x.At().Pos
	switch {
	case t.punct("::"):
		p.next()
		typ := p.typeName()
		return &Cast{p.from(pos), x, typ}, false
	case t.kind == tOp, t.is("operator"):
		return p.applyOp(x, prec, b)
	case t.is("and"), t.is("or"):
		p.next()
		return p.logic(x, t, p.exprFrom(prec+1, false)), true
	case t.is("is"):
		return p.isTest(x, b)
	case t.is("isnull"), t.is("notnull"):
		p.next()
		return &NullTest{p.from(pos), t.text == "notnull", x}, false
	case t.is("collate"):
		p.next()
		name := p.anyName("a collation")
		return &Collate{p.from(pos), x, name}, false
	case t.is("at"):
		return p.atTimeZone(x), true
	}
	return p.likeLevel(x)
}

func (p *parser) logic(x Expr, t *token, y Expr) Expr {
	op := And
	if t.text == "or" {
		op = Or
	}
	end := y.At().End
	if l, ok := x.(*Logic); ok && l.Op == op { // one flat node, parentheses or not, as PostgreSQL makes it
		l.Args, l.End = append(l.Args, y), end
		return l
	}
	return &Logic{Span{x.At().Pos, end}, op, []Expr{x, y}}
}

func (p *parser) applyOp(x Expr, prec int, b bool) (Expr, bool) {
	t := p.tok()
	schema, name := p.operatorName()
	if n := p.tok(); !b && (n.is("any") || n.is("some") || n.is("all")) {
		return p.quantified(x, schema, name), false
	}
	y := p.exprFrom(prec+1, b)
	return &Op{Span{x.At().Pos, y.At().End}, schema, name, x, y, t.pos}, true
}

// quantified reads ANY (..) or ALL (..).
func (p *parser) quantified(x Expr, schema QName, name string) Expr {
	all := p.next().text == "all"
	open := p.tok()
	q, items := p.parens()
	n := &Quantified{Schema: schema, Name: name, All: all, L: x, Query: q}
	if q == nil {
		if len(items) != 1 {
			p.fail(Span{open.pos, p.end()}, "ANY and ALL take one array or a sub-query", "for a list of values write x IN (a, b)")
		}
		n.R = items[0]
	}
	n.Span = p.from(x.At().Pos)
	return n
}

// isTest reads what follows IS.
func (p *parser) isTest(x Expr, b bool) (Expr, bool) {
	p.next()
	pos := x.At().Pos
	not := p.accept("not")
	switch {
	case p.accept("distinct", "from"):
		y := p.exprFrom(precIs+1, b)
		return &Distinct{p.from(pos), not, x, y}, true
	case p.accept("null"):
		return &NullTest{p.from(pos), not, x}, false
	case p.accept("true"):
		return &BoolTest{p.from(pos), not, True, x}, false
	case p.accept("false"):
		return &BoolTest{p.from(pos), not, False, x}, false
	case p.accept("unknown"):
		return &BoolTest{p.from(pos), not, Null, x}, false
	}
	if t := p.tok(); t.is("document") || t.is("json") || t.is("normalized") {
		p.unsupported(Span{t.pos, t.end}, "IS "+upper(t.text), "")
	}
	p.unexpected("NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM")
	return nil, false
}

func (p *parser) atTimeZone(x Expr) Expr {
	p.next()
	c := &Call{Name: systemName("timezone", x.At()), Special: true}
	if p.accept("local") {
		c.Args = []Arg{{X: x}}
	} else {
		p.expect("time", "zone")
		zone := p.exprFrom(precAt+1, false)
		c.Args = []Arg{{X: zone}, {X: x}}
	}
	c.Span = p.from(x.At().Pos)
	return c
}

// systemName is a function of PostgreSQL's catalog that the grammar itself calls.
func systemName(name string, at Span) QName {
	return QName{{Span: at, Text: "pg_catalog"}, {Span: at, Text: name}}
}

// likeLevel reads [NOT] BETWEEN, IN, LIKE, ILIKE and SIMILAR TO.
func (p *parser) likeLevel(x Expr) (Expr, bool) {
	pos := x.At().Pos
	not := p.accept("not")
	switch t := p.next(); t.text {
	case "between":
		return p.between(x, not), true
	case "in":
		return p.in(x, not), false
	case "like", "ilike":
		if n := p.tok(); n.is("any") || n.is("some") || n.is("all") {
			return p.quantified(x, nil, likeOperator(t.text == "ilike", not)), false
		}
		l := &Like{X: x, Not: not}
		if t.text == "ilike" {
			l.Kind = ILike
		}
		return p.pattern(l, pos), true
	}
	p.expect("to")
	return p.pattern(&Like{X: x, Not: not, Kind: SimilarTo}, pos), true
}

func likeOperator(ilike, not bool) string {
	op := "~~"
	if ilike {
		op += "*"
	}
	if not {
		op = "!" + op
	}
	return op
}

func (p *parser) pattern(l *Like, pos int) Expr {
	l.Pattern = p.exprFrom(precLike+1, false)
	if p.accept("escape") {
		l.Escape = p.exprFrom(precLike+1, false)
	}
	l.Span = p.from(pos)
	return l
}

func (p *parser) between(x Expr, not bool) Expr {
	n := &Between{X: x, Not: not}
	if n.Symmetric = p.accept("symmetric"); !n.Symmetric {
		p.accept("asymmetric")
	}
	n.Lo = p.restricted()
	p.expect("and")
	n.Hi = p.exprFrom(precLike+1, false)
	n.Span = p.from(x.At().Pos)
	return n
}

func (p *parser) in(x Expr, not bool) Expr {
	if !p.punct("(") {
		p.unexpected(`"("`)
	}
	n := &In{Not: not, X: x}
	n.Query, n.List = p.parens()
	n.Span = p.from(x.At().Pos)
	return n
}
