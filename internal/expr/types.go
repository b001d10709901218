package expr

import "laaster/app"

// anyType stands in signatures for an argument of any type, as PostgreSQL's "any".
const anyType app.Type = 0xFF

// category returns PostgreSQL's type category (pg_type.typcategory), which decides between overloads.
func category(t app.Type) byte {
	switch t {
	case app.Bool:
		return 'B'
	case app.Int4, app.Int8, app.Float8, app.Numeric:
		return 'N'
	case app.Text:
		return 'S'
	case app.Timestamptz:
		return 'D'
	case app.Interval:
		return 'T'
	case app.UUID, app.JSONB:
		return 'U'
	case anyType:
		return 'P'
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
	case from == to, from == app.Unknown, to == anyType:
		return castImplicit
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
// "double precision", "timestamp with time zone", …), folded to lower case with single spaces. Unknown for others.
func TypeNamed(name string) app.Type {
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
