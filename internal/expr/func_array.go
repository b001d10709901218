package expr

import (
	"fmt"

	"laaster/app"
	"laaster/internal/change"
)

// forElem compiles a function whose implementation depends on the element type of argument at, an array. impl returns one of
// Function's forms.
func forElem(at int, impl func(elem app.Type) any) buildFunc {
	return func(n *Node, _ *change.Layout, args []Func) (Func, error) {
		switch f := impl(n.Args[at].Type.Elem()).(type) {
		case func(c *Ctx, a change.Value) (change.Value, error):
			return strict1(f, args[0]), nil
		case func(c *Ctx, a, b change.Value) (change.Value, error):
			return strict2(f, args[0], args[1]), nil
		case func(c *Ctx, args []change.Value) (change.Value, error):
			return strictN(f, args), nil
		case allArgs:
			return all(f, args), nil
		}
		return nil, fmt.Errorf("expr: function %s has no implementation", n.Func.Signature())
	}
}

func addArrays(c *catalog) {
	addArraySize(c)
	addArraySearch(c)
	addArrayChange(c)
	addArrayText(c)
	addArraySets(c)
}

func addArraySize(c *catalog) {
	c.add("cardinality(anyarray) integer", func(_ *Ctx, a change.Value) (change.Value, error) {
		return change.Int(int64(change.ArrayLen(a.B))), nil
	})
	c.add("array_ndims(anyarray) integer", func(_ *Ctx, a change.Value) (change.Value, error) {
		if change.ArrayLen(a.B) == 0 {
			return change.Null(), nil
		}
		return change.Int(1), nil
	})
	bound := func(of func(n int64) int64) func(_ *Ctx, a, b change.Value) (change.Value, error) {
		return func(_ *Ctx, a, b change.Value) (change.Value, error) {
			n := change.ArrayLen(a.B)
			if n == 0 || b.N != 1 {
				return change.Null(), nil
			}
			return change.Int(of(int64(n))), nil
		}
	}
	c.add("array_length(anyarray, integer) integer", bound(func(n int64) int64 { return n }))
	c.add("array_upper(anyarray, integer) integer", bound(func(n int64) int64 { return n }))
	c.add("array_lower(anyarray, integer) integer", bound(func(int64) int64 { return 1 }))
}

// equalNullable compares as IS NOT DISTINCT FROM does.
func equalNullable(compare func(a, b change.Value) int, v, w change.Value) bool {
	return v.Null == w.Null && (v.Null || compare(v, w) == 0)
}

// hasNull reports whether an array has a NULL.
func hasNull(array []byte, elem app.Type) bool {
	it := change.IterateArray(array, elem)
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		if v.Null {
			return true
		}
	}
	return false
}

func addArraySearch(c *catalog) {
	position := forElem(0, func(elem app.Type) any {
		compare := comparer(elem)
		return allArgs(func(_ *Ctx, args []change.Value) (change.Value, error) {
			if args[0].Null || change.ArrayLen(args[0].B) == 0 || args[1].Null && !hasNull(args[0].B, elem) {
				return change.Null(), nil // whatever the start is
			}
			start := int64(1)
			if len(args) > 2 {
				if start = args[2].N; args[2].Null {
					return change.Null(), &EvalError{codeNull, "initial position must not be null"}
				}
			}
			it := change.IterateArray(args[0].B, elem)
			i := int64(0)
			for v, ok := it.Next(); ok; v, ok = it.Next() {
				if i++; i >= start && equalNullable(compare, v, args[1]) {
					return change.Int(i), nil
				}
			}
			return change.Null(), nil
		})
	})
	c.add("array_position(anycompatiblearray, anycompatible) integer", position)
	c.add("array_position(anycompatiblearray, anycompatible, integer) integer", position)
	c.add("array_positions(anycompatiblearray, anycompatible) integer[]", forElem(0, func(elem app.Type) any {
		compare := comparer(elem)
		return allArgs(func(c *Ctx, args []change.Value) (change.Value, error) {
			if args[0].Null {
				return change.Null(), nil
			}
			base := len(c.stack)
			it := change.IterateArray(args[0].B, elem)
			i := int64(0)
			for v, ok := it.Next(); ok; v, ok = it.Next() {
				if i++; equalNullable(compare, v, args[1]) {
					c.stack = append(c.stack, change.Int(i))
				}
			}
			return c.popArray(app.Int4, base)
		})
	}))
}

