package sql

import (
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// typeOf resolves a type as written. Where it stands decides about interval and modifiers: expressions have them, columns do not.
func (c *compiler) typeOf(t *syntax.TypeName, column bool) app.Type {
	if t.SetOf {
		c.fail(t.Span, "", "SETOF is not supported")
	}
	if len(t.Bounds) > 1 {
		c.fail(t.Span, "use jsonb: it holds arrays in arrays", "arrays have one dimension")
	}
	name := t.Names.Last().Text
	if !t.System && len(t.Names) > 1 && (len(t.Names) > 2 || t.Names[0].Text != "pg_catalog") {
		c.fail(t.Span, "", "type %s does not exist", quoted(t.Names.String()))
	}
	if hint, known := refusedType(name); known {
		c.fail(t.Span, hint, "type %s is not supported", c.text(t.Span))
	}
	typ := exactType(name)
	switch {
	case typ == app.Unknown:
		c.fail(t.Span, unknownTypeHint(name), "type %s does not exist", quoted(t.Names.String()))
	case typ == app.Interval && column:
		c.fail(t.Span, "store seconds as double precision, or both ends as timestamptz", "a column cannot have type interval")
	case len(t.Mods) > 0 && (column || len(t.Bounds) > 0 || !castModifier(typ)):
		c.fail(t.Span, modifierHint(typ), "%s is not supported", c.text(t.Span))
	case len(t.Bounds) > 0 && typ == app.Interval:
		c.fail(t.Span, "use text[] or jsonb", "arrays of interval are not supported")
	case len(t.Bounds) > 0:
		return app.Array(typ)
	}
	return typ
}

// castModifier reports whether a cast to the type may have modifiers.
func castModifier(t app.Type) bool {
	return t == app.Numeric || t == app.Text || t == app.Interval || t == app.Timestamptz || t == app.Timestamp
}

// exactType returns the type of a catalog name or alias that maps onto one of ours without loss.
func exactType(name string) app.Type {
	switch name {
	case "bool":
		return app.Bool
	case "int4":
		return app.Int4
	case "int8":
		return app.Int8
	case "float8":
		return app.Float8
	case "timestamptz":
		return app.Timestamptz
	}
	if strings.HasPrefix(name, "_") || strings.HasSuffix(name, "]") { // PostgreSQL's inner names of arrays
		return app.Unknown
	}
	return expr.TypeNamed(name)
}

// unknownTypeHint suggests a type for a name that is none of PostgreSQL's: other systems' names, or one misspelt.
func unknownTypeHint(name string) string {
	const others = "string=text str=text clob=text nvarchar=text longtext=text datetime=timestamptz number=numeric long=bigint " +
		"int64=bigint uint64=numeric int32=integer tinyint=integer mediumint=integer float64=double double=double " +
		"guid=uuid object=jsonb map=jsonb boolean=boolean integer=integer int=integer bigint=bigint numeric=numeric " +
		"decimal=numeric text=text uuid=uuid timestamptz=timestamptz timestamp=timestamp date=date jsonb=jsonb json=jsonb " +
		"varchar=text float=double bool=boolean blob=text"
	use := map[string]string{}
	var names []string
	for pair := range strings.FieldsSeq(others) {
		k, v, _ := strings.Cut(pair, "=")
		use[k] = v
		names = append(names, k)
	}
	t := use[name]
	if t == "" {
		t = use[syntax.Nearest(name, names)]
	}
	switch t {
	case "":
		return "the types are boolean, integer, bigint, double precision, numeric, text, uuid, timestamptz, timestamp, date and jsonb, and arrays of them"
	case "double":
		t = "double precision"
	}
	return "use " + t
}

func modifierHint(t app.Type) string {
	switch t {
	case app.Text:
		return "use text, and to limit the length: CHECK (length(col) <= 100)"
	case app.Numeric:
		return "use numeric, which keeps every digit; to round: round(x, 2); to limit: CHECK (col = round(col, 2) AND abs(col) < 1e8)"
	case app.Timestamptz, app.Timestamp, app.Interval:
		return "leave the precision out: times have microseconds; to round: date_trunc('second', x)"
	}
	return "leave the modifier out"
}

// refusedType says what to use instead of the types of PostgreSQL that we do not have.
func refusedType(name string) (hint string, known bool) {
	switch name {
	case "int2", "smallint":
		return "use integer", true
	case "float4":
		return "use double precision", true
	case "serial", "serial4", "bigserial", "serial8", "smallserial", "serial2":
		return "the sender makes the id, so that a repeat is recognised: use uuid PRIMARY KEY DEFAULT gen_random_uuid(), or bigint", true
	case "time", "timetz":
		return "use timestamptz, or text", true
	case "json":
		return "use jsonb", true
	case "bpchar", "char", "name", "citext":
		return "use text", true
	case "bytea":
		return "use text with base64", true
	case "money":
		return "use numeric", true
	case "bit", "varbit":
		return "use text or bigint", true
	case "inet", "cidr", "macaddr", "macaddr8", "xml", "tsvector", "tsquery", "oid", "regclass", "pg_lsn":
		return "use text", true
	case "point", "line", "lseg", "box", "path", "polygon", "circle", "geometry", "geography":
		return "use two columns of double precision, or jsonb", true
	case "int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange", "hstore":
		return "use jsonb, or two columns", true
	}
	return "", false
}
