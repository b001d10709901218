package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/flow"
	"laaster/internal/sql"
)

type schemaCommand struct {
	Export schemaExportCommand `cmd:"" help:"Print the types of an app's rows for clients."`
}

type schemaExportCommand struct {
	App    string `arg:"" help:"The app folder."`
	Format string `help:"typescript or json-schema." enum:"typescript,json-schema" default:"typescript"`
	Exact  bool   `help:"For clients that ask for exact: bigint is a number or a string, numeric a string."`
}

// Help implements kong.HelpProvider.
func (c *schemaExportCommand) Help() string {
	return "Prints what rows look like: views (everything that can be read and subscribed to), tables (what can be written: columns with a default\n" +
		"or NULL may be left out) and channels. The same app.sql always gives the same text.\n\n" +
		"Examples:\n  laaster schema export my-app > src/schema.ts\n  laaster schema export my-app --format json-schema"
}

// Run implements the command.
func (c *schemaExportCommand) Run(s *streams) error {
	name := filepath.Join(c.App, "app.sql")
	if _, _, err := source(c.App); err != nil {
		return err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	program, found := sql.Compile(name, text, nil)
	if program == nil {
		for i := range found {
			fmt.Fprintln(s.err, found[i].Render())
		}
		return errSilent
	}
	shapes := schemaOf(program)
	if c.Format == "typescript" {
		_, err = fmt.Fprint(s.out, shapes.typescript(c.Exact))
		return err
	}
	out := json.NewEncoder(s.out)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(shapes.jsonSchema(c.Exact))
}

// schema is what an app's clients see, each list in the order of app.sql.
type schema struct {
	views, tables, channels []rowShape
}

// rowShape is the rows of one relation.
type rowShape struct {
	name    string
	columns []columnShape
}

type columnShape struct {
	name     string
	typ      app.Type
	null     bool
	optional bool // may be left out of a write
}

func schemaOf(p *flow.Program) schema {
	var out schema
	readable := map[string]bool{}
	for _, g := range p.Definition.Grants {
		readable[g.Relation] = readable[g.Relation] || g.Allow&app.Select != 0
	}
	for _, r := range p.Relations {
		if strings.HasPrefix(r.Name, "laaster.") || r.Table != nil && !readable[r.Name] {
			continue
		}
		out.views = append(out.views, shapeOf(r.Name, r.Columns, false))
	}
	for _, t := range p.Definition.Tables {
		out.tables = append(out.tables, shapeOf(t.Name, t.Columns, true))
	}
	for _, t := range p.Definition.Channels {
		out.channels = append(out.channels, shapeOf(t.Name, t.Columns, false))
	}
	return out
}

func shapeOf(name string, columns []app.Column, written bool) rowShape {
	s := rowShape{name: name}
	for i := range columns {
		c := &columns[i]
		null := !c.NotNull && c.Name != "_n"
		s.columns = append(s.columns, columnShape{c.Name, c.Type, null, written && (null || c.Default != "")})
	}
	return s
}

const schemaHead = `// The rows of this app's views, tables and channels: made by "laaster schema export", do not edit.
//
// bigint and numeric are numbers, which JavaScript reads as doubles: beyond 2^53 digits are lost unless the client asks for exact
// (then --exact gives the types). NaN and infinities of double precision and numeric come as strings.
`

var plainName = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

func quotedName(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	b, _ := json.Marshal(name) // a string always can be
	return string(b)
}

func (s *schema) typescript(exact bool) string {
	var b strings.Builder
	b.WriteString(schemaHead)
	b.WriteString("\nexport interface Schema {\n")
	for _, part := range []struct {
		name, what string
		shapes     []rowShape
	}{
		{"views", "What can be read and subscribed to: views, and tables that somebody may read.", s.views},
		{"tables", "What can be written: columns with a default or NULL may be left out.", s.tables},
		{"channels", "Rows in memory alone: presence and signals.", s.channels},
	} {
		fmt.Fprintf(&b, "  /** %s */\n", part.what)
		if len(part.shapes) == 0 {
			fmt.Fprintf(&b, "  %s: {}\n", part.name)
			continue
		}
		fmt.Fprintf(&b, "  %s: {\n", part.name)
		for _, shape := range part.shapes {
			fmt.Fprintf(&b, "    %s: {\n", quotedName(shape.name))
			for _, c := range shape.columns {
				mark, null := "", ""
				if c.optional {
					mark = "?"
				}
				if c.null {
					null = " | null"
				}
				fmt.Fprintf(&b, "      %s%s: %s%s\n", quotedName(c.name), mark, tsType(c.typ, exact), null)
			}
			b.WriteString("    }\n")
		}
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func tsType(t app.Type, exact bool) string {
	if t.IsArray() {
		return "(" + tsType(t.Elem(), exact) + " | null)[]"
	}
	switch t {
	case app.Bool:
		return "boolean"
	case app.Int8:
		if exact {
			return "number | string"
		}
		return "number"
	case app.Numeric:
		if exact {
			return "string"
		}
		return "number"
	case app.Int4, app.Float8:
		return "number"
	case app.JSONB:
		return "unknown"
	}
	return "string"
}

func (s *schema) jsonSchema(exact bool) any {
	part := func(shapes []rowShape) map[string]any {
		out := map[string]any{} // encoded in the order of the names
		for _, shape := range shapes {
			properties, required := map[string]any{}, []string{}
			for _, c := range shape.columns {
				properties[c.name] = jsonType(c.typ, c.null, exact)
				if !c.optional {
					required = append(required, c.name)
				}
			}
			slices.Sort(required)
			out[shape.name] = map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
		}
		return map[string]any{"type": "object", "properties": out}
	}
	return map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": map[string]any{
		"views": part(s.views), "tables": part(s.tables), "channels": part(s.channels)}}
}

func jsonType(t app.Type, null, exact bool) map[string]any {
	out := map[string]any{}
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
