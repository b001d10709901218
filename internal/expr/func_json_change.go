package expr

import (
	"strconv"

	"laaster/app"
	"laaster/internal/change"
)

func addJSONChange(c *catalog) {
	c.add("?|(jsonb, text[]) boolean", func(_ *Ctx, a, b change.Value) (change.Value, error) { return hasKeys(a.B, b.B, false), nil })
	c.add("?&(jsonb, text[]) boolean", func(_ *Ctx, a, b change.Value) (change.Value, error) { return hasKeys(a.B, b.B, true), nil })
	c.add("-(jsonb, text[]) jsonb", withoutKeys)
	c.add("#-(jsonb, text[]) jsonb", func(c *Ctx, a, b change.Value) (change.Value, error) {
		return c.editJSON(a, b.B, nil, editDelete)
	})
	set := func(c *Ctx, args []change.Value) (change.Value, error) {
		mode := editCreate
		if len(args) > 3 && args[3].N == 0 {
			mode = editReplace
		}
		return c.editJSON(args[0], args[1].B, args[2].B, mode)
	}
	c.add("jsonb_set(jsonb, text[], jsonb) jsonb", set)
	c.add("jsonb_set(jsonb, text[], jsonb, boolean) jsonb", set)
	insert := func(c *Ctx, args []change.Value) (change.Value, error) {
		mode := editBefore
		if len(args) > 3 && args[3].N != 0 {
			mode = editAfter
		}
		return c.editJSON(args[0], args[1].B, args[2].B, mode)
	}
	c.add("jsonb_insert(jsonb, text[], jsonb) jsonb", insert)
	c.add("jsonb_insert(jsonb, text[], jsonb, boolean) jsonb", insert)
	c.add("jsonb_strip_nulls(jsonb) jsonb", func(c *Ctx, a change.Value) (change.Value, error) {
		from := len(c.scratch)
		c.scratch = stripNulls(c.scratch, a.B)
		return c.made(from), nil
	})
	c.add("jsonb_pretty(jsonb) text", func(c *Ctx, a change.Value) (change.Value, error) {
		from := len(c.scratch)
		c.scratch = appendPretty(c.scratch, a.B, 0)
		return c.limited(from)
	})
	c.add("jsonb_object(text[]) jsonb", func(c *Ctx, a change.Value) (change.Value, error) {
		if change.ArrayLen(a.B)%2 != 0 {
			return a, &EvalError{codeElement, "array must have even number of elements"}
		}
		it := change.IterateArray(a.B, app.Text)
		return c.objectOf(&it, &it)
	})
	c.add("jsonb_object(text[], text[]) jsonb", func(c *Ctx, a, b change.Value) (change.Value, error) {
		if change.ArrayLen(a.B) != change.ArrayLen(b.B) {
			return a, &EvalError{codeElement, "mismatched array dimensions"}
		}
		x, y := change.IterateArray(a.B, app.Text), change.IterateArray(b.B, app.Text)
		return c.objectOf(&x, &y)
	})
}

// objectOf makes an object of keys and values in turn.
func (c *Ctx) objectOf(keys, values *change.ArrayIter) (change.Value, error) {
	from := len(c.scratch)
	c.scratch = append(c.scratch, '{')
	for key, ok := keys.Next(); ok; key, ok = keys.Next() {
		v, _ := values.Next()
		if key.Null {
			return key, &EvalError{codeNull, "null value not allowed for object key"}
		}
		if len(c.scratch) > from+1 {
			c.scratch = append(c.scratch, ", "...)
		}
		c.scratch = append(appendJSONChars(append(c.scratch, '"'), key.B), `": `...)
		c.scratch = AppendJSON(c.scratch, app.Text, v, false)
	}
	c.scratch = append(c.scratch, '}')
	v, scratch, err := parseJSONB(c.scratch[from:], c.scratch) // sorts the members
	c.scratch = scratch
	return v, err
}

// hasKeys is ?| and, with all, ?&. NULL keys do not count.
func hasKeys(b, keys []byte, all bool) change.Value {
	it := change.IterateArray(keys, app.Text)
	for key, ok := it.Next(); ok; key, ok = it.Next() {
		if !key.Null && hasKey(b, key.B) != all {
			return change.Bool(!all)
		}
	}
	return change.Bool(all)
}

func withoutKeys(c *Ctx, a, b change.Value) (change.Value, error) {
	kind := change.JSONKind(a.B)
	if kind != '{' && kind != '[' {
		return a, &EvalError{codeParameter, "cannot delete from scalar"}
	}
	if len(a.B)*change.ArrayLen(b.B) > maxSetWork {
		return a, tooManyElements()
	}
	return c.filterJSON(a.B, func(_ int, key, value []byte) bool {
		if kind == '[' {
			if key = value; value[0] != '"' {
				return true
			}
		}
		it := change.IterateArray(b.B, app.Text)
		for want, ok := it.Next(); ok; want, ok = it.Next() {
			if !want.Null && isKey(key, want.B) {
				return false
			}
		}
		return true
	}), nil
}

// editMode says what happens at the end of a path.
type editMode uint8

const (
	editDelete  editMode = iota
	editReplace          // what is there
	editCreate           // what is there, or a new member or element
	editBefore           // a new element before the one there, or a new member
	editAfter            // behind it
)

