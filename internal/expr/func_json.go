package expr

import (
	"bytes"
	"math"
	"strconv"

	"laaster/app"
	"laaster/internal/change"
)

func addJSON(c *catalog) {
	c.add("->(jsonb, text) jsonb", func(_ *Ctx, a, b change.Value) (change.Value, error) { return member(a.B, b.B), nil })
	c.add("->(jsonb, integer) jsonb", func(_ *Ctx, a, b change.Value) (change.Value, error) { return elementOrSelf(a.B, b.N), nil })
	c.add("->>(jsonb, text) text", func(c *Ctx, a, b change.Value) (change.Value, error) { return c.jsonText(member(a.B, b.B)), nil })
	c.add("->>(jsonb, integer) text", func(c *Ctx, a, b change.Value) (change.Value, error) { return c.jsonText(elementOrSelf(a.B, b.N)), nil })
	c.add("#>(jsonb, text[]) jsonb", func(_ *Ctx, a, b change.Value) (change.Value, error) { return path(a.B, b.B), nil })
	c.add("#>>(jsonb, text[]) text", func(c *Ctx, a, b change.Value) (change.Value, error) { return c.jsonText(path(a.B, b.B)), nil })
	c.add("@>(jsonb, jsonb) boolean", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		return change.Bool(contains(a.B, b.B, true)), nil
	})
	c.add("<@(jsonb, jsonb) boolean", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		return change.Bool(contains(b.B, a.B, true)), nil
	})
	c.add("?(jsonb, text) boolean", func(_ *Ctx, a, b change.Value) (change.Value, error) { return change.Bool(hasKey(a.B, b.B)), nil })
	c.add("||(jsonb, jsonb) jsonb", concatJSON)
	c.add("-(jsonb, text) jsonb", func(c *Ctx, a, b change.Value) (change.Value, error) { return without(c, a, b.B) })
	c.add("-(jsonb, integer) jsonb", withoutElement)
	c.add("jsonb_typeof(jsonb) text", func(c *Ctx, a change.Value) (change.Value, error) {
		from := len(c.scratch)
		c.scratch = append(c.scratch, jsonKindName(change.JSONKind(a.B))...)
		return c.made(from), nil
	})
	c.add("jsonb_array_length(jsonb) integer", arrayLength)
	c.add("jsonb_extract_path(jsonb, text...) jsonb", func(_ *Ctx, args []change.Value) (change.Value, error) {
		return extractPath(args), nil
	})
	c.add("jsonb_extract_path_text(jsonb, text...) text", func(c *Ctx, args []change.Value) (change.Value, error) {
		return c.jsonText(extractPath(args)), nil
	})
	addJSONChange(c)
	c.add("to_jsonb(any) jsonb", buildFunc(buildToJSON))
	c.add("jsonb_build_object() jsonb", func(*Ctx) (change.Value, error) { return change.Bytes([]byte("{}")), nil })
	c.add("jsonb_build_array() jsonb", func(*Ctx) (change.Value, error) { return change.Bytes([]byte("[]")), nil })
	c.add("jsonb_build_object(any...) jsonb", buildFunc(buildJSONObject))
	c.add("jsonb_build_array(any...) jsonb", buildFunc(buildJSONArray))
}

// member returns the value of an object's key, NULL when there is none.
func member(b, key []byte) change.Value {
	if change.JSONKind(b) != '{' {
		return change.Null()
	}
	it := change.IterateJSON(b)
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		if isKey(k, key) {
			return change.Bytes(v)
		}
	}
	return change.Null()
}

// isKey reports whether the printed string k stands for text.
func isKey(k, text []byte) bool {
	if len(k) == len(text)+2 && bytes.IndexByte(k, '\\') < 0 {
		return bytes.Equal(k[1:len(k)-1], text)
	}
	if len(k) < len(text)+2 || bytes.IndexByte(k, '\\') < 0 {
		return false
	}
	s := change.ReadJSONString(k)
	for _, want := range text {
		if c, ok := s.Next(); !ok || c != want {
			return false
		}
	}
	_, more := s.Next()
	return !more
}

