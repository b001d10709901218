package change_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

func value(t *rapid.T, typ app.Type, text string) change.Value {
	v, _, err := expr.ParseText(typ, []byte(text), nil)
	if err != nil {
		t.Fatalf("%s %q: %v", typ, text, err)
	}
	return v
}

// anyValue draws a value, near others often enough that equal and almost equal ones meet.
func anyValue(t *rapid.T, typ app.Type) change.Value {
	switch typ {
	case app.Bool:
		return change.Bool(rapid.Bool().Draw(t, "bool"))
	case app.Int4, app.Date:
		return change.Int(int64(rapid.Int32().Draw(t, "int4")))
	case app.Int8, app.Timestamptz, app.Timestamp:
		return change.Int(rapid.Int64().Draw(t, "int8"))
	case app.Float8:
		return change.Float(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64})).Draw(t, "float8"))
	case app.Numeric:
		return value(t, typ, rapid.OneOf(rapid.StringMatching(`-?[0-9]{1,3}(\.[0-9]{0,3})?`), rapid.StringMatching(`-?[1-9][0-9]{0,40}(\.[0-9]{1,40})?`),
			rapid.StringMatching(`-?[1-9]e-?[0-9]{1,3}`), rapid.SampledFrom([]string{"NaN", "Infinity", "-Infinity", "0", "0.00", "-0.1", "100", "1e2"})).Draw(t, "numeric"))
	case app.Text:
		return change.Bytes([]byte(strings.ReplaceAll(rapid.OneOf(rapid.StringMatching(`[ab]{0,4}`), rapid.String()).Draw(t, "text"), "\x00", "")))
	case app.UUID:
		return change.Bytes(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
	case app.Interval:
		return value(t, typ, fmt.Sprintf("%d mons %d days %d us", rapid.IntRange(-30, 30).Draw(t, "mons"), rapid.IntRange(-70, 70).Draw(t, "days"),
			rapid.OneOf(rapid.Int64Range(-2, 2), rapid.Int64Range(-1<<60, 1<<60)).Draw(t, "us")))
	}
	if typ.IsArray() {
		return anyArray(t, typ.Elem())
	}
	return value(t, app.JSONB, anyJSON(t, 3))
}

// anyArray draws an array in which every fifth element is NULL or so.
func anyArray(t *rapid.T, elem app.Type) change.Value {
	vals := make([]change.Value, rapid.IntRange(0, 4).Draw(t, "length"))
	for i := range vals {
		vals[i] = change.Null()
		if rapid.IntRange(0, 4).Draw(t, "null") > 0 {
			vals[i] = anyValue(t, elem)
		}
	}
	return change.Bytes(change.AppendArray(nil, elem, vals))
}

func anyJSON(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	switch {
	case kind == 0:
		return rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")
	case kind <= 1:
		return rapid.SampledFrom([]string{"0", "1", "1.0", "1.00", "-1", "10", "1e2", "0.1", "-0.5", "12345678901234567890.5"}).Draw(t, "number")
	case kind <= 3 || depth == 0:
		return rapid.SampledFrom([]string{`""`, `"a"`, `"b"`, `"ab"`, `"\n"`, `"\u0001"`, `"é"`, `"\""`}).Draw(t, "string")
	}
	var items []string
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		item := anyJSON(t, depth-1)
		if kind == 5 {
			item = rapid.SampledFrom([]string{`"a"`, `"b"`, `"ab"`, `"\n"`}).Draw(t, "key") + ":" + item
		}
		items = append(items, item)
	}
	if kind == 5 {
		return "{" + strings.Join(items, ",") + "}"
	}
	return "[" + strings.Join(items, ",") + "]"
}

func sign(n int) int { return min(max(n, -1), 1) }

func everyType() []app.Type {
	return []app.Type{app.Bool, app.Int4, app.Int8, app.Float8, app.Numeric, app.Text, app.UUID, app.Timestamptz, app.JSONB, app.Interval,
		app.Timestamp, app.Date, app.Array(app.Int4), app.Array(app.Text), app.Array(app.Numeric), app.Array(app.Bool), app.Array(app.JSONB)}
}

// Keys order as the values do, in either direction, with NULL where it was asked for; and equal values have equal keys.
func TestKeysOrderAsValues(t *testing.T) {
	for _, typ := range everyType() {
		t.Run(typ.String(), rapid.MakeCheck(func(t *rapid.T) {
			a, b := anyValue(t, typ), anyValue(t, typ)
			desc, first := rapid.Bool().Draw(t, "desc"), rapid.Bool().Draw(t, "nulls first")
			want := sign(expr.Compare(typ, a, b))
			if desc {
				want = -want
			}
			ka, kb := change.AppendKey(nil, typ, a, desc, first), change.AppendKey(nil, typ, b, desc, first)
			if got := bytes.Compare(ka, kb); got != want {
				t.Fatalf("%s and %s: keys compare %d, values %d", expr.AppendText(nil, typ, a), expr.AppendText(nil, typ, b), got, want)
			}
			if want != 0 && (bytes.HasPrefix(ka, kb) || bytes.HasPrefix(kb, ka)) {
				t.Fatalf("%x is a prefix of %x or the other way round", ka, kb)
			}
			null := change.AppendKey(nil, typ, change.Null(), desc, first)
			if got := bytes.Compare(null, ka); first != (got < 0) {
				t.Fatalf("NULL compares %d with nulls first %v", got, first)
			}
		}))
	}
}

// Keys of several columns order column by column.
func TestKeysOfSeveralColumns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := rapid.SliceOfN(rapid.SampledFrom(everyType()), 1, 3).Draw(t, "types")
		var ka, kb []byte
		want := 0
		for _, typ := range types {
			a := anyValue(t, typ)
			b := a
			if rapid.Bool().Draw(t, "other") {
				b = anyValue(t, typ)
			}
			desc := rapid.Bool().Draw(t, "desc")
			ka, kb = change.AppendKey(ka, typ, a, desc, false), change.AppendKey(kb, typ, b, desc, false)
			if want == 0 {
				want = sign(expr.Compare(typ, a, b))
				if desc {
					want = -want
				}
			}
		}
		if got := bytes.Compare(ka, kb); got != want {
			t.Fatalf("keys compare %d, values %d", got, want)
		}
	})
}

// Whatever bytes a damaged row holds, taking them apart ends.
func FuzzDecodeNumeric(f *testing.F) {
	for _, text := range []string{"0", "-1.50", "NaN", "Infinity", "123456789012345678901234567890.5"} {
		v, _, _ := expr.ParseText(app.Numeric, []byte(text), nil)
		f.Add(v.B)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := change.DecodeNumeric(b)
		back := change.DecodeNumeric(change.AppendNumeric(nil, n))
		if n.Kind != back.Kind || n.Scale != back.Scale {
			t.Fatalf("%x: %v became %v", b, n, back)
		}
		if len(b) < 64 {
			_ = n.AppendDigits(nil)
			_ = change.AppendKey(nil, app.Numeric, change.Bytes(b), false, false)
		}
	})
}

// Walking damaged jsonb ends, too.
func FuzzWalkJSON(f *testing.F) {
	for _, s := range []string{`{"a": 1, "b": [true, null]}`, `"x\n"`, `[`, `{"a`, `"\u00`, ``, `[1, `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := change.JSONLength(b); n > len(b) {
			t.Fatalf("length %d of %d", n, len(b))
		}
		it := change.IterateJSON(b)
		for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
			_ = change.AppendJSONString(nil, k)
			_ = change.JSONKind(v)
		}
	})
}
