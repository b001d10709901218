package flow

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// maxMatchBytes bounds the rows that one update or delete may match: what they were is kept until the batch ends.
const maxMatchBytes = 64 << 20

// match is one row that a filter selected.
type match struct {
	h        uint64
	r        ref
	key      []byte
	row, now change.Row // now: what it becomes; nil: it goes
}

// filtered applies a record of an update or delete: all rows that its filter selects, or none.
func (e *Engine) filtered(t *tableState, en *change.Entry, rules *entryRules, rec *change.Record, out *change.Outcome) (*change.Reject, error) {
	var row change.Row
	if en.Op == change.OpUpdate {
		var err error
		if row, err = t.current(&e.x, en.Version, rec.Row); err != nil {
			return nil, err
		}
	}
	if !t.kept || !t.rules.Table.Keyed() {
		return &change.Reject{Code: codeInvalidRow, Detail: "rows of an append-only table are never changed nor deleted"}, nil
	}
	f, reject := parseFilter(t.rel, rec.Filter)
	if reject == nil {
		reject = e.find(t, f, rules)
	}
	if reject == nil && en.Op == change.OpUpdate {
		reject = e.replace(t, rules, row, rec.Given)
	}
	if reject != nil {
		return reject, nil
	}
	for i := range e.matches {
		m := &e.matches[i]
		t.wrote(&e.x, m.h, m.key)
		if !same(m.row, m.now) {
			t.set(&e.x, m.h, m.r, m.key, m.now)
		}
	}
	out.Accepted += uint32(len(e.matches))
	return nil, nil
}

// same reports whether two rows are one and the same, which is what tableState.merged returns when nothing changed.
func same(a, b change.Row) bool { return len(a) > 0 && len(b) > 0 && &a[0] == &b[0] }

func parseFilter(rel *expr.Relation, query []byte) (*expr.Filter, *change.Reject) {
	f, err := expr.ParseFilter(rel, string(query))
	var fe *expr.FilterError
	switch {
	case errors.As(err, &fe):
		return nil, &change.Reject{Code: fe.Code, Field: fe.Field, Detail: fe.Msg}
	case err != nil:
		return nil, &change.Reject{Code: codeBadFilter, Detail: err.Error()}
	case f.Select != nil || f.Order != nil || f.Limit >= 0 || f.Offset > 0:
		return nil, &change.Reject{Code: codeBadFilter, Detail: "a write selects rows by conditions alone: no select, order, limit or offset"}
	}
	return f, nil
}

// find fills e.matches with the rows that f selects, in the order of their keys. For f there are no other rows than those that the rules let through.
func (e *Engine) find(t *tableState, f *expr.Filter, rules *entryRules) *change.Reject {
	e.matches = e.matches[:0]
	if !e.keyOfFilter(t, f, rules) {
		return e.scan(t, f, rules)
	}
	h := t.rows.hash(e.key)
	r, row := t.lookup(h, e.key)
	if row == nil {
		return nil
	}
	ok, reject := e.selects(f, rules, row)
	if ok {
		e.matches = append(e.matches, match{h: h, r: r, key: t.rows.key(r), row: row})
	}
	return reject
}

// scan is find for a filter that is not about one key.
func (e *Engine) scan(t *tableState, f *expr.Filter, rules *entryRules) *change.Reject {
	// The walk is in no order: what is decided here must not depend on which row comes first, so it goes on to the end even
	// when the answer is no.
	var failed *change.Reject
	var failedKey []byte // of the first row, by key, on which the filter fails
	found, size := 0, 0
	t.rows.each(func(r ref) {
		row := t.rows.value(r)
		if len(row) == 0 {
			return
		}
		ok, reject := e.selects(f, rules, row)
		key := t.rows.key(r)
		switch {
		case reject != nil && (failed == nil || bytes.Compare(key, failedKey) < 0):
			failed, failedKey = reject, key
		case ok:
			found, size = found+1, size+len(row)
			if found <= e.opt.MaxMatches {
				e.matches = append(e.matches, match{r: r, key: key, row: row})
			}
		}
	})
	switch {
	case failed != nil:
		return failed
	case found > e.opt.MaxMatches:
		return &change.Reject{Code: codeTooMany, Detail: fmt.Sprintf("%d rows match, the limit is %d; narrow the filter", found, e.opt.MaxMatches)}
	case size > maxMatchBytes:
		return &change.Reject{Code: codeTooMany, Detail: fmt.Sprintf("the matching rows take %d bytes, the limit is %d; narrow the filter", size, maxMatchBytes)}
	}
	slices.SortFunc(e.matches, func(a, b match) int { return bytes.Compare(a.key, b.key) })
	for i := range e.matches {
		e.matches[i].h = t.rows.hash(e.matches[i].key)
	}
	return nil
}

// keyOfFilter puts the primary key that f and the rules ask for into e.key; false when they are about more than one key.
func (e *Engine) keyOfFilter(t *tableState, f *expr.Filter, rules *entryRules) bool {
	e.key = e.key[:0]
	equals := f.Equals()
	if rules.using != nil {
		equals = append(equals, rules.using.Equals()...)
	}
	for _, c := range t.pk {
		i := slices.IndexFunc(equals, func(q expr.Equal) bool { return q.Column == c })
		if i < 0 {
			return false
		}
		e.key = change.AppendKey(e.key, t.rules.Layout.Type(c), equals[i].Value, false, false)
	}
	return true
}

func (e *Engine) selects(f *expr.Filter, rules *entryRules, row change.Row) (bool, *change.Reject) {
	if !rules.sees(&e.x, row) {
		return false, nil
	}
	e.x.ctx.Reset()
	e.x.ctx.Row = row
	ok, err := f.Match(&e.x.ctx)
	if err != nil {
		return false, &change.Reject{Code: codeBadFilter, Detail: "the filter fails on a row: " + err.Error()}
	}
	return ok, nil
}

// replace computes what each match becomes and refuses the whole update when one of them may not be.
func (e *Engine) replace(t *tableState, rules *entryRules, row change.Row, bitmap []byte) *change.Reject {
	for i := range e.matches {
		m := &e.matches[i]
		m.now = t.merged(&e.x, m.row, row, bitmap, false)
		if !bytes.Equal(t.keyOf(m.now), m.key) {
			return &change.Reject{Code: codeInvalidRow, Field: t.pkName, Detail: "the primary key of a row cannot be changed; delete it and insert another"}
		}
		if !holds(&e.x, rules.check, m.now) {
			return notAllowed("a row becomes one", t.rel.Name)
		}
		if reject := t.verify(&e.x, m.now); reject != nil {
			return reject
		}
	}
	return nil
}