// popArray makes an array of what is on the stack from base on, and takes it off.
func (c *Ctx) popArray(elem app.Type, base int) (change.Value, error) {
	v, err := c.array(elem, c.stack[base:])
	clear(c.stack[base:]) // so that no value is kept alive
	c.stack = c.stack[:base]
	return v, err
}

// pushElements puts the elements of an array on the stack.
func (c *Ctx) pushElements(b []byte, elem app.Type) {
	it := change.IterateArray(b, elem)
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		c.stack = append(c.stack, v)
	}
}

func addArrayChange(c *catalog) {
	add := forElem(0, func(elem app.Type) any {
		return allArgs(func(c *Ctx, args []change.Value) (change.Value, error) {
			base := len(c.stack)
			c.pushElements(args[0].B, elem)
			c.stack = append(c.stack, args[1])
			return c.popArray(elem, base)
		})
	})
	prepend := forElem(1, func(elem app.Type) any {
		return allArgs(func(c *Ctx, args []change.Value) (change.Value, error) {
			base := len(c.stack)
			c.stack = append(c.stack, args[0])
			c.pushElements(args[1].B, elem)
			return c.popArray(elem, base)
		})
	})
	cat := forElem(0, func(elem app.Type) any {
		return allArgs(func(c *Ctx, args []change.Value) (change.Value, error) {
			switch {
			case args[0].Null:
				return args[1], nil
			case args[1].Null:
				return args[0], nil
			}
			base := len(c.stack)
			c.pushElements(args[0].B, elem)
			c.pushElements(args[1].B, elem)
			return c.popArray(elem, base)
		})
	})
	for _, name := range []string{"array_append", "||"} {
		c.add(name+"(anycompatiblearray, anycompatible) anycompatiblearray", add)
	}
	for _, name := range []string{"array_prepend", "||"} {
		c.add(name+"(anycompatible, anycompatiblearray) anycompatiblearray", prepend)
	}
	for _, name := range []string{"array_cat", "||"} {
		c.add(name+"(anycompatiblearray, anycompatiblearray) anycompatiblearray", cat)
	}
	c.add("array_remove(anycompatiblearray, anycompatible) anycompatiblearray", forElem(0, arrayReplace))
	c.add("array_replace(anycompatiblearray, anycompatible, anycompatible) anycompatiblearray", forElem(0, arrayReplace))
	c.add("trim_array(anyarray, integer) anyarray", forElem(0, func(elem app.Type) any {
		return func(c *Ctx, a, b change.Value) (change.Value, error) {
			n := int64(change.ArrayLen(a.B))
			if b.N < 0 || b.N > n {
				return a, evalErrorf(codeElement, "number of elements to trim must be between 0 and %d", n)
			}
			return c.sliceArray(a.B, elem, 1, n-b.N)
		}
	}))
}

// arrayReplace is array_replace, and with two arguments array_remove.
func arrayReplace(elem app.Type) any {
	compare := comparer(elem)
	return allArgs(func(c *Ctx, args []change.Value) (change.Value, error) {
		if args[0].Null {
			return change.Null(), nil
		}
		base := len(c.stack)
		it := change.IterateArray(args[0].B, elem)
		for v, ok := it.Next(); ok; v, ok = it.Next() {
			switch {
			case !equalNullable(compare, v, args[1]):
				c.stack = append(c.stack, v)
			case len(args) > 2:
				c.stack = append(c.stack, args[2])
			}
		}
		return c.popArray(elem, base)
	})
}

