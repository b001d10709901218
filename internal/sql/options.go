package sql

import (
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// optionKind says what an option's value must be.
type optionKind uint8

const (
	boolOption optionKind = iota
	textOption
	columnOption
	intervalOption
	laterOption // reserved for what is not built yet
)

// tableOptions are the keys of WITH (..) on a table.
func tableOptions(key string) (optionKind, bool) {
	switch key {
	case "append_only":
		return boolOption, true
	case "owner", "version":
		return textOption, true
	case "event_time":
		return columnOption, true
	case "lateness":
		return intervalOption, true
	case "ttl":
		return laterOption, true
	}
	return 0, false
}

const tableOptionNames = "append_only event_time lateness owner version"

// tableOptionsOf checks WITH (..) of a table and returns the values as text.
func (c *compiler) tableOptionsOf(list []syntax.Option, t *app.Table) map[string]string {
	if len(list) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, o := range list {
		c.try(func() { c.tableOption(o, t, out) })
	}
	if _, late := out["lateness"]; late && out["event_time"] == "" {
		for _, o := range list {
			if o.Key.Text == "lateness" {
				c.wrong(o.Span, "add event_time = 'col'", "lateness needs event_time")
			}
		}
	}
	return out
}

func (c *compiler) tableOption(o syntax.Option, t *app.Table, out map[string]string) {
	kind, known := tableOptions(o.Key.Text)
	switch {
	case !known || o.Namespace != nil:
		hint := didYouMean(o.Key.Text, strings.Fields(tableOptionNames))
		if hint == "" {
			hint = "the options of a table are " + strings.Join(strings.Fields(tableOptionNames), ", ")
		}
		c.fail(o.Span, hint, "unknown option %s", quoted(c.text(keySpan(o))))
	case kind == laterOption:
		c.fail(o.Span, "", "the option %s is not supported yet", o.Key.Text)
	}
	if _, twice := out[o.Key.Text]; twice {
		c.fail(o.Span, "", "the option %s is given twice", o.Key.Text)
	}
	out[o.Key.Text] = c.optionText(o, kind, t)
}

func keySpan(o syntax.Option) syntax.Span {
	at := o.Key.Span
	if o.Namespace != nil {
		at.Pos = o.Namespace.Pos
	}
	return at
}

// optionText checks the value of an option.
func (c *compiler) optionText(o syntax.Option, kind optionKind, t *app.Table) string {
	key := o.Key.Text
	if o.Value == nil {
		if kind != boolOption {
			c.fail(o.Span, "for example: "+key+" = "+optionExample(kind), "the option %s needs a value", key)
		}
		return "true"
	}
	v := o.Value
	text := v.Text
	if v.Kind == syntax.OptType {
		text = c.text(v.Span)
	}
	if kind != boolOption && v.Kind != syntax.OptString {
		c.fail(v.Span, "for example: "+key+" = "+optionExample(kind), "the value of %s must be text in single quotes", key)
	}
	switch kind {
	case boolOption:
		switch strings.ToLower(text) {
		case "true", "on", "yes", "1":
			return "true"
		case "false", "off", "no", "0":
			return "false"
		}
		c.fail(v.Span, "write "+key+" alone, or true or false", "the value of %s must be true or false", key)
	case columnOption:
		c.eventTime(v, t)
	case intervalOption:
		c.lateness(v)
	}
	return text
}

func optionExample(kind optionKind) string {
	switch kind {
	case columnOption:
		return "'at'"
	case intervalOption:
		return "'5 seconds'"
	}
	return "'name'"
}

// eventTime checks that the option names a column with a time in every row.
func (c *compiler) eventTime(v *syntax.OptionValue, t *app.Table) {
	for _, col := range t.Columns {
		if col.Name != v.Text {
			continue
		}
		if col.Type != app.Timestamptz {
			c.fail(v.Span, "", "event_time must be a timestamptz, and column %s is %s", quoted(col.Name), col.Type)
		}
		if !col.NotNull {
			c.fail(v.Span, "declare it NOT NULL: every event has a time", "the event_time column %s may be NULL", quoted(col.Name))
		}
		return
	}
	c.fail(v.Span, didYouMean(v.Text, columnNames(t.Columns)), "column %s does not exist", quoted(v.Text))
}

func (c *compiler) lateness(v *syntax.OptionValue) {
	val, _, err := expr.ParseText(app.Interval, []byte(v.Text), nil)
	if err != nil {
		c.fail(v.Span, "for example: '5 seconds'", "%s", err.Error())
	}
	if strings.HasPrefix(string(expr.AppendText(nil, app.Interval, val)), "-") {
		c.fail(v.Span, "", "lateness cannot be negative")
	}
}

// viewOptionsOf refuses the options of a view: none is supported yet, some names are reserved.
func (c *compiler) viewOptionsOf(list []syntax.Option) {
	for _, o := range list {
		switch o.Key.Text {
		case "emit", "allow_unbounded", "owner", "version":
			c.wrong(o.Span, "", "the option %s of a view is not supported yet", o.Key.Text)
		default:
			c.wrong(o.Span, "a view has no options yet", "unknown option %s", quoted(c.text(keySpan(o))))
		}
	}
}

func columnNames(cols []app.Column) []string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.Name
	}
	return names
}
