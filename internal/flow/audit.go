package flow

import (
	"encoding/binary"
	"encoding/json"
	"strings"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// audit is what laaster.audit shows: the newest auditKept records of the audit trail that the log has. It is the same in every program of the log. What
// proves that the trail is whole is not here but in the log's chain of digests.
type audit struct {
	layout *change.Layout
	rows   tree   // number (8 bytes, big-endian) → the row
	last   int64  // number of the newest record; 0: none yet
	sum    sum128 // of all records that ever came: number and body
	in     []delta
	vals   []change.Value
	key    []byte
}

const (
	auditKept    = 10_000
	auditDetails = 8 << 10 // bytes of details beyond which they are left out
	auditText    = 1 << 10 // bytes of a text beyond which it is cut
	auditNumber  = 1 << 62 // numbers above are not believed
)

// AuditRelation returns laaster.audit, as relation number id of a program: the newest records of the audit trail, by number.
func AuditRelation(id int) *expr.Relation {
	text := func(name string) app.Column { return app.Column{Name: name, Type: app.Text} }
	return systemRelation(id, "laaster.audit", []int{0}, app.Column{Name: "number", Type: app.Int8}, app.Column{Name: "at", Type: app.Timestamptz},
		app.Column{Name: "sequence", Type: app.Int8}, text("subject"), text("role"), text("act"), text("object"), text("outcome"),
		app.Column{Name: "details", Type: app.JSONB})
}

func newAudit() audit {
	rel := AuditRelation(0)
	return audit{layout: rel.Layout, rows: newTree(), vals: make([]change.Value, len(rel.Columns))}
}

// add takes a record of the trail, which may be anything: what is no JSON object becomes a row with act "unreadable".
//
// Numbers only grow, so that they are a key: a record whose own number does not is given the next one, and keeps its own in the details.
func (a *audit) add(x *exec, body []byte) {
	r := readAudit(body)
	if r.number <= a.last || r.number > auditNumber {
		if r.numbered {
			r.rest["number"] = json.RawMessage(jsonNumber(r.number))
		}
		r.number = a.last + 1
	}
	a.last = r.number
	if !r.timed {
		r.at = x.stamp
	}
	text := func(s string) change.Value { return change.Bytes([]byte(s)) }
	copy(a.vals, []change.Value{change.Int(r.number), change.Int(r.at), change.Int(int64(x.seq)), text(r.subject), text(r.role), text(r.act),
		text(r.object), text(r.outcome), r.details()})
	row := x.scratch.row(a.layout, a.vals)
	a.key = binary.BigEndian.AppendUint64(a.key[:0], uint64(r.number))
	a.sum.add(hash128(domainAudit+uint64(r.number)*mixA, body))
	a.rows.add(a.key, row, 1)
	a.in = append(a.in, delta{row, 1})
	for a.rows.n > auditKept {
		c := a.rows.first()
		a.in = append(a.in, delta{x.scratch.copy(c.value()), -1})
		a.rows.add(x.scratch.copy(c.key()), nil, -1)
	}
}

func (a *audit) state(k *keeper) {
	k.tree(&a.rows)
	k.i64(&a.last)
	k.sum(&a.sum)
}

// auditRecord is a record, taken apart.
type auditRecord struct {
	number, at                          int64
	numbered, timed                     bool // it says so
	subject, role, act, object, outcome string
	rest                                map[string]json.RawMessage // what else it has
}

func readAudit(body []byte) (r auditRecord) {
	if err := json.Unmarshal(body, &r.rest); err != nil || r.rest == nil {
		shown, _ := json.Marshal(auditString(string(body)))
		return auditRecord{act: "unreadable", rest: map[string]json.RawMessage{"body": shown}}
	}
	r.numbered = r.take("number", &r.number)
	r.timed = r.take("at", &r.at)
	for name, to := range map[string]*string{"subject": &r.subject, "role": &r.role, "act": &r.act, "object": &r.object, "outcome": &r.outcome} {
		if r.take(name, to) {
			*to = auditString(*to)
		}
	}
	var inner map[string]json.RawMessage
	if r.take("details", &inner) {
		for name, v := range inner {
			r.rest[name] = v
		}
	}
	return r
}

// take moves a member into a field when it is of the field's type; else it stays among the details.
func (r *auditRecord) take(name string, to any) bool {
	v, ok := r.rest[name]
	if !ok || string(v) == "null" || json.Unmarshal(v, to) != nil {
		return false
	}
	delete(r.rest, name)
	return true
}

// details returns what has no column as a jsonb object.
func (r *auditRecord) details() change.Value {
	text, err := json.Marshal(r.rest) // in the order of the names
	if err == nil && len(text) <= auditDetails {
		if v, _, err := expr.ParseText(app.JSONB, text, nil); err == nil {
			return v
		}
	}
	v, _, _ := expr.ParseText(app.JSONB, []byte(`{"left_out": "too large, or not what jsonb can hold"}`), nil)
	return v
}

// auditString returns a text that a row can hold.
func auditString(s string) string {
	if len(s) > auditText {
		s = s[:auditText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func jsonNumber(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}
