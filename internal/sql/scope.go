package sql

import (
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// source is one item of FROM that has a name.
type source struct {
	name  string
	cols  []app.Column
	nodes []*expr.Node // what each column is, over the columns of FROM
	table *relation    // when it is a table itself, whose columns stand in FROM as they are
	value bool         // a function of one column: its name alone means that column
	fixed bool         // windows of fixed width: the last two columns are window_start and window_end
}

// field is a column that a bare name may mean, and that * gives.
type field struct {
	name string
	of   string // the source that has it, "" for one that a join made of two
	node *expr.Node
}

// scope is what names of columns may mean.
type scope struct {
	sources []source
	visible []field
}

// newScope is the scope of one item of FROM.
func newScope(name string, cols []app.Column, table *relation) *scope {
	src := source{name: name, cols: cols, table: table}
	s := &scope{}
	for i, col := range cols {
		n := expr.Column(i, col.Type, -1)
		src.nodes = append(src.nodes, n)
		s.visible = append(s.visible, field{col.Name, name, n})
	}
	s.sources = []source{src}
	return s
}

// tableScope is the scope of a CHECK constraint.
func tableScope(t *app.Table) *scope { return newScope(t.Name, t.Columns, nil) }

// beside returns the scope of two items side by side, r's columns behind the width columns of s.
func (s *scope) beside(r *scope, width int) *scope {
	out := &scope{}
	out.sources = append(out.sources, s.sources...)
	out.visible = append(out.visible, s.visible...)
	moved := r.mapped(func(n *expr.Node) *expr.Node { return shifted(n, width) })
	out.sources = append(out.sources, moved.sources...)
	out.visible = append(out.visible, moved.visible...)
	return out
}

// mapped returns the scope with the node of each column replaced.
func (s *scope) mapped(f func(n *expr.Node) *expr.Node) *scope {
	out := &scope{}
	for _, src := range s.sources {
		nodes := make([]*expr.Node, len(src.nodes))
		for i, n := range src.nodes {
			nodes[i] = f(n)
		}
		src.nodes = nodes
		out.sources = append(out.sources, src)
	}
	for _, v := range s.visible {
		v.node = f(v.node)
		out.visible = append(out.visible, v)
	}
	return out
}

// names returns the names that may stand bare.
func (s *scope) names() []string {
	names := make([]string, len(s.visible))
	for i, v := range s.visible {
		names[i] = v.name
	}
	return names
}

// nameOf returns the name of a column of FROM, for messages.
func (s *scope) nameOf(col int) string {
	for _, src := range s.sources {
		for i, n := range src.nodes {
			if n.Kind == expr.KColumn && n.Col == col {
				return src.cols[i].Name
			}
		}
	}
	return "?column?"
}

// find returns the source of a name, nil when there is none.
func (s *scope) find(name string) *source {
	for i := range s.sources {
		if s.sources[i].name == name {
			return &s.sources[i]
		}
	}
	return nil
}

// frame is what a sub-query may read of the queries around it. What it reads becomes a parameter: a column at base and up,
// until the sub-query is joined to the query around it (see [frame.apply]).
type frame struct {
	outer *binder
	base  int
	nodes []*expr.Node // of each parameter, over the columns of the query around
	texts []string
}

// maxParams bounds the parameters of one frame, and so spaces the frames out.
const maxParams = 1 << 12

// maxFrames keeps the numbers of parameters within 31 bits.
const maxFrames = 1 << 17

func (c *compiler) newFrame(outer *binder) *frame {
	if c.frames++; c.frames > maxFrames {
		c.fail(syntax.Span{}, "split it into several views", "too many sub-queries")
	}
	return &frame{outer: outer, base: paramCol + c.frames*maxParams}
}

// param returns the parameter that stands for a node of the query around.
func (f *frame) param(n *expr.Node, at syntax.Span) *expr.Node {
	text := n.String()
	for i, t := range f.texts {
		if t == text {
			return expr.Column(f.base+i, n.Type, at.Pos)
		}
	}
	if len(f.nodes) == maxParams {
		f.outer.c.fail(at, "", "a sub-query may read at most %d columns of the query around it", maxParams)
	}
	f.nodes, f.texts = append(f.nodes, n), append(f.texts, text)
	return expr.Column(f.base+len(f.nodes)-1, n.Type, at.Pos)
}

// reads reports whether n has a parameter of the frame.
func (f *frame) reads(n *expr.Node) bool { return readsBetween(n, f.base, f.base+maxParams) }

// column resolves a reference to a column.
func (b *binder) column(e *syntax.ColumnRef) *expr.Node {
	c := b.c
	if e.Star {
		c.fail(e.Span, "", "* is not an expression")
	}
	if b.scope == nil && b.frame == nil {
		hint := ""
		if b.clause == "DEFAULT" {
			hint = "text is written in single quotes: 'text'"
		}
		c.fail(e.Span, hint, "%s cannot refer to columns", b.clause)
	}
	if n := b.resolve(e); n != nil {
		return n
	}
	b.unknownColumn(e)
	return nil
}

// resolve looks a column up here and then in the queries around; nil when none has it.
func (b *binder) resolve(e *syntax.ColumnRef) *expr.Node {
	if b.scope != nil {
		n := b.scope.lookup(b.c, e)
		if n != nil {
			copied := *n
			copied.Pos = e.Pos
			return &copied
		}
	}
	if b.frame == nil {
		return nil
	}
	n := b.frame.outer.resolve(e)
	if n == nil || n.Kind == expr.KColumn && n.Col >= paramCol { // of a query further out: its number is its own everywhere
		return n
	}
	return b.frame.param(n, e.Span)
}

// lookup finds a column by its name, with or without its source; nil when there is none.
func (s *scope) lookup(c *compiler, e *syntax.ColumnRef) *expr.Node {
	name := e.Names.Last().Text
	if len(e.Names) > 1 {
		src := s.qualified(e.Names[:len(e.Names)-1])
		if src == nil {
			return nil
		}
		for i, col := range src.cols {
			if col.Name == name {
				return src.nodes[i]
			}
		}
		c.fail(e.Span, didYouMean(name, columnNames(src.cols)), "column %s does not exist in %s", quoted(name), quoted(src.name))
	}
	var found *field
	for i := range s.visible {
		v := &s.visible[i]
		if v.name != name {
			continue
		}
		if found != nil {
			hint := "write its table in front: " + v.of + "." + name
			if v.of == found.of || v.of == "" {
				hint = "rename one of them with AS"
			}
			c.fail(e.Span, hint, "column %s is ambiguous", quoted(name))
		}
		found = v
	}
	if found != nil {
		return found.node
	}
	if src := s.find(name); src != nil && src.value && len(e.Names) == 1 {
		return src.nodes[0]
	}
	return nil
}

// qualified finds the source that stands in front of a column's name.
func (s *scope) qualified(q syntax.QName) *source {
	if len(q) == 1 || len(q) == 2 && q[0].Text == "public" {
		return s.find(q.Last().Text)
	}
	return nil
}

// unknownColumn fails with what was probably meant.
func (b *binder) unknownColumn(e *syntax.ColumnRef) {
	name := e.Names.Last().Text
	if len(e.Names) > 1 {
		b.unknownSource(e.Names[:len(e.Names)-1])
	}
	s := b.scope
	if s == nil {
		s = &scope{}
	}
	if src := s.find(name); src != nil && len(src.cols) > 0 {
		b.c.fail(e.Span, "name a column: "+name+"."+src.cols[0].Name, "whole rows are not supported as values")
	}
	hint := didYouMean(name, s.names())
	if hint == "" && b.c.src[e.Pos] == '"' {
		hint = "double quotes are for names; text is written in single quotes"
	}
	if hint == "" && b.output[name] {
		hint = "it is a name of the select list, which " + b.clause + " cannot see: repeat the expression, or put the query into FROM (SELECT ..)"
	}
	if hint == "" && b.aside != nil && b.aside.has(name) {
		hint = "it is of an item of FROM beside this one: write LATERAL in front of the sub-query"
	}
	b.c.fail(e.Span, hint, "column %s does not exist", quoted(name))
}

func (s *scope) has(name string) bool {
	for _, v := range s.visible {
		if v.name == name {
			return true
		}
	}
	return false
}

// unknownSource fails for a qualifier that is not in FROM.
func (b *binder) unknownSource(q syntax.QName) {
	name := q.Last().Text
	var names []string
	for x := b; x != nil; {
		if x.scope != nil {
			for _, src := range x.scope.sources {
				names = append(names, src.name)
			}
		}
		if x.frame == nil {
			break
		}
		x = x.frame.outer
	}
	hint := didYouMean(name, names)
	switch {
	case b.aside != nil && b.aside.find(name) != nil:
		hint = "it is beside this item of FROM: write LATERAL in front of the sub-query"
	case hint == "" && b.c.byName[name] != nil:
		hint = "it is not in FROM, or has another name there"
	case hint == "" && len(names) > 0 && names[0] != "":
		hint = "what it can read here is " + strings.Join(names, ", ")
	}
	b.c.fail(q.At(), hint, "%s is not in FROM", quoted(q.String()))
}

// qualifier finds the item of FROM that t.* is of.
func (b *binder) qualifier(e *syntax.ColumnRef) *source {
	src := b.scope.qualified(e.Names)
	if src == nil {
		b.unknownSource(e.Names)
	}
	return src
}
