package expr

import (
	"strings"

	"laaster/app"
)

// The types below stand in signatures alone. The array of one is an array of what it stands for.
const (
	anyType     app.Type = 0x3F // an argument of any type, as PostgreSQL's "any"
	anyNonArray app.Type = 0x3E // of any type that is no array
	anyElement  app.Type = 0x3D // one type wherever it occurs, as anyelement and anyarray
	anyCommon   app.Type = 0x3C // the common type of all such arguments, as anycompatible and anycompatiblearray
)

// pseudo returns the type that a signature's word stands for.
func pseudo(name string) app.Type {
	switch name {
	case "any":
		return anyType
	case "anynonarray":
		return anyNonArray
	case "anyelement":
		return anyElement
	case "anyarray":
		return app.Array(anyElement)
	case "anycompatible":
		return anyCommon
	case "anycompatiblearray":
		return app.Array(anyCommon)
	}
	return app.Unknown
}

// isPseudo reports whether t stands for other types.
func isPseudo(t app.Type) bool { return t.Elem() >= anyCommon }

// category returns PostgreSQL's type category (pg_type.typcategory), which decides between overloads.
func category(t app.Type) byte {
	switch t {
	case app.Bool:
		return 'B'
	case app.Int4, app.Int8, app.Float8, app.Numeric:
		return 'N'
	case app.Text:
		return 'S'
	case app.Timestamptz, app.Timestamp, app.Date:
		return 'D'
	case app.Interval:
		return 'T'
	case app.UUID, app.JSONB:
		return 'U'
	}
	switch {
	case isPseudo(t):
		return 'P'
	case t.IsArray():
		return 'A'
	}
	return 'X'
}

// preferred reports whether t is the preferred type of its category.
func preferred(t app.Type) bool {
	switch t {
	case app.Bool, app.Float8, app.Text, app.Timestamptz, app.Interval:
		return true
	}
	return false
}

// castKind is the weakest context in which a cast happens.
type castKind uint8

const (
	castNone     castKind = iota
	castExplicit          // only when written
	castAssign            // when stored into a column, too
	castImplicit          // anywhere
)

// castAllowed returns when a value of one type may become another (pg_cast, and the casts by way of text).
func castAllowed(from, to app.Type) castKind {
	switch {
	case from == to, from == app.Unknown, to == anyType, to == anyNonArray && !from.IsArray():
		return castImplicit
	case from.IsArray() && to.IsArray():
		return castAllowed(from.Elem(), to.Elem())
	case to == app.Text:
		return castAssign
	case from == app.Text:
		return castExplicit
	}
	switch from {
	case app.Bool:
		return when(to == app.Int4, castExplicit)
	case app.Int4:
		if to == app.Bool {
			return castExplicit
		}
		return when(category(to) == 'N', castImplicit)
	case app.Int8:
		if to == app.Int4 {
			return castAssign
		}
		return when(category(to) == 'N', castImplicit)
	case app.Numeric:
		if to == app.Float8 {
			return castImplicit
		}
		return when(category(to) == 'N', castAssign)
	case app.Float8:
		return when(category(to) == 'N', castAssign)
	case app.Date:
		return when(to == app.Timestamp || to == app.Timestamptz, castImplicit)
	case app.Timestamp:
		if to == app.Timestamptz {
			return castImplicit
		}
		return when(to == app.Date, castAssign)
	case app.Timestamptz:
		return when(to == app.Timestamp || to == app.Date, castAssign)
	case app.JSONB:
		return when(category(to) == 'N' || to == app.Bool, castExplicit)
	}
	return castNone
}

func when(ok bool, k castKind) castKind {
	if ok {
		return k
	}
	return castNone
}

// TypeNamed returns the type that a name means, in any of the spellings that PostgreSQL reads ("int4", "bigint",
// "double precision", "timestamp with time zone", "text[]", "_text", …), folded to lower case with single spaces. Unknown
// for others.
func TypeNamed(name string) app.Type {
	if elem, ok := strings.CutSuffix(name, "[]"); ok {
		return arrayNamed(strings.TrimSuffix(elem, " "))
	}
	if elem, ok := strings.CutPrefix(name, "_"); ok {
		return arrayNamed(elem)
	}
	return scalarNamed(name)
}

func arrayNamed(elem string) app.Type {
	if t := scalarNamed(elem); t != app.Unknown {
		return app.Array(t)
	}
	return app.Unknown
}

func scalarNamed(name string) app.Type {
	switch name {
	case "boolean", "bool":
		return app.Bool
	case "integer", "int", "int4":
		return app.Int4
	case "bigint", "int8":
		return app.Int8
	case "double precision", "float8", "float":
		return app.Float8
	case "numeric", "decimal", "dec":
		return app.Numeric
	case "text", "varchar", "character varying":
		return app.Text
	case "timestamp", "timestamp without time zone":
		return app.Timestamp
	case "date":
		return app.Date
	case "uuid":
		return app.UUID
	case "timestamptz", "timestamp with time zone":
		return app.Timestamptz
	case "jsonb":
		return app.JSONB
	case "interval":
		return app.Interval
	}
	return app.Unknown
}
