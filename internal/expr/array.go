package expr

import (
	"bytes"
	"cmp"

	"laaster/app"
	"laaster/internal/change"
)

// smallArray is how many elements of an array are read without allocating.
const smallArray = 16

// parseArray reads PostgreSQL's form of arrays: {a,"b c",NULL}. Only one dimension, counted from 1.
func parseArray(t app.Type, src, dst []byte) (change.Value, []byte, error) {
	from := len(dst)
	fail := func(err error) (change.Value, []byte, error) { return change.Value{}, dst[:from], err }
	r, err := readArray(src)
	if err != nil {
		return fail(err)
	}
	var buf [smallArray]change.Value
	vals, elem := buf[:0], t.Elem()
	for r.more() {
		text, null, grown, err := r.next(dst)
		if err != nil {
			return fail(err)
		}
		dst = grown
		if null {
			vals = append(vals, change.Null())
			continue
		}
		var v change.Value
		if v, dst, err = ParseText(elem, text, dst); err != nil {
			return fail(err)
		}
		vals = append(vals, v)
	}
	return finishArray(dst, from, elem, vals)
}

// finishArray appends the array of vals, whose bytes may lie in dst from an offset on.
func finishArray(dst []byte, from int, elem app.Type, vals []change.Value) (change.Value, []byte, error) {
	at := len(dst)
	dst = change.AppendArray(dst, elem, vals)
	if len(dst)-at > MaxValue || !arrayFits(elem, vals) {
		return change.Value{}, dst[:from], arrayTooLong()
	}
	return since(dst, at), dst, nil
}

// arrayFits bounds the number of elements, and of numerics the print: a zero with 16,383 digits after the point takes three
// bytes.
func arrayFits(elem app.Type, vals []change.Value) bool {
	if len(vals) > change.MaxArray {
		return false
	}
	digits := 0
	for i := range vals {
		if elem == app.Numeric && !vals[i].Null {
			digits += change.DecodeNumeric(vals[i].B).Scale
		}
	}
	return digits <= 4*MaxValue
}

func arrayTooLong() *EvalError {
	return evalErrorf(codeLimit, "the array would take more than %d bytes", MaxValue)
}

// arrayReader reads the elements of an array in text form.
type arrayReader struct {
	src, s []byte // s: what follows the elements that were read, without space before it; ends before the brace
}

func readArray(src []byte) (arrayReader, error) {
	r := arrayReader{src: src, s: trimSpace(src)}
	if len(r.s) > 0 && r.s[0] == '[' {
		return r, &EvalError{codeFeature, "arrays are indexed from 1 here: bounds before an array are not read"}
	}
	if len(r.s) < 2 || r.s[0] != '{' || r.s[len(r.s)-1] != '}' {
		return r, r.malformed()
	}
	r.s = trimSpace(r.s[1 : len(r.s)-1])
	return r, nil
}

func (r *arrayReader) malformed() error {
	return evalErrorf(codeSyntax, "malformed array literal: %s", quoteShort(r.src))
}

func (r *arrayReader) more() bool { return len(r.s) > 0 }

// next returns the text of the next element. With escapes in it, it is written to dst, which is returned grown.
func (r *arrayReader) next(dst []byte) (text []byte, null bool, grown []byte, err error) {
	if r.s[0] == '{' {
		return nil, false, dst, &EvalError{codeFeature, "arrays have one dimension here"}
	}
	quoted := r.s[0] == '"'
	if quoted {
		r.s = r.s[1:]
	}
	end, escaped := elementEnd(r.s, quoted)
	if end < 0 {
		return nil, false, dst, r.malformed()
	}
	text, r.s = r.s[:end], r.s[end:]
	if quoted {
		r.s = r.s[1:]
	} else if !escaped {
		text = trimSpace(text)
	}
	if escaped {
		from := len(dst)
		dst = unescapeElement(dst, text, quoted)
		text = dst[from:len(dst):len(dst)]
	} else if !quoted {
		null = equalFold(text, "null")
		if len(text) == 0 {
			return nil, false, dst, r.malformed()
		}
	}
	if r.s = trimSpace(r.s); len(r.s) == 0 {
		return text, null, dst, nil
	}
	if r.s[0] != ',' {
		return nil, false, dst, r.malformed()
	}
	if r.s = trimSpace(r.s[1:]); len(r.s) == 0 {
		return nil, false, dst, r.malformed()
	}
	return text, null, dst, nil
}

// elementEnd returns where an element ends: before its closing quote, or before a comma or at the end; -1 when it does not.
func elementEnd(s []byte, quoted bool) (end int, escaped bool) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			escaped = true
			if i++; i == len(s) {
				return -1, false
			}
		case quoted && c == '"', !quoted && c == ',':
			return i, escaped
		case !quoted && (c == '{' || c == '}' || c == '"'):
			return -1, false
		}
	}
	if quoted {
		return -1, false
	}
	return len(s), escaped
}

// unescapeElement appends an element without its backslashes and, outside quotes, without the spaces at its end.
func unescapeElement(dst, s []byte, quoted bool) []byte {
	keep := len(dst)
	for i := 0; i < len(s); i++ {
		escaped := s[i] == '\\' && i+1 < len(s)
		if escaped {
			i++
		}
		dst = append(dst, s[i])
		if quoted || escaped || !isSpace(s[i]) {
			keep = len(dst)
		}
	}
	return dst[:keep]
}

