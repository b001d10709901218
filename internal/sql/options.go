package sql

import (
	"slices"
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
	emitOption
	priorityOption
	countOption
	schemaOption
	compatibilityOption
	rateOption
)

// tableOptions are the keys of WITH (..) on a table.
func tableOptions(key string) (optionKind, bool) {
	switch key {
	case "append_only", "audit", "channel", "presence":
		return boolOption, true
	case "list_up_to":
		return countOption, true
	case "owner", "version":
		return textOption, true
	case "event_time":
		return columnOption, true
	case "lateness", "idle", "ttl", "dedupe":
		return intervalOption, true
	case "priority":
		return priorityOption, true
	case "schema":
		return schemaOption, true
	case "compatibility":
		return compatibilityOption, true
	case "rate":
		return rateOption, true
	case "burst":
		return countOption, true
	}
	return 0, false
}

const tableOptionNames = "append_only audit event_time lateness idle ttl dedupe priority rate burst channel presence list_up_to owner version schema compatibility"

// viewOptionKinds are the keys of WITH (..) on a view.
func viewOptionKinds(key string) (optionKind, bool) {
	switch key {
	case "allow_unbounded":
		return boolOption, true
	case "owner", "version":
		return textOption, true
	case "emit":
		return emitOption, true
	case "compatibility":
		return compatibilityOption, true
	}
	return 0, false
}

const viewOptionNames = "emit allow_unbounded owner version compatibility"

// tableOptionsOf checks WITH (..) of a table and returns the values as text.
func (c *compiler) tableOptionsOf(list []syntax.Option, t *app.Table) map[string]string {
	if len(list) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, o := range list {
		c.try(func() {
			kind := c.optionKind(o, tableOptions, tableOptionNames, "table")
			c.once(o, out)
			out[o.Key.Text] = c.optionText(o, kind, t)
		})
	}
	for _, o := range list {
		if t.Ephemeral != nil || ephemeralOnly(o) {
			c.try(func() { c.ephemeralOption(o, t) })
			continue
		}
		c.try(func() { c.togetherOptions(o, t, list, out["append_only"] == "true" || len(t.PrimaryKey) == 0) })
	}
	return out
}

func given(list []syntax.Option, key string) bool {
	return slices.ContainsFunc(list, func(o syntax.Option) bool { return o.Key.Text == key })
}

// togetherOptions checks an option against the others and the table.
func (c *compiler) togetherOptions(o syntax.Option, t *app.Table, all []syntax.Option, appendOnly bool) {
	switch key := o.Key.Text; key {
	case "lateness", "idle":
		if !given(all, "event_time") {
			c.fail(o.Span, "add event_time = 'col'", "%s needs event_time", key)
		}
	case "event_time":
		if !appendOnly {
			c.report(o.Span, Warning, "event_time has no effect: rows of a table with a primary key may change at any time, so windows over them never close",
				"if rows are never changed, say append_only")
		}
	case "rate", "burst":
		c.rateOption(o, all)
	case "dedupe":
		if !appendOnly || len(t.PrimaryKey) == 0 {
			c.fail(o.Span, "declare a PRIMARY KEY and append_only; the rows of other tables with a key replace each other",
				"dedupe is for append-only tables with a primary key")
		}
	}
}

// optionKind finds a key among those that there are.
func (c *compiler) optionKind(o syntax.Option, kinds func(string) (optionKind, bool), names, what string) optionKind {
	kind, known := kinds(o.Key.Text)
	if known && o.Namespace == nil {
		return kind
	}
	list := strings.Fields(names)
	hint := didYouMean(o.Key.Text, list)
	if hint == "" {
		hint = "the options of a " + what + " are " + strings.Join(list, ", ")
	}
	c.fail(o.Span, hint, "unknown option %s", quoted(c.text(keySpan(o))))
	return 0
}

// once refuses a key that is given a second time.
func (c *compiler) once(o syntax.Option, have map[string]string) {
	if _, twice := have[o.Key.Text]; twice {
		c.fail(o.Span, "", "the option %s is given twice", o.Key.Text)
	}
}

