package sql

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"laaster/internal/flow"
)

// Change is what a new program means for a log that has an older definition.
type Change uint8

// The kinds of changes.
const (
	Same       Change = iota // nothing but comments and layout of the text
	Compatible               // the new definition can be appended: views are built by replay, old rows are read as they were
	Refused                  // readers or producers of yesterday could not survive it
)

// Difference is one thing that changed, in words.
type Difference struct {
	What    string `json:"what"` // such as "table votes, column voter"
	Old     string `json:"old,omitempty"`
	New     string `json:"new,omitempty"`
	Refused bool   `json:"refused"`
	Remedy  string `json:"remedy,omitempty"` // of a refused one: what to do instead
	// Force says of a refused one that only readers would miss something: it can be forced.
	Force bool `json:"force,omitempty"`
	// Relation is the table or view that a refused one is about, and Breaks who writes or reads it, as far as is known.
	Relation string   `json:"relation,omitempty"`
	Breaks   []string `json:"breaks,omitempty"`
}

// String returns the difference as one line.
func (d Difference) String() string {
	s := d.What + ": "
	switch {
	case d.Old == "":
		s += d.New
	case d.New == "":
		s += d.Old
	default:
		s += d.Old + " → " + d.New
	}
	if d.Remedy != "" {
		s += " (" + d.Remedy + ")"
	}
	return s
}

// Compare says whether a program may follow the definition in the log, and lists every difference. It panics on a program
// that Compile did not make.
func Compare(old *Catalog, program *flow.Program) (Change, []Difference) {
	return CompareHeld(old, program, func(string, uint32) bool { return true })
}

// CompareHeld is Compare for a log that still has rows of some schema versions of its tables: contracts of others bind nobody any more.
func CompareHeld(old *Catalog, program *flow.Program, held func(table string, version uint32) bool) (Change, []Difference) {
	now, err := ParseCatalog(program.Catalog)
	if err != nil {
		panic("sql: " + err.Error())
	}
	d := &differ{held: held}
	read := reread(old)
	for i := range now.Tables {
		t := &now.Tables[i]
		d.relation = t.Name
		if o := read.table(t.Name); o != nil {
			d.table(o, t)
		} else {
			d.note("table "+t.Name, "", "new")
		}
	}
	for i := range old.Tables {
		if o := &old.Tables[i]; now.table(o.Name) == nil {
			d.relation = o.Name
			d.refuse("table "+o.Name, "exists", "is gone", "put it back: its rows are in the log; to begin anew, use another data folder")
		}
	}
	d.views(old, now)
	d.channels(old, now)
	d.accessChanges(read, now)
	if old.Semantics != now.Semantics {
		d.note("engine", fmt.Sprint("semantics ", old.Semantics), fmt.Sprint("semantics ", now.Semantics, ": every view is rebuilt"))
	}
	change := Same
	for _, x := range d.list {
		change = max(change, Compatible)
		if x.Refused {
			change = Refused
		}
	}
	return change, d.list
}

// Forcible reports whether what is refused among differences can be forced.
func Forcible(differences []Difference) bool {
	return !slices.ContainsFunc(differences, func(d Difference) bool { return d.Refused && !d.Force })
}

// AtStart reports whether a server may begin with what is refused among differences: columns of views alone, whose readers are not connected yet.
func AtStart(differences []Difference) bool {
	return !slices.ContainsFunc(differences, func(d Difference) bool { return d.Refused && !(d.Force && strings.Contains(d.What, ", column ")) })
}

// reread returns old with the expressions of its tables in the canonical text of this version, which may print them otherwise
// than the version that wrote them: it compiles the old source. What no longer compiles is left as it is.
func reread(old *Catalog) *Catalog {
	p, _ := CompileFiles("app.sql", []byte(old.Source), nil, old.files())
	if p == nil {
		return old
	}
	fresh, err := ParseCatalog(p.Catalog)
	if err != nil {
		return old
	}
	out := *old
	out.Policies = fresh.Policies
	out.Tables = slices.Clone(old.Tables)
	for i := range out.Tables {
		t := &out.Tables[i]
		f := fresh.table(t.Name)
		if f == nil || len(f.Columns) != len(t.Columns) {
			continue
		}
		t.Checks = f.Checks
		t.Columns = slices.Clone(t.Columns)
		for j := range t.Columns {
			t.Columns[j].Default = f.Columns[j].Default
		}
	}
	return &out
}

// differ collects differences.
type differ struct {
	list     []Difference
	relation string // that is compared
	held     func(table string, version uint32) bool
}

func (d *differ) note(what, old, now string) {
	d.list = append(d.list, Difference{What: what, Old: old, New: now})
}

func (d *differ) refuse(what, old, now, remedy string) {
	d.list = append(d.list, Difference{What: what, Old: old, New: now, Refused: true, Remedy: remedy, Relation: d.relation})
}

const restart = "undo it, or begin anew with another data folder"

