package expr

import (
	"fmt"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/change"
)

// filterParser reads PostgREST's filter grammar: column=operator.value, and=(…), or=(…), not. before either.
type filterParser struct {
	rel     *Relation
	visible []bool // of its columns; nil: all
	f       *Filter
	terms   int
}

// column finds a column by name.
func (p *filterParser) column(name string) (int, error) {
	for i := range p.rel.Columns {
		if p.rel.Columns[i].Name == name && p.sees(i) {
			return i, nil
		}
	}
	names := make([]string, 0, len(p.rel.Columns))
	for i, c := range p.rel.Columns {
		if p.sees(i) {
			names = append(names, c.Name)
		}
	}
	hint := "its columns are " + short(strings.Join(names, ", "))
	if near := Closest(name, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return 0, &FilterError{unknownColumn, p.rel.Name + " has no column " + strconv.Quote(short(name)), short(name), hint}
}

// sees says whether column i is there for whoever asks.
func (p *filterParser) sees(i int) bool {
	return p.visible == nil || i < len(p.visible) && p.visible[i]
}

// operand returns the left side: a column, or a path into a jsonb column (data->a->>b).
func (p *filterParser) operand(name string) (*Node, error) {
	column, path, _ := cutArrow(name)
	i, err := p.column(column)
	if err != nil {
		return nil, err
	}
	n := Column(i, p.rel.Columns[i].Type, -1)
	for path != "" {
		op := "->"
		path = path[2:]
		if strings.HasPrefix(path, ">") {
			op, path = "->>", path[1:]
		}
		var key string
		key, path, _ = cutArrow(path)
		arg := StringLit(key, -1)
		if _, err := strconv.ParseInt(key, 10, 32); err == nil {
			if arg, err = NumLit(key, -1); err != nil {
				return nil, typed(err, short(name))
			}
		} else if arg, err = Cast(arg, app.Text, -1); err != nil {
			return nil, typed(err, short(name))
		}
		if n, err = Operator(op, []*Node{n, arg}, -1); err != nil {
			return nil, typed(err, short(name))
		}
	}
	return n, nil
}

// cutArrow splits at the first arrow; rest begins with it.
func cutArrow(s string) (head, rest string, found bool) {
	if i := strings.Index(s, "->"); i >= 0 {
		return s[:i], s[i:], true
	}
	return s, "", false
}

// term reads one condition: name is the left side, value is [not.]operator.value.
func (p *filterParser) term(name, value string) (*Node, error) {
	if p.terms++; p.terms > maxFilterTerms {
		return nil, &FilterError{badFilter, fmt.Sprintf("a filter has at most %d conditions", maxFilterTerms), short(name), ""}
	}
	left, err := p.operand(name)
	if err != nil {
		return nil, err
	}
	value, not := cutNot(value)
	op, arg, ok := strings.Cut(value, ".")
	if !ok {
		return nil, p.unreadable(name, value)
	}
	n, err := p.condition(name, left, op, arg)
	if err != nil || !not {
		return n, err
	}
	if n, err = Not(n, -1); err != nil {
		return nil, typed(err, short(name))
	}
	return n, nil
}

func cutNot(s string) (rest string, not bool) {
	for {
		r, ok := strings.CutPrefix(s, "not.")
		if !ok {
			return s, not
		}
		s, not = r, !not
	}
}

func (p *filterParser) unreadable(name, value string) error {
	return &FilterError{badFilter, "the condition " + strconv.Quote(short(value)) + " on " + short(name) + " cannot be read", short(name),
		"write " + short(name) + "=eq.value; operators: eq, neq, gt, gte, lt, lte, in, is, isdistinct, like, ilike, match, imatch, cs, cd, ov, and not. before any"}
}

// operator returns the SQL operator of a plain comparison.
func operator(op string) (sql string, ok bool) {
	switch op {
	case "eq":
		return "=", true
	case "neq":
		return "<>", true
	case "gt":
		return ">", true
	case "gte":
		return ">=", true
	case "lt":
		return "<", true
	case "lte":
		return "<=", true
	case "like":
		return "~~", true
	case "ilike":
		return "~~*", true
	case "match":
		return "~", true
	case "imatch":
		return "~*", true
	case "cs":
		return "@>", true
	case "cd":
		return "<@", true
	case "ov":
		return "&&", true
	}
	return "", false
}

func (p *filterParser) condition(name string, left *Node, op, arg string) (*Node, error) {
	switch op {
	case "is":
		return p.is(name, left, arg)
	case "in":
		return p.in(name, left, arg)
	case "isdistinct":
		right, err := p.constant(name, left.Type, arg)
		if err != nil {
			return nil, err
		}
		n, err := IsDistinct(left, right, false, -1)
		if err != nil {
			return nil, typed(err, short(name))
		}
		return n, nil
	}
	sql, ok := operator(op)
	if !ok {
		return nil, p.unreadable(name, op+"."+arg)
	}
	t := left.Type
	switch op {
	case "like", "ilike":
		t, arg = app.Text, strings.ReplaceAll(arg, "*", "%")
	case "match", "imatch":
		t = app.Text
	}
	right, err := p.constant(name, t, arg)
	if err != nil {
		return nil, err
	}
	n, err := Operator(sql, []*Node{left, right}, -1)
	if err != nil {
		return nil, typed(err, short(name))
	}
	return n, nil
}

// constant reads text as a value of type t.
func (p *filterParser) constant(name string, t app.Type, text string) (*Node, error) {
	v, _, err := ParseText(t, []byte(text), nil)
	if err != nil {
		return nil, &FilterError{badFilter, short(err.Error()), short(name), short(name) + " is " + t.String()}
	}
	return Const(t, change.Value{N: v.N, B: append([]byte(nil), v.B...), Null: v.Null}, -1), nil
}

func (p *filterParser) is(name string, left *Node, arg string) (*Node, error) {
	var n *Node
	var err error
	switch strings.ToLower(arg) {
	case "null":
		return IsNull(left, false, -1), nil
	case "not_null":
		return IsNull(left, true, -1), nil
	case "true":
		n, err = IsBool(left, true, false, -1)
	case "false":
		n, err = IsBool(left, false, false, -1)
	case "unknown":
		n, err = IsUnknown(left, false, -1)
	default:
		return nil, &FilterError{badFilter, "is takes null, not_null, true, false or unknown, not " + strconv.Quote(short(arg)), short(name), ""}
	}
	if err != nil {
		return nil, typed(err, short(name))
	}
	return n, nil
}

// in reads (a,b,"c,d").
func (p *filterParser) in(name string, left *Node, arg string) (*Node, error) {
	if !strings.HasPrefix(arg, "(") || !strings.HasSuffix(arg, ")") {
		return nil, &FilterError{badFilter, "in takes a list in parentheses, not " + strconv.Quote(short(arg)), short(name), "write " + short(name) + "=in.(a,b)"}
	}
	inner := arg[1 : len(arg)-1]
	if inner == "" {
		return BoolLit(false, -1), nil
	}
	items, err := splitList(inner)
	if err != nil {
		return nil, &FilterError{badFilter, err.Error(), short(name), ""}
	}
	if len(items) > maxInList {
		return nil, &FilterError{badFilter, fmt.Sprintf("a list has at most %d values", maxInList), short(name), "ask in several requests"}
	}
	list := make([]*Node, len(items))
	for i, item := range items {
		if list[i], err = p.constant(name, left.Type, unquoteItem(item)); err != nil {
			return nil, err
		}
	}
	n, err := In(left, list, false, -1)
	if err != nil {
		return nil, typed(err, short(name))
	}
	return n, nil
}

// splitList splits at commas outside quotes and parentheses.
func splitList(s string) ([]string, error) {
	var out []string
	start, depth := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			end := quoteEnd(s, i)
			if end < 0 {
				return nil, fmt.Errorf("a quote without its end in %q", short(s[i:]))
			}
			i = end
		case '(':
			depth++
		case ')':
			if depth--; depth < 0 {
				return nil, fmt.Errorf("a parenthesis too many in %q", short(s))
			}
		case ',':
			if depth == 0 {
				out = append(out, s[start:i])
				start = i + 1
			}
		}
	}
	if depth != 0 {
		return nil, fmt.Errorf("a parenthesis without its end in %q", short(s))
	}
	return append(out, s[start:]), nil
}

