package expr

import (
	"strings"

	"laaster/app"
	"laaster/internal/change"
)

// setPrefix begins the names of set-returning functions: here they are functions that return arrays. One that returns two
// columns is two functions.
const setPrefix = "_set_"

// MaxSet is the most rows that a set-returning function gives for one row.
const MaxSet = 100_000

// SetFunction reports whether name is a set-returning function, which stands in FROM. [Call] knows it as "_set_" + name.
func SetFunction(name string) bool {
	return KnownFunction(setPrefix+name) || name == "unnest" || name == "jsonb_each" || name == "jsonb_each_text"
}

func isSet(name string) bool { return strings.HasPrefix(name, setPrefix) }

func addSets(c *catalog) {
	addSeries(c)
	addJSONSets(c)
	c.add(setPrefix+"string_to_table(text, text) text[]", allArgs(stringToArray))
	c.add(setPrefix+"string_to_table(text, text, text) text[]", allArgs(stringToArray))
	c.add(setPrefix+"regexp_split_to_table(text, text) text[]", buildFunc(buildRegexpCall(-1, regexpSplit)))
	c.add(setPrefix+"regexp_split_to_table(text, text, text) text[]", buildFunc(buildRegexpCall(2, regexpSplit)))
	c.add(setPrefix+"generate_subscripts(anyarray, integer) integer[]", func(c *Ctx, a, b change.Value) (change.Value, error) {
		if b.N != 1 {
			return change.Bytes(nil), nil
		}
		return intSeries(c, app.Int4, 1, int64(change.ArrayLen(a.B)), 1)
	})
}

func tooManyRows() *EvalError {
	return evalErrorf(codeLimit, "the function would return more than %d rows", MaxSet)
}

func addSeries(c *catalog) {
	for _, t := range []app.Type{app.Int4, app.Int8} {
		name := t.String()
		c.add(setPrefix+"generate_series("+name+", "+name+") "+name+"[]", func(c *Ctx, a, b change.Value) (change.Value, error) {
			return intSeries(c, t, a.N, b.N, 1)
		})
		c.add(setPrefix+"generate_series("+name+", "+name+", "+name+") "+name+"[]", func(c *Ctx, a, b, d change.Value) (change.Value, error) {
			return intSeries(c, t, a.N, b.N, d.N)
		})
	}
	c.add(setPrefix+"generate_series(numeric, numeric) numeric[]", func(c *Ctx, a, b change.Value) (change.Value, error) {
		return numSeries(c, toNum(a.B), toNum(b.B), intNum(1))
	})
	c.add(setPrefix+"generate_series(numeric, numeric, numeric) numeric[]", func(c *Ctx, a, b, d change.Value) (change.Value, error) {
		return numSeries(c, toNum(a.B), toNum(b.B), toNum(d.B))
	})
	for _, t := range []app.Type{app.Timestamp, app.Timestamptz} {
		name := t.String()
		c.add(setPrefix+"generate_series("+name+", "+name+", interval) "+name+"[]", func(c *Ctx, a, b, d change.Value) (change.Value, error) {
			return timeSeries(c, t, a.N, b.N, toInterval(d.B))
		})
	}
}

func stepZero() error { return &EvalError{codeParameter, "step size cannot equal zero"} }

func intSeries(c *Ctx, t app.Type, from, to, step int64) (change.Value, error) {
	if step == 0 {
		return change.Value{}, stepZero()
	}
	base := len(c.stack)
	for n, ok := from, true; ok && (step > 0 && n <= to || step < 0 && n >= to); n, ok = addInt64(n, step) {
		if len(c.stack)-base == MaxSet {
			c.stack = c.stack[:base]
			return change.Value{}, tooManyRows()
		}
		c.stack = append(c.stack, change.Int(n))
	}
	return c.popArray(t, base)
}

