package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/internal/view"
)

// mostExamples is how many rows of each kind a comparison shows of one view.
const mostExamples = 20

// Comparison is what another definition makes of the same history.
type Comparison struct {
	Position string         `json:"position"`
	Time     string         `json:"time"`    // RFC 3339
	With     string         `json:"with"`    // the other app folder
	Differs  bool           `json:"differs"` // something is not the same
	Views    []ViewCompared `json:"views"`   // those that differ first, then by name
}

// ViewCompared is one view, or readable table, under both definitions. Here is the history's own, there the other one.
type ViewCompared struct {
	Name    string `json:"name"`
	Only    string `json:"only,omitempty"` // here or there: the other definition has no such view
	Note    string `json:"note,omitempty"` // what makes rows hard to compare
	Here    int    `json:"rows_here"`
	There   int    `json:"rows_there"`
	Missing int    `json:"only_here"` // rows whose key is not there
	Added   int    `json:"only_there"`
	Changed int    `json:"changed"`
	// The first of each, in the order of keys.
	MissingRows []json.RawMessage `json:"only_here_rows,omitempty"`
	AddedRows   []json.RawMessage `json:"only_there_rows,omitempty"`
	ChangedRows []ChangedRow      `json:"changed_rows,omitempty"`
}

// ChangedRow is a row under both definitions.
type ChangedRow struct {
	Here  json.RawMessage `json:"here"`
	There json.RawMessage `json:"there"`
}

func (v *ViewCompared) differs() bool { return v.Only != "" || v.Missing+v.Added+v.Changed > 0 }

// Compare runs the app.sql of the folder dir over the same history and says which rows differ.
func (h *History) Compare(ctx context.Context, dir string) (*Comparison, error) {
	file, src, err := readApp(dir)
	if err != nil {
		return nil, err
	}
	prev, err := sql.ParseCatalog(h.n.program.Load().Catalog)
	if err != nil {
		return nil, err
	}
	program, found := sql.CompileFiles(file, src, prev, AppFiles(dir))
	if program == nil {
		return nil, &AppError{found}
	}
	if verdict, differences := sql.Compare(prev, program); verdict == sql.Refused && !sql.Forcible(differences) {
		return nil, refusedChange(differences)
	}
	other := h.newNode(ctx)
	defer other.leave()
	other.shard, other.checkpoints, other.keys = h.n.shard, h.n.checkpoints, h.n.keys
	if err := other.rerun(ctx, program); err != nil {
		return nil, err
	}
	c := &Comparison{Position: h.Position(), Time: h.Time().Format(time.RFC3339Nano), With: dir, Views: []ViewCompared{}}
	for _, name := range names(h.n.program.Load(), program) {
		v, err := compareViews(ctx, name, h.n, other)
		if err != nil {
			return nil, err
		}
		c.Views = append(c.Views, *v)
		c.Differs = c.Differs || v.differs()
	}
	slices.SortStableFunc(c.Views, func(a, b ViewCompared) int {
		switch {
		case a.differs() == b.differs():
			return 0
		case a.differs():
			return -1
		}
		return 1
	})
	return c, nil
}

// rerun makes the state that a program would have at the head of the log had it always been the app.
func (n *Node) rerun(ctx context.Context, program *flow.Program) error {
	n.program.Store(program)
	first := n.shard.First()
	if first <= 1 {
		return n.replay(ctx)
	}
	list := n.checkpoints.List()
	for i := len(list) - 1; i >= 0; i-- { // the oldest: the more of the log is behind it
		if n.usable(&list[i]) != nil {
			continue
		}
		state, err := n.checkpoints.Peek(list[i])
		if err != nil {
			n.fellBack(list[i], err)
			continue
		}
		p, err := n.readPast(state)
		if err != nil {
			return err
		}
		epoch := (*change.Epoch)(nil)
		if n.engine, epoch, err = p.tables(program, n.engineOptions()); err != nil {
			return err
		}
		n.slots, n.store = identity(len(program.Relations)), view.New(program.Relations, n.viewOptions())
		n.store.Apply(epoch)
		return n.rerunBehind(ctx, state.Header().Seq, state.Header().Digest, state.Header().Stamp)
	}
	return fmt.Errorf("the log begins at batch %d, and no checkpoint can be used to begin with", first)
}