// quoteEnd returns the index of the quote that closes the one at i, or -1.
func quoteEnd(s string, i int) int {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '"':
			return j
		}
	}
	return -1
}

// unquoteItem takes the quotes off a value that is wholly in them: "a,b" with backslash escapes.
func unquoteItem(s string) string {
	if len(s) < 2 || s[0] != '"' || quoteEnd(s, 0) != len(s)-1 {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// group reads and=(…), or=(…), with not. before them; kind is the word, value the parenthesised list.
func (p *filterParser) group(kind, value string, depth int) (*Node, error) {
	if depth > maxFilterDepth {
		return nil, &FilterError{badFilter, fmt.Sprintf("conditions nest deeper than %d", maxFilterDepth), short(kind), ""}
	}
	word, not := cutNot(kind)
	if !strings.HasPrefix(value, "(") || !strings.HasSuffix(value, ")") {
		return nil, &FilterError{badFilter, word + " takes conditions in parentheses, not " + strconv.Quote(short(value)), word, "write or=(a.eq.1,b.is.null)"}
	}
	items, err := splitList(value[1 : len(value)-1])
	if err != nil {
		return nil, &FilterError{badFilter, err.Error(), word, ""}
	}
	nodes := make([]*Node, len(items))
	for i, item := range items {
		if nodes[i], err = p.item(strings.TrimSpace(item), depth); err != nil {
			return nil, err
		}
	}
	n, err := And(nodes, -1)
	if word == "or" {
		n, err = Or(nodes, -1)
	}
	if err == nil && not {
		n, err = Not(n, -1)
	}
	if err != nil {
		return nil, typed(err, word)
	}
	return n, nil
}

// item reads one member of a group: a nested group, or column.operator.value.
func (p *filterParser) item(s string, depth int) (*Node, error) {
	for _, word := range []string{"and", "or", "not.and", "not.or"} {
		if rest, ok := strings.CutPrefix(s, word); ok && strings.HasPrefix(rest, "(") {
			return p.group(word, rest, depth+1)
		}
	}
	name, value, ok := strings.Cut(s, ".")
	if !ok {
		return nil, p.unreadable(s, "")
	}
	head, _ := cutNot(value)
	op, arg, _ := strings.Cut(head, ".")
	if op != "in" {
		value = strings.TrimSuffix(value, head) + op + "." + unquoteItem(arg)
	}
	return p.term(name, value)
}
