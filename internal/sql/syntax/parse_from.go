package syntax

// fromList reads the items of FROM.
func (p *parser) fromList() []TableRef {
	var list []TableRef
	for {
		list = append(list, p.tableRef())
		if !p.acceptPunct(",") {
			return list
		}
	}
}

// tableRef reads one item of FROM with the joins that follow it.
func (p *parser) tableRef() TableRef {
	p.enter()
	defer p.leave()
	return p.joins(p.tablePrimary())
}

// joins reads the joins that follow l.
func (p *parser) joins(l TableRef) TableRef {
	for n := 0; ; n++ {
		j := &Join{L: l}
		p.chain(n * 10)
		switch {
		case p.accept("cross"):
			p.expect("join")
			j.R = p.tablePrimary()
		case p.accept("natural"):
			j.Natural = true
			kind, ok := p.joinKind()
			if !ok {
				p.unexpected("JOIN")
			}
			j.Kind = kind
			j.R = p.tablePrimary()
		default:
			kind, ok := p.joinKind()
			if !ok {
				return l
			}
			j.Kind = kind
			j.R = p.tableRef()
			p.joinCondition(j)
		}
		j.Span = p.from(l.At().Pos)
		l = j
	}
}

// joinKind reads [INNER] JOIN, LEFT [OUTER] JOIN and so on. ok is false when there is no join here.
func (p *parser) joinKind() (k JoinKind, ok bool) {
	switch {
	case p.accept("join"):
		return Inner, true
	case p.accept("inner"):
	case p.accept("left"):
		k = LeftJoin
	case p.accept("right"):
		k = RightJoin
	case p.accept("full"):
		k = FullJoin
	default:
		return 0, false
	}
	if k != Inner {
		p.accept("outer")
	}
	p.expect("join")
	return k, true
}

func (p *parser) joinCondition(j *Join) {
	if p.accept("using") {
		j.Using = p.nameList("a column")
		if p.accept("as") {
			n := p.colID("a name")
			j.UsingAlias = &n
		}
		return
	}
	if !p.accept("on") {
		p.unexpected("ON or USING")
	}
	j.On = p.expr()
}

// tablePrimary reads one item of FROM.
func (p *parser) tablePrimary() TableRef {
	pos := p.tok().pos
	lateral := p.accept("lateral")
	t := p.tok()
	switch {
	case p.punct("("):
		return p.tableParens(pos, lateral)
	case p.is("rows") && p.ahead(1).is("from") && p.ahead(2).punct("("):
		return p.rowsFrom(pos, lateral)
	case t.is("xmltable") || t.is("json_table"):
		p.unsupported(Span{t.pos, t.end}, upper(t.text), "")
	case p.startsTableFunction():
		r := &RangeCall{Lateral: lateral, Calls: []RangeCallItem{{X: p.windowlessCall()}}}
		r.Ordinality = p.accept("with", "ordinality")
		p.functionAlias(r)
		r.Span = p.from(pos)
		return r
	case lateral:
		p.unexpected("a sub-query or a function after LATERAL")
	}
	r := p.relation()
	r.Alias = p.alias()
	if s := p.tok(); s.is("tablesample") {
		p.unsupported(Span{s.pos, s.end}, "TABLESAMPLE", "")
	}
	r.Span = p.from(pos)
	return r
}

// tableParens reads a sub-query or a join in parentheses.
func (p *parser) tableParens(pos int, lateral bool) TableRef {
	q, j := p.queryOrJoin()
	if q != nil {
		return &RangeQuery{Lateral: lateral, Query: q, Alias: p.alias(), Span: p.from(pos)}
	}
	if lateral {
		p.fail(p.from(pos), "LATERAL takes a sub-query or a function", "")
	}
	if a := p.alias(); a != nil {
		copied := *j
		copied.Alias = a
		j = &copied
	}
	return j
}

// queryOrJoin reads what parentheses in FROM hold: a query, or joined tables.
func (p *parser) queryOrJoin() (*Select, *Join) {
	p.enter()
	defer p.leave()
	p.expectPunct("(")
	if p.startsQuery() {
		q := p.query()
		p.expectPunct(")")
		return q, nil
	}
	pos := p.tok().pos
	var j *Join
	if p.punct("(") {
		var q *Select
		if q, j = p.insideParens(); q != nil {
			p.expectPunct(")")
			return q, nil
		}
	} else {
		j, _ = p.tableRef().(*Join)
	}
	if j == nil {
		p.fail(p.from(pos), "parentheses in FROM hold a query or a join", "remove the parentheses around the table")
	}
	p.expectPunct(")")
	return nil, j
}

// insideParens reads on where parentheses follow parentheses: a query, or a join that may begin with one or with a join.
// Both are nil when there is neither.
func (p *parser) insideParens() (*Select, *Join) {
	pos := p.tok().pos
	q, j := p.queryOrJoin()
	switch {
	case q != nil && p.punct(")"):
		return q, nil
	case q != nil && p.continuesQuery():
		return p.queryAfter(q), nil
	case q == nil && p.punct(")"):
		return nil, j
	}
	var first TableRef = j
	if q != nil {
		first = &RangeQuery{Query: q, Alias: p.alias(), Span: p.from(pos)}
	} else if a := p.alias(); a != nil {
		copied := *j
		copied.Alias = a
		first = &copied
	}
	whole := p.joins(first)
	if whole == first && q == nil && first.(*Join).Alias == nil {
		return nil, j
	}
	if whole == first {
		return nil, nil // a name in parentheses is no join
	}
	return nil, whole.(*Join)
}

