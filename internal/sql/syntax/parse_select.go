package syntax

// query reads a query (SelectStmt): WITH, the blocks and set operations, ORDER BY, LIMIT.
func (p *parser) query() *Select {
	p.enter()
	defer p.leave()
	pos := p.tok().pos
	with := p.with()
	q := p.setOps(p.setOperand(), 0)
	if with != nil {
		if q.With != nil {
			p.fail(with.Span, "a query has one WITH clause", "list all queries of WITH in it, with commas between them")
		}
		q.With = with
	}
	p.queryTail(q)
	q.Span = p.from(pos)
	return q
}

// queryAfter reads on behind a query in parentheses.
func (p *parser) queryAfter(q *Select) *Select {
	q = p.setOps(q, 0)
	p.queryTail(q)
	q.Span = p.from(q.Pos)
	return q
}

// queryInParens reads a query in parentheses.
func (p *parser) queryInParens(what string) *Select {
	if !p.punct("(") || !p.queryInside() {
		p.expectPunct("(")
		p.unexpected("a query after " + what + " (")
	}
	open := p.tok().pos
	q, _ := p.parens()
	if q == nil {
		p.fail(p.from(open), "expected a query after "+what, "")
	}
	return q
}

// setOperand reads one operand of a set operation: a block, VALUES, TABLE, or a query in parentheses.
func (p *parser) setOperand() *Select {
	pos := p.tok().pos
	var q *Select
	switch {
	case p.is("select"):
		q = p.block()
	case p.is("values"):
		q = p.values()
	case p.is("table"):
		p.next()
		ref := p.relation()
		q = &Select{Targets: []Target{{Span: ref.At(), X: &ColumnRef{Span: ref.At(), Star: true}}}, From: []TableRef{ref}}
	case p.punct("("):
		p.enter()
		p.next()
		q = p.query()
		p.expectPunct(")")
		p.leave()
	default:
		p.unexpected("SELECT")
	}
	q.Span = p.from(pos)
	return q
}

// setOps reads the set operations that follow q. INTERSECT binds tighter than UNION and EXCEPT.
func (p *parser) setOps(q *Select, lowest int) *Select {
	for n := 0; ; n++ {
		op, prec := NoSetOp, 1
		switch {
		case p.is("union"):
			op = Union
		case p.is("except"):
			op = Except
		case p.is("intersect"):
			op, prec = Intersect, 2
		}
		if op == NoSetOp || prec <= lowest {
			return q
		}
		p.chain(n * 10)
		p.next()
		all := p.accept("all")
		if !all {
			p.accept("distinct")
		}
		r := p.setOps(p.setOperand(), prec)
		q = &Select{Span: p.from(q.Pos), Op: op, All: all, Left: q, Right: r}
	}
}

// queryTail reads ORDER BY, LIMIT, OFFSET and FETCH. On a query that had its own in parentheses they may only add.
func (p *parser) queryTail(q *Select) {
	if t := p.tok(); t.is("order") {
		if q.OrderBy != nil {
			p.fail(Span{t.pos, t.end}, "a query has one ORDER BY", "")
		}
		q.OrderBy = p.orderBy()
	}
	had := q.Limit != nil || q.Offset != nil
	limit, offset := false, false
	for {
		t := p.tok()
		if had && (t.is("limit") || t.is("fetch") || t.is("offset")) {
			p.fail(Span{t.pos, t.end}, "a query has one LIMIT and OFFSET", "")
		}
		switch {
		case t.is("limit") && !limit, t.is("fetch") && !limit:
			limit = true
			p.limit(q)
		case t.is("offset") && !offset:
			offset = true
			p.offset(q)
		case t.is("for") && (p.ahead(1).is("update") || p.ahead(1).is("share") || p.ahead(1).is("no") || p.ahead(1).is("key")):
			p.unsupported(Span{t.pos, t.end}, "FOR UPDATE and its kin", "views need no locks: every view is exact at one position")
		default:
			return
		}
	}
}

func (p *parser) limit(q *Select) {
	t := p.next()
	if t.is("limit") {
		if p.is("all") {
			a := p.next()
			q.Limit = &Literal{Span: Span{a.pos, a.end}, Kind: Null}
		} else {
			q.Limit = p.expr()
		}
		if c := p.tok(); c.punct(",") {
			p.fail(Span{c.pos, c.end}, "LIMIT a, b is not SQL", "write LIMIT b OFFSET a")
		}
		return
	}
	if !p.accept("first") && !p.accept("next") {
		p.unexpected("FIRST or NEXT")
	}
	if p.is("row") || p.is("rows") {
		q.Limit = p.number(1)
	} else {
		q.Limit = p.fetchCount()
	}
	p.rows()
	if p.accept("with") {
		p.expect("ties")
		q.WithTies = true
		if q.OrderBy == nil {
			p.fail(p.from(t.pos), "WITH TIES needs an ORDER BY", "")
		}
		return
	}
	p.expect("only")
}

