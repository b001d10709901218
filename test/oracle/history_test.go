package oracle

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
	"laaster/internal/sql"
)

// base is when histories begin.
func base() time.Time { return time.Date(2024, 2, 28, 12, 0, 0, 0, time.UTC) }

// step is one request: rows for one table, in both forms.
type step struct {
	stamp int64
	table *table
	op    change.Op
	rows  [][]cell
	where [2]string // of an update or delete, as a filter here and as a condition in PostgreSQL
	given []int     // columns that an update sets
}

type cell struct {
	text string
	null bool
	sql  string
}

// history makes the steps of a case.
func (g *gen) history() []step {
	var steps []step
	pause := 0
	for n := range 4 + g.n(9) {
		s := step{table: pick(g.choices, g.tables...)}
		if n%2 == 0 && g.often(10) {
			pause += pick(g.choices, 11, 25, 90)
			g.see("pause")
		}
		now := base().Add(time.Duration(pause+n/2*5) * time.Second)
		s.stamp = now.Add(8 * time.Second).UnixMicro()
		if g.lateRows {
			s.stamp = base().Add(time.Duration(150+pause)*time.Second).UnixMicro() + int64(n/2)*1000
		}
		s.op = change.OpInsert
		if s.table.keyed {
			s.op = pick(g.choices, change.OpMerge, change.OpMerge, change.OpDelete, change.OpUpdate)
		}
		switch s.op {
		case change.OpDelete:
			s.where = g.selection(s.table)
		case change.OpUpdate:
			s.where = g.selection(s.table)
			s.rows = [][]cell{g.row(s.table, now)}
			for i := 1; i < len(s.table.cols); i++ {
				if g.often(50) || i == 1 {
					s.given = append(s.given, i)
				}
			}
			g.see("update by a filter")
		default:
			for range 1 + g.n(5) {
				s.rows = append(s.rows, g.row(s.table, now))
			}
			if s.op == change.OpInsert && g.often(20) {
				s.rows = append(s.rows, s.rows[0]) // the same row twice
				g.see("duplicate row")
			}
		}
		steps = append(steps, s)
	}
	return steps
}

// selection makes a condition on rows of a keyed table, as a filter and in SQL.
func (g *gen) selection(t *table) [2]string {
	n := g.n(8)
	switch g.n(6) {
	case 0, 1:
		return [2]string{fmt.Sprintf("id=eq.%d", n), fmt.Sprintf("id = %d", n)}
	case 2:
		g.see("several rows by a filter")
		return [2]string{fmt.Sprintf("id=lt.%d", n), fmt.Sprintf("id < %d", n)}
	case 3:
		g.see("several rows by a filter")
		return [2]string{fmt.Sprintf("id=in.(%d,%d,3)", n, n+1), fmt.Sprintf("id IN (%d,%d,3)", n, n+1)}
	case 4:
		g.see("rows by a filter on NULL")
		c := pick(g.choices, t.cols...)
		return [2]string{c.name + "=is.null", c.name + " IS NULL"}
	}
	g.see("all rows by a filter")
	return [2]string{"id=gte.0", "id >= 0"}
}

func (g *gen) row(t *table, now time.Time) []cell {
	row := make([]cell, len(t.cols))
	for i, c := range t.cols {
		v := &row[i]
		switch c.name {
		case "id":
			v.text = fmt.Sprint(g.n(8))
		case "at_":
			at := now.Add(time.Duration(g.n(8)) * time.Second)
			if g.lateRows {
				if at = base().Add(time.Duration(g.n(120)) * time.Second); g.often(4) {
					at = base().Add(1000 * time.Second)
					g.see("time ahead of the log")
				}
			}
			v.text = at.Format("2006-01-02 15:04:05")
			if c.kind == instant {
				v.text += "+00"
			}
		default:
			v.text, v.null = g.cell(c.kind, t.wild)
		}
		v.sql = "NULL"
		if !v.null {
			v.sql = "'" + strings.ReplaceAll(v.text, "'", "''") + "'"
		}
		v.sql += "::" + c.kind.String()
	}
	return row
}

