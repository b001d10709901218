package oracle

import (
	"fmt"
	"strings"
)

// condition makes a boolean for WHERE and ON; with depth it may hold sub-queries.
func (g *gen) condition(scope []column, depth int) string {
	if depth > 0 && g.deep < 3 && !g.lateRows && g.often(20) {
		return g.subCondition(scope)
	}
	if g.often(6) && !g.choices.keyed {
		if c, ok := g.ofKind(scope, instant); ok {
			g.see("now()")
			return c.ref + pick(g.choices, " > ", " >= ") + "{now} - interval '30 seconds'"
		}
	}
	s := g.expr(boolean, scope, 2)
	if g.often(20) {
		s = fmt.Sprintf("(%s %s %s)", s, pick(g.choices, "AND", "OR"), g.expr(boolean, scope, 1))
	}
	return s
}

// subCondition makes EXISTS, IN, comparisons with a sub-query, and their negations.
func (g *gen) subCondition(scope []column) string {
	t := pick(g.choices, g.tables...)
	name := g.fresh("r")
	inner := qualified(name, t.cols)
	l, r, ok := g.pair(scope, inner)
	if !ok {
		return "true"
	}
	more := ""
	if g.often(30) {
		more = " AND " + g.expr(boolean, inner, 1)
	}
	corr := ""
	if l2, r2, ok := g.pair(scope, inner); ok && g.often(40) {
		corr = fmt.Sprintf(" AND %s = %s", r2.ref, l2.ref)
		g.see("correlated sub-query")
	}
	switch g.n(6) {
	case 0:
		g.see("in (query)")
		return fmt.Sprintf("%s IN (SELECT %s FROM %s %s WHERE true%s%s)", l.ref, r.ref, t.name, name, more, corr)
	case 1:
		g.see("exists")
		return fmt.Sprintf("EXISTS (SELECT 1 FROM %s %s WHERE %s = %s%s)", t.name, name, r.ref, l.ref, more)
	case 2:
		g.see("not exists")
		return fmt.Sprintf("NOT EXISTS (SELECT 1 FROM %s %s WHERE %s = %s%s)", t.name, name, r.ref, l.ref, more)
	case 3:
		g.see("not in (query)")
		return fmt.Sprintf("%s NOT IN (SELECT %s FROM %s %s WHERE true%s%s)", l.ref, r.ref, t.name, name, more, corr)
	case 4:
		g.see("comparison with a sub-query")
		return fmt.Sprintf("%s >= (SELECT max(%s) FROM %s %s WHERE true%s)", pickKind(g, scope, integer, "1"), name+".id", t.name, name, corr)
	}
	g.see("exists or something")
	return fmt.Sprintf("(EXISTS (SELECT 1 FROM %s %s WHERE %s = %s) OR %s)", t.name, name, r.ref, l.ref, g.expr(boolean, scope, 1))
}

func pickKind(g *gen, scope []column, k kind, otherwise string) string {
	if c, ok := g.ofKind(scope, k); ok {
		return c.ref
	}
	return otherwise
}

// scalar makes a sub-query that is a value.
func (g *gen) scalar(scope []column, depth int) (string, kind) {
	t := pick(g.choices, g.tables...)
	name := g.fresh("r")
	inner := qualified(name, t.cols)
	where := ""
	if l, r, ok := g.pair(scope, inner); ok && g.often(70) {
		where = fmt.Sprintf(" WHERE %s = %s", r.ref, l.ref)
		g.see("correlated scalar")
	}
	g.see("scalar sub-query")
	if c, ok := g.ofKind(scope, integer); ok && g.often(20) {
		return fmt.Sprintf("(SELECT %s.c2 FROM (VALUES (1, 'one'), (2, 'two'), (0, NULL)) AS %s(c1, c2) WHERE %s.c1 = %s)", name, name, name, c.ref), text
	}
	if t.keyed && g.often(30) {
		id := pickKind(g, scope, integer, "1")
		g.see("the only row")
		return fmt.Sprintf("(SELECT %s.at_ FROM %s %s WHERE %s.id = %s)", name, t.name, name, name, id), columnOf(t, "at_").kind
	}
	if g.n(2) == 0 {
		return fmt.Sprintf("(SELECT count(*) FROM %s %s%s)", t.name, name, where), bigint
	}
	return fmt.Sprintf("(SELECT max(%s.id) FROM %s %s%s)", name, t.name, name, where), integer
}