// element returns element i of an array, counted from 0 or, when negative, from the end.
func element(b []byte, i int64) change.Value {
	if change.JSONKind(b) != '[' {
		return change.Null()
	}
	if i < 0 {
		if i += int64(change.JSONCount(b)); i < 0 {
			return change.Null()
		}
	}
	it := change.IterateJSON(b)
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		if i == 0 {
			return change.Bytes(v)
		}
		i--
	}
	return change.Null()
}

// elementOrSelf is -> with a number: to PostgreSQL a scalar at the top is an array of one.
func elementOrSelf(b []byte, i int64) change.Value {
	if k := change.JSONKind(b); (i == 0 || i == -1) && k != '[' && k != '{' {
		return change.Bytes(b)
	}
	return element(b, i)
}

// jsonText is what ->> makes of what -> found: strings without quotes, JSON null as NULL, all else as its print.
func (c *Ctx) jsonText(v change.Value) change.Value {
	if v.Null {
		return v
	}
	switch change.JSONKind(v.B) {
	case 'n':
		return change.Null()
	case '"':
		if bytes.IndexByte(v.B, '\\') < 0 {
			return change.Bytes(v.B[1 : len(v.B)-1])
		}
		from := len(c.scratch)
		c.scratch = change.AppendJSONString(c.scratch, v.B)
		return c.made(from)
	}
	return v
}

// step goes one step into a value: by key into an object, by index into an array.
func step(b, key []byte) change.Value {
	if change.JSONKind(b) == '[' {
		i, err := strconv.ParseInt(viewString(key), 10, 32)
		if err != nil {
			return change.Null()
		}
		return element(b, i)
	}
	return member(b, key)
}

// path follows a path of keys and indexes, an array of text.
func path(b, keys []byte) change.Value {
	v := change.Bytes(b)
	it := change.IterateArray(keys, app.Text)
	for key, ok := it.Next(); ok && !v.Null; key, ok = it.Next() {
		if key.Null {
			return key
		}
		v = step(v.B, key.B)
	}
	return v
}

func extractPath(args []change.Value) change.Value {
	v := args[0]
	for _, key := range args[1:] {
		if v = step(v.B, key.B); v.Null {
			break
		}
	}
	return v
}

// contains is @>. At the top an array contains a scalar that is one of its elements.
func contains(a, b []byte, top bool) bool {
	ka, kb := change.JSONKind(a), change.JSONKind(b)
	switch {
	case ka == '{' && kb == '{':
		it := change.IterateJSON(b)
		for key, want, ok := it.Next(); ok; key, want, ok = it.Next() {
			if !memberContains(a, key, want) {
				return false
			}
		}
		return true
	case ka == '[' && kb == '[':
		it := change.IterateJSON(b)
		for _, want, ok := it.Next(); ok; _, want, ok = it.Next() {
			if !anyContains(a, want) {
				return false
			}
		}
		return true
	case ka == '[' && top && kb != '{':
		return anyContains(a, b)
	case ka == '{' || ka == '[' || kb == '{' || kb == '[':
		return false
	}
	return compareJSON(a, b) == 0
}

func memberContains(object, key, want []byte) bool {
	it := change.IterateJSON(object)
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		if bytes.Equal(k, key) {
			return contains(v, want, false)
		}
	}
	return false
}

func anyContains(array, want []byte) bool {
	it := change.IterateJSON(array)
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		if contains(v, want, false) {
			return true
		}
	}
	return false
}

// hasKey is ?: a key of an object, a string in an array, or a string itself.
func hasKey(b, text []byte) bool {
	switch change.JSONKind(b) {
	case '"':
		return isKey(b, text)
	case '{':
		return !member(b, text).Null
	}
	it := change.IterateJSON(b)
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		if v[0] == '"' && isKey(v, text) {
			return true
		}
	}
	return false
}