// editJSON changes what a path leads to.
func (c *Ctx) editJSON(a change.Value, keys, value []byte, mode editMode) (change.Value, error) {
	n := change.ArrayLen(keys)
	kind := change.JSONKind(a.B)
	switch {
	case kind != '{' && kind != '[' && mode == editDelete:
		return a, &EvalError{codeParameter, "cannot delete path in scalar"}
	case kind != '{' && kind != '[':
		return a, &EvalError{codeParameter, "cannot set path in scalar"}
	case n == 0 || len(a.B) == 2 && (mode == editDelete || mode == editReplace):
		return a, nil
	case len(a.B)+len(value) > MaxValue-64:
		return a, tooLong()
	}
	e := jsonEdit{keys: keys, n: n, value: value, mode: mode}
	from := len(c.scratch)
	out, err := e.apply(c.scratch, a.B, 1)
	if err != nil {
		return a, err
	}
	c.scratch = out
	if mode == editDelete || mode == editReplace {
		return c.limited(from)
	}
	v, scratch, err := parseJSONB(c.scratch[from:], c.scratch) // a new member goes to its place
	c.scratch = scratch
	return v, err
}

type jsonEdit struct {
	keys  []byte
	n     int // keys
	value []byte
	mode  editMode
}

// apply appends b, changed at the path from key number depth on.
func (e *jsonEdit) apply(dst, b []byte, depth int) ([]byte, error) {
	key := change.ArrayElem(e.keys, app.Text, int64(depth))
	if key.Null {
		return dst, evalErrorf(codeNull, "path element at position %d is null", depth)
	}
	switch change.JSONKind(b) {
	case '{':
		return e.applyObject(dst, b, key.B, depth)
	case '[':
		return e.applyArray(dst, b, key.B, depth)
	}
	return append(dst, b...), nil
}

func comma(dst []byte, from int) []byte {
	if len(dst) > from+1 {
		dst = append(dst, ", "...)
	}
	return dst
}

func (e *jsonEdit) applyObject(dst, b, key []byte, depth int) ([]byte, error) {
	from, last, found := len(dst), depth == e.n, false
	dst = append(dst, '{')
	it := change.IterateJSON(b)
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		hit := isKey(k, key)
		found = found || hit
		if hit && last && e.mode == editDelete {
			continue
		}
		dst = append(append(comma(dst, from), k...), ": "...)
		switch {
		case !hit:
			dst = append(dst, v...)
		case !last:
			var err error
			if dst, err = e.apply(dst, v, depth+1); err != nil {
				return dst, err
			}
		case e.mode == editBefore || e.mode == editAfter:
			return dst, &EvalError{codeParameter, "cannot replace existing key"}
		default:
			dst = append(dst, e.value...)
		}
	}
	if !found && last && e.mode >= editCreate {
		dst = append(appendJSONChars(append(comma(dst, from), '"'), key), `": `...)
		dst = append(dst, e.value...)
	}
	return append(dst, '}'), nil
}

func (e *jsonEdit) applyArray(dst, b, key []byte, depth int) ([]byte, error) {
	at, err := strconv.ParseInt(string(key), 10, 32)
	if err != nil {
		return dst, evalErrorf(codeSyntax, "path element at position %d is not an integer: %s", depth, quoteShort(key))
	}
	count := int64(change.JSONCount(b))
	last := depth == e.n
	if at < 0 {
		if at += count; at < 0 {
			at = -1 // before the first
		}
	}
	from := len(dst)
	dst = append(dst, '[')
	if last && e.mode >= editCreate && at < 0 {
		dst = append(dst, e.value...)
	}
	it := change.IterateJSON(b)
	i := int64(0)
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		if i != at {
			dst = append(comma(dst, from), v...)
		} else if dst, err = e.element(dst, from, v, depth, last); err != nil {
			return dst, err
		}
		i++
	}
	if last && e.mode >= editCreate && at >= count {
		dst = append(comma(dst, from), e.value...)
	}
	return append(dst, ']'), nil
}

// element appends the element that the path leads to.
func (e *jsonEdit) element(dst []byte, from int, v []byte, depth int, last bool) ([]byte, error) {
	switch {
	case !last:
		return e.apply(comma(dst, from), v, depth+1)
	case e.mode == editDelete:
		return dst, nil
	case e.mode == editBefore:
		return append(append(append(comma(dst, from), e.value...), ", "...), v...), nil
	case e.mode == editAfter:
		return append(append(append(comma(dst, from), v...), ", "...), e.value...), nil
	}
	return append(comma(dst, from), e.value...), nil
}

// stripNulls appends b without the members of objects that are null.
func stripNulls(dst, b []byte) []byte {
	kind := change.JSONKind(b)
	if kind != '{' && kind != '[' {
		return append(dst, b...)
	}
	from := len(dst)
	dst = append(dst, kind)
	it := change.IterateJSON(b)
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		if k != nil {
			if change.JSONKind(v) == 'n' {
				continue
			}
			dst = append(append(comma(dst, from), k...), ": "...)
		} else {
			dst = comma(dst, from)
		}
		dst = stripNulls(dst, v)
	}
	return append(dst, b[len(b)-1])
}

// appendPretty appends b with each member and element on a line of its own.
func appendPretty(dst, b []byte, depth int) []byte {
	kind := change.JSONKind(b)
	if kind != '{' && kind != '[' {
		return append(dst, b...)
	}
	line := func(depth int) {
		dst = append(dst, '\n')
		for range depth * 4 {
			dst = append(dst, ' ')
		}
	}
	dst = append(dst, kind)
	first := true
	it := change.IterateJSON(b)
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		line(depth + 1)
		if k != nil {
			dst = append(append(dst, k...), ": "...)
		}
		if dst = appendPretty(dst, v, depth+1); len(dst) > 4*MaxValue {
			return dst
		}
	}
	line(depth)
	return append(dst, b[len(b)-1])
}
