package ingest

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func accepts(src string) bool {
	s := &scanner{src: []byte(src)}
	if _, err := s.value(0); err != nil {
		return false
	}
	return s.space() == 0 && s.pos == len(s.src)
}

// The standard library is the judge: what we take as JSON is what it takes, but for the depth.
func FuzzScanAgreesWithStandardLibrary(f *testing.F) {
	for _, s := range []string{`{}`, `[1,2.5e-3,-0]`, `{"a":[true,false,null],"b\u00e9\n":"\ud83d\ude00"}`, `01`, `1.`, `.5`, `"\x"`, `[1,]`,
		`{"a":1,}`, `{"a" 1}`, "\"\x01\"", `nul`, `"abc`, ` [ ] `, `-`, `1e`, "\x00", "[\x00]", `""""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if !utf8.ValidString(src) {
			return
		}
		depth := strings.Count(src, "[") + strings.Count(src, "{")
		if depth > maxDepth {
			accepts(src) // must only not crash
			return
		}
		if got, want := accepts(src), json.Valid([]byte(src)); got != want {
			t.Fatalf("%q: accepted %v, the standard library says %v", src, got, want)
		}
	})
}

func TestScanDepth(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	if !accepts(deep(maxDepth)) {
		t.Errorf("%d levels must be accepted", maxDepth)
	}
	if accepts(deep(maxDepth + 1)) {
		t.Errorf("%d levels must be refused", maxDepth+1)
	}
	if accepts(strings.Repeat("[", 5_000_000)) {
		t.Error("five million brackets must be refused")
	}
}
