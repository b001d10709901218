package sql

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/contract"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// Files reads a file that an app.sql names, by its path relative to the app folder, with forward slashes.
type Files func(name string) ([]byte, error)

// How many contracts that are no longer in effect the definition keeps of one table, and how many bytes of them. Beyond it the oldest go, and bind nobody
// any more.
const (
	maxPastContracts = 32
	maxPastBytes     = 128 << 10
)

// The values of WITH (compatibility = …).
const (
	backward = "backward" // every value that a contract allowed before is allowed: the default
	forward  = "forward"  // every value that is allowed was allowed before
	full     = "full"     // both
	anything = "none"
)

// files returns the texts that the catalog has. It may be nil.
func (c *Catalog) files() Files {
	var texts map[string]string
	if c != nil {
		texts = c.Files()
	}
	return func(name string) ([]byte, error) {
		if text := texts[name]; text != "" {
			return []byte(text), nil
		}
		return nil, errors.New("the file is not here")
	}
}

// Schemas returns the paths of the schema files that an app.sql names, each once, in the order of the text. What cannot be parsed names none.
func Schemas(src []byte) []string {
	list, _ := syntax.Parse(string(src))
	var names []string
	for _, s := range list {
		t, ok := s.(*syntax.CreateTable)
		if !ok {
			continue
		}
		for _, o := range t.Options {
			if o.Key.Text != "schema" || o.Value == nil {
				continue
			}
			for _, f := range schemaFiles(o.Value.Text) {
				if !slices.Contains(names, f.file) && checkPath(f.file) == "" {
					names = append(names, f.file)
				}
			}
		}
	}
	return names
}

// Files returns the schema files of the definition with their texts, those in effect.
func (c *Catalog) Files() map[string]string {
	out := map[string]string{}
	for i := range c.Tables {
		t := &c.Tables[i]
		for _, col := range t.Columns {
			if k := currentContract(t.Contracts, col.Name); k.Text != "" {
				out[k.File] = k.Text
			}
		}
	}
	return out
}

// schemaFile is one part of schema = '[column:] file, …'.
type schemaFile struct{ column, file string }

func schemaFiles(text string) []schemaFile {
	var out []schemaFile
	for part := range strings.SplitSeq(text, ",") {
		column, file, named := strings.Cut(part, ":")
		if !named {
			column, file = "", part
		}
		out = append(out, schemaFile{strings.TrimSpace(column), strings.TrimSpace(file)})
	}
	return out
}

// checkPath says what is wrong with the name of a schema file; nothing when it can be one.
func checkPath(name string) string {
	switch {
	case name == "" || !strings.HasSuffix(name, ".json"):
		return "a schema is a file whose name ends in .json"
	case path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsAny(name, "\\\x00"):
		return "the file must be inside of the app folder, named relative to it"
	}
	return ""
}

// schemas reads WITH (schema = …).
func (p *tableParts) schemas() {
	for _, o := range p.stmt.Options {
		if _, ok := p.table.Options["schema"]; ok && o.Key.Text == "schema" {
			p.c.try(func() { p.schemaOption(o) })
		}
	}
}

func (p *tableParts) schemaOption(o syntax.Option) {
	c, t, at := p.c, p.table, o.Value.Span
	for _, f := range schemaFiles(o.Value.Text) {
		col := p.schemaColumn(f.column, at)
		if slices.ContainsFunc(t.Schemas, func(s app.Schema) bool { return s.Column == col }) {
			c.fail(at, "", "column %s has two schemas", quoted(t.Columns[col].Name))
		}
		if msg := checkPath(f.file); msg != "" {
			c.fail(at, "for example: schema = 'schemas/reading.schema.json'", "%s", msg)
		}
		text, err := c.files(f.file)
		if err != nil {
			c.fail(at, "its path is relative to the folder of app.sql", "the schema %s cannot be read: %s", quoted(f.file), err)
		}
		schema, err := contract.Compile(text)
		if err != nil {
			c.fail(at, "a schema is one file of JSON Schema 2020-12, its regular expressions are RE2's", "%s: %s", f.file, err)
		}
		p.schemaDefault(col, schema, at)
		t.Schemas = append(t.Schemas, app.Schema{Column: col, File: f.file, Text: string(schema.Text())})
	}
	slices.SortFunc(t.Schemas, func(a, b app.Schema) int { return a.Column - b.Column })
}

