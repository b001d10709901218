package syntax

import "strconv"

// integer reads an integer literal.
func (p *parser) integer() int {
	t := p.tok()
	if t.kind != tInt {
		p.unexpected("an integer")
	}
	p.next()
	n, _ := strconv.Atoi(t.text)
	return n
}

// typeName reads a type (Typename).
func (p *parser) typeName() *TypeName {
	pos := p.tok().pos
	setOf := p.accept("setof")
	t := p.simpleType()
	t.SetOf = setOf
	if p.accept("array") {
		bound := -1
		if p.acceptPunct("[") {
			bound = p.integer()
			p.expectPunct("]")
		}
		t.Bounds = []int{bound}
	}
	for len(t.Bounds) == 0 || p.toks[p.at-1].punct("]") {
		if !p.punct("[") {
			break
		}
		p.next()
		bound := -1
		if !p.punct("]") {
			bound = p.integer()
		}
		p.expectPunct("]")
		t.Bounds = append(t.Bounds, bound)
	}
	t.Span = p.from(pos)
	return t
}

// simpleType reads a type without dimensions.
func (p *parser) simpleType() *TypeName {
	pos := p.tok().pos
	t := p.systemType(false)
	if t == nil {
		n := p.nameOf("a type", isTypeFunc)
		t = &TypeName{Names: QName{n}}
		for p.punct(".") {
			p.next()
			t.Names = append(t.Names, p.label("a name"))
		}
		if p.punct("(") {
			p.next()
			t.Mods = p.exprList()
			p.closing()
		}
	}
	t.Span = p.from(pos)
	return t
}

// system makes one of the types that the grammar itself knows.
func (p *parser) system(pos int, name string, mods ...Expr) *TypeName {
	at := p.from(pos)
	return &TypeName{Span: at, System: true, Names: systemName(name, at), Mods: mods}
}

// systemType reads a type that the grammar itself knows, or returns nil. In a literal (literal 'x') char has no length
// nor bit, unless it is given; elsewhere they are char(1) and bit(1).
func (p *parser) systemType(literal bool) *TypeName {
	t := p.tok()
	if t.kind != tKeyword {
		return nil
	}
	switch t.text {
	case "int", "integer":
		return p.oneWord("int4")
	case "smallint":
		return p.oneWord("int2")
	case "bigint":
		return p.oneWord("int8")
	case "real":
		return p.oneWord("float4")
	case "boolean":
		return p.oneWord("bool")
	case "json":
		return p.oneWord("json")
	case "decimal", "dec", "numeric":
		p.next()
		return p.system(t.pos, "numeric", p.modifiers()...)
	case "double":
		if p.accept("double", "precision") {
			return p.system(t.pos, "float8")
		}
	case "float":
		return p.float()
	case "bit":
		return p.bit(literal)
	case "character", "char", "varchar", "national", "nchar":
		return p.character(literal)
	case "timestamp", "time":
		return p.datetime()
	case "interval":
		return p.interval()
	}
	return nil
}

func (p *parser) oneWord(name string) *TypeName {
	return p.system(p.next().pos, name)
}

// modifiers reads an optional (a, b).
func (p *parser) modifiers() []Expr {
	if !p.acceptPunct("(") {
		return nil
	}
	list := p.exprList()
	p.closing()
	return list
}

// number makes an integer constant at no particular place.
func (p *parser) number(n int) Expr {
	return &Literal{Span{p.end(), p.end()}, Int, strconv.Itoa(n)}
}

func (p *parser) float() *TypeName {
	pos := p.next().pos
	name := "float8"
	if p.punct("(") {
		n := p.precision()
		switch {
		case n < 1:
			p.fail(p.from(pos), "the precision of float must be at least 1 bit", "")
		case n > 53:
			p.fail(p.from(pos), "the precision of float must be less than 54 bits", "")
		case n <= 24:
			name = "float4"
		}
	}
	return p.system(pos, name)
}

func (p *parser) bit(literal bool) *TypeName {
	pos := p.next().pos
	name := "bit"
	if p.accept("varying") {
		name = "varbit"
	}
	mods := p.modifiers()
	if mods == nil && name == "bit" && !literal {
		mods = []Expr{p.number(1)}
	}
	return p.system(pos, name, mods...)
}

func (p *parser) character(literal bool) *TypeName {
	t := p.next()
	if t.is("national") && !p.accept("character") && !p.accept("char") {
		p.unexpected("CHARACTER or CHAR")
	}
	name := "bpchar"
	if t.is("varchar") || p.accept("varying") {
		name = "varchar"
	}
	if p.punct("(") {
		return p.system(t.pos, name, p.number(p.precision()))
	}
	if name == "bpchar" && !literal {
		return p.system(t.pos, name, p.number(1))
	}
	return p.system(t.pos, name)
}

