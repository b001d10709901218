package main

import (
	"encoding/json"
	"slices"
	"strings"
)

// tsContract makes a TypeScript type of a JSON Schema: of what types can say, which is less than what the server checks. Where it knows nothing it says unknown.
type tsContract struct {
	root  any
	under []string // references on the way: a type inside of itself is unknown
}

func newTSContract(schema any) *tsContract { return &tsContract{root: schema} }

// text returns the type; indent is that of the line where it begins.
func (t *tsContract) text(indent string) string { return t.of(t.root, indent) }

func (t *tsContract) of(schema any, indent string) string {
	s, ok := schema.(object)
	if !ok {
		return "unknown" // true; nothing has the type of false
	}
	if ref, ok := s["$ref"].(string); ok {
		return t.ref(ref, indent)
	}
	if v, ok := s["const"]; ok {
		return literal(v)
	}
	for _, word := range [...]string{"enum", "anyOf", "oneOf"} {
		list, ok := s[word].([]any)
		if !ok {
			continue
		}
		var parts []string
		for _, x := range list {
			p := ""
			if word == "enum" {
				p = literal(x)
			} else {
				p = t.of(x, indent)
			}
			if !slices.Contains(parts, p) {
				parts = append(parts, p)
			}
		}
		return union(parts)
	}
	switch kind := s["type"].(type) {
	case string:
		return t.kind(kind, s, indent)
	case []any:
		var parts []string
		for _, k := range kind {
			name, _ := k.(string)
			parts = append(parts, t.kind(name, s, indent))
		}
		return union(parts)
	}
	return "unknown" // without a type other values may come, whatever properties says
}

func union(parts []string) string {
	if slices.Contains(parts, "unknown") || len(parts) == 0 {
		return "unknown"
	}
	return strings.Join(parts, " | ")
}

func (t *tsContract) ref(ref, indent string) string {
	if slices.Contains(t.under, ref) || !strings.HasPrefix(ref, "#/") {
		return "unknown"
	}
	v := t.root
	for part := range strings.SplitSeq(ref[2:], "/") {
		m, ok := v.(object)
		if !ok {
			return "unknown"
		}
		v = m[strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")]
	}
	t.under = append(t.under, ref)
	defer func() { t.under = t.under[:len(t.under)-1] }()
	return t.of(v, indent)
}

func (t *tsContract) kind(name string, s object, indent string) string {
	switch name {
	case "string", "number", "boolean", "null":
		return name
	case "integer":
		return "number"
	case "array":
		if s["prefixItems"] != nil {
			return "unknown[]"
		}
		item := "unknown"
		if s["items"] != nil {
			item = t.of(s["items"], indent)
		}
		if strings.ContainsAny(item, "|") {
			item = "(" + item + ")"
		}
		return item + "[]"
	case "object":
		return t.object(s, indent)
	}
	return "unknown"
}

func (t *tsContract) object(s object, indent string) string {
	properties, _ := s["properties"].(object)
	required, _ := s["required"].([]any)
	open := s["additionalProperties"] != false
	if len(properties) == 0 {
		if x, ok := s["additionalProperties"].(object); ok && s["patternProperties"] == nil {
			return "Record<string, " + t.of(x, indent) + ">"
		}
		return "Record<string, unknown>"
	}
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("{\n")
	for _, name := range names {
		mark := "?"
		if slices.Contains(required, any(name)) {
			mark = ""
		}
		b.WriteString(indent + "  " + quotedName(name) + mark + ": " + t.of(properties[name], indent+"  ") + "\n")
	}
	if open {
		b.WriteString(indent + "  [more: string]: unknown\n")
	}
	return b.String() + indent + "}"
}

// literal is a value as a type; what has none is unknown.
func literal(v any) string {
	switch v.(type) {
	case nil, bool, string, json.Number:
		b, err := json.Marshal(v)
		if err == nil {
			return string(b)
		}
	}
	return "unknown"
}
