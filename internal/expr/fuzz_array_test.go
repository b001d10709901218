package expr_test

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// FuzzArrayText: what reads as an array is a valid one, and its print reads back as it.
func FuzzArrayText(f *testing.F) {
	for _, s := range []string{`{}`, `{1,2}`, `{a,"b c",NULL}`, `{"\"","\\",""}`, `{ a , b }`, `{a\,b,c\ }`, `{{1}}`, `{"2024-01-02",infinity}`, `[1:2]={1,2}`} {
		for kind := range byte(16) {
			f.Add(kind, s)
		}
	}
	types := everyType()
	f.Fuzz(func(t *testing.T, kind byte, s string) {
		typ := app.Array(types[int(kind)%len(types)].Elem())
		v, _, err := expr.ParseText(typ, []byte(s), nil)
		if err != nil {
			return
		}
		checkArray(t, typ, v, s)
	})
}

// FuzzArrayJSON: as FuzzArrayText, of JSON.
func FuzzArrayJSON(f *testing.F) {
	for _, s := range []string{`[]`, `[1, 2]`, `["a", null, "b\n"]`, `"{a,b}"`, `[[1]]`, `[{"a": 1}]`, `[ 1e3 ]`, `["2024-01-02"]`} {
		for kind := range byte(16) {
			f.Add(kind, s)
		}
	}
	types := everyType()
	f.Fuzz(func(t *testing.T, kind byte, s string) {
		typ := app.Array(types[int(kind)%len(types)].Elem())
		v, _, err := expr.FromJSON(typ, bytes.TrimSpace([]byte(s)), nil)
		if err != nil || v.Null {
			return
		}
		checkArray(t, typ, v, s)
		text := expr.AppendJSON(nil, typ, v, true)
		again, _, err := expr.FromJSON(typ, text, nil)
		if err != nil || expr.Compare(typ, again, v) != 0 {
			t.Fatalf("%q became %s: %v", s, text, err)
		}
	})
}

func checkArray(t *testing.T, typ app.Type, v change.Value, s string) {
	t.Helper()
	if err := change.ValidArray(v.B, typ.Elem()); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	text := expr.AppendText(nil, typ, v)
	again, _, err := expr.ParseText(typ, text, nil)
	if err != nil || expr.Compare(typ, again, v) != 0 {
		t.Fatalf("%q became %s: %v", s, text, err)
	}
	_ = change.AppendKey(nil, typ, v, true, true)
}

// FuzzFormats: whatever a format or a pattern is, functions that read one end, with a text or an error, within their bounds.
func FuzzFormats(f *testing.F) {
	for _, s := range []string{"YYYY-MM-DD HH24:MI:SS.US", "FMDay, DDth Month", "FM999,999.00", "S0.99EEEE", "RN", `%1$s %-10L %I`, `(a+)+$`, `\y[^x]*?`, `Y,YYY "x\"`, "_%[a-z]"} {
		f.Add(s, int64(1234567), "abc")
	}
	f.Fuzz(func(t *testing.T, format string, n int64, text string) {
		if !utf8.ValidString(format) || !utf8.ValidString(text) || len(format) > 200 || len(text) > 2000 {
			return
		}
		value := func(typ app.Type, v change.Value) *expr.Node { return expr.Const(typ, v, -1) }
		str := value(app.Text, change.Bytes([]byte(text)))
		pattern := value(app.Text, change.Bytes([]byte(format)))
		number := value(app.Int8, change.Int(n))
		for _, call := range []struct {
			name string
			args []*expr.Node
		}{
			{"to_char", []*expr.Node{number, pattern}},
			{"to_char", []*expr.Node{value(app.Float8, change.Float(float64(n)*1.5e-7)), pattern}},
			{"to_char", []*expr.Node{value(app.Timestamptz, change.Int(n%(1<<50))), pattern}},
			{"to_timestamp", []*expr.Node{str, pattern}},
			{"format", []*expr.Node{pattern, number, str}},
			{"regexp_replace", []*expr.Node{str, pattern, str, value(app.Text, change.Bytes([]byte("g")))}},
			{"regexp_split_to_array", []*expr.Node{str, pattern}},
			{"regexp_match", []*expr.Node{str, pattern}},
			{"similar_to_escape", []*expr.Node{pattern}},
			{"translate", []*expr.Node{str, pattern, str}},
			{"timezone", []*expr.Node{pattern, value(app.Timestamp, change.Int(n%(1<<50)))}},
			{"extract", []*expr.Node{pattern, value(app.Date, change.Int(n%100000))}},
		} {
			node, err := expr.Call(call.name, call.args, -1)
			if err != nil {
				t.Fatal(err)
			}
			fn, err := expr.Compile(node, nil)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := fn(&expr.Ctx{}); err == nil && len(v.B) > expr.MaxValue+100 {
				t.Fatalf("%s made %d bytes", call.name, len(v.B))
			}
		}
	})
}
