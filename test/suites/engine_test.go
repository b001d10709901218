package suites

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
)

// single is the table that the expressions of a block are selected from: it has one row.
const single = "CREATE TABLE single (x integer);\n"

// view is one view of an app: a view block, or one line of an expressions block.
type view struct {
	name, options, query string
	refused              string // what the compiler says, "" when it accepts it
	rel                  *expr.Relation
}

// app is the tables and views of a feature, compiled. What the compiler refuses is left out.
type app struct {
	views []*view
	prog  *flow.Program
}

func compileApp(tables string, views []*view) (*app, error) {
	a := &app{views: views}
	for {
		src := tables + single
		from := make([]int, len(views)) // first line of each
		for i, v := range views {
			if v.refused == "" {
				from[i] = strings.Count(src, "\n") + 1
				src += fmt.Sprintf("CREATE MATERIALIZED VIEW %s %s AS\n%s;\n", v.name, v.options, v.query)
			}
		}
		var diags []sql.Diagnostic
		if a.prog, diags = sql.Compile("app.sql", []byte(src), nil); a.prog != nil {
			return a, a.relations()
		}
		if !blame(views, from, diags) {
			return nil, fmt.Errorf("%s", sql.Render(diags))
		}
	}
}

// blame gives each error to the view whose text has it, and reports whether there was any.
func blame(views []*view, from []int, diags []sql.Diagnostic) (any bool) {
	for _, d := range diags {
		owner := -1
		for i := range views {
			if from[i] > 0 && from[i] <= d.Line {
				owner = i
			}
		}
		if owner < 0 || d.Severity != sql.Error || strings.HasPrefix(d.Msg, "too many errors") {
			continue
		}
		if v := views[owner]; v.refused == "" {
			v.refused, any = d.Msg, true
		}
	}
	return any
}

func (a *app) relations() error {
	for _, v := range a.views {
		for _, r := range a.prog.Relations {
			if r.Name == v.name && v.refused == "" {
				v.rel = r
			}
		}
		if v.rel == nil && v.refused == "" {
			return fmt.Errorf("there is no relation %s", v.name)
		}
	}
	return nil
}

func (a *app) table(name string) (*expr.Relation, error) {
	for _, r := range a.prog.Relations {
		if r.Name == name && r.Table != nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("no table %q", name)
}

// engine is an app under way.
type engine struct {
	*app
	e    *flow.Engine
	b    change.Builder
	seq  uint64
	rows []map[string]change.Row // by relation and key
}

func newEngine(a *app) (*engine, error) {
	e, err := flow.New(a.prog, flow.Options{})
	if err != nil {
		return nil, err
	}
	n := &engine{app: a, e: e, rows: make([]map[string]change.Row, len(a.prog.Relations))}
	for i := range n.rows {
		n.rows[i] = map[string]change.Row{}
	}
	start := begin().Add(-time.Second).UnixMicro()
	if err := n.apply(start, change.Entry{Kind: change.EntryDefinition, Last: true, Body: a.prog.Catalog}); err != nil {
		return nil, err
	}
	s, err := parseStatement(a, "INSERT INTO single VALUES (1)")
	if err != nil {
		return nil, err
	}
	return n, n.apply(start, s.entries()...)
}

// begin is the time of a feature's first batch.
func begin() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }

func (n *engine) apply(stamp int64, entries ...change.Entry) error {
	n.b.Reset()
	for i := range entries {
		if err := n.b.Add(&entries[i]); err != nil {
			return err
		}
	}
	n.seq++
	sealed := n.b.Seal(change.Header{Seq: n.seq, Stamp: stamp})
	batch := sealed.Clone()
	epoch, err := n.e.Apply(&batch)
	if err != nil {
		return err
	}
	for _, o := range epoch.Outcomes {
		if len(o.Rejected) > 0 {
			return fmt.Errorf("a row was refused: %+v", o.Rejected[0])
		}
	}
	if len(epoch.Stopped) > 0 {
		return fmt.Errorf("a view stopped: %s", epoch.Stopped[0].Reason)
	}
	for _, d := range epoch.Deltas {
		rows := n.rows[d.Relation]
		for _, c := range d.Changes {
			if !bytes.Equal(rows[string(c.Key)], c.Old) {
				return fmt.Errorf("%s: a change of a row that is not what it was", n.prog.Relations[d.Relation].Name)
			}
			if c.New == nil {
				delete(rows, string(c.Key))
			} else {
				rows[string(c.Key)] = c.New
			}
		}
	}
	return nil
}

// contents returns the lines of a view: its rows, and why rows are missing from it.
func (n *engine) contents(v *view) []string {
	var out []string
	cols := v.rel.Columns
	if v.rel.Copies {
		cols = cols[:len(cols)-1]
	}
	for _, row := range n.rows[v.rel.ID] {
		cells := make([]string, len(cols))
		for i, c := range cols {
			if val := v.rel.Layout.Get(row, i); val.Null {
				cells[i] = "NULL"
			} else {
				cells[i] = shown(string(expr.AppendText(nil, c.Type, val)))
			}
		}
		out = append(out, strings.Join(cells, " | "))
	}
	sortLines(out)
	var notes []string
	for row := range n.system(n.prog.Errors, v.name, 0) {
		notes = append(notes, "error: "+row(2))
	}
	for row := range n.system(n.prog.Late, v.name, 1) {
		notes = append(notes, "late: "+row(6))
	}
	slices.Sort(notes)
	return append(out, slices.Compact(notes)...)
}

// system goes through the rows of a system relation that are about a view; column at has its name.
func (n *engine) system(rel int, name string, at int) func(func(func(int) string) bool) {
	return func(yield func(func(int) string) bool) {
		r := n.prog.Relations[rel]
		for _, row := range n.rows[rel] {
			get := func(i int) string { return string(expr.AppendText(nil, r.Columns[i].Type, r.Layout.Get(row, i))) }
			if get(at) == name && !yield(get) {
				return
			}
		}
	}
}

// shown is a value's text in a script.
func shown(s string) string {
	if s == "" {
		return `""`
	}
	return strings.NewReplacer("\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s)
}

// sortLines orders rows by their cells, numbers by their size.
func sortLines(lines []string) {
	slices.SortFunc(lines, func(a, b string) int {
		x, y := strings.Split(a, " | "), strings.Split(b, " | ")
		for i := range min(len(x), len(y)) {
			if x[i] == y[i] {
				continue
			}
			f, err1 := strconv.ParseFloat(x[i], 64)
			g, err2 := strconv.ParseFloat(y[i], 64)
			switch {
			case err1 == nil && err2 == nil && f < g:
				return -1
			case err1 == nil && err2 == nil && f > g:
				return 1
			case err1 == nil && err2 != nil:
				return -1
			case err1 != nil && err2 == nil:
				return 1
			}
			return strings.Compare(x[i], y[i])
		}
		return len(x) - len(y)
	})
}