// run is a case under way.
type caseRun struct {
	*gen
	t      testing.TB
	conn   *pgx.Conn
	steps  []step
	prog   *flow.Program
	engine *flow.Engine
	store  *checkpoint.Store // of the engine, see restart; nil: none yet
	rows   []map[string]change.Row
	marks  map[string]*watermark // of the tables, as the oracle computes them
	b      change.Builder
	seq    uint64
}

// app returns app.sql with the views that are given.
func (g *gen) app(views []*viewCase) string {
	var b strings.Builder
	for _, t := range g.tables {
		b.WriteString(t.ddl())
	}
	for _, v := range views {
		with := ""
		switch {
		case v.final != nil:
			with = " WITH (emit = 'final')"
		case !v.bounded:
			with = " WITH (allow_unbounded = true)"
		}
		fmt.Fprintf(&b, "CREATE MATERIALIZED VIEW %s%s AS %s;\nGRANT SELECT ON %s TO anon;\n", v.name, with, g.here(v.sql), v.name)
	}
	return b.String()
}

// here spells a query as Laaster reads it.
func (g *gen) here(sql string) string {
	for _, t := range g.tables {
		sql = strings.ReplaceAll(sql, "{tumble "+t.name+"}", "tumble("+t.name+", at_, interval '10 seconds')")
		sql = strings.ReplaceAll(sql, "{hop "+t.name+"}", "hop("+t.name+", at_, interval '5 seconds', interval '10 seconds')")
		sql = strings.ReplaceAll(sql, "{session "+t.name+"}", "session("+t.name+", at_, interval '4 seconds')")
		sql = strings.ReplaceAll(sql, "{session by "+t.name+"}", "session("+t.name+", at_, interval '4 seconds', partition_by => k)")
	}
	return strings.NewReplacer("{now}", "now()", "{approx}", "approx_count_distinct(", "{any}", "any_value(").Replace(sql)
}

// there spells a query as PostgreSQL reads it.
func (g *gen) there(sql string) string {
	for _, t := range g.tables {
		names := make([]string, len(t.cols))
		for i, c := range t.cols {
			names[i] = "x." + c.name
		}
		k := columnOf(t, "at_").kind
		start := fmt.Sprintf("date_bin('10 s', x.at_, 'epoch'::%s)", k)
		late := fmt.Sprintf("(x.%s IS NULL OR y.window_end > x.%s AT TIME ZONE 'UTC')", mark, mark)
		if k == instant {
			late = fmt.Sprintf("(x.%s IS NULL OR y.window_end > x.%s)", mark, mark)
		}
		sql = strings.ReplaceAll(sql, "{tumble "+t.name+"}", fmt.Sprintf("(SELECT %s, y.window_start, y.window_end FROM %s_all x, LATERAL (SELECT %s AS window_start, %s + interval '10 s' AS window_end) y WHERE %s)",
			strings.Join(names, ", "), t.name, start, start, late))
		start = fmt.Sprintf("date_bin('5 s', x.at_, 'epoch'::%s)", k)
		sql = strings.ReplaceAll(sql, "{hop "+t.name+"}", fmt.Sprintf("(SELECT %s, y.window_start, y.window_end FROM %s_all x, LATERAL (SELECT w AS window_start, w + interval '10 s' AS window_end FROM generate_series(%s - interval '5 s', %s, interval '5 s') w) y WHERE %s)",
			strings.Join(names, ", "), t.name, start, start, late))
		sql = strings.ReplaceAll(sql, "{session "+t.name+"}", sessions(t, names, "1"))
		sql = strings.ReplaceAll(sql, "{session by "+t.name+"}", sessions(t, names, "k"))
	}
	return strings.NewReplacer("{now}", "(SELECT now FROM clock)", "{approx}", "count(DISTINCT ", "{any}", "min(").Replace(sql)
}

// sessions is the query for rows with their sessions of four seconds: a row that is not within that of the one before begins one.
func sessions(t *table, names []string, by string) string {
	return fmt.Sprintf(`(SELECT %[1]s, min(x.at_) OVER (PARTITION BY x.by_, x.nr_) AS window_start, max(x.at_) OVER (PARTITION BY x.by_, x.nr_) + interval '4 s' AS window_end
		FROM (SELECT x.*, sum(x.new_) OVER (PARTITION BY x.by_ ORDER BY x.at_) AS nr_
		FROM (SELECT x.*, %[3]s AS by_, CASE WHEN x.at_ - lag(x.at_) OVER (PARTITION BY %[3]s ORDER BY x.at_) < interval '4 s' THEN 0 ELSE 1 END AS new_ FROM %[2]s x) x) x)`,
		strings.Join(names, ", "), t.name, by)
}

