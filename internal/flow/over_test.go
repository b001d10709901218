package flow_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// ranking is a random program of window functions and top-Ns over a keyed table, that table without its key, and an append-only table,
// with what PostgreSQL is to be asked for each view.
type ranking struct {
	g       genApp
	p       *programOf
	names   []string
	types   []app.Type
	queries []string // by view
	in      flow.Plan
	from    string
	first   int // column of the input that is column 0 of in
	grows   bool
}

var rankingColumns = []string{"id bigint not null", "p integer", "q text", "a integer", "f double precision", "n numeric", "ts timestamptz",
	"b boolean", "g double precision", "k integer not null",
	"d date", "m numeric"}

var rankingValues = map[string][]string{
	"p": {"NULL", "1", "2"}, "q": {"NULL", "x", "yy"}, "a": {"NULL", "-2", "-1", "0", "1", "3", "2147483647"},
	"f": {"NULL", "NaN", "Infinity", "-Infinity", "-1.5", "0", "0.5", "2"}, "n": {"NULL", "1", "1.0", "1.00", "-2.5", "3"},
	"ts": {"NULL", "2024-01-31 00:00:00+00", "2024-01-31 00:00:01+00", "2024-02-01 00:00:00+00", "2024-02-29 00:00:00+00", "infinity"},
	"b":  {"NULL", "true", "false"}, "g": {"NULL", "-1.5", "0", "0.5", "2", "1000"}, "k": {"0", "1", "2", "3", "4"},
	"d": {"NULL", "2024-01-30", "2024-01-31", "2024-02-01", "2024-02-29", "2024-03-01", "infinity"}, "m": {"NULL", "NaN", "Infinity", "-Infinity", "1", "1.0", "-2.5"},
}

func newRanking(seed uint64) *ranking {
	r := &ranking{g: genApp{rnd: rand.New(rand.NewPCG(seed, 11))}, p: newProgram()}
	t := r.p.table("t", []int{0}, false, true, rankingColumns...)
	u := r.p.table("u", nil, true, false, rankingColumns...)
	for _, c := range rankingColumns {
		name, typ, _ := strings.Cut(strings.TrimSuffix(c, " not null"), " ")
		r.names, r.types = append(r.names, name), append(r.types, expr.TypeNamed(typ))
	}
	for i := range 6 {
		r.first = 0
		switch r.g.rnd.IntN(3) {
		case 0:
			r.in, r.from, r.grows = t, "t", false
		case 1:
			r.in, r.from, r.grows = u, "u", true
		default:
			r.first = 1
			cols := make([]*expr.Node, len(r.types)-1)
			for j := range cols {
				cols[j] = expr.Column(j+1, r.types[j+1], -1)
			}
			r.in, r.from = &flow.Project{In: t, Exprs: cols}, "(SELECT "+strings.Join(r.names[1:], ", ")+" FROM t) AS t"
		}
		var plan flow.Plan
		var query string
		if r.g.chance(3) {
			plan, query = r.top()
		} else {
			plan, query = r.over()
		}
		r.p.view(fmt.Sprintf("v%d", i), nil, plan)
		r.queries = append(r.queries, query)
	}
	return r
}

