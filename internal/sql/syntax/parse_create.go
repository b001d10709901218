package syntax

// createTable reads CREATE TABLE behind these words.
func (p *parser) createTable(pos int) Statement {
	c := &CreateTable{IfNotExists: p.ifNotExists()}
	c.Name = p.qualified("a name for the table")
	if t := p.tok(); t.is("as") {
		p.unsupported(Span{t.pos, t.end}, "CREATE TABLE AS", "declare a view: CREATE MATERIALIZED VIEW name AS SELECT ..")
	} else if t.is("of") || t.is("partition") {
		p.unsupported(Span{t.pos, t.end}, "CREATE TABLE .. "+upper(t.text), "")
	}
	c.Elements = p.tableElements()
	if t := p.tok(); t.is("inherits") || t.is("partition") || t.is("using") || t.is("on") || t.is("tablespace") {
		p.unsupported(Span{t.pos, t.end}, upper(t.text)+" in CREATE TABLE", "")
	}
	if p.accept("with") {
		c.Options = p.options()
	} else if t := p.tok(); t.is("without") {
		p.unsupported(Span{t.pos, t.end}, "WITHOUT OIDS", "")
	}
	if t := p.tok(); t.is("on") || t.is("tablespace") {
		p.unsupported(Span{t.pos, t.end}, upper(t.text)+" in CREATE TABLE", "")
	}
	c.Span = p.from(pos)
	return c
}

// tableElements reads the parentheses of CREATE TABLE. An element with an error is left out, so that the errors of its
// neighbours show too.
func (p *parser) tableElements() []TableElement {
	level := p.nest[p.at] + 1
	p.expectPunct("(")
	var list []TableElement
	for !p.punct(")") || len(list) > 0 {
		var e TableElement
		if p.try(func() { e = p.tableElement() }) {
			list = append(list, e)
		} else {
			p.skipTo(level, nil)
		}
		if !p.acceptPunct(",") {
			break
		}
	}
	p.closing()
	return list
}

func (p *parser) tableElement() TableElement {
	t := p.tok()
	switch t.text {
	case "constraint", "check", "primary", "foreign", "unique", "exclude", "like":
		if t.kind == tKeyword && !isColID(t) || t.is("exclude") && (p.ahead(1).is("using") || p.ahead(1).punct("(")) {
			c := p.tableConstraint()
			return TableElement{Constraint: &c}
		}
	}
	if t.punct(")") {
		p.fail(Span{t.pos, t.end}, "expected a column or constraint after the comma", "remove the comma before the )")
	}
	c := &ColumnDef{Name: p.colID("a column, PRIMARY KEY, CHECK or CONSTRAINT")}
	c.Type = p.columnType(c.Name)
	for {
		n := p.tok()
		if p.accept("collate") {
			c.Collation = p.collation(c.Collation, n)
			continue
		}
		k, ok := p.columnConstraint()
		if !ok {
			break
		}
		c.Constraints = append(c.Constraints, k)
	}
	if !p.punct(",") && !p.punct(")") {
		p.unexpected(`a constraint, "," or ")"`)
	}
	c.Span = p.from(c.Name.Pos)
	return TableElement{Column: c}
}

// columnType reads the type of a column, with an error that fits when it is missing.
func (p *parser) columnType(name Name) *TypeName {
	if t := p.tok(); t.punct(",") || t.punct(")") || t.is("not") || t.is("primary") || t.is("default") || t.is("check") {
		p.fail(Span{t.pos, t.end}, "column "+quote(name.Text)+" has no type", "for example: "+name.Text+" text")
	}
	typ := p.typeName()
	if t := p.tok(); t.is("storage") || t.is("compression") || t.is("options") {
		p.unsupported(Span{t.pos, t.end}, upper(t.text)+" of a column", "")
	}
	return typ
}

func (p *parser) collation(old QName, at *token) QName {
	if old != nil {
		p.fail(Span{at.pos, at.end}, "a column has one COLLATE", "")
	}
	return p.anyName("a collation")
}

