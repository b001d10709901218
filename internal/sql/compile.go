package sql

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// Limits of one app. Beyond each is an error at the declaration that goes too far.
const (
	MaxColumns   = 200  // of one table or view
	MaxRelations = 1000 // tables and views together
	maxCatalog   = change.MaxBody - 1<<10
	maxNodes     = 50_000 // expressions of one statement, counted by their operators, calls, columns and constants
)

// Compile makes a program of the text of an app.sql; file is its name for messages. prev is the definition that the log
// holds now, nil for a new log: tables keep its ids and versions. With an error among the diagnostics the program is
// nil. Whether the program may follow prev is for [Compare] to say.
//
// The files that the text names are those that prev has; [CompileFiles] reads others.
func Compile(file string, src []byte, prev *Catalog) (*flow.Program, []Diagnostic) {
	return CompileFiles(file, src, prev, prev.files())
}

// CompileFiles is Compile with the files that the text names.
func CompileFiles(file string, src []byte, prev *Catalog, files Files) (*flow.Program, []Diagnostic) {
	c := &compiler{file: file, src: string(src), prev: prev, files: files, byName: map[string]*relation{}}
	c.def = &app.Definition{Source: c.src}
	list, errs := syntax.Parse(c.src)
	c.list = list
	for _, e := range errs {
		c.report(syntax.Span{Pos: e.Pos, End: e.End}, Error, e.Msg, e.Hint)
	}
	c.broken = len(errs) > 0
	c.tables(list)
	c.rest(list)
	if c.bad == 0 {
		c.accessChecks()
	}
	if n := c.bad - len(c.diags); n > 0 {
		c.diags = append(c.diags, locate(c.file, c.src, len(c.src), len(c.src), Error, "too many errors: "+plural(n, "more error")+" not shown", ""))
	}
	slices.SortStableFunc(c.diags, func(a, b Diagnostic) int {
		return cmp.Or(a.Line-b.Line, a.Col-b.Col)
	})
	if c.bad > 0 {
		return nil, c.diags
	}
	p := c.program()
	if len(p.Catalog) > maxCatalog {
		c.report(syntax.Span{}, Error, fmt.Sprintf("the definition takes %d bytes in the log, and one entry holds %d", len(p.Catalog), maxCatalog),
			"shorten app.sql: its text is part of the definition")
		return nil, c.diags
	}
	return p, c.diags
}

// compiler carries one compilation.
type compiler struct {
	file      string
	src       string
	prev      *Catalog
	files     Files
	list      []syntax.Statement
	def       *app.Definition
	byName    map[string]*relation
	rels      []*relation // tables, then views
	channels  []*relation // tables WITH (channel) or WITH (presence): no part of the engine
	diags     []Diagnostic
	bad       int    // errors among them
	nodes     int    // of expressions in the statement being bound
	nextID    uint32 // of the next new table; 0 before the first
	depth     int    // of the query being bound
	frames    int    // that were made
	steps     int    // of joining the sub-queries of a view
	viewAt    int    // where the view stands
	known     map[flow.Plan]*facts
	aside     *scope                 // what stands beside a sub-query in FROM that is being bound, for hints
	keepAll   bool                   // of the view being bound: its joins keep every row for ever
	highGates bool                   // of the view being bound: gates of now() stay above joins
	grantAt   []syntax.Span          // of each of def.Grants
	policyAt  []syntax.Span          // of each of def.Policies
	securedAt map[string]syntax.Span // of each of def.Secured
	roleAt    map[string]syntax.Span // where a role is named first
	broken    bool                   // the text has syntax errors: a name that is unknown may be in a part that could not be read
}

// relation is a table or view that was declared. One with errors of its own is broken: it has a name but no columns, and
// what reads it is not checked, since the errors would say nothing new.
type relation struct {
	name   string
	at     syntax.Span // of the statement
	broken bool
	table  *app.Table // nil for a view
	view   *app.View
	rel    *expr.Relation
	plan   *flow.ViewPlan
	facts  *facts // of a view
	hash   string // what a view that reads it puts into its own hash
}

// bail unwinds from an error to the nearest try. It never leaves the package.
type bail struct{}

// fail records an error and unwinds.
func (c *compiler) fail(at syntax.Span, hint, format string, args ...any) {
	c.report(at, Error, fmt.Sprintf(format, args...), hint)
	panic(bail{})
}