func arrayLength(_ *Ctx, a change.Value) (change.Value, error) {
	switch change.JSONKind(a.B) {
	case '[':
		return change.Int(int64(change.JSONCount(a.B))), nil
	case '{':
		return a, &EvalError{codeParameter, "cannot get array length of a non-array"}
	}
	return a, &EvalError{codeParameter, "cannot get array length of a scalar"}
}

// concatJSON is ||: objects merge, the right one's members winning; everything else becomes an array.
func concatJSON(c *Ctx, a, b change.Value) (change.Value, error) {
	if len(a.B)+len(b.B) > MaxValue {
		return a, tooLong()
	}
	from := len(c.scratch)
	ka, kb := change.JSONKind(a.B), change.JSONKind(b.B)
	if ka == '{' && kb == '{' {
		c.mergeObjects(a.B, b.B)
		return c.made(from), nil
	}
	c.scratch = append(c.scratch, '[')
	for _, v := range [2][]byte{a.B, b.B} {
		if change.JSONKind(v) == '[' {
			v = v[1 : len(v)-1]
		}
		if len(v) > 0 && len(c.scratch) > from+1 {
			c.scratch = append(c.scratch, ", "...)
		}
		c.scratch = append(c.scratch, v...)
	}
	c.scratch = append(c.scratch, ']')
	return c.made(from), nil
}

// mergeObjects appends the members of both in order.
func (c *Ctx) mergeObjects(a, b []byte) {
	x, y := change.IterateJSON(a), change.IterateJSON(b)
	kx, vx, okx := x.Next()
	ky, vy, oky := y.Next()
	c.scratch = append(c.scratch, '{')
	for first := true; okx || oky; first = false {
		if !first {
			c.scratch = append(c.scratch, ", "...)
		}
		order := 0
		switch {
		case !oky:
			order = -1
		case !okx:
			order = 1
		default:
			order = compareJSONKeys(kx, ky)
		}
		if order < 0 {
			c.scratch = append(append(append(c.scratch, kx...), ": "...), vx...)
		} else {
			c.scratch = append(append(append(c.scratch, ky...), ": "...), vy...)
			ky, vy, oky = y.Next()
		}
		if order <= 0 {
			kx, vx, okx = x.Next()
		}
	}
	c.scratch = append(c.scratch, '}')
}

// without is jsonb - text: an object without a key, an array without the strings that equal it.
func without(c *Ctx, a change.Value, text []byte) (change.Value, error) {
	kind := change.JSONKind(a.B)
	if kind != '{' && kind != '[' {
		return a, &EvalError{codeParameter, "cannot delete from scalar"}
	}
	return c.filterJSON(a.B, func(_ int, key, value []byte) bool {
		if kind == '{' {
			return !isKey(key, text)
		}
		return value[0] != '"' || !isKey(value, text)
	}), nil
}

// withoutElement is jsonb - integer.
func withoutElement(c *Ctx, a, b change.Value) (change.Value, error) {
	switch change.JSONKind(a.B) {
	case '{':
		return a, &EvalError{codeParameter, "cannot delete from object using integer index"}
	case '[':
	default:
		return a, &EvalError{codeParameter, "cannot delete from scalar"}
	}
	at := b.N
	if at < 0 {
		at += int64(change.JSONCount(a.B))
	}
	return c.filterJSON(a.B, func(i int, _, _ []byte) bool { return int64(i) != at }), nil
}

// filterJSON copies the members or elements that keep wants.
func (c *Ctx) filterJSON(b []byte, keep func(i int, key, value []byte) bool) change.Value {
	from := len(c.scratch)
	c.scratch = append(c.scratch, b[0])
	it := change.IterateJSON(b)
	i := 0
	for key, value, ok := it.Next(); ok; key, value, ok = it.Next() {
		if keep(i, key, value) {
			if len(c.scratch) > from+1 {
				c.scratch = append(c.scratch, ", "...)
			}
			if key != nil {
				c.scratch = append(append(c.scratch, key...), ": "...)
			}
			c.scratch = append(c.scratch, value...)
		}
		i++
	}
	c.scratch = append(c.scratch, b[len(b)-1])
	return c.made(from)
}

