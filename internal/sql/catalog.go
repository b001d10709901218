package sql

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// CatalogFormat is the version of the document that [Catalog.JSON] writes. A reader refuses newer ones.
const CatalogFormat = 1

// maxID bounds table ids and schema versions: far more than a log will ever see, and no sum with it overflows.
const maxID = 1 << 30

// Catalog is the definition of an app as an entry of the log carries it, in JSON. It says how to decode every row in the
// log, and what the next definition is compared with. Expressions are in the canonical text of package expr.
type Catalog struct {
	Format    int             `json:"format"`
	Semantics int             `json:"semantics"` // see [Semantics]
	Source    string          `json:"source"`    // the text of app.sql
	NextTable uint32          `json:"next_table"`
	Tables    []CatalogTable  `json:"tables"`
	Views     []CatalogView   `json:"views"`
	Grants    []CatalogGrant  `json:"grants"`
	Roles     []string        `json:"roles,omitempty"`
	Secured   []string        `json:"secured,omitempty"` // relations with row level security, sorted
	Policies  []CatalogPolicy `json:"policies,omitempty"`
	// Channels are here to be compared: the log has no rows of theirs. They have no id and no versions.
	Channels []CatalogChannel `json:"channels,omitempty"`
}

// CatalogChannel is one table WITH (channel) or WITH (presence).
type CatalogChannel struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // channel or presence
	Hash string `json:"hash"` // of everything that is declared of it
}