// wrong records an error and goes on.
func (c *compiler) wrong(at syntax.Span, hint, format string, args ...any) {
	c.report(at, Error, fmt.Sprintf(format, args...), hint)
}

func (c *compiler) report(at syntax.Span, sev Severity, msg, hint string) {
	if sev == Error {
		c.bad++
	}
	if len(c.diags) < syntax.MaxErrors {
		c.diags = append(c.diags, locate(c.file, c.src, at.Pos, at.End, sev, msg, hint))
	}
}

// try runs f and reports whether it came through without an error.
func (c *compiler) try(f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(bail); !is {
				panic(r)
			}
		}
	}()
	before := c.bad
	f()
	return c.bad == before
}

// must reports what an expr builder refused, at its place or else at the given one.
func (c *compiler) must(n *expr.Node, err error, at syntax.Span) *expr.Node {
	if err == nil {
		return n
	}
	if te, ok := err.(*expr.TypeError); ok {
		if te.Pos >= 0 && te.Pos != at.Pos {
			at = c.wordAt(te.Pos)
		}
		c.fail(at, te.Hint, "%s", te.Msg)
	}
	c.fail(at, "", "%s", err.Error())
	return nil
}

// wordAt returns the span of the word, string or symbol at a place.
func (c *compiler) wordAt(pos int) syntax.Span {
	end := pos + 1
	isWord := func(b byte) bool {
		return b == '_' || b == '.' || b >= 0x80 || '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
	}
	if pos < len(c.src) && c.src[pos] == '\'' {
		if n := strings.IndexByte(c.src[pos+1:], '\''); n >= 0 {
			end = pos + n + 2
		}
	}
	for pos < len(c.src) && isWord(c.src[pos]) && end < len(c.src) && isWord(c.src[end]) {
		end++
	}
	return syntax.Span{Pos: pos, End: end}
}

// text returns the source at a span.
func (c *compiler) text(at syntax.Span) string { return c.src[at.Pos:at.End] }

// tables declares every table before anything else, so that tables have the first indexes of the program.
func (c *compiler) tables(list []syntax.Statement) {
	for _, s := range list {
		c.nodes = 0
		if s, ok := s.(*syntax.CreateTable); ok {
			c.try(func() { c.createTable(s) })
		}
	}
}

// rest declares the views and who may do what, in the order of the file.
func (c *compiler) rest(list []syntax.Statement) {
	for _, s := range list {
		c.nodes = 0
		c.try(func() {
			switch s := s.(type) {
			case *syntax.CreateTable:
			case *syntax.CreateView:
				c.createView(s)
			case *syntax.Grant:
				c.grant(s)
			case *syntax.Comment:
				c.comment(s)
			case *syntax.CreateRole:
				c.createRole(s)
			case *syntax.AlterTable:
				c.alterTable(s)
			case *syntax.CreatePolicy:
				c.createPolicy(s)
			default:
				c.refuse(s)
			}
		})
	}
}

// refuse answers statements that are read but do nothing.
func (c *compiler) refuse(s syntax.Statement) {
	if s, ok := s.(*syntax.Select); ok {
		c.fail(firstLine(c.src, s.At()), "to keep its result up to date: CREATE MATERIALIZED VIEW name AS SELECT ..", "a query alone declares nothing")
	}
}

// firstLine cuts a span at the end of its first line.
func firstLine(src string, at syntax.Span) syntax.Span {
	if n := strings.IndexByte(src[at.Pos:at.End], '\n'); n >= 0 {
		at.End = at.Pos + n
	}
	return at
}

// declare checks the name of a new relation and records it. A relation is recorded even when its declaration then fails.
func (c *compiler) declare(q syntax.QName, at syntax.Span, what string) *relation {
	name := c.unqualified(q, what)
	r := &relation{name: name, at: at, broken: true}
	if old := c.byName[name]; old != nil {
		d := locate(c.file, c.src, old.at.Pos, old.at.End, Error, "", "")
		c.fail(q.At(), fmt.Sprintf("it is declared in line %d already; tables and views share one space of names", d.Line), "%s is declared twice", quoted(name))
	}
	c.byName[name] = r
	c.rels = append(c.rels, r)
	if len(c.rels) == MaxRelations+1 {
		c.fail(q.At(), "", "an app has at most %d tables and views", MaxRelations)
	}
	return r
}

