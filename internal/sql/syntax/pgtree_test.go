package syntax

import (
	"strconv"
	"strings"
)

// This file prints our tree in the shape of PostgreSQL's own, as its parser prints it in JSON, without places and without
// fields that have their zero value. Equal trees are then equal values.

type obj = map[string]any
type arr = []any

// node wraps fields in the name of a PostgreSQL node.
func node(name string, fields obj) obj {
	for k, v := range fields {
		if isZero(v) {
			delete(fields, k)
		}
	}
	return obj{name: fields}
}

func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case float64:
		return v == 0
	case arr:
		return len(v) == 0
	case obj:
		return v == nil
	}
	return false
}

func pgString(s string) obj { return node("String", obj{"sval": s}) }

func pgNames(list []Name) arr {
	var out arr
	for _, n := range list {
		out = append(out, pgString(n.Text))
	}
	return out
}

func pgStrings(list ...string) arr {
	var out arr
	for _, s := range list {
		out = append(out, pgString(s))
	}
	return out
}

func pgExprs(list []Expr) arr {
	var out arr
	for _, e := range list {
		out = append(out, pgExpr(e))
	}
	return out
}

func pgList(items arr) obj { return node("List", obj{"items": items}) }

func pgLiteral(e *Literal) any {
	switch e.Kind {
	case Int:
		n, _ := strconv.ParseFloat(e.Text, 64)
		return node("A_Const", obj{"ival": inner(obj{"ival": n})})
	case Num:
		return node("A_Const", obj{"fval": obj{"fval": e.Text}})
	case String:
		return node("A_Const", obj{"sval": obj{"sval": e.Text}})
	case Bit:
		return node("A_Const", obj{"bsval": obj{"bsval": "b" + e.Text}})
	case Hex:
		return node("A_Const", obj{"bsval": obj{"bsval": "x" + e.Text}})
	case True, False:
		return node("A_Const", obj{"boolval": inner(obj{"boolval": e.Kind == True})})
	}
	return node("A_Const", obj{"isnull": true})
}

// inner is an object that is there even when its fields are all zero.
func inner(o obj) obj {
	for k, v := range o {
		if isZero(v) {
			delete(o, k)
		}
	}
	return o
}

func pgExpr(e Expr) any {
	switch e := e.(type) {
	case nil:
		return nil
	case *ColumnRef:
		fields := pgNames(e.Names)
		if e.Star {
			fields = append(fields, node("A_Star", obj{}))
		}
		return node("ColumnRef", obj{"fields": fields})
	case *Literal:
		return pgLiteral(e)
	case *Param:
		return node("ParamRef", obj{"number": float64(e.N)})
	case *DefaultValue:
		return node("SetToDefault", obj{})
	case *Cast:
		return node("TypeCast", obj{"arg": pgExpr(e.X), "typeName": pgType(e.Type)})
	case *Op:
		return aExpr("AEXPR_OP", operatorNames(e.Schema, e.Name), pgOptional(e.L), pgExpr(e.R))
	case *Quantified:
		return pgQuantified(e)
	case *Distinct:
		kind := "AEXPR_DISTINCT"
		if e.Not {
			kind = "AEXPR_NOT_DISTINCT"
		}
		return aExpr(kind, pgStrings("="), pgExpr(e.L), pgExpr(e.R))
	case *In:
		return pgIn(e)
	case *Like:
		return pgLike(e)
	case *Between:
		kind := "BETWEEN"
		if e.Symmetric {
			kind = "BETWEEN_SYM"
		}
		if e.Not {
			kind = "NOT_" + kind
		}
		name := strings.ReplaceAll(strings.ReplaceAll(kind, "_SYM", " SYMMETRIC"), "_", " ")
		return aExpr("AEXPR_"+kind, pgStrings(name), pgExpr(e.X), pgList(arr{pgExpr(e.Lo), pgExpr(e.Hi)}))
	}
	return pgExpr2(e)
}

func pgOptional(e Expr) any {
	if e == nil {
		return nil
	}
	return pgExpr(e)
}

func aExpr(kind string, name arr, l, r any) obj {
	return node("A_Expr", obj{"kind": kind, "name": name, "lexpr": l, "rexpr": r})
}

func operatorNames(schema QName, name string) arr { return append(pgNames(schema), pgString(name)) }

func pgQuantified(e *Quantified) any {
	if e.Query == nil {
		kind := "AEXPR_OP_ANY"
		if e.All {
			kind = "AEXPR_OP_ALL"
		}
		return aExpr(kind, operatorNames(e.Schema, e.Name), pgExpr(e.L), pgExpr(e.R))
	}
	kind := "ANY_SUBLINK"
	if e.All {
		kind = "ALL_SUBLINK"
	}
	return node("SubLink", obj{"subLinkType": kind, "testexpr": pgExpr(e.L), "operName": operatorNames(e.Schema, e.Name), "subselect": pgSelect(e.Query)})
}