// query is a view's query as PostgreSQL reads it.
func (v *viewCase) query(g *gen) string {
	q := g.there(v.sql)
	if v.final == nil {
		return q
	}
	end := "c1"
	if v.cols[0].kind == moment {
		end = "c1 AT TIME ZONE 'UTC'"
	}
	return fmt.Sprintf("SELECT * FROM (%s) closed WHERE %s <= (SELECT mark FROM marks WHERE name = '%s')", q, end, v.final.name)
}

// newCase makes a case and starts both sides. It returns nil when nothing of it is left to compare.
func newCase(t testing.TB, conn *pgx.Conn, c *choices, refused map[string]int) *caseRun {
	r := &caseRun{gen: &gen{choices: c, cover: map[string]int{}}, t: t, conn: conn, marks: map[string]*watermark{}}
	r.lateRows = c.often(20) && os.Getenv("LAASTER_NOLATE") == ""
	r.nulls = pick(c, 15, 15, 15, 0, 60)
	r.schema()
	for range 1 + c.n(4) {
		r.view()
	}
	r.steps = r.history()
	var kept []*viewCase
	for _, v := range r.views {
		v.bounded = true // first without allow_unbounded: then joins free what can have no match any more
		p, diags := sql.Compile("app.sql", []byte(r.app(append(kept[:len(kept):len(kept)], v))), nil)
		if p == nil {
			v.bounded = false
			p, diags = sql.Compile("app.sql", []byte(r.app(append(kept[:len(kept):len(kept)], v))), nil)
		}
		if p == nil {
			refused[diags[0].Msg]++
			for _, s := range v.seen {
				r.cover[s]--
			}
			if os.Getenv("LAASTER_REFUSED") != "" {
				t.Log(diags[0].Render())
			}
			continue
		}
		kept, r.prog = append(kept, v), p
	}
	if r.views = kept; len(kept) == 0 {
		return nil
	}
	if r.lateRows {
		r.see("late rows")
	}
	if r.diamond() {
		r.see("diamond")
	}
	return r
}

// diamond reports whether a view reads another one in two ways.
func (r *caseRun) diamond() bool {
	below := map[int]map[int]bool{} // by view, the views that it reads, at whatever depth
	found := false
	for _, v := range r.prog.Views {
		all := map[int]bool{v.Relation: true}
		walk(v.Root, func(p flow.Plan) {
			if s, ok := p.(*flow.Scan); ok {
				for w := range below[s.Relation] {
					found = found || all[w]
					all[w] = true
				}
			}
		})
		below[v.Relation] = all
	}
	return found
}

