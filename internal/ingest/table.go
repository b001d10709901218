package ingest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// table is what the door knows of one table, compiled once. Read-only; the functions in it are safe for concurrent use
// with a Ctx each.
type table struct {
	rel      *expr.Relation
	rules    *expr.TableRules
	cols     []app.Column // that a row is given with: all but the _n of a table without a key
	columns  map[string]int
	defaults []expr.Func // by column; nil: NULL
	checks   []expr.Func
	serverID bool // the primary key's default makes a new one each time
	// contracts has the columns whose values follow a JSON Schema.
	contracts []columnContract
	// attributes has the columns that attributes of CloudEvents fill, by the attribute's name.
	attributes map[string]int
	claims     bool      // some default asks for a claim
	anything   condition // what is asked of rows where there are no rules
}

func newTable(rel *expr.Relation) (*table, error) {
	cols := rel.Columns[:rel.Table.Layout.Columns()]
	t := &table{rel: rel, rules: rel.Table, cols: cols, columns: map[string]int{}, defaults: make([]expr.Func, len(cols))}
	for i, c := range cols {
		t.columns[c.Name] = i
		node := rel.Table.Defaults[i]
		if node == nil {
			continue
		}
		f, err := expr.Compile(node, t.rules.Layout)
		if err != nil {
			return nil, fmt.Errorf("default of %s.%s: %w", rel.Name, c.Name, err)
		}
		t.defaults[i] = f
		t.claims = t.claims || asksClaims(node)
	}
	for _, c := range rel.Table.Checks {
		f, err := expr.Compile(c.Cond, t.rules.Layout)
		if err != nil {
			return nil, fmt.Errorf("check %s of %s: %w", c.Name, rel.Name, err)
		}
		t.checks = append(t.checks, f)
	}
	for _, k := range rel.Table.Table.PrimaryKey {
		if d := rel.Table.Defaults[k]; d != nil && d.Kind == expr.KCall && d.Func.Name == "gen_random_uuid" {
			t.serverID = true
		}
	}
	t.attributes = newAttributes(rel, t.columns)
	var err error
	t.contracts, err = newContracts(rel)
	return t, err
}

// keyGiven reports whether the caller gave any column of the primary key.
func (t *table) keyGiven(given []byte) bool {
	for _, k := range t.rules.Table.PrimaryKey {
		if given[k>>3]&(1<<(k&7)) != 0 {
			return true
		}
	}
	return false
}

func asksClaims(n *expr.Node) bool {
	return n.Kind == expr.KCall && n.Func.Name == "auth_claim" || slices.ContainsFunc(n.Args, asksClaims)
}

// columnNames lists the columns that may be given for a hint; nil: all.
func (t *table) columnNames(given []bool) string {
	var names []string
	for i, c := range t.cols {
		if may(given, i) {
			names = append(names, c.Name)
		}
	}
	return "the columns of " + t.rel.Name + " are " + strings.Join(names, ", ")
}

// rowDecoder turns JSON objects into records of one table. It is reused from request to request and not safe for
// concurrent use. What it hands out is valid until the next row.
type rowDecoder struct {
	t       *table
	scan    scanner
	vals    []change.Value
	given   []byte // bitmap of the columns in the object
	guess   int    // column after the last member's: objects of one producer name their members in one order
	buf     []byte // bytes that vals alias
	row     []byte
	body    []byte // memory for the records of a part; the job that has the decoder uses it
	ctx     expr.Ctx
	permit  *permit
	problem *wire.Problem // the first thing wrong with the row at hand
}

func (d *rowDecoder) reset(t *table, p *permit, src []byte, now int64, who *auth.Principal) {
	d.t, d.permit, d.scan = t, p, scanner{src: src}
	n := len(t.cols)
	if cap(d.vals) < n {
		d.vals = make([]change.Value, n)
	}
	d.vals = d.vals[:n]
	if w := (n + 7) / 8; cap(d.given) < w {
		d.given = make([]byte, w)
	}
	d.given = d.given[:(n+7)/8]
	d.ctx.Now = now
	d.ctx.Subject = append(d.ctx.Subject[:0], who.Subject...)
	d.ctx.Role = append(d.ctx.Role[:0], who.Role...)
	if d.ctx.Claim = nil; t.claims && who.Token != nil {
		d.ctx.Claim = who.Claim
	}
}

// members reads the object at the scanner. The error is of syntax; a member that does not fit sets d.problem and the object is
// read to its end, so that the next row is found.
func (d *rowDecoder) members() error {
	d.problem, d.guess, d.buf = nil, 0, d.buf[:0]
	clear(d.given)
	clear(d.vals)
	if d.scan.space() != '{' {
		at := d.scan.pos
		if _, err := d.scan.value(0); err != nil {
			return err
		}
		d.problem = wire.NewProblem(wire.InvalidRow, fmt.Sprintf("a row is a JSON object; byte %d begins something else", at)).
			WithHint(`write {"column": value, …}`)
		return nil
	}
	d.scan.pos++
	if d.scan.space() == '}' {
		d.scan.pos++
		return nil
	}
	for {
		key, err := d.scan.key()
		if err != nil {
			return err
		}
		tok, err := d.scan.value(1)
		if err != nil {
			return err
		}
		d.member(key, tok)
		if done, err := d.scan.more('}'); done || err != nil {
			return err
		}
	}
}

