package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// facts are what is certain of the rows of a plan.
type facts struct {
	keys       []keyFact // columns that identify a row; none of them contains another
	notNull    []bool
	appendOnly bool // rows never leave
	growing    bool // rows follow a stream of events: nothing bounds their number
	// linear: each row is made of one row of an append-only table, by itself, and never leaves.
	linear bool
	bounds []timeBound
	deps   []dependency
}

// dependency says that the columns cols decide the columns on.
type dependency struct {
	cols, on []int
	relies   []*relation
}

// keyFact is a unique key. relies are append-only tables that must be kept for their primary key to hold.
type keyFact struct {
	cols   []int
	relies []*relation
}

// timeBound is a [flow.Bound] that holds, or that would hold if the scans of its tables were on time.
type timeBound struct {
	flow.Bound
	scans bool
}

// maxKeys bounds the keys that are remembered of a plan.
const maxKeys = 8

// factsOf derives what is certain of a plan.
func (c *compiler) factsOf(p flow.Plan) *facts {
	if f := c.known[p]; f != nil {
		return f
	}
	f := c.derive(p)
	if c.known == nil {
		c.known = map[flow.Plan]*facts{}
	}
	c.known[p] = f
	return f
}

func (c *compiler) derive(p flow.Plan) *facts {
	switch p := p.(type) {
	case *flow.Scan:
		return c.scanFacts(p)
	case *flow.Values:
		return valuesFacts(p)
	case *flow.Filter:
		f := *c.factsOf(p.In)
		f.notNull = slices.Clone(f.notNull)
		for _, n := range conjuncts(p.Cond) {
			n.Columns(func(i int) {
				if i < len(f.notNull) && rejectsNull(n, func(col int) bool { return col == i }) {
					f.notNull[i] = true
				}
			})
		}
		return &f
	case *flow.Gate:
		f := *c.factsOf(p.In)
		f.appendOnly = f.appendOnly && p.Until == nil
		f.growing = f.growing && p.Until == nil
		f.linear, f.bounds = false, nil
		return &f
	case *flow.Project:
		return c.projectFacts(p)
	case *flow.Expand:
		return c.expandFacts(p)
	case *flow.Window:
		f := c.windowFacts(p.In, p.Keep, p.Closes, p.Slide == p.Width, true)
		start, end := []int{len(p.Keep)}, []int{len(p.Keep) + 1} // each decides the other
		f.deps = append(f.deps, dependency{cols: start, on: end}, dependency{cols: end, on: start})
		return f
	case *flow.Session:
		return c.windowFacts(p.In, p.Keep, p.Closes, true, false)
	case *flow.Join:
		return c.joinFacts(p)
	case *flow.Union:
		return c.unionFacts(p)
	case *flow.SetOp:
		return c.setOpFacts(p)
	case *flow.Aggregate:
		return c.aggregateFacts(p)
	case *flow.TopN:
		return c.topFacts(p)
	case *flow.Over:
		return c.overFacts(p)
	}
	return &facts{notNull: make([]bool, len(p.Columns()))}
}

func (c *compiler) scanFacts(p *flow.Scan) *facts {
	r := c.rels[p.Relation]
	f := &facts{notNull: make([]bool, len(p.Types))}
	for i := range p.Types {
		f.notNull[i] = r.rel.Columns[i].NotNull
	}
	if r.table == nil {
		if r.facts != nil {
			old := *r.facts
			old.bounds = slices.DeleteFunc(slices.Clone(old.bounds), func(b timeBound) bool { return b.scans })
			old.linear = false
			return &old
		}
		return f
	}
	ttl := r.table.Options["ttl"] != ""
	f.appendOnly = r.table.AppendOnly && !ttl
	f.growing, f.linear = f.appendOnly, f.appendOnly
	if len(r.table.PrimaryKey) > 0 {
		k := keyFact{cols: r.table.PrimaryKey}
		if r.table.AppendOnly {
			k.relies = []*relation{r}
		}
		f.keys = []keyFact{k}
		f.deps = []dependency{{k.cols, upTo(len(p.Types)), k.relies}}
	}
	if name := r.table.Options["event_time"]; name != "" && r.table.AppendOnly {
		i := slices.Index(columnNames(r.table.Columns), name)
		f.bounds = []timeBound{{flow.Bound{Col: i, Tables: []int{p.Relation}}, !p.OnTime}}
	}
	return f
}