func (r *caseRun) start() error {
	var ddl strings.Builder
	ddl.WriteString("DROP SCHEMA IF EXISTS oracle CASCADE; CREATE SCHEMA oracle; SET search_path = oracle, pg_catalog; SET statement_timeout = 3000;\nCREATE TABLE clock (now timestamptz);\nINSERT INTO clock VALUES ('epoch');\nCREATE TABLE marks (name text, mark timestamptz);\n")
	for _, t := range r.tables {
		if t.timed() {
			r.marks[t.name] = newWatermark(t)
			fmt.Fprintf(&ddl, "INSERT INTO marks VALUES ('%s', NULL);\n", t.name)
		}
		ddl.WriteString(t.oracleDDL())
	}
	if _, err := r.conn.Exec(context.Background(), ddl.String(), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	for _, v := range r.views {
		if _, err := r.conn.Exec(context.Background(), fmt.Sprintf("CREATE VIEW %s AS %s", v.name, v.query(r.gen)), pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("PostgreSQL refuses %s: %w\n%s", v.name, err, r.there(v.sql))
		}
	}
	return r.begin(r.prog)
}

// begin makes a new engine.
func (r *caseRun) begin(p *flow.Program) (err error) {
	r.prog = p
	r.forget()
	r.engine, err = flow.New(r.prog, flow.Options{})
	r.seq = 0
	r.rows = make([]map[string]change.Row, len(r.prog.Relations))
	for i := range r.rows {
		r.rows[i] = map[string]change.Row{}
	}
	if err != nil {
		return err
	}
	return r.apply(base().UnixMicro()-1, change.Entry{Kind: change.EntryDefinition, Last: true, Body: r.prog.Catalog})
}

func (r *caseRun) apply(stamp int64, entries ...change.Entry) error {
	r.b.Reset()
	for i := range entries {
		if err := r.b.Add(&entries[i]); err != nil {
			return err
		}
	}
	r.seq++
	b := r.b.Seal(change.Header{Seq: r.seq, Stamp: stamp})
	b = b.Clone()
	epoch, err := r.engine.Apply(&b)
	if err != nil {
		return err
	}
	for _, o := range epoch.Outcomes {
		if len(o.Rejected) > 0 {
			return fmt.Errorf("a row was refused: %+v", o.Rejected[0])
		}
	}
	for _, d := range epoch.Deltas {
		for _, c := range d.Changes {
			if have := r.rows[d.Relation][string(c.Key)]; !bytes.Equal(have, c.Old) {
				return fmt.Errorf("%s: a change from a row that is not there", r.prog.Relations[d.Relation].Name)
			}
			if c.New == nil {
				delete(r.rows[d.Relation], string(c.Key))
			} else {
				r.rows[d.Relation][string(c.Key)] = c.New
			}
		}
	}
	return r.restart(stamp)
}

// entry is a step as the log has it.
func (r *caseRun) entry(s *step) (change.Entry, error) {
	var rules *expr.TableRules
	for _, rel := range r.prog.Relations {
		if rel.Name == s.table.name {
			rules = rel.Table
		}
	}
	e := change.Entry{Kind: change.EntryWrite, Op: s.op, Last: true, Table: rules.Catalog, Version: rules.Version}
	if s.op == change.OpDelete {
		e.Count, e.Body = 1, change.AppendRecord(nil, s.op, &change.Record{Filter: []byte(s.where[0])})
		return e, nil
	}
	given := bytes.Repeat([]byte{0xff}, (len(s.table.cols)+7)/8)
	if n := len(s.table.cols) % 8; n != 0 {
		given[len(given)-1] = 1<<n - 1
	}
	for _, row := range s.rows {
		vals := make([]change.Value, len(row))
		for i, c := range row {
			if c.null {
				vals[i] = change.Null()
				continue
			}
			v, _, err := expr.ParseText(rules.Layout.Type(i), []byte(c.text), nil)
			if err != nil {
				return e, err
			}
			vals[i] = v
		}
		rec := change.Record{Row: rules.Layout.Append(nil, vals)}
		switch s.op {
		case change.OpMerge:
			rec.Given = given
		case change.OpUpdate:
			rec.Filter, rec.Given = []byte(s.where[0]), make([]byte, len(given))
			for _, i := range s.given {
				rec.Given[i/8] |= 1 << (i % 8)
			}
		}
		e.Body = change.AppendRecord(e.Body, s.op, &rec)
		e.Count++
	}
	return e, nil
}

// oracle gives a step to PostgreSQL.
func (r *caseRun) oracle(s *step) error {
	var b strings.Builder
	fmt.Fprintf(&b, "UPDATE clock SET now = 'epoch'::timestamptz + %d * interval '1 microsecond';", s.stamp)
	for _, t := range r.tables {
		if t.ttl > 0 {
			fmt.Fprintf(&b, "DELETE FROM %s_all WHERE %s <= %d;", t.name, wrote, s.stamp-int64(t.ttl)*1_000_000)
		}
		if w := r.marks[t.name]; w != nil {
			w.begin(s.stamp)
		}
	}
	switch s.op {
	case change.OpDelete:
		fmt.Fprintf(&b, "DELETE FROM %s_all WHERE %s;", s.table.name, s.where[1])
	case change.OpUpdate:
		fmt.Fprintf(&b, "UPDATE %s_all SET %s = %d", s.table.name, wrote, s.stamp)
		for _, i := range s.given {
			fmt.Fprintf(&b, ", %s = %s", s.table.cols[i].name, s.rows[0][i].sql)
		}
		fmt.Fprintf(&b, " WHERE %s;", s.where[1])
	default:
		r.insert(&b, s)
	}
	for name, w := range r.marks {
		fmt.Fprintf(&b, "UPDATE marks SET mark = %s WHERE name = '%s';", w.sql(), name)
	}
	_, err := r.conn.Exec(context.Background(), b.String(), pgx.QueryExecModeSimpleProtocol)
	return err
}

func (r *caseRun) insert(b *strings.Builder, s *step) {
	for _, row := range s.rows {
		vals, sets := make([]string, len(row)), make([]string, len(row))
		for i, c := range row {
			vals[i], sets[i] = c.sql, s.table.cols[i].name+" = excluded."+s.table.cols[i].name
		}
		m := "NULL"
		if w := r.marks[s.table.name]; w != nil {
			m = w.sql()
			w.arrive(row, s.stamp)
		}
		fmt.Fprintf(b, "INSERT INTO %s_all VALUES (%s, %s, %d)", s.table.name, strings.Join(vals, ", "), m, s.stamp)
		if s.op == change.OpMerge {
			fmt.Fprintf(b, " ON CONFLICT (id) DO UPDATE SET %s, %s = excluded.%s", strings.Join(sets, ", "), wrote, wrote)
		}
		b.WriteString(";\n")
	}
}

// play runs the history and compares after each step; then it runs it again in other batches.
func (r *caseRun) play() error {
	if err := r.start(); err != nil {
		return err
	}
	for i := range r.steps {
		s := &r.steps[i]
		e, err := r.entry(s)
		if err != nil {
			return err
		}
		if err := r.apply(s.stamp, e); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if err := r.oracle(s); err != nil {
			return fmt.Errorf("step %d: PostgreSQL: %w", i, err)
		}
		if i+1 < len(r.steps) && r.steps[i+1].stamp == s.stamp && i%3 == 0 {
			continue // compared after the next one
		}
		failing := r.failing()
		for _, v := range r.views {
			if failing[v.name] { // what rows that fail do is TestErrors'
				r.cover["rows that fail"]++
				continue
			}
			if err := r.compare(v); err != nil {
				return fmt.Errorf("after step %d: %w", i, err)
			}
		}
	}
	return r.again()
}

// failing returns the views in which expressions failed on rows, and those that read them.
func (r *caseRun) failing() map[string]bool {
	out := map[string]bool{}
	for i, v := range r.engine.Stats().Views {
		if v.Errors > 0 || strings.Contains(v.Stopped, "the limit is") {
			out[v.Name] = true
		}
		walk(r.prog.Views[i].Root, func(p flow.Plan) {
			if s, ok := p.(*flow.Scan); ok && out[r.prog.Relations[s.Relation].Name] {
				out[v.Name] = true
			}
		})
	}
	return out
}

// compare holds one view against PostgreSQL.
func (r *caseRun) compare(v *viewCase) error {
	var rel *expr.Relation
	for _, x := range r.prog.Relations {
		if x.Name == v.name {
			rel = x
		}
	}
	var out bytes.Buffer
	if _, err := r.conn.PgConn().CopyTo(context.Background(), &out, "COPY (SELECT * FROM "+v.name+") TO STDOUT"); err != nil {
		r.cover["PostgreSQL fails"]++
		return nil // an error of a row there is a missing row here: nothing to compare
	}
	var want, got []string
	for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		if out.Len() == 0 {
			break
		}
		cells := strings.Split(line, "\t")
		for i := range cells {
			cells[i] = normal(v.cols[i].kind, uncopy(cells[i]))
		}
		want = append(want, strings.Join(cells, " | "))
	}
	for _, row := range r.rows[rel.ID] {
		cells := make([]string, len(v.cols))
		for i, c := range v.cols {
			cells[i] = `\N`
			if val := rel.Layout.Get(row, i); !val.Null {
				cells[i] = normal(c.kind, string(expr.AppendText(nil, rel.Columns[i].Type, val)))
			}
		}
		got = append(got, strings.Join(cells, " | "))
	}
	slices.Sort(want)
	slices.Sort(got)
	if slices.Equal(want, got) {
		return nil
	}
	return fmt.Errorf("%s differs\n  only here:       %s\n  only PostgreSQL: %s", v.name, strings.Join(without(got, want), "\n                   "),
		strings.Join(without(want, got), "\n                   "))
}