func (d *rowDecoder) member(key, tok []byte) {
	if d.problem != nil {
		return
	}
	col := d.column(key[1 : len(key)-1])
	if col < 0 {
		var name string
		if err := json.Unmarshal(key, &name); err != nil { // the scanner took it as a string
			name = string(key)
		}
		c, ok := d.t.columns[name] // many encoders write what is not ASCII with escapes
		if !ok {
			d.problem = wire.NewProblem(wire.UnknownColumn, d.t.rel.Name+" has no column "+clip(name)).WithField(clip(name), d.t.columnNames(d.permit.give))
			return
		}
		col = c
	}
	if !may(d.permit.give, col) {
		d.problem = d.notGiven(col)
		return
	}
	v, buf, err := expr.FromJSON(d.t.cols[col].Type, tok, d.buf)
	if err != nil {
		d.problem = wire.NewProblem(wire.InvalidRow, err.Error()).WithField(d.t.cols[col].Name,
			d.t.cols[col].Name+" is "+d.t.cols[col].Type.String())
		return
	}
	d.buf = buf
	d.vals[col] = v
	d.given[col>>3] |= 1 << (col & 7)
	d.guess = col + 1
}

// column finds a column by its name as it stands in the text, -1 when there is none: the name may be written with escapes.
func (d *rowDecoder) column(name []byte) int {
	if d.guess < len(d.t.cols) && d.t.cols[d.guess].Name == string(name) {
		return d.guess
	}
	if col, ok := d.t.columns[string(name)]; ok {
		return col
	}
	return -1
}

// complete fills in defaults, checks NOT NULL and CHECK and encodes the row. A row of a merge may be partial: what it lacks
// may be in the table already, so that only the engine can check the whole.
func (d *rowDecoder) complete(limit int, merge bool) change.Row {
	d.ctx.Reset()
	for i := range d.vals {
		if d.has(i) {
			continue
		}
		d.vals[i] = change.Null()
		if f := d.t.defaults[i]; f != nil {
			v, err := f(&d.ctx)
			if err != nil {
				d.problem = wire.NewProblem(wire.InvalidRow, "default: "+err.Error()).WithField(d.t.cols[i].Name, "give a value")
				return nil
			}
			d.vals[i] = v
		}
	}
	if d.problem = d.notNull(merge); d.problem != nil {
		return nil
	}
	d.row = d.t.rules.Layout.Append(d.row[:0], d.vals)
	if len(d.row) > limit {
		d.problem = wire.NewProblem(wire.TooLarge, fmt.Sprintf("the row takes %d bytes, the limit is %d", len(d.row), limit)).
			WithHint("send less, or raise limits.row in laaster.yaml")
		return nil
	}
	if d.problem = d.contracts(); d.problem != nil {
		return nil
	}
	if merge {
		return d.row
	}
	if d.problem = d.allowed(d.row); d.problem != nil {
		return nil
	}
	if d.problem = d.check(); d.problem != nil {
		return nil
	}
	return d.row
}

// notNull refuses a NULL where none may be; with givenOnly columns that the caller left out may lack a value.
func (d *rowDecoder) notNull(givenOnly bool) *wire.Problem {
	for i, c := range d.t.cols {
		if d.vals[i].Null && c.NotNull && (!givenOnly || d.has(i)) {
			return wire.NewProblem(wire.InvalidRow, c.Name+" may not be null").WithField(c.Name, "give a value")
		}
	}
	return nil
}

// has reports whether the caller gave column i.
func (d *rowDecoder) has(i int) bool { return d.given[i>>3]&(1<<(i&7)) != 0 }

// check evaluates the CHECK constraints: false refuses, NULL passes.
func (d *rowDecoder) check() *wire.Problem {
	d.ctx.Row = d.row
	for i, f := range d.t.checks {
		c := &d.t.rules.Checks[i]
		v, err := f(&d.ctx)
		if err != nil {
			return wire.NewProblem(wire.Constraint, "check "+c.Name+": "+err.Error()).WithField(c.Name, "")
		}
		if !v.Null && v.N == 0 {
			p := wire.NewProblem(wire.Constraint, "the row violates check "+c.Name).WithField(c.Name, "")
			if d.permit.give == nil { // it names columns
				p.Hint = "it must hold: " + d.t.rules.Table.Checks[i].SQL
			}
			return p
		}
	}
	return nil
}

// clip bounds what an error repeats of its input.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