// unqualified checks a relation's name and takes off the schema public.
func (c *compiler) unqualified(q syntax.QName, what string) string {
	if len(q) > 1 {
		schema := q[len(q)-2].Text
		switch {
		case schema == "laaster":
			c.fail(q.At(), "choose a name without a schema", "the schema laaster is reserved for system tables")
		case schema != "public" || len(q) > 2:
			c.fail(q.At(), "leave it out: an app has one space of names", "schemas are not supported")
		}
	}
	name := q.Last().Text
	if strings.HasPrefix(name, "_") || strings.ContainsAny(name, "/?#%") || strings.HasPrefix(name, "laaster.") {
		c.fail(q.Last().Span, "names of tables and views are part of URLs", "a %s cannot be named %s", what, quoted(name))
	}
	return name
}

// lookup finds the relation that a statement at pos reads, with a hint when there is none.
func (c *compiler) lookup(q syntax.QName, pos int) *relation {
	if len(q) > 2 || len(q) == 2 && q[0].Text != "public" {
		if q[0].Text == "laaster" {
			c.fail(q.At(), "GRANT SELECT on it to a role, and read it from there", "views cannot read system tables")
		}
		c.fail(q.At(), "leave the schema out: an app has one space of names", "relation %s does not exist", quoted(q.String()))
	}
	name := q.Last().Text
	r := c.byName[name]
	switch {
	case r == nil && c.broken:
		panic(bail{}) // its declaration may be what could not be read
	case r == nil:
		names := make([]string, 0, len(c.rels)+len(c.channels))
		for _, r := range append(slices.Clip(c.rels), c.channels...) {
			names = append(names, r.name)
		}
		hint := didYouMean(name, names)
		if c.declaredLater(name) {
			hint = "it is declared further down: move its declaration up"
		}
		c.fail(q.At(), hint, "table or view %s does not exist", quoted(name))
	case r.broken && r.at.Pos < pos+1 && pos < r.at.End:
		c.fail(q.At(), "name what it reads", "view %s reads itself", quoted(name))
	case r.broken:
		panic(bail{})
	case r.at.Pos > pos:
		c.fail(q.At(), "move its declaration up: a statement reads what is declared above it", "%s is declared further down", quoted(name))
	}
	return r
}

// declaredLater reports whether a view of the name follows in the text.
func (c *compiler) declaredLater(name string) bool {
	return slices.ContainsFunc(c.list, func(s syntax.Statement) bool {
		v, ok := s.(*syntax.CreateView)
		return ok && v.Name.Last().Text == name
	})
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprint(n, " ", thing, "s")
}

func quoted(s string) string { return `"` + s + `"` }

func didYouMean(name string, names []string) string {
	if near := syntax.Nearest(name, names); near != "" {
		return "did you mean " + quoted(near) + "?"
	}
	return ""
}

// program puts the pieces together. There were no errors.
func (c *compiler) program() *flow.Program {
	p := &flow.Program{Definition: c.def}
	for i, r := range c.rels {
		r.rel.ID = i
		p.Relations = append(p.Relations, r.rel)
		if r.plan != nil {
			r.plan.Relation = i
			p.Views = append(p.Views, r.plan)
		}
	}
	for i, r := range c.channels {
		r.rel.ID = -1 - i // the engine and its views have no place for it
		p.Channels = append(p.Channels, r.rel)
	}
	c.traces()
	p.Errors, p.Late, p.Audit = len(c.rels), len(c.rels)+1, len(c.rels)+2
	p.Relations = append(p.Relations, flow.ErrorsRelation(p.Errors), flow.LateRelation(p.Late), flow.AuditRelation(p.Audit))
	p.Catalog = c.catalog().JSON()
	return p
}

// finishRelation appends _n where there is no key, and makes the layout.
func finishRelation(r *expr.Relation, key []int, unique bool) {
	r.Key = key
	if !unique {
		r.Copies = true
		r.Columns = append(slices.Clip(r.Columns), app.Column{Name: copiesColumn, Type: app.Int8, NotNull: true})
		r.Key = make([]int, len(r.Columns))
		for i := range r.Key {
			r.Key[i] = i
		}
	}
	if r.Key == nil {
		r.Key = []int{}
	}
	r.Layout = change.ColumnLayout(r.Columns)
}

// copiesColumn is the copy number of relations without a key.
const copiesColumn = "_n"