func numSeries(c *Ctx, from, to, step num) (change.Value, error) {
	for _, b := range []struct {
		n    num
		what string
	}{{from, "start"}, {to, "stop"}, {step, "step size"}} {
		if b.n.kind != change.NumericFinite {
			kind := "infinity"
			if b.n.isNaN() {
				kind = "NaN"
			}
			return change.Value{}, evalErrorf(codeParameter, "%s value cannot be %s", b.what, kind)
		}
	}
	sign := step.sign()
	if sign == 0 {
		return change.Value{}, stepZero()
	}
	base, start := len(c.stack), len(c.scratch)
	for n := from; compareNum(&n, &to)*sign <= 0; n = addNum(n, step) {
		v, err := c.value(&n)
		if err == nil && (len(c.stack)-base == MaxSet || len(c.scratch)-start > MaxValue) {
			err = tooManyRows()
		}
		if err != nil {
			c.stack = c.stack[:base]
			return v, err
		}
		c.stack = append(c.stack, v)
	}
	return c.popArray(app.Numeric, base)
}

func timeSeries(c *Ctx, t app.Type, from, to int64, step interval) (change.Value, error) {
	hi, lo := step.span()
	if hi == 0 && lo == 0 {
		return change.Value{}, stepZero()
	}
	up := hi >= 0
	base := len(c.stack)
	for ts := from; up && ts <= to || !up && ts >= to; {
		if len(c.stack)-base == MaxSet || !isFinite(ts) {
			c.stack = c.stack[:base]
			return change.Value{}, tooManyRows()
		}
		c.stack = append(c.stack, change.Int(ts))
		next, err := addToInstant(ts, step)
		if err != nil {
			c.stack = c.stack[:base]
			return change.Value{}, err
		}
		if next == ts { // months and days that cancel out here
			c.stack = c.stack[:base]
			return change.Value{}, tooManyRows()
		}
		ts = next
	}
	return c.popArray(t, base)
}

func addJSONSets(c *catalog) {
	elements := func(text bool) func(c *Ctx, a change.Value) (change.Value, error) {
		return func(c *Ctx, a change.Value) (change.Value, error) {
			switch change.JSONKind(a.B) {
			case '[':
			case '{':
				return a, &EvalError{codeParameter, "cannot extract elements from an object"}
			default:
				return a, &EvalError{codeParameter, "cannot extract elements from a scalar"}
			}
			return jsonItems(c, a.B, func(_, v []byte) change.Value { return jsonItem(c, v, text) }, text)
		}
	}
	c.add(setPrefix+"jsonb_array_elements(jsonb) jsonb[]", elements(false))
	c.add(setPrefix+"jsonb_array_elements_text(jsonb) text[]", elements(true))
	object := func(name string, text bool, item func(c *Ctx, k, v []byte) change.Value) func(c *Ctx, a change.Value) (change.Value, error) {
		return func(c *Ctx, a change.Value) (change.Value, error) {
			switch change.JSONKind(a.B) {
			case '{':
			case '[':
				return a, evalErrorf(codeParameter, "cannot call %s on an array", name)
			default:
				return a, evalErrorf(codeParameter, "cannot call %s on a scalar", name)
			}
			return jsonItems(c, a.B, func(k, v []byte) change.Value { return item(c, k, v) }, text)
		}
	}
	key := func(c *Ctx, k, _ []byte) change.Value { return c.jsonText(change.Bytes(k)) }
	c.add(setPrefix+"jsonb_object_keys(jsonb) text[]", object("jsonb_object_keys", true, key))
	value := func(text bool) func(c *Ctx, _, v []byte) change.Value {
		return func(c *Ctx, _, v []byte) change.Value { return jsonItem(c, v, text) }
	}
	c.add(setPrefix+"jsonb_each_value(jsonb) jsonb[]", object("jsonb_each", false, value(false)))
	c.add(setPrefix+"jsonb_each_value_text(jsonb) text[]", object("jsonb_each_text", true, value(true)))
}

// jsonItem returns an element as jsonb or as text.
func jsonItem(c *Ctx, v []byte, text bool) change.Value {
	if text {
		return c.jsonText(change.Bytes(v))
	}
	return change.Bytes(v)
}

// jsonItems collects what item makes of the elements or members of b.
func jsonItems(c *Ctx, b []byte, item func(k, v []byte) change.Value, text bool) (change.Value, error) {
	base := len(c.stack)
	it := change.IterateJSON(b)
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		if len(c.stack)-base == MaxSet {
			c.stack = c.stack[:base]
			return change.Value{}, tooManyRows()
		}
		c.stack = append(c.stack, item(k, v))
	}
	if text {
		return c.popArray(app.Text, base)
	}
	return c.popArray(app.JSONB, base)
}