// relation reads the name of a table or view, with ONLY or *.
func (p *parser) relation() *RangeTable {
	pos := p.tok().pos
	r := &RangeTable{}
	if p.accept("only") {
		r.Only = true
		if p.acceptPunct("(") {
			r.Name = p.qualified("a table")
			p.expectPunct(")")
		} else {
			r.Name = p.qualified("a table")
		}
	} else {
		r.Name = p.qualified("a table or view")
		if p.op("*") {
			p.next()
		}
	}
	r.Span = p.from(pos)
	return r
}

// startsTableFunction looks ahead over a name for the parenthesis of a call.
func (p *parser) startsTableFunction() bool {
	t := p.tok()
	if !isLabel(t) {
		return false
	}
	switch t.text {
	case "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_role", "current_user",
		"session_user", "system_user", "user", "current_catalog", "current_schema", "cast":
		return t.kind == tKeyword
	}
	n := 1
	for p.ahead(n).punct(".") && isLabel(p.ahead(n+1)) {
		n += 2
	}
	if n == 1 && t.kind == tKeyword && t.word.class == ColName {
		return p.ahead(1).punct("(") && isSpecialForm(t.text)
	}
	return p.ahead(n).punct("(") && t.word.class != Reserved
}

// isSpecialForm: the words of class ColName that are functions in FROM too.
func isSpecialForm(w string) bool {
	switch w {
	case "coalesce", "greatest", "least", "nullif", "extract", "normalize", "overlay", "position", "substring", "trim":
		return true
	}
	return false
}

// windowlessCall reads a function in FROM: no FILTER, no OVER.
func (p *parser) windowlessCall() Expr {
	t := p.tok()
	if t.kind == tKeyword && (t.word.class == Reserved || t.word.class == ColName || t.is("current_schema") || t.is("collation")) && !p.ahead(1).punct(".") {
		switch x := p.operandWord(false).(type) {
		case *Call, *Conditional, *Current, *Cast:
			return x
		}
		p.fail(p.from(t.pos), "expected a function", "")
	}
	name := QName{p.nameOf("a function", isNonReserved)}
	for p.acceptPunct(".") {
		name = append(name, p.label("a name"))
	}
	if len(name) > 1 && !isColID(t) {
		p.fail(name[0].Span, upper(t.text)+" is a word of SQL here", "to use it as a name, put it in double quotes")
	}
	return p.callArgs(name)
}

// rowsFrom reads ROWS FROM (f(..) [AS (..)], ..).
func (p *parser) rowsFrom(pos int, lateral bool) TableRef {
	p.at += 3
	r := &RangeCall{Lateral: lateral, RowsFrom: true}
	for {
		if !p.startsTableFunction() {
			p.unexpected("a function")
		}
		item := RangeCallItem{X: p.windowlessCall()}
		if p.accept("as") {
			item.Columns = p.columnDefs()
		}
		r.Calls = append(r.Calls, item)
		if !p.acceptPunct(",") {
			break
		}
	}
	p.closing()
	r.Ordinality = p.accept("with", "ordinality")
	p.functionAlias(r)
	r.Span = p.from(pos)
	return r
}

// alias reads [AS] name [(columns)].
func (p *parser) alias() *Alias {
	pos := p.tok().pos
	if !p.accept("as") && !isColID(p.tok()) {
		return nil
	}
	a := &Alias{Name: p.colID("a name")}
	if p.punct("(") {
		a.Columns = p.nameList("a column")
	}
	a.Span = p.from(pos)
	return a
}

// functionAlias reads the alias of a function in FROM, which may define columns: AS t (a int, b text).
func (p *parser) functionAlias(r *RangeCall) {
	pos := p.tok().pos
	as := p.accept("as")
	if as && p.punct("(") {
		r.Columns = p.columnDefs()
		return
	}
	if !as && !isColID(p.tok()) {
		return
	}
	a := &Alias{Name: p.colID("a name")}
	r.Alias = a
	if p.punct("(") {
		if n := p.ahead(2); !n.punct(",") && !n.punct(")") {
			r.Columns = p.columnDefs()
		} else {
			a.Columns = p.nameList("a column")
		}
	}
	a.Span = p.from(pos)
}

// columnDefs reads (a int, b text COLLATE c).
func (p *parser) columnDefs() []ColumnDef {
	p.expectPunct("(")
	var list []ColumnDef
	for {
		c := ColumnDef{Name: p.colID("a column")}
		c.Type = p.typeName()
		if p.accept("collate") {
			c.Collation = p.anyName("a collation")
		}
		c.Span = p.from(c.Name.Pos)
		list = append(list, c)
		if !p.acceptPunct(",") {
			break
		}
	}
	p.closing()
	return list
}
