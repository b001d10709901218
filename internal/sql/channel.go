package sql

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// Limits of channels and presence.
const (
	MaxChannels    = 100            // of an app
	maxChannelTTL  = 24 * time.Hour //
	minChannelTTL  = 100 * time.Millisecond
	presenceTTL    = 10 * time.Second // unless it is given
	maxListUpTo    = 10_000
	presenceListed = 100 // unless list_up_to is given
)

// ephemeral finds out from WITH (..) whether the table is a channel. Such a relation has no place among those of the engine.
func (p *tableParts) ephemeral(r *relation) {
	c := p.c
	var channel, presence *syntax.Option
	for i := range p.stmt.Options {
		switch o := &p.stmt.Options[i]; {
		case o.Namespace != nil || !isOn(o):
		case o.Key.Text == "channel":
			channel = o
		case o.Key.Text == "presence":
			presence = o
		}
	}
	if channel == nil && presence == nil {
		return
	}
	if channel != nil && presence != nil {
		c.wrong(presence.Span, "leave one of them out: presence has a row per connection, a channel one per key", "a table is a channel or presence, not both")
	}
	p.table.Ephemeral = &app.Ephemeral{Presence: presence != nil}
	c.rels = slices.DeleteFunc(c.rels, func(x *relation) bool { return x == r })
	c.channels = append(c.channels, r)
	if len(c.channels) == MaxChannels+1 {
		c.wrong(p.stmt.Name.At(), "one channel with a key serves many rooms", "an app has at most %d channels", MaxChannels)
	}
}

// isOn reports whether a boolean option is given and not switched off. What is no boolean at all is refused elsewhere.
func isOn(o *syntax.Option) bool {
	if o.Value == nil {
		return true
	}
	switch strings.ToLower(o.Value.Text) {
	case "false", "off", "no", "0":
		return false
	}
	return true
}

// ownColumns adds the columns that the server fills in, and the key that they make.
func (p *tableParts) ownColumns() {
	e := p.table.Ephemeral
	if e == nil || p.stmt.Partial {
		return
	}
	e.Own = len(p.table.Columns)
	key := p.declaredKey()
	if e.Presence && key != nil {
		p.c.wrong(key.Span, "leave it out, or declare a channel: the key of presence is the connection", "presence cannot have a primary key")
	}
	if !e.Presence && key != nil {
		return
	}
	p.own(app.ConnectionColumn, app.Text)
	p.table.PrimaryKey = []int{e.Own}
	if e.Presence {
		p.own(app.SubjectColumn, app.Text)
		p.own(app.SinceColumn, app.Timestamptz)
	}
}

// declaredKey returns the PRIMARY KEY of the statement, nil when there is none.
func (p *tableParts) declaredKey() *syntax.Constraint {
	for _, e := range p.stmt.Elements {
		if e.Constraint != nil && e.Constraint.Kind == syntax.PrimaryKey {
			return e.Constraint
		}
		if e.Column == nil {
			continue
		}
		for i := range e.Column.Constraints {
			if k := &e.Column.Constraints[i]; k.Kind == syntax.PrimaryKey {
				return k
			}
		}
	}
	return nil
}

func (p *tableParts) own(name string, t app.Type) {
	if i := slices.Index(columnNames(p.table.Columns), name); i >= 0 {
		p.bad = true
		p.c.wrong(p.spans[i], "choose another name", "the server adds a column %s itself", quoted(name))
		return
	}
	p.table.Columns = append(p.table.Columns, app.Column{Name: name, Type: t, NotNull: true})
	p.rules.Defaults = append(p.rules.Defaults, nil)
	p.spans = append(p.spans, p.stmt.Name.At())
	p.null = append(p.null, false)
}

// ephemeralOnly reports whether an option means something for channels alone.
func ephemeralOnly(o syntax.Option) bool { return o.Key.Text == "list_up_to" }

// ephemeralOption checks an option of a channel against the others.
func (c *compiler) ephemeralOption(o syntax.Option, t *app.Table) {
	switch key := o.Key.Text; key {
	case "channel", "presence", "ttl", "owner", "version":
	case "list_up_to":
		if t.Ephemeral == nil || !t.Ephemeral.Presence {
			c.fail(o.Span, "it says from how many connections on presence tells their number only", "list_up_to is for presence")
		}
	default:
		if o.Value != nil && !isOn(&o) {
			return
		}
		c.fail(o.Span, "the options of a channel are ttl, owner and version, those of presence also list_up_to",
			"%s is for tables whose rows are in the log", key)
	}
}

