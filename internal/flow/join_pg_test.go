package flow_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// joinTables: a and b come and go, c is only appended to. All have the same columns.
var joinTables = []string{"a", "b", "c"}

const joinColumns = "id bigint not null, k integer, v bigint, s text"

// joinViews are joins with their queries.
type joinViews struct {
	t       *testing.T
	p       *programOf
	scans   map[string]*flow.Scan
	queries []string
	rows    int // that compare has seen
}

func (j *joinViews) must(n *expr.Node, err error) *expr.Node {
	j.t.Helper()
	if err != nil {
		j.t.Fatal(err)
	}
	return n
}

func (j *joinViews) view(kind flow.JoinKind, l, r, on, onText string) {
	types := []app.Type{app.Int8, app.Int4, app.Int8, app.Text}
	col := func(c int) *expr.Node { return expr.Column(c, types[c%4], -1) }
	p := &flow.Join{Kind: kind, L: j.scans[l], R: j.scans[r]}
	var conds []*expr.Node
	for _, term := range strings.Fields(on) {
		switch term {
		case "k":
			p.LKeys, p.RKeys, p.NullSafe = append(p.LKeys, col(1)), append(p.RKeys, col(1)), append(p.NullSafe, false)
		case "s":
			p.LKeys, p.RKeys, p.NullSafe = append(p.LKeys, col(3)), append(p.RKeys, col(3)), append(p.NullSafe, true)
		case "between":
			hi := j.must(expr.Operator("+", []*expr.Node{col(6), expr.Const(app.Int8, change.Int(4), -1)}, -1))
			conds = append(conds, j.must(expr.Between(col(2), col(6), hi, false, false, -1)))
		default:
			conds = append(conds, j.must(expr.Operator(term, []*expr.Node{col(2), col(6)}, -1)))
		}
	}
	if len(conds) > 0 {
		p.Cond = j.must(expr.And(conds, -1))
	}
	j.p.view(fmt.Sprintf("v%d", len(j.queries)), nil, p)
	switch word := [...]string{"INNER", "LEFT", "RIGHT", "FULL", "EXISTS", "NOT EXISTS"}[kind]; kind {
	case flow.SemiJoin, flow.AntiJoin:
		j.queries = append(j.queries, fmt.Sprintf("SELECT l.* FROM %s l WHERE %s (SELECT FROM %s r WHERE %s)", l, word, r, onText))
	default:
		j.queries = append(j.queries, fmt.Sprintf("SELECT l.*, r.* FROM %s l %s JOIN %s r ON %s", l, word, r, onText))
	}
}

func newJoinViews(t *testing.T) *joinViews {
	j := &joinViews{t: t, p: newProgram(), scans: map[string]*flow.Scan{}}
	for i, name := range joinTables {
		j.scans[name] = j.p.table(name, []int{0}, i == 2, i < 2, strings.Split(joinColumns, ", ")...)
	}
	ons := map[string]string{"k": "l.k = r.k", "k s": "l.k = r.k AND (l.s = r.s OR l.s IS NULL AND r.s IS NULL)", "k <=": "l.k = r.k AND l.v <= r.v",
		"k between": "l.k = r.k AND l.v BETWEEN r.v AND r.v + 4", "k <>": "l.k = r.k AND l.v <> r.v"}
	for kind := flow.InnerJoin; kind <= flow.AntiJoin; kind++ {
		for _, on := range slices.Sorted(maps.Keys(ons)) {
			text := ons[on]
			if kind == flow.FullJoin && on == "k s" {
				continue // PostgreSQL has no full join on such a condition
			}
			j.view(kind, "a", "b", on, text)
			j.view(kind, "c", "b", on, text)
			j.view(kind, "a", "c", on, text)
		}
	}
	j.view(flow.InnerJoin, "a", "b", "=", "l.v = r.v")
	j.view(flow.LeftJoin, "c", "a", ">", "l.v > r.v")
	j.view(flow.InnerJoin, "b", "a", "", "true")
	return j
}