func without(a, b []string) (out []string) {
	count := map[string]int{}
	for _, x := range b {
		count[x]++
	}
	for _, x := range a {
		if count[x]--; count[x] < 0 && len(out) < 6 {
			out = append(out, x)
		}
	}
	return out
}

// uncopy undoes the escapes of COPY.
func uncopy(s string) string {
	if s == `\N` || !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r").Replace(s)
}

// normal gives equal values one text: a numeric may come with more zeros, a double with another last digit.
func normal(k kind, s string) string {
	switch {
	case s == `\N`:
	case k == numeric && strings.Contains(s, "."):
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
		if i := strings.IndexByte(s, '.'); i >= 0 && len(s) > i+13 {
			s = s[:i+13] // averages differ in how many digits they show
		}
	case k == double:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			if math.Abs(f) < 1e-12 {
				f = 0
			}
			s = strconv.FormatFloat(f, 'g', 9, 64)
		}
	}
	if s == "-0" {
		return "0"
	}
	return s
}

func (r *caseRun) describe() string {
	var b strings.Builder
	b.WriteString(r.app(r.views))
	ops := map[change.Op]string{change.OpInsert: "insert", change.OpMerge: "merge", change.OpDelete: "delete", change.OpUpdate: "update"}
	for i := range r.steps {
		s := &r.steps[i]
		fmt.Fprintf(&b, "-- step %d at %s: %s %s %s %v\n", i, time.UnixMicro(s.stamp).UTC().Format("15:04:05.000"), ops[s.op], s.table.name, s.where[0], s.given)
		for _, row := range s.rows {
			texts := make([]string, len(row))
			for j, c := range row {
				if texts[j] = "'" + c.text + "'"; c.null {
					texts[j] = "NULL"
				}
			}
			fmt.Fprintf(&b, "--   (%s)\n", strings.Join(texts, ", "))
		}
	}
	return b.String()
}

