package syntax

// statement reads one statement without its semicolon.
func (p *parser) statement() Statement {
	t, n := p.tok(), p.ahead(1)
	switch {
	case t.is("create"):
		return p.create()
	case t.is("grant"), t.is("revoke"):
		return p.grant()
	case t.is("select"), t.is("values"), t.is("table"), t.is("with"), t.punct("("):
		return p.query()
	case t.is("alter") && n.is("table"):
		return p.alterTable()
	case t.is("comment"):
		return p.comment()
	}
	if what, hint := foreignStatement(t); what != "" {
		p.unsupported(Span{t.pos, t.end}, what, hint)
	}
	p.unexpected("CREATE, GRANT or another statement")
	return nil
}

// foreignStatement says what to tell about statements that PostgreSQL has and an app.sql has no use for.
func foreignStatement(t *token) (what, hint string) {
	if t.kind != tKeyword {
		return "", ""
	}
	switch t.text {
	case "insert", "update", "delete", "copy", "merge":
		return upper(t.text) + " in app.sql", "app.sql declares tables and views; rows come in over HTTP: POST /v1/tables/<table>"
	case "drop", "truncate":
		return upper(t.text), "app.sql says what is there: to change it, edit the declaration itself"
	case "alter":
		return "ALTER", "app.sql says what is there: edit the CREATE statement itself; added columns are found by comparison"
	case "begin", "start", "commit", "rollback", "end", "abort", "savepoint":
		return upper(t.text), "a file is read whole: all of it or nothing takes effect"
	case "set", "reset", "show", "vacuum", "analyze", "explain", "lock", "prepare", "execute", "do", "call", "listen", "notify",
		"cluster", "reindex", "refresh", "declare", "fetch", "move", "security", "import", "discard", "load", "checkpoint":
		return upper(t.text), ""
	}
	return "", ""
}

// create reads what CREATE begins.
func (p *parser) create() Statement {
	pos := p.next().pos
	switch t, n := p.tok(), p.ahead(1); {
	case t.is("table"):
		p.next()
		return p.createTable(pos)
	case t.is("materialized") && n.is("view"):
		p.at += 2
		return p.createView(pos)
	case t.is("materialized"):
		p.next()
		p.unexpected("VIEW")
	case t.is("role"):
		p.next()
		return p.createRole(pos)
	case t.is("policy"):
		p.next()
		return p.createPolicy(pos)
	case t.is("view"), t.is("recursive"), t.is("or") && n.is("replace") && p.ahead(2).is("view"):
		p.unsupported(Span{pos, t.end}, "CREATE VIEW", "every view is kept up to date: write CREATE MATERIALIZED VIEW")
	case t.is("temp"), t.is("temporary"), t.is("unlogged"), t.is("local"), t.is("global"):
		p.unsupported(Span{pos, t.end}, "CREATE "+upper(t.text), "all tables of an app are in its log: write CREATE TABLE")
	case t.is("index"), t.is("unique"):
		p.unsupported(Span{pos, t.end}, "CREATE INDEX", "the key of a table or view is its index; no other is needed")
	case t.is("user"), t.is("group"):
		p.unsupported(Span{pos, t.end}, "CREATE "+upper(t.text), "a role comes from the token of the caller; GRANT to its name")
	case t.kind == tKeyword && isOtherObject(t.text):
		p.unsupported(Span{pos, t.end}, "CREATE "+upper(t.text), "")
	}
	p.unexpected("TABLE or MATERIALIZED VIEW")
	return nil
}

func isOtherObject(w string) bool {
	switch w {
	case "function", "procedure", "aggregate", "type", "domain", "schema", "sequence", "extension", "trigger", "rule",
		"database", "foreign", "server", "publication", "subscription", "language", "operator", "collation", "cast",
		"statistics", "event", "access", "conversion", "tablespace", "transform", "text", "or", "constraint", "trusted":
		return true
	}
	return false
}

func (p *parser) ifNotExists() bool {
	if !p.is("if") || !p.ahead(1).is("not") {
		return false
	}
	p.expect("if", "not", "exists")
	return true
}

func (p *parser) createRole(pos int) Statement {
	c := &CreateRole{Name: p.role()}
	if c.Name.Public || c.Name.Current {
		p.fail(c.Name.Span, "the role name "+quote(c.Name.Name)+" is reserved", "")
	}
	p.accept("with")
	for !p.punct(";") && p.tok().kind != tEOF {
		t := p.tok()
		switch t.text {
		case "superuser", "nosuperuser", "createrole", "nocreaterole", "replication", "noreplication", "createdb", "nocreatedb",
			"login", "nologin", "bypassrls", "nobypassrls", "noinherit", "inherit":
			if !t.quoted {
				break
			}
			fallthrough
		default:
			p.unsupported(Span{t.pos, t.end}, "this option of CREATE ROLE", "")
		}
		p.next()
		c.Options = append(c.Options, Name{Span{t.pos, t.end}, t.text})
	}
	c.Span = p.from(pos)
	return c
}

