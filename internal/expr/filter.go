package expr

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
)

// Bounds of a filter: what a caller may make the server compile and evaluate per row.
const (
	maxFilterText  = 8 << 10
	maxFilterDepth = 16
	maxFilterTerms = 100
	maxInList      = 1000
)

// Codes of FilterError, which are wire's.
const (
	badFilter     = "bad_filter"
	unknownColumn = "unknown_column"
)

// FilterError says why a read or write filter is refused.
type FilterError struct {
	Code  string // one of wire's codes: bad_filter, unknown_column
	Msg   string
	Field string // the parameter or column to blame
	Hint  string
}

// Error implements error.
func (e *FilterError) Error() string { return e.Msg }

// Output is one column of a result: a column of the relation under a name.
type Output struct {
	Column int
	Name   string
}

// Filter is a parsed PostgREST query string over one relation. Read-only; safe for concurrent use.
type Filter struct {
	Select []Output      // nil: every column (of a relation with copies, _n included)
	Order  []app.OrderBy // nil: none was asked for
	Limit  int64         // -1: none
	Offset int64
	terms  []*Node // the condition: all of them
	cond   *Node   // their conjunction; nil: every row
	match  Func
	layout *change.Layout // of the relation's rows
}

// Equal is a condition column = value that every row of a filter's result meets.
type Equal struct {
	Column int
	Value  change.Value
}

// ParseFilter reads a raw query string without parameters that begin with '_'. The error is a *FilterError.
func ParseFilter(rel *Relation, query string) (*Filter, error) { return ParseVisible(rel, nil, query) }

// ParseVisible is ParseFilter for somebody who sees only those columns of rel for which visible is true; nil: all of them. Others are not there.
func ParseVisible(rel *Relation, visible []bool, query string) (*Filter, error) {
	if len(query) > maxFilterText {
		return nil, &FilterError{badFilter, fmt.Sprintf("the filter takes %d bytes, the limit is %d", len(query), maxFilterText), "", "ask for less at once"}
	}
	p := &filterParser{rel: rel, visible: visible, f: &Filter{Limit: -1, layout: rel.Layout}}
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err = errors.Join(err, err2); err != nil || !utf8.ValidString(name) || !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return nil, &FilterError{badFilter, "a parameter is not valid percent-encoded UTF-8", short(rawName), "encode it with encodeURIComponent"}
		}
		if err := p.parameter(name, value); err != nil {
			return nil, err
		}
	}
	return p.done()
}

func (p *filterParser) parameter(name, value string) error {
	switch name {
	case "select":
		return p.selects(value)
	case "order":
		return p.orders(value)
	case "limit":
		return p.number(name, value, &p.f.Limit)
	case "offset":
		return p.number(name, value, &p.f.Offset)
	case "and", "or", "not.and", "not.or":
		n, err := p.group(name, value, 1)
		if err != nil {
			return err
		}
		p.f.terms = append(p.f.terms, n)
		return nil
	}
	if strings.HasPrefix(name, "_") && name != "_n" {
		return &FilterError{badFilter, "there is no parameter " + short(name), short(name), "names that begin with _ are the server's own"}
	}
	n, err := p.term(name, value)
	if err != nil {
		return err
	}
	p.f.terms = append(p.f.terms, n)
	return nil
}

func (p *filterParser) number(name, value string, to *int64) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return &FilterError{badFilter, name + " is a number from 0, not " + strconv.Quote(short(value)), name, ""}
	}
	*to = n
	return nil
}

// selects reads select=a,b or select=name:a,b or *.
func (p *filterParser) selects(value string) error {
	if value == "" || value == "*" {
		return nil
	}
	seen := map[string]bool{}
	for _, item := range strings.Split(value, ",") {
		alias, column, renamed := strings.Cut(strings.TrimSpace(item), ":")
		if !renamed {
			column = alias
		}
		i, err := p.column(column)
		if err != nil {
			return err
		}
		if seen[alias] || alias == "" {
			return &FilterError{badFilter, "select names " + strconv.Quote(short(alias)) + " twice", "select", "give one of them another name: other:" + column}
		}
		seen[alias] = true
		p.f.Select = append(p.f.Select, Output{i, alias})
	}
	return nil
}

// orders reads order=a.desc.nullslast,b.
func (p *filterParser) orders(value string) error {
	for _, item := range strings.Split(value, ",") {
		parts := strings.Split(strings.TrimSpace(item), ".")
		i, err := p.column(parts[0])
		if err != nil {
			return err
		}
		o := app.OrderBy{Column: i}
		nulls := ""
		for _, word := range parts[1:] {
			switch word {
			case "asc":
			case "desc":
				o.Desc = true
			case "nullsfirst", "nullslast":
				nulls = word
			default:
				return &FilterError{badFilter, "order cannot read " + strconv.Quote(short(item)), "order", "write column.desc.nullslast"}
			}
		}
		o.NullsFirst = nulls == "nullsfirst" || nulls == "" && o.Desc
		// Mentioned again, a column decides nothing; it would only make the sort keys longer.
		if !slices.ContainsFunc(p.f.Order, func(have app.OrderBy) bool { return have.Column == i }) {
			p.f.Order = append(p.f.Order, o)
		}
	}
	return nil
}

