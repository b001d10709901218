package ingest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// Bounds of CloudEvents: each is an entry of the log with an idempotency key of its own.
const (
	maxEvents    = 10_000
	maxAttribute = 2 << 10 // bytes of source, id and type
	eventBytes   = 512     // that an event holds until it is answered, beside its row
)

// eventKey is the first byte of an entry's key when the rest is the digest of an event's source and id.
const eventKey = 1

// Events says in which form a request brings CloudEvents 1.0. The zero value: it brings rows.
type Events uint8

// The forms of CloudEvents.
const (
	EventBinary     Events = iota + 1 // attributes beside the data: Request.Attributes
	EventStructured                   // one object with attributes and data
	EventBatch                        // an array of such objects
)

// Attribute is one attribute of an event: its name and its value as JSON.
type Attribute struct {
	Name  string
	Value []byte
}

// event is one CloudEvent.
type event struct {
	source, id, kind, version string
	datatype                  string
	attributes                []Attribute // that may fill a column
	data                      []byte      // JSON; nil: none
	base64                    bool
	problem                   *wire.Problem // the first thing wrong with it
}

// bad notes what is wrong with the event.
func (e *event) bad(field, detail, hint string) {
	if e.problem == nil {
		e.problem = wire.NewProblem(wire.InvalidRow, detail).WithField(field, hint)
	}
}

// read takes one event object. The error is of syntax; what is wrong with the event is noted in it.
func (e *event) read(s *scanner, t *table) error {
	*e = event{attributes: e.attributes[:0]}
	if s.space() != '{' {
		e.bad("", "a CloudEvent is a JSON object", `write {"specversion": "1.0", "id": …, "source": …, "type": …, "data": {…}}`)
		_, err := s.value(0)
		return err
	}
	s.pos++
	if s.space() == '}' {
		s.pos++
		return nil
	}
	for {
		key, err := s.key()
		if err != nil {
			return err
		}
		value, err := s.value(1)
		if err != nil {
			return err
		}
		e.member(unquote(key), value, t)
		if done, err := s.more('}'); done || err != nil {
			return err
		}
	}
}

// unquote resolves the escapes of a string that the scanner took.
func unquote(tok []byte) string {
	var s string
	if err := json.Unmarshal(tok, &s); err != nil {
		return string(tok)
	}
	return s
}

func (e *event) member(name string, value []byte, t *table) {
	switch name {
	case "data", "data_base64":
		if e.data != nil {
			e.bad(name, "an event has data once", "")
		}
		e.data, e.base64 = value, name == "data_base64"
	default:
		e.attribute(name, value, t)
	}
}

// attribute takes one attribute; null is as good as none.
func (e *event) attribute(name string, value []byte, t *table) {
	if string(value) == "null" {
		return
	}
	var to *string
	switch name {
	case "source":
		to = &e.source
	case "id":
		to = &e.id
	case "type":
		to = &e.kind
	case "specversion":
		to = &e.version
	case "datacontenttype":
		to = &e.datatype
	}
	if to != nil {
		switch {
		case value[0] != '"':
			e.bad(name, name+" is a string", "")
		case *to != "":
			e.bad(name, "the event has "+name+" twice", "")
		case len(value) > maxAttribute:
			e.bad(name, fmt.Sprintf("%s takes more than %d bytes", name, maxAttribute), "")
		default:
			*to = unquote(value)
		}
	}
	if name == "time" {
		if _, err := time.Parse(time.RFC3339Nano, strings.ToUpper(unquote(value))); err != nil || value[0] != '"' {
			e.bad(name, "time is a timestamp of RFC 3339", "such as 2026-01-31T12:00:00Z")
		}
	}
	if t.takes(name) {
		e.attributes = append(e.attributes, Attribute{name, value})
	}
}

// check says what the event lacks, and gets at its data.
func (e *event) check() {
	for _, a := range []struct{ name, value string }{{"specversion", e.version}, {"id", e.id}, {"source", e.source}, {"type", e.kind}} {
		if a.value == "" {
			e.bad(a.name, "the event has no "+a.name, "specversion, id, source and type are required")
		}
	}
	if e.version != "1.0" {
		e.bad("specversion", "events of version "+clip(e.version)+" are not read", `it is "1.0"`)
	}
	if e.datatype != "" && !isJSON(e.datatype) {
		e.bad("datacontenttype", "data of type "+clip(e.datatype)+" is no row", "send the row as JSON")
	}
	if e.base64 && e.problem == nil {
		text, err := base64.StdEncoding.DecodeString(unquote(e.data))
		if e.data = text; err != nil || !utf8.Valid(text) {
			e.bad("data_base64", "data_base64 is not base64 of JSON in UTF-8", "")
		}
	}
	if e.data == nil {
		e.data = []byte("{}")
	}
}

// key is the idempotency key of the event: what has the same source and id is the same event.
func (e *event) key() []byte {
	h := sha256.Sum256([]byte(strconv.Itoa(len(e.source)) + " " + e.source + e.id))
	return base64.RawURLEncoding.AppendEncode([]byte{eventKey}, h[:18])
}

func isJSON(kind string) bool {
	kind, _, err := mime.ParseMediaType(kind)
	return err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"))
}

// takes reports whether an attribute of an event may fill a column.
func (t *table) takes(name string) bool {
	_, ok := t.attributes[name]
	return ok
}

