package signal

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// Channel is one table of the app whose rows are in memory. What it is never changes; its rows are guarded by the State's lock.
type Channel struct {
	rel      *expr.Relation
	rules    *app.Ephemeral
	ttl      int64 // microseconds
	columns  map[string]int
	isKey    []bool
	defaults []expr.Func // by column; nil: NULL
	checks   []expr.Func
	personal []int // checks that speak of the caller: they say who may replace or clear a row of somebody else

	rows  map[string]*row // by key, order-preserving
	ends  deadlines
	feeds map[string]*Feed
	byCol map[int]map[string][]*Feed // column, order-preserving value: feeds that demand it
	rest  []*Feed                    // feeds that demand nothing of the kind
}

func newChannel(rel *expr.Relation) (*Channel, error) {
	e := rel.Table.Table.Ephemeral
	ch := &Channel{rel: rel, rules: e, ttl: e.TTL.Microseconds(), columns: map[string]int{}, isKey: make([]bool, len(rel.Columns)),
		defaults: make([]expr.Func, len(rel.Columns)), rows: map[string]*row{}, feeds: map[string]*Feed{}, byCol: map[int]map[string][]*Feed{}}
	for i, c := range rel.Columns {
		ch.columns[c.Name] = i
		ch.isKey[i] = slices.Contains(rel.Key, i)
		if d := rel.Table.Defaults[i]; d != nil {
			f, err := expr.Compile(d, rel.Layout)
			if err != nil {
				return nil, fmt.Errorf("default of %s.%s: %w", rel.Name, c.Name, err)
			}
			ch.defaults[i] = f
		}
	}
	for i, c := range rel.Table.Checks {
		f, err := expr.Compile(c.Cond, rel.Layout)
		if err != nil {
			return nil, fmt.Errorf("check %s of %s: %w", c.Name, rel.Name, err)
		}
		ch.checks = append(ch.checks, f)
		if readsCaller(c.Cond) {
			ch.personal = append(ch.personal, i)
		}
	}
	return ch, nil
}

func readsCaller(n *expr.Node) bool {
	return n.Kind == expr.KSubject || n.Kind == expr.KRole || slices.ContainsFunc(n.Args, readsCaller)
}

// Relation returns what is declared of the channel, for queries over its rows.
func (ch *Channel) Relation() *expr.Relation { return ch.rel }

// Name returns the channel's name.
func (ch *Channel) Name() string { return ch.rel.Name }

// Keyed reports whether callers name the key of a row; else the connection is the key.
func (ch *Channel) Keyed() bool { return ch.rules.Own == len(ch.rel.Columns) }

// Lasting reports whether rows that nobody's connection keeps up end by themselves, so that they may be set over HTTP.
func (ch *Channel) Lasting() bool { return ch.ttl > 0 }

// same reports whether two declarations mean the same rows.
func same(a, b *expr.Relation) bool {
	x, y := a.Table, b.Table
	if *x.Table.Ephemeral != *y.Table.Ephemeral || !slices.Equal(a.Key, b.Key) || len(a.Columns) != len(b.Columns) || len(x.Checks) != len(y.Checks) {
		return false
	}
	text := func(n *expr.Node) string {
		if n == nil {
			return ""
		}
		return n.String()
	}
	for i, c := range a.Columns {
		d := b.Columns[i]
		if c.Name != d.Name || c.Type != d.Type || c.NotNull != d.NotNull || text(x.Defaults[i]) != text(y.Defaults[i]) {
			return false
		}
	}
	for i, c := range x.Checks {
		if c.Name != y.Checks[i].Name || text(c.Cond) != text(y.Checks[i].Cond) {
			return false
		}
	}
	return true
}

// Caller is who sets a row.
type Caller struct {
	Subject    string     // auth_subject()
	Role       string     // auth_role()
	Connection string     // its name in the column connection; empty: it has none
	From       netip.Addr // of one without a connection: its rows are counted by subject and address
}

// draft is a row that is being made of what a client sent.
type draft struct {
	ch    *Channel
	vals  []change.Value
	given []bool
	buf   []byte // bytes that vals alias
	ctx   expr.Ctx
}

func (ch *Channel) draft(who *Caller, now int64) *draft {
	d := &draft{ch: ch, vals: make([]change.Value, len(ch.rel.Columns)), given: make([]bool, len(ch.rel.Columns))}
	d.ctx.Now, d.ctx.Subject, d.ctx.Role = now, []byte(who.Subject), []byte(who.Role)
	return d
}

// part is which columns an object may have.
type part uint8

const (
	keyPart part = iota
	valuePart
	wholeRow
)

// take reads an object of columns.
func (d *draft) take(object []byte, which part) (p *wire.Problem) {
	if object == nil {
		return nil
	}
	syntax := wire.Members(object, func(name string, value []byte) bool {
		p = d.member(name, value, which)
		return p == nil
	})
	if syntax != nil {
		return syntax
	}
	return p
}

