package contract

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestNarrower: what is said of each kind of change, in both directions.
func TestNarrower(t *testing.T) {
	both := func(old, now, there, back string) {
		t.Helper()
		for _, c := range []struct{ from, to, want string }{{old, now, there}, {now, old, back}} {
			for _, text := range []string{c.from, c.to} {
				if _, err := Compile([]byte(text)); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
			var got []string
			for _, b := range Narrower([]byte(c.from), []byte(c.to)) {
				got = append(got, fmt.Sprintf("%s: %s → %s", b.At, b.Old, b.New))
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("%s\n  to %s\n  is  %s\n  not %s", c.from, c.to, s, c.want)
			}
		}
	}
	both(`true`, `{"title": "x", "description": "y"}`, "", "")
	both(`true`, `false`, ": allowed → not allowed", "")
	both(`{"type": "integer"}`, `{"type": "number"}`, "", `: type number → type "integer"`)
	both(`{"type": "string"}`, `{"type": ["string", "null"]}`, "", `: type null, string → type "string"`)
	both(`{"type": "integer", "minimum": 1}`, `{"type": "integer", "exclusiveMinimum": 0}`, "", ":  → minimum 1")
	both(`{"maximum": 5}`, `{"maximum": 10.5}`, "", ": maximum 10.5 → maximum 5")
	both(`{"type": "integer"}`, `{"type": "integer", "multipleOf": 1}`, "", "")
	both(`{"multipleOf": 4}`, `{"multipleOf": 2}`, "", ": multipleOf 2 → multipleOf 4")
	both(`{"enum": ["a", "b"]}`, `{"enum": ["a", "b", "c"]}`, "", `: allowed "c" → not allowed "c"`)
	both(`{"const": 3}`, `{"type": "integer", "maximum": 3}`, "", `:  → const 3`)
	both(`{"type": "boolean"}`, `{"enum": [false, true, 1]}`, "", `: allowed 1 → not allowed 1`)
	both(`{"type": "string", "maxLength": 4}`, `{"type": "string"}`, "", ":  → maxLength 4")
	both(`{"type": "string", "pattern": "^a"}`, `{"type": "string", "pattern": "^b"}`, `: pattern "^a" → pattern "^b"`, `: pattern "^b" → pattern "^a"`)
	both(`{"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}`,
		`{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "additionalProperties": false}`, "", "/b: allowed → not allowed")
	both(`{"type": "object", "properties": {"a": {"type": "string"}}}`,
		`{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}`,
		`/b: type any → type "integer"`, "")
	both(`{"type": "object", "required": ["a"]}`, `{"type": "object"}`, "", "/a: optional → required")
	both(`{"type": "object", "additionalProperties": {"type": "integer"}}`, `{"type": "object", "properties": {"x": {"type": "number"}}}`,
		"", `: other properties → additionalProperties {"type":"integer"}; /x: type number → type "integer"`)
	both(`{"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": false}`, `{"additionalProperties": {"type": "number"}}`,
		"", `: other properties → no other properties; /*:  → patternProperties "^x" {"type":"integer"}`)
	both(`{"type": "array", "items": {"type": "integer"}}`, `{"type": "array", "items": {"type": "number"}}`, "", `/*: type number → type "integer"`)
	both(`{"type": "array", "prefixItems": [{"type": "integer"}], "items": false}`, `{"type": "array", "items": {"type": "integer"}}`, "", "/*: allowed → not allowed")
	both(`{"type": "array", "maxItems": 1, "items": {"type": "integer"}}`, `{"type": "array", "prefixItems": [{"type": "integer"}]}`,
		"", `:  → maxItems 1; /*: type any → type "integer"`)
	both(`{"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"next": {"$ref": "#/$defs/a"}}, "required": ["next"]}}}`,
		`{"$ref": "#/$defs/b", "$defs": {"b": {"type": "object", "properties": {"next": {"$ref": "#/$defs/b"}}}}}`, "", "/next: optional → required; /next/next: optional → required")
	both(`{"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]}]}`,
		`{"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]}, {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]}, {"type": "object", "properties": {"kind": {"const": "c"}}, "required": ["kind"]}]}`,
		"", `: oneOf [{"properties":{"kind":{"const":"a"}},"required":["kind"],"type":"object"},{"… → not surely one branch of oneOf, and one alone, allows it`)
	both(`{"anyOf": [{"type": "string"}, {"type": "integer"}]}`, `{"type": ["string", "number"]}`, "", `:  → none of the branches of anyOf surely allows it`)
	both(`{"not": {"type": ["string", "integer"]}}`, `{"not": {"type": "string"}}`, "", `: not {"type":"string"} → not {"type":["string","integer"]}`)
	both(`{"if": {"type": "string"}, "then": {"maxLength": 3}, "description": "a"}`, `{"if": {"type": "string"}, "then": {"maxLength": 4}}`,
		`: if {"type":"string"} → (cannot be compared) if {"type":"string"}; : then {"maxLength":3} → (cannot be compared) then {"maxLength":4}`,
		`: if {"type":"string"} → (cannot be compared) if {"type":"string"}; : then {"maxLength":4} → (cannot be compared) then {"maxLength":3}`)
	both(`{"properties": {"a": {"unevaluatedProperties": false}}}`, `{"properties": {"a": {"unevaluatedProperties": false}}}`, "", "")
}

// TestNarrowerRandom: of random schemas and random changes to them, what is called safe never refuses a value that was allowed.
func TestNarrowerRandom(t *testing.T) {
	rounds := 1000
	if n, err := strconv.Atoi(os.Getenv("LAASTER_SEEDS")); err == nil {
		rounds = n
	}
	safe, shown, allowed := 0, 0, 0
	for seed := range rounds {
		r := &randomSchema{rand.New(rand.NewPCG(uint64(seed), 5))}
		old := map[string]any{"allOf": []any{r.schema(3)}, "$defs": map[string]any{"d": r.schema(2)}}
		now := r.changed(old)
		a, errA := Compile([]byte(text(old)))
		b, errB := Compile([]byte(text(now)))
		if errA != nil || errB != nil { // it may refer to itself without end
			continue
		}
		found := Narrower(a.Text(), b.Text())
		if len(found) == 0 {
			safe++
		}
		broken := false
		for range 60 {
			v := []byte(text(r.value(3)))
			if a.Check(v) != nil {
				continue
			}
			allowed++
			bad := b.Check(v)
			if bad == nil {
				continue
			}
			broken = true
			if len(found) == 0 {
				t.Fatalf("seed %d: said to be safe, but %s: %+v\nold %s\nnow %s", seed, v, *bad, a.Text(), b.Text())
			}
		}
		if broken {
			shown++
		}
	}
	t.Logf("%d pairs: %d called safe, %d others refuse one of %d values", rounds, safe, shown, allowed)
	if rounds >= 1000 && (safe < rounds/10 || shown < rounds/50) {
		t.Error("the schemas are not random enough to prove anything")
	}
}

// randomSchema makes schemas over a few names and small numbers, so that they meet.
type randomSchema struct{ *rand.Rand }

func (r *randomSchema) pick(list ...any) any { return list[r.IntN(len(list))] }

func (r *randomSchema) number() json.Number { return json.Number(strconv.Itoa(r.IntN(5))) }

func (r *randomSchema) schema(depth int) any {
	if depth == 0 || r.IntN(8) == 0 {
		return r.pick(true, false, map[string]any{"type": "integer"}, map[string]any{"type": "string"}, map[string]any{"enum": []any{"a", json.Number("1"), nil}})
	}
	s := map[string]any{}
	for range 1 + r.IntN(3) {
		r.keyword(s, depth)
	}
	return s
}

func (r *randomSchema) keyword(s map[string]any, depth int) {
	sub := func() any { return r.schema(depth - 1) }
	list := func() []any {
		out := []any{sub()}
		for range r.IntN(2) {
			out = append(out, sub())
		}
		return out
	}
	switch r.IntN(24) {
	case 0, 1, 2:
		s["type"] = r.pick("object", "array", "string", "integer", "number", "null", "boolean", []any{"string", "null"}, []any{"object", "array"})
	case 3:
		s["enum"] = []any{r.value(1), r.value(1)}
	case 4:
		s["const"] = r.value(1)
	case 5, 6:
		s["properties"] = map[string]any{"a": sub(), "b": sub()}
	case 7:
		s["required"] = []any{r.pick("a", "b")}
	case 8:
		s["additionalProperties"] = sub()
	case 9:
		s["patternProperties"] = map[string]any{r.pick("^a", "b", ".").(string): sub()}
	case 10:
		s["items"] = sub()
	case 11:
		s["prefixItems"] = list()
	case 12:
		s[r.pick("minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength").(string)] = r.number()
	case 13:
		s[r.pick("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum").(string)] = r.number()
	case 14:
		s["multipleOf"] = json.Number(r.pick("0.5", "1", "2", "4").(string))
	case 15:
		s["pattern"] = r.pick("a", "^a$", "b")
	case 16:
		s["anyOf"] = list()
	case 17:
		s["oneOf"] = list()
	case 18:
		s["not"] = sub()
	case 19:
		s["$ref"] = "#/$defs/d"
	case 20:
		s["allOf"] = list()
	case 21:
		s["if"], s["then"] = sub(), sub()
	case 22:
		s["uniqueItems"] = r.IntN(2) == 0
	case 23:
		s["dependentRequired"] = map[string]any{"a": []any{"b"}}
	}
}

// changed returns a copy with a few random changes.
func (r *randomSchema) changed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			switch {
			case r.IntN(12) == 0 && k != "$defs" && k != "d":
			case k == "enum" || k == "required" || k == "const" || k == "type" || k == "dependentRequired" || k == "multipleOf":
				out[k] = x
			default:
				out[k] = r.changed(x)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = r.changed(x)
		}
		return out
	case json.Number:
		if r.IntN(3) == 0 {
			return r.number()
		}
	case bool:
		if r.IntN(8) == 0 {
			return !v
		}
	}
	return v
}

func (r *randomSchema) value(depth int) any {
	switch n := r.IntN(11); {
	case n < 2:
		return r.number()
	case n == 2:
		return json.Number(r.pick("0.5", "1.5", "-1", "4.0").(string))
	case n < 5:
		return r.pick("a", "b", "ab", "")
	case n == 5:
		return r.pick(nil, true, false)
	case depth == 0:
		return nil
	case n < 9:
		m := map[string]any{}
		for range r.IntN(4) {
			m[r.pick("a", "b", "c", "ab").(string)] = r.value(depth - 1)
		}
		return m
	}
	list := []any{}
	for range r.IntN(4) {
		list = append(list, r.value(depth-1))
	}
	return list
}