func (p *parser) datetime() *TypeName {
	t := p.next()
	name := t.text
	var mods []Expr
	if p.punct("(") {
		mods = []Expr{p.number(p.precision())}
	}
	if p.is("with") && p.ahead(1).is("time") {
		p.expect("with", "time", "zone")
		name += "tz"
	} else if p.is("without") && p.ahead(1).is("time") {
		p.expect("without", "time", "zone")
	}
	return p.system(t.pos, name, mods...)
}

// The bits by which PostgreSQL encodes the fields of an interval type, and the mask of all fields.
const (
	bitMonth, bitYear, bitDay        = 1 << 1, 1 << 2, 1 << 3
	bitHour, bitMinute, bitSecond    = 1 << 10, 1 << 11, 1 << 12
	intervalFull                     = 0x7FFF
	fieldsDayHour, fieldsHourMinute  = bitDay | bitHour, bitHour | bitMinute
	fieldsDayMinute, fieldsDaySecond = fieldsDayHour | bitMinute, fieldsDayHour | bitMinute | bitSecond
)

// interval reads INTERVAL [(p)] or INTERVAL [fields].
func (p *parser) interval() *TypeName {
	pos := p.next().pos
	if p.punct("(") {
		n := p.precision()
		return p.system(pos, "interval", p.number(intervalFull), p.number(n))
	}
	return p.system(pos, "interval", p.intervalFields()...)
}

// intervalFields reads YEAR, DAY TO SECOND(3) and the like.
func (p *parser) intervalFields() []Expr {
	switch {
	case p.accept("year", "to", "month"):
		return []Expr{p.number(bitYear | bitMonth)}
	case p.accept("year"):
		return []Expr{p.number(bitYear)}
	case p.accept("month"):
		return []Expr{p.number(bitMonth)}
	case p.accept("day", "to", "hour"):
		return []Expr{p.number(fieldsDayHour)}
	case p.accept("day", "to", "minute"):
		return []Expr{p.number(fieldsDayMinute)}
	case p.accept("day", "to", "second"):
		return p.intervalSecond(fieldsDaySecond)
	case p.accept("day"):
		return []Expr{p.number(bitDay)}
	case p.accept("hour", "to", "minute"):
		return []Expr{p.number(fieldsHourMinute)}
	case p.accept("hour", "to", "second"):
		return p.intervalSecond(fieldsHourMinute | bitSecond)
	case p.accept("hour"):
		return []Expr{p.number(bitHour)}
	case p.accept("minute", "to", "second"):
		return p.intervalSecond(bitMinute | bitSecond)
	case p.accept("minute"):
		return []Expr{p.number(bitMinute)}
	case p.accept("second"):
		return p.intervalSecond(bitSecond)
	}
	return nil
}

func (p *parser) intervalSecond(fields int) []Expr {
	if p.punct("(") {
		n := p.precision()
		return []Expr{p.number(fields), p.number(n)}
	}
	return []Expr{p.number(fields)}
}

// startsTypeLiteral reports whether a type of the grammar begins here that has a string behind it. The words of types
// are also names of columns, so it looks ahead.
func (p *parser) startsTypeLiteral() bool {
	t, n := p.tok(), p.ahead(1)
	switch t.text {
	case "int", "integer", "smallint", "bigint", "real", "boolean", "json":
		return n.kind == tString
	case "decimal", "dec", "numeric", "float", "interval":
		return n.kind == tString || n.punct("(")
	case "double":
		return n.is("precision")
	case "bit", "character", "char", "varchar", "nchar":
		return n.kind == tString || n.punct("(") || n.is("varying")
	case "national":
		return n.is("character") || n.is("char")
	case "timestamp", "time":
		return n.kind == tString || n.punct("(") || (n.is("with") || n.is("without")) && p.ahead(2).is("time")
	}
	return false
}

// typeLiteral reads a type of the grammar and the string behind it. An interval's fields may follow the string.
func (p *parser) typeLiteral() Expr {
	if !p.is("interval") {
		return p.literalOf(p.systemType(true))
	}
	pos := p.next().pos
	var mods []Expr
	if p.punct("(") {
		n := p.precision()
		mods = []Expr{p.number(intervalFull), p.number(n)}
	}
	typ := p.system(pos, "interval", mods...)
	c := p.literalOf(typ).(*Cast)
	if mods == nil {
		typ.Mods = p.intervalFields()
		c.Span = p.from(pos)
	}
	return c
}