func (p *parser) createPolicy(pos int) Statement {
	c := &CreatePolicy{Name: p.colID("a name"), Command: "all"}
	p.expect("on")
	c.Table = p.qualified("a table")
	if p.accept("as") {
		t := p.tok()
		if t.kind != tIdent || t.text != "permissive" && t.text != "restrictive" {
			p.unexpected("PERMISSIVE or RESTRICTIVE")
		}
		p.next()
		c.Restrictive = t.text == "restrictive"
	}
	if p.accept("for") {
		t := p.tok()
		if !t.is("all") && !t.is("select") && !t.is("insert") && !t.is("update") && !t.is("delete") {
			p.unexpected("ALL, SELECT, INSERT, UPDATE or DELETE")
		}
		c.Command = p.next().text
	}
	if p.accept("to") {
		c.Roles = p.roles()
	}
	if p.accept("using") {
		p.expectPunct("(")
		c.Using = p.expr()
		p.closing()
	}
	if p.accept("with") {
		p.expect("check")
		p.expectPunct("(")
		c.Check = p.expr()
		p.closing()
	}
	c.Span = p.from(pos)
	return c
}

func (p *parser) roles() []RoleRef {
	list := []RoleRef{p.role()}
	for p.acceptPunct(",") {
		list = append(list, p.role())
	}
	return list
}

func (p *parser) alterTable() Statement {
	pos := p.tok().pos
	p.at += 2
	a := &AlterTable{}
	a.IfExists = p.accept("if", "exists")
	a.Only = p.is("only")
	a.Name = p.relation().Name
	for {
		t := p.tok()
		action := t.text
		if p.accept("no", "force") {
			action = "no force"
		} else if !p.accept("enable") && !p.accept("disable") && !p.accept("force") {
			p.unsupported(Span{t.pos, t.end}, "ALTER TABLE .. "+upper(t.text), "app.sql says what is there: edit the CREATE TABLE itself")
		}
		p.expect("row", "level", "security")
		a.Actions = append(a.Actions, Name{Span{t.pos, t.end}, action})
		if !p.acceptPunct(",") {
			break
		}
	}
	a.Span = p.from(pos)
	return a
}

func (p *parser) comment() Statement {
	pos := p.next().pos
	p.expect("on")
	c := &Comment{}
	t := p.tok()
	switch {
	case p.accept("table"), p.accept("column"), p.accept("view"):
		c.Object = t.text
	case p.accept("materialized"):
		p.expect("view")
		c.Object = "materialized view"
	default:
		p.unsupported(Span{t.pos, t.end}, "COMMENT ON "+upper(t.text), "comment on a TABLE, COLUMN or MATERIALIZED VIEW")
	}
	c.Name = p.anyName("a name")
	p.expect("is")
	if s := p.tok(); s.kind == tString {
		c.Text = &p.next().text
	} else {
		p.expect("null")
	}
	c.Span = p.from(pos)
	return c
}

// grant reads GRANT and REVOKE of privileges on tables.
func (p *parser) grant() Statement {
	t := p.next()
	g := &Grant{Revoke: t.is("revoke")}
	if g.Revoke && p.accept("grant", "option", "for") {
		g.GrantOption = true
	}
	p.privileges(g)
	if p.is("to") || p.is("from") {
		p.unsupported(p.from(t.pos), upper(t.text)+" of roles", "a token names the roles of its caller; grant privileges: GRANT SELECT ON view TO role")
	}
	p.expect("on")
	p.grantTarget(g)
	word := "to"
	if g.Revoke {
		word = "from"
	}
	p.expect(word)
	for {
		p.accept("group")
		g.Roles = append(g.Roles, p.role())
		if !p.acceptPunct(",") {
			break
		}
	}
	if !g.Revoke && p.is("with") {
		p.expect("with", "grant", "option")
		g.GrantOption = true
	}
	if p.accept("granted") {
		p.expect("by")
		r := p.role()
		g.GrantedBy = &r
	}
	if g.Revoke {
		g.Cascade = p.accept("cascade")
		if !g.Cascade {
			p.accept("restrict")
		}
	}
	g.Span = p.from(t.pos)
	return g
}

func (p *parser) privileges(g *Grant) {
	if g.All = p.accept("all"); g.All {
		p.accept("privileges")
		if p.punct("(") {
			g.AllColumns = p.nameList("a column")
		}
		return
	}
	for {
		t := p.tok()
		if !isColID(t) && !t.is("select") && !t.is("references") && !t.is("create") {
			p.unexpected("a privilege such as SELECT or INSERT")
		}
		if t.is("alter") && p.ahead(1).is("system") {
			p.unsupported(Span{t.pos, t.end}, "ALTER SYSTEM", "")
		}
		p.next()
		r := PrivilegeRef{Name: t.text}
		if p.punct("(") {
			r.Columns = p.nameList("a column")
		}
		r.Span = p.from(t.pos)
		g.Privileges = append(g.Privileges, r)
		if !p.acceptPunct(",") {
			return
		}
	}
}

func (p *parser) grantTarget(g *Grant) {
	t, n := p.tok(), p.ahead(1)
	if t.is("all") || t.kind == tKeyword && isGrantObject(t.text) && (isLabel(n) && !n.is("to") && !n.is("from")) {
		hint := "name the tables and views: GRANT SELECT ON a, b TO role"
		if t.is("function") || t.is("procedure") || t.is("routine") {
			hint = "an app has tables and views, and nothing to execute"
		}
		p.unsupported(Span{t.pos, t.end}, "a privilege ON "+upper(t.text), hint)
	}
	p.accept("table")
	g.Tables = []QName{p.qualified("a table or view")}
	for p.acceptPunct(",") {
		g.Tables = append(g.Tables, p.qualified("a table or view"))
	}
}

func isGrantObject(w string) bool {
	switch w {
	case "sequence", "function", "procedure", "routine", "schema", "database", "domain", "language", "large", "parameter",
		"tablespace", "type", "foreign":
		return true
	}
	return false
}