// changes makes a few requests and their statements.
func (j *joinViews) changes(rnd *rand.Rand, l *change.Layout, next *int) (entries []change.Entry, sql []string) {
	cell := func(text string) string {
		if rnd.IntN(6) == 0 {
			return "NULL"
		}
		return text
	}
	for range 1 + rnd.IntN(12) {
		table, id := rnd.IntN(3), rnd.IntN(40)
		if table == 2 {
			id = *next
			*next++
		}
		name := joinTables[table]
		if table < 2 && rnd.IntN(3) == 0 {
			entries = append(entries, records(uint32(table+1), change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=eq.%d", id)}))
			sql = append(sql, fmt.Sprintf("DELETE FROM %s WHERE id = %d", name, id))
			continue
		}
		cells := []string{fmt.Sprint(id), cell(fmt.Sprint(rnd.IntN(3))), cell(fmt.Sprint(rnd.IntN(20))), cell(string(rune('x' + rnd.IntN(2))))}
		op := change.OpMerge
		if table == 2 {
			op = change.OpInsert
		}
		entries = append(entries, records(uint32(table+1), op, change.Record{Row: row(j.t, l, strings.Join(cells, "|")), Given: []byte{0xff}}))
		if cells[3] != "NULL" {
			cells[3] = "'" + cells[3] + "'"
		}
		sql = append(sql, fmt.Sprintf("DELETE FROM %s WHERE id = %d", name, id), fmt.Sprintf("INSERT INTO %s VALUES (%s)", name, strings.Join(cells, ", ")))
	}
	return entries, sql
}

// compare holds each view against its query.
func (j *joinViews) compare(d *driver, pg *pgx.Conn, step int) {
	j.t.Helper()
	for v, query := range j.queries {
		results, err := pg.PgConn().Exec(j.t.Context(), query).ReadAll()
		if err != nil {
			j.t.Fatalf("PostgreSQL: %v: %s", err, query)
		}
		var want, got []string
		for _, r := range results[0].Rows {
			cells := make([]string, len(r))
			for i := range r {
				cells[i] = cellText(r[i])
			}
			want = append(want, strings.Join(cells, "|"))
		}
		rel := d.p.Relations[len(joinTables)+v]
		for _, r := range d.rows[rel.ID] {
			text := d.show(rel, r)
			got = append(got, text[:strings.LastIndexByte(text, '|')])
		}
		j.rows += len(want)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			j.t.Fatalf("step %d: %s\ngot\n%s\nwant\n%s", step, query, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestJoinsOracle compares joins of every kind with PostgreSQL, and two engines that take the same requests in other batches.
func TestJoinsOracle(t *testing.T) {
	pg := testkit.Postgres(t).Schema(t)
	for seed := range uint64(2) {
		j := newJoinViews(t)
		create := ""
		for _, name := range joinTables {
			create += "DROP TABLE IF EXISTS " + name + "; CREATE TABLE " + name + " (" + joinColumns + ");"
		}
		if _, err := pg.Exec(t.Context(), create, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		d, other := newDriver(t, &j.p.p, flow.Options{}), newDriver(t, &j.p.p, flow.Options{})
		rnd := rand.New(rand.NewPCG(seed, 41))
		next := 1
		for step := range 25 {
			entries, sql := j.changes(rnd, j.p.p.Relations[0].Layout, &next)
			d.apply(entries...)
			for len(entries) > 0 {
				n := 1 + rnd.IntN(len(entries))
				other.applyAt(d.stamp, entries[:n]...)
				entries = entries[n:]
			}
			if d.e.Fingerprint() != other.e.Fingerprint() {
				t.Fatalf("step %d: other batches, another state", step)
			}
			if _, err := pg.Exec(t.Context(), strings.Join(sql, "; "), pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			j.compare(d, pg, step)
		}
		if j.rows < 50_000 {
			t.Fatalf("a history of %d rows says little", j.rows)
		}
	}
}
