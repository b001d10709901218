package expr

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"laaster/app"
)

// What the standard library reads out of a JSON string, we read, and what we write, it reads back.
func FuzzJSONStrings(f *testing.F) {
	for _, s := range []string{`"a"`, `"\u00e9\n\t\"\\\/\b\f\r"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx\ude00"`, `"\u0000"`, `"\ud83d\u0041"`, `""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		var want string
		if len(raw) < 2 || raw[0] != '"' || !utf8.ValidString(raw) || json.Unmarshal([]byte(raw), &want) != nil {
			return
		}
		v, _, err := FromJSON(app.Text, []byte(raw), nil)
		if err != nil {
			return // lone surrogates and NUL: the standard library replaces them, PostgreSQL refuses them
		}
		if string(v.B) != want {
			t.Fatalf("%s: got %q, want %q", raw, v.B, want)
		}
		var back string
		if err := json.Unmarshal(AppendJSON(nil, app.Text, v, false), &back); err != nil || back != want {
			t.Fatalf("%s: written and read back: %q %v", raw, back, err)
		}
	})
}
