package wire

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestDecode runs the frames of testdata/decode.txt.
func TestDecode(t *testing.T) {
	const file = "testdata/decode.txt"
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(src), "\n\n")
	lim := DefaultLimits()
	lim.Subscriptions = 3
	var out strings.Builder
	out.WriteString(head + "\n\n")
	for _, block := range strings.Split(strings.TrimRight(rest, "\n"), "\n\n") {
		frame, _, _ := strings.Cut(block, "\n----")
		fmt.Fprintf(&out, "%s\n----\n%s\n\n", frame, describe([]byte(frame), lim))
	}
	got := strings.TrimSuffix(out.String(), "\n")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(src) {
		t.Errorf("answers differ from %s; run with -update and read the difference\n%s", file, got)
	}
}

func describe(data []byte, lim Limits) string {
	f, id, p := DecodeClient(data, lim)
	if p != nil {
		s := fmt.Sprintf("%s: %s", p.Code, p.Detail)
		if p.Field != "" {
			s += " [" + p.Field + "]"
		}
		if p.Hint != "" {
			s += " (" + p.Hint + ")"
		}
		if id != "" {
			s += " id=" + id
		}
		return s
	}
	name := strings.TrimPrefix(fmt.Sprintf("%T", f), "*wire.")
	b, err := json.Marshal(f)
	if err != nil {
		return err.Error()
	}
	return name + " " + string(b)
}

// MarshalJSON shows raw JSON as it is, for the answers of the test.
func (r RawJSON) MarshalJSON() ([]byte, error) {
	if r == nil {
		return []byte("null"), nil
	}
	return r, nil
}

func TestDecodeSize(t *testing.T) {
	lim := DefaultLimits()
	big := []byte(`{"type":"ping","t":1` + strings.Repeat(" ", lim.FrameBytes) + `}`)
	if _, _, p := DecodeClient(big, lim); p == nil || p.Code != TooLarge {
		t.Errorf("a frame beyond the limit: %v", p)
	}
	if _, _, p := DecodeClient([]byte("{\"type\":\"he\xff\"}"), lim); p == nil || p.Code != InvalidJSON {
		t.Errorf("invalid UTF-8: %v", p)
	}
	if _, _, p := DecodeClient(nil, lim); p == nil || p.Code != InvalidJSON {
		t.Errorf("nothing: %v", p)
	}
	many := `{"type":"hello"`
	for i := range 40 {
		many += fmt.Sprintf(`,"m%d":1`, i)
	}
	if _, _, p := DecodeClient([]byte(many+"}"), lim); p == nil || p.Code != InvalidRequest {
		t.Errorf("many members: %v", p)
	}
	subs := []byte(`{"type":"hello","subscribe":[` + strings.Repeat(`{"id":"a","view":"v","filter":"x=eq.1"},`, lim.Subscriptions) + `{"id":"a","view":"v"}]}`)
	var p *Problem
	allocs := testing.AllocsPerRun(5, func() { _, _, p = DecodeClient(subs, lim) })
	if p == nil || p.Code != TooMany || allocs > 100 {
		t.Errorf("one subscription too many: %v, with %v allocations", p, allocs)
	}
}

// FuzzDecode holds the scanner against encoding/json: both accept the same texts.
func FuzzDecode(f *testing.F) {
	src, err := os.ReadFile("testdata/decode.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.Split(string(src), "\n") {
		f.Add([]byte(line))
	}
	lim := DefaultLimits()
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, _, p := DecodeClient(data, lim)
		if (frame == nil) == (p == nil) {
			t.Fatalf("frame %v and problem %v", frame, p)
		}
		if p != nil && (p.Status == 0 || p.Code == Internal) {
			t.Fatalf("problem %+v", p)
		}
		s := &scanner{b: data, max: MaxDepth}
		_, ok := s.value()
		s.space()
		ok = ok && s.i == len(s.b)
		if s.err != nil && s.err.deep {
			return
		}
		if want := json.Valid(data); ok != want {
			t.Fatalf("%q: scanner %v, encoding/json %v", data, ok, want)
		}
		if frame != nil && !(utf8.Valid(data) && json.Valid(data)) {
			t.Fatalf("%q was accepted", data)
		}
	})
}

func TestUnquote(t *testing.T) {
	for _, s := range []string{"", "a", "äöü😀", "\"\\/\b\f\n\r\t", "\u2028\x00", strings.Repeat("x", 300)} {
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := unquote(quoted); !ok || got != s {
			t.Errorf("unquote(%s) = %q, %v", quoted, got, ok)
		}
		if got, ok := unquote(AppendString(nil, s)); !ok || got != s {
			t.Errorf("%q does not survive AppendString: %q", s, got)
		}
		var back string
		if err := json.Unmarshal(AppendString(nil, s), &back); err != nil || back != s {
			t.Errorf("AppendString(%q): %v, %q", s, err, back)
		}
	}
}