func valuesFacts(p *flow.Values) *facts {
	f := &facts{notNull: make([]bool, len(p.Types)), appendOnly: true}
	for i := range f.notNull {
		f.notNull[i] = true
		for _, r := range p.Rows {
			f.notNull[i] = f.notNull[i] && neverNull(r[i], nil)
		}
	}
	if len(p.Rows) <= 1 {
		f.keys = []keyFact{{}}
	}
	return f
}

func (c *compiler) projectFacts(p *flow.Project) *facts {
	in := c.factsOf(p.In)
	f := &facts{appendOnly: in.appendOnly, growing: in.growing, linear: in.linear, notNull: make([]bool, len(p.Exprs))}
	place := map[int]int{}
	for i, n := range p.Exprs {
		f.notNull[i] = neverNull(n, in.notNull)
		if n.Kind == expr.KColumn {
			if _, was := place[n.Col]; !was {
				place[n.Col] = i
			}
		}
	}
	for _, k := range in.keys {
		if cols, ok := mapped(k.cols, place); ok {
			f.addKey(keyFact{cols, k.relies})
		}
	}
	f.deps = mappedDeps(in.deps, place)
	for _, b := range in.bounds {
		for i, n := range p.Exprs {
			if n.Kind == expr.KColumn && n.Col == b.Col {
				b.Col = i
				f.bounds = append(f.bounds, b)
				break
			}
		}
	}
	return f
}

// mapped returns where columns went; false when one is gone.
func mapped(cols []int, place map[int]int) ([]int, bool) {
	out := make([]int, len(cols))
	for i, col := range cols {
		to, ok := place[col]
		if !ok {
			return nil, false
		}
		out[i] = to
	}
	return out, true
}

// mappedDeps moves dependencies to where their columns went; columns that are gone are left out.
func mappedDeps(deps []dependency, place map[int]int) []dependency {
	var out []dependency
	for _, d := range deps {
		cols, ok := mapped(d.cols, place)
		if !ok {
			continue
		}
		var on []int
		for _, c := range d.on {
			if to, there := place[c]; there {
				on = append(on, to)
			}
		}
		out = append(out, dependency{cols, on, d.relies})
	}
	return out
}

// addKey remembers a key, unless a smaller one says more.
func (f *facts) addKey(k keyFact) {
	for _, old := range f.keys {
		if subset(old.cols, k.cols) && len(old.relies) <= len(k.relies) {
			return
		}
	}
	f.keys = slices.DeleteFunc(f.keys, func(old keyFact) bool { return subset(k.cols, old.cols) && len(k.relies) <= len(old.relies) })
	if len(f.keys) < maxKeys {
		f.keys = append(f.keys, k)
	}
}

