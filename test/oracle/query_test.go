package oracle

import (
	"fmt"
	"strings"
)

// gen makes a case.
type gen struct {
	*choices
	tables []*table
	views  []*viewCase
	cover  map[string]int
	names  int
	deep   int // queries around the present place
	// One window for all calls of a query: rows that are alike come in the same order in all of them then, as far as anybody can tell.
	part, over string

	// lateRows: rows come behind their table's watermark. What a join with freed state makes of them PostgreSQL cannot say, so there are no
	// joins then.
	lateRows bool
	nulls    int // in a hundred cells
}

// viewCase is one view: its query in both dialects differs in what the app's own functions are called.
type viewCase struct {
	name    string
	sql     string // with {…} for what the dialects spell otherwise
	cols    []column
	seen    []string // what was reached
	bounded bool     // it does without allow_unbounded
	final   *table   // emit = 'final': it shows windows over this table that are closed; c1 is the window's end
}

// see counts that the case reaches something.
func (g *gen) see(what string) {
	g.cover[what]++
	if n := len(g.views); n > 0 && g.views[n-1].sql == "" {
		g.views[n-1].seen = append(g.views[n-1].seen, what)
	}
}

func (g *gen) fresh(prefix string) string {
	g.names++
	return fmt.Sprintf("%s%d", prefix, g.names)
}

// view makes one view over tables and the views before it.
func (g *gen) view() {
	v := &viewCase{name: fmt.Sprintf("w%d", len(g.views)+1)}
	g.views = append(g.views, v)
	if g.often(12) {
		if t := pick(g.choices, g.tables...); t.timed() {
			v.sql, v.cols = g.finalView(t)
			v.final = t
			return
		}
	}
	sql, cols := g.query(2, nil)
	v.sql, v.cols = sql, cols
}

// finalView makes a query over windows of a table that shows closed windows only.
func (g *gen) finalView(t *table) (string, []column) {
	g.see("emit final")
	from, scope := g.timeWindow(t, g.fresh("r"))
	end := scope[len(scope)-1]
	keys, items := []string{end.ref}, []string{end.ref + " AS c1"}
	cols := []column{{"c1", "c1", end.kind}}
	add := func(sql string, k kind) {
		name := fmt.Sprintf("c%d", len(cols)+1)
		items = append(items, sql+" AS "+name)
		cols = append(cols, column{name, name, k})
	}
	for range g.n(2) {
		c := pick(g.choices, scope...)
		keys = append(keys, c.ref)
		add(c.ref, c.kind)
	}
	for range 1 + g.n(2) {
		add(g.aggregate(scope))
	}
	where := ""
	if g.often(30) {
		where = " WHERE " + g.expr(boolean, scope, 1)
	}
	return fmt.Sprintf("SELECT %s FROM %s%s GROUP BY %s", strings.Join(items, ", "), from, where, strings.Join(keys, ", ")), cols
}

// query returns a query and its columns, named c1, c2, …. outer is what it may refer to besides.
func (g *gen) query(depth int, outer []column) (string, []column) {
	if depth > 0 && outer == nil {
		switch {
		case g.often(10):
			return g.setOp(depth)
		case g.often(8):
			return g.with(depth)
		}
	}
	return g.block(depth, outer)
}

func (g *gen) setOp(depth int) (string, []column) {
	left, cols := g.block(depth-1, nil)
	op := pick(g.choices, "UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL")
	g.see(strings.ToLower(op))
	// The right side selects expressions of the same types.
	from, scope := g.from(depth-1, nil)
	items := make([]string, len(cols))
	for i, c := range cols {
		items[i] = g.expr(c.kind, scope, 1)
		if c.kind == numeric || c.kind == double { // one form of each value
			items[i] = fmt.Sprintf("CAST(%s AS %s)", items[i], c.kind)
		}
	}
	return fmt.Sprintf("(%s) %s (SELECT %s FROM %s)", left, op, strings.Join(items, ", "), from), cols
}

func (g *gen) with(depth int) (string, []column) {
	g.see("with")
	inner, cols := g.block(depth-1, nil)
	name := g.fresh("q")
	g.tables = append(g.tables, &table{name: name, cols: cols})
	sql, out := g.block(depth, nil)
	g.tables = g.tables[:len(g.tables)-1]
	return fmt.Sprintf("WITH %s AS (%s) %s", name, inner, sql), out
}