func pgIn(e *In) any {
	if e.Query != nil {
		n := node("SubLink", obj{"subLinkType": "ANY_SUBLINK", "testexpr": pgExpr(e.X), "subselect": pgSelect(e.Query)})
		if e.Not {
			return boolExpr("NOT_EXPR", arr{n})
		}
		return n
	}
	op := "="
	if e.Not {
		op = "<>"
	}
	return aExpr("AEXPR_IN", pgStrings(op), pgExpr(e.X), pgList(pgExprs(e.List)))
}

func boolExpr(op string, args arr) obj { return node("BoolExpr", obj{"boolop": op, "args": args}) }

func pgLike(e *Like) any {
	kind, op := "AEXPR_LIKE", "~~"
	switch e.Kind {
	case ILike:
		kind, op = "AEXPR_ILIKE", "~~*"
	case SimilarTo:
		kind, op = "AEXPR_SIMILAR", "~"
	}
	if e.Not {
		op = "!" + op
	}
	pattern := pgExpr(e.Pattern)
	if e.Kind == SimilarTo || e.Escape != nil {
		name, args := "like_escape", arr{pattern}
		if e.Kind == SimilarTo {
			name = "similar_to_escape"
		}
		if e.Escape != nil {
			args = append(args, pgExpr(e.Escape))
		}
		pattern = node("FuncCall", obj{"funcname": pgStrings("pg_catalog", name), "args": args, "funcformat": "COERCE_EXPLICIT_CALL"})
	}
	return aExpr(kind, pgStrings(op), pgExpr(e.X), pattern)
}

func pgExpr2(e Expr) any {
	switch e := e.(type) {
	case *Logic:
		return boolExpr([...]string{And: "AND_EXPR", Or: "OR_EXPR", Not: "NOT_EXPR"}[e.Op], pgExprs(e.Args))
	case *NullTest:
		kind := "IS_NULL"
		if e.Not {
			kind = "IS_NOT_NULL"
		}
		return node("NullTest", obj{"arg": pgExpr(e.X), "nulltesttype": kind})
	case *BoolTest:
		kind := map[LiteralKind]string{True: "TRUE", False: "FALSE", Null: "UNKNOWN"}[e.Value]
		if e.Not {
			kind = "NOT_" + kind
		}
		return node("BooleanTest", obj{"arg": pgExpr(e.X), "booltesttype": "IS_" + kind})
	case *Case:
		var whens arr
		for _, w := range e.Whens {
			whens = append(whens, node("CaseWhen", obj{"expr": pgExpr(w.Cond), "result": pgExpr(w.Result)}))
		}
		return node("CaseExpr", obj{"arg": pgOptional(e.Operand), "args": whens, "defresult": pgOptional(e.Else)})
	case *Call:
		return pgCall(e)
	case *Conditional:
		switch e.Kind {
		case Coalesce:
			return node("CoalesceExpr", obj{"args": pgExprs(e.Args)})
		case NullIf:
			return aExpr("AEXPR_NULLIF", pgStrings("="), pgExpr(e.Args[0]), pgExpr(e.Args[1]))
		case Greatest:
			return node("MinMaxExpr", obj{"op": "IS_GREATEST", "args": pgExprs(e.Args)})
		}
		return node("MinMaxExpr", obj{"op": "IS_LEAST", "args": pgExprs(e.Args)})
	case *Current:
		op, typmod := "SVFOP_"+strings.ToUpper(e.Name), float64(-1)
		if e.Precision >= 0 {
			op, typmod = op+"_N", float64(e.Precision)
		}
		return node("SQLValueFunction", obj{"op": op, "typmod": typmod})
	case *Row:
		format := "COERCE_IMPLICIT_CAST"
		if e.Explicit {
			format = "COERCE_EXPLICIT_CALL"
		}
		return node("RowExpr", obj{"args": pgExprs(e.Items), "row_format": format})
	case *Array:
		return node("A_ArrayExpr", obj{"elements": pgExprs(e.Items)})
	case *SubQuery:
		kind := [...]string{Scalar: "EXPR_SUBLINK", Exists: "EXISTS_SUBLINK", ToArray: "ARRAY_SUBLINK"}[e.Kind]
		return node("SubLink", obj{"subLinkType": kind, "subselect": pgSelect(e.Query)})
	case *Indirection:
		return pgIndirection(e)
	case *Collate:
		return node("CollateClause", obj{"arg": pgExpr(e.X), "collname": pgNames(e.Collation)})
	case *Grouping:
		return node("GroupingFunc", obj{"args": pgExprs(e.Args)})
	}
	panic("no PostgreSQL tree for this node")
}