func addArrayText(c *catalog) {
	join := forElem(0, func(elem app.Type) any {
		return allArgs(func(c *Ctx, args []change.Value) (change.Value, error) {
			if args[0].Null || args[1].Null {
				return change.Null(), nil
			}
			null := change.Null()
			if len(args) > 2 {
				null = args[2]
			}
			return joinArray(c, args[0].B, elem, args[1].B, null)
		})
	})
	c.add("array_to_string(anyarray, text) text", join)
	c.add("array_to_string(anyarray, text, text) text", join)
	c.add("string_to_array(text, text) text[]", allArgs(stringToArray))
	c.add("string_to_array(text, text, text) text[]", allArgs(stringToArray))
}

func joinArray(c *Ctx, b []byte, elem app.Type, sep []byte, null change.Value) (change.Value, error) {
	from, first := len(c.scratch), true
	it := change.IterateArray(b, elem)
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		if v.Null && null.Null {
			continue
		}
		if !first {
			c.scratch = append(c.scratch, sep...)
		}
		first = false
		if v.Null {
			c.scratch = append(c.scratch, null.B...)
		} else {
			c.scratch = AppendText(c.scratch, elem, v)
		}
		if len(c.scratch)-from > MaxValue {
			return v, tooLong()
		}
	}
	return c.made(from), nil
}

// stringToArray splits at a separator, NULL for every character; parts that equal the third argument become NULL.
func stringToArray(c *Ctx, args []change.Value) (change.Value, error) {
	if args[0].Null {
		return change.Null(), nil
	}
	base := len(c.stack)
	if len(args[0].B) > 0 {
		c.stack = splitText(c.stack, args[0].B, args[1].B, args[1].Null)
	}
	if len(args) > 2 && !args[2].Null {
		for i := range c.stack[base:] {
			if v := &c.stack[base+i]; string(v.B) == string(args[2].B) {
				*v = change.Null()
			}
		}
	}
	return c.popArray(app.Text, base)
}

// addArraySets adds the operators that take arrays for sets: NULL elements equal nothing.
func addArraySets(c *catalog) {
	within := func(b, a change.Value, elem app.Type, compare func(a, b change.Value) int) (bool, error) {
		it := change.IterateArray(b.B, elem)
		if change.ArrayLen(a.B)*it.Len() > maxSetWork {
			return false, tooManyElements()
		}
		for v, ok := it.Next(); ok; v, ok = it.Next() {
			if v.Null || !arrayHas(a.B, elem, v, compare) {
				return false, nil
			}
		}
		return true, nil
	}
	c.add("@>(anyarray, anyarray) boolean", forElem(0, func(elem app.Type) any {
		compare := comparer(elem)
		return func(_ *Ctx, a, b change.Value) (change.Value, error) {
			ok, err := within(b, a, elem, compare)
			return change.Bool(ok), err
		}
	}))
	c.add("<@(anyarray, anyarray) boolean", forElem(0, func(elem app.Type) any {
		compare := comparer(elem)
		return func(_ *Ctx, a, b change.Value) (change.Value, error) {
			ok, err := within(a, b, elem, compare)
			return change.Bool(ok), err
		}
	}))
	c.add("&&(anyarray, anyarray) boolean", forElem(0, func(elem app.Type) any {
		compare := comparer(elem)
		return func(_ *Ctx, a, b change.Value) (change.Value, error) {
			it := change.IterateArray(a.B, elem)
			if change.ArrayLen(b.B)*it.Len() > maxSetWork {
				return a, tooManyElements()
			}
			for v, ok := it.Next(); ok; v, ok = it.Next() {
				if !v.Null && arrayHas(b.B, elem, v, compare) {
					return change.Bool(true), nil
				}
			}
			return change.Bool(false), nil
		}
	}))
}

// maxSetWork bounds the comparisons of elements that one operator makes.
const maxSetWork = 1 << 26

func tooManyElements() *EvalError {
	return &EvalError{codeLimit, "the arrays have too many elements to be compared as sets"}
}

func arrayHas(b []byte, elem app.Type, want change.Value, compare func(a, b change.Value) int) bool {
	it := change.IterateArray(b, elem)
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		if !v.Null && compare(v, want) == 0 {
			return true
		}
	}
	return false
}