// appendArrayText appends PostgreSQL's output of an array.
func appendArrayText(dst []byte, elem app.Type, b []byte) []byte {
	dst = append(dst, '{')
	it := change.IterateArray(b, elem)
	first := true
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if v.Null {
			dst = append(dst, "NULL"...)
			continue
		}
		from := len(dst)
		if dst = AppendText(dst, elem, v); needsQuotes(dst[from:]) {
			dst = quoteElement(dst, from)
		}
	}
	return append(dst, '}')
}

// needsQuotes reports whether an element would not read back as it is.
func needsQuotes(s []byte) bool {
	if len(s) == 0 || equalFold(s, "null") {
		return true
	}
	for _, c := range s {
		if c == '"' || c == '\\' || c == '{' || c == '}' || c == ',' || isSpace(c) {
			return true
		}
	}
	return false
}

// quoteElement puts dst[from:] in quotes.
func quoteElement(dst []byte, from int) []byte {
	more := 2
	for _, c := range dst[from:] {
		if c == '"' || c == '\\' {
			more++
		}
	}
	end := len(dst)
	for range more {
		dst = append(dst, '"')
	}
	at := len(dst) - 1 // from behind, so that nothing is overwritten before it is read
	for i := end - 1; i >= from; i-- {
		at--
		dst[at] = dst[i]
		if dst[i] == '"' || dst[i] == '\\' {
			at--
			dst[at] = '\\'
		}
	}
	dst[from], dst[len(dst)-1] = '"', '"'
	return dst
}

func appendArrayJSON(dst []byte, elem app.Type, b []byte, exact bool) []byte {
	dst = append(dst, '[')
	it := change.IterateArray(b, elem)
	first := true
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = AppendJSON(dst, elem, v, exact)
	}
	return append(dst, ']')
}

// arrayFromJSON reads a JSON array.
func arrayFromJSON(t app.Type, raw, dst []byte) (change.Value, []byte, error) {
	from := len(dst)
	if _, _, err := parseJSONB(raw, dst[from:]); err != nil {
		return change.Value{}, dst[:from], err
	}
	var buf [smallArray]change.Value
	vals, elem := buf[:0], t.Elem()
	rest := trimSpace(raw[1 : len(bytes.TrimRight(raw, " \t\r\n"))-1])
	for len(rest) > 0 {
		n := change.JSONLength(rest)
		item := trimSpace(rest[:n])
		var v change.Value
		var err error
		if item[0] == '[' && elem != app.JSONB && elem != app.Text {
			err = &EvalError{codeFeature, "arrays have one dimension here"}
		} else {
			v, dst, err = FromJSON(elem, item, dst)
		}
		if err != nil {
			return change.Value{}, dst[:from], err
		}
		vals = append(vals, v)
		if rest = trimSpace(rest[n:]); len(rest) > 0 {
			rest = trimSpace(rest[1:]) // the comma
		}
	}
	return finishArray(dst, from, elem, vals)
}

// arrayComparer orders arrays element by element, NULL above values; of two that begin alike the shorter is below.
func arrayComparer(elem app.Type) func(a, b change.Value) int {
	compare := comparer(elem)
	return func(a, b change.Value) int {
		x, y := change.IterateArray(a.B, elem), change.IterateArray(b.B, elem)
		for {
			v, more := x.Next()
			w, also := y.Next()
			if !more || !also {
				return cmp.Compare(boolInt(more), boolInt(also))
			}
			if c := compareNullable(compare, v, w); c != 0 {
				return c
			}
		}
	}
}

// compareNullable orders two values with NULL above all others and equal to itself.
func compareNullable(compare func(a, b change.Value) int, v, w change.Value) int {
	if v.Null || w.Null {
		return cmp.Compare(boolInt(v.Null), boolInt(w.Null))
	}
	return compare(v, w)
}

// castArray converts each element.
func castArray(from, to app.Type) func(c *Ctx, v change.Value) (change.Value, error) {
	f := caster(from, to)
	return func(c *Ctx, v change.Value) (change.Value, error) {
		return c.mapArray(v, from, to, f)
	}
}

// mapArray applies f to every element that is not NULL.
func (c *Ctx) mapArray(v change.Value, from, to app.Type, f func(c *Ctx, v change.Value) (change.Value, error)) (change.Value, error) {
	base := len(c.stack)
	defer func() { c.stack = c.stack[:base] }()
	it := change.IterateArray(v.B, from)
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		if !v.Null {
			var err error
			if v, err = f(c, v); err != nil {
				return v, err
			}
		}
		c.stack = append(c.stack, v)
	}
	return c.array(to, c.stack[base:])
}

// array makes an array of elem.
func (c *Ctx) array(elem app.Type, vals []change.Value) (change.Value, error) {
	from := len(c.scratch)
	c.scratch = change.AppendArray(c.scratch, elem, vals)
	if len(c.scratch)-from > MaxValue || !arrayFits(elem, vals) {
		return change.Value{}, arrayTooLong()
	}
	return c.made(from), nil
}
