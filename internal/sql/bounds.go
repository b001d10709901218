package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// atMost says that a condition implies lo <= hi, both times over a join's columns; lo < hi with strict.
type atMost struct {
	lo, hi *expr.Node
	strict bool
}

// orderOf returns what the conditions of a join imply about times.
func orderOf(j *flow.Join) []atMost {
	var out []atMost
	for _, c := range joinConds(j) {
		if c.Kind != expr.KCall || !c.Func.IsOperator() || len(c.Args) != 2 || !isTime(c.Args[0].Type) || c.Args[0].Type != c.Args[1].Type {
			continue
		}
		a, b := c.Args[0], c.Args[1]
		switch c.Func.Name {
		case "=":
			out = append(out, atMost{a, b, false}, atMost{b, a, false})
		case "<=":
			out = append(out, atMost{a, b, false})
		case "<":
			out = append(out, atMost{a, b, true})
		case ">=":
			out = append(out, atMost{b, a, false})
		case ">":
			out = append(out, atMost{b, a, true})
		}
	}
	for i, o := range out {
		out[i] = o.isolated()
	}
	return slices.DeleteFunc(out, func(o atMost) bool { return o.lo.Kind != expr.KColumn })
}

// isolated moves a constant interval from the lower side to the upper one: x - i <= y is x <= y + i.
func (o atMost) isolated() atMost {
	for o.lo.Kind == expr.KCall && o.lo.Func.IsOperator() && len(o.lo.Args) == 2 {
		op, i := o.lo.Func.Name, o.lo.Args[1]
		if i.Kind != expr.KConst || i.Type != app.Interval || !isTime(o.lo.Args[0].Type) || !fixedLength(i) {
			break
		}
		back := map[string]string{"+": "-", "-": "+"}[op]
		if back == "" {
			break
		}
		hi, err := expr.Operator(back, []*expr.Node{o.hi, i}, -1)
		if err != nil {
			break
		}
		o.lo, o.hi = o.lo.Args[0], hi
	}
	return o
}

// fixedLength reports whether an interval has no months, whose lengths differ.
func fixedLength(n *expr.Node) bool {
	return !n.Value.Null && !slices.ContainsFunc([]string{"mon", "year"}, func(word string) bool {
		return containsWord(string(expr.AppendText(nil, app.Interval, n.Value)), word)
	})
}

func containsWord(s, word string) bool {
	for i := 0; i+len(word) <= len(s); i++ {
		if s[i:i+len(word)] == word {
			return true
		}
	}
	return false
}

// joinBounds derives which columns of a join the watermarks close: a time of both sides that must be equal, and one that must be at
// or behind such a time of the other side.
func (c *compiler) joinBounds(j *flow.Join, l, r *facts) []timeBound {
	if len(l.bounds) == 0 || len(r.bounds) == 0 {
		return nil
	}
	width := len(l.notNull)
	var out []timeBound
	add := func(b timeBound) {
		if !slices.ContainsFunc(out, func(o timeBound) bool { return o.Col == b.Col }) {
			out = append(out, b)
		}
	}
	find := func(list []timeBound, col int) *timeBound {
		for i := range list {
			if list[i].Col == col {
				return &list[i]
			}
		}
		return nil
	}
	at := func(n *expr.Node) (*timeBound, bool) {
		if n.Kind != expr.KColumn {
			return nil, false
		}
		if n.Col < width {
			return find(l.bounds, n.Col), true
		}
		return find(r.bounds, n.Col-width), false
	}
	for _, o := range orderOf(j) {
		a, aLeft := at(o.lo)
		b, bLeft := at(o.hi)
		if a != nil && b != nil && aLeft != bLeft && a.Ends == b.Ends {
			add(together(*a, *b, o.hi.Col))
		}
	}
	return out
}

// free is a [flow.Free]; own says that it relies on the watermark of the row's own side too.
type free struct {
	flow.Free
	own bool
}

// freeUntil is when a row of own can be forgotten: its partners have a time col of other that is at most until, and the watermark
// tells when none of those comes any more. A row that may itself change later must be closed by then too.
func freeUntil(o atMost, own, other *facts, col int, until *expr.Node) *free {
	for _, b := range other.bounds {
		if b.Col != col {
			continue
		}
		if !own.appendOnly {
			i := slices.IndexFunc(own.bounds, func(x timeBound) bool { return until.Kind == expr.KColumn && x.Col == until.Col && (x.Ends || !b.Ends) })
			if i < 0 {
				continue
			}
			b = together(b, own.bounds[i], col)
			return &free{flow.Free{Until: until, Tables: b.Tables, OrAt: own.bounds[i].Ends && (b.Ends || o.strict)}, true}
		}
		return &free{flow.Free{Until: until, Tables: b.Tables, OrAt: b.Ends || o.strict}, false}
	}
	return nil
}