// newAttributes returns, by the name of an attribute, the column that it fills when the data does not: ce_name for any of them, and the event time column
// for the time.
func newAttributes(rel *expr.Relation, columns map[string]int) map[string]int {
	out := map[string]int{}
	for name, col := range columns {
		if attribute, ok := strings.CutPrefix(name, "ce_"); ok && attribute != "" {
			out[attribute] = col
		}
	}
	if at := rel.Table.EventTime; at >= 0 && rel.Table.Table.Options["event_time"] != "" {
		if _, ok := out["time"]; !ok {
			out["time"] = at
		}
	}
	return out
}

// events reads the CloudEvents of a request. Each is a write of its own with its own key: one that came before counts as a duplicate.
func (j *job) events(d *rowDecoder) error {
	e := &event{}
	switch {
	case j.r.Events == EventBinary:
		j.single = true
		for _, a := range j.r.Attributes {
			e.attribute(a.Name, a.Value, j.table)
		}
		if len(j.r.Rows) > 0 {
			e.data = j.r.Rows
		}
		return j.event(d, e)
	case j.r.Events == EventStructured:
		j.single = true
		if err := e.read(&d.scan, j.table); err != nil {
			return err
		}
		if err := end(d); err != nil {
			return err
		}
		return j.event(d, e)
	case d.scan.space() != '[':
		return d.scan.fail("a batch of CloudEvents is an array")
	}
	d.scan.pos++
	if d.scan.space() == ']' {
		d.scan.pos++
		return end(d)
	}
	for {
		if j.rows >= maxEvents {
			return wire.NewProblem(wire.TooMany, fmt.Sprintf("a request has at most %d events", maxEvents)).WithHint("send them in several requests")
		}
		if err := j.next(); err != nil {
			return err
		}
		if err := e.read(&d.scan, j.table); err != nil {
			return err
		}
		if err := j.event(d, e); err != nil {
			return err
		}
		done, err := d.scan.more(']')
		if err != nil {
			return err
		}
		if done {
			return end(d)
		}
	}
}

// event adds the entry of one event, or its refusal.
func (j *job) event(d *rowDecoder, e *event) error {
	if e.check(); e.problem != nil {
		return j.reject(e.problem)
	}
	around := d.scan
	d.scan = scanner{src: e.data}
	err := d.members()
	if err == nil {
		err = end(d)
	}
	if d.scan = around; err != nil {
		p := syntaxProblem(err, e.data)
		p.Detail = "data: " + p.Detail
		return j.reject(p)
	}
	if d.problem == nil {
		d.fill(e.attributes)
	}
	at := j.rows
	if err := j.finish(d); err != nil || j.count == 0 {
		return err
	}
	if err := j.hold(eventBytes); err != nil {
		return err
	}
	j.cutEvent(e.key(), at)
	return nil
}

// fill gives the columns that the data leaves out the attributes that are for them.
func (d *rowDecoder) fill(attributes []Attribute) {
	for _, a := range attributes {
		col := d.t.attributes[a.Name]
		if d.has(col) || !may(d.permit.give, col) {
			continue
		}
		v, buf, err := expr.FromJSON(d.t.cols[col].Type, a.Value, d.buf)
		if err != nil {
			d.problem = wire.NewProblem(wire.InvalidRow, "attribute "+clip(a.Name)+": "+err.Error()).WithField(d.t.cols[col].Name,
				d.t.cols[col].Name+" is "+d.t.cols[col].Type.String())
			return
		}
		d.buf = buf
		d.vals[col] = v
		d.given[col>>3] |= 1 << (col & 7)
	}
}

// cutEvent makes the record at hand an entry of its own.
func (j *job) cutEvent(key []byte, row int) {
	e := j.entry(0, true)
	e.Key = key
	j.parts = append(j.parts, &part{entry: e, received: j.r.Received, done: make(chan answer, 1), event: true, row: row})
	j.logged += j.count
	j.body, j.count = j.body[:0], 0
}

// eventHeaders reads the attributes of an event in the binary form; none when there is no ce-specversion.
func (r *Request) eventHeaders(h http.Header) {
	if h.Get("Ce-Specversion") == "" {
		return
	}
	r.Events = EventBinary
	for name, values := range h {
		if attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-"); ok && attribute != "data" {
			for _, v := range values { // one that is there twice is refused
				text, _ := json.Marshal(headerText(v))
				r.Attributes = append(r.Attributes, Attribute{attribute, text})
			}
		}
	}
}

// headerText returns what the header of an attribute stands for: quoted strings and percent-encoding are resolved once.
func headerText(v string) string {
	if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
		plain := make([]byte, 0, len(v))
		for i := 1; i < len(v)-1; i++ {
			if v[i] == '\\' && i+1 < len(v)-1 {
				i++
			}
			plain = append(plain, v[i])
		}
		v = string(plain)
	}
	if !strings.Contains(v, "%") {
		return strings.ToValidUTF8(v, "\uFFFD")
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) {
			if n, err := strconv.ParseUint(v[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(v[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// eventful refuses what has no place beside CloudEvents, whose keys they bring.
func (r *Request) eventful() *wire.Problem {
	field := ""
	switch {
	case r.Events == 0:
		return nil
	case r.Op != change.OpInsert && r.Op != change.OpMerge && r.Op != change.OpIgnore:
		return wire.NewProblem(wire.InvalidRequest, "CloudEvents are posted")
	case r.Key != "":
		field = keyField
	case r.Producer != "":
		field = sequenceField
	case r.Atomic && r.Events == EventBatch:
		field = "_atomic"
	default:
		return nil
	}
	return wire.NewProblem(wire.InvalidRequest, "source and id are the key of an event: "+field+" has no place beside CloudEvents").WithField(field, "leave it out")
}
