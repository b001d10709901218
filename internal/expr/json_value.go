package expr

import (
	"bytes"
	"cmp"
	"strconv"

	"laaster/app"
	"laaster/internal/change"
)

// exactInt is the largest n such that JavaScript's numbers hold every integer from -n to n.
const exactInt = 1 << 53

// AppendJSON appends v as JSON. Times are RFC 3339 with microseconds, timestamp without a zone; jsonb is itself; arrays are
// arrays; NaN and the infinities are strings. exact: bigint beyond 2^53 and every numeric are strings, for readers whose numbers are doubles.
func AppendJSON(dst []byte, t app.Type, v change.Value, exact bool) []byte {
	if v.Null {
		return append(dst, "null"...)
	}
	switch t {
	case app.Bool:
		return strconv.AppendBool(dst, v.N != 0)
	case app.Int4:
		return strconv.AppendInt(dst, v.N, 10)
	case app.Int8:
		if exact && (v.N > exactInt || v.N < -exactInt) {
			return append(strconv.AppendInt(append(dst, '"'), v.N, 10), '"')
		}
		return strconv.AppendInt(dst, v.N, 10)
	case app.Float8:
		if f := v.Float(); f-f != 0 { // NaN or infinite
			return append(appendFloat(append(dst, '"'), f), '"')
		}
		return appendFloat(dst, v.Float())
	case app.Numeric:
		n := toNum(v.B)
		if exact || n.kind != change.NumericFinite {
			return append(appendNumText(append(dst, '"'), &n), '"')
		}
		return appendNumText(dst, &n)
	case app.Text:
		return append(appendJSONChars(append(dst, '"'), v.B), '"')
	case app.Timestamptz, app.Timestamp:
		return append(appendTimestampJSON(append(dst, '"'), v.N, t == app.Timestamptz), '"')
	case app.JSONB:
		return append(dst, v.B...)
	}
	if t.IsArray() {
		return appendArrayJSON(dst, t.Elem(), v.B, exact)
	}
	return append(AppendText(append(dst, '"'), t, v), '"') // uuid, date, interval: nothing to escape
}

// FromJSON reads one JSON value, raw without surrounding space, as a value of type t: as PostgreSQL's json_populate_record
// does, the text of a string, number or boolean goes to the type's input syntax, null is NULL, arrays and objects are for
// jsonb, for text as the JSON that they are, and arrays for arrays. Bytes that the value needs are appended to dst, which is returned grown;
// the value aliases it, or raw itself. integer, bigint, boolean, timestamptz, text without escapes and uuid into a dst
// with room allocate nothing. The error is an *EvalError.
func FromJSON(t app.Type, raw []byte, dst []byte) (change.Value, []byte, error) {
	if len(raw) == 0 {
		return change.Value{}, dst, evalErrorf(codeSyntax, "invalid input syntax for type json: there is nothing")
	}
	if raw[0] == 'n' && string(raw) == "null" {
		return change.Null(), dst, nil
	}
	if t == app.JSONB {
		return parseJSONB(raw, dst)
	}
	switch raw[0] {
	case '"':
		return fromJSONString(t, raw, dst)
	case '{', '[':
		if t.IsArray() && raw[0] == '[' {
			return arrayFromJSON(t, raw, dst)
		}
		if t != app.Text {
			return change.Value{}, dst, evalErrorf(codeSyntax, "expected a value of type %s, but found a JSON array or object", t)
		}
	}
	if err := checkJSON(raw, dst); err != nil {
		return change.Value{}, dst, err
	}
	return ParseText(t, raw, dst)
}

// checkJSON reports what is wrong with JSON text that is no string.
func checkJSON(raw, dst []byte) error {
	switch c := raw[0]; {
	case c == '{' || c == '[':
		_, _, err := parseJSONB(raw, dst[len(dst):])
		return err
	case string(raw) == "true" || string(raw) == "false":
		return nil
	}
	p := jsonParser{s: raw}
	if err := p.numberSyntax(); err != nil {
		return err
	}
	if p.i < len(raw) {
		return p.unexpected("the end of the number")
	}
	return nil
}

func fromJSONString(t app.Type, raw, dst []byte) (change.Value, []byte, error) {
	if end := bytes.IndexByte(raw[1:], '"'); end >= 0 && end == len(raw)-2 && bytes.IndexByte(raw, '\\') < 0 {
		text := raw[1 : len(raw)-1]
		for _, c := range text {
			if c < ' ' {
				return change.Value{}, dst, evalErrorf(codeSyntax, "invalid input syntax for type json: character 0x%02x must be escaped", c)
			}
		}
		return ParseText(t, text, dst)
	}
	from := len(dst)
	dst, n, err := unescapeJSON(raw, dst)
	if err == nil && n != len(raw) {
		err = evalErrorf(codeSyntax, "invalid input syntax for type json: text follows the string")
	}
	if err != nil {
		return change.Value{}, dst[:from], err
	}
	return ParseText(t, dst[from:len(dst):len(dst)], dst)
}

// compareJSON orders printed jsonb values as PostgreSQL does.
func compareJSON(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	ra, rb := rankJSON(a, true), rankJSON(b, true)
	if ra != rb {
		return ra - rb
	}
	return compareJSONAlike(a, b)
}

// rankJSON orders the types. An empty array at the top is below everything, a quirk that PostgreSQL keeps.
func rankJSON(b []byte, top bool) int {
	switch change.JSONKind(b) {
	case 'n':
		return 1
	case '"':
		return 2
	case '0':
		return 3
	case 't', 'f':
		return 4
	case '[':
		if top && len(b) == 2 {
			return 0
		}
		return 5
	}
	return 6
}

// compareJSONAlike orders two values of one type.
func compareJSONAlike(a, b []byte) int {
	switch change.JSONKind(a) {
	case 'n':
		return 0
	case 't', 'f':
		return cmp.Compare(a[0], b[0]) // 'f' before 't'
	case '"':
		return compareJSONStrings(a, b)
	case '0':
		return compareDecimals(a, b)
	}
	if na, nb := change.JSONCount(a), change.JSONCount(b); na != nb {
		return na - nb
	}
	ia, ib := change.IterateJSON(a), change.IterateJSON(b)
	for {
		ka, va, ok := ia.Next()
		kb, vb, _ := ib.Next()
		if !ok {
			return 0
		}
		if c := compareJSONStrings(ka, kb); c != 0 {
			return c
		}
		if ra, rb := rankJSON(va, false), rankJSON(vb, false); ra != rb {
			return ra - rb
		}
		if c := compareJSONAlike(va, vb); c != 0 {
			return c
		}
	}
}

// compareJSONStrings orders printed strings by the text that they stand for.
func compareJSONStrings(a, b []byte) int {
	x, y := change.ReadJSONString(a), change.ReadJSONString(b)
	for {
		c, more := x.Next()
		d, also := y.Next()
		switch {
		case !more && !also:
			return 0
		case !more:
			return -1
		case !also:
			return 1
		case c != d:
			return int(c) - int(d)
		}
	}
}
