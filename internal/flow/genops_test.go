package flow_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// genOp is one write request, for the engine and for PostgreSQL: one statement per record; an atomic request is one
// statement of several.
type genOp struct {
	entry change.Entry
	table *genTable
	sql   []string
}

// op makes a request against some table.
func (g *genApp) op(t testing.TB, p *flow.Program) genOp {
	tab := g.tables[g.rnd.IntN(len(g.tables))]
	rel := relationNamed(t, p, tab.name)
	if !tab.appendOnly && g.chance(3) {
		return g.filtered(tab, rel)
	}
	o := genOp{table: tab}
	op := change.OpInsert
	if !tab.appendOnly {
		op = pick(g, change.OpInsert, change.OpIgnore, change.OpMerge, change.OpMerge)
	}
	var recs []change.Record
	for range 1 + g.rnd.IntN(4) {
		rec, sql := g.record(t, tab, rel, op)
		recs, o.sql = append(recs, rec), append(o.sql, sql)
	}
	o.entry = records(rel.Table.Catalog, op, recs...)
	o.entry.Version = rel.Table.Version
	if g.chance(3) {
		o.entry.Atomic = true
		o.sql = []string{strings.Join(o.sql, "; ")}
	}
	return o
}

func relationNamed(t testing.TB, p *flow.Program, name string) *expr.Relation {
	for _, r := range p.Relations {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no relation %s", name)
	return nil
}

// record makes one row for an operation. Rows of a merge give only some columns and may break constraints; the others have
// passed the door's checks.
func (g *genApp) record(t testing.TB, tab *genTable, rel *expr.Relation, op change.Op) (change.Record, string) {
	vals := make([]change.Value, len(tab.cols))
	given := make([]byte, (len(tab.cols)+7)/8)
	var names, cells, sets, where []string
	for i, c := range tab.cols {
		vals[i] = change.Null()
		key := isKey(tab, i)
		if op == change.OpMerge && !key && g.chance(3) {
			continue
		}
		given[i/8] |= 1 << (i % 8)
		text, cell := g.cell(tab, c, op == change.OpMerge)
		if text != nil {
			v, _, err := expr.ParseText(c.typ, []byte(*text), nil)
			if err != nil {
				t.Fatalf("%s %q: %v", c.typ, *text, err)
			}
			vals[i] = v
		}
		names, cells = append(names, c.name), append(cells, cell)
		if key {
			where = append(where, c.name+" = "+cell)
		} else {
			sets = append(sets, c.name+" = "+cell)
		}
	}
	rec := change.Record{Row: rel.Table.Layout.Append(nil, vals), Given: given}
	insert := fmt.Sprintf("INSERT INTO %s (%s) ", tab.name, strings.Join(names, ", "))
	switch {
	case op == change.OpMerge:
		if len(sets) == 0 {
			sets = []string{tab.cols[tab.pk[0]].name + " = " + tab.cols[tab.pk[0]].name}
		}
		return rec, fmt.Sprintf("WITH u AS (UPDATE %s SET %s WHERE %s RETURNING 1) %sSELECT %s WHERE NOT EXISTS (SELECT FROM u)",
			tab.name, strings.Join(sets, ", "), strings.Join(where, " AND "), insert, strings.Join(cells, ", "))
	case op == change.OpIgnore || tab.appendOnly:
		return rec, insert + "VALUES (" + strings.Join(cells, ", ") + ") ON CONFLICT DO NOTHING"
	}
	return rec, insert + "VALUES (" + strings.Join(cells, ", ") + ")"
}

func isKey(tab *genTable, i int) bool {
	for _, k := range tab.pk {
		if k == i {
			return true
		}
	}
	return false
}

// cell makes a value as text (nil: NULL) and as SQL.
func (g *genApp) cell(tab *genTable, c genColumn, wild bool) (*string, string) {
	if g.chance(5) && (!c.notNull || wild && g.chance(3) && !isKeyName(tab, c.name)) {
		return nil, "NULL"
	}
	text := g.value(c.typ)
	if !wild && strings.HasPrefix(tab.check, c.name+" ") && strings.HasPrefix(text, "-") {
		text = text[1:]
		if len(text) > 10 {
			text = "1"
		}
	}
	return &text, "'" + strings.ReplaceAll(text, "'", "''") + "'::" + c.typ.String()
}

func isKeyName(tab *genTable, name string) bool {
	for _, k := range tab.pk {
		if tab.cols[k].name == name {
			return true
		}
	}
	return false
}

// filtered makes an update or a delete.
func (g *genApp) filtered(tab *genTable, rel *expr.Relation) genOp {
	query, where := g.filter(tab)
	rec := change.Record{Filter: []byte(query)}
	if g.chance(2) {
		return genOp{entry: g.one(rel, change.OpDelete, rec), table: tab, sql: []string{"DELETE FROM " + tab.name + " WHERE " + where}}
	}
	vals := make([]change.Value, len(tab.cols))
	rec.Given = make([]byte, (len(tab.cols)+7)/8)
	var sets []string
	for i, c := range tab.cols {
		vals[i] = change.Null()
		if isKey(tab, i) || !g.chance(3) && len(sets) > 0 {
			continue
		}
		rec.Given[i/8] |= 1 << (i % 8)
		text, cell := g.cell(tab, c, true)
		if text != nil {
			vals[i], _, _ = expr.ParseText(c.typ, []byte(*text), nil)
		}
		sets = append(sets, c.name+" = "+cell)
	}
	rec.Row = rel.Table.Layout.Append(nil, vals)
	return genOp{entry: g.one(rel, change.OpUpdate, rec), table: tab,
		sql: []string{"UPDATE " + tab.name + " SET " + strings.Join(sets, ", ") + " WHERE " + where}}
}

func (g *genApp) one(rel *expr.Relation, op change.Op, rec change.Record) change.Entry {
	en := records(rel.Table.Catalog, op, rec)
	en.Version = rel.Table.Version
	return en
}

// filter makes a PostgREST filter and the same condition in SQL.
func (g *genApp) filter(tab *genTable) (query, where string) {
	if g.chance(3) { // one row by its key
		var q, w []string
		for _, k := range tab.pk {
			c := tab.cols[k]
			v := g.value(c.typ)
			q = append(q, c.name+"=eq."+url.QueryEscape(v))
			w = append(w, c.name+" = '"+strings.ReplaceAll(v, "'", "''")+"'::"+c.typ.String())
		}
		return strings.Join(q, "&"), strings.Join(w, " AND ")
	}
	var q, w []string
	for range 1 + g.rnd.IntN(2) {
		a, b := g.term(tab)
		q, w = append(q, a), append(w, b)
	}
	return strings.Join(q, "&"), strings.Join(w, " AND ")
}

func (g *genApp) term(tab *genTable) (query, where string) {
	c := tab.cols[g.rnd.IntN(len(tab.cols))]
	not, sqlNot := "", ""
	if g.chance(4) {
		not, sqlNot = "not.", "NOT "
	}
	if g.chance(4) {
		return c.name + "=" + not + "is.null", sqlNot + "(" + c.name + " IS NULL)"
	}
	v := g.value(c.typ)
	lit := "'" + strings.ReplaceAll(v, "'", "''") + "'::" + c.typ.String()
	op, sqlOp := "eq", "="
	if c.typ != app.JSONB {
		ops := [][2]string{{"eq", "="}, {"neq", "<>"}, {"lt", "<"}, {"lte", "<="}, {"gt", ">"}, {"gte", ">="}}
		o := ops[g.rnd.IntN(len(ops))]
		op, sqlOp = o[0], o[1]
	}
	return c.name + "=" + not + op + "." + url.QueryEscape(v), sqlNot + "(" + c.name + " " + sqlOp + " " + lit + ")"
}