// block makes SELECT .. FROM .. and all that follows.
func (g *gen) block(depth int, outer []column) (string, []column) {
	g.deep++
	part, over := g.part, g.over
	g.part, g.over = "", ""
	defer func() { g.deep--; g.part, g.over = part, over }()
	from, scope := g.from(depth, outer)
	var b strings.Builder
	where := ""
	if g.often(50) {
		where = " WHERE " + g.condition(append(scope[:len(scope):len(scope)], outer...), depth)
		g.see("where")
	}
	if g.often(40) {
		return g.grouped(&b, from, where, scope, depth)
	}
	if g.often(15) && outer == nil {
		return g.ranked(from, where, scope)
	}
	var items []string
	var cols []column
	add := func(sql string, k kind) {
		name := fmt.Sprintf("c%d", len(cols)+1)
		items = append(items, sql+" AS "+name)
		cols = append(cols, column{name, name, k})
	}
	for range 1 + g.n(4) {
		k := kind(g.n(int(span)))
		if g.often(15) && outer == nil {
			add(g.window(scope))
			continue
		}
		if g.often(6) && depth > 0 && outer == nil && !g.lateRows {
			add(g.scalar(scope, depth))
			continue
		}
		if g.often(50) {
			c := pick(g.choices, scope...)
			add(c.ref, c.kind)
			continue
		}
		add(g.expr(k, scope, 2), k)
	}
	distinct := ""
	if g.often(12) {
		distinct = "DISTINCT "
		g.see("distinct")
	}
	fmt.Fprintf(&b, "SELECT %s%s FROM %s%s", distinct, strings.Join(items, ", "), from, where)
	return g.limited(b.String(), cols), cols
}

// limited adds ORDER BY all columns and LIMIT, now and then.
func (g *gen) limited(sql string, cols []column) string {
	if !g.often(12) {
		return sql
	}
	order := make([]string, len(cols))
	for i := range cols {
		if cols[i].kind == jsonb {
			return sql
		}
		order[i] = fmt.Sprint(i+1) + pick(g.choices, "", " DESC", " NULLS FIRST", " DESC NULLS LAST")
	}
	g.see("limit")
	if g.often(20) {
		g.see("with ties")
		return sql + " ORDER BY " + strings.Join(order[:1], ", ") + fmt.Sprintf(" FETCH FIRST %d ROWS WITH TIES", 1+g.n(4))
	}
	sql += " ORDER BY " + strings.Join(order, ", ") + fmt.Sprintf(" LIMIT %d", g.n(6))
	if g.often(30) {
		sql += fmt.Sprintf(" OFFSET %d", g.n(3))
		g.see("offset")
	}
	return sql
}

// ranked makes the first n of each group: DISTINCT ON, or a filter over row_number() or rank().
func (g *gen) ranked(from, where string, scope []column) (string, []column) {
	part := pick(g.choices, scope...)
	var items []string
	var cols []column
	for i, c := range scope {
		if i > 5 || c.kind == jsonb {
			continue
		}
		name := fmt.Sprintf("c%d", len(cols)+1)
		items = append(items, c.ref+" AS "+name)
		cols = append(cols, column{name, name, c.kind})
	}
	if len(cols) == 0 || part.kind == jsonb {
		return g.block(0, nil)
	}
	order := make([]string, len(cols))
	for i, it := range items {
		ref, _, _ := strings.Cut(it, " AS ")
		order[i] = ref + pick(g.choices, "", " DESC")
	}
	by := strings.Join(order, ", ")
	if g.n(3) == 0 {
		g.see("distinct on")
		return fmt.Sprintf("SELECT DISTINCT ON (%s) %s FROM %s%s ORDER BY %s, %s", part.ref, strings.Join(items, ", "), from, where, part.ref, by), cols
	}
	f := pick(g.choices, "row_number", "rank", "dense_rank")
	g.see("top by " + f)
	inner := fmt.Sprintf("SELECT %s, %s() OVER (PARTITION BY %s ORDER BY %s) AS r FROM %s%s", strings.Join(items, ", "), f, part.ref, by, from, where)
	names := make([]string, len(cols))
	for i := range cols {
		names[i] = cols[i].name
	}
	if g.often(50) {
		names = append(names, fmt.Sprintf("r AS c%d", len(cols)+1))
		n := fmt.Sprintf("c%d", len(cols)+1)
		cols = append(cols, column{n, n, bigint})
	}
	return fmt.Sprintf("SELECT %s FROM (%s) ranked WHERE r %s", strings.Join(names, ", "), inner, pick(g.choices, "= 1", "<= 2", "< 3", "<= 3")), cols
}

