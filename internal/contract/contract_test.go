package contract

import (
	"strings"
	"sync"
	"testing"
)

const reading = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["kind", "values"],
  "properties": {
    "kind": {"enum": ["heat", "rain"]},
    "values": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/value"}},
    "at": {"type": "string", "format": "date-time"},
    "code": {"type": "string", "pattern": "^[a-z]{2}$"}
  },
  "additionalProperties": false,
  "$defs": {"value": {"type": "number", "minimum": -50, "maximum": 60}}
}`

func TestCheck(t *testing.T) {
	s, err := Compile([]byte(reading))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ value, at, msg, rule string }{
		{`{"kind": "heat", "values": [1, 2.5]}`, "", "", ""},
		{`{"kind": "heat", "values": [1, 2.5], "at": "2026-01-02T03:04:05Z", "code": "ab"}`, "", "", ""},
		{`{"kind": "heat", "values": [1, 61]}`, "/values/1", "maximum: got 61, want 60", "/$defs/value/maximum"},
		{`{"kind": "snow", "values": []}`, "/kind", "value must be one of 'heat', 'rain'", "/properties/kind/enum"},
		{`{"kind": "heat"}`, "", "missing property 'values'", "/required"},
		{`{"kind": "heat", "values": [], "a/b": 1}`, "", "additional properties 'a/b' not allowed", "/additionalProperties"},
		{`{"kind": "heat", "values": [], "at": "yesterday"}`, "/at", "'yesterday' is not valid date-time: ", "/properties/at/format"},
		{`{"kind": "heat", "values": [], "code": "abc"}`, "/code", "'abc' does not match pattern '^[a-z]{2}$'", "/properties/code/pattern"},
		{`[1]`, "", "got array, want object", "/type"},
		{`{"kind": "heat", "values": [1` + strings.Repeat("0", 1000) + `]}`, "", "a number has more than 1000 digits", ""},
	} {
		v := s.Check([]byte(c.value))
		switch {
		case v == nil && c.msg == "":
		case v == nil:
			t.Errorf("%.80s is allowed", c.value)
		case v.At != c.at || v.Rule != c.rule || !strings.HasPrefix(v.Msg, c.msg) || c.msg == "":
			t.Errorf("%.80s: %+v", c.value, *v)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct{ schema, at, msg string }{
		{`{`, "", "this is not JSON"},
		{`[]`, "", "a schema is a JSON object"},
		{`{"type": "strin"}`, "/type", "value must be one of"},
		{`{"$schema": "http://json-schema.org/draft-07/schema#"}`, "/$schema", "the dialect must be"},
		{`{"$ref": "https://example.com/x.json"}`, "", "outside of this file"},
		{`{"$ref": "file:///etc/passwd"}`, "", "outside of this file"},
		{`{"$ref": "other.json"}`, "", "outside of this file"},
		{`{"$ref": "#/$defs/none"}`, "", "none"},
		{`{"properties": {"a": {"$id": "b"}}}`, "/properties/a/$id", "only the whole document"},
		{`{"pattern": "(?=x)"}`, "/pattern", "regex"},
		{`{"pattern": "(a)\\1"}`, "/pattern", "regex"},
		{`{"pattern": "((a{1000}){1000}){1000}"}`, "/pattern", "regex"},
		{`{"minimum": 1e99999}`, "/minimum", "exponent"},
		{`{"minimum": 1` + strings.Repeat("0", 64) + `}`, "", "64 digits"},
		{`{"description": "` + strings.Repeat("x", MaxSchema) + `"}`, "", "takes 65"},
		{strings.Repeat(`{"not":`, 70) + "true" + strings.Repeat("}", 70), "/not", "deeper than 64"},
	} {
		_, err := Compile([]byte(c.schema))
		bad, ok := err.(*Error)
		if !ok || !strings.HasPrefix(bad.At, c.at) || !strings.Contains(bad.Error(), c.msg) {
			t.Errorf("%.80s: %v", c.schema, err)
		}
	}
}

// TestBudget: a schema whose branches branch costs a bounded time with any value, and is as good as new afterwards.
func TestBudget(t *testing.T) {
	s, err := Compile([]byte(`{"type": "object", "anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["x"]}, {"properties": {"a": {"$ref": "#"}}, "required": ["y"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat(`{"a":`, 60) + "{}" + strings.Repeat("}", 60)
	for range 3 {
		if v := s.Check([]byte(deep)); v == nil || !strings.Contains(v.Msg, "steps") {
			t.Fatalf("%+v", v)
		}
		if v := s.Check([]byte(`{"a": {"x": 1}, "y": 2}`)); v != nil {
			t.Fatalf("%+v", v)
		}
	}
}

// TestConcurrent: checks at one time do not count each other's steps.
func TestConcurrent(t *testing.T) {
	s, err := Compile([]byte(reading))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if v := s.Check([]byte(`{"kind": "heat", "values": [1, 2, 3]}`)); v != nil {
					t.Error(v.Msg)
				}
				if v := s.Check([]byte(`{"kind": "heat", "values": [1, 2, 3, 4]}`)); v == nil {
					t.Error("it is allowed")
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkCheck(b *testing.B) {
	s, err := Compile([]byte(reading))
	if err != nil {
		b.Fatal(err)
	}
	value := []byte(`{"at": "2026-01-02T03:04:05Z", "kind": "heat", "values": [1, 2, 3]}`)
	for b.Loop() {
		if s.Check(value) != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile([]byte(reading)); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzSchema: no text of a schema and no value makes the compiler, a check or a comparison fail in another way than by its answer.
func FuzzSchema(f *testing.F) {
	f.Add(reading, `{"kind": "heat", "values": [1, 2.5]}`)
	f.Add(`{"$ref": "#"}`, `null`)
	f.Add(`{"properties": {"a": {"$dynamicRef": "#x"}}, "$dynamicAnchor": "x"}`, `{"a": {"a": 1}}`)
	f.Add(`{"$id": "https://example.com/a", "$defs": {"$id": {"$anchor": "b"}}, "items": {"$ref": "#b"}}`, `[1, "a"]`)
	f.Add(`{"uniqueItems": true, "contains": {"multipleOf": 0.3}, "format": "regex"}`, `[1, 1.0, "(", 1e400]`)
	f.Fuzz(func(t *testing.T, schema, value string) {
		s, err := Compile([]byte(schema))
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		s.Check([]byte(value))
		if found := Narrower(s.Text(), s.Text()); len(found) > maxBreaks {
			t.Fatal(len(found))
		}
		if again, err := Compile(s.Text()); err != nil || string(again.Text()) != string(s.Text()) {
			t.Fatalf("%s: %v", s.Text(), err)
		}
	})
}

// TestLargeValue: what is large and plain has steps enough.
func TestLargeValue(t *testing.T) {
	s, err := Compile([]byte(`{"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer", "minimum": 0}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if v := s.Check([]byte("[1" + strings.Repeat(", 2", 80_000) + "]")); v != nil {
		t.Error(v.Msg)
	}
}