// appendAsJSON appends a value as jsonb holds it: timestamps as RFC 3339 without needless digits, as to_jsonb writes them.
func appendAsJSON(dst []byte, t app.Type, v change.Value) []byte {
	switch {
	case v.Null:
		return append(dst, "null"...)
	case t == app.Timestamptz, t == app.Timestamp:
		return appendTimestampISO(dst, v.N, t == app.Timestamptz)
	case t == app.Float8:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return append(appendFloat(append(dst, '"'), f), '"')
		}
		n, _ := parseNum(appendFloat(nil, f)) // jsonb holds numerics: 1e+20 is written out
		return appendNumText(dst, &n)
	case t.IsArray():
		return appendArrayAsJSON(dst, t.Elem(), v.B)
	}
	return AppendJSON(dst, t, v, false)
}

func appendArrayAsJSON(dst []byte, elem app.Type, b []byte) []byte {
	dst = append(dst, '[')
	it := change.IterateArray(b, elem)
	first := true
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		if !first {
			dst = append(dst, ", "...)
		}
		first = false
		dst = appendAsJSON(dst, elem, v)
	}
	return append(dst, ']')
}

func buildToJSON(n *Node, _ *change.Layout, args []Func) (Func, error) {
	t := n.Args[0].Type
	return strict1(func(c *Ctx, a change.Value) (change.Value, error) {
		from := len(c.scratch)
		c.scratch = appendAsJSON(c.scratch, t, a)
		return c.made(from), nil
	}, args[0]), nil
}

func buildJSONArray(n *Node, _ *change.Layout, args []Func) (Func, error) {
	types := typesOf(n.Args)
	return all(func(c *Ctx, args []change.Value) (change.Value, error) {
		from := len(c.scratch)
		c.scratch = append(c.scratch, '[')
		for i, v := range args {
			if i > 0 {
				c.scratch = append(c.scratch, ", "...)
			}
			c.scratch = appendAsJSON(c.scratch, types[i], v)
		}
		c.scratch = append(c.scratch, ']')
		return c.limited(from)
	}, args), nil
}

func (c *Ctx) limited(from int) (change.Value, error) {
	if len(c.scratch)-from > MaxValue {
		return change.Value{}, tooLong()
	}
	return c.made(from), nil
}

// buildJSONObject compiles jsonb_build_object(key, value, …).
func buildJSONObject(n *Node, _ *change.Layout, args []Func) (Func, error) {
	types := typesOf(n.Args)
	return all(func(c *Ctx, args []change.Value) (change.Value, error) {
		if len(args)%2 != 0 {
			return change.Value{}, &EvalError{codeParameter, "argument list must have even number of elements"}
		}
		from := len(c.scratch)
		c.scratch = append(c.scratch, '{')
		for i, v := range args {
			switch {
			case i%2 == 1:
				c.scratch = appendAsJSON(append(c.scratch, ": "...), types[i], v)
				continue
			case v.Null:
				return v, evalErrorf(codeParameter, "argument %d: key must not be null", i+1)
			case i > 0:
				c.scratch = append(c.scratch, ", "...)
			}
			if types[i].IsArray() || types[i] == app.JSONB {
				return v, &EvalError{codeParameter, "key value must be scalar, not array, composite, or json"}
			}
			c.scratch = AppendAsJSONKey(c.scratch, types[i], v)
		}
		c.scratch = append(c.scratch, '}')
		v, scratch, err := parseJSONB(c.scratch[from:], c.scratch) // sorts the members
		c.scratch = scratch
		return v, err
	}, args), nil
}
