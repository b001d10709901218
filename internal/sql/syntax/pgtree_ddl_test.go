package syntax

import "strconv"

func pgConstraint(k *Constraint, column bool) any {
	f := obj{}
	if k.Name != nil {
		f["conname"] = k.Name.Text
	}
	switch k.Kind {
	case NotNull:
		f["contype"] = "CONSTR_NOTNULL"
	case Nullable:
		f["contype"] = "CONSTR_NULL"
	case Default:
		f["contype"], f["raw_expr"] = "CONSTR_DEFAULT", pgExpr(k.X)
	case Check:
		f["contype"], f["raw_expr"], f["initially_valid"], f["is_no_inherit"] = "CONSTR_CHECK", pgExpr(k.X), true, k.NoInherit
	case PrimaryKey:
		f["contype"], f["keys"] = "CONSTR_PRIMARY", pgNames(k.Columns)
	case Unique:
		f["contype"], f["keys"], f["nulls_not_distinct"] = "CONSTR_UNIQUE", pgNames(k.Columns), k.NullsNotDistinct
	case Generated:
		f["contype"], f["raw_expr"], f["generated_when"] = "CONSTR_GENERATED", pgExpr(k.X), "a"
	case Identity:
		f["contype"], f["generated_when"] = "CONSTR_IDENTITY", map[bool]string{true: "d", false: "a"}[k.ByDefault]
	case ForeignKey:
		f["contype"], f["initially_valid"] = "CONSTR_FOREIGN", true
		f["pktable"], f["fk_attrs"], f["pk_attrs"] = pgRangeVar(k.RefTable, false), pgNames(k.Columns), pgNames(k.RefColumns)
		f["fk_matchtype"], f["fk_upd_action"], f["fk_del_action"] = string(k.Match), string(k.OnUpdate), string(k.OnDelete)
		f["fk_del_set_cols"] = pgNames(k.SetColumns)
	}
	return node("Constraint", f)
}

func pgOptions(list []Option) arr {
	var out arr
	for _, o := range list {
		f := obj{"defname": o.Key.Text, "defaction": "DEFELEM_UNSPEC"}
		if o.Namespace != nil {
			f["defnamespace"] = o.Namespace.Text
		}
		if o.Value != nil {
			f["arg"] = pgOptionValue(o.Value)
		}
		out = append(out, node("DefElem", f))
	}
	return out
}

func pgOptionValue(v *OptionValue) any {
	switch v.Kind {
	case OptNumber:
		if v.Float {
			return node("Float", obj{"fval": v.Text})
		}
		n, _ := strconv.ParseFloat(v.Text, 64)
		return node("Integer", obj{"ival": n})
	case OptType:
		return obj{"TypeName": pgType(v.Type)}
	case OptOperator:
		return pgList(pgStrings(v.Text))
	}
	return pgString(v.Text)
}

func pgRole(r RoleRef) obj {
	switch {
	case r.Public:
		return obj{"roletype": "ROLESPEC_PUBLIC"}
	case r.Current:
		return obj{"roletype": map[string]string{"current_user": "ROLESPEC_CURRENT_USER", "current_role": "ROLESPEC_CURRENT_ROLE", "session_user": "ROLESPEC_SESSION_USER"}[r.Name]}
	}
	return obj{"roletype": "ROLESPEC_CSTRING", "rolename": r.Name}
}

func pgRoles(list []RoleRef) arr {
	var out arr
	for _, r := range list {
		out = append(out, obj{"RoleSpec": pgRole(r)})
	}
	return out
}

func pgStatement(s Statement) any {
	switch s := s.(type) {
	case *Select:
		return pgSelect(s)
	case *CreateTable:
		var elts arr
		for _, e := range s.Elements {
			if e.Column != nil {
				elts = append(elts, pgColumnDef(e.Column))
			} else {
				elts = append(elts, pgConstraint(e.Constraint, false))
			}
		}
		return node("CreateStmt", obj{"relation": pgRangeVar(s.Name, false), "tableElts": elts, "options": pgOptions(s.Options),
			"oncommit": "ONCOMMIT_NOOP", "if_not_exists": s.IfNotExists})
	case *CreateView:
		into := inner(obj{"rel": pgRangeVar(s.Name, false), "colNames": pgNames(s.Columns), "options": pgOptions(s.Options), "onCommit": "ONCOMMIT_NOOP", "skipData": s.NoData})
		return node("CreateTableAsStmt", obj{"query": pgSelect(s.Query), "into": into, "objtype": "OBJECT_MATVIEW", "if_not_exists": s.IfNotExists})
	case *Grant:
		return pgGrant(s)
	}
	return pgStatement2(s)
}

