package flow

import (
	"laaster/internal/change"
	"laaster/internal/expr"
)

// aggState is one aggregate function in its place.
type aggState struct {
	accumulator
	how    how
	column int         // the argument, when it is a plain column, else -1
	value  int         // the argument in rowInputs.vals, else -1
	filter int         // in rowInputs.pass; -1: none
	entry  *entryMaker // of aggregates that take entries
	val    change.Value
	at     int // of its state in the group's value
	size   int
}

// how is the way from a row to an accumulator. Most aggregates are counts and sums of plain columns: without the detour over
// compiled functions and an interface, a row costs half.
type how uint8

const (
	howNothing  how = iota // count(*), which is the group's own number of rows, and what reads the state of another
	howCount               // count, with a FILTER or over an argument
	howIntegers            // sum or avg of integers
	howValue               // an argument
	howEntry               // an entry
)

// rowInputs is what is computed of each row before anything changes, since it may fail: each filter and each argument once, however many
// aggregates share it.
type rowInputs struct {
	filters []expr.Func
	pass    []bool
	values  []expr.Func
	vals    []change.Value
	at      []uint64 // by value: the row that it was last computed for; an argument is computed only when a filter asks for it
	row     uint64
}

// callBuilder puts the aggregates of an operator together.
type callBuilder struct {
	a      *aggregate
	life   lifetime
	texts  map[string]int // filters and arguments by their text
	states map[string]int // aggregates by what their state depends on
	sets   map[string]*distinctSet
}

func newCallBuilder(a *aggregate, life lifetime) *callBuilder {
	return &callBuilder{a: a, life: life, texts: map[string]int{}, states: map[string]int{}, sets: map[string]*distinctSet{}}
}

func (b *callBuilder) add(g *Agg) error {
	if err := checkAgg(g); err != nil {
		return err
	}
	name := stateName(g)
	if i, ok := b.states[name]; ok {
		first := &b.a.aggs[i]
		b.a.aggs = append(b.a.aggs, aggState{accumulator: viewOf(first.accumulator, g), at: first.at, size: first.size})
		return nil
	}
	s, err := b.state(g)
	if err != nil {
		return err
	}
	b.states[name] = len(b.a.aggs)
	b.a.aggs = append(b.a.aggs, s)
	return nil
}

// stateName names the state that an aggregate needs: those of one name share it.
func stateName(g *Agg) string {
	of := *g
	switch g.Func {
	case Avg:
		of.Func = Sum
	case StddevSamp, StddevPop, VarSamp:
		of.Func = VarPop
	}
	return of.String()
}

// viewOf returns the accumulator that reads g's result from the state of acc.
func viewOf(acc accumulator, g *Agg) accumulator {
	switch a := acc.(type) {
	case *distinct:
		return viewOf(a.accumulator, g)
	case averageOf:
		return viewOf(a.averager, g)
	case intSum:
		if g.Func == Avg {
			return averageOf{a}
		}
		return intSum{}.of(g)
	case averager:
		if g.Func == Avg {
			return averageOf{a}
		}
	case intVariance:
		return intVariance{spreadOf(g.Func)}
	case numericVariance:
		a.spread = spreadOf(g.Func)
		return a
	case floatVariance:
		a.spread = spreadOf(g.Func)
		return a
	}
	return acc
}

// state makes an aggregate with a state of its own.
func (b *callBuilder) state(g *Agg) (s aggState, err error) {
	s = aggState{column: -1, value: -1, filter: -1}
	if g.Func == Count && g.Distinct {
		return b.distinctCount(g)
	}
	if s.accumulator, err = newAccumulator(g, b.life); err != nil {
		return s, err
	}
	s.size = s.fixed()
	if g.Func == CountRows && g.Filter == nil {
		return s, nil
	}
	s.at = b.a.size
	b.a.size += s.size
	if s.filter, err = b.filter(g.Filter); err != nil {
		return s, err
	}
	if takesEntries(g.Func) {
		s.how = howEntry
		s.entry, err = newEntryMaker(g, b.a.inRow)
		return s, err
	}
	s.column, s.value, err = b.argument(argOf(g))
	s.how = howOf(s.accumulator)
	return s, err
}

func howOf(acc accumulator) how {
	if a, ok := acc.(averageOf); ok {
		acc = a.averager
	}
	switch acc.(type) {
	case countOf:
		return howCount
	case intSum:
		return howIntegers
	}
	return howValue
}

// filter returns the place of a filter among the inputs; -1 when there is none.
func (b *callBuilder) filter(n *expr.Node) (int, error) {
	if n == nil {
		return -1, nil
	}
	text := "filter " + n.String()
	if i, ok := b.texts[text]; ok {
		return i, nil
	}
	f, err := compileOne(n, b.a.inRow)
	in := &b.a.inputs
	b.texts[text] = len(in.filters)
	in.filters, in.pass = append(in.filters, f), append(in.pass, false)
	return len(in.filters) - 1, err
}

// argument returns the column that an argument is, or its place among the inputs.
func (b *callBuilder) argument(n *expr.Node) (column, value int, err error) {
	switch {
	case n == nil:
		return -1, -1, nil
	case n.Kind == expr.KColumn:
		return n.Col, -1, nil
	}
	text := n.String()
	if i, ok := b.texts[text]; ok {
		return -1, i, nil
	}
	f, err := compileMemoized(n, b.a.inRow)
	in := &b.a.inputs
	b.texts[text] = len(in.values)
	in.values, in.vals, in.at = append(in.values, f), append(in.vals, change.Value{}), append(in.at, 0)
	return -1, len(in.values) - 1, err
}

// distinctCount makes a count(DISTINCT x) a member of the set of its argument.
func (b *callBuilder) distinctCount(g *Agg) (s aggState, err error) {
	text := g.Arg.String()
	set := b.sets[text]
	if set == nil || len(set.members) == maxMembers {
		set = newDistinctSet(g.Arg.Type, b.life)
		if set.column, set.value, err = b.argument(g.Arg); err != nil {
			return s, err
		}
		if set.chained {
			set.chain = b.a.size
			b.a.size += 8
		}
		b.sets[text] = set
		b.a.sets = append(b.a.sets, set)
	}
	m := distinctMember{at: b.a.size}
	m.filter, err = b.filter(g.Filter)
	set.members = append(set.members, m)
	b.a.size += 8
	return aggState{accumulator: countOf{}, column: -1, value: -1, filter: -1, at: m.at, size: 8}, err
}

// compute computes the filters, arguments and entries of c's row, so that a row that fails anywhere changes nothing.
func (a *aggregate) compute(c *expr.Ctx) error {
	in := &a.inputs
	for i, f := range in.filters {
		v, err := f(c)
		if err != nil {
			return err
		}
		in.pass[i] = v.True()
	}
	in.row++
	for _, g := range a.computed {
		if g.filter >= 0 && !in.pass[g.filter] {
			continue
		}
		var err error
		if g.entry != nil {
			g.val, err = g.entry.value(c)
		} else {
			err = in.value(c, g.value)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range a.sets {
		if d.value >= 0 && d.wanted(in.pass) {
			if err := in.value(c, d.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted reports whether a member counts the row.
func (d *distinctSet) wanted(pass []bool) bool {
	for _, m := range d.members {
		if m.filter < 0 || pass[m.filter] {
			return true
		}
	}
	return false
}

// value computes an argument unless that was done for this row.
func (in *rowInputs) value(c *expr.Ctx, i int) (err error) {
	if in.at[i] != in.row {
		in.vals[i], err = in.values[i](c)
		in.at[i] = in.row
	}
	return err
}
