package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/flow"
	"laaster/internal/node"
	"laaster/internal/sql"
)

type schemaCommand struct {
	Export schemaExportCommand `cmd:"" help:"Print the types of an app's rows for clients, or its interfaces for tools."`
}

type schemaExportCommand struct {
	App    string `arg:"" help:"The app folder."`
	Format string `help:"typescript, json-schema (2020-12), openapi (3.1: reads and writes over HTTP) or asyncapi (3.0: events in, changes out)." enum:"typescript,json-schema,openapi,asyncapi" default:"typescript"`
	Exact  bool   `help:"For clients that ask for exact: bigint is a number or a string, numeric a string."`
}

// Help implements kong.HelpProvider.
func (c *schemaExportCommand) Help() string {
	return "Prints what rows look like: views (everything that can be read and subscribed to), tables (what can be written: columns with a default\n" +
		"or NULL may be left out) and channels. openapi and asyncapi add the paths, frames and events. The same app always gives the same text.\n\n" +
		"Examples:\n  laaster schema export my-app > src/schema.ts\n  laaster schema export my-app --format json-schema\n" +
		"  laaster schema export my-app --format openapi > openapi.json\n  laaster schema export my-app --format asyncapi > asyncapi.json"
}

// Run implements the command.
func (c *schemaExportCommand) Run(s *streams) error {
	src, _, err := node.ReadSource(c.App)
	if err != nil {
		return err
	}
	program, found := sql.CompileFiles(src.File, src.SQL, nil, src.Files)
	if program == nil {
		for i := range found {
			fmt.Fprintln(s.err, found[i].Render())
		}
		return errSilent
	}
	shapes := schemaOf(program)
	shapes.title, shapes.version = title(c.App), edition(program)
	var doc any
	switch c.Format {
	case "typescript":
		_, err = fmt.Fprint(s.out, shapes.typescript(c.Exact))
		return err
	case "json-schema":
		doc = shapes.jsonSchema(c.Exact)
	case "openapi":
		doc = shapes.openapi(c.Exact)
	case "asyncapi":
		doc = shapes.asyncapi(c.Exact)
	}
	out := json.NewEncoder(s.out)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(doc)
}

// title names an app by its folder.
func title(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return filepath.Base(dir)
}

// edition names a definition: the same for the same app.sql and schema files, another for any other.
func edition(p *flow.Program) string {
	h := sha256.New()
	h.Write([]byte(p.Definition.Source))
	for _, t := range p.Definition.Tables {
		for _, s := range t.Schemas {
			fmt.Fprintf(h, "\x00%s\x00%s", s.File, s.Text)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// schema is what an app's clients see, each list in the order of app.sql.
type schema struct {
	title, version          string
	views, tables, channels []rowShape
}

// rowShape is the rows of one relation.
type rowShape struct {
	name    string
	columns []columnShape
	key     []string // names of the key's columns
	keyed   bool     // of a table: rows can be changed
	owner   string   // WITH (owner = …)
	release string   // WITH (version = …)
	allow   map[app.Privilege][]string
}

type columnShape struct {
	name     string
	typ      app.Type
	null     bool
	optional bool // may be left out of a write
	contract any  // the JSON Schema of a jsonb column; nil: there is none
}

func schemaOf(p *flow.Program) schema {
	var out schema
	allowed := map[string]map[app.Privilege][]string{}
	for _, g := range p.Definition.Grants {
		for _, one := range []app.Privilege{app.Select, app.Insert, app.Update, app.Delete} {
			if g.Allow&one == 0 {
				continue
			}
			if allowed[g.Relation] == nil {
				allowed[g.Relation] = map[app.Privilege][]string{}
			}
			if roles := allowed[g.Relation][one]; !slices.Contains(roles, g.Role) {
				allowed[g.Relation][one] = append(roles, g.Role)
			}
		}
	}
	options := map[string]map[string]string{}
	for _, v := range p.Definition.Views {
		options[v.Name] = v.Options
	}
	for _, r := range p.Relations {
		if strings.HasPrefix(r.Name, "laaster.") || r.Table != nil && allowed[r.Name][app.Select] == nil {
			continue
		}
		s := shapeOf(r.Name, r.Columns, false)
		for _, k := range r.Key {
			s.key = append(s.key, r.Columns[k].Name)
		}
		s.allow, s.owner, s.release = allowed[r.Name], options[r.Name]["owner"], options[r.Name]["version"]
		if r.Table != nil {
			s.of(r.Table.Table)
		}
		out.views = append(out.views, s)
	}
	for _, t := range p.Definition.Tables {
		s := shapeOf(t.Name, t.Columns, true)
		s.of(t)
		s.allow, s.keyed = allowed[t.Name], t.Keyed()
		out.tables = append(out.tables, s)
	}
	for _, t := range p.Definition.Channels {
		s := shapeOf(t.Name, t.Columns, false)
		s.of(t)
		s.allow = allowed[t.Name]
		out.channels = append(out.channels, s)
	}
	return out
}

// of takes over what a table says of itself and of its jsonb columns.
func (s *rowShape) of(t *app.Table) {
	s.owner, s.release = t.Options["owner"], t.Options["version"]
	for _, c := range t.Schemas {
		d := json.NewDecoder(strings.NewReader(c.Text))
		d.UseNumber()
		_ = d.Decode(&s.columns[c.Column].contract) // it was compiled
	}
}

func shapeOf(name string, columns []app.Column, written bool) rowShape {
	s := rowShape{name: name}
	for i := range columns {
		c := &columns[i]
		null := !c.NotNull && c.Name != "_n"
		s.columns = append(s.columns, columnShape{c.Name, c.Type, null, written && (null || c.Default != ""), nil})
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
				fmt.Fprintf(&b, "      %s%s: %s%s\n", quotedName(c.name), mark, c.tsType(exact), null)
			}
			b.WriteString("    }\n")
		}
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (c *columnShape) tsType(exact bool) string {
	if c.contract != nil {
		return newTSContract(c.contract).text("      ")
	}
	return tsType(c.typ, exact)
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
