package flow_test

import (
	"fmt"
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

// setOps makes two keyed tables of a text and a number, with NULLs, and every set operation over them.
func setOps(number string) (*flow.Program, []string) {
	p := newProgram()
	var in []flow.Plan
	for _, name := range []string{"l", "r"} {
		t := p.table(name, []int{0}, false, true, "id bigint not null", "s text", "n "+number)
		in = append(in, &flow.Project{In: t, Exprs: []*expr.Node{expr.Column(1, app.Text, -1), expr.Column(2, t.Types[2], -1)}})
	}
	var queries []string
	for i, op := range []string{"INTERSECT", "EXCEPT"} {
		for _, all := range []bool{false, true} {
			p.view(fmt.Sprint(op, all), nil, &flow.SetOp{Op: flow.SetOpKind(i), All: all, L: in[0], R: in[1]})
			queries = append(queries, "SELECT s, n FROM l "+op+map[bool]string{true: " ALL"}[all]+" SELECT s, n FROM r")
		}
	}
	return &p.p, queries
}

// TestSetOps compares INTERSECT and EXCEPT, with and without ALL, with PostgreSQL's while rows of both sides come and go, also in one batch. Numbers
// come in several forms: they count as one value, shown in the form of the left side whose bytes come first.
func TestSetOps(t *testing.T) {
	conn := testkit.Postgres(t).Schema(t)
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 41))
		number, values := "integer", []string{"1", "2", "NULL"}
		if seed%2 == 1 {
			number, values = "numeric", []string{"1", "1.0", "1.00", "2", "NULL"}
		}
		p, queries := setOps(number)
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("DROP TABLE IF EXISTS l, r; CREATE TABLE l (id bigint, s text, n %s); CREATE TABLE r (id bigint, s text, n %s)", number, number),
			pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		d := newDriver(t, p, flow.Options{})
		for step := range 60 {
			var entries []change.Entry
			var sql []string
			for range 1 + rnd.IntN(5) {
				side, id := rnd.IntN(2), rnd.IntN(12)
				name := []string{"l", "r"}[side]
				sql = append(sql, fmt.Sprintf("DELETE FROM %s WHERE id = %d", name, id))
				if rnd.IntN(3) == 0 {
					entries = append(entries, records(uint32(side+1), change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=eq.%d", id)}))
					continue
				}
				s, n := []string{"a", "b", "NULL"}[rnd.IntN(3)], values[rnd.IntN(len(values))]
				entries = append(entries, records(uint32(side+1), change.OpMerge, change.Record{Given: []byte{7},
					Row: row(t, p.Relations[side].Layout, fmt.Sprintf("%d|%s|%s", id, s, n))}))
				sql = append(sql, fmt.Sprintf("INSERT INTO %s VALUES (%d, NULLIF('%s', 'NULL'), %s)", name, id, s, n))
			}
			d.apply(entries...)
			if _, err := conn.Exec(t.Context(), strings.Join(sql, ";"), pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			for i, q := range queries {
				compareSetOp(t, d, conn, 2+i, q, step)
			}
		}
		again := newDriver(t, p, flow.Options{})
		for side := range 2 {
			for _, r := range d.rows[side] { // any order
				again.apply(records(uint32(side+1), change.OpInsert, change.Record{Row: r}))
			}
		}
		for i := range queries {
			if got, want := again.table(2+i), d.table(2+i); got != want {
				t.Fatalf("seed %d: %s built anew is\n%swhere it was\n%s", seed, queries[i], got, want)
			}
		}
	}
}

func compareSetOp(t *testing.T, d *driver, conn *pgx.Conn, rel int, query string, step int) {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), query).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	plain := func(s string) string { // a number without the digits that only its form has
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	var want, got []string
	for _, r := range results[0].Rows {
		want = append(want, cellText(r[0])+"|"+plain(cellText(r[1])))
	}
	l := d.p.Relations[rel].Layout
	for _, r := range d.rows[rel] {
		got = append(got, showValue(l.Type(0), l.Get(r, 0))+"|"+plain(showValue(l.Type(1), l.Get(r, 1))))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("step %d: %s is\n  %s\nwhere PostgreSQL has\n  %s", step, query, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
