package flow

import (
	"encoding/binary"
	"fmt"

	"laaster/internal/change"
)

// write applies one write entry and returns its outcome. An error means that the log cannot be read.
func (e *Engine) write(en *change.Entry) (change.Outcome, error) {
	t := e.byID[en.Table]
	switch {
	case t == nil && e.prog.Only != nil:
		return change.Outcome{}, nil
	case t == nil:
		return change.Outcome{}, fmt.Errorf("no table has the id %d", en.Table)
	}
	e.x.ctx.Subject, e.x.ctx.Role = en.Subject, en.Role
	if len(en.Key) > 0 {
		return e.writeOnce(t, en)
	}
	return e.writeRecords(t, en, 0)
}

// writeRecords applies the records of en but the first skip.
func (e *Engine) writeRecords(t *tableState, en *change.Entry, skip uint32) (change.Outcome, error) {
	var out change.Outcome
	rules, err := e.rulesOf(t, en)
	if err != nil {
		return out, err
	}
	e.x.journaling, e.x.journal = en.Atomic && t.kept, e.x.journal[:0]
	t.saveTime()
	it, rec := en.Records(), change.Record{}
	for i := uint32(0); it.Next(&rec); i++ {
		if i < skip {
			continue
		}
		var reject *change.Reject
		if len(rec.Refused) > 0 {
			reject, err = change.ReadReject(rec.Refused)
		} else {
			t.in++
			reject, err = e.record(t, en, rules, &rec, &out)
		}
		if err != nil {
			return out, fmt.Errorf("record %d: %w", i, err)
		}
		if reject != nil {
			reject.Index = en.First + i
			out.Rejected = append(out.Rejected, *reject)
		}
	}
	if err := it.Err(); err != nil {
		return out, err
	}
	if en.Atomic {
		e.settle(t, &out)
	}
	return out, nil
}

// settle ends an atomic entry: one refused record takes all others back. What is reported are the refused ones; a
// record behind the first of them was judged as if those before it had gone in. Only kept tables refuse records, so there
// is nothing to take back in others.
func (e *Engine) settle(t *tableState, out *change.Outcome) {
	if len(out.Rejected) > 0 {
		out.Accepted, out.Duplicates = 0, 0
		e.x.rollback()
		t.restoreTime()
	}
	e.x.journaling = false
}

func (e *Engine) record(t *tableState, en *change.Entry, rules *entryRules, rec *change.Record, out *change.Outcome) (*change.Reject, error) {
	if en.Op == change.OpUpdate || en.Op == change.OpDelete {
		return e.filtered(t, en, rules, rec, out)
	}
	row, err := t.current(&e.x, en.Version, rec.Row)
	if err != nil {
		return nil, err
	}
	if t.kept {
		return e.put(t, en.Op, rules, row, rec.Given, out), nil
	}
	if len(t.pk) > 0 && !rec.ServerID && e.seenBefore(t, row) {
		out.Duplicates++
		return nil, nil
	}
	t.arrived(e, row)
	t.out = append(t.out, delta{row, 1})
	out.Accepted++
	return nil, nil
}

// seenBefore reports whether the row's primary key is remembered, and remembers it.
func (e *Engine) seenBefore(t *tableState, row change.Row) bool {
	seen := e.seenOf(t, t.keyOf(row))
	h := seen.t.hash(e.key)
	if seen.t.find(h, e.key) != 0 {
		return true
	}
	r := seen.insert(h, e.key, 0, e.x.stamp)
	seen.sum.add(seen.digest(r, e.x.stamp))
	return false
}

// seenOf returns where the primary keys of a table are remembered, with e.key being what key is remembered as.
func (e *Engine) seenOf(t *tableState, key []byte) *window {
	e.key = binary.LittleEndian.AppendUint32(e.key[:0], t.rules.Catalog)
	e.key = append(e.key, key...)
	if t.seen != nil {
		return t.seen
	}
	return &e.seen
}

// remembers reports whether a row of a kept table came before its rows were kept.
func (e *Engine) remembers(t *tableState, row change.Row) bool {
	seen := e.seenOf(t, t.keyOf(row))
	return seen.t.find(seen.t.hash(e.key), e.key) != 0
}

// put writes one row of a kept table.
func (e *Engine) put(t *tableState, op change.Op, rules *entryRules, row change.Row, bitmap []byte, out *change.Outcome) *change.Reject {
	key := t.keyOf(row)
	h := t.rows.hash(key)
	r, old := t.lookup(h, key)
	switch {
	case old == nil && t.partial && e.remembers(t, row):
		out.Duplicates++
	case old == nil:
		// Rows of a merge may be partial, so nobody has checked what they lack.
		if op == change.OpMerge {
			if !holds(&e.x, rules.insert, row) {
				return notAllowed("a row", t.rel.Name)
			}
			if reject := t.verify(&e.x, row); reject != nil {
				return reject
			}
		}
		t.set(&e.x, h, r, key, row)
		t.put(e, h, key, row)
		out.Accepted++
	case op == change.OpIgnore || !t.rules.Table.Keyed():
		out.Duplicates++
	case op == change.OpInsert:
		return &change.Reject{Code: codeConflict, Field: t.pkName, Detail: "a row with this key exists"}
	case !rules.sees(&e.x, old):
		return notAllowed("a row with this key exists", t.rel.Name)
	default:
		row = t.merged(&e.x, old, row, bitmap, true)
		if !holds(&e.x, rules.check, row) {
			return notAllowed("the row becomes one", t.rel.Name)
		}
		if reject := t.verify(&e.x, row); reject != nil {
			return reject
		}
		if !same(old, row) {
			t.set(&e.x, h, r, key, row)
		}
		t.wrote(&e.x, h, key)
		out.Accepted++
	}
	return nil
}