// columnConstraint reads one constraint of a column. ok is false when there is none here.
func (p *parser) columnConstraint() (c Constraint, ok bool) {
	pos := p.tok().pos
	if p.accept("constraint") {
		n := p.colID("a name for the constraint")
		c.Name = &n
		ok = true
	}
	t := p.tok()
	switch {
	case p.is("not") && !p.ahead(1).is("deferrable"):
		p.next()
		p.expect("null")
		c.Kind = NotNull
	case p.accept("null"):
		c.Kind = Nullable
	case p.accept("default"):
		c.Kind, c.X = Default, p.restricted()
	case p.is("generated"):
		p.generated(&c)
	case p.is("references"):
		c.Kind = ForeignKey
		p.references(&c)
	case p.is("unique"), p.is("primary"), p.is("check"):
		p.commonConstraint(&c)
	case p.is("deferrable"), p.is("initially"), p.is("not") && p.ahead(1).is("deferrable"):
		p.unsupported(Span{t.pos, t.end}, "a deferrable constraint", "constraints hold for every row at once")
	case ok:
		p.unexpected("a constraint")
	default:
		return c, false
	}
	c.Span = p.from(pos)
	return c, true
}

// commonConstraint reads CHECK, UNIQUE and PRIMARY KEY up to where a table's lists columns.
func (p *parser) commonConstraint(c *Constraint) {
	switch {
	case p.accept("check"):
		c.Kind = Check
		p.expectPunct("(")
		c.X = p.expr()
		p.closing()
		c.NoInherit = p.accept("no", "inherit")
	case p.accept("unique"):
		c.Kind = Unique
		if p.is("nulls") {
			p.next()
			c.NullsNotDistinct = p.accept("not")
			p.expect("distinct")
		}
	default:
		p.expect("primary", "key")
		c.Kind = PrimaryKey
	}
}

// tableConstraint reads one constraint among the columns.
func (p *parser) tableConstraint() Constraint {
	c := Constraint{}
	pos := p.tok().pos
	if p.accept("constraint") {
		n := p.colID("a name for the constraint")
		c.Name = &n
	}
	switch t := p.tok(); {
	case t.is("check"):
		p.commonConstraint(&c)
	case t.is("unique"), t.is("primary"):
		p.commonConstraint(&c)
		if t := p.tok(); t.is("using") {
			p.unsupported(Span{t.pos, t.end}, "USING INDEX", "")
		}
		c.Columns = p.nameList("a column")
	case t.is("foreign"):
		p.expect("foreign", "key")
		c.Kind = ForeignKey
		c.Columns = p.nameList("a column")
		p.references(&c)
	case t.is("exclude"):
		p.unsupported(Span{t.pos, t.end}, "EXCLUDE", "")
	case t.is("like"):
		p.unsupported(Span{t.pos, t.end}, "LIKE in CREATE TABLE", "write the columns out")
	default:
		p.unexpected("CHECK, PRIMARY KEY, UNIQUE or FOREIGN KEY")
	}
	if t := p.tok(); t.is("include") || t.is("with") || t.is("using") || t.is("deferrable") || t.is("initially") || t.is("not") {
		p.unsupported(Span{t.pos, t.end}, upper(t.text)+" of a constraint", "")
	}
	if !p.punct(",") && !p.punct(")") {
		p.unexpected(`"," or ")"`)
	}
	c.Span = p.from(pos)
	return c
}

// generated reads GENERATED .. AS IDENTITY and GENERATED ALWAYS AS (x) STORED.
func (p *parser) generated(c *Constraint) {
	t := p.next()
	if !p.accept("always") {
		p.expect("by", "default")
		c.ByDefault = true
	}
	p.expect("as")
	if p.accept("identity") {
		c.Kind = Identity
		if s := p.tok(); s.punct("(") {
			p.unsupported(Span{s.pos, s.end}, "an identity with options", "")
		}
		return
	}
	p.expectPunct("(")
	c.Kind, c.X = Generated, p.expr()
	p.closing()
	p.expect("stored")
	if c.ByDefault {
		p.fail(p.from(t.pos), "a generated column is GENERATED ALWAYS", "")
	}
}

// references reads REFERENCES table [(columns)] [MATCH ..] [ON DELETE ..] [ON UPDATE ..].
func (p *parser) references(c *Constraint) {
	p.expect("references")
	c.RefTable = p.qualified("a table")
	if p.punct("(") {
		c.RefColumns = p.nameList("a column")
	}
	c.Match, c.OnUpdate, c.OnDelete = 's', 'a', 'a'
	if p.accept("match") {
		switch t := p.tok(); {
		case p.accept("full"):
			c.Match = 'f'
		case p.accept("simple"):
		case t.is("partial"):
			p.fail(Span{t.pos, t.end}, "MATCH PARTIAL is not yet implemented", "")
		default:
			p.unexpected("FULL or SIMPLE")
		}
	}
	seen := map[string]bool{}
	for p.is("on") {
		p.next()
		t := p.tok()
		if seen[t.text] || !t.is("delete") && !t.is("update") {
			p.unexpected("DELETE or UPDATE, each once")
		}
		seen[t.text] = true
		p.next()
		if t.is("delete") {
			c.OnDelete, c.SetColumns = p.keyAction()
		} else {
			act := p.tok()
			var cols []Name
			if c.OnUpdate, cols = p.keyAction(); cols != nil {
				p.fail(Span{act.pos, p.end()}, "a column list is only allowed with ON DELETE", "")
			}
		}
	}
}