func (d *differ) table(old, now *CatalogTable) {
	what := "table " + now.Name
	if old.AppendOnly != now.AppendOnly {
		kind := map[bool]string{true: "append-only", false: "keyed"}
		d.refuse(what, kind[old.AppendOnly], kind[now.AppendOnly], restart)
	}
	if !slices.Equal(old.PrimaryKey, now.PrimaryKey) {
		d.refuse(what+", primary key", "("+strings.Join(old.PrimaryKey, ", ")+")", "("+strings.Join(now.PrimaryKey, ", ")+")", restart)
	}
	d.columns(what, old, now)
	d.checks(what, old, now)
	d.contracts(what, old, now)
	for _, k := range slices.Sorted(maps.Keys(union(old.Options, now.Options))) {
		o, n := old.Options[k], now.Options[k]
		switch {
		case o == n:
		case k == "owner" || k == "version" || k == "audit" || k == "priority" || k == "rate" || k == "burst" || k == "schema" || k == "compatibility":
			d.note(what+", option "+k, cmp.Or(o, "none"), cmp.Or(n, "none"))
		default:
			d.refuse(what+", option "+k, cmp.Or(o, "none"), cmp.Or(n, "none"), restart)
		}
	}
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return all
}

func (d *differ) columns(table string, old, now *CatalogTable) {
	find := func(list []CatalogColumn, name string) int {
		return slices.IndexFunc(list, func(c CatalogColumn) bool { return c.Name == name })
	}
	for i, o := range old.Columns {
		what := table + ", column " + o.Name
		at := find(now.Columns, o.Name)
		if at < 0 {
			d.refuse(what, o.text(), "is gone", "put it back: rows in the log have it; a view can leave it out")
			continue
		}
		n := now.Columns[at]
		if o.Type != n.Type {
			d.refuse(what+", type", o.Type, n.Type, "keep it, and add a column of the new type at the end")
		}
		if o.NotNull != n.NotNull {
			d.refuse(what, nullText(o), nullText(n), restart)
		}
		if o.Default != n.Default {
			d.refuse(what+", default", cmp.Or(o.Default, "none"), cmp.Or(n.Default, "none"), "keep it, and let the sender give the value")
		}
		if at != i && o.Type == n.Type {
			d.refuse(what+", place", fmt.Sprint("column ", i+1), fmt.Sprint("column ", at+1), "add new columns at the end and keep the order of the others")
		}
	}
	for _, n := range now.Columns {
		if find(old.Columns, n.Name) >= 0 {
			continue
		}
		what := table + ", column " + n.Name
		if n.NotNull && n.Fill == nil {
			remedy := "declare it without NOT NULL, or with a DEFAULT"
			if n.Default != "" {
				remedy = "older rows need one value that is always the same: declare it without NOT NULL, or with a constant DEFAULT"
			}
			d.refuse(what, "", "new: "+n.text(), remedy)
			continue
		}
		d.note(what, "", "new: "+n.text()+", older rows have "+n.fillText())
	}
}

func nullText(c CatalogColumn) string {
	if c.NotNull {
		return "not null"
	}
	return "nullable"
}

func (c CatalogColumn) text() string {
	s := c.Type
	if c.NotNull {
		s += " not null"
	}
	if c.Default != "" {
		s += " default " + c.Default
	}
	return s
}

func (c CatalogColumn) fillText() string {
	if c.Fill == nil {
		return "NULL"
	}
	return "'" + *c.Fill + "'"
}

func (d *differ) checks(table string, old, now *CatalogTable) {
	find := func(t *CatalogTable, name string) CatalogCheck {
		i := slices.IndexFunc(t.Checks, func(k CatalogCheck) bool { return k.Name == name })
		if i < 0 {
			return CatalogCheck{Name: name, SQL: "none"}
		}
		return t.Checks[i]
	}
	for _, list := range [][]CatalogCheck{old.Checks, now.Checks} {
		for _, k := range list {
			o, n := find(old, k.Name), find(now, k.Name)
			if o.Cond != n.Cond && (o.Cond == "" || k == o) {
				d.refuse(table+", constraint "+k.Name, o.SQL, n.SQL, "undo it: rows in the log were checked by the old one")
			}
		}
	}
}

func (d *differ) views(old, now *Catalog) {
	before := map[string]CatalogView{}
	for _, v := range old.Views {
		before[v.Name] = v
	}
	for _, v := range now.Views {
		o, was := before[v.Name]
		delete(before, v.Name)
		if d.relation = v.Name; was {
			d.viewColumns(&o, &v, old.Grants)
		}
		switch {
		case !was:
			d.note("view "+v.Name, "", "new")
		case o.Hash != v.Hash:
			d.note("view "+v.Name, "", "changed, rebuilt by replay")
		case o.Order != v.Order:
			d.note("view "+v.Name+", order", cmp.Or(o.Order, "none"), cmp.Or(v.Order, "none"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		d.relation = name
		d.refuse("view "+name, "exists", "is gone", "put it back: somebody may read it; without GRANT SELECT nobody can")
		d.list[len(d.list)-1].Force = true
	}
}