// columns picks n different columns of the input, as places in it.
func (r *ranking) columns(n int, from ...string) (out []int) {
	for len(out) < n {
		c := slices.Index(r.names, pick(&r.g, from...)) - r.first
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func (r *ranking) name(c int) string { return r.names[c+r.first] }

func (r *ranking) col(c int) *expr.Node { return expr.Column(c, r.types[c+r.first], -1) }

func (r *ranking) sorted(n int, from ...string) (order []app.OrderBy, text []string) {
	for _, c := range r.columns(n, from...) {
		o := app.OrderBy{Column: c, Desc: r.g.chance(2), NullsFirst: r.g.chance(2)}
		order = append(order, o)
		text = append(text, r.name(c)+map[bool]string{true: " DESC", false: " ASC"}[o.Desc]+map[bool]string{true: " NULLS FIRST", false: " NULLS LAST"}[o.NullsFirst])
	}
	return order, text
}

// rest is the order with the columns that it does not have: a total one.
func (r *ranking) rest(text []string) []string {
	text = slices.Clone(text)
	for _, n := range r.names[r.first:] {
		if !slices.ContainsFunc(text, func(t string) bool { return strings.HasPrefix(t, n+" ") }) {
			text = append(text, n+" ASC NULLS LAST")
		}
	}
	return text
}

func clause(word string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return word + strings.Join(list, ", ") + " "
}

func (r *ranking) partition() (cols []int, text []string) {
	cols = r.columns(r.g.rnd.IntN(3), "p", "q", "b", "n")
	for _, c := range cols {
		text = append(text, r.name(c))
	}
	return cols, text
}

func (r *ranking) top() (flow.Plan, string) {
	part, ptext := r.partition()
	order, otext := r.sorted(1+r.g.rnd.IntN(2), "a", "f", "n", "ts", "k", "q", "d", "m")
	n := &flow.TopN{In: r.in, Partition: part, Sort: order, Limit: int64(r.g.rnd.IntN(5)), Offset: int64(r.g.rnd.IntN(3)) * int64(r.g.rnd.IntN(2)),
		Rank: flow.RankKind(r.g.rnd.IntN(3)), Number: r.g.chance(2)}
	switch r.g.rnd.IntN(8) {
	case 0:
		n.Limit = -1
	case 1:
		n.Limit = 70
	}
	f := []string{"row_number", "rank", "dense_rank"}[n.Rank]
	if n.Rank == flow.RowNumber {
		otext = r.rest(otext)
	}
	cols := strings.Join(r.names[r.first:], ", ")
	if n.Number {
		cols += ", rn"
	}
	q := fmt.Sprintf("SELECT %s FROM (SELECT *, %s() OVER (%s%s) AS rn FROM %s) AS x WHERE rn > %d", cols, f, clause("PARTITION BY ", ptext),
		clause("ORDER BY ", otext), r.from, n.Offset)
	if n.Limit >= 0 {
		q += fmt.Sprintf(" AND rn <= %d", n.Offset+n.Limit)
	}
	return n, q
}

func (r *ranking) over() (flow.Plan, string) {
	part, ptext := r.partition()
	order, otext := r.sorted(r.g.rnd.IntN(3), "a", "f", "n", "ts", "k", "q", "d", "m")
	if r.g.chance(2) {
		order, otext = r.sorted(1, "a", "f", "ts", "d", "m")
	}
	o := &flow.Over{In: r.in, Partition: part, Sort: order}
	q := "SELECT *"
	for range 1 + r.g.rnd.IntN(3) {
		c, text, byPosition := r.call(order)
		o.Calls = append(o.Calls, c)
		by := otext
		if byPosition {
			by = r.rest(otext)
		}
		call, frame, _ := strings.Cut(text, "|")
		q += fmt.Sprintf(", %s OVER (%s%s%s)", call, clause("PARTITION BY ", ptext), clause("ORDER BY ", by), frame)
	}
	return o, q + " FROM " + r.from
}

// call returns a window function, its text with the frame behind |, and whether it goes by the positions of rows, so that PostgreSQL has
// to be given a total order.
func (r *ranking) call(order []app.OrderBy) (flow.OverCall, string, bool) {
	arg := r.columns(1, "a", "n", "q", "k", "ts")[0]
	integer := func(n int) *expr.Node { return expr.Const(app.Int4, change.Int(int64(n)), -1) }
	k := r.columns(1, "k")[0]
	n := r.g.rnd.IntN(5)
	by, byText := integer(n), strconv.Itoa(n)
	if r.g.chance(4) {
		by, byText = r.col(k), "k"
	}
	plain := func(f flow.OverFunc, t app.Type, text string, byPosition bool, args ...*expr.Node) (flow.OverCall, string, bool) {
		return flow.OverCall{Func: f, Type: t, Args: args}, text + "|", byPosition
	}
	typ, name := r.col(arg).Type, r.name(arg)
	switch r.g.rnd.IntN(14) {
	case 0:
		return plain(flow.OverRowNumber, app.Int8, "row_number()", true)
	case 1:
		return plain(flow.OverRank, app.Int8, "rank()", false)
	case 2:
		return plain(flow.OverDenseRank, app.Int8, "dense_rank()", false)
	case 3:
		return plain(flow.OverPercentRank, app.Float8, "percent_rank()", false)
	case 4:
		return plain(flow.OverCumeDist, app.Float8, "cume_dist()", false)
	case 5:
		return plain(flow.OverNtile, app.Int4, fmt.Sprintf("ntile(%d)", n+1), true, integer(n+1))
	case 6:
		return plain(flow.OverLag, typ, "lag("+name+")", true, r.col(arg))
	case 7:
		return plain(flow.OverLead, typ, "lead("+name+", "+byText+")", true, r.col(arg), by)
	case 8:
		return plain(flow.OverLag, app.Int4, "lag(k, "+byText+", -7)", true, r.col(k), by, integer(-7))
	}
	frame, text, byPosition := r.frame(order)
	c := flow.OverCall{Func: flow.OverAggregate, Frame: frame}
	switch r.g.rnd.IntN(4) {
	case 0:
		if c.Type = typ; byPosition {
			switch r.g.rnd.IntN(3) {
			case 0:
				c.Func, c.Args = flow.OverFirstValue, []*expr.Node{r.col(arg)}
				return c, "first_value(" + name + ")|" + text, true
			case 1:
				c.Func, c.Args = flow.OverLastValue, []*expr.Node{r.col(arg)}
				return c, "last_value(" + name + ")|" + text, true
			}
			c.Func, c.Args = flow.OverNthValue, []*expr.Node{r.col(arg), integer(n + 1)}
			return c, fmt.Sprintf("nth_value(%s, %d)|%s", name, n+1, text), true
		}
	}
	call := r.aggregate(&c, byPosition)
	return c, call + "|" + text, byPosition
}

func (r *ranking) aggregate(c *flow.OverCall, byPosition bool) (text string) {
	a := &c.Agg
	set := func(f flow.AggFunc, name, col string, t app.Type) {
		arg := r.columns(1, col)[0]
		*a = flow.Agg{Func: f, Arg: r.col(arg), Type: t}
		text = name + "(" + col + ")"
	}
	switch r.g.rnd.IntN(9) {
	case 0:
		*a, text = flow.Agg{Func: flow.CountRows, Type: app.Int8}, "count(*)"
	case 1:
		set(flow.Count, "count", "q", app.Int8)
	case 2:
		set(flow.Sum, "sum", "a", app.Int8)
	case 3:
		set(flow.Sum, "sum", "n", app.Numeric)
	case 4:
		set(flow.Avg, "avg", "g", app.Float8)
	case 5:
		set(flow.Min, "min", "n", app.Numeric)
	case 6:
		set(flow.Max, "max", "ts", app.Timestamptz)
	case 7:
		set(flow.BoolOr, "bool_or", "b", app.Bool)
	case 8:
		set(flow.Max, "max", "q", app.Text)
		if byPosition {
			a.Func, a.Arg2, text = flow.StringAgg, expr.Const(app.Text, change.Bytes([]byte(",")), -1), "string_agg(q, ',')"
		}
	}
	if r.g.chance(4) {
		b := r.columns(1, "b")[0]
		a.Filter = r.col(b)
		text += " FILTER (WHERE b)"
	}
	c.Type = a.Type
	return text
}

// frame returns a frame, its text, and whether it goes by the positions of rows.
func (r *ranking) frame(order []app.OrderBy) (f flow.Frame, text string, byPosition bool) {
	modes := []flow.FrameMode{flow.FrameRows}
	if len(order) > 0 {
		modes = append(modes, flow.FrameRange, flow.FrameGroups)
	}
	if f.Mode = pick(&r.g, modes...); len(order) == 1 && r.g.chance(2) {
		f.Mode = flow.FrameRange
	}
	words := map[flow.FrameMode]string{flow.FrameRange: "RANGE", flow.FrameRows: "ROWS", flow.FrameGroups: "GROUPS"}
	var ends [2]flow.FrameEnd
	var texts [2]string
	var places [2]int // -2 to 2: how far behind
	for {
		for i := range ends {
			ends[i], texts[i], places[i] = r.end(f.Mode, order)
		}
		if places[0] <= places[1] && places[0] < 2 && places[1] > -2 {
			break
		}
	}
	f.Lo, f.Hi = ends[0], ends[1]
	excludes := 4
	if f.Mode == flow.FrameRows {
		excludes = 2 // peers are not those of PostgreSQL's total order
	}
	f.Exclude = flow.FrameExclude(r.g.rnd.IntN(excludes) * r.g.rnd.IntN(2))
	text = fmt.Sprintf("%s BETWEEN %s AND %s EXCLUDE %s", words[f.Mode], texts[0], texts[1],
		[]string{"NO OTHERS", "CURRENT ROW", "GROUP", "TIES"}[f.Exclude])
	return f, text, f.Mode == flow.FrameRows
}

func (r *ranking) end(mode flow.FrameMode, order []app.OrderBy) (e flow.FrameEnd, text string, place int) {
	place = r.g.rnd.IntN(5) - 2
	if mode == flow.FrameRange && len(order) != 1 && place != 0 {
		place = 2 * max(-1, min(1, place))
	}
	word := map[bool]string{true: " PRECEDING", false: " FOLLOWING"}[place < 0]
	switch {
	case place == 0:
		return e, "CURRENT ROW", 0
	case place == 2 || place == -2:
		return flow.FrameEnd{Unbounded: true, Preceding: place < 0}, "UNBOUNDED" + word, place
	}
	e.Preceding = place < 0
	if mode != flow.FrameRange {
		n := r.g.rnd.IntN(4)
		e.Offset = int64(n * place)
		return e, strconv.Itoa(n) + word, place
	}
	t := r.types[order[0].Column+r.first]
	text = map[app.Type]string{app.Int4: pick(&r.g, "0", "1", "2", "2147483647"), app.Float8: pick(&r.g, "0", "0.5", "1.5", "Infinity"),
		app.Numeric: pick(&r.g, "0", "1.5", "3.50", "Infinity"),
		app.Date:    pick(&r.g, "1 day", "36 hours", "36 hours", "1 month", "0"), app.Timestamptz: pick(&r.g, "1 second", "1 day", "1 month", "0")}[t]
	typ := t
	switch t {
	case app.Timestamptz, app.Date:
		typ = app.Interval
	case app.Text: // cannot be moved
		return flow.FrameEnd{}, "CURRENT ROW", 0
	}
	v, _, err := expr.ParseText(typ, []byte(text), nil)
	if err != nil {
		panic(err)
	}
	e.By = expr.Const(typ, v, -1)
	return e, "'" + text + "'::" + typ.String() + word, place
}

// cells returns a random row as texts.
func (r *ranking) cells(id int) []string {
	out := []string{strconv.Itoa(id)}
	for _, n := range r.names[1:] {
		out = append(out, pick(&r.g, rankingValues[n]...))
	}
	return out
}

// TestRanking compares window functions and top-Ns with PostgreSQL after every batch of random histories. LAASTER_SEED=<n> runs one.
func TestRanking(t *testing.T) {
	pg := testkit.Postgres(t).Conn(t)
	cols := strings.Join(rankingColumns, ", ")
	mustExec(t, pg, fmt.Sprintf("DROP SCHEMA IF EXISTS ranking CASCADE; CREATE SCHEMA ranking; SET search_path = ranking, pg_catalog; "+
		"SET timezone = 'UTC'; CREATE TABLE t (%s); CREATE TABLE u (%s)", cols, cols))
	seeds, from := uint64(150), uint64(0)
	if testing.Short() || testkit.Race() {
		seeds = 30
	}
	if s := os.Getenv("LAASTER_SEEDS"); s != "" {
		seeds, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		from, _ = strconv.ParseUint(s, 10, 64)
		seeds = from + 1
	}
	for seed := from; seed < seeds && !t.Failed(); seed++ {
		runRanking(t, pg, seed)
	}
}

func mustExec(t *testing.T, pg *pgx.Conn, text string) {
	t.Helper()
	if _, err := pg.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("PostgreSQL: %v\n%s", err, text)
	}
}

func runRanking(t *testing.T, pg *pgx.Conn, seed uint64) {
	t.Helper()
	r := newRanking(seed)
	d := newDriver(t, &r.p.p, flow.Options{})
	rels := r.p.p.Relations
	l := rels[0].Layout
	var appended [][]string
	var entries []change.Entry
	apply := func(en change.Entry) {
		entries = append(entries, en)
		d.apply(en)
	}
	for step := range 8 {
		var recs, more []change.Record
		for range 1 + r.g.rnd.IntN(8) {
			cells := r.cells(r.g.rnd.IntN(25))
			recs = append(recs, change.Record{Given: []byte{0xff, 0xff}, Row: row(t, l, strings.Join(cells, "|"))})
			cells = r.cells(r.g.rnd.IntN(3))
			appended = append(appended, cells)
			more = append(more, change.Record{Row: row(t, l, strings.Join(cells, "|"))})
		}
		apply(records(1, change.OpMerge, recs...))
		apply(records(2, change.OpInsert, more...))
		if r.g.chance(2) {
			apply(records(1, change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=gt.%d&k=lt.3", r.g.rnd.IntN(25))}))
		}
		r.compare(t, pg, d, seed, step, appended)
		if t.Failed() {
			return
		}
	}
	apply(records(1, change.OpDelete, change.Record{Filter: []byte("id=gt.-1")}))
	r.compare(t, pg, d, seed, -1, appended)
	again := newDriver(t, &r.p.p, flow.Options{})
	for len(entries) > 0 {
		n := 1 + r.g.rnd.IntN(len(entries))
		again.applyAt(d.stamp, entries[:n]...)
		entries = entries[n:]
	}
	if again.e.Fingerprint() != d.e.Fingerprint() {
		t.Errorf("seed %d: other batches end in another state", seed)
	}
}

func (r *ranking) compare(t *testing.T, pg *pgx.Conn, d *driver, seed uint64, step int, appended [][]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("TRUNCATE t, u;")
	insert := func(table string, rows [][]string) {
		for i, cells := range rows {
			if b.WriteString(", ("); i == 0 {
				s := b.String()
				b.Reset()
				b.WriteString(strings.TrimSuffix(s, ", (") + "INSERT INTO " + table + " VALUES (")
			}
			for j, c := range cells {
				if j > 0 {
					b.WriteString(", ")
				}
				if c != "NULL" {
					c = "'" + c + "'"
				}
				b.WriteString(c)
			}
			b.WriteString(")")
		}
		if len(rows) > 0 {
			b.WriteString(";")
		}
	}
	var kept [][]string
	for _, row := range d.rows[0] {
		kept = append(kept, strings.Split(showRow(r.p.p.Relations[0].Layout, row), "|"))
	}
	insert("t", kept)
	insert("u", appended)
	mustExec(t, pg, b.String())
	results, err := pg.PgConn().Exec(t.Context(), strings.Join(r.queries, ";")).ReadAll()
	if err != nil {
		t.Fatalf("seed %d: PostgreSQL: %v\n%s", seed, err, strings.Join(r.queries, ";\n"))
	}
	for i, q := range r.queries {
		rel := r.p.p.Relations[2+i]
		types := typesOf(rel)
		var want, got []string
		for _, row := range results[i].Rows {
			cells := make([]string, len(row))
			for j, c := range row {
				if cells[j] = "NULL"; c != nil {
					cells[j] = plainly(types[j], string(c))
				}
			}
			want = append(want, strings.Join(cells, "|"))
		}
		for _, row := range d.rows[rel.ID] {
			cells := make([]string, len(types))
			for j, typ := range types {
				if cells[j] = showValue(typ, rel.Layout.Get(row, j)); cells[j] != "NULL" {
					cells[j] = plainly(typ, cells[j])
				}
			}
			got = append(got, strings.Join(cells, "|"))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("seed %d (LAASTER_SEED=%d runs it alone), step %d: %s\nis\n  %s\nwhere PostgreSQL has\n  %s", seed, seed, step, q,
				strings.Join(got, "\n  "), strings.Join(want, "\n  "))
			return
		}
	}
}

// plainly writes a value so that equal ones are equal texts.
func plainly(t app.Type, s string) string {
	switch t {
	case app.Bool:
		return s[:1]
	case app.Float8:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return strconv.FormatFloat(f+0, 'g', 9, 64)
		}
	case app.Numeric:
		if x, _, err := big.ParseFloat(s, 10, 200, big.ToNearestEven); err == nil {
			return x.Text('g', 15)
		}
	}
	return s
}
