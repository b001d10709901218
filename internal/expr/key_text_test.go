package expr_test

import (
	"testing"

	"laaster/app"
	"laaster/internal/expr"
)

// Keys of jsonb objects are written as values in them are.
func TestJSONKeyText(t *testing.T) {
	for _, c := range []struct {
		t    app.Type
		text string
		want string
	}{{app.Timestamp, "2024-03-31 02:30:00", `"2024-03-31T02:30:00"`}, {app.Timestamptz, "2024-03-31 02:30:00+00", `"2024-03-31T02:30:00+00:00"`},
		{app.Bool, "t", `"true"`}, {app.Text, `a"b`, `"a\"b"`}, {app.Int4, "7", `"7"`}} {
		v, _, err := expr.ParseText(c.t, []byte(c.text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(expr.AppendAsJSONKey(nil, c.t, v)); got != c.want {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
}