// CatalogTable is one table. Columns are only ever appended, so a row of version v has the first Versions[v].Columns of them.
type CatalogTable struct {
	ID         uint32            `json:"id"` // from 1; never used again on the same log
	Name       string            `json:"name"`
	Versions   []CatalogVersion  `json:"versions"` // ascending; the last is current
	Columns    []CatalogColumn   `json:"columns"`
	PrimaryKey []string          `json:"primary_key,omitempty"`
	AppendOnly bool              `json:"append_only,omitempty"`
	Checks     []CatalogCheck    `json:"checks,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	Contracts  []CatalogContract `json:"contracts,omitempty"` // ascending by Since; the last of a column is in effect
}

// CatalogContract is the JSON Schema of a column in rows of a schema version and of later ones, up to the next contract of the column.
type CatalogContract struct {
	Since  uint32 `json:"since"` // schema version of the table
	Column string `json:"column"`
	File   string `json:"file,omitempty"`
	Text   string `json:"text,omitempty"` // empty: the column has no schema any more
}

// CatalogVersion is one schema version of a table.
type CatalogVersion struct {
	Version uint32 `json:"version"`
	Columns int    `json:"columns"`
}

// CatalogColumn is one column of a table or view.
type CatalogColumn struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	NotNull bool    `json:"not_null,omitempty"`
	Default string  `json:"default,omitempty"`
	Fill    *string `json:"fill,omitempty"` // the value in rows of versions before the column, as text; absent: NULL
}

// CatalogCheck is one CHECK constraint.
type CatalogCheck struct {
	Name string `json:"name"`
	Cond string `json:"cond"` // canonical: equal for equal conditions
	SQL  string `json:"sql"`  // as written
}

// CatalogView is one view.
type CatalogView struct {
	Name    string          `json:"name"`
	Hash    string          `json:"hash"`
	Columns []CatalogColumn `json:"columns"`
	Key     []string        `json:"key"`
	Order   string          `json:"order,omitempty"`
	// Compatibility is what the view promises its readers; empty: that columns and their types stay.
	Compatibility string `json:"compatibility,omitempty"`
}

// CatalogGrant is what one role may do with one relation.
type CatalogGrant struct {
	Role     string   `json:"role"`
	Relation string   `json:"relation"`
	Allow    string   `json:"allow"`
	Columns  []string `json:"columns,omitempty"` // what Allow is limited to; absent: all columns
}

// JSON returns the document. The same catalog gives the same bytes.
func (c *Catalog) JSON() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("sql: a catalog is always JSON: " + err.Error())
	}
	return b
}

// ParseCatalog reads what JSON wrote, and checks that rows can be decoded by it.
func ParseCatalog(b []byte) (*Catalog, error) {
	c := &Catalog{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("the definition in the log cannot be read: %w", err)
	}
	if c.Format != CatalogFormat {
		return nil, fmt.Errorf("the definition in the log has format %d, and this version reads %d: use a newer version of Laaster", c.Format, CatalogFormat)
	}
	if c.NextTable == 0 || c.NextTable > maxID {
		return nil, errors.New("the definition in the log is damaged: next_table is out of range")
	}
	ids, names := map[uint32]bool{}, map[string]bool{}
	for i := range c.Tables {
		t := &c.Tables[i]
		if err := t.valid(); err != nil {
			return nil, fmt.Errorf("the definition in the log is damaged: table %q: %w", t.Name, err)
		}
		if ids[t.ID] || names[t.Name] || t.ID >= c.NextTable {
			return nil, fmt.Errorf("the definition in the log is damaged: table %q: its id or name is not its own", t.Name)
		}
		ids[t.ID], names[t.Name] = true, true
	}
	return c, nil
}

func (t *CatalogTable) valid() error {
	if len(t.Columns) == 0 || len(t.Columns) > MaxColumns || len(t.Versions) == 0 || t.ID == 0 {
		return errors.New("columns, versions or id missing")
	}
	if t.Versions[0].Version == 0 || t.Versions[len(t.Versions)-1].Version > maxID {
		return errors.New("a version is out of range")
	}
	for _, col := range t.Columns {
		if typ := expr.TypeNamed(col.Type); typ == app.Unknown {
			return fmt.Errorf("column %q has the unknown type %q", col.Name, col.Type)
		} else if col.Fill != nil {
			if _, _, err := expr.ParseText(typ, []byte(*col.Fill), nil); err != nil {
				return fmt.Errorf("column %q: %w", col.Name, err)
			}
		}
	}
	for i, v := range t.Versions {
		if v.Columns < 1 || v.Columns > len(t.Columns) || i > 0 && (v.Version <= t.Versions[i-1].Version || v.Columns < t.Versions[i-1].Columns) {
			return errors.New("its versions do not ascend")
		}
	}
	if t.Versions[len(t.Versions)-1].Columns != len(t.Columns) {
		return errors.New("its last version does not have all columns")
	}
	return nil
}

// table finds a table by name, nil when there is none. The catalog may be nil.
func (c *Catalog) table(name string) *CatalogTable {
	if c == nil {
		return nil
	}
	for i := range c.Tables {
		if c.Tables[i].Name == name {
			return &c.Tables[i]
		}
	}
	return nil
}

// version gives a table its id and schema versions, relative to the previous catalog.
func (c *compiler) version(r *relation) {
	rules, cols := r.rel.Table, r.table.Columns
	rules.Layout = change.ColumnLayout(cols)
	rules.Fill = make([]change.Value, len(cols))
	for i := range rules.Fill {
		rules.Fill[i] = change.Null()
	}
	old := c.prev.table(r.name)
	if old == nil {
		rules.Catalog, rules.Version = c.newTableID(), 1
		rules.Versions = []expr.TableVersion{{Version: 1, Columns: len(cols), Layout: rules.Layout}}
		return
	}
	rules.Catalog = old.ID
	last := old.Versions[len(old.Versions)-1]
	rules.Version = last.Version
	for _, v := range old.Versions {
		if v.Columns <= len(cols) {
			rules.Versions = append(rules.Versions, expr.TableVersion{Version: v.Version, Columns: v.Columns, Layout: change.ColumnLayout(cols[:v.Columns])})
		}
	}
	if !samePrefix(old.Columns, cols) || len(cols) > last.Columns || !sameContracts(old, r.table) {
		rules.Version++
		rules.Versions = append(rules.Versions, expr.TableVersion{Version: rules.Version, Columns: len(cols), Layout: rules.Layout})
	}
	c.fill(r, old)
}

// newTableID returns the next id that no table of the log ever had.
func (c *compiler) newTableID() uint32 {
	if c.nextID == 0 {
		c.nextID = 1
		if c.prev != nil {
			c.nextID = c.prev.NextTable
		}
	}
	c.nextID++
	return c.nextID - 1
}

// samePrefix reports whether the old columns are the first of the new ones.
func samePrefix(old []CatalogColumn, cols []app.Column) bool {
	if len(old) > len(cols) {
		return false
	}
	for i, o := range old {
		if o.Name != cols[i].Name || o.Type != cols[i].Type.String() {
			return false
		}
	}
	return true
}

// fill sets what the columns that were added are in older rows: what was decided when they were added, or now the
// constant value of the default.
func (c *compiler) fill(r *relation, old *CatalogTable) {
	rules := r.rel.Table
	for i, col := range r.table.Columns {
		at := slices.IndexFunc(old.Columns, func(o CatalogColumn) bool { return o.Name == col.Name })
		if at >= 0 {
			if f := old.Columns[at].Fill; f != nil {
				if v, _, err := expr.ParseText(col.Type, []byte(*f), nil); err == nil {
					rules.Fill[i] = v
				}
			}
			continue
		}
		if d := rules.Defaults[i]; d != nil && d.Volatility() == expr.Immutable {
			rules.Fill[i] = constant(d)
		}
	}
}

// constant computes an expression that reads nothing; NULL when it fails.
func constant(n *expr.Node) change.Value {
	f, err := expr.Compile(n, nil)
	if err != nil {
		return change.Null()
	}
	v, err := f(&expr.Ctx{})
	if err != nil {
		return change.Null()
	}
	return v
}

// catalog makes the document of a program.
func (c *compiler) catalog() *Catalog {
	doc := &Catalog{Format: CatalogFormat, Semantics: Semantics, Source: c.src, Tables: []CatalogTable{}, Views: []CatalogView{}, Grants: []CatalogGrant{}}
	doc.NextTable = max(1, c.nextID)
	if c.prev != nil {
		doc.NextTable = max(doc.NextTable, c.prev.NextTable)
	}
	for _, r := range c.rels {
		if r.table != nil {
			t := catalogTable(r)
			t.Contracts = contracts(c.prev.table(r.name), r.table, r.rel.Table.Version)
			doc.Tables = append(doc.Tables, t)
			continue
		}
		v := CatalogView{Name: r.name, Hash: r.plan.Hash, Columns: catalogColumns(r.view.Columns), Key: []string{}, Compatibility: r.view.Options["compatibility"]}
		for _, k := range r.rel.Key {
			v.Key = append(v.Key, r.rel.Columns[k].Name)
		}
		v.Order = flow.OrderText(r.view.Order, func(i int) string { return r.view.Columns[i].Name })
		doc.Views = append(doc.Views, v)
	}
	for _, r := range c.channels {
		doc.Channels = append(doc.Channels, catalogChannel(r))
	}
	c.access(doc)
	return doc
}

func catalogTable(r *relation) CatalogTable {
	rules := r.rel.Table
	t := CatalogTable{ID: rules.Catalog, Name: r.name, Columns: catalogColumns(r.table.Columns), AppendOnly: r.table.AppendOnly, Options: r.table.Options}
	for i, d := range rules.Defaults {
		if d != nil {
			t.Columns[i].Default = d.String()
		}
		if f := rules.Fill[i]; !f.Null {
			text := string(expr.AppendText(nil, r.table.Columns[i].Type, f))
			t.Columns[i].Fill = &text
		}
	}
	for _, v := range rules.Versions {
		t.Versions = append(t.Versions, CatalogVersion{v.Version, v.Columns})
	}
	for _, k := range r.table.PrimaryKey {
		t.PrimaryKey = append(t.PrimaryKey, r.table.Columns[k].Name)
	}
	for i, k := range rules.Checks {
		t.Checks = append(t.Checks, CatalogCheck{k.Name, k.Cond.String(), r.table.Checks[i].SQL})
	}
	return t
}

func catalogColumns(cols []app.Column) []CatalogColumn {
	out := make([]CatalogColumn, len(cols))
	for i, col := range cols {
		out[i] = CatalogColumn{Name: col.Name, Type: col.Type.String(), NotNull: col.NotNull}
	}
	return out
}