// grouped makes a query with GROUP BY.
func (g *gen) grouped(b *strings.Builder, from, where string, scope []column, depth int) (string, []column) {
	var keys, items []string
	var cols []column
	add := func(sql string, k kind) {
		name := fmt.Sprintf("c%d", len(cols)+1)
		items = append(items, sql+" AS "+name)
		cols = append(cols, column{name, name, k})
	}
	for range g.n(3) {
		c := pick(g.choices, scope...)
		sql, k := c.ref, c.kind
		if g.often(25) {
			k = pick(g.choices, integer, text, boolean, instant)
			if sql = g.expr(k, scope, 1); !strings.Contains(sql, ".c") && !strings.Contains(sql, ".v") && !strings.Contains(sql, ".id") {
				sql, k = c.ref, c.kind // a constant would be the number of a column
			}
			g.see("group by expression")
		}
		keys = append(keys, sql)
		add(sql, k)
	}
	for range 1 + g.n(3) {
		add(g.aggregate(scope))
	}
	by := ""
	if len(keys) > 0 {
		by = " GROUP BY " + strings.Join(keys, ", ")
		g.see("group by")
		if g.often(15) && distinctKeys(keys) {
			form := pick(g.choices, "ROLLUP (%s)", "CUBE (%s)", "GROUPING SETS ((%s), ())")
			by = " GROUP BY " + fmt.Sprintf(form, strings.Join(keys, ", "))
			g.see("grouping sets")
			add("GROUPING("+keys[0]+")", integer)
		}
	} else {
		g.see("one group")
	}
	having := ""
	if g.often(20) {
		having = " HAVING count(*) > " + fmt.Sprint(g.n(3))
		g.see("having")
	}
	fmt.Fprintf(b, "SELECT %s FROM %s%s%s%s", strings.Join(items, ", "), from, where, by, having)
	return g.limited(b.String(), cols), cols
}

func distinctKeys(keys []string) bool {
	seen := map[string]bool{}
	for _, k := range keys {
		if seen[k] || !strings.HasPrefix(k, "r") && strings.ContainsAny(k, "('") {
			return false
		}
		seen[k] = true
	}
	return true
}

// from makes a FROM clause and what it brings into scope.
func (g *gen) from(depth int, outer []column) (string, []column) {
	sql, scope := g.item(depth)
	for range g.n(3) {
		if len(scope) > 14 || g.lateRows {
			break
		}
		if depth > 0 && g.often(8) {
			inner, cols := g.lateral(scope)
			name := g.fresh("r")
			sql += fmt.Sprintf(" %s LATERAL (%s) %s ON true", pick(g.choices, "JOIN", "LEFT JOIN"), inner, name)
			scope = append(scope, qualified(name, cols)...)
			g.see("lateral")
			continue
		}
		if g.often(10) {
			if item, cols, ok := g.expand(scope); ok {
				sql += item
				scope = append(scope, cols...)
				continue
			}
		}
		right, cols := g.item(depth)
		kind := pick(g.choices, "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN")
		l, r, ok := g.pair(scope, cols)
		if !ok || kind == "CROSS JOIN" {
			g.see("cross join")
			sql += " CROSS JOIN " + right
			scope = append(scope, cols...)
			continue
		}
		g.see(strings.ToLower(kind))
		on := l.ref + " = " + r.ref
		both := append(append([]column{}, scope...), cols...)
		if kind != "FULL JOIN" && g.often(8) {
			on = l.ref + " IS NOT DISTINCT FROM " + r.ref
			g.see("join on is not distinct")
		}
		if g.often(30) && kind != "FULL JOIN" {
			on += " AND " + g.condition(both, 0)
			g.see("join with a residual")
		}
		if g.often(10) {
			on = g.interval(both, on)
		}
		sql = fmt.Sprintf("%s %s %s ON %s", sql, kind, right, on)
		scope = both
	}
	return sql, scope
}

// expand makes a set-returning function over what is in scope.
func (g *gen) expand(scope []column) (string, []column, bool) {
	name := g.fresh("r")
	call, k := "", integer
	a, ok1 := g.ofKind(scope, ints)
	b, ok2 := g.ofKind(scope, texts)
	c, ok3 := g.ofKind(scope, integer)
	switch {
	case ok1 && g.often(40):
		call = "unnest(" + a.ref + ")"
		g.see("unnest")
	case ok2 && g.often(60):
		call, k = "unnest("+b.ref+")", text
		g.see("unnest")
	case ok3:
		call = "generate_series(1, " + c.ref + " % 4)"
		g.see("generate_series")
	default:
		return "", nil, false
	}
	join, on := " CROSS JOIN LATERAL ", ""
	if g.often(40) {
		join, on = " LEFT JOIN LATERAL ", " ON true"
		g.see("outer unnest")
	}
	cols := []column{{name + ".c1", "c1", k}}
	if g.often(40) {
		g.see("with ordinality")
		return fmt.Sprintf("%s%s WITH ORDINALITY AS %s(c1, c2)%s", join, call, name, on), append(cols, column{name + ".c2", "c2", bigint}), true
	}
	return fmt.Sprintf("%s%s AS %s(c1)%s", join, call, name, on), cols, true
}