// viewOptions is what WITH (..) says of a view.
type viewOptions struct {
	allowUnbounded bool // joins may keep rows for ever
	emitFinal      bool // only groups whose window is closed come out
	owner, version string
	compatibility  string
	emit           syntax.Span // where emitFinal stands
}

// viewOptionsOf reads WITH (..) of a view.
func (c *compiler) viewOptionsOf(list []syntax.Option) viewOptions {
	var v viewOptions
	have := map[string]string{}
	for _, o := range list {
		c.try(func() {
			kind := c.optionKind(o, viewOptionKinds, viewOptionNames, "view")
			c.once(o, have)
			text := c.optionText(o, kind, nil)
			have[o.Key.Text] = text
			switch o.Key.Text {
			case "allow_unbounded":
				v.allowUnbounded = text == "true"
			case "emit":
				v.emitFinal, v.emit = text == "final", o.Span
			case "owner":
				v.owner = text
			case "version":
				v.version = text
			case "compatibility":
				if text != backward && text != anything {
					c.fail(o.Value.Span, "'backward' is the default: columns and their types stay", "the compatibility of a view must be 'backward' or 'none'")
				}
				v.compatibility = text
			}
		})
	}
	return v
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
	if kind == countOption {
		c.countOption(key, v)
		return v.Text
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
		c.spanOption(key, v)
	case emitOption:
		if text != "final" && text != "changes" {
			c.fail(v.Span, "'changes' is the default; 'final' waits until a window is closed", "emit must be 'changes' or 'final'")
		}
	case compatibilityOption:
		c.compatibilityOption(v)
	case priorityOption:
		switch text {
		case "low":
			t.Priority = app.LowPriority
		case "normal":
		case "high":
			t.Priority = app.HighPriority
		default:
			c.fail(v.Span, "'normal' is the default; writes of low priority are refused first when more comes than can be taken, those of high last",
				"priority must be 'low', 'normal' or 'high'")
		}
	}
	return text
}

func optionExample(kind optionKind) string {
	switch kind {
	case columnOption:
		return "'at'"
	case intervalOption:
		return "'5 seconds'"
	case emitOption:
		return "'final'"
	case priorityOption:
		return "'low'"
	case countOption:
		return "100"
	case rateOption:
		return "'20/s per subject'"
	case schemaOption:
		return "'reading.schema.json'"
	case compatibilityOption:
		return "'full'"
	}
	return "'name'"
}

// eventTime checks that the option names a column with a time in every row.
func (c *compiler) eventTime(v *syntax.OptionValue, t *app.Table) {
	for _, col := range t.Columns {
		if col.Name != v.Text {
			continue
		}
		if col.Type != app.Timestamptz && col.Type != app.Timestamp {
			c.fail(v.Span, "", "event_time must be timestamptz or timestamp, and column %s is %s", quoted(col.Name), col.Type)
		}
		if !col.NotNull {
			c.fail(v.Span, "declare it NOT NULL: every event has a time", "the event_time column %s may be NULL", quoted(col.Name))
		}
		return
	}
	c.fail(v.Span, didYouMean(v.Text, columnNames(t.Columns)), "column %s does not exist", quoted(v.Text))
}

// spanOption checks an option that is a span of time. A lateness of nothing is one, too.
func (c *compiler) spanOption(key string, v *syntax.OptionValue) {
	val, _, err := expr.ParseText(app.Interval, []byte(v.Text), nil)
	if err != nil {
		c.fail(v.Span, "for example: '5 seconds'", "%s", err.Error())
	}
	months, days, us := expr.IntervalFields(val)
	total := (float64(months)*30+float64(days))*dayMicros + float64(us)
	switch {
	case total < 0:
		c.fail(v.Span, "for example: '5 seconds'", "%s cannot be negative", key)
	case total == 0 && key != "lateness":
		c.fail(v.Span, "for example: '5 seconds'", "%s must be longer than nothing", key)
	case total > 100_000*dayMicros:
		c.fail(v.Span, "", "%s can be at most 100000 days", key)
	}
}

func columnNames(cols []app.Column) []string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.Name
	}
	return names
}
