package push

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// query is what a read or a subscription asks of one relation. Read-only; safe for concurrent use.
type query struct {
	sight                 // what the caller sees of the relation
	filter   *expr.Filter // its condition, and that of the rule, if that has no members
	cols     []int        // columns of a result, in order
	names    [][]byte     // `"name":` of each of cols
	key      []byte       // JSON array of keyNames
	keyNames []string     // of the key columns
	exact    bool         // numbers that JavaScript cannot hold travel as strings
	whole    bool         // cols are all columns: rows that differ are rendered differently
	canon    string       // equal for queries with equal answers
	raw      string       // the query string that newQuery read
	window   bool         // with live: the first rows only
	lead     []byte       // every key of the result begins with it
	point    bool         // lead is a whole key
	weight   int          // see expr.Filter.Weight
	rowWork  int          // matching that may be done on one row
}

// newQuery binds a query string to what the caller sees. With live, key columns are part of every result, since changes refer to them.
func newQuery(seen sight, raw string, exact, live bool) (*query, *wire.Problem) {
	rel := seen.rel
	f, err := expr.ParseVisible(rel, seen.columns, raw)
	if err != nil {
		return nil, filterProblem(err)
	}
	q := &query{sight: seen, filter: f, exact: exact, raw: raw, weight: f.Weight(), rowWork: readRowWork}
	var out []expr.Output
	if f.Select == nil {
		for i, c := range rel.Columns {
			if seen.sees(i) {
				out = append(out, expr.Output{Column: i, Name: c.Name})
			}
		}
	} else {
		out = slices.Clone(f.Select)
	}
	if live {
		if out, err = seen.withKey(out); err != nil {
			return nil, filterProblem(err)
		}
	}
	shown := make([]bool, len(rel.Columns))
	for _, o := range out {
		q.cols = append(q.cols, o.Column)
		q.names = append(q.names, append(wire.AppendString(nil, o.Name), ':'))
		shown[o.Column] = true
	}
	q.whole = !slices.Contains(shown, false)
	for _, k := range rel.Key {
		q.keyNames = append(q.keyNames, rel.Columns[k].Name)
	}
	q.key = wire.AppendStrings(nil, q.keyNames)
	q.filter = seen.limit(f)
	q.canon = fmt.Sprintf("%s %t %q %s%s", rel.Name, exact, q.names, seen.key(), q.filter.Canonical())
	q.lead, q.point = q.prefix()
	if live {
		q.rowWork = liveRowWork
		if p := q.checkWeight(); p != nil {
			return nil, p
		}
		if p := q.windowed(); p != nil {
			return nil, p
		}
	}
	return q, nil
}

// withKey adds the key columns that are not selected. Under another name a key column could not be found again.
func (s sight) withKey(out []expr.Output) ([]expr.Output, error) {
	rel := s.rel
	for _, o := range out {
		if o.Name != rel.Columns[o.Column].Name {
			return nil, &expr.FilterError{Code: string(wire.NotSupported), Field: "select",
				Msg: "a live subscription cannot rename columns", Hint: "select " + rel.Columns[o.Column].Name}
		}
	}
	for _, k := range rel.Key {
		if !s.sees(k) {
			return nil, &expr.FilterError{Code: string(wire.Forbidden), Field: "view", Msg: "columns of the key of " + rel.Name + " are not granted",
				Hint: "changes refer to rows by their key: grant all of it, or read without live rows"}
		}
		if !slices.ContainsFunc(out, func(o expr.Output) bool { return o.Column == k }) {
			out = append(out, expr.Output{Column: k, Name: rel.Columns[k].Name})
		}
	}
	return out, nil
}

// filterProblem makes the answer to a query string that cannot be read.
func filterProblem(err error) *wire.Problem {
	var fe *expr.FilterError
	if !errors.As(err, &fe) {
		return wire.NewProblem(wire.BadFilter, err.Error())
	}
	return wire.NewProblem(wire.Code(fe.Code), fe.Msg).WithField(fe.Field, fe.Hint)
}

// subscriptionQuery binds what a subscription asks for.
func subscriptionQuery(seen sight, s *wire.Subscription, exact bool) (*query, *wire.Problem) {
	var raw []string
	if s.Filter != "" {
		raw = append(raw, s.Filter)
	}
	if s.Select != "" {
		raw = append(raw, "select="+url.QueryEscape(s.Select))
	}
	if s.Limit != nil {
		raw = append(raw, "limit="+strconv.Itoa(*s.Limit))
	}
	if s.Offset != nil {
		raw = append(raw, "offset="+strconv.Itoa(*s.Offset))
	}
	order := "order=" + url.QueryEscape(s.Order)
	if s.Order == "" {
		return newQuery(seen, strings.Join(raw, "&"), exact, true)
	}
	q, p := newQuery(seen, strings.Join(append(raw, order), "&"), exact, true)
	if p != nil || q.window {
		return q, p
	}
	return newQuery(seen, strings.Join(raw, "&"), exact, true) // checked, and no other feed: rows without a limit have no order
}