func pgGrant(s *Grant) any {
	f := obj{"is_grant": !s.Revoke, "targtype": "ACL_TARGET_OBJECT", "objtype": "OBJECT_TABLE", "grantees": pgRoles(s.Roles),
		"grant_option": s.GrantOption, "behavior": map[bool]string{true: "DROP_CASCADE", false: "DROP_RESTRICT"}[s.Cascade]}
	var objects, privileges arr
	for _, q := range s.Tables {
		objects = append(objects, obj{"RangeVar": pgRangeVar(q, false)})
	}
	for _, p := range s.Privileges {
		privileges = append(privileges, node("AccessPriv", obj{"priv_name": p.Name, "cols": pgNames(p.Columns)}))
	}
	if s.AllColumns != nil {
		privileges = arr{node("AccessPriv", obj{"cols": pgNames(s.AllColumns)})}
	}
	f["objects"], f["privileges"] = objects, privileges
	if s.GrantedBy != nil {
		f["grantor"] = pgRole(*s.GrantedBy)
	}
	return node("GrantStmt", f)
}

func pgStatement2(s Statement) any {
	switch s := s.(type) {
	case *CreateRole:
		var opts arr
		for _, o := range s.Options {
			name, yes := o.Text, true
			if len(name) > 2 && name[:2] == "no" {
				name, yes = name[2:], false
			}
			name = map[string]string{"login": "canlogin", "replication": "isreplication", "inherit": "inherit"}[name] + map[string]string{
				"superuser": "superuser", "createrole": "createrole", "createdb": "createdb", "bypassrls": "bypassrls"}[name]
			opts = append(opts, node("DefElem", obj{"defname": name, "arg": obj{"Boolean": obj{"boolval": yes}}, "defaction": "DEFELEM_UNSPEC"}))
		}
		return node("CreateRoleStmt", obj{"stmt_type": "ROLESTMT_ROLE", "role": s.Name.Name, "options": opts})
	case *AlterTable:
		var cmds arr
		for _, a := range s.Actions {
			kind := map[string]string{"enable": "AT_EnableRowSecurity", "disable": "AT_DisableRowSecurity", "force": "AT_ForceRowSecurity", "no force": "AT_NoForceRowSecurity"}[a.Text]
			cmds = append(cmds, node("AlterTableCmd", obj{"subtype": kind, "behavior": "DROP_RESTRICT"}))
		}
		return node("AlterTableStmt", obj{"relation": pgRangeVar(s.Name, s.Only), "cmds": cmds, "objtype": "OBJECT_TABLE", "missing_ok": s.IfExists})
	case *CreatePolicy:
		roles := pgRoles(s.Roles)
		if len(roles) == 0 {
			roles = arr{obj{"RoleSpec": obj{"roletype": "ROLESPEC_PUBLIC"}}}
		}
		return node("CreatePolicyStmt", obj{"policy_name": s.Name.Text, "table": pgRangeVar(s.Table, false), "cmd_name": s.Command,
			"permissive": !s.Restrictive, "roles": roles, "qual": pgOptional(s.Using), "with_check": pgOptional(s.Check)})
	case *Comment:
		kind := map[string]string{"table": "OBJECT_TABLE", "column": "OBJECT_COLUMN", "view": "OBJECT_VIEW", "materialized view": "OBJECT_MATVIEW"}[s.Object]
		f := obj{"objtype": kind, "object": pgList(pgNames(s.Name))}
		if s.Text != nil {
			f["comment"] = *s.Text
		}
		return node("CommentStmt", f)
	}
	panic("no PostgreSQL tree for this statement")
}