// fetchCount reads the number of FETCH FIRST: an operand, or a number with a sign.
func (p *parser) fetchCount() Expr {
	if t := p.tok(); t.op("+") || t.op("-") {
		p.next()
		n := p.tok()
		if n.kind != tInt && n.kind != tNum {
			p.unexpected("a number")
		}
		x := p.operand(false)
		if t.text == "-" {
			return negated(x, t.pos)
		}
		return &Op{Span: p.from(t.pos), Name: "+", R: x, OpPos: t.pos}
	}
	return p.operand(false)
}

func (p *parser) rows() {
	if !p.accept("row") && !p.accept("rows") {
		p.unexpected("ROWS")
	}
}

func (p *parser) offset(q *Select) {
	p.next()
	begin := p.at
	q.Offset = p.expr()
	if !p.is("row") && !p.is("rows") {
		return
	}
	end := p.at // before ROWS only an operand or a signed number may stand
	p.at = begin
	if q.Offset = p.fetchCount(); p.at != end {
		p.unexpected("ROWS")
	}
	p.rows()
}

func (p *parser) with() *With {
	if !p.is("with") {
		return nil
	}
	w := &With{}
	pos := p.next().pos
	w.Recursive = p.accept("recursive")
	for {
		w.CTEs = append(w.CTEs, p.cte())
		if !p.acceptPunct(",") {
			break
		}
	}
	w.Span = p.from(pos)
	return w
}

func (p *parser) cte() *CTE {
	c := &CTE{Name: p.colID("a name")}
	if p.punct("(") {
		c.Columns = p.nameList("a column")
	}
	p.expect("as")
	if p.is("materialized") || p.is("not") {
		yes := !p.accept("not")
		p.expect("materialized")
		c.Materialized = &yes
	}
	if t := p.ahead(1); p.punct("(") && (t.is("insert") || t.is("update") || t.is("delete") || t.is("merge")) {
		p.unsupported(Span{t.pos, t.end}, upper(t.text)+" in a query", "views only read")
	}
	p.expectPunct("(")
	c.Query = p.query()
	p.expectPunct(")")
	if t := p.tok(); t.is("search") || t.is("cycle") {
		p.unsupported(Span{t.pos, t.end}, upper(t.text), "")
	}
	c.Span = p.from(c.Name.Pos)
	return c
}

func (p *parser) values() *Select {
	q := &Select{}
	p.next()
	for {
		p.expectPunct("(")
		q.Values = append(q.Values, p.exprList())
		p.closing()
		if !p.acceptPunct(",") {
			return q
		}
	}
}

// block reads SELECT .. FROM .. WHERE .. GROUP BY .. HAVING .. WINDOW.
func (p *parser) block() *Select {
	q := &Select{}
	p.next()
	if p.accept("distinct") {
		q.Unique = true
		if p.accept("on") {
			p.expectPunct("(")
			q.UniqueOn = p.exprList()
			p.closing()
		}
	} else {
		p.accept("all")
	}
	if q.Unique || !p.endsTargets() {
		q.Targets = p.targets()
	}
	if t := p.tok(); t.is("into") {
		p.unsupported(Span{t.pos, t.end}, "SELECT INTO", "declare a view: CREATE MATERIALIZED VIEW name AS SELECT ..")
	}
	if p.accept("from") {
		q.From = p.fromList()
	}
	if p.accept("where") {
		q.Where = p.expr()
	}
	if p.accept("group") {
		p.expect("by")
		p.groupBy(q)
	}
	if p.accept("having") {
		q.Having = p.expr()
	}
	if p.accept("window") {
		q.Windows = p.windows()
	}
	return q
}

// endsTargets reports whether the select list ends here (it may be empty).
func (p *parser) endsTargets() bool {
	t := p.tok()
	if t.kind == tEOF || t.punct(")") || t.punct(";") {
		return true
	}
	if t.kind == tKeyword && t.word.class == Reserved {
		switch t.text {
		case "from", "where", "group", "having", "window", "union", "intersect", "except", "order", "limit", "offset",
			"fetch", "for", "into", "with":
			return true
		}
	}
	return false
}

