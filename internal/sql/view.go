package sql

import (
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

type span = syntax.Span

// createView declares a view.
func (c *compiler) createView(s *syntax.CreateView) {
	r := c.declare(s.Name, s.Span, "view")
	if s.Partial {
		return
	}
	if s.NoData {
		c.wrong(s.Span, "leave it out: a view is always up to date", "WITH NO DATA is not supported")
	}
	before := c.bad
	options := c.viewOptionsOf(s.Options)
	c.known, c.depth, c.aside, c.steps, c.viewAt = nil, 0, nil, 0, s.Name.At().Pos
	b := c.bindQuery(s.Query, nil, nil)
	c.viewColumns(s, b)
	if b.unseen != nil {
		c.report(b.unseen.Span, Warning, "readers of the view will not get this order: it is not of a column in the select list", "add it to the select list")
	}
	c.planSize(b.plan, s)
	root := c.optimizeView(b.plan, options)
	c.planSize(root, s)
	if options.emitFinal {
		root = c.final(root, options.emit)
	}
	if !options.allowUnbounded {
		c.bounded(root, s)
	}
	c.lookups(root, s)
	if c.bad > before {
		return
	}
	r.facts = c.factsOf(root)
	c.viewKey(r, b, s, options)
	r.plan = &flow.ViewPlan{Root: root}
	r.plan.Hash = c.hash(r)
	r.hash = "view " + r.plan.Hash
	r.broken = false
	c.known = nil
	c.def.Views = append(c.def.Views, r.view)
}

// viewKey gives a view its columns and its key.
func (c *compiler) viewKey(r *relation, b *bound, s *syntax.CreateView, options viewOptions) {
	for i := range b.cols {
		b.cols[i].NotNull = r.facts.notNull[i]
	}
	r.view = &app.View{Name: r.name, Columns: b.cols, Order: b.order, SQL: c.text(s.Query.Span), Options: options.text()}
	r.rel = &expr.Relation{Name: r.name, Columns: b.cols, Order: b.order}
	k := r.facts.key()
	if k == nil {
		finishRelation(r.rel, nil, false)
		if r.facts.linear {
			r.rel.Numbered, r.rel.Key = true, []int{len(b.cols)}
		}
		return
	}
	for _, t := range k.relies {
		t.table.Kept = true
	}
	r.view.Key, r.view.Single = append([]int{}, k.cols...), len(k.cols) == 0
	finishRelation(r.rel, r.view.Key, true)
}

// text returns the options that are for people.
func (o viewOptions) text() map[string]string {
	out := map[string]string{}
	for k, v := range map[string]string{"owner": o.owner, "version": o.version, "compatibility": o.compatibility} {
		if v != "" {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// key returns the key that names a row best: the one of fewest columns that needs no table to be kept.
func (f *facts) key() *keyFact {
	var best *keyFact
	for i := range f.keys {
		k := &f.keys[i]
		if best == nil || len(k.relies) < len(best.relies) || len(k.relies) == len(best.relies) && len(k.cols) < len(best.cols) {
			best = k
		}
	}
	return best
}

// The limits of a plan: operators one above the other, and in all. What is used twice counts twice.
const (
	maxPlanDepth = 200
	maxPlanSize  = 2000
)

// planSize refuses plans that are too large.
func (c *compiler) planSize(p flow.Plan, s *syntax.CreateView) {
	type measure struct{ depth, size int }
	seen := map[flow.Plan]measure{}
	var of func(p flow.Plan) measure
	of = func(p flow.Plan) measure {
		if m, ok := seen[p]; ok {
			return m
		}
		m := measure{1, 1}
		for _, in := range p.Inputs() {
			x := of(in)
			m.depth, m.size = max(m.depth, x.depth+1), min(m.size+x.size, 1<<20)
		}
		seen[p] = m
		return m
	}
	m := of(p)
	if m.depth > maxPlanDepth || m.size > maxPlanSize {
		c.fail(s.Name.At(), "make views of its inner queries: a view is computed once, whoever reads it",
			"the plan of %s has %d operators, %d deep; the limits are %d and %d", quoted(s.Name.Last().Text), m.size, m.depth, maxPlanSize, maxPlanDepth)
	}
}

// final lets only rows through whose window is closed.
func (c *compiler) final(root flow.Plan, at syntax.Span) flow.Plan {
	var found *timeBound
	for _, b := range c.factsOf(root).bounds {
		if b.Ends && !b.scans {
			found = &b
			break
		}
	}
	if found == nil {
		c.fail(at, "group by the window_end of tumble, hop or session over a table with event_time, and put window_end into the select list",
			"emit = 'final' needs a window that closes")
	}
	types := root.Columns()
	return &flow.Gate{In: root, From: expr.Column(found.Col, types[found.Col], -1), Tables: found.Tables}
}

// bounded refuses joins that keep rows for ever.
func (c *compiler) bounded(p flow.Plan, s *syntax.CreateView) {
	if side := c.unbounded(p); side != nil {
		c.fail(c.viewSpan(s), c.boundHint(side),
			"a join keeps every row of %s for ever: nothing says when it can have no further match", quoted(c.streamOf(side)))
	}
}

// lookups refuses as_of beside rows that may change: they could not be taken back.
func (c *compiler) lookups(p flow.Plan, s *syntax.CreateView) {
	for _, x := range parentsFirst(p) {
		if j, ok := x.(*flow.Join); ok && isLookup(j.Kind) && !c.factsOf(j.L).appendOnly {
			c.fail(c.viewSpan(s), "join the table itself: its changes then revise the rows", "the left side of as_of must be append-only: its rows are looked up once")
		}
	}
}

// unbounded returns an input of a join that keeps its rows for ever, nil when there is none.
func (c *compiler) unbounded(p flow.Plan) flow.Plan {
	for _, x := range parentsFirst(p) {
		j, ok := x.(*flow.Join)
		if !ok {
			continue
		}
		switch {
		case c.factsOf(j.L).growing && j.FreeL == nil && !constantPlan(j.R) && !isLookup(j.Kind):
			return j.L
		case c.factsOf(j.R).growing && j.FreeR == nil && !constantPlan(j.L) && keepsRight(j):
			return j.R
		}
	}
	return nil
}

// optimizeView optimizes a view's plan. Gates of now() go below joins, where they bound the joins' state, unless it is the watermark that
// does so without them.
func (c *compiler) optimizeView(p flow.Plan, options viewOptions) flow.Plan {
	c.keepAll = options.allowUnbounded
	root := c.optimize(p)
	if options.allowUnbounded || c.unbounded(root) == nil {
		return root
	}
	c.highGates = true
	other := c.optimize(p)
	c.highGates = false
	if c.unbounded(other) == nil {
		return other
	}
	return root
}

func (c *compiler) viewSpan(s *syntax.CreateView) syntax.Span {
	if len(s.Query.From) > 0 {
		return firstLine(c.src, s.Query.From[len(s.Query.From)-1].At())
	}
	return firstLine(c.src, s.Query.Span)
}

// keepsRight reports whether a join keeps the rows of its right side: a semi or anti join by its keys alone counts them by key.
func keepsRight(j *flow.Join) bool {
	return j.Kind != flow.SemiJoin && j.Kind != flow.AntiJoin || j.Cond != nil
}

// constantPlan reports whether a plan's rows never change.
func constantPlan(p flow.Plan) bool {
	if _, ok := p.(*flow.Values); ok {
		return true
	}
	ins := p.Inputs()
	for _, in := range ins {
		if !constantPlan(in) {
			return false
		}
	}
	return len(ins) > 0
}

// streamOf names the table or view that makes a plan grow.
func (c *compiler) streamOf(p flow.Plan) string {
	for {
		if s, ok := p.(*flow.Scan); ok {
			return c.rels[s.Relation].name
		}
		next := p
		for _, in := range p.Inputs() {
			if c.factsOf(in).growing {
				next = in
				break
			}
		}
		if next == p {
			return "the left side"
		}
		p = next
	}
}

// boundHint says what would bound a side of a join.
func (c *compiler) boundHint(side flow.Plan) string {
	const last = "; or accept it: WITH (allow_unbounded = true)"
	if len(c.factsOf(side).bounds) == 0 {
		return "give both tables event_time and join within a time: AND b.at BETWEEN a.at AND a.at + interval '1 hour'; or keep its newest rows only: " +
			"WHERE at > now() - interval '1 day', or WITH (ttl = '1 day') on the table" + last
	}
	return "join within a time: AND b.at BETWEEN a.at AND a.at + interval '1 hour', over event_time columns of both tables; or keep its newest rows only: " +
		"WHERE at > now() - interval '1 day'" + last
}

// viewColumns names and checks the result columns.
func (c *compiler) viewColumns(s *syntax.CreateView, b *bound) {
	if len(s.Columns) > len(b.cols) {
		c.fail(s.Columns[len(b.cols)].Span, "", "the query has %s, and %s given", plural(len(b.cols), "column"), plural(len(s.Columns), "name"))
	}
	for i, n := range s.Columns {
		b.cols[i].Name, b.spans[i] = n.Text, n.Span
	}
	if len(b.cols) > MaxColumns {
		c.fail(s.Name.At(), "", "a view has at most %d columns; %s has %d", MaxColumns, quoted(s.Name.Last().Text), len(b.cols))
	}
	seen := map[string]bool{}
	for i, col := range b.cols {
		at := firstLine(c.src, b.spans[i])
		switch {
		case col.Name == "?column?":
			c.wrong(at, "name it with AS", "this column has no name")
		case strings.HasPrefix(col.Name, "_"):
			c.wrong(at, "parameters of requests begin with an underscore; choose another name with AS", "the column name %s is reserved", quoted(col.Name))
		case seen[col.Name]:
			c.wrong(at, "name one of them otherwise with AS", "two columns are named %s", quoted(col.Name))
		case col.Type.IsArray() && col.Type.Elem() == app.Interval:
			c.wrong(at, "for seconds: extract(epoch from x)", "a column of a view cannot have type %s", col.Type)
		}
		seen[col.Name] = true
	}
}

// figureName returns the name that PostgreSQL gives to a result column without AS. sure is false when a cast around it
// would name the column better.
func figureName(e syntax.Expr) (name string, sure bool) {
	switch e := e.(type) {
	case *syntax.ColumnRef:
		return e.Names.Last().Text, true
	case *syntax.Call:
		return e.Name.Last().Text, true
	case *syntax.Current:
		return e.Name, true
	case *syntax.Indirection:
		for i := len(e.Steps) - 1; i >= 0; i-- {
			if f := e.Steps[i].Field; f != nil {
				return f.Text, true
			}
		}
		return figureName(e.X)
	case *syntax.Cast:
		if n, ok := figureName(e.X); ok {
			return n, true
		}
		return e.Type.Names.Last().Text, false
	case *syntax.Collate:
		return figureName(e.X)
	case *syntax.Case:
		if e.Else != nil {
			if n, ok := figureName(e.Else); ok {
				return n, true
			}
		}
		return "case", false
	case *syntax.SubQuery:
		return subQueryName(e), true
	case *syntax.Array:
		return "array", true
	case *syntax.Grouping:
		return "grouping", true
	case *syntax.Row:
		return "row", true
	case *syntax.Conditional:
		return [...]string{syntax.Coalesce: "coalesce", syntax.NullIf: "nullif", syntax.Greatest: "greatest", syntax.Least: "least"}[e.Kind], true
	}
	return "?column?", false
}

// subQueryName is the name of a result column that is a sub-query: of a value, the name of its own column.
func subQueryName(e *syntax.SubQuery) string {
	switch e.Kind {
	case syntax.Exists:
		return "exists"
	case syntax.ToArray:
		return "array"
	}
	q := e.Query
	for q.Op != syntax.NoSetOp {
		q = q.Left
	}
	switch {
	case q.Values != nil:
		return "column1"
	case len(q.Targets) == 0:
		return "?column?"
	case q.Targets[0].Alias != nil:
		return q.Targets[0].Alias.Text
	}
	if ref, ok := q.Targets[0].X.(*syntax.ColumnRef); ok && ref.Star {
		return "?column?" // see [query.bindTargets]
	}
	name, _ := figureName(q.Targets[0].X)
	return name
}