func (g *gen) ofKind(scope []column, k kind) (column, bool) {
	var list []column
	for _, c := range scope {
		if c.kind == k {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return column{}, false
	}
	return pick(g.choices, list...), true
}

// expr makes an expression of a type. What it makes fails on no row.
func (g *gen) expr(k kind, scope []column, depth int) string {
	if depth == 0 || g.n(3) == 0 {
		if c, ok := g.ofKind(scope, k); ok && !g.often(20) {
			return c.ref
		}
		if g.often(8) {
			return fmt.Sprintf("NULL::%s", k)
		}
		return g.literal(k)
	}
	if g.often(8) && k != jsonb {
		g.see("case")
		return fmt.Sprintf("CASE WHEN %s THEN %s ELSE %s END", g.expr(boolean, scope, depth-1), g.expr(k, scope, depth-1), g.expr(k, scope, depth-1))
	}
	if g.often(6) {
		g.see("coalesce")
		return fmt.Sprintf("coalesce(%s, %s)", g.expr(k, scope, depth-1), g.expr(k, scope, 0))
	}
	form := pick(g.choices, forms(k)...)
	name, _, _ := strings.Cut(form, "\t")
	_, body, _ := strings.Cut(form, "\t")
	g.see(name)
	return g.fill(body, scope, depth-1)
}

// fill replaces <type> in a form by an expression of that type.
func (g *gen) fill(form string, scope []column, depth int) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(form, "<")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		word, after, ok := strings.Cut(rest, ">")
		k, known := kindNamed(word)
		if !ok || !known {
			b.WriteString("<")
			form = rest
			continue
		}
		b.WriteString(g.expr(k, scope, depth))
		form = after
	}
}

func kindNamed(word string) (kind, bool) {
	switch word {
	case "i":
		return integer, true
	case "l":
		return bigint, true
	case "s":
		return text, true
	case "b":
		return boolean, true
	case "n":
		return numeric, true
	case "f":
		return double, true
	case "tz":
		return instant, true
	case "ts":
		return moment, true
	case "d":
		return date, true
	case "j":
		return jsonb, true
	case "sa":
		return texts, true
	case "ia":
		return ints, true
	case "iv":
		return span, true
	}
	return 0, false
}

// forms lists ways to make a value of a type: what it is counted as, a tab, and the text with <type> for its parts.
func forms(k kind) []string {
	switch k {
	case integer:
		return []string{"+\t(<i> + <i>)", "-\t(<i> - <i>)", "length\tlength(<s>)", "extract\textract(minute from <tz>)::integer", "cardinality\tcardinality(<sa>)",
			"subscript\t(<ia>)[1]", "cast\t<b>::integer", "strpos\tstrpos(<s>, <s>)", "jsonb_array_length\tCASE WHEN jsonb_typeof(<j>) = 'x' THEN 1 ELSE 2 END",
			"greatest\tgreatest(<i>, <i>)", "nullif\tnullif(<i>, <i>)", "mod\tmod(<i>, 3)", "date difference\t(<d> - <d>)", "abs\tabs(<i>)", "sign\tsign(<i>)::integer",
			"array_position\tarray_position(<sa>, <s>)", "bit and\t(<i> & 3)"}
	case bigint:
		return []string{"bigint +\t(<l> + <i>)", "bigint *\t(<l> * 2)", "bigint cast\t<i>::bigint", "least\tleast(<l>, <l>)"}
	case text:
		return []string{"||\t(<s> || <s>)", "upper\tupper(<s>)", "lower\tlower(<s>)", "substr\tsubstr(<s>, 2)", "replace\treplace(<s>, 'a', 'x')", "concat\tconcat(<s>, <i>, <b>)",
			"to_char\tto_char(<tz>, 'YYYY-MM-DD HH24:MI')", "->>\t(<j> ->> 'a')", "array subscript\t(<sa>)[2]", "split_part\tsplit_part(<s>, 'b', 1)", "left\tleft(<s>, 1)",
			"array_to_string\tarray_to_string(<sa>, ',')", "text cast\t<i>::text", "time as text\t<tz>::text", "date as text\t<d>::text", "lpad\tlpad(<s>, 3, '.')", "reverse\treverse(<s>)",
			"md5\tmd5(<s>)", "jsonb_typeof\tjsonb_typeof(<j>)", "regexp_replace\tregexp_replace(<s>, '[ab]+', '-')", "trim\ttrim(<s>)", "translate\ttranslate(<s>, 'ab', 'xy')", "initcap\tinitcap(<s>)"}
	case boolean:
		return []string{"integer <\t(<i> < <i>)", "text =\t(<s> = <s>)", "numeric <=\t(<n> <= <n>)", "time >\t(<tz> > <tz>)", "is null\t(<s> IS NULL)", "is distinct\t(<i> IS DISTINCT FROM <i>)",
			"like\t(<s> LIKE 'a%')", "ilike\t(<s> ILIKE '%B%')", "regex\t(<s> ~ '^a')", "between\t(<i> BETWEEN 0 AND <i>)", "in\t(<i> IN (1, 2, 3))", "not\t(NOT <b>)", "or\t(<b> OR <b>)",
			"and\t(<b> AND <b>)", "is true\t(<b> IS TRUE)", "@>\t(<j> @> '{\"a\": 1}')", "?\t(<j> ? 'a')", "any\t(<i> = ANY (<ia>))", "all\t(<i> <> ALL (<ia>))", "array overlap\t(<sa> && <sa>)",
			"array contains\t(<ia> @> <ia>)", "row\t((<i>, <s>) < (<i>, <s>))", "timestamp <\t(<ts> < <ts>)", "date =\t(<d> = <d>)", "double <\t(<f> < <f>)", "text in\t(<s> NOT IN ('a', 'q'))",
			"array =\t(<sa> = <sa>)"}
	case numeric:
		return []string{"numeric +\t(<n> + <n>)", "numeric *\t(<n> * 2)", "numeric cast\t<i>::numeric", "round\tround(<n>, 1)", "numeric -\t(<n> - <i>)", "floor\tfloor(<n>)", "div\t(<n> / 4)"}
	case double:
		return []string{"double +\t(<f> + <f>)", "double *\t(<f> * 0.5::double precision)", "double cast\t<i>::double precision", "sqrt\tsqrt(abs(<f>))"}
	case instant:
		return []string{"date_trunc\tdate_trunc('minute', <tz>)", "time +\t(<tz> + <iv>)", "time -\t(<tz> - <iv>)", "date_bin\tdate_bin(interval '15 seconds', <tz>, 'epoch'::timestamptz)",
			"at time zone\t(<ts> AT TIME ZONE 'UTC')", "date to timestamptz\t<d>::timestamptz"}
	case moment:
		return []string{"timestamp +\t(<ts> + <iv>)", "timestamp of timestamptz\t(<tz> AT TIME ZONE 'UTC')", "timestamp trunc\tdate_trunc('hour', <ts>)", "date to timestamp\t<d>::timestamp"}
	case date:
		return []string{"date cast\t<ts>::date", "date +\t(<d> + 1)"}
	case jsonb:
		return []string{"->\t(<j> -> 'b')", "to_jsonb\tto_jsonb(<s> || '')", "jsonb_build_object\tjsonb_build_object('k', <i>, 't', <s> || '')", "jsonb_build_array\tjsonb_build_array(<i>, <s> || '')", "jsonb #>\t(<j> #> '{b,0}')"}
	case texts:
		return []string{"array\tARRAY[<s>, <s>]", "array_append\tarray_append(<sa>, <s>)", "string_to_array\tstring_to_array(<s>, 'b')", "array ||\t(<sa> || <sa>)", "array_remove\tarray_remove(<sa>, 'a')"}
	case ints:
		return []string{"integer array\tARRAY[<i>, 2]", "array_prepend\tarray_prepend(<i>, <ia>)"}
	}
	return []string{"interval +\t(<iv> + interval '1 minute')", "time difference\t(<tz> - <tz>)"}
}