// schemaColumn finds the column that a schema is for: the named one, or the one of type jsonb.
func (p *tableParts) schemaColumn(name string, at syntax.Span) int {
	c, t := p.c, p.table
	const example = "for example: schema = 'data: data.schema.json, meta: meta.schema.json'"
	if name != "" {
		i := slices.Index(columnNames(t.Columns), name)
		if i < 0 {
			c.fail(at, didYouMean(name, columnNames(t.Columns)), "column %s does not exist", quoted(name))
		}
		if t.Columns[i].Type != app.JSONB {
			c.fail(at, "other types have CHECK", "a schema is for jsonb, and column %s is %s", quoted(name), t.Columns[i].Type)
		}
		return i
	}
	found := -1
	for i, col := range t.Columns {
		if col.Type != app.JSONB {
			continue
		}
		if found >= 0 {
			c.fail(at, example, "table %s has several columns of type jsonb: name the one that the schema is for", quoted(t.Name))
		}
		found = i
	}
	if found < 0 {
		c.fail(at, "other types have CHECK", "a schema is for jsonb, and table %s has no such column", quoted(t.Name))
	}
	return found
}

// schemaDefault refuses a default that the schema does not allow.
func (p *tableParts) schemaDefault(col int, s *contract.Schema, at syntax.Span) {
	d := p.rules.Defaults[col]
	if d == nil || d.Volatility() != expr.Immutable {
		return
	}
	v := constant(d)
	if v.Null {
		return
	}
	if bad := s.Check(v.B); bad != nil {
		p.c.fail(at, "change the one or the other", "the schema does not allow the default of column %s: %s", quoted(p.table.Columns[col].Name), bad.Msg)
	}
}

func (c *compiler) compatibilityOption(v *syntax.OptionValue) {
	switch v.Text {
	case backward, forward, full, anything:
		return
	}
	c.fail(v.Span, "'backward' is the default: what was allowed before is allowed", "compatibility must be 'backward', 'forward', 'full' or 'none'")
}

// currentContract returns the last contract of a column.
func currentContract(list []CatalogContract, column string) CatalogContract {
	for _, k := range slices.Backward(list) {
		if k.Column == column {
			return k
		}
	}
	return CatalogContract{Column: column}
}

// schemaOf returns the schema that a table declares for a column.
func schemaOf(t *app.Table, column string) app.Schema {
	for _, s := range t.Schemas {
		if t.Columns[s.Column].Name == column {
			return s
		}
	}
	return app.Schema{}
}

// sameContracts reports whether a table asks of its columns what it did before.
func sameContracts(old *CatalogTable, t *app.Table) bool {
	return !slices.ContainsFunc(t.Columns, func(col app.Column) bool {
		return currentContract(old.Contracts, col.Name).Text != schemaOf(t, col.Name).Text
	})
}

// contracts lists the contracts of a table as of a schema version: those before, which old has, and those in effect.
func contracts(old *CatalogTable, t *app.Table, version uint32) []CatalogContract {
	var out []CatalogContract
	if old != nil {
		out = slices.Clone(old.Contracts)
	}
	for _, col := range t.Columns {
		was, is := currentContract(out, col.Name), schemaOf(t, col.Name)
		switch {
		case was.Text != is.Text:
			out = append(out, CatalogContract{Since: version, Column: col.Name, File: is.File, Text: is.Text})
		case was.File != is.File:
			out[slices.Index(out, was)].File = is.File
		}
	}
	return forget(out)
}

// forget drops the oldest contracts that are not in effect as long as there are too many.
func forget(list []CatalogContract) []CatalogContract {
	for {
		n, bytes, oldest := 0, 0, -1
		for i, k := range list {
			if currentContract(list, k.Column) == k {
				continue
			}
			if n, bytes = n+1, bytes+len(k.Text); oldest < 0 {
				oldest = i
			}
		}
		if n <= maxPastContracts && bytes <= maxPastBytes {
			return list
		}
		list = slices.Delete(list, oldest, oldest+1)
	}
}

// pastContract is what was asked of a column in rows of some schema versions; no text: anything.
type pastContract struct {
	text  string
	first uint32 // schema version
}

