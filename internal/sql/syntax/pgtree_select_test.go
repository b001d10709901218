package syntax

func pgSelect(s *Select) obj { return node("SelectStmt", pgSelectFields(s)) }

func pgSelectFields(s *Select) obj {
	f := obj{"op": [...]string{"SETOP_NONE", "SETOP_UNION", "SETOP_INTERSECT", "SETOP_EXCEPT"}[s.Op], "all": s.All,
		"limitOption": "LIMIT_OPTION_DEFAULT", "whereClause": pgOptional(s.Where), "havingClause": pgOptional(s.Having),
		"groupDistinct": s.GroupUnique, "sortClause": pgSort(s.OrderBy), "limitOffset": pgOptional(s.Offset), "limitCount": pgOptional(s.Limit)}
	if s.Op != NoSetOp {
		f["larg"], f["rarg"] = inner(pgSelectFields(s.Left)), inner(pgSelectFields(s.Right))
	}
	if s.Unique {
		f["distinctClause"] = arr{obj{}}
		if len(s.UniqueOn) > 0 {
			f["distinctClause"] = pgExprs(s.UniqueOn)
		}
	}
	if s.Limit != nil || s.Offset != nil {
		f["limitOption"] = "LIMIT_OPTION_COUNT"
	}
	if s.WithTies {
		f["limitOption"] = "LIMIT_OPTION_WITH_TIES"
	}
	var targets, from, groups, windows, values arr
	for _, t := range s.Targets {
		r := obj{"val": pgExpr(t.X)}
		if t.Alias != nil {
			r["name"] = t.Alias.Text
		}
		targets = append(targets, node("ResTarget", r))
	}
	for _, r := range s.From {
		from = append(from, pgTable(r))
	}
	for _, g := range s.GroupBy {
		groups = append(groups, pgGroup(g))
	}
	for _, w := range s.Windows {
		windows = append(windows, obj{"WindowDef": pgWindow(w, false)})
	}
	for _, row := range s.Values {
		values = append(values, pgList(pgExprs(row)))
	}
	f["targetList"], f["fromClause"], f["groupClause"], f["windowClause"], f["valuesLists"] = targets, from, groups, windows, values
	if s.With != nil {
		f["withClause"] = pgWith(s.With)
	}
	return f
}

func pgWith(w *With) obj {
	var ctes arr
	for _, c := range w.CTEs {
		kind := "CTEMaterializeDefault"
		if c.Materialized != nil {
			kind = map[bool]string{true: "CTEMaterializeAlways", false: "CTEMaterializeNever"}[*c.Materialized]
		}
		ctes = append(ctes, node("CommonTableExpr", obj{"ctename": c.Name.Text, "aliascolnames": pgNames(c.Columns), "ctematerialized": kind, "ctequery": pgSelect(c.Query)}))
	}
	return inner(obj{"ctes": ctes, "recursive": w.Recursive})
}

func pgGroup(g GroupItem) any {
	if g.Kind == GroupExpr {
		return pgExpr(g.X)
	}
	var items arr
	for _, i := range g.Items {
		items = append(items, pgGroup(i))
	}
	kind := map[GroupKind]string{GroupEmpty: "EMPTY", Rollup: "ROLLUP", Cube: "CUBE", GroupingSets: "SETS"}[g.Kind]
	return node("GroupingSet", obj{"kind": "GROUPING_SET_" + kind, "content": items})
}

func pgAlias(a *Alias) any {
	if a == nil {
		return nil
	}
	return inner(obj{"aliasname": a.Name.Text, "colnames": pgNames(a.Columns)})
}

// pgRangeVar is the inside of a RangeVar.
func pgRangeVar(q QName, only bool) obj {
	f := obj{"relname": q.Last().Text, "inh": !only, "relpersistence": "p"}
	if len(q) > 1 {
		f["schemaname"] = q[len(q)-2].Text
	}
	if len(q) > 2 {
		f["catalogname"] = q[0].Text
	}
	return inner(f)
}

func pgTable(r TableRef) any {
	switch r := r.(type) {
	case *RangeTable:
		f := pgRangeVar(r.Name, r.Only)
		f["alias"] = pgAlias(r.Alias)
		return node("RangeVar", f)
	case *RangeQuery:
		return node("RangeSubselect", obj{"lateral": r.Lateral, "subquery": pgSelect(r.Query), "alias": pgAlias(r.Alias)})
	case *RangeCall:
		var calls arr
		for _, c := range r.Calls {
			var cols any = obj{}
			if len(c.Columns) > 0 {
				cols = pgList(pgColumnDefs(c.Columns))
			}
			calls = append(calls, pgList(arr{pgExpr(c.X), cols}))
		}
		return node("RangeFunction", obj{"lateral": r.Lateral, "ordinality": r.Ordinality, "is_rowsfrom": r.RowsFrom, "functions": calls,
			"alias": pgAlias(r.Alias), "coldeflist": pgColumnDefs(r.Columns)})
	case *Join:
		f := obj{"jointype": [...]string{"JOIN_INNER", "JOIN_LEFT", "JOIN_RIGHT", "JOIN_FULL"}[r.Kind], "isNatural": r.Natural,
			"larg": pgTable(r.L), "rarg": pgTable(r.R), "usingClause": pgNames(r.Using), "quals": pgOptional(r.On), "alias": pgAlias(r.Alias)}
		if r.UsingAlias != nil {
			f["join_using_alias"] = obj{"aliasname": r.UsingAlias.Text}
		}
		return node("JoinExpr", f)
	}
	panic("no PostgreSQL tree for this node")
}

func pgColumnDefs(list []ColumnDef) arr {
	var out arr
	for i := range list {
		out = append(out, pgColumnDef(&list[i]))
	}
	return out
}

func pgColumnDef(c *ColumnDef) any {
	f := obj{"colname": c.Name.Text, "typeName": pgType(c.Type), "is_local": true}
	if c.Collation != nil {
		f["collClause"] = inner(obj{"collname": pgNames(c.Collation)})
	}
	var ks arr
	for i := range c.Constraints {
		ks = append(ks, pgConstraint(&c.Constraints[i], true))
	}
	f["constraints"] = ks
	return node("ColumnDef", f)
}