// aggregate makes a call of an aggregate function.
func (g *gen) aggregate(scope []column) (string, kind) {
	filter := ""
	if g.often(20) {
		filter = " FILTER (WHERE " + g.expr(boolean, scope, 1) + ")"
		g.see("filter clause")
	}
	distinct := ""
	if g.often(20) {
		distinct = "DISTINCT "
	}
	ordered := func(f, arg string, k kind) (string, kind) {
		g.see(f)
		if distinct != "" {
			g.see(f + " distinct")
		}
		return fmt.Sprintf("%s(%s%s ORDER BY %s)%s", f, distinct, arg, strings.TrimSuffix(arg, ", ','"), filter), k
	}
	call := func(f, arg string, k kind) (string, kind) {
		g.see(f)
		if distinct != "" {
			g.see(f + " distinct")
		}
		return fmt.Sprintf("%s(%s%s)%s", f, distinct, arg, filter), k
	}
	e := func(k kind) string { return g.expr(k, scope, 1) }
	switch g.n(24) {
	case 21:
		return "{approx}" + e(pick(g.choices, integer, text)) + ")" + filter, bigint
	case 22:
		k := pick(g.choices, integer, text, instant)
		return "{any}" + e(k) + ")" + filter, k
	case 0:
		g.see("count(*)")
		return "count(*)" + filter, bigint
	case 1:
		return call("count", e(pick(g.choices, integer, text, numeric, instant)), bigint)
	case 2:
		return call("sum", e(integer), bigint)
	case 3:
		return call("sum", e(numeric), numeric)
	case 4:
		return call("avg", e(pick(g.choices, integer, numeric)), numeric)
	case 5:
		k := pick(g.choices, integer, text, numeric, instant, moment, date, double, bigint)
		return call(pick(g.choices, "min", "max"), e(k), k)
	case 6:
		return call(pick(g.choices, "bool_and", "bool_or", "every"), e(boolean), boolean)
	case 7:
		return ordered("array_agg", e(text), texts)
	case 8:
		return ordered("array_agg", e(integer), ints)
	case 9:
		distinct = ""
		return ordered("string_agg", e(text)+", ','", text)
	case 10:
		distinct = ""
		return ordered("jsonb_agg", e(integer), jsonb)
	case 11:
		g.see("percentile_cont")
		return fmt.Sprintf("percentile_cont(%s) WITHIN GROUP (ORDER BY %s)%s", pick(g.choices, "0.5", "0.25", "1"), e(double), filter), double
	case 12:
		k := pick(g.choices, integer, text)
		g.see("percentile_disc")
		return fmt.Sprintf("percentile_disc(0.5) WITHIN GROUP (ORDER BY %s)%s", e(k), filter), k
	case 13:
		k := pick(g.choices, integer, text)
		g.see("mode")
		return fmt.Sprintf("mode() WITHIN GROUP (ORDER BY %s)%s", e(k), filter), k
	case 14:
		f := pick(g.choices, "stddev_samp", "stddev_pop", "var_samp", "var_pop")
		return call(f, e(integer), numeric)
	case 15:
		return call(pick(g.choices, "stddev", "variance"), e(double), double)
	case 16:
		return call(pick(g.choices, "bit_and", "bit_or", "bit_xor"), e(integer), integer)
	case 17:
		return call("sum", e(double), double)
	case 18:
		return call("avg", e(double), double)
	case 19:
		return call("sum", e(bigint), numeric)
	case 20:
		distinct = "DISTINCT "
		return call("count", e(pick(g.choices, integer, text, bigint)), bigint)
	}
	g.see("jsonb_object_agg")
	return fmt.Sprintf("jsonb_object_agg(%s, %s)%s", "coalesce("+e(text)+", '-') || coalesce("+pickKind(g, scope, integer, "1")+", 0)::text", "1", filter), jsonb
}

