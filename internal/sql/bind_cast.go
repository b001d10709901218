package sql

import (
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// cast binds CAST(x AS t), x::t and t 'x'.
func (b *binder) cast(e *syntax.Cast) (*expr.Node, error) {
	c := b.c
	to := c.typeOf(e.Type, false)
	if list, ok := e.X.(*syntax.Array); ok && to.IsArray() {
		return b.array(list, to)
	}
	if to == app.Interval && len(e.Type.Mods) > 0 {
		return b.intervalWithFields(e)
	}
	n := b.expr(e.X)
	if len(e.Type.Mods) == 0 {
		return expr.Cast(n, to, e.Pos)
	}
	mods := make([]int, len(e.Type.Mods))
	for i, m := range e.Type.Mods {
		lit, ok := m.(*syntax.Literal)
		if !ok || lit.Kind != syntax.Int {
			c.fail(e.Type.Span, modifierHint(to), "the modifiers of a type are numbers")
		}
		mods[i], _ = strconv.Atoi(lit.Text) // an Int fits 32 bits
	}
	switch {
	case to == app.Numeric && len(mods) <= 2:
		mods = append(mods, 0)
		return expr.NumericCast(n, mods[0], mods[1], e.Pos)
	case to == app.Text && len(mods) == 1:
		return expr.VarcharCast(n, mods[0], e.Pos)
	case (to == app.Timestamptz || to == app.Timestamp) && mods[0] == 6:
		return expr.Cast(n, to, e.Pos)
	}
	c.fail(e.Type.Span, modifierHint(to), "%s is not supported", c.text(e.Type.Span))
	return nil, nil
}

// intervalWithFields binds interval '10' second: a number, and the field that it counts.
func (b *binder) intervalWithFields(e *syntax.Cast) (*expr.Node, error) {
	c := b.c
	lit, ok := e.X.(*syntax.Literal)
	unit := ""
	if mod, isNumber := e.Type.Mods[0].(*syntax.Literal); isNumber && len(e.Type.Mods) == 1 {
		mask, _ := strconv.Atoi(mod.Text)
		for field, name := range map[int]string{2: "year", 1: "month", 3: "day", 10: "hour", 11: "minute", 12: "second"} { // PostgreSQL's numbers
			if mask == 1<<field {
				unit = name
			}
		}
	}
	if !ok || lit.Kind != syntax.String || unit == "" {
		c.fail(e.Span, "write the units into the text: interval '1 day 12 hours'", "this form of interval is not supported")
	}
	number := strings.TrimSpace(lit.Text)
	if _, err := strconv.ParseFloat(number, 64); err != nil || unit != "second" && strings.ContainsAny(number, ".eE") {
		c.fail(lit.Span, "write the units into the text: interval '1 day 12 hours'", "with %s behind it, this must be a number", strings.ToUpper(unit))
	}
	return expr.Cast(expr.StringLit(number+" "+unit, lit.Pos), app.Interval, e.Pos)
}