// pastContracts returns what the log's rows were held to, oldest first, and each text once.
func (d *differ) pastContracts(old *CatalogTable, column string) []pastContract {
	at := slices.IndexFunc(old.Columns, func(c CatalogColumn) bool { return c.Name == column })
	if at < 0 {
		return nil
	}
	var out []pastContract
	current := currentContract(old.Contracts, column).Text
	for i, v := range old.Versions {
		if v.Columns <= at { // the column was not there, and has the same value in all these rows
			continue
		}
		if i < len(old.Versions)-1 && !d.held(old.Name, v.Version) {
			continue
		}
		text := ""
		for _, k := range old.Contracts {
			if k.Column == column && k.Since <= v.Version {
				text = k.Text
			}
		}
		if i == len(old.Versions)-1 {
			text = current
		}
		if !slices.ContainsFunc(out, func(p pastContract) bool { return p.text == text }) {
			out = append(out, pastContract{text, v.Version})
		}
	}
	return out
}

// contracts compares what is asked of jsonb columns with what was asked of every row that the log holds.
func (d *differ) contracts(table string, old, now *CatalogTable) {
	mode := cmp.Or(now.Options["compatibility"], backward)
	for _, col := range now.Columns {
		if !slices.ContainsFunc(now.Contracts, func(k CatalogContract) bool { return k.Column == col.Name }) { // those before are among them
			continue
		}
		is := currentContract(now.Contracts, col.Name)
		if was := currentContract(old.Contracts, col.Name); was.Text != is.Text {
			d.note(table+", schema of "+col.Name, fileText(was), fileText(is)+contractChange(was, is))
		}
		for _, was := range d.pastContracts(old, col.Name) {
			if was.text == is.Text {
				continue
			}
			what := fmt.Sprintf("%s, schema of %s against version %d", table, col.Name, was.first)
			if mode == backward || mode == full {
				for _, b := range contract.Narrower(schemaText(was.text), schemaText(is.Text)) {
					d.refuse(what+place(b.At), b.Old, b.New, "allow what was allowed before, or add a column for what is new; compatibility = 'none' lets it pass")
				}
			}
			if mode == forward || mode == full {
				for _, b := range contract.Narrower(schemaText(is.Text), schemaText(was.text)) {
					d.refuse(what+place(b.At), b.New, b.Old, "allow only what was allowed before, since readers know nothing else; compatibility = 'backward' asks it of writers alone")
				}
			}
		}
	}
}

func place(at string) string {
	if at == "" {
		return ""
	}
	return ", " + at
}

// schemaText returns the schema that allows anything in place of none.
func schemaText(text string) []byte { return []byte(cmp.Or(text, "true")) }

func fileText(k CatalogContract) string {
	if k.Text == "" {
		return "none"
	}
	return k.File
}

// contractChange says that a file has other contents under the same name.
func contractChange(was, is CatalogContract) string {
	if was.Text != "" && was.File == is.File {
		return " with other contents"
	}
	return ""
}

// viewColumns compares what readers of a view got with what they will get. A view WITH (compatibility = 'none') promises them nothing.
func (d *differ) viewColumns(old, now *CatalogView, grants []CatalogGrant) {
	readable := slices.ContainsFunc(grants, func(g CatalogGrant) bool { return g.Relation == old.Name && strings.Contains(g.Allow, "select") })
	if !readable || now.Compatibility == anything {
		return
	}
	refuse := func(what, o, n, remedy string) {
		d.refuse(what, o, n, remedy)
		d.list[len(d.list)-1].Force = true
	}
	for _, o := range old.Columns {
		what := "view " + old.Name + ", column " + o.Name
		i := slices.IndexFunc(now.Columns, func(c CatalogColumn) bool { return c.Name == o.Name })
		switch {
		case i < 0:
			refuse(what, o.Type, "is gone", "keep it, or give the new query a view of its own: somebody may read it")
		case o.Type != now.Columns[i].Type && !(wholeNumber(o.Type) && wholeNumber(now.Columns[i].Type)):
			refuse(what+", type", o.Type, now.Columns[i].Type, "keep it, and add a column of the new type: somebody may read it")
		}
	}
}

// wholeNumber reports whether values of a type are whole numbers in JSON: readers see no difference.
func wholeNumber(name string) bool { return name == "integer" || name == "bigint" }