// window makes a call of a window function. Its order is total but for rows that are alike.
func (g *gen) window(scope []column) (string, kind) {
	if g.over == "" {
		var order []string
		for _, c := range scope {
			if c.kind == jsonb {
				order = append(order, c.ref+"::text")
				continue
			}
			order = append(order, c.ref+pick(g.choices, "", " DESC"))
		}
		if len(order) == 0 {
			return "1", integer
		}
		g.over = "ORDER BY " + strings.Join(order, ", ")
		if g.often(70) {
			if c := pick(g.choices, scope...); c.kind != jsonb {
				g.part = "PARTITION BY " + c.ref + " "
			}
		}
	}
	part := g.part
	by := part + g.over
	e := func(k kind) string { return g.expr(k, scope, 1) }
	frame := ""
	switch g.n(4) {
	case 1:
		frame = " ROWS BETWEEN " + pick(g.choices, "2 PRECEDING AND CURRENT ROW", "UNBOUNDED PRECEDING AND 1 FOLLOWING", "1 PRECEDING AND 1 FOLLOWING", "CURRENT ROW AND UNBOUNDED FOLLOWING")
		g.see("rows frame")
	case 2:
		if c, ok := g.ofKind(scope, instant); ok {
			by = part + "ORDER BY " + c.ref
			frame = " RANGE BETWEEN interval '20 seconds' PRECEDING AND " + pick(g.choices, "CURRENT ROW", "interval '5 seconds' FOLLOWING")
			g.see("range frame")
			g.see("sum over")
			return fmt.Sprintf("sum(%s) OVER (%s%s)", e(integer), by, frame), bigint
		}
	case 3:
		frame = " GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW" + pick(g.choices, "", " EXCLUDE CURRENT ROW", " EXCLUDE TIES", " EXCLUDE GROUP")
		g.see("groups frame")
	}
	over := func(f, arg string, k kind) (string, kind) {
		g.see(f + " over")
		return fmt.Sprintf("%s(%s) OVER (%s%s)", f, arg, by, frame), k
	}
	switch g.n(12) {
	case 0:
		return over("row_number", "", bigint)
	case 1:
		return over("rank", "", bigint)
	case 2:
		return over("dense_rank", "", bigint)
	case 3:
		return over("lag", e(integer), integer)
	case 4:
		return over("lead", e(text)+", 2, 'none'", text)
	case 5:
		return over("sum", e(integer), bigint)
	case 6:
		return over("count", "*", bigint)
	case 7:
		return over(pick(g.choices, "first_value", "last_value"), e(text), text)
	case 8:
		return over("nth_value", e(integer)+", 2", integer)
	case 9:
		return over("ntile", "2", integer)
	case 10:
		return over(pick(g.choices, "percent_rank", "cume_dist"), "", double)
	}
	return over(pick(g.choices, "min", "max"), e(integer), integer)
}