func (d *draft) member(name string, value []byte, which part) *wire.Problem {
	ch := d.ch
	i, there := ch.columns[name]
	switch {
	case !there:
		return wire.NewProblem(wire.UnknownColumn, ch.rel.Name+" has no column "+clip(name)).WithField(clip(name), ch.columnNames())
	case i >= ch.rules.Own:
		return wire.NewProblem(wire.InvalidRow, name+" is filled in by the server").WithField(name, "leave it out")
	case which == keyPart && !ch.isKey[i]:
		return wire.NewProblem(wire.InvalidRow, name+" is no column of the key").WithField(name, "it belongs into value")
	case which == valuePart && ch.isKey[i]:
		return wire.NewProblem(wire.InvalidRow, name+" is a column of the key").WithField(name, "it belongs into key")
	}
	v, buf, err := expr.FromJSON(ch.rel.Columns[i].Type, value, d.buf)
	if err != nil {
		return wire.NewProblem(wire.InvalidRow, err.Error()).WithField(name, name+" is "+ch.rel.Columns[i].Type.String())
	}
	d.buf, d.vals[i], d.given[i] = buf, v, true
	return nil
}

// fill sets what was left out among the columns that which says: the default, or NULL, and what the server adds.
func (d *draft) fill(which part, who *Caller, since int64) *wire.Problem {
	ch := d.ch
	for i := range d.vals {
		if d.given[i] || which == keyPart && !ch.isKey[i] {
			continue
		}
		d.vals[i] = change.Null()
		switch f := ch.defaults[i]; {
		case i >= ch.rules.Own:
			d.vals[i] = ownValue(ch.rel.Columns[i].Name, who, since)
		case f != nil:
			v, err := f(&d.ctx)
			if err != nil {
				return wire.NewProblem(wire.InvalidRow, "default: "+err.Error()).WithField(ch.rel.Columns[i].Name, "give a value")
			}
			d.vals[i] = v
		}
		if d.vals[i].Null && ch.rel.Columns[i].NotNull {
			return nullProblem(ch.rel.Columns[i].Name)
		}
	}
	for i, c := range ch.rel.Columns {
		if d.given[i] && d.vals[i].Null && c.NotNull {
			return nullProblem(c.Name)
		}
	}
	return nil
}

func nullProblem(column string) *wire.Problem {
	return wire.NewProblem(wire.InvalidRow, column+" may not be null").WithField(column, "give a value")
}

func ownValue(column string, who *Caller, since int64) change.Value {
	switch column {
	case app.ConnectionColumn:
		return change.Value{B: []byte(who.Connection)}
	case app.SubjectColumn:
		return change.Value{B: []byte(who.Subject)}
	}
	return change.Int(since)
}

// key returns the order-preserving key of the draft.
func (d *draft) key() string {
	var b []byte
	for _, k := range d.ch.rel.Key {
		b = change.AppendKey(b, d.ch.rel.Layout.Type(k), d.vals[k], false, false)
	}
	return string(b)
}

// row encodes and checks the draft.
func (d *draft) row(limit int) (change.Row, *wire.Problem) {
	row := d.ch.rel.Layout.Append(nil, d.vals)
	if len(row) > limit {
		return nil, wire.NewProblem(wire.TooLarge, fmt.Sprintf("the row takes %d bytes, the limit of a channel is %d", len(row), limit)).
			WithHint("signals are for small things that change often: write what is larger to a table")
	}
	for i := range d.ch.checks {
		if p := d.ch.check(&d.ctx, i, row); p != nil {
			return nil, p
		}
	}
	return row, nil
}

// check evaluates one CHECK: false refuses, NULL passes.
func (ch *Channel) check(ctx *expr.Ctx, i int, row change.Row) *wire.Problem {
	c := &ch.rel.Table.Checks[i]
	ctx.Row = row
	v, err := ch.checks[i](ctx)
	if err != nil {
		return wire.NewProblem(wire.Constraint, "check "+c.Name+": "+err.Error()).WithField(c.Name, "")
	}
	if !v.Null && v.N == 0 {
		return wire.NewProblem(wire.Constraint, "the row violates check "+c.Name).WithField(c.Name, "it must hold: "+ch.rel.Table.Table.Checks[i].SQL)
	}
	return nil
}

// mayTouch says why a caller may not replace or clear a row that somebody else has set: a CHECK that speaks of the caller does not hold for it.
func (ch *Channel) mayTouch(ctx *expr.Ctx, row change.Row) *wire.Problem {
	for _, i := range ch.personal {
		if p := ch.check(ctx, i, row); p != nil {
			p.Detail = "this row is somebody else's: " + p.Detail
			return p
		}
	}
	return nil
}

// columnNames lists the columns that a client gives, for a hint.
func (ch *Channel) columnNames() string {
	names := make([]string, ch.rules.Own)
	for i := range names {
		names[i] = ch.rel.Columns[i].Name
	}
	return "the columns of " + ch.rel.Name + " are " + strings.Join(names, ", ")
}

// clip bounds what an error repeats of its input.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