// rerunBehind applies the rest of the log, whatever definitions are in it.
func (n *Node) rerunBehind(ctx context.Context, seq uint64, digest change.Digest, stamp int64) error {
	n.store.Start(seq, stamp)
	p := newProgress(n.opt.Progress, n.opt.Clock, n.shard.Head()-seq)
	defer p.done()
	return n.shard.ReplayAfter(ctx, seq, digest, stamp, func(b *change.Batch) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		epoch, err := n.engine.Apply(b)
		if err != nil {
			return fmt.Errorf("batch %d: %w", b.Header().Seq, err)
		}
		n.store.Apply(epoch)
		p.at(b.Header().Seq - seq)
		return nil
	})
}

// names lists the relations of two programs.
func names(a, b *flow.Program) []string {
	var out []string
	for _, p := range [2]*flow.Program{a, b} {
		for _, r := range p.Relations {
			out = append(out, r.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// relation returns a relation by name and where its rows are; nil when the app has none.
func (n *Node) relation(name string) (*expr.Relation, int) {
	for i, r := range n.program.Load().Relations {
		if r.Name == name {
			return r, n.slots[i]
		}
	}
	return nil, 0
}

func compareViews(ctx context.Context, name string, here, there *Node) (*ViewCompared, error) {
	a, slotA := here.relation(name)
	b, slotB := there.relation(name)
	v := &ViewCompared{Name: name}
	var rowsA, rowsB *view.Snapshot
	if a != nil {
		rowsA = here.store.Snapshot(slotA)
		v.Here = rowsA.Len(slotA)
	}
	if b != nil {
		rowsB = there.store.Snapshot(slotB)
		v.There = rowsB.Len(slotB)
	}
	switch {
	case a == nil:
		v.Only = "there"
	case b == nil:
		v.Only = "here"
	default:
		w := &comparing{v: v, ctx: ctx, a: a, b: b, sameColumns: sameColumns(a, b, all(a), all(b))}
		if !sameColumns(a, b, a.Key, b.Key) {
			v.Note = "its key is another one there: rows are compared as a whole"
			return v, w.whole(rowsA, slotA, rowsB, slotB)
		}
		return v, w.merge(rowsA, slotA, rowsB, slotB)
	}
	return v, nil
}

func all(r *expr.Relation) []int { return identity(len(r.Columns)) }

// sameColumns reports whether columns of two relations have the same names and types, in order.
func sameColumns(a, b *expr.Relation, x, y []int) bool {
	return slices.EqualFunc(x, y, func(i, j int) bool {
		return a.Columns[i].Name == b.Columns[j].Name && a.Columns[i].Type == b.Columns[j].Type
	})
}

// comparing goes over the rows of one view under two definitions.
type comparing struct {
	v           *ViewCompared
	ctx         context.Context
	a, b        *expr.Relation
	sameColumns bool
	rows        int
}

type keyedRow struct {
	key []byte
	row change.Row
}

// allRows passes on the rows of a relation.
func allRows(s *view.Snapshot, slot int) iter.Seq[keyedRow] {
	return func(yield func(keyedRow) bool) {
		s.Ascend(slot, nil, func(key []byte, row change.Row) bool { return yield(keyedRow{key, row}) })
	}
}

// merge goes through both in the order of keys.
func (w *comparing) merge(here *view.Snapshot, slotA int, there *view.Snapshot, slotB int) error {
	nextA, stopA := iter.Pull(allRows(here, slotA))
	defer stopA()
	nextB, stopB := iter.Pull(allRows(there, slotB))
	defer stopB()
	x, okA := nextA()
	y, okB := nextB()
	for okA || okB {
		if w.rows++; w.rows%1024 == 0 && w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		order := 0
		switch {
		case !okB:
			order = -1
		case !okA:
			order = 1
		default:
			order = bytes.Compare(x.key, y.key)
		}
		switch {
		case order < 0:
			w.missing(x.row)
		case order > 0:
			w.added(y.row)
		case !w.same(x.row, y.row):
			w.changed(x.row, y.row)
		}
		if order <= 0 {
			x, okA = nextA()
		}
		if order >= 0 {
			y, okB = nextB()
		}
	}
	return nil
}

// whole compares rows by all that is in them, as often as they are there.
func (w *comparing) whole(here *view.Snapshot, slotA int, there *view.Snapshot, slotB int) error {
	times := map[string]int{}
	for r := range allRows(here, slotA) {
		times[string(render(w.a, r.row))]++
	}
	for r := range allRows(there, slotB) {
		text := render(w.b, r.row)
		if times[string(text)] > 0 {
			times[string(text)]--
			continue
		}
		w.added(r.row)
	}
	for r := range allRows(here, slotA) {
		text := string(render(w.a, r.row))
		if times[text] > 0 {
			times[text]--
			w.missing(r.row)
		}
	}
	return w.ctx.Err()
}

func (w *comparing) same(x, y change.Row) bool {
	if w.sameColumns {
		return bytes.Equal(x, y)
	}
	return bytes.Equal(render(w.a, x), render(w.b, y))
}

func (w *comparing) missing(row change.Row) {
	if w.v.Missing++; w.v.Missing <= mostExamples {
		w.v.MissingRows = append(w.v.MissingRows, render(w.a, row))
	}
}

func (w *comparing) added(row change.Row) {
	if w.v.Added++; w.v.Added <= mostExamples {
		w.v.AddedRows = append(w.v.AddedRows, render(w.b, row))
	}
}

func (w *comparing) changed(x, y change.Row) {
	if w.v.Changed++; w.v.Changed <= mostExamples {
		w.v.ChangedRows = append(w.v.ChangedRows, ChangedRow{render(w.a, x), render(w.b, y)})
	}
}

// render prints a row as a JSON object.
func render(rel *expr.Relation, row change.Row) json.RawMessage {
	b := []byte{'{'}
	for i, c := range rel.Columns {
		if i > 0 {
			b = append(b, ", "...)
		}
		name, _ := json.Marshal(c.Name)
		b = append(append(b, name...), ": "...)
		if v := rel.Layout.Get(row, i); v.Null {
			b = append(b, "null"...)
		} else {
			b = expr.AppendJSON(b, c.Type, v, true)
		}
	}
	return append(b, '}')
}

// Print writes the comparison for people.
func (c *Comparison) Print(out io.Writer) {
	fmt.Fprintf(out, "%s (%s), here as it was, there with %s\n", c.Position, c.Time, c.With)
	same := 0
	for i := range c.Views {
		v := &c.Views[i]
		if !v.differs() {
			same++
			continue
		}
		v.print(out)
	}
	if same > 0 {
		fmt.Fprintf(out, "\n%d more views and tables have the same rows.\n", same)
	}
}

func (v *ViewCompared) print(out io.Writer) {
	if v.Only != "" {
		fmt.Fprintf(out, "\n%s: only %s, with %d rows\n", v.Name, v.Only, v.Here+v.There)
		return
	}
	fmt.Fprintf(out, "\n%s: %d rows here, %d there; %d only here, %d only there, %d changed\n", v.Name, v.Here, v.There, v.Missing, v.Added, v.Changed)
	if v.Note != "" {
		fmt.Fprintf(out, "  (%s)\n", v.Note)
	}
	for _, r := range v.MissingRows {
		fmt.Fprintf(out, "  - %s\n", r)
	}
	for _, r := range v.AddedRows {
		fmt.Fprintf(out, "  + %s\n", r)
	}
	for _, r := range v.ChangedRows {
		fmt.Fprintf(out, "  ~ %s\n    %s\n", r.Here, r.There)
	}
	if n := v.Missing + v.Added + v.Changed - len(v.MissingRows) - len(v.AddedRows) - len(v.ChangedRows); n > 0 {
		fmt.Fprintf(out, "  … and %d more\n", n)
	}
}