func pgIndirection(e *Indirection) any {
	var steps arr
	for _, s := range e.Steps {
		switch {
		case s.Field != nil:
			steps = append(steps, pgString(s.Field.Text))
		case s.Star:
			steps = append(steps, node("A_Star", obj{}))
		default:
			steps = append(steps, node("A_Indices", obj{"is_slice": s.Slice, "lidx": pgOptional(s.Lo), "uidx": pgOptional(s.Index)}))
		}
	}
	return node("A_Indirection", obj{"arg": pgExpr(e.X), "indirection": steps})
}

func pgCall(e *Call) any {
	var args arr
	for _, a := range e.Args {
		x := pgExpr(a.X)
		if a.Name != nil {
			x = node("NamedArgExpr", obj{"arg": x, "name": a.Name.Text, "argnumber": float64(-1)})
		}
		args = append(args, x)
	}
	format := "COERCE_EXPLICIT_CALL"
	if e.Special {
		format = "COERCE_SQL_SYNTAX"
	}
	f := obj{"funcname": pgNames(e.Name), "args": args, "agg_star": e.Star, "agg_distinct": e.Distinct, "func_variadic": e.Variadic,
		"funcformat": format, "agg_order": pgSort(e.OrderBy), "agg_within_group": e.Within, "agg_filter": pgOptional(e.Filter)}
	if e.Over != nil {
		f["over"] = pgWindow(e.Over, true)
	}
	return node("FuncCall", f)
}

// The bits of PostgreSQL's frame options (nodes/parsenodes.h).
const (
	frameNonDefault, frameRange, frameRows, frameGroups, frameBetween = 1, 2, 4, 8, 16

	frameStartUnboundedPreceding, frameEndUnboundedPreceding = 0x20, 0x40
	frameStartUnboundedFollowing, frameEndUnboundedFollowing = 0x80, 0x100
	frameStartCurrent, frameEndCurrent                       = 0x200, 0x400
	frameStartPreceding, frameEndPreceding                   = 0x800, 0x1000
	frameStartFollowing, frameEndFollowing                   = 0x2000, 0x4000
	frameExcludeCurrent, frameExcludeGroup, frameExcludeTies = 0x8000, 0x10000, 0x20000
)

func pgWindow(w *Window, over bool) obj {
	opts := frameRange | frameStartUnboundedPreceding | frameEndCurrent
	f := obj{"partitionClause": pgExprs(w.Partition), "orderClause": pgSort(w.OrderBy)}
	if w.Mode != NoFrame {
		opts = frameNonDefault | [...]int{Range: frameRange, Rows: frameRows, Groups: frameGroups}[w.Mode]
		if w.Between {
			opts |= frameBetween
		}
		opts |= [...]int{UnboundedPreceding: frameStartUnboundedPreceding, Preceding: frameStartPreceding, CurrentRow: frameStartCurrent,
			Following: frameStartFollowing, UnboundedFollowing: frameStartUnboundedFollowing}[w.Lo.Kind]
		opts |= [...]int{UnboundedPreceding: frameEndUnboundedPreceding, Preceding: frameEndPreceding, CurrentRow: frameEndCurrent,
			Following: frameEndFollowing, UnboundedFollowing: frameEndUnboundedFollowing}[w.Hi.Kind]
		opts |= [...]int{0, frameExcludeCurrent, frameExcludeGroup, frameExcludeTies}[w.Exclude]
		f["startOffset"], f["endOffset"] = pgOptional(w.Lo.X), pgOptional(w.Hi.X)
	}
	f["frameOptions"] = float64(opts)
	if w.Name != nil {
		f["name"] = w.Name.Text
	}
	if w.Ref != nil {
		f["refname"] = w.Ref.Text
	}
	_ = over
	return inner(f)
}

func pgSort(list []SortBy) arr {
	var out arr
	for _, s := range list {
		f := obj{"node": pgExpr(s.X),
			"sortby_dir":   [...]string{"SORTBY_DEFAULT", "SORTBY_ASC", "SORTBY_DESC", "SORTBY_USING"}[s.Dir],
			"sortby_nulls": [...]string{"SORTBY_NULLS_DEFAULT", "SORTBY_NULLS_FIRST", "SORTBY_NULLS_LAST"}[s.Nulls]}
		f["useOp"] = pgNames(s.Operator)
		out = append(out, node("SortBy", f))
	}
	return out
}

func pgType(t *TypeName) obj {
	var bounds arr
	for _, b := range t.Bounds {
		bounds = append(bounds, node("Integer", obj{"ival": float64(b)}))
	}
	return inner(obj{"names": pgNames(t.Names), "typmods": pgExprs(t.Mods), "typemod": float64(-1), "arrayBounds": bounds, "setof": t.SetOf})
}