func subset(a, b []int) bool {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

func (c *compiler) expandFacts(p *flow.Expand) *facts {
	in := c.factsOf(p.In)
	f := &facts{appendOnly: in.appendOnly, growing: in.growing, linear: in.linear, bounds: in.bounds, notNull: slices.Clone(in.notNull)}
	n := len(p.Columns())
	for len(f.notNull) < n {
		f.notNull = append(f.notNull, false)
	}
	if p.Ordinality {
		f.notNull[n-1] = !p.Outer
		for _, k := range in.keys {
			f.addKey(keyFact{append(slices.Clone(k.cols), n-1), k.relies})
		}
	}
	return f
}

// windowFacts are those of rows in windows: a row and its window's start identify a row; in a tumbling window or a session the row
// alone does.
func (c *compiler) windowFacts(plan flow.Plan, keep []int, closes, once, linear bool) *facts {
	in := c.factsOf(plan)
	n := len(keep)
	f := &facts{appendOnly: in.appendOnly && linear, growing: in.growing, linear: in.linear && linear, notNull: make([]bool, n+2)}
	place := map[int]int{}
	for i, k := range keep {
		f.notNull[i] = in.notNull[k]
		place[k] = i
	}
	f.notNull[n], f.notNull[n+1] = true, true
	for _, k := range in.keys {
		cols, ok := mapped(k.cols, place)
		if !ok {
			continue
		}
		if !once {
			cols = append(cols, n)
		}
		f.addKey(keyFact{cols, k.relies})
	}
	for _, b := range in.bounds {
		if closes && !b.Ends {
			f.bounds = append(f.bounds, timeBound{flow.Bound{Col: n + 1, Tables: b.Tables, Ends: true}, false})
		}
	}
	return f
}

func (c *compiler) unionFacts(p *flow.Union) *facts {
	// Not linear: in which order the rows of several inputs come depends on how they are cut into batches.
	f := &facts{appendOnly: true, notNull: slices.Repeat([]bool{true}, len(p.Columns()))}
	for i, in := range p.Ins {
		x := c.factsOf(in)
		f.appendOnly, f.growing = f.appendOnly && x.appendOnly, f.growing || x.growing
		for k := range f.notNull {
			f.notNull[k] = f.notNull[k] && x.notNull[k]
		}
		if i == 0 {
			f.bounds = x.bounds
			continue
		}
		f.bounds = bothBounds(f.bounds, x.bounds)
	}
	return f
}

// bothBounds returns the bounds of columns that both sides have.
func bothBounds(a, b []timeBound) []timeBound {
	var out []timeBound
	for _, x := range a {
		for _, y := range b {
			if x.Col == y.Col && x.Ends == y.Ends {
				out = append(out, together(x, y, x.Col))
			}
		}
	}
	return out
}

// together is a bound by the watermark of both sides.
func together(x, y timeBound, col int) timeBound {
	tables := slices.Clone(x.Tables)
	for _, t := range y.Tables {
		if !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	slices.Sort(tables)
	return timeBound{flow.Bound{Col: col, Tables: tables, Ends: x.Ends}, x.scans || y.scans}
}

func (c *compiler) setOpFacts(p *flow.SetOp) *facts {
	l, r := c.factsOf(p.L), c.factsOf(p.R)
	f := &facts{appendOnly: p.Op == flow.Intersect && l.appendOnly && r.appendOnly, growing: l.growing, notNull: slices.Clone(l.notNull)}
	if p.Op == flow.Intersect {
		for i := range f.notNull {
			f.notNull[i] = f.notNull[i] || r.notNull[i]
		}
	}
	f.keys = slices.Clone(l.keys)
	if !p.All {
		f.addKey(keyFact{cols: upTo(len(f.notNull))})
	}
	f.bounds = bothBounds(l.bounds, r.bounds)
	return f
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func (c *compiler) aggregateFacts(p *flow.Aggregate) *facts {
	in := c.factsOf(p.In)
	f := &facts{appendOnly: len(p.Aggs) == 0 && len(p.Keys) > 0 && in.appendOnly}
	var key []int
	place := map[int]int{}
	for i, k := range p.Keys {
		f.notNull = append(f.notNull, neverNull(k, in.notNull))
		if k.Kind != expr.KConst {
			key = append(key, i)
		}
		if k.Kind != expr.KColumn {
			continue
		}
		if _, was := place[k.Col]; !was {
			place[k.Col] = i
		}
		for _, b := range in.bounds {
			if b.Col == k.Col {
				b.Col = i
				f.bounds = append(f.bounds, b)
			}
		}
	}
	for _, k := range in.keys { // what identified a row identifies its group, if it is all there
		if cols, ok := mapped(k.cols, place); ok && len(k.cols) > 0 && len(cols) < len(key) {
			f.addKey(keyFact{cols, k.relies})
		}
	}
	f.addKey(keyFact{cols: key})
	f.deps = mappedDeps(in.deps, place)
	for _, d := range f.deps { // what another key decides tells no groups apart
		if subset(d.cols, key) {
			rest := slices.DeleteFunc(slices.Clone(key), func(i int) bool { return slices.Contains(d.on, i) && !slices.Contains(d.cols, i) })
			f.addKey(keyFact{rest, d.relies})
		}
	}
	for _, g := range p.Aggs {
		f.notNull = append(f.notNull, g.Func == flow.Count || g.Func == flow.CountRows || g.Func == flow.ApproxDistinct)
	}
	return f
}

func (c *compiler) topFacts(p *flow.TopN) *facts {
	in := c.factsOf(p.In)
	f := &facts{keys: slices.Clone(in.keys), notNull: slices.Clone(in.notNull), growing: false}
	if p.Limit == 1 && p.Rank == flow.RowNumber {
		f.addKey(keyFact{cols: slices.Clone(p.Partition)})
	}
	if p.Number {
		f.notNull = append(f.notNull, true)
		if p.Rank == flow.RowNumber {
			f.addKey(keyFact{cols: append(slices.Clone(p.Partition), len(in.notNull))})
		}
	}
	for _, b := range in.bounds {
		if slices.Contains(p.Partition, b.Col) {
			f.bounds = append(f.bounds, b)
		}
	}
	return f
}

func (c *compiler) overFacts(p *flow.Over) *facts {
	in := c.factsOf(p.In)
	f := &facts{keys: slices.Clone(in.keys), notNull: slices.Clone(in.notNull), growing: in.growing}
	for i, call := range p.Calls {
		never := call.Func >= flow.OverRowNumber && call.Func <= flow.OverCumeDist ||
			call.Func == flow.OverAggregate && (call.Agg.Func == flow.Count || call.Agg.Func == flow.CountRows)
		f.notNull = append(f.notNull, never)
		if call.Func == flow.OverRowNumber {
			f.addKey(keyFact{cols: append(slices.Clone(p.Partition), len(in.notNull)+i)})
		}
	}
	for _, b := range in.bounds {
		if slices.Contains(p.Partition, b.Col) {
			f.bounds = append(f.bounds, b)
		}
	}
	return f
}

func (c *compiler) joinFacts(p *flow.Join) *facts {
	l, r := c.factsOf(p.L), c.factsOf(p.R)
	f := &facts{growing: l.growing || r.growing, notNull: slices.Clone(l.notNull)}
	f.appendOnly = l.appendOnly && r.appendOnly && (p.Kind == flow.InnerJoin || p.Kind == flow.SemiJoin)
	width := len(l.notNull)
	if isLookup(p.Kind) {
		return lookupFacts(p, l, r)
	}
	if p.Kind == flow.SemiJoin || p.Kind == flow.AntiJoin {
		f.keys, f.deps, f.growing = l.keys, l.deps, l.growing
		f.bounds = c.joinBounds(p, l, r)
		f.bounds = slices.DeleteFunc(f.bounds, func(b timeBound) bool { return b.Col >= width })
		return f
	}
	f.notNull = append(f.notNull, r.notNull...)
	for i := range f.notNull {
		if i < width && (p.Kind == flow.RightJoin || p.Kind == flow.FullJoin) || i >= width && (p.Kind == flow.LeftJoin || p.Kind == flow.FullJoin) {
			f.notNull[i] = false
		}
	}
	f.joinKeys(p, l, r, width)
	f.deps = slices.Clone(l.deps)
	for _, d := range r.deps {
		f.deps = append(f.deps, dependency{moved(d.cols, width), moved(d.on, width), d.relies})
	}
	f.bounds = c.joinBounds(p, l, r)
	return f
}

// lookupFacts: rows come with those of the left side, and never go.
func lookupFacts(p *flow.Join, l, r *facts) *facts {
	f := &facts{appendOnly: l.appendOnly, growing: l.growing, linear: l.linear, bounds: l.bounds, deps: l.deps, notNull: slices.Clone(l.notNull)}
	for _, n := range r.notNull {
		f.notNull = append(f.notNull, n && p.Kind == flow.LookupJoin)
	}
	f.joinKeys(p, l, r, len(l.notNull))
	return f
}

// joinKeys derives the keys of a join: a side whose key the condition fixes adds nothing to the other's key.
func (f *facts) joinKeys(p *flow.Join, l, r *facts, width int) {
	lone, rone := onePerKey(l, p.LKeys), onePerKey(r, p.RKeys)
	for _, k := range l.keys {
		if rone != nil && (p.Kind == flow.InnerJoin || p.Kind == flow.LeftJoin || isLookup(p.Kind)) {
			f.addKey(keyFact{k.cols, relations(k.relies, rone.relies)})
		}
	}
	for _, k := range r.keys {
		if lone != nil && (p.Kind == flow.InnerJoin || p.Kind == flow.RightJoin) {
			f.addKey(keyFact{moved(k.cols, width), relations(k.relies, lone.relies)})
		}
	}
	if p.Kind == flow.FullJoin {
		return // a key would need its columns of both sides, NULL on one of them
	}
	for _, a := range l.keys {
		for _, b := range r.keys {
			f.addKey(keyFact{append(slices.Clone(a.cols), moved(b.cols, width)...), relations(a.relies, b.relies)})
		}
	}
}

// onePerKey returns the key of a side that the join's key columns contain, nil when a row may find several of that side.
func onePerKey(f *facts, keys []*expr.Node) *keyFact {
	var cols []int
	for _, k := range keys {
		if k.Kind == expr.KColumn {
			cols = append(cols, k.Col)
		}
	}
	var best *keyFact
	for i := range f.keys {
		if subset(f.keys[i].cols, cols) && (best == nil || len(f.keys[i].relies) < len(best.relies)) {
			best = &f.keys[i]
		}
	}
	return best
}

func relations(a, b []*relation) []*relation {
	out := slices.Clone(a)
	for _, r := range b {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

func moved(cols []int, by int) []int {
	out := make([]int, len(cols))
	for i, c := range cols {
		out[i] = c + by
	}
	return out
}

// uniqueOver reports whether the columns among nodes identify a row, without a table being kept for it.
func (c *compiler) uniqueOver(p flow.Plan, nodes []*expr.Node) bool {
	k := onePerKey(c.factsOf(p), nodes)
	return k != nil && len(k.relies) == 0
}

// neverNull reports whether an expression over columns of which these are never NULL is never NULL: only what is certain.
func neverNull(n *expr.Node, notNull []bool) bool {
	all := func(list []*expr.Node) bool {
		return !slices.ContainsFunc(list, func(a *expr.Node) bool { return !neverNull(a, notNull) })
	}
	switch n.Kind {
	case expr.KConst:
		return !n.Value.Null
	case expr.KIsNull, expr.KDistinct:
		return true
	case expr.KCoalesce:
		return slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return neverNull(a, notNull) })
	case expr.KAnd, expr.KOr, expr.KNot, expr.KIn:
		return all(n.Args)
	case expr.KCast:
		return n.Args[0].Type != app.JSONB && all(n.Args)
	case expr.KCase:
		for i := 1; i < len(n.Args); i += 2 {
			if !neverNull(n.Args[i], notNull) {
				return false
			}
		}
		return neverNull(n.Args[len(n.Args)-1], notNull)
	case expr.KColumn:
		return n.Col < len(notNull) && notNull[n.Col]
	}
	return false
}

// rejectsNull reports whether a condition cannot be true where all columns that absent names are NULL.
func rejectsNull(n *expr.Node, absent func(col int) bool) bool {
	switch n.Kind {
	case expr.KConst:
		return n.Type == app.Bool && (n.Value.Null || n.Value.N == 0)
	case expr.KAnd:
		return slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return rejectsNull(a, absent) })
	case expr.KOr:
		return !slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return !rejectsNull(a, absent) })
	case expr.KNot:
		if n.Args[0].Kind == expr.KIsNull {
			return nullThere(n.Args[0].Args[0], absent)
		}
	}
	return nullThere(n, absent)
}

// nullThere reports whether an expression is NULL where all columns that absent names are.
func nullThere(n *expr.Node, absent func(col int) bool) bool {
	switch n.Kind {
	case expr.KColumn:
		return absent(n.Col)
	case expr.KConst:
		return n.Value.Null
	case expr.KCast, expr.KNot, expr.KIn:
		return n.Args[0].Type != app.JSONB && nullThere(n.Args[0], absent)
	case expr.KCall:
		return strict(n) && slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return nullThere(a, absent) })
	}
	return false
}

// strict reports whether a call is certainly NULL when one of its arguments is: most operators. Comparisons with all elements of an array are
// not, since it may have none, and a NULL can be appended to an array.
func strict(n *expr.Node) bool {
	f := n.Func
	return f.IsOperator() && !strings.HasSuffix(f.Name, " ANY") && !strings.HasSuffix(f.Name, " ALL") && !(f.Name == "||" && n.Type.IsArray())
}