func (p *parser) keyAction() (action byte, columns []Name) {
	switch {
	case p.accept("no", "action"):
		return 'a', nil
	case p.accept("restrict"):
		return 'r', nil
	case p.accept("cascade"):
		return 'c', nil
	case p.accept("set", "null"):
		action = 'n'
	case p.accept("set", "default"):
		action = 'd'
	default:
		p.unexpected("NO ACTION, RESTRICT, CASCADE, SET NULL or SET DEFAULT")
	}
	if p.punct("(") {
		columns = p.nameList("a column")
	}
	return action, columns
}

// options reads the parentheses of WITH (..).
func (p *parser) options() []Option {
	level := p.nest[p.at] + 1
	p.expectPunct("(")
	var list []Option
	for {
		var o Option
		if p.try(func() { o = p.option() }) {
			list = append(list, o)
		} else {
			p.skipTo(level, nil)
		}
		if !p.acceptPunct(",") {
			break
		}
	}
	p.closing()
	return list
}

func (p *parser) option() Option {
	o := Option{Key: p.label("an option")}
	if p.acceptPunct(".") {
		ns := o.Key
		o.Namespace = &ns
		o.Key = p.label("an option")
	}
	if p.op("=") {
		p.next()
		o.Value = p.optionValue()
	}
	if !p.punct(",") && !p.punct(")") {
		p.unexpected(`"=", "," or ")"`)
	}
	o.Span = p.from(o.Key.Pos)
	return o
}

// optionValue reads what may stand behind = in WITH (..).
func (p *parser) optionValue() *OptionValue {
	t := p.tok()
	v := &OptionValue{Text: t.text}
	switch {
	case t.kind == tString:
		p.next()
	case t.kind == tInt, t.kind == tNum:
		p.optionNumber(v, "")
	case (t.op("-") || t.op("+")) && (p.ahead(1).kind == tInt || p.ahead(1).kind == tNum):
		p.next()
		p.optionNumber(v, t.text)
	case t.kind == tOp, t.is("operator") && p.ahead(1).punct("("):
		schema, name := p.operatorName()
		if schema != nil {
			p.fail(p.from(t.pos), "an option cannot be an operator", "")
		}
		v.Kind, v.Text = OptOperator, name
	case t.kind == tKeyword && t.word.class == Reserved && !t.word.joined, t.is("none"):
		p.next()
		v.Kind = OptWord
	case t.punct(","), t.punct(")"):
		p.unexpected("a value")
	default:
		v.Kind, v.Type = OptType, p.typeName()
		if p.op("%") {
			p.fail(v.Type.Span, "expected a value", "put text in single quotes")
		}
	}
	v.Span = p.from(t.pos)
	return v
}

func (p *parser) optionNumber(v *OptionValue, sign string) {
	t := p.next()
	v.Kind, v.Text, v.Float = OptNumber, t.text, t.kind == tNum
	if sign == "-" {
		v.Text = "-" + t.text
		if v.Text == "-0" && !v.Float {
			v.Text = "0"
		}
	}
}

// createView reads CREATE MATERIALIZED VIEW behind these words.
func (p *parser) createView(pos int) Statement {
	c := &CreateView{IfNotExists: p.ifNotExists()}
	c.Name = p.qualified("a name for the view")
	if p.punct("(") {
		c.Columns = p.nameList("a column")
	}
	if t := p.tok(); t.is("using") {
		p.unsupported(Span{t.pos, t.end}, "USING in CREATE MATERIALIZED VIEW", "")
	}
	if p.accept("with") {
		c.Options = p.options()
	}
	if t := p.tok(); t.is("tablespace") {
		p.unsupported(Span{t.pos, t.end}, "TABLESPACE", "")
	}
	p.expect("as")
	if !p.punct("(") && !p.startsQuery() {
		p.unexpected("SELECT")
	}
	c.Query = p.query()
	if p.accept("with", "no") {
		c.NoData = true
		p.expect("data")
	} else if p.accept("with") {
		p.expect("data")
	}
	c.Span = p.from(pos)
	return c
}