// countOption checks an option that is a whole number.
func (c *compiler) countOption(key string, v *syntax.OptionValue) {
	n, err := strconv.Atoi(v.Text)
	most := maxListUpTo
	if key == "burst" {
		most = maxBurst
	}
	if v.Kind != syntax.OptNumber || err != nil || n < 1 || n > most {
		c.fail(v.Span, "for example: "+key+" = 100", "%s is a whole number from 1 to %d", key, most)
	}
}

// ephemeralOptions turns the options, which have been checked, into what they mean.
func (p *tableParts) ephemeralOptions() {
	t, e := p.table, p.table.Ephemeral
	t.AppendOnly = false
	for _, k := range []string{"append_only", "channel", "presence"} {
		delete(t.Options, k)
	}
	e.TTL = time.Duration(spanOf(t.Options["ttl"])) * time.Microsecond
	if _, given := t.Options["ttl"]; given && (e.TTL < minChannelTTL || e.TTL > maxChannelTTL) {
		p.c.wrong(p.optionSpan("ttl"), "for example: ttl = '5 seconds'", "the ttl of a channel is from %s to %s", minChannelTTL, "24 hours")
	}
	if !e.Presence {
		return
	}
	if e.TTL == 0 {
		e.TTL = presenceTTL
	}
	if e.ListUpTo, _ = strconv.Atoi(t.Options["list_up_to"]); e.ListUpTo == 0 {
		e.ListUpTo = presenceListed
	}
}

func (p *tableParts) optionSpan(key string) syntax.Span {
	for _, o := range p.stmt.Options {
		if o.Key.Text == key {
			return o.Span
		}
	}
	return p.stmt.Name.At()
}

// channel makes the relation of a channel.
func (c *compiler) channel(r *relation) {
	rules := r.rel.Table
	rules.Layout, rules.EventTime, rules.TTL = r.rel.Layout, -1, 0
	c.def.Channels = append(c.def.Channels, r.table)
}

// refuseChannel refuses a query over a channel.
func (c *compiler) refuseChannel(at syntax.QName, r *relation) {
	if r.table == nil || r.table.Ephemeral == nil {
		return
	}
	c.fail(at.At(), "subscribe to it directly; for rows that views read, declare a table without "+kindOf(r.table)+", with a ttl if they should go again",
		"no query can read %s: the rows of %s are in memory alone", quoted(r.name), article(kindOf(r.table)))
}

// DescribeChannel says in a line what a channel is, such as "presence here key (connection) ttl 10s list-up-to 100".
func DescribeChannel(r *expr.Relation) string {
	e := r.Table.Table.Ephemeral
	s := kindOf(r.Table.Table) + " " + r.Name + keyText(r)
	if e.TTL > 0 {
		s += " ttl " + e.TTL.String()
	}
	if e.Presence {
		s += fmt.Sprint(" list-up-to ", e.ListUpTo)
	}
	return s
}

func kindOf(t *app.Table) string {
	if t.Ephemeral.Presence {
		return "presence"
	}
	return "channel"
}

func article(kind string) string {
	if kind == "channel" {
		return "a channel"
	}
	return kind
}

// channel prints a channel with its rules.
func (p *planPrinter) channel(r *expr.Relation) {
	p.line(0, "%s", DescribeChannel(r))
	for i, col := range r.Columns {
		s := columnText(col)
		if d := r.Table.Defaults[i]; d != nil {
			s += " default " + d.String()
		}
		if i >= r.Table.Table.Ephemeral.Own {
			s += " by the server"
		}
		p.line(1, "%s", s)
	}
	for _, c := range r.Table.Checks {
		p.line(1, "check %s %s", c.Name, c.Cond)
	}
}

func catalogChannel(r *relation) CatalogChannel {
	p := planPrinter{}
	p.channel(r.rel)
	sum := sha256.Sum256([]byte(p.b.String()))
	return CatalogChannel{Name: r.name, Kind: kindOf(r.table), Hash: hex.EncodeToString(sum[:16])}
}

// channels compares what is in memory alone: nothing of it can be refused.
func (d *differ) channels(old, now *Catalog) {
	find := func(c *Catalog, name string) *CatalogChannel {
		i := slices.IndexFunc(c.Channels, func(x CatalogChannel) bool { return x.Name == name })
		if i < 0 {
			return nil
		}
		return &c.Channels[i]
	}
	for _, x := range now.Channels {
		switch o := find(old, x.Name); {
		case o == nil:
			d.note(x.Kind+" "+x.Name, "", "new")
		case o.Kind != x.Kind:
			d.note(o.Kind+" "+x.Name, o.Kind, x.Kind+", forgets its rows")
		case o.Hash != x.Hash:
			d.note(x.Kind+" "+x.Name, "", "changed, forgets its rows")
		}
	}
	for _, o := range old.Channels {
		if find(now, o.Name) == nil {
			d.note(o.Kind+" "+o.Name, "", "is gone")
		}
	}
}