func (p *filterParser) done() (*Filter, error) {
	if err := p.f.compile(); err != nil {
		return nil, typed(err, "")
	}
	return p.f, nil
}

// compile makes the condition of the terms.
func (f *Filter) compile() error {
	if len(f.terms) == 0 {
		return nil
	}
	var err error
	if f.cond, err = And(f.terms, -1); err != nil {
		return err
	}
	f.match, err = Compile(f.cond, f.layout)
	return err
}

// typed turns an error of the expression builders into a filter's.
func typed(err error, field string) error {
	var t *TypeError
	if errors.As(err, &t) {
		return &FilterError{badFilter, t.Msg, field, t.Hint}
	}
	return &FilterError{badFilter, err.Error(), field, ""}
}

// And returns a filter that lets through what f does and for which cond holds too: a condition over the columns of the relation that f was
// parsed for. Its terms count as f's own, and come first: what f asks is not asked about a row for which cond does not hold. nil: f as it is.
func (f *Filter) And(cond *Node) *Filter {
	if cond == nil {
		return f
	}
	g := *f
	first, both := []*Node{cond}, []*Node{cond}
	if cond.Kind == KAnd {
		first = cond.Args
	}
	g.terms = slices.Concat(first, f.terms)
	if f.cond != nil {
		both = append(both, f.cond)
	}
	holds, err := Compile(cond, f.layout)
	if err == nil {
		g.cond, err = And(both, -1)
	}
	if err != nil { // not a condition over these columns: nothing is let through rather than everything
		g.cond, g.match = BoolLit(false, -1), func(*Ctx) (change.Value, error) { return change.Value{}, err }
		return &g
	}
	g.match = holds
	if rest := f.match; rest != nil {
		g.match = func(c *Ctx) (change.Value, error) {
			v, err := holds(c)
			if err != nil || !v.True() {
				return v, err
			}
			return rest(c)
		}
	}
	return &g
}

// Cond returns the condition over the relation's columns; nil: every row.
func (f *Filter) Cond() *Node { return f.cond }

// Match reports whether the condition is true for the row in c.
func (f *Filter) Match(c *Ctx) (bool, error) {
	if f.match == nil {
		return true, nil
	}
	v, err := f.match(c)
	return v.True(), err
}

// Canonical returns text that is equal for two filters over one relation only when they ask for the same. The order of
// conditions, their repetition and the spelling of values and parameters do not matter.
func (f *Filter) Canonical() string {
	var b strings.Builder
	for _, t := range canonicalTerms(f.terms) {
		b.WriteString(t + "&")
	}
	for _, o := range f.Select {
		fmt.Fprintf(&b, "select %q:%d&", o.Name, o.Column)
	}
	for _, o := range f.Order {
		fmt.Fprintf(&b, "order %d %v %v&", o.Column, o.Desc, o.NullsFirst)
	}
	if f.Limit >= 0 {
		fmt.Fprintf(&b, "limit %d&", f.Limit)
	}
	if f.Offset > 0 {
		fmt.Fprintf(&b, "offset %d&", f.Offset)
	}
	return b.String()
}

// canonicalTerms returns the texts of conditions that are joined by AND or OR, sorted and without repetitions.
func canonicalTerms(terms []*Node) []string {
	texts := make([]string, len(terms))
	for i, t := range terms {
		switch t.Kind {
		case KAnd:
			texts[i] = "(" + strings.Join(canonicalTerms(t.Args), " AND ") + ")"
		case KOr:
			texts[i] = "(" + strings.Join(canonicalTerms(t.Args), " OR ") + ")"
		default:
			texts[i] = t.String()
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// Equals returns the equality conditions that are part of every match: an index on them finds the filters of a row.
func (f *Filter) Equals() []Equal {
	var out []Equal
	for _, t := range f.terms {
		if t.Kind != KCall || t.Func == nil || t.Func.Name != "=" || len(t.Args) != 2 {
			continue
		}
		if a, b := t.Args[0], t.Args[1]; a.Kind == KColumn && b.Kind == KConst && !b.Value.Null && a.Type == b.Type {
			out = append(out, Equal{a.Col, b.Value})
		}
	}
	return out
}

// short bounds what an error repeats of its input.
func short(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