// values makes a list of constant rows.
func (g *gen) values(name string) (string, []column) {
	g.see("values")
	kinds := []kind{integer, pick(g.choices, text, instant, boolean)}
	rows := make([]string, 1+g.n(4))
	for i := range rows {
		cells := make([]string, len(kinds))
		for j, k := range kinds {
			if cells[j] = g.literal(k); g.often(15) {
				cells[j] = "NULL::" + k.String()
			}
		}
		rows[i] = "(" + strings.Join(cells, ", ") + ")"
	}
	cols := []column{{name + ".c1", "c1", kinds[0]}, {name + ".c2", "c2", kinds[1]}}
	return fmt.Sprintf("(VALUES %s) AS %s(c1, c2)", strings.Join(rows, ", "), name), cols
}

// interval adds a condition on the distance of two times.
func (g *gen) interval(scope []column, on string) string {
	var times []column
	for _, c := range scope {
		if c.kind == instant {
			times = append(times, c)
		}
	}
	if len(times) < 2 {
		return on
	}
	g.see("interval join")
	a, b := times[0], times[len(times)-1]
	return fmt.Sprintf("%s AND %s BETWEEN %s - interval '20 seconds' AND %s + interval '20 seconds'", on, b.ref, a.ref, a.ref)
}

// pair finds columns of one type to join on.
func (g *gen) pair(l, r []column) (column, column, bool) {
	for range 8 {
		a, b := pick(g.choices, l...), pick(g.choices, r...)
		if a.kind == b.kind && a.kind != jsonb {
			return a, b, true
		}
	}
	return column{}, column{}, false
}

func qualified(alias string, cols []column) []column {
	out := make([]column, len(cols))
	for i, c := range cols {
		out[i] = column{alias + "." + c.name, c.name, c.kind}
	}
	return out
}

// item makes one item of FROM.
func (g *gen) item(depth int) (string, []column) {
	name := g.fresh("r")
	switch {
	case depth > 0 && g.often(15):
		g.see("sub-query in from")
		sql, cols := g.query(depth-1, nil)
		return "(" + sql + ") " + name, qualified(name, cols)
	case depth > 0 && g.often(5):
		return g.values(name)
	case len(g.views) > 1 && g.often(20+10*len(g.views)):
		g.see("view on a view")
		v := pick(g.choices, g.views[:len(g.views)-1]...)
		return v.name + " " + name, qualified(name, v.cols)
	case g.often(15):
		if t := pick(g.choices, g.tables...); t.timed() {
			return g.timeWindow(t, name)
		}
	}
	t := pick(g.choices, g.tables...)
	return t.name + " " + name, qualified(name, t.cols)
}

// timeWindow makes a tumbling, hopping or session window over a table; the dialects spell it in their own way.
func (g *gen) timeWindow(t *table, name string) (string, []column) {
	kind := instant
	for _, c := range t.cols {
		if c.name == "at_" {
			kind = c.kind
		}
	}
	cols := qualified(name, t.cols)
	cols = append(cols, column{name + ".window_start", "window_start", kind}, column{name + ".window_end", "window_end", kind})
	form := pick(g.choices, "tumble", "hop", "session", "session by")
	if g.lateRows { // what a late row does to sessions depends on which of them were open when it came
		form = pick(g.choices, "tumble", "hop")
	}
	g.see(form)
	return fmt.Sprintf("{%s %s} %s", form, t.name, name), cols
}

// lateral makes a sub-query that refers to what is before it.
func (g *gen) lateral(outer []column) (string, []column) {
	t := pick(g.choices, g.tables...)
	name := g.fresh("r")
	inner := qualified(name, t.cols)
	l, r, ok := g.pair(outer, inner)
	if !ok {
		return fmt.Sprintf("SELECT count(*) AS c1 FROM %s %s", t.name, name), []column{{"c1", "c1", bigint}}
	}
	if g.n(2) == 0 {
		g.see("lateral aggregate")
		return fmt.Sprintf("SELECT count(*) AS c1, max(%s.id) AS c2 FROM %s %s WHERE %s = %s", name, t.name, name, r.ref, l.ref),
			[]column{{"c1", "c1", bigint}, {"c2", "c2", integer}}
	}
	g.see("lateral top-n")
	return fmt.Sprintf("SELECT %s.id AS c1, %s.at_ AS c2 FROM %s %s WHERE %s = %s ORDER BY 1 DESC, 2 LIMIT 2", name, name, t.name, name, r.ref, l.ref),
		[]column{{"c1", "c1", integer}, {"c2", "c2", columnOf(t, "at_").kind}}
}

func columnOf(t *table, name string) column {
	for _, c := range t.cols {
		if c.name == name {
			return c
		}
	}
	return column{}
}
