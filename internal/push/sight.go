package push

import (
	"fmt"
	"slices"
	"strconv"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// Rules say what of the app's relations and channels a caller may see: *auth.Rules of one definition. Safe for concurrent use.
type Rules interface {
	// Allow returns nil when p has the privilege on at least one column of relation, else the problem to answer.
	Allow(p auth.Principal, relation string, need app.Privilege) *wire.Problem
	// Columns tells on which columns p has the privilege; nil: on all of them.
	Columns(p auth.Principal, relation string, need app.Privilege) []bool
	// Rows returns the condition for the rows that p may see; nil: there is none.
	Rows(p auth.Principal, relation string, need app.Privilege) (*auth.Rule, *wire.Problem)
}

// sight is what somebody sees of a relation. Columns that he does not see are not there for him, and neither are rows.
type sight struct {
	rel     *expr.Relation
	columns []bool           // that are seen; nil: all
	rule    *auth.Rule       // for the rows; nil: all are seen
	over    []*expr.Relation // of each of rule.Members
}

// sight returns what p sees of rel, or why nothing.
func (w *era) sight(p auth.Principal, rel *expr.Relation) (s sight, refused *wire.Problem) {
	if refused = w.rules.Allow(p, rel.Name, app.Select); refused != nil {
		return s, refused
	}
	s = sight{rel: rel, columns: w.rules.Columns(p, rel.Name, app.Select)}
	if s.rule, refused = w.rules.Rows(p, rel.Name, app.Select); refused != nil {
		return sight{}, refused
	}
	if s.rule == nil {
		return s, nil
	}
	for _, m := range s.rule.Members {
		from := w.byName[m.Relation]
		if from == nil { // the rule was made for another definition, which is about to be told
			return sight{}, noSuchView()
		}
		s.over = append(s.over, from)
	}
	return s, nil
}

// sees reports whether a column is seen.
func (s sight) sees(column int) bool {
	return s.columns == nil || column < len(s.columns) && s.columns[column]
}

// same reports whether two are of the same rows and columns, now and later.
func (s sight) same(o sight) bool {
	return s.rel == o.rel && (s.columns == nil) == (o.columns == nil) && slices.Equal(s.columns, o.columns) && (s.rule == o.rule || s.rule != nil && o.rule != nil && s.rule.Key == o.rule.Key) &&
		slices.Equal(s.over, o.over)
}

// dependent reports whether the rule compares with values that other rows have.
func (s sight) dependent() bool { return s.rule != nil && len(s.rule.Members) > 0 }

// limit returns f with the condition of the rule, unless that has members: see guard.
func (s sight) limit(f *expr.Filter) *expr.Filter {
	switch {
	case s.rule == nil || s.dependent() && !s.rule.None:
		return f
	case s.rule.None:
		return f.And(expr.BoolLit(false, -1))
	}
	return f.And(s.rule.Cond(nil))
}

// key tells apart queries of those who see different rows or columns: also when they ask for the same now, as somebody who sees only his own rows and somebody else
// who asks for these. What they see may change in different ways.
func (s sight) key() string {
	var b []byte
	if s.rule != nil {
		b = append(strconv.AppendQuote(append(b, "rule "...), s.rule.Key), ' ')
	}
	for _, rel := range s.over { // the rule has their names, and those may be given to others
		b = fmt.Appendf(b, "over %d ", rel.ID)
	}
	if s.columns != nil {
		b = fmt.Appendf(b, "of %t ", s.columns)
	}
	return string(b)
}