// TestOracle plays random cases. A failing one is shrunk and printed with its seed; LAASTER_SEED=<n> plays that one alone,
// LAASTER_FIRST and LAASTER_SEEDS name the first one and the end.
func TestOracle(t *testing.T) {
	conn := testkit.Postgres(t).Conn(t)
	first, last := uint64(0), uint64(2000)
	if testkit.Race() {
		last = 450
	}
	if testing.Short() {
		last = 60
	}
	if s := os.Getenv("LAASTER_SEEDS"); s != "" {
		last, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("LAASTER_FIRST"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		last = first + 1
	}
	cover, refused := map[string]int{}, map[string]int{}
	played := 0
	for seed := first; seed < last; seed++ {
		c := randomChoices(seed)
		runtime.GOMAXPROCS(1 + int(seed)%max(2, runtime.NumCPU()))
		r := newCase(t, conn, c, refused)
		if r == nil {
			continue
		}
		played++
		for _, v := range r.prog.Views {
			walk(v.Root, func(p flow.Plan) { countPlan(r.cover, p) })
		}
		if err := guarded(r); err != nil {
			t.Logf("seed %d: %v", seed, err)
			t.Fatal(shrunk(t, conn, c))
		}
		for k, n := range r.cover {
			cover[k] += n
		}
	}
	t.Logf("%d cases", played)
	report(t, played, cover, refused)
}

// guarded plays a case; a panic of the engine is a failure like another.
func guarded(r *caseRun) (err error) {
	defer r.forget()
	defer caught(&err)
	return r.play()
}

func shrunk(t *testing.T, conn *pgx.Conn, c *choices) string {
	t.Helper()
	text, why := "", ""
	shrink(c.list, 200, func(list []uint32) bool {
		r := newCase(t, conn, &choices{list: slices.Clone(list)}, map[string]int{})
		if r == nil {
			return false
		}
		err := guarded(r)
		if err == nil || strings.Contains(err.Error(), "PostgreSQL refuses") {
			return false
		}
		text, why = r.describe(), err.Error()
		return true
	})
	return "shrunk to:\n" + why + "\n" + text
}

func byCount(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return m[keys[i]] > m[keys[j]] || m[keys[i]] == m[keys[j]] && keys[i] < keys[j] })
	return keys
}