// targets reads the select list. An item with an error is left out, so that the errors of its neighbours show too.
func (p *parser) targets() []Target {
	var list []Target
	level := p.nest[p.at]
	if p.punct(")") {
		level++
	}
	failed := false
	for {
		var t Target
		if p.try(func() { t = p.target() }) {
			list = append(list, t)
		} else {
			failed = true
			p.skipTo(level, func() bool { return !p.punct(")") && p.endsTargets() })
		}
		if !p.acceptPunct(",") {
			break
		}
	}
	if failed && !p.endsTargets() {
		panic(bail{})
	}
	return list
}

// skipTo moves to the next comma on the level, or to where the list ends: its parenthesis closes, the statement ends, or
// stop says so.
func (p *parser) skipTo(level int32, stop func() bool) {
	for {
		t := p.tok()
		switch {
		case t.kind == tEOF || t.punct(";") || p.startsStatement() && p.at > 0:
			return
		case p.nest[p.at] < level:
			return
		case p.nest[p.at] == level && (t.punct(",") || stop != nil && stop()):
			return
		}
		p.at++
	}
}

func (p *parser) target() Target {
	pos := p.tok().pos
	if p.op("*") {
		t := p.next()
		at := Span{t.pos, t.end}
		if !p.punct(",") && !p.endsTargets() {
			p.unexpected(`"," or FROM`)
		}
		return Target{Span: at, X: &ColumnRef{Span: at, Star: true}}
	}
	t := Target{X: p.expr()}
	if p.accept("as") {
		n := p.label("a name")
		t.Alias = &n
	} else if isBareLabel(p.tok()) {
		n := p.label("a name")
		t.Alias = &n
	}
	if !p.punct(",") && !p.endsTargets() {
		if next := p.tok(); p.suggest() == "" && t.Alias != nil {
			p.fail(Span{next.pos, next.end}, `expected "," or FROM, found `+next.describe(), "is a comma missing before "+quote(t.Alias.Text)+"?")
		}
		p.unexpected(`"," or FROM`)
	}
	t.Span = p.from(pos)
	return t
}

func (p *parser) groupBy(q *Select) {
	if q.GroupUnique = p.accept("distinct"); !q.GroupUnique {
		p.accept("all")
	}
	q.GroupBy = p.groupItems()
}

func (p *parser) groupItems() []GroupItem {
	var list []GroupItem
	for {
		list = append(list, p.groupItem())
		if !p.acceptPunct(",") {
			return list
		}
	}
}

func (p *parser) groupItem() GroupItem {
	p.enter()
	defer p.leave()
	pos := p.tok().pos
	g := GroupItem{}
	switch {
	case p.punct("(") && p.ahead(1).punct(")"):
		p.at += 2
		g.Kind = GroupEmpty
	case (p.is("rollup") || p.is("cube")) && p.ahead(1).punct("("):
		g.Kind = Rollup
		if p.is("cube") {
			g.Kind = Cube
		}
		p.at += 2
		for _, x := range p.exprList() {
			g.Items = append(g.Items, GroupItem{Span: x.At(), X: x})
		}
		p.closing()
	case p.accept("grouping", "sets"):
		g.Kind = GroupingSets
		p.expectPunct("(")
		g.Items = p.groupItems()
		p.closing()
	default:
		g.X = p.expr()
	}
	g.Span = p.from(pos)
	return g
}

func (p *parser) windows() []*Window {
	var list []*Window
	for {
		n := p.colID("a window's name")
		p.expect("as")
		w := p.windowSpec()
		w.Name, w.Span = &n, p.from(n.Pos)
		list = append(list, w)
		if !p.acceptPunct(",") {
			return list
		}
	}
}

// orderBy reads ORDER BY and its terms.
func (p *parser) orderBy() []SortBy {
	p.expect("order", "by")
	var list []SortBy
	for {
		list = append(list, p.sortBy())
		if !p.acceptPunct(",") {
			return list
		}
	}
}

func (p *parser) sortBy() SortBy {
	pos := p.tok().pos
	s := SortBy{X: p.expr()}
	switch {
	case p.accept("asc"):
		s.Dir = Asc
	case p.accept("desc"):
		s.Dir = Desc
	case p.accept("using"):
		schema, name := p.operatorName()
		s.Dir = Using
		s.Operator = append(schema, Name{p.from(p.toks[p.at-1].pos), name})
	}
	switch {
	case p.accept("nulls", "first"):
		s.Nulls = NullsFirst
	case p.accept("nulls", "last"):
		s.Nulls = NullsLast
	}
	s.Span = p.from(pos)
	return s
}
