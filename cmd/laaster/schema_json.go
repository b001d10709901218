package main

import (
	"fmt"
	"slices"
	"strings"

	"laaster/app"
)

// object is a JSON object. It is encoded in the order of its names.
type object = map[string]any

// jsonRows makes JSON Schemas of rows.
type jsonRows struct {
	exact bool
	where string // JSON pointer of the definitions in the document, such as #/$defs/
	defs  object // schemas of jsonb columns, by their names there
}

// row is the schema of one row. partial: no column is required, as in a change.
func (r *jsonRows) row(s *rowShape, partial bool) object {
	properties, required := object{}, []string{}
	for i := range s.columns {
		c := &s.columns[i]
		properties[c.name] = r.column(s, c)
		if !c.optional && !partial {
			required = append(required, c.name)
		}
	}
	slices.Sort(required)
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if !partial {
		out["required"] = required
	}
	return out
}

func (r *jsonRows) column(s *rowShape, c *columnShape) any {
	if c.contract == nil {
		return jsonType(c.typ, c.null, r.exact)
	}
	name := component(s.name + "." + c.name)
	if _, done := r.defs[name]; !done {
		r.defs[name] = rebased(c.contract, r.where+name)
	}
	ref := object{"$ref": r.where + name}
	if !c.null {
		return ref
	}
	return object{"anyOf": []any{ref, object{"type": "null"}}}
}

// component is a name as documents may have it for a part: letters, digits, dots, hyphens and underscores.
func component(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "-%02x", c)
	}
	return b.String()
}

// rebased returns a schema whose references to itself are right where it stands in another document. One that refers to itself by anchors says of the
// value nothing there.
func rebased(schema any, at string) any {
	out, ok := rebase(schema, at)
	if !ok {
		return object{"description": "refers to itself by anchors: see the file"}
	}
	if m, is := out.(object); is {
		delete(m, "$schema")
		delete(m, "$id")
	}
	return out
}

func rebase(v any, at string) (any, bool) {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			var ok bool
			if out[i], ok = rebase(x, at); !ok {
				return nil, false
			}
		}
		return out, true
	case object:
		out := object{}
		for k, x := range v {
			if ref, is := x.(string); is {
				switch {
				case k == "$anchor" || k == "$dynamicAnchor" || k == "$dynamicRef" || k == "$ref" && !strings.HasPrefix(ref, "#"):
					return nil, false
				case k == "$ref":
					out[k] = at + strings.TrimPrefix(ref, "#")
					continue
				}
			}
			var ok bool
			if out[k], ok = rebase(x, at); !ok {
				return nil, false
			}
		}
		return out, true
	}
	return v, true
}

func (s *schema) jsonSchema(exact bool) any {
	r := &jsonRows{exact: exact, where: "#/$defs/", defs: object{}}
	part := func(shapes []rowShape) object {
		out := object{}
		for i := range shapes {
			out[shapes[i].name] = r.row(&shapes[i], false)
		}
		return object{"type": "object", "properties": out}
	}
	doc := object{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": s.title, "type": "object", "properties": object{
		"views": part(s.views), "tables": part(s.tables), "channels": part(s.channels)}}
	if len(r.defs) > 0 {
		doc["$defs"] = r.defs
	}
	return doc
}

func jsonType(t app.Type, null, exact bool) object {
	out := object{}
	var kinds []string
	switch {
	case t.IsArray():
		kinds = []string{"array"}
		out["items"] = jsonType(t.Elem(), true, exact)
	case t == app.Bool:
		kinds = []string{"boolean"}
	case t == app.Int4:
		kinds = []string{"integer"}
	case t == app.Int8 && exact:
		kinds = []string{"integer", "string"}
	case t == app.Int8:
		kinds = []string{"integer"}
	case t == app.Numeric && exact:
		kinds = []string{"string"}
	case t == app.Float8, t == app.Numeric: // NaN and infinities
		kinds = []string{"number", "string"}
	case t == app.JSONB:
		return out // anything
	default:
		kinds = []string{"string"}
		switch t {
		case app.UUID:
			out["format"] = "uuid"
		case app.Timestamptz:
			out["format"] = "date-time"
		case app.Date:
			out["format"] = "date"
		}
	}
	if null {
		kinds = append(kinds, "null")
	}
	if out["type"] = kinds; len(kinds) == 1 {
		out["type"] = kinds[0]
	}
	return out
}