// reader evaluates a query. It has scratch memory: one per goroutine and use.
type reader struct {
	*query
	ctx   expr.Ctx
	meter *meter // of a read that was asked for once; nil: nobody measures
	look  *int   // rows that scan may look at, less those that it has; below 0: it ended for that reason; nil: any number
}

// scan calls fn for the rows of the result in the order of keys, from the first key at or after from, until fn returns false.
func (r *reader) scan(snap *view.Snapshot, from []byte, fn func(key []byte, row change.Row) bool) {
	rel := r.rel.ID
	if r.point {
		row, ok := snap.Get(rel, r.lead)
		if ok && bytes.Compare(r.lead, from) >= 0 && r.match(row) {
			fn(r.lead, row)
		}
		return
	}
	if bytes.Compare(from, r.lead) < 0 {
		from = r.lead
	}
	snap.Ascend(rel, from, func(key []byte, row change.Row) bool {
		if r.look != nil {
			if *r.look--; *r.look < 0 {
				return false
			}
		}
		if !bytes.HasPrefix(key, r.lead) {
			return false
		}
		ok := r.match(row)
		if !r.meter.step(&r.ctx) {
			return false
		}
		return !ok || fn(key, row)
	})
}

// match reports whether row is part of the result. A row on which the condition fails is not.
func (r *reader) match(row change.Row) bool {
	if r.filter.Cond() == nil {
		return true
	}
	r.ctx.Reset()
	r.ctx.Bound(r.rowWork)
	r.ctx.Row = row
	ok, err := r.filter.Match(&r.ctx)
	return ok && err == nil
}

// appendRow appends the selected columns as a JSON object.
func (q *query) appendRow(dst []byte, row change.Row) []byte {
	dst = append(dst, '{')
	for i, c := range q.cols {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, q.names[i]...)
		dst = q.appendValue(dst, row, c)
	}
	return append(dst, '}')
}

// appendKey appends the values of the key columns as a JSON array.
func (q *query) appendKey(dst []byte, row change.Row) []byte {
	dst = append(dst, '[')
	for i, c := range q.rel.Key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = q.appendValue(dst, row, c)
	}
	return append(dst, ']')
}

func (q *query) appendValue(dst []byte, row change.Row, col int) []byte {
	v := q.rel.Layout.Get(row, col)
	if v.Null {
		return append(dst, "null"...)
	}
	return expr.AppendJSON(dst, q.rel.Layout.Type(col), v, q.exact)
}

// looksSame reports whether two rows are rendered alike.
func (q *query) looksSame(a, b change.Row) bool {
	if q.whole {
		return false // the engine does not report changes without a difference
	}
	for _, c := range q.cols {
		if !q.equal(a, b, c) {
			return false
		}
	}
	return true
}

// ranksSame reports whether two rows of one key have the same place in the order of the rows.
func (q *query) ranksSame(a, b change.Row) bool {
	for _, by := range q.order() {
		if !q.equal(a, b, by.Column) {
			return false
		}
	}
	return true
}

// equal reports whether two rows have the same value in a column.
func (q *query) equal(a, b change.Row, col int) bool {
	x, y := q.rel.Layout.Get(a, col), q.rel.Layout.Get(b, col)
	return x.Null == y.Null && x.N == y.N && string(x.B) == string(y.B)
}

// prefix returns with what the key of every row of the result begins, as far as the filter says, and whether that is the whole
// key, so that there is at most one row.
func (q *query) prefix() (prefix []byte, whole bool) {
	equals := q.filter.Equals()
	for _, k := range q.rel.Key {
		i := slices.IndexFunc(equals, func(e expr.Equal) bool { return e.Column == k })
		if i < 0 {
			return prefix, false
		}
		prefix = change.AppendKey(prefix, q.rel.Layout.Type(k), equals[i].Value, false, false)
	}
	return prefix, len(q.rel.Key) > 0
}

// order returns how rows are sorted when the query does not say: as the view's own query does.
func (q *query) order() []app.OrderBy {
	if q.filter.Order != nil {
		return q.filter.Order
	}
	return q.rel.Order
}
